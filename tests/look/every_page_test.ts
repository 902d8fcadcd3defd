/** Each kind of page of the real program with real runs: for axe, at 200 % and narrower, and by the keyboard alone. */
import { deepEqual, ok } from "node:assert/strict";
import type { Page } from "playwright-core";
import { axeFindings, browserTest, launchBrowser, openPage } from "../harness/browser.ts";
import { type Shown, showPipeline } from "./pages.ts";

/** What a browser gives the focus to, as a name by which it can be told from others. */
const FOCUSABLE = `(() => {
  const all = [...document.querySelectorAll("a[href],button,input,select,textarea,summary,[tabindex='0']")];
  const shown = all.filter((one) => one.checkVisibility({ visibilityProperty: true }) && !one.disabled);
  const links = shown.filter(({ tabIndex }) => tabIndex >= 0).map((one) => one.getAttribute("href"));
  // A bar of a chart is left out where its run is a link elsewhere.
  const wanted = shown.filter((one) => one.tabIndex >= 0 || !links.includes(one.getAttribute("href")));
  return wanted.map((one, at) => one.dataset.nth = String(at));
})()`;
const FOCUSED = `(() => {
  const one = document.activeElement;
  if (!one || one === document.body) return null;
  const drawn = [one, ...one.querySelectorAll("*")].some((part) => {
    const { outlineStyle, outlineWidth, strokeWidth } = getComputedStyle(part);
    return outlineStyle !== "none" && parseFloat(outlineWidth) >= 2 || one.namespaceURI.endsWith("svg") && parseFloat(strokeWidth) >= 3;
  });
  return { nth: one.dataset.nth, drawn, html: one.outerHTML.slice(0, 120) };
})()`;

/** Faults that Tab finds, from the first control to the last one. */
async function keyboardFaults(page: Page): Promise<string[]> {
  const all = await page.evaluate(FOCUSABLE) as string[];
  const reached = new Set<string>();
  const faults: string[] = [];
  for (let presses = 0; presses <= all.length + 5; presses++) {
    await page.keyboard.press("Tab");
    const at = await page.evaluate(FOCUSED) as { nth?: string; drawn: boolean; html: string } | null;
    if (at === null || at.nth !== undefined && reached.has(at.nth)) break;
    if (at.nth !== undefined) reached.add(at.nth);
    if (!at.drawn) faults.push(`the focus is not seen on ${at.html}`);
  }
  for (const nth of all.filter((one) => !reached.has(one))) {
    faults.push(
      `Tab does not reach ${await page.evaluate(
        `document.querySelector('[data-nth="${nth}"]').outerHTML.slice(0, 120)`,
      )}`,
    );
  }
  return faults;
}

/** Where the program's pages are, those for who may act too. */
function everyPage({ url, paths }: Shown): [name: string, url: string][] {
  const row = paths["row"]!.slice("/rows/".length);
  const acts = {
    "sign-in": "/sign-in",
    "run a row": `/actions/run?job_name=${row}`,
    "a sheet": "/actions/each",
    "replay": "/actions/replay",
  };
  return Object.entries({ ...paths, ...acts, "no such page": "/nowhere" }).map(([name, path]) => [name, url + path]);
}

browserTest(
  "each page is accessible, can be read at 200 % and on a phone, and is used by the keyboard alone",
  async (t) => {
    await using shown = await showPipeline();
    const browser = await launchBrowser();
    try {
      const context = await browser.newContext();
      const signedIn = await context.newPage();
      await signedIn.goto(`${shown.url}/sign-in`);
      await signedIn.getByLabel("Token").fill("try-it");
      await signedIn.keyboard.press("Enter");
      await signedIn.getByRole("button", { name: "Sign out" }).waitFor();
      const storageState = await context.storageState();
      await context.close();
      for (const [name, url] of everyPage(shown)) {
        await t.step(name, async () => {
          // A screen of 1,280 pixels at 200 %, and one of 320, which is 400 %.
          for (const width of [640, 320]) {
            const { page, close } = await openPage(browser, url, { viewport: { width, height: 450 }, storageState });
            const wide = await page.evaluate("document.scrollingElement.scrollWidth") as number;
            ok(wide <= width, `${name} is ${wide} pixels wide in ${width}`);
            await close();
          }
          const { page, close } = await openPage(browser, url, {
            viewport: { width: 1280, height: 800 },
            storageState,
          });
          deepEqual(await keyboardFaults(page), []);
          deepEqual(await axeFindings(page), []);
          await close();
        });
      }
    } finally {
      await browser.close();
    }
  },
);
