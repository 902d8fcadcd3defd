/**
 * The output of one container: follows it while the container runs, goes on where a stream was cut, and looks at the end
 * whether the node has more. What is missing is said in the output itself. Must not wait for the store as long as there
 * is room; where pieces go is segments.ts.
 */
import { isLater, LineReader, LONG_LINE_BYTES, type Position } from "./lines.ts";
import { LastLine } from "./last_line.ts";
import { residentBytesIn } from "./time_report.ts";
import { Segments } from "./segments.ts";
import type { Spool } from "./spool.ts";
import type { Cluster, ContainerFacts, ObjectStore } from "../ports.ts";
import { UnavailableError } from "../ports.ts";
import { Scope } from "../util/abort.ts";
import { compact } from "../util/compact.ts";
import { errorMessage } from "../util/errors.ts";
import { backoffMs, delay } from "../util/retry.ts";
import { viewsOf } from "../util/streams.ts";

/**
 * A stream that ended so long before the cluster said "terminated" may have been cut by a restarting kubelet: its
 * tail is asked for again. Below that, the container's end and the stream's end are one event.
 */
const TRUST_END_MS = 2_500;
/** How often the log of a container that has ended is asked for before it counts as lost. */
const LAST_ATTEMPTS = 10;
/**
 * No node begins a new file for less (containerLogMaxSize, 10 Mi by preset). Where so little has come by a stream that
 * ended with its container, nothing can be in an older file, and it is not looked after further.
 */
const ROTATED_BYTES = 1024 * 1024;
/** The kubelet looks so often whether a file is full (containerLogMonitorInterval, 10 s by preset): no file is younger. */
const FILE_MS = 8_000;
/**
 * How often the newest line on the node is looked at, several times for each file that a node begins: it must come by the
 * stream too.
 */
const LOOK_MS = 1_500;
/** So much less often while nothing comes. */
const LOOK_LESS = 15;
/**
 * A stream that is silent from one look to the next so often, though the node has newer lines, stands at the end of an old
 * file. Before the node begins the next one, but no sooner: the rest of a file would be lost if it were only slow.
 */
const STUCK_LOOKS = 3;
/** Of what a node says instead of output, no more lines are kept. */
const MOST_REMARKS = 20;
/** The runtime parts lines after 16 KiB, so two are less. */
const MOST_TAIL_BYTES = 40_000;
/** What ends with a line and is less than this has come in one go: most runs' output, for which one call is enough. */
const AT_ONCE_BYTES = 16 * 1024;
/** A stream that is opened so long after its container was seen may miss the first file. */
const LATE_MS = 5_000;

/** Bytes that a run may still keep. */
export interface Quota {
  left: number;
  readonly limit: number;
}

export interface ContainerLogOptions {
  readonly cluster: Cluster;
  readonly store: ObjectStore;
  readonly spool: Spool;
  /** Of all containers of the run together. */
  readonly quota: Quota;
  readonly signal: AbortSignal;
  /** Another process may have read the beginning. */
  readonly isAdopted: boolean;
  /** A former process left segments of this run. */
  readonly wasLeft: () => Promise<boolean>;
  readonly mayFollow: () => boolean;
  readonly onFollow: (change: 1 | -1) => void;
  /** See LOOK_MS; other values are for tests. */
  readonly lookMs?: number | undefined;
}

const encoder = new TextEncoder();

export class ContainerLog {
  readonly segments: Segments;
  /** Bytes of output kept, without what is said of it. */
  bytes = 0;
  /** Sentences, one for each place where something is or may be missing. */
  readonly missing: string[] = [];
  /** What GNU time says of memory, see logs/time_report.ts. */
  residentBytes: number | undefined;
  readonly #lastLine = new LastLine();
  readonly #options: ContainerLogOptions;
  readonly #seenMs = Date.now();
  #reader: LineReader;
  #isLate: boolean;
  #heardMs = 0;
  /** The common bound is reached: nothing is read now. */
  #isWaiting = false;
  #isFullUp = false;
  /** What came by streams, repetitions and times included. */
  #cameBytes = 0;
  #remarks = 0;
  /** What the node said instead of output, where no output came behind it. */
  #lastRemark: string | undefined;
  #isEmptyTold = false;
  /** The last stream came to the end of what its file had. */
  #wasAtEnd = false;
  #facts: ContainerFacts | undefined;
  #terminatedAtMs: number | undefined;
  #isGone = false;
  #changed = Promise.withResolvers<void>();
  #breakStream: ((why: Error) => void) | undefined;
  #done: Promise<void> | undefined;
  readonly #gaveUp = Promise.withResolvers<void>();
  /** Ends what this log does: it is dropped or given up, or the service stops. */
  readonly #stop: Scope;

