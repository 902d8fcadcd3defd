/** How runs begin, wait and go on behind a limit; on a table of live runs and a cluster that does what it is asked. */
import { deepEqual, equal, match, notEqual, rejects } from "node:assert/strict";
import type { Catalog } from "../../catalog.ts";
import { Limits, type LimitsOptions } from "../../flows.ts";
import { type ObjectLook, type Outcome, RefusedError, type Row, type RunSpec, UnavailableError } from "../../ports.ts";
import { RunTable } from "../../runs.ts";
import { events, FakeCluster, job, row } from "../harness/fakes.ts";
import { eventually } from "../harness/wait.ts";

class LiveCluster extends FakeCluster {
  readonly cancelled: string[] = [];
  /** Thrown by the next calls of resume. */
  readonly faults: Error[] = [];

  constructor(readonly runs: RunTable) {
    super();
  }

  override resume(runName: string): Promise<boolean> {
    const fault = this.faults.shift();
    if (fault) return Promise.reject(fault);
    const run = this.runs.get(runName);
    if (!run) return Promise.resolve(false);
    const { heldFor: _, suspended: __, ...facts } = run.job;
    this.runs.clusterEvents.onJob(facts);
    return super.resume(runName);
  }

  override cancel(runName = "", who = ""): Promise<boolean> {
    const run = this.runs.get(runName);
    if (run) this.runs.clusterEvents.onJob({ ...run.job, cancelledBy: who });
    this.cancelled.push(`${runName} by ${who}`);
    return Promise.resolve(run !== undefined);
  }
}

interface BedOptions extends Partial<Pick<LimitsOptions, "settleMs">> {
  readonly look?: ObjectLook;
  /** The watch has not told all that there is. */
  readonly isNew?: boolean;
}

function bed(rows: Row[], { settleMs = 0, look, isNew = false }: BedOptions = {}) {
  const stop = new AbortController();
  const { emit, all } = events();
  const runs = new RunTable({ emit });
  const cluster = new LiveCluster(runs);
  const ended: (Outcome & { runName: string })[] = [];
  const counts = { room: 0 };
  const catalog = { table: { rows } as unknown as Catalog["table"] };
  const limits = new Limits({
    catalog,
    cluster,
    runs,
    ...(look ? { look } : {}),
    endUnstarted: ({ runName }, outcome) => {
      ended.push({ runName, ...outcome });
      return Promise.resolve();
    },
    onRoom: () => void counts.room++,
    emit,
    signal: stop.signal,
    settleMs,
  });
  runs.observe(limits);
  const sync = async () => {
    runs.clusterEvents.onSynced();
    const before = counts.room;
    await eventually(() => counts.room > before);
  };
  return {
    limits,
    runs,
    cluster,
    catalog,
    ended,
    counts,
    all,
    sync,
    ready: isNew ? Promise.resolve() : sync(),
    /** As the starter does: what became of the run. */
    async begin(spec: RunSpec): Promise<"at once" | "slot" | "pause" | "skipped"> {
      const admission = await limits.admit(spec);
      if ("skipped" in admission) return "skipped";
      runs.created(admission.spec);
      limits.through(spec.runName, "created");
      return admission.spec.heldFor ?? "at once";
    },
    [Symbol.dispose]: () => stop.abort(),
  };
}

const BASE = Date.UTC(2026, 0, 5);

/** The run of a message that came `at` so many seconds. */
function run(of: Row, at: number, more: Partial<RunSpec> & { text?: string } = {}): RunSpec {
  const { text = "", ...changes } = more;
  return {
    runName: `${of.jobName}-${at}`,
    row: of,
    message: { topic: of.mqttTopic, payload: new TextEncoder().encode(text) },
    messageHash: `m${at}`,
    root: "rootrootroot",
    rootRun: `${of.jobName}-${at}`,
    chainDepth: 0,
    receivedAt: new Date(BASE + at * 1_000),
    ...changes,
  };
}

/** Resolves when each change until now has been looked at: that has a timer of its own, set before. */
const lookedAt = () => new Promise((resolve) => setTimeout(resolve, 0));

const one = row({ maxRuns: 1 });
const two = row({ maxRuns: 2 });

Deno.test("a row without a limit begins as it is", async () => {
  using it = bed([row()], { isNew: true });
  const spec = run(row(), 1);
  const admission = await it.limits.admit(spec);
  equal("spec" in admission && admission.spec, spec);
  equal(it.limits.hasRoom(row()), true);
});

