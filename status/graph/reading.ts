/**
 * What the page `/graph` shows, gathered from the view: the table or a part of it, laid out once, and how its rows stand
 * now or for one message. Must not know HTTP beyond a query, nor what the page looks like.
 */
import { chainGraph, type ChainSource } from "../../catalog/chains.ts";
import type { Table } from "../../catalog.ts";
import { rowNamed } from "../../catalog.ts";
import { isRoot } from "../../run_spec.ts";
import { compact } from "../../util/compact.ts";
import { finishInSlices } from "../../util/slices.ts";
import { cut } from "../../util/text.ts";
import type { Page } from "../answers.ts";
import { type GraphLayout, layoutSteps, LIFE_LINES, MAX_DRAWN_ROWS, type RowLife } from "../graph.tsx";
import { type RunsOfRoot, type Wait, waitsOf } from "../joins.ts";
import { historyFailure, lookSignal, MAX_OF_ROOT } from "../look.ts";
import { ENDS_SHOWN } from "../pages/ends.tsx";
import { graphPage, type GraphQuery } from "../pages/graph.tsx";
import type { StatusView } from "../view.ts";
import { lifeOfRoot, lifeOfRow, type RowState, rowStates } from "./life.ts";
import { partThatHolds, type TablePart, withNeighbours } from "./neighbours.ts";

/** Layouts of parts of one table that are kept. */
const MOST_LAYOUTS = 30;
const MAX_FIND = 500;

/** Zoom in percent. */
const [LEAST_ZOOM, MOST_ZOOM] = [25, 400];

/** Reads for the page `/graph`. What is under way ends when `closing` aborts. */
export class GraphReading {
  readonly #view: StatusView;
  readonly #closing: AbortSignal;
  readonly #layouts = new WeakMap<Table, Map<string, Promise<GraphLayout>>>();

  constructor(view: StatusView, closing: AbortSignal) {
    this.#view = view;
    this.#closing = closing;
  }

