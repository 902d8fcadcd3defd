/** The whole core on the local parts: aedes, a folder, local processes. */
import { deepEqual, equal, match, ok } from "node:assert/strict";
import { type EmbeddedBedOptions, PREFIX, startEmbeddedBed } from "./harness/local_bed.ts";
import { startStrictBroker } from "./harness/brokers/strict.ts";
import { aRecord, FakeBroker, FakeCluster, FakeStore, job } from "./harness/fakes.ts";
import type { RunRecord } from "../ports.ts";
import { RunRecords } from "../records.ts";
import { Service } from "../service.ts";
import { eventually } from "./harness/wait.ts";

const TABLE = `job_name,mqtt_topic,image,command
greet,lab/greet,none,sh -c 'echo hello $PAYLOAD_NAME'
after,${PREFIX}/job_complete/greet,none,sh -c 'echo after $PAYLOAD_RUN_NAME'
fail,lab/fail,none,sh -c 'exit 3'
long,lab/long,none,sleep 60
loop,${PREFIX}/job_complete/loop,none,true
`;

const SETTINGS = {
  pollMs: 60_000,
  handleRetained: false,
  createConcurrency: 4,
  maxChainDepth: 3,
  gracePeriods: { imagePullMs: 1000, unschedulableMs: 1000, nodeLostMs: 1000 },
  logs: { followers: 10, memoryBytes: 1 << 20, maxBytes: 1e9 },
  info: {},
};

interface Said {
  topic: string;
  body: Record<string, unknown>;
}

/** A running service, and what it has said. */
async function startBed(
  { dir = "", table = TABLE, ...more }: { dir?: string; table?: string } & Pick<EmbeddedBedOptions, "server"> = {},
) {
  const said: Said[] = [];
  const bed = await startEmbeddedBed({
    table,
    dir,
    ...more,
    onMessage: (topic, text) => said.push({ topic, body: text.startsWith("{") ? JSON.parse(text) : { text } }),
  });
  return { ...bed, said, find: (topic: string) => said.find((one) => one.topic === `${PREFIX}/${topic}`) };
}

Deno.test("a table is announced when its topics are subscribed to, not before", async () => {
  const [broker, store] = [new FakeBroker(), new FakeStore()];
  // The session is kept, so that no message to itself is waited for, which this broker does not bring.
  broker.connect = (events) => Promise.resolve(events.onConnect({ sessionPresent: true }));
  await store.put("jobs.csv", "job_name,mqtt_topic,image\na,lab/a,x:1\n");
  const service = new Service({
    broker,
    cluster: new FakeCluster(),
    stores: { catalog: store, catalogKey: "jobs.csv", logs: new FakeStore(), runs: new FakeStore() },
    topicPrefix: PREFIX,
    settings: SETTINGS,
  });
  await service.start();
  const tables = () =>
    broker.published.filter(({ topic }) => topic === `${PREFIX}/table`).map(({ body }) => JSON.parse(body).rows);
  await eventually(() => tables().length === 1);
  const granted = Promise.withResolvers<void>();
  broker.subscribe = () => granted.promise;
  await store.put("jobs.csv", "job_name,mqtt_topic,image\na,lab/a,x:1\nb,lab/b,x:1\n");
  await service.catalog.refresh();
  deepEqual(tables(), [1]);
  granted.resolve();
  await eventually(() => tables().at(-1) === 2);
  await service.stop({ drain: false });
});

Deno.test("what follows from the end of a run that a dead process has recorded waits for the table", async () => {
  const [broker, store, cluster] = [new FakeBroker(), new FakeStore(), new FakeCluster()];
  broker.connect = (events) => Promise.resolve(events.onConnect({ sessionPresent: true }));
  const ended = job({ runName: "sort-abcdefghijkl", jobName: "sort", end: { type: "Complete" } });
  cluster.watch = (events) => {
    events.onJob(ended);
    events.onSynced();
    return Promise.resolve();
  };
  const record = aRecord({ run_name: ended.runName, job_name: "sort", root: ended.root, root_run: ended.runName });
  await new RunRecords(store).put(record);
  const table = new FakeStore();
  await table.put("jobs.csv", "job_name,mqtt_topic,image,needs\nsort,lab/sort,x:1,\nreport,,x:1,sort\n");
  const read = Promise.withResolvers<void>();
  const get = table.get.bind(table);
  table.get = (key) => read.promise.then(() => get(key));
  const service = new Service({
    broker,
    cluster,
    stores: { catalog: table, catalogKey: "jobs.csv", logs: new FakeStore(), runs: store },
    topicPrefix: PREFIX,
    settings: SETTINGS,
  });
  service.start().catch(() => {/* It is stopped while it tries the broker's order, which this one does not answer. */});
  await eventually(() => store.calls.includes(`get ${ended.runName}.json`));
  deepEqual([cluster.deleted, cluster.created.length], [[], 0]);
  read.resolve();
  await eventually(() => cluster.deleted.includes(ended.runName));
  deepEqual(cluster.created.map(({ row }) => row.jobName), ["report"]);
  await service.stop({ drain: false });
});