Deno.test("runs beyond max_runs wait, and go on in the order of their messages as others end", async () => {
  using it = bed([two]);
  await it.ready;
  deepEqual(await Promise.all([1, 2, 4, 3].map((at) => it.begin(run(two, at)))), [
    "at once",
    "at once",
    "slot",
    "slot",
  ]);
  await eventually(() => it.runs.get("count-4")?.detail !== "");
  equal(it.runs.get("count-4")!.detail, "Waits for a free slot: 2 of 2 are taken (max_runs), 1 before it");
  it.runs.deleted("count-1");
  await eventually(() => it.cluster.resumed.length === 1);
  it.runs.deleted("count-2");
  await eventually(() => it.cluster.resumed.length === 2);
  deepEqual(it.cluster.resumed, ["count-3", "count-4"]);
});

Deno.test("what comes before the slots are counted waits, and the oldest goes on first", async () => {
  using it = bed([one], { isNew: true });
  equal(await it.begin(run(one, 2)), "slot");
  equal(await it.begin(run(one, 1)), "slot");
  await it.sync();
  await eventually(() => it.cluster.resumed.length > 0);
  deepEqual(it.cluster.resumed, ["count-1"]);
});

Deno.test("no slot is given before the calls of a killed process must have come to their end", async () => {
  using it = bed([one], { isNew: true, settleMs: 30 });
  equal(it.limits.hasRoom(row({ ...one, whenBusy: "forbid" })), true, "of the table, the row waits");
  equal(await it.begin(run(one, 2)), "slot");
  it.runs.clusterEvents.onSynced();
  // Made by the process before it.
  it.runs.clusterEvents.onJob(job({ runName: "count-1", concurrency: "count" }));
  await eventually(() => it.counts.room > 0);
  await eventually(() => /1 of 1 is taken/.test(it.runs.get("count-2")!.detail));
  deepEqual(it.cluster.resumed, []);
});

Deno.test("a create call under way has its slot; one that is refused gives it back, one that may have succeeded does not", async () => {
  using it = bed([one]);
  await it.ready;
  const admitted = await it.limits.admit(run(one, 1));
  equal("spec" in admitted && admitted.spec.heldFor, undefined);
  equal(await it.begin(run(one, 2)), "slot");
  // The starter tries it again, with what was decided.
  equal(await it.limits.admit(run(one, 1)).then((again) => "spec" in again && again.spec.heldFor), undefined);
  deepEqual(it.cluster.resumed, []);
  it.limits.through("count-1", "refused");
  await eventually(() => it.cluster.resumed.length === 1);
});

Deno.test("a Job that is said to exist has its slot until the watch tells it, or it is found gone", async () => {
  using it = bed([one]);
  await it.ready;
  await it.limits.admit(run(one, 1));
  it.limits.through("count-1", "exists"); // the cluster has no such Job
  await eventually(async () => await it.begin(run(one, 2)) === "at once");
});

Deno.test("an attempt has the slot of the one before it", async () => {
  using it = bed([one]);
  await it.ready;
  equal(await it.begin(run(one, 1)), "at once");
  equal(await it.begin(run(one, 2)), "slot");
  it.runs.clusterEvents.onJob({ ...it.runs.get("count-1")!.job, end: { type: "Failed" } });
  it.runs.recorded("count-1", "retried");
  equal(await it.begin(run(one, 3, { firstRun: "count-1", attempt: 2 })), "at once");
  it.runs.deleted("count-1");
  await eventually(() => /1 of 1/.test(it.runs.get("count-2")!.detail));
  deepEqual(it.cluster.resumed, []);
});

Deno.test("a run that has ended for good gives its slot back before its Job is deleted", async () => {
  using it = bed([one]);
  await it.ready;
  await it.begin(run(one, 1));
  await it.begin(run(one, 2));
  it.runs.clusterEvents.onJob({ ...it.runs.get("count-1")!.job, end: { type: "Complete" } });
  deepEqual(it.cluster.resumed, []);
  it.runs.recorded("count-1", "for good");
  await eventually(() => it.cluster.resumed.length === 1);
});

Deno.test("a run that a person lets go on counts, and one that he suspends keeps its slot", async () => {
  using it = bed([one]);
  await it.ready;
  await it.begin(run(one, 1));
  await it.begin(run(one, 2));
  await it.begin(run(one, 3));
  const { heldFor: _, suspended: __, ...facts } = it.runs.get("count-2")!.job;
  it.runs.clusterEvents.onJob(facts);
  it.runs.clusterEvents.onJob({ ...it.runs.get("count-1")!.job, suspended: {} });
  await eventually(() => /2 of 1 is taken/.test(it.runs.get("count-3")!.detail));
  it.runs.deleted("count-1");
  await eventually(() => /1 of 1 is taken/.test(it.runs.get("count-3")!.detail));
  deepEqual(it.cluster.resumed, []);
});

