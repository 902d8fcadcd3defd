import { deepEqual, doesNotMatch, equal, match, ok } from "node:assert/strict";
import { chainGraph } from "../../catalog/chains.ts";
import { parseTable } from "../../catalog.ts";
import { drawGraph, drawGraphSteps, layoutSteps } from "../../status/graph.tsx";
import { finish } from "../../util/slices.ts";
import { selectRuns } from "../harness/model_history.ts";
import { aRecord, aRunView } from "../harness/fakes.ts";
import { anApp, fakeView, PREFIX, tableOf } from "../harness/page_kit.ts";

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

function layoutOf(...more: string[]) {
  return finish(layoutSteps(chainGraph(tableOf(...more)), { topicPrefix: PREFIX, lifeLines: 2 }));
}

Deno.test("the end of one row alone is no node: an edge leads from the row to what it starts", () => {
  const { nodes, edges } = layoutOf();
  const byId = new Map(nodes.map(({ id, label }) => [id, label]));
  const chain = edges.map(({ from, to, kind }) => `${byId.get(from)} ${kind} ${byId.get(to)}`);
  ok(chain.includes("sort-spikes succeeds curate"));
  ok(chain.includes("sort-spikes fails alarm"));
  ok(chain.includes("loop succeeds loop"));
  deepEqual(nodes.filter(({ kind }) => kind === "end").map(({ label }) => label), [`${PREFIX}/job_complete/curatte`]);
});

Deno.test("no two nodes of a drawing overlap, whatever their names, and a page of 1,440 px holds a table without long chains", () => {
  const names = ["脑电图".repeat(30), "x".repeat(200), "a-b_c.d/".replaceAll("/", "e").repeat(20), "ملف"];
  const { nodes, width } = layoutOf(
    ...names.map((name, at) => `${name},lab/${"deep/".repeat(at * 5)}${at},lab/x:1,1,1Gi,0`),
    ...Array.from({ length: 12 }, (_, at) => `row${at},topics/${at},lab/x:1,1,1Gi,0`),
  );
  for (const [at, a] of nodes.entries()) {
    for (const b of nodes.slice(at + 1)) {
      const isApart = a.x + a.width <= b.x || b.x + b.width <= a.x || a.y + a.height <= b.y || b.y + b.height <= a.y;
      ok(isApart, `${a.label} and ${b.label}`);
    }
  }
  ok(width <= 1_366, `${width} px`);
});

Deno.test("what waits for the ends of many rows by a wildcard has no edge from each, and says of how many rows", () => {
  const chain = Array.from(
    { length: 9 },
    (_, at) => `step${at},${at === 0 ? "lab/begin" : `${PREFIX}/job_complete/step${at - 1}`},lab/x:1,1,1Gi,0`,
  );
  const { nodes, edges, width } = layoutOf(...chain, `collect,${PREFIX}/job_complete/+,lab/x:1,1,1Gi,0`);
  const wild = nodes.find(({ label }) => label === `${PREFIX}/job_complete/+`)!;
  // The bad row has no end.
  deepEqual(wild.notes, ["the ends of 18 rows"]);
  deepEqual(edges.filter(({ to }) => to === wild.id), []);
  ok(width < 3_000);
});

Deno.test("what nothing leads to begins at the left, however far what it leads to is", () => {
  const done = `${PREFIX}/job_complete`;
  const lines = ["a,lab/a,", `b,${done}/a,`, `c,${done}/b,`, `d,${done}/c,`, "late,lab/late,", 'join,,"d, late"'];
  const table = parseTable(`job_name,mqtt_topic,needs,image\n${lines.map((line) => `${line},x:1`).join("\n")}\n`, {
    topicPrefix: PREFIX,
  });
  const { nodes } = finish(layoutSteps(chainGraph(table), { topicPrefix: PREFIX }));
  const middle = (label: string) => {
    const { x, width } = nodes.find((node) => node.label === label)!;
    return x + width / 2;
  };
  equal(middle("lab/late"), middle("lab/a"));
  ok(middle("late") < middle("c"));
});

Deno.test("nodes are in the order in which they are read, each part from left to right", () => {
  const { nodes } = layoutOf();
  const order = nodes.map(({ label }) => label);
  const chain = ["experiments/+/uploaded", "sort-spikes", "curate", "plot"].map((label) => order.indexOf(label));
  deepEqual(chain, [...chain].sort((a, b) => a - b));
});

