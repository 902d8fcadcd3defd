/** Reaches the page, without its token. */
import { deepEqual, equal, ok } from "node:assert/strict";
import { HeldConnections } from "../harness/held_connections.ts";
import { eventually, pause } from "../harness/wait.ts";
import type { Attack, Bed } from "./bed.ts";

const ACTOR = "visitor of the page";

/** The answer to a request that no client would send. */
export async function raw(port: number, text: string): Promise<{ status: number; body: string }> {
  using conn = await Deno.connect({ hostname: "127.0.0.1", port });
  await conn.write(new TextEncoder().encode(text));
  await conn.closeWrite().catch(() => {});
  const decoder = new TextDecoder();
  const buffer = new Uint8Array(65_536);
  let all = "";
  for (let count = await conn.read(buffer); count !== null; count = await conn.read(buffer).catch(() => null)) {
    all += decoder.decode(buffer.subarray(0, count), { stream: true });
    if (all.length > 1e6) break;
  }
  return { status: Number(/^HTTP\/1\.1 (\d{3})/.exec(all)?.[1] ?? 0), body: all };
}

async function flood(bed: Bed, count: number, head: string, how?: { drip?: string; reads?: boolean }): Promise<string> {
  {
    using visitors = new HeldConnections(bed.port);
    for (let n = 0; n < count; n++) await visitors.open(head, how);
    await pause(1_000);
  }
  await eventually(async () => (await (await fetch(bed.page)).text()).includes("Live runs"));
  return `${count} connections, then the page as before`;
}

const HOSTS = [
  "evil.example",
  "evil.example:8080",
  "127.0.0.1.evil.example",
  "localhost.evil.example",
  "LOCALHOST.evil.example",
  "evil.example.",
  "127.0.0.1@evil.example",
  "evil.example#localhost",
  "evil.example/localhost",
  "evil.example?localhost",
  "evil.example\\localhost",
  "evil.example, localhost",
  "evil.example\tlocalhost",
  "xn--lcalhost-4xa.example",
  "[::1].evil.example",
  "[::ffff:127.0.0.1]evil",
  "0x7f.1.evil.example",
  "127.1.evil.example",
  "a".repeat(300) + ".example",
  "",
];

