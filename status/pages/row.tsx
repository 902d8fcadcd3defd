/**
 * The page `/rows/{row}`: what the row says, how its runs went and how long they took, what it waits for, and the form that
 * runs it. A pure function of its input.
 */
import type { Child } from "hono/jsx";
import { describeProblem } from "../../catalog.ts";
import type { EndedRun } from "../../history.ts";
import type { Row } from "../../ports.ts";
import { durationWords } from "../../util/duration.ts";
import { DAYS, type RowPageInput } from "../row.ts";
import { valueWords } from "./charts.tsx";
import { type Column, List } from "./lists.tsx";
import { Ago, frame, rootHref, rowHref, RunLink, short, StateWord, Time, tookWords } from "./parts.tsx";
import { ActionForm, Field } from "./forms.tsx";
import { Charts, Memory, sumOf } from "./row_charts.tsx";
import { RowForm } from "./run_forms.tsx";
import { theVisitor } from "./visitor.ts";

/** Ends in the list. */
const MAX_LISTED = 12;
const MAX_LIVE = 20;
const MAX_NEIGHBOURS = 30;

/** The page as HTML text. */
export function rowPage(input: RowPageInput): string {
  const { jobName, row, problems, failure } = input;
  return frame({
    title: `${short(jobName, 100)} – row`,
    heading: short(jobName),
    here: "table",
    beside: <Standing {...input} />,
    children: (
      <>
        <Tiles {...input} />
        {failure !== undefined && <p class="bad">{short(failure, 2_000)}</p>}
        {problems.length > 0 && (
          <section aria-labelledby="problems-h">
            <h2 id="problems-h">Problems</h2>
            <ul>
              {problems.map((problem) => (
                <li>
                  <span class={`tag ${problem.severity === "error" ? "bad" : "warn"}`}>{problem.severity}</span>{" "}
                  {short(describeProblem(problem), 2_000)}
                </li>
              ))}
            </ul>
          </section>
        )}
        <div class="cols">
          <div>
            <Charts {...input} />
          </div>
          <div>
            <Meaning {...input} />
            {row && <RunIt row={row} />}
            <Memory {...input} />
            {row && <Pausing {...input} />}
          </div>
        </div>
        <Runs {...input} />
      </>
    ),
  });
}

/** How the row itself stands. */
function Standing({ row, bad, noTable, live }: RowPageInput) {
  if (row) {
    const [tone, words] = row.enabled === "no"
      ? ["off", "switched off"]
      : row.enabled === "paused"
      ? ["warn", "paused"]
      : live.some(({ state }) => state === "running")
      ? ["run", "running"]
      : ["good", "in use"];
    return (
      <>
        <span class={`tag ${tone}`}>{words}</span> <span class="muted">line {row.line} of the table</span>
      </>
    );
  }
  if (bad) {
    return (
      <>
        <span class="tag bad">has errors, does not run</span> <span class="muted">line {bad.line} of the table</span>
      </>
    );
  }
  return <span class="tag warn">{noTable ? "there is no usable table yet" : "no longer in the table"}</span>;
}

function Tiles({ jobName, live, days, month, nextDue, row, now }: RowPageInput) {
  const running = live.filter(({ state }) => state !== "pending").length;
  const { succeeded, failed } = sumOf(days);
  const rate = rateWords(succeeded, failed);
  const runs = (state: string) => `/runs?${new URLSearchParams({ row: jobName, state })}`;
  return (
    <ul class="tiles" id="row-tiles" data-live>
      <Tile value={String(running)} words="running" href={runs("running")} tone={running > 0 ? "run" : ""} />
      <Tile value={String(live.length - running)} words="waiting" href={runs("pending")} />
      <Tile value={rate} words={`succeeded in ${DAYS} days`} tone={failed > succeeded ? "bad" : ""} />
      <Tile value={month ? valueWords(month.medianMs, "ms") : "–"} words="median of 30 days" />
      {row?.schedule && (
        <Tile
          value={nextDue ? `in ${durationWords(nextDue.getTime() - now.getTime())}` : "–"}
          words={nextDue
            ? (
              <>
                due <Time at={nextDue} />
              </>
            )
            : "next by schedule not known yet"}
        />
      )}
    </ul>
  );
}

function Tile({ value, words, href, tone = "" }: { value: string; words: Child; href?: string; tone?: string }) {
  const inner = (
    <>
      <b>{value}</b>
      <span>{words}</span>
    </>
  );
  const classes = `tile ${tone}`.trimEnd();
  return (
    <li>{href === undefined ? <span class={classes}>{inner}</span> : <a class={classes} href={href}>{inner}</a>}</li>
  );
}

function rateWords(succeeded: number, failed: number): string {
  if (succeeded + failed === 0) return "–";
  // 100 % is said where none failed, and 0 % where none succeeded.
  const percent = 100 * succeeded / (succeeded + failed);
  const shown = failed === 0 || succeeded === 0 ? percent : Math.min(99.9, Math.max(0.1, percent));
  return `${shown >= 99 && failed > 0 ? shown.toFixed(1) : Math.round(shown)} %`;
}

// ---------------------------------------------------------------- what it says

