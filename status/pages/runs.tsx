/**
 * The page `/runs`: all runs, live and ended, with the form that looks for some of them. A pure function of its input.
 */
import type { Child } from "hono/jsx";
import type { EndedRun, Reach } from "../../history.ts";
import { RUN_REASONS } from "../../reasons.ts";
import { durationWords } from "../../util/duration.ts";
import { lineJob, type LiveLine } from "../live_lines.ts";
import { RUN_SORTS, type RunsQuery, WANTED_STATES } from "../runs_query.ts";
import { GroupLink, type ShownState, Strip } from "./group.tsx";
import { type Column, hrefWith, List, Pager } from "./lists.tsx";
import { PickBox, PickForm } from "./pick.tsx";
import { frame, Names, RowLink, RunLink, short, StateWord, Time, tookWords } from "./parts.tsx";

/** One line: a live run or an open group; or an ended run, which may stand for the items of its group. */
export type RunLine =
  | { readonly live: LiveLine }
  | { readonly record: EndedRun; readonly states?: readonly ShownState[] };

type Words = Readonly<Record<string, string>>;

export interface RunsInput {
  readonly now: Date;
  readonly query: RunsQuery;
  /** Words of the query that were not understood; sentences. */
  readonly faults: readonly string[];
  /** The query as it was asked, without its page. */
  readonly words: Words;
  readonly lines: readonly RunLine[];
  /** Changes of the query that lead to the pages before and after. */
  readonly previous?: Words;
  readonly next?: Words;
  /** It is not the first page, and the one before is not known. */
  readonly newest?: boolean;
  /** The order is that of so many of the newest that fit. */
  readonly sorted?: number;
  /** There is no such row; these may have been meant. */
  readonly suggestions?: readonly string[];
  /** Why the history cannot be shown; a sentence. */
  readonly pastFailure?: string;
  readonly reach: Reach;
  readonly rowNames: readonly string[];
  readonly owners: readonly string[];
}

/** Path of the list for a query. */
export function runsHref(words: Readonly<Record<string, string | undefined>>): string {
  return hrefWith("/runs", words, {});
}

/** The page as HTML text. */
export function runsPage(input: RunsInput): string {
  const { rowNames, owners } = input;
  return frame({
    title: "Runs – MQTT Job Listener",
    heading: "Runs",
    here: "runs",
    children: (
      <>
        <FindForm {...input} />
        <section id="runs" data-live aria-label="Runs that fit">
          <Filters {...input} />
          {input.pastFailure !== undefined && <p class="bad">{short(input.pastFailure, 2_000)}</p>}
          {input.lines.length > 0
            ? (
              <PickForm of="runs">
                <List caption="Runs that fit" columns={columnsOf(input)} rows={input.lines} />
              </PickForm>
            )
            : <Nothing {...input} />}
          <Ways {...input} />
          {input.lines.length > 0 && <p class="muted small">{reachWords(input.reach)}</p>}
        </section>
        <Names id="row-names" names={rowNames} />
        <Names id="owner-names" names={owners} />
        <Names id="reason-names" names={Object.keys(RUN_REASONS)} />
      </>
    ),
  });
}

const TIMES = [["", "any time"], ["1h", "last hour"], ["24h", "last 24 h"], ["7d", "last 7 days"], [
  "30d",
  "last 30 days",
]] as const;

const STATE_WORDS: Readonly<Partial<Record<(typeof WANTED_STATES)[number], string>>> = {
  live: "live (not ended)",
  ended: "ended (any)",
  pending: "waiting (pending)",
};

