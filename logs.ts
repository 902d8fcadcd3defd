/**
 * The logs of runs: follows every container while it runs, keeps what came in memory up to a common bound, puts the
 * rest into the store in segments (so that a crash or the kubelet's log rotation loses nothing), and at the end puts
 * the whole text at `{LOGS_URL}/{run name}.txt`. Knows nothing of how a run ended: the head is given to it.
 */
import { Scope } from "./util/abort.ts";
import { chunksOf, joinBytes } from "./util/streams.ts";
import type { LiveRun } from "./runs.ts";
import type { Cluster, ContainerFacts, ObjectStore, PodFacts } from "./ports.ts";
import { UnavailableError } from "./ports.ts";
import { backoffMs, delay, errorMessage } from "./util/retry.ts";

export interface LogSettings {
  /** Containers followed at once; those beyond are read when they end. */
  readonly followers: number;
  /** Bytes of log held in memory by all runs together. */
  readonly memoryBytes: number;
  /** A stream that says nothing for so long after its run has ended counts as dead. Default 45,000 ms. */
  readonly silentMs?: number;
}

/** A segment is cut when one container holds so much. */
const SEGMENT_BYTES = 8 * 1024 * 1024;
/**
 * Output is copied into blocks of up to so many bytes: the cluster sends a log line by line, and each line comes in a
 * network buffer of 64 KiB that a view of it would keep alive.
 */
const BLOCK_BYTES = 64 * 1024;
/** No segment smaller than this is cut for the common bound's sake. */
const LEAST_SEGMENT_BYTES = 64 * 1024;
/**
 * A stream that ended so long before the cluster said "terminated" may have been cut by a restarting kubelet: its
 * tail is asked for again. Below that, the container's end and the stream's end are one event.
 */
const TRUST_END_MS = 2_500;
/** Pods have 30 s to end by default. */
const SILENT_MS = 45_000;
const SILENCE_CHECK_MS = 1_000;
/** How often the log of a container that has ended is asked for before it counts as lost. */
const LAST_ATTEMPTS = 5;

export class LogCollector {
  readonly #cluster: Cluster;
  readonly #store: ObjectStore;
  readonly #settings: LogSettings;
  readonly #signal: AbortSignal;
  readonly #runs = new Map<string, Map<string, ContainerLog>>();
  readonly #budget: Budget;
  /** Runs of which former processes left segments; listed once, when the first adopted run is met. */
  #left: Promise<ReadonlySet<string>> | undefined;
  #following = 0;

  constructor(
    { cluster, store, settings, signal }: {
      cluster: Cluster;
      store: ObjectStore;
      settings: LogSettings;
      signal: AbortSignal;
    },
  ) {
    this.#cluster = cluster;
    this.#store = store;
    this.#settings = settings;
    this.#signal = signal;
    this.#budget = { used: 0, limit: settings.memoryBytes };
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
    for (const log of this.#runs.get(run.job.runName)?.values() ?? []) {
      if (log.podName === podName) log.gone();
    }
  }

  /** The log is whole in the store already (a former process put it there). */
  isStored(runName: string): Promise<boolean> {
    return this.#store.exists(`${runName}.txt`, { signal: this.#signal });
  }

