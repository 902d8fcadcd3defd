/** A page in a process of its own, for attacks on it: writes its address to standard output and serves until it is ended. */
import { serveStatus } from "../../status.ts";
import { LiveEvents } from "../../status/live_events.ts";
import { setupLog } from "../../util/log.ts";
import { aRecord, aRunView } from "../harness/fakes.ts";
import { fakeView, tableOf, TOKEN } from "../harness/page_kit.ts";

setupLog({ level: "info", format: "text" });
const events = new LiveEvents();
const done = () => Promise.resolve({ run_name: "sort-1" });
const server = await serveStatus({
  listen: { hostname: "127.0.0.1", port: 0 },
  token: TOKEN,
  metrics: { contentType: "text/plain", render: () => Promise.resolve("up 1\n") },
  health: () => ({ ok: true, ready: true, checks: {} }),
  view: fakeView({
    table: tableOf(),
    live: [aRunView({ runName: "sort-1" })],
    ended: [aRecord()],
    // A job that never stops to talk.
    log: ({ follow }) =>
      new ReadableStream({ pull: (to) => follow ? to.enqueue(new Uint8Array(16_384).fill(120)) : to.close() }),
  }),
  actions: { run: done, cancel: done, rerun: done },
  events,
});
setInterval(() => events.emit({ type: "broker", connected: true }), 100);
console.log(server.url);
