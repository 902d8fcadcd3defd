/**
 * A message in work, as the listener holds it until it is acknowledged. Owns its shape, and what is told of it
 * without asking anybody.
 */
import { type Delivery, type FilteredRow, type Message, RefusedError, type Row } from "../ports.ts";
import { Filler, messageHashOf, runNameFor } from "../run_spec.ts";
import { NO_ORIGIN, type Origin, originOf } from "./origin.ts";
import type { Selection } from "./selection.ts";
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

/** Of a delivery, as it is at first. */
export function newWork(delivery: Delivery, { rows, filtered, refused }: Selection, topicPrefix: string): Work {
  const origin = rows.length === 0 ? NO_ORIGIN : originOf(delivery, topicPrefix);
  return {
    delivery,
    origin,
    rows,
    filtered,
    hash: "",
    receivedAtMs: Date.now(),
    left: rows.length,
    outcome: rows.length + refused.length > 0 ? "refused" : filtered.length > 0 ? "filtered" : "ignored",
    number: 0,
    settled: false,
    counted: delivery.packetId !== undefined && origin.key === undefined &&
      rows.some(({ idempotencyKey }) => idempotencyKey === undefined),
    dropped: false,
  };
}

/** Of what its message says; made when it is first asked for. */
export function hashOf(work: Work): string {
  return work.hash ||= messageHashOf(work.delivery);
}

/**
 * What makes the row's run the same run again, other than its delivery's number: the key that the message brings, or the
 * row's own (`idempotency_key`). RefusedError: the message lacks what that is made of.
 */
export function keyOf(
  row: Row,
  { origin, delivery }: { readonly origin: Origin; readonly delivery: Message },
): string | RefusedError | undefined {
  if (origin.key !== undefined || row.idempotencyKey === undefined) return origin.key;
  try {
    const filler = new Filler({ row, message: delivery, runName: "", rootRun: "" });
    return `row\0${filler.fill(row.idempotencyKey, "idempotency_key")}`;
  } catch (error) {
    if (error instanceof RefusedError) return error;
    throw error;
  }
}

/** Of a run that no message can repeat. */
export function uniqueName(row: Row): string {
  return runNameFor(row, { key: crypto.randomUUID() });
}
