import { deepEqual, doesNotMatch, equal, match, ok, rejects } from "node:assert/strict";
import { RefusedError, type RunRecord, UnavailableError } from "../ports.ts";
import { LiveEvents, readQuery, selectRecords, serveStatus, statusApp, type StatusOptions } from "../status.ts";
import { aRecord, aRunView } from "./harness/fakes.ts";
import { fakeView, tableOf } from "./harness/page_kit.ts";

const ORIGIN = "http://127.0.0.1:8080";
const TOKEN = "correct horse battery";

interface Setup extends Partial<StatusOptions> {
  readonly closing?: AbortController;
}

function setUp({ closing = new AbortController(), ...options }: Setup = {}) {
  const calls: unknown[][] = [];
  const events = options.events ?? new LiveEvents();
  const call = (...words: unknown[]) => {
    calls.push(words);
    return Promise.resolve({ run_name: "sort-abcdefgh2345" });
  };
  const app = statusApp({
    listen: { hostname: "127.0.0.1", port: 0 },
    token: TOKEN,
    metrics: { contentType: "text/plain; version=0.0.4", render: () => Promise.resolve("up 1\n") },
    health: () => ({ ok: true, ready: false, checks: { broker: "connected" } }),
    view: fakeView(),
    actions: {
      run: (jobName, payload) => call("run", jobName, payload),
      cancel: (runName) => call("cancel", runName),
      rerun: (runName) => call("rerun", runName),
    },
    ...options,
    events,
  }, closing.signal);
  const ask = async (request: Request) => await app.fetch(request);
  const get = (path: string, init?: RequestInit) => ask(new Request(ORIGIN + path, init));
  return { ask, get, calls, events, closing };
}

function form(fields: Record<string, string>, headers: Record<string, string> = { origin: ORIGIN }): RequestInit {
  return { method: "POST", body: new URLSearchParams(fields), headers };
}

Deno.test("statusApp() answers /healthz and /readyz with the checks and a status code each", async () => {
  const { get } = setUp();
  const health = await get("/healthz");
  equal(health.status, 200);
  deepEqual(await health.json(), { ok: true, ready: false, checks: { broker: "connected" } });
  equal((await get("/readyz")).status, 503);
});

Deno.test("statusApp() answers /metrics as the metrics say", async () => {
  const answer = await setUp().get("/metrics");
  equal(answer.headers.get("content-type"), "text/plain; version=0.0.4");
  equal(await answer.text(), "up 1\n");
});

Deno.test("statusApp() sends pages with a policy that allows nothing inline but its own script and style", async () => {
  const answer = await setUp().get("/");
  equal(answer.status, 200);
  const policy = answer.headers.get("content-security-policy") ?? "";
  match(policy, /default-src 'none'; script-src 'sha256-[\w+/=]+'; style-src 'sha256-[\w+/=]+'/);
  doesNotMatch(policy, /unsafe/);
  equal(answer.headers.get("x-content-type-options"), "nosniff");
});

Deno.test("statusApp() on loopback answers no other name, unless STATUS_URL has it", async () => {
  const url = "http://status.example/";
  equal((await setUp().get("/", { headers: { host: "127.0.0.1" } })).status, 200);
  equal((await setUp().ask(new Request(url))).status, 421);
  equal((await setUp({ publicUrl: url }).ask(new Request(url))).status, 200);
});

Deno.test("statusApp() filters live runs and history by row, state and time", async () => {
  const seen: unknown[] = [];
  const view = fakeView({
    live: [aRunView({ runName: "sort-a", jobName: "sort" }), aRunView({ runName: "plot-b", jobName: "plot" })],
    records: (filter) => {
      seen.push(filter);
      return Promise.resolve([]);
    },
  });
  const { get } = setUp({ view });
  const text = await (await get("/?row=sort")).text();
  match(text, /sort-a/);
  doesNotMatch(text, /plot-b/);
  // A time is that of an end.
  doesNotMatch(await (await get("/?row=sort&since=2026-03-01T10:00")).text(), /id="live"/);
  const since = new Date("2026-03-01T10:00Z");
  deepEqual(seen, [{ jobName: "sort", limit: 51 }, { jobName: "sort", since, limit: 51 }]);
  doesNotMatch(await (await get("/?state=failed")).text(), /id="live"/);
  doesNotMatch(await (await get("/?state=running")).text(), /id="history"/);
});

