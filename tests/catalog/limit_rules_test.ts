/** What check says of the columns of limits and outputs beside each other. */
import { deepEqual, equal } from "node:assert/strict";
import { rowNotes } from "../../catalog/row_notes.ts";
import { csv } from "../harness/table.ts";
import { read } from "./kit.ts";

const plain = { mqtt_topic: "x/y", image: "busybox" };

for (
  const [what, cells, column] of [
    ["two owners of suspend", { max_runs: 2, queue: "lab" }, "max_runs"],
    ["a queue that would let a paused row's runs go on", { enabled: "paused", queue: "lab" }, "enabled"],
    ["a way to be busy without a limit", { when_busy: "replace" }, "when_busy"],
    ["a group without a limit", { concurrency_group: "gpu" }, "concurrency_group"],
    ["items in each other's way", { for_each: "1..3", max_runs: 2, when_busy: "latest" }, "when_busy"],
    ["an output that is skipped and not named", { skip_existing: "yes" }, "skip_existing"],
  ] as const
) {
  // A column that is planned is unknown, and its cells are not read.
  const isPlanned = "for_each" in cells &&
    read(csv([{ job_name: "a", ...plain, for_each: "1..3" }])).problems.length > 0;
  Deno.test({
    name: `the table refuses ${what}`,
    ignore: isPlanned,
    fn() {
      const { rows, problems } = read(csv([{ job_name: "a", ...plain, ...cells }]));
      deepEqual(rows, []);
      deepEqual(problems.map((problem) => [problem.severity, problem.column]), [["error", column]]);
    },
  });
}

Deno.test("max_waiting without anything that waits is a warning, and right in a paused row", () => {
  const problemsOf = (cells: Record<string, string>) =>
    read(csv([{ job_name: "a", ...plain, max_waiting: 5, ...cells }])).problems.map(({ column }) => column);
  deepEqual(problemsOf({}), ["max_waiting"]);
  deepEqual(problemsOf({ enabled: "paused" }), []);
});

Deno.test("a group that is each run's own is a warning", () => {
  const { problems } = read(csv([{ job_name: "a", ...plain, max_runs: 1, concurrency_group: "g-{run_name}" }]));
  deepEqual(problems.map(({ severity, column }) => [severity, column]), [["warning", "concurrency_group"]]);
});

Deno.test("rows of one group with different limits or ways are a warning, which names the other row", () => {
  const { problems } = read(csv([
    { job_name: "gpu", ...plain, max_runs: 2 },
    { job_name: "b", ...plain, max_runs: 3, concurrency_group: "gpu", when_busy: "latest" },
    { job_name: "c", ...plain, max_runs: 9, concurrency_group: "gpu-{payload.id}" },
    { job_name: "d", ...plain, max_runs: 2, concurrency_group: "gpu" },
  ]));
  deepEqual(problems.map(({ line, column }) => [line, column]), [[3, "max_runs"], [3, "when_busy"]]);
  equal(
    problems[0]!.message,
    'the row "gpu" (line 2) of the same group "gpu" has 2; each run waits for its own row\'s limit: write the same in both',
  );
});

Deno.test("graph and explain say what a row's limits and output come to", () => {
  const { rows } = read(csv([
    { job_name: "a", ...plain, max_runs: 2, concurrency_group: "gpu-{payload.id}", when_busy: "latest" },
    { job_name: "b", ...plain, enabled: "paused", output: "s3://lab/x.zip", skip_existing: "yes" },
  ]));
  deepEqual(rows.map(rowNotes), [
    ["at most 2 at a time in the group gpu-{payload.id}, the newest waits"],
    ["paused: its messages wait", "not where its output is there"],
  ]);
});
