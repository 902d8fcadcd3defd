/** What is tried again, when and as what; and that each step of it may be repeated. On fakes. */
import { deepEqual, equal, match, ok } from "node:assert/strict";
import { Retries, type RetriesOptions } from "../../flows/retries.ts";
import { buildJob } from "../../k8s/manifest.ts";
import { processPlan } from "../../local/runner.ts";
import {
  type JobFacts,
  type Outcome,
  RefusedError,
  type Row,
  type RunRecord,
  type RunSpec,
  UnavailableError,
} from "../../ports.ts";
import { RunRecords } from "../../records.ts";
import { keyOfCause, runNameFor } from "../../run_spec.ts";
import { RunTable } from "../../runs.ts";
import { NamedStarts, Starter } from "../../starter.ts";
import { aRecord, events, FakeCluster, FakeStore, job, row } from "../harness/fakes.ts";
import { eventually } from "../harness/wait.ts";

const FIRST = "count-aaaaaaaaaaaa";
const ENDED_AT = "2026-03-01T10:00:00.000Z";
const NEVER = new AbortController().signal;

function setUp(
  { cluster = new FakeCluster(), maxRuns = Infinity, retryDelayMs = 0, against = () => [], store = new FakeStore() }: {
    cluster?: FakeCluster;
    maxRuns?: number;
    retryDelayMs?: number;
    against?: RetriesOptions["against"];
    store?: FakeStore;
  } = {},
) {
  const stop = new AbortController();
  const { signal } = stop;
  const { emit, all } = events();
  const runs = new RunTable({ emit });
  const starter = new Starter({ cluster, runs, payloads: store, concurrency: 8, maxRuns, emit, signal });
  const records = new RunRecords(store);
  const named = new NamedStarts({ runs, records, signal });
  const endings: { runName: string; outcome: Outcome }[] = [];
  const endUnstarted = ({ runName }: RunSpec, outcome: Outcome) =>
    Promise.resolve(void endings.push({ runName, outcome }));
  const options = { records, endUnstarted, payloads: store, against, retryDelayMs, emit, signal };
  const retries = new Retries({ starter, named, ...options });
  return { retries, starter, runs, cluster, store, all, endings, [Symbol.dispose]: () => stop.abort() };
}

function failed(more: Partial<RunRecord> = {}): RunRecord {
  return aRecord({
    run_name: FIRST,
    job_name: "count",
    status: "failed",
    reason: "ExitCode",
    message: "Its program ended with exit code 75",
    exit_code: 75,
    finished_at: ENDED_AT,
    ...more,
  });
}

function ended(cells: Partial<Row>, more: Partial<JobFacts> = {}): JobFacts {
  const kept = row(cells);
  return job({ runName: FIRST, payload: new TextEncoder().encode("7"), row: () => kept, ...more });
}

/** How a completion asks for the next attempt. */
function by(job: JobFacts, stop = NEVER) {
  return { readJob: () => Promise.resolve(job), stop };
}

function nameOf(attempt: number, first = FIRST): string {
  return runNameFor(row(), { key: keyOfCause.attempt(first, attempt) });
}

