/**
 * A large log on a real node, kept by the service and read by `kubectl logs -f` beside it:
 * `deno run -A tests/bench/log_node.ts [--megabytes=100] [--seconds=60] [--delay=12] [--cuts=1] [--runs=1] [--own]`.
 * Real parts throughout; only the way to the store may be slow (`--delay` seconds a PUT) and the way to the API server
 * be cut. Compares what each of the two has with what the program wrote, by hash.
 */
import { createHash } from "node:crypto";
import { commandPath } from "../harness/cache.ts";
import { flag, numberFlag } from "../harness/flags.ts";
import { removeFolder, scratchFolder } from "../harness/folder.ts";
import { JobWatch } from "../harness/job_watch.ts";
import { startKit } from "../harness/kit.ts";
import { HttpProxy, TcpProxy } from "../harness/proxy.ts";
import { MqttEar } from "../harness/service.ts";
import { startBundled } from "../harness/bundled.ts";
import { csv } from "../harness/table.ts";
import { eventually, pause } from "../harness/wait.ts";
import { atLeast, type Measurement, type Sample } from "./measure.ts";

/** By name, for `deno task bench`. */
export const LOGS: Readonly<Record<string, Measurement>> = {
  "log-node": {
    figures: {
      "log-node": { unit: "MB", goal: atLeast(1) },
      "log-node-late-store": { unit: "MB", goal: atLeast(1) },
    },
    once: true,
    run: compareNodeLogs,
  },
};

const PREFIX = "services/mqtt_job_listener";
/** With its line break. */
const LINE_BYTES = 100;

export interface NodeLogOptions {
  /** 10^6 bytes of each run. */
  readonly megabytes: number;
  /** How long the program writes, in seconds. */
  readonly seconds: number;
  /** How late the store answers each PUT of a piece, in milliseconds. */
  readonly storeDelayMs?: number;
  /** How often the connections to the API server are cut, evenly over the time. */
  readonly cuts?: number;
  /** Runs that write at the same time. */
  readonly runs?: number;
  /** Whether `kubectl logs -f` reads the same pods. */
  readonly withKubectl?: boolean;
  /** Settings of the service besides. */
  readonly env?: Readonly<Record<string, string>>;
}

/** What one reader has of one run's output. */
export interface Kept {
  readonly bytes: number;
  /** It is the output, byte for byte. */
  readonly whole: boolean;
}

export interface NodeLogResult {
  /** From the first byte to the last run's end. */
  readonly seconds: number;
  readonly runs: readonly {
    readonly service: Kept;
    readonly kubectl?: Kept;
    /** What the end message says. */
    readonly end: Readonly<Record<string, unknown>>;
    /** Lines of the log in square brackets. */
    readonly notes: readonly string[];
  }[];
}

/** Needs `needs("mosquitto", "s3", "node")`, with kubectl that too. */
export async function measureNodeLog(options: NodeLogOptions): Promise<NodeLogResult> {
  const { megabytes, seconds, storeDelayMs = 0, cuts = 0, runs = 1, withKubectl = false } = options;
  await using parts = new AsyncDisposableStack();
  const dir = await scratchFolder("log-node");
  parts.defer(() => removeFolder(dir));
  const kit = parts.use(await startKit());
  const { cluster, s3 } = kit;
  const store = parts.use(
    await HttpProxy.start({
      target: s3.url,
      hook: ({ method, path }) =>
        method === "PUT" && path.includes("/.parts/") && storeDelayMs > 0 ? { delayMs: storeDelayMs } : "pass",
    }),
  );
  const wire = parts.use(new TcpProxy(cluster.port));
  const env: Record<string, string> = {
    ...kit.env(),
    ...(storeDelayMs > 0 ? { AWS_ENDPOINT_URL: store.url } : {}),
    ...(cuts > 0 ? { KUBECONFIG: await cluster.tokenKubeconfig(`https://127.0.0.1:${wire.port}`) } : {}),
    CATALOG_POLL: "1h",
    LOG_LEVEL: "debug",
    SPOOL_DIR: `${dir}/spool`,
    ...options.env,
  };
  const lines = Math.round(megabytes * 1e6 / LINE_BYTES);
  await s3.put(env["CATALOG_URL"]!, csv([chattyRow(lines, seconds)]));
  const ear = parts.use(await MqttEar.connect(kit.broker.url, [`${PREFIX}/#`]));
  const jobs = parts.use(await JobWatch.start(cluster.api));
  const service = parts.use(await startBundled(env));
  for (let n = 0; n < runs; n++) await ear.publish("lab/chatty", String(n));
  const names = await eventually(() => jobs.created("chatty").length === runs && jobs.created("chatty"))
    .then((created) => created.map(({ metadata }) => metadata!.name!));
  const beginMs = performance.now();
  const readers = withKubectl
    ? names.map((name) => readByKubectl(cluster.kubeconfig, name, `${dir}/${name}`, cluster.api))
    : [];
  for (let n = 1; n <= cuts; n++) {
    await pause(seconds * 1_000 / (cuts + 1));
    wire.cut();
  }
  const ends = await eventually(() => {
    const found = ["complete", "failed"].flatMap((how) =>
      ear.json<Record<string, unknown>>(`${PREFIX}/job_${how}/chatty`)
    );
    return found.length === runs && found;
  }, {
    timeoutMs: seconds * 4_000 + storeDelayMs * 20 + 300_000,
    intervalMs: 200,
    what: async () => `the ends of ${runs} runs; the service says:\n${await service.logTail(20)}`,
  });
  const took = Math.round((performance.now() - beginMs) / 1_000);
  const beside = await Promise.all(readers);
  const expected = expectedHash(lines);
  const folder = `${s3.dataDir}/${s3.buckets[0]}/${PREFIX}/logs`;
  const results = names.map(async (name, index) => {
    const { notes, ...service } = await kept(`${folder}/${name}.txt`, expected, true);
    return {
      service,
      notes,
      end: ends.find((end) => end["run_name"] === name) ?? {},
      ...(beside[index] ? { kubectl: await keptBy(beside[index], expected) } : {}),
    };
  });
  return { seconds: took, runs: await Promise.all(results) };
}

