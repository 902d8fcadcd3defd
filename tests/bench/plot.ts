/**
 * `deno run -A tests/bench/plot.ts [FILE]`: reads a saved run of the bench (docs/performance/run.jsonl) and writes its
 * plots beside it and its tables into docs/performance.md, between markers; so with those of
 * the peers (peers.jsonl) and of scale.md (scale.jsonl).
 * Everything it writes follows from the files, so that a test can hold the page to them. Measures nothing.
 */
import type { Conditions, Took } from "./conditions.ts";
import type { BenchPoint, BenchRow } from "./measure.ts";
import { at, fillMarks, markdownTable, niceTop, number, STYLE } from "./page_parts.ts";
import { fillScale, SCALE_RUN } from "./scale_page.ts";
import { fillPeers, PEERS_RUN, plotsOfPeers, readPeers } from "./peers/page.ts";

const DOCS = new URL("../../docs/", import.meta.url);
const PAGE = new URL("performance.md", DOCS);
const SCALE_PAGE = new URL("scale.md", DOCS);
/** Where the saved run is, and its plots. */
export const PLOTS: URL = new URL("performance/", DOCS);

/** A run of the bench as its lines say it. */
export interface SavedRun {
  readonly conditions: Conditions | undefined;
  readonly loadAfter: readonly number[];
  readonly rows: readonly BenchRow[];
  readonly points: readonly BenchPoint[];
  readonly took: readonly Took[];
}

/** Reads JSON lines. Several runs may stand in one file: the conditions are the first one's. */
export function readRun(text: string): SavedRun {
  const lines = text.split("\n").filter((line) => line !== "").map((line) => JSON.parse(line));
  return {
    conditions: lines.find((line) => "loadBefore" in line),
    loadAfter: lines.findLast((line) => "loadAfter" in line)?.loadAfter ?? [],
    rows: lines.filter((line) => "goal" in line),
    points: lines.filter((line) => "x" in line),
    took: lines.filter((line) => "measurement" in line),
  };
}

/** The page with what the run says between each pair of markers. Throws an Error when a marker is missing. */
export function fillPage(page: string, run: SavedRun): string {
  const parts = {
    conditions: conditionsText(run),
    figures: figuresTable(run),
    growth: growthTable(run),
    plots: plotsText(run),
    times: timesTable(run),
  };
  return fillMarks(page, parts);
}

function conditionsText({ conditions, loadAfter }: SavedRun): string {
  if (conditions === undefined) return "No run is saved yet.";
  const { date, commit, cores, memoryGb, loadBefore, versions, repeats, messages } = conditions;
  const load = (values: readonly number[]) => values.map((value) => value.toFixed(1)).join(", ");
  return [
    `- ${date.slice(0, 16).replace("T", " ")} UTC, commit ${commit}, ${cores} cores, ${memoryGb} GB of memory`,
    `- Medians of ${repeats} repeats; bursts of ${messages.toLocaleString("en")} messages`,
    `- Load of 1, 5 and 15 minutes: ${load(loadBefore)} before, ${load(loadAfter)} after`,
    // Lines that `deno fmt` need not wrap.
    ...inFours(Object.entries(versions).map(([name, version]) => `${name} ${version}`)),
  ].join("\n");
}

function inFours(parts: readonly string[]): string[] {
  return Array.from(
    { length: Math.ceil(parts.length / 4) },
    (_, index) => `- ${parts.slice(index * 4, index * 4 + 4).join(", ")}`,
  );
}

function figuresTable({ rows }: SavedRun): string {
  if (rows.length === 0) return "No figures are saved yet.";
  return markdownTable(
    ["figure", "value", "limit", "ratio", "goal", ""],
    rows.map(({ name, unit, value, limit, ratio, goal, ok }) => [
      name,
      `${number(value)} ${unit}`,
      limit === undefined ? "" : number(limit),
      ratio === undefined ? "" : number(ratio),
      goal.replace("<=", "≤").replace(">=", "≥").replace("value ", ""),
      goal === "none" ? "" : ok ? "ok" : "**missed**",
    ]),
  );
}

/** Of what is at most linear the exponent is 1; a measured point is not better than a tenth. */
const MOST_EXPONENT = 1.1;

/** How each series grows up to its last point, from the last one of half of that at most: nearer ones differ by noise. */
function growthTable(run: SavedRun): string {
  const all = seriesOf(run);
  if (all.length === 0) return "No growth is saved yet.";
  return markdownTable(
    ["figure", "from", "to", "exponent", "verdict"],
    all.map(({ name, points }) => {
      const last = points.at(-1)!;
      const before = points.findLast(({ x }) => x <= last.x / 2) ?? points[0]!;
      const exponent = Math.log(last.value / before.value) / Math.log(last.x / before.x);
      const said = ({ value, unit, x, xUnit }: BenchPoint) => `${number(value)} ${unit} at ${number(x)} ${xUnit}`;
      const isFault = !(exponent <= MOST_EXPONENT);
      return [name, said(before), said(last), exponent.toFixed(2), isFault ? "**above linear**" : "ok"];
    }),
  );
}

function timesTable({ took }: SavedRun): string {
  if (took.length === 0) return "No times are saved yet.";
  const total = took.reduce((sum, { seconds }) => sum + seconds, 0);
  return markdownTable(["measurement", "seconds"], [
    ...took.map(({ measurement, seconds }) => [measurement, String(seconds)]),
    ["all", String(total)],
  ]);
}

function plotsText(run: SavedRun): string {
  const names = seriesOf(run).map(({ name }) => name);
  if (names.length === 0) return "No plots are saved yet.";
  return names.map((name) => `![${titleOf(name)}](performance/${name}.svg)`).join("\n\n");
}

