/** What every history must answer, of runs that it was told of. */
import { deepEqual, equal } from "node:assert/strict";
import fc from "fast-check";
import type { RowDay, RunFilter, RunHistory } from "../../history.ts";
import type { Emit, RunRecord } from "../../ports.ts";
import { shortHash } from "../../run_spec.ts";
import { aRecord } from "../harness/fakes.ts";
import { ModelHistory } from "../harness/model_history.ts";

export interface HistoryFixture extends AsyncDisposable {
  /** An empty one for each call. */
  history(): RunHistory & { readonly emit: Emit };
}

const START_MS = Date.UTC(2026, 0, 1);

/** The end of a run, so many seconds after the year's begin. */
export function endAt(second: number, more: Partial<RunRecord> = {}): RunRecord {
  const finished_at = new Date(START_MS + second * 1000).toISOString();
  return aRecord({ run_name: `run-${second}`, finished_at, root: shortHash([String(second)]), ...more });
}

function tell(history: { readonly emit: Emit }, ...records: readonly RunRecord[]): void {
  for (const record of records) history.emit({ type: "finished", record, completionMs: 1 });
}

/** Registers the suite; the fixture is made once for all of it. */
export function historyConformance(name: string, start: () => Promise<HistoryFixture>): void {
  Deno.test(`RunHistory: ${name}`, async (t) => {
    await using fixture = await start();
    for (const [title, body] of HISTORY_CASES) {
      const history = fixture.history();
      await t.step(title, async () => await body(history));
    }
  });
}

type Case = readonly [title: string, body: (history: RunHistory & { readonly emit: Emit }) => Promise<void>];

