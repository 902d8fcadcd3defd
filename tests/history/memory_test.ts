import { deepEqual, doesNotMatch, equal } from "node:assert/strict";
import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import type { RunRecord } from "../../ports.ts";
import { RunRecords } from "../../records.ts";
import { MemoryHistory, selectRuns } from "../../history.ts";
import { aRecord, FakeStore } from "../harness/fakes.ts";

/** Ends of 2026, one a second. */
function recordAt(second: number, more: Partial<RunRecord> = {}): RunRecord {
  const finished_at = new Date(Date.UTC(2026, 0, 1) + second * 1000).toISOString();
  return aRecord({ run_name: `run-${second}`, finished_at, ...more });
}

Deno.test("MemoryHistory keeps nothing of a record that the list does not show", () => {
  const history = new MemoryHistory(new RunRecords(new FakeStore()));
  const large = { payload: "p".repeat(96 * 1024), job: { kind: "JobJobJob" }, message: "m".repeat(5_000) };
  history.emit({ type: "finished", record: recordAt(1, large), completionMs: 1 });
  const kept = JSON.stringify([...history.values()]);
  doesNotMatch(kept, /ppp|JobJobJob/);
  equal(kept.length < 1_000, true, `${kept.length} characters of one run`);
});

Deno.test("MemoryHistory holds no long text of a record by a piece of it", () => {
  const history = new MemoryHistory(new RunRecords(new FakeStore()));
  const before = heapMb();
  for (let second = 0; second < 500; second++) {
    const long = JSON.parse(JSON.stringify(`${second} ${"x".repeat(100_000)}`));
    const more = { message: long, job_name: long, node: long, parent_run: long, started_at: long };
    history.emit({ type: "finished", record: recordAt(second, more), completionMs: 1 });
  }
  const grown = heapMb() - before;
  equal(grown < 25, true, `${grown} MB for 500 runs with texts of 50 MB`);
});

/** After a collection of what nothing holds. */
function heapMb(): number {
  setFlagsFromString("--expose-gc");
  runInNewContext("gc")();
  return Deno.memoryUsage().heapUsed / 1e6;
}

Deno.test("MemoryHistory reads what former processes left and says that it looks at all of it", async () => {
  const records = new RunRecords(new FakeStore());
  for (const second of [1, 2, 3]) await records.put(recordAt(second));
  const history = new MemoryHistory(records);
  equal(history.reach().kind, "partly");
  await history.load(new AbortController().signal);
  deepEqual(history.reach(), { runs: 3, kind: "all", oldest: "2026-01-01T00:00:01.000Z" });
});

Deno.test("MemoryHistory leaves out a record that stands under another run's name", async () => {
  const store = new FakeStore();
  await store.put("run-1.json", JSON.stringify(recordAt(2)));
  const history = new MemoryHistory(new RunRecords(store));
  await history.load(new AbortController().signal);
  deepEqual([...history.values()], []);
});

Deno.test("MemoryHistory says that it looks at the newest where it left some out", async () => {
  const history = new MemoryHistory(new RunRecords(new FakeStore()));
  await history.load(new AbortController().signal);
  for (let second = 0; second < 2_500; second++) {
    history.emit({ type: "finished", record: recordAt(second), completionMs: 1 });
  }
  const { runs, kind, oldest } = history.reach();
  equal(kind, "newest");
  equal(oldest, recordAt(2_500 - runs).finished_at);
});

Deno.test("MemoryHistory says that its list is not whole where the store cannot be read", async () => {
  const store = new FakeStore();
  const history = new MemoryHistory(new RunRecords(store));
  store.faults.push(new Error("no connection"));
  await history.load(new AbortController().signal).catch(() => {});
  equal(history.reach().kind, "partly");
});

Deno.test("selectRuns() gives the newest first and keeps to all parts of the filter", () => {
  const at = (hour: number, more: Partial<RunRecord>) =>
    aRecord({ run_name: `run-${hour}`, finished_at: `2026-03-01T${String(hour).padStart(2, "0")}:00:00Z`, ...more });
  const all = [at(1, {}), at(3, { status: "failed" }), at(2, { job_name: "plot" }), at(4, { status: "failed" })];
  const names = (filter: Omit<Parameters<typeof selectRuns>[1], "limit">) =>
    selectRuns(all, { limit: 10, ...filter }).map(({ run_name }) => run_name);
  deepEqual(names({}), ["run-4", "run-3", "run-2", "run-1"]);
  deepEqual(names({ status: "failed" }), ["run-4", "run-3"]);
  deepEqual(names({ jobName: "plot" }), ["run-2"]);
  deepEqual(names({ since: new Date("2026-03-01T02:00Z"), until: new Date("2026-03-01T04:00Z") }), ["run-3", "run-2"]);
});

Deno.test("lastEnds() gives the last ends of each row, oldest first, without attempts that were tried again", async () => {
  const history = new MemoryHistory(new RunRecords(new FakeStore()));
  for (let second = 0; second < 5; second++) {
    history.emit({ type: "finished", record: recordAt(second, { job_name: "sort" }), completionMs: 1 });
  }
  const retried = recordAt(9, { job_name: "sort", retried_as: "run-10" });
  history.emit({ type: "retrying", record: retried, at: new Date() });
  history.emit({ type: "finished", record: recordAt(1, { run_name: "run-x", job_name: "plot" }), completionMs: 1 });
  const ends = await history.lastEnds(3);
  deepEqual(ends.get("sort")?.map(({ run_name }) => run_name), ["run-2", "run-3", "run-4"]);
  deepEqual(ends.get("plot")?.map(({ run_name }) => run_name), ["run-x"]);
});

Deno.test("days() counts ends, durations and what was requested by row and day", async () => {
  const history = new MemoryHistory(new RunRecords(new FakeStore()));
  const hours = [1, 2, 3, 4];
  for (const hour of hours) {
    const more = {
      job_name: "sort",
      started_at: "2026-01-01T00:00:00Z",
      requests: { cpu: "500m", memory: "2Gi" },
      gpu: 1,
      ...(hour === 4 ? { status: "failed" as const } : {}),
    };
    history.emit({ type: "finished", record: recordAt(hour * 3600, more), completionMs: 1 });
  }
  deepEqual(await history.days({ since: new Date("2025-12-01") }), [{
    jobName: "sort",
    day: "2026-01-01",
    succeeded: 3,
    failed: 1,
    cancelled: 0,
    medianMs: 2 * 3600_000,
    p95Ms: 3 * 3600_000,
    coreHours: 5,
    gibHours: 20,
    gpuHours: 10,
  }]);
  deepEqual(await history.days({ since: new Date("2026-01-02") }), []);
});

Deno.test("find() and count() leave out attempts that were tried again, where they are asked to", async () => {
  const history = new MemoryHistory(new RunRecords(new FakeStore()));
  const failed = { job_name: "sort", status: "failed" } as const;
  history.emit({ type: "retrying", record: recordAt(1, { ...failed, retried_as: "run-2" }), at: new Date() });
  history.emit({ type: "finished", record: recordAt(2, failed), completionMs: 1 });
  equal(await history.count({ status: "failed" }), 2);
  equal(await history.count({ status: "failed", final: true }), 1);
  const found = await history.find({ final: true, limit: 9 });
  deepEqual(found.map(({ run_name }) => run_name), ["run-2"]);
});
