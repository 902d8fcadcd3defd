/**
 * The forms by which a person starts many runs: a sheet of messages, and what failed again; and the page that says what
 * became of it. Pure functions of their input. What the fields are named is known to ../batch_actions.ts.
 */
import type { Table } from "../../catalog.ts";
import type { EachAnswer, ReplayAnswer } from "../../control.ts";
import type { Fields } from "../forms.ts";
import { ActionForm, faultMarks, Field, type FormFault, isSignedIn, type Resent } from "./forms.tsx";
import { frame, Heads, RunLink, short, StackTable, Time } from "./parts.tsx";

/** Rows whose sheet can be had as a template. */
const MAX_TEMPLATES = 50;

/** Shown to who has signed in; the form above it leads others there. */
export function BatchSection({ table }: { table: Table }) {
  if (!isSignedIn()) return null;
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
        <SheetForm />
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
        <ReplayForm />
      </details>
    </section>
  );
}

/** Runs a row for each line of a sheet. */
export function SheetForm({ fields = {}, fault, withToken }: Resent) {
  return (
    <ActionForm
      action="/actions/each"
      what="run a row for each line of a sheet"
      label="Run a row for each line of a sheet"
      {...{ fault, withToken }}
      buttons={<BatchButtons check="Check" />}
    >
      <RowField id="sheet-row" fields={fields} fault={fault} />
      <div>
        <label for="sheet-file">CSV file (needs a script), or paste it</label>
        <input id="sheet-file" type="file" accept=".csv,text/csv" data-fills="sheet-text" />
      </div>
      <Field
        id="sheet-text"
        name="sheet"
        label="Sheet: the first line names fields of the payload"
        fault={fault}
      >
        <textarea
          id="sheet-text"
          name="sheet"
          required
          placeholder="uuid,mode"
          {...faultMarks("sheet-text", "sheet", fault)}
        >
          {fields["sheet"] ?? ""}
        </textarea>
      </Field>
      <BatchField id="sheet-batch" fields={fields} fault={fault} />
    </ActionForm>
  );
}

function RowField({ id, fields, fault }: { id: string; fields: Fields; fault: FormFault | undefined }) {
  return (
    <Field id={id} name="job_name" label="Row" fault={fault}>
      <input
        id={id}
        name="job_name"
        list="row-names"
        required
        value={fields["job_name"] ?? ""}
        {...faultMarks(id, "job_name", fault)}
      />
    </Field>
  );
}

/** `check`: what to do without starting anything is called. */
function BatchButtons({ check }: { check: string }) {
  return (
    <>
      <button type="submit" name="do" value="check">{check}</button>{" "}
      <button type="submit" name="do" value="start">Start</button>
    </>
  );
}

function BatchField({ id, fields, fault }: { id: string; fields: Fields; fault: FormFault | undefined }) {
  return (
    <Field id={id} name="batch" label="Batch, to begin anew" fault={fault}>
      <input id={id} name="batch" value={fields["batch"] ?? ""} {...faultMarks(id, "batch", fault)} />
    </Field>
  );
}

/** Runs again what failed. */
export function ReplayForm({ fields = {}, fault, withToken }: Resent) {
  const state = fields["state"] ?? "failed";
  return (
    <ActionForm
      action="/actions/replay"
      what="run again what failed"
      label="Run again what failed"
      {...{ fault, withToken }}
      buttons={<BatchButtons check="Show" />}
    >
      <RowField id="replay-row" fields={fields} fault={fault} />
      <Field id="replay-state" name="state" label="State" fault={fault}>
        <select id="replay-state" name="state" {...faultMarks("replay-state", "state", fault)}>
          {["failed", "cancelled", "succeeded"].map((word) => (
            <option value={word} selected={word === state}>{word}</option>
          ))}
        </select>
      </Field>
      <Field id="replay-since" name="since" label="Ended at most so long ago (2h, 3d)" fault={fault}>
        <input
          id="replay-since"
          name="since"
          required
          value={fields["since"] ?? "1d"}
          {...faultMarks("replay-since", "since", fault)}
        />
      </Field>
      <Field id="replay-reason" name="reason" label="Reason, such as OOMKilled" fault={fault}>
        <input
          id="replay-reason"
          name="reason"
          value={fields["reason"] ?? ""}
          {...faultMarks("replay-reason", "reason", fault)}
        />
      </Field>
      <BatchField id="replay-batch" fields={fields} fault={fault} />
    </ActionForm>
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
  { fields, dryRun }: { fields: Fields; dryRun: boolean },
): string {
  const { problems, errors } = answer;
  return frame({
    title: dryRun ? "Sheet checked" : "Sheet started",
    heading: short(fields["job_name"]),
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
            <SheetForm fields={fields} />
          </section>
        )}
      </>
    ),
  });
}

/** What became of a replay, or would. */
export function replayPage(
  answer: ReplayAnswer,
  { fields, dryRun }: { fields: Fields; dryRun: boolean },
): string {
  const { runs, total, superseded, more } = answer;
  return frame({
    title: dryRun ? "What would run again" : "Replay started",
    heading: short(fields["job_name"]),
    children: (
      <>
        <CountSection counts={answer} dry={dryRun ? "runs would run again" : undefined} />
        <section aria-labelledby="chosen-h">
          <h2 id="chosen-h">Runs</h2>
          {superseded > 0 && <p>{superseded} more were run again already.</p>}
          {more && <p class="warn">There are older ones: ask again when these have begun.</p>}
          <StackTable label="Runs that are run again">
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
          </StackTable>
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
