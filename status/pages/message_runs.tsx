/**
 * The page `/?root=`: all runs that one message from outside has set off, live and ended, as bars over time and as a list
 * that can be sorted, and rows that wait for some of them. A pure function of its input.
 */
import { type Reach, tookMs } from "../../history.ts";
import type { FamilyLine, FamilyRun } from "../family.ts";
import type { Wait } from "../joins.ts";
import { preciseWords } from "../timeline.ts";
import { Gantt } from "./gantt.tsx";
import { type Column, hrefWith, List, pageOf, PagesOf } from "./lists.tsx";
import { frame, isLiveState, RowLink, RunLink, short, StateWord, Time } from "./parts.tsx";

/** How the list is shown. */
export interface RunOrder {
  readonly sort: SortKey;
  readonly isDown: boolean;
  readonly state?: string;
  readonly page: number;
}

export interface MessageRunsInput {
  readonly now: Date;
  readonly root: string;
  /** In the order of the list. */
  readonly runs: readonly FamilyRun[];
  readonly family: { readonly lines: readonly FamilyLine[]; readonly left: number };
  /** There may be more of them than were looked at. */
  readonly isCut?: boolean;
  readonly waits: readonly Wait[];
  readonly reach: Reach;
  readonly query: RunOrder;
}

const RUNS_A_PAGE = 25;
const SORTS = ["began", "run", "row", "state", "took", "ended"] as const;
type SortKey = (typeof SORTS)[number];

/** What makes no sense counts as not given. */
export function readRunOrder(params: URLSearchParams): RunOrder {
  const [key, direction] = (params.get("sort") ?? "").split(" ");
  const sort = SORTS.find((one) => one === key) ?? "began";
  const state = params.get("state");
  return {
    sort,
    isDown: direction === "down",
    ...(state !== null && /^[a-z]{1,20}$/.test(state) ? { state } : {}),
    page: Number(params.get("page")) || 1,
  };
}

/** Those of the state that is asked for, in the order that is asked for. */
export function sortRuns(runs: readonly FamilyRun[], { sort, isDown, state }: RunOrder): FamilyRun[] {
  const keyOf = (run: FamilyRun): string | number =>
    sort === "run"
      ? run.run_name
      : sort === "row"
      ? run.job_name
      : sort === "state"
      ? run.state
      : sort === "took"
      ? familyMs(run) ?? -1
      : sort === "ended"
      ? run.finished_at ?? "~"
      : run.started_at ?? run.received_at;
  const sign = isDown ? -1 : 1;
  return runs.filter((run) => state === undefined || run.state === state)
    .map((run) => [keyOf(run), run] as const)
    .sort(([a], [b]) => a < b ? -sign : a > b ? sign : 0)
    .map(([, run]) => run);
}

function familyMs({ started_at, finished_at }: FamilyRun): number | undefined {
  return finished_at === undefined ? undefined : tookMs({ started_at, finished_at });
}

/** The page as HTML text. */
export function messageRunsPage({ now, root, runs, family, isCut, waits, reach, query }: MessageRunsInput): string {
  const count = runs.length;
  const states = [...Map.groupBy(runs, ({ state }) => state)].map(([state, some]) => `${some.length} ${state}`);
  const words = `${count} ${count === 1 ? "run" : "runs"}`;
  return frame({
    title: "All runs of one message",
    heading: "All runs of one message",
    here: "runs",
    beside: <a class="small" href={`/graph?root=${encodeURIComponent(root)}`}>on the graph</a>,
    children: (
      <>
        <section id="gantt" data-live aria-labelledby="gantt-h">
          <h2 id="gantt-h">Over time</h2>
          <WaitList waits={waits} />
          {family.lines.length === 0
            ? <p class="muted">No run of this message is known.</p>
            : <Gantt {...family} now={now} />}
        </section>
        <section id="all" data-live aria-labelledby="all-h">
          <h2 id="all-h">{words}</h2>
          <p>
            {states.join(", ")}
            {query.state !== undefined && (
              <>
                {" "}
                (only {query.state}: <a href={rootQuery(root, query, { state: undefined })} data-in-place>show all</a>)
              </>
            )}
          </p>
          <p class="small muted">
            Root <span class="mono">{short(root)}</span>.
            {isCut && " More runs of it ended than are looked at here."}
            {reach.kind !== "all" && ` Of runs that ended, the newest ${reach.runs} of all messages are looked at.`}
          </p>
          {count > 0 && <RunsList root={root} runs={runs} query={query} now={now} />}
        </section>
      </>
    ),
  });
}

