/** Requests to the running service: what is asked, what is refused, what is answered. */
import { deepEqual, doesNotMatch, equal, match, ok, rejects } from "node:assert/strict";
import type { Catalog } from "../catalog.ts";
import { Actions, handleControl, Requests } from "../control.ts";
import type { Listener } from "../listener.ts";
import { LocalStore } from "../local/store.ts";
import { type Broker, type Cluster, type JobFacts, type Lineage, type Message, type RunRecord } from "../ports.ts";
import { RunRecords } from "../records.ts";
import { aRecord, delivery, FakeStore, row } from "./harness/fakes.ts";
import { eventually } from "./harness/wait.ts";

const PREFIX = "services/mqtt_job_listener";
const RUN = "sort-spikes-zzzzzzzz2345";

/** The parts that actions call; each call is written down. */
function setUp({ record, live }: { record?: Record<string, unknown>; live?: Partial<JobFacts> } = {}) {
  const calls: string[] = [];
  const ran: Message[] = [];
  const lineages: (Lineage | undefined)[] = [];
  const askers: (string | undefined)[] = [];
  const answers: { topic: string; body: Record<string, unknown> }[] = [];
  const store = new FakeStore();
  if (record) store.objects.set(`${RUN}.json`, new TextEncoder().encode(JSON.stringify(record)));
  const { get } = store;
  store.get = (key, ...rest) => (key.endsWith(".json") || calls.push(`get ${key}`), get.call(store, key, ...rest));
  const actions = new Actions({
    catalog: {
      table: { rows: [row({ jobName: "sort-spikes" })], problems: [] },
      refresh: () => Promise.resolve({ rows: 1 }),
    } as unknown as Catalog,
    listener: {
      run: (
        _: unknown,
        message: Message,
        { lineage, requestedBy }: { lineage?: Lineage; requestedBy?: string },
      ) => {
        ran.push(message);
        lineages.push(lineage);
        askers.push(requestedBy);
        return Promise.resolve({ result: "created", runName: "new-a" });
      },
    } as unknown as Listener,
    records: new RunRecords(store),
    payloads: store,
    cluster: {
      get: (name: string) => (calls.push(`cluster get ${name}`), Promise.resolve(live)),
      cancel: (name: string, who: string) => {
        calls.push(`cancel ${name}`);
        askers.push(who);
        return Promise.resolve(name === RUN);
      },
    } as unknown as Cluster,
    topicPrefix: PREFIX,
  });
  const broker = {
    publish: (topic: string, body: string) => (answers.push({ topic, body: JSON.parse(body) }), Promise.resolve()),
  } as unknown as Broker;
  const ask = async (what: string, asked: unknown) => {
    const payload = new TextEncoder().encode(typeof asked === "string" ? asked : JSON.stringify(asked));
    const { signal } = new AbortController();
    await handleControl(delivery({ topic: `${PREFIX}/request/${what}`, payload }), {
      actions,
      broker,
      topicPrefix: PREFIX,
      signal,
    });
    return answers.at(-1)!.body;
  };
  return { actions, ask, answers, askers, calls, lineages, ran, store };
}

const NO_NAMES = [
  "../../other/jobs/x",
  "../../../other",
  "A",
  "-a",
  "a/b",
  "a".repeat(64),
  "a\u202eb",
  "\ud800",
  "a b",
];

Deno.test("cancel and rerun take nothing but names of runs, and ask nobody about others", async () => {
  const { ask, calls } = setUp();
  for (const name of NO_NAMES) {
    for (const what of ["cancel", "rerun"]) {
      const { status, error } = await ask(what, { run_name: name });
      equal(status, "error", name);
      match(String(error), /is no name of a run$/);
    }
  }
  deepEqual(calls, []);
});

