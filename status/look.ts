/**
 * How long a page looks into a store or a cluster. Owns nothing.
 */

/** Longest wait for a store or cluster that a page asks. */
const LOOK_MS = 5_000;

/** Aborts when a page has looked long enough, or when the server closes. */
export function lookSignal(closing: AbortSignal): AbortSignal {
  return AbortSignal.any([closing, AbortSignal.timeout(LOOK_MS)]);
}
