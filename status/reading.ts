/**
 * What the pages `/` and `/runs/{run}` show, gathered from the view: filters, cursors, children, message and log.
 * What cannot be had leaves its part of a page out. Must not know HTTP beyond a query, nor what pages look like.
 */
import { stringify } from "yaml";
import { chainGraph } from "../catalog/chains.ts";
import type { Table } from "../catalog.ts";
import type { RunRecord, RunView } from "../ports.ts";
import { isRoot, isRunName, lineageOfRecord } from "../run_spec.ts";
import { compact } from "../util/compact.ts";
import { errorMessage } from "../util/errors.ts";
import { finishInSlices } from "../util/slices.ts";
import type { Page } from "./answers.ts";
import { attemptsOf } from "./attempts.ts";
import { drawGraphSteps, type GraphPicture, MAX_DRAWN_ROWS } from "./graph.tsx";
import type { ItemState } from "../flows.ts";
import type { EndedRun, RunSearch } from "../history.ts";
import { groupPage, type ShownState } from "./pages/group.tsx";
import { allWaits, type RunsOfRoot, type Wait, waitsOf } from "./joins.ts";
import { type LogTail, logTail } from "./log_stream.ts";
import { messageRunsPage } from "./pages/message_runs.tsx";
import { type GroupLine, type HealthView, overviewPage, type RunQuery } from "./pages/overview.tsx";
import { END_STATES, isLiveState, LIVE_STATES, type RunState } from "./pages/parts.tsx";
import { runPage, type RunPageInput } from "./pages/run.tsx";
import type { StatusView } from "./view.ts";

export interface ReadingOptions {
  readonly view: StatusView;
  readonly health: () => HealthView;
  /** Whether there is a token to act with. */
  readonly actions: boolean;
}

const RECORDS_A_PAGE = 50;
const MAX_CHILDREN = 100;
/** Runs of one message on its page; and of all, those that are looked through for what a row waits for. */
const MAX_OF_ROOT = 500;
const MAX_KNOWN = 2_000;
const MAX_PAYLOAD_SHOWN = 96 * 1024;
/** Longest wait for a store or cluster that a page asks. */
const LOOK_MS = 5_000;

/** Reads for the pages. What is under way ends when `closing` aborts. */
export class Reading {
  readonly #options: ReadingOptions;
  readonly #closing: AbortSignal;
  readonly #pictures = new WeakMap<Table, Promise<GraphPicture>>();

  constructor(options: ReadingOptions, closing: AbortSignal) {
    this.#options = options;
    this.#closing = closing;
  }

