/** May publish below the prefix too: forged ends of runs, and requests. */
import { deepEqual, equal, ok } from "node:assert/strict";
import { envOf } from "../harness/job_watch.ts";
import { eventually, pause } from "../harness/wait.ts";
import { type Attack, type Bed, PREFIX } from "./bed.ts";
import { checkOrders } from "./publisher.ts";

const ACTOR = "publisher below the prefix";

/** Names that lead elsewhere, where somebody puts them into a path as they are. */
const PATHS = [
  "../../other/jobs/x",
  "..%2f..%2fother%2fjobs%2fx",
  "%2e%2e/%2e%2e/other/jobs/x",
  "x/../../../namespaces/kube-system/jobs/y",
  "x?dryRun=All",
  "x#y",
  "x;y",
  "..",
  ".",
  "/",
  "\\..\\..\\x",
  "x\u0000",
  "x\n",
  "\u202ex",
  "X",
  "x".repeat(400_000),
  "__proto__",
];

async function forgeEnd(bed: Bed, fields: Record<string, unknown> | string): Promise<void> {
  const text = typeof fields === "string" ? fields : JSON.stringify(fields);
  await bed.publish(`${PREFIX}/job_complete/normal`, text);
}

export const BELOW_PREFIX: readonly Attack[] = [
  {
    actor: ACTOR,
    name: "an end of a run that lives",
    bound: "not believed",
    short: true,
    async run(bed) {
      await bed.sendNormal();
      const jobs = await bed.created("normal", 1);
      const before = bed.jobs.created("after").length;
      const live = jobs[0]!.metadata!.name!;
      await forgeEnd(bed, { status: "succeeded", job_name: "normal", run_name: live, root_run: live, chain_depth: 0 });
      // A later one on the same topic is through, so the first one is too.
      await forgeEnd(bed, { status: "succeeded", run_name: "normal-aaaaaaaaaaaa", chain_depth: 0 });
      const after = await bed.created("after", before + 1);
      await pause(500);
      const ofLive = bed.jobs.created("after").filter((job) => envOf(job)["PAYLOAD_RUN_NAME"] === live);
      equal(ofLive.length, 0, "it started the next run");
      return `${after.length - before} run of a run that nobody knows, 0 of the live one`;
    },
  },
  {
    actor: ACTOR,
    name: "ends of depth -1, 1e99 and NaN, of parents such as `../../x`",
    bound: "at most one run each, within MAX_CHAIN_DEPTH",
    short: true,
    async run(bed) {
      const before = bed.jobs.created("after").length;
      const ends = [
        ...[-1, 1e99, "NaN", null, [], 1e308, 0.5].map((chain_depth, n) => ({
          run_name: `normal-depth${"abcdefg"[n]}aaaaaa`,
          chain_depth,
        })),
        ...PATHS.map((run_name) => ({ run_name, root_run: run_name, chain_depth: 0 })),
      ];
      for (const end of ends) await forgeEnd(bed, end);
      for (const text of ["[]", "null", "{", '{"run_name":{}}', '{"run_name":["../x"]}']) await forgeEnd(bed, text);
      await bed.normalRan();
      await pause(1_000);
      const jobs = bed.jobs.created("after").slice(before);
      ok(jobs.length <= ends.length + 5, `${jobs.length} runs of ${ends.length + 5} ends`);
      for (const { metadata } of jobs) {
        const notes = metadata?.annotations ?? {};
        const depth = Number(notes["mqtt-job-listener/chain-depth"] ?? 0);
        ok(Number.isSafeInteger(depth) && depth >= 0 && depth <= 32, `chain-depth ${depth}`);
      }
      return `${jobs.length} runs of ${ends.length + 5} ends`;
    },
  },
  {
    actor: ACTOR,
    name: "cancel, rerun and run of 17 names that are paths",
    bound: "refused; nothing elsewhere is asked for",
    short: true,
    async run(bed) {
      const [atApi, atStore] = [bed.apiGate.requests.length, bed.storeGate.requests.length];
      for (const name of PATHS) {
        for (const what of ["cancel", "rerun"]) {
          const answer = await bed.ask(what, { run_name: name });
          equal(answer["status"], "error", `${what} ${name.slice(0, 30)}`);
          checkWords(answer);
        }
        const answer = await bed.ask("run", { job_name: name, topic: name });
        equal(answer["status"], "error", `run ${name.slice(0, 30)}`);
        checkWords(answer);
      }
      const strange = [...bed.apiGate.requests.slice(atApi), ...bed.storeGate.requests.slice(atStore)]
        .filter((request) => /\.\.|%2e|other|kube-system|dryRun|__proto__/i.test(request));
      deepEqual(strange, []);
      return `${3 * PATHS.length} refused`;
    },
  },
  {
    actor: ACTOR,
    name: "requests of 1 MB in each field, nested, no JSON",
    bound: "answers under 10 KB",
    large: true,
    short: true,
    turnMs: 100,
    async run(bed) {
      const from = bed.ear.heard.length;
      const long = "x\x1b]0;a\x07".repeat(100_000);
      const texts = [
        JSON.stringify({ transaction: long, run_name: "a" }),
        JSON.stringify({ transaction: { a: { b: [long] } } }),
        JSON.stringify({ [long]: 1 }),
        "[".repeat(1_000_000),
        '{"transaction":'.repeat(50_000),
        long,
        "null",
        "[]",
      ];
      for (const what of ["cancel", "run", "check", `evil-${"y".repeat(60_000)}`]) {
        for (const text of texts) await bed.publish(`${PREFIX}/request/${what}`, text);
      }
      await bed.ask("check", {});
      const said = bed.ear.heard.slice(from).filter(({ topic }) => topic.startsWith(`${PREFIX}/response/`));
      for (const { text } of said) ok(text.length < 10_000, `an answer of ${text.length} characters`);
      checkOrders("log", await bed.service.log());
      return `${said.length} answers, the longest of ${Math.max(...said.map(({ text }) => text.length))} characters`;
    },
  },
  {
    actor: ACTOR,
    name: "3,000 requests at once",
    bound: "each is answered",
    turnMs: null,
    async run(bed) {
      const count = 3_000;
      const before = bed.answers("cancel").length;
      for (let n = 0; n < count; n += 100) {
        await Promise.all(
          Array.from(
            { length: 100 },
            (_, m) => bed.publish(`${PREFIX}/request/cancel`, JSON.stringify({ run_name: `no-such-run-${n + m}` })),
          ),
        );
      }
      await eventually(() => bed.answers("cancel").length >= before + count, {
        timeoutMs: 120_000,
        what: () => `${bed.answers("cancel").length - before} of ${count} answers`,
      });
      return `${count} answers`;
    },
  },
];

function checkWords(answer: Record<string, unknown>): void {
  const words = String(answer["error"]);
  ok(words.length < 4_000, `${words.length} characters`);
}
