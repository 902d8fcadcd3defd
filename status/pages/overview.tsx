/**
 * The page `/`: how the service is, live runs, ended ones, the table with its drawing. A pure function of its input.
 */
import type { Child } from "hono/jsx";
import type { RunView } from "../../ports.ts";
import type { Table } from "../../catalog.ts";
import type { GraphPicture } from "../graph.tsx";
import type { EndedRun, Reach } from "../../history.ts";
import {
  ageWords,
  durationWords,
  END_STATES,
  frame,
  Heads,
  isLiveState,
  LIVE_STATES,
  MAX_SHOWN,
  resourceWords,
  rootHref,
  RunLink,
  type RunState,
  ScrollTable,
  short,
  StateWord,
  Time,
} from "./parts.tsx";
import type { Wait } from "../joins.ts";
import { GroupLink, type ShownState, Strip } from "./group.tsx";
import { BatchSection } from "./batches.tsx";
import { RunSection } from "./run_forms.tsx";
import { RowNames, TableSection } from "./table.tsx";

/** How the service is, as `/healthz` says it. */
export interface HealthView {
  readonly ok: boolean;
  readonly ready: boolean;
  /** What was looked at, and what was seen in words. */
  readonly checks: Readonly<Record<string, string>>;
}

/** What a reader asked to see, as it stands in the query. */
export interface RunQuery {
  readonly row?: string;
  readonly state?: RunState;
  /** Of the end of a run. */
  readonly since?: Date;
  readonly until?: Date;
  /** All that one message has set off: a page of its own. */
  readonly root?: string;
}

/** A group that has not ended, as one line. */
export interface GroupLine {
  readonly group: string;
  readonly jobName: string;
  readonly topic: string;
  readonly receivedAt: Date;
  readonly states: readonly ShownState[];
}

export interface OverviewInput {
  readonly now: Date;
  readonly health: HealthView;
  readonly table: Table | undefined;
  /** Why the table in force is not what the store has. */
  readonly tableFailure?: string;
  /** When rows with a schedule are due next, by their names. */
  readonly nextDue?: ReadonlyMap<string, Date>;
  readonly graph: GraphPicture | undefined;
  /** Those of `groups` are not among them. */
  readonly live: readonly RunView[];
  readonly groups?: readonly GroupLine[];
  /** How the items stand of groups that a record stands for, by their names. */
  readonly endedGroups?: ReadonlyMap<string, readonly ShownState[]>;
  readonly records: readonly EndedRun[];
  /** How far back `records` looks. */
  readonly reach: Reach;
  /** Why the history cannot be shown; a sentence. */
  readonly recordsFailure?: string;
  /** Link to the records before these. */
  readonly olderHref?: string;
  /** Rows that wait for rows that they need. */
  readonly waits: readonly Wait[];
  readonly query: RunQuery;
  /** Whether a token is set, so that there is something to act with. */
  readonly actions: boolean;
}

/** The page as HTML text. */
export function overviewPage(input: OverviewInput): string {
  const { table, query } = input;
  // A time is that of an end, which a live run has not had.
  const wantsLive = query.state === undefined ? !query.since && !query.until : isLiveState(query.state);
  const wantsEnded = query.state === undefined || !isLiveState(query.state);
  return frame({
    title: "MQTT Job Listener",
    heading: "MQTT Job Listener",
    children: (
      <>
        <HealthSection {...input} />
        <FindSection query={query} reach={input.reach} />
        {wantsLive && <LiveSection live={input.live} groups={input.groups ?? []} now={input.now} />}
        {wantsLive && query.row === undefined && <WaitSection waits={input.waits} />}
        {wantsEnded && <HistorySection {...input} />}
        {input.nextDue && input.nextDue.size > 0 && <NextSection nextDue={input.nextDue} />}
        <TableSection table={table} graph={input.graph} nextDue={input.nextDue} />
        {input.actions && table && <RunSection table={table} />}
        {input.actions && table && <BatchSection table={table} />}
        {table && <RowNames rows={table.rows} />}
      </>
    ),
  });
}

