/** Sheets and replays by the page: forms and programs, checked first or started. */
import { deepEqual, doesNotMatch, equal, match } from "node:assert/strict";
import type { EachAnswer, ReplayAnswer } from "../../control.ts";
import { anApp, fakeView, form, ORIGIN, tableOf, TOKEN } from "../harness/page_kit.ts";
import { parseTable } from "../../catalog.ts";

const COUNTS = {
  batch: "b1",
  total: 2,
  started: 1,
  exists: 0,
  refused: 1,
  waiting: 0,
  run_names: ["sort-abcdefgh2345"],
  refusals: [{ entry: "line 3", message: "<b>no</b>" }],
};
const EACH: EachAnswer = {
  ...COUNTS,
  errors: 1,
  problems: [{ severity: "error", line: 4, message: "x", text: "Line 4: <i>wrong</i>" }],
};
const REPLAY: ReplayAnswer = {
  ...COUNTS,
  superseded: 3,
  more: true,
  runs: [{ run_name: "sort-zzzzzzzz2345", finished_at: "2026-03-01T10:12:00Z", reason: "ExitCode", message: "exit 3" }],
};

function app() {
  const asked: unknown[][] = [];
  const none = () => Promise.reject(new Error("not asked"));
  const { get, signedIn } = anApp({
    actions: {
      run: none,
      cancel: none,
      rerun: none,
      each: (...words) => (asked.push(words), Promise.resolve(EACH)),
      replay: (...words) => (asked.push(words), Promise.resolve(REPLAY)),
    },
  });
  return { get, asked, signedIn };
}

Deno.test("a form checks a sheet, says what is wrong, and has it ready to be started", async () => {
  const { get, asked, signedIn } = app();
  const answer = await get(
    "/actions/each",
    signedIn(form({ job_name: "sort", sheet: "uuid\n<a>\n", do: "check" })),
  );
  equal(answer.status, 200);
  deepEqual(asked, [["sort", { sheet: "uuid\n<a>\n", dryRun: true, requestedBy: "the status page" }]]);
  const text = await answer.text();
  match(text, /2 lines are right\. Nothing was started\./);
  match(text, /Line 4: &lt;i&gt;wrong&lt;\/i&gt;/);
  match(text, /<textarea id="sheet-text"[^<>]*>uuid\n&lt;a&gt;\n<\/textarea>/);
});

Deno.test("a form starts a sheet, with a batch of its own", async () => {
  const { get, asked, signedIn } = app();
  const fields = { job_name: "sort", sheet: "uuid\na\n", batch: "b1", do: "start" };
  const text = await (await get("/actions/each", signedIn(form(fields)))).text();
  deepEqual(asked, [["sort", { sheet: "uuid\na\n", dryRun: false, batch: "b1", requestedBy: "the status page" }]]);
  match(text, /1 started, 0 there already, 0 wait for their turn, 1 refused\./);
  match(text, /line 3: &lt;b&gt;no/);
  match(text, /href="\/runs\/sort-abcdefgh2345"/);
});

Deno.test("a form shows what a replay would run, and starts it", async () => {
  const { get, asked, signedIn } = app();
  const fields = { job_name: "sort", state: "failed", since: "2d", reason: "", batch: "" };
  const shown = await (await get("/actions/replay", signedIn(form({ ...fields, do: "check" })))).text();
  match(shown, /2 runs would run again/);
  match(shown, /3 more were run again already/);
  match(shown, /There are older ones/);
  match(shown, /id="replay-since"[^<>]*value="2d"/);
  await get("/actions/replay", signedIn(form({ ...fields, do: "start" })));
  deepEqual(asked, [
    [{ jobName: "sort", since: "2d", dryRun: true, requestedBy: "the status page", state: "failed" }],
    [{ jobName: "sort", since: "2d", dryRun: false, requestedBy: "the status page", state: "failed" }],
  ]);
});

Deno.test("a program gets JSON, and nobody acts without the token or the fields", async () => {
  const { get, asked } = app();
  const send = (path: string, body: unknown, token = TOKEN) =>
    get(path, {
      method: "POST",
      headers: { authorization: `Bearer ${token}`, "content-type": "application/json", origin: ORIGIN },
      body: JSON.stringify(body),
    });
  deepEqual(await (await send("/actions/each", { job_name: "sort", sheet: "uuid\na\n" })).json(), EACH);
  deepEqual(await (await send("/actions/replay", { job_name: "sort", since: "1h" })).json(), REPLAY);
  equal(asked.length, 2);
  equal((await send("/actions/each", { job_name: "sort", sheet: "x" }, "wrong")).status, 401);
  equal((await send("/actions/each", { job_name: "sort" })).status, 400);
  equal((await send("/actions/replay", { job_name: "sort" })).status, 400);
  equal((await anApp().get("/actions/replay", form({ job_name: "a", since: "1h", token: TOKEN }))).status, 404);
  equal(asked.length, 2);
});

Deno.test("the page has the forms for who may act, and a template for each row with inputs", async () => {
  const topicPrefix = "services/mqtt_job_listener";
  const table = parseTable('job_name,mqtt_topic,image,inputs\n"a b",x,i,"uuid, mode=fast|slow"\nc,y,i,\n', {
    topicPrefix,
  });
  const { get, signedIn } = anApp({ view: fakeView({ table }) });
  const page = await (await get("/table", signedIn())).text();
  match(page, /action="\/actions\/each"/);
  match(page, /action="\/actions\/replay"/);
  match(page, /href="\/sheets\/a%20b\.csv"/);
  const template = await get("/sheets/a%20b.csv");
  deepEqual([template.headers.get("content-disposition"), await template.text()], [
    'attachment; filename="sheet.csv"',
    "uuid,mode\n",
  ]);
  equal((await get("/sheets/nobody.csv")).status, 404);
  const readOnly = anApp({ view: fakeView({ table: tableOf() }), token: undefined as never });
  doesNotMatch(await (await readOnly.get("/table")).text(), /Start many runs/);
});
