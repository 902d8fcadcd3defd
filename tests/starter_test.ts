/** Starts of runs, most of them asked for by deliveries as the listener does, and what is told of those that wait. */
import { deepEqual, equal, match, notEqual } from "node:assert/strict";
import { buildJob } from "../k8s/manifest.ts";
import { RefusedError, type Row, UnavailableError } from "../ports.ts";
import { RunTable } from "../runs.ts";
import { Starter, type StartResult } from "../starter.ts";
import { startCore } from "./harness/core.ts";
import { delivery, events, FakeCluster, FakeStore, job, row } from "./harness/fakes.ts";
import { eventually } from "./harness/wait.ts";

Deno.test("start() waits out a refusal for now, and reports one for good", async () => {
  using bed = await startCore();
  bed.cluster.answers.push(new UnavailableError("exceeded quota", { retryAfterMs: 5 }));
  const waits = delivery({ packetId: 1 });
  bed.listener.receive(waits);
  await eventually(() => waits.acks === 1);
  equal(bed.cluster.created.length, 1);
  bed.cluster.answers.push(new RefusedError("image is invalid"));
  const refused = delivery({ packetId: 2 });
  bed.listener.receive(refused);
  await eventually(() => refused.acks === 1);
  const error = bed.all.find((event) => event.type === "error");
  match(error?.type === "error" ? error.report.message : "", /image is invalid/);
});

Deno.test("start() lets other rows go on while one row's quota is full", async () => {
  using bed = await startCore();
  const full = row({ jobName: "full" });
  const rows = [full];
  const listener = bed.listener;
  bed.cluster.answers.push(new UnavailableError("exceeded quota", { retryAfterMs: 60_000 }));
  void listener.run(full, { topic: "t", payload: new Uint8Array() });
  await eventually(() => bed.all.some(({ type }) => type === "waiting"));
  const other = await listener.run(row({ jobName: "other" }), { topic: "t", payload: new Uint8Array() });
  equal(other.result, "created");
  equal(rows.length, 1);
});

Deno.test("start() puts a payload too large for the environment into the store", async () => {
  using bed = await startCore();
  const message = delivery({ text: "x".repeat(100 * 1024) });
  bed.listener.receive(message);
  await eventually(() => message.acks === 1);
  const spec = bed.cluster.created[0]!;
  equal(spec.message.payload.length, 0);
  equal(bed.store.text(`.payloads/${spec.runName}`)?.length, 100 * 1024);
  notEqual(spec.payloadLink?.url, undefined);
});

const TAKES_UUID = { args: [[{ root: "payload", path: ["uuid"], source: "{payload.uuid}" } as const]] };

Deno.test("a field of a payload that goes through the store can be an argument", async () => {
  using bed = await startCore({ rows: [row({ command: ["sort"], ...TAKES_UUID })] });
  const text = JSON.stringify({ uuid: "u 1", frames: "x".repeat(200_000) });
  const message = delivery({ text });
  bed.listener.receive(message);
  await eventually(() => message.acks === 1);
  const spec = bed.cluster.created[0]!;
  const { args, env = [] } = buildJob(spec, { namespace: "lab", instance: "test", ttlSecondsAfterFinished: 60 }).spec!
    .template.spec!.containers[0]!;
  deepEqual(args, ["u 1"]);
  const valueOf = (name: string) => env.find((one) => one.name === name)?.value;
  deepEqual([valueOf("MQTT_PAYLOAD"), valueOf("PAYLOAD_UUID")], ["", undefined]);
  equal(valueOf("MQTT_PAYLOAD_URL"), spec.payloadLink?.url);
  equal(bed.store.text(`.payloads/${spec.runName}`), text);
});

Deno.test("a run that has only the link of its payload gets from the store what its row takes of it", async () => {
  using bed = await startCore();
  const key = ".payloads/count-abcdefgh2345";
  const start = (changes: Partial<Row>, runName: string) => {
    const spec = {
      runName,
      row: row(changes),
      message: { topic: "lab/count", payload: new Uint8Array() },
      payloadLink: { url: "https://store/x", object: `${bed.store.url}/${key}` },
      messageHash: "abcdefgh2345",
      root: "r",
      rootRun: runName,
      chainDepth: 0,
      receivedAt: new Date(),
    };
    const { promise, resolve } = Promise.withResolvers<StartResult>();
    bed.starter.start({ row: spec.row, spec: () => spec, settle: resolve });
    return promise;
  };
  const lost = await start(TAKES_UUID, "count-a");
  match(lost.result === "refused" ? lost.error.message : "", /its payload is not in the store any more/);
  await bed.store.put(key, '{"uuid":"u1"}');
  equal((await start(TAKES_UUID, "count-b")).result, "created");
  equal(new TextDecoder().decode(bed.cluster.created.at(-1)!.message.payload), '{"uuid":"u1"}');
  equal((await start({}, "count-c")).result, "created");
  equal(bed.cluster.created.at(-1)!.message.payload.length, 0);
});