function FindForm({ query, words }: RunsInput) {
  const isNarrow = ["reason", "owner", "took", "root", "since", "until"].some((name) => words[name]);
  const field = (name: string, label: string, more: Readonly<Record<string, string>> = {}) => (
    <div>
      <label for={`find-${name}`}>{label}</label>
      <input id={`find-${name}`} name={name} value={short(words[name])} {...more} />
    </div>
  );
  const choice = (name: string, label: string, choices: readonly (readonly [string, string])[]) => (
    <div>
      <label for={`find-${name}`}>{label}</label>
      <select id={`find-${name}`} name={name}>
        {choices.map(([value, text]) => <option value={value} selected={(words[name] ?? "") === value}>{text}</option>)}
      </select>
    </div>
  );
  const times = words["time"] && !TIMES.some(([value]) => value === words["time"])
    ? [...TIMES, [words["time"], `last ${short(words["time"], 20)}`] as const]
    : TIMES;
  const time = (name: "since" | "until") => query[name]?.toISOString().slice(0, 16) ?? "";
  return (
    <form method="get" action="/runs" role="search" aria-label="Find runs" class="find">
      <div class="pair">
        {field("row", "Row", { list: "row-names", autocomplete: "off" })}
        {field("text", "Words", { type: "search", placeholder: "of message or payload" })}
      </div>
      <div class="pair">
        {choice("state", "State", [
          ["", "any"],
          ...WANTED_STATES.map((one) => [one, STATE_WORDS[one] ?? one] as const),
        ])}
        {choice("time", "Ended", times)}
        {choice("sort", "Order", RUN_SORTS.map(([name, text]) => [name === "newest" ? "" : name, text] as const))}
      </div>
      <details open={isNarrow}>
        <summary>More</summary>
        <div class="more">
          {field("reason", "Reason", { list: "reason-names", placeholder: "OOMKilled", autocomplete: "off" })}
          {field("owner", "Owner", { list: "owner-names", autocomplete: "off" })}
          {field("took", "Took at least", { placeholder: "10m, 2h" })}
          {field("root", "Root of its message", { placeholder: "12 characters" })}
          {field("since", "Ended since (UTC)", { type: "datetime-local", value: time("since") })}
          {field("until", "Ended before (UTC)", { type: "datetime-local", value: time("until") })}
        </div>
      </details>
      <div class="acts">
        <button type="submit" class="main">Find</button> <a class="button" href="/runs">Show all</a>
      </div>
    </form>
  );
}

const FILTER_NAMES: Readonly<Record<string, string>> = {
  row: "row",
  state: "state",
  reason: "reason",
  owner: "owner",
  root: "root",
  text: "words",
  time: "ended in the last",
  since: "ended since",
  until: "ended before",
  took: "took at least",
};

/** What is asked for, each with a way to take it out; and what of it was not understood. */
function Filters({ words, faults }: RunsInput) {
  const used = Object.entries(words).filter(([name]) => FILTER_NAMES[name] !== undefined);
  return (
    <>
      {faults.map((fault) => <p class="warn">{short(fault)}</p>)}
      {used.length > 0 && (
        <ul class="chips" aria-label="What is asked for">
          {used.map(([name, value]) => (
            <li>
              <a href={hrefWith("/runs", words, { [name]: undefined })} title="Take this out">
                {FILTER_NAMES[name]} {short(value, 60)} <span aria-hidden="true">✕</span>
              </a>
            </li>
          ))}
        </ul>
      )}
    </>
  );
}

/** Says what was looked at: what is not looked at may hold what was meant. */
function Nothing({ suggestions, query, words, reach, pastFailure }: RunsInput) {
  if (suggestions !== undefined) {
    return (
      <>
        <p>
          Neither the table nor the runs that are looked at have a row <q>{short(query.row, 100)}</q>.
        </p>
        {suggestions.length > 0 && (
          <>
            <p>Is one of these meant?</p>
            <ul class="chips">
              {suggestions.map((name) => (
                <li>
                  <a href={hrefWith("/runs", words, { row: name })}>{short(name, 100)}</a>
                </li>
              ))}
            </ul>
          </>
        )}
        {reach.kind !== "all" && <p class="muted">{reachWords(reach)}</p>}
      </>
    );
  }
  if (pastFailure !== undefined) return <p class="muted">No live run fits.</p>;
  return reach.kind === "all"
    ? <p class="muted">No run fits. {reachWords(reach)}</p>
    : <p>None of the runs that are looked at fits; there may be others. {reachWords(reach)}</p>;
}

