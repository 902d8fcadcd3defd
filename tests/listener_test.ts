import { deepEqual, equal, match } from "node:assert/strict";
import { delivery, type FakeStore, job, row } from "./harness/fakes.ts";
import { originOf } from "../listener.ts";
import type { Row } from "../ports.ts";
import { deliveryPartsOf } from "../run_spec.ts";
import { startCore, startProcess } from "./harness/core.ts";
import { eventually, pause } from "./harness/wait.ts";

const PREFIX = "services/mqtt_job_listener";

Deno.test("receive() creates one run a row and then acknowledges", async () => {
  using bed = await startCore({ rows: [row(), row({ jobName: "sum" })] });
  const message = delivery({ text: "7" });
  bed.listener.receive(message);
  await eventually(() => message.acks === 1);
  deepEqual(bed.cluster.created.map(({ row }) => row.jobName), ["count", "sum"]);
});

Deno.test("receive() does not acknowledge before the Job exists", async () => {
  using bed = await startCore();
  const gate = Promise.withResolvers<"created">();
  bed.cluster.answers.push(gate.promise);
  const message = delivery();
  bed.listener.receive(message);
  await Promise.resolve();
  equal(message.acks, 0);
  gate.resolve("created");
  await eventually(() => message.acks === 1);
});

Deno.test("receive() makes two runs of two equal messages", async () => {
  using bed = await startCore();
  const [first, second] = [delivery({ packetId: 1 }), delivery({ packetId: 2 })];
  bed.listener.receive(first);
  bed.listener.receive(second);
  await eventually(() => first.acks + second.acks === 2);
  equal(new Set(bed.cluster.created.map(({ runName }) => runName)).size, 2);
});

Deno.test("receive() makes one run of two messages with one key that wait for their start together", async () => {
  using bed = await startCore({ maxRuns: 1 });
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
  equal(bed.cluster.created.length, 2);
});

Deno.test("receive() names a keyed run by its key, so that the second message is no second run", async () => {
  using bed = await startCore();
  for (const packetId of [1, 2]) {
    const message = delivery({ packetId, text: '{"idempotency-key":"a"}' });
    bed.listener.receive(message);
    await eventually(() => message.acks === 1);
  }
  equal(bed.cluster.created.length, 1);
});

Deno.test("receive() gives the child of a run its parent, root and depth, and one run only", async () => {
  using bed = await startCore();
  const text = JSON.stringify({ run_name: "init-x", root_run: "first-y", chain_depth: 1 });
  for (const packetId of [1, 2]) {
    const message = delivery({ packetId, topic: `${PREFIX}/job_complete/init`, text });
    bed.listener.receive(message);
    await eventually(() => message.acks === 1);
  }
  equal(bed.cluster.created.length, 1);
  const { parentRun, rootRun, chainDepth } = bed.cluster.created[0]!;
  deepEqual({ parentRun, rootRun, chainDepth }, { parentRun: "init-x", rootRun: "first-y", chainDepth: 2 });
});

Deno.test("receive() refuses a chain that is too deep, with a report that says what to do", async () => {
  using bed = await startCore();
  const text = JSON.stringify({ run_name: "count-x", chain_depth: 3 });
  const message = delivery({ topic: `${PREFIX}/job_complete/count`, text });
  bed.listener.receive(message);
  await eventually(() => message.acks === 1);
  equal(bed.cluster.created.length, 0);
  const error = bed.all.find((event) => event.type === "error");
  match(error?.type === "error" ? error.report.message : "", /MAX_CHAIN_DEPTH/);
});

Deno.test("receive() looks up few keys at a time", async () => {
  using bed = await startCore();
  let most = 0;
  const asked = new Set<string>();
  const open: ((exists: boolean) => void)[] = [];
  bed.store.exists = (name) =>
    new Promise((resolve) => {
      asked.add(name);
      most = Math.max(most, open.push(resolve));
    });
  const messages = Array.from({ length: 100 }, (_, n) => delivery({ packetId: n + 1, idempotencyKey: `scan ${n}` }));
  for (const message of messages) bed.listener.receive(message);
  for (let answered = 0; answered < messages.length;) {
    await eventually(() => open.length >= Math.min(16, messages.length - answered));
    answered += open.length;
    for (const answer of open.splice(0)) answer(false);
  }
  await eventually(() => messages.every(({ acks }) => acks === 1));
  equal(most, 16);
  equal(asked.size, 100);
  equal(bed.cluster.created.length, 100);
});

