import { deepStrictEqual, match, notStrictEqual, strictEqual } from "node:assert/strict";
import { Listener } from "../listener.ts";
import type { Row } from "../ports.ts";
import { RefusedError, UnavailableError } from "../ports.ts";
import { RunRecords } from "../records.ts";
import { RunTable } from "../runs.ts";
import { Starter } from "../starter.ts";
import { delivery, events, FakeCluster, FakeStore, job, row } from "./harness/fakes.ts";
import { eventually } from "./harness/wait.ts";

const PREFIX = "services/mqtt_job_listener";

function setUp(
  { rows = [row()], maxRuns = Infinity, concurrency = 4 }: { rows?: Row[]; maxRuns?: number; concurrency?: number } =
    {},
) {
  const stop = new AbortController();
  const { signal } = stop;
  const { emit, all } = events();
  const cluster = new FakeCluster();
  const store = new FakeStore();
  const runs = new RunTable({ emit });
  const records = new RunRecords(store);
  const starter = new Starter({ cluster, runs, payloads: store, concurrency, maxRuns, emit, signal });
  const listener = new Listener({
    catalog: { match: () => rows },
    runs,
    records,
    starter,
    topicPrefix: PREFIX,
    handleRetained: false,
    maxChainDepth: 3,
    emit,
    signal,
    onControl: () => {},
  });
  return { listener, cluster, store, runs, starter, all, [Symbol.dispose]: () => stop.abort() };
}

Deno.test("receive() creates one run a row and then acknowledges", async () => {
  using bed = setUp({ rows: [row(), row({ jobName: "sum" })] });
  const message = delivery({ text: "7" });
  bed.listener.receive(message);
  await eventually(() => message.acks === 1);
  deepStrictEqual(bed.cluster.created.map(({ row }) => row.jobName), ["count", "sum"]);
});

Deno.test("receive() does not acknowledge before the Job exists", async () => {
  using bed = setUp();
  const gate = Promise.withResolvers<"created">();
  bed.cluster.answers.push(gate.promise);
  const message = delivery();
  bed.listener.receive(message);
  await Promise.resolve();
  strictEqual(message.acks, 0);
  gate.resolve("created");
  await eventually(() => message.acks === 1);
});

Deno.test("receive() makes two runs of two equal messages", async () => {
  using bed = setUp();
  const [first, second] = [delivery({ packetId: 1 }), delivery({ packetId: 2 })];
  bed.listener.receive(first);
  bed.listener.receive(second);
  await eventually(() => first.acks + second.acks === 2);
  strictEqual(new Set(bed.cluster.created.map(({ runName }) => runName)).size, 2);
});

Deno.test("receive() makes one run of a redelivery while its run lives", async () => {
  using bed = setUp();
  const first = delivery();
  bed.listener.receive(first);
  await eventually(() => first.acks === 1);
  const again = delivery({ dup: true });
  bed.listener.receive(again);
  await eventually(() => again.acks === 1);
  strictEqual(bed.cluster.created.length, 1);
});

Deno.test("receive() finds a redelivery's run in the records when its Job is gone", async () => {
  using bed = setUp();
  const first = delivery();
  bed.listener.receive(first);
  await eventually(() => first.acks === 1);
  using later = setUp();
  later.listener.epoch = bed.listener.epoch;
  later.store.objects.set(`${bed.cluster.created[0]!.runName}.json`, new Uint8Array());
  const again = delivery({ dup: true });
  later.listener.receive(again);
  await eventually(() => again.acks === 1);
  strictEqual(later.cluster.created.length, 0);
});

Deno.test("receive() runs a redelivered message whose twin ran under another packet identifier", async () => {
  using bed = setUp();
  const twin = delivery({ packetId: 1 });
  bed.listener.receive(twin);
  await eventually(() => twin.acks === 1);
  const again = delivery({ packetId: 2, dup: true });
  bed.listener.receive(again);
  await eventually(() => again.acks === 1);
  strictEqual(bed.cluster.created.length, 2);
});

Deno.test("receive() acknowledges the redelivery of a message in work, not the old delivery", async () => {
  using bed = setUp();
  const gate = Promise.withResolvers<"created">();
  bed.cluster.answers.push(gate.promise);
  const [first, again] = [delivery(), delivery({ dup: true })];
  bed.listener.receive(first);
  bed.listener.receive(again);
  gate.resolve("created");
  await eventually(() => again.acks === 1);
  deepStrictEqual([first.acks, bed.cluster.created.length], [0, 1]);
});

