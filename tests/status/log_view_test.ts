/** The log viewer: its windows, search and links as HTML and JSON, and in a real browser with and without scripts. */
import { deepEqual, doesNotMatch, equal, match, ok } from "node:assert/strict";
import type { LogPart, LogText } from "../../logs.ts";
import type { StatusView } from "../../status/view.ts";
import { axeFindings, browserTest, openPage } from "../harness/browser.ts";
import { aRecord, aRunView } from "../harness/fakes.ts";
import { logTextOf } from "../harness/log_text.ts";
import { anApp, fakeView } from "../harness/page_kit.ts";
import { type InBrowser, inBrowser } from "./browser_kit.ts";

const ESC = "\u001b";
const EVIL = `"'><script>window.hacked=1</script><img src=x onerror=window.hacked=1>`;
const RUN = "plot-qqqqqqqq2345";
const PATH = `/runs/${RUN}/log/view`;
const FAILED = aRecord({
  run_name: RUN,
  job_name: "plot",
  status: "failed",
  message: "Out of memory: the limit is 2Gi",
});

const LINES = Array.from({ length: 3_000 }, (_, at) => {
  if (at % 100 === 42) {
    return `${ESC}[1;31mERROR${ESC}[m in step ${at + 1}: ${ESC}[4mno signal${ESC}[m on channel ${at}`;
  }
  if (at % 100 === 50) return ` 10%|#    | 12/120\r 50%|##   | 60/120\r100%|#####| 120/120 of part ${at / 100}`;
  return `${ESC}[32m12:00:${String(at % 60).padStart(2, "0")}${ESC}[0m step ${at + 1} of 3000: ${
    "spike ".repeat(at % 7)
  }`;
});
const LONG = LINES.join("\n") + "\n";

function viewOf(
  output: (options: { part?: string }) => LogText | undefined | Promise<LogText>,
  more: Partial<StatusView> = {},
): StatusView {
  return { ...fakeView({ ended: [FAILED] }), output: (_, options) => Promise.resolve(output(options)), ...more };
}

async function htmlOf(content: string | LogText, query = ""): Promise<string> {
  const text = typeof content === "string" ? logTextOf(content) : content;
  return await (await anApp({ view: viewOf(() => text) }).get(PATH + query)).text();
}

Deno.test("the viewer shows the end of a log, with the ways to the rest of it", async () => {
  const html = await htmlOf(LONG);
  match(html, /step 3000 of 3000/);
  doesNotMatch(html, /step 2 of 3000/);
  match(html, /<div id="L3000"><a href="\?line=3000#L3000">3000<\/a><code>/);
  match(html, /Lines 2,601 to 3,000, up to 100 % of/);
  match(html, /<a href="\?from=0">Beginning<\/a><a href="\?to=\d+">Earlier<\/a><span class="muted">Later<\/span>/);
  match(html, /href="\/runs\/plot-qqqqqqqq2345\/log\?download">Download</);
});

Deno.test("colours become classes, progress bars their last state, and nothing in a log markup", async () => {
  const html = await htmlOf(
    `${ESC}[1;31mbad${ESC}[m ok\n 1%\r99%\n${EVIL}\n${ESC}]8;;javascript:x${ESC}\\link\u0000\u009b\u202e\n`,
  );
  match(html, /<code><span class="a1 tb">bad<\/span> ok<\/code>/);
  match(html, /<code>99%<\/code>/);
  match(html, /&lt;script&gt;window.hacked/);
  doesNotMatch(html, /<script>window|<img/);
  match(html, /<code>link␀\\u009b\\u202e<\/code>/);
  doesNotMatch(html, /javascript:/);
});

Deno.test("a line is linked by its number, and its window marks it", async () => {
  const html = await htmlOf(LONG, "?line=1234");
  match(html, /<div id="L1234" class="hit">/);
  match(html, /<div id="L1200"/);
  doesNotMatch(html, /<div id="L3000"/);
});

