/**
 * What the page `/` shows, gathered from the view: figures, failures, live runs and the last ends of each row, a page of
 * each. What cannot be had leaves its part out. Must not know HTTP beyond a query, nor what the page looks like.
 */
import type { EndedRun } from "../history.ts";
import type { RunView } from "../ports.ts";
import { compact } from "../util/compact.ts";
import type { Page } from "./answers.ts";
import { type HealthView, healthWords } from "./health.ts";
import { allWaits, type Wait, waitData } from "./joins.ts";
import { lineJob, liveCounts, type LiveLine, liveLines, liveTookMs, newestFirst } from "./live_lines.ts";
import { historyFailure, type Looking } from "./look.ts";
import { ENDS_SHOWN } from "./pages/ends.tsx";
import { pageOf } from "./pages/lists.tsx";
import { MAX_FAILURES, type OverviewInput, overviewPage, ROW_SORTS, type RowLine } from "./pages/overview.tsx";
import { liveLineData } from "./run_json.ts";
import { RUN_SORTS, type RunSort } from "./runs_query.ts";
import type { StatusView } from "./view.ts";

const DAY_MS = 24 * 3600_000;
const LIVE_A_PAGE = 7;
const ROWS_A_PAGE = 15;
/** Ended runs that are looked through for what a row waits for. */
const MAX_KNOWN = 2_000;

/** The page `/` for a query. */
export async function readOverview(
  { view, signal: look }: Looking,
  health: () => HealthView,
  params: URLSearchParams,
): Promise<Page> {
  const now = new Date();
  const query = compact({
    live: params.get("live")?.trim() || undefined,
    live_sort: RUN_SORTS.find(([name]) => name === params.get("live_sort"))?.[0],
    live_page: params.get("live_page") ?? undefined,
    rows: params.get("rows")?.trim() || undefined,
    rows_sort: ROW_SORTS.find(([name]) => name === params.get("rows_sort"))?.[0],
    rows_page: params.get("rows_page") ?? undefined,
  });
  const signal = look();
  const since = new Date(now.getTime() - DAY_MS);
  const [past, waits] = await Promise.all([pastOf(view, since, signal), waitsOf(view, signal)]);
  const runs = view.liveRuns();
  const lines = liveLines(view, runs).filter((line) => query.live === undefined || isAbout(line, query.live));
  const rows = rowLines(view, runs, past.lastEnds)
    .filter(({ jobName, owner }) => query.rows === undefined || holds([jobName, owner], query.rows));
  const seen = health();
  const tableFailure = view.tableFailure();
  const table = view.table();
  const input: OverviewInput = {
    now,
    health: healthWords(seen, tableFailure),
    hasTable: table !== undefined,
    problems: {
      errors: table?.problems.filter(({ severity }) => severity === "error").length ?? 0,
      warnings: table?.problems.filter(({ severity }) => severity === "warning").length ?? 0,
    },
    running: runs.filter(({ state }) => state !== "pending").length,
    waiting: runs.filter(({ state }) => state === "pending").length,
    ...past,
    refusals: view.messages({ outcome: "refused", limit: MAX_FAILURES }),
    reach: view.history.reach(),
    live: pageOf(lines.sort(LIVE_ORDER[query.live_sort ?? "newest"]), Number(query.live_page) || 1, LIVE_A_PAGE),
    rows: pageOf(sortRows(rows, query.rows_sort ?? "activity"), Number(query.rows_page) || 1, ROWS_A_PAGE),
    waits,
    query,
  };
  return { data: dataOf(input, seen), html: () => overviewPage(input) };
}

type Past = Pick<OverviewInput, "failed" | "failures" | "pastFailure"> & {
  readonly lastEnds: ReadonlyMap<string, readonly EndedRun[]>;
};

async function pastOf({ history }: StatusView, since: Date, signal: AbortSignal): Promise<Past> {
  const filter = { status: "failed", final: true } as const;
  try {
    const [failed, failures, lastEnds] = await Promise.all([
      history.count({ ...filter, since }, signal),
      history.find({ ...filter, limit: MAX_FAILURES }, signal),
      history.lastEnds(ENDS_SHOWN, signal),
    ]);
    return { failed, failures, lastEnds };
  } catch (error) {
    return { failures: [], pastFailure: historyFailure(error), lastEnds: new Map() };
  }
}