Deno.test("an answer carries the caller's transaction, and a refusal says why", async () => {
  const { ask, answers } = setUp();
  deepEqual(await ask("cancel", { run_name: RUN, transaction: 7 }), {
    status: "ok",
    data: { run_name: RUN },
    transaction: 7,
  });
  const refused = await ask("cancel", { run_name: "other-a", transaction: "t" });
  deepEqual([refused["status"], refused["transaction"]], ["error", "t"]);
  match(String(refused["error"]), /no such run is under way/);
  deepEqual(answers.map(({ topic }) => topic), [`${PREFIX}/response/cancel`, `${PREFIX}/response/cancel`]);
});

Deno.test("what a request holds does not make an answer endless", async () => {
  const { ask, answers } = setUp();
  const long = "x".repeat(100_000);
  for (const asked of [{ run_name: long }, { run_name: RUN, transaction: long }, `{"${long}`, long]) {
    equal((await ask("rerun", asked))["status"], "error");
  }
  equal((await ask("run", { job_name: long }))["status"], "error");
  for (const { body } of answers) ok(JSON.stringify(body).length < 3_000);
});

Deno.test("a request of more than 1 MiB is refused by its size, and not read", async () => {
  const { ask, ran } = setUp();
  const payload = "x".repeat(1024 * 1024);
  const answer = await ask("run", { job_name: "sort-spikes", payload, transaction: 1 });
  match(String(answer["error"]), /^The request has \d+ bytes: send at most 1048576$/);
  equal(answer["transaction"], null);
  equal(ran.length, 0);
  equal((await ask("run", { job_name: "sort-spikes", payload: payload.slice(100) }))["status"], "ok");
});

Deno.test("a flood of requests is carried out a few at a time, and what is too much is refused, not kept", async () => {
  const gate = Promise.withResolvers<boolean>();
  const { actions, answers } = setUp();
  let asked = 0;
  let most = 0;
  actions.cancel = async (runName) => {
    most = Math.max(most, ++asked);
    await gate.promise;
    asked--;
    return { run_name: runName };
  };
  const { signal } = new AbortController();
  const broker = {
    publish: (topic: string, body: string) => (answers.push({ topic, body: JSON.parse(body) }), Promise.resolve()),
  } as unknown as Broker;
  const requests = new Requests({ actions, broker, topicPrefix: PREFIX, signal });
  const payload = new TextEncoder().encode(JSON.stringify({ run_name: RUN }));
  for (let n = 0; n < 3_000; n++) requests.receive(delivery({ topic: `${PREFIX}/request/cancel`, payload }));
  await eventually(() => answers.length === 2_000);
  ok(answers.every(({ body }) => /Too many requests wait/.test(String(body["error"]))));
  equal(most, 16);
  gate.resolve(true);
  await eventually(() => answers.length === 3_000);
  // Its turn comes again.
  requests.receive(delivery({ topic: `${PREFIX}/request/cancel`, payload }));
  await eventually(() => answers.length === 3_001);
  equal(answers.at(-1)!.body["status"], "ok");
});

Deno.test("rerun runs the row again with the message that the record has", async () => {
  const { ask, ran } = setUp({ record: { ...aRecord({ payload: "again" }) } });
  deepEqual((await ask("rerun", { run_name: RUN }))["data"], { run_name: "new-a" });
  deepEqual(ran.map(({ topic, payload }) => [topic, new TextDecoder().decode(payload)]), [
    ["experiments/e0/uploaded", "again"],
  ]);
});

Deno.test("rerun keeps the place of the run among others, be it live or over; a run that is asked for has none", async () => {
  const place = {
    root: "abcdefghijkl",
    rootRun: "first-a",
    parentRun: "split-b",
    chainDepth: 2,
    group: "g-a",
    index: 3,
  };
  const kept = { ...place, item: '"x"', rerunOf: RUN };
  const over = setUp({
    record: {
      ...aRecord({
        root: place.root,
        root_run: place.rootRun,
        parent_run: place.parentRun,
        chain_depth: place.chainDepth,
        group: place.group,
        index: place.index,
        item: '"x"',
        attempt: 3,
        first_run: "sort-spikes-first",
      }),
    },
  });
  const live = setUp({ live: liveRun({ ...place, item: '"x"', attempt: 2, batch: "b" }) });
  for (const { ask, lineages } of [over, live]) {
    equal((await ask("rerun", { run_name: RUN }))["status"], "ok");
    await ask("run", { job_name: "sort-spikes" });
    deepEqual(lineages, [kept, undefined]);
  }
});

