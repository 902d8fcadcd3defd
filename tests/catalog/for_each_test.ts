/** What `check` and the graph say of rows with `for_each`, and of those that wait for their groups. */
import { deepEqual, equal, match, ok } from "node:assert/strict";
import { parseTable, readTable, type Table } from "../../catalog.ts";
import { chainGraph, toDot, toMermaid } from "../../catalog/chains.ts";
import { type Cells, csv } from "../harness/table.ts";

const PREFIX = "services/mqtt_job_listener";
const options = { topicPrefix: PREFIX };

function table(...rows: Cells[]): Table {
  return parseTable(
    csv(rows.map((row, at) => ({ job_name: `r${at}`, mqtt_topic: `lab/${at}`, image: "busybox", ...row }))),
    options,
  );
}

const said = ({ problems }: Table) =>
  problems.map(({ severity, line, column = "", message }) => `${severity} ${line} ${column}: ${message}`);

Deno.test("each way to name items is read, and what is none is an error that says what would be right", () => {
  for (
    const cell of [
      "payload.files",
      "payload.a.b[0]",
      "input.files",
      "result.files",
      "1..24",
      "s3://lab/{input.uuid}/*_well*.h5",
      "s3://lab/*/raw/{payload.a}.h5",
      "file:///data/{payload.uuid}/*.h5",
    ]
  ) deepEqual(said(table({ for_each: cell })), [], cell);
  const wrong: [string, RegExp][] = [
    ["files", /write where it is, such as payload\.files/],
    ["item.files", /not a list of items/],
    ["24..1", /write the lower one first/],
    ["1-24", /; write 1\.\.24$/],
    ["1…24", /; write 1\.\.24$/],
    ["{payload.files}", /; write payload\.files, without braces or quotes$/],
    ["“payload.files”", /; write payload\.files, without braces or quotes$/],
    [
      "s3://lab/{payload.uuid}.h5",
      /it names one object; write a "\*" for what differs, such as s3:\/\/lab\/folder\/\*\.h5/,
    ],
    ["s3://{payload.bucket}/*.h5", /with the bucket's name written out/],
    ["s3://*/x.h5", /with the bucket's name written out/],
    ["s3://lab/{item}/*.h5", /\{item\} is not known before there are items/],
    ["s3://lab/{run_name}/*.h5", /\{run_name\} is not known before there are items/],
    ["http://lab/*.h5", /write s3:\/\/bucket\/folder\/\*\.h5/],
  ];
  for (const [cell, expected] of wrong) {
    const [first = "", ...others] = said(table({ for_each: cell }));
    match(first, /^error 2 for_each: /);
    match(first, expected);
    deepEqual(others.filter((one) => one.startsWith("error")), []);
  }
});

Deno.test("a field of an item that is a number or an object of a store is an error before a message comes", () => {
  const wrong: [Cells, RegExp][] = [
    [
      { for_each: "1..3", args: "{item.name}" },
      /^error 2 args: \{item\.name\} has no value, .* numbers; write \{item\}$/,
    ],
    [{ for_each: "s3://lab/*.h5", env: "K={item.key}" }, /^error 2 env: \{item\.key\} has no value, .* \{item\.name\}/],
  ];
  for (const [cells, expected] of wrong) match(said(table(cells)).join(), expected);
  deepEqual(said(table({ for_each: "1..3", args: "{item} {index} {item.name=x}" })), []);
  deepEqual(said(table({ for_each: "s3://lab/*.h5", args: "{item} {item.name}" })), []);
});

Deno.test("{item} and {index} belong to rows with for_each, and to no key of a message", async () => {
  const cells: Cells[] = [
    { args: "--file {item}" },
    { env: "N={index}" },
    { working_dir: "/data/{item.key}" },
    { labels: "lab=x{index}" },
    { annotations: "lab.example/item={item}" },
    { output: "s3://lab/{item.name}.zip" },
  ];
  for (const cell of cells) {
    const column = Object.keys(cell)[0]!;
    const [first = "", ...others] = said(table(cell));
    match(first, new RegExp(`^error 2 ${column}: \\{(item|index)[^}]*\\} has a value in a row with for_each only`));
    deepEqual(others, []);
    deepEqual(said(table({ ...cell, for_each: "payload.files" })), [], column);
  }
  match(
    said(table({ idempotency_key: "{payload.uuid}-{item}", for_each: "payload.files" }))[0]!,
    /error 2 idempotency_key: \{item\} differs from item to item/,
  );
  const when = (row: Cells) =>
    readTable(csv([{ job_name: "a", mqtt_topic: "x", image: "busybox", when: "item.rate > 1", ...row }]), options);
  match(said(await when({}))[0]!, /^error 2 when: it looks at item, which only a row with for_each has/);
  deepEqual(said(await when({ for_each: "payload.files" })), []);
});

Deno.test("an end of a group starts rows as ends of runs do, and circles over groups are found", () => {
  const sort = { job_name: "sort", for_each: "payload.files" };
  const chained = table(sort, { job_name: "sum", mqtt_topic: `${PREFIX}/group_complete/sort` }, {
    job_name: "alarm",
    mqtt_topic: `${PREFIX}/group_failed/+`,
  });
  deepEqual(said(chained), []);
  const { edges, nodes } = chainGraph(chained);
  const labelOf = (id: string) => nodes.find((node) => node.id === id)!.label;
  deepEqual(
    edges.filter(({ kind }) => kind !== "starts").map(({ from, to, kind }) => [labelOf(from), labelOf(to), kind]),
    [
      ["sort", `${PREFIX}/group_complete/sort`, "succeeds"],
      ["sort", `${PREFIX}/group_failed/+`, "fails"],
    ],
  );
  const circle = table(
    { ...sort, mqtt_topic: `${PREFIX}/job_complete/sum`, for_each: "result.files" },
    { job_name: "sum", mqtt_topic: `${PREFIX}/group_complete/sort` },
  );
  match(said(circle)[0]!, /the rows "sort", "sum" start each other in a circle/);
});

Deno.test("who waits for a group that no row makes is told what to write", () => {
  const waits = table({ job_name: "sort" }, { mqtt_topic: `${PREFIX}/group_failed/sort` });
  match(said(waits)[0]!, /a group of "sort", which has no for_each and makes none; write job_failed\/sort, or fill/);
  const misspelt = table({ job_name: "sort", for_each: "1..2" }, { mqtt_topic: `${PREFIX}/group_complete/sotr` });
  match(said(misspelt)[0]!, /which no row has; did you mean "sort"\?/);
  const never = table({ job_name: "sort", for_each: "1..2" }, { mqtt_topic: `${PREFIX}/group_completed/sort` });
  match(said(never)[0]!, /group_complete\/\{job_name\}.*did you mean "group_complete"/);
});

Deno.test("the drawings say for what a row makes runs", () => {
  const graph = chainGraph(table({ job_name: "sort", for_each: "payload.files" }));
  ok(toMermaid(graph).includes("for each payload.files"));
  ok(toDot(graph).includes("for each payload.files"));
  equal(graph.nodes.filter(({ notes }) => notes?.[0] === "for each payload.files").length, 1);
});
