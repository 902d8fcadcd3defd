import { deepEqual, equal, match, ok } from "node:assert/strict";
import fc from "fast-check";
import { Chart, type ChartInput, type ChartUnit, roundScale, valueWords } from "../../status/pages/charts.tsx";

const GIB = 1024 ** 3;

const CHART: ChartInput = {
  id: "took",
  title: "Duration by day",
  summary: "The median is 2 min.",
  unit: "ms",
  placeName: "Day",
  places: [{ label: "1 Mar" }, { label: "2 Mar" }, { label: "3 Mar", words: "2026-03-03", href: "/runs?x=1&y=2" }],
  series: [
    { name: "median", kind: "line", tone: "plain", values: [60_000, undefined, 120_000] },
    { name: "95 %", kind: "dashed", tone: "warn", values: [90_000, undefined, 200_000] },
  ],
};

function drawn(more: Partial<ChartInput> = {}): string {
  return Chart({ ...CHART, ...more }).toString();
}

Deno.test("roundScale() takes round values of the unit, from 0 to the highest value or a little more", () => {
  deepEqual(roundScale(200_000, "ms").ticks, [0, 60_000, 120_000, 180_000, 240_000]);
  deepEqual(roundScale(9 * 3_600_000, "ms").ticks.map((tick) => tick / 3_600_000), [0, 3, 6, 9]);
  deepEqual(roundScale(30 * GIB, "bytes").ticks.map((tick) => tick / GIB), [0, 8, 16, 24, 32]);
  deepEqual(roundScale(3, "count").ticks, [0, 1, 2, 3]);
  deepEqual(roundScale(0.7, "hours").ticks, [0, 0.2, 0.4, 0.6, 0.8]);
  deepEqual(roundScale(0, "count"), { top: 1, ticks: [0, 1] });
});

Deno.test("roundScale() has two to five ticks that hold any value of any unit", () => {
  const units: ChartUnit[] = ["ms", "bytes", "count", "cores", "hours"];
  fc.assert(fc.property(fc.constantFrom(...units), fc.double({ min: 0, max: 1e15, noNaN: true }), (unit, highest) => {
    const { top, ticks } = roundScale(highest, unit);
    ok(top >= highest * (1 - 1e-9), `${top} for ${highest}`);
    ok(ticks.length >= 2 && ticks.length <= 5, `${ticks}`);
    equal(ticks.at(-1), top);
  }));
});

Deno.test("valueWords() says a value with its unit, and no more digits than count", () => {
  const words = ([value, unit]: [number, ChartUnit]) => valueWords(value, unit);
  deepEqual(
    ([
      [0, "ms"],
      [250, "ms"],
      [120_000, "ms"],
      [125_000, "ms"],
      [7_200_000, "ms"],
      [9.1 * GIB, "bytes"],
      [512, "bytes"],
      [1.23456, "hours"],
      [1234.5, "count"],
    ] satisfies [number, ChartUnit][]).map(words),
    ["0", "250 ms", "2 min", "2 min 5 s", "2 h", "9.1 GiB", "512 B", "1.23 h", "1235"],
  );
});

Deno.test("a chart draws a line over the places that have no value, and says all in a table", () => {
  const svg = drawn();
  match(svg, /class="curve line plain" d="M166\.67 124\.5L833\.33 87" vector-effect/);
  match(svg, /<title>2026-03-03: median 2 min, 95 % 3 min 20 s<\/title>/);
  match(svg, /<th scope="row"><a href="\/runs\?x=1&amp;y=2">2026-03-03<\/a><\/th><td>2 min<\/td><td>3 min 20 s<\/td>/);
  equal(svg.includes(">2 Mar</th>"), false);
});

Deno.test("bars of a chart stand on each other, and differ by more than their colour", () => {
  const svg = drawn({
    unit: "count",
    series: [
      { name: "succeeded", kind: "bars", tone: "good", values: [3, 0, 2] },
      { name: "failed", kind: "bars", tone: "bad", values: [1, 0, 0] },
    ],
  });
  const bars = [
    ...svg.matchAll(/<rect class="chart-bar (\w+)" x="3\.33%" y="([\d.]+)" width="26\.67%" height="([\d.]+)"([^>]*)>/g),
  ];
  deepEqual(bars.map(([, tone, y, height]) => [tone, Number(y), Number(height)]), [["good", 49.5, 112.5], [
    "bad",
    12,
    37.5,
  ]]);
  match(bars[1]![4]!, /fill="url\(#took-hatch\)"/);
});

Deno.test("a chart's axis holds a limit that is above all values", () => {
  const svg = drawn({
    unit: "bytes",
    series: [{ name: "peak", kind: "dots", tone: "plain", values: [GIB, 2 * GIB, undefined] }],
    limit: { name: "limit 8Gi", value: 8 * GIB },
  });
  match(svg, />8 GiB<\/text>/);
  match(svg, /<line class="limit" x1="0" x2="100%" y1="12" y2="12">/);
  equal(svg.match(/<circle class="dot plain" cx="/g)?.length, 3, "one in the legend");
});

Deno.test("a chart of nothing has an axis and no faults", () => {
  const svg = drawn({ places: [], series: CHART.series.map((one) => ({ ...one, values: [] })) });
  equal(/NaN|Infinity/.test(svg), false);
});

Deno.test("a chart escapes the words of its places", () => {
  equal(drawn({ places: CHART.places.map(() => ({ label: "<img>", href: '"><img>' })) }).includes("<img>"), false);
});

Deno.test("a chart of few places has room for more, free at the left", () => {
  const svg = drawn({ room: 20 });
  match(svg, /<rect class="hit" x="85%" y="0" width="5%"/);
  match(svg, /<tbody><tr><th scope="row">1 Mar</);
});