function HealthSection({ health, tableFailure }: OverviewInput) {
  const [tone, word] = !health.ok ? ["bad", "in trouble"] : health.ready ? ["good", "working"] : ["warn", "not ready"];
  return (
    <section id="health" data-live aria-labelledby="health-h">
      <h2 id="health-h">
        Service: <span class={tone}>{word}</span>
      </h2>
      {tableFailure !== undefined && <p class="bad">{short(tableFailure, 2_000)}</p>}
      <dl>
        {Object.entries(health.checks).map(([name, words]) => (
          <>
            <dt>{short(name)}</dt>
            <dd>{short(words)}</dd>
          </>
        ))}
      </dl>
    </section>
  );
}

function FindSection({ query, reach }: { query: RunQuery; reach: Reach }) {
  const time = (name: "since" | "until", label: string) => (
    <div>
      <label for={`find-${name}`}>{label}</label>
      <input
        id={`find-${name}`}
        name={name}
        type="datetime-local"
        value={query[name]?.toISOString().slice(0, 16) ?? ""}
      />
    </div>
  );
  return (
    <section aria-labelledby="find-h">
      <h2 id="find-h">Find runs</h2>
      <form method="get" action="/" role="search" aria-labelledby="find-h">
        <div>
          <label for="find-row">Row</label>
          <input id="find-row" name="row" list="row-names" value={short(query.row)} />
        </div>
        <div>
          <label for="find-state">State</label>
          <select id="find-state" name="state">
            <option value="">any</option>
            {[...LIVE_STATES, ...END_STATES].map((state) => (
              <option value={state} selected={query.state === state}>{state}</option>
            ))}
          </select>
        </div>
        {time("since", "Ended since (UTC)")}
        {time("until", "Ended before (UTC)")}
        <div>
          <button type="submit">Show</button> <a href="/">Show all</a>
        </div>
      </form>
      <p id="reach" data-live class="muted">{reachWords(reach)}</p>
    </section>
  );
}

function reachWords({ runs, kind, oldest }: Reach): Child {
  const count = `${runs} ${runs === 1 ? "run" : "runs"}`;
  const back = oldest !== undefined && (
    <>
      , back to <Time at={oldest} />
    </>
  );
  switch (kind) {
    case "all":
      return `Looks at all ${count} that ended.`;
    case "newest":
      return <>Looks at the newest {count} that ended{back}; the records of older ones are in the store.</>;
    case "partly":
      return <>Looks at {count} that ended{back}; the store is not read to its end yet.</>;
  }
}

function LiveSection(
  { live, groups, now }: { live: readonly RunView[]; groups: readonly GroupLine[]; now: Date },
) {
  const shownGroups = groups.slice(0, MAX_SHOWN);
  const shown = live.slice(0, MAX_SHOWN - shownGroups.length);
  const rest = live.length - shown.length + groups.length - shownGroups.length;
  return (
    <section id="live" data-live aria-labelledby="live-h">
      <h2 id="live-h">Live runs</h2>
      {live.length + groups.length === 0 ? <p class="muted">Nothing runs now.</p> : (
        <ScrollTable label="Live runs">
          <table>
            <caption>
              {live.length} {live.length === 1 ? "run" : "runs"}
              {groups.length > 0 && ` and ${groups.length} ${groups.length === 1 ? "group" : "groups"} of items`}
              {rest > 0 && `, ${rest} of them not shown; name a row above`}
            </caption>
            <Heads names={["Run", "Row", "State", "Age", "Message", "Node", "Requests and limits"]} />
            <tbody>
              {shownGroups.map((group) => <GroupRow group={group} now={now} />)}
              {shown.map((run) => <LiveRow run={run} now={now} />)}
            </tbody>
          </table>
        </ScrollTable>
      )}
    </section>
  );
}

function GroupRow({ group: { group, jobName, topic, receivedAt, states }, now }: { group: GroupLine; now: Date }) {
  return (
    <tr>
      <th scope="row">
        <GroupLink group={group} />
      </th>
      <td>{short(jobName)}</td>
      <td>
        <Strip states={states} />
      </td>
      <td>{ageWords(now.getTime() - receivedAt.getTime())}</td>
      <td>
        <code>{short(topic)}</code>
      </td>
      <td>–</td>
      <td>–</td>
    </tr>
  );
}

