/**
 * Waiting and trying again: jittered exponential backoff that ends with an AbortSignal. Pure timing, no policy.
 */
import { onAbort } from "./abort.ts";
import { UnavailableError } from "../ports.ts";

/** Resolves after `ms`; rejects with the signal's reason as soon as it aborts. */
export function delay(ms: number, signal?: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    if (signal?.aborted) return reject(signal.reason);
    const timer = setTimeout(() => {
      leave();
      resolve();
    }, ms);
    const leave = onAbort(signal, () => {
      clearTimeout(timer);
      reject(signal?.reason);
    });
  });
}

/** Resolves after `ms`, or at once when `signal` aborts. */
export function delayAtMost(ms: number, signal: AbortSignal): Promise<void> {
  return delay(ms, signal).catch(() => {});
}

/** Waits for `work`, but not longer than `ms`, and not for its success. */
export async function atMost(ms: number, work: Promise<unknown>): Promise<void> {
  const done = new AbortController();
  await Promise.race([work.catch(() => {}), delay(ms, done.signal).catch(() => {})]);
  done.abort();
}

/** Wait before attempt `attempt` (0 is the first retry), in milliseconds: doubling, at most `maxMs`, ±50 % jitter. */
export function backoffMs(attempt: number, { firstMs = 200, maxMs = 30_000 } = {}): number {
  return Math.min(maxMs, firstMs * 2 ** Math.min(attempt, 20)) * (0.5 + Math.random());
}

/** Failures in a row after which it does not pass by itself. */
const LASTING = 3;

/**
 * Repeats `step` until it succeeds or `signal` aborts; `onRetry` hears of each failure, `onLasting` once of what does not
 * pass by itself. An error that `isFinal` names is thrown at once.
 */
export async function retryForever<T>(
  step: () => Promise<T>,
  { signal, onRetry, onLasting, isFinal = () => false }: {
    signal: AbortSignal;
    onRetry?: (error: unknown, attempt: number) => void;
    onLasting?: (error: unknown) => void;
    isFinal?: (error: unknown) => boolean;
  },
): Promise<T> {
  for (let attempt = 0;; attempt++) {
    signal.throwIfAborted();
    try {
      return await step();
    } catch (error) {
      signal.throwIfAborted();
      if (isFinal(error)) throw error;
      onRetry?.(error, attempt);
      if (attempt + 1 === LASTING) onLasting?.(error);
      const wait = error instanceof UnavailableError ? error.retryAfterMs : undefined;
      await delay(wait ?? backoffMs(attempt), signal);
    }
  }
}
