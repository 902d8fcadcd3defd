/**
 * `demo`: the whole service on this machine with nothing installed: built-in broker, a folder as the store, rows'
 * commands as local processes, and the page. Owns what a newcomer is told to try; the tables are demo_samples.ts. What runs is the
 * service itself, put together from settings as `start` does it (CLUSTER=local).
 */
import { join, resolve } from "node:path";
import { pathToFileURL as toFileUrl } from "node:url";
import { serviceOptions } from "../adapters.ts";
import { rowsFor } from "../catalog/table.ts";
import { type Config, loadConfig } from "../config.ts";
import { requireDemoPermissions } from "../config/permissions.ts";
import { type LocalBroker, startLocalBroker } from "../local/broker.ts";
import { LocalRunner } from "../local/runner.ts";
import { Metrics } from "../observers/metrics.ts";
import type { Emit, ServiceEvent } from "../ports.ts";
import { Service, type ServiceOptions } from "../service.ts";
import { openPage } from "../status.ts";
import { errorMessage } from "../util/errors.ts";
import { VERSION } from "../util/version.ts";
import { type Call, CommandError, plain, printLine, shellWord } from "./context.ts";
import { isSampleName, type Sample, type SampleName, SAMPLES } from "./demo_samples.ts";
import { onInterrupt } from "./interrupt.ts";
import { Narrator } from "./narrator.ts";
import { observeWhenConnected } from "./observe.ts";

const PREFIX = "services/mqtt_job_listener";
const ONCE_TIMEOUT_MS = 90_000;
/** An edited table need not lead to the sample's last row. What a message starts is created within this. */
const QUIET_MS = 5_000;
const LOOK_MS = 500;
/** Tried first, so that what a newcomer noted down works at the next start too. */
const BROKER_PORT = 18830;
const PAGE_PORT = 18080;
/** For the page's forms. It guards nothing: who reaches this machine's loopback reaches the broker as well. */
const TOKEN = "try-it";

export interface DemoOptions {
  /** End after the sample's messages: with 0 if they have done their work, 1 if not or not within 90 s. */
  readonly once: boolean;
  /** Which table is played. Default: chain. */
  readonly sample?: SampleName;
  /** Takes one line, without its newline. */
  readonly write: (line: string) => void;
  /** Folder of the table, logs, records and processes. Default: ./demo-data, or one in it; with `once` one that is removed again. */
  readonly dir?: string;
  /** Loopback port of the broker; 0: a free one. Default: 18830, or a free one where that is taken. */
  readonly port?: number;
  /** Ends the demo. Default: SIGINT or SIGTERM does. */
  readonly signal?: AbortSignal;
  /** Told everything that happens, beside the lines. */
  readonly listeners?: readonly Emit[];
}

/** Runs the demo; resolves to the exit code once everything is closed. Rejects if the folder or port cannot be used. */
export async function demo(
  { once, write, dir, port, signal, sample = "chain", listeners = [] }: DemoOptions,
): Promise<number> {
  requireDemoPermissions();
  const interrupt = signal ? { signal, dispose: () => {} } : onInterrupt();
  const temporary = once && dir === undefined;
  const folder = temporary
    ? await Deno.makeTempDir({ prefix: "mqtt-job-listener-demo-" })
    : resolve(dir ?? folderOf(sample));
  try {
    const isEdited = await writeSample(folder, SAMPLES[sample]) === "edited";
    const wanted = port ?? (once ? 0 : undefined);
    return await run({ once, write, folder, port: wanted, sample, listeners, isEdited, signal: interrupt.signal });
  } finally {
    interrupt.dispose();
    if (temporary) await Deno.remove(folder, { recursive: true });
  }
}

/** Of its own for each table: the one that is there is kept, and must not meet the messages of another. */
function folderOf(sample: SampleName): string {
  return sample === "chain" ? "demo-data" : join("demo-data", sample);
}

/** Runs the demo until a signal, or to the end of its sample chain; as JSON: an object for each thing that happens. */
export async function demoCommand({ flag, json, io }: Call): Promise<number> {
  const port = flag("port") === undefined ? undefined : Number(flag("port"));
  if (port !== undefined && (!Number.isInteger(port) || port < 0 || port > 65535)) {
    throw new CommandError(2, `--port "${flag("port")}": write a number from 1 to 65535`);
  }
  const dir = flag("dir");
  const sample = String(flag("table") ?? "chain");
  if (!isSampleName(sample)) {
    throw new CommandError(2, `--table "${sample}": there are ${Object.keys(SAMPLES).join(" and ")}`);
  }
  let written = Promise.resolve();
  const write = (line: string) => void (written = written.then(() => printLine(io, plain(line))));
  const { shortEvent } = await import("../status/live_events.ts");
  const tell = (event: ServiceEvent) => {
    const short = shortEvent(event);
    if (short) write(JSON.stringify({ type: short.type, ...short.data }));
  };
  const code = await demo({
    once: flag("once") === true,
    sample,
    ...(json ? { write: io.tell, listeners: [tell] } : { write }),
    ...(port === undefined ? {} : { port }),
    ...(dir === undefined ? {} : { dir: String(dir) }),
  });
  await written;
  return code;
}

