import { deepEqual, doesNotMatch, equal, match, rejects } from "node:assert/strict";
import { serveStatus, type StatusOptions } from "../status.ts";
import { LiveEvents } from "../status/live_events.ts";
import { aRunView } from "./harness/fakes.ts";
import { anApp, fakeView, tableOf } from "./harness/page_kit.ts";

Deno.test("statusApp() answers /healthz and /readyz with the checks and a status code each", async () => {
  const { get } = anApp();
  const health = await get("/healthz");
  equal(health.status, 200);
  deepEqual(await health.json(), { ok: true, ready: false, checks: { broker: "connected" } });
  equal((await get("/readyz")).status, 503);
});

Deno.test("statusApp() answers /metrics as the metrics say", async () => {
  const answer = await anApp().get("/metrics");
  equal(answer.headers.get("content-type"), "text/plain; version=0.0.4");
  equal(await answer.text(), "up 1\n");
});

Deno.test("statusApp() sends pages with a policy that allows nothing inline but its own script and style", async () => {
  const answer = await anApp().get("/");
  equal(answer.status, 200);
  const policy = answer.headers.get("content-security-policy") ?? "";
  match(policy, /default-src 'none'; script-src 'sha256-[\w+/=]+'; style-src 'sha256-[\w+/=]+'/);
  doesNotMatch(policy, /unsafe/);
  equal(answer.headers.get("x-content-type-options"), "nosniff");
});

Deno.test("statusApp() answers 404 for runs that are none and for names that cannot be one", async () => {
  const asked: string[] = [];
  const view = fakeView({ onRecord: (name) => asked.push(name) });
  const { get } = anApp({ view });
  equal((await get("/runs/nobody")).status, 404);
  equal((await get("/runs/..%2F..%2Fetc")).status, 404);
  equal((await get("/runs/.live")).status, 404);
  equal((await get("/runs/nobody/log")).status, 404);
  deepEqual(asked, ["nobody", "nobody"]);
});

Deno.test("statusApp() ends streams when the service stops", async () => {
  const view = fakeView({ live: [aRunView({ runName: "sort-1" })], log: () => new ReadableStream() });
  const { get, events, closing } = anApp({ view });
  const log = await get("/runs/sort-1/log");
  const stream = await get("/events");
  equal(events.size, 1);
  closing.abort(new DOMException("stop", "AbortError"));
  await rejects(log.text(), /stop/);
  equal(await stream.text(), "retry: 3000\n\n");
  equal(events.size, 0);
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