Deno.test("rerun of a live run whose payload is in the store takes it from there", async () => {
  const { ask, ran, store } = setUp({ live: liveRun({ payloadObject: `${new FakeStore().url}/.payloads/${RUN}` }) });
  store.objects.set(`.payloads/${RUN}`, new TextEncoder().encode("large"));
  equal((await ask("rerun", { run_name: RUN }))["status"], "ok");
  equal(new TextDecoder().decode(ran[0]!.payload), "large");
});

function liveRun(more: Partial<JobFacts>): Partial<JobFacts> {
  return { runName: RUN, jobName: "sort-spikes", topic: "t", ...more };
}

Deno.test("a payload outside the folder of payloads is never read", async () => {
  const root = new FakeStore().url;
  const places = [
    "s3://other/x",
    `${root}/../other`,
    `${root}/.payloads/../../x`,
    `${root}x/.payloads/a`,
    `${root}/a`,
    "",
  ];
  for (const place of places) {
    for (
      const given of [{ record: { ...aRecord({ payload_object: place }) } }, {
        live: liveRun({ payloadObject: place }),
      }]
    ) {
      const { ask, calls, ran } = setUp(given);
      match(String((await ask("rerun", { run_name: RUN }))["error"]), /not below .*it is not read|it is no record/);
      deepEqual([calls.filter((call) => call.startsWith("get ")), ran], [[], []]);
    }
  }
});

Deno.test("a record that is none is not believed", async () => {
  const good = aRecord() as unknown as Record<string, unknown>;
  const bad: Record<string, unknown>[] = [
    {},
    { ...good, run_name: "other-a" },
    { ...good, job_name: 5 },
    { ...good, status: "done" },
    { ...good, payload: { deep: 1 } },
    { ...good, payload_base64: "!" },
    { ...good, parent_run: "../../x" },
    { ...good, finished_at: "yesterday" },
    { ...good, requests: { cpu: 4 } },
  ];
  for (const record of bad) {
    const { actions, ran } = setUp({ record });
    await rejects(actions.rerun(RUN), /it is no record of that run; delete or mend it$/);
    deepEqual(ran, []);
  }
});

Deno.test("a record that is larger than any can be is not read", async () => {
  const dir = await Deno.makeTempDir();
  const large = JSON.stringify({ ...aRecord(), more: "x".repeat(5 * 1024 * 1024) });
  await Deno.writeTextFile(`${dir}/${RUN}.json`, large);
  await rejects(new RunRecords(new LocalStore(dir)).get(RUN), /it has more than 4194304 bytes; delete or mend it$/);
  await Deno.remove(dir, { recursive: true });
});

Deno.test("the list of live runs is believed entry by entry", async () => {
  const { store } = setUp();
  const good = {
    runName: RUN,
    jobName: "sort-spikes",
    topic: "t",
    messageHash: "h",
    root: "rootrootroot",
    rootRun: RUN,
    chainDepth: 0,
    image: "x",
    requests: {},
    limits: {},
    receivedAt: "2026-03-01T10:00:00Z",
    createdAt: "2026-03-01T10:00:00Z",
  };
  const list = [good, { ...good, runName: "../x" }, { ...good, createdAt: "?" }, null, "x", {}];
  store.objects.set(".live.json", new TextEncoder().encode(JSON.stringify(list)));
  const found = await new RunRecords(store).getLive();
  deepEqual(found.map(({ runName, createdAt }) => [runName, createdAt.toISOString()]), [
    [RUN, "2026-03-01T10:00:00.000Z"],
  ]);
});

