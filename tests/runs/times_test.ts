import { deepEqual } from "node:assert/strict";
import { timesWithJob, timesWithPod } from "../../runs/times.ts";
import { pod } from "../harness/fakes.ts";

const at = (second: number) => new Date(1_000 * second);

Deno.test("a run is held back by who suspends its Job, until that is taken back", () => {
  const held = (more: Parameters<typeof timesWithJob>[1]) => timesWithJob({}, { suspended: {}, ...more }, at(1));
  deepEqual(held({ heldFor: "pause" }), { heldBy: "pause" });
  deepEqual(held({}), { heldBy: "person" });
  const queued = held({ suspended: { queue: "gpus" } });
  deepEqual(queued, { heldBy: "queue" });
  deepEqual(timesWithJob(queued, {}, at(5)), { heldBy: "queue", releasedAt: at(5) });
  const released = timesWithJob(queued, { startedAt: at(4) }, at(5));
  deepEqual(released, { heldBy: "queue", releasedAt: at(4) });
  deepEqual(timesWithJob(released, { startedAt: at(9) }, at(9)), released);
  deepEqual(timesWithJob(released, { suspended: {}, heldFor: "slot" }, at(9)), { heldBy: "slot" });
  deepEqual(timesWithJob({}, { startedAt: at(4) }, at(5)), {});
});

Deno.test("a run's program starts with the first of its containers that is neither before nor beside it", () => {
  const container = (second: number, kind?: "init" | "sidecar") =>
    ({ name: "x", state: "running", restartCount: 0, startedAt: at(second), ...(kind ? { kind } : {}) }) as const;
  const first = timesWithPod({}, pod({ scheduledAt: at(1), containers: [container(2, "init")] }));
  deepEqual(first, { scheduledAt: at(1) });
  const started = timesWithPod(
    first,
    pod({ containers: [container(2, "init"), container(3, "sidecar"), container(5)] }),
  );
  deepEqual(started, { scheduledAt: at(1), startedAt: at(5) });
  deepEqual(timesWithPod(started, pod({ scheduledAt: at(8), containers: [container(9)] })), started);
});
