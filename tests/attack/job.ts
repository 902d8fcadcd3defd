/** Writes the output of a run. The gate answers in the kubelet's place: there is no node. */
import type http from "node:http";
import { equal, ok } from "node:assert/strict";
import { eventually } from "../harness/wait.ts";
import { type Attack, type Bed, MAX_LOG_BYTES, PREFIX } from "./bed.ts";
import { checkOrders } from "./publisher.ts";

const ACTOR = "job";
const STAMP = "2026-01-02T03:04:05.000000000Z";

/** Writes pieces for as long as somebody takes them; resolves with the bytes taken. */
export async function pour(response: http.ServerResponse, pieces: Iterable<Uint8Array | string>): Promise<number> {
  let bytes = 0;
  for (const piece of pieces) {
    if (response.destroyed) return bytes;
    bytes += piece.length;
    if (!response.write(piece)) {
      await new Promise<void>((resolve) => {
        const go = () => {
          response.off("drain", go).off("close", go);
          resolve();
        };
        response.on("drain", go).on("close", go);
      });
    }
  }
  response.end();
  return bytes;
}

/** Runs the row `chatty` whose output is `pieces`; resolves with its name and its stored log when it has ended. */
async function runWith(bed: Bed, pieces: () => Iterable<Uint8Array | string>): Promise<{ run: string; log: string }> {
  const before = bed.jobs.created("chatty").length;
  await bed.publish("lab/chatty", "");
  const run = (await bed.created("chatty", before + 1)).at(-1)!.metadata!.name!;
  const pod = await bed.podOf(run);
  bed.apiGate.hook = ({ path }) =>
    !path.includes(`/pods/${pod.metadata!.name}/log`)
      ? "pass"
      : { answer: async (response) => void await pour(response.writeHead(200), pieces()) };
  try {
    await bed.setPod(pod, "running");
    await bed.setPod(pod, "ended");
    await eventually(
      () => bed.ear.json(`${PREFIX}/job_complete/chatty`).some(({ run_name }) => run_name === run),
      { timeoutMs: 120_000, what: async () => `the end of ${run}; ${await bed.service.logTail(15)}` },
    );
    equal(bed.ear.json(`${PREFIX}/job_complete/chatty`).filter(({ run_name }) => run_name === run).length, 1);
    return { run, log: await bed.s3.get(`${bed.env["LOGS_URL"]}/${run}.txt`) ?? "" };
  } finally {
    bed.apiGate.hook = () => "pass";
  }
}

function* times(count: number, piece: string): Generator<string> {
  for (let n = 0; n < count; n++) yield piece;
}

const ORDERS = "\x1b[2J\x1b]0;title\x07\x1b]8;;http://evil\x07\x9b31m\u202e\0\x08\x7f";

export const JOB: readonly Attack[] = [
  {
    actor: ACTOR,
    name: "lines of 64 KB, escapes, NUL, broken UTF-8; read by `logs` and by the page",
    bound: "whole in the store; no order at a terminal",
    short: true,
    turnMs: 100,
    async run(bed) {
      const { run, log } = await runWith(bed, function* () {
        yield `${STAMP} ${ORDERS}\n`;
        yield* times(20, `${STAMP} ${"x".repeat(65_536)}\n`);
        yield Uint8Array.of(...new TextEncoder().encode(`${STAMP} `), 0xff, 0xfe, 0x80, 0x0a);
        yield `${STAMP} the last line\n`;
      });
      ok(log.includes("the last line"), "the last line is missing");
      ok(log.length > 20 * 65_536, `${log.length} characters of log`);
      const { code, out } = await bed.command(["logs", run], { terminal: true });
      equal(code, 0, out.slice(-500));
      checkOrders("the command logs", out.replaceAll("\r\n", "\n"));
      const page = await (await fetch(`${bed.page}/runs/${run}`)).text();
      checkOrders("the page of the run", page);
      const answer = await fetch(`${bed.page}/runs/${run}/log`);
      await answer.body?.cancel();
      ok(/sandbox/.test(answer.headers.get("content-security-policy") ?? ""), "the log as text is not sandboxed");
      return `${log.length} characters kept`;
    },
  },
  {
    actor: ACTOR,
    name: "an endless log",
    bound: `cut at MAX_LOG_BYTES (${MAX_LOG_BYTES} bytes), and said`,
    turnMs: null,
    async run(bed) {
      const { log } = await runWith(bed, () => times(20 * MAX_LOG_BYTES / 65_536, `${STAMP} ${"y".repeat(65_500)}\n`));
      ok(log.length < MAX_LOG_BYTES + 100_000, `${log.length} characters`);
      ok(/MAX_LOG_BYTES/.test(log), `no word of it: ${log.slice(0, 300)} … ${log.slice(-300)}`);
      return `${log.length} of ${20 * MAX_LOG_BYTES} bytes kept`;
    },
  },
  {
    actor: ACTOR,
    name: "a million empty lines",
    bound: "kept",
    turnMs: null,
    async run(bed) {
      const { log } = await runWith(bed, () => times(1_000, `${STAMP} \n`.repeat(1_000)));
      ok(log.length >= 1e6, `${log.length} characters`);
      return `${log.length} characters kept`;
    },
  },
];
