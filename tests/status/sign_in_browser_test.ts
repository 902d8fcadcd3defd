/** Signing in and acting by the page as a person does: a real browser, a real service, real processes as runs. */
import { deepEqual, equal, match, ok } from "node:assert/strict";
import type { Browser, Page } from "playwright-core";
import { LocalStore } from "../../local/store.ts";
import { Metrics } from "../../observers/metrics.ts";
import { openPage as servePage } from "../../status.ts";
import { axeFindings, browserTest, launchBrowser, openPage } from "../harness/browser.ts";
import { startEmbeddedBed } from "../harness/local_bed.ts";
import { eventually } from "../harness/wait.ts";

const TOKEN = "correct horse battery";
const TABLE = `job_name,mqtt_topic,image,command,inputs
greet,lab/greet,none,"sh -c 'echo Hello; exit 3'","name, mode=fast|slow"
long,lab/long,none,sleep 600,
`;

interface Bed {
  readonly url: string;
  readonly browser: Browser;
  readonly service: Awaited<ReturnType<typeof startEmbeddedBed>>["service"];
}

async function withBed(work: (bed: Bed) => Promise<void>, { userHeader }: { userHeader?: string } = {}): Promise<void> {
  await using bed = await startEmbeddedBed({ table: TABLE });
  const { service, runner, folder } = bed;
  const metrics = new Metrics({ version: "test", snapshot: () => service.snapshot() });
  const status = {
    listen: { hostname: "127.0.0.1", port: 0 },
    token: TOKEN,
    ...(userHeader === undefined ? {} : { userHeader }),
  };
  const page = await servePage(service, { status, metrics, cluster: runner, logs: new LocalStore(`${folder}/logs`) });
  ok(page);
  const browser = await launchBrowser();
  try {
    await eventually(() => service.catalog.table !== undefined);
    await work({ url: page.url, browser, service });
  } finally {
    await browser.close();
    await page.close();
  }
}

/** From the navigation. */
async function signIn(page: Page): Promise<void> {
  await page.getByRole("banner").getByRole("link", { name: "Sign in" }).click();
  await page.getByLabel("Token").fill(TOKEN);
  await page.getByRole("main").getByRole("button", { name: "Sign in" }).click();
  await page.getByRole("button", { name: "Sign out" }).waitFor();
}

/** Kept where SHOTS names a folder, to be looked at. */
async function shot(page: Page, name: string): Promise<void> {
  const folder = Deno.env.get("SHOTS");
  if (folder) await page.screenshot({ path: `${folder}/${name}.png`, fullPage: true });
}

browserTest("a person signs in, runs a row, cancels two of three runs that they pick, and signs out", async () => {
  await withBed(async ({ url, browser, service }) => {
    const { page, faults, close } = await openPage(browser, `${url}/actions/run?job_name=long`);
    equal(await page.getByRole("button", { name: "Run" }).count(), 0);
    await signIn(page);
    match(page.url(), /\/actions\/run\?job_name=long$/, "one is where one was");
    const names: string[] = [];
    for (let at = 0; at < 3; at++) {
      await page.goto(`${url}/actions/run?job_name=long`);
      await page.getByRole("button", { name: "Run" }).dblclick();
      await page.getByText("The run was started; this is it.").waitFor();
      names.push(/\/runs\/([^?]+)\?done=run$/.exec(page.url())![1]!);
    }
    equal(service.runs.views().length, 3, "a double click is one run");
    await page.goto(`${url}/runs?state=live`);
    // What was sent is not sent again by an impatient hand; the browser itself holds up the second click of two at once.
    const isHeld = "(() => { const form = document.querySelector('form.picks'); form.dataset.sent = 'yes'; " +
      "const event = new SubmitEvent('submit', { bubbles: true, cancelable: true }); " +
      "form.dispatchEvent(event); delete form.dataset.sent; return event.defaultPrevented; })()";
    equal(await page.evaluate(isHeld), true);
    for (const name of names.slice(0, 2)) await page.getByLabel(`Pick ${name}`).check();
    await shot(page, "picked");
    await page.getByRole("button", { name: "Cancel picked…" }).click();
    await page.getByRole("heading", { name: "Cancel 2 runs", level: 1 }).waitFor();
    await shot(page, "confirm");
    await page.getByRole("button", { name: "Cancel 2 runs" }).click();
    await page.getByRole("heading", { name: "2 cancelled" }).waitFor();
    await shot(page, "cancelled");
    const records = await eventually(async () => {
      const found = await Promise.all(names.slice(0, 2).map((name) => service.records.get(name)));
      return found.every((record) => record !== undefined) && found;
    });
    for (const record of records) {
      deepEqual([record!.status, record!.requested_by], ["cancelled", "the status page"]);
      match(record!.message, /the status page/);
    }
    equal(service.runs.get(names[2]!)?.job.cancelledBy, undefined);
    await page.goto(`${url}/runs/${names[2]}`);
    await page.getByRole("button", { name: "Cancel the run" }).waitFor();
    await page.getByRole("button", { name: "Sign out" }).click();
    await page.getByText("You are signed out.").waitFor();
    await shot(page, "signed-out");
    await page.goBack();
    await page.getByRole("link", { name: "Sign in to cancel it" }).waitFor();
    equal(await page.getByRole("button", { name: "Cancel the run" }).count(), 0);
    equal(await page.getByRole("button", { name: "Sign out" }).count(), 0);
    deepEqual(faults, []);
    await close();
  });
});