  /**
   * Waits for the containers' output, then puts head and output into the store. Repeatable: an error leaves all in
   * place. `head` is called when the output is known to be whole.
   */
  async finish(run: LiveRun, head: () => Promise<string>): Promise<void> {
    const { runName } = run.job;
    const logs = [...this.#runs.get(runName)?.values() ?? []];
    await Promise.all(logs.map((log) => this.#wholeOrSilent(log)));
    const left = await this.#hasSegments(run) ? await this.#leftSegments(runName) : new Map<string, string[]>();
    const text = new TextEncoder().encode(await head());
    const many = logs.length > 1;
    const known = new Set(logs.map((log) => log.folder));
    const strangers = [...left.keys()].filter((folder) => !known.has(folder));
    const store = this.#store;
    const signal = this.#signal;
    async function* whole(): AsyncGenerator<Uint8Array> {
      yield text;
      for (const folder of strangers) yield* readSegments(store, left.get(folder)!, signal);
      for (const log of logs) {
        if (many) yield new TextEncoder().encode(`----- pod ${log.podName}, container ${log.container} -----\n`);
        yield* readSegments(store, left.get(log.folder) ?? [], signal);
        yield* log.buffered();
        if (log.note !== "") yield new TextEncoder().encode(`[${log.note}]\n`);
      }
    }
    const body = left.size === 0 ? await concat(whole()) : whole();
    await this.#store.put(`${runName}.txt`, body, { contentType: "text/plain; charset=utf-8", signal });
  }

  /** The run is done with: frees its memory and removes its segments, those of a former process too. */
  async forget(run: LiveRun): Promise<void> {
    const { runName } = run.job;
    const hasSegments = this.#hasSegments(run);
    for (const log of this.#runs.get(runName)?.values() ?? []) log.drop();
    this.#runs.delete(runName);
    if (!await hasSegments) return;
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

  async #hasSegments(run: LiveRun): Promise<boolean> {
    const logs = [...this.#runs.get(run.job.runName)?.values() ?? []];
    return logs.some((log) => log.segments > 0) || await this.#wasLeft(run);
  }

  /**
   * A former process left segments of the run. One list for all runs: after a downtime thousands may have ended, and a
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

  #containerLog(run: LiveRun, podName: string, container: string): ContainerLog | undefined {
    if (this.#signal.aborted) return undefined;
    const { runName } = run.job;
    let logs = this.#runs.get(runName);
    if (!logs) this.#runs.set(runName, logs = new Map());
    const id = `${podName}/${container}`;
    let log = logs.get(id);
    if (!log) {
      log = new ContainerLog(runName, podName, container, {
        cluster: this.#cluster,
        store: this.#store,
        budget: this.#budget,
        signal: this.#signal,
        wasLeft: () => this.#wasLeft(run),
        mayFollow: () => this.#following < this.#settings.followers,
        onFollow: (change) => this.#following += change,
      });
      logs.set(id, log);
    }
    return log;
  }

  /** Keys of the run's segments by container folder, in order; those of a former process too. */
  async #leftSegments(runName: string): Promise<Map<string, string[]>> {
    const found = new Map<string, string[]>();
    for await (const { key } of this.#store.list(`.parts/${runName}/`, { signal: this.#signal })) {
      const folder = key.slice(0, key.lastIndexOf("/"));
      found.set(folder, [...(found.get(folder) ?? []), key]);
    }
    return found;
  }
}

interface Budget {
  used: number;
  readonly limit: number;
}

interface ContainerLogOptions {
  readonly cluster: Cluster;
  readonly store: ObjectStore;
  readonly budget: Budget;
  readonly signal: AbortSignal;
  /** A former process left segments of this run. */
  readonly wasLeft: () => Promise<boolean>;
  readonly mayFollow: () => boolean;
  readonly onFollow: (change: 1 | -1) => void;
}

/** The output of one container: what is in memory, what is in segments, and up to which line it is known. */
class ContainerLog {
  readonly folder: string;
  segments = 0;
  /** Said at the end of the output where something of it is missing. */
  note = "";
  #heardMs = 0;
  #isStoring = false;
  /** All but the last are full; of that, `#blockUsed` bytes are. */
  #blocks: Uint8Array[] = [];
  #blockUsed = 0;
  #bytes = 0;
  /** Where the last stream stopped. */
  #at: Position = { time: "", bytes: 0, complete: true };
  #facts: ContainerFacts | undefined;
  #terminatedAtMs: number | undefined;
  #isGone = false;
  #changed = Promise.withResolvers<void>();
  #breakStream: (() => void) | undefined;
  #done: Promise<void> | undefined;
  readonly #gaveUp = Promise.withResolvers<void>();
  /** Ends what this log does: it is dropped or given up, or the service stops. */
  readonly #stop: Scope;

  constructor(
    readonly runName: string,
    readonly podName: string,
    readonly container: string,
    readonly options: ContainerLogOptions,
  ) {
    this.folder = `.parts/${runName}/${podName}/${container}`;
    this.#stop = new Scope(options.signal);
  }

  update(facts: ContainerFacts): void {
    this.#facts = facts;
    if (facts.state === "terminated") this.#terminatedAtMs ??= Date.now();
    this.#wake();
    if (facts.state === "terminated" || this.options.mayFollow()) this.#start();
  }

  gone(): void {
    this.#isGone = true;
    this.#terminatedAtMs ??= Date.now();
    this.#wake();
  }

  /** Resolves when the container has ended and its output is here, or is given up; rejects only at drop or stop. */
  whole(): Promise<void> {
    return Promise.race([this.#gaveUp.promise, this.#start()]);
  }

  /** When output last came; while a store that is away holds it up, that is no silence of the stream. */
  get heardMs(): number {
    return this.#isStoring ? Date.now() : this.#heardMs;
  }

  buffered(): readonly Uint8Array[] {
    const last = this.#blocks.at(-1);
    return last ? [...this.#blocks.slice(0, -1), last.subarray(0, this.#blockUsed)] : [];
  }

  /** A stream is open, as far as this end of it knows. */
  get isStreaming(): boolean {
    return this.#breakStream !== undefined;
  }

  /** Breaks off the stream under way, as if the connection were lost. */
  reopen(): void {
    this.#breakStream?.();
  }

  /** Stops reading: what came so far is all. */
  giveUp(): void {
    this.note = "The rest of this log could not be read: its stream went silent";
    this.#gaveUp.resolve();
    this.#stop.end(new DOMException("The stream is silent", "AbortError"));
  }

  drop(): void {
    this.#stop.end(new DOMException("The run is done with", "AbortError"));
    this.#empty();
  }

  #append(text: Uint8Array): void {
    for (let at = 0; at < text.length;) {
      let block = this.#blocks.at(-1);
      if (!block || this.#blockUsed === block.length) {
        // Small at first: most logs are short, and there may be thousands at once.
        block = new Uint8Array(Math.min(BLOCK_BYTES, Math.max(1024, text.length - at, this.#bytes)));
        this.#blocks.push(block);
        this.#blockUsed = 0;
      }
      const part = text.subarray(at, at + block.length - this.#blockUsed);
      block.set(part, this.#blockUsed);
      this.#blockUsed += part.length;
      this.#bytes += part.length;
      at += part.length;
    }
    this.options.budget.used += text.length;
  }

  #empty(): void {
    this.options.budget.used -= this.#bytes;
    this.#blocks = [];
    this.#blockUsed = 0;
    this.#bytes = 0;
  }

  #wake(): void {
    this.#changed.resolve();
    this.#changed = Promise.withResolvers();
  }

  /** Waits for the cluster's next word on the container, at most so long. */
  async #change(withinMs: number, signal: AbortSignal): Promise<void> {
    using wait = new Scope(signal);
    await Promise.race([this.#changed.promise, delay(withinMs, wait.signal)]);
  }

  get #ended(): boolean {
    return this.#isGone || this.#facts?.state === "terminated";
  }

  #start(): Promise<void> {
    if (!this.#done) {
      this.options.onFollow(1);
      this.#done = this.#follow(this.#stop.signal).finally(() => this.options.onFollow(-1));
      // Whoever waits for it sees the error; nobody may be waiting yet.
      this.#done.catch(() => {});
    }
    return this.#done;
  }

  async #follow(signal: AbortSignal): Promise<void> {
    await this.#resume(signal);
    for (let failures = 0;;) {
      const wasEnded = this.#ended;
      const before = this.#at;
      using scope = new Scope(signal);
      try {
        const stream = await this.options.cluster.logs(this.podName, this.container, {
          follow: !wasEnded,
          timestamps: true,
          ...(this.#at.time === "" ? {} : { since: new Date(this.#at.time) }),
          signal: scope.signal,
        });
        if (!stream) {
          if (this.#at.time === "") this.note = "The cluster has no log of this container any more";
          return;
        }
        this.#breakStream = () => scope.end(new Error("its stream went silent"));
        await this.#take(stream, scope.signal).finally(() => this.#breakStream = undefined);
        failures = 0;
        if (wasEnded || await this.#endedWithStream(Date.now(), signal)) return;
      } catch (error) {
        signal.throwIfAborted();
        const hasMore = this.#at.time !== before.time || this.#at.bytes !== before.bytes;
        failures = hasMore ? 1 : failures + 1;
        if (this.#ended && failures >= LAST_ATTEMPTS) {
          const why = errorMessage(error);
          this.note = `The rest of this log could not be read: ${why}`;
          return;
        }
        await delay(backoffMs(failures, { firstMs: 100, maxMs: 5_000 }), signal);
      }
    }
  }

  /** The stream ended cleanly at `endMs`: was it because the container ended? Waits for the cluster's word. */
  async #endedWithStream(endMs: number, signal: AbortSignal): Promise<boolean> {
    while (!this.#ended) {
      const leftMs = endMs + TRUST_END_MS - Date.now();
      if (leftMs <= 0) return false;
      await this.#change(leftMs, signal);
    }
    return (this.#terminatedAtMs ?? endMs) - endMs < TRUST_END_MS &&
      (this.#facts?.finishedAt?.getTime() ?? endMs) <= endMs;
  }

  /** Goes on after the segments of a former process. */
  async #resume(signal: AbortSignal): Promise<void> {
    for (let attempt = 0;; attempt++) {
      try {
        if (!await this.options.wasLeft()) return;
        for await (const { key } of this.options.store.list(`${this.folder}/`, { signal })) {
          this.segments++;
          const time = decodeURIComponent(key.slice(key.lastIndexOf("/") + 1).split("_")[1] ?? "");
          this.#at = { time, bytes: 0, complete: true };
        }
        return;
      } catch (error) {
        signal.throwIfAborted();
        if (!(error instanceof UnavailableError)) return;
        await delay(backoffMs(attempt), signal);
      }
    }
  }

  /** Takes over a stream of lines that each begin with an RFC 3339 time and a blank; skips those known already. */
  async #take(stream: ReadableStream<Uint8Array>, signal: AbortSignal): Promise<void> {
    const splitter = new LineSplitter(this.#at);
    for await (const chunk of chunksOf(stream, signal)) {
      this.#heardMs = Date.now();
      const text = splitter.push(chunk);
      this.#at = splitter.at;
      if (text.length === 0) continue;
      this.#append(text);
      const { used, limit } = this.options.budget;
      if (this.#bytes >= SEGMENT_BYTES || (used > limit && this.#bytes >= LEAST_SEGMENT_BYTES)) {
        await this.#cutSegment(splitter);
      }
    }
  }

  /** Moves what is in memory into the store; the key says up to which line, for a process that goes on from there. */
  async #cutSegment(splitter: LineSplitter): Promise<void> {
    // Not the stream's own: a segment that is stored but not counted would be there twice.
    const { signal } = this.#stop;
    this.#isStoring = true;
    const number = String(this.segments + 1).padStart(8, "0");
    const key = `${this.folder}/${number}_${encodeURIComponent(splitter.at.time)}`;
    const body = joinBytes(this.buffered());
    for (let attempt = 0;; attempt++) {
      try {
        await this.options.store.put(key, body, { contentType: "text/plain; charset=utf-8", signal });
        break;
      } catch {
        signal.throwIfAborted();
        await delay(backoffMs(attempt), signal);
      }
    }
    this.segments++;
    this.#empty();
    this.#heardMs = Date.now();
    this.#isStoring = false;
  }
}

/** A place in a container's output: the time of a line as the cluster wrote it, and how much of the line was taken. */
export interface Position {
  readonly time: string;
  readonly bytes: number;
  readonly complete: boolean;
}

/** Strips the time at the start of each line; works on bytes, for output need not be UTF-8. */
export class LineSplitter {
  /** What an earlier stream took over already. */
  readonly #known: Position;
  #time: string;
  #bytes: number;
  #atLineStart = true;
  #skipping = false;
  /** Bytes of the line under way that are known. */
  #skipBytes = 0;
  #head: number[] = [];

  constructor(known: Position) {
    this.#known = known;
    this.#time = known.time;
    this.#bytes = known.bytes;
  }

  get at(): Position {
    return { time: this.#time, bytes: this.#bytes, complete: this.#atLineStart };
  }

  /** The new text of the lines in `chunk`, without their times. */
  push(chunk: Uint8Array): Uint8Array {
    const parts: Uint8Array[] = [];
    for (let at = 0; at < chunk.length;) {
      if (this.#atLineStart) {
        const blank = chunk.indexOf(0x20, at);
        const end = blank < 0 ? chunk.length : blank;
        for (let i = at; i < end && this.#head.length < 64; i++) this.#head.push(chunk[i]!);
        at = end + 1;
        if (blank >= 0) this.#beginLine();
        continue;
      }
      const newline = chunk.indexOf(0x0a, at);
      const end = newline < 0 ? chunk.length : newline + 1;
      const skip = Math.min(this.#skipBytes, end - at);
      this.#skipBytes -= skip;
      if (!this.#skipping) {
        parts.push(chunk.subarray(at + skip, end));
        this.#bytes += end - at - skip;
      }
      this.#atLineStart = newline >= 0;
      at = end;
    }
    return joinBytes(parts);
  }

  #beginLine(): void {
    const time = String.fromCharCode(...this.#head);
    this.#head = [];
    this.#atLineStart = false;
    const { time: known, bytes, complete } = this.#known;
    this.#skipBytes = time === known && !complete ? bytes : 0;
    this.#skipping = known !== "" && this.#skipBytes === 0 && !isLater(time, known);
    if (this.#skipping) return;
    if (this.#skipBytes === 0) this.#bytes = 0;
    this.#time = time;
  }
}

/** Compares RFC 3339 times to the nanosecond; Date alone holds milliseconds. */
function isLater(a: string, b: string): boolean {
  const [ms, otherMs] = [Date.parse(a), Date.parse(b)];
  if (ms !== otherMs) return ms > otherMs;
  return fraction(a) > fraction(b);
}

function fraction(time: string): string {
  return (/\.(\d+)/.exec(time)?.[1] ?? "").padEnd(9, "0");
}

async function* readSegments(
  store: ObjectStore,
  keys: readonly string[],
  signal: AbortSignal,
): AsyncGenerator<Uint8Array> {
  for (const key of keys) {
    const stream = await store.read(key, { signal });
    if (stream) yield* stream;
  }
}

async function concat(parts: AsyncIterable<Uint8Array>): Promise<Uint8Array> {
  const all: Uint8Array[] = [];
  for await (const part of parts) all.push(part);
  return joinBytes(all);
}
