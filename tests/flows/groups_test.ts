/** Groups on fake ports, each promise. Deaths at each of their calls are played in model_test.ts. */
import { deepEqual, equal, match, ok } from "node:assert/strict";
import type { ForEach, RunRecord } from "../../ports.ts";
import { keyOfCause, runNameFor } from "../../run_spec.ts";
import { type CoreOptions, startProcess } from "../harness/core.ts";
import { aRecord, delivery, FakeBroker, FakeCluster, FakeStore, job, row } from "../harness/fakes.ts";
import { eventually } from "../harness/wait.ts";

const PREFIX = "services/mqtt_job_listener";
const FILES: ForEach = { from: "payload", path: ["files"] };
const EACH = row({ jobName: "sort", mqttTopic: "lab/up", forEach: FILES });

type Core = Awaited<ReturnType<typeof startProcess>>;

/** A process that has gone on with what the store has. */
async function start(options: CoreOptions = {}, { sessionPresent = false, live = [] as string[] } = {}) {
  const core = await startProcess({ rows: [EACH], ...options });
  for (const runName of live) core.runs.clusterEvents.onJob(jobOf(core, runName));
  core.runs.clusterEvents.onSynced();
  await core.groups.resume();
  await core.listener.connected(sessionPresent);
  return core;
}

function jobOf({ cluster }: Core, runName: string) {
  const spec = cluster.created.find((spec) => spec.runName === runName)!;
  const { root, rootRun, chainDepth, messageHash, group, index, item } = spec;
  return job({
    runName,
    jobName: spec.row.jobName,
    root,
    rootRun,
    chainDepth,
    messageHash,
    ...(group === undefined ? {} : { group }),
    ...(index === undefined ? {} : { index }),
    ...(item === undefined ? {} : { item }),
  });
}

const message = (files: unknown, packetId = 1) =>
  delivery({ topic: "lab/up", packetId, text: JSON.stringify({ files, uuid: "e1" }) });

const groupsIn = (store: FakeStore) =>
  [...store.objects.keys()].flatMap((key) => /^\.groups\/([^/]+)\.json$/.exec(key)?.[1] ?? []);
const openIn = (store: FakeStore) => [...store.objects.keys()].filter((key) => key.startsWith(".open-groups/"));
const ends = ({ broker }: Core) =>
  broker.published.map(({ topic, body }) => ({ topic: topic.slice(PREFIX.length + 1), ...JSON.parse(body) }));

/** The item's run ends as completion.ts would have it end. */
async function end(
  core: Core,
  index: number,
  status: RunRecord["status"] = "succeeded",
  more: Partial<RunRecord> = {},
) {
  const spec = core.cluster.created.find((spec) => spec.index === index)!;
  const record = aRecord({
    run_name: spec.runName,
    job_name: spec.row.jobName,
    status,
    root_run: spec.rootRun,
    root: spec.root,
    group: spec.group!,
    index,
    item: spec.item!,
    ...more,
  });
  await core.records.put(record);
  await core.groups.recorded(record);
  core.runs.deleted(record.run_name);
  return record;
}

async function created(core: Core, count: number) {
  await eventually(() => core.cluster.created.length >= count && core.starter.waiting === 0);
  equal(core.cluster.created.length, count);
}

Deno.test("a message makes a run of each item, and is acknowledged when the group is written down", async () => {
  const cluster = new FakeCluster();
  const gate = Promise.withResolvers<"created">();
  cluster.answers.push(gate.promise, gate.promise, gate.promise);
  using core = await start({ cluster });
  const one = message(["a.h5", "b.h5", "c.h5"]);
  core.listener.receive(one);
  await eventually(() => one.acks === 1);
  const [group = ""] = groupsIn(core.store);
  deepEqual(openIn(core.store), [`.open-groups/${group}.json`]);
  deepEqual(core.cluster.created, [], "not one of them is there yet");
  gate.resolve("created");
  await created(core, 3);
  deepEqual(
    core.cluster.created.map(({ group, index, item, runName }) => ({ group, index, item, runName })),
    ["a.h5", "b.h5", "c.h5"].map((file, index) => ({
      group,
      index,
      item: JSON.stringify(file),
      runName: runNameFor(EACH, { key: keyOfCause.item(group, index) }),
    })),
  );
  equal(new Set(core.cluster.created.map(({ root }) => root)).size, 1);
  ok(core.cluster.created.every(({ rootRun }) => rootRun === group));
});

