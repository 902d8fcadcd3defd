/**
 * What the page `/rows/{row}` shows, gathered from the view: a row as the table has it, its live and ended runs, figures by
 * day, what comes before and after it. A row that left the table has a page as long as it has a history. Must not know HTTP,
 * nor what the page looks like.
 */
import type { BadRow } from "../catalog/chains.ts";
import { type Problem, rowNamed, type Table } from "../catalog.ts";
import type { WaitingJoin } from "../flows.ts";
import { type EndedRun, percentile, type RowDay, tookMs } from "../history.ts";
import type { Row, RunView } from "../ports.ts";
import { compact } from "../util/compact.ts";
import { nearest } from "../util/nearest.ts";
import { quantityValue } from "../util/quantities.ts";
import { cut } from "../util/text.ts";
import type { Page } from "./answers.ts";
import { rowsAfter, rowsBefore } from "./graph/neighbours.ts";
import { historyFailure, type Looking } from "./look.ts";
import { messagePage } from "./pages/parts.tsx";
import { rowPage } from "./pages/row.tsx";
import { rowSentences } from "./pages/row_words.ts";
import type { StatusView } from "./view.ts";

/** Days of the charts. */
export const DAYS = 60;
/** Ends that are listed and drawn one by one. */
const LAST_RUNS = 50;
/** Runs of which a month's median is made at most: the newest. */
const MAX_OF_MONTH = 500;
/** Messages for which it waits for others. */
const MAX_WAITS = 20;
const MONTH_DAYS = 30;
const DAY_MS = 86_400_000;
/** Rows that are compared with a name that nobody has. */
const MAX_COMPARED = 5_000;
/** Longer tables are not looked through for whose ends a wildcard means. */
const MAX_LOOKED_THROUGH = 20_000;

/** How long the runs of a month took that succeeded. */
export interface Durations {
  /** Of which the figures are made: the newest. */
  readonly runs: number;
  readonly medianMs: number;
  readonly p95Ms: number;
}

export interface RowPageInput {
  readonly now: Date;
  readonly jobName: string;
  /** Absent: the table has it no more, or it has errors (`bad`). */
  readonly row?: Row;
  readonly bad?: BadRow;
  /** Its cells in words. */
  readonly sentences: readonly string[];
  readonly problems: readonly Problem[];
  /** Rows whose ends start it or that it needs; rows that its ends start or that need it. */
  readonly before: readonly string[];
  readonly after: readonly string[];
  readonly nextDue?: Date;
  readonly live: readonly RunView[];
  /** Messages for which it waits for rows that it needs. */
  readonly waits: readonly WaitingJoin[];
  /** The last ends, newest first. */
  readonly ended: readonly EndedRun[];
  /** Of the last `DAYS` days. */
  readonly days: readonly RowDay[];
  /** Of the last 30 days, and of the 30 days before. */
  readonly month?: Durations;
  readonly monthBefore?: Durations;
  /** Why the history cannot be shown; a sentence. */
  readonly failure?: string;
  /** Where the table is, for people. */
  readonly tableUrl?: string;
  /** There is no table, so whether it has the row is not known. */
  readonly noTable: boolean;
}

/** The page of a row and its status: 404 where neither the table nor the history knows the name. */
export async function readRowPage(
  jobName: string,
  { view, signal }: Pick<Looking, "view" | "signal">,
): Promise<{ page: Page; status: 200 | 404 }> {
  const table = view.table();
  const row = rowNamed(table?.rows, jobName);
  const bad = row ? undefined : table?.badRows.find((bad) => bad.jobName === jobName);
  const live = view.liveRuns().filter((run) => run.jobName === jobName)
    .sort((a, b) => b.receivedAt.getTime() - a.receivedAt.getTime());
  const now = new Date();
  const past = await pastOf(view, jobName, now, signal());
  if (!row && !bad && live.length === 0 && past.ended.length === 0 && past.failure === undefined) {
    return { page: noRow(jobName, table, view.history.reach().kind === "all"), status: 404 };
  }
  const input: RowPageInput = {
    ...compact({ row, bad, nextDue: view.nextDue?.().get(jobName), tableUrl: view.tableUrl }),
    ...past,
    now,
    jobName,
    live,
    waits: view.waitingJoins().filter((wait) => wait.jobName === jobName).slice(0, MAX_WAITS),
    sentences: row && table ? rowSentences(row, table.topicPrefix) : [],
    problems: problemsOf(table, jobName, (row ?? bad)?.line),
    ...neighboursOf(table, row),
    noTable: table === undefined,
  };
  return { page: { data: dataOf(input), html: () => rowPage(input) }, status: 200 };
}

