import { deepEqual, equal, match, ok } from "node:assert/strict";
import { Completion } from "../completion.ts";
import type { Aftermath, FailedAttempt } from "../flows.ts";
import { LogCollector } from "../logs.ts";
import type { ObjectLook, Outcome, RunRecord } from "../ports.ts";
import { UnavailableError } from "../ports.ts";
import { RunRecords } from "../records.ts";
import { RunTable } from "../runs.ts";
import { aRecord, events, FakeBroker, FakeCluster, FakeStore, job, pod } from "./harness/fakes.ts";
import { eventually } from "./harness/wait.ts";

const PREFIX = "services/mqtt_job_listener";
const DONE = { name: "main", state: "terminated", exitCode: 0, restartCount: 0 } as const;
const COMPLETE = { end: { type: "Complete" as const } };
const LINE = (text: string, second = 1) => `2026-01-01T00:00:0${second}.000000000Z ${text}\n`;

function setUp(
  {
    imagePullMs = 50,
    memoryBytes = 1 << 20,
    silentMs = 45_000,
    noPodMs = 30_000,
    unpreparedMs = 10,
    maxBytes = 1e9,
    look,
    times = { sweepMs: 20, noPodYetMs: 20, noPodAtEndMs: 20 },
    aftermath,
    store = new FakeStore(),
  }: {
    imagePullMs?: number;
    memoryBytes?: number;
    silentMs?: number;
    noPodMs?: number;
    unpreparedMs?: number;
    maxBytes?: number;
    look?: ObjectLook;
    /** {}: those of the service. */
    times?: { sweepMs?: number; noPodYetMs?: number; noPodAtEndMs?: number; podsSettleMs?: number };
    aftermath?: Aftermath;
    store?: FakeStore;
  } = {},
) {
  const stop = new AbortController();
  const { signal } = stop;
  const { emit, all } = events();
  const [cluster, broker] = [new FakeCluster(), new FakeBroker()];
  const runs = new RunTable({ emit });
  const logs = new LogCollector({
    cluster,
    store,
    settings: { followers: 10, memoryBytes, maxBytes, silentMs },
    signal,
  });
  const completion = new Completion({
    broker,
    cluster,
    runs,
    records: new RunRecords(store),
    logs,
    topicPrefix: PREFIX,
    gracePeriods: { imagePullMs, unschedulableMs: 50, nodeLostMs: 50 },
    emit,
    signal,
    onDone: () => {},
    ...(look ? { look } : {}),
    ...(aftermath ? { aftermath } : {}),
    noPodMs,
    unpreparedMs,
    ...times,
  });
  runs.observe(completion);
  completion.start();
  const { clusterEvents } = runs;
  clusterEvents.onSynced();
  return { cluster, store, broker, runs, all, clusterEvents, [Symbol.dispose]: () => stop.abort() };
}

Deno.test("a run that succeeded is logged, published, recorded and deleted, in this order", async () => {
  using bed = setUp();
  const order: string[] = [];
  bed.cluster.outputs.set("count-abc-x/main", [LINE("hello")]);
  const { put } = bed.store;
  bed.store.put = (key, body) => (order.push(`put ${key}`), put.call(bed.store, key, body));
  const { publish } = bed.broker;
  bed.broker.publish = (topic, body) => (order.push(`publish ${topic}`), publish.call(bed.broker, topic, body));
  bed.clusterEvents.onJob(job());
  bed.clusterEvents.onPod(pod());
  bed.clusterEvents.onJob(job({ ...COMPLETE, gpu: 2, payload: new TextEncoder().encode("7") }));
  await eventually(() => bed.cluster.deleted.length === 1);
  deepEqual(order, [
    "put count-abc.txt",
    `publish ${PREFIX}/job_complete/count`,
    "put count-abc.json",
  ]);
  match(bed.store.text("count-abc.txt")!, /^run: {7}count-abc\n[^]*ended: {5}succeeded[^]*\n\nhello\n$/);
  const record = JSON.parse(bed.store.text("count-abc.json")!) as RunRecord;
  deepEqual([record.status, record.payload, record.node, record.gpu], ["succeeded", "7", "node1", 2]);
  const body = JSON.parse(bed.broker.published[0]!.body);
  for (const { log_complete, log_bytes } of [record, body]) deepEqual([log_complete, log_bytes], [true, 6]);
  match(bed.store.text("count-abc.txt")!, /^gpus: {6}2\n[^]*^log: {7}6 bytes, whole\n/m);
  deepEqual([body.status, body.run_name, body.parent_run, body.input], ["succeeded", "count-abc", null, "7"]);
});