/** A log of 100 MB in a minute (for 5,000 messages), also with a store 12 s late, against `kubectl logs -f`. */
async function compareNodeLogs(_repeats: number, messages: number): Promise<Sample[]> {
  const megabytes = Math.max(10, messages / 50);
  const seconds = megabytes * 0.6;
  const figure = async (storeDelayMs: number) => {
    const { runs: [run] } = await measureNodeLog({ megabytes, seconds, storeDelayMs, withKubectl: true });
    return { value: run!.service.whole ? megabytes : run!.service.bytes / 1e6, limit: run!.kubectl!.bytes / 1e6 };
  };
  return [{ "log-node": await figure(0), "log-node-late-store": await figure(12_000) }];
}

/**
 * A row that writes so many numbered lines, a part of them each second. The pause at the end is for containerd 1.6, which was seen to lose
 * the last 64 KiB of a program that ends at once.
 */
export function chattyRow(lines: number, seconds: number) {
  const perSecond = Math.max(1, Math.floor(lines / seconds));
  const script = `BEGIN { for (i = 1; i <= ${lines}; i++) { printf "%0${LINE_BYTES - 1}d\\n", i; ` +
    `if (i % ${perSecond} == 0) { fflush(); system("sleep 1") } } system("sleep 3") }`;
  return { job_name: "chatty", image: "busybox:lab", mqtt_topic: "lab/chatty", command: `awk '${script}'` };
}

async function readByKubectl(
  kubeconfig: string,
  runName: string,
  file: string,
  api: { get<T>(path: string): Promise<T> },
): Promise<string> {
  const podName = await eventually(async () => {
    type Pods = { items: { metadata: { name: string }; status: { phase: string } }[] };
    const { items } = await api.get<Pods>(`/api/v1/namespaces/default/pods?labelSelector=job-name%3D${runName}`);
    return items.find(({ status }) => status.phase === "Running")?.metadata.name;
  }, { timeoutMs: 60_000, intervalMs: 20, what: `the pod of ${runName} to run` });
  const child = new Deno.Command(commandPath("kubectl") ?? "kubectl", {
    args: [`--kubeconfig=${kubeconfig}`, "logs", "-f", podName],
    stdout: "piped",
    stderr: "null",
  }).spawn();
  await child.stdout.pipeTo((await Deno.open(file, { write: true, create: true })).writable);
  await child.status;
  return file;
}

/** SHA-256 of what `chattyRow` writes. */
export function expectedHash(lines: number): string {
  const hash = createHash("sha256");
  for (let line = 1; line <= lines; line++) hash.update(`${String(line).padStart(LINE_BYTES - 1, "0")}\n`);
  return hash.digest("hex");
}

async function keptBy(file: string, expected: string): Promise<Kept> {
  const { bytes, whole } = await kept(file, expected, false);
  return { bytes, whole };
}

/** What a file has of that output. `hasHead`: the output begins after the first empty line, and lines in brackets are no output. */
export async function kept(file: string, expected: string, hasHead: boolean): Promise<Kept & { notes: string[] }> {
  const hash = createHash("sha256");
  const notes: string[] = [];
  let bytes = 0;
  let isOutput = !hasHead;
  const lines = (await Deno.open(file)).readable.pipeThrough(new TextDecoderStream("latin1"));
  let rest = "";
  for await (const text of lines) {
    const whole = (rest + text).split("\n");
    rest = whole.pop()!;
    for (const line of whole) {
      if (!isOutput) isOutput = line === "";
      else if (hasHead && line.startsWith("[")) notes.push(line);
      else {
        hash.update(`${line}\n`);
        bytes += line.length + 1;
      }
    }
  }
  return { bytes, whole: rest === "" && hash.digest("hex") === expected, notes };
}

if (import.meta.main) {
  const options: NodeLogOptions = {
    megabytes: numberFlag("megabytes", 100),
    seconds: numberFlag("seconds", 60),
    storeDelayMs: Number(flag("delay") ?? 0) * 1_000,
    cuts: Number(flag("cuts") ?? 0),
    runs: numberFlag("runs", 1),
    withKubectl: !Deno.args.includes("--own"),
  };
  const result = await measureNodeLog(options);
  console.log(JSON.stringify({ ...options, ...result, load: Deno.loadavg() }));
  Deno.exit(result.runs.every(({ service }) => service.whole) ? 0 : 1);
}
