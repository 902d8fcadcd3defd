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

interface AxeResult {
  readonly violations: readonly { readonly id: string; readonly impact: string; readonly nodes: { html: string }[] }[];
}

/** What axe finds, a line each. */
export async function axeFindings(page: Page): Promise<string[]> {
  // By the debugger, which the page's policy does not bind.
  await page.evaluate(await Deno.readTextFile(AXE));
  const { violations } = await page.evaluate("axe.run()") as AxeResult;
  return violations.map(({ id, impact, nodes }) => `${impact} ${id}: ${nodes[0]?.html.slice(0, 200)}`);
}