interface Series {
  readonly name: string;
  readonly points: readonly BenchPoint[];
}

function seriesOf({ points }: SavedRun): Series[] {
  const names = [...new Set(points.map(({ name }) => name))];
  return names.map((name) => ({
    name,
    points: points.filter((point) => point.name === name).sort((a, b) => a.x - b.x),
  })).filter((series) => series.points.length > 1);
}

const TITLES: Readonly<Record<string, string>> = {
  "growth-messages-memory": "Memory over runs that have ended",
  "growth-rows-table": "Reading a changed table and finding what changed",
  "growth-rows-match": "Finding the rows of a topic",
  "growth-rows-start": "Start of the service",
  "growth-rows-memory": "Memory of the idle service",
  "growth-rows-latency": "Publish to Job, median at 50 messages/s",
  "growth-jobs-memory": "Memory over live Jobs",
  "growth-jobs-latency": "Publish to Job, median at 50 messages/s",
  "growth-log-memory": "Highest memory of a process that keeps one log",
  "growth-log-time": "Time to keep one log",
  "growth-ended-heap": "Objects of the core over runs that have ended",
  "growth-ended-rss": "Memory of the core over runs that have ended",
  "growth-records-fill": "Making the index of ended runs anew",
  "growth-records-page": "Slowest question of a page to the index, 95 %",
  "growth-records-memory": "Memory of the index",
  "growth-items-time": "A group, from its message to its end",
  "growth-items-memory": "Memory while a group runs",
  "growth-waiting-memory": "Memory over runs that wait for a slot",
  "growth-waiting-latency": "Publish to Job of another row, beside runs that wait",
  "growth-waiting-cpu": "CPU to let runs go on as slots become free",
  "growth-schedules-start": "Start of the service over rows with a schedule",
  "growth-schedules-memory": "Memory of the idle service over rows with a schedule",
  "growth-schedules-latency": "Publish to Job of another row, beside schedules",
};

function titleOf(name: string): string {
  return TITLES[name] ?? name;
}

/** All plots of a run: file name → SVG. */
export function plotsOf(run: SavedRun): Map<string, string> {
  return new Map(seriesOf(run).map((series) => [`${series.name}.svg`, plot(series)]));
}

const [WIDTH, HEIGHT] = [640, 300] as const;
const BOX = { left: 80, right: 590, top: 44, bottom: 240 } as const;
/** One line over a logarithmic x axis, or a linear one where x does not span a decade; y begins at 0. */
function plot({ name, points }: Series): string {
  const xs = points.map(({ x }) => x);
  const [least, most] = [Math.min(...xs), Math.max(...xs)];
  const scale = most / least > 20 ? Math.log10 : (x: number) => x;
  const top = niceTop(Math.max(...points.map(({ value }) => value)));
  const xAt = (x: number) => at((scale(x) - scale(least)) / (scale(most) - scale(least)), BOX.left, BOX.right);
  const yAt = (value: number) => at(value / top, BOX.bottom, BOX.top);
  const { unit, xUnit } = points[0]!;
  const rules = [0, 0.25, 0.5, 0.75, 1].map((part) => {
    const y = yAt(top * part);
    return `  <line class="grid" x1="${BOX.left}" x2="${BOX.right}" y1="${y}" y2="${y}"/>
  <text x="${BOX.left - 8}" y="${y + 4}" text-anchor="end">${number(top * part)}</text>`;
  });
  const ticks = xs.filter((_, index) => xs.length <= 6 || index % 3 === 0).map((x) =>
    `  <text x="${xAt(x)}" y="${BOX.bottom + 20}" text-anchor="middle">${x.toLocaleString("en")}</text>`
  );
  const dots = points.map(({ x, value }) => `  <circle class="dot" cx="${xAt(x)}" cy="${yAt(value)}" r="4"/>`);
  const line = points.map(({ x, value }) => `${xAt(x)},${yAt(value)}`).join(" ");
  const middle = (BOX.top + BOX.bottom) / 2;
  return `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${WIDTH} ${HEIGHT}" width="${WIDTH}" height="${HEIGHT}" role="img">
  <title>${titleOf(name)}</title>
  <style>${STYLE}
  </style>
  <text class="title" x="${BOX.left}" y="24">${titleOf(name)}</text>
${[...rules, ...ticks].join("\n")}
  <text x="${(BOX.left + BOX.right) / 2}" y="${HEIGHT - 14}" text-anchor="middle">${xUnit}</text>
  <text transform="translate(18 ${middle}) rotate(-90)" text-anchor="middle">${
    unit === "MB" ? "memory" : "time"
  }, ${unit}</text>
  <polyline class="line" points="${line}"/>
${dots.join("\n")}
</svg>
`;
}

async function main(file: string | URL): Promise<void> {
  const run = readRun(await Deno.readTextFile(file));
  const peers = readPeers(await Deno.readTextFile(new URL(PEERS_RUN, PLOTS)).catch(() => ""));
  const text = await Deno.readTextFile(PAGE);
  for (const [name, svg] of [...plotsOf(run), ...plotsOfPeers(peers)]) {
    await Deno.writeTextFile(new URL(name, PLOTS), svg);
  }
  await Deno.writeTextFile(PAGE, fillPeers(fillPage(text, run), peers));
  const scale = await Deno.readTextFile(new URL(SCALE_RUN, PLOTS)).catch(() => "");
  await Deno.writeTextFile(SCALE_PAGE, fillScale(await Deno.readTextFile(SCALE_PAGE), scale));
}

if (import.meta.main) await main(Deno.args[0] ?? new URL("run.jsonl", PLOTS));
