/**
 * Small charts as SVG, made on the server: bars, lines and dots over places such as days or runs, an axis with round
 * values, and a table that says the same. Pure functions of their input; what the values mean is the caller's business.
 * Widths are in percent and heights in px, so that a chart fits any screen without its words growing or shrinking.
 */
import { bytesWords } from "../../history.ts";
import { preciseWords } from "../timeline.ts";
import { short } from "./parts.tsx";

/** What values are counted in: `ms`, `bytes`, whole things, cores or hours. */
export type ChartUnit = "ms" | "bytes" | "count" | "cores" | "hours";

export interface ChartSeries {
  readonly name: string;
  /** Bars of one place stand on each other. */
  readonly kind: "line" | "dashed" | "dots" | "bars";
  /** Bars: `good` filled, `bad` hatched, `warn` an outline, `plain` filled in the colour of links. */
  readonly tone: "plain" | "good" | "bad" | "warn";
  /** One for each place; undefined: there is none. */
  readonly values: readonly (number | undefined)[];
}

export interface ChartPlace {
  /** Under the axis, where there is room: `3 Mar`. */
  readonly label: string;
  /** In the table and when pointed at; default `label`. */
  readonly words?: string;
  readonly href?: string;
}

export interface ChartInput {
  /** Unique on the page. */
  readonly id: string;
  readonly title: string;
  /** What the chart shows, in a sentence. */
  readonly summary: string;
  readonly unit: ChartUnit;
  /** What a place is, as the table's head has it: `Day`. */
  readonly placeName: string;
  /** From left to right. */
  readonly places: readonly ChartPlace[];
  readonly series: readonly ChartSeries[];
  /** A line across, such as a limit. */
  readonly limit?: { readonly name: string; readonly value: number };
  /** Room for so many places at least, so that few are not wide as a wall; it is free at the left. */
  readonly room?: number;
  /** The page has a list that says the same. */
  readonly tableElsewhere?: boolean;
}

const PLOT_PX = 150;
const TOP_PX = 12;
const AXIS_PX = 22;
/** For the words of the axis of values. */
const SIDE_PX = 68;
const MAX_TICKS = 4;
const MAX_LABELS = 6;
/** Units of a line's path from left to right. */
const LINE_UNITS = 1000;

/** A chart with its legend, and its values as a table. */
export function Chart(given: ChartInput) {
  const chart = withRoom(given);
  const { id, title, summary, unit, series, limit } = chart;
  const scale = roundScale(Math.max(highest(chart), limit?.value ?? 0), unit);
  const y = (value: number) => round(TOP_PX + PLOT_PX * (1 - value / scale.top));
  return (
    <figure class="chart" aria-labelledby={`${id}-t`}>
      <figcaption>
        <strong id={`${id}-t`}>{title}</strong>
        <span class="legend">
          {series.map((one) => (
            <span>
              <Key series={one} hatch={`${id}-hatch`} />
              {one.name}
            </span>
          ))}
          {limit && (
            <span>
              <svg width={18} height={12} aria-hidden="true">
                <path class="limit" d="M0 6h18" />
              </svg>
              {short(limit.name)}
            </span>
          )}
        </span>
      </figcaption>
      <p>{summary}</p>
      <div class="plot" aria-hidden="true">
        <svg width={SIDE_PX} height={TOP_PX + PLOT_PX + AXIS_PX}>
          {scale.ticks.map((tick) => (
            <text x={SIDE_PX - 6} y={y(tick) + 4} text-anchor="end">{valueWords(tick, unit)}</text>
          ))}
        </svg>
        <svg width="100%" height={TOP_PX + PLOT_PX + AXIS_PX}>
          <defs>
            <pattern id={`${id}-hatch`} width={5} height={5} patternUnits="userSpaceOnUse">
              <path class="hatch" d="M-1 1L1 -1M0 5L5 0M4 6L6 4" />
            </pattern>
          </defs>
          {scale.ticks.map((tick) => <line class="grid" x1={0} x2="100%" y1={y(tick)} y2={y(tick)} />)}
          <Bars chart={chart} y={y} />
          <Lines chart={chart} y={y} />
          <Dots chart={chart} y={y} />
          {limit && <line class="limit" x1={0} x2="100%" y1={y(limit.value)} y2={y(limit.value)} />}
          <PlaceLabels places={chart.places} />
          <Places chart={chart} />
        </svg>
      </div>
      {chart.tableElsewhere !== true && <ChartTable chart={chart} />}
    </figure>
  );
}

function withRoom(chart: ChartInput): ChartInput {
  const free = Math.max(0, (chart.room ?? 0) - chart.places.length);
  if (free === 0) return chart;
  const before = <T,>(values: readonly T[], none: T): T[] => [...new Array<T>(free).fill(none), ...values];
  return {
    ...chart,
    places: before(chart.places, { label: "" }),
    series: chart.series.map((one) => ({ ...one, values: before(one.values, undefined) })),
  };
}

