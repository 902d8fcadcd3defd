import { deepEqual, doesNotMatch, equal, match, ok } from "node:assert/strict";
import type { Page } from "playwright-core";
import type { RunView } from "../../ports.ts";
import { UnavailableError } from "../../ports.ts";
import { healthWords } from "../../status/health.ts";
import { EndStrip, endsWords } from "../../status/pages/ends.tsx";
import { pageOf } from "../../status/pages/lists.tsx";
import { SharedPages } from "../../status/shared_pages.ts";
import type { StatusView } from "../../status/view.ts";
import { axeFindings, browserTest, openPage } from "../harness/browser.ts";
import { busyView, LONG_NAME } from "../harness/busy_view.ts";
import { aRecord, aRunView } from "../harness/fakes.ts";
import { anApp, fakeView, tableOf, TOKEN } from "../harness/page_kit.ts";
import { eventually } from "../harness/wait.ts";
import { type InBrowser, inBrowser } from "./browser_kit.ts";

const DAY_MS = 24 * 3600_000;
const ago = (ms: number) => new Date(Date.now() - ms).toISOString();

Deno.test("the overview counts what runs, waits and failed within a day, each with a link to these runs", async () => {
  const live = [
    aRunView({ runName: "sort-a" }),
    aRunView({ runName: "sort-b", state: "ending" }),
    aRunView({ runName: "sort-c", state: "pending" }),
  ];
  const failed = { status: "failed", reason: "ExitCode" } as const;
  const ended = [
    aRecord({ run_name: "sort-1", ...failed, finished_at: ago(3600_000) }),
    aRecord({ run_name: "sort-2", ...failed, finished_at: ago(2 * DAY_MS) }),
    aRecord({ run_name: "sort-3", ...failed, finished_at: ago(3600_000), retried_as: "sort-4" }),
    aRecord({ run_name: "sort-4", finished_at: ago(1800_000) }),
  ];
  const { get } = anApp({ view: fakeView({ table: tableOf(), live, ended }) });
  const text = await (await get("/")).text();
  const tiles = [...text.matchAll(/<a class="tile[^"]*" href="([^"]+)"><b>(\d+)<\/b> <span>([^<]+)/g)];
  deepEqual(tiles.map(([, href, figure, words]) => [figure, words, href!.replaceAll("&amp;", "&")]), [
    ["2", "running", "/runs?state=running"],
    ["1", "waiting", "/runs?state=pending"],
    ["1", "failed in 24 h", "/runs?state=failed&time=24h"],
  ]);
  for (const [, href, figure] of tiles) {
    const list = await (await get(href!.replaceAll("&amp;", "&"))).text();
    equal([...list.matchAll(/<th scope="row">/g)].length, Number(figure));
  }
});

Deno.test("the overview tells the newest failures with their sentences, and none that was tried again", async () => {
  const ended = Array.from({ length: 9 }, (_, at) =>
    aRecord({
      run_name: `sort-${at}`,
      status: "failed",
      reason: "OOMKilled",
      message: `Sentence ${at}`,
      finished_at: ago(at * 1000),
      ...(at === 1 ? { retried_as: "sort-0" } : {}),
    }));
  const text = await (await anApp({ view: fakeView({ ended }) }).get("/")).text();
  deepEqual([...text.matchAll(/<p class="cut">(Sentence \d)/g)].map(([, words]) => words), [
    "Sentence 0",
    "Sentence 2",
    "Sentence 3",
    "Sentence 4",
    "Sentence 5",
  ]);
  match(text, /href="\/runs\/sort-0"/);
});

Deno.test("the overview pages, sorts and filters its rows and its live runs", async () => {
  const { get } = anApp({ view: busyView({ rows: 40, live: 30, ended: 400 }) });
  const ask = async (path: string) => await (await get(path)).json();
  const names = (data: { rows: { job_name: string }[] }) => data.rows.map(({ job_name }) => job_name);
  const first = await ask("/index.json?rows_sort=name");
  deepEqual([first.rows.length, first.rows_total, first.live.length, first.live_total], [15, 40, 7, 30]);
  const all = [...names(first), ...names(await ask("/index.json?rows_sort=name&rows_page=2"))];
  all.push(...names(await ask("/index.json?rows_sort=name&rows_page=3")));
  deepEqual(all, [...new Set(all)].sort());
  equal(all.length, 40);
  ok(names(await ask("/index.json?rows=LFP")).every((name) => name.includes("lfp")));
  const longest = await ask("/index.json?live_sort=longest");
  equal(longest.live[0].started_at, longest.live.map(({ started_at }: { started_at: string }) => started_at).sort()[0]);
  match(await (await get("/?rows=nothing")).text(), /No row has this in its name/);
  match(await (await get("/?rows=lfp&live_page=2")).text(), /<input type="hidden" name="live_page" value="2"/);
});

Deno.test("the overview opens each trouble into a sentence, and is shown without a history", async () => {
  const health = () => ({
    ok: false,
    ready: false,
    checks: { leader: "leading", broker: "not connected", watch: "silent", table: "8 rows" },
  });
  const view = fakeView({ tableFailure: "Cannot read the table: no such object" });
  const history = {
    ...view.history,
    lastEnds: () => Promise.reject(new UnavailableError("Cannot list: no connection")),
  };
  const answer = await anApp({ view: { ...view, history }, health }).get("/");
  equal(answer.status, 200);
  const text = await answer.text();
  match(text, /class="tag bad">in trouble</);
  match(text, /The broker is not connected: no message comes in/);
  match(text, /The cluster has told nothing for a while/);
  match(text, /Cannot read the table: no such object/);
  match(text, /There is no usable table yet/);
  match(text, /The history cannot be read now: Cannot list: no connection/);
  match(text, /<b>\?<\/b> <span>failed in 24 h/);
});

Deno.test("healthWords() is silent of what is as it should be, and names a check that it does not know", () => {
  const checks = { leader: "leading", broker: "connected", watch: "alive", table: "8 rows", spool: "3 MiB" };
  deepEqual(healthWords({ ok: true, ready: true, checks }, undefined), {
    state: "working",
    fine: ["leading", "broker connected", "8 rows", "spool: 3 MiB"],
    troubles: [],
  });
  const cannot = healthWords({ ok: true, ready: false, checks: { leader: "cannot lead: forbidden" } }, undefined);
  deepEqual([cannot.state, cannot.troubles], [
    "not ready",
    ["This replica cannot lead: forbidden. It handles no message."],
  ]);
});

Deno.test("a strip of ends tells outcomes by shape and class, and durations by height", () => {
  const at = (status: "succeeded" | "failed" | "cancelled", seconds: number) =>
    aRecord({ status, started_at: ago(seconds * 1000), finished_at: ago(0) });
  const ends = [at("succeeded", 100), at("succeeded", 25), at("failed", 100), at("cancelled", 100)];
  const text = String(EndStrip({ ends }));
  const paths = [...text.matchAll(/<path class="(.)" d="([^"]+)"/g)].map(([, name, path]) => [name, path!]);
  deepEqual(paths.map(([name]) => name), ["s", "f", "c"]);
  const [, succeeded] = paths[0]!;
  const tops = [...succeeded!.matchAll(/V(\d+)h/g)].map(([, top]) => Number(top));
  ok(tops[0]! < tops[1]!, "what took longer is higher");
  match(paths[1]![1]!, /z.+z/);
  doesNotMatch(text, /style=/);
  equal(endsWords(ends), "the last 4 ends: 2 succeeded, 1 failed, 1 cancelled; the last one cancelled");
  equal(endsWords([]), "no run has ended yet");
});

Deno.test("pageOf() gives the nearest page that there is", () => {
  const all = Array.from({ length: 31 }, (_, at) => at);
  deepEqual(pageOf(all, 2, 15).words, "16–30 of 31");
  deepEqual(pageOf(all, 99, 15).rows, [30]);
  deepEqual(pageOf(all, -3, 15).rows[0], 0);
  deepEqual(pageOf(all, 1.5, 15).page, 1);
  deepEqual(pageOf([], 1, 15), { rows: [], page: 1, pages: 1, total: 0, words: "0" });
});

Deno.test("pages that show themselves anew take turns, and who comes to a page does not wait for them", async () => {
  const shared = new SharedPages();
  const made: string[] = [];
  const make = (name: string) => () => (made.push(name), Promise.resolve({ data: name, html: () => name }));
  const again = Array.from({ length: 20 }, (_, at) => shared.read(`/${at}`, make(`again ${at}`), true));
  await shared.read("/7", make("new"));
  ok(made.length <= 3, made.join());
  const shown = await Promise.all(again);
  deepEqual(shown.map(({ data }) => data), Array.from({ length: 20 }, (_, at) => `again ${at}`));
});

Deno.test("pages that are asked for at once are made once, and never before they are asked for", async () => {
  const shared = new SharedPages();
  let made = 0;
  const gates: (() => void)[] = [];
  const make = async () => {
    const number = ++made;
    await new Promise<void>((resolve) => gates.push(resolve));
    return { data: number, html: () => `page ${number}` };
  };
  const first = Promise.all([shared.read("/", make), shared.read("/", make)]);
  await eventually(() => gates.length === 1);
  // The first one looks already: what it saw may be old.
  const later = Promise.all([shared.read("/", make), shared.read("/", make)]);
  gates[0]!();
  deepEqual((await first).map(({ data }) => data), [1, 1]);
  await eventually(() => gates.length === 2);
  gates[1]!();
  deepEqual((await later).map((page) => page.html()), ["page 2", "page 2"]);
  const failing = () => Promise.reject(new Error("no"));
  for (const _ of [1, 2]) equal(await shared.read("/", failing).catch((error) => error.message), "no");
  const again = shared.read("/", make);
  await eventually(() => gates.length === 3);
  gates[2]!();
  equal((await again).data, 3);
});

Deno.test("with 1,000 live runs and 300 rows the pages of lists weigh at most 120 KB", async () => {
  const { get } = anApp({ view: busyView() });
  for (const path of ["/", "/runs", "/runs?sort=longest", "/table"]) {
    const bytes = (await (await get(path)).arrayBuffer()).byteLength;
    ok(bytes <= 120_000, `${path} has ${bytes} bytes`);
  }
});

// ---------------------------------------------------------------- in a real browser

interface Served extends Pick<InBrowser, "url" | "events"> {
  open(path: string, options?: Parameters<typeof openPage>[2]): ReturnType<typeof openPage>;
}

async function served(view: StatusView, work: (served: Served) => Promise<void>): Promise<void> {
  const health = () => ({
    ok: true,
    ready: true,
    checks: { leader: "leading", broker: "connected", watch: "alive", table: "300 rows" },
  });
  await inBrowser({ view, token: TOKEN, health }, async ({ url, browser, events }) => {
    await work({ url, events, open: (path, options) => openPage(browser, url + path, options) });
  });
}

const PHONE = { viewport: { width: 390, height: 844 } };
const DESKTOP = { viewport: { width: 1440, height: 900 } };

browserTest("the overview has health, figures, failures, live runs and strips on the first screen", async (t) => {
  await served(busyView(), async ({ open }) => {
    for (const [name, options] of [["phone", PHONE], ["desktop", DESKTOP]] as const) {
      await t.step(name, async () => {
        const { page, close } = await open("/", options);
        const parts = ["#health .tag", "#figures .tile >> nth=2", "#failures .cut >> nth=1", "#live li >> nth=1"];
        for (const part of [...parts, "#rows .ends >> nth=2"]) {
          const box = await page.locator(part).first().boundingBox();
          ok(box && box.y + box.height <= options.viewport.height, `${part} ends at ${box && box.y + box.height}`);
        }
        await close();
      });
    }
  });
});

browserTest("long names widen no page, nothing scrolls within it, and a phone's controls can be hit", async (t) => {
  await served(busyView(), async ({ open }) => {
    for (const path of ["/", "/runs", `/runs?row=${encodeURIComponent(LONG_NAME)}`, "/runs?row=nobody", "/table"]) {
      for (const width of [320, 390, 720, 1440]) {
        await t.step(`${path} ${width}`, async () => {
          const { page, faults, close } = await open(path, { viewport: { width, height: 844 } });
          ok(
            await page.evaluate("document.scrollingElement.scrollWidth") as number <= width,
            "no wider than the screen",
          );
          deepEqual(await scrollers(page), []);
          if (width === 390) deepEqual(await smallTargets(page), []);
          deepEqual(faults, []);
          await close();
        });
      }
    }
  });
});

/** What scrolls within the page. */
async function scrollers(page: Page): Promise<unknown> {
  return await page.evaluate(`[...document.querySelectorAll("main *")].filter((one) =>
    /auto|scroll/.test(getComputedStyle(one).overflow) &&
    (one.scrollHeight > one.clientHeight + 1 || one.scrollWidth > one.clientWidth + 1) && one.tagName !== "TEXTAREA")
    .map((one) => one.outerHTML.slice(0, 120))`);
}

/** Controls lower or narrower than 24 px (WCAG 2.5.8), of those that can be seen. */
async function smallTargets(page: Page): Promise<unknown> {
  return await page.evaluate(`[...document.querySelectorAll("a,button,input,select,textarea,summary")].filter((one) => {
    const box = one.getBoundingClientRect();
    return one.checkVisibility() && !one.matches(".skip") && box.width > 1 && (box.height < 24 || box.width < 24);
  }).map((one) => one.outerHTML.slice(0, 120))`);
}

browserTest("axe finds nothing on the lists of a busy service, light, dark and narrow", async (t) => {
  await served(busyView(), async ({ open }) => {
    for (const path of ["/", "/?rows=none&live=none", "/runs", "/runs?row=lfp&state=odd&time=24h", "/table?rows=lfp"]) {
      for (const { viewport } of [PHONE, DESKTOP]) {
        await t.step(`${path} ${viewport.width}`, async () => {
          const { page, close } = await open(path, { viewport });
          deepEqual(await axeFindings(page), []);
          await close();
        });
      }
    }
  });
});

browserTest("an end is seen in an open overview within a second of its event", async () => {
  const live: RunView[] = [aRunView({ runName: "sort-abcdefgh2345", jobName: "sort-spikes" })];
  const view = fakeView({ table: tableOf(), live });
  const ended = [
    aRecord({ run_name: "sort-abcdefgh2345", status: "failed", message: "Out of memory: the limit is 8Gi" }),
  ];
  const past = fakeView({ ended });
  let isOver = false;
  const both = {
    ...view,
    liveRuns: () => isOver ? [] : live,
    get history() {
      return isOver ? past.history : view.history;
    },
  };
  await served(both, async ({ open, events }) => {
    const { page, close } = await open("/");
    await page.getByText("Live: changes show by themselves").waitFor({ timeout: 10_000 });
    // By the page's own clock: when it heard of the end, and when it showed it.
    await page.evaluate(`(() => {
      window.heard = 0;
      window.seen = 0;
      const source = new EventSource("/events");
      source.addEventListener("finished", () => { window.heard = performance.now(); });
      new MutationObserver(() => {
        if (!window.seen && document.body.textContent.includes("Out of memory")) window.seen = performance.now();
      }).observe(document.body, { childList: true, subtree: true });
      return new Promise((resolve) => { source.onopen = resolve; });
    })()`);
    isOver = true;
    events.emit({ type: "finished", record: ended[0]!, completionMs: 1 });
    await eventually(async () => await page.evaluate("window.seen") as number > 0);
    const [heard, seen] = await page.evaluate("[window.heard, window.seen]") as [number, number];
    ok(seen - heard <= 1_000, `${Math.round(seen - heard)} ms`);
    equal(await page.getByText("Nothing runs now.").count(), 1);
    await close();
  });
});

browserTest("lists change in place: pages, filters and orders keep the page, by keys too", async () => {
  await served(busyView(), async ({ open }) => {
    const { page, faults, close } = await open("/", DESKTOP);
    await page.evaluate("window.stays = true");
    const rows = page.locator("#rows");
    const next = rows.getByRole("link", { name: "Next" });
    await next.focus();
    await page.keyboard.press("Enter");
    await rows.getByText("16–30 of 300").waitFor({ timeout: 10_000 });
    match(page.url(), /\?rows_page=2$/);
    // The focus is where it was: on the way to the next page.
    ok(await page.evaluate("document.getElementById('rows').contains(document.activeElement)"));
    await page.getByPlaceholder("Filter rows").fill("lfp");
    await rows.getByText("1–15 of 50").waitFor({ timeout: 10_000 });
    await page.getByLabel("Order of rows").selectOption("name");
    await page.waitForURL("**/?rows=lfp&rows_sort=name");
    await rows.getByRole("link", { name: "lfp-power-100", exact: true }).waitFor({ timeout: 10_000 });
    equal(await page.evaluate("window.stays"), true);
    // Back is back: to the page as it was.
    await page.goBack();
    await page.waitForURL("**/?rows=lfp");
    await rows.getByText("1–15 of 50").waitFor({ timeout: 10_000 });
    equal(await page.getByPlaceholder("Filter rows").inputValue(), "lfp");
    deepEqual(faults, []);
    await close();
  });
});

browserTest("times are UTC, or local ones where somebody asks for them, also after a change", async () => {
  await served(busyView({ rows: 3, live: 3, ended: 9 }), async ({ open, events }) => {
    const { page, close } = await open("/runs?state=ended", { ...DESKTOP, timezoneId: "Asia/Tokyo" });
    const time = page.locator("#runs time").first();
    const utc = await time.textContent();
    await page.getByRole("button", { name: "Show local times" }).click();
    const local = await time.textContent();
    equal(Date.parse(`${local}Z`) - Date.parse(`${utc}Z`), 9 * 3600_000);
    await page.getByText("Times are local (Asia/Tokyo).").waitFor();
    events.emit({ type: "broker", connected: true });
    await page.reload();
    equal(await page.locator("#runs time").first().textContent(), local);
    await page.getByRole("button", { name: "Show UTC" }).click();
    equal(await page.locator("#runs time").first().textContent(), utc);
    await close();
  });
});
