/**
 * The header Retry-After. Pure. What a caller makes of a very long wait is his own; UnavailableError cuts it.
 */

/** Longer than any date that HTTP knows. */
const LONGEST_TEXT = 64;

/** Milliseconds of a Retry-After header: seconds or an HTTP date (RFC 9110, 10.2.3); undefined: none, or no such value. */
export function retryAfterMs(header: string | null, now: number = Date.now()): number | undefined {
  const text = header?.slice(0, LONGEST_TEXT).trim() ?? "";
  if (/^\d+$/.test(text)) return Number(text) * 1000;
  // Date.parse makes years of bare numbers.
  const at = /[a-z]/i.test(text) ? Date.parse(text) : NaN;
  return Number.isNaN(at) ? undefined : Math.max(0, at - now);
}
