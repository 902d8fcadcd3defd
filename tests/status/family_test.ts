import { deepEqual, equal } from "node:assert/strict";
import { ancestorsOf, descendantsOf, familyLines, familyOf, type FamilyRun, pickLines } from "../../status/family.ts";
import { endedRun } from "../../history.ts";
import { aRecord, aRunView } from "../harness/fakes.ts";

let clock = 0;

function run(run_name: string, more: Partial<FamilyRun> = {}): FamilyRun {
  const received_at = new Date(1_000 * clock++).toISOString();
  return {
    run_name,
    job_name: run_name,
    state: "succeeded",
    message: "",
    parent_run: null,
    received_at,
    started_at: received_at,
    finished_at: received_at,
    ...more,
  };
}

function drawn(runs: readonly FamilyRun[]): string[] {
  return familyLines(runs).map((line) => " ".repeat(line.depth) + ("run" in line ? line.run.run_name : line.group));
}

const FAMILY = [
  run("upload"),
  run("sort-1", { parent_run: "upload", state: "failed", retried_as: "sort-2", finished_at: "2026-01-01T00:00:00Z" }),
  run("lfp-0", { parent_run: "upload", group: "lfp", index: 0 }),
  run("sort-2", { parent_run: "upload", attempt: 2 }),
  run("lfp-1", { parent_run: "upload", group: "lfp", index: 1 }),
  run("plot", { parent_run: "sort-2", state: "failed" }),
  run("alarm", { parent_run: "plot" }),
  run("plot-again", { parent_run: "sort-2", rerun_of: "plot" }),
  run("report", { parent_run: "plot-again" }),
  run("sum", { parent_run: "lfp" }),
];

Deno.test("runs of a message stand as a tree, attempts and reruns beside each other, items below their group", () => {
  const expected = [
    ...["upload", " sort-1", " sort-2", "  plot", "   alarm", "  plot-again", "   report"],
    ...[" lfp", "  lfp-0", "  lfp-1", "  sum"],
  ];
  deepEqual(drawn(FAMILY), expected);
  const second = familyLines(FAMILY).find((line) => "run" in line && line.run.run_name === "sort-2");
  equal(second && "run" in second && second.queued_at, "2026-01-01T00:00:00Z");
});

Deno.test("what is above and below a run is found over all levels, through groups and past reruns", () => {
  deepEqual(ancestorsOf(FAMILY, "report"), ["plot-again", "sort-2", "upload"]);
  deepEqual(ancestorsOf(FAMILY, "sum"), ["lfp", "upload"]);
  const below = (name: string) => descendantsOf(FAMILY, name).map(({ run_name }) => run_name).toSorted();
  deepEqual(below("sort-2"), ["alarm", "plot", "plot-again", "report"]);
  equal(below("upload").length, 9);
  deepEqual(below("report"), []);
});

Deno.test("names that lead in a circle make no endless tree", () => {
  const circle = [
    run("a", { parent_run: "b", rerun_of: "c" }),
    run("b", { parent_run: "a" }),
    run("c", { rerun_of: "a" }),
  ];
  equal(familyLines(circle).length, 3);
  deepEqual(ancestorsOf(circle, "a"), ["b", "a"]);
  deepEqual(descendantsOf(circle, "a").map(({ run_name }) => run_name), ["b"]);
});

Deno.test("of many runs those are drawn that belong to the run, that live and that failed, and the rest is counted", () => {
  const many = Array.from(
    { length: 200 },
    (_, at) =>
      run(`x-${at}`, { parent_run: "upload", state: at === 150 ? "failed" : at === 180 ? "running" : "succeeded" }),
  );
  const lines = familyLines([...FAMILY, ...many]);
  const { lines: kept, left } = pickLines(lines, { most: 20, own: "report" });
  const names = kept.flatMap((line) => "run" in line ? [line.run.run_name] : []);
  for (const name of ["upload", "sort-2", "plot-again", "report", "plot", "x-150", "x-180"]) {
    equal(names.includes(name), true, name);
  }
  equal(kept.length, 20);
  equal(left, FAMILY.length + many.length - names.length);
  deepEqual(kept, lines.filter((line) => kept.includes(line)));
});

Deno.test("the items of a large group stand in its one line, and count as shown", () => {
  const items = Array.from({ length: 40 }, (_, index) => run(`i-${index}`, { group: "all", index }));
  const { lines, left } = pickLines(familyLines(items), { most: 100 });
  deepEqual([lines.length, left], [1, 0]);
  const own = pickLines(familyLines(items), { most: 100, own: "i-7" });
  deepEqual(own.lines.map((line) => "run" in line ? line.run.run_name : line.group), ["all", "i-7"]);
});

Deno.test("a run that is told as live and as ended is there once, as ended", () => {
  const record = endedRun(aRecord());
  const runs = familyOf([aRunView({ runName: record.run_name }), aRunView()], [record]);
  deepEqual(runs.map(({ run_name, state }) => [run_name, state]), [
    [record.run_name, "succeeded"],
    [aRunView().runName, "running"],
  ]);
});