Deno.test("receive() makes one run of two messages with one key that wait for their start together", async () => {
  using bed = setUp({ maxRuns: 1 });
  const blocker = delivery({ packetId: 1 });
  bed.listener.receive(blocker);
  await eventually(() => blocker.acks === 1);
  const [first, second] = [2, 3].map((packetId) => delivery({ packetId, text: '{"idempotency-key":"a"}' }));
  bed.listener.receive(first!);
  bed.listener.receive(second!);
  await eventually(() => bed.starter.waiting > 0);
  for (let at = 0; at < 2; at++) {
    // The end of a run, with its Job deleted, makes room for the next one.
    const { runName } = bed.cluster.created[at]!;
    await eventually(() => bed.runs.get(runName) !== undefined);
    bed.runs.deleted(runName);
    bed.starter.pump();
    if (at === 0) await eventually(() => first!.acks === 1);
  }
  await eventually(() => second!.acks === 1);
  strictEqual(bed.cluster.created.length, 2);
});

Deno.test("receive() names a keyed run by its key, so that the second message is no second run", async () => {
  using bed = setUp();
  for (const packetId of [1, 2]) {
    const message = delivery({ packetId, text: '{"idempotency-key":"a"}' });
    bed.listener.receive(message);
    await eventually(() => message.acks === 1);
  }
  strictEqual(bed.cluster.created.length, 1);
});

Deno.test("receive() gives the child of a run its parent, root and depth, and one run only", async () => {
  using bed = setUp();
  const text = JSON.stringify({ run_name: "init-x", root_run: "first-y", chain_depth: 1 });
  for (const packetId of [1, 2]) {
    const message = delivery({ packetId, topic: `${PREFIX}/job_complete/init`, text });
    bed.listener.receive(message);
    await eventually(() => message.acks === 1);
  }
  strictEqual(bed.cluster.created.length, 1);
  const { parentRun, rootRun, chainDepth } = bed.cluster.created[0]!;
  deepStrictEqual({ parentRun, rootRun, chainDepth }, { parentRun: "init-x", rootRun: "first-y", chainDepth: 2 });
});

Deno.test("receive() refuses a chain that is too deep, with a report that says what to do", async () => {
  using bed = setUp();
  const text = JSON.stringify({ run_name: "count-x", chain_depth: 3 });
  const message = delivery({ topic: `${PREFIX}/job_complete/count`, text });
  bed.listener.receive(message);
  await eventually(() => message.acks === 1);
  strictEqual(bed.cluster.created.length, 0);
  const error = bed.all.find((event) => event.type === "error");
  match(error?.type === "error" ? error.report.message : "", /MAX_CHAIN_DEPTH/);
});

Deno.test("receive() waits out a refusal for now, and reports one for good", async () => {
  using bed = setUp();
  bed.cluster.answers.push(new UnavailableError("exceeded quota", { retryAfterMs: 5 }));
  const waits = delivery({ packetId: 1 });
  bed.listener.receive(waits);
  await eventually(() => waits.acks === 1);
  strictEqual(bed.cluster.created.length, 1);
  bed.cluster.answers.push(new RefusedError("image is invalid"));
  const refused = delivery({ packetId: 2 });
  bed.listener.receive(refused);
  await eventually(() => refused.acks === 1);
  const error = bed.all.find((event) => event.type === "error");
  match(error?.type === "error" ? error.report.message : "", /image is invalid/);
});

Deno.test("receive() lets other rows go on while one row's quota is full", async () => {
  using bed = setUp();
  const full = row({ jobName: "full" });
  const rows = [full];
  const listener = bed.listener;
  bed.cluster.answers.push(new UnavailableError("exceeded quota", { retryAfterMs: 60_000 }));
  void listener.run(full, { topic: "t", payload: new Uint8Array() });
  await eventually(() => bed.all.some(({ type }) => type === "waiting"));
  const other = await listener.run(row({ jobName: "other" }), { topic: "t", payload: new Uint8Array() });
  strictEqual(other.result, "created");
  strictEqual(rows.length, 1);
});

Deno.test("receive() puts a payload too large for the environment into the store", async () => {
  using bed = setUp();
  const message = delivery({ text: "x".repeat(100 * 1024) });
  bed.listener.receive(message);
  await eventually(() => message.acks === 1);
  const spec = bed.cluster.created[0]!;
  strictEqual(spec.message.payload.length, 0);
  strictEqual(bed.store.text(`.payloads/${spec.runName}`)?.length, 100 * 1024);
  notStrictEqual(spec.payloadLink?.url, undefined);
});

Deno.test("receive() ignores a retained message", () => {
  using bed = setUp();
  const message = delivery({ retain: true });
  bed.listener.receive(message);
  strictEqual(message.acks, 1);
  strictEqual(bed.cluster.created.length, 0);
});

