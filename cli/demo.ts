/**
 * `demo`: the whole service on this machine with nothing installed: built-in broker, a folder as the store, rows'
 * commands as local processes, and the page. Owns the sample table and the lines that a newcomer reads. Wiring and words only:
 * what runs is the service itself.
 */
import { join, resolve } from "node:path";
import { describeProblem } from "../catalog.ts";
import { type LocalBroker, startLocalBroker } from "../local/broker.ts";
import { LocalStore } from "../local/store.ts";
import { LocalRunner } from "../local/runner.ts";
import { Metrics } from "../observers/metrics.ts";
import { MqttBroker } from "../mqtt.ts";
import type { Emit, ObjectStore, RunRecord, ServiceEvent } from "../ports.ts";
import { errorMessage } from "../util/retry.ts";
import { type Service, startService } from "../service.ts";
import { openPage } from "../status/view.ts";
import type { Problem } from "../catalog/table.ts";
import { uncovered } from "../topics.ts";
import { VERSION } from "../util/version.ts";

const PREFIX = "services/mqtt_job_listener";
const TOPIC = "demo/hello";
const PAYLOAD = '{"name":"world"}';
const LAST_JOB = "Report";
const ONCE_TIMEOUT_MS = 30_000;
/** Warnings of one table that are said in lines. */
const MAX_WARNINGS = 10;
/** Tried first, so that what a newcomer noted down works at the next start too. */
const BROKER_PORT = 18830;
const PAGE_PORT = 18080;
/** For the page's forms. It guards nothing: who reaches this machine's loopback reaches the broker as well. */
const TOKEN = "demo";

/** A chain of three rows: the later two wait for the end of the one before. */
const SAMPLE_TABLE = `job_name,mqtt_topic,image,command,memory_limit
Greet,${TOPIC},busybox,"sh -c 'echo Hello, $PAYLOAD_NAME; sleep 0.5'",1Gi
Count,${PREFIX}/job_complete/Greet,busybox,"sh -c 'echo $PAYLOAD_JOB_NAME got ${"$"}{#PAYLOAD_INPUT} characters; sleep 0.5'",1Gi
${LAST_JOB},${PREFIX}/job_complete/Count,busybox,"sh -c 'echo $PAYLOAD_RUN_NAME $PAYLOAD_STATUS at $PAYLOAD_FINISHED_AT'",1Gi
`;

export interface DemoOptions {
  /** End after the sample chain: with 0 if it succeeded, 1 if not or not within 30 s. */
  readonly once: boolean;
  /** Takes one line, without its newline. */
  readonly write: (line: string) => void;
  /** Folder of the table, logs, records and processes. Default: ./demo-data; with `once` one that is removed again. */
  readonly dir?: string;
  /** Loopback port of the broker; 0: a free one. Default: 18830, or a free one where that is taken. */
  readonly port?: number;
  /** Ends the demo. Default: SIGINT or SIGTERM does. */
  readonly signal?: AbortSignal;
  /** Told everything that happens, beside the lines. */
  readonly listeners?: readonly Emit[];
}

/** Runs the demo; resolves to the exit code once everything is closed. Rejects if the folder or port cannot be used. */
export async function demo({ once, write, dir, port, signal, listeners = [] }: DemoOptions): Promise<number> {
  const interrupt = signal ? { signal, dispose: () => {} } : onInterrupt();
  const temporary = once && dir === undefined;
  const folder = temporary
    ? await Deno.makeTempDir({ prefix: "mqtt-job-listener-demo-" })
    : resolve(dir ?? "demo-data");
  try {
    await writeSampleTable(folder);
    const wanted = port ?? (once ? 0 : undefined);
    return await run({ once, write, folder, port: wanted, listeners, signal: interrupt.signal });
  } finally {
    interrupt.dispose();
    if (temporary) await Deno.remove(folder, { recursive: true });
  }
}

interface Run extends Required<Omit<DemoOptions, "dir" | "port">> {
  readonly port: number | undefined;
  readonly folder: string;
}