export const VISITOR: readonly Attack[] = [
  {
    actor: ACTOR,
    name: "1,000 connections that say nothing, or half of a head",
    bound: "the page answers afterwards",
    short: true,
    turnMs: null,
    run: (bed) => flood(bed, 1_000, "GET / HTTP/1.1\r\nHost: local"),
  },
  {
    actor: ACTOR,
    name: "600 bodies without the token that never end",
    bound: "the page answers afterwards",
    short: true,
    turnMs: null,
    run: (bed) =>
      flood(
        bed,
        600,
        "POST /actions/run HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer x\r\nContent-Length: 1000000\r\n\r\n",
        { drip: "x".repeat(4_096) },
      ),
  },
  {
    actor: ACTOR,
    name: "400 event streams that nobody reads",
    bound: "the page answers afterwards",
    turnMs: null,
    run: (bed) => flood(bed, 400, "GET /events HTTP/1.1\r\nHost: localhost\r\n\r\n", { reads: false }),
  },
  {
    actor: ACTOR,
    name: "40,000 requests sent ahead on 20 connections",
    bound: "the page answers afterwards",
    turnMs: null,
    run: (bed) => flood(bed, 20, "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n".repeat(2_000)),
  },
  {
    actor: ACTOR,
    name: `the Host header in ${HOSTS.length} spellings`,
    bound: "each is refused",
    short: true,
    async run(bed) {
      const answered: string[] = [];
      for (const host of HOSTS) {
        const { status } = await raw(bed.port, `GET / HTTP/1.1\r\nHost: ${host}\r\nConnection: close\r\n\r\n`);
        if (![0, 400, 421].includes(status)) answered.push(`${host.slice(0, 40)}: ${status}`);
      }
      deepEqual(answered, []);
      return `${HOSTS.length} refused`;
    },
  },
  {
    actor: ACTOR,
    name: "paths that lead out, a query of 60 KB, methods and heads of absurd size",
    bound: "4xx without a trace",
    short: true,
    async run(bed) {
      const targets = [
        "/runs/../../etc/passwd",
        "/runs/..%2f..%2fetc%2fpasswd/log",
        "/runs/%2e%2e%2f%2e%2e/log",
        "/runs/x%00/log",
        "/runs/%ff%fe/log",
        "//evil.example/",
        "/%",
        `/runs/${"x".repeat(10_000)}`,
        "http://evil.example/",
        "/actions/run/../../etc/passwd",
        "/actions/nothing",
        "/__proto__",
        "/runs/__proto__",
      ];
      let refused = 0;
      for (const target of targets) {
        const { status, body } = await raw(
          bed.port,
          `GET ${target} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n`,
        );
        ok(status === 0 || status >= 400 && status < 500, `${target.slice(0, 60)}: ${status}`);
        ok(!/root:x:|at .*\.ts:\d|file:\/\//.test(body), `${target.slice(0, 60)}: ${body.slice(0, 300)}`);
        refused++;
      }
      const odd = [
        `GET /?row=${"x".repeat(60_000)} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n`,
        `GET /?older=${
          "%ff".repeat(5_000)
        }&since=-1e99&until=x&state=__proto__ HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n`,
        `${"G".repeat(50_000)} / HTTP/1.1\r\nHost: localhost\r\n\r\n`,
        `GET / HTTP/1.1\r\nHost: localhost\r\n${"X: y\r\n".repeat(20_000)}\r\n`,
        "POST /actions/run HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET",
        "\x00\x01\x02\r\n\r\n",
      ];
      for (const text of odd) {
        const { status, body } = await raw(bed.port, text);
        ok(status < 500 && !/at .*\.ts:\d/.test(body), `${status} ${body.slice(0, 300)}`);
      }
      return `${refused + odd.length} requests`;
    },
  },
  {
    actor: ACTOR,
    name: "guessing the token, 40 at once",
    bound: "none passes, each waits; nothing starts",
    short: true,
    turnMs: null,
    async run(bed) {
      const before = bed.jobs.created("any").length;
      const guesses = Array.from({ length: 40 }, (_, n) => n % 2 === 0 ? bed.token.slice(0, -1) : `${bed.token}${n}`);
      const answers = await Promise.all(guesses.map(async (guess) => {
        const answer = await fetch(`${bed.page}/actions/run`, {
          method: "POST",
          headers: { authorization: `Bearer ${guess}`, "content-type": "application/json" },
          body: JSON.stringify({ job_name: "any" }),
        });
        await answer.body?.cancel();
        return answer.status;
      }));
      ok(answers.every((status) => status >= 400 && status < 504), answers.join());
      equal(bed.jobs.created("any").length, before);
      return `${new Set(answers).size === 1 ? answers[0] : [...new Set(answers)].sort().join(" or ")} for each`;
    },
  },
  {
    actor: ACTOR,
    name: "sessions guessed, planted and tossed; tokens guessed by signing in",
    bound: "none opens a session, none acts; nothing starts",
    short: true,
    turnMs: null,
    async run(bed) {
      const before = bed.jobs.created("any").length;
      const random = () => crypto.getRandomValues(new Uint8Array(32)).toBase64({ alphabet: "base64url" }).slice(0, 43);
      const headers = { "sec-fetch-site": "same-origin", "content-type": "application/x-www-form-urlencoded" };
      const send = async (path: string, body: string, cookie: string) => {
        const answer = await fetch(bed.page + path, {
          method: "POST",
          headers: { ...headers, cookie },
          body,
          redirect: "manual",
        });
        await answer.body?.cancel();
        return [answer.status, answer.headers.get("set-cookie")] as const;
      };
      const names = ["mjl-session", "__Host-mjl-session"];
      const tossed = Array.from({ length: 200 }, (_, n) => `${names[n % 2]}=${random()}`).join("; ");
      const cookies = [
        ...Array.from({ length: 20 }, () => `${names[0]}=${random()}`),
        tossed,
        `${names[0]}=${bed.token}`,
      ];
      for (const cookie of cookies) {
        const [status] = await send("/actions/run", "job_name=any", cookie);
        ok(status >= 400 && status < 504, `${status}`);
      }
      const answers = await Promise.all(
        Array.from({ length: 40 }, (_, n) => send("/sign-in", `token=${bed.token.slice(0, -1)}${n}`, tossed)),
      );
      ok(answers.every(([status, cookie]) => status >= 400 && status < 504 && cookie === null), answers.join());
      equal(bed.jobs.created("any").length, before);
      return `${cookies.length} cookies, ${answers.length} guesses`;
    },
  },
];