  async page(params: URLSearchParams): Promise<Page> {
    const view = this.#view;
    const query = readGraphQuery(params);
    const table = view.table();
    const now = new Date();
    if (!table) {
      const failure = view.tableFailure() ?? "There is no usable table yet";
      return { data: { ...query, failure }, html: () => graphPage({ query, failure, tableRows: [] }) };
    }
    const signal = lookSignal(this.#closing);
    const followed = query.root === undefined ? undefined : await this.#runsOf(query.root, signal);
    const part = await this.#partOf(table, query, followed);
    const layout = await this.#layout(table, part);
    // A row without a name has no runs and no page.
    const names = layout.nodes.filter(({ kind, label, line }) => kind === "row" && label !== `line ${line}`)
      .map(({ label }) => label);
    const { life, states, failure } = followed
      ? {
        life: lifeOfRoot(names, followed, { waits: followed.waits, now }),
        states: undefined,
        failure: followed.failure,
      }
      : await this.#lifeOfAll(names, now, signal);
    const elsewhere = followed ? rowsElsewhere(followed, names) : [];
    const omitted = layout.omitted + (part?.omitted ?? 0);
    const { nodes, edges } = layout;
    return {
      data: {
        ...query,
        ...compact({ failure }),
        nodes: nodes.map(({ id, kind, label, line, marks, notes }) => ({
          ...compact({ id, kind, label, line, marks, notes }),
          ...(kind === "row" ? { state: stateOf(label, life, states) } : {}),
        })),
        edges: edges.map(({ from, to, kind }) => ({ from, to, kind })),
        omitted,
        ...(followed ? { elsewhere } : {}),
      },
      html: () =>
        graphPage({ query, layout, life, omitted, elsewhere, tableRows: table.rows, ...compact({ failure }) }),
    };
  }

  async #partOf(table: Table, { find }: GraphQuery, followed: RunsOfRoot | undefined): Promise<TablePart | undefined> {
    const options = { signal: this.#closing };
    if (followed) {
      const ran = [...followed.live.map(({ jobName }) => jobName), ...followed.ended.map(({ job_name }) => job_name)];
      const rows = [...new Set(ran)].flatMap((name) => rowNamed(table.rows, name) ?? []);
      const seeds = withNeighbours(table, rows.slice(0, MAX_DRAWN_ROWS), { up: false, most: MAX_DRAWN_ROWS });
      return { rows: await finishInSlices(seeds, options), badRows: [], omitted: 0 };
    }
    return find === undefined ? undefined : await finishInSlices(partThatHolds(table, find, MAX_DRAWN_ROWS), options);
  }

  /** Made once a table and part, in slices: messages must not wait for it. */
  #layout(table: Table, part: TablePart | undefined): Promise<GraphLayout> {
    let known = this.#layouts.get(table);
    if (!known) this.#layouts.set(table, known = new Map());
    const key = part ? [...part.rows, ...part.badRows].map(({ line }) => line).join() : "all";
    let layout = known.get(key);
    if (!layout) {
      const source: ChainSource = part ? { ...table, rows: part.rows, badRows: part.badRows } : table;
      const graph = chainGraph(source, { maxRows: MAX_DRAWN_ROWS });
      const options = { topicPrefix: table.topicPrefix, lifeLines: LIFE_LINES };
      layout = finishInSlices(layoutSteps(graph, options), { signal: this.#closing });
      const [oldest] = known.size >= MOST_LAYOUTS ? known.keys() : [];
      if (oldest !== undefined) known.delete(oldest);
      known.set(key, layout);
    }
    return layout;
  }

  async #lifeOfAll(
    names: readonly string[],
    now: Date,
    signal: AbortSignal,
  ): Promise<{ life: Map<string, RowLife>; states: ReadonlyMap<string, RowState>; failure?: string }> {
    const view = this.#view;
    let failure: string | undefined;
    const ends = await view.history.lastEnds(ENDS_SHOWN, signal).catch((error) => {
      failure = historyFailure(error);
      return new Map();
    });
    const isWhole = failure === undefined && view.history.reach().kind === "all";
    const states = rowStates(names, view.liveRuns(), ends);
    return {
      life: new Map(states.map((state) => [state.job_name, lifeOfRow(state, { now, isWhole })])),
      states: new Map(states.map((state) => [state.job_name, state])),
      ...compact({ failure }),
    };
  }

  async #runsOf(root: string, signal: AbortSignal): Promise<RunsOfRoot & { waits: Wait[]; failure?: string }> {
    const view = this.#view;
    let failure: string | undefined;
    const ended = await view.history.find({ root, everyItem: true, limit: MAX_OF_ROOT }, signal).catch((error) => {
      failure = historyFailure(error);
      return [];
    });
    const known = { root, live: view.liveRuns().filter((run) => run.root === root), ended };
    return { ...known, waits: await waitsOf(known, view, signal), ...compact({ failure }) };
  }
}

/** Rows that have runs and are not drawn, for the table has them no more or they are too many. */
function rowsElsewhere({ live, ended }: RunsOfRoot, drawn: readonly string[]): string[] {
  const names = new Set([...live.map(({ jobName }) => jobName), ...ended.map(({ job_name }) => job_name)]);
  for (const name of drawn) names.delete(name);
  return [...names];
}

function stateOf(name: string, life: ReadonlyMap<string, RowLife>, states: ReadonlyMap<string, RowState> | undefined) {
  const known = life.get(name);
  const { running, waiting, last } = states?.get(name) ?? {};
  return { ...compact({ words: known?.words, running, waiting, last }), ...(states ? {} : { runs: known?.strip }) };
}

/** What makes no sense counts as not given. */
function readGraphQuery(params: URLSearchParams): GraphQuery {
  const root = params.get("root") ?? "";
  const zoom = Number(params.get("zoom") ?? NaN);
  return compact({
    root: isRoot(root) ? root : undefined,
    find: cut(params.get("find")?.trim() ?? "", MAX_FIND) || undefined,
    as: params.get("as") === "list" ? "list" as const : undefined,
    zoom: zoom >= LEAST_ZOOM && zoom <= MOST_ZOOM ? Math.round(zoom) : undefined,
  });
}