Deno.test("statusApp() links to older runs, and each run is on one page", async () => {
  const all = Array.from({ length: 120 }, (_, at) => aRecord({ run_name: `sort-${String(at).padStart(3, "0")}` }));
  const { get } = setUp({ view: fakeView({ records: (filter) => Promise.resolve(selectRecords(all, filter)) }) });
  const seen: string[] = [];
  for (let path: string | undefined = "/"; path; path = nextOf(await lookAt(path))) ok(seen.length <= 120);
  equal(new Set(seen).size, 120);
  equal(seen.length, 120);

  async function lookAt(path: string): Promise<string> {
    const text = await (await get(path)).text();
    seen.push(
      ...[...text.matchAll(/<th scope="row"><a class="mono" href="\/runs\/(sort-\d+)"/g)].map(([, name]) => name!),
    );
    return text;
  }

  function nextOf(text: string): string | undefined {
    return /href="([^"]+)">Older runs/.exec(text)?.[1]?.replaceAll("&amp;", "&").replace(/#.*/, "");
  }
});

Deno.test("statusApp() shows a page although the history cannot be read", async () => {
  const view = fakeView({ records: () => Promise.reject(new UnavailableError("Cannot list: no connection")) });
  const answer = await setUp({ view }).get("/");
  equal(answer.status, 200);
  match(await answer.text(), /The history cannot be read now: Cannot list: no connection/);
});

Deno.test("statusApp() shows a run with its reason, message, children and the end of a long log", async () => {
  const record = aRecord({ run_name: "sort-1", status: "failed", message: "Out of memory: the limit is 8Gi" });
  const child = aRecord({ run_name: "plot-2", parent_run: "sort-1" });
  const log = "first line\n" + "x".repeat(99) + "\n" + "filler line\n".repeat(9_000) + "last line\n";
  const view = fakeView({
    ended: [record, child],
    records: (filter) => Promise.resolve(selectRecords([record, child], filter)),
    log: () => new Blob([log]).stream(),
  });
  const text = await (await setUp({ view }).get("/runs/sort-1")).text();
  match(text, /Out of memory: the limit is 8Gi/);
  match(text, /href="\/runs\/plot-2"/);
  match(text, /last line/);
  doesNotMatch(text, /first line/);
});

Deno.test("statusApp() answers 404 for runs that are none and for names that cannot be one", async () => {
  const asked: string[] = [];
  const view = fakeView({ onRecord: (name) => asked.push(name) });
  const { get } = setUp({ view });
  equal((await get("/runs/nobody")).status, 404);
  equal((await get("/runs/..%2F..%2Fetc")).status, 404);
  equal((await get("/runs/.live")).status, 404);
  equal((await get("/runs/nobody/log")).status, 404);
  deepEqual(asked, ["nobody", "nobody"]);
});

Deno.test("statusApp() streams the log of a live run as it grows", async () => {
  const { readable, writable } = new TransformStream<Uint8Array, Uint8Array>();
  let followed: boolean | undefined;
  const view = fakeView({
    live: [aRunView({ runName: "sort-1" })],
    log: ({ follow }) => {
      followed = follow;
      return readable;
    },
  });
  const answer = await setUp({ view }).get("/runs/sort-1/log");
  equal(answer.headers.get("content-type"), "text/plain; charset=utf-8");
  equal(answer.headers.get("content-security-policy"), "default-src 'none'; sandbox");
  const reader = answer.body!.pipeThrough(new TextDecoderStream()).getReader();
  const writer = writable.getWriter();
  for (const line of ["one\n", "two\n"]) {
    const [got] = await Promise.all([reader.read(), writer.write(new TextEncoder().encode(line))]);
    equal(got.value, line);
  }
  await writer.close();
  equal((await reader.read()).done, true);
  equal(followed, true);
});