Deno.test("a group ends when its last item has ended, after that one's record and before its Job goes", async () => {
  const told: unknown[] = [];
  using core = await start({ onGroupEnd: (end) => told.push(end) });
  core.listener.receive(message(["a", "b"]));
  await created(core, 2);
  await end(core, 1);
  deepEqual(ends(core), []);
  await end(core, 0);
  const [said] = ends(core);
  const [group = ""] = groupsIn(core.store);
  deepEqual(
    { ...said, started_at: "", finished_at: "", root: "" },
    {
      topic: "lab/up",
      status: "succeeded",
      job_name: "sort",
      group,
      root: "",
      root_run: group,
      parent_run: null,
      chain_depth: 0,
      total: 2,
      succeeded: 2,
      failed: 0,
      message: "All 2 items have succeeded",
      input: '{"files":["a","b"],"uuid":"e1"}',
      started_at: "",
      finished_at: "",
    },
  );
  equal(core.broker.published[0]!.topic, `${PREFIX}/group_complete/sort`);
  equal(told.length, 1);
  deepEqual(openIn(core.store), []);
  deepEqual(core.groups.views(), []);
});

Deno.test("two last items that end at once end the group once", async () => {
  using core = await start();
  core.listener.receive(message(["a", "b", "c"]));
  await created(core, 3);
  await Promise.all([end(core, 0), end(core, 1, "failed"), end(core, 2, "cancelled")]);
  deepEqual(ends(core).map(({ status, succeeded, failed }) => ({ status, succeeded, failed })), [
    { status: "failed", succeeded: 1, failed: 2 },
  ]);
  equal(core.broker.published[0]!.topic, `${PREFIX}/group_failed/sort`);
});

Deno.test("no items are a group that has succeeded, once, and a second message of its key finds it", async () => {
  const [store, broker] = [new FakeStore(), new FakeBroker()];
  for (const sessionPresent of [false, true]) {
    using core = await start({ store, broker }, { sessionPresent });
    const one = delivery({ topic: "lab/up", text: '{"files":[]}', idempotencyKey: "e1" });
    core.listener.receive(one);
    await eventually(() => one.acks === 1 && openIn(store).length === 0);
    equal(groupsIn(store).length, 1);
    deepEqual(ends(core).map(({ total, status }) => ({ total, status })), [{ total: 0, status: "succeeded" }]);
  }
});

Deno.test("a message that has no list starts nothing, and what is told names row, line, column and value", async () => {
  using core = await start();
  const one = message("a.h5");
  core.listener.receive(one);
  await eventually(() => one.acks === 1);
  const reports = core.all.flatMap((event) => event.type === "error" ? [event.report] : []);
  deepEqual(reports.map(({ reason, job_name, line, column, value }) => ({ reason, job_name, line, column, value })), [
    { reason: "ItemsRefused", job_name: "sort", line: 2, column: "for_each", value: '"a.h5"' },
  ]);
  deepEqual([...groupsIn(core.store), ...openIn(core.store)], []);
});