async function run({ once, write, folder, port, listeners, signal }: Run): Promise<number> {
  const local = await openBroker(port);
  const broker = new MqttBroker({
    url: local.url,
    clientId: "mqtt-job-listener",
    protocolVersion: 4,
    state: { topic: `${PREFIX}/state` },
    // Without MQTT 5 the broker cannot say for which filter a copy is.
    reduce: uncovered,
  });
  const cluster = new LocalRunner({ dir: join(folder, "processes") });
  const logs = new LocalStore(join(folder, "logs"));
  const stop = new AbortController();
  const end = AbortSignal.any([signal, stop.signal]);
  let service: Service | undefined;
  const narrator = new Narrator({ write, logs, problems: () => service?.catalog.table?.problems ?? [] });
  let page: Awaited<ReturnType<typeof openPage>>;
  try {
    write(`Broker ${local.url}, table ${join(folder, "jobs.csv")}`);
    service = await startService({
      broker,
      stores: {
        catalog: new LocalStore(folder),
        catalogKey: "jobs.csv",
        logs,
        runs: new LocalStore(join(folder, "runs")),
      },
      cluster,
      topicPrefix: PREFIX,
      settings: {
        pollMs: 1_000,
        handleRetained: false,
        createConcurrency: 4,
        maxChainDepth: 20,
        gracePeriods: { imagePullMs: 60_000, unschedulableMs: 60_000, nodeLostMs: 60_000 },
        logs: { followers: 20, memoryBytes: 32 * 1024 * 1024 },
        info: { version: VERSION, demo: true },
      },
      listeners: [narrator.tell, ...listeners],
    });
    narrator.tellWarnings(); // of the first table, which was told before there was a service to ask
    if (!once) {
      page = await openDemoPage(service, cluster, logs);
      write(`Page ${page?.url} (token for its forms: ${TOKEN})`);
    }
    write(`publish    ${TOPIC}  ${PAYLOAD}`);
    await broker.publish(TOPIC, PAYLOAD, { qos: 1, signal: end });
    const failure = await firstChain(narrator, end);
    await narrator.written;
    if (once) {
      write(failure ?? "The chain of three rows is done; without --once the demo stays up and keeps its folder");
      return failure === undefined ? 0 : 1;
    }
    if (failure !== undefined && !end.aborted) write(failure);
    tellWhatToTry(write, { brokerUrl: local.url, pageUrl: page?.url ?? "", folder });
    await aborted(end);
    write("Stopping");
    return 0;
  } finally {
    stop.abort();
    await page?.close();
    await service?.stop();
    await cluster.close();
    await broker.close();
    await local.close();
  }
}

/** Where no port is wished: the usual one, or a free one where that is taken. */
async function openBroker(port: number | undefined): Promise<LocalBroker> {
  if (port !== undefined) return await startLocalBroker({ port });
  return await startLocalBroker({ port: BROKER_PORT }).catch(() => startLocalBroker());
}

async function openDemoPage(service: Service, cluster: LocalRunner, logs: ObjectStore) {
  const metrics = new Metrics({ version: VERSION, snapshot: () => service.snapshot() });
  service.subscribe(metrics.emit);
  const open = (port: number) =>
    openPage(service, { status: { listen: { hostname: "127.0.0.1", port }, token: TOKEN }, metrics, cluster, logs });
  return await open(PAGE_PORT).catch(() => open(0));
}

async function writeSampleTable(folder: string): Promise<void> {
  try {
    await Deno.mkdir(folder, { recursive: true });
    // What a person made of it in an earlier demo stays.
    await Deno.writeTextFile(join(folder, "jobs.csv"), SAMPLE_TABLE, { createNew: true });
  } catch (error) {
    if (error instanceof Deno.errors.AlreadyExists) return;
    const why = errorMessage(error);
    throw new Error(`Cannot write the sample table into ${folder}: ${why}`, { cause: error });
  }
}

/** Waits for the chain that the demo began; undefined: it succeeded. */
async function firstChain(narrator: Narrator, signal: AbortSignal): Promise<string | undefined> {
  const stopped = Promise.withResolvers<string>();
  const seconds = ONCE_TIMEOUT_MS / 1000;
  const timer = setTimeout(
    () => stopped.resolve(`Failed: the chain did not finish within ${seconds} s`),
    ONCE_TIMEOUT_MS,
  );
  const interrupted = () => stopped.resolve("Failed: interrupted before the chain had finished");
  signal.addEventListener("abort", interrupted);
  if (signal.aborted) interrupted();
  const failure = await Promise.race([narrator.chain, stopped.promise]);
  clearTimeout(timer);
  signal.removeEventListener("abort", interrupted);
  return failure;
}

