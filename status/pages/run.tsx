/**
 * The page `/runs/{run}`: why it stands as it does with the last lines of its log, its life as a timeline, the runs of its
 * message, attempts, message, facts, Job, and the form that acts on it. A pure function of its input.
 */
import type { EventFacts, RunRecord, RunView } from "../../ports.ts";
import { durationWords } from "../../util/duration.ts";
import type { AttemptView } from "../attempts.ts";
import type { FamilyLine, FamilyRun } from "../family.ts";
import type { Wait } from "../joins.ts";
import type { LogTail } from "../log_stream.ts";
import { END_LINES, END_TEXT, LogEnd, logHref } from "./log.tsx";
import type { RunMessage } from "../run.ts";
import type { Timeline } from "../timeline.ts";
import { valueWords } from "./charts.tsx";
import { ActionForm } from "./forms.tsx";
import { Gantt } from "./gantt.tsx";
import { GroupLink } from "./group.tsx";
import { List } from "./lists.tsx";
import { withoutColours } from "../../util/text.ts";
import { WaitList } from "./message_runs.tsx";
import { Payload } from "./payload.tsx";
import { frame, rootHref, RowLink, runHref, RunLink, type RunState, short, StateWord, tookWords } from "./parts.tsx";
import { EventsSection, FactsSection, ManifestSection } from "./run_facts.tsx";
import { TimelineView } from "./timeline.tsx";

export interface RunPageInput extends RunMessage {
  readonly now: Date;
  readonly runName: string;
  /** Of its message. */
  readonly root: string;
  /** One of the two is set, or both for a moment. */
  readonly live?: RunView;
  readonly record?: RunRecord;
  readonly timeline: Timeline;
  /** What the cluster says of it while it lives. */
  readonly events?: readonly EventFacts[];
  /** Rows that wait for it, or for others beside it. */
  readonly waits: readonly Wait[];
  /** Names of the runs and groups above it, the nearest first. */
  readonly ancestors: readonly string[];
  /** What it has set off, over all levels. */
  readonly descendants: readonly FamilyRun[];
  /** Runs that repeat it. */
  readonly reruns: readonly FamilyRun[];
  /** Runs of its message. */
  readonly family: { readonly lines: readonly FamilyLine[]; readonly left: number };
  /** There may be more of them than were looked at. */
  readonly isFamilyCut?: boolean;
  /** All attempts of the run, this one too; empty where there is only the one. */
  readonly attempts?: readonly AttemptView[];
  /** The log as it is now, or its end; undefined: there is none yet. */
  readonly log?: LogTail;
  readonly actions: boolean;
}

/** Where the table is drawn with the runs of one message. */
function graphHref(root: string): string {
  return `/graph?root=${encodeURIComponent(root)}`;
}

/** The page as HTML text. */
export function runPage(input: RunPageInput): string {
  const { runName, live, record } = input;
  const state: RunState = record?.status ?? live?.state ?? "pending";
  return frame({
    title: `${runName}: ${state}`,
    heading: `Run ${runName}`,
    here: "runs",
    run: runName,
    children: (
      <>
        <StateSection {...input} state={state} />
        <LogSection {...input} />
        <div class="cols">
          <section id="life" data-live aria-labelledby="life-h">
            <h2 id="life-h">{record ? "Its life" : "Its life so far"}</h2>
            <TimelineView timeline={input.timeline} />
          </section>
          <div>
            <FactsSection {...input} />
            <EventsSection {...input} />
          </div>
        </div>
        <FamilySection {...input} />
        <AttemptsSection {...input} />
        <MessageSection {...input} />
        <ManifestSection manifest={input.manifest} runName={runName} />
      </>
    ),
  });
}

/** Three places and their reasons. */
const MAX_MISSING = 600;

function StateSection(input: RunPageInput & { state: RunState }) {
  const { state, live, record, waits, reruns, now } = input;
  const jobName = record?.job_name ?? live?.jobName ?? "";
  const node = record ? record.node : live?.nodes.join(", ");
  const repeats = record?.rerun_of ?? live?.rerunOf;
  return (
    <section id="state" data-live aria-labelledby="state-h">
      <div class="line">
        <h2 id="state-h">
          <span class="vh">State:</span> <StateWord state={state} />
          {record && record.reason !== "Completed" && <span class="why">{short(record.reason, 100)}</span>}
        </h2>
        {input.actions && <Action runName={input.runName} isOver={record !== undefined} />}
      </div>
      <p class="reason">{short(record?.message ?? live?.detail, 2_000)}</p>
      {record && <Warnings record={record} />}
      <ul class="facts-line">
        <li>
          Row <RowLink jobName={jobName} />
        </li>
        <li>
          {record
            ? `${record.started_at === null ? "" : "ran "}${tookWords(record)}`
            : live && `${durationWords(now.getTime() - live.receivedAt.getTime())} old`}
        </li>
        {node && <li>on {short(node)}</li>}
        {record && record.exit_code !== null && record.exit_code !== 0 && <li>exit code {record.exit_code}</li>}
        {(record?.attempt ?? live?.attempt ?? 1) > 1 && <li>attempt {record?.attempt ?? live?.attempt}</li>}
      </ul>
      {record?.retried_as !== undefined && (
        <p>
          It was tried again: <RunLink runName={record.retried_as} />
        </p>
      )}
      {repeats !== undefined && (
        <p>
          It repeats <RunLink runName={repeats} />, at the wish of a person.
        </p>
      )}
      {reruns.length > 0 && (
        <p>
          It was run again: <RunList runs={reruns} />
        </p>
      )}
      <WaitList waits={waits} />
    </section>
  );
}