Deno.test("a search shows the next hit with the words marked, and goes on both ways", async () => {
  const html = await htmlOf(LONG, "?q=error+IN+step+1143&next=0");
  match(
    html,
    /<div id="L1143" class="hit"><a [^>]*>1143<\/a><code><span class="a1 tb"><mark>ERROR<\/mark><\/span><mark> in step 1143<\/mark>/,
  );
  const [, next] = /<a class="button" href="([^"]+)#found">Next<\/a>/.exec(html)!;
  match(await htmlOf(LONG, next!.replaceAll("&amp;", "&")), /No more up to its end: <b>error IN step 1143<\/b>/);
  const [, previous] = /<a class="button" href="([^"]+)#found">Previous<\/a>/.exec(html)!;
  match(await htmlOf(LONG, previous!.replaceAll("&amp;", "&")), /No more up to its beginning/);
  match(await htmlOf(LONG, "?q=nothing+like+it&next=0"), /Nowhere in the log: <b>nothing like it<\/b>/);
  match(await htmlOf(LONG, `?q=${encodeURIComponent(EVIL)}&next=0`), /<b>&quot;&#39;&gt;&lt;script/);
});

Deno.test("a window as JSON has its place, its lines as a terminal shows them, and what a search found", async () => {
  const app = anApp({ view: viewOf(() => logTextOf(LONG)) });
  const window = await (await app.get(`/runs/${RUN}/log/view.json?from=0`)).json();
  deepEqual([window.run_name, window.from, window.size, window.live, window.numbered], [
    RUN,
    0,
    LONG.length,
    false,
    true,
  ]);
  deepEqual(window.lines[0], { line: 1, from: 0, to: LINES[0]!.length + 1, text: "12:00:00 step 1 of 3000: " });
  equal(window.lines[50].text, "100%|#####| 120/120 of part 0.5");
  const next = await (await app.get(`/runs/${RUN}/log/view.json?from=${window.to}`)).json();
  equal(next.lines[0].line, window.lines.at(-1).line + 1);
  const found = await (await app.get(`/runs/${RUN}/log/view.json?q=step+43:&next=0`)).json();
  equal(found.search.words, "step 43:");
  ok(found.lines.some((line: { from: number }) => line.from === found.search.found.from));
});

Deno.test("of several containers one is chosen, those that failed are named, and links stay with the choice", async () => {
  const parts: LogPart[] = [
    { name: "p/fetch", pod: "p", container: "fetch", state: "ended" },
    { name: "p/main", pod: "p", container: "main", state: "ended", failure: "exit code 3" },
  ];
  const asked: (string | undefined)[] = [];
  const view = viewOf(({ part }) => {
    asked.push(part);
    return logTextOf(LONG, { parts, ...part === "p/main" ? { part } : {} });
  });
  const { get } = anApp({ view });
  const all = await (await get(PATH)).text();
  match(all, /aria-current="page">All 2 containers, 1 failed</);
  match(all, /<a href="\?part=p%2Fmain">p \/ main <span class="tag bad">failed: exit code 3</);
  const main = await (await get(`${PATH}?part=p%2Fmain`)).text();
  match(main, /<a href="\?part=p%2Fmain&amp;from=0">Beginning/);
  match(main, /<input type="hidden" name="part" value="p\/main"/);
  deepEqual(asked, [undefined, "p/main"]);
});

Deno.test("an endless line is one window that says so, and a page stays small whatever the log is", async () => {
  const endless = await htmlOf("x".repeat(5_000_000) + "\nlast\n", "?from=0");
  match(
    endless,
    /… the line goes on: <a href="\?from=40960">its next part<\/a>, or <a href="\?from=5000001">the next line<\/a>, 4.73 MiB on/,
  );
  const part = "plot-qqqqqqqq2345-with-a-long-name-x/main";
  const parts: LogPart[] = [{ name: part, pod: part, container: "main", state: "ended" }];
  const ordinary = [
    await htmlOf(LONG, "?from=0"),
    await htmlOf(LONG),
    await htmlOf("a line\n".repeat(9_000)),
    await htmlOf(`${ESC}[32mtime${ESC}[m ${"word ".repeat(18)}\n`.repeat(9_000)),
    await htmlOf(LONG, "?from=0&q=s"),
    await htmlOf(logTextOf(LONG, { parts, part })),
    endless,
  ];
  for (const html of ordinary) ok(html.length <= 120 * 1024, `${html.length} bytes`);
  for (const rubbish of [`"<>&'`, `${ESC}[31ma${ESC}[1mb`, `${ESC}[999Cx\n`, "\u202e\u0000", "\n"]) {
    const html = await htmlOf(rubbish.repeat(200_000));
    ok(html.length <= 1024 * 1024, `${JSON.stringify(rubbish)}: ${html.length} bytes`);
  }
});

