/**
 * Long computations in slices: a generator that yields now and then is run at once, or with pauses between which timers
 * and sockets get their turn.
 */
import { setImmediate } from "node:timers/promises";

/** Runs a generator to its end at once. */
export function finish<T>(steps: Generator<void, T>): T {
  for (;;) {
    const step = steps.next();
    if (step.done) return step.value;
  }
}

/**
 * Runs a generator to its end, letting others work whenever a slice of `sliceMs` is used up.
 * Rejects only with the reason of `signal`, or with what the generator throws.
 */
export async function finishInSlices<T>(
  steps: Generator<void, T>,
  { sliceMs = 6, signal }: { sliceMs?: number; signal?: AbortSignal } = {},
): Promise<T> {
  let until = performance.now() + sliceMs;
  for (;;) {
    const step = steps.next();
    if (step.done) return step.value;
    if (performance.now() < until) continue;
    // Half the cost of a timer of 0 ms, and timers and sockets get their turn all the same.
    await setImmediate();
    signal?.throwIfAborted();
    until = performance.now() + sliceMs;
  }
}
