/**
 * Joins on fake ports: a row with `needs` starts once when all that it needs has succeeded for one root, whatever order
 * the ends come in and whatever dies in between.
 */
import { deepEqual, equal, match, ok } from "node:assert/strict";
import fc from "fast-check";
import { type GroupEnd, type WaitingJoin } from "../../flows.ts";
import { Joins } from "../../flows/joins.ts";
import { type Row, type RunRecord, type RunSpec, UnavailableError } from "../../ports.ts";
import { RunRecords } from "../../records.ts";
import { keyOfCause, runNameFor } from "../../run_spec.ts";
import { RunTable } from "../../runs.ts";
import { NamedStarts, Starter } from "../../starter.ts";
import { aRecord, events, FakeCluster, FakeStore, job, row } from "../harness/fakes.ts";
import { eventually } from "../harness/wait.ts";

const PREFIX = "services/mqtt_job_listener";
const ROOT = "abcdefghijkl";
const REPORT = row({ jobName: "report", mqttTopic: "", needs: ["sort", "lfp"], line: 4 });
const ROWS = [row({ jobName: "sort" }), row({ jobName: "lfp" }), REPORT];
const NAME = runNameFor(REPORT, { key: keyOfCause.join(ROOT) });

/** The record of a run of a row that succeeded, but for `more`. */
function ended(jobName: string, more: Partial<RunRecord> = {}): RunRecord {
  const run_name = more.run_name ?? `${jobName}-aaaaaaaaaaaa`;
  return aRecord({ job_name: jobName, run_name, root_run: run_name, root: ROOT, payload: '{"uuid":"e1"}', ...more });
}

/** What outlives a process: the store, and the Jobs. */
class World {
  readonly store = new FakeStore();
  readonly jobs = new Map<string, RunSpec>();
  readonly created: RunSpec[] = [];
  readonly groups: string[] = [];
  /** Side effects that happen before the process dies; after the last one it hears nothing any more. */
  left = Infinity;
  /** Whether the effect in whose middle it dies takes place. */
  lastHappens = true;
  died = Promise.withResolvers<void>();
  /** Thrown by create calls. */
  quota: Error | undefined;

  /** Resolves with what `work` gives, unless the process is dead. */
  async do<T>(work: () => Promise<T>): Promise<T> {
    if (this.left < 1) return await new Promise<T>(() => {});
    if (--this.left >= 1) return await work();
    if (this.lastHappens) await work();
    this.died.resolve();
    return await new Promise<T>(() => {});
  }

  /** A process on what is there, its calls counted. */
  process(
    { rows = ROWS, conditionOf = () => undefined, patienceMs = 20, maxRuns = Infinity }: {
      rows?: readonly Row[];
      conditionOf?: (row: Row) => { evaluate(): { passed: boolean; because: string } } | undefined;
      patienceMs?: number;
      maxRuns?: number;
    } = {},
  ) {
    const { store } = this;
    const stop = new AbortController();
    const { signal } = stop;
    const { emit, all } = events();
    const counted = new FakeStore();
    counted.get = (key) => this.do(() => store.get(key));
    counted.exists = (key) => this.do(() => store.exists(key));
    counted.put = (key, body) => this.do(() => store.put(key, body));
    counted.putIfAbsent = (key, body) => this.do(() => store.putIfAbsent(key, body));
    counted.delete = (key) => this.do(() => store.delete(key));
    counted.list = (prefix, options) => {
      const found = this.do(() => Array.fromAsync(store.list(prefix, options)));
      return (async function* () {
        yield* await found;
      })();
    };
    const cluster = new FakeCluster();
    cluster.create = (spec) =>
      this.do(() => {
        if (this.quota) return Promise.reject(this.quota);
        if (this.jobs.has(spec.runName)) return Promise.resolve("exists" as const);
        this.jobs.set(spec.runName, spec);
        this.created.push(spec);
        return Promise.resolve("created" as const);
      });
    const runs = new RunTable({ emit });
    for (const { runName, row: { jobName } } of this.jobs.values()) runs.clusterEvents.onJob(job({ runName, jobName }));
    const records = new RunRecords(counted);
    const starter = new Starter({
      cluster,
      runs,
      payloads: counted,
      concurrency: 4,
      maxRuns,
      startGroup: async (spec) => {
        const isNew = await records.putNote(".groups", spec.runName, {});
        if (isNew) this.groups.push(spec.runName);
        return { result: isNew ? "created" : "exists", runName: spec.runName };
      },
      emit,
      signal,
    });
    const table = { rows };
    const joins = new Joins({
      catalog: { table, conditionOf } as never,
      runs,
      records,
      starter,
      named: new NamedStarts({ runs, records, signal }),
      topicPrefix: PREFIX,
      maxChainDepth: 5,
      emit,
      signal,
      patienceMs,
    });
    return { joins, runs, starter, all, table, kill: () => stop.abort(), [Symbol.dispose]: () => stop.abort() };
  }