Deno.test("a call to let a run go on is repeated until it succeeds, and gives nobody else the slot meanwhile", async () => {
  using it = bed([one]);
  await it.ready;
  await it.begin(run(one, 1));
  await it.begin(run(one, 2));
  await it.begin(run(one, 3));
  it.cluster.faults.push(new UnavailableError("away", { retryAfterMs: 5 }), new UnavailableError("away"));
  it.runs.deleted("count-1");
  await eventually(() => it.cluster.resumed.length > 0);
  deepEqual(it.cluster.resumed, ["count-2"]);
  equal(it.all.filter(({ type }) => type === "waiting").length, 2);
});

Deno.test("rows of one group share its slots, by what the message says", async () => {
  const group = [...["g-"], { root: "payload" as const, path: ["gpu"], source: "{payload.gpu}" }];
  const [a, b] = [
    row({ ...one, jobName: "a", concurrencyGroup: group }),
    row({ ...one, jobName: "b", concurrencyGroup: group }),
  ];
  using it = bed([a, b]);
  await it.ready;
  equal(await it.begin(run(a, 1, { text: '{"gpu":1}' })), "at once");
  equal(await it.begin(run(b, 2, { text: '{"gpu":1}' })), "slot");
  equal(await it.begin(run(b, 3, { text: '{"gpu":2}' })), "at once");
  await rejects(it.begin(run(b, 4, { text: "{}" })), (error) => error instanceof RefusedError);
});

Deno.test("beyond max_waiting a row has no room, until one goes on", async () => {
  const few = row({ ...one, maxWaiting: 2 });
  using it = bed([few]);
  await it.ready;
  for (const at of [1, 2, 3]) await it.begin(run(few, at));
  equal(it.limits.hasRoom(few), false);
  const before = it.counts.room;
  it.runs.deleted("count-1");
  await eventually(() => it.counts.room > before);
  equal(it.limits.hasRoom(few), true);
});

Deno.test("a raised limit lets more go on at once, and a row that is gone lets them go on one by one", async () => {
  using it = bed([one]);
  await it.ready;
  for (const at of [1, 2, 3, 4]) await it.begin(run(one, at));
  it.catalog.table = { rows: [two] } as unknown as Catalog["table"];
  it.limits.tableChanged();
  await eventually(() => it.cluster.resumed.length === 1);
  it.catalog.table = { rows: [] } as unknown as Catalog["table"];
  it.limits.tableChanged();
  it.runs.deleted("count-1");
  await eventually(() => /1 of 1 is taken/.test(it.runs.get("count-3")!.detail));
  it.runs.deleted("count-2");
  await eventually(() => it.cluster.resumed.length === 2);
});

Deno.test("forbid: a message that finds no free slot is skipped, and none is before they are counted", async () => {
  const forbid = row({ ...one, whenBusy: "forbid" });
  using it = bed([forbid], { isNew: true });
  equal(it.limits.hasRoom(forbid), false);
  await rejects(it.begin(run(forbid, 1)), (error) => error instanceof UnavailableError);
  await it.sync();
  equal(it.limits.hasRoom(forbid), true);
  equal(await it.begin(run(forbid, 1)), "at once");
  equal(await it.begin(run(forbid, 2)), "skipped");
  deepEqual(it.ended.map(({ runName, status, reason }) => [runName, status, reason]), [[
    "count-2",
    "cancelled",
    "Skipped",
  ]]);
  match(it.ended[0]!.message, /1 of 1 is taken/);
});

Deno.test("replace: the running one is cancelled, and the newest begins when it is gone", async () => {
  const replace = row({ ...one, whenBusy: "replace" });
  using it = bed([replace]);
  await it.ready;
  await it.begin(run(replace, 1));
  equal(await it.begin(run(replace, 2)), "slot");
  equal(await it.begin(run(replace, 3)), "slot");
  await eventually(() => it.cluster.cancelled.length === 2);
  deepEqual(it.cluster.cancelled, [
    "count-1 by run count-3 of the same group",
    "count-2 by run count-3 of the same group",
  ]);
  deepEqual(it.cluster.resumed, []);
  it.runs.deleted("count-2");
  it.runs.deleted("count-1");
  await eventually(() => it.cluster.resumed.length === 1);
  deepEqual(it.cluster.resumed, ["count-3"]);
});

Deno.test("latest: one waits, a newer one takes its place", async () => {
  const latest = row({ ...one, whenBusy: "latest" });
  using it = bed([latest]);
  await it.ready;
  await it.begin(run(latest, 1));
  await it.begin(run(latest, 2));
  await it.begin(run(latest, 3));
  await eventually(() => it.cluster.cancelled.length === 1);
  deepEqual(it.cluster.cancelled, ["count-2 by run count-3 of the same group"]);
  it.runs.deleted("count-1");
  await eventually(() => it.cluster.resumed.length === 1);
  deepEqual(it.cluster.resumed, ["count-3"]);
});

