/** Is the store, or may write what the service has in it. */
import { deepEqual, equal, ok } from "node:assert/strict";
import type { HttpFault, ProxiedRequest } from "../harness/proxy.ts";
import { pause } from "../harness/wait.ts";
import type { Attack, Bed, Form } from "./bed.ts";
import { pour } from "./job.ts";
import { checkOrders } from "./publisher.ts";

const ACTOR = "store";

/** While `work` goes on, requests that match are answered by `fault`. */
async function withFault<T>(
  bed: Bed,
  matches: (request: ProxiedRequest) => boolean,
  fault: HttpFault,
  work: () => Promise<T>,
): Promise<T> {
  bed.storeGate.hook = (request) => matches(request) ? fault : "pass";
  try {
    return await work();
  } finally {
    bed.storeGate.hook = () => "pass";
    bed.storeGate.cut();
    await bed.table([]);
  }
}

const isTable = ({ method, path }: ProxiedRequest) => method === "GET" && path.includes("jobs.csv");

/** Asks for the table again; the answer must be short and plain. */
async function refused(bed: Bed): Promise<string> {
  const answer = await bed.ask("refresh", {});
  const words = JSON.stringify(answer);
  ok(words.length < 5_000, `${words.length} characters`);
  checkOrders("answer", words);
  const { rows } = (await bed.ask("check", {}))["data"] as { rows: number };
  equal(rows, 4, `the table has ${rows} rows now: ${words}`);
  return words;
}

function endless(headers: Record<string, string>, bytes: number): HttpFault {
  const piece = new Uint8Array(1 << 20).fill(120);
  return {
    async answer(response) {
      response.writeHead(200, headers);
      await pour(
        response,
        (function* () {
          for (let sent = 0; sent < bytes; sent += piece.length) yield piece;
        })(),
      );
    },
  };
}

export const STORE: readonly Attack[] = [
  {
    actor: ACTOR,
    name: "an answer of 3 GB for the table, and for a record",
    bound: "not taken; the old table stays",
    large: true,
    short: true,
    async run(bed, form: Form) {
      const bytes = form === "short" ? 300e6 : 3e9;
      await withFault(bed, isTable, endless({ "content-type": "text/csv", etag: '"x"' }, bytes), () => refused(bed));
      await withFault(
        bed,
        ({ method, path }) => method === "GET" && path.includes("normal-bigaaaaaaaaaa"),
        endless({}, bytes),
        async () => {
          equal((await bed.ask("rerun", { run_name: "normal-bigaaaaaaaaaa" }))["status"], "error");
        },
      );
      return `given up, of ${bytes / 1e6} MB each`;
    },
  },
  {
    actor: ACTOR,
    name: "a web page with 200, 64 KB of an error's words, XML of absurd depth, a redirect elsewhere",
    bound: "the old table stays; nobody else is asked",
    short: true,
    async run(bed) {
      const asked: string[] = [];
      await using stranger = Deno.serve({ hostname: "127.0.0.1", port: 0, onListen() {} }, ({ url, headers }) => {
        asked.push(`${url} ${headers.get("authorization")}`);
        return new Response("job_name,mqtt_topic,image\nevil,lab/evil,evil\n");
      });
      const location = `http://127.0.0.1:${stranger.addr.port}/jobs.csv`;
      const xml = { "content-type": "application/xml" };
      const long = "<Message>\x1b[2J://a:b@".repeat(6_000);
      const faults: HttpFault[] = [
        {
          status: 200,
          headers: { "content-type": "text/html" },
          body: "<html><body>Log in, please\x1b[2J</body></html>",
        },
        { status: 403, headers: xml, body: `<Error><Code>AccessDenied</Code>${long}</Error>` },
        { status: 400, headers: xml, body: "<a>".repeat(20_000) },
        { status: 301, headers: { ...xml, location }, body: "" },
        { status: 307, headers: { ...xml, location }, body: "" },
        { status: 200, headers: { "content-type": "text/csv" }, body: "" },
      ];
      for (const fault of faults) await withFault(bed, isTable, fault, () => refused(bed));
      deepEqual(asked, []);
      return `${faults.length} answers, the table stays`;
    },
  },
  {
    actor: ACTOR,
    name: "silence for 5 s at each call",
    bound: "messages run meanwhile",
    async run(bed) {
      await withFault(bed, () => true, { delayMs: 5_000 }, async () => {
        await bed.sendNormal();
        await bed.normalRan();
      });
      return "ran";
    },
  },
  {
    actor: ACTOR,
    name: "records of other shape: wrong types, other names, payloads elsewhere, 3 MB, escapes",
    bound: "not believed, not run, not shown",
    short: true,
    turnMs: 100,
    async run(bed) {
      const runs = bed.env["RUNS_URL"]!;
      const record = {
        run_name: "",
        job_name: "normal",
        status: "succeeded",
        reason: "Completed",
        message: "\x1b[2J<script>alert(1)</script>\u202e",
        exit_code: 0,
        topic: "lab/normal",
        payload: null,
        message_hash: "x",
        parent_run: null,
        root_run: "normal-aaaaaaaaaaaa",
        chain_depth: 0,
        image: "x",
        node: null,
        requests: {},
        limits: {},
        received_at: "2026-01-01T00:00:00Z",
        created_at: "2026-01-01T00:00:00Z",
        started_at: null,
        finished_at: "2026-01-01T00:00:00Z",
        log_url: "javascript:alert(1)",
      };
      const bad: Record<string, unknown> = {
        "normal-elsewhereaaa": { payload_object: `${runs}/../../other/secret` },
        "normal-otherbucketa": { payload_object: "s3://other/secret" },
        "normal-othernameaaa": { run_name: "normal-zzzzzzzzzzzz" },
        "normal-typesaaaaaaa": { exit_code: "0", topic: {}, requests: [] },
        "normal-largeaaaaaaa": { message: "x".repeat(3e6) },
        "normal-timesaaaaaaa": { finished_at: "never" },
        "normal-protoaaaaaaa": JSON.parse('{"__proto__":{"polluted":1},"chain_depth":-1}'),
      };
      for (const [name, changes] of Object.entries(bad)) {
        const text = JSON.stringify({ ...record, run_name: name, ...changes as Record<string, unknown> });
        await bed.s3.put(`${runs}/${name}.json`, text);
      }
      await bed.s3.put(`${runs}/normal-nojsonaaaaaa.json`, "[".repeat(100_000));
      await bed.s3.put(
        `${runs}/normal-escapeaaaaaa.json`,
        JSON.stringify({ ...record, run_name: "normal-escapeaaaaaa" }),
      );
      for (const name of [...Object.keys(bad), "normal-nojsonaaaaaa"]) {
        const answer = await bed.ask("rerun", { run_name: name });
        equal(answer["status"], "error", `${name} ran`);
        const page = await fetch(`${bed.page}/runs/${name}`);
        const text = await page.text();
        // 500: that the record is none is the fault of the store, and the log says why.
        ok([200, 404, 500].includes(page.status), `${name}: ${page.status}`);
        ok(text.length < 100_000 && !/at .*\.js:\d/.test(text), `${name}: ${text.slice(0, 300)}`);
      }
      const page = await (await fetch(`${bed.page}/runs/normal-escapeaaaaaa`)).text();
      checkOrders("page", page);
      ok(!page.includes("<script>alert") && !/href="javascript:/i.test(page), "the page holds a record's markup");
      await pause(0);
      return `${Object.keys(bad).length + 1} refused`;
    },
  },
];