Deno.test("a restart goes on with the items that have no run, and counts those that have ended meanwhile", async () => {
  const [store, cluster, broker] = [new FakeStore(), new FakeCluster(), new FakeBroker()];
  {
    using core = await start({ store, cluster, broker, concurrency: 1 });
    core.listener.receive(message(["a", "b", "c", "d", "e"]));
    await created(core, 5);
  }
  // Of the former process' runs: 0 has its mark, 1 its record only, 2 lives, 3 and 4 were never made.
  const names = cluster.created.map(({ runName }) => runName);
  {
    using core = await start({ store, cluster, broker }, { live: names });
    await end(core, 0);
    await recordWithoutMark(core, 1);
  }
  const specs = cluster.created.splice(0);
  cluster.created.push(...specs.slice(0, 3));
  using core = await start({ store, cluster, broker }, { live: [names[2]!] });
  await created(core, 5);
  deepEqual(cluster.created.slice(3).map(({ index }) => index), [3, 4]);
  for (const index of [2, 3, 4]) await end(core, index);
  deepEqual(ends(core).map(({ succeeded, total }) => ({ succeeded, total })), [{ succeeded: 5, total: 5 }]);
});

async function recordWithoutMark(core: Core, index: number): Promise<void> {
  const spec = core.cluster.created.find((spec) => spec.index === index)!;
  const record = aRecord({
    run_name: spec.runName,
    job_name: "sort",
    root_run: spec.rootRun,
    root: spec.root,
    group: spec.group!,
    index,
  });
  await core.records.put(record);
}

Deno.test("a note of a group that never came to be is taken away, one of a group that came late is not", async () => {
  const store = new FakeStore();
  for (const name of ["sort-neverwas2345", "sort-camelate2345"]) {
    store.objects.set(`.open-groups/${name}.json`, new TextEncoder().encode("{}"));
  }
  using core = await start({ store });
  const manifest = { ...LATE, group: "sort-camelate2345" };
  store.objects.set(".groups/sort-camelate2345.json", new TextEncoder().encode(JSON.stringify(manifest)));
  await eventually(() => !openIn(store).includes(".open-groups/sort-neverwas2345.json"));
  await created(core, 1);
  await end(core, 0);
  deepEqual(openIn(store), []);
});

const LATE = {
  row: EACH,
  topic: "lab/up",
  payload: "{}",
  message_hash: "hash",
  root: "abcdefghijkl",
  root_run: "sort-camelate2345",
  parent_run: null,
  chain_depth: 0,
  received_at: "2026-03-01T10:00:00Z",
  items: ['"a"'],
};

Deno.test("a rerun of a failed item completes its group, which is then told once", async () => {
  const told: { failed: number }[] = [];
  using core = await start({ onGroupEnd: (end) => told.push(end) });
  core.listener.receive(message(["a", "b", "c"]));
  await created(core, 3);
  const { run_name: failed } = await end(core, 0, "failed");
  await end(core, 1, "failed");
  await end(core, 2);
  const rerun = (index: number, run_name: string, status: RunRecord["status"]) =>
    end(core, index, status, { run_name, rerun_of: failed });
  await rerun(0, "sort-rerunrerun2a", "failed");
  await rerun(0, "sort-rerunrerun2b", "succeeded");
  equal(ends(core).length, 1, "the other one has failed still");
  await rerun(1, "sort-rerunrerun2c", "succeeded");
  await rerun(1, "sort-rerunrerun2d", "succeeded");
  await rerun(2, "sort-rerunrerun2e", "failed");
  deepEqual(ends(core).map(({ status, failed }) => ({ status, failed })), [
    { status: "failed", failed: 2 },
    { status: "succeeded", failed: 0 },
  ]);
  deepEqual(told.map(({ failed }) => failed), [2, 0]);
});