Deno.test("a record has the times that the watches brought, in order, and those of log and message", async () => {
  using bed = setUp();
  const at = (second: number) => new Date(Date.UTC(2026, 0, 1, 0, 0, second));
  const said = (reason: string, second: number) =>
    ({ at: at(second), type: "Normal", object: "Pod/count-abc-x", reason, message: "", count: 1 }) as const;
  const held = job({ createdAt: at(0), suspended: {}, heldFor: "slot" });
  bed.clusterEvents.onJob(held);
  bed.clusterEvents.onJob(job({ createdAt: at(0), startedAt: at(2) }));
  const ran = { ...DONE, startedAt: at(7), finishedAt: at(8) };
  bed.clusterEvents.onPod(pod({ phase: "Pending", scheduledAt: at(3), containers: [] }));
  // The watch may tell of the pod's end alone, and of another pod that came later.
  bed.clusterEvents.onPod(pod({ scheduledAt: at(3), containers: [ran] }));
  bed.clusterEvents.onPod(pod({ podName: "count-abc-y", scheduledAt: at(30), containers: [ran] }));
  bed.cluster.podEvents = [said("Scheduled", 3), said("Pulling", 4), said("Pulled", 5), said("Pulled", 40)];
  bed.clusterEvents.onJob(job({ ...COMPLETE, createdAt: at(0), startedAt: at(2), finishedAt: at(9) }));
  const record = await eventually(() => recordOf(bed.store));
  deepEqual(
    [record.held_for, record.released_at, record.scheduled_at, record.pulled_at, record.started_at],
    ["slot", ...[2, 3, 5, 7].map((second) => at(second).toISOString())],
  );
  ok(record.finished_at < record.log_stored_at! && record.log_stored_at! <= record.announced_at!);
});

Deno.test("a run whose program never started has no start, whenever its Job began", async () => {
  using bed = setUp();
  const waiting = { name: "main", state: "waiting", reason: "InvalidImageName", restartCount: 0 } as const;
  bed.clusterEvents.onJob(job({ startedAt: new Date() }));
  bed.clusterEvents.onPod(pod({ phase: "Pending", containers: [waiting] }));
  const { reason, started_at, pulled_at } = await eventually(() => recordOf(bed.store));
  deepEqual([reason, started_at, pulled_at], ["ImagePull", null, undefined]);
});

Deno.test("the end of a run that failed has the last line that its program wrote", async () => {
  using bed = setUp();
  bed.cluster.outputs.set("count-abc-x/main", [LINE("step 1") + LINE("step 2: \u001b[31mslow", 2) + LINE("  ", 3)]);
  bed.clusterEvents.onJob(job({ activeDeadlineSeconds: 5_400 }));
  bed.clusterEvents.onPod(pod({}, 143));
  bed.clusterEvents.onJob(job({ activeDeadlineSeconds: 5_400, end: { type: "Failed", reason: "DeadlineExceeded" } }));
  const record = await eventually(() => recordOf(bed.store));
  const words =
    "Ran longer than 5400 s (1 h 30 min) and was stopped: the row's active_deadline_seconds is 5400; raise " +
    "it, or find out what took so long; the last line of its log: step 2: slow";
  const told = JSON.parse(bed.broker.published[0]!.body) as RunRecord;
  for (const { message, last_line } of [record, told]) deepEqual([message, last_line], [words, "step 2: slow"]);
  ok(bed.store.text("count-abc.txt")!.includes(`ended:     failed: ${words}\n`));
});

