import type { SeenMessage } from "../../observers/messages.ts";
import { deepEqual, doesNotMatch, equal, match, ok } from "node:assert/strict";
import type { Page } from "playwright-core";
import { parseTable } from "../../catalog.ts";
import { selectRuns } from "../harness/model_history.ts";
import type { GroupDetails } from "../../flows.ts";
import { groupPage } from "../../status/pages/group.tsx";
import { familyOf } from "../../status/family.ts";
import { messageRunsPage, readRunOrder } from "../../status/pages/message_runs.tsx";
import { tablePage, type TablePageInput } from "../../status/pages/table.tsx";
import { messagePage } from "../../status/pages/parts.tsx";
import { renderFor, type Visitor } from "../../status/pages/visitor.ts";
import { type RunsInput, runsPage } from "../../status/pages/runs.tsx";
import { runPage } from "../../status/pages/run.tsx";
import type { StatusView } from "../../status/view.ts";
import type { JobFacts, RunView } from "../../ports.ts";
import { axeFindings, browserTest, openPage } from "../harness/browser.ts";
import { aRecord, aRunView } from "../harness/fakes.ts";
import { anApp, anOverview, aRunPage, fakeView, PREFIX, tableOf } from "../harness/page_kit.ts";
import { type InBrowser, inBrowser } from "./browser_kit.ts";

const EVIL = `"'><script>window.hacked=1</script><img src=x onerror=window.hacked=1>`;
const NOW = new Date("2026-03-01T12:00:00Z");
const HEALTH = { ok: true, ready: true, checks: { broker: "connected" } };

/** The page `/table` for somebody who may act, or may not. */
function tablePageFor(input: TablePageInput, mayAct: Visitor["mayAct"] = "yes"): string {
  return renderFor({ mayAct, path: "/table" }, () => tablePage(input));
}

Deno.test("tablePage() has a form for each row that says which fields it takes", () => {
  const table = parseTable('job_name,mqtt_topic,image,inputs\n<b>a,x,i,"uuid, mode=fast|slow"\nb,x,i,\n', {
    topicPrefix: PREFIX,
  });
  const text = tablePageFor({ table, actions: true });
  match(text, /Run &lt;b&gt;a with its fields/);
  match(text, /<input id="run-0-uuid" name="field:uuid" required/);
  match(text, /<select id="run-0-mode" name="field:mode"><option value="fast">fast<\/option>/);
  doesNotMatch(text, /Run b with its fields/);
  doesNotMatch(tablePageFor({ table, actions: false }), /with its fields/);
});

Deno.test("tablePage() shows when rows with a schedule are due next, the soonest first", () => {
  const table = parseTable(
    "job_name,mqtt_topic,image,schedule,time_zone\na<,,i,0 3 * * *,Europe/Berlin\nb,x,i,every 30m,\n",
    { topicPrefix: PREFIX },
  );
  const nextDue = new Map([["a<", new Date("2026-03-02T02:00:00Z")], ["b", new Date("2026-03-01T12:30:00Z")]]);
  const text = tablePageFor({ table, nextDue, actions: true }).replaceAll(/\s+/g, " ");
  match(text, /Next by schedule.*>b<\/a>.*2026-03-01 12:30:00.*>a&lt;<\/a>.*2026-03-02 02:00:00/);
  match(text, /<code>0 3 \* \* \*<\/code> Europe\/Berlin, next <time datetime="2026-03-02T02:00:00.000Z">/);
  match(text, /<code>x<\/code> ?<div> ?<code>every 30m<\/code> UTC, next/);
  doesNotMatch(tablePageFor({ table, actions: true }), /Next by schedule/);
});

Deno.test("runPage() shows the GPUs of an ended run as of a live one", () => {
  match(runPage(aRunPage({ live: aRunView({ gpu: 2 }) })), /, 2 GPUs</);
  match(runPage(aRunPage({ record: aRecord({ gpu: 2 }) })), /, 2 GPUs</);
});

