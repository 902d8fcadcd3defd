import { deepEqual, equal, ok } from "node:assert/strict";
import type { Page } from "playwright-core";
import { axeFindings, browserTest, openPage } from "../harness/browser.ts";
import { aRecord, aRunView } from "../harness/fakes.ts";
import { fakeView, PREFIX, tableOf } from "../harness/page_kit.ts";
import { type InBrowser, inBrowser } from "./browser_kit.ts";

const CHAIN = Array.from(
  { length: 9 },
  (_, at) => `step${at},${at === 0 ? "lab/begin" : `${PREFIX}/job_complete/step${at - 1}`},lab/x:1,1,1Gi,0`,
);

async function withGraph(
  work: (served: InBrowser & { live: ReturnType<typeof aRunView>[] }) => Promise<void>,
): Promise<void> {
  const live = [aRunView(), aRunView({ runName: "plot-1", jobName: "plot", state: "pending" })];
  const view = fakeView({
    table: tableOf(...CHAIN, `${"名前".repeat(44)},lab/long,lab/x:1,1,1Gi,0`),
    live,
    ended: [aRecord(), aRecord({ run_name: "curate-1", job_name: "curate", status: "failed" })],
  });
  await inBrowser({ view }, async (served) => await work({ ...served, live }));
}

const drawnWidth = (page: Page) =>
  page.evaluate("document.querySelector('#drawing svg').getBoundingClientRect().width") as Promise<number>;

browserTest("axe finds nothing on the graph, and only its drawing is wider than a phone", async (t) => {
  await withGraph(async ({ url, browser }) => {
    for (const path of ["/graph", "/graph?root=rootrootroot", "/graph?find=step", "/graph?as=list"]) {
      for (const width of [1440, 390]) {
        await t.step(`${path} ${width}`, async () => {
          const { page, faults, close } = await openPage(browser, url + path, { viewport: { width, height: 900 } });
          deepEqual(await axeFindings(page), []);
          equal(await page.evaluate("document.scrollingElement.scrollWidth"), width);
          deepEqual(faults, []);
          await close();
        });
      }
    }
  });
});

browserTest(
  "the graph zooms by keys, buttons and the wheel with Ctrl, and keeps that when something changes",
  async () => {
    await withGraph(async ({ url, browser, live, events }) => {
      const { page, faults, close } = await openPage(browser, `${url}/graph`);
      await page.getByText("Live", { exact: false }).first().waitFor();
      const natural = await drawnWidth(page);
      await page.locator("#canvas").focus();
      await page.keyboard.press("+");
      const larger = await drawnWidth(page);
      ok(larger > natural * 1.2, `${larger} after ${natural}`);
      await page.keyboard.press("-");
      ok(Math.abs(await drawnWidth(page) - natural) < 2);
      await page.getByRole("link", { name: "Larger" }).click();
      equal(new URL(page.url()).search, "", "in place");
      ok(Math.abs(await drawnWidth(page) - larger) < 2);
      live.push(aRunView({ runName: "alarm-1", jobName: "alarm" }));
      events.emit({ type: "created", run: live.at(-1)!, createMs: 1, sinceReceiptMs: 1 });
      await page.getByRole("link", { name: "alarm 1 running" }).waitFor({ timeout: 10_000 });
      ok(Math.abs(await drawnWidth(page) - larger) < 2);
      await page.locator("#canvas").hover();
      await page.keyboard.down("Control");
      await page.mouse.wheel(0, 100);
      await page.keyboard.up("Control");
      await page.waitForFunction(
        `document.querySelector('#drawing svg').getBoundingClientRect().width < ${larger - 2}`,
      );
      await page.keyboard.press("0");
      const room = await page.evaluate("document.getElementById('canvas').clientWidth") as number;
      ok(Math.abs(await drawnWidth(page) - room) < 2);
      deepEqual(faults, []);
      await close();
    });
  },
);

browserTest("the keyboard goes through the rows of the graph in the order in which they are read", async () => {
  await withGraph(async ({ url, browser }) => {
    const { page, close } = await openPage(browser, `${url}/graph?find=step`, { javaScriptEnabled: false });
    await page.locator("#canvas").focus();
    const names: unknown[] = [];
    for (let at = 0; at < 4; at++) {
      await page.keyboard.press("Tab");
      names.push(await page.locator(":focus").getAttribute("href"));
    }
    deepEqual(names, ["/messages?topic=lab%2Fbegin", "/rows/step0", "/rows/step1", "/rows/step2"]);
    await close();
  });
});
