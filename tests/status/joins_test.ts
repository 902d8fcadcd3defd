/** What the page says of rows that wait for others, and of all that one message has set off. */
import { deepEqual, doesNotMatch, match } from "node:assert/strict";
import type { RunRecord, RunView } from "../../ports.ts";
import { parseTable } from "../../catalog.ts";
import { joinedRunName, rowKey } from "../../flows/join_marks.ts";
import { selectRuns } from "../harness/model_history.ts";
import { waitsOf } from "../../status/joins.ts";
import { aRecord, aRunView } from "../harness/fakes.ts";
import { anApp, fakeView, PREFIX } from "../harness/page_kit.ts";

const ROOT = "abcdefghijkl";
const TABLE = parseTable(
  "job_name,mqtt_topic,image,needs\nsort,lab/up,x,\nlfp,lab/up,x,\nqc,lab/up,x,\n" +
    'report,,x,"sort, lfp, qc"\nother,,x,nobody\n',
  { topicPrefix: PREFIX },
);
const REPORT = TABLE.rows.find(({ jobName }) => jobName === "report")!;

function ended(jobName: string, more: Partial<RunRecord> = {}): RunRecord {
  return aRecord({ job_name: jobName, run_name: `${jobName}-aaaaaaaaaaaa`, root: ROOT, ...more });
}

function live(jobName: string, more: Partial<RunView> = {}): RunView {
  return aRunView({ jobName, runName: `${jobName}-bbbbbbbbbbbb`, root: ROOT, ...more });
}

const mark = (needed: string) => `${rowKey("report")}/${rowKey(needed)}`;

async function words(
  known: { live?: RunView[]; ended?: RunRecord[]; marks?: string[]; records?: RunRecord[] },
): Promise<string[]> {
  const { live = [], ended = [], marks = [] } = known;
  const view = fakeView({ table: TABLE, live, ended: known.records ?? ended, marks });
  const waits = await waitsOf({ root: ROOT, live, ended }, view, new AbortController().signal);
  return waits.map(({ jobName, words }) => `${jobName} ${words}`);
}

Deno.test("a row that waits is told with what it waits for: failed, cancelled, running, tried again, not begun", async () => {
  const sorted = ended("sort");
  deepEqual(await words({ ended: [sorted, ended("lfp", { status: "failed" })], marks: [mark("sort"), mark("qc")] }), [
    "report waits for lfp, which failed",
  ]);
  deepEqual(await words({ ended: [sorted, ended("lfp", { status: "cancelled" })], live: [live("qc")] }), [
    "report waits for lfp, which was cancelled, and for qc, which runs",
  ]);
  deepEqual(
    await words({
      ended: [ended("lfp", { status: "failed", retried_as: "lfp-2" })],
      marks: [mark("sort"), mark("qc")],
    }),
    ["report waits for lfp, which is tried again"],
  );
  // A rerun counts for more than the failure before it.
  deepEqual(
    await words({ ended: [sorted, ended("lfp", { status: "failed" })], live: [live("lfp", { state: "pending" })] }),
    [
      "report waits for lfp, which waits to run, and for qc, which has not begun",
    ],
  );
});

Deno.test("a row that has begun, or that this message does not concern, does not wait", async () => {
  const runName = joinedRunName({ root: ROOT, row: REPORT });
  const failed = ended("lfp", { status: "failed" });
  deepEqual(await words({ ended: [failed], live: [live("report", { runName })] }), []);
  // Its record is known to the store alone.
  deepEqual(await words({ ended: [failed], records: [ended("report", { run_name: runName })] }), []);
  deepEqual(await words({ ended: [ended("report")] }), []);
});

Deno.test("the page of a run says what waits for it, and leads to all of its message", async () => {
  const failed = ended("lfp", { status: "failed" });
  const all = [failed, ended("sort"), ended("qc"), ended("lfp", { run_name: "lfp-other", root: "lkjihgfedcba" })];
  const view = fakeView({ table: TABLE, ended: all, find: (filter) => Promise.resolve(selectRuns(all, filter)) });
  const { get } = anApp({ view });
  const text = await (await get(`/runs/${failed.run_name}`)).text();
  match(text, /report waits for lfp, which failed/);
  match(text, /<a href="\/\?root=abcdefghijkl">All of this message<\/a>/);
});

Deno.test("/?root= lists all runs of one message, live and ended, and what waits", async () => {
  const all = [
    ended("lfp", { status: "failed" }),
    ended("sort", { finished_at: "2026-03-01T09:00:00Z" }),
    ended("qc"),
    aRecord({ run_name: "stranger-a", root: "lkjihgfedcba" }),
  ];
  const view = fakeView({
    table: TABLE,
    live: [live("qc"), aRunView({ runName: "stranger-b", root: "lkjihgfedcba" })],
    ended: all,
    find: (filter) => Promise.resolve(selectRuns(all, filter)),
  });
  const { get } = anApp({ view });
  const text = await (await get(`/?root=${ROOT}`)).text();
  const names = [...text.matchAll(/<th scope="row"><a class="mono" href="\/runs\/([^"]+)"/g)].map(([, name]) => name);
  deepEqual(names.toSorted(), ["lfp-aaaaaaaaaaaa", "qc-aaaaaaaaaaaa", "qc-bbbbbbbbbbbb", "sort-aaaaaaaaaaaa"]);
  match(text, /<h2 id="all-h">4 runs<\/h2>/);
  match(text, /report waits for lfp, which failed/);
  doesNotMatch(text, /stranger/);
  // What is no root is no query.
  match(await (await get("/?root=../x")).text(), /id="live"/);
});

Deno.test("the overview says which rows wait, and says nothing where none does", async () => {
  const waiting = [{ root: ROOT, jobName: "report", missing: ["lfp"] }];
  const view = fakeView({ table: TABLE, waiting, ended: [ended("lfp", { status: "failed" })] });
  const text = await (await anApp({ view }).get("/")).text();
  match(text, /Rows that wait for others/);
  match(text, /report waits for lfp, which failed \(<a href="\/\?root=abcdefghijkl">all of this message<\/a>\)/);
  doesNotMatch(await (await anApp({ view: fakeView({ table: TABLE }) }).get("/")).text(), /id="waits"/);
});
