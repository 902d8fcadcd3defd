/**
 * The forms by which a person starts many runs: a sheet of messages, and what failed again; and the page that says what
 * became of it. Pure functions of their input. What the fields are named is known to ../batch_actions.ts.
 */
import type { Table } from "../../catalog.ts";
import type { EachAnswer, ReplayAnswer } from "../../control.ts";
import { frame, Heads, RunLink, ScrollTable, short, Time, TokenField } from "./parts.tsx";

/** Rows whose sheet can be had as a template. */
const MAX_TEMPLATES = 50;

/** Shown to who may act. */
export function BatchSection({ table }: { table: Table }) {
  const rows = table.rows.filter(({ inputs }) => inputs !== undefined).slice(0, MAX_TEMPLATES);
  return (
    <section aria-labelledby="batch-h">
      <h2 id="batch-h">Start many runs</h2>
      <p class="muted">
        They queue behind fresh messages. The same sheet or selection again starts nothing twice, and starts what is
        left.
      </p>
      <details>
        <summary id="sheet-h">Run a row for each line of a sheet</summary>
        <SheetForm jobName="" sheet="" />
        {rows.length > 0 && (
          <p>
            Templates: {rows.map(({ jobName }, at) => (
              <>
                {at > 0 && ", "}
                <a href={`/sheets/${encodeURIComponent(jobName)}.csv`}>{short(jobName)}</a>
              </>
            ))}
          </p>
        )}
      </details>
      <details>
        <summary id="replay-h">Run again what failed</summary>
        <ReplayForm fields={{}} />
      </details>
    </section>
  );
}

function SheetForm({ jobName, sheet }: { jobName: string; sheet: string }) {
  return (
    <form method="post" action="/actions/each" aria-label="Run a row for each line of a sheet">
      <div>
        <label for="sheet-row">Row</label>
        <input id="sheet-row" name="job_name" list="row-names" required value={jobName} />
      </div>
      <div>
        <label for="sheet-file">CSV file (needs a script), or paste it</label>
        <input id="sheet-file" type="file" accept=".csv,text/csv" data-fills="sheet-text" />
      </div>
      <div>
        <label for="sheet-text">Sheet: the first line names fields of the payload</label>
        <textarea id="sheet-text" name="sheet" required placeholder="uuid,mode">{sheet}</textarea>
      </div>
      <BatchFields of="sheet" check="Check" />
    </form>
  );
}

/** What both forms end with. `check`: what to do without starting anything is called. */
function BatchFields({ of, check }: { of: string; check: string }) {
  return (
    <>
      <BatchField id={`${of}-batch`} />
      <TokenField id={`${of}-token`} />
      <div>
        <button type="submit" name="do" value="check">{check}</button>{" "}
        <button type="submit" name="do" value="start">Start</button>
      </div>
    </>
  );
}

/** What a person asked to replay, as the form has it. */
export type ReplayFields = Partial<Record<"job_name" | "state" | "since" | "reason", string>>;

function ReplayForm(
  { fields: { job_name = "", state = "failed", since = "1d", reason = "" } }: { fields: ReplayFields },
) {
  return (
    <form method="post" action="/actions/replay" aria-label="Run again what failed">
      <div>
        <label for="replay-row">Row</label>
        <input id="replay-row" name="job_name" list="row-names" required value={job_name} />
      </div>
      <div>
        <label for="replay-state">State</label>
        <select id="replay-state" name="state">
          {["failed", "cancelled", "succeeded"].map((word) => (
            <option value={word} selected={word === state}>{word}</option>
          ))}
        </select>
      </div>
      <div>
        <label for="replay-since">Ended at most so long ago (2h, 3d)</label>
        <input id="replay-since" name="since" required value={since} />
      </div>
      <div>
        <label for="replay-reason">Reason, such as OOMKilled</label>
        <input id="replay-reason" name="reason" value={reason} />
      </div>
      <BatchFields of="replay" check="Show" />
    </form>
  );
}

function BatchField({ id }: { id: string }) {
  return (
    <div>
      <label for={id}>Batch, to begin anew</label>
      <input id={id} name="batch" />
    </div>
  );
}

