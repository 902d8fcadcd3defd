/**
 * The header Retry-After. Pure. What a caller makes of a very long wait is his own.
 */

/** Milliseconds of a Retry-After header: seconds or an HTTP date (RFC 9110, 10.2.3); undefined: none, or no such value. */
export function retryAfterMs(header: string | null, now: number = Date.now()): number | undefined {
  if (header === null) return undefined;
  if (/^\s*\d+\s*$/.test(header)) return Number(header) * 1000;
  const at = Date.parse(header);
  return Number.isNaN(at) ? undefined : Math.max(0, at - now);
}
