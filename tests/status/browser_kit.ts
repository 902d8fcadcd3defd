/** The page over a view that a test gives, in a real browser. */
import type { Browser } from "playwright-core";
import { serveStatus, type StatusOptions } from "../../status.ts";
import { LiveEvents } from "../../status/live_events.ts";
import { launchBrowser } from "../harness/browser.ts";

export interface InBrowser {
  readonly url: string;
  readonly browser: Browser;
  readonly events: LiveEvents;
}

/** Serves the page while `work` looks at it; what `options` do not say is as of a healthy service that does nothing. */
export async function inBrowser(
  { events = new LiveEvents(), ...options }: Partial<StatusOptions> & Pick<StatusOptions, "view">,
  work: (served: InBrowser) => Promise<void>,
): Promise<void> {
  const done = () => Promise.resolve({ run_name: "sort-1" });
  const server = await serveStatus({
    listen: { hostname: "127.0.0.1", port: 0 },
    metrics: { contentType: "text/plain", render: () => Promise.resolve("") },
    health: () => ({ ok: true, ready: true, checks: {} }),
    actions: { run: done, cancel: done, rerun: done },
    ...options,
    events,
  });
  try {
    const browser = await launchBrowser();
    try {
      await work({ url: server.url, browser, events });
    } finally {
      await browser.close();
    }
  } finally {
    await server.close();
  }
}
