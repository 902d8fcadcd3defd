/** Runs that end without a Job, and runs that give way to another one: what is told, and what a crash leaves to do. */
import { deepEqual, equal, ok } from "node:assert/strict";
import { Completion } from "../../completion.ts";
import type { Aftermath } from "../../flows.ts";
import { LogCollector } from "../../logs.ts";
import { givingWayTo } from "../../outcome.ts";
import type { Outcome, RunRecord, RunSpec } from "../../ports.ts";
import { RunRecords } from "../../records.ts";
import { RunTable } from "../../runs.ts";
import { events, FakeBroker, FakeCluster, FakeStore, job, row } from "../harness/fakes.ts";
import { eventually } from "../harness/wait.ts";

const PREFIX = "services/mqtt_job_listener";
const THERE: Outcome = { status: "succeeded", reason: "Skipped", message: "Nothing to do" };
const BUSY: Outcome = { status: "cancelled", reason: "Skipped", message: "No slot is free" };

/** One process on what outlives it. */
function startProcess(store: FakeStore, broker: FakeBroker, order: string[] = []) {
  const stop = new AbortController();
  const { signal } = stop;
  const { emit, all } = events();
  const cluster = new FakeCluster();
  const runs = new RunTable({ emit });
  const aftermath: Aftermath = {
    nextAttempt: () => undefined,
    nextDue: () => new Date(),
    startNext: () => Promise.resolve(undefined),
    recorded: ({ run_name }) => Promise.resolve(void order.push(`aftermath ${run_name}`)),
  };
  const completion = new Completion({
    aftermath,
    broker,
    cluster,
    runs,
    records: new RunRecords(store),
    logs: new LogCollector({ cluster, store, settings: { followers: 1, memoryBytes: 1 << 20, maxBytes: 1e9 }, signal }),
    topicPrefix: PREFIX,
    gracePeriods: { imagePullMs: 50, unschedulableMs: 50, nodeLostMs: 50 },
    emit,
    signal,
    onDone: () => {},
  });
  runs.observe(completion);
  runs.clusterEvents.onSynced();
  return { completion, runs, cluster, all, kill: () => stop.abort(), [Symbol.dispose]: () => stop.abort() };
}

const spec: RunSpec = {
  runName: "count-aaaaaaaaaaaa",
  row: row({ owner: "Ada", memoryLimit: "1Gi" }),
  message: { topic: "lab/count", payload: new TextEncoder().encode("7") },
  messageHash: "m",
  root: "rootrootroot",
  rootRun: "count-aaaaaaaaaaaa",
  chainDepth: 0,
  receivedAt: new Date(0),
};
const NOTE = `.unstarted/${spec.runName}.json`;

Deno.test("a run without a Job is noted, published, recorded and followed, and its note forgotten, in this order", async () => {
  const [store, broker] = [new FakeStore(), new FakeBroker()];
  const order: string[] = [];
  using one = startProcess(store, broker, order);
  const { publish } = broker;
  broker.publish = (topic, body) => (order.push(`publish ${topic}`), publish.call(broker, topic, body));
  const { put, delete: remove } = store;
  store.put = (key, body) => (order.push(`put ${key}`), put.call(store, key, body));
  store.delete = (key) => (order.push(`delete ${key}`), remove.call(store, key));
  await one.completion.unstarted.end(spec, THERE);
  deepEqual(order, [
    `put ${NOTE}`,
    `publish ${PREFIX}/job_complete/count`,
    "put count-aaaaaaaaaaaa.json",
    "aftermath count-aaaaaaaaaaaa",
    `delete ${NOTE}`,
  ]);
  const record = await new RunRecords(store).get(spec.runName);
  deepEqual(
    [record?.status, record?.reason, record?.payload, record?.started_at, record?.log_url, record?.owner, record?.job],
    ["succeeded", "Skipped", "7", null, "", "Ada", undefined],
  );
  deepEqual([record?.log_complete, record?.log_bytes, record?.limits], [true, 0, { memory: "1Gi" }]);
  const end = JSON.parse(broker.published[0]!.body);
  deepEqual([end.run_name, end.input, end.reason, end.exit_code], [spec.runName, "7", "Skipped", 0]);
  equal(one.all.filter(({ type }) => type === "finished").length, 1);
});

