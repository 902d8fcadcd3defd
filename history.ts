/**
 * Ended runs, as pages, commands and requests ask about them: found by what they were, in pages, counted by day.
 * Owns these shapes and who answers them. Records themselves are records.ts' business.
 */
import type { Emit, Outcome, RunRecord } from "./ports.ts";

export { endedRun } from "./history/ended_run.ts";
export { percentile, tookMs } from "./history/figures.ts";
export { KeptHistory, type KeptHistoryOptions } from "./history/kept.ts";
export { type Guard, pruneDaily, Retention } from "./history/retention.ts";
export { searchStore } from "./history/store_search.ts";
export type { IndexPlace } from "./history/open_index.ts";
export {
  adviceOf,
  bytesWords,
  coresWords,
  type Peaks,
  peaksOf,
  usageBy,
  usageCsv,
  type UsageLine,
  weekOf,
} from "./history/usage.ts";

/** Which ended runs are wanted; all that is set must hold. */
export interface RunFilter {
  readonly jobName?: string;
  readonly status?: Outcome["status"];
  /** CamelCase word, as the record has it. */
  readonly reason?: string;
  readonly owner?: string;
  readonly parentRun?: string;
  readonly root?: string;
  readonly group?: string;
  /** Each item of a group by itself; absent: of each group the one that ended last, which stands for all. */
  readonly everyItem?: true;
  /** Without attempts that were followed by another one, of which nobody is told that they have ended. */
  readonly final?: true;
  /** Ended at this time or later. */
  readonly since?: Date;
  /** Ended before this time. */
  readonly until?: Date;
  /** Took at least so long from start to end. */
  readonly minMs?: number;
  /**
   * Words of letters and digits that its message, or the first 2,000 characters of its payload, holds, each of them and as
   * a whole; capitals are as small letters.
   */
  readonly text?: string;
}

export interface RunSearch extends RunFilter {
  /** Only what comes after this one in the order of the answer: the next page. */
  readonly olderThan?: { readonly finishedAt: string; readonly runName: string };
  /** At most so many. */
  readonly limit: number;
}

/** What lists show of a record. */
export type EndedRun = Pick<
  RunRecord,
  | "run_name"
  | "job_name"
  | "status"
  | "reason"
  | "message"
  | "exit_code"
  | "topic"
  | "node"
  | "parent_run"
  | "received_at"
  | "started_at"
  | "finished_at"
  | "root"
  | "attempt"
  | "retried_as"
  | "rerun_of"
  | "batch"
  | "requested_by"
  | "group"
  | "index"
  | "owner"
  | "requests"
  | "limits"
  | "gpu"
  | "peak_memory"
  | "peak_cpu"
>;

/** How far back the answers look. */
export interface Reach {
  readonly runs: number;
  /** `newest`: there are older ones in the store. `partly`: the store is not read to its end, or could not be. */
  readonly kind: "all" | "newest" | "partly";
  /** End of the oldest that is looked at, RFC 3339. */
  readonly oldest?: string;
}

/** The runs of one row that ended on one day (UTC). */
export interface RowDay {
  readonly jobName: string;
  /** `2026-11-26` */
  readonly day: string;
  readonly succeeded: number;
  readonly failed: number;
  readonly cancelled: number;
  /** From start to end of those that succeeded; absent where none did. */
  readonly medianMs?: number;
  readonly p95Ms?: number;
  /** Requested, times the time from start to end, of all of them. */
  readonly coreHours: number;
  readonly gibHours: number;
  readonly gpuHours: number;
}

/** Whatever rejects is shown as a sentence: the store or the disk cannot be read now. */
export interface RunHistory {
  /** Newest first, by `finished_at` alone; among those of one time, by name downwards. */
  find(search: RunSearch, signal?: AbortSignal): Promise<readonly EndedRun[]>;
  count(filter: RunFilter, signal?: AbortSignal): Promise<number>;
  /** The last ends of each row, at most so many, oldest first; attempts that were followed by another one are left out. */
  lastEnds(most: number, signal?: AbortSignal): Promise<ReadonlyMap<string, readonly EndedRun[]>>;
  /**
   * By row and day, oldest day first, of all rows unless `jobName`: whole days (UTC), from the one of `since` to the last
   * one that begins before `until`. Of a day with more than 20,000 runs of a row, the percentiles are those of a sample.
   */
  days(
    query: { readonly jobName?: string; readonly since: Date; readonly until?: Date },
    signal?: AbortSignal,
  ): Promise<readonly RowDay[]>;
  reach(): Reach;
}

/** A history that is told of ends, and reads what former processes left. */
export interface GrowingHistory extends RunHistory {
  readonly emit: Emit;
  /**
   * Reads what former processes left, and keeps it up until the signal aborts. Resolves when all is read for the first
   * time; what cannot be read is left out.
   */
  load(signal: AbortSignal): Promise<void>;
}
