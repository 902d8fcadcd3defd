/** Is the API server. */
import { deepEqual, equal } from "node:assert/strict";
import type { HttpFault, ProxiedRequest } from "../harness/proxy.ts";
import { eventually, pause } from "../harness/wait.ts";
import type { Attack, Bed, Form } from "./bed.ts";
import { pour } from "./job.ts";
import { checkOrders } from "./publisher.ts";

const ACTOR = "API server";

const isCreate = ({ method, path }: ProxiedRequest) => method === "POST" && path.includes("/jobs");

/** The first call that matches is answered by `fault`, for a message that must run once all the same. */
async function once(bed: Bed, fault: HttpFault, matches = isCreate): Promise<void> {
  let played = 0;
  bed.apiGate.hook = (request) => matches(request) && played++ === 0 ? fault : "pass";
  try {
    await bed.sendNormal();
    await eventually(() => played > 0, { what: "the call" });
    await bed.normalRan();
  } finally {
    bed.apiGate.hook = () => "pass";
  }
}

/** Zeros, packed: a thousandth of their size. */
async function bomb(bytes: number): Promise<Uint8Array> {
  const zeros = new Uint8Array(1 << 20);
  let left = bytes;
  const stream = new ReadableStream<Uint8Array<ArrayBuffer>>({
    pull(controller) {
      if (left <= 0) return controller.close();
      controller.enqueue(zeros);
      left -= zeros.length;
    },
  });
  return await new Response(stream.pipeThrough(new CompressionStream("gzip"))).bytes();
}

const LONG = '\x1b[2J://a:b@ cannot denied the namespaces "'.repeat(1_500);

export const API_SERVER: readonly Attack[] = [
  {
    actor: ACTOR,
    name: "64 KB of words with each status, a web page with 200, no JSON",
    bound: "runs once; log without orders",
    short: true,
    async run(bed) {
      const json = { "content-type": "application/json" };
      const faults: HttpFault[] = [
        { status: 500, headers: json, body: JSON.stringify({ kind: "Status", message: LONG }) },
        { status: 503, headers: json, body: LONG },
        { status: 403, headers: json, body: JSON.stringify({ kind: "Status", message: `exceeded quota ${LONG}` }) },
        { status: 200, headers: { "content-type": "text/html" }, body: `<html>${LONG}</html>` },
        { status: 500, headers: json, body: "[".repeat(100_000) },
      ];
      for (const fault of faults) await once(bed, fault);
      checkOrders("log", await bed.service.log());
      return `${faults.length} answers`;
    },
  },
  {
    actor: ACTOR,
    name: "a gzip bomb of 3 GB",
    // 8 MiB are put together in one piece.
    turnMs: 100,
    large: true,
    bound: "left after 8 MiB; runs once",
    async run(bed, form: Form) {
      const body = await bomb(form === "short" ? 100e6 : 3e9);
      const headers = { "content-type": "application/json", "content-encoding": "gzip" };
      await once(bed, { answer: async (response) => void await pour(response.writeHead(500, headers), [body]) });
      return `${body.length} bytes of it`;
    },
  },
  {
    actor: ACTOR,
    name: "a redirect elsewhere",
    bound: "not followed, the token shown to nobody; runs once",
    short: true,
    async run(bed) {
      const asked: string[] = [];
      await using stranger = Deno.serve({ hostname: "127.0.0.1", port: 0, onListen() {} }, ({ url }) => {
        asked.push(url);
        return new Response("{}");
      });
      const headers = { location: `http://127.0.0.1:${stranger.addr.port}/x` };
      for (const status of [301, 307, 308]) await once(bed, { status, headers });
      deepEqual(asked, []);
      return "not followed";
    },
  },
  {
    actor: ACTOR,
    name: "Retry-After of years, at 429",
    bound: "an hour at most; other rows run",
    short: true,
    async run(bed) {
      let refused = 0;
      const before = bed.jobs.created("any").length;
      // Only of this row: what waits an hour would hold up the end of the test.
      bed.apiGate.hook = ({ method, path, body }) => {
        const isAny = isCreate({ method, path, body, headers: new Headers() }) &&
          new TextDecoder().decode(body).includes("lab/any/late");
        if (!isAny) return "pass";
        refused++;
        return { status: 429, headers: { "retry-after": "99999999999" }, body: "{}" };
      };
      try {
        await bed.publish("lab/any/late", "");
        await eventually(() => refused > 0);
        await bed.sendNormal();
        await bed.normalRan();
        equal(bed.jobs.created("any").length, before);
      } finally {
        bed.apiGate.hook = () => "pass";
      }
      return "others ran";
    },
  },
  {
    actor: ACTOR,
    name: "watches that send a line without an end, 100,000 bookmarks, no JSON",
    large: true,
    bound: "left and made again; runs once",
    short: true,
    async run(bed) {
      const watches: (() => Iterable<Uint8Array | string>)[] = [
        function* () {
          yield '{"type":"ADDED","object":{"x":"';
          for (let n = 0; n < 64; n++) yield "x".repeat(1 << 20);
        },
        function* () {
          const line = `${JSON.stringify({ type: "BOOKMARK", object: { metadata: { resourceVersion: "1" } } })}\n`;
          for (let n = 0; n < 100; n++) yield line.repeat(1_000);
        },
        function* () {
          yield `${LONG}\n{"type":"ADDED","object":null}\n{"type":"ADDED","object":[]}\n${"[".repeat(50_000)}\n`;
        },
      ];
      for (const lines of watches) {
        let played = 0;
        bed.apiGate.hook = ({ path }) =>
          /watch=(1|true)/.test(path) && /\/(jobs|pods)\?/.test(path) && played++ < 2
            ? { answer: async (response) => void await pour(response.writeHead(200), lines()) }
            : "pass";
        bed.apiGate.cut();
        await eventually(() => played > 0, { what: "a watch" });
        await pause(200);
        await bed.sendNormal();
        await bed.normalRan();
      }
      bed.apiGate.hook = () => "pass";
      bed.apiGate.cut();
      checkOrders("log", await bed.service.log());
      return `${watches.length} watches`;
    },
  },
];
