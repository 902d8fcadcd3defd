/**
 * A message in work, as the listener holds it until it is acknowledged. Owns its shape, and what is told of it
 * without asking anybody.
 */
import {
  type Delivery,
  type FilteredRow,
  type Lineage,
  type Message,
  type MessageOutcome,
  RefusedError,
  type Row,
  type RunSpec,
} from "../ports.ts";
import { Filler, messageHashOf, rootFrom, rootOfRun, runNameFor } from "../run_spec.ts";
import type { StartResult } from "../starter.ts";
import { NO_ORIGIN, type Origin, originOf } from "./origin.ts";
import type { Selection } from "./selection.ts";
import type { Pending } from "./session.ts";
import { compact } from "../util/compact.ts";

/** Without `rootRun`: the run is that itself. */
export type CausedLineage = Omit<Lineage, "rootRun"> & Partial<Pick<Lineage, "rootRun">>;

/** A message in work. As many wait as the broker may leave unacknowledged, so it holds what is needed and no more. */
export interface Work extends Pending {
  readonly origin: Origin;
  /** Where its runs stand, if not where the message says. */
  readonly lineage?: CausedLineage;
  /** It is of a batch, see `Order`. */
  readonly later?: boolean;
  /** A person asked for its run. */
  readonly byHand?: true;
  /** Who that is. */
  readonly requestedBy?: string;
  /** By Date.now(). */
  readonly receivedAtMs: number;
  /** Those that it starts. */
  readonly rows: readonly Row[];
  readonly filtered: readonly FilteredRow[];
  /** Of what the message says; "" until it is asked for. */
  hash: string;
  /** Shared by all that it sets off, see `Lineage`; "" until it is asked for. */
  root: string;
  /** Rows whose start is not through. */
  left: number;
  outcome: MessageOutcome;
  /** Of what became of it, for people; see the event `message`. */
  runs: string[] | undefined;
  refusals: string[] | undefined;
  /** It was not told apart before its connection ended, and comes again. */
  dropped: boolean;
}

/** A message may be for thousands of rows. */
const MAX_NOTED = 20;

/** Of a delivery, as it is at first. */
export function newWork(delivery: Delivery, { rows, filtered, refused }: Selection, topicPrefix: string): Work {
  const origin = rows.length === 0 ? NO_ORIGIN : originOf(delivery, topicPrefix);
  return {
    delivery,
    origin,
    rows,
    filtered,
    hash: "",
    root: "",
    receivedAtMs: Date.now(),
    left: rows.length,
    outcome: rows.length + refused.length > 0 ? "refused" : filtered.length > 0 ? "filtered" : "ignored",
    runs: undefined,
    refusals: undefined,
    number: 0,
    settled: false,
    counted: delivery.packetId !== undefined && origin.key === undefined &&
      rows.some(({ idempotencyKey }) => idempotencyKey === undefined),
    dropped: false,
  };
}

/** Notes for people what became of one row's start. */
export function noteStart(work: Work, started: StartResult): void {
  if (started.result === "refused") noteRefusal(work, started.error.message);
  else if ((work.runs ??= []).length < MAX_NOTED && started.runName !== "") work.runs.push(started.runName);
}

/** Notes for people why a row refused it. */
export function noteRefusal(work: Work, why: string): void {
  if ((work.refusals ??= []).length < MAX_NOTED) work.refusals.push(why);
}

/** How a run without a message of a broker's is made. */
export interface RunOptions {
  /** Of a run that stands where another one stood, or has a cause of its own; otherwise it is as the message says. */
  readonly lineage?: CausedLineage;
  /** The same key and row are one run; absent: each call makes one. */
  readonly key?: string;
  /** It waits until nothing else can be started. */
  readonly later?: boolean;
  /** Who asks, where `lineage` does not say it. */
  readonly requestedBy?: string;
}

/** Copies for other filters have other rows; of an edited table some may be the same. */
export function sharesRows({ rows }: Pick<Work, "rows">, others: readonly Row[]): boolean {
  if (rows.length === 0 || others.length === 0) return rows.length === others.length;
  return rows.some(({ jobName }) => others.some((other) => other.jobName === jobName));
}

/** Of what its message says; made when it is first asked for. */
export function hashOf(work: Work): string {
  return work.hash ||= messageHashOf(work.delivery);
}

/** The root of all that the message sets off; made when it is first asked for, and its number known by then. */
export function rootOf(work: Work, epoch: string): string {
  return work.root ||= work.origin.root ?? rootOfMessage(work, epoch);
}

function rootOfMessage(work: Work, epoch: string): string {
  const { rootRun } = work.origin;
  // The end of a run of a former version.
  return rootRun === undefined ? rootFrom(identityOf(work, epoch)) : rootOfRun(rootRun);
}

/** What identifies the message; two deliveries of one have it in common. */
function identityOf(work: Work, epoch: string): string[] {
  const { origin: { key }, delivery, counted, number } = work;
  if (key !== undefined) return ["key", key];
  if (counted) return ["delivery", epoch, String(number)];
  // Each of its rows has a key of its own, made of what it says; or it is not sent again (QoS 0).
  return delivery.packetId === undefined ? [crypto.randomUUID()] : ["message", hashOf(work)];
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

/** The run that the row makes of it; `epoch`: a word of the broker's session. */
export function specOf(row: Row, work: Work, { runName, epoch }: { runName: string; epoch: string }): RunSpec {
  const { delivery, origin, receivedAtMs, lineage, byHand, requestedBy } = work;
  return {
    runName,
    row,
    message: { topic: delivery.topic, payload: delivery.payload },
    messageHash: hashOf(work),
    ...(lineage ? { rootRun: runName, ...lineage } : {
      ...compact({
        parentRun: origin.parentRun,
        traceparent: origin.traceparent,
        tracestate: origin.tracestate,
      }),
      root: rootOf(work, epoch),
      rootRun: origin.rootRun ?? runName,
      chainDepth: origin.chainDepth,
    }),
    receivedAt: new Date(receivedAtMs),
    ...compact({ byHand, requestedBy: lineage?.requestedBy ?? requestedBy }),
  };
}
