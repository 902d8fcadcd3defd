/**
 * What the pages `/` and `/runs/{run}` show, gathered from the view: filters, cursors, children, message and log.
 * What cannot be had leaves its part of a page out. Must not know HTTP beyond a query, nor what pages look like.
 */
import { chainGraph } from "../catalog/chains.ts";
import type { Table } from "../catalog.ts";
import type { RunView } from "../ports.ts";
import { isRoot } from "../run_spec.ts";
import { compact } from "../util/compact.ts";
import { errorMessage } from "../util/errors.ts";
import { finishInSlices } from "../util/slices.ts";
import type { Page } from "./answers.ts";
import { drawGraphSteps, type GraphPicture, MAX_DRAWN_ROWS } from "./graph.tsx";
import type { EndedRun, RunSearch } from "../history.ts";
import type { ShownState } from "./pages/group.tsx";
import { allWaits, type Wait } from "./joins.ts";
import { readGroup, readMessageRuns, statesOf } from "./message_runs.ts";
import { type GroupLine, type HealthView, overviewPage, type RunQuery } from "./pages/overview.tsx";
import { END_STATES, isLiveState, LIVE_STATES } from "./pages/parts.tsx";
import { type Looking, readRun } from "./run.ts";
import type { StatusView } from "./view.ts";

export interface ReadingOptions {
  readonly view: StatusView;
  readonly health: () => HealthView;
  /** Whether there is a token to act with. */
  readonly actions: boolean;
}

const RECORDS_A_PAGE = 50;
/** Of all runs, those that are looked through for what a row waits for. */
const MAX_KNOWN = 2_000;
/** Longest wait for a store or cluster that a page asks. */
const LOOK_MS = 5_000;

/** Reads for the pages. What is under way ends when `closing` aborts. */
export class Reading {
  readonly #options: ReadingOptions;
  readonly #closing: AbortSignal;
  readonly #pictures = new WeakMap<Table, Promise<GraphPicture>>();
  readonly #looking: Looking;

  constructor(options: ReadingOptions, closing: AbortSignal) {
    this.#options = options;
    this.#closing = closing;
    this.#looking = { view: options.view, actions: options.actions, signal: () => this.#lookSignal() };
  }

  /** For pages that are gathered elsewhere. */
  get looking(): Looking {
    return this.#looking;
  }

  /** The page `/` for a query. */
  async overview(params: URLSearchParams): Promise<Page> {
    const { view, health, actions } = this.#options;
    const query = readQuery(params);
    if (query.root !== undefined) return await readMessageRuns(query.root, params, this.#looking);
    const table = view.table();
    const history = await this.#history(query, params);
    const groups = query.state === undefined ? this.#openGroups(query.row) : [];
    const drawn = new Set(groups.map(({ group }) => group));
    const live = view.liveRuns()
      .filter((run) => query.row === undefined || run.jobName === query.row)
      // What a group's line stands for.
      .filter(({ group }) => group === undefined || !drawn.has(group))
      .filter((run) => query.state === undefined || run.state === query.state)
      .sort((a, b) => b.receivedAt.getTime() - a.receivedAt.getTime());
    const shown = {
      ...compact({ tableFailure: view.tableFailure(), nextDue: view.nextDue?.() }),
      now: new Date(),
      health: health(),
      table,
      graph: table && await this.#picture(table),
      live,
      groups,
      ...history,
      reach: view.history.reach(),
      waits: await this.#waits(),
      query,
      actions,
    };
    const { table: _, graph: __, now: ___, ...data } = shown;
    return { data, html: () => overviewPage(shown) };
  }

  #openGroups(row: string | undefined): GroupLine[] {
    const { view } = this.#options;
    const open = (view.openGroups?.() ?? []).filter(({ jobName }) => row === undefined || jobName === row);
    const live = liveItems(open.length === 0 ? [] : view.liveRuns());
    return open.map(({ group, jobName, topic, receivedAt, items }) => ({
      group,
      jobName,
      topic,
      receivedAt,
      states: statesOf(items, live.get(group)),
    }));
  }

