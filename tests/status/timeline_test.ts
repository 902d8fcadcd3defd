import { deepEqual, equal } from "node:assert/strict";
import { liveTimeline, preciseWords, timelineOf } from "../../status/timeline.ts";
import { aRecord, aRunView } from "../harness/fakes.ts";

const at = (second: number) => new Date(Date.UTC(2026, 2, 1, 10, 0) + 1_000 * second);
const iso = (second: number) => at(second).toISOString();

Deno.test("a run's life is told in steps, each with what went on and for how long", () => {
  const record = aRecord({
    received_at: iso(0),
    created_at: iso(0.5),
    held_for: "slot",
    released_at: iso(60),
    scheduled_at: iso(61),
    pulled_at: iso(90),
    started_at: iso(91),
    finished_at: iso(191),
    log_stored_at: iso(192),
    announced_at: iso(192.1),
  });
  const { steps, ms } = timelineOf(record);
  deepEqual(steps.map(({ what, kind, ms }) => [what, kind, ms]), [
    ["until its Job was created", "wait", 500],
    ["waited for a free slot (max_runs)", "wait", 59_500],
    ["waited for a node", "wait", 1_000],
    ["image pulled", "ready", 29_000],
    ["made ready", "ready", 1_000],
    ["ran", "run", 100_000],
    ["log read and stored", "after", 1_000],
    ["end published", "after", 100],
  ]);
  equal(ms, 192_100);
});

Deno.test("what nobody saw is told together with the step that follows, and no step is negative", () => {
  const record = aRecord({ received_at: iso(10), created_at: iso(9), started_at: iso(30), finished_at: iso(40) });
  deepEqual(timelineOf(record).steps.map(({ what, ms }) => [what, ms]), [
    ["until its Job was created", 0],
    ["made ready", 20_000],
    ["ran", 10_000],
  ]);
});

Deno.test("a run that never started did not run", () => {
  const record = aRecord({
    received_at: iso(0),
    created_at: iso(1),
    scheduled_at: iso(2),
    started_at: null,
    finished_at: iso(302),
  });
  deepEqual(timelineOf(record).steps.map(({ what, kind, ms }) => [what, kind, ms]), [
    ["until its Job was created", "wait", 1_000],
    ["waited for a node", "wait", 1_000],
    ["never started", "wait", 300_000],
  ]);
});

Deno.test("the last step of a live run is what goes on now", () => {
  const { startedAt: _, ...young } = aRunView({ receivedAt: at(0), createdAt: at(1) });
  const now = at(100);
  const last = (more: object, pulledAt?: Date) => {
    const { steps } = liveTimeline({ ...young, ...more }, { now, pulledAt });
    equal(steps.filter(({ is_now }) => is_now).length, 1);
    return [steps.at(-1)!.what, steps.at(-1)!.ms];
  };
  deepEqual(last({ heldBy: "queue" }), ["waits in a queue of the cluster", 99_000]);
  deepEqual(last({ heldBy: "queue", releasedAt: at(50) }), ["waits for a node", 50_000]);
  deepEqual(last({ scheduledAt: at(2) }), ["its image is pulled, or its pod prepared", 98_000]);
  deepEqual(last({ scheduledAt: at(2) }, at(40)), ["is made ready", 60_000]);
  deepEqual(last({ startedAt: at(41) }), ["runs", 59_000]);
  deepEqual(last({ startedAt: at(41), state: "ending" }), ["ends", 59_000]);
});

Deno.test("preciseWords() says short times too", () => {
  deepEqual([0, -1, NaN, 0.2, 340, 2_540, 9_000, 9_960, 185_000].map(preciseWords), [
    ...["0 s", "0 s", "0 s", "1 ms", "340 ms", "2.5 s", "9 s", "10 s", "3 min 5 s"],
  ]);
});
