/**
 * A group that has not ended: how each of its items stands. Owns no store and no run.
 */
import type { GroupHead } from "./manifest.ts";
import type { ItemEnd } from "./marks.ts";

/** A group that has not ended, as people see it. */
export interface GroupView {
  readonly group: string;
  readonly jobName: string;
  readonly topic: string;
  readonly root: string;
  readonly rootRun: string;
  readonly parentRun?: string;
  readonly receivedAt: Date;
  /** By index. */
  readonly items: readonly ItemState[];
  readonly isCancelled: boolean;
}

/** `waiting`: it has no run yet. */
export type ItemState = "waiting" | "begun" | ItemEnd;

/** A group that has not ended. */
export class OpenGroup {
  readonly states: ItemState[];
  /** Items that have ended. */
  counted = 0;
  cancelledBy: string | undefined;
  /** Its items begin no more. */
  readonly stop = new AbortController();
  /** Items that did not begin and were told of. */
  reported = 0;
  /** Its end may be on its way. */
  isTold = false;
  ending: Promise<void> | undefined;

  constructor(readonly head: GroupHead) {
    this.states = Array.from({ length: head.total }, () => "waiting");
  }

  get isComplete(): boolean {
    return this.counted === this.head.total;
  }

  begun(index: number): void {
    if (this.states[index] === "waiting") this.states[index] = "begun";
  }

  ended(index: number, end: ItemEnd): void {
    const state = this.states[index];
    if (state === "waiting" || state === "begun") this.counted++;
    if (state !== "succeeded") this.states[index] = end;
  }

  /** As people see it. */
  get view(): GroupView {
    const { total: _total, input: _input, messageHash: _hash, chainDepth: _depth, batch: _batch, ...more } = this.head;
    const { traceparent: _parent, tracestate: _state, ...shown } = more;
    return { ...shown, items: this.states, isCancelled: this.cancelledBy !== undefined };
  }
}

/** How many there are, and items of theirs that have no run yet. */
export function countsOf(groups: Iterable<OpenGroup>): { readonly open: number; readonly itemsWaiting: number } {
  let [open, itemsWaiting] = [0, 0];
  for (const { states } of groups) {
    open++;
    for (const state of states) if (state === "waiting") itemsWaiting++;
  }
  return { open, itemsWaiting };
}