function tellWhatToTry(
  write: (line: string) => void,
  { brokerUrl, pageUrl, folder }: { brokerUrl: string; pageUrl: string; folder: string },
): void {
  const { port } = new URL(brokerUrl);
  const pub = `-h 127.0.0.1 -p ${port} -t ${TOPIC} -m '{"name":"you"}'`;
  // Who came by npx has no `deno` to type.
  const cli = `${
    /[\\/]node_modules[\\/]/.test(Deno.execPath()) ? `npx -y deno@${Deno.version.deno}` : "deno"
  } task cli`;
  const settings = {
    MQTT_URL: brokerUrl,
    CATALOG_URL: join(folder, "jobs.csv"),
    LOGS_URL: join(folder, "logs"),
    RUNS_URL: join(folder, "runs"),
    CLUSTER: "local",
    ...(pageUrl === "" ? {} : { STATUS_ADDR: new URL(pageUrl).host }),
  };
  const exports = Object.entries(settings).map(([name, value]) => `${name}=${shellQuoted(value)}`).join(" ");
  const lines = [
    "",
    "Try next (Ctrl+C ends the demo):",
    `  see it               ${pageUrl} (token for its forms: ${TOKEN})`,
    `  publish a message    mosquitto_pub ${pub}`,
    `  or, without it       npx -y mqtt@5 pub ${pub}`,
    `  edit the table       ${join(folder, "jobs.csv")} (reread within a second; break a row to see what is said)`,
    `  read the logs        ${join(folder, "logs")}`,
    "",
    "For the commands, in another terminal, once:",
    `  export ${exports}`,
    "Then, for instance:",
    `  ${cli} check`,
    `  ${cli} run Greet '{"name":"you"}'`,
    `  ${cli} runs`,
    `  ${cli} help`,
    "",
  ];
  for (const line of lines) write(line);
}

/** As one word of a shell of Unix. */
function shellQuoted(text: string): string {
  return /^[\w.:/-]+$/.test(text) ? text : `'${text.replaceAll("'", "'\\''")}'`;
}

interface NarratorOptions {
  readonly write: (line: string) => void;
  readonly logs: ObjectStore;
  /** What is wrong with the table in force. */
  readonly problems: () => readonly Problem[];
}

/** Semaphore what the service tells into lines. A child's lines wait for those of its parent's end. */
class Narrator {
  readonly #write: (line: string) => void;
  readonly #logs: ObjectStore;
  readonly #problems: () => readonly Problem[];
  readonly #chain = Promise.withResolvers<string | undefined>();
  readonly #unfinished = new Set<string>();
  #queue: Promise<void> = Promise.resolve();
  /** Lines of children whose parent has not been told as finished, by the parent. */
  readonly #held = new Map<string, ServiceEvent[]>();
  readonly #parents = new Map<string, string>();

  constructor({ write, logs, problems }: NarratorOptions) {
    this.#write = write;
    this.#logs = logs;
    this.#problems = problems;
  }

  /** Resolves when a chain has ended: undefined, or why it failed. */
  get chain(): Promise<string | undefined> {
    return this.#chain.promise;
  }

  /** All lines so far are written. */
  get written(): Promise<void> {
    return this.#queue;
  }

  readonly tell: Emit = (event) => {
    const parent = this.#parentOf(event);
    if (parent !== undefined && this.#unfinished.has(parent)) {
      this.#held.set(parent, [...this.#held.get(parent) ?? [], event]);
      return;
    }
    this.#queue = this.#queue.then(() => this.#narrate(event));
    if (event.type !== "finished") return;
    const { record } = event;
    this.#unfinished.delete(record.run_name);
    const children = this.#held.get(record.run_name) ?? [];
    this.#held.delete(record.run_name);
    this.#parents.delete(record.run_name);
    for (const child of children) this.tell(child);
    this.#queue.then(() => this.#endChain(record));
  };