Deno.test("a failure is tried again as retries and retry_on say, and not more often", () => {
  const LADDER = { memoryLimit: "1Gi", memoryLimits: ["1Gi", "2Gi", "4Gi"] };
  const OOM = { reason: "OOMKilled", exit_code: 137 };
  const cases: [cells: Partial<Row>, record: Partial<RunRecord>, tried: boolean][] = [
    [{}, {}, false],
    [{ retries: 1 }, {}, true],
    [{ retries: 1 }, { attempt: 2 }, false],
    [{ retries: 3 }, { attempt: 3 }, true],
    [{ retries: 3 }, { attempt: 4 }, false],
    [{ retries: 1 }, OOM, true],
    [{ retries: 1 }, { reason: "Evicted", exit_code: null }, true],
    [{ retries: 1 }, { reason: "Evicted", exit_code: null, disruptions: 1 }, true],
    [{ retries: 1, rerunAfterDisruption: false }, { reason: "Evicted", exit_code: null, disruptions: 1 }, false],
    [{ retries: 1 }, { status: "succeeded", reason: "Completed", exit_code: 0 }, false],
    ...["Cancelled", "Deleted"].map((
      reason,
    ): [Partial<Row>, Partial<RunRecord>, boolean] => [{ retries: 1 }, { status: "cancelled", reason }, false]),
    ...["DeadlineExceeded", "ImagePull", "CannotStart", "Unschedulable", "PodRefused", "PodDeleted", "NodeLost"].map(
      (reason): [Partial<Row>, Partial<RunRecord>, boolean] => [{ retries: 1 }, { reason, exit_code: null }, false],
    ),
    [{ retries: 1, retryOn: [{ reason: "NodeLost" }] }, { reason: "NodeLost", exit_code: null }, true],
    [{ retries: 1, retryOn: [{ reason: "NodeLost" }] }, {}, false],
    [{ retries: 1, retryOn: [{ first: 75, last: 75 }] }, {}, true],
    [{ retries: 1, retryOn: [{ first: 70, last: 74 }, { first: 76, last: 90 }] }, {}, false],
    [{ retries: 1, retryOn: [{ first: 130, last: 145 }] }, OOM, true],
    // Out of memory is what the kubelet says, not a code.
    [LADDER, OOM, true],
    [LADDER, { exit_code: 137 }, false],
    [LADDER, { ...OOM, attempt: 2, rung: 1 }, true],
    [LADDER, { ...OOM, attempt: 3, rung: 2 }, false],
    // No rung uses up one of the retries.
    [{ ...LADDER, retries: 1 }, { attempt: 3, rung: 2 }, true],
    [{ ...LADDER, retries: 1 }, { attempt: 4, rung: 2 }, false],
    [{ ...LADDER, retries: 1 }, { ...OOM, attempt: 3, rung: 1 }, true],
    [{ ...LADDER, retries: 1 }, { ...OOM, attempt: 3, rung: 2 }, true],
    [{ ...LADDER, retries: 1 }, { ...OOM, attempt: 4, rung: 2 }, false],
  ];
  using bed = setUp();
  for (const [cells, record, tried] of cases) {
    const next = bed.retries.nextAttempt(
      ended(cells),
      failed({ ...record, ...(record.attempt ? { first_run: FIRST } : {}) }),
    );
    const expected = tried ? nameOf((record.attempt ?? 1) + 1) : undefined;
    equal(next && "runName" in next ? next.runName : next?.not, expected, JSON.stringify([cells, record]));
  }
});

Deno.test("the wait doubles from the first delay to six minutes, and counts from the end of the attempt", () => {
  using bed = setUp({ retryDelayMs: 10_000 });
  const seconds = Array.from({ length: 8 }, (_, n) => {
    const next = bed.retries.nextAttempt(ended({ retries: 100 }), failed({ attempt: n + 1, first_run: FIRST }));
    return next && "at" in next ? (next.at.getTime() - Date.parse(ENDED_AT)) / 1_000 : undefined;
  });
  deepEqual(seconds, [10, 20, 40, 80, 160, 320, 360, 360]);
});

Deno.test("what cannot be tried again says why, before anybody is told of an end", () => {
  const not = (next: ReturnType<Retries["nextAttempt"]>) => next && "not" in next ? next.not : undefined;
  const garbage = () => {
    throw new SyntaxError("it is not JSON");
  };
  using bed = setUp();
  match(not(bed.retries.nextAttempt(ended({}, { row: garbage }), failed()))!, /cannot be read: it is not JSON/);
  match(not(bed.retries.nextAttempt(ended({ retries: 1, jobName: "other" }), failed()))!, /the row of another one/);
  const { payload: _, ...without } = ended({ retries: 1 });
  match(not(bed.retries.nextAttempt(without, failed()))!, /its message is not known/);
  using strict = setUp({ against: ({ image }) => [`the image ${image} is not allowed`] });
  match(not(strict.retries.nextAttempt(ended({ retries: 1 }), failed()))!, /the image busybox is not allowed/);
  equal(bed.retries.nextAttempt(job({ payload: new Uint8Array() }), failed()), undefined);
});