Deno.test("two messages of one key that wait at the same time make one run", async () => {
  using bed = await startCore();
  const gate = Promise.withResolvers<"created">();
  bed.cluster.answers.push(gate.promise);
  const [first, second] = [1, 2].map((packetId) => delivery({ packetId, idempotencyKey: "scan 7" }));
  bed.listener.receive(first!);
  bed.listener.receive(second!);
  await eventually(() => bed.cluster.answers.length === 0);
  gate.resolve("created");
  await eventually(() => first!.acks + second!.acks === 2);
  equal(bed.cluster.created.length, 1);
});

Deno.test("receive() ignores a retained message", async () => {
  using bed = await startCore();
  const message = delivery({ retain: true });
  bed.listener.receive(message);
  equal(message.acks, 1);
  equal(bed.cluster.created.length, 0);
});

// ---------------------------------------------------------------- acknowledgements

Deno.test("what is acknowledged is written before the PUBACK leaves, and before any message of a session is taken", async () => {
  using bed = await startProcess();
  const order: string[] = [];
  const { put } = bed.store;
  bed.store.put = (key, body) => {
    const { acknowledged, epoch } = JSON.parse(String(body));
    order.push(`${key.startsWith(".session/") && epoch ? "written" : key} ${acknowledged}`);
    return put.call(bed.store, key, body);
  };
  const connecting = bed.listener.connected(false);
  const message = Object.assign(delivery(), { done: () => void order.push("acknowledged") });
  bed.listener.receive(message);
  equal(bed.cluster.created.length, 0);
  await connecting;
  await eventually(() => order.includes("acknowledged"));
  deepEqual(order, ["written 0", "written 1", "acknowledged"]);
});

Deno.test("with the store away messages run, and their acknowledgements wait", async () => {
  using bed = await startCore();
  const { put } = bed.store;
  bed.store.put = () => Promise.reject(new Error("away"));
  const messages = [1, 2, 3].map((packetId) => delivery({ packetId }));
  for (const message of messages) bed.listener.receive(message);
  await eventually(() => bed.cluster.created.length === 3);
  await eventually(() => bed.all.some((event) => event.type === "error" && event.scope === "store"));
  deepEqual(messages.map(({ acks }) => acks), [0, 0, 0]);
  equal(bed.listener.waiting.messages, 3);
  bed.store.put = put;
  await eventually(() => messages.every(({ acks }) => acks === 1));
});

Deno.test("a burst is written in groups", async () => {
  using bed = await startCore({ concurrency: 64 });
  const messages = Array.from({ length: 500 }, (_, n) => delivery({ packetId: n + 1 }));
  const before = bed.store.calls.length;
  for (const message of messages) bed.listener.receive(message);
  await eventually(() => messages.every(({ acks }) => acks === 1));
  const puts = bed.store.calls.slice(before).filter((call) => call.startsWith("put .session/")).length;
  equal(puts > 0 && puts < 50, true, `${puts} writes for 500 messages`);
});

Deno.test("messages without a row, requests and keyed messages are acknowledged without a write", async () => {
  using bed = await startCore({ match: ({ topic }) => topic === "lab/count" ? [row()] : [] });
  const before = bed.store.calls.length;
  const messages = [
    delivery({ packetId: 1, topic: "other" }),
    delivery({ packetId: 2, topic: `${PREFIX}/REFRESH` }),
    delivery({ packetId: 3, idempotencyKey: "a" }),
  ];
  for (const message of messages) bed.listener.receive(message);
  await eventually(() => messages.every(({ acks }) => acks === 1));
  deepEqual(bed.store.calls.slice(before).filter((call) => call.startsWith("put")), []);
});

// ---------------------------------------------------------------- over a cut

Deno.test("after a cut as many equal messages are taken for the open ones as there were, whatever their identifiers", async () => {
  using bed = await startCore({ maxRuns: 1 });
  const first = [1, 2, 3].map((packetId) => delivery({ packetId }));
  for (const message of first) bed.listener.receive(message);
  await eventually(() => first[0]!.acks === 1);
  // Two are open: they wait for the end of the first one's run.
  await bed.listener.connected(true);
  const again = [7, 8, 9].map((packetId) => delivery({ packetId }));
  for (const message of again) bed.listener.receive(message);
  for (let at = 0; at < 4; at++) {
    await eventually(() => bed.cluster.created.length === at + 1);
    const { runName } = bed.cluster.created[at]!;
    await eventually(() => bed.runs.get(runName) !== undefined);
    bed.runs.deleted(runName);
    bed.starter.pump();
  }
  await eventually(() => again.every(({ acks }) => acks === 1));
  deepEqual([bed.cluster.created.length, first[1]!.acks, first[2]!.acks], [4, 0, 0]);
});

