/** Many runs that a person starts together: from a sheet, or those that failed. On fake ports; a process may die. */
import { deepEqual, equal, match, ok, rejects } from "node:assert/strict";
import { type Catalog, describeProblem, parseTable, readSheet } from "../../catalog.ts";
import { Batches } from "../../control/batches.ts";
import { Actions } from "../../control.ts";
import type { Cluster, Row, RunRecord } from "../../ports.ts";
import { keyOfCause, placeholdersOf, runNameFor } from "../../run_spec.ts";
import { aRecord, delivery, FakeCluster, FakeStore, row } from "../harness/fakes.ts";
import { startCore } from "../harness/core.ts";
import { MAX_PICKED } from "../../control.ts";
import { asManifest, itemSpec, manifestOf, storedManifest } from "../../flows/manifest.ts";
import { csv } from "../harness/table.ts";
import { eventually } from "../harness/wait.ts";

const ROW = row({
  jobName: "sort",
  inputs: [{ name: "uuid", required: true }, { name: "mode", required: false, choices: ["fast", "slow"] }],
});

/** As the table has it. */
function rowOf(cells: Record<string, string>): Row {
  const text = csv([{ job_name: "sort", mqtt_topic: "lab/up", image: "busybox", ...cells }]);
  return parseTable(text, { topicPrefix: "services/mqtt_job_listener" }).rows[0]!;
}

/** A process on what outlives it. */
async function bed({ store = new FakeStore(), cluster = new FakeCluster(), maxRuns = Infinity } = {}) {
  const known = new Set(cluster.created.map(({ runName }) => runName));
  const core = await startCore({ store, cluster, rows: [ROW], maxRuns });
  const create = cluster.create.bind(cluster);
  cluster.create = async (spec) => {
    if (known.has(spec.runName)) return "exists";
    const result = await create(spec);
    known.add(spec.runName);
    return result;
  };
  const stop = new AbortController();
  const actions = new Actions({
    catalog: { table: { rows: [ROW, row({ jobName: "other" })], problems: [] } } as unknown as Catalog,
    listener: core.listener,
    records: core.records,
    payloads: store,
    cluster: cluster as Cluster,
    runs: core.runs,
    topicPrefix: "services/mqtt_job_listener",
    signal: stop.signal,
  });
  const payloads = () => cluster.created.map(({ message }) => new TextDecoder().decode(message.payload));
  return {
    core,
    actions,
    payloads,
    store,
    cluster,
    put: (more: Partial<RunRecord>) => core.records.put(aRecord({ job_name: "sort", status: "failed", ...more })),
    kill() {
      stop.abort();
      core.kill();
    },
  };
}

const SHEET = "uuid,mode\na,fast\nb,\na,fast\n";

Deno.test("a sheet starts a run for each line, with the fields of its header; empty cells are left out", async () => {
  const { actions, payloads, cluster } = await bed();
  const answer = await actions.each("sort", { sheet: SHEET });
  deepEqual([answer.total, answer.started, answer.exists, answer.waiting, answer.errors], [3, 3, 0, 0, 0]);
  deepEqual(payloads(), ['{"uuid":"a","mode":"fast"}', '{"uuid":"b"}', '{"uuid":"a","mode":"fast"}']);
  deepEqual(answer.run_names, cluster.created.map(({ runName }) => runName));
  deepEqual(cluster.created.map(({ batch }) => batch), [answer.batch, answer.batch, answer.batch]);
  equal(new Set(cluster.created.map(({ root }) => root)).size, 3, "each line is a message of its own");
  deepEqual(
    cluster.created.map(({ rootRun, chainDepth }) => [rootRun, chainDepth]),
    answer.run_names.map((n) => [n, 0]),
  );
});