Deno.test("what cannot be had is said: no log, none yet, a store that is away", async () => {
  const { get } = anApp({ view: viewOf(() => undefined) });
  match(await (await get(PATH)).text(), /There is no log of it in the store/);
  equal((await get("/runs/no-such-run-2345/log/view")).status, 404);
  const away = anApp({ view: viewOf(() => Promise.reject(new Error("the store is away"))) });
  match(await (await away.get(PATH)).text(), /The log cannot be read now: the store is away/);
  match((await (await away.get(`/runs/${RUN}/log/view.json`)).json()).error, /the store is away/);
  const silent = await htmlOf(logTextOf("", { head: HEAD }));
  match(silent, /<details id="log-head" open="">/);
  match(silent, /It wrote nothing/);
  const live = viewOf(() => undefined, { liveRun: () => aRunView({ runName: RUN }) });
  match(await (await anApp({ view: live }).get(PATH)).text(), /No output yet/);
});

Deno.test("numbers of a query that make no sense count as not given", async () => {
  for (
    const query of ["?from=-1", "?from=1e9", "?from=x", "?line=0x10", "?to=", "?from=99999999999999999999", "?next=5"]
  ) {
    match(await htmlOf(LONG, query), /step 3000 of 3000/);
  }
  match(await htmlOf(LONG, "?from=999999999"), /Lines of the log/);
  match(await htmlOf(LONG, "?line=0"), /step 1 of 3000/);
});

Deno.test("a search ends when its visitor has gone", async () => {
  const text = logTextOf("no\n".repeat(3_000_000));
  const gone = new AbortController();
  const read = text.read;
  const slow = { ...text, read: (from: number, length: number) => (gone.abort(), read(from, length)) };
  const { ask } = anApp({ view: viewOf(() => slow) });
  const request = new Request(`http://127.0.0.1:8080${PATH}?q=here&next=0`, { headers: { host: "127.0.0.1:8080" } });
  await ask(request, { over: gone.signal });
  ok(text.bytesRead <= 2 * 1024 * 1024, `${text.bytesRead} bytes`);
});

Deno.test("the text of a log is downloaded under the run's name", async () => {
  const view = { ...fakeView({ ended: [FAILED], log: () => ReadableStream.from([new TextEncoder().encode("x")]) }) };
  const { get } = anApp({ view });
  const answer = await get(`/runs/${RUN}/log?download`);
  equal(answer.headers.get("content-disposition"), `attachment; filename="${RUN}.txt"`);
  equal(await answer.text(), "x");
  match((await get(`/runs/${RUN}/log`)).headers.get("content-disposition")!, /^inline/);
});

Deno.test("a run's page shows the last lines in colour, each with its place in the log", async () => {
  const content = `${LONG}${"x".repeat(900)}\n\n${ESC}[31mbad${ESC}[m end\n\n`;
  const { get } = anApp({ view: viewOf(() => logTextOf(content)) });
  const html = await (await get(`/runs/${RUN}`)).text();
  match(html, /<a href="\/runs\/plot-qqqqqqqq2345\/log\/view#end">Open the log<\/a>/);
  match(
    html,
    /<div id="L3003"><a href="\/runs\/plot-qqqqqqqq2345\/log\/view\?line=3003#L3003">3003<\/a><code><span class="a1">bad/,
  );
  match(html, /x{400} …<\/code>/);
  equal(html.match(/<div id="L\d+">/g)?.length, 15);
  const { log } = await (await get(`/runs/${RUN}.json`)).json();
  deepEqual(Object.keys(log), ["text", "extent"]);
});

