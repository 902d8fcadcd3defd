/**
 * Where the API server is and what it is to be shown: reads kubeconfig files. What takes more than reading (commands,
 * auth providers, impersonation, a pod's own account) is left to client-node's KubeConfig, which is loaded only then:
 * its generated classes take 90 MB of memory and 0.4 s. Must not put a token into a message.
 */
import type { KubeConfig } from "@kubernetes/client-node";
import { homedir } from "node:os";
import { delimiter, dirname, resolve } from "node:path";
import { parse, stringify } from "yaml";
import { errorMessage } from "../util/retry.ts";
import { trimEnd } from "../util/text.ts";

export interface KubeConfigOptions {
  /** Path of a kubeconfig, or several as `$KUBECONFIG` has them. Default: `~/.kube/config`, in a pod its account. */
  readonly kubeconfig?: string;
  /** Default: the kubeconfig's current one. */
  readonly context?: string;
}

/** An API server. */
export interface KubeTarget {
  /** URL without a slash at its end. */
  readonly server: string;
  /** Of the context, where it names one. */
  readonly namespace?: string;
  readonly proxyUrl?: string;
  /** What it is to be shown now: files are read again, commands run when what they gave is over. */
  credentials(): Promise<KubeCredentials>;
}

/** PEM texts, "" where there is none, and the headers of a call. */
export interface KubeCredentials {
  readonly ca: string;
  readonly cert: string;
  readonly key: string;
  readonly headers: Readonly<Record<string, string>>;
}

/** Reads the kubeconfig; calls nobody. Throws an Error that names the file, context or cluster that is wrong. */
export async function openKubeConfig({ kubeconfig, context }: KubeConfigOptions = {}): Promise<KubeTarget> {
  const raw = await readFiles(kubeconfig);
  if (raw === undefined) return await foundByKubeConfig(context);
  const chosen = choose(raw, context);
  const { cluster, user } = chosen;
  return {
    server: trimEnd(cluster.server, "/"),
    ...(chosen.namespace === undefined ? {} : { namespace: chosen.namespace }),
    ...(cluster["proxy-url"] === undefined ? {} : { proxyUrl: cluster["proxy-url"] }),
    credentials: Object.keys(user).every((key) => PLAIN.has(key))
      ? () => plainCredentials(cluster, user)
      : await credentialsOfKubeConfig(chosen),
  };
}

// ---------------------------------------------------------------- files

/** https://kubernetes.io/docs/reference/config-api/kubeconfig.v1/, as far as it is read here. */
interface RawConfig {
  readonly clusters: readonly Named<{ cluster?: RawCluster }>[];
  readonly users: readonly Named<{ user?: RawUser }>[];
  readonly contexts: readonly Named<{ context?: { cluster?: string; user?: string; namespace?: string } }>[];
  readonly current: string;
}

type Named<T> = { readonly name: string } & T;

interface RawCluster {
  readonly server: string;
  readonly "certificate-authority"?: string;
  readonly "certificate-authority-data"?: string;
  readonly "insecure-skip-tls-verify"?: boolean;
  readonly "tls-server-name"?: string;
  readonly "proxy-url"?: string;
}

type RawUser = Readonly<Record<string, unknown>>;

/** Several files are one, and what comes first wins, as with kubectl. Undefined: none was named and none is there. */
async function readFiles(kubeconfig: string | undefined): Promise<RawConfig | undefined> {
  const named = kubeconfig?.split(delimiter).filter((path) => path !== "");
  const paths = named ?? [resolve(homedir(), ".kube/config")];
  const found: RawConfig[] = [];
  for (const path of paths) {
    const text = await readKubeconfig(path, named === undefined || paths.length > 1);
    if (text !== undefined) found.push(parseKubeconfig(text, path));
  }
  if (found.length === 0) {
    if (named === undefined) return undefined;
    throw new Error(`Cannot read the kubeconfig: ${paths.join(", ")} does not exist`);
  }
  const all = <T extends { readonly name: string }>(listOf: (one: RawConfig) => readonly T[]): T[] => {
    const byName = new Map<string, T>();
    for (const each of found.flatMap(listOf)) if (!byName.has(each.name)) byName.set(each.name, each);
    return [...byName.values()];
  };
  return {
    clusters: all((one) => one.clusters),
    users: all((one) => one.users),
    contexts: all((one) => one.contexts),
    current: found.map((one) => one.current).find((name) => name !== "") ?? "",
  };
}

