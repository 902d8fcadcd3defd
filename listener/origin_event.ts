/**
 * What is told of a message, or of what stands for one, where traces are made.
 */
import type { Emit } from "../ports.ts";
import type { StartResult } from "../starter.ts";
import { compact } from "../util/compact.ts";
import { noteStart, rootOf, type Work } from "./work.ts";

/** Who hears of it; undefined: nobody, for no traces are made. */
export interface Origins {
  readonly session: { readonly epoch: string };
  readonly emit: Emit;
}

/**
 * Of a message that is through. Nobody is to hear of one that no row is for, nor of one whose runs stand below another run:
 * that is what they come from.
 */
export function emitOrigin(work: Work, origins: Origins | undefined): void {
  if (!origins) return;
  const { session, emit } = origins;
  const { delivery, origin, lineage, outcome, runs = [], receivedAtMs } = work;
  const isBelowAnother = lineage?.rerunOf ?? lineage?.parentRun ?? lineage?.group ?? origin.parentRun;
  if (outcome === "ignored" || isBelowAnother !== undefined) return;
  const { traceparent, tracestate } = origin.traceparent === undefined ? delivery : origin;
  emit({
    type: "origin",
    topic: delivery.topic,
    ...compact({
      root: runs.length === 0 ? undefined : lineage?.root ?? rootOf(work, session.epoch),
      traceparent,
      tracestate,
    }),
    receivedAt: new Date(receivedAtMs),
    outcome,
    runs,
  });
}

/** Of what came without a message of a broker's, and is for one row. */
export function emitStart(work: Work, started: StartResult, origins: Origins | undefined): void {
  if (!origins) return;
  noteStart(work, started);
  const { result } = started;
  emitOrigin({ ...work, outcome: result === "created" ? "runs" : result === "exists" ? "duplicate" : result }, origins);
}
