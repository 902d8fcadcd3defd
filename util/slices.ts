/**
 * Long work in slices, between which timers and sockets get their turn: by calling `pauses` now and then, or, of a
 * computation, as a generator that yields now and then and is run at once or with pauses.
 */
import { setImmediate } from "node:timers/promises";

/** What a slice takes unless its caller says otherwise. */
const SLICE_MS = 8;

/**
 * Call what it gives often, and wait for it: it lets others work whenever a slice of `sliceMs` is used up. Rejects only
 * with the reason of `signal`.
 */
export function pauses(signal?: AbortSignal, sliceMs = SLICE_MS): () => Promise<void> | undefined {
  let until = performance.now() + sliceMs;
  return () => {
    if (performance.now() < until) return undefined;
    // Half the cost of a timer of 0 ms, and timers and sockets get their turn all the same.
    return setImmediate().then(() => {
      signal?.throwIfAborted();
      until = performance.now() + sliceMs;
    });
  };
}

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
  const pause = pauses(signal, sliceMs);
  for (;;) {
    const step = steps.next();
    if (step.done) return step.value;
    // Not at each step: a wait for nothing takes longer than most of them.
    const others = pause();
    if (others) await others;
  }
}