Deno.test("a redelivery takes the place of the message in work, and is acknowledged in its stead", async () => {
  using bed = await startCore();
  const gate = Promise.withResolvers<"created">();
  bed.cluster.answers.push(gate.promise);
  const [first, again] = [delivery(), delivery({ dup: true })];
  bed.listener.receive(first);
  await bed.listener.connected(true);
  bed.listener.receive(again);
  gate.resolve("created");
  await eventually(() => again.acks === 1);
  deepEqual([first.acks, bed.cluster.created.length], [0, 1]);
});

Deno.test("what came again in time is not new because a slow store tells it apart late", async () => {
  const texts = ["a", "b", "c"];
  using first = await startCore();
  const { put } = first.store;
  texts.forEach((text, at) => first.listener.receive(delivery({ text, packetId: at + 1 })));
  first.store.put = (key, ...rest) =>
    key.startsWith(".session/") ? Promise.reject(new Error("away")) : put.call(first.store, key, ...rest);
  await eventually(() => first.cluster.created.length === texts.length);
  // All have run, and none is acknowledged.
  for (const { runName } of first.cluster.created) await put.call(first.store, `${runName}.json`, "{}");
  first.kill();
  first.store.put = put;

  using second = await startProcess({ store: first.store, redeliveryMs: 20 });
  const { list } = first.store;
  first.store.list = async function* (...args) {
    await pause(100);
    yield* list.apply(first.store, args);
  };
  await second.listener.connected(true);
  const again = texts.map((text, at) => delivery({ text, packetId: at + 1, dup: true }));
  for (const message of again) second.listener.receive(message);
  await eventually(() => again.every(({ acks }) => acks === 1));
  deepEqual(second.cluster.created, []);
});

Deno.test("an equal message that comes long after a reconnect is a new one", async () => {
  using bed = await startCore({ redeliveryMs: 20 });
  const { put } = bed.store;
  bed.store.put = () => Promise.reject(new Error("away"));
  bed.listener.receive(delivery());
  await eventually(() => bed.cluster.created.length === 1);
  await bed.listener.connected(true);
  bed.store.put = put;
  await eventually(async () => {
    const { record } = (await bed.records.getSession(PREFIX))!;
    return record.acknowledged === 1 && record.open.length === 0;
  });
  const later = delivery();
  bed.listener.receive(later);
  await eventually(() => later.acks === 1);
  equal(bed.cluster.created.length, 2);
});

Deno.test("a lost session leaves nothing to match: equal messages of the new one run", async () => {
  using bed = await startCore();
  const { put } = bed.store;
  bed.store.put = () => Promise.reject(new Error("away"));
  bed.listener.receive(delivery());
  await eventually(() => bed.cluster.created.length === 1);
  bed.store.put = put;
  await bed.listener.connected(false);
  const other = delivery({ dup: true });
  bed.listener.receive(other);
  await eventually(() => other.acks === 1);
  equal(bed.cluster.created.length, 2);
});

// ---------------------------------------------------------------- over a restart

/** A process that dies with `count` equal messages taken over, each with a run, of which the first `acked` are acknowledged. */
async function dieWith({ count, acked, rows = [row()] }: { count: number; acked: number; rows?: Row[] }) {
  const bed = await startCore({ rows });
  const messages = Array.from({ length: count }, (_, n) => delivery({ packetId: n + 1 }));
  for (const message of messages.slice(0, acked)) bed.listener.receive(message);
  await eventually(() => messages.slice(0, acked).every(({ acks }) => acks === 1));
  const { put } = bed.store;
  bed.store.put = () => new Promise(() => {});
  for (const message of messages.slice(acked)) bed.listener.receive(message);
  await eventually(() => bed.cluster.created.length === count * rows.length);
  bed.kill();
  bed.store.put = put;
  return { store: bed.store, created: bed.cluster.created };
}

Deno.test("after a restart the open ones are found among live Jobs and ended runs, by one list a row, and others run", async () => {
  const { store, created } = await dieWith({ count: 6, acked: 2 });
  const [one, two, three, four] = created.slice(2);
  for (const { runName } of [one!, three!]) store.objects.set(`${runName}.json`, new Uint8Array());
  using bed = await startProcess({ store });
  for (const { runName, messageHash } of [two!, four!]) bed.runs.clusterEvents.onJob(job({ runName, messageHash }));
  await bed.listener.connected(true);
  const again = Array.from({ length: 7 }, (_, n) => delivery({ packetId: n + 1 }));
  for (const message of again) bed.listener.receive(message);
  await eventually(() => again.every(({ acks }) => acks === 1));
  equal(bed.cluster.created.length, 3);
  equal(store.calls.filter((call) => call.startsWith("list count-")).length, 1);
});

