/**
 * Measurements of pages that are open while the service works: what twenty of them cost a message on its way to its Job, and
 * how soon a page in a real browser shows the end of a run in a real container.
 */
import { JobEnder } from "../chaos/ender.ts";
import { launchBrowser, noBrowser, openPage } from "../harness/browser.ts";
import { freePort } from "../harness/ports.ts";
import { eventually } from "../harness/wait.ts";
import { type HelperProcess, startHelper } from "./helper.ts";
import { atMost, type Measurement, percentile, type Sample } from "./measure.ts";
import type { TabsOrder } from "./open_tabs.ts";
import { EndClock } from "./ends.ts";
import { benchRow, JOBS_ONLY, Scene, type SceneOptions } from "./scene.ts";

/** By name. */
export const TABS: Readonly<Record<string, Measurement>> = {
  "tabs": {
    figures: {
      "tabs-latency-p50": { unit: "ms", goal: atMost(1.1) },
      "tabs-latency-p99": { unit: "ms" },
      "tabs-pages": { unit: "pages/s" },
    },
    run: tabs,
  },
  "seen": {
    figures: {
      "seen-p50": { unit: "ms" },
      "seen-slowest": { unit: "ms", goal: atMost(1_000, "value") },
    },
    once: true,
    run: seen,
  },
};

const ROW = "latency";
/** What twenty people of a lab may have open. */
const OPEN = [
  ...Array<string>(10).fill("/"),
  ...Array<string>(5).fill("/runs"),
  ...Array<string>(2).fill("/graph"),
  "/messages",
  "/table",
  `/rows/${ROW}`,
];
const BLOCKS = 6;
/** Two seconds, so that each page is asked for several times. */
const BLOCK = 100;
/** Fewer than the overview shows, each way. */
const ENDS = 10;

async function startScene(options: SceneOptions): Promise<{ scene: Scene; url: string }> {
  const port = freePort();
  const scene = await Scene.start({ ...options, env: { STATUS_ADDR: `127.0.0.1:${port}` } });
  return { scene, url: `http://127.0.0.1:${port}` };
}

/** The limit: the same without an open page, by turns of two seconds. The browsers are not of the service's machine. */
async function tabs(repeats: number): Promise<Sample[]> {
  const { scene, url } = await startScene({ rows: [benchRow(ROW, "lab/latency/+")], cluster: JOBS_ONLY });
  await using _scene = scene;
  await using ender = new JobEnder(scene.kit.cluster.api);
  await using clock = await scene.clock("default", (runName, createdAt) => {
    ender.end({ runName, createdAt, fails: false, afterMs: 500 });
  });
  const times = (name: string, count = BLOCK) =>
    scene.publishPaced({
      count,
      perSecond: 50,
      topicOf: (index) => `lab/latency/${name}-${index}`,
      seenAt: clock.seenAt,
    });
  await times("warm", 300);
  const samples: Sample[] = [];
  for (let repeat = 0; repeat < repeats; repeat++) {
    const [open, closed, pages]: [number[], number[], number[]] = [[], [], []];
    for (let block = 0; block < BLOCKS; block++) {
      closed.push(...await times(`closed-${repeat}-${block}`));
      await using pagesOpen = await openTabs(url);
      const before = await pagesRead(pagesOpen);
      const begunMs = performance.now();
      open.push(...await times(`open-${repeat}-${block}`));
      pages.push((await pagesRead(pagesOpen) - before) / (performance.now() - begunMs) * 1_000);
    }
    samples.push({
      "tabs-latency-p50": { value: percentile(open, 50), limit: percentile(closed, 50) },
      "tabs-latency-p99": { value: percentile(open, 99), limit: percentile(closed, 99) },
      "tabs-pages": { value: percentile(pages, 50) },
    });
  }
  return samples;
}

function openTabs(url: string): Promise<HelperProcess> {
  const order: TabsOrder = { url, paths: OPEN };
  const args = ["-n", "19", Deno.execPath(), "run", "-A", new URL("open_tabs.ts", import.meta.url).pathname];
  return startHelper({ name: "open_tabs", command: "nice", args, order });
}

/** As it says the next time. */
async function pagesRead(tabs: HelperProcess): Promise<number> {
  const said = async () => (await tabs.logTail(1_000)).match(/^pages .*$/gm) ?? [];
  const { length } = await said();
  const line = await eventually(async () => {
    const lines = await said();
    return lines.length > length && lines.at(-1);
  }, { intervalMs: 10, what: async () => `pages that are read: ${await tabs.logTail()}` });
  return Number(line.slice("pages ".length));
}

/** From a Job's end in a real container to the sight of it: of failures on the overview, of the others on the list of runs. */
async function seen(): Promise<Sample[]> {
  if (noBrowser) throw new Error("There is no Chromium");
  const { scene, url } = await startScene({
    rows: [
      benchRow("good", "lab/good", { command: "sleep 1" }),
      benchRow("bad", "lab/bad", { command: "sh -c 'sleep 1; exit 3'" }),
    ],
    cluster: { node: "real" },
  });
  await using _scene = scene;
  await using ends = await EndClock.start(scene);
  const browser = await launchBrowser();
  try {
    const overview = await openPage(browser, url);
    const runs = await openPage(browser, `${url}/runs`);
    const times: number[] = [];
    for (let at = 0; at < ENDS; at++) {
      const fails = at % 2 === 0;
      const [{ page }, within] = fails ? [overview, "#failures"] : [runs, "#runs"];
      await scene.publish([fails ? "lab/bad" : "lab/good"]);
      const line = page.locator(`${within} :is(tr, li)`).filter({ hasText: fails ? "exit code 3" : "succeeded" });
      await line.nth(Math.floor(at / 2)).waitFor({ state: "attached", timeout: 60_000 });
      const seenAt = Date.now();
      const endedAt = await eventually(() => ends.endedAt.size > at && [...ends.endedAt.values()].at(-1));
      times.push(seenAt - endedAt);
    }
    return [{ "seen-p50": { value: percentile(times, 50) }, "seen-slowest": { value: Math.max(...times) } }];
  } finally {
    await browser.close();
  }
}