interface Run extends Required<Omit<DemoOptions, "dir" | "port">> {
  readonly port: number | undefined;
  readonly folder: string;
  /** The table is not the sample's any more. */
  readonly isEdited: boolean;
}

async function run({ once, write, folder, port, sample, listeners, isEdited, signal }: Run): Promise<number> {
  const local = await openBroker(port);
  const settings = settingsOf(folder, local.url, SAMPLES[sample]);
  const config = loadConfig({
    env: {
      ...settings,
      OBSERVE_TOPICS: "#",
      STATUS_ADDR: once ? "off" : `127.0.0.1:${PAGE_PORT}`,
      STATUS_TOKEN: TOKEN,
    },
    readTextFile: Deno.readTextFileSync,
  });
  const stop = new AbortController();
  const end = AbortSignal.any([signal, stop.signal]);
  const options = await serviceOptions(config, {
    version: VERSION,
    onTrouble: (reason) => write(`broker     ${reason}`),
  });
  const { broker, cluster, stores: { logs } } = options;
  const narrator: Narrator = new Narrator({
    write,
    logs,
    problems: () => service.catalog.table?.problems ?? [],
    mayFail: SAMPLES[sample].mayFail,
    topicPrefix: config.topicPrefix,
  });
  const service = new Service({ ...options, listeners: [narrator.tell, ...listeners] });
  let page: Awaited<ReturnType<typeof openPage>>;
  try {
    write(`Broker ${local.url}, table ${config.catalog.url}`);
    write("Rows' commands run on this machine, images are not pulled: a wrong image shows on a cluster alone");
    observeWhenConnected(service, config, {
      onTrouble: (reason) => write(`broker     ${reason}`),
      signal: end,
    });
    await service.start();
    page = await openDemoPage(service, config, options);
    if (page) write(`Page ${page.url} (token to sign in with: ${TOKEN})`);
    const { topic, messages, done } = SAMPLES[sample];
    let failure: string | undefined;
    for (const { payload, until, shows } of messages) {
      const { table } = service.catalog;
      if (table && rowsFor(table, topic).length === 0) {
        failure = `No row of ${config.catalog.url} is for ${topic}, so the sample's message is not published: ` +
          kept(config);
        break;
      }
      const ended = narrator.success(until);
      write(`publish    ${topic}  ${payload}`);
      if (shows !== undefined) write(`           ${shows}`);
      await broker.publish(topic, payload, { qos: 1, signal: end });
      const quiet = `Nothing is under way any more, and no run of the row ${until} has succeeded: ${kept(config)}`;
      failure = await inTime(ended, end, () => isEdited && narrator.quietMs > QUIET_MS ? quiet : undefined);
      if (failure !== undefined) break;
    }
    await narrator.written;
    if (once) {
      write(failure ?? `${done}; without --once the demo stays up and keeps its folder`);
      return failure === undefined ? 0 : 1;
    }
    if (failure !== undefined && !end.aborted) write(failure);
    tellWhatToTry(write, { settings, sample: SAMPLES[sample], pageUrl: page?.url ?? "" });
    await aborted(end);
    write("Stopping");
    return 0;
  } finally {
    stop.abort();
    await page?.close();
    await service.stop();
    if (cluster instanceof LocalRunner) await cluster.close();
    await local.close();
  }
}

function kept({ catalog }: Config): string {
  return `the table ${catalog.url} is kept as you left it; with --dir FOLDER the demo begins anew there`;
}

/** What the service reads its configuration from; a person may paste it for the commands. */
function settingsOf(folder: string, brokerUrl: string, { policy }: Sample): Record<string, string> {
  return {
    ...(policy ? { POLICY_FILE: join(folder, "policy.yaml") } : {}),
    MQTT_URL: brokerUrl,
    MQTT_VERSION: "3.1.1", // all that the built-in broker speaks
    CATALOG_URL: join(folder, "jobs.csv"),
    CATALOG_POLL: "1s",
    LOGS_URL: join(folder, "logs"),
    RUNS_URL: join(folder, "runs"),
    CLUSTER: "local",
    LOCAL_DIR: join(folder, "processes"),
  };
}

/** Where no port is wished: the usual one, or a free one where that is taken. */
async function openBroker(port: number | undefined): Promise<LocalBroker> {
  if (port !== undefined) return await startLocalBroker({ port });
  return await startLocalBroker({ port: BROKER_PORT }).catch(() => startLocalBroker());
}

