/**
 * Commands that need no running service: demo, check, graph, explain, runs, logs. Owns their output's shape; what is
 * true of a table or a run is said by the modules asked, each imported when it is wanted: `check` needs no Kubernetes.
 */
import type { Config, ConfigInput } from "../config.ts";
import type { Cluster, JobFacts, ObjectStore, PodFacts, Row, RunRecord, RunSpec, ServiceEvent } from "../ports.ts";
import type { LiveRecord, RunRecords } from "../records.ts";
import type { Problem, Table } from "../catalog/table.ts";
import { UnavailableError } from "../ports.ts";
import { isRunName } from "../run_spec.ts";
import { delay } from "../util/retry.ts";

/** Where a command's words go and come from. */
export interface Io {
  readonly input: ConfigInput;
  /** The result. */
  write(text: string | Uint8Array): Promise<void>;
  /** Anything else, one line. */
  tell(line: string): void;
  /** Standard input to its end. */
  read(): Promise<Uint8Array>;
  /** Replaces the line on a terminal; undefined: nobody watches. */
  readonly progress: ((line: string) => void) | undefined;
}

/** A command as it was called. */
export interface Call {
  readonly words: readonly string[];
  /** Value of a flag of the command's own; true where it takes none. */
  flag(name: string): string | true | undefined;
  readonly json: boolean;
  readonly io: Io;
  /** Reads the configuration; throws ConfigError. */
  config(): Config;
}

/** Ends a command with an exit code; the message is for people. */
export class CommandError extends Error {
  override name = "CommandError";
  readonly code: 1 | 2 | 3;
  constructor(code: 1 | 2 | 3, message: string, options?: ErrorOptions) {
    super(message, options);
    this.code = code;
  }
}

/** Writes a result of one or more lines. */
export async function printLine(io: Io, text: string): Promise<void> {
  await io.write(text + "\n");
}

/** Runs the demo until a signal, or to the end of its sample chain; as JSON: an object for each thing that happens. */
export async function demo({ flag, json, io }: Call): Promise<number> {
  const port = flag("port") === undefined ? undefined : Number(flag("port"));
  if (port !== undefined && (!Number.isInteger(port) || port < 0 || port > 65535)) {
    throw new CommandError(2, `--port "${flag("port")}": write a number from 1 to 65535`);
  }
  const dir = flag("dir");
  const { demo } = await import("./demo.ts");
  let written = Promise.resolve();
  const write = (line: string) => void (written = written.then(() => printLine(io, line)));
  const { shortEvent } = await import("../status.ts");
  const tell = (event: ServiceEvent) => {
    const { type, data } = shortEvent(event);
    write(JSON.stringify({ type, ...data }));
  };
  const code = await demo({
    once: flag("once") === true,
    ...(json ? { write: io.tell, listeners: [tell] } : { write }),
    ...(port === undefined ? {} : { port }),
    ...(dir === undefined ? {} : { dir: String(dir) }),
  });
  await written;
  return code;
}

// ---------------------------------------------------------------- table

/** The table that was named, or the configured one, as the service would read it. */
async function readTable(config: Config, io: Io, where?: string): Promise<{ table: Table; url: string }> {
  const { parseTable } = await import("../catalog/table.ts");
  const { source, url } = await tableText(config, io, where);
  const { checkRow } = await import("../catalog/policy.ts");
  const policy = await readPolicy(config);
  const { topicPrefix } = config;
  const table = parseTable(source, { topicPrefix, ...(policy ? { check: (row) => checkRow(policy, row) } : {}) });
  return { table, url };
}

async function readPolicy({ policy }: Config) {
  if (!policy) return undefined;
  const { parsePolicy } = await import("../catalog/policy.ts");
  try {
    return parsePolicy(policy.text);
  } catch (cause) {
    throw new CommandError(2, `POLICY_FILE ${policy.file}: ${(cause as Error).message}`, { cause });
  }
}

async function tableText(config: Config, io: Io, where?: string): Promise<{ source: Uint8Array; url: string }> {
  if (where === "-") return { source: await io.read(), url: "standard input" };
  if (where !== undefined && /^https?:/.test(where)) {
    io.progress?.(`Reading ${where}`);
    return { source: await download(where).finally(() => io.progress?.("")), url: where };
  }
  const { splitObjectUrl } = await import("../config.ts");
  const { openStore } = await import("../adapters.ts");
  const { storeUrl, key } = where === undefined ? config.catalog : splitObjectUrl(where);
  const store = await openStore(storeUrl, config.s3);
  const url = where ?? `${store.url}/${key}`;
  const found = await store.get(key);
  if (found === undefined || found === "unchanged") {
    throw new CommandError(
      2,
      `There is no table at ${url}: ${where === undefined ? "see CATALOG_URL" : "see the path"}`,
    );
  }
  return { source: found.body, url };
}

