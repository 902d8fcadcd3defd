/**
 * Where the API server is and what it is to be shown: kubeconfig files as kubectl reads them, and a pod's own account.
 * Owns the files' grammar and what is said of those that cannot be used; what takes more than reading is in
 * credentials.ts. A file's content, which holds tokens, must never stand in a message.
 */
import { homedir } from "node:os";
import { delimiter, dirname, resolve } from "node:path";
import { parseDocument } from "yaml";
import { credentialsOf, type KubeCredentials, podCredentials, type RawCluster, type RawUser } from "./credentials.ts";
import { readBounded, whyNotRead } from "./files.ts";
import { compact } from "../util/compact.ts";
import { cut } from "../util/text.ts";
import { errorMessage } from "../util/errors.ts";
import { isNestedTooDeep } from "../util/yaml_depth.ts";

export interface KubeConfigOptions {
  /** Path of a kubeconfig, or several as `$KUBECONFIG` has them. Default: `~/.kube/config`, in a pod its account. */
  readonly kubeconfig?: string;
  /** Default: the kubeconfig's current one. */
  readonly context?: string;
  /** What Kubernetes tells a pod of the API server; absent: this is no pod. */
  readonly pod?: PodEnvironment;
}

/** KUBERNETES_SERVICE_HOST and KUBERNETES_SERVICE_PORT; `dir`: where the account's files are, for tests. */
export interface PodEnvironment {
  readonly host: string;
  readonly port: string;
  readonly dir?: string;
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
  /** The part of it that is only read from files, for a look at the start. */
  files(): Promise<KubeCredentials>;
}

/** Reads the kubeconfig; calls nobody. Throws an Error that names the file, context or cluster that is wrong. */
export async function openKubeConfig({ kubeconfig, context, pod }: KubeConfigOptions = {}): Promise<KubeTarget> {
  const raw = await readFiles(kubeconfig);
  if (raw === undefined) return await openPod(pod, context);
  const chosen = choose(raw, context);
  const { cluster, user } = chosen;
  return {
    server: serverOf(cluster),
    ...compact({ namespace: chosen.namespace, proxyUrl: cluster["proxy-url"] }),
    ...credentialsOf(cluster, user),
  };
}

const POD_DIR = "/var/run/secrets/kubernetes.io/serviceaccount";

async function openPod(pod: PodEnvironment | undefined, context: string | undefined): Promise<KubeTarget> {
  if (context !== undefined) throw noSuchContext(context, []);
  if (pod === undefined) {
    throw new Error("Cannot find a cluster: there is no ~/.kube/config and this is no pod of one; set KUBECONFIG");
  }
  const { host, port, dir = POD_DIR } = pod;
  const credentials = podCredentials(dir);
  try {
    await credentials();
  } catch (error) {
    throw new Error(
      `Cannot use this pod's account: ${errorMessage(error)}; has it automountServiceAccountToken: false? Else set ` +
        "KUBECONFIG",
    );
  }
  const namespace = (await readBounded(`${dir}/namespace`).catch(() => "")).trim();
  return {
    server: `https://${host.includes(":") ? `[${host}]` : host}:${port}`,
    ...(namespace === "" ? {} : { namespace }),
    credentials,
    files: credentials,
  };
}

// ---------------------------------------------------------------- files

/** https://kubernetes.io/docs/reference/config-api/kubeconfig.v1/, as far as it is read here. */
interface RawConfig {
  readonly clusters: readonly Named<RawCluster>[];
  readonly users: readonly Named<RawUser>[];
  readonly contexts: readonly Named<RawContext>[];
  readonly current: string;
}

interface Named<T> {
  readonly name: string;
  readonly value: T;
}

interface RawContext {
  readonly cluster?: string;
  readonly user?: string;
  readonly namespace?: string;
}

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
    throw new Error(`Cannot read the kubeconfig: ${paths.join(", ")} does not exist; set KUBECONFIG`);
  }
  const all = <T>(listOf: (one: RawConfig) => readonly Named<T>[]): Named<T>[] => {
    const byName = new Map<string, Named<T>>();
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
    return await readBounded(path);
  } catch (error) {
    if (mayMiss && error instanceof Deno.errors.NotFound) return undefined;
    throw new Error(`Cannot read the kubeconfig ${path}: ${whyNotRead(error)}; set KUBECONFIG`);
  }
}

