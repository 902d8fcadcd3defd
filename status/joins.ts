/**
 * Rows that wait for rows that they need, in sentences: "report waits for lfp, which failed". Reads marks, live runs and
 * the history; owns no state.
 */
import type { Table } from "../catalog.ts";
import { joinedRunName, marksOf, rowKey } from "../flows/join_marks.ts";
import { joiningRows, rowsThatNeed } from "../flows/needs.ts";
import type { Row, RunView } from "../ports.ts";
import type { EndedRun } from "../history.ts";
import type { StatusView } from "./view.ts";

/** A row that waits, for one root. */
export interface Wait {
  readonly root: string;
  readonly jobName: string;
  /** What it waits for, in words: `waits for lfp, which failed`. */
  readonly words: string;
  /** Runs that somebody may want to look at. */
  readonly runNames: readonly string[];
}

/** With names as records have them. */
export function waitData({ root, jobName, words, runNames }: Wait): Record<string, unknown> {
  return { root, job_name: jobName, words, run_names: runNames };
}

/** What is known of one root. */
export interface RunsOfRoot {
  readonly root: string;
  readonly live: readonly RunView[];
  readonly ended: readonly EndedRun[];
}

/** Rows that are looked at for one root: each may take a look into the store. */
const MOST_ROWS = 20;
/** Waiting rows on the page of all. */
const MOST_WAITS = 50;

/** Rows that wait for one root. What cannot be read is left out. */
export async function waitsOf(known: RunsOfRoot, view: StatusView, signal: AbortSignal): Promise<Wait[]> {
  const table = view.table();
  const candidates = table ? candidatesOf(known, table, view) : [];
  if (candidates.length === 0) return [];
  const begun = await Promise.all(candidates.map((row) => hasBegun({ root: known.root, row }, known, view, signal)));
  const waiting = candidates.filter((_, at) => !begun[at]);
  if (waiting.length === 0) return [];
  const marks = await view.joinMarks(known.root, signal).catch(() => new Set<string>());
  // Of a group it counts that all of it has succeeded, which its mark says.
  const groups = new Set(table!.rows.filter(({ forEach }) => forEach !== undefined).map(({ jobName }) => jobName));
  const succeeded = new Set(known.ended.filter(({ status }) => status === "succeeded").map(({ job_name }) => job_name));
  return waiting.flatMap((row) => {
    const folder = marksOf({ root: known.root, row }).slice(known.root.length + 1);
    const missing = row.needs!.filter((needed) =>
      !marks.has(folder + rowKey(needed)) && !(succeeded.has(needed) && !groups.has(needed))
    );
    return missing.length === 0 ? [] : [waitOf(row.jobName, missing, known)];
  });
}

/** Of all roots, as the service knows them; the newest first. */
export function allWaits(view: StatusView, ended: readonly EndedRun[]): Wait[] {
  const live = view.liveRuns();
  return view.waitingJoins().slice(-MOST_WAITS).reverse().map(({ root, jobName, missing }) =>
    waitOf(jobName, missing, {
      root,
      live: live.filter((run) => run.root === root),
      ended: ended.filter((run) => run.root === root),
    })
  );
}

function candidatesOf({ root, live, ended }: RunsOfRoot, { rows }: Table, view: StatusView): Row[] {
  const names = new Set([...live.map(({ jobName }) => jobName), ...ended.map(({ job_name }) => job_name)]);
  const candidates = new Set([...names].flatMap((name) => rowsThatNeed(rows, name)));
  for (const waiting of view.waitingJoins()) {
    const row = waiting.root === root ? joiningRows(rows).get(waiting.jobName) : undefined;
    if (row) candidates.add(row);
  }
  return [...candidates].filter(({ enabled }) => enabled !== "no").slice(0, MOST_ROWS);
}

async function hasBegun(
  join: { readonly root: string; readonly row: Row },
  { live, ended }: RunsOfRoot,
  view: StatusView,
  signal: AbortSignal,
): Promise<boolean> {
  const runName = joinedRunName(join);
  if (live.some((run) => run.runName === runName) || ended.some(({ run_name }) => run_name === runName)) return true;
  return await view.hasBegun(runName, signal).catch(() => true);
}

function waitOf(jobName: string, missing: readonly string[], { root, live, ended }: RunsOfRoot): Wait {
  const runNames: string[] = [];
  const words = missing.map((needed) => {
    const running = live.find((run) => run.jobName === needed);
    const last = ended.filter((run) => run.job_name === needed && run.status !== "succeeded")
      .reduce<EndedRun | undefined>((a, b) => a && a.finished_at > b.finished_at ? a : b, undefined);
    const runName = running?.runName ?? last?.run_name;
    if (runName !== undefined) runNames.push(runName);
    const how = running
      ? running.state === "pending" ? "waits to run" : "runs"
      : last?.status === "cancelled"
      ? "was cancelled"
      : last?.retried_as !== undefined
      ? "is tried again"
      : last
      ? "failed"
      : "has not begun";
    return `${needed}, which ${how}`;
  });
  return { root, jobName, words: `waits for ${words.join(", and for ")}`, runNames };
}
