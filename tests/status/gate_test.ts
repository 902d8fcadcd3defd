import { deepEqual, equal, match, notEqual, ok } from "node:assert/strict";
import { Counts } from "../../status/gate.ts";
import { HttpServer } from "../../status/http_server.ts";
import { aRunView } from "../harness/fakes.ts";
import { anApp, fakeView, form, ORIGIN, TOKEN } from "../harness/page_kit.ts";

/** Sends bytes as they are and gives the status of what comes back; undefined: closed without an answer. */
async function statusOf(port: number, bytes: string): Promise<number | undefined> {
  using conn = await Deno.connect({ hostname: "127.0.0.1", port });
  await conn.write(new TextEncoder().encode(bytes));
  const buffer = new Uint8Array(4096);
  const length = await conn.read(buffer).catch(() => null) ?? 0;
  const status = /^HTTP\/1\.[01] (\d+)/.exec(new TextDecoder().decode(buffer.subarray(0, length)))?.[1];
  return status === undefined ? undefined : Number(status);
}

Deno.test("the page is answered under its own names only, however they are spelt", async (t) => {
  const options = { publicUrl: "https://status.lab.example/jobs", hosts: ["jobs.svc.cluster.local"] };
  const { ask } = anApp(options);
  const server = new HttpServer({ hostname: "127.0.0.1", port: 0 }, ask);
  const withHost = (host: string) => `GET / HTTP/1.1\r\nHost: ${host}\r\n\r\n`;
  const cases: [string, string, number | undefined][] = [
    // Addresses and names of this machine: a site cannot make them its own.
    ["an address", withHost("127.0.0.1:8080"), 200],
    ["an address of another network", withHost("10.1.2.3"), 200],
    ["a short address", withHost("127.1"), 200],
    ["an address as one number", withHost("2130706433"), 200],
    ["an IPv6 address", withHost("[::1]:8080"), 200],
    ["an IPv4 address in an IPv6 one", withHost("[::ffff:127.0.0.1]"), 200],
    ["localhost", withHost("localhost:8080"), 200],
    ["LOCALHOST", withHost("LOCALHOST"), 200],
    ["localhost with a dot", withHost("localhost."), 200],
    ["a name below localhost", withHost("page.localhost"), 200],
    ["a name without a dot", withHost("mqtt-job-listener:8080"), 200],
    ["the host of STATUS_URL", withHost("status.lab.example"), 200],
    ["the host of STATUS_URL in capitals, with dot and port", withHost("STATUS.Lab.Example.:443"), 200],
    ["a name of STATUS_HOSTS", withHost("jobs.svc.cluster.local"), 200],
    // Names that somebody else may own.
    ["another name", withHost("evil.example"), 421],
    ["another name with the page's port", withHost("evil.example:8080"), 421],
    ["a name that ends like ours", withHost("evilstatus.lab.example"), 421],
    ["a name that begins like an address", withHost("127.0.0.1.evil.example"), 421],
    ["a name with a dot at its end", withHost("evil.example."), 421],
    ["a name that begins like localhost", withHost("localhost.evil.example"), 421],
    ["two dots at the end", withHost("localhost.."), 400],
    // No names at all.
    ["no Host", "GET / HTTP/1.1\r\n\r\n", 400],
    ["no Host in HTTP/1.0", "GET / HTTP/1.0\r\n\r\n", 400],
    ["an empty Host", withHost(""), 400],
    ["two Hosts", "GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nHost: evil.example\r\n\r\n", 400],
    ["two equal Hosts", "GET / HTTP/1.1\r\nHost: localhost\r\nHost: localhost\r\n\r\n", 400],
    ["a user", withHost("localhost@evil.example"), 400],
    ["a user and a password", withHost("a:b@localhost"), 400],
    ["letters of another script", withHost("ｌocalhost"), 400],
    ["percent signs", withHost("%6cocalhost"), 400],
    ["a path", withHost("localhost/evil.example"), 400],
    ["blanks", withHost("localhost evil.example"), 400],
    ["a port that is none", withHost("localhost:99999"), 400],
    ["an address that is none", withHost("999.1.1.1"), 400],
    ["a whole URL as the target", "GET http://evil.example/ HTTP/1.1\r\nHost: localhost\r\n\r\n", 400],
    ["a whole URL as the target, with our name", "GET http://localhost/ HTTP/1.1\r\nHost: evil.example\r\n\r\n", 400],
    ["a target that looks like a host", "GET //evil.example/ HTTP/1.1\r\nHost: evil.example\r\n\r\n", 421],
    ["CONNECT", "CONNECT evil.example:443 HTTP/1.1\r\nHost: evil.example\r\n\r\n", undefined],
  ];
  for (const [name, bytes, status] of cases) {
    await t.step(name, async () => equal(await statusOf(server.port, bytes), status));
  }
  await server.close();
});

