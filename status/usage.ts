/**
 * What the page `/usage` and `/usage.csv` show, gathered from the history. Must not know what the page looks like.
 */
import { adviceOf, type EndedRun, peaksOf, usageBy, usageCsv, type UsageLine, weekOf } from "../history.ts";
import { rowNamed } from "../catalog.ts";
import { compact } from "../util/compact.ts";
import { errorMessage } from "../util/errors.ts";
import type { Page } from "./answers.ts";
import { usagePage, type UsageQuery, type UsageRow } from "./pages/usage.tsx";
import type { Looking } from "./look.ts";

const DAY_MS = 24 * 3600_000;
const WEEKS = [1, 4, 12, 52] as const;
const BY = ["row", "owner", "week"] as const;
/** Ends of each row that peaks and advice are taken from. */
const LAST_ENDS = 50;
const NOBODY = "nobody named";

/** The page for a query: `weeks` and `by`. */
export async function readUsage(looking: Looking, params: URLSearchParams): Promise<Page> {
  const query = readQuery(params);
  try {
    const { days, ends, ownerOf } = await gather(looking, query);
    const weeks = usageBy(days, ({ day }) => weekOf(day)).sort((a, b) => a.name < b.name ? -1 : 1);
    const lines: Readonly<Record<UsageQuery["by"], () => UsageRow[]>> = {
      row: () => usageBy(days, ({ jobName }) => jobName).map((line) => withPeaks(line, ends, ownerOf)),
      owner: () => usageBy(days, ({ jobName }) => ownerOf(jobName)),
      week: () => weeks.toReversed(),
    };
    const shown = lines[query.by]();
    const [total] = usageBy(days, () => "all");
    const reach = looking.view.history.reach();
    const input = { query, rows: shown, weeks, reach, ...compact({ total }) };
    return { data: dataOf(query, shown, total), html: () => usagePage(input) };
  } catch (error) {
    const failure = `What runs cost cannot be read now: ${errorMessage(error)}`;
    return { data: { error: failure }, html: () => usagePage({ query, rows: [], weeks: [], failure }) };
  }
}

/** By week and row, for a spreadsheet. */
export async function readUsageCsv(looking: Looking, params: URLSearchParams): Promise<string> {
  const { days, ownerOf } = await gather(looking, readQuery(params));
  return [...usageCsv(days, (jobName) => ownerOf(jobName) === NOBODY ? "" : ownerOf(jobName))].join("");
}

function readQuery(params: URLSearchParams): UsageQuery {
  return {
    weeks: WEEKS.find((weeks) => String(weeks) === params.get("weeks")) ?? 4,
    by: BY.find((by) => by === params.get("by")) ?? "row",
    page: Number(params.get("page")) || 1,
  };
}

async function gather({ view, signal }: Looking, { weeks }: UsageQuery) {
  const since = new Date(Date.now() - weeks * 7 * DAY_MS);
  const looked = signal();
  const [days, ends] = await Promise.all([
    view.history.days({ since }, looked),
    view.history.lastEnds(LAST_ENDS, looked),
  ]);
  const ownerOf = (jobName: string) =>
    rowNamed(view.table()?.rows, jobName)?.owner ?? ends.get(jobName)?.at(-1)?.owner ?? NOBODY;
  return { days, ends, ownerOf };
}

function withPeaks(
  line: UsageLine,
  ends: ReadonlyMap<string, readonly EndedRun[]>,
  ownerOf: (jobName: string) => string,
): UsageRow {
  const last = ends.get(line.name) ?? [];
  return { ...line, owner: ownerOf(line.name), peaks: peaksOf(last), advice: adviceOf(last) };
}

function dataOf({ weeks, by }: UsageQuery, rows: readonly UsageRow[], total: UsageLine | undefined) {
  return {
    weeks,
    by,
    total: total === undefined ? null : lineData(total),
    lines: rows.map((row) => ({
      [by === "row" ? "job_name" : by]: row.name,
      ...lineData(row),
      ...compact({
        owner: row.owner === NOBODY ? undefined : row.owner,
        watched_runs: row.peaks?.runs,
        peak_memory: row.peaks?.memory,
        memory_allowed: row.peaks?.memoryAllowed,
        peak_cpu: row.peaks?.cpu,
        cpu_requested: row.peaks?.cpuRequested,
        advice: row.advice,
      }),
    })),
  };
}

function lineData({ runs, failed, coreHours, gibHours, gpuHours }: UsageLine) {
  return { runs, failed, core_hours: coreHours, gib_hours: gibHours, gpu_hours: gpuHours };
}