function Meaning({ jobName, row, sentences, before, after, noTable }: RowPageInput) {
  const find = `/graph?${new URLSearchParams({ find: jobName })}`;
  return (
    <section aria-labelledby="meaning-h">
      <h2 id="meaning-h">What it does</h2>
      {row ? <ul>{sentences.map((sentence) => <li>{inCode(short(sentence, 3_000))}</li>)}</ul> : (
        <p class="muted">
          {noTable
            ? "There is no usable table yet, so what the row says is not known."
            : "The table has no row of this name that can run: what is here is its history."}
        </p>
      )}
      <Neighbours words="After" names={before} />
      <Neighbours words="Then" names={after} />
      {row?.owner !== undefined && <p>Whom to ask: {short(row.owner)}.</p>}
      <p>
        <a href={find}>Its part of the graph</a>
        {row && (
          <>
            {" · "}
            <a href={`/sheets/${encodeURIComponent(jobName)}.csv`}>Template of a sheet (CSV)</a>
          </>
        )}
      </p>
    </section>
  );
}

/** What stands between backticks is code. */
function inCode(sentence: string): Child[] {
  return sentence.split("`").map((part, at) => at % 2 ? <code>{part}</code> : part);
}

function Neighbours({ words, names }: { words: string; names: readonly string[] }) {
  if (names.length === 0) return null;
  const rest = names.length - MAX_NEIGHBOURS;
  return (
    <p>
      {words}: {names.slice(0, MAX_NEIGHBOURS).map((name, at) => (
        <>
          {at > 0 && ", "}
          <a href={rowHref(name)}>{short(name)}</a>
        </>
      ))}
      {rest > 0 && ` and ${rest} more`}
    </p>
  );
}

/** With its fields where it says which it takes, else with a payload; nothing where nobody may act. */
function RunIt({ row }: { row: Row }) {
  if (theVisitor().mayAct === "never") return null;
  return (
    <section aria-labelledby="run-h">
      <h2 id="run-h">Run it</h2>
      {row.inputs ? <RowForm row={row} id="run" /> : (
        <ActionForm
          action="/actions/run"
          what="run it"
          label={`Run ${short(row.jobName)}`}
          buttons={<button type="submit">Run</button>}
        >
          <input type="hidden" name="job_name" value={row.jobName} />
          <Field id="run-payload" name="payload" label="Payload of the message">
            <textarea id="run-payload" name="payload"></textarea>
          </Field>
        </ActionForm>
      )}
    </section>
  );
}

/** The service changes no cell, so that the table alone says what runs. */
function Pausing({ row, tableUrl, live }: RowPageInput) {
  const waiting = live.filter(({ state }) => state === "pending").length;
  const where = (
    <>
      the cell <code>enabled</code> in line {row!.line} of{" "}
      {tableUrl === undefined ? "the table" : <code>{short(tableUrl)}</code>}
    </>
  );
  const isStopped = row!.enabled === "paused" || row!.enabled === "no";
  return (
    <section aria-labelledby="pause-h">
      <h2 id="pause-h">{isStopped ? "Resume" : "Pause"}</h2>
      {isStopped
        ? (
          <p>
            Write <code>yes</code> into {where}, or empty it. {row!.enabled === "paused"
              ? `What waits (${waiting} now) runs then.`
              : "Messages start it again from then on."}
          </p>
        )
        : (
          <p>
            Write <code>paused</code> into {where}: messages wait, and run when it says <code>yes</code> again. With
            {" "}
            <code>no</code> they start nothing. Only the table says what runs, so no button does it.
          </p>
        )}
    </section>
  );
}

// ---------------------------------------------------------------- runs

function Runs({ jobName, live, waits, ended, now }: RowPageInput) {
  const columns: Column<EndedRun>[] = [
    { head: "Run", cell: ({ run_name }) => <RunLink runName={run_name} /> },
    {
      head: "State",
      cell: ({ status, retried_as }) => (
        <>
          <StateWord state={status} />
          {retried_as !== undefined && (
            <>
              {" "}tried again as <RunLink runName={retried_as} />
            </>
          )}
        </>
      ),
    },
    { head: "Ended", cell: ({ finished_at }) => <Ago at={finished_at} now={now} /> },
    { head: "Took", isNumber: true, cell: tookWords },
    ...(ended.some(({ peak_memory }) => peak_memory !== undefined)
      ? [{
        head: "Peak memory",
        isNumber: true,
        cell: ({ peak_memory }: EndedRun) => peak_memory === undefined ? "–" : valueWords(peak_memory, "bytes"),
      }]
      : []),
    {
      head: "Why",
      cell: ({ status, message }) => status === "succeeded" ? "" : <span class="cut">{short(message)}</span>,
    },
  ];
  return (
    <section id="row-runs" data-live aria-labelledby="runs-h">
      <div class="line">
        <h2 id="runs-h">Runs</h2>
        <a class="end" href={`/runs?${new URLSearchParams({ row: jobName })}`}>All its runs</a>
      </div>
      {waits.length > 0 && (
        <ul>
          {waits.map(({ root, missing }) => (
            <li>
              Waits for {short(missing.join(", "))} (<a href={rootHref(root)}>all of this message</a>)
            </li>
          ))}
        </ul>
      )}
      {live.length > 0 && (
        <ul>
          {live.slice(0, MAX_LIVE).map(({ runName, state, detail, receivedAt }) => (
            <li>
              <RunLink runName={runName} /> <StateWord state={state} /> since its message came{" "}
              <Ago at={receivedAt} now={now} />
              {detail !== "" && `: ${short(detail)}`}
            </li>
          ))}
          {live.length > MAX_LIVE && <li class="muted">{live.length - MAX_LIVE} more</li>}
        </ul>
      )}
      {ended.length > 0
        ? <List caption={`The last ends of ${short(jobName)}`} columns={columns} rows={ended.slice(0, MAX_LISTED)} />
        : <p class="muted">None has ended, as far as is known.</p>}
    </section>
  );
}
