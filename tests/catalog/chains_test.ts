import { deepEqual, doesNotMatch, equal, match } from "node:assert/strict";
import { type ChainFindings, chainGraph, findChains, toDot, toMermaid } from "../../catalog/chains.ts";
import { finish } from "../../util/slices.ts";
import type { Row } from "../../ports.ts";

const PREFIX = "services/mqtt_job_listener";
const done = (name: string) => `${PREFIX}/job_complete/${name}`;
const failed = (name: string) => `${PREFIX}/job_failed/${name}`;

/** Rows of name → topic. */
function source(topics: Record<string, string>) {
  const rows = Object.entries(topics).map(([jobName, mqttTopic], at): Row => (
    { line: at + 2, jobName, mqttTopic, image: "i", gpu: 0, parallelism: 1, backoffLimit: 0 }
  ));
  return { topicPrefix: PREFIX, rows, badRows: [] };
}

function names(findings: ChainFindings) {
  const list = (rows: readonly Row[]) => rows.map((row) => row.jobName);
  return {
    selfTriggers: list(findings.selfTriggers),
    cycles: findings.cycles.map(list),
    orphans: list(findings.orphans),
    never: list(findings.never),
  };
}

const find = (topics: Record<string, string>) => names(finish(findChains(source(topics))));

Deno.test("findChains() finds nothing odd in a straight chain", () => {
  deepEqual(find({ a: "x", b: done("a"), c: done("b"), d: failed("b") }), {
    selfTriggers: [],
    cycles: [],
    orphans: [],
    never: [],
  });
});

Deno.test("findChains() finds circles, also through failures", () => {
  const found = find({ a: done("c"), b: done("a"), c: failed("b"), d: done("c"), e: "x" });
  deepEqual(found.cycles, [["a", "b", "c"]]);
  deepEqual(found.selfTriggers, []);
});

Deno.test("findChains() finds a row that starts itself", () => {
  const found = find({ a: done("a"), b: failed("b"), c: "x" });
  deepEqual(found.selfTriggers, ["a", "b"]);
  deepEqual(found.cycles, []);
});

Deno.test("findChains() sees through wildcards", () => {
  const found = find({ a: `${PREFIX}/job_complete/+`, b: "x", c: `${PREFIX}/#` });
  deepEqual(found.selfTriggers, ["a", "c"]);
  deepEqual(found.cycles, [["a", "c"]]);
});

Deno.test("findChains() does not let a filter outside the prefix see ends", () => {
  deepEqual(find({ a: "#", b: "services/+/job_complete/a" }).selfTriggers, []);
});

Deno.test("findChains() finds rows that wait in vain", () => {
  const found = find({ a: done("nobody"), b: `${PREFIX}/REFRESH`, c: PREFIX, d: done("a/b") });
  deepEqual(found.orphans, ["a"]);
  deepEqual(found.never, ["b", "c", "d"]);
});

Deno.test("findChains() follows a chain of 50,000 rows into its circle", () => {
  const count = 50_000;
  const topics: Record<string, string> = {};
  for (let at = 0; at < count; at++) topics[`j${at}`] = done(`j${(at + 1) % count}`);
  const [cycle] = find(topics).cycles;
  equal(cycle?.length, count);
});

Deno.test("chainGraph() holds topics, rows, ends that are waited for, and bad rows", () => {
  const graph = chainGraph({
    ...source({ a: "x", b: done("a"), c: done("typo") }),
    badRows: [{ line: 9, jobName: "", mqttTopic: "x" }],
  });
  const label = new Map(graph.nodes.map((node) => [node.id, node.label]));
  deepEqual(graph.edges.map(({ from, to, kind }) => [label.get(from), kind, label.get(to)]), [
    ["x", "starts", "a"],
    [done("a"), "starts", "b"],
    [done("typo"), "starts", "c"],
    ["x", "starts", "line 9"],
    ["a", "succeeds", done("a")],
  ]);
  deepEqual(graph.nodes.filter((node) => node.marks.length > 0).map((node) => [node.label, node.marks]), [
    [done("typo"), ["orphan"]],
    ["c", ["orphan"]],
    ["line 9", ["bad"]],
  ]);
});

Deno.test("toMermaid() and toDot() let no name break out of its label", () => {
  const graph = chainGraph(source({ 'x"]; evil["<b>`#35;': "t\\", b: failed("x") }));
  const mermaid = toMermaid(graph);
  match(mermaid, /r0\["x#34;#93;#59; evil#91;#34;#60;b#62;#96;#35;35#59;"\]/);
  doesNotMatch(mermaid, /<b>/);
  const dot = toDot(graph);
  match(dot, /r0 \[label="x\\"\]; evil\[\\"<b>`#35;", shape=box\];/);
  match(dot, /t0 \[label="t\\\\", shape=ellipse\];/);
});

Deno.test("a row that is switched off is marked, and is part of no circle", () => {
  const { rows, ...rest } = source({ a: done("b"), b: done("a") });
  const table = { ...rest, rows: rows.map((row): Row => row.jobName === "a" ? { ...row, enabled: "no" } : row) };
  deepEqual(finish(findChains(table)).cycles, []);
  match(toMermaid(chainGraph(table)), /a<br\/>\(switched off\)|a<br\/>#40;switched off#41;/);
});

Deno.test("chainGraph() has a node for each schedule, and none for a topic that is empty", () => {
  const [a, b, c] = source({ a: "", b: "x", c: "" }).rows;
  const daily = { schedule: { cron: "@daily" }, timeZone: "Europe/Berlin" };
  const rows = [{ ...a!, ...daily }, { ...b!, ...daily }, { ...c!, schedule: { everySeconds: 1800 } }];
  const graph = chainGraph({ topicPrefix: PREFIX, rows, badRows: [] });
  deepEqual(graph.nodes.map(({ kind, label }) => `${kind} ${label}`), [
    "schedule @daily Europe/Berlin",
    "row a",
    "topic x",
    "row b",
    "schedule every 30m UTC",
    "row c",
  ]);
  deepEqual(graph.edges.map(({ from, to }) => `${from} ${to}`), ["s0 r0", "t0 r1", "s0 r1", "s1 r2"]);
});