  keys(folder: string): string[] {
    return [...this.store.objects.keys()].filter((key) => key.startsWith(folder));
  }

  /** The joined run ends: its record is put, then its Job is gone. */
  async end(joins: Joins, runName: string): Promise<void> {
    const { row: { jobName }, root } = this.jobs.get(runName)!;
    const record = ended(jobName, { run_name: runName, root, parent_run: "lfp-aaaaaaaaaaaa" });
    this.store.objects.set(`${runName}.json`, new TextEncoder().encode(JSON.stringify(record)));
    await joins.recorded(record);
    this.jobs.delete(runName);
  }
}

function outcomes(all: ReturnType<typeof events>["all"]): string[] {
  return all.flatMap((event) => event.type === "join" ? event.outcome : []);
}

function reasons(all: ReturnType<typeof events>["all"]): string[] {
  return all.flatMap((event) => event.type === "error" ? event.report.reason : []);
}

Deno.test("a row that needs two others starts when the second of them has succeeded, with what both have made", async () => {
  const world = new World();
  using bed = world.process();
  await bed.joins.recorded(ended("lfp", { output: "s3://lab/e1.lfp", chain_depth: 2 }));
  deepEqual([...bed.joins.waiting], [{ root: ROOT, jobName: "report", missing: ["sort"] }]);
  equal(world.created.length, 0);
  await bed.joins.recorded(ended("sort", { result: { units: 7 } }));
  equal(world.created.length, 1);
  const [{ message, runName, root, rootRun, parentRun, chainDepth }] = world.created as [RunSpec];
  deepEqual(
    { runName, root, rootRun, parentRun, chainDepth, topic: message.topic },
    {
      runName: NAME,
      root: ROOT,
      rootRun: "lfp-aaaaaaaaaaaa",
      parentRun: "lfp-aaaaaaaaaaaa",
      chainDepth: 3,
      topic: `${PREFIX}/join/report`,
    },
  );
  deepEqual(JSON.parse(new TextDecoder().decode(message.payload)), {
    job_name: "report",
    root: ROOT,
    root_run: "lfp-aaaaaaaaaaaa",
    input: '{"uuid":"e1"}',
    needs: {
      sort: { run_name: "sort-aaaaaaaaaaaa", result: { units: 7 } },
      lfp: { run_name: "lfp-aaaaaaaaaaaa", output: "s3://lab/e1.lfp" },
    },
  });
  deepEqual(outcomes(bed.all), ["waiting", "started"]);
  deepEqual([bed.joins.waitingCount, world.keys(".open-joins")], [0, []]);
  await world.end(bed.joins, NAME);
  deepEqual(world.keys(".joins"), []);
});

Deno.test("a failure starts nothing; the rerun's success does", async () => {
  const world = new World();
  using bed = world.process();
  await bed.joins.recorded(ended("sort"));
  await bed.joins.recorded(ended("lfp", { status: "failed", reason: "ExitCode" }));
  await bed.joins.recorded(ended("lfp", { status: "cancelled", reason: "Cancelled" }));
  equal(world.created.length, 0);
  await bed.joins.recorded(ended("lfp", { run_name: "lfp-bbbbbbbbbbbb", rerun_of: "lfp-aaaaaaaaaaaa" }));
  deepEqual(world.created.map(({ runName, parentRun }) => [runName, parentRun]), [[NAME, "lfp-bbbbbbbbbbbb"]]);
});