Deno.test("the next attempt is the same run once more: message, lineage, slot, and the next rung", async () => {
  using bed = setUp();
  const lineage = {
    parentRun: "first-zzzzzzzzzzzz",
    rootRun: "root-zzzzzzzzzzzz",
    chainDepth: 2,
    group: "g",
    index: 3,
  };
  const cells = { memoryLimit: "1Gi", memoryLimits: ["1Gi", "2Gi"], retries: 1 };
  const live = ended(cells, { ...lineage, item: '"x"', batch: "b", concurrency: "lab" });
  const record = failed({ reason: "OOMKilled", retried_as: nameOf(2) });
  equal(await bed.retries.startNext(record, by(live)), undefined);
  const [spec] = bed.cluster.created;
  const { row: made, message, receivedAt, ...rest } = spec!;
  deepEqual(rest, {
    ...lineage,
    root: "rootrootroot",
    item: '"x"',
    batch: "b",
    concurrency: "lab",
    runName: nameOf(2),
    messageHash: "hash",
    attempt: 2,
    firstRun: FIRST,
    rung: 1,
  });
  deepEqual([made.memoryLimits, message.topic, new TextDecoder().decode(message.payload)], [
    cells.memoryLimits,
    "lab/count",
    "7",
  ]);
  deepEqual(receivedAt, live.receivedAt);
});

Deno.test("the second attempt has 2 for {attempt}, in the Job and in the local runner's process", async () => {
  using bed = setUp();
  const named = (text: string) => [text, { root: "attempt" as const, path: [], source: "{attempt}" }];
  const cells: Partial<Row> = { retries: 1, command: ["sort"], args: [named("--try=")], workingDir: named("/srv/") };
  equal(await bed.retries.startNext(failed({ retried_as: nameOf(2) }), by(ended(cells))), undefined);
  const [spec] = bed.cluster.created;
  const job = buildJob(spec!, { namespace: "lab", instance: "lab-a", ttlSecondsAfterFinished: 60 });
  deepEqual(job.spec!.template.spec!.containers[0]!.args, ["--try=2"]);
  const { command, dir } = processPlan(spec!, { dir: "/srv" });
  deepEqual([command, dir], [["sort", "--try=2"], "/srv/2"]);
});

Deno.test("a payload that is in the store is linked to anew, one elsewhere is not", async () => {
  using bed = setUp();
  const { payload: _, ...without } = ended({ retries: 1 });
  const record = failed({ retried_as: nameOf(2) });
  const object = `${bed.store.url}/.payloads/${FIRST}`;
  equal(await bed.retries.startNext(record, by({ ...without, payloadObject: object })), undefined);
  deepEqual(bed.cluster.created[0]!.payloadLink, { url: `https://fake/.payloads/${FIRST}`, object });
  using other = setUp();
  const foreign = { ...without, payloadObject: `${other.store.url}/secrets/key` };
  const outcome = await other.retries.startNext(record, by(foreign));
  match(outcome!.message, /cannot be tried again: its payload is not where this service has put it$/);
  deepEqual(other.cluster.created, []);
});

Deno.test("an attempt that is there, or was, is not made again, whoever asks and however often", async () => {
  const record = failed({ retried_as: nameOf(2) });
  using bed = setUp();
  for (let time = 0; time < 3; time++) {
    equal(await bed.retries.startNext(record, by(ended({ retries: 1 }))), undefined);
  }
  equal(bed.cluster.created.length, 1);
  // The next process: it lives, as the cluster says;
  using alive = setUp();
  alive.runs.clusterEvents.onJob(job({ runName: nameOf(2) }));
  equal(await alive.retries.startNext(record, by(ended({ retries: 1 }))), undefined);
  // it has ended and is gone;
  using gone = setUp();
  gone.store.objects.set(`${nameOf(2)}.json`, new Uint8Array());
  equal(await gone.retries.startNext(record, by(ended({ retries: 1 }))), undefined);
  // it was made by a call of the process before, which the watch has not shown yet.
  using late = setUp();
  late.cluster.answers.push("exists");
  equal(await late.retries.startNext(record, by(ended({ retries: 1 }))), undefined);
  deepEqual([alive, gone, late].flatMap(({ cluster }) => cluster.created), []);
});

Deno.test("an attempt that the cluster refuses, or whose Job's row is gone, ends the run as its failure has it", async () => {
  const record = failed({ retried_as: nameOf(2) });
  using bed = setUp();
  bed.cluster.answers.push(new RefusedError("no such image"));
  const refused = await bed.retries.startNext(record, by(ended({ retries: 1 })));
  deepEqual([refused?.status, refused?.reason, refused?.exitCode], ["failed", "ExitCode", 75]);
  match(refused!.message, /exit code 75; it cannot be tried again: no such image$/);
  const vanished = await bed.retries.startNext(record, by(job({ runName: FIRST })));
  match(vanished!.message, /it cannot be tried again: its Job was gone$/);
});