Deno.test("of several containers a run's page shows the end of the one that failed", async () => {
  const parts: LogPart[] = ["a", "b", "c"].map((container) => ({
    name: `p/${container}`,
    pod: "p",
    container,
    state: "ended",
    ...container === "b" ? { failure: "exit code 3" } : {},
  }));
  const view = viewOf(({ part }) => logTextOf(`end of ${part}\n`, { parts, ...part === undefined ? {} : { part } }));
  const html = await (await anApp({ view }).get(`/runs/${RUN}`)).text();
  match(
    html.replaceAll(/\s+/g, " "),
    /Of p \/ b <span class="tag bad">failed: exit code 3<\/span>, one of 3 containers/,
  );
  match(html, /end of p\/b/);
  match(html, /\/log\/view\?part=p%2Fb&amp;line=1#L1/);
});

// ---------------------------------------------------------------- in a real browser

async function withViewer(view: StatusView, work: (served: InBrowser) => Promise<void>): Promise<void> {
  await inBrowser({ view }, async (served) => await work({ ...served, url: served.url + PATH }));
}

const PARTS: LogPart[] = [
  { name: "plot-x/fetch", pod: "plot-x", container: "fetch", state: "ended" },
  { name: "plot-x/main", pod: "plot-x", container: "main", state: "ended", failure: "exit code 137, out of memory" },
];
const HEAD =
  "run:       plot-qqqqqqqq2345\njob:       plot\nended:     failed: Out of memory: the limit is 2Gi\nevents:";
/** Every colour as ink and as ground, on each other, and the styles. */
const COLOURS = [
  ...[1, 2, 3, 4, 5, 6, 7].map((ink) =>
    `${ESC}[3${ink}mink ${ink}${ESC}[9${ink}m bright${ESC}[m ${ESC}[4${ink}mground${ESC}[m`
  ),
  `${ESC}[90mgrey${ESC}[m ${ESC}[100mon grey${ESC}[m ${ESC}[7mreversed${ESC}[m ${ESC}[2mdim${ESC}[m ${ESC}[3mitalic${ESC}[m`,
  `${ESC}[9mstruck${ESC}[m ${ESC}[38;2;255;120;0mtrue${ESC}[m ${ESC}[48;5;19;97mcube${ESC}[m ${ESC}[31;42mboth${ESC}[m error`,
].join("\n");

browserTest(
  "axe finds nothing in the log viewer, light, dark and narrow, and nothing is wider than the screen",
  async (t) => {
    const text = logTextOf(`${LINES.slice(0, 60).join("\n")}\n${COLOURS}\n${"x".repeat(700)}\n`, {
      parts: PARTS,
      head: HEAD,
    });
    await withViewer(viewOf(() => text), async ({ url, browser }) => {
      for (const query of ["", "?line=64&q=error", "?q=error&next=0", "?wrap=off"]) {
        for (const width of [1440, 390]) {
          await t.step(`${query} ${width}`, async () => {
            const { page, faults, close } = await openPage(browser, url + query, {
              viewport: { width, height: width === 390 ? 844 : 900 },
            });
            const shots = Deno.env.get("SHOTS");
            if (shots) await page.screenshot({ path: `${shots}/log${query.replace(/\W+/g, "-")}-${width}.png` });
            deepEqual(await axeFindings(page), []);
            ok(await page.evaluate("document.scrollingElement.scrollWidth") as number <= width);
            deepEqual(faults, []);
            await close();
          });
        }
      }
    });
  },
);

browserTest("without scripts: search, the next hit, a line's link, other windows and unbroken lines", async () => {
  await withViewer(viewOf(() => logTextOf(LONG)), async ({ url, browser }) => {
    const { page, close } = await openPage(browser, url, { javaScriptEnabled: false });
    await page.getByRole("searchbox").fill("no signal");
    await page.keyboard.press("Enter");
    await page.locator("#L43.hit").waitFor();
    await page.getByRole("link", { name: "Next" }).click();
    await page.locator("#L143.hit").waitFor();
    await page.getByRole("link", { name: "Previous" }).click();
    await page.locator("#L43.hit").waitFor();
    await page.getByRole("link", { name: "150", exact: true }).click();
    await page.locator("#L150.hit").waitFor();
    await page.getByRole("link", { name: "Later" }).first().click();
    await page.locator("#L700").waitFor();
    await page.getByRole("link", { name: "Do not break long lines" }).first().click();
    await page.locator(".log.nowrap").waitFor();
    await page.getByRole("link", { name: "Beginning" }).first().click();
    await page.locator("#L1").waitFor();
    equal(await page.locator(".log.nowrap").count(), 1);
    await close();
  });
});

browserTest("with scripts: opens at the end, a line's link and unbroken lines need no new page", async () => {
  await withViewer(viewOf(() => logTextOf(LONG)), async ({ url, browser }) => {
    const { page, faults, close } = await openPage(browser, url);
    await page.waitForFunction("scrollY + innerHeight >= document.documentElement.scrollHeight - 2");
    await page.evaluate("window.same = true");
    await page.getByRole("link", { name: "2990", exact: true }).click();
    await page.locator("#L2990.hit").waitFor();
    ok(page.url().endsWith("?line=2990#L2990"));
    await page.getByRole("link", { name: "Do not break long lines" }).first().click();
    await page.locator(".log.nowrap").waitFor();
    equal(await page.evaluate("window.same"), true);
    await page.reload();
    await page.locator(".log.nowrap #L2990.hit").waitFor();
    deepEqual(faults, []);
    await close();
  });
});

browserTest("a log that grows is followed, until one scrolls up, and to its end", async () => {
  let content = LINES.slice(0, 300).map((line) => `${line}\n`).join("") + "loading  1%";
  let isLive = true;
  const view = viewOf(() => logTextOf(content, { isLive }), {
    liveRun: (name) => isLive ? aRunView({ runName: name }) : undefined,
  });
  await withViewer(view, async ({ url, browser }) => {
    const { page, faults, close } = await openPage(browser, url);
    await page.getByText("New lines show by themselves").waitFor();
    equal(await page.locator("#L301").textContent(), "301loading  1%");
    content += "\rloading 99%";
    await page.getByText("loading 99%").waitFor();
    equal(await page.locator("#log-lines > div").count(), 301);
    content += "\nloaded\n";
    await page.locator("#L302", { hasText: "loaded" }).waitFor();
    await page.waitForFunction("scrollY + innerHeight >= document.documentElement.scrollHeight - 2");
    await page.evaluate("scrollTo(0, 0)");
    await page.getByText("Paused: go to the end").waitFor();
    content += "while nobody looks\n";
    const asked: string[] = [];
    page.on("request", (request) => request.url().includes("only=lines") && asked.push(request.url()));
    await page.waitForTimeout(1_500);
    deepEqual(asked, []);
    equal(await page.locator("#L303").count(), 0);
    await page.getByRole("link", { name: "To the end" }).first().click();
    await page.locator("#L303", { hasText: "while nobody looks" }).waitFor();
    content += "x".repeat(60) + "\n" + LINES.join("\n") + LINES.join("\n");
    await page.getByText("step 3000 of 3000").first().waitFor();
    content += "\nthe last line\n";
    isLive = false;
    await page.getByText("the last line").waitFor();
    await page.getByText("The run has ended").waitFor();
    deepEqual(faults, []);
    await close();
  });
});

browserTest("a run's page shows the last lines of its log as they come", async () => {
  let content = "first\n";
  const view = viewOf(() => logTextOf(content, { isLive: true }), { liveRun: (name) => aRunView({ runName: name }) });
  await withViewer(view, async ({ url, browser }) => {
    const { page, faults, close } = await openPage(browser, url.replace("/log/view", ""));
    await page.locator("#L1", { hasText: "first" }).waitFor();
    content += LINES.slice(0, 30).map((line) => `${line}\n`).join("") + "\n";
    await page.locator("#L31", { hasText: "step 30" }).waitFor();
    equal(await page.locator("#log-lines > div").count(), 15);
    await page.getByRole("link", { name: "31", exact: true }).click();
    await page.waitForURL("**/log/view?line=31#L31");
    await page.locator("#L31.hit").waitFor();
    deepEqual(faults, []);
    await close();
  });
});
