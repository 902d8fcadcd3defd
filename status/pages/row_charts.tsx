/**
 * The charts of a row's page: how long its runs took, how they ended, how much memory they had. Pure functions of what the
 * page shows.
 */
import { type EndedRun, type RowDay, tookMs } from "../../history.ts";
import { DAYS, type Durations, memoryLimitOf, type RowPageInput } from "../row.ts";
import { Chart, type ChartPlace, type ChartSeries, valueWords } from "./charts.tsx";
import { Heads, runHref } from "./parts.tsx";

/** Days of a chart at least, so that the first day is no wall. */
const LEAST_DAYS = 14;
/** Likewise of runs. */
const LEAST_RUNS = 20;
const MONTHS = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

/** Of all those days. */
export function sumOf(days: readonly RowDay[]) {
  const sum = (of: (day: RowDay) => number) => days.reduce((all, day) => all + of(day), 0);
  return {
    succeeded: sum(({ succeeded }) => succeeded),
    failed: sum(({ failed }) => failed),
    cancelled: sum(({ cancelled }) => cancelled),
  };
}

/** Of the last runs, and of days. */
export function Charts(input: RowPageInput) {
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
export function Memory(input: RowPageInput) {
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