Deno.test("a cancelled group begins no further items, and ends as failed when those that live have ended", async () => {
  const cancelled: string[] = [];
  const cluster = new FakeCluster();
  cluster.cancel = (...[runName]: string[]) => Promise.resolve(cancelled.push(runName!) > 0);
  using core = await start({ cluster, maxRuns: 2 });
  core.listener.receive(message(Array.from({ length: 40 }, (_, n) => n)));
  await eventually(() => cluster.created.length === 2);
  const [group = ""] = groupsIn(core.store);
  equal(await core.groups.cancel(group, "Ada"), true);
  equal(await core.groups.cancel("sort-abcdefgh2345", "Ada"), false);
  deepEqual(cancelled, cluster.created.map(({ runName }) => runName));
  // Those that were with the starter already begin when there is room, and are cancelled.
  for (let index = 0; openIn(core.store).length > 0; index++) {
    await eventually(() => cluster.created.length > index || openIn(core.store).length === 0);
    const one = cluster.created[index];
    if (one) await end(core, one.index!, "cancelled");
    core.starter.pump();
  }
  ok(cluster.created.length <= 16 + 2, `${cluster.created.length} were created`);
  deepEqual(new Set(cancelled), new Set(cluster.created.map(({ runName }) => runName)));
  deepEqual(ends(core).map(({ total, failed }) => ({ total, failed })), [{ total: 40, failed: 40 }]);
});

Deno.test("a large group leaves room for what comes after it, of its own row too", async () => {
  using core = await start({ maxRuns: 4 });
  core.listener.receive(message(Array.from({ length: 500 }, (_, n) => n), 1));
  await eventually(() => core.cluster.created.length === 4);
  const small = message(["x", "y"], 2);
  core.listener.receive(small);
  await eventually(() => small.acks === 1);
  const isSmall = ({ item }: { item?: string }) => item === '"x"' || item === '"y"';
  for (let n = 0; core.cluster.created.filter(isSmall).length < 2; n++) {
    ok(n < 60, "it waits behind all of the large one");
    const oldest = core.cluster.created[n]!;
    core.runs.deleted(oldest.runName);
    core.starter.pump();
    await eventually(() => core.cluster.created.length > n + 4 || core.cluster.created.length >= 500);
  }
});

Deno.test("an end of a group that is open and has not ended is not believed", async () => {
  const after = row({ jobName: "after", mqttTopic: `${PREFIX}/group_complete/sort` });
  using core = await start({ match: ({ topic }) => topic === "lab/up" ? [EACH] : [after] });
  core.listener.receive(message(["a"]));
  await created(core, 1);
  const [group = ""] = groupsIn(core.store);
  const forged = (packetId: number, name: string) =>
    delivery({
      topic: `${PREFIX}/group_complete/sort`,
      packetId,
      text: JSON.stringify({ group: name, root_run: group }),
    });
  const one = forged(2, group);
  core.listener.receive(one);
  await eventually(() => one.acks === 1);
  equal(core.cluster.created.length, 1);
  ok(core.all.some((event) => event.type === "error" && event.report.reason === "EndNotBelieved"));
  await end(core, 0);
  const right = forged(3, group);
  core.listener.receive(right);
  const twice = forged(4, group);
  core.listener.receive(twice);
  await eventually(() => right.acks === 1 && twice.acks === 1);
  deepEqual(core.cluster.created.slice(1).map(({ row, parentRun }) => [row.jobName, parentRun]), [["after", group]]);
});

