/**
 * The forms by which a person runs a row: one for each row that says which fields it takes (`inputs`), one for all others.
 * Pure functions of the table. What the fields are named is known to ../actions.ts.
 */
import type { Table } from "../../catalog.ts";
import type { Input, Row } from "../../ports.ts";
import { short, TokenField } from "./parts.tsx";

/** Before the name of a field of the payload, in the name of the form's field. */
export const FIELD_PREFIX = "field:";
/** Rows that have a form of their own. */
const MAX_FORMS = 50;

/** Shown to who may act. */
export function RunSection({ table }: { table: Table }) {
  const rows = table.rows.filter(({ inputs }) => inputs !== undefined).slice(0, MAX_FORMS);
  return (
    <section aria-labelledby="run-h">
      <h2 id="run-h">Run a row</h2>
      <form method="post" action="/actions/run" aria-labelledby="run-h">
        <div>
          <label for="run-row">Row</label>
          <input id="run-row" name="job_name" list="row-names" required />
        </div>
        <div>
          <label for="run-payload">Payload of the message</label>
          <textarea id="run-payload" name="payload"></textarea>
        </div>
        <TokenField id="run-token" />
        <div>
          <button type="submit">Run</button>
        </div>
      </form>
      {rows.map((row, at) => <RowForm row={row} id={`run-${at}`} />)}
    </section>
  );
}

function RowForm({ row: { jobName, inputs = [] }, id }: { row: Row; id: string }) {
  return (
    <details>
      <summary id={id}>Run {short(jobName)} with its fields</summary>
      <form method="post" action="/actions/run" aria-labelledby={id}>
        <input type="hidden" name="job_name" value={jobName} />
        {inputs.map((input) => (
          <div>
            <label for={`${id}-${input.name}`}>{short(input.name)}</label>
            <InputField input={input} id={`${id}-${input.name}`} />
          </div>
        ))}
        <TokenField id={`${id}-token`} />
        <div>
          <button type="submit">Run</button>
        </div>
      </form>
    </details>
  );
}

function InputField({ input: { name, required, preset, choices }, id }: { input: Input; id: string }) {
  const field = FIELD_PREFIX + name;
  if (!choices) return <input id={id} name={field} required={required} placeholder={preset ?? ""} />;
  return (
    <select id={id} name={field}>
      {choices.map((choice) => <option value={choice}>{choice}</option>)}
    </select>
  );
}