/** Legend's sample of a series: the shape that it has in the chart. */
function Key({ series: { kind, tone }, hatch }: { series: ChartSeries; hatch: string }) {
  return (
    <svg width={18} height={12} aria-hidden="true">
      {kind === "bars"
        ? <rect class={`chart-bar ${tone}`} x={3} y={1} width={12} height={10} fill={fillOf(tone, hatch)} />
        : kind === "dots"
        ? <circle class={`dot ${tone}`} cx={9} cy={6} r={3.5} />
        : <path class={`curve ${kind} ${tone}`} d="M0 6h18" />}
    </svg>
  );
}

/** A hatch is a pattern of the document, which no class can name. */
function fillOf(tone: ChartSeries["tone"], hatch: string): string | undefined {
  return tone === "bad" ? `url(#${hatch})` : undefined;
}

interface Part {
  readonly chart: ChartInput;
  /** Where a value is, in px from the top. */
  readonly y: (value: number) => number;
}

function Bars({ chart: { id, places, series }, y }: Part) {
  const bars = series.filter(({ kind }) => kind === "bars");
  const slot = 100 / places.length;
  return (
    <>
      {places.map((_, at) => {
        let below = 0;
        return bars.map(({ tone, values }) => {
          const value = values[at] ?? 0;
          if (value <= 0) return null;
          const [bottom, top] = [y(below), y(below += value)];
          // What took no time to speak of is seen too.
          const height = Math.max(2, round(bottom - top));
          return (
            <rect
              class={`chart-bar ${tone}`}
              x={`${round((at + 0.1) * slot)}%`}
              y={bottom - height}
              width={`${round(0.8 * slot)}%`}
              height={height}
              fill={fillOf(tone, `${id}-hatch`)}
            />
          );
        });
      })}
    </>
  );
}

/** A place without a value leaves no gap: the line goes on to the next one that has some. */
function Lines({ chart: { places, series }, y }: Part) {
  const curves = series.filter(({ kind }) => kind === "line" || kind === "dashed");
  if (curves.length === 0) return null;
  const slot = LINE_UNITS / places.length;
  const height = TOP_PX + PLOT_PX;
  return (
    <svg width="100%" height={height} viewBox={`0 0 ${LINE_UNITS} ${height}`} preserveAspectRatio="none">
      {curves.map(({ kind, tone, values }) => {
        const points = values.flatMap((value, at) =>
          value === undefined ? [] : [`${round((at + 0.5) * slot)} ${y(value)}`]
        );
        return points.length < 2
          ? null
          : <path class={`curve ${kind} ${tone}`} d={`M${points.join("L")}`} vector-effect="non-scaling-stroke" />;
      })}
    </svg>
  );
}

/** Of a line too, where places with values are few: one alone has no line. */
function Dots({ chart: { places, series }, y }: Part) {
  const slot = 100 / places.length;
  return (
    <>
      {series.map(({ kind, tone, values }) => {
        if (kind === "bars") return null;
        const known = values.filter((value) => value !== undefined).length;
        const r = kind === "dots" ? 3.5 : known <= 31 ? 2.5 : 0;
        if (r === 0) return null;
        return values.map((value, at) =>
          value === undefined
            ? null
            : <circle class={`dot ${tone}`} cx={`${round((at + 0.5) * slot)}%`} cy={y(value)} r={r} />
        );
      })}
    </>
  );
}

function PlaceLabels({ places }: { places: readonly ChartPlace[] }) {
  const every = Math.max(1, Math.ceil(places.length / MAX_LABELS));
  const middle = Math.floor((every - 1) / 2);
  let before: string | undefined;
  return (
    <>
      {places.map(({ label }, at) => {
        // The same day under several runs is said once.
        if (at % every !== middle || label === "" || label === before) return null;
        before = label;
        const x = (at + 0.5) * 100 / places.length;
        // A word in the middle of the last place would go beyond the edge.
        const isLast = x > 96;
        return (
          <text x={isLast ? "100%" : `${round(x)}%`} y={TOP_PX + PLOT_PX + 16} text-anchor={isLast ? "end" : "middle"}>
            {short(label, 12)}
          </text>
        );
      })}
    </>
  );
}

/** What is said where a place is pointed at. The table has its links for the keyboard. */
function Places({ chart }: { chart: ChartInput }) {
  const { places } = chart;
  return (
    <>
      {places.map((place, at) => {
        const words = placeWords(chart, at);
        if (words.length === 0) return null;
        const area = (
          <rect
            class="hit"
            x={`${round(at * 100 / places.length)}%`}
            y={0}
            width={`${round(100 / places.length)}%`}
            height={TOP_PX + PLOT_PX}
          >
            <title>{`${short(place.words ?? place.label)}: ${words.join(", ")}`}</title>
          </rect>
        );
        return place.href === undefined ? area : <a href={place.href} tabindex={-1}>{area}</a>;
      })}
    </>
  );
}

