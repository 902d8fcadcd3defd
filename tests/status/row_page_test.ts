import { deepEqual, doesNotMatch, equal, match, ok } from "node:assert/strict";
import { parseTable, type Table } from "../../catalog.ts";
import { ModelHistory } from "../harness/model_history.ts";
import type { RunRecord, RunView } from "../../ports.ts";
import { rowSentences } from "../../status/pages/row_words.ts";
import { axeFindings, browserTest, openPage } from "../harness/browser.ts";
import type { StatusView } from "../../status/view.ts";
import { aRecord, aRunView, row } from "../harness/fakes.ts";
import { anApp, fakeView, PREFIX } from "../harness/page_kit.ts";
import { inBrowser } from "./browser_kit.ts";

const DAY_MS = 86_400_000;
const GIB = 1024 ** 3;

const TABLE = parseTable(
  [
    "job_name,mqtt_topic,image,memory_limit,schedule,inputs,enabled,cpu_request,owner",
    'sort,lab/up,lab/sort:1,16Gi,,"uuid, mode=fast|slow",,2,Ada',
    `plot,${PREFIX}/job_complete/sort,lab/plot:1,,,,paused,1,`,
    "nightly,,lab/night:1,,0 3 * * *,,,1,",
    `lost,${PREFIX}/job_complete/srot,lab/lost:1,,,,,1,`,
    "broken,lab/up,lab/broken:1,,,,,four,",
    "report.json,lab/json,lab/x:1,,,,,1,",
    `${"名".repeat(89)},lab/long,lab/x:1,,,,,1,`,
  ].join("\n") + "\n",
  { topicPrefix: PREFIX },
);

interface Run {
  readonly daysAgo: number;
  readonly minutes: number;
  readonly status?: RunRecord["status"];
  readonly jobName?: string;
  readonly peak?: number;
}

/** Records of those runs, numbered. */
function records(runs: readonly Run[]): RunRecord[] {
  return runs.map(({ daysAgo, minutes, status = "succeeded", jobName = "sort", peak }, at) => {
    const end = Date.now() - daysAgo * DAY_MS - 60_000;
    return aRecord({
      run_name: `${/^[a-z]+$/.test(jobName) ? jobName : "run"}-${String(at).padStart(12, "a")}`,
      job_name: jobName,
      status,
      message: status === "failed" ? "Out of memory: the limit is 16Gi" : "Completed",
      started_at: new Date(end - minutes * 60_000).toISOString(),
      finished_at: new Date(end).toISOString(),
      limits: { memory: "8Gi" },
      ...(peak === undefined ? {} : { peak_memory: peak }),
    });
  });
}

function viewOf(
  { runs = [], live = [], table = TABLE, more = {} }: {
    runs?: readonly Run[];
    live?: readonly RunView[];
    table?: Table | undefined;
    more?: Partial<StatusView>;
  } = {},
): StatusView {
  const ended = records(runs);
  const history = new ModelHistory();
  for (const record of ended) history.emit({ type: "finished", record, completionMs: 0 });
  const view = fakeView({
    ...(table ? { table } : {}),
    live,
    ended,
    find: (search) => history.find(search),
  });
  return { ...view, ...more };
}

function rowApp(...options: Parameters<typeof viewOf>) {
  const { get } = anApp({ view: viewOf(...options) });
  return {
    get,
    html: async (name: string) => {
      const answer = await get(`/rows/${encodeURIComponent(name)}`);
      equal(answer.status, 200);
      return (await answer.text()).replaceAll(/\s+/g, " ");
    },
    data: async (name: string) => await (await get(`/rows/${encodeURIComponent(name)}.json`)).json(),
  };
}

/** What a reader sees. */
const words = (html: string) => html.replaceAll(/<[^>]+>/g, "").replaceAll(/\s+/g, " ");

Deno.test("the page of a row says what its cells mean, whom to ask, and what comes before and after it", async () => {
  const text = words(await rowApp().html("sort"));
  match(text, /A message on lab\/up starts it\./);
  match(text, /Its message must have uuid; may choose mode from fast or slow\./);
  match(text, /It runs the image lab\/sort:1\./);
  match(text, /It is sure to get 2 cores\. ?It may use at most 16Gi of memory\./);
  match(text, /Then: plot/);
  match(text, /Whom to ask: Ada\./);
  match(text, /line 2 of the table/);
  const plot = await rowApp().html("plot");
  match(words(plot), /It runs when sort has succeeded\./);
  match(plot, /After: <a href="\/rows\/sort">sort<\/a>/);
});

