/**
 * A payload as text. Pure.
 */

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
