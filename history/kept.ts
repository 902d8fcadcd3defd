/**
 * The history that a service keeps: the index, filled from the store and by what the core tells. Owns when each is done, and
 * what happens to a broken index. The store has the truth: whatever is missing here is found by listing it. Must not keep
 * the core waiting.
 */
import { setImmediate } from "node:timers/promises";
import type { EndedRun, GrowingHistory, Reach, RowDay, RunFilter, RunSearch } from "../history.ts";
import type { Emit, ObjectStore } from "../ports.ts";
import type { RunRecords } from "../records.ts";
import { compact } from "../util/compact.ts";
import { DAY_MS } from "../util/duration.ts";
import { errorMessage } from "../util/errors.ts";
import { backoffMs, delay } from "../util/retry.ts";
import { Filling } from "./filling.ts";
import { type HistoryLine, lineOf } from "./line.ts";
import { type IndexPlace, type OpenedIndex, openIndex } from "./open_index.ts";
import { Queries } from "./queries.ts";
import { FULL_SEGMENT, Segments } from "./segments.ts";

export interface KeptHistoryOptions {
  readonly records: RunRecords;
  /** That of the records. */
  readonly store: ObjectStore;
  /** Absent: memory. */
  readonly place?: IndexPlace;
  /** Only who leads writes into the store. */
  readonly leads: () => boolean;
  /** Hears what a person should know, in sentences. */
  readonly onTrouble: (sentence: string) => void;
  /** Other values than the preset are for tests. */
  readonly horizon?: number;
  readonly segmentMs?: number;
  /** From one comparison with the store to the next, and of segments that are put together. */
  readonly dayMs?: number;
}

/** Runs that an index in memory holds: the newest. */
const HORIZON = 20_000;
/** From one segment to the next. */
const SEGMENT_MS = 60_000;
/** Segments that are not full: with so many they are put together at once. */
const MANY_SEGMENTS = 60;
/** Ends that wait to be taken in: of more, the store is listed. */
const MOST_WAITING = 5_000;
/** How soon an end is in the index where nobody asks before, and how many at a time. */
const FLUSH_MS = 200;
const MOST_FLUSHED = 200;
/** SQLITE_CORRUPT and SQLITE_NOTADB. */
const BROKEN = [11, 26];

export class KeptHistory implements GrowingHistory {
  readonly #options: KeptHistoryOptions;
  readonly #segments: Segments;
  /** Opened when it is first wanted. */
  #index: { readonly opened: OpenedIndex; readonly queries: Queries } | undefined;
  readonly #waiting: HistoryLine[] = [];
  #flushing: ReturnType<typeof setTimeout> | undefined;
  #isWhole = false;
  /** The store may hold what nobody has told. */
  #mustCompare = false;
  #timesBroken = 0;
  #closed = false;

  constructor(options: KeptHistoryOptions) {
    this.#options = options;
    this.#segments = new Segments(options.store);
  }