Deno.test("the last line is in the sentence where the program itself failed, and nowhere twice", async () => {
  for (
    const [reason, more, words] of [
      [
        "ExitCode",
        { exitCode: 3, message: "ValueError: no units" },
        /^Its program ended with exit code 3: ValueError: no units; the log says more$/,
      ],
      ["OOMKilled", { exitCode: 137, reason: "OOMKilled" }, /; the last line of its log: ValueError: no units$/],
      [
        "Evicted",
        { exitCode: 137, pod: { reason: "Evicted", message: "low on memory" } },
        /^The node threw it out: low on memory$/,
      ],
    ] as const
  ) {
    using bed = setUp();
    bed.cluster.outputs.set("count-abc-x/main", [LINE("ValueError: no units")]);
    const { pod: podFacts = {}, ...container } = { pod: {}, ...more };
    bed.clusterEvents.onJob(job());
    bed.clusterEvents.onPod(pod({ ...podFacts, containers: [{ ...DONE, ...container }] }, 1));
    bed.clusterEvents.onJob(job({ end: { type: "Failed", reason: "BackoffLimitExceeded" } }));
    const record = await eventually(() => recordOf(bed.store));
    deepEqual([record.reason, record.last_line], [reason, "ValueError: no units"]);
    match(record.message, words);
  }
});

function recordOf(store: FakeStore): RunRecord | undefined {
  const text = store.text("count-abc.json");
  return text === undefined ? undefined : JSON.parse(text);
}

Deno.test("the output of a run that succeeded is looked for, and what is missing is said", async () => {
  const cases: [there: boolean | Error, missing: true | undefined, words: RegExp][] = [
    [true, undefined, /^Ended without error$/],
    [false, true, /^Ended without error, but there is nothing at its output s3:\/\/lab\/u1\.zip$/],
    [new UnavailableError("no answer"), undefined, /cannot be looked for: no answer$/],
  ];
  for (const [there, missing, words] of cases) {
    const asked: string[] = [];
    using bed = setUp({
      look: (url) => {
        asked.push(url);
        return there instanceof Error ? Promise.reject(there) : Promise.resolve(there);
      },
    });
    bed.clusterEvents.onJob(job({ output: "s3://lab/u1.zip", owner: "Ada" }));
    bed.clusterEvents.onPod(pod({ phase: "Succeeded", containers: [{ ...DONE, message: '{"units":3}' }] }));
    bed.clusterEvents.onJob(job({ output: "s3://lab/u1.zip", owner: "Ada", ...COMPLETE }));
    await eventually(() => bed.store.text("count-abc.json"));
    const record = JSON.parse(bed.store.text("count-abc.json")!) as RunRecord;
    const end = JSON.parse(bed.broker.published[0]!.body) as RunRecord;
    for (const { output, output_missing, message, result } of [record, end]) {
      deepEqual([output, output_missing, result], ["s3://lab/u1.zip", missing, { units: 3 }]);
      match(message, words);
    }
    deepEqual([record.owner, asked], ["Ada", ["s3://lab/u1.zip"]]);
  }
});

Deno.test("a run that failed is published on job_failed and ERROR, never on job_complete", async () => {
  using bed = setUp();
  bed.clusterEvents.onJob(job());
  bed.clusterEvents.onPod(pod({}, 3));
  bed.clusterEvents.onJob(job({ end: { type: "Failed", reason: "BackoffLimitExceeded" } }));
  await eventually(() => bed.cluster.deleted.length === 1);
  deepEqual(bed.broker.published.map(({ topic }) => topic), [`${PREFIX}/job_failed/count`, `${PREFIX}/ERROR`]);
  equal(JSON.parse(bed.broker.published[0]!.body).reason, "ExitCode");
});

Deno.test("a failed Job that is told before its pod's end is explained by that end", async () => {
  using bed = setUp();
  const running = pod({ phase: "Running" });
  const { exitCode: _, ...container } = running.containers[0]!;
  bed.clusterEvents.onJob(job());
  bed.clusterEvents.onPod({ ...running, containers: [{ ...container, state: "running" }] });
  bed.clusterEvents.onJob(job({ end: { type: "Failed", reason: "BackoffLimitExceeded" } }));
  bed.clusterEvents.onPod(pod({}, 3));
  await eventually(() => bed.broker.published.length === 2);
  equal(JSON.parse(bed.broker.published[0]!.body).reason, "ExitCode");
});

