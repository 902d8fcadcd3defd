/** Many pages that one browser has open: it has six connections to a service, and each page could keep one. */
import { equal } from "node:assert/strict";
import { browserTest } from "../harness/browser.ts";
import { fakeView } from "../harness/page_kit.ts";
import { aRunView } from "../harness/fakes.ts";
import { eventually } from "../harness/wait.ts";
import type { RunView } from "../../ports.ts";
import { inBrowser } from "./browser_kit.ts";

browserTest(
  "pages that nobody looks at leave the connections to others, and are up to date when one does",
  async () => {
    const live: RunView[] = [];
    await inBrowser({ view: { ...fakeView(), liveRuns: () => live } }, async ({ url, browser, events }) => {
      const context = await browser.newContext();
      await context.addInitScript('Object.defineProperty(document, "hidden", { get: () => window.isAway === true })');
      const open = async () => {
        const page = await context.newPage();
        const turn = (isAway: boolean) =>
          page.evaluate(`window.isAway = ${isAway}; document.dispatchEvent(new Event("visibilitychange"))`);
        await page.goto(url);
        await page.getByText("Live: changes show by themselves").waitFor();
        return { page, turn };
      };
      const pages: Awaited<ReturnType<typeof open>>[] = [];
      for (let count = 0; count < 8; count++) {
        for (const { turn } of pages.slice(-1)) await turn(true);
        pages.push(await open());
      }
      await eventually(() => events.size === 1, { what: "the one that is looked at to be the only one that listens" });
      const run = aRunView({ runName: "fresh-abcdefgh2345", jobName: "fresh" });
      live.push(run);
      const [first] = pages;
      equal(await first!.page.getByRole("link", { name: run.runName }).count(), 0);
      await first!.turn(false);
      await first!.page.getByRole("link", { name: run.runName }).waitFor();
      await context.close();
    });
  },
);
