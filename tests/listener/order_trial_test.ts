/** The steps of the trial of a broker's packet identifiers. */
import { deepEqual } from "node:assert/strict";
import { OrderTrial } from "../../listener/order_trial.ts";
import { eventually, pause } from "../harness/wait.ts";

Deno.test("a trial sends its second message when the first is acknowledged, for two that are open prove nothing", async () => {
  const steps: string[] = [];
  const trial = new OrderTrial({
    topic: "lab/info",
    publish: () => Promise.resolve(void steps.push("publish")),
    reconnect: () => void steps.push("reconnect"),
    signal: AbortSignal.timeout(60_000),
  });
  let acknowledge = () => {};
  const over = trial.run();
  trial.received((onAcknowledged) => acknowledge = onAcknowledged!);
  // The record of the session is being written meanwhile.
  await pause(50);
  deepEqual(steps, ["publish"]);
  steps.push("acknowledged");
  acknowledge();
  for (const message of ["second", "again", "third"]) {
    const before = steps.length;
    await eventually(() => steps.length > before || message !== "second", { intervalMs: 5 });
    trial.received(() => steps.push(`${message} settled`));
    await pause(0);
  }
  await over;
  deepEqual(steps, [
    "publish",
    "acknowledged",
    "publish",
    "reconnect",
    "again settled",
    "publish",
    "third settled",
  ]);
});
