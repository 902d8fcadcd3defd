/**
 * Pauses in work that would keep everything else waiting.
 */
import { setImmediate } from "node:timers/promises";

/** Work between two turns of timers and sockets. */
const SLICE_MS = 8;

/** Call it often: it gives timers and sockets their turn whenever a slice of time is used up. */
export function pauses(signal?: AbortSignal): () => Promise<void> | undefined {
  let until = performance.now() + SLICE_MS;
  return () => {
    if (performance.now() < until) return undefined;
    return setImmediate().then(() => {
      signal?.throwIfAborted();
      until = performance.now() + SLICE_MS;
    });
  };
}