  readonly emit: Emit = (event) => {
    // Another replica has led until now.
    if (event.type === "leader" && event.leading) this.#mustCompare = true;
    if (event.type !== "finished" && event.type !== "retrying") return;
    const line = lineOf(event.record);
    if (line === undefined || this.#closed) return;
    if (this.#waiting.length < MOST_WAITING) this.#waiting.push(line);
    else this.#mustCompare = true;
    this.#flushLater();
  };

  find(search: RunSearch, signal?: AbortSignal): Promise<readonly EndedRun[]> {
    return this.#ask((queries) => queries.find(search, signal));
  }

  count(filter: RunFilter, signal?: AbortSignal): Promise<number> {
    return this.#ask((queries) => queries.count(filter, signal));
  }

  lastEnds(most: number, signal?: AbortSignal): Promise<ReadonlyMap<string, readonly EndedRun[]>> {
    return this.#ask((queries) => queries.lastEnds(most, signal));
  }

  days(query: Parameters<GrowingHistory["days"]>[0], signal?: AbortSignal): Promise<readonly RowDay[]> {
    return this.#ask((queries) => queries.days(query, signal));
  }

  reach(): Reach {
    const look = () => {
      this.#flush();
      const { index } = this.#opened;
      const kind = !this.#isWhole || this.#mustCompare ? "partly" : index.leftOut ? "newest" : "all";
      return { runs: index.runs, kind, ...compact({ oldest: index.oldest() }) } as const;
    };
    try {
      return look();
    } catch (error) {
      this.#replace(this.#opened, error);
      return look();
    }
  }

  /**
   * Reads what former processes left, and goes on with segments and comparisons until the signal aborts. Resolves when
   * all is read for the first time, or the signal has aborted.
   */
  load(signal: AbortSignal): Promise<void> {
    const { promise, resolve } = Promise.withResolvers<void>();
    void this.#work(signal, resolve).catch(() => {}).finally(resolve);
    return promise;
  }

  /** Takes out runs whose records are no more. */
  async forget(runNames: Iterable<string>): Promise<void> {
    for (const runName of runNames) {
      this.#opened.index.remove(runName);
      await setImmediate();
    }
  }

  /** Takes in what was told, and gives the file up. */
  close(): void {
    if (this.#closed) return;
    clearTimeout(this.#flushing);
    if (!this.#index) return void (this.#closed = true);
    try {
      while (this.#waiting.length > 0) this.#flush();
    } catch {
      // It is in the store.
    }
    this.#closed = true;
    this.#opened.close();
  }

  async #work(signal: AbortSignal, onWhole: () => void): Promise<void> {
    let isTold = false;
    for (let failures = 0; !signal.aborted && !this.#closed;) {
      const opened = this.#opened;
      const filling = this.#filling(signal);
      try {
        await this.#fill(filling);
        onWhole();
        failures = 0;
        isTold = false;
        await this.#keep(filling, signal);
      } catch (error) {
        if (signal.aborted || this.#closed) return;
        const isReplaced = opened !== this.#opened;
        if (!isReplaced && isOfIndex(error)) this.#replace(opened, error);
        else if (!isReplaced && !isTold) {
          isTold = true;
          this.#options.onTrouble(`The history of runs is not whole: ${errorMessage(error)}`);
        }
        // The next index may break of the same, and it is all of the store that is read.
        await delay(backoffMs(failures++), signal);
      }
    }
  }

  #filling(signal: AbortSignal): Filling {
    const { records, onTrouble, horizon = HORIZON } = this.#options;
    const { index, isFile } = this.#opened;
    const most = isFile ? Infinity : horizon;
    return new Filling({ index, records, segments: this.#segments, horizon: most, onTrouble, signal });
  }

  async #fill(filling: Filling): Promise<void> {
    const opened = this.#opened;
    await filling.readSegments();
    this.#mustCompare = false;
    await filling.compare(this.#options.leads);
    if (!opened.wasWhole) await opened.markWhole();
    this.#isWhole = true;
    await this.#queries.refresh();
  }

  async #keep(filling: Filling, signal: AbortSignal): Promise<void> {
    const { records, leads, segmentMs = SEGMENT_MS, dayMs = DAY_MS } = this.#options;
    const { index } = this.#opened;
    for (let comparedMs = performance.now();;) {
      await delay(segmentMs * (0.9 + 0.2 * Math.random()), signal);
      const isDaily = performance.now() - comparedMs >= dayMs;
      if (leads()) {
        await filling.writeSegments();
        const all = await this.#segments.list(signal);
        if (isDaily || all.filter(({ runs }) => runs < FULL_SEGMENT).length >= MANY_SEGMENTS) {
          const isGone = async (runName: string) => !index.knows(runName) && !await records.exists(runName, signal);
          const { written, deleted } = await this.#segments.compact({ isGone, signal });
          index.transaction(() => {
            for (const name of written) index.takeSegment(name);
            for (const name of deleted) index.dropSegment(name);
          });
        }
      }
      await filling.readSegments();
      if (isDaily || this.#mustCompare) {
        this.#mustCompare = false;
        await filling.compare(leads);
        comparedMs = performance.now();
      }
      await this.#queries.refresh(signal);
    }
  }

  async #ask<T>(question: (queries: Queries) => Promise<T>): Promise<T> {
    const opened = this.#opened;
    try {
      // What has ended before somebody asks is in the answer.
      while (this.#waiting.length > 0 && !this.#closed) {
        this.#flush();
        if (this.#waiting.length > 0) await setImmediate();
      }
      return await question(this.#queries);
    } catch (error) {
      if (this.#closed || !isOfIndex(error)) throw error;
      if (opened === this.#opened) this.#replace(opened, error);
      return await question(this.#queries);
    }
  }

  #flushLater(): void {
    this.#flushing ??= setTimeout(() => {
      this.#flushing = undefined;
      const opened = this.#opened;
      try {
        this.#flush();
      } catch (error) {
        this.#replace(opened, error);
      }
      if (this.#waiting.length > 0) this.#flushLater();
    }, FLUSH_MS);
  }

  /** Takes in what the core has told. */
  #flush(): void {
    const { index, isFile } = this.#opened;
    if (this.#waiting.length === 0 || this.#closed) return;
    const lines = this.#waiting.slice(0, MOST_FLUSHED);
    index.transaction(() => {
      index.add(lines, { stored: false });
      if (isFile) return;
      for (const { run } of lines) index.know(run.run_name);
      index.trim(this.#options.horizon ?? HORIZON);
    });
    this.#waiting.splice(0, lines.length);
  }

  /** A broken file is made anew; where that is of no use, and on a full disk, memory has to do. */
  #replace(broken: OpenedIndex, error: unknown): void {
    if (this.#closed || broken !== this.#opened) return;
    const { onTrouble, place } = this.#options;
    const { errcode } = error as { errcode?: number };
    // Without a code: what a row says is not what was written.
    const isBroken = errcode === undefined || BROKEN.includes(errcode & 0xff);
    const again = isBroken && this.#timesBroken++ === 0;
    const instead = again ? "it is made anew" : "the newest runs are kept in memory until the next start";
    onTrouble(`The index of runs is of no use: ${errorMessage(error)}; ${instead}`);
    try {
      broken.close({ discard: true });
    } catch {
      // It cannot be closed in order either.
    }
    this.#isWhole = false;
    // Memory does not break by itself: these would break the next one too. They are in the store.
    if (!broken.isFile) this.#waiting.length = 0;
    this.#open(again ? place : undefined);
  }

  get #opened(): OpenedIndex {
    return (this.#index ?? this.#open(this.#options.place)).opened;
  }

  get #queries(): Queries {
    return (this.#index ?? this.#open(this.#options.place)).queries;
  }

  #open(place: IndexPlace | undefined) {
    const opened = openIndex(place, this.#options.store.url);
    if (opened.trouble !== undefined) this.#options.onTrouble(opened.trouble);
    return this.#index = { opened, queries: new Queries(opened.index) };
  }
}

/** SQLite's, or what comes of rows that are not as they were written. */
function isOfIndex(error: unknown): boolean {
  return (error as { code?: string }).code === "ERR_SQLITE_ERROR" || error instanceof RangeError ||
    error instanceof SyntaxError || isClosed(error);
}

function isClosed(error: unknown): boolean {
  return (error as { code?: string }).code === "ERR_INVALID_STATE";
}
