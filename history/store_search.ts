/**
 * Finds ended runs for a command, which has no index of its own: in that of a service on this machine, where it can be read,
 * else in segments, the newest first, and in records that are in none. Holds no more of them than are wanted. Reads only.
 */
import type { EndedRun, RunFilter } from "../history.ts";
import type { ObjectStore } from "../ports.ts";
import type { RunRecords, WrittenRecord } from "../records.ts";
import { runNameBegin } from "../run_spec.ts";
import { compact } from "../util/compact.ts";
import { atOnce } from "../util/semaphore.ts";
import { tookMs, wordsOf } from "./figures.ts";
import { secondOf } from "./index.ts";
import { type HistoryLine, lineOf } from "./line.ts";
import { readIndex } from "./open_index.ts";
import { Queries } from "./queries.ts";
import { SegmentError, Segments } from "./segments.ts";

export interface StoreSearchOptions {
  readonly records: RunRecords;
  /** That of the records. */
  readonly store: ObjectStore;
  /** DATA_DIR. */
  readonly folder: string;
  readonly filter: RunFilter;
  /** The newest so many. */
  readonly limit: number;
  /** How many records were looked at so far. */
  readonly onProgress?: (count: number) => void;
  readonly signal?: AbortSignal;
}

export interface StoreFindings {
  /** Newest first; each item of a group by itself. */
  readonly runs: readonly EndedRun[];
  /** Rows that were met on the way. */
  readonly rows: ReadonlySet<string>;
  /** What was not looked at, in a sentence. */
  readonly unseen?: string;
}

/** Records that are listed to see which are in no segment: of more, listing takes longer than anybody waits. */
const MOST_LISTED = 20_000;
/** Records that are read because no segment has them: those that were written last. */
const MOST_READ = 2_000;
const READS_AT_ONCE = 16;

/** Errors are the store's. */
export async function searchStore(options: StoreSearchOptions): Promise<StoreFindings> {
  const { folder, store, filter, limit, signal } = options;
  const index = readIndex(folder, store.url);
  if (!index) return await searchSegments(options);
  try {
    const queries = new Queries(index.index);
    const runs = await queries.find({ ...filter, everyItem: true, limit }, signal);
    const rows = runs.length > 0 ? [] : (await queries.lastEnds(1, signal)).keys();
    return { runs, rows: new Set(rows) };
  } finally {
    index.close();
  }
}

async function searchSegments(options: StoreSearchOptions): Promise<StoreFindings> {
  const { store, filter, limit, onProgress, signal } = options;
  const segments = new Segments(store);
  const all = await segments.list(signal);
  const total = all.reduce((sum, { runs }) => sum + runs, 0);
  const wanted = new Newest(filter, limit);
  // Of a small store the names are compared, so all segments are read; of a large one, no more than is wanted.
  const isSmall = total <= MOST_LISTED;
  const known = new Set<string>();
  let looked = 0;
  for (const segment of all) {
    if (!isSmall && wanted.isOlder(segment.to)) break;
    if (!isSmall && filter.since && segment.to < secondOf(filter.since.getTime())) break;
    try {
      for await (const lines of segments.read(segment, signal)) {
        for (const line of lines) {
          if (isSmall) known.add(line.run.run_name);
          wanted.add(line);
        }
        onProgress?.(looked += lines.length);
      }
    } catch (error) {
      // Its records are found by listing, here or by the service.
      if (!(error instanceof SegmentError)) throw error;
    }
  }
  const unseen = await addRecords(options, {
    wanted,
    known,
    newestMs: isSmall ? undefined : all[0]?.writtenAt.getTime(),
  });
  return { runs: wanted.runs(), rows: wanted.rows, ...compact({ unseen }) };
}

/** Those that no segment has: `newestMs`, when the last one was written, stands for the names where they are too many. */
async function addRecords(
  { records, filter, onProgress, signal }: StoreSearchOptions,
  { wanted, known, newestMs }: { wanted: Newest; known: ReadonlySet<string>; newestMs: number | undefined },
): Promise<string | undefined> {
  const isLarge = newestMs !== undefined;
  const lastMinute = "The store is large: runs that ended in the last minute may be missing";
  if (isLarge && filter.jobName === undefined) return `${lastMinute}; --row NAME looks for them too`;
  let listed = 0;
  const isMissing = ({ runName, modifiedAt }: WrittenRecord) => {
    if (++listed % 1_000 === 0) onProgress?.(listed);
    return !known.has(runName) && !(isLarge && modifiedAt.getTime() < newestMs - SLACK_MS);
  };
  // Other rows' names may begin so.
  const prefix = isLarge && filter.jobName !== undefined ? runNameBegin(filter.jobName) : "";
  const { found, leftOut } = await records.lastWritten(MOST_READ, isMissing, { prefix, signal });
  await atOnce(READS_AT_ONCE, found, async ({ runName }) => {
    const line = lineOf(await records.find(runName, signal));
    if (line) wanted.add(line);
  });
  return leftOut
    ? `Of the records that no segment in .index/ holds, the ${MOST_READ} that were written last were looked at: ` +
      "the service makes segments of the others while it runs"
    : undefined;
}

/** Clocks of store and service may differ by so much, and a segment is written some minutes after its ends. */
const SLACK_MS = 15 * 60_000;

/** The newest runs that fit. */
class Newest {
  readonly rows = new Set<string>();
  readonly #filter: RunFilter;
  readonly #limit: number;
  readonly #words: readonly string[];
  #found = new Map<string, EndedRun>();

  constructor(filter: RunFilter, limit: number) {
    this.#filter = filter;
    this.#limit = limit;
    this.#words = filter.text === undefined ? [] : wordsOf(filter.text);
  }

  add(line: HistoryLine): void {
    if (this.rows.size < 1_000) this.rows.add(line.run.job_name);
    if (!this.#fits(line)) return;
    this.#found.set(line.run.run_name, line.run);
    if (this.#found.size >= 2 * this.#limit + 100) this.#found = new Map(this.runs().map((run) => [run.run_name, run]));
  }

  /** Whether nothing that ended up to this second is wanted any more. */
  isOlder(second: number): boolean {
    if (this.#found.size < this.#limit) return false;
    return second < secondOf(Date.parse(this.runs().at(-1)!.finished_at));
  }

  runs(): EndedRun[] {
    return [...this.#found.values()].sort((a, b) =>
      Date.parse(b.finished_at) - Date.parse(a.finished_at) || (a.run_name < b.run_name ? 1 : -1)
    ).slice(0, this.#limit);
  }

  #fits({ run, payload }: HistoryLine): boolean {
    const { jobName, status, reason, owner, root, group, parentRun, since, until, minMs, final } = this.#filter;
    const same = [
      [jobName, run.job_name],
      [status, run.status],
      [reason, run.reason],
      [owner, run.owner],
      [root, run.root],
      [group, run.group],
      [parentRun, run.parent_run],
    ];
    const at = Date.parse(run.finished_at);
    return same.every(([wanted, is]) => wanted === undefined || wanted === is) &&
      (!final || run.retried_as === undefined) && (!since || at >= since.getTime()) &&
      (!until || at < until.getTime()) && (minMs === undefined || (tookMs(run) ?? 0) >= minMs) &&
      this.#holds(`${run.message}\n${payload}`);
  }

  #holds(text: string): boolean {
    if (this.#words.length === 0) return true;
    const held = new Set(wordsOf(text));
    return this.#words.every((word) => held.has(word));
  }
}
