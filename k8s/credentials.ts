/**
 * What an API server is shown, by what a kubeconfig says of its user: files, a token, a command (exec plugin), an OIDC
 * login, a pod's account. Owns when each is asked again. Must not put a token into a message.
 * Rules: https://kubernetes.io/docs/reference/access-authn-authz/authentication/ and client-go.
 */
import { runExec } from "./exec.ts";
import { readBounded, whyNotRead } from "./files.ts";
import { oidcToken } from "./oidc.ts";
import { compact } from "../util/compact.ts";
import { registerSecret } from "../util/redact.ts";

/** PEM texts, "" where there is none, and the headers of a call. */
export interface KubeCredentials {
  readonly ca: string;
  readonly cert: string;
  readonly key: string;
  readonly headers: Readonly<Record<string, string>>;
}

/** Fields that are empty in the file are absent. */
export interface RawCluster {
  readonly server?: string;
  readonly "certificate-authority"?: string;
  readonly "certificate-authority-data"?: string;
  readonly "insecure-skip-tls-verify"?: unknown;
  readonly "tls-server-name"?: unknown;
  readonly "proxy-url"?: string;
  readonly extensions?: unknown;
}

export type RawUser = Readonly<Record<string, unknown>>;

/** Asks for the user's credentials at the cluster, each time that it is called; `files`: without any login. */
export function credentialsOf(
  cluster: RawCluster,
  user: RawUser,
): Record<"credentials" | "files", () => Promise<KubeCredentials>> {
  for (const key of ["token", "password"]) if (typeof user[key] === "string") registerSecret(user[key]);
  const login = loginOf(cluster, user);
  const impersonation = impersonationOf(user);
  const shown = async (given: Login): Promise<KubeCredentials> => ({
    ca: await pem(cluster, "certificate-authority"),
    cert: given.cert ?? await pem(user, "client-certificate"),
    key: given.key ?? await pem(user, "client-key"),
    headers: {
      ...compact({ authorization: given.authorization }),
      ...impersonation,
    },
  });
  return {
    credentials: async () => await shown(await login()),
    files: async () => {
      if (typeof user["tokenFile"] === "string") await readNamed(user["tokenFile"]);
      return await shown({});
    },
  };
}

/** The account of the pod that this is: files that the kubelet renews. */
export function podCredentials(dir: string): () => Promise<KubeCredentials> {
  return async () => ({
    ca: await readNamed(`${dir}/ca.crt`),
    cert: "",
    key: "",
    headers: { authorization: `Bearer ${(await readNamed(`${dir}/token`)).trim()}` },
  });
}

interface Login {
  readonly authorization?: string;
  readonly cert?: string;
  readonly key?: string;
}

/** A token before a command, as with client-go. */
function loginOf(cluster: RawCluster, user: RawUser): () => Promise<Login> {
  const { token, tokenFile, username, password, exec } = user;
  if (typeof tokenFile === "string") {
    return async () => ({ authorization: `Bearer ${(await readNamed(tokenFile)).trim()}` });
  }
  if (typeof token === "string") return () => Promise.resolve({ authorization: `Bearer ${token}` });
  if (typeof username === "string") {
    const both = new TextEncoder().encode(`${username}:${password ?? ""}`).toBase64();
    return () => Promise.resolve({ authorization: `Basic ${both}` });
  }
  if (exec !== undefined) return runExec(exec, async () => await clusterInfo(cluster));
  if (user["auth-provider"] !== undefined) {
    const ask = oidcToken(user["auth-provider"]);
    return async () => ({ authorization: `Bearer ${await ask()}` });
  }
  return () => Promise.resolve({});
}

/** What a command with provideClusterInfo is told. */
async function clusterInfo(cluster: RawCluster): Promise<Record<string, unknown>> {
  const { server, extensions } = cluster;
  const ca = await pem(cluster, "certificate-authority");
  const config = Array.isArray(extensions)
    ? extensions.find((one) => one?.name === "client.authentication.k8s.io/exec")?.extension
    : undefined;
  const texts = ["tls-server-name", "insecure-skip-tls-verify", "proxy-url", "disable-compression"] as const;
  const fields = cluster as Record<string, unknown>;
  return {
    server,
    ...Object.fromEntries(texts.flatMap((key) => fields[key] === undefined ? [] : [[key, fields[key]]])),
    ...(ca === "" ? {} : { "certificate-authority-data": new TextEncoder().encode(ca).toBase64() }),
    ...compact({ config }),
  };
}

/** https://kubernetes.io/docs/reference/access-authn-authz/authentication/#user-impersonation */
function impersonationOf(user: RawUser): Record<string, string> {
  const { as, "as-uid": uid, "as-groups": groups, "as-user-extra": extra } = user;
  const headers: Record<string, string> = {};
  if (typeof as === "string") headers["impersonate-user"] = as;
  if (typeof uid === "string") headers["impersonate-uid"] = uid;
  // Several of one name go as one header with commas, which the API server does not take apart.
  if (Array.isArray(groups) && groups.length > 1) {
    throw new Error("Cannot use the kubeconfig: as-groups with more than one group is not supported; give one");
  }
  if (Array.isArray(groups) && groups.length === 1) headers["impersonate-group"] = String(groups[0]);
  if (typeof extra === "object" && extra !== null && Object.keys(extra).length > 0) {
    throw new Error("Cannot use the kubeconfig: as-user-extra is not supported; leave it out");
  }
  return headers;
}

/** Data in the kubeconfig counts before a file's, as with kubectl. */
async function pem(fields: object, key: string): Promise<string> {
  const { [`${key}-data`]: data, [key]: path } = fields as Record<string, unknown>;
  const text = typeof data === "string" ? decoded(data, key) : typeof path === "string" ? await readNamed(path) : "";
  if (text === "" || text.includes("-----BEGIN ")) return text;
  throw new Error(`the kubeconfig's ${key} is not PEM (-----BEGIN …)`);
}

function decoded(base64: string, key: string): string {
  try {
    return new TextDecoder().decode(Uint8Array.fromBase64(base64));
  } catch {
    throw new Error(`the kubeconfig's ${key}-data is not base64`);
  }
}

/** A file that the kubeconfig names; in a container those of the machine that it was made on are not there. */
async function readNamed(path: string): Promise<string> {
  try {
    return await readBounded(path);
  } catch (error) {
    const isElsewhere = error instanceof Deno.errors.NotFound || error instanceof Deno.errors.NotCapable;
    const why = isElsewhere && !path.startsWith("/var/run/secrets/")
      ? "is not within reach; make one file of all: kubectl config view --raw --flatten"
      : `cannot be read: ${whyNotRead(error)}`;
    throw new Error(`the file ${path} that the kubeconfig names ${why}`);
  }
}
