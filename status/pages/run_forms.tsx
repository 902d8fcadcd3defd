/**
 * The forms by which a person runs a row: one for each row that says which fields it takes (`inputs`), one for all others.
 * Pure functions of the table. What the fields are named is known to ../actions.ts.
 */
import type { Table } from "../../catalog.ts";
import type { Input, Row } from "../../ports.ts";
import { ActionForm, faultMarks, Field, isSignedIn, type Resent } from "./forms.tsx";
import { short } from "./parts.tsx";

/** Before the name of a field of the payload, in the name of the form's field. */
export const FIELD_PREFIX = "field:";
/** Rows that have a form of their own. */
const MAX_FORMS = 50;

/** Shown to who may act. */
export function RunSection({ table }: { table: Table }) {
  const rows = isSignedIn() ? table.rows.filter(({ inputs }) => inputs !== undefined).slice(0, MAX_FORMS) : [];
  return (
    <section aria-labelledby="run-h">
      <h2 id="run-h">Run a row</h2>
      <RunForm id="run" />
      {rows.map((row, at) => (
        <details>
          <summary>Run {short(row.jobName)} with its fields</summary>
          <RowForm row={row} id={`run-${at}`} />
        </details>
      ))}
    </section>
  );
}

/** Runs a row that is named, with a payload as it is. */
export function RunForm({ id, fields = {}, fault, withToken }: Resent & { id: string }) {
  return (
    <ActionForm
      action="/actions/run"
      what="run a row"
      label="Run a row"
      {...{ fault, withToken }}
      buttons={<button type="submit" class="main">Run</button>}
    >
      <Field id={`${id}-row`} name="job_name" label="Row" fault={fault}>
        <input
          id={`${id}-row`}
          name="job_name"
          list="row-names"
          required
          value={fields["job_name"] ?? ""}
          {...faultMarks(`${id}-row`, "job_name", fault)}
        />
      </Field>
      <Field id={`${id}-payload`} name="payload" label="Payload of the message" fault={fault}>
        <textarea id={`${id}-payload`} name="payload" {...faultMarks(`${id}-payload`, "payload", fault)}>
          {fields["payload"] ?? ""}
        </textarea>
      </Field>
    </ActionForm>
  );
}

/** Runs the row with the fields that it says it takes. */
export function RowForm({ row, id, fields = {}, fault, withToken }: Resent & { row: Row; id: string }) {
  const { jobName, inputs = [] } = row;
  return (
    <ActionForm
      action="/actions/run"
      what="run it"
      label={`Run ${short(jobName)}`}
      {...{ fault, withToken }}
      buttons={<button type="submit" class="main">Run</button>}
    >
      <input type="hidden" name="job_name" value={jobName} />
      {inputs.map((input) => {
        const field = FIELD_PREFIX + input.name;
        const at = `${id}-${input.name}`;
        return (
          <Field id={at} name={field} label={short(input.name)} fault={fault}>
            <InputField
              input={input}
              id={at}
              value={fields[field]}
              marks={faultMarks(at, field, fault)}
            />
          </Field>
        );
      })}
    </ActionForm>
  );
}

function InputField(
  { input: { name, required, preset, choices }, id, value, marks }: {
    input: Input;
    id: string;
    value: string | undefined;
    marks: Record<string, string>;
  },
) {
  const field = FIELD_PREFIX + name;
  if (!choices) {
    return <input id={id} name={field} required={required} placeholder={preset ?? ""} value={value ?? ""} {...marks} />;
  }
  return (
    <select id={id} name={field} {...marks}>
      {choices.map((choice) => <option value={choice} selected={choice === value}>{choice}</option>)}
    </select>
  );
}