async function download(url: string): Promise<Uint8Array> {
  const answer = await fetch(url, { signal: AbortSignal.timeout(30_000) }).catch((cause) => {
    throw new UnavailableError(`Cannot read ${url}: ${cause.message}`, { cause });
  });
  const body = await answer.bytes();
  if (answer.status >= 500) throw new UnavailableError(`Cannot read ${url}: it answered ${answer.status}`);
  if (!answer.ok) throw new CommandError(2, `Cannot read ${url}: it answered ${answer.status}; see the address`);
  return body;
}

/** Tells everything that is wrong with a table; exit code 1 if a row would not run, with `--strict` for warnings too. */
export async function check({ words: [where], json, io, ...call }: Call): Promise<number> {
  const config = call.config();
  const { describeProblem } = await import("../catalog.ts");
  const { table, url } = await readTable(config, io, where);
  const problems = [...table.problems, ...call.flag("server") ? await askServer(config, table.rows, io) : []]
    .sort((a, b) => a.line - b.line);
  const errors = problems.filter(({ severity }) => severity === "error").length;
  const warnings = problems.length - errors;
  const rows = table.rows.length;
  if (json) {
    const told = problems.map((problem) => ({ ...problem, text: describeProblem(problem) }));
    await printLine(io, JSON.stringify({ table: url, rows, errors, warnings, problems: told }));
  } else {
    const lines = problems.map((problem) => plain(`${problem.severity}: ${describeProblem(problem)}`));
    const sum = [counted(rows, "good row"), counted(errors, "error"), counted(warnings, "warning")].join(", ");
    await printLine(io, [...lines, `${url}: ${sum}`].join("\n"));
  }
  return errors > 0 || warnings > 0 && call.flag("strict") ? 1 : 0;
}

function counted(count: number, what: string): string {
  return `${count} ${what}${count === 1 ? "" : "s"}`;
}

const ASKED_AT_ONCE = 8;

/** What the API server has against the rows' Jobs, by a dry run: admission, quotas and the role included. */
async function askServer(config: Config, rows: readonly Row[], io: Io): Promise<Problem[]> {
  // The local runner takes runs that it finds for those of a dead service and ends them.
  if (config.cluster.kind === "local") throw new CommandError(2, "--server: needs CLUSTER=kubernetes");
  const cluster = await openCluster(config);
  const problems: Problem[] = [];
  const left = [...rows.entries()];
  const work = async () => {
    for (let next = left.shift(); next; next = left.shift()) {
      const [at, row] = next;
      io.progress?.(`Asking ${cluster.url}: row ${at + 1} of ${rows.length}`);
      const spec = await runSpec(row, { topic: sampleTopic(row.mqttTopic), payload: new Uint8Array() }, config);
      await cluster.create(spec, { dryRun: true }).catch((error) => {
        if (error instanceof UnavailableError) throw error;
        const message = `the API server refuses its Job: ${(error as Error).message}`;
        problems.push({ severity: "error", line: row.line, jobName: row.jobName, message });
      });
    }
  };
  try {
    await Promise.all(Array.from({ length: ASKED_AT_ONCE }, work));
  } finally {
    io.progress?.("");
    cluster[Symbol.dispose]?.();
  }
  return problems;
}

async function openCluster(config: Config): Promise<Cluster & Partial<Disposable>> {
  const adapters = await import("../adapters.ts");
  try {
    return (await adapters.openCluster(config)).cluster;
  } catch (cause) {
    if (cause instanceof UnavailableError) throw cause;
    throw new CommandError(2, (cause as Error).message, { cause });
  }
}

/** A topic that the filter matches. */
function sampleTopic(filter: string): string {
  return filter.split("/").map((level) => level === "+" || level === "#" ? "any" : level).join("/");
}