// ---------------------------------------------------------------- what became of it

interface Counts {
  readonly batch: string;
  readonly total: number;
  readonly started: number;
  readonly exists: number;
  readonly refused: number;
  readonly waiting: number;
  readonly run_names: readonly string[];
  readonly refusals: readonly { readonly entry: string; readonly message: string }[];
}

/** What became of a sheet, or would. */
export function sheetPage(
  answer: EachAnswer,
  { jobName, sheet, dryRun }: { jobName: string; sheet: string; dryRun: boolean },
): string {
  const { problems, errors } = answer;
  return frame({
    title: dryRun ? "Sheet checked" : "Sheet started",
    heading: short(jobName),
    children: (
      <>
        <CountSection counts={answer} dry={dryRun ? "lines are right" : undefined} />
        {problems.length > 0 && (
          <section aria-labelledby="problems-h">
            <h2 id="problems-h">Lines that are not right</h2>
            {errors > 0 && (
              <p class="bad">
                {errors} {errors === 1 ? "line is" : "lines are"} left out; mend them and send the sheet again.
              </p>
            )}
            <ul>
              {problems.map(({ severity, text }) => (
                <li class={severity === "error" ? "bad" : "warn"}>{short(text, 1_000)}</li>
              ))}
            </ul>
          </section>
        )}
        {(dryRun || errors > 0) && (
          <section aria-labelledby="again-h">
            <h2 id="again-h">The sheet</h2>
            <SheetForm jobName={jobName} sheet={sheet} />
          </section>
        )}
      </>
    ),
  });
}

/** What became of a replay, or would. */
export function replayPage(
  answer: ReplayAnswer,
  { fields, dryRun }: { fields: ReplayFields; dryRun: boolean },
): string {
  const { runs, total, superseded, more } = answer;
  return frame({
    title: dryRun ? "What would run again" : "Replay started",
    heading: short(fields.job_name),
    children: (
      <>
        <CountSection counts={answer} dry={dryRun ? "runs would run again" : undefined} />
        <section aria-labelledby="chosen-h">
          <h2 id="chosen-h">Runs</h2>
          {superseded > 0 && <p>{superseded} more were run again already.</p>}
          {more && <p class="warn">There are older ones: ask again when these have begun.</p>}
          <ScrollTable label="Runs that are run again">
            <table>
              {total > runs.length && <caption>{total - runs.length} more are not shown</caption>}
              <Heads names={["Run", "Ended", "Why"]} />
              <tbody>
                {runs.map(({ run_name, finished_at, message }) => (
                  <tr>
                    <th scope="row">
                      <RunLink runName={run_name} />
                    </th>
                    <td>
                      <Time at={finished_at} />
                    </td>
                    <td>{short(message)}</td>
                  </tr>
                ))}
              </tbody>
            </table>
          </ScrollTable>
        </section>
        {dryRun && (
          <section aria-labelledby="again-h">
            <h2 id="again-h">Start it</h2>
            <ReplayForm fields={fields} />
          </section>
        )}
      </>
    ),
  });
}

function CountSection({ counts, dry }: { counts: Counts; dry: string | undefined }) {
  const { batch, total, started, exists, refused, waiting, run_names, refusals } = counts;
  return (
    <section aria-labelledby="counts-h">
      <h2 id="counts-h">Batch {short(batch)}</h2>
      {dry !== undefined ? <p>{total} {dry}. Nothing was started.</p> : (
        <>
          <p>
            {started} started, {exists} there already, {waiting} wait for their turn, {refused} refused.
          </p>
          {waiting > 0 && <p class="muted">Should the service end before, send the same again: it starts the rest.</p>}
        </>
      )}
      {refusals.length > 0 && (
        <ul>
          {refusals.map(({ entry, message }) => <li class="bad">{short(entry)}: {short(message, 500)}</li>)}
        </ul>
      )}
      {run_names.length > 0 && (
        <p>
          {run_names.map((runName) => (
            <>
              <RunLink runName={runName} />
              {" "}
            </>
          ))}
        </p>
      )}
    </section>
  );
}