Deno.test("tablePage() shows a table's problems with line, column and value", () => {
  const cells = tablePageFor({ table: tableOf(), actions: true }).replace(/\s*<[^>]*>\s*/g, "|").replace(/\|+/g, "|");
  ok(cells.includes("|error|10|broken|cpu_request|four|not a Kubernetes quantity"));
});

Deno.test("tablePage() has no form that acts where no token is set", () => {
  match(tablePageFor({ table: tableOf(), actions: true }), /action="\/actions\/run"/);
  doesNotMatch(tablePageFor({ table: tableOf(), actions: false }), /actions\//);
});

Deno.test("tablePage() says what is wrong while there is no table", () => {
  const text = tablePageFor({ table: undefined, tableFailure: "Cannot read the table: no such object", actions: true });
  match(text, /Cannot read the table: no such object/);
  match(text, /There is no usable table yet/);
});

const GROUP: GroupDetails = {
  group: "sort-groupgroup22",
  jobName: "sort",
  topic: "lab/uploaded",
  root: "rootrootroot",
  rootRun: "sort-groupgroup22",
  receivedAt: new Date(NOW.getTime() - 60_000),
  isOpen: true,
  isCancelled: false,
  items: [
    { state: "succeeded", item: '"a.h5"', runName: "sort-aaaaaaaa2345" },
    { state: "failed", item: '"b.h5"', runName: "sort-bbbbbbbb2345" },
    { state: "begun", item: '"c.h5"', runName: "sort-cccccccc2345" },
    { state: "waiting", item: '"d.h5"' },
  ],
};
const { items: _items, ...GROUP_HEAD } = GROUP;
const OPEN_GROUP = { ...GROUP_HEAD, items: GROUP.items.map(({ state }) => state) };

Deno.test("a group is one line with how its items stand, in words and by shapes, and its items have no lines", async () => {
  const item = (index: number) =>
    aRunView({ runName: GROUP.items[index]!.runName!, jobName: "sort", group: GROUP.group, index });
  const view = { ...fakeView({ live: [item(2), aRunView()] }), openGroups: () => [OPEN_GROUP] };
  const text = (await (await anApp({ view }).get("/runs")).text()).replaceAll(/\s+/g, " ");
  match(text, /<a class="mono" href="\/groups\/sort-groupgroup22">sort-groupgroup22<\/a>/);
  match(text, /4 items: 1 succeeded, 1 failed, 1 running, 1 waiting/);
  match(
    text,
    /<span class="succeeded">●<\/span><span class="failed">✕<\/span><span class="running">▶<\/span><span class="waiting">·</,
  );
  doesNotMatch(text, /sort-cccccccc2345/);
});

Deno.test("the page of a group shows its items, those that failed first, and can cancel it", async () => {
  const view = { ...fakeView(), group: (name: string) => Promise.resolve(name === GROUP.group ? GROUP : undefined) };
  const { get, signedIn } = anApp({ view });
  const text = (await (await get(`/groups/${GROUP.group}`, signedIn())).text()).replaceAll(/\s+/g, " ");
  const order = [...text.matchAll(/<th scope="row">(\d+)<\/th>/g)].map(([, index]) => Number(index));
  deepEqual(order, [1, 2, 3, 0]);
  match(text, /<input type="hidden" name="run_name" value="sort-groupgroup22"/);
  equal((await get("/groups/sort-aaaaaaaa2345")).status, 404);
  const led = await get(`/runs/${GROUP.group}`);
  deepEqual([led.status, led.headers.get("location")], [303, `/groups/${GROUP.group}`]);
});

Deno.test("of a group that ended the history has one line, on one page only", async () => {
  const items = Array.from({ length: 70 }, (_, index) =>
    aRecord({
      run_name: `sort-item${index}`,
      job_name: "sort",
      group: GROUP.group,
      index,
      status: index === 3 ? "failed" : "succeeded",
      finished_at: new Date(NOW.getTime() - index * 60_000).toISOString(),
    }));
  const others = Array.from(
    { length: 60 },
    (_, at) => aRecord({ run_name: `other-${at}`, finished_at: new Date(NOW.getTime() - at * 90_000).toISOString() }),
  );
  const { get } = anApp({
    view: fakeView({ find: (filter) => Promise.resolve(selectRuns([...items, ...others], filter)) }),
  });
  const first = (await (await get("/runs")).text()).replaceAll(/\s+/g, " ");
  match(first, /70 items: 69 succeeded, 1 failed/);
  doesNotMatch(first, /sort-item/);
  const older = /href="([^"]+)" rel="next"/.exec(first)![1]!.replaceAll("&amp;", "&");
  const second = await (await get(older)).text();
  doesNotMatch(second, /sort-groupgroup22|sort-item/);
  equal(
    [first, second].flatMap((text) => [...text.matchAll(/href="\/runs\/other-\d+"/g)]).length,
    60,
  );
});

