/**
 * The page `/?root=`: all runs that one message from outside has set off, live and ended, in one list, and rows that wait
 * for some of them. A pure function of its input.
 */
import type { RunView } from "../../ports.ts";
import type { EndedRun, Reach } from "../../history.ts";
import type { Wait } from "../joins.ts";
import { ageWords, durationWords, frame, Heads, RunLink, ScrollTable, short, StateWord, Time } from "./parts.tsx";

export interface MessageRunsInput {
  readonly now: Date;
  readonly root: string;
  readonly live: readonly RunView[];
  readonly ended: readonly EndedRun[];
  readonly waits: readonly Wait[];
  readonly reach: Reach;
}

/** The page as HTML text. */
export function messageRunsPage({ now, root, live, ended, waits, reach }: MessageRunsInput): string {
  const count = live.length + ended.length;
  return frame({
    title: "All runs of one message",
    heading: "All runs of one message",
    children: (
      <section id="all" data-live aria-labelledby="all-h">
        <h2 id="all-h">{count} {count === 1 ? "run" : "runs"}</h2>
        <p class="muted">
          Root <span class="mono">{short(root)}</span>.
          {reach.kind !== "all" && ` Of runs that ended, the newest ${reach.runs} of all messages are looked at.`}
        </p>
        <WaitList waits={waits} />
        {count === 0 ? <p class="muted">No run of this message is known.</p> : (
          <ScrollTable label="Runs of the message">
            <table>
              <Heads names={["Run", "Row", "State", "Why", "After", "Ended", "Took"]} />
              <tbody>
                {ended.toReversed().map((run) => <EndedRow run={run} />)}
                {live.map((run) => <LiveRow run={run} now={now} />)}
              </tbody>
            </table>
          </ScrollTable>
        )}
      </section>
    ),
  });
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

function EndedRow({ run }: { run: EndedRun }) {
  return (
    <tr>
      <th scope="row">
        <RunLink runName={run.run_name} />
      </th>
      <td>{short(run.job_name)}</td>
      <td>
        <StateWord state={run.status} />
      </td>
      <td>{short(run.message)}</td>
      <td>{run.parent_run === null ? "–" : <RunLink runName={run.parent_run} />}</td>
      <td>
        <Time at={run.finished_at} />
      </td>
      <td>{durationWords(run)}</td>
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
      </td>
      <td>{short(run.detail)}</td>
      <td>{run.parentRun === undefined ? "–" : <RunLink runName={run.parentRun} />}</td>
      <td>–</td>
      <td>{ageWords(now.getTime() - run.receivedAt.getTime())}</td>
    </tr>
  );
}