Deno.test("a failed Job whose pods the watch does not tell is explained by those that a list shows, with their log", async () => {
  const killed = pod({ containers: [{ ...DONE, exitCode: 137, reason: "OOMKilled", oomKilled: true }] }, 137);
  const running = pod({ phase: "Running", containers: [{ name: "main", state: "running", restartCount: 0 }] });
  const unstarted = pod({ phase: "Pending", containers: [] });
  for (const told of [[], [unstarted], [running]]) {
    using bed = setUp({ times: { noPodAtEndMs: 20, podsSettleMs: 60 } });
    bed.cluster.outputs.set("count-abc-x/main", [LINE("too large"), LINE("too large")]);
    const { pods } = bed.cluster;
    let asked = 0;
    bed.cluster.pods = () => asked++ === 0 ? Promise.reject(new UnavailableError("away")) : pods.call(bed.cluster);
    bed.cluster.listed = [killed];
    bed.clusterEvents.onJob(job());
    told.forEach((pod) => bed.clusterEvents.onPod(pod));
    bed.clusterEvents.onJob(job({ end: { type: "Failed", reason: "BackoffLimitExceeded" } }));
    const { reason, log_bytes } = await eventually(() => recordOf(bed.store));
    deepEqual([reason, log_bytes, asked], ["OOMKilled", 10, 2]);
  }
});

Deno.test("a failed Job that has no pods is judged by itself when a list shows none either", async () => {
  using bed = setUp();
  bed.clusterEvents.onJob(job());
  bed.clusterEvents.onJob(job({ end: { type: "Failed", reason: "BackoffLimitExceeded" } }));
  equal((await eventually(() => recordOf(bed.store))).reason, "PodDeleted");
});

Deno.test("a run is not published before its log is in the store", async () => {
  using bed = setUp();
  bed.store.faults.push(new UnavailableError("S3 is away", { retryAfterMs: 60_000 }));
  bed.clusterEvents.onJob(job());
  bed.clusterEvents.onJob(job(COMPLETE));
  await eventually(() => bed.runs.get("count-abc")?.detail.includes("S3 is away"));
  deepEqual([bed.broker.published, bed.cluster.deleted], [[], []]);
});

Deno.test("a failed Job whose evicted pod is gone already is explained by that pod", async () => {
  using bed = setUp();
  const disruption = { reason: "EvictionByEvictionAPI", message: "Eviction API: evicting" };
  bed.clusterEvents.onJob(job());
  bed.clusterEvents.onPod({ ...pod({ phase: "Running" }), disruption });
  bed.clusterEvents.onPodGone("count-abc-x", "count-abc");
  bed.clusterEvents.onJob(job({ end: { type: "Failed", reason: "BackoffLimitExceeded" } }));
  await eventually(() => bed.cluster.deleted.length === 1);
  equal(JSON.parse(bed.broker.published[0]!.body).reason, "EvictionByEvictionAPI");
});

Deno.test("a pod that somebody deleted is named though its deletion is counted anew when its program has ended", async () => {
  using bed = setUp();
  const at = (second: number) => new Date(1_000 * second);
  const ended = [{ ...DONE, exitCode: 143, finishedAt: at(44) }];
  const running = pod({ phase: "Running" });
  bed.clusterEvents.onJob(job());
  bed.clusterEvents.onPod(running);
  bed.clusterEvents.onPod({ ...running, deletionAt: at(48), deletionAskedAt: at(43) });
  bed.clusterEvents.onPod(pod({ phase: "Failed", containers: ended, deletionAt: at(48), deletionAskedAt: at(43) }));
  // The finalizer of its Job keeps it until the Job has counted it.
  bed.clusterEvents.onPod(pod({ phase: "Failed", containers: ended, deletionAt: at(45), deletionAskedAt: at(45) }));
  bed.clusterEvents.onJob(job({ end: { type: "Failed", reason: "BackoffLimitExceeded" } }));
  await eventually(() => bed.broker.published.length > 0);
  equal(JSON.parse(bed.broker.published[0]!.body).reason, "PodDeleted");
});

Deno.test("a run is not deleted before its end is acknowledged", async () => {
  using bed = setUp();
  bed.broker.faults.push(new UnavailableError("no broker", { retryAfterMs: 60_000 }));
  bed.clusterEvents.onJob(job());
  bed.clusterEvents.onJob(job(COMPLETE));
  await eventually(() => bed.runs.get("count-abc")?.detail.includes("no broker"));
  ok(bed.store.objects.has("count-abc.txt"));
  deepEqual(bed.cluster.deleted, []);
});

