/**
 * The command logs: the output of a run from the store or, while it runs, from the cluster. Reads only.
 */
import type { Config } from "../config.ts";
import type { Cluster, JobFacts, ObjectStore, PodFacts } from "../ports.ts";
import { UnavailableError } from "../ports.ts";
import type { RunRecords } from "../records.ts";
import { isRunName, rowLabel } from "../run_spec.ts";
import { compact } from "../util/compact.ts";
import { delay } from "../util/retry.ts";
import { cut } from "../util/text.ts";
import { type Call, CommandError, type Io, openCluster, printLine } from "./context.ts";

/** How long the stored log may come after the end of a run that was followed. */
const STORED_MS = 10_000;
const LOOK_MS = 500;
/** The service writes the list of its live runs every 10 s. */
const LIVE_LIST_MS = 12_000;
/** News of the last pods may come after that of the run's end, for each has a watch of its own. */
const LAST_PODS_MS = 1_000;

/** Prints the log of a run: the stored one, or what the cluster has of it. */
export async function logs({ words: [runName = ""], json, io, ...call }: Call): Promise<number> {
  const follow = call.flag("follow") === true || call.flag("f") === true;
  const config = call.config();
  const { openStore } = await import("../adapters.ts");
  if (!isRunName(runName)) {
    const records = await recordsOf(config);
    const hint = runName.includes("/") ? undefined : await rowHint(runName, records);
    throw new CommandError(2, hint ?? `"${cut(runName, 89)}" is no name of a run: see the command runs`);
  }
  const store = await openStore(config.logs.url, config.s3);
  const printer = new LogPrinter(io, json ? runName : undefined);
  if (await printStored(store, runName, printer)) return 0;
  const records = await recordsOf(config);
  if (await records.exists(runName)) {
    throw new CommandError(1, `The run ended, but its log is not at ${store.url}/${runName}.txt; somebody removed it`);
  }
  if (config.cluster.kind === "local") return await awaitStored(store, records, runName, { follow, printer });
  const cluster = await openCluster(config);
  try {
    if (!await cluster.get(runName)) {
      // It may have ended between the two looks.
      if (await printStored(store, runName, printer)) return 0;
      const hint = await rowHint(runName, records);
      throw new CommandError(1, hint ?? `There is no run ${runName}, neither in ${store.url} nor at ${cluster.url}`);
    }
    await printLive(cluster, runName, { follow, printer });
    if (follow && !printer.printed) await untilStored(store, runName, printer, Date.now() + STORED_MS);
    if (!printer.printed) io.tell("It has written nothing yet");
  } finally {
    cluster[Symbol.dispose]?.();
  }
  return 0;
}

async function recordsOf(config: Config): Promise<RunRecords> {
  const { openStore } = await import("../adapters.ts");
  const { RunRecords } = await import("../records.ts");
  return new RunRecords(await openStore(config.runs.url, config.s3));
}

/** Records of a row that are read for its last run: other rows' names may begin alike. */
const MAX_READ = 16;

/** Which run is meant, where the word is a row's name; undefined: no run of such a row is known. */
async function rowHint(word: string, records: RunRecords): Promise<string | undefined> {
  const label = rowLabel(word);
  const isOf = (jobName: string) => jobName === word || rowLabel(jobName) === label;
  const live = (await records.getLive()).filter(({ jobName }) => isOf(jobName))
    .sort((a, b) => b.createdAt.getTime() - a.createdAt.getTime());
  const last = live[0] ?? await lastEnded(label, isOf, records);
  if (last === undefined) return undefined;
  const next = `mqtt-job-listener logs ${last.runName}${live.length > 0 ? " -f" : ""}`;
  return `"${cut(word, 89)}" is a row, not a run. See the log of its last run: ${next}`;
}

async function lastEnded(
  label: string,
  isOf: (jobName: string) => boolean,
  records: RunRecords,
): Promise<{ runName: string } | undefined> {
  const ended: { runName: string; modifiedAt: Date }[] = [];
  // The least that a name keeps of its row's label.
  for await (const one of records.list(undefined, label.slice(0, 39))) ended.push(one);
  const newest = ended.sort((a, b) => b.modifiedAt.getTime() - a.modifiedAt.getTime()).slice(0, MAX_READ);
  const read = await Promise.all(newest.map(({ runName }) => records.get(runName).catch(() => undefined)));
  const fitting = read.filter((record) => record !== undefined).filter(({ job_name }) => isOf(job_name));
  const last = fitting.sort((a, b) => Date.parse(b.finished_at) - Date.parse(a.finished_at))[0];
  return last && { runName: last.run_name };
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
  const hint = isLive ? undefined : await rowHint(runName, records);
  if (hint !== undefined) throw new CommandError(1, hint);
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
      return JSON.stringify({ run_name: this.#jsonRun, ...compact({ pod }), line });
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
