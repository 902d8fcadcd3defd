/**
 * Text from outside, made fit to be shown: cut, and without what a terminal or a reader's eye would take for an order.
 * Pure.
 */

/** Longest piece of foreign text in one message, in characters. */
export const LONGEST_WORDS = 2_000;

/** At most `most` characters; says how many more there were. */
export function cut(text: string, most: number = LONGEST_WORDS): string {
  const rest = text.length - most;
  // Half of a pair of surrogates is no character.
  return rest > 0 ? `${text.slice(0, most).toWellFormed()}… (${rest} more characters)` : text;
}

/** Control sequences of terminals (ECMA-48, CSI): colours, cursor. */
// deno-lint-ignore no-control-regex
const SEQUENCES = /\u001b\[[0-?]*[ -/]*[@-~]/g;

/** Without what colours text on a terminal or moves the cursor. */
export function withoutColours(text: string): string {
  return text.replace(SEQUENCES, "");
}

/** Without the `char`s at its end. A pattern such as /x+$/ takes quadratic time. */
export function trimEnd(text: string, char: string): string {
  let end = text.length;
  while (end > 0 && text[end - 1] === char) end--;
  return text.slice(0, end);
}

/** For words that begin a sentence and are to stand within one. */
export function lowerFirst(words: string): string {
  return words.charAt(0).toLowerCase() + words.slice(1);
}

/** Control characters (C0, DEL, C1), line and paragraph separators, and what turns the direction of writing around. */
const ORDERS = /[\p{Cc}\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff]/gu;

/** One line in which every order to a terminal can be read: `\u001b`; line breaks are `\n`. */
export function oneLine(text: string): string {
  return text.replace(ORDERS, escaped);
}

/** The same, but lines and tabs stay as they are; CR LF is a line break. */
export function visible(text: string): string {
  return text.replaceAll("\r\n", "\n").replace(ORDERS, (char) => char === "\n" || char === "\t" ? char : escaped(char));
}

function escaped(char: string): string {
  return char === "\n" ? "\\n" : `\\u${char.charCodeAt(0).toString(16).padStart(4, "0")}`;
}
