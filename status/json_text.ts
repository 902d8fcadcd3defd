/**
 * JSON as people read it: a line for each value, indented. The text is parted, not parsed, so that large numbers, keys that
 * come twice and the order of keys stay as they were written. Pure.
 */
import { parseJson } from "../util/json.ts";

/** A piece of formatted JSON: `key` is the name of a field, with its quotes. */
export interface JsonPiece {
  readonly kind: "key" | "value" | "mark";
  readonly text: string;
}

export interface JsonLines {
  readonly pieces: readonly JsonPiece[];
  /** There is more than `most` characters allow. */
  readonly isCut: boolean;
}

/** Deeper lines are indented no further: indents of a hundred thousand levels are gigabytes. */
const MAX_INDENT = 40;
const TOKEN = /\s+|"(?:[^"\\]|\\.)*"|[{}[\],:]|[^\s"{}[\],:]+/gy;

/** undefined: the text is no JSON object or array. Stops after `most` characters. */
export function jsonLines(text: string, most: number): JsonLines | undefined {
  if (!/^\s*[[{]/.test(text)) return undefined;
  try {
    parseJson(text);
  } catch {
    return undefined;
  }
  const tokens = tokensOf(text);
  const pieces: JsonPiece[] = [];
  let [length, depth] = [0, 0];
  const add = (kind: JsonPiece["kind"], text: string) => {
    length += text.length;
    const last = pieces.at(-1);
    if (kind === "mark" && last?.kind === "mark") pieces[pieces.length - 1] = { kind, text: last.text + text };
    else pieces.push({ kind, text });
  };
  const breakLine = () => add("mark", "\n" + "  ".repeat(Math.min(depth, MAX_INDENT)));
  for (const [at, token] of tokens.entries()) {
    if (length > most) return { pieces, isCut: true };
    const next = tokens[at + 1];
    if (token === "{" || token === "[") {
      add("mark", token);
      depth++;
      if (next !== "}" && next !== "]") breakLine();
    } else if (token === "}" || token === "]") {
      depth--;
      const before = tokens[at - 1];
      if (before !== "{" && before !== "[") breakLine();
      add("mark", token);
    } else if (token === ",") {
      add("mark", token);
      breakLine();
    } else if (token === ":") add("mark", ": ");
    else add(next === ":" ? "key" : "value", token);
  }
  return { pieces, isCut: false };
}

function tokensOf(text: string): string[] {
  return [...text.matchAll(TOKEN)].map(([token]) => token).filter((token) => token.trim() !== "");
}