Deno.test("what succeeded for another root counts for that one only", async () => {
  const world = new World();
  using bed = world.process();
  await bed.joins.recorded(ended("sort"));
  await bed.joins.recorded(ended("lfp", { root: "lkjihgfedcba" }));
  equal(world.created.length, 0);
  deepEqual([...bed.joins.waiting].map(({ root, missing }: WaitingJoin) => [root, missing]), [
    [ROOT, ["lfp"]],
    ["lkjihgfedcba", ["sort"]],
  ]);
});

Deno.test("a group counts when all of its items have succeeded", async () => {
  const world = new World();
  using bed = world.process();
  const end: GroupEnd = {
    group: "sort-gggggggggggg",
    jobName: "sort",
    root: ROOT,
    rootRun: "split-aaaaaaaaaaaa",
    chainDepth: 1,
    total: 3,
    succeeded: 2,
    failed: 1,
  };
  await bed.joins.recorded(ended("lfp"));
  await bed.joins.groupEnded(end);
  equal(world.created.length, 0);
  await bed.joins.groupEnded({ ...end, succeeded: 3, failed: 0 });
  const { needs } = JSON.parse(new TextDecoder().decode(world.created[0]!.message.payload));
  deepEqual(needs.sort, { run_name: "sort-gggggggggggg", total: 3 });
});

Deno.test("a row of items that needs others makes one group, and its marks go when that has ended", async () => {
  const world = new World();
  const each = { ...REPORT, forEach: { from: "numbers", first: 1, last: 3 } as const };
  using bed = world.process({ rows: [...ROWS.slice(0, 2), each] });
  for (const jobName of ["sort", "lfp", "sort"]) await bed.joins.recorded(ended(jobName));
  deepEqual([world.groups, world.created], [[NAME], []]);
  await bed.joins.groupEnded({
    group: NAME,
    jobName: "report",
    root: ROOT,
    rootRun: "lfp-aaaaaaaaaaaa",
    chainDepth: 1,
    total: 3,
    succeeded: 3,
    failed: 0,
  });
  // Those that are run again find that it was.
  for (const jobName of ["sort", "lfp"]) await bed.joins.recorded(ended(jobName, { run_name: `${jobName}-b` }));
  deepEqual([world.groups, world.keys(".joins"), bed.joins.waitingCount], [[NAME], [], 0]);
});

Deno.test("a row that succeeds again for the same root starts no second run, before and after the joined run's end", async () => {
  const world = new World();
  using bed = world.process();
  const again = (jobName: string, suffix: string) =>
    bed.joins.recorded(ended(jobName, { run_name: `${jobName}-${suffix.repeat(12)}` }));
  await again("sort", "a");
  await again("sort", "b");
  await again("lfp", "a");
  await again("lfp", "b");
  const { needs } = JSON.parse(new TextDecoder().decode(world.created[0]!.message.payload));
  equal(needs.sort.run_name, "sort-aaaaaaaaaaaa", "the first success counts");
  await world.end(bed.joins, NAME);
  for (const jobName of ["sort", "lfp"]) await again(jobName, "c");
  // A process that never knew the run asks the store.
  using next = world.process();
  for (const jobName of ["sort", "lfp"]) await next.joins.recorded(ended(jobName));
  deepEqual([world.created.length, world.keys(".joins"), bed.joins.waitingCount], [1, [], 0]);
});

