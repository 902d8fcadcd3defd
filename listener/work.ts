/**
 * A message in work, as the listener holds it until it is acknowledged. Owns its shape only.
 */
import type { FilteredRow, Row } from "../ports.ts";
import { messageHashOf, runNameFor } from "../run_spec.ts";
import type { Origin } from "./origin.ts";
import type { Pending } from "./session.ts";

/** A message in work. As many wait as the broker may leave unacknowledged, so it holds what is needed and no more. */
export interface Work extends Pending {
  readonly origin: Origin;
  /** By Date.now(). */
  readonly receivedAtMs: number;
  /** Those that it starts. */
  readonly rows: readonly Row[];
  readonly filtered: readonly FilteredRow[];
  /** Of what the message says; "" until it is asked for. */
  hash: string;
  /** Rows whose start is not through. */
  left: number;
  outcome: MessageOutcome;
  /** It was not told apart before its connection ended, and comes again. */
  dropped: boolean;
}

/** As the event `message` says it. */
export type MessageOutcome = "ignored" | "filtered" | "refused" | "duplicate" | "runs";

/** Of what its message says; made when it is first asked for. */
export function hashOf(work: Work): string {
  return work.hash ||= messageHashOf(work.delivery);
}

/** Of a run that no message can repeat. */
export function uniqueName(row: Row): string {
  return runNameFor(row, { key: crypto.randomUUID() });
}