// ---------------------------------------------------------------- the page

const MINUTES_AGO = (minutes: number) => new Date(Date.now() - minutes * 60_000).toISOString();
const ROOT = "aaaabbbbcccc";
const RECORDS = [
  aRecord({ run_name: "sort-spikes-11111111", status: "succeeded", finished_at: MINUTES_AGO(300), root: ROOT }),
  aRecord({ run_name: "sort-spikes-22222222", status: "failed", finished_at: MINUTES_AGO(200) }),
  aRecord({ run_name: "gone-11111111", job_name: "gone", finished_at: MINUTES_AGO(290), root: ROOT }),
];
const LIVE = [
  aRunView({ runName: "curate-1", jobName: "curate", root: ROOT }),
  aRunView({ runName: "plot-1", jobName: "plot", state: "pending" }),
  aRunView({ runName: "plot-2", jobName: "plot" }),
];

function graphApp(...rows: string[]) {
  const view = fakeView({
    table: tableOf(...rows),
    live: LIVE,
    ended: RECORDS,
    find: (search) => Promise.resolve(selectRuns(RECORDS, search)),
  });
  const { get } = anApp({ view });
  return {
    html: async (query = "") => (await (await get(`/graph${query}`)).text()).replaceAll(/\s+/g, " "),
    data: async (query = "") => await (await get(`/graph.json${query}`)).json(),
  };
}

Deno.test("each row of the graph says how its runs stand and leads to its page", async () => {
  const text = await graphApp().html();
  const node = (name: string) => new RegExp(`<a href="/rows/${name}" transform[^>]+>(.*?)</a>`).exec(text)?.[1] ?? "";
  const words = (name: string) => node(name).replace(/<text[^>]+aria-hidden.*?<\/text>/, "").replaceAll(/<[^>]+>/g, "");
  equal(words("sort-spikes"), "sort-spikes failed 3 h ago ");
  match(node("sort-spikes"), /<tspan class="s">●<\/tspan><tspan class="f">✕<\/tspan>/);
  equal(words("plot"), "plot 1 running, 1 waiting ");
  match(node("plot"), /class="node row is-running"/);
  equal(words("ping"), "ping ! in a circle no run yet ");
  match(text, /<a href="\/graph\?find=experiments%2F%2B%2Fuploaded" transform/);
  // And for who does not look at it.
  match(
    text,
    /<a href="\/rows\/curate">curate<\/a> \(line 3\): 1 running<span class="muted">; started by the success of sort-spikes/,
  );
});

Deno.test("the graph as JSON has nodes with counts and last ends, and edges", async () => {
  const { nodes, edges, omitted } = await graphApp().data();
  const sort = nodes.find((node: { label: string }) => node.label === "sort-spikes");
  deepEqual([sort.kind, sort.line, sort.state.running, sort.state.last.length], ["row", 2, 0, 2]);
  deepEqual(nodes.find((node: { label: string }) => node.label === "plot").state.waiting, 1);
  ok(edges.some(({ kind }: { kind: string }) => kind === "fails"));
  equal(omitted, 0);
});

Deno.test("the graph of one message has its rows with their states, what may follow, and rows that are gone", async () => {
  const app = graphApp();
  const { nodes, elsewhere } = await app.data(`?root=${ROOT}`);
  const states = Object.fromEntries(
    nodes.filter(({ kind }: { kind: string }) => kind === "row")
      .map(({ label, state }: { label: string; state: { runs: string[] } }) => [label, state.runs]),
  );
  deepEqual(states, { "sort-spikes": ["succeeded"], curate: ["running"], plot: [], alarm: [] });
  deepEqual(elsewhere, ["gone"]);
  const text = await app.html(`?root=${ROOT}`);
  match(text, /<a href="\/runs\/sort-spikes-11111111" transform/);
  match(text, />plot <\/text><text [^>]+ class="life unknown">nothing of this message /);
  match(text, /Not drawn, but with runs of this message: <a href="\/rows\/gone">gone<\/a>/);
  doesNotMatch(text, />ping /);
});