Deno.test("a paused row's messages wait until the cell says yes, then behind its limit; what a person asks for runs", async () => {
  const paused = row({ ...one, enabled: "paused" });
  using it = bed([paused]);
  await it.ready;
  equal(await it.begin(run(paused, 1)), "pause");
  equal(await it.begin(run(paused, 2)), "pause");
  equal(await it.begin(run(paused, 3, { byHand: true })), "at once");
  it.runs.deleted("count-3");
  await lookedAt();
  deepEqual(it.cluster.resumed, []);
  it.catalog.table = { rows: [one] } as unknown as Catalog["table"];
  it.limits.tableChanged();
  await eventually(() => it.cluster.resumed.length > 0);
  deepEqual(it.cluster.resumed, ["count-1"]);
  it.runs.deleted("count-1");
  await eventually(() => it.cluster.resumed.length === 2);
});

Deno.test("a paused row without a limit lets all go on", async () => {
  using it = bed([row({ enabled: "paused" })]);
  await it.ready;
  for (const at of [1, 2, 3]) equal(await it.begin(run(row(), at)), "pause");
  it.catalog.table = { rows: [row()] } as unknown as Catalog["table"];
  it.limits.tableChanged();
  await eventually(() => it.cluster.resumed.length === 3);
});

// ---------------------------------------------------------------- skip_existing

const kept = row({
  skipExisting: true,
  output: ["s3://lab/", { root: "payload", path: ["id"], source: "{payload.id}" }],
});

Deno.test("a run whose output is there is skipped as succeeded; reruns, attempts and overwrite make it anew", async () => {
  const looked: string[] = [];
  const look: ObjectLook = (url) => {
    looked.push(url);
    return Promise.resolve(url.endsWith("/1"));
  };
  using it = bed([kept], { look });
  await it.ready;
  equal(await it.begin(run(kept, 1, { text: '{"id":1}' })), "skipped");
  equal(await it.begin(run(kept, 2, { text: '{"id":2}' })), "at once");
  deepEqual(looked, ["s3://lab/1", "s3://lab/2"]);
  deepEqual(it.ended.map(({ runName, status, reason }) => [runName, status, reason]), [[
    "count-1",
    "succeeded",
    "Skipped",
  ]]);
  match(it.ended[0]!.message, /s3:\/\/lab\/1/);
  equal(await it.begin(run(kept, 3, { text: '{"id":1,"overwrite":true}' })), "at once");
  const input = JSON.stringify({ id: 1, overwrite: true });
  equal(await it.begin(run(kept, 4, { text: JSON.stringify({ id: 1, input }) })), "at once");
  equal(await it.begin(run(kept, 5, { text: '{"id":1}', rerunOf: "count-1" })), "at once");
  equal(await it.begin(run(kept, 6, { text: '{"id":1}', attempt: 2, firstRun: "count-2" })), "at once");
  equal(looked.length, 2);
});

Deno.test("a store that does not answer makes the run wait; a call that may have made its Job is not looked behind", async () => {
  const answers: (boolean | Error)[] = [new UnavailableError("away"), false, true];
  const look: ObjectLook = () => {
    const answer = answers.shift();
    return answer instanceof Error ? Promise.reject(answer) : Promise.resolve(answer === true);
  };
  using it = bed([kept], { look });
  await it.ready;
  const spec = run(kept, 1, { text: '{"id":1}' });
  await rejects(it.limits.admit(spec), (error) => error instanceof UnavailableError);
  notEqual("skipped" in await it.limits.admit(spec), true);
  notEqual("skipped" in await it.limits.admit(spec), true);
  equal(answers.length, 1);
});

Deno.test("an output that must not be looked for is told, and the run begins", async () => {
  using it = bed([kept], { look: () => Promise.reject(new RefusedError("access denied")) });
  await it.ready;
  equal(await it.begin(run(kept, 1, { text: '{"id":1}' })), "at once");
  const told = it.all.find((event) => event.type === "error");
  equal(told?.type === "error" && told.report.reason, "OutputUnseen");
});

Deno.test("a batch has room only where a slot is free and nothing waits, so that messages go before it and none is skipped", async () => {
  for (const limited of [one, row({ ...one, whenBusy: "forbid" }), row({ ...one, whenBusy: "latest" })]) {
    using it = bed([limited]);
    await it.ready;
    equal(it.limits.hasRoom(limited, true), true);
    await it.begin(run(limited, 1));
    equal(it.limits.hasRoom(limited, true), false);
    it.runs.deleted("count-1");
    await eventually(() => it.limits.hasRoom(limited, true));
  }
  using it = bed([one]);
  await it.ready;
  await it.begin(run(one, 1));
  await it.begin(run(one, 2));
  equal(it.limits.hasRoom(one), true);
  equal(it.limits.hasRoom(one, true), false, "a message waits");
});