const options = { sanitizeOps: false, sanitizeResources: false };

Deno.test("a message runs its row, and the row that waits for it", options, async () => {
  await using bed = await startBed();
  await bed.client.publishAsync("lab/greet", '{"name":"Ada"}', { qos: 1 });
  const end = await eventually(() => bed.find("job_complete/after"));
  const first = bed.find("job_complete/greet")!;
  deepEqual(
    [end.body["parent_run"], end.body["chain_depth"], end.body["input"]],
    [first.body["run_name"], 1, '{"name":"Ada"}'],
  );
  match(await Deno.readTextFile(`${bed.folder}/logs/${first.body["run_name"]}.txt`), /\n\nhello Ada\n$/);
  await eventually(() => bed.service.runs.size === 0);
  ok(await bed.service.records.exists(String(first.body["run_name"])));
});

Deno.test("readiness names the rows whose topic the broker refuses; the others run", options, async () => {
  const strict = await startStrictBroker({ refuses: (filter) => filter.includes(" ") ? 0x80 : undefined });
  const server = { url: strict.url, close: () => strict[Symbol.asyncDispose]() };
  const rows = Array.from({ length: 20 }, (_, n) => `row${n},lab/${n === 3 ? "a b" : n},none,true\n`);
  await using bed = await startBed({ table: `job_name,mqtt_topic,image,command\n${rows.join("")}`, server });
  const { checks, ready } = bed.service.health();
  equal(ready, true);
  equal(checks["subscriptions"], 'none for 1 of 20 rows: "row3" on "lab/a b" (no reason given)');
  for (const n of [0, 19]) {
    strict.publish(`lab/${n}`, "");
    await eventually(() => bed.told.some((event) => event.type === "created" && event.run.jobName === `row${n}`));
  }
});

Deno.test("a failing row is told on job_failed and ERROR", options, async () => {
  await using bed = await startBed();
  await bed.client.publishAsync("lab/fail", "", { qos: 1 });
  const failed = await eventually(() => bed.find("job_failed/fail"));
  equal(failed.body["reason"], "ExitCode");
  const runName = failed.body["run_name"];
  await eventually(() => bed.said.some(({ topic, body }) => topic.endsWith("/ERROR") && body["run_name"] === runName));
});

Deno.test("a row that starts itself is stopped by the chain's depth", options, async () => {
  await using bed = await startBed();
  await bed.client.publishAsync(`${PREFIX}/request/run`, '{"job_name":"loop"}', { qos: 1 });
  const error = await eventually(() => bed.said.find(({ body }) => body["reason"] === "ChainTooDeep"));
  match(String(error.body["message"]), /look for rows that start each other/);
  await eventually(() => bed.service.runs.size === 0);
  const runs = bed.said.filter(({ topic }) => topic === `${PREFIX}/job_complete/loop`);
  equal(runs.length, 4); // depth 0 to 3
});