export const HISTORY_CASES: readonly Case[] = [
  [
    "find() gives the newest first, by the time of the end alone, and among equal ones by name downwards",
    async (history) => {
      const [a, b, c] = ["run-a", "run-b", "run-c"].map((run_name) => endAt(5, { run_name }));
      const early = endAt(1, { received_at: "2026-06-01T00:00:00Z", created_at: "2026-06-01T00:00:00Z" });
      tell(
        history,
        b!,
        early,
        c!,
        a!,
        endAt(9),
        endAt(5, { run_name: "run-d", finished_at: "2026-01-01T01:00:05.500+01:00" }),
      );
      equal(await namesOf(history, {}), "run-9 run-d run-c run-b run-a run-1");
    },
  ],
  ["find() keeps to all parts of the filter", async (history) => {
    const spikes = { job_name: "sort", owner: "ada", reason: "OOMKilled", status: "failed" as const };
    tell(history, endAt(1, spikes), endAt(2, { ...spikes, job_name: "plot" }), endAt(3, { ...spikes, owner: "bob" }));
    tell(
      history,
      endAt(4, { ...spikes, reason: "Error" }),
      endAt(5, { job_name: "sort", owner: "ada", reason: "OOMKilled" }),
    );
    equal(await namesOf(history, { jobName: "sort", status: "failed", reason: "OOMKilled", owner: "ada" }), "run-1");
    equal(await namesOf(history, { owner: "ada" }), "run-5 run-4 run-2 run-1");
    equal(await namesOf(history, { owner: "nobody" }), "");
    equal(await namesOf(history, { jobName: "SORT" }), "");
    const [since, until] = [2, 4].map((second) => new Date(START_MS + second * 1000));
    equal(await namesOf(history, { since: since!, until: until! }), "run-3 run-2");
    equal(await namesOf(history, { since: new Date(START_MS + 2_001) }), "run-5 run-4 run-3");
    equal(await namesOf(history, { until: new Date(START_MS + 4_001) }), "run-4 run-3 run-2 run-1");
  }],
  ["find() finds what belongs to a message, to a parent and to a group", async (history) => {
    const [root, group] = [shortHash(["r"]), "sort-abcdefghijkl"];
    tell(history, endAt(1, { root, group, index: 0 }), endAt(2, { root, group, index: 1 }), endAt(3, { root }));
    tell(history, endAt(4, { parent_run: "run-3" }));
    equal(await namesOf(history, { root }), "run-3 run-2 run-1");
    equal(await namesOf(history, { group }), "run-2 run-1");
    equal(await namesOf(history, { parentRun: "run-3" }), "run-4");
  }],
  ["of a group one run stands for all, the newest that fits, on one page only", async (history) => {
    const group = "sort-abcdefghijkl";
    tell(history, endAt(1, { group, index: 0, status: "failed" }), endAt(2, { group, index: 1 }), endAt(3));
    equal(await namesOf(history, {}), "run-3 run-2");
    equal(await namesOf(history, { everyItem: true }), "run-3 run-2 run-1");
    equal(await namesOf(history, { status: "failed" }), "run-1");
    equal(await history.count({}), 2);
    equal(await history.count({ everyItem: true }), 3);
    const olderThan = { finishedAt: endAt(2).finished_at, runName: "run-2" };
    deepEqual(await history.find({ olderThan, limit: 10 }), []);
  }],
  ["find() finds words of messages and payloads, whole ones, in any case", async (history) => {
    tell(history, endAt(1, { message: "Out of memory: the limit is 8Gi", payload: '{"plate":"Plate_007"}' }));
    tell(history, endAt(2, { payload: '{"path":"s3://lab/a-b/Größe.h5"}' }), endAt(3, { payload: null }));
    equal(await namesOf(history, { text: "MEMORY 007" }), "run-1");
    equal(await namesOf(history, { text: "plate 007 größe" }), "");
    equal(await namesOf(history, { text: "s3://lab/a-b/größe.h5" }), "run-2");
    equal(await namesOf(history, { text: "memo" }), "");
    equal(await namesOf(history, { text: '" OR 1 NEAR( * -"' }), "");
    equal(await namesOf(history, { text: "  --  " }), "run-3 run-2 run-1", "no word is no condition");
    equal(await history.count({ text: "plate", status: "succeeded" }), 1);
  }],
  ["a payload is searched as far as its first 2,000 characters", async (history) => {
    tell(history, endAt(1, { payload: `${"x ".repeat(900)} near ${"y ".repeat(900)} far` }));
    equal(await namesOf(history, { text: "near" }), "run-1");
    equal(await namesOf(history, { text: "far" }), "");
  }],
  ["find() keeps to the least duration; what never started took none", async (history) => {
    const at = (second: number) => new Date(START_MS + second * 1000).toISOString();
    tell(history, endAt(10, { started_at: at(1) }), endAt(20, { started_at: at(19) }), endAt(30, { started_at: null }));
    equal(await namesOf(history, { minMs: 9_000 }), "run-10");
    equal(await namesOf(history, { minMs: 1_000 }), "run-20 run-10");
  }],
  ["a run that is told again takes its own place", async (history) => {
    tell(history, endAt(1, { job_name: "sort" }), endAt(1, { job_name: "sort" }));
    tell(history, endAt(2, { run_name: "run-1", job_name: "sort", status: "failed", message: "Lost" }));
    equal(await namesOf(history, {}), "run-1");
    equal(await namesOf(history, { status: "succeeded" }), "");
    equal(await namesOf(history, { text: "completed" }), "");
    equal(history.reach().runs, 1);
    const [day] = await history.days({ since: new Date(START_MS) });
    deepEqual([day?.succeeded, day?.failed], [0, 1]);
  }],
  ["what is given is what lists show of the record", async (history) => {
    const more = {
      attempt: 2,
      retried_as: "run-2",
      rerun_of: "run-0",
      requested_by: "ada",
      group: "sort-abcdefghijkl",
      index: 7,
      owner: "bob",
      gpu: 2,
      peak_memory: 5,
      peak_cpu: 0.5,
      node: null,
      started_at: null,
      exit_code: null,
    };
    const record = endAt(1, more);
    history.emit({ type: "retrying", record, at: new Date() });
    const [found] = await history.find({ limit: 1 });
    for (const [name, value] of Object.entries(found ?? {})) deepEqual(value, record[name as keyof RunRecord], name);
    deepEqual(Object.keys(more).filter((name) => !Object.hasOwn(found ?? {}, name)), []);
  }],
  [
    "lastEnds() gives the last ends of each row, oldest first, without attempts that were tried again",
    async (history) => {
      tell(history, ...[0, 1, 2, 3, 4].map((second) => endAt(second, { job_name: "sort" })));
      history.emit({ type: "retrying", record: endAt(9, { job_name: "sort", retried_as: "run-10" }), at: new Date() });
      tell(history, endAt(1, { run_name: "run-x", job_name: "plot" }));
      const ends = async () =>
        Object.fromEntries(
          [...await history.lastEnds(3)].map(([row, runs]) => [row, runs.map(({ run_name }) => run_name).join(" ")]),
        );
      deepEqual(await ends(), { sort: "run-2 run-3 run-4", plot: "run-x" });
      tell(history, endAt(11, { job_name: "sort" }));
      deepEqual(await ends(), { sort: "run-3 run-4 run-11", plot: "run-x" });
    },
  ],
  ["days() counts ends, durations and what was requested by row and day", async (history) => {
    for (const hour of [1, 2, 3, 4]) {
      const more = {
        job_name: "sort",
        started_at: "2026-01-01T00:00:00Z",
        requests: { cpu: "500m", memory: "2Gi" },
        gpu: 1,
        ...(hour === 4 ? { status: "failed" as const } : {}),
      };
      tell(history, endAt(hour * 3600, more));
    }
    const day: RowDay = {
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
    };
    deepEqual(await history.days({ since: new Date("2025-12-01") }), [day]);
    deepEqual(await history.days({ since: new Date("2026-01-01T23:00:00Z"), jobName: "sort" }), [day], "whole days");
    deepEqual(await history.days({ since: new Date("2026-01-02") }), []);
    deepEqual(await history.days({ since: new Date("2025-12-01"), until: new Date("2026-01-01") }), []);
    deepEqual(await history.days({ since: new Date("2025-12-01"), jobName: "plot" }), []);
  }],
  ["pages follow each other without a gap or a repetition, however many end in one second", async (history) => {
    const records = Array.from({ length: 300 }, (_, at) => endAt(at < 250 ? 7 : at, { run_name: `run-${at}` }));
    tell(history, ...records);
    const seen: string[] = [];
    let olderThan: { finishedAt: string; runName: string } | undefined;
    for (;;) {
      const page = await history.find({ limit: 40, everyItem: true, ...(olderThan ? { olderThan } : {}) });
      seen.push(...page.map(({ run_name }) => run_name));
      const last = page.at(-1);
      if (!last) break;
      olderThan = { finishedAt: last.finished_at, runName: last.run_name };
    }
    equal(seen.length, 300);
    equal(new Set(seen).size, 300);
  }],
  ["it answers as the simplest one would, whatever has ended and whatever is asked", async (history) => {
    const model = new ModelHistory();
    let number = 0;
    for (const record of fc.sample(anEnd, { numRuns: 800, seed: 15 })) {
      const named = { ...record, run_name: `run-${number++ % 700}` };
      tell(history, named);
      tell(model, named);
    }
    for (const filter of fc.sample(aFilter, { numRuns: 400, seed: 15 })) {
      const search = { ...filter, limit: 25 };
      deepEqual(await history.find(search), await model.find(search), JSON.stringify(filter));
      equal(await history.count(filter), await model.count(filter), JSON.stringify(filter));
    }
    deepEqual(new Map(await history.lastEnds(5)), await model.lastEnds(5));
    const days = await history.days({ since: new Date(START_MS) });
    deepEqual(days.map(rounded), (await model.days({ since: new Date(START_MS) })).map(rounded));
  }],
];