  /** The page `/` for a query. */
  async overview(params: URLSearchParams): Promise<Page> {
    const { view, health, actions } = this.#options;
    const query = readQuery(params);
    if (query.root !== undefined) return await this.#allOf(query.root);
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
  async group(name: string): Promise<Page | undefined> {
    const { view, actions } = this.#options;
    if (!isRunName(name)) return undefined;
    const group = await view.group?.(name, this.#lookSignal());
    if (!group) return undefined;
    const states = statesOf(group.items.map(({ state }) => state), liveItems(view.liveRuns()).get(name));
    return { data: { ...group, states }, html: () => groupPage({ now: new Date(), group, states, actions }) };
  }

  /** The page of all runs that one message has set off. */
  async #allOf(root: string): Promise<Page> {
    const known = await this.#runsOf(root);
    const { view } = this.#options;
    const waits = await waitsOf(known, view, this.#lookSignal());
    const shown = { ...known, waits, reach: view.history.reach() };
    return { data: shown, html: () => messageRunsPage({ now: new Date(), ...shown }) };
  }

  async #runsOf(root: string): Promise<RunsOfRoot> {
    const { view } = this.#options;
    const ended = await view.history.find({ root, limit: MAX_OF_ROOT }, this.#lookSignal()).catch(() => []);
    return { root, live: view.liveRuns().filter((run) => run.root === root), ended };
  }

  async #waits(): Promise<Wait[]> {
    const { view } = this.#options;
    if (view.waitingJoins().length === 0) return [];
    return allWaits(
      view,
      await view.history.find({ everyItem: true, limit: MAX_KNOWN }, this.#lookSignal()).catch(() => []),
    );
  }

  /** Rows that wait for the run, or for others beside it. */
  async #waitsFor({ live, record }: { live?: RunView; record?: RunRecord }): Promise<Wait[]> {
    const root = live?.root ?? (record && lineageOfRecord(record).root);
    if (root === undefined) return [];
    const { ended, ...known } = await this.#runsOf(root);
    const own = record && !ended.some(({ run_name }) => run_name === record.run_name) ? [record] : [];
    return await waitsOf({ ...known, ended: [...ended, ...own] }, this.#options.view, this.#lookSignal());
  }

  /** The page of a run; undefined: there is none of that name. */
  async run(runName: string): Promise<Page | undefined> {
    const found = await this.find(runName);
    if (!found) return undefined;
    const { actions } = this.#options;
    const { live, record } = found;
    const [startedRuns, attempts, waits, log, job] = await Promise.all([
      this.#startedRuns(runName),
      attemptsOf(this.#options.view, found, this.#lookSignal()),
      this.#waitsFor(found),
      this.#log(runName),
      record ? jobOfRecord(record) : this.#liveJob(runName),
    ]);
    const shown = { ...compact({ live, record, log }), ...job, runName, startedRuns, attempts, waits };
    return { data: shown, html: () => runPage({ ...shown, now: new Date(), actions }) };
  }

  /** A run that lives or has ended; undefined: there is none, or the name cannot be one. */
  async find(runName: string): Promise<{ live?: RunView; record?: RunRecord } | undefined> {
    if (!isRunName(runName)) return undefined;
    const { view } = this.#options;
    const live = view.liveRun(runName);
    if (live) return { live };
    const record = await view.record(runName, this.#lookSignal());
    return record && { record };
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

  async #startedRuns(runName: string): Promise<{ runName: string; state: RunState }[]> {
    const { view } = this.#options;
    const live = view.liveRuns().filter((run) => run.parentRun === runName);
    const filter = { parentRun: runName, limit: MAX_CHILDREN };
    const ended = await view.history.find(filter, this.#lookSignal()).catch(() => []);
    const states = new Map<string, RunState>(live.slice(0, MAX_CHILDREN).map((run) => [run.runName, run.state]));
    // Of those that were tried again the last one counts.
    for (const record of ended) if (record.retried_as === undefined) states.set(record.run_name, record.status);
    return [...states].map(([runName, state]) => ({ runName, state }));
  }

  async #liveJob(runName: string): Promise<JobParts> {
    try {
      const job = await this.#options.view.job(runName, this.#lookSignal());
      if (!job) return {};
      const manifest = job.manifest && asYaml(job.manifest());
      if (job.payloadObject !== undefined) {
        return compact({ manifest, payloadNote: `Its payload is large; it is at ${job.payloadObject}` });
      }
      return { ...compact({ manifest }), ...(job.payload ? textOf(job.payload) : {}) };
    } catch (error) {
      return { payloadNote: `Its payload cannot be read now: ${errorMessage(error)}` };
    }
  }

  async #log(runName: string): Promise<LogTail | undefined> {
    try {
      return await logTail(this.#options.view, runName, this.#lookSignal());
    } catch (error) {
      return { text: `The log cannot be read now: ${errorMessage(error)}`, extent: "whole" };
    }
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

/** One that has a run which is not known here has just begun, or is just ending. */
function statesOf(states: readonly ItemState[], live: ReadonlyMap<number, RunView> | undefined): ShownState[] {
  return states.map((state, index) => state === "begun" ? live?.get(index)?.state ?? "pending" : state);
}

/** What a page shows of a Job and its message; what there is not is left out. */
type JobParts = Pick<RunPageInput, "manifest" | "payload" | "payloadNote">;

function jobOfRecord({ job, payload, payload_object }: RunRecord): JobParts {
  const manifest = job && asYaml(job);
  if (payload !== null) return compact({ manifest, payload });
  const payloadNote = payload_object === undefined
    ? "Its payload is not text."
    : `Its payload is large; it is at ${payload_object}`;
  return compact({ manifest, payloadNote });
}

function asYaml(job: Readonly<Record<string, unknown>>): string {
  return stringify(job, { lineWidth: 0, aliasDuplicateObjects: false });
}

function textOf(payload: Uint8Array): JobParts {
  if (payload.length > MAX_PAYLOAD_SHOWN) return { payloadNote: `Its payload has ${payload.length} bytes.` };
  try {
    return { payload: new TextDecoder("utf-8", { fatal: true }).decode(payload) };
  } catch {
    return { payloadNote: "Its payload is not text." };
  }
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
