/**
 * Waiting for a condition in tests: `eventually` polls until a deadline. Owns no condition of its own.
 * It exists so that no test sleeps for a guessed time.
 */

/** Pauses for `ms` milliseconds; for use between two looks at a condition, not instead of one. */
export function pause(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}

export interface EventuallyOptions {
  /** How long to go on, in milliseconds. Default 120,000: a machine may be busy, and what comes in time costs nothing. */
  timeoutMs?: number;
  /** Pause between two looks, in milliseconds. Default 50. */
  intervalMs?: number;
  /** What is waited for, for the failure message; a function is called when the time is up. */
  what?: string | (() => string | Promise<string>);
}

/**
 * Calls `look` until it returns something other than undefined, null or false, and returns that. An exception counts
 * as "not yet", so assertions can be used as conditions; the last one is the cause when the time is up.
 */
export async function eventually<T>(
  look: () => T | Promise<T>,
  { timeoutMs = 120_000, intervalMs = 50, what = "a condition" }: EventuallyOptions = {},
): Promise<Exclude<T, undefined | null | false | void>> {
  const deadline = performance.now() + timeoutMs;
  let last: unknown;
  do {
    try {
      const seen = await look();
      if (seen !== undefined && seen !== null && seen !== false) {
        return seen as Exclude<T, undefined | null | false | void>;
      }
      last = undefined;
    } catch (error) {
      last = error;
    }
    await pause(intervalMs);
  } while (performance.now() < deadline);
  const name = typeof what === "string" ? what : await what();
  const why = last instanceof Error ? `: ${last.message}` : "";
  throw new Error(`Waited ${timeoutMs} ms in vain for ${name}${why}`, { cause: last });
}