  /** The page of a group; undefined: there is none of that name. */
  async group(name: string, params: URLSearchParams): Promise<Page | undefined> {
    return await readGroup(name, params, this.#looking);
  }

  async #waits(): Promise<Wait[]> {
    const { view } = this.#options;
    if (view.waitingJoins().length === 0) return [];
    return allWaits(
      view,
      await view.history.find({ everyItem: true, limit: MAX_KNOWN }, this.#lookSignal()).catch(() => []),
    );
  }

  /** The page of a run; undefined: there is none of that name. */
  async run(runName: string): Promise<Page | undefined> {
    return await readRun(runName, this.#looking);
  }

  /** Made once a table, in slices: messages must not wait for it. */
  #picture(table: Table): Promise<GraphPicture> {
    let picture = this.#pictures.get(table);
    if (!picture) {
      const graph = chainGraph(table, { maxRows: MAX_DRAWN_ROWS });
      picture = finishInSlices(drawGraphSteps(graph, table.topicPrefix), {});
      this.#pictures.set(table, picture);
    }
    return picture;
  }

  async #history(query: RunQuery, params: URLSearchParams) {
    if (query.state !== undefined && isLiveState(query.state)) return { records: [] };
    const filter: RunSearch = {
      ...compact({ jobName: query.row, status: query.state, since: query.since, until: query.until }),
      ...compact({ olderThan: readCursor(params.get("older")) }),
      limit: RECORDS_A_PAGE + 1,
    };
    try {
      const found = await this.#options.view.history.find(filter, this.#lookSignal());
      const records = found.slice(0, RECORDS_A_PAGE);
      const last = records.at(-1);
      const endedGroups = await this.#endedGroups(records);
      if (found.length <= RECORDS_A_PAGE || !last) return { records, endedGroups };
      const older = new URLSearchParams(params);
      older.set("older", `${last.finished_at} ${last.run_name}`);
      return { records, endedGroups, olderHref: `/?${older}#history` };
    } catch (error) {
      return { records: [], recordsFailure: `The history cannot be read now: ${errorMessage(error)}` };
    }
  }

  /** How the items of those groups stand, as far as the history knows them. */
  async #endedGroups(records: readonly EndedRun[]): Promise<ReadonlyMap<string, readonly ShownState[]>> {
    const { view } = this.#options;
    const names = [...new Set(records.flatMap(({ group }) => group ?? []))];
    if (names.length === 0) return new Map();
    const all = await view.history.find({ everyItem: true, limit: MAX_KNOWN }, this.#lookSignal());
    return new Map(names.map((name) => {
      const states = new Map<number, ShownState>();
      for (const { group, index, status, retried_as } of all) {
        if (group !== name || index === undefined || retried_as !== undefined) continue;
        if (states.get(index) !== "succeeded") states.set(index, status === "succeeded" ? "succeeded" : "failed");
      }
      return [name, [...states].sort(([a], [b]) => a - b).map(([, state]) => state)];
    }));
  }

  #lookSignal(): AbortSignal {
    return AbortSignal.any([this.#closing, AbortSignal.timeout(LOOK_MS)]);
  }
}

/** Live runs of items, by group and index. */
function liveItems(runs: readonly RunView[]): ReadonlyMap<string, ReadonlyMap<number, RunView>> {
  const found = new Map<string, Map<number, RunView>>();
  for (const run of runs) {
    if (run.group === undefined || run.index === undefined) continue;
    const items = found.get(run.group);
    if (items) items.set(run.index, run);
    else found.set(run.group, new Map([[run.index, run]]));
  }
  return found;
}

/** Reads the form's query; what makes no sense counts as not given. Times without a zone are UTC, as the form says. */
export function readQuery(params: URLSearchParams): RunQuery {
  const row = params.get("row")?.trim();
  const state = [...LIVE_STATES, ...END_STATES].find((state) => state === params.get("state"));
  const since = readTime(params.get("since"));
  const until = readTime(params.get("until"));
  const root = params.get("root") ?? undefined;
  return compact({
    row: row || undefined,
    state,
    since,
    until,
    root: root !== undefined && isRoot(root) ? root : undefined,
  });
}

function readTime(text: string | null): Date | undefined {
  if (!text) return undefined;
  const zoned = /(Z|[+-]\d\d:\d\d)$/.test(text) || !text.includes("T") ? text : `${text}Z`;
  const time = new Date(zoned);
  return Number.isNaN(time.getTime()) ? undefined : time;
}

function readCursor(text: string | null): RunSearch["olderThan"] {
  const [finishedAt, runName] = text?.split(" ") ?? [];
  if (!finishedAt || !runName || Number.isNaN(Date.parse(finishedAt))) return undefined;
  return { finishedAt, runName };
}