async function namesOf(history: RunHistory, filter: RunFilter): Promise<string> {
  return (await history.find({ ...filter, limit: 100 })).map(({ run_name }) => run_name).join(" ");
}

/** Sums of doubles depend on their order. */
function rounded(day: RowDay) {
  const round = (hours: number) => Math.round(hours * 1e6) / 1e6;
  return { ...day, coreHours: round(day.coreHours), gibHours: round(day.gibHours), gpuHours: round(day.gpuHours) };
}

const times = fc.oneof(
  fc.integer({ min: 0, max: 40 }).map((second) => START_MS + second * 1000),
  fc.integer({ min: 0, max: 5 * 24 * 3600_000 }).map((ms) => START_MS + ms),
);
const rows = fc.constantFrom("sort", "plot", "résumé 1");
const optional = <T>(value: fc.Arbitrary<T>) => fc.option(value, { nil: undefined, freq: 2 });
const groups = fc.constantFrom("sort-aaaaaaaaaaaa", "sort-bbbbbbbbbbbb", "plot-cccccccccccc");
const roots = fc.constantFrom("a", "b", "c").map((one) => shortHash([one]));
const statuses = fc.constantFrom("succeeded" as const, "failed" as const, "cancelled" as const);
const texts = fc.array(fc.constantFrom("plate", "Plate", "007", "x-y", "größe", "o'b\"c"), { maxLength: 4 })
  .map((words) => words.join(" "));

const anEnd: fc.Arbitrary<RunRecord> = fc.record({
  job_name: rows,
  status: statuses,
  reason: fc.constantFrom("Completed", "OOMKilled"),
  message: texts,
  payload: texts,
  parent_run: fc.constantFrom(null, "run-1", "run-2"),
  root: roots,
  group: optional(groups),
  owner: optional(fc.constantFrom("ada", "bob")),
  retried_as: optional(fc.constant("run-9")),
  at: times,
  took: fc.option(fc.integer({ min: 0, max: 60_000 })),
  gpu: optional(fc.integer({ min: 0, max: 4 })),
}).map(({ at, took, ...more }) => {
  const set = Object.fromEntries(Object.entries(more).filter(([, value]) => value !== undefined));
  const started_at = took === null ? null : new Date(at - took).toISOString();
  return aRecord({ ...set, started_at, finished_at: new Date(at).toISOString() });
});

const aFilter: fc.Arbitrary<RunFilter> = fc.record({
  jobName: optional(rows),
  status: optional(statuses),
  reason: optional(fc.constantFrom("Completed", "OOMKilled", "Never")),
  owner: optional(fc.constantFrom("ada", "bob")),
  parentRun: fc.option(fc.constant("run-1"), { nil: undefined, freq: 8 }),
  root: fc.option(roots, { nil: undefined, freq: 8 }),
  group: fc.option(groups, { nil: undefined, freq: 8 }),
  everyItem: optional(fc.constant(true as const)),
  final: optional(fc.constant(true as const)),
  since: optional(times.map((at) => new Date(at))),
  until: optional(times.map((at) => new Date(at))),
  minMs: optional(fc.integer({ min: 0, max: 60_000 })),
  text: optional(texts),
}).map((filter) => Object.fromEntries(Object.entries(filter).filter(([, value]) => value !== undefined)) as RunFilter);