  /** Says each warning of the table; its errors come as events of their own. */
  tellWarnings(): void {
    const warnings = this.#problems().filter(({ severity }) => severity === "warning");
    for (const warning of warnings.slice(0, MAX_WARNINGS)) this.#write(`warning    ${describeProblem(warning)}`);
    const more = warnings.length - MAX_WARNINGS;
    if (more > 0) this.#write(`warning    … and ${more} more; the page and the command check have all`);
  }

  #parentOf(event: ServiceEvent): string | undefined {
    if (event.type === "created") {
      this.#unfinished.add(event.run.runName);
      if (event.run.parentRun !== undefined) this.#parents.set(event.run.runName, event.run.parentRun);
    }
    if (event.type === "created" || event.type === "started") return this.#parents.get(event.run.runName);
    return event.type === "finished" ? this.#parents.get(event.record.run_name) : undefined;
  }

  #endChain({ status, job_name, message }: RunRecord): void {
    if (status !== "succeeded") this.#chain.resolve(`Failed: job "${job_name}" ${status}: ${message}`);
    else if (job_name === LAST_JOB) this.#chain.resolve(undefined);
  }

  async #narrate(event: ServiceEvent): Promise<void> {
    const write = this.#write;
    switch (event.type) {
      case "table":
        write(`table      rows: ${event.rows}, errors: ${event.errors}, warnings: ${event.warnings}`);
        return this.tellWarnings();
      case "message":
        // One that made runs is told of once they exist, so those lines name it.
        if (event.outcome === "runs" || event.topic.startsWith(`${PREFIX}/`)) return;
        return write(`message    ${event.topic}: ${event.outcome}`);
      case "created": {
        const { runName, jobName, parentRun, topic } = event.run;
        const why = parentRun === undefined ? `a message on ${topic}` : `the end of ${parentRun}`;
        return write(`created    ${runName} of row ${jobName}, set off by ${why}`);
      }
      case "started":
        return write(`started    ${event.run.runName}`);
      case "finished":
        return await this.#narrateEnd(event.record);
      case "error":
        return write(`error      ${event.report.message}`);
      case "broker":
        if (!event.connected) write(`broker     ${event.reason ?? "connection lost"}`);
    }
  }

  async #narrateEnd(record: RunRecord): Promise<void> {
    // The log's head ends at its first empty line.
    const output = afterFirst(await this.#log(record), "\n\n").trimEnd();
    const lines = output === "" ? [] : output.split("\n");
    for (const line of lines.slice(0, 5)) this.#write(`  output   ${line}`);
    if (lines.length > 5) this.#write(`  output   … ${lines.length - 5} more lines in the log`);
    this.#write(`${record.status.padEnd(10)} ${record.run_name}: ${record.message}`);
    this.#write(`  log      ${record.log_url}`);
  }

  async #log({ run_name }: RunRecord): Promise<string> {
    try {
      const stored = await this.#logs.get(`${run_name}.txt`);
      return typeof stored === "object" ? new TextDecoder().decode(stored.body) : "";
    } catch (error) {
      return `\n\n(the log cannot be read: ${errorMessage(error)})`;
    }
  }
}

function afterFirst(text: string, separator: string): string {
  const at = text.indexOf(separator);
  return at < 0 ? "" : text.slice(at + separator.length);
}

/** Aborts at SIGINT or SIGTERM (SIGINT alone on Windows, which has no other); a second one ends the process as usual. */
function onInterrupt(): { signal: AbortSignal; dispose(): void } {
  const controller = new AbortController();
  const signals: Deno.Signal[] = Deno.build.os === "windows" ? ["SIGINT"] : ["SIGINT", "SIGTERM"];
  const dispose = () => signals.forEach((name) => Deno.removeSignalListener(name, stop));
  const stop = () => {
    controller.abort();
    dispose();
  };
  signals.forEach((name) => Deno.addSignalListener(name, stop));
  return { signal: controller.signal, dispose };
}

function aborted(signal: AbortSignal): Promise<void> {
  if (signal.aborted) return Promise.resolve();
  return new Promise((resolve) => signal.addEventListener("abort", () => resolve(), { once: true }));
}