Deno.test("a row that is switched off, filtered, too deep or lacks an input is not started, and it is said why", async () => {
  const off = new World();
  using bed = off.process({ rows: [...ROWS.slice(0, 2), { ...REPORT, enabled: "no" }] });
  for (const jobName of ["sort", "lfp"]) await bed.joins.recorded(ended(jobName));
  deepEqual([off.created.length, reasons(bed.all), off.keys(".joins")], [0, [], []]);

  const filtered = new World();
  using other = filtered.process({
    rows: [...ROWS.slice(0, 2), { ...REPORT, when: "false" }],
    conditionOf: () => ({ evaluate: () => ({ passed: false, because: "result.sort.units is 0" }) }),
  });
  await other.joins.recorded(ended("sort"));
  // Both see all.
  await Promise.all([other.joins.recorded(ended("lfp")), other.joins.recorded(ended("sort"))]);
  deepEqual([filtered.created.length, outcomes(other.all)], [0, ["waiting", "filtered"]]);

  const deep = new World();
  using third = deep.process();
  for (const jobName of ["sort", "lfp"]) await third.joins.recorded(ended(jobName, { chain_depth: 5 }));
  deepEqual([deep.created.length, reasons(third.all)], [0, ["ChainTooDeep"]]);

  const lacking = new World();
  using fourth = lacking.process({
    rows: [...ROWS.slice(0, 2), { ...REPORT, inputs: [{ name: "instrument", required: true }] }],
  });
  for (const jobName of ["sort", "lfp"]) await fourth.joins.recorded(ended(jobName));
  deepEqual([lacking.created.length, reasons(fourth.all)], [0, ["InputMissing"]]);
});

Deno.test("a start that has to wait holds up neither the Job of the last needed run nor other ends", async () => {
  const world = new World();
  world.quota = new UnavailableError("the quota is full", { retryAfterMs: 5 });
  using bed = world.process();
  await bed.joins.recorded(ended("sort"));
  await bed.joins.recorded(ended("lfp"));
  deepEqual(world.keys(".open-joins"), [`.open-joins/${NAME}.json`]);
  await bed.joins.recorded(ended("sort", { root: "lkjihgfedcba" }));
  world.quota = undefined;
  await eventually(() => world.created.length === 1 && world.keys(".open-joins").length === 0);
});

Deno.test("the place that the last needed run still has is the one that the joined run gets", async () => {
  const world = new World();
  using bed = world.process({ maxRuns: 1 });
  await bed.joins.recorded(ended("sort"));
  const lfp = ended("lfp");
  bed.runs.clusterEvents.onJob(job({ runName: lfp.run_name, jobName: "lfp" }));
  await bed.joins.recorded(lfp);
  equal(world.created.length, 0, "the policy allows one Job, and that of lfp is there");
  bed.runs.deleted(lfp.run_name);
  bed.starter.pump();
  await eventually(() => world.created.length === 1 && world.keys(".open-joins").length === 0);
});

Deno.test("a start that waited when the process died goes on in the next one, also of a row that was out of the table", async () => {
  const world = new World();
  world.quota = new UnavailableError("the quota is full", { retryAfterMs: 5 });
  {
    using bed = world.process();
    for (const jobName of ["sort", "lfp"]) await bed.joins.recorded(ended(jobName));
  }
  world.quota = undefined;
  using bed = world.process({ rows: ROWS.slice(0, 2) });
  await bed.joins.resume();
  equal(world.created.length, 0);
  bed.table.rows = ROWS;
  await bed.joins.resume();
  deepEqual([world.created.map(({ runName }) => runName), world.keys(".open-joins")], [[NAME], []]);
});

Deno.test("a process that starts learns what waits", async () => {
  const world = new World();
  {
    using bed = world.process();
    await bed.joins.recorded(ended("sort"));
    for (const jobName of ["sort", "lfp"]) await bed.joins.recorded(ended(jobName, { root: "lkjihgfedcba" }));
  }
  using bed = world.process();
  await bed.joins.load();
  deepEqual([...bed.joins.waiting], [{ root: ROOT, jobName: "report", missing: ["lfp"] }]);
});

