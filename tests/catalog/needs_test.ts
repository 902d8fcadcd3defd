/** Rows that need others: what is wrong with a table of them, and how it is drawn. */
import { deepEqual, doesNotMatch, equal, match, ok } from "node:assert/strict";
import { chainGraph, toDot, toMermaid } from "../../catalog/chains.ts";
import type { Table } from "../../catalog.ts";
import { drawGraph } from "../../status/graph.tsx";
import { messages, PREFIX, read } from "./kit.ts";

/** Rows of name, topic, needs, and what is in `enabled`. */
function tableOf(...rows: [string, string, string, string?][]): Table {
  const lines = rows.map(([name, topic, needs, enabled = ""]) => `${name},${topic},busybox,"${needs}",${enabled}`);
  return read(`job_name,mqtt_topic,image,needs,enabled\n${lines.join("\n")}\n`);
}

const done = (name: string) => `${PREFIX}/job_complete/${name}`;

Deno.test("a row that needs others may have no topic, and has no subscription", () => {
  const table = tableOf(["sort", "lab/up", ""], ["lfp", "lab/up", ""], ["report", "", "sort, lfp"]);
  deepEqual(messages(table), []);
  deepEqual(table.rows[2]!.needs, ["sort", "lfp"]);
  deepEqual(table.index.filters(), ["lab/up"]);
});

Deno.test("needs of itself, of one twice, of no name and of too many are errors", () => {
  const many = Array.from({ length: 51 }, (_, at) => `r${at}`).join();
  const table = tableOf(["a", "", "a"], ["b", "", "x, x"], ["c", "", "x/y"], ["d", "", many], ["x", "t", ""]);
  equal(table.rows.length, 1);
  const said = messages(table).join("\n");
  match(said, /Line 2, needs.*the row needs itself/);
  match(said, /Line 3.*the entry "x" stands there twice; take one away/);
  match(said, /Line 4.*"x\/y" cannot be used: the name holds "\/"/);
  match(said, /Line 5.*names 51 rows, 50 are allowed/);
});

Deno.test("a needed row that is not there, is switched off or has errors is a warning that says what to write", () => {
  const table = tableOf(
    ["sort", "t", ""],
    ["off", "t", "", "no"],
    ["bad", "t/#/x", ""],
    ["report", "", "srt, off, bad, sort"],
    ["asleep", "", "nobody", "no"],
  );
  const said = messages(table).filter((text) => text.includes("needs"));
  equal(said.length, 3);
  match(
    said[0]!,
    /the row needs "srt", which no row has as its job_name, so this row never runs; did you mean "sort"\?/,
  );
  match(said[1]!, /the row needs "off" \(line 3\), which is switched off/);
  match(said[2]!, /the row needs "bad", whose row \(line 4\) has errors/);
});

Deno.test("circles through needs are found, alone and together with ends of jobs", () => {
  const alone = tableOf(["a", "", "b"], ["b", "", "c"], ["c", "", "a"], ["d", "", "a"]);
  const [said, ...more] = messages(alone);
  match(said!, /Line 2, needs.*the rows "a", "b", "c" wait for each other in a circle, so none of them runs/);
  deepEqual(more, []);
  const mixed = tableOf(["a", done("b"), ""], ["b", "", "a, c"], ["c", "lab/x", ""]);
  match(messages(mixed).join(), /the rows "a", "b" wait for each other in a circle/);
  const straight = tableOf(["a", "lab/x", ""], ["b", done("a"), ""], ["c", "", "a, b"], ["d", done("c"), "b"]);
  deepEqual(messages(straight), []);
});

Deno.test("a circle of ends beside needs is told once, as what it is", () => {
  const said = messages(tableOf(["a", done("b"), ""], ["b", done("a"), ""], ["c", "", "a, b"]));
  equal(said.length, 1);
  match(said[0]!, /start each other in a circle for ever/);
});

Deno.test("a placeholder that names a row which is not needed is a warning", () => {
  const table = read(
    "job_name,mqtt_topic,image,needs,args\nsort,t,busybox,,\n" +
      'report,,busybox,sort,"{result.sort.units} {result.units} {payload.needs.lfp.output} {result.lfp=none}"\n' +
      "both,t,busybox,sort,{result.units}\n",
  );
  const said = messages(table);
  equal(said.length, 2);
  match(said[0]!, /\{result\.units\} names no row of needs.*\{result\.sort…\}/);
  match(said[1]!, /\{payload\.needs\.lfp\.output\} names no row of needs/);
});