async function readKubeconfig(path: string, mayMiss: boolean): Promise<string | undefined> {
  try {
    return await Deno.readTextFile(path);
  } catch (error) {
    if (mayMiss && error instanceof Deno.errors.NotFound) return undefined;
    throw new Error(`Cannot read the kubeconfig ${path}: ${firstLine(error)}; set KUBECONFIG`, { cause: error });
  }
}

/** The file's relative paths are made absolute, since they count from its folder. */
function parseKubeconfig(text: string, path: string): RawConfig {
  const absolute = <T>(fields: T, keys: readonly string[]): T => {
    const given = fields as Record<string, unknown>;
    const made = keys.flatMap((key) => {
      const value = given[key];
      return typeof value === "string" && value !== "" ? [[key, resolve(dirname(resolve(path)), value)]] : [];
    });
    return { ...fields, ...Object.fromEntries(made) };
  };
  try {
    const whole = parse(text) ?? {};
    if (typeof whole !== "object") throw new Error("it is not a kubeconfig");
    const { clusters, users, contexts } = whole;
    return {
      clusters: (clusters ?? []).map((one: RawConfig["clusters"][number]) => ({
        ...one,
        cluster: absolute(one.cluster, ["certificate-authority"]),
      })),
      users: (users ?? []).map((one: RawConfig["users"][number]) => ({
        ...one,
        user: absolute(one.user, ["client-certificate", "client-key", "tokenFile"]),
      })),
      contexts: contexts ?? [],
      current: whole["current-context"] ?? "",
    };
  } catch (error) {
    throw new Error(`Cannot read the kubeconfig ${path}: ${firstLine(error)}`, { cause: error });
  }
}

// ---------------------------------------------------------------- choice

interface Chosen {
  readonly clusterName: string;
  readonly cluster: RawCluster;
  readonly user: RawUser;
  readonly namespace?: string;
}

function choose({ clusters, users, contexts, current }: RawConfig, wanted: string | undefined): Chosen {
  const name = wanted ?? current;
  const context = contexts.find((one) => one.name === name)?.context;
  if (wanted !== undefined && !context) {
    throw noSuchContext(wanted, contexts);
  }
  const cluster = clusters.find((one) => one.name === context?.cluster)?.cluster;
  if (!context?.cluster || !cluster?.server) {
    const which = name ? `its context "${name}" names no cluster` : "it has no current context; set KUBE_CONTEXT";
    throw new Error(`Cannot use the kubeconfig: ${which}`);
  }
  const unable = cluster["insecure-skip-tls-verify"] && cluster.server.startsWith("https:")
    ? "insecure-skip-tls-verify, which Deno cannot do for one server; give its certificate-authority"
    : cluster["tls-server-name"] !== undefined
    ? "tls-server-name, which Deno cannot do; use a server name that its certificate has"
    : undefined;
  if (unable !== undefined) {
    throw new Error(`Cannot use the cluster "${context.cluster}" of the kubeconfig: it has ${unable}`);
  }
  return {
    clusterName: context.cluster,
    cluster,
    user: users.find((one) => one.name === context.user)?.user ?? {},
    ...(context.namespace === undefined ? {} : { namespace: context.namespace }),
  };
}

function noSuchContext(wanted: string, contexts: readonly { readonly name: string }[]): Error {
  const names = contexts.map(({ name }) => name).join(", ");
  return new Error(`Cannot use the context "${wanted}": the kubeconfig has ${names || "none"}; set KUBE_CONTEXT`);
}

// ---------------------------------------------------------------- credentials

/** Fields of a user that take nothing but reading. */
const PLAIN = new Set([
  "token",
  "tokenFile",
  "username",
  "password",
  "client-certificate",
  "client-certificate-data",
  "client-key",
  "client-key-data",
]);