Deno.test("garbage among the marks is not believed, is named, and gives way to the next success", async () => {
  const garbage: unknown[] = [
    "x",
    "{}",
    { ...mark("sort"), run_name: "../x" },
    { ...mark("sort"), job_name: "lfp" },
    { ...mark("sort"), result: "x".repeat(100_000) },
    { ...mark("sort"), input: "x".repeat(10_000) },
    { ...mark("sort"), chain_depth: -1 },
  ];
  for (const one of garbage) {
    const world = new World();
    using bed = world.process();
    await bed.joins.recorded(ended("sort"));
    const [key] = world.keys(".joins");
    world.store.objects.set(key!, new TextEncoder().encode(typeof one === "string" ? one : JSON.stringify(one)));
    world.store.objects.set(`.joins/${ROOT}/x.json`, new Uint8Array(3));
    await bed.joins.recorded(ended("lfp"));
    deepEqual([world.created.length, reasons(bed.all)], [0, ["MarkUnusable"]]);
    await bed.joins.recorded(ended("sort", { run_name: "sort-bbbbbbbbbbbb" }));
    equal(world.created.length, 1);
  }
});

function mark(jobName: string) {
  return { job_name: jobName, run_name: `${jobName}-a`, root_run: `${jobName}-a`, chain_depth: 0 };
}

Deno.test("rows of any name have keys of their own, and no record makes a key of its own choice", async () => {
  const names = ["__proto__", "a b", "A-b", "Ä".repeat(200), "..", "constructor"];
  const all = row({ jobName: "all", mqttTopic: "", needs: names });
  const world = new World();
  using bed = world.process({ rows: [...names.map((jobName) => row({ jobName })), all] });
  for (const [at, jobName] of names.entries()) {
    await bed.joins.recorded(ended(jobName, { run_name: `r-${at}`, root_run: "first-a", root: "../../other" }));
  }
  equal(world.created.length, 1);
  const { needs } = JSON.parse(new TextDecoder().decode(world.created[0]!.message.payload));
  deepEqual(Object.keys(needs).sort(), [...names].sort());
  for (const key of world.keys("")) match(key, /^\.joins\/[a-z2-7]{12}\/[a-z0-9-]+\/[a-z0-9-]+\.json$/);
});

Deno.test("the rows that need one are found without a look at all rows for each end", async () => {
  const rows = Array.from({ length: 100_000 }, (_, at) => row({ jobName: `r${at}` }));
  let reads = 0;
  const table = new Proxy(rows, { get: (target, name) => (reads++, Reflect.get(target, name)) });
  const world = new World();
  using bed = world.process({ rows: table });
  await bed.joins.recorded(ended("r1"));
  const first = reads;
  for (let n = 0; n < 1_000; n++) await bed.joins.recorded(ended("r1"));
  ok(reads - first < 10, `${reads - first} reads`);
});

Deno.test("wherever the process dies, the joined run is started, and once", async () => {
  for (const lastHappens of [true, false]) {
    for (let left = 1;; left++) {
      const world = new World();
      using first = world.process();
      await first.joins.recorded(ended("sort"));
      [world.left, world.lastHappens] = [left, lastHappens];
      const resolved = first.joins.recorded(ended("lfp")).then(() => true);
      const isThrough = await Promise.race([resolved, world.died.promise.then(() => false)]);
      first.kill();
      world.left = Infinity;
      using second = world.process();
      await second.joins.resume();
      // The Job of the run whose end was not through is there, and its end is done again.
      if (!isThrough) await second.joins.recorded(ended("lfp"));
      deepEqual(world.created.map(({ runName }) => runName), [NAME], `${left} effects, ${lastHappens}`);
      if (isThrough) break;
    }
  }
});

Deno.test("wherever the process dies at the end of the joined run, its marks go", async () => {
  for (let left = 1;; left++) {
    const world = new World();
    using first = world.process();
    for (const jobName of ["sort", "lfp"]) await first.joins.recorded(ended(jobName));
    world.left = left;
    const isThrough = await Promise.race([
      world.end(first.joins, NAME).then(() => true),
      world.died.promise.then(() => false),
    ]);
    first.kill();
    world.left = Infinity;
    using second = world.process();
    if (!isThrough) await world.end(second.joins, NAME);
    for (const jobName of ["sort", "lfp"]) await second.joins.recorded(ended(jobName));
    deepEqual([world.created.length, world.keys(".joins")], [1, []]);
    if (isThrough) break;
  }
});

// ---------------------------------------------------------------- the model

