/**
 * The page `/rows/{row}`: what the row says, how its runs went and how long they took, what it waits for, and the form that
 * runs it. A pure function of its input.
 */
import type { Child } from "hono/jsx";
import { describeProblem } from "../../catalog.ts";
import type { EndedRun, RowDay } from "../../history.ts";
import type { Row } from "../../ports.ts";
import { DAYS, type Durations, memoryLimitOf, type RowPageInput, tookMs } from "../row.ts";
import { Chart, type ChartPlace, type ChartSeries, valueWords } from "./charts.tsx";
import { type Column, List } from "./lists.tsx";
import { ageWords, Ago, frame, Heads, rowHref, runHref, RunLink, short, StateWord, Time } from "./parts.tsx";
import { ActionForm, Field } from "./forms.tsx";
import { RowForm } from "./run_forms.tsx";
import { theVisitor } from "./visitor.ts";

/** Ends in the list. */
const MAX_LISTED = 12;
const MAX_LIVE = 20;
/** Days of a chart at least, so that the first day is no wall. */
const LEAST_DAYS = 14;
/** Likewise of runs. */
const LEAST_RUNS = 20;
const MAX_NEIGHBOURS = 30;
const MONTHS = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

/** The page as HTML text. */
export function rowPage(input: RowPageInput): string {
  const { jobName, row, problems, failure } = input;
  return frame({
    title: `${short(jobName, 100)} – row`,
    heading: short(jobName),
    here: "graph",
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
          value={nextDue ? `in ${ageWords(nextDue.getTime() - now.getTime())}` : "–"}
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

function sumOf(days: readonly RowDay[]) {
  const sum = (of: (day: RowDay) => number) => days.reduce((all, day) => all + of(day), 0);
  return {
    succeeded: sum(({ succeeded }) => succeeded),
    failed: sum(({ failed }) => failed),
    cancelled: sum(({ cancelled }) => cancelled),
  };
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

// ---------------------------------------------------------------- charts

function Charts(input: RowPageInput) {
  const { ended } = input;
  return (
    <section id="row-charts" data-live aria-labelledby="charts-h">
      <h2 id="charts-h">How it goes</h2>
      {ended.length === 0 ? <p class="muted">No run of it has ended, as far as is known.</p> : (
        <>
          <LastRunsChart {...input} />
          <DurationChart {...input} />
          <EndsChart {...input} />
          <DayTable {...input} />
        </>
      )}
    </section>
  );
}

function shortDate(iso: string): string {
  const [, month, day] = /^\d{4}-(\d\d)-(\d\d)/.exec(iso) ?? [];
  return month === undefined ? "–" : `${Number(day)} ${MONTHS[Number(month) - 1]}`;
}

const END_SERIES = [["succeeded", "good"], ["failed", "bad"], ["cancelled", "warn"]] as const;

function runPlaces(runs: readonly EndedRun[]): ChartPlace[] {
  return runs.map(({ run_name, finished_at, status }) => ({
    label: shortDate(finished_at),
    words: `${run_name}, ${finished_at.slice(0, 16).replace("T", " ")}, ${status}`,
    href: runHref(run_name),
  }));
}

function LastRunsChart({ ended }: RowPageInput) {
  const runs = ended.toReversed();
  const series = END_SERIES.map(([name, tone]): ChartSeries => ({
    name,
    kind: "bars",
    tone,
    values: runs.map((run) => run.status === name ? Math.max(1, tookMs(run) ?? 0) : undefined),
  })).filter(({ values }) => values.some((value) => value !== undefined));
  return (
    <Chart
      id="last-runs"
      title={runs.length === 1 ? "The last run" : `The last ${runs.length} runs`}
      summary={`From start to end, newest at the right; the last one ${ended[0]!.status}.`}
      unit="ms"
      placeName="Run"
      places={runPlaces(runs)}
      room={LEAST_RUNS}
      series={series}
      tableElsewhere
    />
  );
}

/** The days of a chart, the first one with a run or earlier, to today. */
function chartDays(
  { days, now }: Pick<RowPageInput, "days" | "now">,
): { place: ChartPlace; day: RowDay | undefined }[] {
  const byDay = new Map(days.map((day) => [day.day, day]));
  const dayOf = (ago: number) => new Date(now.getTime() - ago * 86_400_000).toISOString().slice(0, 10);
  const all = Array.from({ length: DAYS }, (_, at) => dayOf(DAYS - 1 - at));
  const first = all.findIndex((day) => byDay.has(day));
  const from = Math.min(first === -1 ? DAYS : first, DAYS - LEAST_DAYS);
  return all.slice(from).map((day) => ({ place: { label: shortDate(day), words: day }, day: byDay.get(day) }));
}

function DurationChart(input: RowPageInput) {
  const shown = chartDays(input);
  if (input.days.filter(({ medianMs }) => medianMs !== undefined).length < 2) return null;
  return (
    <Chart
      id="durations"
      title="Duration by day"
      summary={trendWords(input.month, input.monthBefore)}
      unit="ms"
      placeName="Day"
      places={shown.map(({ place }) => place)}
      series={[
        { name: "median", kind: "line", tone: "plain", values: shown.map(({ day }) => day?.medianMs) },
        { name: "95 %", kind: "dashed", tone: "warn", values: shown.map(({ day }) => day?.p95Ms) },
      ]}
      tableElsewhere
    />
  );
}

/** `Last 30 days: median 12 min, 95 % within 20 min (320 runs); 20 % longer than in the 30 days before (10 min)` */
function trendWords(month: Durations | undefined, before: Durations | undefined): string {
  if (!month) return "No run succeeded in the last 30 days.";
  const words =
    `Last 30 days: median ${valueWords(month.medianMs, "ms")}, 95 % within ${valueWords(month.p95Ms, "ms")}, ` +
    `${month.runs} ${month.runs === 1 ? "run" : "runs"}`;
  if (!before || before.medianMs === 0) return `${words}.`;
  const change = Math.round(100 * (month.medianMs / before.medianMs - 1));
  const was = `${valueWords(before.medianMs, "ms")}, ${before.runs} ${before.runs === 1 ? "run" : "runs"}`;
  if (Math.abs(change) < 5) return `${words}; about as in the 30 days before (${was}).`;
  return `${words}; ${Math.abs(change)} % ${change > 0 ? "longer" : "shorter"} than in the 30 days before (${was}).`;
}

function EndsChart(input: RowPageInput) {
  const shown = chartDays(input);
  const { succeeded, failed, cancelled } = sumOf(input.days);
  if (succeeded + failed + cancelled === 0) return null;
  const rest = [failed > 0 ? `${failed} failed` : "", cancelled > 0 ? `${cancelled} were cancelled` : ""]
    .filter((words) => words !== "").join(", ");
  return (
    <Chart
      id="ends"
      title="Ends by day"
      summary={`${DAYS} days: ${succeeded} of ${succeeded + failed + cancelled} succeeded${
        rest === "" ? "" : `, ${rest}`
      }.`}
      unit="count"
      placeName="Day"
      places={shown.map(({ place }) => place)}
      series={END_SERIES.map(([name, tone]) => ({
        name,
        kind: "bars",
        tone,
        values: shown.map(({ day }) => day?.[name]),
      }))}
      tableElsewhere
    />
  );
}

/** What both charts of days show. */
function DayTable({ days }: RowPageInput) {
  if (days.length === 0) return null;
  const took = (ms: number | undefined) => ms === undefined ? "–" : valueWords(ms, "ms");
  return (
    <details id="days-table">
      <summary>The days as a table</summary>
      <table>
        <caption>Newest first</caption>
        <Heads names={["Day", "Succeeded", "Failed", "Cancelled", "Median", "95 %"]} />
        <tbody>
          {days.toReversed().map(({ day, succeeded, failed, cancelled, medianMs, p95Ms }) => (
            <tr>
              <th scope="row">{day}</th>
              {[succeeded, failed, cancelled, took(medianMs), took(p95Ms)].map((words) => <td>{words}</td>)}
            </tr>
          ))}
        </tbody>
      </table>
    </details>
  );
}

/** Left out where nobody has looked how much memory the runs had. */
function Memory(input: RowPageInput) {
  const runs = input.ended.filter(({ peak_memory }) => peak_memory !== undefined).toReversed();
  if (runs.length === 0) return null;
  const most = Math.max(...runs.map(({ peak_memory = 0 }) => peak_memory));
  const limit = memoryLimitOf(input);
  const of = limit === undefined
    ? "; it has no limit"
    : `, ${Math.round(100 * most / limit)} % of its limit of ${valueWords(limit, "bytes")}`;
  return (
    <section id="row-memory" data-live aria-label="Peak memory">
      <Chart
        id="memory"
        title="Peak memory"
        summary={`The most that ${runs.length === 1 ? "the run" : `one of ${runs.length} runs`} had was ${
          valueWords(most, "bytes")
        }${of}.`}
        unit="bytes"
        placeName="Run"
        places={runs.map(({ finished_at }) => ({
          label: shortDate(finished_at),
          words: finished_at.slice(0, 16).replace("T", " "),
        }))}
        room={LEAST_RUNS}
        series={[{ name: "peak", kind: "dots", tone: "plain", values: runs.map(({ peak_memory }) => peak_memory) }]}
        {...(limit === undefined ? {} : { limit: { name: `limit ${valueWords(limit, "bytes")}`, value: limit } })}
        tableElsewhere
      />
    </section>
  );
}

// ---------------------------------------------------------------- runs

function tookWords(run: EndedRun): string {
  const ms = tookMs(run);
  return ms === undefined ? "never started" : ms < 1_000 ? `${ms} ms` : ageWords(ms);
}

function Runs({ jobName, live, ended, now }: RowPageInput) {
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
    {
      head: "Took",
      isNumber: true,
      cell: (run) => tookWords(run),
    },
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
