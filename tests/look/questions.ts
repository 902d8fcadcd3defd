/**
 * Eight questions that a lab asks, answered on the page by a browser as a person would: each from the overview, with what
 * is clicked and filled in counted, until the answer can be read.
 */
import type { Page } from "playwright-core";
import { launchBrowser, openPage } from "../harness/browser.ts";
import type { Shown } from "./pages.ts";

/** What a person does; each click and each field is one. */
class Walk {
  actions = 0;

  constructor(readonly page: Page, readonly url: string) {}

  async click(what: string): Promise<void> {
    this.actions++;
    await this.page.locator(what).first().click();
  }

  async fill(what: string, text: string): Promise<void> {
    this.actions++;
    await this.page.locator(what).first().fill(text);
  }

  async choose(what: string, value: string): Promise<void> {
    this.actions++;
    await this.page.locator(what).first().selectOption(value);
  }

  /** Waits for what shows the answer. */
  async see(what: string): Promise<void> {
    await this.page.locator(what).first().waitFor();
  }

  /** Waits for words of the answer. */
  async read(words: RegExp): Promise<void> {
    await this.page.getByText(words).first().waitFor();
  }
}

const TOPIC = "experiments/upload";

/** In the order of docs/compare.md. */
const QUESTIONS: readonly (readonly [question: string, walk: (walk: Walk) => Promise<void>])[] = [
  ["What failed tonight, and why?", (walk) => walk.read(/exit code 3/)],
  ["Is sorting slower than last month?", async (walk) => {
    await walk.click('main a[href="/rows/sort"]');
    await walk.see("#row-charts figure");
  }],
  ["What became of this message?", async (walk) => {
    await walk.click('nav a[href="/messages"]');
    await walk.fill("#find-topic", TOPIC);
    await walk.click("main form button");
    await walk.read(/is for .*sort/);
  }],
  ["Which runs belong to this upload?", async (walk) => {
    await walk.click('#failures a[href^="/runs/"], main a[href^="/runs/"]');
    await walk.read(/All runs of its message/);
  }],
  ["Run again all that ended for one reason", async (walk) => {
    await walk.click('nav a[href="/runs"]');
    await walk.click("form summary");
    await walk.fill("#find-reason", "ExitCode");
    await walk.click("form button.main");
    await walk.read(/exit code 3/);
    await walk.click('input[type="checkbox"]');
    await walk.click('button:has-text("again")');
    await walk.see('main form[action*="rerun"], main form [name="batch"]');
  }],
  ["How much memory would do?", async (walk) => {
    await walk.click('nav a[href="/usage"]');
    await walk.read(/What would do/);
  }],
  ["Who started this?", async (walk) => {
    await walk.click('#failures a[href^="/runs/"], main a[href^="/runs/"]');
    await walk.read(/Started by/);
  }],
  ["When does it run next?", async (walk) => {
    await walk.click('main a[href="/rows/sort"]');
    await walk.read(/starts it|Next/);
  }],
];

export interface Answer {
  readonly question: string;
  readonly actions: number;
  readonly seconds: number;
}

/** Signs in once, then asks all of them. */
export async function askAll({ url }: Shown): Promise<Answer[]> {
  const browser = await launchBrowser();
  try {
    const { page } = await openPage(browser, `${url}/sign-in`, { viewport: { width: 1440, height: 900 } });
    await page.locator('input[name="token"]').fill("try-it");
    await page.locator("main form button").first().click();
    const answers: Answer[] = [];
    for (const [question, walk] of QUESTIONS) {
      await page.goto(url);
      const walked = new Walk(page, url);
      const beginMs = performance.now();
      await walk(walked);
      answers.push({ question, actions: walked.actions, seconds: (performance.now() - beginMs) / 1_000 });
    }
    return answers;
  } finally {
    await browser.close();
  }
}