Deno.test("a run that a former process recorded is only deleted", async () => {
  using bed = setUp();
  bed.store.objects.set("count-abc.json", new Uint8Array());
  bed.clusterEvents.onJob(job({ ...COMPLETE, createdAt: new Date(0) }));
  await eventually(() => bed.cluster.deleted.length === 1);
  deepEqual(bed.broker.published, []);
});

Deno.test("a run that another replica made while this one waited counts as adopted, one of its own does not", async () => {
  using bed = setUp();
  bed.store.objects.set("count-abc.json", new Uint8Array());
  bed.clusterEvents.onJob(job({ createdAt: new Date(Date.now() + 3_600_000), ...COMPLETE }));
  await eventually(() => bed.cluster.deleted.length === 1);
  deepEqual(bed.broker.published, []);
  bed.runs.creating("count-own");
  bed.clusterEvents.onJob(job({ runName: "count-own", createdAt: new Date(0) }));
  deepEqual([bed.runs.get("count-own")?.adopted], [false]);
});

Deno.test("a whole log of a former process is not written again", async () => {
  using bed = setUp();
  const head =
    "run:       count-abc\nlog:       6 bytes, not whole: Lines before 12:00 may be missing\nevents:\n\nwhole\n";
  bed.store.objects.set("count-abc.txt", new TextEncoder().encode(head));
  bed.clusterEvents.onJob(job({ ...COMPLETE, createdAt: new Date(0) }));
  await eventually(() => bed.cluster.deleted.length === 1);
  equal(bed.store.text("count-abc.txt"), head);
  const record = JSON.parse(bed.store.text("count-abc.json")!) as RunRecord;
  deepEqual(
    [record.log_complete, record.log_bytes, record.log_missing],
    [false, 6, "Lines before 12:00 may be missing"],
  );
  equal(bed.broker.published.length, 1);
});

Deno.test("a line of a topic that looks like the log's own word in the head is not one", async () => {
  using bed = setUp();
  bed.cluster.outputs.set("count-abc-x/main", []);
  const topic = "lab\rlog:       9 bytes, whole\r\u2028log:       9 bytes, whole";
  bed.clusterEvents.onJob(job({ topic }));
  bed.clusterEvents.onPod(pod());
  bed.clusterEvents.onJob(job({ ...COMPLETE, topic }));
  await eventually(() => bed.cluster.deleted.length === 1);
  const [head] = bed.store.text("count-abc.txt")!.split("\nevents:");
  deepEqual([...head!.matchAll(/^log: .*$/gm)].map(String), [
    "log:       0 bytes, not whole: The cluster has no log of this container any more",
  ]);
});

Deno.test("a Job that someone deleted ends as cancelled, with what log there is", async () => {
  using bed = setUp();
  bed.cluster.outputs.set("count-abc-x/main", [LINE("half")]);
  bed.clusterEvents.onJob(job());
  bed.clusterEvents.onPod(pod({ phase: "Running" }));
  bed.clusterEvents.onJobGone("count-abc", job());
  await eventually(() => bed.store.objects.has("count-abc.json"));
  equal((JSON.parse(bed.store.text("count-abc.json")!) as RunRecord).status, "cancelled");
  match(bed.store.text("count-abc.txt")!, /half\n$/);
});

Deno.test("a pod that no node takes fails after its grace", async () => {
  using bed = setUp();
  bed.clusterEvents.onJob(job());
  const unschedulable = { since: new Date(), message: "0/1 nodes are available: 1 Insufficient cpu." };
  bed.clusterEvents.onPod(pod({ phase: "Pending", containers: [], unschedulable }));
  equal(bed.runs.get("count-abc")?.state, "pending");
  await eventually(() => bed.broker.published.length > 0);
  equal(JSON.parse(bed.broker.published[0]!.body).reason, "Unschedulable");
});