function rootQuery(root: string, query: RunOrder, changes: Readonly<Record<string, string | undefined>>): string {
  const sort = query.sort === "began" && !query.isDown ? undefined : `${query.sort}${query.isDown ? " down" : ""}`;
  return hrefWith("/", { root, sort, state: query.state }, changes);
}

function RunsList(
  { root, runs, query, now }: {
    root: string;
    runs: readonly FamilyRun[];
    query: RunOrder;
    now: Date;
  },
) {
  const list = pageOf(runs, query.page, RUNS_A_PAGE);
  const sorted = (key: SortKey): Pick<Column<FamilyRun>, "sortHref" | "sorted"> => {
    const isThis = query.sort === key;
    const next = isThis && !query.isDown ? `${key} down` : key;
    return {
      sortHref: rootQuery(root, query, { sort: next }),
      ...(isThis ? { sorted: query.isDown ? "descending" : "ascending" } as const : {}),
    };
  };
  const columns: Column<FamilyRun>[] = [
    { head: "Run", cell: ({ run_name }) => <RunLink runName={run_name} />, ...sorted("run") },
    { head: "Row", cell: ({ job_name }) => <RowLink jobName={job_name} />, ...sorted("row") },
    {
      head: "State",
      cell: ({ state }) => (
        <a class="plain-link" href={rootQuery(root, query, { state })} data-in-place>
          <StateWord state={state} />
        </a>
      ),
      ...sorted("state"),
    },
    { head: "Why", cell: (run) => whyWords(run) },
    { head: "After", cell: ({ parent_run }) => parent_run === null ? "–" : <RunLink runName={parent_run} /> },
    { head: "Ended", cell: ({ finished_at }) => <Time at={finished_at} />, ...sorted("ended") },
    { head: "Took", cell: (run) => familyTook(run, now), isNumber: true, ...sorted("took") },
  ];
  return (
    <>
      <List caption="Runs of the message" columns={columns} rows={list.rows} />
      <PagesOf of="runs" list={list} path={(page) => rootQuery(root, query, { page: `${page}` })} />
    </>
  );
}

/** Why it ended so or waits; of one that succeeded only what is odd. */
export function whyWords({ message, reason, state }: FamilyRun): string {
  const isPlain = state === "succeeded" && reason === "Completed" && !/, but |;|\. /.test(message);
  return isPlain || message === "" ? "–" : short(message, 300);
}

/** How long it took, or takes so far. */
export function familyTook(run: FamilyRun, now: Date): string {
  if (isLiveState(run.state)) {
    return run.started_at === null ? "waits" : `${preciseWords(now.getTime() - Date.parse(run.started_at))} so far`;
  }
  const ms = familyMs(run);
  return ms === undefined ? "never started" : preciseWords(ms);
}

/** Rows that wait, a sentence each with the runs that it names. */
export function WaitList({ waits }: { waits: readonly Wait[] }) {
  return (
    <>
      {waits.map(({ jobName, words, runNames }) => (
        <p class="warn">
          {short(jobName)} {short(words)}
          {runNames.length > 0 && ": "}
          {runNames.map((runName, at) => (
            <>
              {at > 0 && ", "}
              <RunLink runName={runName} />
            </>
          ))}
        </p>
      ))}
    </>
  );
}