/** Draws the table. */
export async function graph({ words: [where], json, io, ...call }: Call): Promise<number> {
  const config = call.config();
  const { chainGraph, toDot, toMermaid } = await import("../catalog/chains.ts");
  const { table } = await readTable(config, io, where);
  if (table.refusal) throw new CommandError(1, `Cannot draw the table: ${table.refusal.message}`);
  const drawing = chainGraph(table);
  const format = call.flag("format");
  if (json) await printLine(io, JSON.stringify(drawing));
  else if (format === "svg") {
    const { drawGraph } = await import("../status/pages.ts");
    const { svg, omitted } = drawGraph(drawing, config.topicPrefix);
    await io.write(styled(svg));
    if (omitted > 0) io.tell(`${omitted} topics and rows are not drawn, for there are too many`);
  } else await io.write(format === "dot" ? toDot(drawing) : toMermaid(drawing));
  return 0;
}

/** The page styles the drawing by its own sheet; a file needs some of that within. */
function styled(svg: string): string {
  const style = "<style>svg{background:#fff;font:13px sans-serif}rect{fill:#fff;stroke:#555}text{fill:#111}" +
    ".edge{fill:none;stroke:#555}.fails{stroke-dasharray:4 3}.odd{stroke:#b00020;stroke-dasharray:4 3}</style>";
  return svg.trim().replace(/<svg[^>]*>/, (tag) => tag + style) + "\n";
}

// ---------------------------------------------------------------- explain

/** Shows which rows a message would run and their Jobs, as Kubernetes would get them. */
export async function explain({ words: [topic = "", given = ""], json, io, ...call }: Call): Promise<number> {
  const { topicFault } = await import("../topics.ts");
  const fault = topicFault(topic);
  if (fault !== undefined) throw new CommandError(2, `TOPIC "${topic}": ${fault}`);
  const payload = given === "-" ? await io.read() : new TextEncoder().encode(given);
  const config = call.config();
  const { rowsFor } = await import("../catalog/table.ts");
  const { buildJob } = await import("../k8s/manifest.ts");
  const { stringify } = await import("yaml");
  const { table, url } = await readTable(config, io);
  const rows = rowsFor(table, topic);
  await tellLeftOut(table, topic, io);
  const { namespace = "default", instance, jobTtlSeconds: ttlSecondsAfterFinished } = config.cluster;
  const found = await Promise.all(rows.map(async (row) => {
    const job = buildJob(await runSpec(row, { topic, payload }, config), {
      namespace,
      instance,
      ttlSecondsAfterFinished,
    });
    return { job_name: row.jobName, line: row.line, job };
  }));
  if (json) await printLine(io, JSON.stringify(found));
  else {
    const texts = found.map(({ job_name, line, job }) => {
      return plain(`# Row "${job_name}", line ${line} of ${url}`) +
        `\n${stringify(job, { lineWidth: 0, aliasDuplicateObjects: false })}`;
    });
    await io.write(texts.join("---\n"));
  }
  if (rows.length > 0) {
    const place = config.cluster.namespace === undefined
      ? " The kubeconfig's namespace takes the place of default."
      : "";
    io.tell(`${counted(rows.length, "row")} would run; each run gets a name of its own.${place}`);
    return 0;
  }
  const { nearest } = await import("../util/nearest.ts");
  const guess = nearest(topic, table.index.filters());
  io.tell(`No row is for "${topic}"${guess === undefined ? "" : `: did you mean "${guess}"?`}`);
  return 1;
}

/** Rows that are for the topic but have errors. */
async function tellLeftOut(table: Table, topic: string, io: Io): Promise<void> {
  const { filterFault, matches } = await import("../topics.ts");
  if (table.refusal) throw new CommandError(1, `Cannot use the table: ${table.refusal.message}`);
  for (const { jobName, line, mqttTopic } of table.badRows) {
    if (mqttTopic === "" || filterFault(mqttTopic) !== undefined || !matches(mqttTopic, topic)) continue;
    io.tell(`Row "${jobName}", line ${line}, would not run, for it has errors: see the command check`);
  }
}

/** The run that the listener would make of the message. */
async function runSpec(row: Row, message: RunSpec["message"], config: Config): Promise<RunSpec> {
  const { originOf } = await import("../listener.ts");
  const { payloadFits, runNameFor, shortHash } = await import("../run_spec.ts");
  const { key, parentRun, rootRun, chainDepth } = originOf(message, config.topicPrefix);
  const messageHash = shortHash([crypto.randomUUID()]);
  const runName = runNameFor(row, key === undefined ? { messageHash } : { key });
  const object = `${config.runs.url}/.payloads/${messageHash}`;
  const stored = !payloadFits(message.payload);
  return {
    runName,
    row,
    message: stored ? { ...message, payload: new Uint8Array() } : message,
    ...(stored ? { payloadLink: { object, url: `${object}?a-link-made-at-the-start` } } : {}),
    messageHash,
    ...(parentRun === undefined ? {} : { parentRun }),
    rootRun: rootRun ?? runName,
    chainDepth,
    receivedAt: new Date(),
  };
}

