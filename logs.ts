/**
 * The logs of runs: follows every container while it runs, hands what comes to the store in pieces beside the reading, so
 * that a crash or the node's rotation of files loses nothing, and at the end puts the whole text at
 * `{LOGS_URL}/{run name}.txt`. Knows nothing of how a run ended: the head is given to it.
 */
import { ContainerLog, type Quota } from "./logs/container.ts";
import { chainOf, GONE, LOG_TYPE, markOf, readPieces, type StoredPiece } from "./logs/segments.ts";
import { LineMap } from "./logs/line_map.ts";
import { Spool, type SpoolSettings } from "./logs/spool.ts";
import { indexKeyOf, LogIndexer } from "./logs/stored.ts";
import type { LogPart, LogText } from "./logs/text.ts";
import type { LiveRun } from "./runs.ts";
import type { Cluster, ObjectStore, PodFacts } from "./ports.ts";
import { compact } from "./util/compact.ts";
import { chunksOf, joinBytes } from "./util/streams.ts";

export { openStored } from "./logs/stored.ts";
export { breaksIn, LineCounter, LineMap, STEP_BYTES } from "./logs/line_map.ts";
export type { LogPart, LogText } from "./logs/text.ts";

export interface LogSettings extends SpoolSettings {
  /** Containers followed at once; those beyond are read when they end. */
  readonly followers: number;
  /** Bytes of output kept of one run; the rest is left out. */
  readonly maxBytes: number;
  /** A stream that says nothing for so long after its run has ended counts as dead. Default 45,000 ms. */
  readonly silentMs?: number;
  /** How often the newest line on the node of a large log is looked at. Default 1,500 ms. */
  readonly lookMs?: number;
}

/** What became of a run's output. */
export interface LogSummary {
  /** Of output in the log, without its head and what is said between the lines. */
  readonly bytes: number;
  /** Nothing of it is known or feared to be missing. */
  readonly complete: boolean;
  /** What is missing, in a sentence; undefined where nothing is. */
  readonly missing: string | undefined;
  /** The last line that is not blank, by `{pod}/{container}`, of a few containers; absent where another process read. */
  readonly lastLines?: ReadonlyMap<string, string>;
  /** What GNU time says of memory, summed over the containers that it says it of; undefined where it says nothing. */
  readonly residentBytes?: number | undefined;
}

/** Pods have 30 s to end by default. */
const SILENT_MS = 45_000;
const SILENCE_CHECK_MS = 1_000;
/** So many places are named in a record; the log itself has all. */
const NAMED_PLACES = 3;
/** Of so many containers the last line is told. */
const MOST_LAST_LINES = 64;
/** A head is looked at so far for what a former process said of the log. */
const HEAD_BYTES = 64 * 1024;

interface RunLogs {
  readonly containers: Map<string, ContainerLog>;
  readonly quota: Quota;
}

export class LogCollector {
  readonly #cluster: Cluster;
  readonly #store: ObjectStore;
  readonly #settings: LogSettings;
  readonly #signal: AbortSignal;
  readonly #spool: Spool;
  readonly #runs = new Map<string, RunLogs>();
  /** Runs of which former processes left segments; listed once, when the first adopted run is met. */
  #left: Promise<ReadonlySet<string>> | undefined;
  #following = 0;

  /** `onTrouble` is told, once, that the disk for output on its way to the store cannot be used. */
  constructor(
    { cluster, store, settings, signal, onTrouble }: {
      cluster: Cluster;
      store: ObjectStore;
      settings: LogSettings;
      signal: AbortSignal;
      onTrouble?: (why: string) => void;
    },
  ) {
    this.#cluster = cluster;
    this.#store = store;
    this.#settings = settings;
    this.#signal = signal;
    this.#spool = new Spool(settings, onTrouble);
  }

  /** Where people find the log of a run. */
  urlOf(runName: string): string {
    return `${this.#store.url}/${runName}.txt`;
  }