/** How far back the lists look, in sentences. */
export function reachWords({ runs, kind, oldest }: Reach): Child {
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

function Ways({ words, previous, next, newest, sorted, lines }: RunsInput) {
  if (!previous && !next && !newest && sorted === undefined) return null;
  const href = (changes: Words) => hrefWith("/runs", words, changes);
  return (
    <Pager
      of="runs"
      words={`${lines.length} shown${sorted === undefined ? "" : `, in the order of the newest ${sorted} that fit`}`}
      first={newest ? href({}) : undefined}
      previous={previous && href(previous)}
      next={next && href(next)}
    />
  );
}

function columnsOf({ now }: RunsInput): Column<RunLine>[] {
  return [
    {
      head: "Run",
      cell: (line) => (
        <>
          <PickBox runName={lineName(line)} />
          <NameOf line={line} />
        </>
      ),
    },
    { head: "Row", onPhone: "none", cell: (line) => <RowLink jobName={jobOf(line)} /> },
    { head: "State", onPhone: "inline", cell: (line) => <StateOf line={line} /> },
    { head: "Took", isNumber: true, onPhone: "inline", cell: (line) => lineTook(line, now) },
    {
      head: "Ended",
      onPhone: "inline",
      cell: (line) => "record" in line ? <Time at={line.record.finished_at} /> : undefined,
    },
    { head: "Why", onPhone: "plain", cell: whyOf },
    { head: "Node", onPhone: "none", cell: nodeOf },
  ];
}

/** Of the run, or of the group that the line stands for. */
function lineName(line: RunLine): string {
  if ("record" in line) return line.states ? line.record.group ?? line.record.run_name : line.record.run_name;
  return "group" in line.live ? line.live.group.group : line.live.run.runName;
}

/** Its row. */
export function jobOf(line: RunLine): string {
  return "record" in line ? line.record.job_name : lineJob(line.live);
}

function NameOf({ line }: { line: RunLine }) {
  if ("record" in line) {
    const { record, states } = line;
    return record.group !== undefined && states
      ? <GroupLink group={record.group} />
      : <RunLink runName={record.run_name} />;
  }
  return "group" in line.live
    ? <GroupLink group={line.live.group.group} />
    : <RunLink runName={line.live.run.runName} />;
}

function StateOf({ line }: { line: RunLine }) {
  if ("live" in line) {
    if ("group" in line.live) return <Strip states={line.live.group.states} />;
    const { state, requestedBy } = line.live.run;
    return (
      <>
        <StateWord state={state} />
        <By name={requestedBy} />
      </>
    );
  }
  const { record: { status, retried_as, rerun_of, requested_by }, states } = line;
  if (states) return <Strip states={states} />;
  return (
    <>
      {retried_as === undefined ? <StateWord state={status} /> : <span class="tag again">tried again</span>}
      {rerun_of !== undefined && <span class="muted small">&nbsp;a rerun</span>}
      <By name={requested_by} />
    </>
  );
}

/** Who asked for it by hand. */
function By({ name }: { name: string | undefined }) {
  if (name === undefined) return null;
  return <span class="name muted small" title={short(name)}>&nbsp;by {short(name, 60)}</span>;
}

/** Why it ended so, or what it waits for; nothing where that is plain. */
function whyOf(line: RunLine): Child {
  const words = "record" in line
    ? line.record.status === "succeeded" && line.record.message === "Completed" ? "" : line.record.message
    : "group" in line.live
    ? line.live.group.topic
    : line.live.run.detail;
  return words === "" ? undefined : <span class="cut" title={short(words, 600)}>{short(words, 200)}</span>;
}

function lineTook(line: RunLine, now: Date): string {
  if ("record" in line) return line.states ? "–" : tookWords(line.record);
  if ("group" in line.live) return durationWords(now.getTime() - line.live.group.receivedAt.getTime());
  const { startedAt, receivedAt, state } = line.live.run;
  const since = state === "pending" ? receivedAt : startedAt ?? receivedAt;
  return `${state === "pending" ? "waits " : ""}${durationWords(now.getTime() - since.getTime())}`;
}

function nodeOf(line: RunLine): Child {
  const words = "record" in line
    ? line.states ? "" : line.record.node ?? ""
    : "group" in line.live
    ? ""
    : line.live.run.nodes.join(", ");
  return words === "" ? undefined : <span class="name" title={short(words)}>{short(words, 200)}</span>;
}