const NEEDS = ["a", "b", "c"];
const MODEL_ROWS = [
  ...NEEDS.map((jobName) => row({ jobName })),
  row({ jobName: "both", mqttTopic: "", needs: ["a", "b"] }),
  row({ jobName: "all", mqttTopic: "", needs: ["c", "a", "b"] }),
];
const ROOTS = ["aaaaaaaaaaaa", "bbbbbbbbbbbb"];

type Step =
  | { do: "end"; row: number; root: number; succeeds: boolean }
  | { do: "die"; after: number; lastHappens: boolean }
  | { do: "quota"; isFull: boolean }
  | { do: "finish" };

const steps: fc.Arbitrary<Step[]> = fc.array(
  fc.oneof(
    {
      weight: 6,
      arbitrary: fc.record({
        do: fc.constant("end" as const),
        row: fc.nat(2),
        root: fc.nat(1),
        succeeds: fc.boolean(),
      }),
    },
    {
      weight: 3,
      arbitrary: fc.record({ do: fc.constant("die" as const), after: fc.nat(12), lastHappens: fc.boolean() }),
    },
    { weight: 1, arbitrary: fc.record({ do: fc.constant("quota" as const), isFull: fc.boolean() }) },
    { weight: 2, arbitrary: fc.record({ do: fc.constant("finish" as const) }) },
  ),
  { minLength: 3, maxLength: 25 },
);

Deno.test("in any order of ends and deaths there is exactly one joined run of each root, if and only if all has succeeded", async () => {
  await fc.assert(
    fc.asyncProperty(steps, async (given) => {
      const world = new World();
      const open = () => world.process({ rows: MODEL_ROWS, patienceMs: 1 });
      let process = open();
      /** Ends that are not through: their Jobs are there. */
      const pending = new Map<string, RunRecord>();
      const succeeded = new Set<string>();
      const begin = (record: RunRecord) => {
        process.joins.recorded(record).then(() => pending.delete(record.run_name), () => {});
      };
      const restart = async () => {
        process.kill();
        [world.left, world.died] = [Infinity, Promise.withResolvers()];
        process = open();
        void process.joins.resume().catch(() => {});
        for (const record of pending.values()) begin(record);
        await settle();
      };
      for (const [at, step] of given.entries()) {
        if (step.do === "end") {
          const [jobName, root] = [NEEDS[step.row]!, ROOTS[step.root]!];
          const run_name = `${jobName}-${at}`;
          const record = ended(jobName, { run_name, root, status: step.succeeds ? "succeeded" : "failed" });
          if (step.succeeds) succeeded.add(`${jobName} ${root}`);
          pending.set(run_name, record);
          begin(record);
          // Every other one ends in the same moment as the next.
          if (at % 2 === 0) await settle();
        } else if (step.do === "die") {
          [world.left, world.lastHappens] = [step.after, step.lastHappens];
          await settle();
          await restart();
        } else if (step.do === "quota") {
          world.quota = step.isFull ? new UnavailableError("full", { retryAfterMs: 1 }) : undefined;
        } else {
          const [runName] = world.jobs.keys();
          if (runName !== undefined && process.runs.get(runName)) {
            await world.end(process.joins, runName);
            process.runs.deleted(runName);
          }
        }
      }
      world.quota = undefined;
      await restart();
      await eventually(() => pending.size === 0 && world.keys(".open-joins").length === 0, {
        intervalMs: 1,
      });
      process.kill();
      const expected = MODEL_ROWS.filter(({ needs }) => needs).flatMap((joined) =>
        ROOTS.filter((root) => joined.needs!.every((needed) => succeeded.has(`${needed} ${root}`)))
          .map((root) => runNameFor(joined, { key: keyOfCause.join(root) }))
      );
      deepEqual(world.created.map(({ runName }) => runName).sort(), expected.sort());
    }),
    { numRuns: Number(Deno.env.get("MODEL_RUNS") ?? 60) },
  );
});

/** All that waits for nothing but promises has happened, and timers of a few milliseconds. */
async function settle(): Promise<void> {
  for (let turn = 0; turn < 5; turn++) await new Promise((resolve) => setTimeout(resolve, 1));
}
