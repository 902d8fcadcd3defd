/**
 * The page `/runs/{run}`: state, log, message, Job, and the form that acts on it. A pure function of its input.
 */
import type { RunRecord, RunView } from "../../ports.ts";
import type { AttemptView } from "../attempts.ts";
import { GroupLink } from "./group.tsx";
import { lineageOfRecord } from "../../run_spec.ts";
import type { Wait } from "../joins.ts";
import type { LogTail } from "../log_stream.ts";
import { WaitList } from "./message_runs.tsx";
import {
  ageWords,
  durationWords,
  frame,
  Heads,
  resourceWords,
  rootHref,
  runHref,
  RunLink,
  type RunState,
  ScrollTable,
  short,
  StateWord,
  Time,
  TokenField,
} from "./parts.tsx";

export interface RunPageInput {
  readonly now: Date;
  readonly runName: string;
  /** One of the two is set, or both for a moment. */
  readonly live?: RunView;
  readonly record?: RunRecord;
  /** The message as text; undefined: it cannot be shown, and `payloadNote` says why. */
  readonly payload?: string;
  readonly payloadNote?: string;
  /** Rows that wait for it, or for others beside it. */
  readonly waits: readonly Wait[];
  /** Runs that its end started. */
  readonly startedRuns: readonly { readonly runName: string; readonly state: RunState }[];
  /** All attempts of the run, this one too; empty where there is only the one. */
  readonly attempts?: readonly AttemptView[];
  /** The Job as YAML; undefined: it is not known any more. */
  readonly manifest?: string;
  /** The log as it is now, or its end; undefined: there is none yet. */
  readonly log?: LogTail;
  readonly actions: boolean;
}

/** Characters of a Job's YAML shown at most. */
const MAX_MANIFEST = 256 * 1024;

/** The page as HTML text. */
export function runPage(input: RunPageInput): string {
  const { runName, live, record } = input;
  const state: RunState = record?.status ?? live?.state ?? "pending";
  return frame({
    title: `${runName}: ${state}`,
    heading: `Run ${runName}`,
    run: runName,
    children: (
      <>
        <section id="state" data-live aria-labelledby="state-h">
          <h2 id="state-h">
            State: <StateWord state={state} />
          </h2>
          <p class="reason">{short(record?.message ?? live?.detail, 2_000)}</p>
          {record ? <RecordFacts record={record} /> : live && <LiveFacts run={live} now={input.now} />}
          <WaitList waits={input.waits} />
          <Relatives {...input} />
        </section>
        <AttemptsSection {...input} />
        <LogSection {...input} />
        <MessageSection {...input} />
        {input.actions && <ActionSection runName={runName} isOver={record !== undefined} />}
        <ManifestSection manifest={input.manifest} />
      </>
    ),
  });
}

/** Three places and their reasons. */
const MAX_MISSING = 600;

function RecordFacts({ record }: { record: RunRecord }) {
  const gpu = record.gpu ?? 0;
  return (
    <dl>
      <dt>Row</dt>
      <dd>{short(record.job_name)}</dd>
      <dt>Reason</dt>
      <dd>
        {short(record.reason)}
        {record.exit_code !== null && `, exit code ${record.exit_code}`}
      </dd>
      <dt>Message came</dt>
      <dd>
        <Time at={record.received_at} />
      </dd>
      <dt>Started</dt>
      <dd>
        <Time at={record.started_at} />
      </dd>
      <dt>Ended</dt>
      <dd>
        <Time at={record.finished_at} />
      </dd>
      <dt>Took</dt>
      <dd>{durationWords(record)}</dd>
      <dt>Node</dt>
      <dd>{record.node === null ? "–" : short(record.node)}</dd>
      <dt>Image</dt>
      <dd>
        <code>{short(record.image)}</code>
      </dd>
      <dt>Requests and limits</dt>
      <dd>{resourceWords({ ...record, gpu })}</dd>
      {record.disruptions !== undefined && (
        <Fact name="Pods taken away by the cluster" words={`${record.disruptions}`} />
      )}
      {record.oom_killed && <Fact name="Warning" words="something in it was killed for its memory" />}
      {record.owner !== undefined && <Fact name="Owner" words={record.owner} />}
      {record.output !== undefined &&
        <Fact name="Output" words={record.output_missing ? `${record.output} (missing)` : record.output} />}
      {record.result !== undefined && <Fact name="Result" words={JSON.stringify(record.result)} />}
      <dt>Log</dt>
      <dd>
        {record.log_url === "" ? "–" : <code>{short(record.log_url)}</code>}
        {record.log_missing !== undefined && ` Not whole: ${short(record.log_missing, MAX_MISSING)}`}
      </dd>
    </dl>
  );
}

function Fact({ name, words }: { name: string; words: string }) {
  return (
    <>
      <dt>{name}</dt>
      <dd>{short(words, MAX_MISSING)}</dd>
    </>
  );
}

function LiveFacts({ run, now }: { run: RunView; now: Date }) {
  return (
    <dl>
      <dt>Row</dt>
      <dd>{short(run.jobName)}</dd>
      <dt>Age</dt>
      <dd>{ageWords(now.getTime() - run.receivedAt.getTime())}</dd>
      <dt>Message came</dt>
      <dd>
        <Time at={run.receivedAt} />
      </dd>
      <dt>Started</dt>
      <dd>
        <Time at={run.startedAt} />
      </dd>
      <dt>Node</dt>
      <dd>{short(run.nodes.join(", ")) || "–"}</dd>
      <dt>Image</dt>
      <dd>
        <code>{short(run.image)}</code>
      </dd>
      <dt>Requests and limits</dt>
      <dd>{resourceWords(run)}</dd>
    </dl>
  );
}