Deno.test("a key of a row that only what it needs starts is a warning", () => {
  const table = read(
    "job_name,mqtt_topic,image,needs,idempotency_key\nsort,t,x,,{payload.a}\nreport,,x,sort,{payload.a}\n",
  );
  match(messages(table).join("\n"), /^Line 3, needs "sort": such a row runs once .* whatever its idempotency_key says/);
});

Deno.test("needs are drawn as lines of their own with a word, in each language", () => {
  const table = tableOf(["sort", "lab/up", ""], ["lfp", "lab/up", ""], ["report", "", "sort, lfp, gone"]);
  const graph = chainGraph(table);
  deepEqual(
    graph.edges.filter(({ kind }) => kind === "needs").map(({ from, to }) => [
      graph.nodes.find(({ id }) => id === from)!.label,
      graph.nodes.find(({ id }) => id === to)!.label,
    ]),
    [["sort", "report"], ["lfp", "report"], ["gone", "report"]],
  );
  ok(graph.nodes.every(({ label }) => label !== ""), "no node for a topic that there is not");
  match(toMermaid(graph), /r0 == needs ==> r2/);
  match(toMermaid(graph), /gone<br\/>#40;no row has this job#41;|gone<br\/>\(no row has this job\)/);
  match(toDot(graph), /r1 -> r2 \[style=bold, label="needs"\]/);
  const { svg } = drawGraph(graph, PREFIX);
  match(svg, /class="edge needs"/);
  match(svg, />needs<\/text>/);
});

Deno.test("of a large table, rows that need others are drawn with those that they need", () => {
  const plain = Array.from({ length: 500 }, (_, at): [string, string, string] => [`r${at}`, `lab/${at}`, ""]);
  const graph = chainGraph(tableOf(...plain, ["report", "", "r400, r499"]), { maxRows: 50 });
  const labels = graph.nodes.map(({ label }) => label);
  for (const name of ["report", "r400", "r499"]) ok(labels.includes(name), name);
  doesNotMatch(toMermaid(graph), /no row has this job/);
});

Deno.test("needs of 20,000 rows are looked at, with as many names that nobody has", () => {
  const rows = Array.from(
    { length: 20_000 },
    (_, at): [string, string, string] => [`r${at}`, "", `r${at + 1}, x${at}`],
  );
  const table = tableOf(...rows);
  equal(table.chains.needCycles.length, 0);
  equal(table.chains.unmetNeeds.length, 20_001);
});

Deno.test("two needed rows that no one message leads to are a warning; in doubt there is none", () => {
  const apart = (...rows: [string, string, string, string?][]) =>
    messages(tableOf(...rows)).filter((text) => text.includes("no one message leads to"));
  match(
    apart(["a", "lab/x", ""], ["b", "lab/y", ""], ["c", "", "a, b"]).join(),
    /Line 4, needs "a, b": the row needs "a" and "b", which no one message leads to, so it never runs; give both rows/,
  );
  // Through chains and through what is needed.
  equal(apart(["a", "lab/x", ""], ["b", done("a"), ""], ["c", "lab/y", ""], ["d", "", "b, c"]).length, 1);
  equal(apart(["a", "lab/x", ""], ["b", "", "a"], ["c", "lab/y", ""], ["d", "", "b, c"]).length, 1);
  const right: Parameters<typeof tableOf>[] = [
    [["a", "lab/x", ""], ["b", "lab/+", ""], ["c", "", "a, b"]],
    [["a", "lab/x", ""], ["b", done("a"), ""], ["c", "", "a, b"]],
    [["a", "lab/x", ""], ["b", `${PREFIX}/job_complete/+`, ""], ["c", "", "a, b"]],
    [["a", "lab/x", ""], ["b", "lab/y", "", "no"], ["c", "", "a, b"]],
    [["a", "lab/x", ""], ["b", "", "a"], ["c", "", "a, b"]],
    [["a", "lab/x", ""], ["c", "", "a, gone"]],
  ];
  for (const rows of right) deepEqual(apart(...rows), []);
});

Deno.test("two rows by the clock share no message", () => {
  const table = read(
    "job_name,mqtt_topic,image,needs,schedule\na,,x,,@daily\nb,,x,,@daily\nc,,x,a;b,\nd,,x,a,\n",
  );
  const said = messages(table);
  equal(said.length, 1);
  match(said[0]!, /the row needs "a" and "b", which no one message leads to/);
});

Deno.test("sources of a long chain of needs are looked for without end of the stack", () => {
  const rows = Array.from(
    { length: 20_000 },
    (_, at): [string, string, string] => [`r${at}`, at === 0 ? "t" : "", at === 0 ? "" : `r${at - 1}`],
  );
  deepEqual(messages(tableOf(...rows)), []);
});