/** What is wrong with a run, however it ended. */
function Warnings({ record }: { record: RunRecord }) {
  const { oom_killed, output_missing, output, log_missing, disruptions } = record;
  const words = [
    ...(oom_killed ? ["Something in it was killed for its memory, though it succeeded: check its result."] : []),
    ...(output_missing ? [`There is nothing at its output ${short(output)}.`] : []),
    ...(log_missing === undefined ? [] : [`Its log is not whole: ${short(log_missing, MAX_MISSING)}`]),
    ...(disruptions === undefined
      ? []
      : [`The cluster took ${disruptions} ${disruptions === 1 ? "pod" : "pods"} of it away.`]),
  ];
  return <>{words.map((sentence) => <p class="warn">{sentence}</p>)}</>;
}

/** Runs named in a line. */
const MAX_NAMED = 10;

function RunList({ runs }: { runs: readonly FamilyRun[] }) {
  const rest = runs.length - MAX_NAMED;
  return (
    <>
      {runs.slice(0, MAX_NAMED).map(({ run_name, state }, at) => (
        <>
          {at > 0 && ", "}
          <RunLink runName={run_name} /> ({state})
        </>
      ))}
      {rest > 0 && ` and ${rest} more`}
    </>
  );
}

// ---------------------------------------------------------------- its log

/** The last lines that are not blank, without the head of a stored log. */
export function lastLines({ text, extent }: LogTail, { isStored }: { isStored: boolean }): string {
  const headEnd = isStored && extent === "whole" && text.startsWith("run: ") ? text.indexOf("\n\n") + 2 : 0;
  const lines = withoutColours(text.slice(headEnd)).split("\n")
    // As a terminal shows it: what follows a carriage return stands over what was before.
    .map((line) => line.replace(/\r+$/, "").split("\r").at(-1)!)
    .filter((line) => line.trim() !== "");
  return lines.slice(-END_LINES).map((line) => short(line, END_TEXT)).join("\n");
}

function LogSection({ runName, live, record, log }: RunPageInput) {
  const href = `${runHref(runName)}/log`;
  const follows = live !== undefined && record === undefined;
  if (record?.log_url === "") {
    return (
      <section aria-labelledby="log-h">
        <h2 id="log-h">Log</h2>
        <p>It had no Job, so there is no log.</p>
      </section>
    );
  }
  const lines = log ? lastLines(log, { isStored: record !== undefined }) : "";
  const head = (
    <div class="line">
      <h2 id="log-h">Last lines of its log</h2>
      <span class="end" id="log-note" data-live>
        <a href={`${logHref(runName)}#end`}>Open the log</a>, <a href={href}>as text</a>
        {follows && " (grows while it runs)"}
      </span>
    </div>
  );
  if (log?.output && log.window && log.output.size > 0) {
    return (
      <section aria-labelledby="log-h">
        {head}
        <LogEnd runName={runName} output={log.output} window={log.window} />
      </section>
    );
  }
  return (
    <section aria-labelledby="log-h">
      {head}
      <pre
        id="log"
        class="tail"
        role="group"
        aria-labelledby="log-h"
        data-follow={follows ? href : undefined}
        data-lines={follows ? END_LINES + 1 : undefined}
      >
        {lines === "" ? log && record ? "It wrote nothing." : "No output yet." : lines}
      </pre>
      {log?.extent === "part" && <p class="muted">To read it takes long; there may be more after these lines.</p>}
    </section>
  );
}

// ---------------------------------------------------------------- its message's runs

