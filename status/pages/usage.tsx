/**
 * The page `/usage`: what runs asked for, by row, owner or week, what they used of it, and what would do. A pure function
 * of its input.
 */
import { bytesWords, coresWords, type Peaks, type Reach, type UsageLine } from "../../history.ts";
import { Chart } from "./charts.tsx";
import { type Column, hrefWith, List, pageOf, PagesOf } from "./lists.tsx";
import { frame, RowLink, short } from "./parts.tsx";

export interface UsageQuery {
  /** How far back. */
  readonly weeks: number;
  readonly by: "row" | "owner" | "week";
  /** From 1. */
  readonly page: number;
}

export interface UsageRow extends UsageLine {
  readonly owner?: string;
  readonly peaks?: Peaks;
  /** Sentences. */
  readonly advice?: readonly string[];
}

export interface UsageInput {
  readonly query: UsageQuery;
  /** Most expensive first; weeks newest first. */
  readonly rows: readonly UsageRow[];
  /** Oldest first. */
  readonly weeks: readonly UsageLine[];
  /** Absent: there were no runs. */
  readonly total?: UsageLine;
  readonly reach?: Reach;
  /** Why there is nothing; a sentence. */
  readonly failure?: string;
}

const ROWS_A_PAGE = 30;
const PERIODS = [[1, "week"], [4, "4 weeks"], [12, "12 weeks"], [52, "year"]] as const;
const GROUPINGS = [["row", "Row"], ["owner", "Owner"], ["week", "Week"]] as const;

/** The page as HTML text. */
export function usagePage({ query, rows, weeks, total, reach, failure }: UsageInput): string {
  const list = pageOf(rows, query.page, ROWS_A_PAGE);
  return frame({
    title: "Usage – MQTT Job Listener",
    heading: "Usage",
    here: "usage",
    beside: <a class="small" href={`/usage.csv?weeks=${query.weeks}`}>Download as CSV</a>,
    children: (
      <>
        <Choices query={query} />
        {failure !== undefined && (
          <section class="alarm" aria-label="Trouble">
            <p>{short(failure, 2_000)}</p>
          </section>
        )}
        {total && <Totals total={total} />}
        {reach && reach.kind !== "all" && (
          <p class="muted">
            Counted are {reach.runs}{" "}
            runs that are known here{reach.kind === "partly" && "; the store is still being read"}.
          </p>
        )}
        {weeks.length > 1 && (
          <section aria-labelledby="weeks-t">
            <Chart
              id="weeks"
              title="Requested core-hours by week"
              summary="What runs that ended in a week had asked for, times how long they took."
              unit="hours"
              placeName="Week from"
              places={weeks.map(({ name }) => ({ label: name }))}
              series={[{
                name: "core-hours",
                kind: "bars",
                tone: "plain",
                values: weeks.map((week) => week.coreHours),
              }]}
            />
          </section>
        )}
        {total && (
          <section aria-labelledby="usage-h">
            <h2 id="usage-h">By {query.by}</h2>
            <List caption={`Usage by ${query.by}`} columns={columnsOf(query)} rows={list.rows} />
            <PagesOf of="usage" list={list} path={(page) => hrefOf(query, { page: String(page) })} />
          </section>
        )}
        {!total && failure === undefined && <p class="muted">No run ended in this time.</p>}
        <p class="muted">
          Hours are what a run requested, times the time from its start to its end. Peaks are what was seen of its pods;
          nothing here changes a cell.
        </p>
      </>
    ),
  });
}

function hrefOf({ weeks, by }: UsageQuery, changes: Readonly<Record<string, string>>): string {
  return hrefWith("/usage", { weeks: String(weeks), by }, changes);
}

function Choices({ query }: { query: UsageQuery }) {
  const href = (changes: Record<string, string>) => hrefOf(query, changes);
  return (
    <nav class="pager" aria-label="What is counted">
      {PERIODS.map(([weeks, words]) => (
        <a
          class="button"
          href={href({ weeks: String(weeks) })}
          aria-current={weeks === query.weeks ? "true" : undefined}
        >
          {words}
        </a>
      ))}
      <span class="muted">by</span>
      {GROUPINGS.map(([by, words]) => (
        <a class="button" href={href({ by })} aria-current={by === query.by ? "true" : undefined}>{words}</a>
      ))}
    </nav>
  );
}

function Totals({ total }: { total: UsageLine }) {
  return (
    <p>
      <strong>{total.runs}</strong> {total.runs === 1 ? "run" : "runs"}, {total.failed} failed;{" "}
      <strong>{hours(total.coreHours)}</strong> core-hours, <strong>{hours(total.gibHours)}</strong> GiB-hours,{" "}
      <strong>{hours(total.gpuHours)}</strong> GPU-hours.
    </p>
  );
}

function columnsOf({ by }: UsageQuery): Column<UsageRow>[] {
  const name: Column<UsageRow> = {
    head: by === "row" ? "Row" : by === "owner" ? "Owner" : "Week from",
    cell: ({ name }) => by === "row" ? <RowLink jobName={name} /> : short(name),
  };
  const figures: Column<UsageRow>[] = [
    { head: "Runs", isNumber: true, cell: ({ runs, failed }) => failed > 0 ? `${runs} (${failed} failed)` : `${runs}` },
    { head: "Core-hours", isNumber: true, cell: ({ coreHours }) => hours(coreHours) },
    { head: "GiB-hours", isNumber: true, cell: ({ gibHours }) => hours(gibHours) },
    { head: "GPU-hours", isNumber: true, cell: ({ gpuHours }) => hours(gpuHours) },
  ];
  if (by !== "row") return [name, ...figures];
  return [
    name,
    { head: "Owner", cell: ({ owner }) => short(owner), onPhone: "none" },
    ...figures,
    { head: "Peak memory", cell: ({ peaks }) => of(peaks?.memory, peaks?.memoryAllowed, bytesWords) },
    { head: "Peak CPU", cell: ({ peaks }) => of(peaks?.cpu, peaks?.cpuRequested, coresWords) },
    { head: "What would do", cell: ({ advice = [] }) => advice.length === 0 ? "–" : advice.map((one) => <p>{one}</p>) },
  ];
}

function of(peak: number | undefined, allowed: number | undefined, words: (value: number) => string): string {
  if (peak === undefined) return "not seen";
  return allowed === undefined ? words(peak) : `${words(peak)} of ${words(allowed)}`;
}

function hours(value: number): string {
  if (value === 0) return "0";
  if (value < 0.01) return "< 0.01";
  return value >= 100 ? Math.round(value).toLocaleString("en") : value.toPrecision(2);
}