  constructor(
    readonly podName: string,
    readonly container: string,
    folder: string,
    options: ContainerLogOptions,
  ) {
    this.#options = options;
    this.#stop = new Scope(options.signal);
    this.segments = new Segments(folder, options);
    this.#isLate = options.isAdopted;
    this.#reader = this.#newReader();
  }

  update(facts: ContainerFacts): void {
    // Heard of late, as after an API server that was away, is as late as read late.
    this.#isLate ||= this.#facts === undefined &&
      (facts.state === "terminated" || Date.now() - (facts.startedAt?.getTime() ?? Infinity) > LATE_MS);
    this.#facts = facts;
    if (facts.state === "terminated") this.#terminatedAtMs ??= Date.now();
    this.#wake();
    if (facts.state === "terminated" || this.#options.mayFollow()) this.#start();
  }

  gone(): void {
    this.#isGone = true;
    this.#terminatedAtMs ??= Date.now();
    this.#wake();
  }

  get hasEnded(): boolean {
    return this.#ended;
  }

  /** How the container failed, in a few words; undefined: it did not, or that is not known. */
  get failure(): string | undefined {
    const { state, kind, exitCode, signal, oomKilled } = this.#facts ?? {};
    // One beside the others is ended when they are.
    if (state !== "terminated" || kind === "sidecar") return undefined;
    const words = [
      ...exitCode ? [`exit code ${exitCode}`] : [],
      ...signal ? [`signal ${signal}`] : [],
      ...oomKilled ? ["out of memory"] : [],
    ];
    return words.length === 0 ? undefined : words.join(", ");
  }

  /** Resolves when the container has ended and its output is here, or is given up; rejects only at drop or stop. */
  async whole(): Promise<void> {
    await Promise.race([this.#gaveUp.promise, this.#start()]);
    await this.segments.settle();
  }

  /** The last line that is not blank, cut; "" where none came. Beyond what is kept, too. */
  get lastLine(): string {
    return this.#lastLine.text;
  }

  /** When output last came; while there is no room for it, that is no silence of the stream. */
  get heardMs(): number {
    return this.#isWaiting ? Date.now() : this.#heardMs;
  }

  /** A stream is open, as far as this end of it knows. */
  get isStreaming(): boolean {
    return this.#breakStream !== undefined;
  }

  /** Breaks off the stream under way, as if the connection were lost. */
  reopen(): void {
    this.#breakStream?.(new Error("its stream went silent"));
  }

  /** Stops reading: what came so far is all. */
  giveUp(): void {
    this.#miss("The rest of this log could not be read: its stream went silent");
    this.#gaveUp.resolve();
    this.#stop.end();
  }

  /** Sends what is here to the store, for a process that goes on; small logs are read again instead. */
  async flush(): Promise<void> {
    if (this.#cameBytes >= ROTATED_BYTES) {
      await this.segments.flush({ at: this.#reader.at, isWhole: this.missing.length === 0, total: this.bytes });
    }
  }

  drop(): void {
    this.#stop.end();
    this.segments.drop();
  }

  #newReader(known?: Position): LineReader {
    return new LineReader({
      onText: (text) => this.#keep(text),
      onSeam: (from, to) => this.#onSeam(from, to),
      onGap: (from, to) =>
        this.#miss(
          `Lines between ${from} and ${to} are missing: the node began new files faster than they could be read`,
        ),
      onRemark: (text) => {
        this.#lastRemark = text;
        if (this.#remarks++ < MOST_REMARKS) this.#say(`The node says: ${text}`);
      },
    }, known);
  }

  #keep(text: Uint8Array): void {
    const { quota } = this.#options;
    this.#lastRemark = undefined;
    this.#lastLine.take(text);
    const resident = residentBytesIn(text);
    if (resident !== undefined) this.residentBytes = Math.max(this.residentBytes ?? 0, resident);
    if (this.#isFullUp) return;
    const kept = text.subarray(0, quota.left);
    quota.left -= kept.length;
    this.bytes += kept.length;
    this.segments.append(kept);
    if (kept.length === text.length) return;
    this.#isFullUp = true;
    this.#miss(
      `The rest of this log is left out: the logs of a run are kept up to ${quota.limit} bytes (MAX_LOG_BYTES)`,
      { isLineOpen: true },
    );
  }

  #onSeam(from: string, to: string): void {
    if (!this.#options.cluster.rotatesLogs) return;
    if (from === "") {
      const startedAt = this.#facts?.startedAt;
      if (!this.#isLate || !startedAt || Date.parse(to) - startedAt.getTime() < FILE_MS) return;
      this.#miss(`Lines before ${to} may be missing: reading began late, and the node keeps the newest file only`);
    } else {
      if (this.#wasAtEnd && Date.parse(to) - Date.parse(from) < FILE_MS) return;
      this.#miss(
        `Lines between ${from} and ${to} may be missing: the node began a new file while its log could not be read`,
      );
    }
  }

  /** A stream has ended without a line, not even the last one that is known: the newest file may have just begun. */
  #onEmptyStream(): void {
    if (!this.#options.cluster.rotatesLogs || !this.#ended || this.#isEmptyTold) return;
    const { time } = this.#reader.at;
    const { startedAt, finishedAt } = this.#facts ?? {};
    const ranMs = startedAt && finishedAt ? finishedAt.getTime() - startedAt.getTime() : 0;
    if (time === "" ? !this.#isLate || ranMs < FILE_MS : this.#wasAtEnd) return;
    this.#isEmptyTold = true;
    this.#miss(
      `${time === "" ? "Its output" : `Lines after ${time}`} may be missing: the node's newest file is empty, ` +
        "and it reads out no other",
    );
  }

  /** Says it in the output and in the record. */
  #miss(sentence: string, { isLineOpen = !this.#reader.at.complete } = {}): void {
    this.missing.push(sentence);
    this.#say(sentence, { isLineOpen });
  }

  #say(sentence: string, { isLineOpen = !this.#reader.at.complete } = {}): void {
    this.segments.append(encoder.encode(`${isLineOpen ? "\n" : ""}[${sentence}]\n`));
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
      this.#options.onFollow(1);
      this.#done = this.#follow(this.#stop.signal).finally(() => this.#options.onFollow(-1));
      // Whoever waits for it sees the error; nobody may be waiting yet.
      this.#done.catch(() => {});
    }
    return this.#done;
  }

  async #follow(signal: AbortSignal): Promise<void> {
    await this.#resume(signal);
    this.#isLate ||= Date.now() - this.#seenMs > LATE_MS;
    for (let failures = 0;;) {
      const wasEnded = this.#ended;
      const { time, bytes } = this.#reader.at;
      using scope = new Scope(signal);
      try {
        const stream = await this.#options.cluster.logs(this.podName, this.container, {
          follow: !wasEnded,
          timestamps: true,
          ...compact({ since: time === "" ? undefined : new Date(time) }),
          signal: scope.signal,
        });
        if (!stream) return this.#lost();
        this.#breakStream = (why) => scope.end(why);
        await this.#take(stream, scope, !wasEnded).finally(() => this.#breakStream = undefined);
        if (this.#isFullUp) return;
        failures = 0;
        if (this.#reader.isEmptyStream) this.#onEmptyStream();
        if (wasEnded) {
          await this.#checkEnd(signal);
          return this.#reader.end();
        }
        const isEnd = await this.#endedWithStream(Date.now(), signal);
        // At the end of an old file the stream may end as if it were the last.
        const isSmall = this.#cameBytes < ROTATED_BYTES && !this.#options.isAdopted;
        if (isEnd && isSmall && this.#reader.at.complete && this.#lastRemark === undefined) return;
        this.#wasAtEnd = isEnd;
      } catch (error) {
        signal.throwIfAborted();
        this.#wasAtEnd = false;
        this.#isLate ||= Date.now() - this.#seenMs > LATE_MS;
        const hasMore = this.#reader.at.time !== time || this.#reader.at.bytes !== bytes;
        failures = hasMore ? 1 : failures + 1;
        if (this.#ended && failures >= LAST_ATTEMPTS) {
          return this.#miss(`The rest of this log could not be read: ${errorMessage(error)}`);
        }
        // Soon: what the node puts into a new file meanwhile is lost with the old one.
        await delay(backoffMs(failures, { firstMs: 20, maxMs: 5_000 }), signal);
      }
    }
  }

  /**
   * Where the link between API server and node breaks, or the node fails, what is read ends as if that were all. Throws
   * UnavailableError then.
   */
  async #checkEnd(signal: AbortSignal): Promise<void> {
    if (!this.#options.cluster.rotatesLogs) return;
    if (this.#lastRemark !== undefined) throw new UnavailableError(`the node says: ${this.#lastRemark}`);
    const { time, complete } = this.#reader.at;
    if (complete && this.#cameBytes < AT_ONCE_BYTES) return;
    const newest = await this.#newestLine(signal).catch(() => undefined);
    signal.throwIfAborted();
    if (!newest || (newest.time === time ? complete || !newest.isComplete : !isLater(newest.time, time))) return;
    throw new UnavailableError("it ended before the last line that the node has");
  }

  /** The cluster has the log no more. */
  #lost(): void {
    if (this.#reader.at.time === "") return this.#miss("The cluster has no log of this container any more");
    if (this.#reader.isBehind) this.#reader.end();
    else if (!this.#wasAtEnd) this.#miss("The rest of this log could not be read: the cluster has it no more");
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
        if (!await this.#options.wasLeft()) return;
        const left = await this.segments.resume(signal);
        if (!left) return;
        this.#reader = this.#newReader(left.at);
        this.bytes = left.total;
        this.#options.quota.left -= Math.min(left.total, this.#options.quota.left);
        if (!left.isWhole) this.missing.push("Lines are missing, as the log says where they would stand");
        return;
      } catch (error) {
        signal.throwIfAborted();
        if (!(error instanceof UnavailableError)) return;
        await delay(backoffMs(attempt), signal);
      }
    }
  }

  async #take(stream: ReadableStream<Uint8Array>, scope: Scope, follows: boolean): Promise<void> {
    this.#reader.beginStream();
    this.#lastRemark = undefined;
    const { rotatesLogs } = this.#options.cluster;
    using looking = new Scope(scope.signal);
    if (follows && rotatesLogs) void this.#lookAtNewest(looking.signal).catch(() => {});
    for await (const chunk of viewsOf(stream, scope.signal)) {
      this.#heardMs = Date.now();
      this.#cameBytes += chunk.length;
      this.#reader.push(chunk);
      if (this.#isFullUp) return;
      this.segments.mayCut({ at: this.#reader.at, isWhole: this.missing.length === 0, total: this.bytes });
      if (this.segments.mustWait) await this.#room(scope.signal);
    }
  }

  async #room(signal: AbortSignal): Promise<void> {
    this.#isWaiting = true;
    while (this.segments.mustWait && !signal.aborted) await this.#options.spool.changed(signal);
    this.#heardMs = Date.now();
    this.#isWaiting = false;
  }

  /**
   * Looks now and then which line is the newest on the node. One that the stream passes over proves a gap; and where the
   * stream is silent though there are newer lines, it stands at the end of an old file and is opened anew.
   */
  async #lookAtNewest(signal: AbortSignal): Promise<void> {
    const { lookMs = LOOK_MS } = this.#options;
    let [restMs, lookedMs, cameBytes, silentLooks] = [lookMs, 0, 0, 0];
    for (;;) {
      await delay(lookMs, signal);
      if (this.#cameBytes < ROTATED_BYTES) continue;
      const isSilent = this.#cameBytes === cameBytes;
      restMs = isSilent ? Math.min(LOOK_LESS * lookMs, restMs * 2) : lookMs;
      if (isSilent && !this.#reader.isBehind && Date.now() - lookedMs < restMs) continue;
      [cameBytes, lookedMs] = [this.#cameBytes, Date.now()];
      const newest = await this.#newestLine(signal).catch(() => undefined);
      signal.throwIfAborted();
      if (newest !== undefined) this.#reader.expect(newest.time);
      // Only what the node has answered meanwhile proves that it is not merely slow.
      const isStuck = isSilent && this.#cameBytes === cameBytes && newest !== undefined && this.#reader.isBehind &&
        !this.#reader.isEmptyStream && !this.#isWaiting;
      silentLooks = isStuck ? silentLooks + 1 : 0;
      if (silentLooks < STUCK_LOOKS) continue;
      this.#breakStream?.(new Error("its stream stands at the end of an old file"));
    }
  }

  /** Undefined where that cannot be told from the middle of a long line. */
  async #newestLine(signal: AbortSignal): Promise<{ time: string; isComplete: boolean } | undefined> {
    const stream = await this.#options.cluster.logs(this.podName, this.container, {
      follow: false,
      timestamps: true,
      tailLines: 2,
      signal,
    });
    if (!stream) return undefined;
    let text = "";
    for await (const chunk of viewsOf(stream, signal)) {
      text += String.fromCharCode(...chunk.subarray(0, MOST_TAIL_BYTES));
      if (text.length > MOST_TAIL_BYTES) return undefined;
    }
    // The one before says by its line break that the last one is a line of its own; a single one may be a part only.
    const at = text.slice(0, -1).lastIndexOf("\n");
    if (at < 0 && text.length >= LONG_LINE_BYTES) return undefined;
    const time = /^\d{4}-\d\d-\d\dT[^ ]+(?= )/.exec(text.slice(at + 1))?.[0];
    return time === undefined ? undefined : { time, isComplete: text.endsWith("\n") };
  }
}