Deno.test("start() holds back what exceeds the most Jobs at a time", async () => {
  using bed = setUp({ maxRuns: 1 });
  const [first, second] = [delivery({ packetId: 1 }), delivery({ packetId: 2 })];
  bed.listener.receive(first);
  bed.listener.receive(second);
  await eventually(() => first.acks === 1);
  strictEqual(second.acks, 0);
  bed.runs.deleted(bed.cluster.created[0]!.runName);
  bed.starter.pump();
  await eventually(() => second.acks === 1);
});

Deno.test("a create call whose answer was lost makes no second run of one that has ended since", async () => {
  using bed = setUp();
  const names: string[] = [];
  const { create } = bed.cluster;
  bed.cluster.create = (spec) => (names.push(spec.runName), create.call(bed.cluster, spec));
  bed.cluster.answers.push(new UnavailableError("no answer", { retryAfterMs: 50 }));
  const message = delivery();
  bed.listener.receive(message);
  await eventually(() => bed.all.some(({ type }) => type === "waiting"));
  bed.runs.clusterEvents.onJob(job({ runName: names[0]! }));
  bed.runs.deleted(names[0]!);
  await eventually(() => message.acks === 1);
  deepStrictEqual([names.length, bed.cluster.created.length], [1, 0]);
});

Deno.test("receive() looks up few keys at a time", async () => {
  using bed = setUp();
  let [now, most] = [0, 0];
  const asked = new Set<string>();
  bed.store.exists = async (name) => {
    asked.add(name);
    most = Math.max(most, ++now);
    await new Promise((resolve) => setTimeout(resolve, 5));
    now--;
    return false;
  };
  const messages = Array.from({ length: 100 }, (_, n) => delivery({ packetId: n + 1, idempotencyKey: `scan ${n}` }));
  for (const message of messages) bed.listener.receive(message);
  await eventually(() => messages.every(({ acks }) => acks === 1));
  strictEqual(most, 16);
  strictEqual(asked.size, 100);
  strictEqual(bed.cluster.created.length, 100);
});

Deno.test("receive() looks redelivered messages up together", async () => {
  using bed = setUp();
  const messages = Array.from({ length: 100 }, (_, n) => delivery({ packetId: n + 1, dup: true }));
  for (const message of messages) bed.listener.receive(message);
  await eventually(() => messages.every(({ acks }) => acks === 1));
  strictEqual(bed.store.calls.filter((call) => call.startsWith("list")).length, 2);
  strictEqual(bed.cluster.created.length, 100);
});

Deno.test("create calls that fail together double the wait once, not once each", async () => {
  using bed = setUp({ concurrency: 16 });
  const messages = Array.from({ length: 16 }, (_, index) => delivery({ packetId: index + 1 }));
  messages.forEach(() => bed.cluster.answers.push(new UnavailableError("the API server is away")));
  messages.forEach((message) => bed.listener.receive(message));
  // 16 doublings of 0.2 s would be half a minute at the bound.
  await eventually(() => messages.every(({ acks }) => acks === 1), { timeoutMs: 5_000 });
});

Deno.test("two messages of one key that wait at the same time make one run", async () => {
  using bed = setUp();
  const gate = Promise.withResolvers<"created">();
  bed.cluster.answers.push(gate.promise);
  const [first, second] = [1, 2].map((packetId) => delivery({ packetId, idempotencyKey: "scan 7" }));
  bed.listener.receive(first!);
  bed.listener.receive(second!);
  await eventually(() => bed.cluster.answers.length === 0);
  gate.resolve("created");
  await eventually(() => first!.acks + second!.acks === 2);
  strictEqual(bed.cluster.created.length, 1);
});

Deno.test("receive() finds the run whose create call a killed process has left behind", async () => {
  using before = setUp();
  before.listener.receive(delivery({ packetId: 7 }));
  await eventually(() => before.cluster.created.length === 1);
  const { runName, messageHash } = before.cluster.created[0]!;
  using bed = setUp();
  bed.listener.epoch = before.listener.epoch;
  bed.runs.clusterEvents.onSynced();
  const again = delivery({ packetId: 7, dup: true });
  bed.listener.receive(again);
  // The Job comes after the look-up has found nothing.
  await eventually(() => bed.store.calls.some((call) => call.startsWith("list")));
  bed.runs.clusterEvents.onJob(job({ runName, messageHash }));
  await eventually(() => again.acks === 1);
  deepStrictEqual(bed.cluster.created, []);
});

Deno.test("receive() runs a redelivered message that no process had run", async () => {
  using bed = setUp();
  bed.runs.clusterEvents.onSynced();
  const message = delivery({ dup: true });
  bed.listener.receive(message);
  await eventually(() => message.acks === 1);
  strictEqual(bed.cluster.created.length, 1);
});
