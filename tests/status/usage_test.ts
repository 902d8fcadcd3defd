import { deepEqual, equal, match, ok } from "node:assert/strict";
import { browserTest, openPage } from "../harness/browser.ts";
import { aRecord } from "../harness/fakes.ts";
import { anApp, fakeView, tableOf } from "../harness/page_kit.ts";
import { eventually } from "../harness/wait.ts";
import { inBrowser } from "./browser_kit.ts";

const GIB = 1024 ** 3;
const EVIL = '<img src=x onerror="alert(1)">';

const ended = (n: number, more: Parameters<typeof aRecord>[0] = {}) =>
  aRecord({
    run_name: `sort-spikes-aaaaaaaa${n + 1000}`.slice(0, 60),
    job_name: "sort-spikes",
    status: "succeeded",
    requests: { cpu: "2", memory: "16Gi" },
    limits: { memory: "32Gi" },
    started_at: new Date(Date.now() - 2 * 3600_000 - n * 1_000).toISOString(),
    finished_at: new Date(Date.now() - 3600_000 - n * 1_000).toISOString(),
    peak_memory: 9.1 * GIB,
    ...more,
  });

const ENDED = [...Array.from({ length: 6 }, (_, n) => ended(n)), ended(7, { job_name: EVIL, owner: EVIL })];
const app = () => anApp({ view: fakeView({ table: tableOf(), ended: ENDED }) });

Deno.test("usage shows hours by row with peaks and advice, and escapes what others wrote", async () => {
  const { get } = app();
  const page = await get("/usage");
  equal(page.status, 200);
  const text = await page.text();
  match(text, /6 runs, peak 9\.1 GiB of 32 GiB: 12 GiB would do/);
  ok(!text.includes("<img"), "markup of a row's name");
  const { lines, total } = await (await get("/usage.json?weeks=4&by=row")).json();
  equal(lines[0].job_name, "sort-spikes");
  deepEqual([lines[0].runs, Math.round(lines[0].core_hours), Math.round(lines[0].gib_hours)], [6, 12, 96]);
  deepEqual([total.runs, lines[0].peak_memory, lines[0].watched_runs], [7, 9.1 * GIB, 6]);
});

Deno.test("usage by owner and by week adds up to the same", async () => {
  const { get } = app();
  for (const by of ["owner", "week"]) {
    const { lines, total } = await (await get(`/usage.json?by=${by}`)).json();
    const sum = lines.reduce((all: number, { core_hours }: { core_hours: number }) => all + core_hours, 0);
    ok(Math.abs(sum - total.core_hours) < 1e-6, by);
    ok(lines.every((line: Record<string, unknown>) => typeof line[by] === "string"), by);
  }
});

Deno.test("usage is a sheet too, and what makes no sense in the query is not asked for", async () => {
  const { get } = app();
  const sheet = await get("/usage.csv?weeks=1");
  match(sheet.headers.get("content-type") ?? "", /^text\/csv/);
  match(await sheet.text(), /^week,job_name,owner,runs,failed,core_hours,gib_hours,gpu_hours\n/);
  deepEqual((await (await get("/usage.json?weeks=999&by=x")).json()).weeks, 4);
});

browserTest("usage goes on to its next page, and is not asked for again at each event", async () => {
  const many = Array.from({ length: 40 }, (_, n) => ended(n, { job_name: `row-${100 + n}` }));
  await inBrowser({ view: fakeView({ ended: many }) }, async ({ url, browser, events }) => {
    const { page, faults, close } = await openPage(browser, `${url}/usage`);
    const last = page.getByRole("table").getByRole("row").last();
    match(await last.innerText(), /row-129/);
    await eventually(() => events.size === 1);
    let asked = 0;
    page.on("request", (request) => asked += request.url().includes("/usage") ? 1 : 0);
    await page.getByRole("link", { name: "Next" }).click();
    await page.getByText("31–40 of 40").waitFor();
    match(await last.innerText(), /row-139/);
    equal(asked, 1);
    // Whatever the page does at an event, it has done when another page has heard of it too.
    const other = await openPage(browser, `${url}/runs`);
    await eventually(() => events.size >= 2);
    const heard = other.page.waitForRequest(`${url}/runs`);
    events.emit({ type: "broker", connected: true });
    await heard;
    equal(asked, 1);
    deepEqual(faults, []);
    await other.close();
    await close();
  });
});