function parseKubeconfig(text: string, path: string): RawConfig {
  const fail = (why: string) => new Error(`Cannot read the kubeconfig ${path}: ${why}`);
  if (isNestedTooDeep(text)) throw fail("it is nested more deeply than anybody needs");
  const document = parseDocument(text, { logLevel: "silent", prettyErrors: true });
  const [fault] = document.errors;
  if (fault) {
    // Its message has the lines around the fault, and so perhaps a token.
    const at = fault.linePos?.[0];
    throw fail(`line ${at?.line ?? "?"}, column ${at?.col ?? "?"} is not valid YAML (${fault.code})`);
  }
  let whole: unknown;
  try {
    whole = document.toJS();
  } catch {
    throw fail("it has more aliases than anybody needs");
  }
  if (whole === null) throw fail("it is empty");
  if (!isObject(whole)) throw fail("it is not a kubeconfig");
  const dir = dirname(resolve(path));
  const list = <T>(key: string, field: string, read: (given: Record<string, unknown>) => T): Named<T>[] => {
    const given = whole[key] ?? [];
    if (!Array.isArray(given)) throw fail(`its field ${key} is no list`);
    return given.map((one, at) => {
      if (!isObject(one) || typeof one["name"] !== "string") throw fail(`entry ${at + 1} of ${key} has no name`);
      const value = one[field] ?? {};
      if (!isObject(value)) throw fail(`entry ${at + 1} of ${key} has no fields below ${field}`);
      return { name: one["name"], value: read(value) };
    });
  };
  const texts = (where: string, fields: Record<string, unknown>, keys: readonly string[]) => {
    for (const key of keys) {
      const value = fields[key];
      if (value !== undefined && typeof value !== "string") throw fail(`the field ${key} of a ${where} is no text`);
    }
  };
  return {
    clusters: list("clusters", "cluster", (given) => {
      const cluster = absolute(set(given), dir, ["certificate-authority"]);
      texts("cluster", cluster, ["server", "certificate-authority", "certificate-authority-data", "proxy-url"]);
      return cluster;
    }),
    users: list("users", "user", (given) => {
      const user = absolute(set(given), dir, ["client-certificate", "client-key", "tokenFile"]);
      texts("user", user, USER_TEXTS);
      const exec = user["exec"];
      return isObject(exec) ? { ...user, exec: withCommand(set(exec), dir) } : user;
    }),
    contexts: list("contexts", "context", (given) => {
      const context = set(given);
      texts("context", context, ["cluster", "user", "namespace"]);
      return context;
    }),
    current: typeof whole["current-context"] === "string" ? whole["current-context"] : "",
  };
}

const USER_TEXTS = [
  "token",
  "tokenFile",
  "username",
  "password",
  "client-certificate",
  "client-certificate-data",
  "client-key",
  "client-key-data",
  "as",
  "as-uid",
];

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

/** The fields that are set: to kubectl, which is written in Go, an empty text is none, and so is null. */
function set(fields: Record<string, unknown>): Record<string, unknown> {
  return Object.fromEntries(Object.entries(fields).filter(([, value]) => value !== "" && value !== null));
}

/** A file's relative paths count from its folder. */
function absolute(fields: Record<string, unknown>, dir: string, keys: readonly string[]): Record<string, unknown> {
  const made = keys.flatMap((key) => {
    const value = fields[key];
    return typeof value === "string" ? [[key, resolve(dir, value)]] : [];
  });
  return { ...fields, ...Object.fromEntries(made) };
}

/** A command with a slash is a path; one without is looked for in $PATH. */
function withCommand(exec: Record<string, unknown>, dir: string): Record<string, unknown> {
  const { command } = exec;
  return typeof command === "string" && command.includes("/") ? absolute(exec, dir, ["command"]) : exec;
}

// ---------------------------------------------------------------- choice

interface Chosen {
  readonly cluster: RawCluster;
  readonly user: RawUser;
  readonly namespace?: string;
}

function choose({ clusters, users, contexts, current }: RawConfig, wanted: string | undefined): Chosen {
  const name = wanted ?? current;
  if (name === "") throw new Error("Cannot use the kubeconfig: it has no current context; set KUBE_CONTEXT");
  const context = contexts.find((one) => one.name === name)?.value;
  if (!context) throw noSuchContext(name, contexts);
  const cluster = clusters.find((one) => one.name === context.cluster)?.value;
  if (!cluster) throw new Error(`Cannot use the kubeconfig: its context "${name}" names no cluster that it has`);
  const user = users.find((one) => one.name === context.user)?.value;
  if (context.user !== undefined && !user) {
    throw new Error(`Cannot use the kubeconfig: its context "${name}" names no user that it has`);
  }
  const unable = unableTo(cluster);
  if (unable !== undefined) throw new Error(`Cannot use the cluster "${context.cluster}" of the kubeconfig: ${unable}`);
  return { cluster, user: user ?? {}, ...compact({ namespace: context.namespace }) };
}

function unableTo(cluster: RawCluster): string | undefined {
  const { server } = cluster;
  if (server === undefined) return "it has no server";
  const url = URL.parse(serverOf(cluster));
  if (!url || !/^https?:$/.test(url.protocol) || url.hostname === "") return "its server is no URL";
  if (cluster["insecure-skip-tls-verify"] === true && url.protocol === "https:") {
    return "it has insecure-skip-tls-verify, which Deno cannot do for one server; give its certificate-authority";
  }
  if (cluster["tls-server-name"] !== undefined && cluster["tls-server-name"] !== url.hostname) {
    return "it has tls-server-name, which Deno cannot do; use a server name that its certificate has";
  }
  return undefined;
}

/** Without a scheme it is https where TLS is spoken of, as with kubectl (client-go, rest.DefaultServerURL). */
function serverOf(cluster: RawCluster): string {
  const server = (cluster.server ?? "").replace(/\/{1,100}$/, "");
  if (/^[a-z][a-z0-9+.-]{0,20}:\/\//i.test(server)) return server;
  const tls = cluster["certificate-authority"] ?? cluster["certificate-authority-data"] ??
    (cluster["insecure-skip-tls-verify"] === true ? "yes" : undefined);
  return `${tls === undefined ? "http" : "https"}://${server}`;
}

/** So many names are shown, each so long. */
const MOST_NAMES = 20;
const LONGEST_NAME = 100;

function noSuchContext(wanted: string, contexts: readonly { readonly name: string }[]): Error {
  const names = contexts.slice(0, MOST_NAMES).map(({ name }) => cut(name, LONGEST_NAME)).join(", ");
  const more = contexts.length > MOST_NAMES ? ", …" : "";
  return new Error(
    `Cannot use the context "${cut(wanted, LONGEST_NAME)}": the kubeconfig has ${names || "none"}${more}; ` +
      "set KUBE_CONTEXT",
  );
}