Deno.test("what the cluster said of an end stands in the record without secrets", async () => {
  const store = new FakeStore();
  const record: RunRecord = aRecord({ message: "no: https://me:hush-hush@registry/x?token=abcdef" });
  await new RunRecords(store).put(record);
  doesNotMatch(new TextDecoder().decode(store.objects.get(`${RUN}.json`)), /hush|abcdef/);
});

Deno.test("cancel() of a run that was tried again cancels the attempt that lives", async () => {
  const bed = setUp();
  const first = "sort-spikes-aaaaaaaa2345";
  const put = (record: RunRecord) =>
    bed.store.objects.set(`${record.run_name}.json`, new TextEncoder().encode(JSON.stringify(record)));
  put(aRecord({ run_name: first, status: "failed", retried_as: RUN }));
  deepEqual(await bed.actions.cancel(first, "Ada"), { run_name: RUN });
  deepEqual(bed.calls, [`cancel ${first}`, `cancel ${RUN}`]);
  // Records that lead in a circle are anybody's.
  put(aRecord({ run_name: "a-aaaaaaaa2345", retried_as: "a-aaaaaaaa2345" }));
  await rejects(bed.actions.cancel("a-aaaaaaaa2345", "Ada"), /no such run is under way/);
});

Deno.test("a request says who asks; what is no name is refused, and without one it is an MQTT request", async () => {
  const { ask, askers, ran } = setUp({ record: { ...aRecord() } });
  await ask("run", { job_name: "sort-spikes", requested_by: " ada@lab " });
  await ask("rerun", { run_name: RUN, requested_by: "Ada Łovelace" });
  await ask("cancel", { run_name: RUN, requested_by: "ada@lab" });
  await ask("run", { job_name: "sort-spikes" });
  await ask("cancel", { run_name: RUN, requested_by: null });
  deepEqual(askers, ["ada@lab", "Ada Łovelace", "ada@lab", "an MQTT request", "an MQTT request"]);
  for (const odd of ["a\u001b[31m", "a\u202eb", "a\nb", "x".repeat(201), " ", "", 7, {}, "\ud800"]) {
    const { status, error } = await ask("run", { job_name: "sort-spikes", requested_by: odd });
    equal(status, "error");
    match(String(error), /of who asks|needs the field "requested_by"/);
    // deno-lint-ignore no-control-regex
    doesNotMatch(String(error), /[\u0000-\u001f\u202e]/);
  }
  equal(ran.length, 3);
});

Deno.test("an answer goes to the topic below response/ that the request names, with what it is known by, and to no other", async () => {
  const { actions } = setUp();
  const published: { topic: string; correlationData?: Uint8Array }[] = [];
  const broker = {
    publish: (topic: string, _body: string, { correlationData }: { correlationData?: Uint8Array }) => {
      published.push({ topic, ...(correlationData ? { correlationData } : {}) });
      return Promise.resolve();
    },
  } as unknown as Broker;
  const correlationData = new Uint8Array([1, 2]);
  const wanted = [
    `${PREFIX}/response/mine`,
    "lab/me/answers",
    "lab/uploaded",
    `${PREFIX}/request/run`,
    "$SYS/x",
    `${PREFIX}/ERROR`,
  ];
  for (const responseTopic of wanted) {
    const asked = delivery({ topic: `${PREFIX}/request/check`, payload: new Uint8Array() });
    await handleControl({ ...asked, responseTopic, correlationData, done() {} }, {
      actions,
      broker,
      topicPrefix: PREFIX,
      signal: new AbortController().signal,
    });
  }
  const own = `${PREFIX}/response/check`;
  deepEqual(published.map(({ topic }) => topic), [`${PREFIX}/response/mine`, own, own, own, own, own]);
  ok(published.every((one) => one.correlationData === correlationData));
});