type Past = Pick<RowPageInput, "ended" | "days" | "month" | "monthBefore" | "failure">;

async function pastOf({ history }: StatusView, jobName: string, now: Date, signal: AbortSignal): Promise<Past> {
  const ago = (days: number) => new Date(now.getTime() - days * DAY_MS);
  const durations = async (since: Date, until?: Date) => {
    const wanted = { jobName, status: "succeeded", everyItem: true, limit: MAX_OF_MONTH } as const;
    return durationsOf(await history.find({ ...wanted, since, ...compact({ until }) }, signal));
  };
  try {
    const [ended, days, month, monthBefore] = await Promise.all([
      history.find({ jobName, everyItem: true, limit: LAST_RUNS }, signal),
      history.days({ jobName, since: startOfDay(ago(DAYS - 1)) }, signal),
      durations(ago(MONTH_DAYS)),
      durations(ago(2 * MONTH_DAYS), ago(MONTH_DAYS)),
    ]);
    return { ended, days, ...compact({ month, monthBefore }) };
  } catch (error) {
    return { ended: [], days: [], failure: historyFailure(error) };
  }
}

function startOfDay(at: Date): Date {
  return new Date(at.toISOString().slice(0, 10));
}

function durationsOf(runs: readonly EndedRun[]): Durations | undefined {
  const took = runs.flatMap((run) => tookMs(run) ?? []).sort((a, b) => a - b);
  const [medianMs, p95Ms] = [percentile(took, 0.5), percentile(took, 0.95)];
  return medianMs === undefined || p95Ms === undefined ? undefined : { runs: took.length, medianMs, p95Ms };
}

function problemsOf(table: Table | undefined, jobName: string, line: number | undefined): Problem[] {
  return table?.problems.filter((problem) => problem.jobName === jobName || problem.line === line) ?? [];
}

function neighboursOf(table: Table | undefined, row: Row | undefined): Pick<RowPageInput, "before" | "after"> {
  if (!table || !row) return { before: [], after: [] };
  const names = (rows: readonly Row[]) => rows.map(({ jobName }) => jobName);
  return {
    before: names(rowsBefore(table, row, () => table.rows.length <= MAX_LOOKED_THROUGH)),
    after: names(rowsAfter(table, row)),
  };
}

function noRow(jobName: string, table: Table | undefined, isWhole: boolean): Page {
  const guess = nearest(jobName, (table?.rows ?? []).slice(0, MAX_COMPARED).map(({ jobName }) => jobName));
  const message =
    `There is no row "${cut(jobName, 200)}" in the table, and no run of it in ${
      isWhole ? "the history" : "what is known of the history"
    }` +
    (guess === undefined ? "." : `; did you mean "${guess}"?`);
  return messagePage({ title: "No such row", message });
}

/** The most memory that a run may use, in bytes; undefined: any. */
export function memoryLimitOf({ row, ended }: Pick<RowPageInput, "row" | "ended">): number | undefined {
  const limit = row ? row.memoryLimit : ended[0]?.limits["memory"];
  return limit === undefined ? undefined : quantityValue(limit);
}

function dataOf(input: RowPageInput) {
  const { jobName, row, bad, sentences, problems, before, after, nextDue, live, waits, ended, days, failure } = input;
  const durations = (one: Durations | undefined) =>
    one && { runs: one.runs, median_ms: one.medianMs, p95_ms: one.p95Ms };
  return {
    job_name: jobName,
    ...compact({ line: (row ?? bad)?.line, owner: row?.owner, enabled: row?.enabled, next_due: nextDue, failure }),
    in_table: row !== undefined,
    sentences,
    problems: problems.map(({ severity, line, column, value, message }) =>
      compact({ severity, line, column, value, message })
    ),
    before,
    after,
    waits: waits.map(({ root, missing }) => ({ root, missing })),
    live: live.map(({ runName, state, detail, receivedAt, startedAt }) =>
      compact({ run_name: runName, state, detail, received_at: receivedAt, started_at: startedAt })
    ),
    ended,
    days: days.map(({ day, succeeded, failed, cancelled, medianMs, p95Ms }) =>
      compact({ day, succeeded, failed, cancelled, median_ms: medianMs, p95_ms: p95Ms })
    ),
    ...compact({
      last_30_days: durations(input.month),
      the_30_days_before: durations(input.monthBefore),
      memory_limit_bytes: memoryLimitOf(input),
    }),
  };
}
