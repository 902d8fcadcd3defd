/**
 * What is done to a world of the models, one step after the other, until nothing happens any more. Checks nothing but that
 * it comes to an end.
 */
import { ok } from "node:assert/strict";
import type { VirtualTime } from "./virtual_time.ts";
import type { World, WorldJob } from "./world.ts";

export type Step =
  | { readonly do: "send" }
  | { readonly do: "wait"; readonly ms: number }
  | { readonly do: "end"; readonly which: number }
  | { readonly do: "kill" };

export interface Play {
  readonly world: World;
  readonly time: VirtualTime;
  /** Sends the next message, if there is one. */
  readonly send: () => void;
  /** Ends a run as the case has it. */
  readonly end: (job: WorldJob | undefined) => void;
}

export async function playSteps({ world, time, send, end }: Play, steps: readonly Step[]): Promise<void> {
  for (const step of steps) {
    if (step.do === "send") send();
    else if (step.do === "wait") await time.advance(step.ms);
    else if (step.do === "kill") world.kill();
    else end(world.running[step.which % Math.max(1, world.running.length)]);
  }
}

/** Ends what runs, each second, until it has been idle for so long. */
export async function playToTheEnd(
  { world, time, end }: Omit<Play, "send">,
  { quietSeconds, mostSeconds }: { readonly quietSeconds: number; readonly mostSeconds: number },
): Promise<void> {
  let quiet = 0;
  for (let second = 0; quiet < quietSeconds; second++) {
    ok(second < mostSeconds, `it does not come to an end: ${[...world.jobs.keys()]}`);
    for (const job of world.running) end(job);
    await time.advance(1_000);
    quiet = world.idle ? quiet + 1 : 0;
  }
}