function someRuns(more: Partial<RunsInput>): string {
  return runsPage({
    now: NOW,
    query: { sort: "newest", page: 1 },
    words: { row: EVIL },
    faults: [],
    lines: [],
    reach: { runs: 1, kind: "newest" },
    rowNames: [EVIL],
    owners: [EVIL],
    ...more,
  });
}

const WAIT = { root: "abcdefghijkl", jobName: EVIL, words: EVIL, runNames: [EVIL] };

Deno.test("all pages escape what comes from outside", async (t) => {
  const table = tableOf(`"evil ${EVIL.replaceAll('"', '""')}","a/${EVIL.replaceAll('"', '""')}",x,1,1Gi,0`);
  const live = aRunView({
    jobName: EVIL,
    topic: EVIL,
    detail: EVIL,
    nodes: [EVIL],
    image: EVIL,
    limits: { [EVIL]: EVIL },
  });
  const record = aRecord({
    job_name: EVIL,
    message: EVIL,
    reason: EVIL,
    topic: EVIL,
    image: EVIL,
    node: EVIL,
    finished_at: EVIL,
    log_url: EVIL,
    parent_run: EVIL,
  });
  const relative = { ...familyOf([live], [])[0]!, run_name: EVIL, job_name: EVIL, parent_run: EVIL, message: EVIL };
  const family = {
    lines: [{ group: EVIL, depth: 0, items: [relative] }, { run: relative, depth: 1, queued_at: EVIL }],
    left: 1,
  };
  const parts = aRunPage({
    runName: EVIL,
    waits: [WAIT],
    ancestors: [EVIL],
    descendants: [relative],
    reruns: [relative],
    family,
    attempts: [{ run_name: EVIL, attempt: 1, reason: EVIL, memory_limit: EVIL, node: EVIL }],
    log: { text: EVIL, extent: "end" },
    payload: JSON.stringify({ [EVIL]: EVIL }),
    manifest: EVIL,
    actions: true,
  });
  const pages = {
    overview: anOverview({
      health: { state: "in trouble", fine: [EVIL], troubles: [EVIL] },
      live: [{ run: live }, {
        group: { group: EVIL, jobName: EVIL, topic: EVIL, receivedAt: NOW, states: ["failed"] },
      }],
      rows: [{ jobName: EVIL, owner: EVIL, running: 1, waiting: 0, ends: [record] }],
      failures: [record],
      pastFailure: EVIL,
      query: { live: EVIL, rows: EVIL },
      waits: [WAIT],
    }),
    "all of a message": messageRunsPage({
      now: NOW,
      root: "abcdefghijkl",
      reach: { runs: 1, kind: "newest" },
      runs: familyOf([live], [record]),
      family,
      waits: [WAIT],
      query: readRunOrder(new URLSearchParams({ sort: EVIL, state: EVIL })),
    }),
    table: tablePageFor({ table, tableFailure: EVIL, actions: true, query: { rows: "<script>", problems: EVIL } }),
    runs: someRuns({ lines: [{ live: { run: live } }, { record }], pastFailure: EVIL, faults: [EVIL] }),
    "no such row": someRuns({ suggestions: [EVIL] }),
    "live run": runPage({ ...parts, live }),
    "ended run": runPage({ ...parts, record, payloadNote: EVIL }),
    groups: someRuns({
      lines: [
        { live: { group: { group: EVIL, jobName: EVIL, topic: EVIL, receivedAt: NOW, states: ["failed"] } } },
        { record: { ...record, group: EVIL, index: 0 }, states: ["failed"] },
      ],
    }),
    group: groupPage({
      now: NOW,
      group: {
        ...GROUP,
        group: EVIL,
        jobName: EVIL,
        topic: EVIL,
        parentRun: EVIL,
      },
      items: [{ index: 0, state: "failed", item: EVIL, run_name: EVIL, run: relative }],
      runs: [relative],
      query: { state: EVIL, page: 1 },
      actions: true,
    }),
    item: runPage({ ...parts, record: { ...record, group: EVIL, index: 0, item: EVIL } }),
    message: messagePage({ title: EVIL, message: EVIL }).html(),
  };
  for (const [name, text] of Object.entries(pages)) {
    await t.step(name, () => {
      equal(text.match(/<script/g)?.length, 1);
      doesNotMatch(text, /<img/);
      doesNotMatch(text, /"'>/);
      ok(text.includes("&lt;script&gt;window.hacked=1"));
    });
  }
});

Deno.test("runPage() takes the colours of terminals out of the log", () => {
  const text = runPage(aRunPage({
    record: aRecord(),
    log: { text: "\u001b[31mred\u001b[0m", extent: "whole" },
  }));
  match(text, />red<\/pre>/);
});

Deno.test("pages show control characters and turns of direction as such, and cut what is long", () => {
  const odd = "a\u001b]0;title\u0007b\u202ec\u2066d\u0085e";
  const text = anOverview({
    live: [{ run: aRunView({ runName: odd, detail: "t".repeat(65_000) }) }],
    query: { live: odd },
  });
  // deno-lint-ignore no-control-regex
  doesNotMatch(text, /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u202a-\u202e\u2066-\u2069]/);
  ok(text.includes(String.raw`a\u001b]0;title\u0007b\u202ec\u2066d\u0085e`));
  doesNotMatch(text, /t{501}/);
});

