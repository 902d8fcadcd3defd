/**
 * The shape that each state of a run or an item has in strips and drawings, so that colour is not all that tells them
 * apart. Constants only.
 */
import type { ItemState } from "../../flows.ts";
import type { Outcome, RunView } from "../../ports.ts";

/** How a run or an item stands, as a page says it: a live run's own state where it has begun. */
export type StripState = Exclude<ItemState, "begun"> | RunView["state"] | Outcome["status"];

const SHAPES: Readonly<Record<StripState, string>> = {
  succeeded: "●",
  failed: "✕",
  cancelled: "–",
  running: "▶",
  ending: "▷",
  pending: "◌",
  waiting: "·",
};

/** One character. */
export function stateShape(state: StripState): string {
  return SHAPES[state];
}
