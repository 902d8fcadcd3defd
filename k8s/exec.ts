/**
 * Exec plugins of kubeconfigs: runs the command, gives it what it wants to know, and reads the ExecCredential that it
 * prints. Owns how long that is kept. Must not show what it printed on standard output, which is a token.
 * https://kubernetes.io/docs/reference/access-authn-authz/authentication/#client-go-credential-plugins
 */
import { firstLine } from "./files.ts";
import { cut } from "../util/text.ts";
import { chunksOf, joinBytes } from "../util/streams.ts";

export interface ExecLogin {
  readonly authorization?: string;
  /** PEM texts. */
  readonly cert?: string;
  readonly key?: string;
}

/** A login in a browser takes long, but nobody sits here. */
const TIMEOUT_MS = 60_000;
const MAX_OUTPUT_BYTES = 1024 * 1024;
/** Of the command's complaint, the end says most. */
const LONGEST_WORDS = 500;

/** Runs the plugin when it is asked and what it gave last is over. Throws an Error that says what a person must do. */
export function runExec(exec: unknown, clusterInfo: () => Promise<unknown>): () => Promise<ExecLogin> {
  const plugin = checked(exec);
  let kept: { readonly login: ExecLogin; readonly untilMs: number } | undefined;
  return async () => {
    if (kept && kept.untilMs > Date.now()) return kept.login;
    const spec = { interactive: false, ...(plugin.provideClusterInfo ? { cluster: await clusterInfo() } : {}) };
    const info = JSON.stringify({ kind: "ExecCredential", apiVersion: plugin.apiVersion, spec });
    const output = await run(plugin, info);
    kept = read(output, plugin);
    return kept.login;
  };
}

interface Plugin {
  readonly apiVersion: string;
  readonly command: string;
  readonly args: readonly string[];
  readonly env: Readonly<Record<string, string>>;
  readonly provideClusterInfo: boolean;
  readonly installHint: string;
}

const VERSIONS = ["client.authentication.k8s.io/v1", "client.authentication.k8s.io/v1beta1"];

function checked(exec: unknown): Plugin {
  const given = (typeof exec === "object" && exec !== null ? exec : {}) as Record<string, unknown>;
  const { apiVersion, command, interactiveMode, installHint } = given;
  const fail = (why: string) => new Error(`Cannot use the kubeconfig: its exec command ${why}`);
  if (typeof command !== "string") throw fail("is missing");
  if (typeof apiVersion !== "string" || !VERSIONS.includes(apiVersion)) {
    throw fail(`${command} needs an apiVersion, ${VERSIONS.join(" or ")}`);
  }
  if (interactiveMode === "Always") throw fail(`${command} wants to ask a person (interactiveMode: Always)`);
  const args = given["args"] ?? [];
  const env = given["env"] ?? [];
  if (!Array.isArray(args) || !Array.isArray(env)) throw fail(`${command} has args or env that are no list`);
  return {
    apiVersion,
    command,
    args: args.map(String),
    env: Object.fromEntries(env.map((one) => [String(one?.name ?? ""), String(one?.value ?? "")])),
    provideClusterInfo: given["provideClusterInfo"] === true,
    installHint: typeof installHint === "string" ? plain(installHint) : "",
  };
}

async function run({ command, args, env, installHint }: Plugin, info: string): Promise<string> {
  const hint = installHint === "" ? "" : `; ${installHint}`;
  let child: Deno.ChildProcess;
  try {
    child = new Deno.Command(command, {
      args: [...args],
      env: { ...env, KUBERNETES_EXEC_INFO: info },
      stdin: "null",
      stdout: "piped",
      stderr: "piped",
    }).spawn();
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) throw new Error(`the command ${command} is not there${hint}`);
    if (error instanceof Deno.errors.NotCapable) {
      throw new Error(`this program may not run ${command}; start it with --allow-run=${command}, or use a token`);
    }
    throw new Error(`the command ${command} cannot be run: ${firstLine(error)}${hint}`);
  }
  let late = false;
  const timer = setTimeout(() => {
    late = true;
    end(child);
  }, TIMEOUT_MS);
  try {
    const [status, output, complaint] = await Promise.all([
      child.status,
      readPipe(child.stdout, () => end(child)),
      readPipe(child.stderr, () => end(child)),
    ]);
    if (late) throw new Error(`the command ${command} gave no answer within ${TIMEOUT_MS / 1000} s`);
    if (!status.success) {
      const words = plain(complaint);
      throw new Error(`the command ${command} ended with exit code ${status.code}${words === "" ? "" : `: ${words}`}`);
    }
    return output;
  } finally {
    clearTimeout(timer);
  }
}

function end(child: Deno.ChildProcess): void {
  try {
    child.kill("SIGKILL");
  } catch {
    // It has ended.
  }
}

async function readPipe(pipe: ReadableStream<Uint8Array<ArrayBuffer>>, onTooMuch: () => void): Promise<string> {
  const chunks: Uint8Array<ArrayBuffer>[] = [];
  let bytes = 0;
  for await (const chunk of chunksOf(pipe)) {
    bytes += chunk.length;
    if (bytes > MAX_OUTPUT_BYTES) onTooMuch();
    else chunks.push(chunk);
  }
  return new TextDecoder().decode(joinBytes(chunks));
}

function read(output: string, { command, apiVersion }: Plugin): { login: ExecLogin; untilMs: number } {
  const fail = (why: string) => new Error(`the command ${command} printed no credential: ${why}`);
  let printed: Record<string, unknown>;
  try {
    printed = JSON.parse(output);
  } catch {
    // JSON.parse's own words quote what was printed.
    throw fail("it is not JSON");
  }
  if (printed?.["kind"] !== "ExecCredential") throw fail("its kind is not ExecCredential");
  if ((printed["apiVersion"] ?? apiVersion) !== apiVersion) {
    throw fail(`its apiVersion is not ${apiVersion}, as the kubeconfig has it`);
  }
  const status = (printed["status"] ?? {}) as Record<string, unknown>;
  const { token, clientCertificateData: cert, clientKeyData: key, expirationTimestamp } = status;
  const login: ExecLogin = {
    ...(typeof token === "string" && token !== "" ? { authorization: `Bearer ${token.trim()}` } : {}),
    ...(typeof cert === "string" && typeof key === "string" && cert !== "" ? { cert, key } : {}),
  };
  if (Object.keys(login).length === 0) throw fail("it has neither a token nor a certificate with its key");
  const untilMs = typeof expirationTimestamp === "string" ? Date.parse(expirationTimestamp) : Infinity;
  return { login, untilMs: Number.isNaN(untilMs) ? 0 : untilMs };
}

/** One line of it, without orders to a terminal. */
function plain(text: string): string {
  // deno-lint-ignore no-control-regex
  const clean = text.replace(/\x1b\[[0-9;?]{0,20}[a-zA-Z]/g, "").replace(/[\x00-\x1f\x7f-\x9f]+/g, " ").trim();
  return clean.length <= LONGEST_WORDS ? clean : `…${cut(clean.slice(-LONGEST_WORDS), LONGEST_WORDS)}`;
}