browserTest(
  "runs that are picked run again once, though the form is sent twice; by keys, without a script",
  async () => {
    await withBed(async ({ url, browser, service }) => {
      const started = await service.actions.run("greet", '{"name":"Ada"}');
      await eventually(() => service.records.get(started.run_name));
      const { page, faults, close } = await openPage(browser, url, { javaScriptEnabled: false });
      await signIn(page);
      await page.goto(`${url}/runs`);
      await page.getByLabel(`Pick ${started.run_name}`).focus();
      await page.keyboard.press("Space");
      await page.getByRole("button", { name: "Run picked again…" }).press("Enter");
      await page.getByRole("button", { name: "Run 1 run again" }).press("Enter");
      await page.getByRole("heading", { name: "1 started" }).waitFor();
      // Which sends the form again.
      await page.reload();
      await page.getByRole("heading", { name: "1 started before" }).waitFor();
      const reruns = async () => {
        const names = [];
        for await (const { runName } of service.records.list()) names.push(runName);
        return names.length;
      };
      await eventually(async () => await reruns() === 2);
      equal(service.runs.views().length, 0);
      deepEqual(faults, []);
      await close();
    });
  },
);

browserTest("a form that is refused comes back filled in, and its field says why", async () => {
  await withBed(async ({ url, browser }) => {
    const { page, close } = await openPage(browser, `${url}/actions/run`, { viewport: { width: 390, height: 844 } });
    await signIn(page);
    await page.getByRole("combobox", { name: "Row" }).fill("gret");
    await page.getByLabel("Payload of the message").fill('{"name":"Ada"}');
    await page.getByRole("button", { name: "Run" }).click();
    await page.getByRole("alert").getByText("no row of the table has that job_name").waitFor();
    await shot(page, "refused-phone");
    equal(await page.getByLabel("Payload of the message").inputValue(), '{"name":"Ada"}');
    equal(await page.getByRole("combobox", { name: "Row" }).getAttribute("aria-invalid"), "true");
    await page.getByRole("combobox", { name: "Row" }).fill("long");
    await page.getByRole("button", { name: "Run" }).click();
    await page.getByText("The run was started; this is it.").waitFor();
    await page.getByText("the status page").first().waitFor();
    await close();
  });
});

browserTest("what was typed while the session ended is sent with the token, which signs in again", async () => {
  await withBed(async ({ url, browser }) => {
    const { page, close } = await openPage(browser, `${url}/actions/run?job_name=long`);
    await signIn(page);
    await page.context().clearCookies();
    await page.getByRole("button", { name: "Run" }).click();
    await page.getByText("You are not signed in (any more): write the token.").waitFor();
    await shot(page, "session-over");
    await page.getByLabel("Token").fill(TOKEN);
    await page.getByRole("button", { name: "Run" }).click();
    await page.getByText("The run was started; this is it.").waitFor();
    await page.getByRole("button", { name: "Sign out" }).waitFor();
    await close();
  });
});

browserTest("the user that a proxy names is who asked, on the page of the run too", async () => {
  await withBed(async ({ url, browser }) => {
    const extraHTTPHeaders = { "x-forwarded-user": "ada@lab.example" };
    const { page, close } = await openPage(browser, `${url}/actions/run?job_name=long`, { extraHTTPHeaders });
    await signIn(page);
    await page.getByRole("banner").getByText("ada@lab.example").waitFor();
    await page.getByRole("button", { name: "Run" }).click();
    await page.getByRole("main").getByText("ada@lab.example").first().waitFor();
    await shot(page, "named");
    await page.goto(`${url}/runs`);
    await page.getByText("by ada@lab.example").waitFor();
    const heads = await page.locator("#runs thead th").count();
    equal(
      await page.locator("#runs tbody tr").first().locator(":is(td,th):visible").count(),
      heads,
      "cells by columns",
    );
    await shot(page, "named-list");
    await close();
  }, { userHeader: "X-Forwarded-User" });
});

browserTest("axe finds nothing on the pages that sign in and act", async (t) => {
  await withBed(async ({ url, browser, service }) => {
    const { run_name: runName } = await service.actions.run("long");
    for (const width of [1440, 390]) {
      const look = { viewport: { width, height: width === 390 ? 844 : 900 } };
      const { page, faults, close } = await openPage(browser, `${url}/sign-in`, look);
      const check = (name: string) =>
        t.step(`${name} ${width}`, async () => {
          await shot(page, `${name.replaceAll(" ", "-")}-${width}`);
          deepEqual(await axeFindings(page), []);
          const wide = "document.documentElement.scrollWidth - document.documentElement.clientWidth";
          equal(await page.evaluate(wide), 0, "nothing is wider than the screen");
        });
      await check("sign in");
      await page.getByLabel("Token").fill("not this one");
      await page.getByRole("main").getByRole("button", { name: "Sign in" }).click();
      await page.getByRole("alert").waitFor();
      await check("wrong token");
      await page.getByLabel("Token").fill(TOKEN);
      await page.getByRole("main").getByRole("button", { name: "Sign in" }).click();
      await page.getByRole("button", { name: "Sign out" }).waitFor();
      await check("overview signed in");
      await page.goto(`${url}/runs`);
      await page.getByRole("button", { name: "Pick all shown" }).click();
      await check("runs picked");
      await page.getByRole("button", { name: "Cancel picked…" }).click();
      await page.getByRole("heading", { level: 1, name: "Cancel 1 run" }).waitFor();
      await check("what will be cancelled");
      await page.goto(`${url}/actions/run?job_name=greet`);
      await page.getByRole("button", { name: "Run" }).waitFor();
      await check("a row's form");
      await page.evaluate("document.querySelector('main form').noValidate = true");
      await page.getByRole("button", { name: "Run" }).click();
      await page.getByRole("alert").waitFor();
      await check("a row's form refused");
      await page.goto(`${url}/runs/${runName}?done=cancel`);
      await check("a run signed in");
      faults.splice(0); // 401 and 409, as was asked for
      await close();
    }
  });
});