function Relatives({ live, record, startedRuns, runName }: RunPageInput) {
  const parent = record?.parent_run ?? live?.parentRun;
  const first = record?.root_run ?? live?.rootRun;
  const root = live?.root ?? (record && lineageOfRecord(record).root);
  const group = record?.group ?? live?.group;
  return (
    <dl>
      <dt>Started by</dt>
      <dd>{parent ? <RunLink runName={parent} /> : "a message from outside"}</dd>
      {first !== undefined && first !== runName && first !== parent && (
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
      <dt>Started runs</dt>
      <dd>
        {startedRuns.length === 0 ? "none" : startedRuns.map((child, at) => (
          <>
            {at > 0 && ", "}
            <RunLink runName={child.runName} /> ({child.state})
          </>
        ))}
      </dd>
      {root !== undefined && (
        <>
          <dt>Message</dt>
          <dd>
            <a href={rootHref(root)}>All of this message</a>
          </dd>
        </>
      )}
    </dl>
  );
}

function AttemptsSection({ attempts = [], runName, record }: RunPageInput) {
  // The place is there from the first, for the page is brought up to date part by part.
  if (attempts.length === 0) return <section id="attempts" data-live hidden></section>;
  return (
    <section id="attempts" data-live aria-labelledby="attempts-h">
      <h2 id="attempts-h">Attempts</h2>
      {record?.retried_as !== undefined && (
        <p>
          It was tried again: <RunLink runName={record.retried_as} />
        </p>
      )}
      <ScrollTable label="Attempts of this run">
        <table>
          <Heads names={["Attempt", "Run", "State", "Reason", "Memory", "Took", "Node"]} />
          <tbody>
            {attempts.map((attempt) => (
              <tr>
                <th scope="row">{attempt.number}</th>
                <td>
                  {attempt.runName === runName
                    ? <span class="mono">{short(attempt.runName)} (this one)</span>
                    : <RunLink runName={attempt.runName} />}
                </td>
                <td>{attempt.state ? <StateWord state={attempt.state} /> : "–"}</td>
                <td>{short(attempt.reason) || "–"}</td>
                <td>{short(attempt.memory) || "–"}</td>
                <td>
                  {attempt.finished_at === undefined || attempt.started_at === undefined
                    ? "–"
                    : durationWords({ started_at: attempt.started_at, finished_at: attempt.finished_at })}
                </td>
                <td>{short(attempt.node) || "–"}</td>
              </tr>
            ))}
          </tbody>
        </table>
      </ScrollTable>
    </section>
  );
}

/** Control sequences of terminals, which colour logs and would be noise here. */
// deno-lint-ignore no-control-regex
const TERMINAL = /\u001b\[[0-9;?]*[ -/]*[@-~]/g;

const EXTENT: Readonly<Record<LogTail["extent"], string>> = {
  whole: "",
  end: ". Here is its end:",
  part: ". To read it takes long; here is what came in the first seconds:",
};

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
  return (
    <section aria-labelledby="log-h">
      <h2 id="log-h">Log</h2>
      <p id="log-note" data-live>
        <a href={href}>The whole log as text</a>
        {follows && " (grows while it runs)"}
        {log && EXTENT[log.extent]}
      </p>
      <pre id="log" tabindex={0} role="group" aria-labelledby="log-h" data-follow={follows ? href : undefined}>
        {(log?.text ?? "No output yet.").replace(TERMINAL, "")}
      </pre>
    </section>
  );
}

function MessageSection({ live, record, payload, payloadNote }: RunPageInput) {
  return (
    <section aria-labelledby="message-h">
      <h2 id="message-h">Message</h2>
      <p>
        On <code>{short(record?.topic ?? live?.topic)}</code>
      </p>
      {payload ? <pre tabindex={0} role="group" aria-labelledby="message-h">{payload}</pre> : (
        <p class="muted">
          {payload === "" ? "Its payload is empty." : payloadNote ?? "Its payload cannot be shown."}
        </p>
      )}
    </section>
  );
}

function ActionSection({ runName, isOver }: { runName: string; isOver: boolean }) {
  const [action, title, button] = isOver
    ? ["/actions/rerun", "Run again with the same message", "Run again"]
    : ["/actions/cancel", "Cancel this run", "Cancel the run"];
  return (
    <section id="act" data-live aria-labelledby="act-h">
      <h2 id="act-h">{title}</h2>
      <form method="post" action={action} aria-labelledby="act-h">
        <input type="hidden" name="run_name" value={runName} />
        <TokenField id="act-token" />
        <div>
          <button type="submit">{button}</button>
        </div>
      </form>
    </section>
  );
}

function ManifestSection({ manifest }: { manifest: string | undefined }) {
  return (
    <section aria-labelledby="job-h">
      <h2 id="job-h">Job</h2>
      {manifest === undefined ? <p class="muted">Its Job is not known any more.</p> : (
        <details>
          <summary>As YAML</summary>
          <pre tabindex={0} role="group" aria-labelledby="job-h">{short(manifest, MAX_MANIFEST)}</pre>
        </details>
      )}
    </section>
  );
}
