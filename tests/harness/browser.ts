/** A real browser for the tests of the page: it fails a test where the page's policy stops something, and runs axe. */
import { createRequire } from "node:module";
import { type Browser, chromium, type Page } from "playwright-core";
import { needs } from "./needs.ts";

const ARGS = [
  "--headless",
  "--no-sandbox",
  "--disable-gpu",
  "--disable-quic",
  "--no-first-run",
  "--disable-background-networking",
  "--disable-component-update",
  "--disable-sync",
];
const AXE = createRequire(import.meta.url).resolve("axe-core/axe.min.js");

/** Whether there is no browser here, so that its tests are left out. */
export const noBrowser = !await needs("chromium");

/** Registers a test that opens a browser. */
export function browserTest(name: string, fn: (t: Deno.TestContext) => Promise<void>): void {
  // playwright-core leaves its pipes to the browser open until the process ends.
  Deno.test({ name, ignore: noBrowser, sanitizeOps: false, sanitizeResources: false, fn });
}

export function launchBrowser(): Promise<Browser> {
  return chromium.launch({ executablePath: "/usr/bin/chromium", args: ARGS });
}

/** A page, and what its scripts threw or its policy stopped. */
export async function openPage(browser: Browser, url: string, options: Parameters<Browser["newContext"]>[0] = {}) {
  const context = await browser.newContext(options);
  const page = await context.newPage();
  const faults: string[] = [];
  page.on("pageerror", (error) => faults.push(String(error)));
  page.on("console", (line) => line.type() === "error" && faults.push(line.text()));
  await page.goto(url);
  return { page, faults, close: () => context.close() };
}

interface Violation {
  readonly id: string;
  readonly impact: string;
  readonly nodes: { readonly html: string }[];
}

/** All rules; of what they pass nothing is put together, and nothing but the findings leaves the browser. */
const RUN_AXE = 'axe.run({ resultTypes: ["violations"] }).then(({ violations }) => violations)';

/** What axe finds on the page in light and in dark, a line each. Leaves it dark. */
export async function axeFindings(page: Page): Promise<string[]> {
  // By the debugger, which the page's policy does not bind.
  await page.evaluate(await Deno.readTextFile(AXE));
  const found: string[] = [];
  for (const colorScheme of ["light", "dark"] as const) {
    // Without motion no colour is on its way from one to the other.
    await page.emulateMedia({ colorScheme, reducedMotion: "reduce" });
    const violations = await page.evaluate(RUN_AXE) as readonly Violation[];
    for (const { id, impact, nodes } of violations) {
      found.push(`${colorScheme}: ${impact} ${id}: ${nodes[0]?.html.slice(0, 200)}`);
    }
  }
  return found;
}