Deno.test("the same sheet again starts nothing, three lines more start three, and another batch starts all", async () => {
  const { actions } = await bed();
  await actions.each("sort", { sheet: SHEET });
  const again = await actions.each("sort", { sheet: SHEET });
  deepEqual([again.started, again.exists], [0, 3]);
  const longer = await actions.each("sort", { sheet: "mode,uuid\r\n,c\r\nfast,a\r\n,b\r\nfast,a\r\n,d\r\nfast,a\r\n" });
  deepEqual([longer.started, longer.exists], [3, 3], "whatever the order of lines and columns");
  const named = await actions.each("sort", { sheet: SHEET, batch: "second" });
  deepEqual([named.batch, named.started], ["second", 3]);
  deepEqual((await actions.each("sort", { sheet: SHEET, batch: "second" })).exists, 3);
  const other = await actions.each("other", { sheet: SHEET });
  equal(other.started, 3, "another row's runs are others");
});

Deno.test("pieces of a sheet count equal lines over the whole, and name its lines", async () => {
  const { actions } = await bed();
  const first = await actions.each("sort", { sheet: "uuid\na\nb\n", lines: [2, 3], copies: [1, 1], sheetId: "whole" });
  const second = await actions.each("sort", {
    sheet: "uuid,mode\na,\nb,wrong\n",
    lines: [4, 5],
    copies: [2, 2],
    sheetId: "whole",
  });
  deepEqual([first.started, second.started, first.batch, second.batch], [2, 1, "whole", "whole"]);
  match(second.problems[0]!.text, /^Line 5: the message's field "mode" is "wrong"; it must be fast or slow/);
  deepEqual((await actions.each("sort", { sheet: "uuid\na\nb\na\n" })).exists, 3);
});

Deno.test("lines that are wrong are named with line, field and value, and the others run", async () => {
  const { actions, payloads } = await bed();
  const sheet = 'uuid,mode,uid\na,fast,\n,slow,\nc,medium,\nd,slow,,x\n"e""x" y,,\nf,,7\n';
  const answer = await actions.each("sort", { sheet });
  deepEqual([answer.total, answer.started, answer.errors], [2, 2, 4]);
  deepEqual(payloads(), ['{"uuid":"a","mode":"fast"}', '{"uuid":"f","uid":"7"}']);
  const said = answer.problems.map(({ text }) => text);
  match(said[0]!, /^Line 1, uid: no input of the row has this name; did you mean "uuid"\?/);
  match(said[1]!, /^Line 3: the message has no field "uuid"/);
  match(said[2]!, /^Line 4: the message's field "mode" is "medium"/);
  match(said[3]!, /^Line 5: the line has 4 cells, the header has 3/);
  match(said[4]!, /^Line 6, uuid/);
});

Deno.test("what is no sheet is refused in words and starts nothing", async (t) => {
  const cases = [
    ["", /the sheet is empty; the first line must name fields/],
    ["uuid,uuid\na,b\n", /the header names "uuid" twice/],
    ["uuid,,mode\na,b,c\n", /field 2 of the header has no name/],
    ["uuid\n", /no lines below its header/],
    ['uuid\n"a\nb\n', /never closed/],
    ["PK\x03\x04", /spreadsheet/],
    [`uuid\n${"a\n".repeat(10_001)}`, /more than 10000 lines; part it/],
  ] as const;
  for (const [sheet, said] of cases) {
    await t.step(JSON.stringify(sheet.slice(0, 20)), async () => {
      const { actions, cluster } = await bed();
      const answer = await actions.each("sort", { sheet: new TextEncoder().encode(sheet) });
      deepEqual(cluster.created, []);
      ok(answer.problems.some(({ text }) => said.test(text)), JSON.stringify(answer.problems));
    });
  }
  const { actions } = await bed();
  await rejects(actions.each("nobody", { sheet: SHEET }), /no row of the table has that job_name/);
  await rejects(actions.each("sort", { sheet: SHEET, batch: "a b\n" }), /is no name: write 1 to 63/);
});

Deno.test("a dry run checks each line and starts nothing", async () => {
  const { actions, cluster } = await bed();
  const answer = await actions.each("sort", { sheet: "uuid\na\n\nb\n", dryRun: true });
  deepEqual([answer.total, answer.started, answer.waiting], [2, 0, 0]);
  deepEqual(cluster.created, []);
});

Deno.test("a process that dies in the middle of a sheet: the same command starts the rest, nothing twice", async () => {
  const lines = Array.from({ length: 100 }, (_, n) => `u${n % 40}`).join("\n");
  const store = new FakeStore();
  const cluster = new FakeCluster();
  const first = await bed({ store, cluster });
  const create = cluster.create;
  cluster.create = (spec) => {
    if (cluster.created.length === 37) first.kill();
    return create(spec);
  };
  first.actions.each("sort", { sheet: `uuid\n${lines}\n` }).catch(() => {});
  await eventually(() => cluster.created.length >= 37);
  const rest = new FakeCluster();
  rest.created.push(...cluster.created);
  const second = await bed({ store, cluster: rest });
  const answer = await second.actions.each("sort", { sheet: `uuid\n${lines}\n` });
  equal(answer.started + answer.exists, 100);
  equal(new Set(rest.created.map(({ runName }) => runName)).size, 100);
  equal(rest.created.length, 100);
  second.kill();
});

Deno.test("a batch queues behind fresh messages, of its own row and of others", async () => {
  const { actions, core, cluster, kill } = await bed();
  const gates: (() => void)[] = [];
  const { create } = cluster;
  cluster.create = async (spec) => {
    await new Promise<void>((go) => gates.push(go));
    return await create(spec);
  };
  const batch = actions.each("sort", { sheet: `uuid\n${Array.from({ length: 20 }, (_, n) => n).join("\n")}\n` });
  await eventually(() => gates.length === 4);
  core.listener.receive(delivery({ text: '{"uuid":"fresh"}', packetId: 1 }));
  core.listener.receive(delivery({ text: '{"uuid":"fresh too"}', packetId: 2 }));
  // Four create calls go on at a time; the two that begin next are those of the messages.
  gates.shift()!();
  gates.shift()!();
  await eventually(() => gates.length === 4);
  while (cluster.created.length < 22) {
    await eventually(() => gates.length > 0 || cluster.created.length === 22);
    gates.shift()?.();
  }
  const order = cluster.created.map(({ batch }) => batch === undefined);
  deepEqual([order.indexOf(true) < 6, order.filter(Boolean).length], [true, 2]);
  ok(order.lastIndexOf(true) <= 5, order.join());
  equal((await batch).started, 20);
  kill();
});

Deno.test("an answer does not wait for what cannot start now, and says how much waits", async () => {
  const never = new AbortController();
  const batches = new Batches({ signal: never.signal, answerMs: 5 });
  let begun = 0;
  const entries = Array.from({ length: 9_000 }, (_, n) => ({
    label: `line ${n}`,
    start:
      () => (begun++,
        n < 3 ? Promise.resolve({ result: "created", runName: `r${n}` } as const) : new Promise<never>(() => {})),
  }));
  const answer = await batches.start(entries);
  deepEqual([answer.started, answer.waiting, answer.run_names], [3, 8_997, ["r0", "r1", "r2"]]);
  equal(begun, 35, "32 at a time");
  await rejects(batches.start(entries), /8997 runs of batches wait: ask again when they have begun/);
  await rejects(batches.start([...entries, ...entries]), /18000 runs at once are too many: start at most 10000/);
});

// ---------------------------------------------------------------- replay

const HOUR = 3600_000;
const ago = (ms: number) => new Date(Date.now() - ms).toISOString();
const name = (letter: string) => `sort-${letter.repeat(12)}`;

/** A store whose objects were written now, as records are. */
function storeOfNow(): FakeStore {
  const store = new FakeStore();
  const list = store.list.bind(store);
  store.list = async function* (prefix, options) {
    for await (const one of list(prefix, options)) yield { ...one, modifiedAt: new Date() };
  };
  return store;
}

Deno.test("a replay runs again what failed since, newest first, with lineage, message and topic", async () => {
  const { actions, put, cluster, payloads } = await bed({ store: storeOfNow() });
  const failed = { reason: "ExitCode", finished_at: ago(HOUR), payload: '{"uuid":"a"}', topic: "lab/a" };
  await put({ ...failed, run_name: name("a"), root: "rootrootroot", parent_run: name("p"), chain_depth: 2 });
  await put({
    ...failed,
    run_name: name("b"),
    finished_at: ago(HOUR / 2),
    group: "g-abcdefgh2345",
    index: 3,
    item: '"x"',
  });
  await put({ ...failed, run_name: name("c"), finished_at: ago(3 * HOUR) });
  await put({ ...failed, run_name: name("d"), status: "succeeded" });
  await put({ ...failed, run_name: name("e"), reason: "OutOfMemory" });
  await put({ ...failed, run_name: name("f"), retried_as: name("z") });
  await put({ ...failed, run_name: name("g"), job_name: "other" });
  const request = { jobName: "sort", since: "2h", reason: "ExitCode" };
  const seen = await actions.replay({ ...request, dryRun: true });
  deepEqual([seen.total, seen.started, cluster.created.length], [2, 0, 0]);
  deepEqual(seen.runs.map(({ run_name }) => run_name), [name("b"), name("a")]);
  const answer = await actions.replay(request);
  deepEqual([answer.started, answer.batch], [2, seen.batch]);
  deepEqual(cluster.created.map(({ rerunOf }) => rerunOf), [name("b"), name("a")]);
  const [b, a] = cluster.created;
  deepEqual([a!.root, a!.parentRun, a!.chainDepth, a!.batch], ["rootrootroot", name("p"), 2, answer.batch]);
  deepEqual([b!.group, b!.index, b!.item], ["g-abcdefgh2345", 3, '"x"']);
  equal(a!.runName, runNameFor(ROW, { key: keyOfCause.batch(answer.batch, `run\0${name("a")}`) }));
  deepEqual([a!.message.topic, payloads()], ["lab/a", ['{"uuid":"a"}', '{"uuid":"a"}']]);
});

Deno.test("the same replay again starts nothing, be its runs under way or failed again; another batch starts the latest", async () => {
  const { actions, put, cluster } = await bed({ store: storeOfNow() });
  await put({ run_name: name("a"), finished_at: ago(HOUR), payload: '{"uuid":"a"}' });
  const request = { jobName: "sort", since: "1d" };
  const first = await actions.replay(request);
  equal(first.started, 1);
  deepEqual([(await actions.replay(request)).started, cluster.created.length], [0, 1]);
  const [rerun] = cluster.created;
  await put({
    run_name: rerun!.runName,
    finished_at: ago(0),
    payload: '{"uuid":"a"}',
    rerun_of: name("a"),
    batch: first.batch,
  });
  deepEqual([(await actions.replay(request)).started, cluster.created.length], [0, 1]);
  const other = await actions.replay({ ...request, batch: "again" });
  deepEqual([other.started, other.superseded], [1, 1]);
  equal(cluster.created[1]!.rerunOf, rerun!.runName, "the latest attempt, not both");
});

Deno.test("what a person has run again since is not replayed", async () => {
  const { actions, put, cluster } = await bed({ store: storeOfNow() });
  await put({ run_name: name("a"), finished_at: ago(HOUR) });
  await put({ run_name: name("b"), finished_at: ago(HOUR / 2), status: "succeeded", rerun_of: name("a") });
  const answer = await actions.replay({ jobName: "sort", since: "1d" });
  deepEqual([answer.total, answer.superseded, cluster.created], [0, 1, []]);
});

Deno.test("a replay goes on where a record cannot be read, and says whose payload is gone", async () => {
  const { actions, put, store, cluster } = await bed({ store: storeOfNow() });
  await put({ run_name: name("a"), finished_at: ago(HOUR), payload: '{"uuid":"a"}' });
  store.objects.set(`${name("b")}.json`, new TextEncoder().encode("{"));
  await put({ run_name: name("c"), finished_at: ago(HOUR), payload_object: `fake://bucket/.payloads/${name("c")}` });
  const answer = await actions.replay({ jobName: "sort", since: "1d" });
  deepEqual([answer.total, answer.started, answer.refused], [2, 1, 1]);
  match(answer.refusals[0]!.message, /payload is not in the store any more/);
  equal(cluster.created.length, 1);
});

Deno.test("a replay reads no records of rows whose names begin alike, nor of what was written before", async () => {
  const store = new FakeStore();
  const list = store.list.bind(store);
  store.list = async function* (prefix, options) {
    const old = name("o");
    for await (const one of list(prefix, options)) {
      yield { ...one, modifiedAt: new Date(one.key.startsWith(old) ? Date.now() - 9 * HOUR : Date.now()) };
    }
  };
  const { actions, put } = await bed({ store });
  await put({ run_name: name("a"), finished_at: ago(HOUR) });
  await put({ run_name: name("o"), finished_at: ago(9 * HOUR) });
  await put({ run_name: "sort-spikes-abcdefgh2345", job_name: "sort-spikes", finished_at: ago(HOUR) });
  await put({ run_name: "other-abcdefgh2345", job_name: "other", finished_at: ago(HOUR) });
  store.calls.length = 0;
  equal((await actions.replay({ jobName: "sort", since: "2h", dryRun: true })).total, 1);
  deepEqual(store.calls, ["list sort", `get ${name("a")}.json`]);
});

Deno.test("a replay that makes no sense is refused in words", async () => {
  const { actions } = await bed();
  await rejects(actions.replay({ jobName: "sort", since: "yesterday" }), /"yesterday": write how long ago/);
  await rejects(actions.replay({ jobName: "sort", since: "1h", state: "dead" }), /"dead": write one of succeeded/);
  await rejects(actions.replay({ jobName: "sort", since: "1h", batch: "../x" }), /is no name/);
  await rejects(actions.replay({ jobName: "nobody", since: "1h" }), /no row of the table/);
});

Deno.test("a sheet of 10,000 lines keeps the event loop for no long time", async () => {
  const { actions } = await bed();
  const sheet = `uuid,mode\n${Array.from({ length: 10_000 }, (_, n) => `u${n},fast`).join("\n")}\n`;
  let turns = 0;
  const timer = setInterval(() => turns++, 0);
  const answer = await actions.each("sort", { sheet, dryRun: true });
  clearInterval(timer);
  equal(answer.total, 10_000);
  ok(turns >= 3, `others had ${turns} turns meanwhile`);
});

Deno.test("a line that would leave a placeholder of the row empty is an error before anything starts", () => {
  const placeholders = placeholdersOf(
    rowOf({ args: "{payload.uuid} {payload.mode=fast} {payload.kind} {topic}", inputs: "kind=raw" }),
  );
  const inputs = [{ name: "kind", required: false, preset: "raw" }];
  const { lines, problems } = readSheet("uid\na\n", { row: { inputs }, placeholders });
  deepEqual([lines.length, problems.filter(({ severity }) => severity === "error").map(describeProblem)], [
    0,
    ['Line 2, uuid: {payload.uuid} of the row has no value; the sheet needs it in a column "uuid"'],
  ]);
  equal(readSheet("uuid\na\n", { row: { inputs }, placeholders }).lines.length, 1);
});

Deno.test("a sheet is refused for a row that makes its runs of a list in the message", () => {
  const refused = ({ forEach }: Row) => readSheet("uuid\na\n", { row: { ...forEach ? { forEach } : {} } }).problems;
  match(
    describeProblem(refused(rowOf({ for_each: "payload.files" }))[0]!),
    /for_each "payload\.files"\), and a cell .* text/,
  );
  for (const for_each of ["1..3", "s3://lab/{payload.uuid}/*.h5"]) {
    deepEqual(refused(rowOf({ for_each })).filter(({ severity }) => severity === "error"), []);
  }
});

Deno.test("a group cannot be run again as a run is, and it is said what can", async () => {
  const { actions, core } = await bed();
  await core.records.putNote(".groups", "sort-aaaaaaaa2345", {});
  await rejects(actions.rerun("sort-aaaaaaaa2345"), /it is a group; run its items again, or by replay all that failed/);
  await rejects(actions.rerun("sort-aaaaaaaa2346"), /there is no such run/);
});

// ---------------------------------------------------------------- runs that a person has picked

const picked = (letter: string) => runNameFor(ROW, { key: letter });

Deno.test("runs that were picked are run again once a batch, each with who asked, and each says what became of it", async () => {
  const { actions, put, cluster } = await bed();
  await put({ run_name: picked("a"), root: "abcdefghijkl" });
  await put({ run_name: picked("b"), status: "succeeded" });
  const names = [picked("a"), picked("b"), picked("gone"), picked("a")];
  const first = await actions.rerunMany(names, { batch: "b1", requestedBy: "Ada" });
  deepEqual([first.done, first.exists, first.refused, first.waiting], [2, 0, 1, 0]);
  deepEqual(first.results.map(({ run_name, result }) => [run_name, result]), [
    [picked("a"), "done"],
    [picked("b"), "done"],
    [picked("gone"), "refused"],
  ]);
  match(first.results[2]!.message!, /has not ended, or its record is gone/);
  deepEqual(cluster.created.map(({ rerunOf, batch, requestedBy }) => [rerunOf, batch, requestedBy]), [
    [picked("a"), "b1", "Ada"],
    [picked("b"), "b1", "Ada"],
  ]);
  equal(cluster.created[0]!.root, "abcdefghijkl");
  const again = await actions.rerunMany(names, { batch: "b1" });
  deepEqual([again.done, again.exists], [0, 2]);
  deepEqual(again.results.map(({ became }) => became), first.results.map(({ became }) => became));
  equal(cluster.created.length, 2);
  equal((await actions.rerunMany(names, { batch: "b2" })).done, 2);
});

Deno.test("runs that were picked are cancelled each for itself, by name of who asked", async () => {
  const { actions, cluster } = await bed();
  const asked: string[][] = [];
  const cancel: Cluster["cancel"] = (runName, who) => {
    asked.push([runName, who]);
    return Promise.resolve(runName !== picked("over"));
  };
  Object.assign(cluster, { cancel });
  const answer = await actions.cancelMany([picked("a"), picked("over"), picked("b")], "Ada");
  deepEqual(answer.results.map(({ result }) => result), ["done", "refused", "done"]);
  match(answer.results[1]!.message!, /no such run is under way/);
  deepEqual(asked.map(([, who]) => who), ["Ada", "Ada", "Ada"]);
});

Deno.test("a selection that is none, too large or of other things is refused whole", async () => {
  const { actions, cluster } = await bed();
  const many = Array.from({ length: MAX_PICKED + 1 }, (_, at) => picked(`${at}`));
  for (const names of [[], many, [picked("a"), "../x"]]) {
    await rejects(actions.rerunMany(names), RangeError);
    await rejects(actions.cancelMany(names, "Ada"), RangeError);
  }
  await rejects(actions.rerunMany([picked("a")], { batch: "../x" }), /is no name/);
  equal(cluster.created.length, 0);
});

Deno.test("sheets and replays keep who asked, and so does a group's manifest", async () => {
  const { actions, put, cluster } = await bed({ store: storeOfNow() });
  await put({ run_name: picked("a"), finished_at: new Date().toISOString() });
  await actions.each("sort", { sheet: "uuid\nx\n", requestedBy: "Ada" });
  await actions.replay({ jobName: "sort", since: "1h", requestedBy: "Bob" });
  deepEqual(cluster.created.map(({ requestedBy }) => requestedBy), ["Ada", "Bob"]);
  const manifest = manifestOf(cluster.created[0]!, ["1"], { isStored: false });
  const kept = asManifest(JSON.parse(JSON.stringify(storedManifest(manifest))), manifest.group);
  equal(itemSpec(kept!, 0).requestedBy, "Ada");
});
