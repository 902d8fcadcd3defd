/** What the core tells as lines of the log: the levels by which people choose what they see. */
import { deepEqual, match } from "node:assert/strict";
import { eventLog } from "../../observers/event_log.ts";
import type { ServiceEvent } from "../../ports.ts";
import { setupLog } from "../../util/log.ts";
import { aRecord } from "../harness/fakes.ts";

/** The lines at LOG_LEVEL=warning. */
function warnings(...events: ServiceEvent[]): { level: string; message: string; why?: string }[] {
  return linesAt("warning", events);
}

function linesAt(level: "info" | "warning", events: readonly ServiceEvent[]) {
  const lines: string[] = [];
  setupLog({ level, format: "json", write: (line) => void lines.push(line) });
  const tell = eventLog();
  for (const event of events) tell(event);
  return lines.map((line) => JSON.parse(line));
}

Deno.test("failed runs and refused messages are warnings; what went well is none", () => {
  const finished = (status: "succeeded" | "failed"): ServiceEvent => ({
    type: "finished",
    completionMs: 1,
    record: aRecord({ run_name: "sort-a", status, message: `It has ${status}` }),
  });
  const refusals = ['Job "sort" was not started: the message has no field "uuid"'];
  const [failed, refused, ...more] = warnings(
    finished("failed"),
    finished("succeeded"),
    { type: "message", topic: "lab/up", rows: 1, outcome: "refused", refusals },
    { type: "message", topic: "lab/up", rows: 1, outcome: "duplicate" },
  );
  deepEqual([failed?.level, failed?.message], ["warning", "Run sort-a failed: It has failed"]);
  deepEqual([refused?.level, refused?.message, refused?.why], ["warning", "Message on lab/up: refused", refusals[0]]);
  deepEqual(more, []);
});

Deno.test("a lost connection is a warning; that the service connects a second time by itself is none", () => {
  const lost = (reason: string): ServiceEvent => ({ type: "broker", connected: false, reason });
  const [one, ...more] = warnings(lost("Broker gone"), { ...lost("by itself"), planned: true } as ServiceEvent);
  match(one!.message, /Broker gone/);
  deepEqual(more, []);
});

Deno.test("a copy of a message that is for no row is no news", () => {
  const copy = (rows: number): ServiceEvent => ({ type: "message", topic: "lab/up", rows, outcome: "duplicate" });
  deepEqual(linesAt("info", [copy(0)]), []);
  deepEqual(linesAt("info", [copy(1)]).map(({ message }) => message), ["Message on lab/up: duplicate"]);
});