Deno.test("what somebody else has written into the store is not taken for a group", async (t) => {
  const good = async () => {
    const store = new FakeStore();
    using core = await start({ store });
    core.listener.receive(message(["a", "b"]));
    await created(core, 2);
    const [group = ""] = groupsIn(store);
    return { store, group, manifest: JSON.parse(store.text(`.groups/${group}.json`)!) };
  };
  const bad: [string, (manifest: Record<string, unknown>) => unknown][] = [
    ["no JSON", () => "{"],
    ["a list", () => []],
    ["another group's", (manifest) => ({ ...manifest, group: "sort-abcdefgh2345" })],
    ["another row's", ({ row, ...manifest }) => ({ ...manifest, row: { ...row as object, jobName: "other" } })],
    ["items that are no JSON", (manifest) => ({ ...manifest, items: ["{"] })],
    ["a number of pods that is none", ({ row, ...rest }) => ({ ...rest, row: { ...row as object, parallelism: "2" } })],
    ["a root that is none", (manifest) => ({ ...manifest, root: "../x" })],
  ];
  for (const [name, change] of bad) {
    await t.step(name, async () => {
      const { store, group, manifest } = await good();
      const changed = change(manifest);
      const text = typeof changed === "string" ? changed : JSON.stringify(changed);
      store.objects.set(`.groups/${group}.json`, new TextEncoder().encode(text));
      using core = await start({ store }, { sessionPresent: true });
      deepEqual(core.groups.views(), []);
      deepEqual(core.cluster.created, []);
      const reports = core.all.flatMap((event) => event.type === "error" ? [event.report] : []);
      deepEqual(reports.map(({ reason }) => reason), ["GroupUnreadable"]);
      match(reports[0]!.message, new RegExp(`\\.groups/${group}\\.json in RUNS_URL is no list of its items`));
      // An item of it that ends meanwhile holds up nothing.
      await core.groups.recorded(aRecord({ job_name: "sort", group, index: 0 }));
    });
  }
});

Deno.test("marks that are none, and those of items that there are not, count for nothing", async () => {
  using core = await start();
  core.listener.receive(message(["a", "b"]));
  await created(core, 2);
  const [group = ""] = groupsIn(core.store);
  for (
    const name of [
      "00001.x.succeeded.json/y",
      "00007.sort-x.failed",
      "1.sort-x.failed",
      "00001..failed",
      "00001.sort-x.maybe",
    ]
  ) {
    core.store.objects.set(`.groups/${group}/${name}.json`, new Uint8Array());
  }
  await end(core, 0);
  deepEqual(ends(core), []);
  await end(core, 1);
  deepEqual(ends(core).map(({ total, succeeded }) => ({ total, succeeded })), [{ total: 2, succeeded: 2 }]);
});

Deno.test("a group whose row the policy allows no more begins no further items, and says so", async () => {
  const store = new FakeStore();
  {
    using core = await start({ store, maxRuns: 1 });
    core.listener.receive(message(["a", "b"]));
    await eventually(() => core.cluster.created.length === 1);
  }
  using core = await start({ store, against: () => ["the image is not allowed"] });
  await eventually(() => ends(core).length === 1);
  deepEqual(core.cluster.created, []);
  equal(ends(core)[0]!.failed, 2);
  const report = core.all.find((event) => event.type === "error" && event.report.reason === "GroupStopped");
  ok(report?.type === "error");
  match(report.report.message, /its row is not allowed any more: the image is not allowed/);
});

Deno.test("an item that the cluster refuses for good counts as failed", async () => {
  const { RefusedError } = await import("../../ports.ts");
  const cluster = new FakeCluster();
  cluster.answers.push(new RefusedError("no such image"));
  using core = await start({ cluster, concurrency: 1 });
  core.listener.receive(message(["a", "b"]));
  await eventually(() => cluster.created.length === 1);
  await end(core, 1);
  await eventually(() => ends(core).length === 1);
  deepEqual(ends(core).map(({ failed, succeeded }) => ({ failed, succeeded })), [{ failed: 1, succeeded: 1 }]);
});

Deno.test("a payload that no environment holds is put into the store once for the group", async () => {
  using core = await start();
  const one = delivery({ topic: "lab/up", text: JSON.stringify({ files: ["a", "b"], rest: "x".repeat(100_000) }) });
  core.listener.receive(one);
  await created(core, 2);
  const [group = ""] = groupsIn(core.store);
  ok(core.cluster.created.every(({ payloadLink }) => payloadLink?.object === `fake://bucket/.payloads/${group}`));
  equal([...core.store.objects.keys()].filter((key) => key.startsWith(".payloads/")).length, 1);
});