// ---------------------------------------------------------------- runs

const RECORDS_AT_ONCE = 16;

interface Wanted {
  readonly row?: string;
  readonly state?: string;
  readonly limit: number;
}

/** What `runs` shows of a run under way; a record is shown as it is. */
type LiveView = Pick<RunRecord, "run_name" | "job_name" | "topic" | "parent_run" | "created_at" | "started_at"> & {
  readonly status: "pending" | "running";
};

/** Lists runs: those under way by the service's last word, then those that ended, newest first. */
export async function runs({ json, io, ...call }: Call, states: readonly string[]): Promise<number> {
  const wanted = readWanted(call.flag);
  const config = call.config();
  const { openStore } = await import("../adapters.ts");
  const { RunRecords } = await import("../records.ts");
  const records = new RunRecords(await openStore(config.runs.url, config.s3));
  const ended: { runName: string; modifiedAt: Date }[] = [];
  for await (const one of records.list()) {
    ended.push(one);
    if (ended.length % 1000 === 0) io.progress?.(`Reading ${config.runs.url}: ${ended.length} runs`);
  }
  io.progress?.("");
  const isLive = wanted.state === undefined || states.indexOf(wanted.state) < 2;
  const isEnded = wanted.state === undefined || !isLive;
  const over = new Set(ended.map(({ runName }) => runName));
  const live = isLive ? (await records.getLive()).filter(({ runName }) => !over.has(runName)).map(liveView) : [];
  const shown: (LiveView | RunRecord)[] = live.filter((run) => fits(run, wanted)).slice(0, wanted.limit);
  if (isEnded) shown.push(...await newest(records, ended, { ...wanted, limit: wanted.limit - shown.length }, io));
  if (json) await printLine(io, JSON.stringify(shown));
  else if (shown.length === 0) io.tell("No such run");
  else await printLine(io, runTable(shown));
  return 0;
}

function readWanted(flag: Call["flag"]): Wanted {
  const limit = Number(flag("limit") ?? 20);
  if (!Number.isInteger(limit) || limit < 1) {
    throw new CommandError(2, `--limit "${flag("limit")}": write a whole number of at least 1`);
  }
  const [row, state] = [flag("row"), flag("state")];
  return {
    limit,
    ...(row === undefined ? {} : { row: String(row) }),
    ...(state === undefined ? {} : { state: String(state) }),
  };
}

function fits({ job_name, status }: LiveView | RunRecord, { row, state }: Wanted): boolean {
  return (row === undefined || job_name === row) && (state === undefined || status === state);
}

function liveView({ runName, jobName, topic, parentRun, createdAt, startedAt }: LiveRecord): LiveView {
  return {
    run_name: runName,
    job_name: jobName,
    status: startedAt ? "running" : "pending",
    topic,
    parent_run: parentRun ?? null,
    created_at: createdAt.toISOString(),
    started_at: startedAt?.toISOString() ?? null,
  };
}

/** The newest records that are wanted; reads no more of them than that takes. */
async function newest(
  records: RunRecords,
  ended: readonly { runName: string; modifiedAt: Date }[],
  wanted: Wanted,
  io: Io,
): Promise<RunRecord[]> {
  const { rowLabel } = await import("../run_spec.ts");
  // The least that a name keeps of its row's label.
  const start = wanted.row === undefined ? "" : rowLabel(wanted.row, 39);
  const left = ended.filter(({ runName }) => runName.startsWith(start))
    .sort((a, b) => b.modifiedAt.getTime() - a.modifiedAt.getTime());
  const found: RunRecord[] = [];
  for (let at = 0; at < left.length && found.length < wanted.limit; at += RECORDS_AT_ONCE) {
    const read = await Promise.all(
      left.slice(at, at + RECORDS_AT_ONCE).map(async ({ runName }) => {
        return await records.get(runName).catch((error) => {
          if (!(error instanceof SyntaxError)) throw error;
          io.tell(`Warning: ${error.message}`);
          return undefined;
        });
      }),
    );
    found.push(...read.filter((record) => record !== undefined).filter((record) => fits(record, wanted)));
  }
  return found.sort((a, b) => a.finished_at < b.finished_at ? 1 : -1).slice(0, wanted.limit);
}