Deno.test("the page of a row is slower or faster than a month ago, in words and by day", async () => {
  const runs = [
    ...Array.from({ length: 20 }, (_, at) => ({ daysAgo: at, minutes: 12 })),
    ...Array.from({ length: 20 }, (_, at) => ({ daysAgo: 31 + at, minutes: 10 })),
  ];
  const app = rowApp({ runs });
  const text = words(await app.html("sort"));
  match(
    text,
    /Last 30 days: median 12 min, 95 % within 12 min, 20 runs; 20 % longer than in the 30 days before \(10 min, 20 runs\)\./,
  );
  const data = await app.data("sort");
  deepEqual(data.last_30_days, { runs: 20, median_ms: 720_000, p95_ms: 720_000 });
  equal(data.days.length, 40);
  deepEqual(Object.keys(data.days[0]).sort(), ["cancelled", "day", "failed", "median_ms", "p95_ms", "succeeded"]);
  match(words(await rowApp({ runs: runs.slice(0, 20) }).html("sort")), /95 % within 12 min, 20 runs\./);
});

Deno.test("the page of a row says how many succeeded, and never 100 % where one failed", async () => {
  const many = Array.from({ length: 999 }, (_, at) => ({ daysAgo: at % 50, minutes: 1 }));
  const text = words(await rowApp({ runs: [...many, { daysAgo: 1, minutes: 1, status: "failed" }] }).html("sort"));
  match(text, /99\.9 % ?succeeded in 60 days/);
  match(text, /60 days: 999 of 1000 succeeded, 1 failed\./);
  match(words(await rowApp({ runs: many }).html("sort")), /100 % ?succeeded in 60 days/);
  match(words(await rowApp().html("sort")), /– ?succeeded in 60 days.*No run of it has ended/);
});

Deno.test("the page of a row shows peak memory against the limit, and nothing of it where nobody has looked", async () => {
  const runs = [{ daysAgo: 1, minutes: 5, peak: 4 * GIB }, { daysAgo: 2, minutes: 5, peak: 9.1 * GIB }];
  const text = words(await rowApp({ runs }).html("sort"));
  match(text, /The most that one of 2 runs had was 9\.1 GiB, 57 % of its limit of 16 GiB\./);
  match(
    words(await rowApp({ runs: runs.map((run) => ({ ...run, jobName: "plot" })) }).html("plot")),
    /9\.1 GiB; it has no limit\./,
  );
  doesNotMatch(await rowApp({ runs: [{ daysAgo: 1, minutes: 5 }] }).html("sort"), /Peak memory/);
});

Deno.test("the page of a row lists its live runs and last ends with their reasons, and leads to all of them", async () => {
  const live = [
    aRunView({ runName: "sort-now", jobName: "sort" }),
    aRunView({ runName: "sort-held", jobName: "sort", state: "pending", detail: "No node has a free GPU" }),
    aRunView({ runName: "other-1", jobName: "other" }),
  ];
  const app = rowApp({ live, runs: [{ daysAgo: 0, minutes: 3, status: "failed" }, { daysAgo: 1, minutes: 3 }] });
  const html = await app.html("sort");
  match(html, /<a class="mono" href="\/runs\/sort-now">/);
  match(words(html), /sort-held pending since its message came 3 min ago: No node has a free GPU/);
  doesNotMatch(html, /other-1/);
  match(html, /Out of memory: the limit is 16Gi/);
  match(html, /href="\/runs\?row=sort"/);
  match(html, /href="\/runs\?row=sort&amp;state=running"/);
  deepEqual((await app.data("sort")).live.map(({ run_name }: { run_name: string }) => run_name).sort(), [
    "sort-held",
    "sort-now",
  ]);
});

Deno.test("the page of a row says for which rows it waits", async () => {
  const waiting = [
    { root: "aaaabbbbcccc", jobName: "plot", missing: ["sort", "lfp"] },
    { root: "aaaabbbbcccc", jobName: "other", missing: ["lfp"] },
  ];
  const app = rowApp({ more: { waitingJoins: () => waiting } });
  const html = await app.html("plot");
  match(html, /Waits for sort, lfp \(<a href="\/\?root=aaaabbbbcccc">all of this message<\/a>\)/);
  deepEqual((await app.data("plot")).waits, [{ root: "aaaabbbbcccc", missing: ["sort", "lfp"] }]);
});