async function waitsOf(view: StatusView, signal: AbortSignal): Promise<Wait[]> {
  if (view.waitingJoins().length === 0) return [];
  return allWaits(view, await view.history.find({ everyItem: true, limit: MAX_KNOWN }, signal).catch(() => []));
}

/** Rows of the table in force, or where there is none, those that have ended runs. */
function rowLines(view: StatusView, runs: readonly RunView[], ends: Past["lastEnds"]): RowLine[] {
  const live = liveCounts(runs);
  const rows = view.table()?.rows ?? [...ends.keys()].map((jobName) => ({ jobName, owner: undefined }));
  return rows.map(({ jobName, owner }) => ({
    jobName,
    ...compact({ owner }),
    ...live.get(jobName) ?? { running: 0, waiting: 0 },
    ends: ends.get(jobName) ?? [],
  }));
}

function holds(texts: readonly (string | undefined)[], wanted: string): boolean {
  return texts.some((text) => text?.toLowerCase().includes(wanted.toLowerCase()));
}

function isAbout(line: LiveLine, wanted: string): boolean {
  if ("group" in line) return holds([line.group.group, line.group.jobName, line.group.topic], wanted);
  const { runName, jobName, topic, detail, state, nodes } = line.run;
  return holds([runName, jobName, topic, detail, state, ...nodes], wanted);
}

const byName = (a: string, b: string) => a < b ? -1 : a > b ? 1 : 0;

/** The order of durations is the same at any one time; the last one that a Date can be is after all of them. */
const ANY_TIME = 8.64e15;

const LIVE_ORDER: Readonly<Record<RunSort, (a: LiveLine, b: LiveLine) => number>> = {
  newest: newestFirst,
  longest: (a, b) => liveTookMs(b, ANY_TIME) - liveTookMs(a, ANY_TIME) || newestFirst(b, a),
  row: (a, b) => byName(lineJob(a), lineJob(b)) || newestFirst(a, b),
};

const failedOf = ({ ends }: RowLine) => ends.filter(({ status }) => status === "failed").length;
/** What lives stands before what ended last. */
const activityOf = ({ running, waiting, ends }: RowLine) =>
  running > 0 ? Infinity : waiting > 0 ? Number.MAX_VALUE : Date.parse(ends.at(-1)?.finished_at ?? "") || 0;
const downwards = (a: number, b: number) => a === b ? 0 : b - a;

/** A row with what it is sorted by, looked up once: a table may have 200,000. */
interface KeyedRow {
  readonly row: RowLine;
  readonly activity: number;
  readonly failed: number;
}

type RowSort = (typeof ROW_SORTS)[number][0];

const ROW_ORDER: Readonly<Record<RowSort, (a: KeyedRow, b: KeyedRow) => number>> = {
  activity: (a, b) => downwards(a.activity, b.activity) || byName(a.row.jobName, b.row.jobName),
  failures: (a, b) => b.failed - a.failed || downwards(a.activity, b.activity),
  name: (a, b) => byName(a.row.jobName, b.row.jobName),
};

function sortRows(rows: readonly RowLine[], sort: RowSort): RowLine[] {
  return rows.map((row): KeyedRow => ({ row, activity: activityOf(row), failed: failedOf(row) }))
    .sort(ROW_ORDER[sort]).map(({ row }) => row);
}

/** What the page shows, for programs; docs/page.md describes it. */
function dataOf(input: OverviewInput, health: HealthView) {
  const { live, rows, failures, reach, problems, waits } = input;
  const ended = ({ run_name, status, started_at, finished_at }: EndedRun) => ({
    run_name,
    status,
    started_at,
    finished_at,
  });
  return {
    health: { ...health, state: input.health.state, troubles: input.health.troubles },
    table: problems,
    running: input.running,
    waiting: input.waiting,
    failed_24h: input.failed ?? null,
    failures,
    refusals: input.refusals ?? [],
    ...compact({ history_failure: input.pastFailure }),
    history: reach,
    live: live.rows.map(liveLineData),
    live_total: live.total,
    rows: rows.rows.map(({ jobName, owner, running, waiting, ends }) => ({
      job_name: jobName,
      ...compact({ owner }),
      running,
      waiting,
      last_ends: ends.map(ended),
    })),
    rows_total: rows.total,
    waits: waits.map(waitData),
  };
}