Deno.test("a record keeps the Job that the last event brought, and the table of live runs does not", async () => {
  using bed = setUp();
  const manifest = () => ({ kind: "Job", spec: { backoffLimit: 0 } });
  bed.clusterEvents.onJob(job({ manifest }));
  ok(!Object.hasOwn(bed.runs.get("count-abc")!.job, "manifest"));
  bed.clusterEvents.onPod(pod());
  bed.clusterEvents.onJob(job({ ...COMPLETE, manifest }));
  await eventually(() => bed.cluster.deleted.length === 1);
  const record = JSON.parse(bed.store.text("count-abc.json")!) as RunRecord;
  deepEqual(record.job, manifest());
});

Deno.test("runs without a pod are asked about in turn, not all at once", async () => {
  using bed = setUp({ noPodMs: 10 });
  const asked: string[] = [];
  const atOnce: number[] = [];
  let calls = 0;
  bed.cluster.events = (runName) => {
    asked.push(runName!);
    if (calls++ === 0) setTimeout(() => (atOnce.push(calls), calls = 0));
    return Promise.resolve([]);
  };
  for (let n = 0; n < 50; n++) bed.clusterEvents.onJob(job({ runName: `count-${n}` }));
  await eventually(() => atOnce.length >= 3);
  deepEqual(atOnce.slice(0, 3), [20, 20, 20]);
  equal(new Set(asked.slice(0, 50)).size, 50);
});

Deno.test("young runs without a pod are asked about within ten seconds, two at a sweep", async () => {
  using bed = setUp({ times: {} });
  const atOnce: number[] = [];
  let calls = 0;
  bed.cluster.events = () => {
    if (calls++ === 0) setTimeout(() => (atOnce.push(calls), calls = 0));
    return Promise.resolve([]);
  };
  for (let n = 0; n < 50; n++) bed.clusterEvents.onJob(job({ runName: `count-${n}`, createdAt: new Date() }));
  await eventually(() => atOnce.length >= 2, { what: "two sweeps that ask" });
  deepEqual(atOnce.slice(0, 2), [2, 2]);
});

Deno.test("what is in the way of a pod's volumes is on its run, by the events, and away when it is mended", async () => {
  using bed = setUp({ imagePullMs: 60_000 });
  const said = {
    at: new Date(),
    type: "Warning" as const,
    object: "Pod/count-abc-x",
    reason: "FailedMount",
    message: 'MountVolume.SetUp failed for volume "s" : secret "lab-s3" not found',
    count: 1,
  };
  bed.cluster.podEvents = [said];
  bed.clusterEvents.onJob(job());
  const containers = [{ name: "main", state: "waiting" as const, reason: "ContainerCreating", restartCount: 0 }];
  const waiting = pod({ phase: "Pending", containers });
  bed.clusterEvents.onPod(waiting);
  const detail = () => bed.runs.get("count-abc")?.detail ?? "";
  await eventually(() => match(detail(), /^Its pod cannot be prepared: the secret "lab-s3" does not exist/) ?? true);
  // News of the pod in between take nothing away.
  bed.clusterEvents.onPod({ ...waiting });
  match(detail(), /lab-s3/);
  bed.cluster.podEvents = [];
  await eventually(() => detail() === "Its pod is being prepared");
});

Deno.test("the grace of an image counts from when its failure was seen, though the pod has waited for long", () => {
  using bed = setUp({ imagePullMs: 60_000 });
  bed.clusterEvents.onJob(job());
  const failing = (reason: string) =>
    pod({
      phase: "Pending",
      createdAt: new Date(0),
      containers: [{ name: "main", state: "waiting", reason, message: "not found", restartCount: 0 }],
    });
  bed.clusterEvents.onPod(failing("ErrImagePull"));
  const since = bed.runs.get("count-abc")!.pods.get("count-abc-x")!.containers[0]!.failingSince;
  ok(since);
  bed.clusterEvents.onPod(failing("ImagePullBackOff"));
  const run = bed.runs.get("count-abc")!;
  equal(run.pods.get("count-abc-x")!.containers[0]!.failingSince, since);
  equal(run.state, "pending");
  match(run.detail, /there is no such image or tag/);
});

// ---------------------------------------------------------------- attempts

const BACKOFF = { end: { type: "Failed" as const, reason: "BackoffLimitExceeded" } };
const NEXT = "count-bcdefghijklm";