Deno.test("what is not known of the history is not said to be none of it", async () => {
  const history = { ...viewOf().history, reach: () => ({ runs: 20_000, kind: "newest" }) as const };
  const app = rowApp({ more: { history } });
  match(await (await app.get("/rows/srot")).text(), /and no run of it in what is known of the history/);
  const graph = await (await app.get("/graph")).text();
  match(graph, /no run known/);
  doesNotMatch(graph, /no run yet/);
});

Deno.test("the page of a row says when it is due next", async () => {
  const due = new Date(Date.now() + 2 * 3_600_000 + 30_000);
  const app = rowApp({ more: { nextDue: () => new Map([["nightly", due]]) } });
  const text = words(await app.html("nightly"));
  match(text, /in 2 h 0 min/);
  match(text, /It runs by itself: 0 3 \* \* \* in the time zone UTC\./);
  equal((await app.data("nightly")).next_due, due.toISOString());
});

Deno.test("the page of a row says where to pause it and where to resume it, for the table alone says what runs", async () => {
  const more = { tableUrl: "s3://lab/jobs.csv" };
  const text = words(await rowApp({ more }).html("sort"));
  match(text, /Write paused into the cell enabled in line 2 of s3:\/\/lab\/jobs\.csv/);
  const waiting = [aRunView({ runName: "plot-1", jobName: "plot", state: "pending" })];
  const paused = words(await rowApp({ more, live: waiting }).html("plot"));
  match(paused, /plot ?paused line 3/);
  match(
    paused,
    /Write yes into the cell enabled in line 3 of s3:\/\/lab\/jobs\.csv, or empty it\. What waits \(1 now\) runs then\./,
  );
});

Deno.test("the page of a row has its problems with line, column and value, also where they keep it from running", async () => {
  const bad = await rowApp().html("broken");
  match(words(bad), /has errors, does not run ?line 6 of the table/);
  match(words(bad), /error Line 6, cpu_request &quot;four&quot;: not a Kubernetes quantity/);
  doesNotMatch(bad, /action="\/actions\/run"/);
  match(words(await rowApp().html("lost")), /warning Line 5, mqtt_topic .* did you mean &quot;sort&quot;/);
  doesNotMatch(await rowApp().html("sort"), /id="problems-h"/);
});

Deno.test("a row that the table has no more has a page as long as it has runs", async () => {
  const app = rowApp({ runs: [{ daysAgo: 1, minutes: 5, jobName: "gone" }] });
  const html = await app.html("gone");
  match(words(html), /no longer in the table/);
  match(html, /href="\/runs\/gone-/);
  doesNotMatch(html, /action="\/actions\/run"|pause-h/);
  equal((await app.data("gone")).in_table, false);
});

Deno.test("a row that neither table nor history knows is not found, and the nearest name is said", async () => {
  const { get } = rowApp();
  const answer = await get("/rows/srot");
  equal(answer.status, 404);
  match(await answer.text(), /There is no row &quot;srot&quot;.*did you mean &quot;sort&quot;\?/);
  const data = await get("/rows/srot.json");
  equal(data.status, 404);
  match((await data.json()).error, /did you mean "sort"/);
});

Deno.test("the page of a row says that the history cannot be read, and does not take the row for unknown", async () => {
  const history = { ...viewOf().history, find: () => Promise.reject(new Error("the disk is gone")) };
  for (const name of ["sort", "gone"]) {
    match(await rowApp({ more: { history } }).html(name), /The history cannot be read now: the disk is gone/);
  }
});

Deno.test("rows of any script and length have a page and a JSON, also those whose names end in .json", async () => {
  const long = "名".repeat(89);
  const app = rowApp();
  match(await app.html(long), new RegExp(`<h1>${long}</h1>`));
  equal((await app.data(long)).job_name, long);
  const graph = await (await app.get("/graph")).text();
  const href = /<a href="(\/rows\/report[^"]+)"/.exec(graph)?.[1];
  equal(href, "/rows/report%2Ejson");
  match(words(await (await app.get(href!)).text()), /A message on lab\/json starts it/);
  equal((await (await app.get(`${href}.json`)).json()).job_name, "report.json");
});

Deno.test("the page of a row with the most to show has at most 120 KB", async () => {
  const long = "名".repeat(89);
  const runs = Array.from({ length: 1_500 }, (_, at): Run => ({
    jobName: long,
    daysAgo: at / 25,
    minutes: 1 + at % 7,
    status: at % 3 ? "succeeded" : "failed",
    peak: GIB + at,
  }));
  const bytes = new TextEncoder().encode(
    await (await rowApp({ runs }).get(`/rows/${encodeURIComponent(long)}`)).text(),
  );
  ok(bytes.length <= 115 * 1024, `${bytes.length} bytes`);
});

