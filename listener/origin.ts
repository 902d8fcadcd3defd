/**
 * What a message says of where it comes from: the run whose end it announces, its place in a chain, an idempotency key.
 * Pure. What is read here was written by others: it is bounded, and names nothing that is not checked by who uses it.
 */
import type { Delivery } from "../ports.ts";
import { isRoot, MAX_PARSED_BYTES, type TraceContext, traceContextIn } from "../run_spec.ts";
import { endOf } from "../topics.ts";
import { compact } from "../util/compact.ts";
import { parseJson } from "../util/json.ts";

/** What a message says of its origin. */
export interface Origin {
  /** What makes two messages one; undefined: each is its own. */
  readonly key?: string;
  /** The run, or the group, whose end it announces. */
  readonly parentRun?: string;
  readonly rootRun?: string;
  /** Of the run or group whose end it announces. */
  readonly root?: string;
  readonly chainDepth: number;
  /** Brought by the message, as a user property or a field of its payload. */
  readonly traceparent?: string;
  readonly tracestate?: string;
}

/** Of a message that says nothing of its origin, as nearly all do. */
export const NO_ORIGIN: Origin = { chainDepth: 0 };

/** A forged depth may be any number. */
const MAX_DEPTH = 1_000_000;

/** What the message says of its origin: its parent run, or an idempotency key. */
export function originOf(
  delivery: Pick<Delivery, "topic" | "payload" | "idempotencyKey" | "traceparent" | "tracestate">,
  topicPrefix: string,
): Origin {
  const fields = jsonObject(delivery.payload);
  const end = endOf(topicPrefix, delivery.topic);
  // The end of an item names its group, too.
  const parentRun = end && stringIn(fields, end.of === "group" ? "group" : "run_name");
  const depth = fields["chain_depth"];
  const chainDepth = !end
    ? 0
    : typeof depth === "number" && depth >= 0
    ? Math.min(Math.floor(depth), MAX_DEPTH) + 1
    : 1;
  const given = delivery.idempotencyKey?.toWellFormed() ?? stringIn(fields, "idempotency-key");
  const key = parentRun !== undefined
    ? `${end?.of === "group" ? "group" : "parent"}\0${delivery.topic}\0${parentRun}`
    : given !== undefined
    ? `key\0${delivery.topic}\0${given}`
    : undefined;
  const rootRun = end ? stringIn(fields, "root_run") ?? parentRun : undefined;
  const said = end ? stringIn(fields, "root") : undefined;
  const root = said !== undefined && isRoot(said) ? said : undefined;
  const context = contextOf(delivery, fields);
  if (!end && key === undefined && context === NO_CONTEXT) return NO_ORIGIN;
  return {
    chainDepth,
    ...context,
    ...(key === undefined ? {} : { key }),
    ...(parentRun === undefined ? {} : { parentRun }),
    ...(rootRun === undefined ? {} : { rootRun }),
    ...(root === undefined ? {} : { root }),
  };
}

const NO_CONTEXT: TraceContext = {};

/** A user property; of a publisher without such (MQTT 3.1.1) fields of the payload. */
function contextOf(
  { traceparent, tracestate }: Pick<Delivery, "traceparent" | "tracestate">,
  fields: Record<string, unknown>,
): TraceContext {
  if (traceparent !== undefined) return compact({ traceparent, tracestate });
  const said = stringIn(fields, "traceparent");
  return said === undefined ? NO_CONTEXT : traceContextIn(said, stringIn(fields, "tracestate"));
}

/** Names of runs and keys go into annotations: longer ones are no such thing, and JSON can say lone surrogates. */
function stringIn(fields: Record<string, unknown>, name: string): string | undefined {
  const value = fields[name];
  return typeof value === "string" && value !== "" && value.length <= 1024 ? value.toWellFormed() : undefined;
}

function jsonObject(payload: Uint8Array): Record<string, unknown> {
  if (payload.length > MAX_PARSED_BYTES || payload[0] !== 0x7b && !/^\s*\{/.test(head(payload))) return {};
  try {
    const value: unknown = parseJson(new TextDecoder().decode(payload));
    return typeof value === "object" && value !== null && !Array.isArray(value) ? value as Record<string, unknown> : {};
  } catch {
    return {};
  }
}

function head(payload: Uint8Array): string {
  return new TextDecoder().decode(payload.subarray(0, 64));
}