function runTable(shown: readonly (LiveView | RunRecord)[]): string {
  const cells = shown.map((run) => {
    const ended = "finished_at" in run ? run.finished_at : undefined;
    const took = !run.started_at
      ? ""
      : ageWords(Date.parse(ended ?? new Date().toISOString()) - Date.parse(run.started_at));
    const why = "message" in run && run.status !== "succeeded" ? run.message : "";
    return [run.run_name, run.status, ended?.replace(/\.\d+Z$/, "Z") ?? "", took, why];
  });
  const rows = [["RUN", "STATE", "ENDED", "TOOK", "WHY"], ...cells].map((row) => row.map(plain));
  const widths = rows[0]!.map((_, at) => Math.max(...rows.map((row) => row[at]!.length)));
  return rows.map((row) => row.map((cell, at) => cell.padEnd(widths[at]!)).join("  ").trimEnd()).join("\n");
}

function ageWords(ms: number): string {
  const seconds = Math.max(0, Math.round(ms / 1000));
  if (seconds < 60) return `${seconds}s`;
  const minutes = Math.floor(seconds / 60);
  return minutes < 60 ? `${minutes}m ${seconds % 60}s` : `${Math.floor(minutes / 60)}h ${minutes % 60}m`;
}

/** What a terminal would take for an order is shown as a blank. */
function plain(text: string): string {
  // deno-lint-ignore no-control-regex
  return text.replace(/[\x00-\x1f\x7f-\x9f]+/g, " ");
}

// ---------------------------------------------------------------- logs

/** How long the stored log may come after the end of a run that was followed. */
const STORED_MS = 10_000;
const LOOK_MS = 500;
/** The service writes the list of its live runs every 10 s. */
const LIVE_LIST_MS = 12_000;
/** News of the last pods may come after that of the run's end, for each has a watch of its own. */
const LAST_PODS_MS = 1_000;

/** Prints the log of a run: the stored one, or what the cluster has of it. */
export async function logs({ words: [runName = ""], json, io, ...call }: Call): Promise<number> {
  if (!isRunName(runName)) {
    throw new CommandError(2, `"${runName}" is no name of a run: see the command runs`);
  }
  const follow = call.flag("follow") === true || call.flag("f") === true;
  const config = call.config();
  const { openStore } = await import("../adapters.ts");
  const store = await openStore(config.logs.url, config.s3);
  const printer = new LogPrinter(io, json ? runName : undefined);
  if (await printStored(store, runName, printer)) return 0;
  const { RunRecords } = await import("../records.ts");
  const records = new RunRecords(await openStore(config.runs.url, config.s3));
  if (await records.exists(runName)) {
    throw new CommandError(1, `The run ended, but its log is not at ${store.url}/${runName}.txt; somebody removed it`);
  }
  if (config.cluster.kind === "local") return await awaitStored(store, records, runName, { follow, printer });
  const cluster = await openCluster(config);
  try {
    if (!await cluster.get(runName)) {
      // It may have ended between the two looks.
      if (await printStored(store, runName, printer)) return 0;
      throw new CommandError(1, `There is no run ${runName}, neither in ${store.url} nor at ${cluster.url}`);
    }
    await printLive(cluster, runName, { follow, printer });
    if (follow && !printer.printed) await untilStored(store, runName, printer, Date.now() + STORED_MS);
    if (!printer.printed) io.tell("It has written nothing yet");
  } finally {
    cluster[Symbol.dispose]?.();
  }
  return 0;
}

/** False: there is no stored log. */
async function printStored(store: ObjectStore, runName: string, printer: LogPrinter): Promise<boolean> {
  const stream = await store.read(`${runName}.txt`);
  if (!stream) return false;
  await printer.print(stream);
  return true;
}

/** The local runner's runs belong to the service's process: only their stored logs can be read from outside. */
async function awaitStored(
  store: ObjectStore,
  records: RunRecords,
  runName: string,
  { follow, printer }: { follow: boolean; printer: LogPrinter },
): Promise<number> {
  const isLive = (await records.getLive()).some((run) => run.runName === runName);
  // The list of live runs may be a few seconds behind.
  if (follow && await untilStored(store, runName, printer, isLive ? Infinity : Date.now() + LIVE_LIST_MS)) return 0;
  const why = isLive ? "the run goes on; wait for it with -f" : "the run goes on, or never was";
  throw new CommandError(1, `There is no log at ${store.url}/${runName}.txt: ${why}`);
}

