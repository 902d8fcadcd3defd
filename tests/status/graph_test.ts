import { deepEqual, equal, ok } from "node:assert/strict";
import { chainGraph } from "../../catalog/chains.ts";
import { drawGraph, drawGraphSteps } from "../../status/graph.tsx";
import { PREFIX, tableOf } from "../harness/page_kit.ts";

Deno.test("drawGraph() marks by words what is odd about the table", () => {
  const { svg, omitted } = drawGraph(chainGraph(tableOf()), PREFIX);
  equal(omitted, 0);
  for (const words of ["has errors", "waits for a job that no row has", "in a circle", "starts itself", ">fails<"]) {
    ok(svg.includes(words), words);
  }
});

Deno.test("drawGraph() draws marked rows and chains first where there are too many", () => {
  const many = Array.from({ length: 400 }, (_, at) => `row${at},topics/${at},lab/x:1,1,1Gi,0`);
  const { svg, omitted } = drawGraph(chainGraph(tableOf(...many)), PREFIX);
  ok(omitted > 600);
  ok(svg.includes("curatte") && svg.includes("sort-spikes") && svg.includes("in a circle"));
});

Deno.test("drawGraphSteps() lets others work after each connected part", () => {
  const many = Array.from({ length: 20 }, (_, at) => `row${at},topics/${at},lab/x:1,1,1Gi,0`);
  const graph = chainGraph(tableOf(...many));
  let steps = 0;
  const drawing = drawGraphSteps(graph, PREFIX);
  let step = drawing.next();
  for (; !step.done; step = drawing.next()) steps++;
  ok(steps > 20, `${steps} steps`);
  equal(step.value.svg, drawGraph(graph, PREFIX).svg);
});

Deno.test("chainGraph() takes the odd rows and the chains of a table that is too large to draw", () => {
  const many = Array.from({ length: 5_000 }, (_, at) => `row${at},topics/${at},lab/x:1,1,1Gi,0`);
  const graph = chainGraph(tableOf(...many), { maxRows: 50 });
  const rows = graph.nodes.filter(({ kind }) => kind === "row");
  equal(rows.length, 50);
  equal(graph.omittedRows, 5_009 - 50);
  const labels = rows.map(({ label }) => label);
  for (const name of ["sort-spikes", "curate", "plot", "report", "loop", "ping", "broken"]) {
    ok(labels.includes(name), name);
  }
  deepEqual(rows.find(({ label }) => label === "curate")?.marks, []);
});
