/**
 * Replay: runs of a row that ended some way are run again, where nobody has done so yet. Chooses them by their records,
 * of which it keeps names and times; must not start them itself.
 */
import type { RunHistory, RunSearch } from "../history.ts";
import type { RunRecord } from "../ports.ts";
import type { RunRecords, WrittenRecord } from "../records.ts";
import type { RunTable } from "../runs.ts";
import { isRunNameOf, runNameBegin, shortHash } from "../run_spec.ts";
import { compact } from "../util/compact.ts";
import { momentMs } from "../util/duration.ts";
import { atOnce } from "../util/semaphore.ts";
import { cut } from "../util/text.ts";
import { checkBatch, MAX_BATCH_ENTRIES } from "./batches.ts";

export interface ReplayRequest {
  readonly jobName: string;
  /** `failed` unless given. */
  readonly state?: string;
  /** How long ago the end was at most (`2h`, `3d`), or an RFC 3339 time. */
  readonly since: string;
  /** Of the end, such as OOMKilled; absent: any. */
  readonly reason?: string;
  /** Runs that another batch has run again are left to it; absent: the same selection is the same batch. */
  readonly batch?: string;
  /** Tells what would be run again, and starts nothing. */
  readonly dryRun?: boolean;
  /** Who asks, for the records. */
  readonly requestedBy?: string;
}

/** A run that is to be run again. */
export type Chosen = Pick<RunRecord, "run_name" | "finished_at" | "reason" | "message">;

export interface Selection {
  readonly batch: string;
  /** Newest first. */
  readonly runs: readonly Chosen[];
  /** Fit, but were run again since. */
  readonly superseded: number;
  /** There are more: older ones are not looked at. */
  readonly more: boolean;
}

const STATES: readonly string[] = ["succeeded", "failed", "cancelled"];
const READS_AT_ONCE = 8;
/** Runs that are asked of the history at a time, and how often. */
const A_PAGE = 2_000;
const MOST_PAGES = 500;
/** Clocks of store and service may differ by so much. */
const CLOCK_SLACK_MS = 3600_000;
const MAX_REASON = 100;

/** Chooses the runs. RangeError: the request is not right. */
export async function chooseRuns(
  request: ReplayRequest,
  { records, history, runs, signal }: {
    readonly records: Pick<RunRecords, "lastWritten" | "get">;
    /** Where it holds all runs, no record is read to choose. */
    readonly history?: Pick<RunHistory, "find" | "reach">;
    readonly runs: Pick<RunTable, "values"> | undefined;
    readonly signal: AbortSignal;
  },
): Promise<Selection> {
  const { jobName, state = "failed", since, reason } = request;
  if (!STATES.includes(state)) throw new RangeError(`The state "${cut(state, 20)}": write one of ${STATES.join(", ")}`);
  if (reason !== undefined && reason.length > MAX_REASON) throw new RangeError("The reason is too long");
  const sinceMs = readSince(since);
  const batch = checkBatch(request.batch) ?? shortHash(["replay", jobName, state, since, reason ?? ""]);
  const rerun = new Set([...runs?.values() ?? []].flatMap(({ job }) => job.rerunOf ?? []));
  const found: Chosen[] = [];
  const look = (record: Looked) => {
    if (record.job_name !== jobName) return;
    if (record.rerun_of !== undefined) rerun.add(record.rerun_of);
    if (record.status !== state || reason !== undefined && record.reason !== reason) return;
    if (record.retried_as !== undefined || record.batch === batch) return;
    if (!(Date.parse(record.finished_at) >= sinceMs) || found.length > MAX_BATCH_ENTRIES) return;
    const { run_name, finished_at, reason: why, message } = record;
    found.push(JSON.parse(JSON.stringify({ run_name, finished_at, reason: why, message: cut(message, 200) })));
  };
  const isWhole = history?.reach().kind === "all";
  let more = isWhole
    ? await lookInHistory(history, { jobName, since: new Date(sinceMs), signal }, look)
    : await lookInRecords(records, { jobName, sinceMs, signal }, look);
  found.sort((a, b) => Date.parse(b.finished_at) - Date.parse(a.finished_at) || (a.run_name < b.run_name ? -1 : 1));
  more ||= found.length > MAX_BATCH_ENTRIES;
  const newestFound = found.slice(0, MAX_BATCH_ENTRIES);
  const chosen = newestFound.filter(({ run_name }) => !rerun.has(run_name));
  return { batch, runs: chosen, superseded: newestFound.length - chosen.length, more };
}

type Looked = Pick<
  RunRecord,
  "run_name" | "job_name" | "status" | "reason" | "message" | "finished_at" | "rerun_of" | "retried_as" | "batch"
>;

/** Looks at each run of the row since then; true: there are more. */
async function lookInHistory(
  history: Pick<RunHistory, "find">,
  { jobName, since, signal }: { jobName: string; since: Date; signal: AbortSignal },
  look: (run: Looked) => void,
): Promise<boolean> {
  let olderThan: RunSearch["olderThan"];
  for (let pages = 0; pages < MOST_PAGES; pages++) {
    const search = { jobName, since, everyItem: true, limit: A_PAGE, ...compact({ olderThan }) } as const;
    const runs = await history.find(search, signal);
    runs.forEach(look);
    const last = runs.at(-1);
    if (runs.length < A_PAGE || !last) return false;
    olderThan = { finishedAt: last.finished_at, runName: last.run_name };
  }
  return true;
}

/** The same with the records that were written last, where the history does not hold all. */
async function lookInRecords(
  records: Pick<RunRecords, "lastWritten" | "get">,
  { jobName, sinceMs, signal }: { jobName: string; sinceMs: number; signal: AbortSignal },
  look: (run: Looked) => void,
): Promise<boolean> {
  const isWanted = ({ runName, modifiedAt }: WrittenRecord) =>
    // By when it was written, which is never before the end. Other rows' names may begin so.
    modifiedAt.getTime() >= sinceMs - CLOCK_SLACK_MS && isRunNameOf(runName, jobName);
  const prefix = runNameBegin(jobName);
  const { found, leftOut } = await records.lastWritten(MAX_BATCH_ENTRIES, isWanted, { prefix, signal });
  await atOnce(READS_AT_ONCE, found, async ({ runName }) => {
    // What cannot be read is no reason to leave the others.
    const record = await records.get(runName, signal).catch(() => undefined);
    signal.throwIfAborted();
    if (record) look(record);
  });
  return leftOut;
}

function readSince(text: string): number {
  const ms = momentMs(text);
  if (ms !== undefined) return ms;
  throw new RangeError(
    `The time "${cut(text, 40)}": write how long ago (2h, 3d), or a time such as 2026-03-01T12:00:00Z`,
  );
}