/** False: the time is up. */
async function untilStored(
  store: ObjectStore,
  runName: string,
  printer: LogPrinter,
  untilMs: number,
): Promise<boolean> {
  while (!await printStored(store, runName, printer)) {
    if (Date.now() >= untilMs) return false;
    await delay(LOOK_MS);
  }
  return true;
}

/** Prints what the run's containers wrote; with `follow` until the run ended. */
async function printLive(
  cluster: Cluster,
  runName: string,
  { follow, printer }: { follow: boolean; printer: LogPrinter },
): Promise<void> {
  const stop = new AbortController();
  const { signal } = stop;
  const printing = new Map<string, Promise<void>>();
  const ended = Promise.withResolvers<void>();
  const synced = Promise.withResolvers<void>();
  ended.promise.catch(() => {}); // Without `follow` nobody waits for it.
  const onPod = (pod: PodFacts) => {
    if (pod.runName !== runName) return;
    printer.expect(pod.podName);
    for (const { name, state } of pod.containers) {
      const key = `${pod.podName}/${name}`;
      if (state === "waiting" || printing.has(key)) continue;
      const done = printContainer(cluster, pod.podName, name, { follow, signal, printer }).then((isDone) => {
        if (!isDone) printing.delete(key); // The next news of the pod tries again.
      });
      done.catch(ended.reject);
      printing.set(key, done);
    }
  };
  const onJob = (job: JobFacts) => void (job.runName === runName && job.end && ended.resolve());
  const watching = cluster.watch({
    onJob,
    onJobGone: (gone) => void (gone === runName && ended.resolve()),
    onPod,
    onPodGone: () => {},
    onSynced: () => synced.resolve(),
    onTrouble: () => {},
  }, signal).catch(() => {});
  try {
    await Promise.race([synced.promise, ended.promise, notSynced(signal, cluster)]);
    await synced.promise;
    if (follow) {
      await ended.promise;
      await delay(LAST_PODS_MS);
    }
    await Promise.all(printing.values());
  } finally {
    stop.abort();
    await watching;
  }
}

async function notSynced(signal: AbortSignal, cluster: Cluster): Promise<void> {
  await delay(30_000, signal).catch(() => {});
  if (!signal.aborted) throw new UnavailableError(`Cannot see the runs at ${cluster.url}: no answer within 30 s`);
}

/** False: it has no log yet. */
async function printContainer(
  cluster: Cluster,
  podName: string,
  container: string,
  { follow, signal, printer }: { follow: boolean; signal: AbortSignal; printer: LogPrinter },
): Promise<boolean> {
  try {
    const stream = await cluster.logs(podName, container, { follow, timestamps: false, signal });
    if (stream) await printer.print(stream, podName);
    return true;
  } catch (error) {
    if (error instanceof UnavailableError) return false;
    if (signal.aborted) return true;
    throw error;
  }
}

/** Prints streams: bytes as they are, or lines with their pod's name where several pods write at once, or as JSON. */
class LogPrinter {
  readonly #io: Io;
  readonly #jsonRun: string | undefined;
  readonly #pods = new Set<string>();
  printed = false;

  /** `jsonRun`: name of the run, for a JSON object a line. */
  constructor(io: Io, jsonRun: string | undefined) {
    this.#io = io;
    this.#jsonRun = jsonRun;
  }

  /** Lines of more than one pod are told apart from now on. */
  expect(pod: string): void {
    this.#pods.add(pod);
  }

  async print(stream: ReadableStream<Uint8Array>, pod?: string): Promise<void> {
    if (this.#jsonRun === undefined && pod === undefined) {
      for await (const chunk of stream) await this.#io.write(chunk);
      this.printed = true;
      return;
    }
    for await (const line of linesOf(stream)) {
      this.printed = true;
      await printLine(this.#io, this.#shape(line, pod));
    }
  }

  #shape(line: string, pod: string | undefined): string {
    if (this.#jsonRun !== undefined) {
      return JSON.stringify({ run_name: this.#jsonRun, ...(pod === undefined ? {} : { pod }), line });
    }
    return this.#pods.size > 1 ? `${pod}: ${line}` : line;
  }
}

async function* linesOf(stream: ReadableStream<Uint8Array>): AsyncGenerator<string> {
  let rest = "";
  const decoder = new TextDecoder();
  for await (const chunk of stream) {
    const lines = (rest + decoder.decode(chunk, { stream: true })).split("\n");
    rest = lines.pop() ?? "";
    yield* lines;
  }
  rest += decoder.decode();
  if (rest !== "") yield rest;
}
