/**
 * Writes kubeconfig files for the test cluster, one for each way to authenticate. Owns the file's shape only.
 */
import type { Certificate } from "./certs.ts";

/** What stands under `user:` of a kubeconfig. */
export type KubeUser = Record<string, unknown>;

export interface KubeServer {
  readonly server: string;
  readonly caFile: string;
  readonly namespace?: string;
}

/** Writes the file and returns its path. JSON is YAML, so no YAML writer is needed. */
export async function writeKubeconfig(path: string, at: KubeServer, user: KubeUser): Promise<string> {
  await Deno.writeTextFile(
    path,
    JSON.stringify(
      {
        apiVersion: "v1",
        kind: "Config",
        clusters: [{ name: "test", cluster: { server: at.server, "certificate-authority": at.caFile } }],
        users: [{ name: "tester", user }],
        contexts: [{
          name: "test",
          context: { cluster: "test", user: "tester", namespace: at.namespace ?? "default" },
        }],
        "current-context": "test",
      },
      null,
      2,
    ),
    { mode: 0o600 },
  );
  return path;
}

export function tokenUser(token: string): KubeUser {
  return { token };
}

export function certificateUser({ certFile, keyFile }: Certificate): KubeUser {
  return { "client-certificate": certFile, "client-key": keyFile };
}

/** A user whose token comes from a command (client.authentication.k8s.io/v1). */
export function execUser(command: string, args: readonly string[] = []): KubeUser {
  const apiVersion = "client.authentication.k8s.io/v1";
  return { exec: { apiVersion, command, args, interactiveMode: "Never", provideClusterInfo: false } };
}