/** An aftermath that has each failure tried again, and keeps what it is asked. */
class Again implements Aftermath {
  readonly asked: string[] = [];
  readonly started = Promise.withResolvers<Outcome | undefined>();

  nextAttempt(_job: unknown, record: FailedAttempt) {
    return record.status === "failed" ? { runName: NEXT, at: this.nextDue() } : undefined;
  }

  nextDue() {
    return new Date("2026-03-01T12:34:56Z");
  }

  async startNext(record: FailedAttempt, { stop }: { stop: AbortSignal }) {
    this.asked.push(`start ${record.retried_as}`);
    if (stop.aborted) return stop.reason as Outcome;
    const stopped = new Promise<Outcome>((resolve) => stop.addEventListener("abort", () => resolve(stop.reason)));
    return await Promise.race([this.started.promise, stopped]);
  }

  recorded(record: RunRecord) {
    this.asked.push(`recorded ${record.status}`);
    return Promise.resolve();
  }
}

Deno.test("a failure that is tried again is recorded, followed and only then deleted, and nobody is told of an end", async () => {
  const aftermath = new Again();
  using bed = setUp({ aftermath });
  bed.clusterEvents.onJob(job());
  bed.clusterEvents.onPod(pod({}, 75));
  bed.clusterEvents.onJob(job(BACKOFF));
  await eventually(() => aftermath.asked.length === 1);
  deepEqual([recordOf(bed.store)!.retried_as, bed.cluster.deleted], [NEXT, []]);
  ok(bed.store.objects.has("count-abc.txt"));
  match(
    bed.runs.get("count-abc")!.detail,
    /^Failed \(Its program ended with exit code 75.*\); tried again at 12:34:56$/,
  );
  aftermath.started.resolve(undefined);
  await eventually(() => bed.cluster.deleted.length === 1);
  deepEqual([aftermath.asked, bed.broker.published], [[`start ${NEXT}`], []]);
  deepEqual(bed.all.filter(({ type }) => type === "finished" || type === "retrying").map(({ type }) => type), [
    "retrying",
  ]);
});

Deno.test("a process that finds a record with a next attempt sees to that before it deletes the Job", async () => {
  const store = new FakeStore();
  const [first, second] = [new Again(), new Again()];
  {
    using died = setUp({ aftermath: first, store });
    died.clusterEvents.onJob(job(BACKOFF));
    died.clusterEvents.onPod(pod({}, 75));
    await eventually(() => first.asked.length === 1);
  }
  using bed = setUp({ aftermath: second, store });
  bed.clusterEvents.onJob(job(BACKOFF));
  bed.clusterEvents.onPod(pod({}, 75));
  await eventually(() => second.asked.length === 1);
  deepEqual(bed.cluster.deleted, []);
  second.started.resolve(undefined);
  await eventually(() => bed.cluster.deleted.length === 1);
  deepEqual([second.asked, bed.broker.published], [[`start ${NEXT}`], []]);
});

Deno.test("a run that waits for its next attempt ends for good, once, when somebody cancels it or deletes its Job", async () => {
  const ways: [reason: string, stop: (bed: ReturnType<typeof setUp>) => void][] = [
    ["Cancelled", ({ clusterEvents }) => clusterEvents.onJob(job({ ...BACKOFF, cancelledBy: "Ada" }))],
    ["Deleted", ({ clusterEvents }) => clusterEvents.onJobGone("count-abc", job(BACKOFF))],
  ];
  for (const [reason, stop] of ways) {
    const aftermath = new Again();
    using bed = setUp({ aftermath });
    bed.clusterEvents.onJob(job(BACKOFF));
    bed.clusterEvents.onPod(pod({}, 75));
    await eventually(() => aftermath.asked.length === 1);
    stop(bed);
    await eventually(() => bed.cluster.deleted.length === 1);
    const { status, message, retried_as } = recordOf(bed.store)!;
    deepEqual([status, recordOf(bed.store)!.reason, retried_as], ["cancelled", reason, undefined]);
    match(message, /while it waited to be tried again$/);
    deepEqual(aftermath.asked, [`start ${NEXT}`, "recorded cancelled"]);
    deepEqual(bed.broker.published.map(({ topic }) => topic), [`${PREFIX}/job_failed/count`, `${PREFIX}/ERROR`]);
  }
});

