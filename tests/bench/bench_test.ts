/** The bench's own arithmetic, and docs/performance.md and its plots against the run that they are made of. */
import { deepEqual, equal, match, ok, throws } from "node:assert/strict";
import { needs } from "../harness/needs.ts";
import { atLeast, atMost, percentile, rowsOf } from "./measure.ts";
import { MEASUREMENTS } from "./rows.ts";
import { fillPeers, PEERS_RUN, plotsOfPeers, readPeers } from "./peers/page.ts";
import { fillPage, PLOTS, plotsOf, readRun } from "./plot.ts";

const MARKED = ["conditions", "figures", "growth", "plots", "times"]
  .map((name) => `<!-- ${name}:begin -->\nold\n<!-- ${name}:end -->\n`).join("");

const RUN = [
  {
    date: "2026-01-02T03:04:05.000Z",
    commit: "abc",
    cores: 2,
    memoryGb: 24,
    loadBefore: [0.1, 0.2, 0.3],
    versions: { deno: "2" },
    repeats: 3,
    messages: 5000,
  },
  { name: "a", unit: "ms", value: 12.5, limit: 10, ratio: 1.25, goal: "ratio <= 1.5", ok: true },
  { name: "b", unit: "MB", value: 400, goal: "value <= 300", ok: false },
  { name: "growth-jobs-memory", unit: "MB", x: 10000, xUnit: "live Jobs", value: 200 },
  { name: "growth-jobs-memory", unit: "MB", x: 100, xUnit: "live Jobs", value: 100 },
  { measurement: "a", seconds: 7 },
  { loadAfter: [1, 1, 1] },
].map((line) => JSON.stringify(line)).join("\n");

Deno.test("rowsOf() judges the median of the ratios, not the ratio of the medians", () => {
  const samples = [{ a: { value: 10, limit: 10 } }, { a: { value: 6, limit: 10 } }, { a: { value: 9, limit: 10 } }];
  deepEqual(rowsOf(samples, { a: { unit: "x", goal: atLeast(0.95) } }), [
    { name: "a", unit: "x", value: 9, limit: 10, ratio: 0.9, goal: "ratio >= 0.95", ok: false },
  ]);
});

Deno.test("rowsOf() does not call a figure good that could not be measured", () => {
  equal(rowsOf([{ a: { value: NaN } }], { a: { unit: "x", goal: atMost(1, "value") } })[0]!.ok, false);
});

Deno.test("percentile() takes the nearest rank", () => {
  equal(percentile(Array.from({ length: 100 }, (_, index) => 100 - index), 99), 99);
});

Deno.test("fillPage() writes figures with limits and says which are missed", () => {
  const page = fillPage(MARKED, readRun(RUN));
  match(page, /^\| a +\| 12.5 ms \| 10 +\| 1.25 +\| ratio ≤ 1.5 \| ok +\|$/m);
  match(page, /^\| b +\| 400 MB +\| +\| +\| ≤ 300 +\| \*\*missed\*\* \|$/m);
});

Deno.test("fillPage() leaves a page as it is that it has filled before", () => {
  const page = fillPage(MARKED, readRun(RUN));
  equal(fillPage(page, readRun(RUN)), page);
});

Deno.test("fillPage() names the marker that a page lacks", () => {
  throws(() => fillPage(MARKED.replace("<!-- plots:end -->", ""), readRun(RUN)), /no <!-- plots:begin -->/);
});

Deno.test("plotsOf() draws a series in the order of x, with units", () => {
  const svg = plotsOf(readRun(RUN)).get("growth-jobs-memory.svg")!;
  match(svg, /points="80,142 590,44"/);
  match(svg, />live Jobs<\/text>[^]*>memory, MB<\/text>/);
});

Deno.test({
  name: "an item of a group costs four calls of the API server at most",
  ignore: !await needs("mosquitto", "s3", "cluster"),
  async fn() {
    const [sample] = await MEASUREMENTS["groups"]!.run(1, 50, () => {});
    ok(sample!["groups-calls"]!.value <= 4, `${sample!["groups-calls"]!.value} calls`);
  },
});

const saved = await Deno.readTextFile(new URL("run.jsonl", PLOTS)).catch(() => "");
const savedPeers = readPeers(await Deno.readTextFile(new URL(PEERS_RUN, PLOTS)).catch(() => ""));

Deno.test("docs/performance.md holds what the saved runs say", async () => {
  const page = await Deno.readTextFile(new URL("../../docs/performance.md", import.meta.url));
  equal(
    page,
    fillPeers(fillPage(page, readRun(saved)), savedPeers),
    "docs/performance.md is behind: deno run -A tests/bench/plot.ts",
  );
});

Deno.test("the plots of docs/performance.md are those of the saved runs, and no others", async () => {
  const plots = new Map([...plotsOf(readRun(saved)), ...plotsOfPeers(savedPeers)]);
  const files = await Array.fromAsync(Deno.readDir(PLOTS), ({ name }) => name).catch((): string[] => []);
  deepEqual(files.filter((name) => name.endsWith(".svg")).sort(), [...plots.keys()].sort());
  for (const [name, svg] of plots) equal(await Deno.readTextFile(new URL(name, PLOTS)), svg, name);
});