Deno.test("statusApp() tells the source of a log that its reader went away", async () => {
  const gone = Promise.withResolvers<void>();
  const view = fakeView({
    live: [aRunView({ runName: "sort-1" })],
    log: ({ signal }) => {
      signal.addEventListener("abort", () => gone.resolve(), { once: true });
      // It says one word and then waits for output that never comes.
      return new ReadableStream({ start: (controller) => controller.enqueue(new TextEncoder().encode("one\n")) });
    },
  });
  const { ask } = setUp({ view });
  await using server = Deno.serve({ hostname: "127.0.0.1", port: 0, onListen: () => {} }, ask);
  const answer = await fetch(`http://127.0.0.1:${server.addr.port}/runs/sort-1/log`);
  const reader = answer.body!.getReader();
  await reader.read();
  await reader.cancel();
  await gone.promise;
});

Deno.test("statusApp() ends streams when the service stops", async () => {
  const view = fakeView({ live: [aRunView({ runName: "sort-1" })], log: () => new ReadableStream() });
  const { get, events, closing } = setUp({ view });
  const log = await get("/runs/sort-1/log");
  const stream = await get("/events");
  equal(events.size, 1);
  closing.abort(new DOMException("stop", "AbortError"));
  await rejects(log.text(), /stop/);
  equal(await stream.text(), "retry: 3000\n\n");
  equal(events.size, 0);
});

Deno.test("statusApp() tells browsers what happens, without payloads", async () => {
  const { get, events } = setUp();
  const reader = (await get("/events")).body!.pipeThrough(new TextDecoderStream()).getReader();
  equal((await reader.read()).value, "retry: 3000\n\n");
  events.emit({ type: "finished", record: aRecord({ run_name: "sort-1", payload: "secret\n\n" }), completionMs: 5 });
  const { value = "" } = await reader.read();
  match(value, /^event: finished\ndata: {"run_name":"sort-1",.*}\n\n$/);
  doesNotMatch(value, /secret/);
  await reader.cancel();
  equal(events.size, 0);
});

Deno.test("statusApp() drops events for a browser that does not read, and tells it so", async () => {
  const { get, events } = setUp();
  const stream = (await get("/events")).body!;
  for (let at = 0; at < 5_000; at++) events.emit({ type: "broker", connected: true });
  const reader = stream.pipeThrough(new TextDecoderStream()).getReader();
  let count = 0;
  for (;;) {
    const { value = "" } = await reader.read();
    if (value.startsWith("event: resync")) break;
    ok(++count < 1_000);
  }
  await reader.cancel();
});

Deno.test("statusApp() leaves no stream behind after HEAD", async () => {
  const { get, events } = setUp();
  equal((await get("/events", { method: "HEAD" })).status, 200);
  equal(events.size, 0);
});

Deno.test("statusApp() runs a row for the right token and leads the form to the run", async () => {
  const { get, calls } = setUp();
  const answer = await get("/actions/run", form({ job_name: "sort", payload: "{}", token: TOKEN }));
  equal(answer.status, 303);
  equal(answer.headers.get("location"), "/runs/sort-abcdefgh2345");
  deepEqual(calls, [["run", "sort", "{}"]]);
});

Deno.test("statusApp() takes a bearer token with JSON and answers JSON", async () => {
  const { get, calls } = setUp();
  const answer = await get("/actions/cancel", {
    method: "POST",
    headers: { authorization: `Bearer ${TOKEN}`, "content-type": "application/json" },
    body: JSON.stringify({ run_name: "sort-1" }),
  });
  deepEqual(await answer.json(), { run_name: "sort-abcdefgh2345" });
  deepEqual(calls, [["cancel", "sort-1"]]);
});

Deno.test("statusApp() refuses actions that may not be", async (t) => {
  const fields = { run_name: "sort-1", token: TOKEN };
  const cases: [string, number, RequestInit, Setup?][] = [
    ["without a token set", 403, form(fields), { token: undefined as never }],
    ["with a wrong token", 401, form({ ...fields, token: "wrong" })],
    ["with a wrong bearer token", 401, form(fields, { authorization: "Bearer wrong" })],
    ["with no token", 401, form({ run_name: "sort-1" })],
    ["from another site", 403, form(fields, { origin: "https://evil.example" })],
    ["from another site of the same name", 403, form(fields, { origin: ORIGIN, "sec-fetch-site": "cross-site" })],
    ["from nowhere", 403, form(fields, {})],
    ["from a sandbox", 403, form(fields, { origin: "null" })],
    ["with a name that is none", 400, form({ ...fields, run_name: "../x" })],
    ["without a name", 400, form({ token: TOKEN })],
    ["with a body that is too large", 413, form({ ...fields, payload: "x".repeat(1_100_000) })],
    ["with JSON that is none", 400, {
      method: "POST",
      headers: { authorization: `Bearer ${TOKEN}`, "content-type": "application/json" },
      body: "[1]",
    }],
  ];
  for (const [name, status, init, options] of cases) {
    await t.step(name, async () => {
      const { get, calls } = setUp(options);
      equal((await get("/actions/rerun", init)).status, status);
      deepEqual(calls, []);
    });
  }
});