Deno.test("a cancellation of a run that waited for its next attempt outlives the process", async () => {
  const aftermath = new Again();
  using bed = setUp({ aftermath });
  bed.store.objects.set(
    "count-abc.json",
    new TextEncoder().encode(JSON.stringify({
      ...aRecord({ run_name: "count-abc", job_name: "count", status: "failed", reason: "ExitCode" }),
      retried_as: NEXT,
    })),
  );
  bed.clusterEvents.onJob(job({ ...BACKOFF, cancelledBy: "Ada" }));
  await eventually(() => bed.cluster.deleted.length === 1);
  deepEqual([recordOf(bed.store)!.status, aftermath.asked.at(-1)], ["cancelled", "recorded cancelled"]);
});

Deno.test("a failure that cannot be tried again says so in its one end", async () => {
  const aftermath = new Again();
  aftermath.nextAttempt = () => ({ not: "its row is not allowed any more" }) as never;
  using bed = setUp({ aftermath });
  bed.clusterEvents.onJob(job(BACKOFF));
  bed.clusterEvents.onPod(pod({}, 75));
  await eventually(() => bed.cluster.deleted.length === 1);
  match(JSON.parse(bed.broker.published[0]!.body).message, /it is not tried again: its row is not allowed any more$/);
  deepEqual(aftermath.asked, ["recorded failed"]);
});

// ---------------------------------------------------------------- disruptions and memory

Deno.test("pods that the cluster takes away are counted, shown, recorded, and after five of them reported once", async () => {
  using bed = setUp();
  const disruption = { reason: "EvictionByEvictionAPI", message: "Eviction API: evicting" };
  bed.clusterEvents.onJob(job());
  for (let n = 1; n <= 6; n++) {
    const podName = `count-abc-${n}`;
    bed.clusterEvents.onPod(pod({ podName, phase: "Running", disruption }));
    bed.clusterEvents.onPod(pod({ podName, phase: "Failed", disruption }, 143));
    if (n === 1) {
      match(bed.runs.get("count-abc")!.detail, /^Its pod was taken away and made anew\. Waiting for its pod/);
    }
    bed.clusterEvents.onPodGone(podName, "count-abc");
  }
  const { exitCode: _, ...running } = pod().containers[0]!;
  bed.clusterEvents.onPod(pod({ phase: "Running", containers: [{ ...running, state: "running" }] }));
  equal(bed.runs.get("count-abc")!.detail, "Its pod was taken away 6 times and made anew");
  const reports = bed.all.flatMap((event) => event.type === "error" ? event.report.reason : []);
  deepEqual(reports, ["OftenDisrupted"]);
  bed.clusterEvents.onPod(pod());
  bed.clusterEvents.onJob(job(COMPLETE));
  await eventually(() => bed.cluster.deleted.length === 1);
  for (const { status, disruptions } of [recordOf(bed.store)!, JSON.parse(bed.broker.published[0]!.body)]) {
    deepEqual([status, disruptions], ["succeeded", 6]);
  }
});

Deno.test("a run that succeeded although a container of it was killed for its memory is told with a warning", async () => {
  const killed = { ...DONE, reason: "OOMKilled", oomKilled: true } as const;
  const sidecar = { ...DONE, name: "log", kind: "sidecar", oomKilled: true } as const;
  const cases = [
    [[killed], /but its container ran out of memory \(the limit is 1Gi\)/],
    [[DONE, sidecar], /but its sidecar "log" ran out of memory: something/],
  ] as const;
  for (const [containers, words] of cases) {
    using bed = setUp();
    const facts = { limits: { memory: "1Gi" } };
    bed.clusterEvents.onJob(job(facts));
    bed.clusterEvents.onPod(pod({ containers }));
    bed.clusterEvents.onJob(job({ ...facts, ...COMPLETE }));
    await eventually(() => bed.cluster.deleted.length === 1);
    for (const told of [recordOf(bed.store)!, JSON.parse(bed.broker.published[0]!.body) as RunRecord]) {
      deepEqual([told.status, told.oom_killed], ["succeeded", true]);
      match(told.message, words);
    }
  }
});