Deno.test("start() holds back what exceeds the most Jobs at a time", async () => {
  using bed = await startCore({ maxRuns: 1 });
  const [first, second] = [delivery({ packetId: 1 }), delivery({ packetId: 2 })];
  bed.listener.receive(first);
  bed.listener.receive(second);
  await eventually(() => first.acks === 1);
  equal(second.acks, 0);
  bed.runs.deleted(bed.cluster.created[0]!.runName);
  bed.starter.pump();
  await eventually(() => second.acks === 1);
});

Deno.test("a create call whose answer was lost makes no second run of one that has ended since", async () => {
  using bed = await startCore();
  const names: string[] = [];
  const { create } = bed.cluster;
  bed.cluster.create = (spec) => (names.push(spec.runName), create.call(bed.cluster, spec));
  bed.cluster.answers.push(new UnavailableError("no answer", { retryAfterMs: 500 }));
  const message = delivery();
  bed.listener.receive(message);
  await eventually(() => bed.all.some(({ type }) => type === "waiting"));
  bed.runs.clusterEvents.onJob(job({ runName: names[0]! }));
  bed.runs.deleted(names[0]!);
  await eventually(() => message.acks === 1);
  deepEqual([names.length, bed.cluster.created.length], [1, 0]);
});

Deno.test("create calls that fail together double the wait once, not once each", async () => {
  using bed = await startCore({ concurrency: 16 });
  const messages = Array.from({ length: 16 }, (_, index) => delivery({ packetId: index + 1 }));
  messages.forEach(() => bed.cluster.answers.push(new UnavailableError("the API server is away")));
  messages.forEach((message) => bed.listener.receive(message));
  // 16 doublings of 0.2 s would be half a minute at the bound.
  await eventually(() => messages.every(({ acks }) => acks === 1));
});

Deno.test("a setting that somebody has to mend is told on ERROR, once until a run could be made", async () => {
  const stop = new AbortController();
  const { emit, all } = events();
  const cluster = new FakeCluster();
  const starter = new Starter({
    cluster,
    runs: new RunTable({ emit }),
    payloads: new FakeStore(),
    concurrency: 4,
    maxRuns: Infinity,
    emit,
    signal: stop.signal,
  });
  const forbidden = (runName: string) =>
    new UnavailableError(`Cannot create the Job ${runName}: forbidden; give its account the rights`, {
      advice: "give its account the rights",
      retryAfterMs: 1,
    });
  const full = new UnavailableError("Cannot create the Job x: exceeded quota", { retryAfterMs: 1 });
  let settled = 0;
  const start = (runName: string) =>
    starter.start({
      row: row({ jobName: runName }),
      spec: () => ({
        runName,
        row: row(),
        message: { topic: "t", payload: new Uint8Array() },
        messageHash: runName,
        root: "rootrootroot",
        rootRun: runName,
        chainDepth: 0,
        receivedAt: new Date(),
      }),
      settle: () => void settled++,
    });
  const told = () => all.flatMap((event) => event.type === "error" ? [event.report.message] : []);
  cluster.answers.push(full, forbidden("a"), forbidden("a"), forbidden("a"));
  start("a");
  await eventually(() => settled === 1);
  deepEqual(told(), ["Cannot create the Job a: forbidden; give its account the rights"]);
  cluster.answers.push(forbidden("b"));
  start("b");
  await eventually(() => settled === 2);
  equal(told().length, 2);
  equal(all.filter(({ type }) => type === "waiting").length, 5);
  stop.abort();
});

Deno.test("a run whose call has failed keeps the place that it had, though its row has no more room", async () => {
  const stop = new AbortController();
  const { emit } = events();
  const cluster = new FakeCluster();
  let places = 1;
  const starter = new Starter({
    cluster,
    runs: new RunTable({ emit }),
    payloads: new FakeStore(),
    gate: { hasRoom: () => places-- > 0, admit: (spec) => Promise.resolve({ spec }), through() {} },
    concurrency: 4,
    maxRuns: Infinity,
    emit,
    signal: stop.signal,
  });
  cluster.answers.push(new UnavailableError("away", { retryAfterMs: 1 }));
  const settled = new Promise<string>((resolve) =>
    starter.start({
      row: row(),
      spec: () => ({
        runName: "count-a",
        row: row(),
        message: { topic: "t", payload: new Uint8Array() },
        messageHash: "m",
        root: "rootrootroot",
        rootRun: "count-a",
        chainDepth: 0,
        receivedAt: new Date(),
      }),
      settle: ({ result }) => resolve(result),
    })
  );
  equal(await settled, "created");
  stop.abort();
});