// ---------------------------------------------------------------- in a real browser

const JOB: JobFacts = {
  ...aRunView(),
  manifest: () => ({ kind: "Job", spec: {} }),
  payload: new TextEncoder().encode(`{"uuid":"e1","note":${JSON.stringify(EVIL)}}`),
};

const CURATE: RunView = aRunView({
  runName: "curate-hgfedcba5432",
  jobName: "curate",
  topic: `${PREFIX}/job_complete/sort-spikes`,
  state: "pending",
  detail: "No node has 4Gi of memory free",
  parentRun: "sort-spikes-zzzzzzzz2345",
  gpu: 0,
  requests: { cpu: "1", memory: "4Gi" },
  nodes: [],
});

const FAILED = aRecord({
  run_name: "plot-qqqqqqqq2345",
  job_name: "plot",
  status: "failed",
  reason: "OOMKilled",
  exit_code: 137,
  message: "Out of memory: the limit is 2Gi",
  topic: `${PREFIX}/job_complete/curate`,
  image: "lab/plot:1",
  requests: { cpu: "1", memory: "2Gi" },
  parent_run: "curate-pppppppp2345",
  attempt: 2,
  first_run: "plot-qqqqqqqqqqqq2345",
  limits: { memory: "2Gi" },
  payload: '{"status":"succeeded","job_name":"curate","run_name":"curate-pppppppp2345"}',
  started_at: "2026-03-01T10:14:00Z",
  finished_at: "2026-03-01T10:15:30Z",
  log_url: "s3://lab/logs/plot-qqqqqqqq2345.txt",
  job: {
    apiVersion: "batch/v1",
    kind: "Job",
    metadata: { name: "plot-qqqqqqqq2345", namespace: "lab" },
    spec: { backoffLimit: 0, template: { spec: { containers: [{ name: "main", image: "lab/plot:1" }] } } },
  },
});
const ENDED = [
  FAILED,
  aRecord({
    run_name: "curate-pppppppp2345",
    job_name: "curate",
    topic: `${PREFIX}/job_complete/sort-spikes`,
    parent_run: aRecord().run_name,
    finished_at: "2026-03-01T10:13:45Z",
    started_at: "2026-03-01T10:12:02Z",
  }),
  aRecord(),
];