Deno.test("who cancels a run that waits gets no further attempt, unless it is there already", async () => {
  const cancelled: Outcome = { status: "cancelled", reason: "Cancelled", message: "Cancelled by somebody" };
  const record = failed({ retried_as: nameOf(2), finished_at: new Date().toISOString() });
  using bed = setUp({ retryDelayMs: 3_600_000 });
  const stop = new AbortController();
  const waiting = bed.retries.startNext(record, by(ended({ retries: 1 }), stop.signal));
  stop.abort(cancelled);
  deepEqual(await waiting, cancelled);
  deepEqual(bed.cluster.created, []);
  bed.runs.clusterEvents.onJob(job({ runName: nameOf(2) }));
  equal(await bed.retries.startNext(record, by(ended({ retries: 1 }), stop.signal)), undefined);
});

Deno.test("a run that is cancelled while the cluster takes no Jobs gets no further attempt either", async () => {
  const cancelled: Outcome = { status: "cancelled", reason: "Cancelled", message: "Cancelled by somebody" };
  using bed = setUp();
  const stop = new AbortController();
  let isAway = true;
  const create = bed.cluster.create.bind(bed.cluster);
  bed.cluster.create = (spec) =>
    isAway ? Promise.reject(new UnavailableError("away", { retryAfterMs: 50 })) : create(spec);
  const waiting = bed.retries.startNext(failed({ retried_as: nameOf(2) }), by(ended({ retries: 1 }), stop.signal));
  await eventually(() => bed.all.some(({ type }) => type === "waiting"));
  stop.abort(cancelled);
  isAway = false;
  deepEqual(await waiting, cancelled);
  deepEqual(bed.cluster.created, []);
});

Deno.test("of attempts that wait no Job is read before it is due, and four of a row at a time, whatever another row waits for", async () => {
  using bed = setUp();
  let reads = 0;
  const start = (n: number, jobName = "count") => {
    const record = failed({ run_name: `${jobName}-run-${n}`, job_name: jobName, retried_as: `${jobName}-next-${n}` });
    const readJob = () => (reads++, Promise.resolve(ended({ retries: 1, jobName })));
    return bed.retries.startNext(record, { readJob, stop: NEVER });
  };
  const isAway = Promise.withResolvers<"created">();
  bed.cluster.answers.push(...Array.from({ length: 4 }, () => isAway.promise));
  const all = Promise.all(Array.from({ length: 10 }, (_, n) => start(n)));
  await eventually(() => reads === 4);
  equal(await start(0, "other"), undefined);
  equal(reads, 5);
  isAway.resolve("created");
  await all;
  equal(reads, 11);
  using patient = setUp({ retryDelayMs: 3_600_000 });
  const stop = new AbortController();
  const later = patient.retries.startNext(failed({ retried_as: nameOf(2), finished_at: new Date().toISOString() }), {
    readJob: () => (reads++, Promise.resolve(ended({ retries: 1 }))),
    stop: stop.signal,
  });
  stop.abort({ status: "cancelled", reason: "Cancelled", message: "" } satisfies Outcome);
  equal((await later)?.status, "cancelled");
  equal(reads, 11);
});

Deno.test("runs that are tried again get by the bound on runs, behind which others wait for the places that they leave", async () => {
  using bed = setUp({ maxRuns: 1 });
  bed.runs.clusterEvents.onJob(job({ runName: FIRST }));
  const settled: string[] = [];
  const fresh = { ...ended({}), runName: "count-bbbbbbbbbbbb" };
  bed.starter.start({
    row: row(),
    spec: () => ({
      ...fresh,
      row: row(),
      message: { topic: "lab/count", payload: new Uint8Array() },
      runName: "count-bbbbbbbbbbbb",
    }),
    settle: ({ result }) => settled.push(result),
  });
  equal(await bed.retries.startNext(failed({ retried_as: nameOf(2) }), by(ended({ retries: 1 }))), undefined);
  deepEqual([bed.cluster.created.map(({ runName }) => runName), settled], [[nameOf(2)], []]);
  bed.runs.deleted(FIRST);
  bed.runs.deleted(nameOf(2));
  bed.starter.pump();
  await eventually(() => settled.length === 1);
  ok(bed.cluster.created.some(({ runName }) => runName === "count-bbbbbbbbbbbb"));
});