function LiveRow({ run, now }: { run: RunView; now: Date }) {
  return (
    <tr>
      <th scope="row">
        <RunLink runName={run.runName} />
      </th>
      <td>{short(run.jobName)}</td>
      <td>
        <StateWord state={run.state} />
        {run.detail !== "" && (
          <>
            <br />
            {short(run.detail)}
          </>
        )}
      </td>
      <td>{ageWords(now.getTime() - run.receivedAt.getTime())}</td>
      <td>
        <code>{short(run.topic)}</code>
        {run.parentRun !== undefined && (
          <>
            <br />after <RunLink runName={run.parentRun} />
          </>
        )}
      </td>
      <td>{short(run.nodes.join(", ")) || "–"}</td>
      <td>{resourceWords(run)}</td>
    </tr>
  );
}

/** Rows of the list of what is due next. */
const MAX_NEXT = 10;

function NextSection({ nextDue }: { nextDue: ReadonlyMap<string, Date> }) {
  const soonest = [...nextDue].sort(([, a], [, b]) => a.getTime() - b.getTime()).slice(0, MAX_NEXT);
  return (
    <section id="next" data-live aria-labelledby="next-h">
      <h2 id="next-h">Next by schedule</h2>
      <ScrollTable label="Rows that are due next">
        <table>
          {nextDue.size > MAX_NEXT && <caption>{nextDue.size - MAX_NEXT} more rows are due later</caption>}
          <Heads names={["Row", "Due (UTC)"]} />
          <tbody>
            {soonest.map(([jobName, due]) => (
              <tr>
                <th scope="row">{short(jobName)}</th>
                <td>
                  <Time at={due} />
                </td>
              </tr>
            ))}
          </tbody>
        </table>
      </ScrollTable>
    </section>
  );
}

/** Left out where nothing waits: most tables have no rows that need others. */
function WaitSection({ waits }: { waits: readonly Wait[] }) {
  return (
    <section id="waits" data-live aria-labelledby="waits-h" hidden={waits.length === 0}>
      <h2 id="waits-h">Rows that wait for others</h2>
      <ul>
        {waits.map(({ root, jobName, words }) => (
          <li>
            {short(jobName)} {short(words)} (<a href={rootHref(root)}>all of this message</a>)
          </li>
        ))}
      </ul>
    </section>
  );
}

function HistorySection({ records, endedGroups, recordsFailure, olderHref }: OverviewInput) {
  return (
    <section id="history" data-live aria-labelledby="history-h">
      <h2 id="history-h">History</h2>
      {recordsFailure !== undefined && <p class="bad">{short(recordsFailure, 2_000)}</p>}
      {records.length === 0 ? <p class="muted">No run that ended fits.</p> : (
        <ScrollTable label="Runs that ended">
          <table>
            <Heads names={["Run", "Row", "State", "Why", "Ended", "Took", "Node"]} />
            <tbody>
              {records.map((record) => (
                <EndedRow record={record} states={record.group && endedGroups?.get(record.group) || undefined} />
              ))}
            </tbody>
          </table>
        </ScrollTable>
      )}
      {olderHref !== undefined && (
        <p>
          <a href={olderHref}>Older runs</a>
        </p>
      )}
    </section>
  );
}

/** `states`: of the group that the record stands for. */
function EndedRow({ record, states }: { record: EndedRun; states: readonly ShownState[] | undefined }) {
  if (record.group !== undefined && states) {
    return <EndedGroupRow record={record} states={states} group={record.group} />;
  }
  return (
    <tr>
      <th scope="row">
        <RunLink runName={record.run_name} />
      </th>
      <td>{short(record.job_name)}</td>
      <td>
        <StateWord state={record.status} />
        {record.retried_as !== undefined && (
          <>
            <br />tried again as <RunLink runName={record.retried_as} />
          </>
        )}
      </td>
      <td>{short(record.message)}</td>
      <td>
        <Time at={record.finished_at} />
      </td>
      <td>{durationWords(record)}</td>
      <td>{record.node === null ? "–" : short(record.node)}</td>
    </tr>
  );
}

function EndedGroupRow(
  { record, states, group }: { record: EndedRun; states: readonly ShownState[]; group: string },
) {
  return (
    <tr>
      <th scope="row">
        <GroupLink group={group} />
      </th>
      <td>{short(record.job_name)}</td>
      <td colspan={2}>
        <Strip states={states} />
      </td>
      <td>
        <Time at={record.finished_at} />
      </td>
      <td>–</td>
      <td>–</td>
    </tr>
  );
}