Deno.test("a row whose run was not made before a crash is made under the delivery's number", async () => {
  const rows = [row(), row({ jobName: "sum" })];
  const { store, created } = await dieWith({ count: 2, acked: 0, rows });
  using bed = await startProcess({ store, rows });
  // Of the second delivery the row "sum" has none.
  const there = created.filter(({ row }, at) => !(row.jobName === "sum" && at >= 2));
  for (const { runName, row: { jobName } } of there) bed.runs.clusterEvents.onJob(job({ runName, jobName }));
  await bed.listener.connected(true);
  const again = [1, 2].map((packetId) => delivery({ packetId }));
  for (const message of again) bed.listener.receive(message);
  await eventually(() => again.every(({ acks }) => acks === 1));
  const missing = created.find(({ runName }) => !there.some((other) => other.runName === runName));
  deepEqual(bed.cluster.created.map(({ runName }) => runName), [missing!.runName]);
});

Deno.test("a clean stop with nothing open leaves nothing to match, whatever identifiers and DUP say", async () => {
  using before = await startCore();
  const first = delivery();
  before.listener.receive(first);
  await eventually(() => first.acks === 1);
  await before.listener.finish();
  before.kill();
  using bed = await startProcess({ store: before.store });
  bed.runs.clusterEvents.onJob(job({ runName: before.cluster.created[0]!.runName }));
  await bed.listener.connected(true);
  const same = delivery({ dup: true });
  bed.listener.receive(same);
  await eventually(() => same.acks === 1);
  equal(bed.cluster.created.length, 1);
});

Deno.test("numbers of a process that died without an acknowledgement are not given out again", async () => {
  const { store, created } = await dieWith({ count: 1, acked: 0 });
  using bed = await startProcess({ store });
  await bed.listener.connected(true);
  const { put } = store;
  store.put = () => new Promise(() => {});
  // Another message; then this process dies, too.
  bed.listener.receive(delivery({ text: "other" }));
  await eventually(() => bed.cluster.created.length === 1);
  bed.kill();
  store.put = put;
  using third = await startProcess({ store });
  await third.listener.connected(true);
  third.listener.receive(delivery({ text: "yet another" }));
  await eventually(() => third.cluster.created.length === 1);
  const numbers = [created[0]!, bed.cluster.created[0]!, third.cluster.created[0]!].map(({ runName }) =>
    deliveryPartsOf(runName)!.number
  );
  equal(numbers[0]! < numbers[1]! && numbers[1]! < numbers[2]!, true, String(numbers));
});

Deno.test("a write of a killed process that arrives late does not take the place of a newer one", async () => {
  const { store } = await dieWith({ count: 2, acked: 1 });
  const late = [...store.objects].find(([key]) => key.startsWith(".session/"))!;
  using bed = await startProcess({ store });
  await bed.listener.connected(true);
  await eventually(() => !store.objects.has(late[0]));
  store.objects.set(...late);
  using next = await startProcess({ store });
  equal(
    (await next.records.getSession(PREFIX))!.record.reserved > JSON.parse(new TextDecoder().decode(late[1])).reserved,
    true,
  );
});

Deno.test("receive() waits for the run whose create call a killed process has left behind", async () => {
  const { store, created } = await dieWith({ count: 1, acked: 0 });
  using bed = await startProcess({ store });
  bed.runs.clusterEvents.onSynced();
  await bed.listener.connected(true);
  const again = delivery({ packetId: 7 });
  bed.listener.receive(again);
  // The Job comes after the look-up has found nothing.
  await eventually(() => store.calls.some((call) => call.startsWith("list count-")));
  bed.runs.clusterEvents.onJob(job({ runName: created[0]!.runName }));
  await eventually(() => again.acks === 1);
  deepEqual(bed.cluster.created, []);
});