async function openDemoPage(service: Service, { status }: Config, { cluster, stores }: ServiceOptions) {
  const metrics = new Metrics({ version: VERSION, snapshot: () => service.snapshot() });
  service.subscribe(metrics.emit);
  const { listen, ...rest } = status;
  if (!listen) return undefined;
  const open = (port: number) =>
    openPage(service, { status: { ...rest, listen: { ...listen, port } }, metrics, cluster, logs: stores.logs });
  return await open(listen.port).catch(() => open(0));
}

/** Writes the files that are not there; says whether those that were differ. */
async function writeSample(folder: string, sample: Sample): Promise<"new" | "edited"> {
  const objects = toFileUrl(join(folder, "objects")).href;
  const files = {
    "jobs.csv": sample.table({ prefix: PREFIX, objects }),
    ...(sample.policy ? { "policy.yaml": sample.policy({ objects }) } : {}),
  };
  try {
    await Deno.mkdir(join(folder, "objects"), { recursive: true });
    let isEdited = false;
    for (const [name, text] of Object.entries(files)) {
      isEdited = !await writeNew(join(folder, name), text) && await Deno.readTextFile(join(folder, name)) !== text ||
        isEdited;
    }
    return isEdited ? "edited" : "new";
  } catch (error) {
    const why = errorMessage(error);
    throw new Error(`Cannot write the sample table into ${folder}: ${why}`, { cause: error });
  }
}

/** What a person made of it in an earlier demo stays: false. */
async function writeNew(path: string, text: string): Promise<boolean> {
  try {
    await Deno.writeTextFile(path, text, { createNew: true });
    return true;
  } catch (error) {
    if (error instanceof Deno.errors.AlreadyExists) return false;
    throw error;
  }
}

/** Waits for what the demo began; undefined: it succeeded. `hopeless`: says why it will not, once that is known. */
async function inTime(
  ended: Promise<string | undefined>,
  signal: AbortSignal,
  hopeless: () => string | undefined,
): Promise<string | undefined> {
  const stopped = Promise.withResolvers<string>();
  const seconds = ONCE_TIMEOUT_MS / 1000;
  const timer = setTimeout(
    () => stopped.resolve(`Failed: the rows did not finish within ${seconds} s`),
    ONCE_TIMEOUT_MS,
  );
  const looking = setInterval(() => {
    const why = hopeless();
    if (why !== undefined) stopped.resolve(why);
  }, LOOK_MS);
  const interrupted = () => stopped.resolve("Failed: interrupted before the rows had finished");
  signal.addEventListener("abort", interrupted);
  if (signal.aborted) interrupted();
  const failure = await Promise.race([ended, stopped.promise]);
  clearTimeout(timer);
  clearInterval(looking);
  signal.removeEventListener("abort", interrupted);
  return failure;
}

function tellWhatToTry(
  write: (line: string) => void,
  { settings, sample, pageUrl }: {
    settings: Readonly<Record<string, string>>;
    sample: Sample;
    pageUrl: string;
  },
): void {
  const { port } = new URL(settings["MQTT_URL"]!);
  const message = sample.messages[0]?.payload.replace("world", "you") ?? "";
  const pub = `-h 127.0.0.1 -p ${port} -t ${sample.topic} -m '${message}'`;
  // Who came by npx has no `deno` to type.
  const cli = `${
    /[\\/]node_modules[\\/]/.test(Deno.execPath()) ? `npx -y deno@${Deno.version.deno}` : "deno"
  } task -q cli`;
  const { CATALOG_URL: table, LOGS_URL: logs } = settings;
  const pasted = pageUrl === "" ? settings : { ...settings, STATUS_ADDR: new URL(pageUrl).host };
  const exports = Object.entries(pasted).map(([name, value]) => `${name}=${shellWord(value)}`).join(" ");
  const lines = [
    "",
    "Try next (Ctrl+C ends the demo):",
    `  see it               ${pageUrl} (token to sign in with: ${TOKEN})`,
    `  publish a message    mosquitto_pub ${pub}`,
    `  or, without it       npx -y mqtt@5 pub ${pub}`,
    `  edit the table       ${table} (reread within a second; break a row to see what is said)`,
    `  read the logs        ${logs}`,
    "",
    "For the commands, in another terminal in this folder, once:",
    `  export ${exports}`,
    `  alias mqtt-job-listener=${shellWord(cli)}`,
    "Then, for instance:",
    "  mqtt-job-listener check",
    `  mqtt-job-listener explain ${sample.topic} '${message}'`,
    "  mqtt-job-listener runs",
    "  mqtt-job-listener help",
    "",
  ];
  for (const line of lines) write(line);
}

function aborted(signal: AbortSignal): Promise<void> {
  if (signal.aborted) return Promise.resolve();
  return new Promise((resolve) => signal.addEventListener("abort", () => resolve(), { once: true }));
}
