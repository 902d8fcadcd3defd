/**
 * What the page `/runs` shows, gathered from the view: live runs and ended ones that fit a query, in pages. What cannot be
 * had is said. Must not know HTTP beyond a query, nor what the page looks like.
 */
import { type EndedRun, type RunFilter, tookMs } from "../history.ts";
import type { RunView } from "../ports.ts";
import { compact } from "../util/compact.ts";
import { nearest } from "../util/nearest.ts";
import type { Page } from "./answers.ts";
import { type LiveLine, liveLines, liveTookMs, newestFirst } from "./live_lines.ts";
import { historyFailure, type Looking } from "./look.ts";
import { jobOf, type RunLine, type RunsInput, runsPage } from "./pages/runs.tsx";
import type { ShownState } from "./pages/group.tsx";
import { liveLineData } from "./run_json.ts";
import { readRunsQuery, type RunsQuery, wantedKinds } from "./runs_query.ts";
import type { StatusView } from "./view.ts";

const RUNS_A_PAGE = 50;
/** Ended runs that are sorted by anything but their end: so many of the newest that fit. */
const MOST_SORTED = 2_000;
/** Items of a group that its line counts. */
const MOST_ITEMS = 400;
const MOST_SUGGESTIONS = 8;

/** The page `/runs` for a query. */
export async function readRunsList({ view, signal: look }: Looking, params: URLSearchParams): Promise<Page> {
  const { query, faults } = readRunsQuery(params);
  const signal = look();
  const now = new Date();
  const rows = view.table()?.rows ?? [];
  const words = Object.fromEntries([...params].filter(([name, value]) => name !== "older" && name !== "page" && value));
  const shared = {
    now,
    query,
    faults,
    words,
    reach: view.history.reach(),
    rowNames: rows.map(({ jobName }) => jobName),
    owners: [...new Set(rows.flatMap(({ owner }) => owner ?? []))],
  };
  const found = await find().catch((error) => ({
    lines: liveOf(view, query, undefined).slice(0, RUNS_A_PAGE).map((live): RunLine => ({ live })),
    pastFailure: historyFailure(error),
  }));
  const input: RunsInput = { ...shared, ...found };
  return { data: dataOf(input), html: () => runsPage(input) };

  async function find(): Promise<Pick<RunsInput, "lines" | "previous" | "next" | "newest" | "suggestions" | "sorted">> {
    const row = await resolveRow(view, query.row, signal);
    if ("suggestions" in row) return { lines: [], suggestions: row.suggestions };
    const kinds = wantedKinds(query);
    const live = kinds.live && !query.older ? liveOf(view, query, row.jobName) : [];
    const filter = kinds.ended ? filterOf(query, row.jobName, now) : undefined;
    const page = query.sort === "newest"
      ? await pageByEnd(view, live, filter, query, signal)
      : await pageSorted(view, live, filter, query, signal);
    return { ...page, lines: await withStates(view, page.lines, query, signal) };
  }
}

/** A row as the table or the history spells it, whatever the case; or names that may have been meant. */
async function resolveRow(
  view: StatusView,
  typed: string | undefined,
  signal: AbortSignal,
): Promise<{ readonly jobName?: string } | { readonly suggestions: readonly string[] }> {
  if (typed === undefined) return {};
  const names = (view.table()?.rows ?? []).map(({ jobName }) => jobName);
  const spelt = (among: readonly string[]) =>
    among.find((name) => name === typed) ?? among.find((name) => name.toLowerCase() === typed.toLowerCase());
  const known = spelt(names);
  if (known !== undefined) return { jobName: known };
  // Rows that the table has no longer.
  const live = view.liveRuns().map(({ jobName }) => jobName);
  const former = [...live, ...(await view.history.lastEnds(1, signal)).keys()];
  const formerName = spelt(former);
  if (formerName !== undefined) return { jobName: formerName };
  const all = [...new Set([...names, ...former])];
  const holding = all.filter((name) => name.toLowerCase().includes(typed.toLowerCase()));
  const near = nearest(typed.toLowerCase(), all.map((name) => name.toLowerCase()));
  const meant = near === undefined ? [] : all.filter((name) => name.toLowerCase() === near);
  return { suggestions: [...new Set([...holding, ...meant])].slice(0, MOST_SUGGESTIONS) };
}

/** Live runs and open groups that fit. */
function liveOf(view: StatusView, query: RunsQuery, jobName: string | undefined): LiveLine[] {
  const { state, owner, root, text, took } = query;
  const owners = new Map((view.table()?.rows ?? []).map((row) => [row.jobName, row.owner]));
  const wantedText = text?.toLowerCase().split(/\s+/) ?? [];
  const fits = (run: RunView) =>
    (jobName === undefined || run.jobName === jobName) &&
    (state === undefined || state === "live" || run.state === state || state === "running" && run.state === "ending") &&
    (owner === undefined || owners.get(run.jobName) === owner) &&
    (root === undefined || run.root === root) &&
    (took === undefined || liveTookMs({ run }) >= took) &&
    wantedText.every((word) => `${run.topic} ${run.detail} ${run.runName}`.toLowerCase().includes(word));
  const runs = view.liveRuns().filter(fits);
  // A group stands for items of all states, so that it is shown where none is asked for.
  const isPlain = [owner, root, text, took].every((one) => one === undefined) && (state ?? "live") === "live";
  if (!isPlain) return runs.map((run) => ({ run })).sort(newestFirst);
  return liveLines(view, runs)
    .filter((line) => !("group" in line) || jobName === undefined || line.group.jobName === jobName)
    .sort(newestFirst);
}