interface Served extends InBrowser {
  readonly live: RunView[];
  readonly calls: string[];
}

/** A served page with two live runs and two ended ones, and a browser. */
async function withBrowser(work: (served: Served) => Promise<void>, more: Partial<StatusView> = {}): Promise<void> {
  const live = [aRunView(), CURATE];
  const calls: string[] = [];
  const find: StatusView["history"]["find"] = (filter) => Promise.resolve(selectRuns(ENDED, filter));
  const view: StatusView = {
    ...fakeView({ table: tableOf(), live, ended: ENDED, find, job: JOB, messages: MESSAGES }),
    openGroups: () => [OPEN_GROUP],
    group: (name) => Promise.resolve(name === GROUP.group ? GROUP : undefined),
    ...more,
  };
  const note = (runName: string) => {
    calls.push(runName);
    return Promise.resolve({ run_name: aRunView().runName });
  };
  const checks = { leader: "leading", broker: "connected", watch: "alive", table: "8 rows" };
  await inBrowser({
    view,
    token: "a token",
    health: () => ({ ...HEALTH, checks }),
    actions: { run: note, cancel: note, rerun: note },
  }, async (served) => await work({ ...served, live, calls }));
}

/** By the link that a page has in the place of its form; leads back to that page. */
async function signIn(page: Page, link: string): Promise<void> {
  await page.getByRole("link", { name: link }).click();
  await page.getByLabel("Token").fill("a token");
  await page.getByRole("main").getByRole("button", { name: "Sign in" }).click();
}

const MESSAGES: readonly SeenMessage[] = (["runs", "ignored", "refused"] as const).map((outcome) => ({
  at: new Date("2026-03-01T10:00:00Z"),
  topic: "lab/a-topic-of-some-length/without-a-place-to-break-it",
  outcome,
  runs: outcome === "runs" ? [FAILED.run_name] : [],
  why: outcome === "refused" ? ["The message lacks the field uuid"] : [],
}));

browserTest("axe finds nothing on any page, light, dark and narrow", async (t) => {
  await withBrowser(async ({ url, browser }) => {
    const paths = [
      "/",
      "/runs",
      "/runs?row=nothing&state=odd",
      "/table",
      `/runs/${aRunView().runName}`,
      `/runs/${FAILED.run_name}`,
      "/messages?topic=lab/x",
      "/?root=rootrootroot",
      `/groups/${GROUP.group}`,
      "/nowhere",
    ];
    for (const path of paths) {
      for (const width of [1280, 360]) {
        await t.step(`${path} ${width}`, async () => {
          const { page, faults, close } = await openPage(browser, url + path, { viewport: { width, height: 900 } });
          deepEqual(await axeFindings(page), []);
          ok(await page.evaluate("document.scrollingElement.scrollWidth") as number <= width);
          deepEqual(faults.filter((fault) => !fault.includes("404")), []);
          await close();
        });
      }
    }
  });
});

browserTest("the page runs no script of a payload, a name or a log", async () => {
  const table = tableOf(`"evil ${EVIL.replaceAll('"', '""')}",a/b,x,1,1Gi,0`);
  const run = aRunView({ jobName: EVIL, topic: EVIL, detail: EVIL });
  const log = () => Promise.resolve(new Blob([EVIL + "\n"]).stream());
  const more = { table: () => table, liveRuns: () => [run], liveRun: () => run, log };
  await withBrowser(async ({ url, browser }) => {
    for (const path of ["/", "/runs", "/table", `/runs/${run.runName}`, `/runs/${run.runName}/log`]) {
      const { page, close } = await openPage(browser, url + path);
      ok((await page.textContent("body"))?.includes("window.hacked=1"));
      equal(await page.evaluate("window.hacked"), undefined);
      await close();
    }
  }, more);
});

