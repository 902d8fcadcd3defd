/**
 * How the pages look and score: Lighthouse on each kind of page, phone and desktop (`--short`: three of them), the screenshots
 * of docs/ (`--screenshots`), and how many clicks eight questions take (`--questions`). Ends with `N passed, N failed`.
 */
import { launchBrowser, openPage } from "../harness/browser.ts";
import { audit, type Form, startBrowser } from "./lighthouse.ts";
import { type Shown, showPipeline } from "./pages.ts";
import { askAll } from "./questions.ts";

const LEAST = 95;
const SHORT = ["overview", "run", "log"];
const DOCS = new URL("../../docs/", import.meta.url).pathname;
/** Shown in docs/, */
const PHOTOGRAPHED = ["overview", "runs", "graph", "row", "run", "log", "messages", "usage"];
/** and those also dark. */
const DARK = ["overview", "run"];
const SIZES = {
  desktop: { width: 1440, height: 900 },
  phone: { width: 390, height: 844 },
} as const;

async function score({ url, paths }: Shown, names: readonly string[], forms: readonly Form[]): Promise<number> {
  await using browser = await startBrowser();
  console.log("page       form      performance  accessibility  best practices");
  let [passed, failed] = [0, 0];
  for (const name of names) {
    for (const form of forms) {
      const { scores, findings, error } = await audit(url + paths[name], { port: browser.port, form });
      const [performance = 0, accessibility = 0, practices = 0] = ["performance", "accessibility", "best-practices"]
        .map((category) => Math.round(scores[category] ?? 0));
      const cells = [performance, accessibility, practices].map((one) => String(one).padStart(11));
      const isGood = [performance, accessibility, practices].every((one) => one >= LEAST);
      console.log(
        `${name.padEnd(10)} ${form.padEnd(8)} ${cells.join("  ")}  ${isGood ? "" : error ?? findings.join(", ")}`,
      );
      isGood ? passed++ : failed++;
    }
  }
  console.log(`${passed} passed, ${failed} failed`);
  return failed;
}

async function photograph({ url, paths }: Shown): Promise<void> {
  const browser = await launchBrowser();
  try {
    for (const name of PHOTOGRAPHED) {
      const path = paths[name]!;
      for (const [size, viewport] of Object.entries(SIZES)) {
        const isDarkToo = size === "desktop" && DARK.includes(name);
        for (const colorScheme of isDarkToo ? ["light", "dark"] as const : ["light"] as const) {
          const { page, close } = await openPage(browser, url + path, { viewport, colorScheme });
          const file = [name, size, ...(colorScheme === "dark" ? ["dark"] : [])].join("-");
          await page.screenshot({ path: `${DOCS}screenshots/${file}.png` });
          await close();
        }
      }
    }
  } finally {
    await browser.close();
  }
}

if (import.meta.main) {
  const isShort = Deno.args.includes("--short");
  let failed = 0;
  {
    await using shown = await showPipeline();
    if (Deno.args.includes("--questions")) {
      for (const { question, actions, seconds } of await askAll(shown)) {
        console.log(`${question.padEnd(42)} ${actions} actions, ${seconds.toFixed(1)} s`);
      }
    } else if (Deno.args.includes("--screenshots")) await photograph(shown);
    else {failed = await score(
        shown,
        isShort ? SHORT : Object.keys(shown.paths),
        isShort ? ["phone"] : ["phone", "desktop"],
      );}
  }
  Deno.exit(failed === 0 ? 0 : 1);
}