function filterOf(query: RunsQuery, jobName: string | undefined, now: Date): RunFilter {
  const { state, reason, owner, root, text, time, since, until, took } = query;
  const status = state === "succeeded" || state === "failed" || state === "cancelled" ? state : undefined;
  const from =
    [since, time === undefined ? undefined : new Date(now.getTime() - time)].filter((one) => one !== undefined)
      .sort((a, b) => b.getTime() - a.getTime())[0];
  return compact({
    jobName,
    status,
    // What was tried again has not failed yet.
    final: status === "failed" ? true as const : undefined,
    reason,
    owner,
    root,
    text,
    since: from,
    until,
    minMs: took,
  });
}

type FoundPage = Pick<RunsInput, "previous" | "next" | "newest" | "sorted"> & { readonly lines: readonly RunLine[] };

/** Live runs first, then ended ones by their end: those of a history have no numbered pages. */
async function pageByEnd(
  view: StatusView,
  live: readonly LiveLine[],
  filter: RunFilter | undefined,
  { page, older }: RunsQuery,
  signal: AbortSignal,
): Promise<FoundPage> {
  const from = (page - 1) * RUNS_A_PAGE;
  const shown = live.slice(from, from + RUNS_A_PAGE);
  const room = older ? RUNS_A_PAGE : RUNS_A_PAGE - shown.length;
  const moreLive = live.length > from + RUNS_A_PAGE;
  const ended = filter && !moreLive
    ? await view.history.find({ ...filter, ...compact({ olderThan: older }), limit: room + 1 }, signal)
    : [];
  const records = ended.slice(0, room);
  const last = records.at(-1);
  const next = moreLive || ended.length > 0 && room === 0
    ? { page: `${page + 1}` }
    : ended.length > room && last
    ? { older: `${last.finished_at} ${last.run_name}` }
    : undefined;
  return {
    lines: [...shown.map((one) => ({ live: one })), ...records.map((record) => ({ record }))],
    ...compact({ next, previous: page > 1 ? { page: page > 2 ? `${page - 1}` : "" } : undefined }),
    ...(older ? { newest: true } : {}),
  };
}

/** By another order: of so many of the newest that fit, in numbered pages. */
async function pageSorted(
  view: StatusView,
  live: readonly LiveLine[],
  filter: RunFilter | undefined,
  { page, sort }: RunsQuery,
  signal: AbortSignal,
): Promise<FoundPage> {
  const ended = filter ? await view.history.find({ ...filter, limit: MOST_SORTED + 1 }, signal) : [];
  const lines: RunLine[] = [
    ...live.map((one) => ({ live: one })),
    ...ended.slice(0, MOST_SORTED).map((record) => ({ record })),
  ];
  const now = Date.now();
  const keyed = lines.map((line) => ({ line, took: tookOf(line, now), row: jobOf(line) }));
  if (sort === "longest") keyed.sort((a, b) => b.took - a.took);
  else keyed.sort((a, b) => a.row < b.row ? -1 : a.row > b.row ? 1 : 0);
  const from = (page - 1) * RUNS_A_PAGE;
  return {
    lines: keyed.slice(from, from + RUNS_A_PAGE).map(({ line }) => line),
    ...compact({
      next: keyed.length > from + RUNS_A_PAGE ? { page: `${page + 1}` } : undefined,
      previous: page > 1 ? { page: page > 2 ? `${page - 1}` : "" } : undefined,
      sorted: ended.length > MOST_SORTED ? MOST_SORTED : undefined,
    }),
  };
}

function tookOf(line: RunLine, now: number): number {
  return "live" in line ? liveTookMs(line.live, now) : tookMs(line.record) ?? 0;
}

/** Records that stand for their group get how its items stand, as far as the history knows them. */
async function withStates(
  view: StatusView,
  lines: readonly RunLine[],
  { root }: RunsQuery,
  signal: AbortSignal,
): Promise<RunLine[]> {
  // All of one message: each item has a line of its own.
  if (root !== undefined) return [...lines];
  return await Promise.all(lines.map(async (line) => {
    if (!("record" in line) || line.record.group === undefined) return line;
    const { group } = line.record;
    const items = await view.history.find({ group, everyItem: true, final: true, limit: MOST_ITEMS }, signal);
    return { record: line.record, states: itemStates(items) };
  }));
}

function itemStates(items: readonly EndedRun[]): ShownState[] {
  const states = new Map<number, ShownState>();
  for (const { index, status } of items) {
    if (index === undefined) continue;
    if (states.get(index) !== "succeeded") states.set(index, status === "succeeded" ? "succeeded" : "failed");
  }
  return [...states].sort(([a], [b]) => a - b).map(([, state]) => state);
}

/** What the page shows, for programs; docs/page.md describes it. */
function dataOf({ lines, faults, suggestions, pastFailure, next, words, reach }: RunsInput) {
  return {
    live: lines.flatMap((line) => "live" in line ? [liveLineData(line.live)] : []),
    ended: lines.flatMap((line) =>
      "record" in line ? [{ ...line.record, ...compact({ item_states: line.states }) }] : []
    ),
    ...compact({ faults: faults.length === 0 ? undefined : faults, suggestions, history_failure: pastFailure }),
    next: next === undefined ? null : `/runs.json?${new URLSearchParams({ ...words, ...next })}`,
    history: reach,
  };
}