Deno.test("the name that STATUS_ADDR itself has is answered", async () => {
  const { get } = anApp({ listen: { hostname: "page.lab.example", port: 0 } });
  equal((await get("/healthz", { headers: { host: "page.lab.example:8080" } })).status, 200);
});

Deno.test("refusals bear the headers of security too", async (t) => {
  const { get } = anApp();
  const cases: [string, Response][] = [
    ["another name", await get("/", { headers: { host: "evil.example" } })],
    ["no such page", await get("/nowhere")],
    ["too large", await get("/actions/run", { method: "POST", headers: { "content-length": "2000000" } })],
    ["no right to act", await get("/actions/run", form({ job_name: "x" }, {}))],
  ];
  for (const [name, { status, headers }] of cases) {
    await t.step(`${name}: ${status}`, () => {
      ok(status >= 400);
      match(headers.get("content-security-policy") ?? "", /^default-src 'none'/);
      equal(headers.get("x-content-type-options"), "nosniff");
      equal(headers.get("x-frame-options"), "DENY");
      equal(headers.get("referrer-policy"), "same-origin");
      equal(headers.get("cache-control"), "no-store");
    });
  }
});

Deno.test("a body that is announced as too large, or whose bearer is wrong, is not read at all", async () => {
  let pulls = 0;
  const body = () => new ReadableStream<Uint8Array<ArrayBuffer>>({ pull: () => void pulls++ }, { highWaterMark: 0 });
  const { ask } = anApp();
  const post = (headers: Record<string, string>) =>
    ask(
      new Request(`${ORIGIN}/actions/run`, {
        method: "POST",
        body: body(),
        headers: { host: "localhost", ...headers },
      }),
    );
  equal((await post({ "content-length": "1000000000", authorization: `Bearer ${TOKEN}` })).status, 413);
  equal((await post({ "content-length": "1000000", authorization: "Bearer wrong" })).status, 401);
  equal((await post({ "content-length": "1000000", origin: "https://evil.example" })).status, 403);
  equal(pulls, 0);
});

Deno.test("one visitor's streams do not keep another one out, nor the health check", async () => {
  const refusals: string[] = [];
  const view = fakeView({ live: [aRunView({ runName: "sort-1" })], log: () => new ReadableStream() });
  const { ask, closing } = anApp({ view, onRefusal: (why) => void refusals.push(why) });
  const get = (path: string, visitor: string, over = new AbortController()) =>
    ask(new Request(ORIGIN + path, { headers: { host: "localhost" } }), { visitor, over: over.signal });
  const first = new AbortController();
  const answers = [await get("/events", "10.0.0.1", first)];
  for (let at = 1; at < 200; at++) answers.push(await get(at % 2 ? "/runs/sort-1/log" : "/events", "10.0.0.1"));
  const count = (status: number) => answers.filter((answer) => answer.status === status).length;
  deepEqual([count(200), count(503)], [64, 136]);
  equal(refusals.length, 136);
  notEqual(answers.at(-1)?.headers.get("retry-after"), null);
  equal((await get("/events", "10.0.0.2")).status, 200);
  equal((await get("/", "10.0.0.1")).status, 200);
  equal((await get("/healthz", "10.0.0.1")).status, 200);
  // A stream that ended leaves its place.
  first.abort();
  equal((await get("/events", "10.0.0.1")).status, 200);
  equal((await get("/events", "10.0.0.1")).status, 503);
  closing.abort();
});

Deno.test("Counts bounds all and each, and a place is given back once", () => {
  const counts = new Counts({ all: 3, ofVisitor: 2 });
  const [a, , third] = [counts.enter("a"), counts.enter("a"), counts.enter("a")];
  equal(third, undefined);
  ok(counts.enter("b"));
  equal(counts.enter("c"), undefined);
  a!();
  a!();
  ok(counts.enter("c"));
  equal(counts.enter("d"), undefined);
});