  /** Call at each change of a pod: begins to follow its containers as they start, hears that they ended. */
  observe(run: LiveRun, pod: PodFacts): void {
    for (const container of pod.containers) {
      if (container.state === "waiting") continue;
      this.#containerLog(run, pod.podName, container.name)?.update(container);
    }
  }

  /** The pod is gone: what its containers wrote ends here. */
  podGone(run: LiveRun, podName: string): void {
    for (const log of this.#logsOf(run)) {
      if (log.podName === podName) log.gone();
    }
  }

  /** What a former process said of the log that it has put into the store whole; undefined: there is none yet. */
  async stored(runName: string): Promise<LogSummary | undefined> {
    const stream = await this.#store.read(`${runName}.txt`, { signal: this.#signal });
    if (!stream) return undefined;
    let head: Uint8Array = new Uint8Array(0);
    for await (const chunk of chunksOf(stream, this.#signal)) {
      head = joinBytes([head, chunk]);
      if (head.length >= HEAD_BYTES) break;
    }
    return readSummary(new TextDecoder().decode(head.subarray(0, HEAD_BYTES)));
  }

  /**
   * Waits for the containers' output, then puts head and output into the store. Repeatable: an error leaves all in
   * place. `head` is called when the output is known; `lost` says why there can be no output any more.
   */
  async finish(
    run: LiveRun,
    head: (summary: LogSummary) => Promise<string>,
    { lost }: { lost?: string | undefined } = {},
  ): Promise<LogSummary> {
    const { runName } = run.job;
    const logs = this.#logsOf(run);
    await Promise.all(logs.map((log) => this.#wholeOrSilent(log)));
    const hasPieces = logs.some(({ segments }) => segments.hasStored) || await this.#wasLeft(run);
    const left = hasPieces ? await this.#leftPieces(runName) : new Map<string, StoredPiece[]>();
    const known = new Set(logs.map(({ segments }) => segments.folder));
    const strangers = [...left].filter(([folder]) => !known.has(folder)).map(([, pieces]) => chainOf(pieces));
    const gone = logs.flatMap(({ segments }) => segments.lostOf(left.get(segments.folder) ?? []) ?? []);
    const isUnseen = logs.length === 0 && left.size === 0 && hadPod(run);
    const unread = [
      ...lost === undefined ? [] : [lost],
      ...isUnseen ? ["Nothing of its output could be read: its pods were gone"] : [],
      ...strangers.length === 0 ? [] : ["The rest of a container's log could not be read: its pod is gone"],
    ];
    const missing = [...unread, ...gone.map(() => GONE), ...logs.flatMap(({ missing }) => missing)];
    const bytes = [...strangers.map(totalOf), ...logs.map((log) => log.bytes), ...gone.map((bytes) => -bytes)]
      .reduce((sum, more) => sum + more, 0);
    const summary: LogSummary = {
      bytes,
      complete: missing.length === 0,
      missing: missing.length === 0 ? undefined : named(missing),
      ...compact({ residentBytes: sumOf(logs.flatMap(({ residentBytes }) => residentBytes ?? [])) }),
      lastLines: new Map(
        logs.filter(({ lastLine }) => lastLine !== "").slice(-MOST_LAST_LINES)
          .map(({ podName, container, lastLine }) => [`${podName}/${container}`, lastLine]),
      ),
    };
    const text = new TextEncoder().encode(await head(summary));
    const many = logs.length + strangers.length > 1;
    const store = this.#store;
    const signal = this.#signal;
    const indexer = new LogIndexer();
    async function* part(facts: PartFacts, output: AsyncIterable<Uint8Array>): AsyncGenerator<Uint8Array> {
      if (many) yield heading(facts);
      indexer.beginPart(facts);
      yield* output;
      indexer.endPart();
    }
    async function* whole(): AsyncGenerator<Uint8Array> {
      yield text;
      indexer.endHead();
      for (const pieces of strangers) {
        const [pod = "", container = ""] = pieces[0]!.key.split("/").slice(2);
        yield* part({ pod, container }, readPieces(store, pieces, signal));
      }
      for (const { podName, container, failure, segments } of logs) {
        const facts = { pod: podName, container, ...compact({ failure }) };
        yield* part(facts, segments.whole(left.get(segments.folder) ?? [], signal));
      }
      for (const sentence of unread) yield new TextEncoder().encode(`[${sentence}]\n`);
    }
    async function* counted(): AsyncGenerator<Uint8Array> {
      for await (const chunk of whole()) yield indexer.pass(chunk);
    }
    const isLarge = hasPieces || logs.some(({ segments }) => segments.isLarge);
    const body = isLarge ? counted() : joinBytes(await Array.fromAsync(counted()));
    await this.#store.put(`${runName}.txt`, body, { contentType: LOG_TYPE, signal });
    const index = indexer.index();
    // Without it, its lines have no numbers on the page: no reason to let the run's end wait.
    if (index) {
      await this.#store.put(indexKeyOf(runName), index, { contentType: "application/json", signal }).catch(() => {});
    }
    return summary;
  }

  /**
   * The output of a run under way as far as it has come, of one of its containers: where no `part` is named, of the last
   * one that runs. undefined: none of them has begun to write.
   */
  live(runName: string, { part, signal }: { part?: string | undefined; signal: AbortSignal }): LogText | undefined {
    const logs = [...this.#runs.get(runName)?.containers.values() ?? []];
    const parts = logs.map((log): LogPart => ({
      name: `${log.podName}/${log.container}`,
      pod: log.podName,
      container: log.container,
      state: log.hasEnded ? "ended" : "running",
      ...compact({ failure: log.failure }),
    }));
    const at = [
      parts.findIndex(({ name }) => name === part),
      parts.findLastIndex(({ state }) => state === "running"),
      parts.findLastIndex(({ failure }) => failure !== undefined),
      parts.length - 1,
    ].find((index) => index >= 0);
    if (at === undefined) return undefined;
    const { segments } = logs[at]!;
    const { lines } = segments;
    return {
      head: "",
      parts,
      ...parts.length > 1 ? { part: parts[at]!.name } : {},
      size: segments.bytes,
      isLive: true,
      ...lines ? { lines: new LineMap(lines, { at: 0, breaks: 0 }) } : {},
      read: (from, length) => segments.readPart(from, length, signal),
    };
  }

  /** Sends what large logs hold here to the store: a stop is near, and the node may not have it any more later. */
  async flush(): Promise<void> {
    const logs = [...this.#runs.values()].flatMap(({ containers }) => [...containers.values()]);
    await Promise.all(logs.map((log) => log.flush()));
  }

  /** The run is done with: frees its memory and removes its pieces, those of a former process too. */
  async forget(run: LiveRun): Promise<void> {
    const { runName } = run.job;
    const logs = this.#logsOf(run);
    const hasPieces = logs.some(({ segments }) => segments.hasStored) || this.#wasLeft(run);
    for (const log of logs) log.drop();
    this.#runs.delete(runName);
    if (!await hasPieces) return;
    for await (const { key } of this.#store.list(`.parts/${runName}/`, { signal: this.#signal })) {
      await this.#store.delete(key, { signal: this.#signal });
    }
  }

  /** A dead node or link can leave a stream open for ever: one that is silent for long is opened anew, then given up. */
  async #wholeOrSilent(log: ContainerLog): Promise<void> {
    let sinceMs = Date.now();
    let reopened = false;
    const { silentMs = SILENT_MS } = this.#settings;
    const look = setInterval(() => {
      if (Date.now() - Math.max(sinceMs, log.heardMs) <= silentMs) return;
      if (reopened || !log.isStreaming) return log.giveUp();
      sinceMs = Date.now();
      reopened = true;
      log.reopen();
    }, Math.min(SILENCE_CHECK_MS, silentMs));
    try {
      await log.whole();
    } finally {
      clearInterval(look);
    }
  }

  /**
   * A former process left pieces of the run. One list for all runs: after a downtime thousands may have ended, and a
   * store that keeps objects as files walks through all of them for each list.
   */
  async #wasLeft(run: LiveRun): Promise<boolean> {
    if (!run.adopted) return false;
    const left = this.#left ??= this.#listLeft();
    try {
      return (await left).has(run.job.runName);
    } catch (error) {
      if (this.#left === left) this.#left = undefined;
      throw error;
    }
  }

  async #listLeft(): Promise<ReadonlySet<string>> {
    const runNames = new Set<string>();
    for await (const { key } of this.#store.list(".parts/", { signal: this.#signal })) {
      runNames.add(key.split("/")[1]!);
    }
    return runNames;
  }

  #logsOf(run: LiveRun): ContainerLog[] {
    return [...this.#runs.get(run.job.runName)?.containers.values() ?? []];
  }

  #containerLog(run: LiveRun, podName: string, container: string): ContainerLog | undefined {
    if (this.#signal.aborted) return undefined;
    const { runName } = run.job;
    const { followers, maxBytes, lookMs } = this.#settings;
    let logs = this.#runs.get(runName);
    if (!logs) {
      logs = { containers: new Map(), quota: { left: maxBytes, limit: maxBytes } };
      this.#runs.set(runName, logs);
    }
    const id = `${podName}/${container}`;
    let log = logs.containers.get(id);
    if (!log) {
      log = new ContainerLog(podName, container, `.parts/${runName}/${id}`, {
        cluster: this.#cluster,
        store: this.#store,
        spool: this.#spool,
        quota: logs.quota,
        signal: this.#signal,
        isAdopted: run.adopted,
        wasLeft: () => this.#wasLeft(run),
        mayFollow: () => this.#following < followers,
        onFollow: (change) => this.#following += change,
        lookMs,
      });
      logs.containers.set(id, log);
    }
    return log;
  }

  /** The run's pieces by container folder, in order; those of a former process too. */
  async #leftPieces(runName: string): Promise<Map<string, StoredPiece[]>> {
    const found = new Map<string, StoredPiece[]>();
    for await (const { key, size } of this.#store.list(`.parts/${runName}/`, { signal: this.#signal })) {
      const folder = key.slice(0, key.lastIndexOf("/"));
      found.set(folder, [...(found.get(folder) ?? []), { key, size }]);
    }
    return found;
  }
}

/** The Job has come to an end that it has by pods alone. */
export function hadPod({ job: { end } }: Pick<LiveRun, "job">): boolean {
  return end?.type === "Complete" || end?.reason === "BackoffLimitExceeded";
}

/** Of the output in a container's pieces. */
function totalOf(pieces: readonly StoredPiece[]): number {
  return markOf(pieces.at(-1)!.key, pieces.reduce((sum, { size }) => sum + size, 0)).total;
}

/** Which container wrote a part of a log, and how it failed. */
type PartFacts = Pick<LogPart, "pod" | "container" | "failure">;

function heading({ pod, container, failure }: PartFacts): Uint8Array {
  const end = failure === undefined ? "" : `, failed: ${failure}`;
  return new TextEncoder().encode(`----- pod ${pod}, container ${container}${end} -----\n`);
}

function named(missing: readonly string[]): string {
  const more = missing.length - NAMED_PLACES;
  return missing.slice(0, NAMED_PLACES).join("; ") + (more > 0 ? `; and at ${more} more places` : "");
}

/** The line of a log's head that says whether it is whole; readSummary() reads it. */
export function summaryLine({ bytes, complete, missing }: LogSummary): string {
  return `log:       ${bytes} bytes, ${complete ? "whole" : `not whole: ${missing}`}`;
}

function readSummary(head: string): LogSummary {
  // Before what others have written into the head.
  const own = head.split("\nevents:")[0]!.split("\n\n")[0]!;
  const [, bytes, rest, missing] = /^log: {7}(\d+) bytes, (whole|not whole: (.*))$/m.exec(own) ?? [];
  if (rest === undefined) return { bytes: 0, complete: false, missing: "A former version of the service stored it" };
  return { bytes: Number(bytes), complete: rest === "whole", missing };
}

function sumOf(numbers: readonly number[]): number | undefined {
  return numbers.length === 0 ? undefined : numbers.reduce((sum, one) => sum + one, 0);
}