async function plainCredentials(cluster: RawCluster, user: RawUser): Promise<KubeCredentials> {
  const { token, tokenFile, username, password } = user;
  return {
    ca: await pem(cluster, "certificate-authority"),
    cert: await pem(user, "client-certificate"),
    key: await pem(user, "client-key"),
    headers: typeof tokenFile === "string"
      ? { authorization: await bearerOf(tokenFile) }
      : token
      ? { authorization: `Bearer ${token}` }
      : username
      ? { authorization: basic(`${username}:${password ?? ""}`) }
      : {},
  };
}

async function bearerOf(tokenFile: string): Promise<string> {
  return `Bearer ${(await Deno.readTextFile(tokenFile)).trim()}`;
}

/** Data in the kubeconfig counts before a file's, as with kubectl. */
async function pem(fields: object, key: string): Promise<string> {
  const { [`${key}-data`]: data, [key]: path } = fields as Record<string, unknown>;
  if (typeof data === "string" && data !== "") return new TextDecoder().decode(Uint8Array.fromBase64(data));
  return typeof path === "string" && path !== "" ? await Deno.readTextFile(path) : "";
}

function basic(userAndPassword: string): string {
  return `Basic ${new TextEncoder().encode(userAndPassword).toBase64()}`;
}

// ---------------------------------------------------------------- client-node

/** What KubeConfig finds without a file: a pod's own account. */
async function foundByKubeConfig(context: string | undefined): Promise<KubeTarget> {
  const { KubeConfig } = await import("@kubernetes/client-node");
  const config = new KubeConfig();
  config.loadFromDefault();
  if (context !== undefined) {
    if (!config.getContextObject(context)) throw noSuchContext(context, config.getContexts());
    config.setCurrentContext(context);
  }
  const server = config.getCurrentCluster()?.server;
  if (server === undefined || config.getCurrentContext() === "loaded-context" && server === "http://localhost:8080") {
    throw new Error("Cannot find a cluster: there is no ~/.kube/config and this is no pod of one; set KUBECONFIG");
  }
  const namespace = config.getContextObject(config.getCurrentContext())?.namespace;
  return {
    server: trimEnd(server, "/"),
    ...(namespace === undefined ? {} : { namespace }),
    credentials: () => askKubeConfig(config),
  };
}

async function credentialsOfKubeConfig(
  { clusterName, cluster, user }: Chosen,
): Promise<() => Promise<KubeCredentials>> {
  const { KubeConfig } = await import("@kubernetes/client-node");
  const config = new KubeConfig();
  config.loadFromString(stringify({
    clusters: [{ name: clusterName, cluster }],
    users: [{ name: "user", user }],
    contexts: [{ name: "context", context: { cluster: clusterName, user: "user" } }],
    "current-context": "context",
  }));
  return async () => {
    const asked = await askKubeConfig(config);
    // kubectl's `tokenFile`, which client-node 2.0.1 does not know.
    return typeof user["tokenFile"] === "string"
      ? { ...asked, headers: { ...asked.headers, authorization: await bearerOf(user["tokenFile"]) } }
      : asked;
  };
}

/** KubeConfig fills it; `auth` is `user:password`. */
type Asked = NonNullable<Parameters<KubeConfig["applyToHTTPSOptions"]>[0]> & { auth?: string };

async function askKubeConfig(config: KubeConfig): Promise<KubeCredentials> {
  const asked: Asked = {};
  await config.applyToHTTPSOptions(asked);
  const text = (pem: unknown) => pem === undefined ? "" : String(pem);
  const headers = Object.entries(asked.headers ?? {}).map(([name, value]) => [
    name.toLowerCase(),
    String(value).trim(),
  ]);
  if (asked.auth !== undefined) headers.push(["authorization", basic(asked.auth)]);
  return { ca: text(asked.ca), cert: text(asked.cert), key: text(asked.key), headers: Object.fromEntries(headers) };
}

/** The first line of what was caught: the rest is a trace or a command's whole output. */
export function firstLine(error: unknown): string {
  return errorMessage(error).trim().split("\n")[0] ?? "";
}