function placeWords({ series, unit }: ChartInput, at: number): string[] {
  return series.flatMap(({ name, kind, values }) => {
    const value = values[at];
    return value === undefined || (value === 0 && kind === "bars") ? [] : [`${name} ${valueWords(value, unit)}`];
  });
}

/** Places without any value are left out. */
function ChartTable({ chart: { id, title, unit, placeName, places, series } }: { chart: ChartInput }) {
  return (
    <details id={`${id}-table`}>
      <summary>As a table</summary>
      <table>
        <caption>{title}</caption>
        <thead>
          <tr>
            <th scope="col">{placeName}</th>
            {series.map(({ name }) => <th scope="col">{name}</th>)}
          </tr>
        </thead>
        <tbody>
          {places.map(({ label, words = label, href }, at) =>
            series.some(({ values }) => values[at] !== undefined) && (
              <tr>
                <th scope="row">{href === undefined ? short(words) : <a href={href}>{short(words)}</a>}</th>
                {series.map(({ values }) => <td>{values[at] === undefined ? "–" : valueWords(values[at], unit)}</td>)}
              </tr>
            )
          )}
        </tbody>
      </table>
    </details>
  );
}

/** The highest that is to be seen, bars of one place together. */
function highest({ places, series }: ChartInput): number {
  let most = 0;
  for (const at of places.keys()) {
    let bars = 0;
    for (const { kind, values } of series) {
      const value = values[at] ?? 0;
      if (kind === "bars") bars += value;
      else most = Math.max(most, value);
    }
    most = Math.max(most, bars);
  }
  return most;
}

/** No value is told from 0 that is less. */
const LEAST = 0.001;
const [SECOND, MINUTE, HOUR, DAY] = [1000, 60_000, 3_600_000, 86_400_000];
const TIME_STEPS = [
  ...[1, 2, 5, 10, 15, 30].map((seconds) => seconds * SECOND),
  ...[1, 2, 5, 10, 15, 30].map((minutes) => minutes * MINUTE),
  ...[1, 2, 3, 6, 12].map((hours) => hours * HOUR),
];

/** An axis from 0 to `top`, which is `highest` or more, with ticks at round values of the unit. */
export function roundScale(
  highest: number,
  unit: ChartUnit,
): { readonly top: number; readonly ticks: readonly number[] } {
  const most = Number.isFinite(highest) ? Math.max(highest, LEAST) : 1;
  const step = stepFor(highest > 0 ? most : 1, unit);
  const count = Math.max(1, Math.ceil(most / step - 1e-9));
  // 3 * 0.2 is 0.6000000000000001.
  const ticks = Array.from({ length: count + 1 }, (_, at) => Number((at * step).toPrecision(12)));
  return { top: ticks[count]!, ticks };
}

function stepFor(highest: number, unit: ChartUnit): number {
  const least = highest / MAX_TICKS;
  if (unit === "ms" && highest > SECOND) {
    return TIME_STEPS.find((step) => step >= least) ?? decimalStep(least / DAY) * DAY;
  }
  if (unit === "bytes") return 2 ** Math.max(0, Math.ceil(Math.log2(least)));
  const step = decimalStep(least);
  return unit === "count" ? Math.max(1, step) : step;
}

/** The smallest of 1, 2 and 5 with any number of zeros that is not less. */
function decimalStep(least: number): number {
  const power = 10 ** Math.floor(Math.log10(least));
  return [1, 2, 5, 10].map((factor) => Number((factor * power).toPrecision(1))).find((step) =>
    step >= least * (1 - 1e-9)
  )!;
}

/** A value with its unit, as people say it: `2 min`, `9.1 GiB`, `12`. */
export function valueWords(value: number, unit: ChartUnit): string {
  switch (unit) {
    case "ms":
      if (value === 0) return "0";
      // Of a round value no more is said than is needed.
      return preciseWords(value).replace(/ 0 (s|min|h)$/, "");
    case "bytes":
      if (value >= 1024 ** 2) return bytesWords(value);
      return value === 0 ? "0" : value < 1024 ? `${figure(value)} B` : `${figure(value / 1024)} KiB`;
    case "hours":
      return value === 0 ? "0" : `${figure(value)} h`;
    default:
      return figure(value);
  }
}

/** At most three digits that count; whole from 100 on. */
function figure(value: number): string {
  return value >= 100 ? String(Math.round(value)) : String(Number(value.toPrecision(3)));
}

function round(value: number): number {
  return Math.round(value * 100) / 100;
}