function FamilySection(input: RunPageInput) {
  const { runName, root, live, record, ancestors, descendants, family, isFamilyCut, now } = input;
  const parent = record?.parent_run ?? live?.parentRun;
  const first = record?.root_run ?? live?.rootRun;
  const group = record?.group ?? live?.group;
  const by = record?.requested_by ?? live?.requestedBy;
  const isRerun = (record?.rerun_of ?? live?.rerunOf) !== undefined;
  const above = ancestors.length > 0 ? ancestors : parent ? [parent] : [];
  return (
    <section id="family" data-live aria-labelledby="family-h">
      <h2 id="family-h">All runs of its message</h2>
      <dl>
        <dt>Started by</dt>
        <dd>
          {above.length > 0
            ? above.toReversed().map((name) => <>{<RunLink runName={name} />}{" → "}</>)
            : isRerun
            ? "a person, with the message of the run that it repeats"
            : "a message from outside"}
          {above.length > 0 && "this run"}
          {by !== undefined && `; asked for by ${short(by)}`}
        </dd>
        {above.length > 0 && first !== undefined && first !== runName && !above.includes(first) && (
          <>
            <dt>First of the chain</dt>
            <dd>
              <RunLink runName={first} />
            </dd>
          </>
        )}
        {group !== undefined && (
          <>
            <dt>Item</dt>
            <dd>
              {record?.index ?? live?.index} of <GroupLink group={group} />:{" "}
              <code>{short(record?.item ?? live?.item)}</code>
            </dd>
          </>
        )}
        <dt>Led to</dt>
        <dd>{descendants.length === 0 ? "no other run" : <RunList runs={descendants} />}</dd>
      </dl>
      {(family.lines.length > 1 || family.left > 0) && <Gantt {...family} now={now} own={runName} />}
      {isFamilyCut && <p class="muted">Of this message more runs ended than are looked at here.</p>}
      <p>
        <a href={rootHref(root)}>All of this message</a>, <a href={graphHref(root)}>in the graph</a>
      </p>
    </section>
  );
}

function AttemptsSection({ attempts = [], runName }: RunPageInput) {
  // The place is there from the first, for the page is brought up to date part by part.
  if (attempts.length === 0) return <section id="attempts" data-live hidden></section>;
  const columns: Parameters<typeof List<AttemptView>>[0]["columns"] = [
    { head: "Attempt", cell: ({ attempt }) => attempt },
    {
      head: "Run",
      cell: ({ run_name }) =>
        run_name === runName ? <span class="mono">{short(run_name)} (this one)</span> : <RunLink runName={run_name} />,
    },
    { head: "State", cell: ({ state }) => state ? <StateWord state={state} /> : "–" },
    {
      head: "Reason",
      cell: ({ reason, exit_code }) =>
        (short(reason) || "–") + (exit_code === undefined || exit_code === 0 ? "" : `, exit code ${exit_code}`),
    },
    { head: "Memory limit", cell: ({ memory_limit }) => short(memory_limit) || "–" },
    {
      head: "Peak memory",
      cell: ({ peak_memory }) => peak_memory === undefined ? "–" : valueWords(peak_memory, "bytes"),
    },
    {
      head: "Took",
      cell: ({ started_at, finished_at }) =>
        finished_at === undefined || started_at === undefined ? "–" : tookWords({ started_at, finished_at }),
    },
    { head: "Node", cell: ({ node }) => short(node) || "–" },
  ];
  return (
    <section id="attempts" data-live aria-labelledby="attempts-h">
      <h2 id="attempts-h">Attempts</h2>
      <List caption="Attempts of this run" columns={columns} rows={attempts} />
    </section>
  );
}

// ---------------------------------------------------------------- its message, facts and Job

function MessageSection({ runName, live, record, payload, payloadNote }: RunPageInput) {
  return (
    <section aria-labelledby="message-h">
      <div class="line">
        <h2 id="message-h">Message</h2>
        {payload !== undefined && payload !== "" && (
          <span class="end">
            <a href={`${runHref(runName)}/message`}>As it came</a>
          </span>
        )}
      </div>
      <p>
        On <code>{short(record?.topic ?? live?.topic)}</code>
      </p>
      {payload ? <Payload text={payload} /> : (
        <p class="muted">
          {payload === "" ? "Its payload is empty." : payloadNote ?? "Its payload cannot be shown."}
        </p>
      )}
    </section>
  );
}

/** The one thing that can be done with it: to run it again, or to cancel it. */
function Action({ runName, isOver }: { runName: string; isOver: boolean }) {
  const [action, title, button, what] = isOver
    ? ["/actions/rerun", "Run again with the same message", "Run again", "run it again"]
    : ["/actions/cancel", "Cancel this run", "Cancel the run", "cancel it"];
  return (
    <div class="end">
      <ActionForm action={action} what={what!} label={title!} buttons={<button type="submit">{button}</button>}>
        <input type="hidden" name="run_name" value={runName} />
      </ActionForm>
    </div>
  );
}