Deno.test("rowSentences() says each cell in a sentence of its own", () => {
  const sentences = (changes: Parameters<typeof row>[0]) => rowSentences(row(changes), PREFIX);
  const has = (changes: Parameters<typeof row>[0], sentence: string) =>
    ok(sentences(changes).includes(sentence), `${sentence}\n${sentences(changes).join("\n")}`);
  has({ mqttTopic: `${PREFIX}/job_failed/sort` }, "It runs when `sort` has failed.");
  has({ mqttTopic: `${PREFIX}/group_complete/sort` }, "It runs when `sort` has succeeded with all its items.");
  has({ mqttTopic: `${PREFIX}/job_complete/+` }, `A message on \`${PREFIX}/job_complete/+\` starts it.`);
  has({ needs: ["a", "b"] }, "It runs once when `a` and `b` have all succeeded for the same message.");
  has({ schedule: { everySeconds: 1800 } }, "It runs by itself: `every 30m` in the time zone UTC.");
  has({ when: "payload.a > 1" }, "Only where `payload.a > 1` is true.");
  has({ forEach: { from: "numbers", first: 1, last: 24 } }, "Each item of `1..24` is a run of its own.");
  has({ enabled: "no" }, "It is switched off: messages do not start it, a person still can.");
  has({ parallelism: 3, completions: 100 }, "A run has 100 parts, 3 at a time.");
  has({ memoryLimit: "8Gi", memoryLimits: ["8Gi", "16Gi"] }, "Out of memory, it is tried again with 16Gi.");
  has({ gpu: 2, gpuProduct: ["A10"] }, "It needs 2 GPUs, model `A10`.");
  has(
    { retries: 2, retryOn: [{ first: 75, last: 75 }, { reason: "NodeLost" }] },
    "A run that failed is tried again where it ended with `75` or `NodeLost`, up to 2 times.",
  );
  has({ activeDeadlineSeconds: 3600 }, "A run that has not ended after 1 h 0 min fails.");
  has({ maxRuns: 1, whenBusy: "latest" }, "At most 1 run at a time; of further ones the newest waits.");
  has(
    { output: ["s3://lab/x.zip"], skipExisting: true },
    "Its result is at `s3://lab/x.zip`; where that is there already, nothing runs.",
  );
  has({ env: [{ from: "value", name: "MODE", value: ["secret words"] }] }, "Variables: `MODE`.");
  ok(!sentences({ env: [{ from: "value", name: "MODE", value: ["secret words"] }] }).join().includes("secret words"));
});

Deno.test("the page of a row escapes what its cells and names hold", async () => {
  const evil = `"'><script>alert(1)</script>`;
  const table = parseTable(
    `job_name,mqtt_topic,image,owner\n"${evil.replaceAll('"', '""').replace("/", "")}",lab/x,i,<img>\n`,
    {
      topicPrefix: PREFIX,
    },
  );
  const html = await rowApp({ table }).html(evil.replace("/", ""));
  equal(html.match(/<script/g)?.length, 1);
  doesNotMatch(html, /<img/);
});

// ---------------------------------------------------------------- in a real browser

browserTest("axe finds nothing on the page of a row, and nothing is wider than a phone", async (t) => {
  const runs = Array.from({ length: 300 }, (_, at): Run => ({
    daysAgo: at / 6,
    minutes: 1 + at % 7,
    status: at % 5 ? "succeeded" : at % 2 ? "failed" : "cancelled",
    peak: GIB * (1 + at % 4),
    jobName: at % 3 ? "sort" : "名".repeat(89),
  }));
  const view = viewOf({ runs, live: [aRunView({ jobName: "sort" })] });
  await inBrowser({ view, token: "a token" }, async ({ url, browser }) => {
    for (const name of ["sort", "名".repeat(89), "broken"]) {
      for (const width of [1440, 390]) {
        await t.step(`${name.slice(0, 10)} ${width}`, async () => {
          const { page, faults, close } = await openPage(browser, `${url}/rows/${encodeURIComponent(name)}`, {
            viewport: { width, height: 900 },
          });
          for (const summary of await page.locator("summary").all()) await summary.click();
          deepEqual(await axeFindings(page), []);
          equal(await page.evaluate("document.scrollingElement.scrollWidth"), width);
          deepEqual(faults, []);
          await close();
        });
      }
    }
  });
});