Deno.test("receive() finds the run that a killed process has left behind, though it was short and is gone", async () => {
  const { store, created } = await dieWith({ count: 1, acked: 0 });
  using bed = await startProcess({ store });
  bed.runs.clusterEvents.onSynced();
  await bed.listener.connected(true);
  const again = delivery({ packetId: 7 });
  bed.listener.receive(again);
  await eventually(() => store.calls.some((call) => call.startsWith("list count-")));
  const { runName } = created[0]!;
  bed.runs.clusterEvents.onJob(job({ runName }));
  store.objects.set(`${runName}.json`, new Uint8Array());
  bed.runs.deleted(runName);
  await eventually(() => again.acks === 1);
  deepEqual(bed.cluster.created, []);
});

// ---------------------------------------------------------------- brokers that give identifiers in order

/** Says in the stored record what an earlier process has seen of the broker. */
function markOrderly(store: FakeStore): void {
  const [key, body] = [...store.objects].find(([key]) => key.startsWith(".session/"))!;
  const record = JSON.parse(new TextDecoder().decode(body));
  store.objects.set(key, new TextEncoder().encode(JSON.stringify({ ...record, orderly: true })));
}

for (const orderly of [true, false]) {
  Deno.test(`a message whose PUBACK was lost runs ${orderly ? "once on an" : "twice on no"} orderly broker`, async () => {
    const { store, created } = await dieWith({ count: 3, acked: 3 });
    if (orderly) markOrderly(store);
    using bed = await startProcess({ store });
    for (const { runName, messageHash } of created) bed.runs.clusterEvents.onJob(job({ runName, messageHash }));
    await bed.listener.connected(true);
    // The third one's PUBACK was lost; the fourth was sent, and not received; the fifth is new.
    const messages = [
      delivery({ packetId: 3, dup: true }),
      delivery({ packetId: 4, dup: true }),
      delivery({ packetId: 5 }),
    ];
    for (const message of messages) bed.listener.receive(message);
    await eventually(() => messages.every(({ acks }) => acks === 1));
    equal(bed.cluster.created.length, orderly ? 2 : 3);
  });
}

Deno.test("on an orderly broker a message that expired there does not swallow an equal one", async () => {
  const { store, created } = await dieWith({ count: 2, acked: 1 });
  markOrderly(store);
  using bed = await startProcess({ store });
  bed.runs.clusterEvents.onJob(job({ runName: created[1]!.runName, messageHash: created[1]!.messageHash }));
  await bed.listener.connected(true);
  const same = delivery({ packetId: 3 });
  bed.listener.receive(same);
  await eventually(() => same.acks === 1);
  equal(bed.cluster.created.length, 1);
});

// ---------------------------------------------------------------- ends that nobody of ours has told

const END = `${PREFIX}/job_complete/init`;

Deno.test("an end of a run that lives and has not ended starts nothing, and is reported", async () => {
  using bed = await startCore();
  bed.runs.clusterEvents.onJob(job({ runName: "init-x", jobName: "init" }));
  const forged = delivery({ topic: END, text: '{"run_name":"init-x"}' });
  bed.listener.receive(forged);
  await eventually(() => forged.acks === 1);
  equal(bed.cluster.created.length, 0);
  const error = bed.all.find((event) => event.type === "error");
  equal(error?.type === "error" && error.report.reason, "EndNotBelieved");
});

Deno.test("an end that names a run of another row is not believed", async () => {
  using bed = await startCore();
  bed.runs.clusterEvents.onJob(job({ runName: "other-x", jobName: "other", end: { type: "Complete" } }));
  const forged = delivery({ topic: END, text: '{"run_name":"other-x"}' });
  bed.listener.receive(forged);
  await eventually(() => forged.acks === 1);
  equal(bed.cluster.created.length, 0);
});

Deno.test("an end is believed of a run that has ended, is recorded, or is not known", async () => {
  using bed = await startCore();
  bed.runs.clusterEvents.onJob(job({ runName: "init-a", jobName: "init", end: { type: "Complete" } }));
  bed.runs.clusterEvents.onJob(job({ runName: "init-b", jobName: "init" }));
  bed.store.objects.set("init-b.json", new Uint8Array());
  const ends = ["init-a", "init-b", "init-c"].map((run, n) =>
    delivery({ packetId: n + 1, topic: END, text: JSON.stringify({ run_name: run }) })
  );
  for (const end of ends) bed.listener.receive(end);
  await eventually(() => ends.every(({ acks }) => acks === 1));
  equal(bed.cluster.created.length, 3);
});

Deno.test("lone surrogates in names of origin are made well-formed", () => {
  const { key, parentRun } = originOf(delivery({ topic: END, text: '{"run_name":"a\\ud800"}' }), PREFIX);
  deepEqual([parentRun, key?.isWellFormed()], ["a\ufffd", true]);
});
