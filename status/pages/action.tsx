/**
 * The pages below `/actions/`: each form by itself, as it was sent and with what is wrong with it; and of runs that were
 * picked what will be done, and what became of each. Pure functions of their input and of the visitor.
 */
import type { Child } from "hono/jsx";
import type { Table } from "../../catalog.ts";
import type { PickedAnswer, PickedResult } from "../../control.ts";
import type { Row } from "../../ports.ts";
import type { Page } from "../answers.ts";
import { lowerFirst } from "../../util/text.ts";
import { ReplayForm, SheetForm } from "./batches.tsx";
import { ActionForm, type FormFault, type Resent } from "./forms.tsx";
import { frame, Heads, Names, RunLink, type RunState, short, StackTable, StateWord } from "./parts.tsx";
import { RowForm, RunForm } from "./run_forms.tsx";

/** Actions that a form of one run or row asks for. */
export type OneAction = "run" | "each" | "replay" | "cancel" | "rerun";
/** Actions on runs that were picked. */
export type ManyAction = "cancel-many" | "rerun-many";

const TITLES: Readonly<Record<OneAction | ManyAction, string>> = {
  run: "Run a row",
  each: "Run a row for each line of a sheet",
  replay: "Run again what failed",
  cancel: "Cancel a run",
  rerun: "Run again",
  "cancel-many": "Cancel runs",
  "rerun-many": "Run again",
};

export interface ActionPageInput extends Resent {
  readonly action: OneAction;
  /** In force; undefined: none yet. */
  readonly table: Table | undefined;
  /** The row that the form is for, where it has one of its own. */
  readonly row: Row | undefined;
}

/** The form of an action by itself. */
export function actionPage({ action, table, row, ...resent }: ActionPageInput): Page {
  const { fault } = resent;
  const title = action === "run" && row ? `Run ${short(row.jobName)}` : TITLES[action];
  const heading = fault ? `Not done: ${lowerFirst(title)}` : title;
  const html = () =>
    frame({
      title: heading,
      heading,
      children: (
        <section aria-label={title} class="act">
          {fault && <FaultWords fault={fault} shown={fieldsShown(action, row)} withToken={resent.withToken === true} />}
          <FormOf action={action} row={row} {...resent} />
          {table && <Names id="row-names" names={table.rows.map(({ jobName }) => jobName)} />}
        </section>
      ),
    });
  return { data: faultData(fault), html };
}

function faultData(fault: FormFault | undefined): Record<string, string> {
  if (!fault) return {};
  return { error: fault.message, ...(fault.field === undefined ? {} : { field: fault.field }) };
}

/** Fields by which the form says what is wrong with them; what is wrong with others is said above it. */
function fieldsShown(action: OneAction, row: Row | undefined): (field: string) => boolean {
  switch (action) {
    case "run":
      return (field) => row ? field.startsWith("field:") : field === "job_name" || field === "payload";
    case "each":
      return (field) => ["job_name", "sheet", "batch"].includes(field);
    case "replay":
      return (field) => ["job_name", "state", "since", "reason", "batch"].includes(field);
    case "cancel":
    case "rerun":
      return () => false;
  }
}

function FaultWords(
  { fault, shown, withToken }: { fault: FormFault; shown: (field: string) => boolean; withToken: boolean },
) {
  const { field, message } = fault;
  const isByField = field !== undefined && (shown(field) || field === "token" && withToken);
  return isByField ? null : <p class="fault" role="alert">{short(message, 1_000)}</p>;
}

function FormOf({ action, row, ...resent }: Resent & { action: OneAction; row: Row | undefined }) {
  switch (action) {
    case "run":
      return row ? <RowForm row={row} id="again" {...resent} /> : <RunForm id="again" {...resent} />;
    case "each":
      return <SheetForm {...resent} />;
    case "replay":
      return <ReplayForm {...resent} />;
    case "cancel":
    case "rerun":
      return <OneRunForm action={action} {...resent} />;
  }
}

function OneRunForm({ action, fields = {}, fault, withToken }: Resent & { action: "cancel" | "rerun" }) {
  const runName = fields["run_name"] ?? "";
  const words = action === "cancel" ? "Cancel the run" : "Run again";
  return (
    <ActionForm
      action={`/actions/${action}`}
      what={action === "cancel" ? "cancel it" : "run it again"}
      label={TITLES[action]}
      {...{ fault, withToken }}
      buttons={<button type="submit" class="main">{words}</button>}
    >
      <p class="mono">{short(runName)}</p>
      <input type="hidden" name="run_name" value={runName} />
    </ActionForm>
  );
}

// ---------------------------------------------------------------- runs that were picked

/** A run that was picked, as it stands. */
export interface Picked {
  readonly run_name: string;
  readonly job_name?: string;
  readonly state?: RunState;
  /** Why the action is not for it; absent: it is. */
  readonly why?: string;
}

