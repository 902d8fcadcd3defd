/**
 * How pages are gathered: what they look at, for how long at most, how much of it, and what they say where it cannot be
 * had. Must not know what any page shows.
 */
import { errorMessage } from "../util/errors.ts";
import type { StatusView } from "./view.ts";

/** Longest wait for a store or cluster that a page asks. */
const LOOK_MS = 5_000;

/** Runs of one message that are looked at. */
export const MAX_OF_ROOT = 500;

/** What the gathering of pages shares. */
export interface Looking {
  readonly view: StatusView;
  /** Whether there is a token to act with. */
  readonly actions: boolean;
  /** Ends a look into store or cluster that takes too long. */
  readonly signal: () => AbortSignal;
}

/** Aborts when a page has looked long enough, or when the server closes. */
export function lookSignal(closing: AbortSignal): AbortSignal {
  return AbortSignal.any([closing, AbortSignal.timeout(LOOK_MS)]);
}

/** A sentence for a page that cannot show what has ended. */
export function historyFailure(error: unknown): string {
  return `The history cannot be read now: ${errorMessage(error)}`;
}
