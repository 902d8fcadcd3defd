/**
 * Open pages as a browser has them, in a process that draws none: each hears the events of the service and asks for its page
 * anew when, and no more often than, the pages' own script does. Takes the path of its order; says `ready` when they are all
 * open, then once a second how many pages it has read.
 */
import { pause } from "../harness/wait.ts";

/** What the process is told. */
export interface TabsOrder {
  readonly url: string;
  /** One for each page that is open. */
  readonly paths: readonly string[];
}

/** As in status/pages/assets.ts. */
const [LEAST_GAP_MS, MOST_GAP_MS, LEAST_WAIT_MS] = [400, 5_000, 50];
const SEEN = new Set(["created", "started", "waiting", "retrying", "finished", "group", "join", "scheduled", "table"]);

let pagesRead = 0;

async function keepOpen(url: string, path: string): Promise<() => Promise<never>> {
  let [due, busy, began, gap] = [false, false, 0, 0];
  const refresh = async () => {
    due = false;
    if (busy) return plan();
    busy = true;
    began = performance.now();
    let status = 0;
    try {
      const response = await fetch(url + path, { headers: { "x-again": "yes" } });
      await response.arrayBuffer();
      status = response.status;
    } catch {
      // A connection that was kept for too long: a browser asks again by itself.
    }
    busy = false;
    if (status === 0 || status === 503) return void setTimeout(plan, 500 + 500 * Math.random());
    if (status !== 200) throw new Error(`${path} is answered by ${status}`);
    pagesRead++;
    gap = Math.min(MOST_GAP_MS, Math.max(LEAST_GAP_MS, 2 * (performance.now() - began)));
  };
  const plan = () => {
    if (due) return;
    due = true;
    setTimeout(refresh, Math.max(LEAST_WAIT_MS, began + gap - performance.now()));
  };
  const { body } = await fetch(`${url}/events`);
  const lines = body!.pipeThrough(new TextDecoderStream());
  await refresh();
  return async () => {
    for await (const text of lines) {
      for (const [, type] of text.matchAll(/^event: (.+)$/gm)) {
        if (SEEN.has(type!) || type === "message" && path === "/messages") plan();
      }
    }
    throw new Error("The events have ended");
  };
}

if (import.meta.main) {
  const { url, paths }: TabsOrder = JSON.parse(await Deno.readTextFile(Deno.args[0]!));
  const tabs = await Promise.all(paths.map((path) => keepOpen(url, path)));
  for (const follow of tabs) void follow();
  console.log("ready");
  for (;;) {
    await pause(1_000);
    console.log(`pages ${pagesRead}`);
  }
}