browserTest("the overview shows a new run by itself", async () => {
  await withBrowser(async ({ url, browser, events, live }) => {
    const { page, close } = await openPage(browser, url);
    await page.getByText("Live: changes show by themselves").waitFor({ timeout: 10_000 });
    const run = aRunView({ runName: "fresh-abcdefgh2345", jobName: "fresh" });
    live.push(run);
    events.emit({ type: "created", run, createMs: 1, sinceReceiptMs: 1 });
    await page.getByRole("link", { name: run.runName }).waitFor({ timeout: 10_000 });
    await close();
  });
});

browserTest("a run's page shows its log as it grows", async () => {
  const { readable, writable } = new TransformStream<Uint8Array, Uint8Array>();
  const log: StatusView["log"] = (_, { follow }) => Promise.resolve(follow ? readable : undefined);
  await withBrowser(async ({ url, browser }) => {
    const { page, close } = await openPage(browser, `${url}/runs/${aRunView().runName}`);
    const writer = writable.getWriter();
    for (const line of ["step 1 of 2", `step 2 of 2 ${EVIL}`]) {
      await writer.write(new TextEncoder().encode(line + "\n"));
      await page.getByText(line).waitFor({ timeout: 10_000 });
    }
    await writer.close();
    await close();
  }, { log });
});

browserTest("a run's page that is open at its end offers to run it again", async () => {
  const run = aRunView({ runName: FAILED.run_name, jobName: FAILED.job_name });
  let isOver = false;
  const view = {
    liveRun: () => isOver ? undefined : run,
    record: () => Promise.resolve(isOver ? FAILED : undefined),
  };
  await withBrowser(async ({ url, browser, events }) => {
    const { page, close } = await openPage(browser, `${url}/runs/${run.runName}`);
    await signIn(page, "Sign in to cancel it");
    await page.getByRole("button", { name: "Cancel the run" }).waitFor();
    await page.getByText("Live: changes show by themselves").waitFor({ timeout: 10_000 });
    isOver = true;
    events.emit({ type: "finished", record: FAILED, completionMs: 1 });
    await page.getByRole("button", { name: "Run again" }).waitFor({ timeout: 10_000 });
    equal(await page.getByText("grows while it runs").count(), 0);
    await close();
  }, view);
});

browserTest("reading and acting need no script", async () => {
  await withBrowser(async ({ url, browser, calls }) => {
    const { page, close } = await openPage(browser, url, { javaScriptEnabled: false });
    await page.getByRole("region", { name: "Failures" }).getByRole("link", { name: FAILED.job_name }).click();
    await page.getByText("Out of memory: the limit is 2Gi").waitFor();
    // Opens without script too.
    await page.getByText("As YAML").click();
    await page.getByText("image: lab/plot:1").waitFor();
    await signIn(page, "Sign in to run it again");
    await page.waitForURL(`**/runs/${FAILED.run_name}`);
    await page.getByRole("button", { name: "Run again" }).click();
    await page.waitForURL(`**/runs/${aRunView().runName}?done=rerun`);
    await page.getByText("this is the new run").waitFor();
    deepEqual(calls, [FAILED.run_name]);
    await close();
  });
});

browserTest("the keyboard reaches the content first", async () => {
  await withBrowser(async ({ url, browser }) => {
    const { page, close } = await openPage(browser, url);
    await page.keyboard.press("Tab");
    equal(await page.evaluate("document.activeElement.textContent"), "Skip to the content");
    await page.keyboard.press("Enter");
    equal(await page.evaluate("document.activeElement.id"), "main");
    await close();
  });
});