Deno.test("statusApp() says in words why an action was not done", async (t) => {
  const cases: [Error, number, RegExp][] = [
    [new RangeError('Cannot run "x": no row has that job_name'), 404, /no row has that job_name/],
    [new RefusedError("Cannot create: forbidden"), 409, /Cannot create: forbidden/],
    [new UnavailableError("Cannot create: no connection"), 503, /no connection/],
    [new TypeError("internal detail"), 500, /log says why/],
  ];
  for (const [error, status, words] of cases) {
    await t.step(error.constructor.name, async () => {
      const fail = () => Promise.reject(error);
      const { get } = setUp({ actions: { run: fail, cancel: fail, rerun: fail } });
      const answer = await get("/actions/run", form({ job_name: "x", token: TOKEN }));
      equal(answer.status, status);
      match(await answer.text(), words);
    });
  }
});

Deno.test("selectRecords() gives the newest first and keeps to all parts of the filter", () => {
  const at = (hour: number, more: Partial<RunRecord>) =>
    aRecord({ run_name: `run-${hour}`, finished_at: `2026-03-01T${String(hour).padStart(2, "0")}:00:00Z`, ...more });
  const all = [at(1, {}), at(3, { status: "failed" }), at(2, { job_name: "plot" }), at(4, { status: "failed" })];
  const names = (filter: Omit<Parameters<typeof selectRecords>[1], "limit">) =>
    selectRecords(all, { limit: 10, ...filter }).map(({ run_name }) => run_name);
  deepEqual(names({}), ["run-4", "run-3", "run-2", "run-1"]);
  deepEqual(names({ status: "failed" }), ["run-4", "run-3"]);
  deepEqual(names({ jobName: "plot" }), ["run-2"]);
  deepEqual(names({ since: new Date("2026-03-01T02:00Z"), until: new Date("2026-03-01T04:00Z") }), ["run-3", "run-2"]);
});

Deno.test("readQuery() ignores what makes no sense", () => {
  deepEqual(readQuery(new URLSearchParams("row=+&state=great&since=tomorrow&until=2026-03-01")), {
    until: new Date("2026-03-01T00:00Z"),
  });
});

Deno.test("serveStatus() serves on a port of its own until it is closed", async () => {
  const events = new LiveEvents();
  const server = await serveStatus({
    listen: { hostname: "127.0.0.1", port: 0 },
    metrics: { contentType: "text/plain", render: () => Promise.resolve("") },
    health: () => ({ ok: true, ready: true, checks: {} }),
    view: fakeView({ table: tableOf() }),
    actions: undefined as never,
    events,
  });
  const stream = await fetch(`${server.url}/events`);
  const answer = await fetch(server.url);
  equal(answer.status, 200);
  await answer.body?.cancel();
  await server.close();
  await stream.text();
  await rejects(fetch(server.url));
});

Deno.test("serveStatus() names the address that it cannot have", async () => {
  const taken = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  const { port } = taken.addr as Deno.NetAddr;
  await rejects(
    serveStatus({ listen: { hostname: "127.0.0.1", port } } as StatusOptions),
    new RegExp(`Cannot serve the status page on 127.0.0.1:${port}: .*; set STATUS_ADDR`),
  );
  taken.close();
});

Deno.test("the page of an ended run has its Job from the record, without a call of the cluster", async () => {
  const job = { kind: "Job", spec: { backoffLimit: 7 } };
  const record = aRecord({ job });
  const view = { ...fakeView({ ended: [record] }), manifest: () => Promise.reject(new Error("asked")) };
  const { get } = setUp({ view });
  match(await (await get(`/runs/${record.run_name}`)).text(), /backoffLimit: 7/);
});
