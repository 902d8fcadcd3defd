/**
 * JSON from outside. A million brackets are 1 MB, and take JSON.parse 200 ms and 90 MB; so what is nested beyond all
 * use is refused before. Pure.
 */

/** Levels of arrays and objects within each other: far more than anybody uses, read in 5 ms. */
export const MAX_DEPTH = 30_000;

const [QUOTE, BACKSLASH] = [0x22, 0x5c];
const [OPEN_ARRAY, CLOSE_ARRAY, OPEN_OBJECT, CLOSE_OBJECT] = [0x5b, 0x5d, 0x7b, 0x7d];

/**
 * As JSON.parse; a SyntaxError too where the text is nested more than MAX_DEPTH levels deep. Where it is nested too deeply
 * for a reviver, which V8 calls recursively, it is read without one.
 */
export function parseJson(
  text: string,
  // deno-lint-ignore no-explicit-any -- as JSON.parse has it
  reviver?: (this: any, key: string, value: any, context?: { source?: string }) => any,
  // deno-lint-ignore no-explicit-any
): any {
  if (isDeeper(text, MAX_DEPTH)) throw new SyntaxError(`It is nested more than ${MAX_DEPTH} levels deep`);
  try {
    return JSON.parse(text, reviver);
  } catch (error) {
    if (reviver && error instanceof RangeError) return JSON.parse(text);
    throw error;
  }
}

// Of ECMAScript 2026, and not in TypeScript's library yet.
const { rawJSON, isRawJSON } = JSON as unknown as {
  rawJSON(source: string): object;
  isRawJSON(value: unknown): boolean;
};

/**
 * As `parseJson`, but each number is an object that JSON.stringify writes as it was written: 12345678901234567890 and 1.0
 * are not what a double makes of them.
 */
export function parseExactly(text: string): unknown {
  return parseJson(
    text,
    (_, value, context) => typeof value === "number" && context?.source !== undefined ? rawJSON(context.source) : value,
  );
}

/** Whether a value of `parseExactly` is a JSON object. */
export function isJsonObject(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value) && !isRawJSON(value);
}

/** One look at each character, and none where there are too few to matter. */
function isDeeper(text: string, most: number): boolean {
  if (text.length <= most) return false;
  let depth = 0;
  for (let at = 0; at < text.length; at++) {
    switch (text.charCodeAt(at)) {
      case QUOTE:
        at = endOfString(text, at);
        break;
      case OPEN_ARRAY:
      case OPEN_OBJECT:
        if (++depth > most) return true;
        break;
      case CLOSE_ARRAY:
      case CLOSE_OBJECT:
        depth--;
    }
  }
  return false;
}

/** Where the string that begins at `at` ends; the text's length: it does not, which JSON.parse will say. */
function endOfString(text: string, at: number): number {
  for (let end = text.indexOf('"', at + 1); end >= 0; end = text.indexOf('"', end + 1)) {
    let slashes = end;
    while (text.charCodeAt(slashes - 1) === BACKSLASH) slashes--;
    if ((end - slashes) % 2 === 0) return end;
  }
  return text.length;
}
