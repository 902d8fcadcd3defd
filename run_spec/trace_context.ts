/**
 * Trace contexts (https://www.w3.org/TR/trace-context/): their grammar, and the ids of traces and spans. Pure. Ids are made
 * of what they name, so that each process makes the same ones, before a crash and after it.
 */
import type { Lineage } from "../ports.ts";
import { compact } from "../util/compact.ts";
import { createHash } from "node:crypto";

/** What a message or a run says of the trace that it belongs to. */
export type TraceContext = Pick<Lineage, "traceparent" | "tracestate">;

/** A `traceparent` in its parts. */
export interface TraceParent {
  /** 32 hexadecimal digits. */
  readonly traceId: string;
  /** 16 hexadecimal digits. */
  readonly spanId: string;
  /** Two hexadecimal digits. */
  readonly flags: string;
}

/** Later versions of the standard may have more fields behind a dash. */
const TRACEPARENT = /^(?!ff)([0-9a-f]{2})-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-([0-9a-f]{2})(-.*)?$/;
const MAX_TRACEPARENT = 256;
/** What every participant should pass on: 512 characters, and 32 members. */
const MAX_TRACESTATE = 512;
const MAX_MEMBERS = 32;
/** `key=value`; a key of several tenants has an `@`. */
const MEMBER = /^[a-z0-9][a-z0-9_*/@-]{0,255}=[\x20-\x2b\x2d-\x3c\x3e-\x7e]{0,255}[\x21-\x2b\x2d-\x3c\x3e-\x7e]$/;
const SAMPLED = 1;

/** The parts of a `traceparent`; undefined: it is none. */
export function traceParentIn(text: string | undefined): TraceParent | undefined {
  if (text === undefined || text.length > MAX_TRACEPARENT) return undefined;
  const [, version, traceId, spanId, flags, more] = TRACEPARENT.exec(text) ?? [];
  if (traceId === undefined || spanId === undefined || flags === undefined) return undefined;
  return version === "00" && more !== undefined ? undefined : { traceId, spanId, flags };
}

/** What of these texts is a trace context; nothing where `traceparent` is none, for `tracestate` means nothing alone. */
export function traceContextIn(traceparent: string | undefined, tracestate?: string): TraceContext {
  const parent = traceParentIn(traceparent);
  if (parent === undefined) return {};
  return { traceparent: textOf(parent), ...compact({ tracestate: traceStateIn(tracestate) }) };
}

/** Of what anybody may have written to the store. */
export function traceContextOf({ traceparent, tracestate }: TraceContext): TraceContext {
  return traceContextIn(traceparent, tracestate);
}

function traceStateIn(text: string | undefined): string | undefined {
  if (text === undefined || text.length > MAX_TRACESTATE) return undefined;
  const members = text.split(",").map((member) => member.trim()).filter((member) => member !== "");
  const isRight = members.length > 0 && members.length <= MAX_MEMBERS && members.every((member) => MEMBER.test(member));
  return isRight ? members.join(",") : undefined;
}

function textOf({ traceId, spanId, flags }: TraceParent): string {
  return `00-${traceId}-${spanId}-${flags}`;
}

/** Whether who began the trace wants its spans kept. */
export function isSampled({ flags }: TraceParent): boolean {
  return (parseInt(flags, 16) & SAMPLED) !== 0;
}

/** The trace of all that a message from outside sets off, where it brings none. */
export function traceIdOf(root: string): string {
  return hexOf(["trace", root], 32);
}

/** The span of a run or a group. */
export function spanIdOf(name: string): string {
  return hexOf(["span", name], 16);
}

/** The span of the message, request or due time that a root is made of. */
export function originSpanIdOf(root: string): string {
  return hexOf(["origin", root], 16);
}

/** The span of a part of a run's time. */
export function partSpanIdOf(name: string, part: string): string {
  return hexOf(["span", name, part], 16);
}

/** The run with its own span as its context: in the trace that it was given, else in that of its root. */
export function traced<S extends TraceContext & Pick<Lineage, "root"> & { readonly runName: string }>(
  spec: S,
): S & { readonly traceparent: string } {
  const { traceId = traceIdOf(spec.root), flags = "01" } = traceParentIn(spec.traceparent) ?? {};
  return { ...spec, traceparent: textOf({ traceId, spanId: spanIdOf(spec.runName), flags }) };
}

/** 64 bits of a hash are all zero, which no id may be, less often than anything else goes wrong. */
function hexOf(parts: readonly string[], digits: number): string {
  return createHash("sha256").update(JSON.stringify(parts)).digest("hex").slice(0, digits);
}
