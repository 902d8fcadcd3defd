/**
 * Fills the index with what the store has: segments, then records that are in none; and writes segments of what is in none.
 * A little at a time, for SQLite and messages share one thread. Rejects with what the store or the index says; what was done
 * stays, and can be done again.
 */
import type { RunRecords } from "../records.ts";
import { atOnce } from "../util/semaphore.ts";
import { pauses } from "../util/slices.ts";
import type { HistoryLine } from "./line.ts";
import { lineOf, readLine } from "./line.ts";
import { type RunIndex, secondOf, wideHash } from "./index.ts";
import { FULL_SEGMENT, SegmentError, type Segments } from "./segments.ts";

export interface FillingOptions {
  readonly index: RunIndex;
  readonly records: RunRecords;
  readonly segments: Segments;
  /** Runs that the index holds at most: the newest. */
  readonly horizon: number;
  readonly onTrouble: (sentence: string) => void;
  readonly signal: AbortSignal;
}

/** Lines that are added at once, which takes some milliseconds. */
const LINES_AT_ONCE = 100;
/** Each transaction is one more piece of the words' index, and pieces are merged: of 2,000 lines it takes a third more. */
const LINES_A_TRANSACTION = 10_000;
const NAMES_AT_ONCE = 500;
/** The service needs the store as well. */
const READS_AT_ONCE = 8;
/** Records to be read that are noted at a time. */
const MOST_MISSING = 50_000;

export class Filling {
  readonly #options: FillingOptions;
  readonly #pause: () => Promise<void> | undefined;
  #inTransaction = 0;

  constructor(options: FillingOptions) {
    this.#options = options;
    this.#pause = pauses(options.signal);
  }

  /** Takes in the segments that it has not, those with the newest ends first. */
  async readSegments(): Promise<void> {
    const { index, segments, signal, onTrouble } = this.#options;
    const [all, taken] = [await segments.list(signal), index.takenSegments()];
    for (const segment of all.filter(({ name }) => !taken.delete(name))) {
      try {
        for await (const lines of segments.read(segment, signal)) await this.#add(lines, { stored: true });
      } catch (error) {
        if (!(error instanceof SegmentError)) throw error;
        // Its records are found by listing. One that was put together with others is gone.
        if (error.cause !== undefined) onTrouble(`${error.message}; its records are read one by one`);
      }
      index.takeSegment(segment.name);
      this.#commit();
    }
    for (const gone of taken) index.dropSegment(gone);
  }

  /**
   * Takes in each record that the index does not know, and takes out what has no record any more. `leads`: segments may be
   * written of what was read, so that nobody has to read it again.
   */
  async compare(leads: () => boolean): Promise<void> {
    const { index, records, signal } = this.#options;
    const before = index.runs;
    let known = 0;
    let names: { runName: string; modifiedAt: Date }[] = [];
    /** Gives how many are to be read. */
    const look = () => {
      const unknown = names.filter(({ runName }) => {
        const isThere = index.has(runName);
        if (isThere) known++;
        return !isThere && !index.knows(runName);
      });
      if (unknown.length > 0) index.transaction(() => index.miss(unknown));
      names = [];
      return unknown.length;
    };
    // A store may hold millions: some are listed, these are read, then the next ones.
    for (let after: string | undefined, isEnd = false; !isEnd;) {
      let missing = 0;
      isEnd = true;
      for await (const one of records.list(signal, "", after)) {
        names.push(one);
        if (names.length < NAMES_AT_ONCE) continue;
        missing += look();
        await this.#pause();
        if (missing < MOST_MISSING) continue;
        after = one.runName;
        isEnd = false;
        break;
      }
      look();
      await this.#readMissing(leads);
    }
    if (known < before) await this.#removeGone();
  }

  /** Writes what no segment holds; only the last segment is not full. */
  async writeSegments({ fullOnly = false } = {}): Promise<void> {
    const { index, segments, signal } = this.#options;
    while (index.unstored >= (fullOnly ? FULL_SEGMENT : 1)) {
      const lines: HistoryLine[] = [];
      const taken = index.unstoredLines(FULL_SEGMENT);
      for (const { line } of taken) {
        const read = readLine(line);
        if (read) lines.push(read);
        await this.#pause();
      }
      const name = await segments.write(lines, signal);
      for (let at = 0; at < taken.length; at += NAMES_AT_ONCE) {
        const some = taken.slice(at, at + NAMES_AT_ONCE).map(({ run_name }) => run_name);
        index.transaction(() => index.stored(some, name));
        await this.#pause();
      }
    }
  }

  /** Adds runs, some at a time. `stored`: they come from a segment. */
  async #add(lines: readonly HistoryLine[], how: { readonly stored: boolean }): Promise<void> {
    const { index, horizon } = this.#options;
    for (let at = 0; at < lines.length; at += LINES_AT_ONCE) {
      const some = lines.slice(at, at + LINES_AT_ONCE);
      index.bulk("begin");
      if (horizon === Infinity) index.add(some, how);
      else this.#addNewest(some, how);
      this.#inTransaction += some.length;
      await this.#pause();
      if (this.#inTransaction < LINES_A_TRANSACTION) continue;
      this.#commit();
      await this.#pause();
    }
  }

  #addNewest(lines: readonly HistoryLine[], how: { readonly stored: boolean }): void {
    const { index, horizon } = this.#options;
    const oldest = index.runs < horizon ? undefined : index.oldest();
    const since = oldest === undefined ? -Infinity : secondOf(Date.parse(oldest));
    const newer = lines.filter(({ run }) => secondOf(Date.parse(run.finished_at)) >= since);
    for (const { run } of lines) index.know(run.run_name);
    index.add(newer, how);
    // A segment is made of these too.
    if (!how.stored) index.keepUnstored(lines.filter((line) => !newer.includes(line)));
    index.leftOut ||= newer.length < lines.length;
    index.trim(horizon);
  }

  #commit(): void {
    this.#options.index.bulk("end");
    this.#inTransaction = 0;
  }

  async #readMissing(leads: () => boolean): Promise<void> {
    const { index, records, signal } = this.#options;
    for (let names = index.missing(NAMES_AT_ONCE); names.length > 0; names = index.missing(NAMES_AT_ONCE)) {
      const lines: HistoryLine[] = [];
      await atOnce(READS_AT_ONCE, names, async (name) => {
        const line = lineOf(await records.find(name, signal));
        if (line) lines.push(line);
      });
      await this.#add(lines, { stored: false });
      index.bulk("begin");
      for (const name of names) index.missedNoMore(name);
      this.#commit();
      if (leads()) await this.writeSegments({ fullOnly: true });
    }
  }

  async #removeGone(): Promise<void> {
    const { index, records, signal } = this.#options;
    index.db.exec("CREATE TEMP TABLE IF NOT EXISTS listed(name INTEGER PRIMARY KEY); DELETE FROM listed");
    const note = index.db.prepare("INSERT OR IGNORE INTO listed(name) VALUES (?)");
    const isListed = index.db.prepare("SELECT 1 FROM listed WHERE name = ?");
    for await (const { runName } of records.list(signal)) {
      note.run(wideHash(runName));
      await this.#pause();
    }
    let names = index.names("", NAMES_AT_ONCE);
    while (names.length > 0) {
      for (const name of names) {
        // It may have ended since, so the store is asked.
        if (!isListed.get(wideHash(name)) && !await records.exists(name, signal)) {
          index.transaction(() => index.remove(name));
        }
      }
      await this.#pause();
      names = index.names(names.at(-1)!, NAMES_AT_ONCE);
    }
    index.db.exec("DROP TABLE listed");
  }
}