Deno.test("requests are answered with the caller's transaction", options, async (t) => {
  await using bed = await startBed();
  const ask = async (what: string, asked: Record<string, unknown>) => {
    bed.said.length = 0;
    await bed.client.publishAsync(`${PREFIX}/request/${what}`, JSON.stringify({ ...asked, transaction: what }), {
      qos: 1,
    });
    const { body } = await eventually(() => bed.find(`response/${what}`));
    equal(body["transaction"], what);
    return body;
  };
  let runName = "";
  await t.step("check tells the table's problems", async () => {
    const { data } = await ask("check", {}) as { data: { rows: number; problems: { text: string }[] } };
    equal(data.rows, 5);
    ok(data.problems.some(({ text }) => text.includes("loop")));
  });
  await t.step("run starts a row", async () => {
    const { data } = await ask("run", { job_name: "long", payload: "7" }) as { data: { run_name: string } };
    runName = data.run_name;
    ok(bed.service.runs.get(runName));
  });
  await t.step("cancel ends it as cancelled", async () => {
    equal((await ask("cancel", { run_name: runName }))["status"], "ok");
    const record = await eventually(() => bed.service.records.get(runName));
    equal(record?.status, "cancelled");
  });
  await t.step("rerun gives it the same payload", async () => {
    const { data } = await ask("rerun", { run_name: runName }) as { data: { run_name: string } };
    ok(data.run_name !== runName);
    equal((await ask("cancel", { run_name: data.run_name }))["status"], "ok");
    const record = await eventually(() => bed.service.records.get(data.run_name));
    equal(record?.payload, "7");
  });
  await t.step("no name leads out of the runs", async () => {
    await Deno.writeTextFile(`${bed.folder}/secret.json`, JSON.stringify({ job_name: "long", payload: "stolen" }));
    for (const run_name of ["../../other/jobs/x", "../secret", "..", "a/b", "A", "", "x".repeat(100_000)]) {
      for (const what of ["cancel", "rerun"]) {
        const { status, error } = await ask(what, { run_name });
        equal(status, "error");
        ok(String(error).length < 200, String(error).slice(0, 300));
      }
    }
  });
  await t.step("a request that is wrong says why", async () => {
    const body = await ask("run", { job_name: "nobody" });
    deepEqual([body["status"], body["error"]], [
      "error",
      'Cannot run "nobody": no row of the table has that job_name',
    ]);
  });
});

Deno.test("REFRESH takes over an edited table at once", options, async () => {
  await using bed = await startBed();
  await Deno.writeTextFile(`${bed.folder}/jobs.csv`, TABLE + "added,lab/added,none,true\n");
  await bed.client.publishAsync(`${PREFIX}/REFRESH`, "", { qos: 1 });
  await eventually(() => bed.service.catalog.filters().has("lab/added"));
  await eventually(() => bed.said.some(({ topic, body }) => topic === `${PREFIX}/table` && body["rows"] === 6));
  await bed.client.publishAsync("lab/added", "", { qos: 1 });
  await eventually(() => bed.find("job_complete/added"));
});

Deno.test("a run whose Job vanished while nobody looked gets an outcome", options, async () => {
  const dir = await Deno.makeTempDir({ prefix: "mjl-service-" });
  await Deno.mkdir(`${dir}/runs`);
  const live = liveEntry("greet-lost");
  await Deno.writeTextFile(`${dir}/runs/.live.json`, JSON.stringify([live]));
  await using bed = await startBed({ dir });
  const failed = await eventually(() => bed.find("job_failed/greet"));
  deepEqual([failed.body["run_name"], failed.body["reason"]], ["greet-lost", "Vanished"]);
  await eventually(() => bed.told.some(({ type }) => type === "finished"), { what: "its record" });
});

/** Of the list of live runs, as a former process wrote it. */
function liveEntry(runName: string) {
  const now = new Date().toISOString();
  return {
    runName,
    jobName: "greet",
    topic: "lab/greet",
    messageHash: "h",
    root: "rootrootroot",
    rootRun: runName,
    chainDepth: 0,
    image: "none",
    gpu: 0,
    requests: {},
    limits: {},
    receivedAt: now,
    createdAt: now,
  };
}

Deno.test(
  "a run that was to be tried again, and whose Job vanished, has ended, unless its next attempt is there",
  options,
  async () => {
    const dir = await Deno.makeTempDir({ prefix: "mjl-service-" });
    await Deno.mkdir(`${dir}/runs`);
    const names = ["greet-lost", "greet-followed"];
    await Deno.writeTextFile(`${dir}/runs/.live.json`, JSON.stringify(names.map(liveEntry)));
    const put = (record: RunRecord) =>
      Deno.writeTextFile(`${dir}/runs/${record.run_name}.json`, JSON.stringify(record));
    const failed = { job_name: "greet", status: "failed", reason: "ExitCode", message: "It failed" } as const;
    await put(aRecord({ ...failed, run_name: "greet-lost", retried_as: "greet-next" }));
    await put(aRecord({ ...failed, run_name: "greet-followed", retried_as: "greet-next2" }));
    await put(aRecord({ ...failed, run_name: "greet-next2", attempt: 2 }));
    await using bed = await startBed({ dir });
    const end = await eventually(() => bed.find("job_failed/greet"));
    equal(end.body["run_name"], "greet-lost");
    match(String(end.body["message"]), /^It failed; it cannot be tried again: its Job was gone$/);
    await eventually(() => bed.told.some(({ type }) => type === "finished"), { what: "its record" });
    equal(JSON.parse(await Deno.readTextFile(`${dir}/runs/greet-lost.json`)).retried_as, undefined);
    equal(bed.said.filter(({ topic }) => topic === `${PREFIX}/job_failed/greet`).length, 1);
  },
);
