import { deepEqual, equal, match } from "node:assert/strict";
import { describeProblem, readTable } from "../../catalog.ts";
import { OPTIONS } from "./kit.ts";

const HEADER = "job_name,mqtt_topic,image,when\n";

Deno.test("readTable() leaves a row out whose condition is no CEL, with line, column and what would be right", async () => {
  const table = await readTable(
    `${HEADER}a,x,busybox,payload.size >\nb,x,busybox,payload.size > 3\nc,y,busybox,\nd,y,busybox,size > 3\n`,
    OPTIONS,
  );
  deepEqual(table.rows.map(({ jobName }) => jobName), ["b", "c"]);
  deepEqual([...table.conditions.keys()], ["payload.size > 3"]);
  const errors = table.problems.filter(({ severity }) => severity === "error");
  deepEqual(errors.map(({ line, column, value }) => [line, column, value]), [
    [2, "when", "payload.size >"],
    [5, "when", "size > 3"],
  ]);
  match(describeProblem(errors[1]!), /write payload\.size for a field of the payload/);
});

Deno.test("readTable() tells a row that it waits for a job whose condition is wrong", async () => {
  const table = await readTable(
    `${HEADER}a,x,busybox,payload.\nb,${OPTIONS.topicPrefix}/job_complete/a,busybox,\n`,
    OPTIONS,
  );
  const [warning] = table.problems.filter(({ severity }) => severity === "warning");
  match(warning!.message, /waits for the job "a", whose row \(line 2\) has errors/);
});

Deno.test("readTable() reads typographic quotes of a condition as quotes", async () => {
  const table = await readTable(`${HEADER}a,x,busybox,payload.kind == “raw”\n`, OPTIONS);
  const condition = table.conditions.get(table.rows[0]!.when!)!;
  equal(condition.evaluate({ topic: "x", payload: { kind: "raw" } }).passed, true);
});