Deno.test("a run that gives way is recorded, and no message says that it failed", async () => {
  const [store, broker] = [new FakeStore(), new FakeBroker()];
  using one = startProcess(store, broker);
  await one.completion.unstarted.end(spec, BUSY);
  equal((await new RunRecords(store).get(spec.runName))?.status, "cancelled");
  const facts = job({ runName: "count-bbbbbbbbbbbb", cancelledBy: givingWayTo(spec.runName) });
  one.runs.clusterEvents.onJob(facts);
  const waits = { ...facts, runName: "count-cccccccccccc", suspended: {}, heldFor: "slot" as const };
  one.runs.clusterEvents.onJob(waits);
  await eventually(() => one.cluster.deleted.length === 2);
  const reasonOf = (name: string) => (JSON.parse(store.text(`${name}.json`)!) as RunRecord).reason;
  deepEqual(["count-bbbbbbbbbbbb", "count-cccccccccccc"].map(reasonOf), ["Replaced", "Superseded"]);
  deepEqual(broker.published, []);
  // What a person cancels is told.
  one.runs.clusterEvents.onJob(job({ runName: "count-dddddddddddd", cancelledBy: "Ada" }));
  await eventually(() => one.cluster.deleted.length === 3);
  deepEqual(broker.published.map(({ topic }) => topic), [`${PREFIX}/job_failed/count`, `${PREFIX}/ERROR`]);
});

for (const outcome of [THERE, BUSY]) {
  Deno.test(`an end without a Job (${outcome.status}) goes on after a crash at any of its steps`, async () => {
    for (let step = 1; step < 20; step++) {
      const [store, broker] = [new FakeStore(), new FakeBroker()];
      const order: string[] = [];
      const first = startProcess(store, broker, order);
      // The call of that number is the last one of the process, and has no effect.
      let calls = 0;
      const dies = () => {
        if (++calls === step) first.kill();
        return calls >= step ? new Promise<never>(() => {}) : undefined;
      };
      const [{ put, delete: remove }, { publish }] = [store, broker];
      store.put = (key, body) => dies() ?? put.call(store, key, body);
      store.delete = (key) => dies() ?? remove.call(store, key);
      broker.publish = (topic, body) => dies() ?? publish.call(broker, topic, body);
      let isDone = false;
      void first.completion.unstarted.end(spec, outcome).then(() => isDone = true, () => {});
      await eventually(() => isDone || calls >= step);
      Object.assign(store, { put, delete: remove });
      broker.publish = publish;
      using next = startProcess(store, broker, order);
      const isNoted = store.objects.has(NOTE);
      await next.completion.unstarted.resume();
      // Before its note nothing had happened: its message comes again.
      if (!isNoted && !isDone) {
        deepEqual([...store.objects.keys()], []);
        continue;
      }
      ok(store.objects.has(`${spec.runName}.json`), `step ${step}`);
      await eventually(() => !store.objects.has(NOTE));
      ok(order.length > 0);
      const topics = new Set(broker.published.map(({ topic }) => topic));
      deepEqual([...topics], outcome === THERE ? [`${PREFIX}/job_complete/count`] : []);
      const names = new Set(broker.published.map(({ body }) => JSON.parse(body).run_name));
      ok(names.size <= 1);
      if (isDone) return;
    }
    ok(false, "it does not come to its end");
  });
}

Deno.test("a note that is none is removed, and the others go on", async () => {
  const [store, broker] = [new FakeStore(), new FakeBroker()];
  store.objects.set(NOTE, new TextEncoder().encode("{"));
  store.objects.set(".unstarted/other.json", new TextEncoder().encode('{"run_name":"../x"}'));
  using one = startProcess(store, broker);
  await one.completion.unstarted.resume();
  deepEqual([...store.objects.keys()], []);
});