export interface PickedPageInput {
  readonly action: ManyAction;
  readonly picked: readonly Picked[];
  /** What a rerun is named by, so that the form sent twice starts nothing twice. */
  readonly batch: string;
  readonly fault?: FormFault | undefined;
  readonly withToken?: boolean | undefined;
}

/** What will be done, before it is. */
export function pickedPage({ action, picked, batch, fault, withToken }: PickedPageInput): Page {
  const fits = picked.filter(({ why }) => why === undefined);
  const others = picked.filter(({ why }) => why !== undefined);
  const runs = `${fits.length} ${fits.length === 1 ? "run" : "runs"}`;
  const words = action === "cancel-many" ? `Cancel ${runs}` : `Run ${runs} again`;
  const html = () =>
    frame({
      title: TITLES[action],
      heading: fault ? "Not done" : words,
      here: "runs",
      children: (
        <>
          <section aria-labelledby="will-h">
            <h2 id="will-h">{fault ? words : action === "cancel-many" ? "These are stopped" : "These begin again"}</h2>
            {fault && fault.field !== "token" && <p class="fault" role="alert">{short(fault.message, 1_000)}</p>}
            {fits.length === 0
              ? <p>None of these runs can be {action === "cancel-many" ? "cancelled" : "run again"}.</p>
              : (
                <ActionForm
                  action={`/actions/${action}`}
                  what={action === "cancel-many" ? "cancel them" : "run them again"}
                  label={words}
                  {...{ fault, withToken }}
                  tall
                  buttons={
                    <>
                      <button type="submit" class="main" name="do" value="start">{words}</button>{" "}
                      <a class="button" href="/runs">Leave them</a>
                    </>
                  }
                >
                  <input type="hidden" name="batch" value={batch} />
                  <PickedTable
                    label={words}
                    heads={["Run", "Row", "State"]}
                    rows={fits.map((run) => [
                      <>
                        <input type="hidden" name="run_name" value={run.run_name} />
                        <RunLink runName={run.run_name} />
                      </>,
                      short(run.job_name),
                      run.state ? <StateWord state={run.state} /> : "–",
                    ])}
                  />
                </ActionForm>
              )}
          </section>
          {others.length > 0 && (
            <section aria-labelledby="not-h">
              <h2 id="not-h">Left as they are</h2>
              <PickedTable
                label="Runs that are left as they are"
                heads={["Run", "Row", "Why"]}
                rows={others.map((run) => [<RunLink runName={run.run_name} />, short(run.job_name), short(run.why)])}
              />
            </section>
          )}
        </>
      ),
    });
  return { data: { action, batch, runs: picked, ...faultData(fault) }, html };
}

const RESULTS: Readonly<Record<ManyAction, Readonly<Record<PickedResult["result"], string>>>> = {
  "cancel-many": { done: "cancelled", exists: "", refused: "not cancelled", waiting: "asked; no answer yet" },
  "rerun-many": { done: "started", exists: "started before", refused: "not started", waiting: "waits for its turn" },
};
const TONES: Readonly<Record<PickedResult["result"], string>> = {
  done: "good",
  exists: "",
  refused: "bad",
  waiting: "",
};

/** What became of each. */
export function pickedResultPage(action: ManyAction, answer: PickedAnswer): Page {
  const words = RESULTS[action];
  const counts = (["done", "exists", "waiting", "refused"] as const)
    .filter((result) => answer[result] > 0).map((result) => `${answer[result]} ${words[result]}`);
  const html = () =>
    frame({
      title: TITLES[action],
      heading: counts.join(", "),
      here: "runs",
      children: (
        <section aria-labelledby="became-h">
          <h2 id="became-h">What became of each</h2>
          {action === "rerun-many" && answer.waiting > 0 && (
            <p class="muted">They queue behind fresh messages. Should the service end before, reload this page.</p>
          )}
          <PickedTable
            label="What became of each run"
            heads={["Run", "Result", action === "rerun-many" ? "New run, or why not" : "Why not"]}
            rows={answer.results.map(({ run_name, result, became, message }) => [
              <RunLink runName={run_name} />,
              <span class={TONES[result]}>{words[result]}</span>,
              <>
                {message !== undefined && short(message)} {became !== undefined && <RunLink runName={became} />}
              </>,
            ])}
          />
        </section>
      ),
    });
  return { data: answer, html };
}

function PickedTable(
  { label, heads, rows }: { label: string; heads: readonly string[]; rows: readonly (readonly Child[])[] },
) {
  return (
    <StackTable label={label}>
      <table>
        <Heads names={heads} />
        <tbody>
          {rows.map(([first, ...rest]) => (
            <tr>
              <th scope="row">{first}</th>
              {rest.map((cell) => <td>{cell}</td>)}
            </tr>
          ))}
        </tbody>
      </table>
    </StackTable>
  );
}
