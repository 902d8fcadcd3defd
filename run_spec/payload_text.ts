/**
 * A payload as text, as a record keeps it, and what of it is handed down a chain. Pure.
 */
import { Buffer } from "node:buffer";
import type { RunRecord } from "../ports.ts";
import { parseJson } from "../util/json.ts";

const decoder = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

/** The payload as text; undefined where it is none: not UTF-8, or with a NUL, which no variable can hold. */
export function payloadText(payload: Uint8Array): string | undefined {
  if (payload.includes(0)) return undefined;
  try {
    return decoder.decode(payload);
  } catch {
    return undefined;
  }
}

/** Larger payloads are not looked into: what they say has no fields. In bytes. */
export const MAX_PARSED_BYTES = 1024 * 1024;

/** The payload that a record keeps; undefined: it is in the store, or was none. */
export function keptPayload(
  record: Pick<RunRecord, "payload" | "payload_base64">,
): Uint8Array | undefined {
  if (record.payload !== null) return new TextEncoder().encode(record.payload);
  return record.payload_base64 === undefined ? undefined : Uint8Array.fromBase64(record.payload_base64);
}

/** Payloads up to this size are handed down a chain, in bytes. */
const MAX_HANDED_DOWN = 8 * 1024;

/**
 * The payload that began the chain, as the end of a run hands it on to later rows; undefined: it is large or no text.
 * `payload`: of the run.
 */
export function inputHandedDown(parentRun: string | null, payload: string | undefined): string | undefined {
  if (payload === undefined) return undefined;
  const isChained = parentRun !== null;
  const { input, run_name } = fieldsOf(payload);
  const isEnd = typeof input === "string" && (isChained || typeof run_name === "string");
  const handed = isEnd ? input : isChained ? undefined : payload;
  return handed !== undefined && Buffer.byteLength(handed) <= MAX_HANDED_DOWN ? handed : undefined;
}

function fieldsOf(text: string): { readonly input?: unknown; readonly run_name?: unknown } {
  if (!/^\s*\{/.test(text)) return {};
  try {
    const value: unknown = parseJson(text);
    return typeof value === "object" && value !== null ? value : {};
  } catch {
    return {}; // not JSON: it is the input itself
  }
}