Deno.test("the graph can be had of a row or topic with its neighbours, of a table of any size", async () => {
  const many = Array.from(
    { length: 3_000 },
    (_, at) =>
      at % 2
        ? `next${at},${PREFIX}/job_complete/row${at - 1},lab/x:1,1,1Gi,0`
        : `row${at},topics/${at},lab/x:1,1,1Gi,0`,
  );
  const app = graphApp(...many);
  const labels = async (find: string) =>
    (await app.data(`?find=${encodeURIComponent(find)}`)).nodes.map(({ label }: { label: string }) => label);
  deepEqual(await labels("ROW2998"), ["topics/2998", "row2998", "next2999"]);
  deepEqual(await labels("next2999"), ["topics/2998", "row2998", "next2999"]);
  deepEqual(await labels("topics/2996"), ["topics/2996", "row2996", "next2997"]);
  const { omitted, nodes } = await app.data("?find=row");
  equal(nodes.length, 80);
  ok(omitted > 1_000);
  match(await app.html("?find=nothing-such"), /No row has &quot;nothing-such&quot; in its name or topic/);
});

Deno.test("rows that a wildcard over ends starts are neighbours of each of its rows", async () => {
  const app = graphApp(`each,${PREFIX}/job_complete/+,lab/x:1,1,1Gi,0`);
  const labels = (await app.data("?find=each")).nodes.map(({ label }: { label: string }) => label);
  for (const name of ["sort-spikes", "curate", "each"]) ok(labels.includes(name), name);
});

Deno.test("the graph zooms by links where no script runs, and never fits itself to nothing", async () => {
  const app = graphApp(
    ...Array.from(
      { length: 12 },
      (_, at) => `step${at},${at === 0 ? "lab/begin" : `${PREFIX}/job_complete/step${at - 1}`},lab/x:1,1,1Gi,0`,
    ),
  );
  const widths = async (query: string) => {
    const [, width, , natural] = /<svg xmlns="[^"]+" role="group" [^>]+ width="(\d+)" height="(\d+)" viewBox="0 0 (\d+)/
      .exec(await app.html(query))!;
    return Number(width) / Number(natural);
  };
  ok(Math.abs(await widths("") - 0.75) < 0.01);
  ok(Math.abs(await widths("?zoom=150") - 1.5) < 0.01);
  ok(Math.abs(await widths("?zoom=1e9") - 0.75) < 0.01);
  match(await app.html("?zoom=150"), /href="\/graph\?zoom=125" data-zoom="out"/);
  match(await app.html("?zoom=150&find=step1"), /href="\/graph\?find=step1&amp;zoom=200" data-zoom="in"/);
});

Deno.test("the graph says what it cannot show: no table, or a history that cannot be read", async () => {
  const none = anApp({ view: fakeView({ tableFailure: "Cannot read the table: no such object" }) });
  match(await (await none.get("/graph")).text(), /Cannot read the table: no such object/);
  const view = fakeView({ table: tableOf() });
  const history = { ...view.history, lastEnds: () => Promise.reject(new Error("the disk is gone")) };
  const text = await (await anApp({ view: { ...view, history } }).get("/graph")).text();
  match(text, /The history cannot be read now: the disk is gone/);
  match(text, /<a href="\/rows\/curate"/);
});

Deno.test("the page of the largest graph has at most 120 KB", async () => {
  const long = "n".repeat(80);
  const many = Array.from(
    { length: 1_000 },
    (_, at) => `${long}${at},${at % 3 ? `${PREFIX}/job_complete/${long}${at - 1}` : `topics/${at}`},lab/x:1,1,1Gi,0`,
  );
  const ends = many.flatMap((line, row) =>
    Array.from({ length: row < 200 ? 20 : 0 }, (_, at) =>
      aRecord({
        run_name: `${row}-${at}`,
        job_name: line.split(",")[0]!,
        status: at % 2 ? "failed" : "succeeded",
        finished_at: MINUTES_AGO(row + at),
      }))
  );
  const { get } = anApp({ view: fakeView({ table: tableOf(...many), ended: ends }) });
  for (const path of ["/graph", "/graph?as=list"]) {
    const text = await (await get(path)).text();
    match(text, /succeeded \d+ min ago/);
    const bytes = new TextEncoder().encode(text).length;
    ok(bytes <= 115 * 1024, `${path} has ${bytes} bytes`);
  }
});
