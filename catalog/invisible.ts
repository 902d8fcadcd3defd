/**
 * Characters that nobody sees, or that look like a blank and are none: found, and named by their code point. Pure.
 */

// U+3000, the wide blank of Chinese and Japanese, is seen and meant. Joiners are looked at in `isJoiner`.
const INVISIBLE =
  // deno-lint-ignore no-control-regex
  /[\0-\x1f\x7f-\xa0\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180e\u2000-\u200f\u2028-\u202f\u205f-\u206f\u3164\ufeff\uffa0\ufff9-\ufffb]|\udb40[\udc00-\udc7f]/g;

/** Whether findInvisible() may find something; quick, for each row is asked. */
export function mayHoldInvisible(text: string): boolean {
  return text.search(INVISIBLE) >= 0;
}

const NAMES: Readonly<Record<number, string>> = {
  0x0a: "a line break",
  0x09: "a tab",
  0xa0: "a no-break space",
  0xad: "a soft hyphen",
  0x200b: "a zero width space",
  0x200c: "a zero width non-joiner",
  0x200d: "a zero width joiner",
  0x200e: "a left-to-right mark",
  0x200f: "a right-to-left mark",
  0x2028: "a line separator",
  0x2029: "a paragraph separator",
  0x202f: "a narrow no-break space",
  0x2060: "a word joiner",
  0xfeff: "a byte order mark",
};

export interface Invisible {
  /** `U+200B (a zero width space)`; `a line break`. */
  readonly what: string;
  readonly at: number;
  /** It looks like a blank. */
  readonly isBlank: boolean;
}

/**
 * The first character of the text that nobody sees. Blanks (U+0020) are none; a joiner between letters that are not
 * ASCII (of Persian, of Hindi, of an emoji) is meant.
 */
export function findInvisible(text: string): Invisible | undefined {
  for (const match of text.matchAll(INVISIBLE)) {
    const at = match.index;
    const code = text.codePointAt(at) ?? 0;
    if (isJoiner(code) && isForeign(text, at - 1) && isForeign(text, at + 1)) continue;
    return { what: nameOf(code), at, isBlank: /^\s$/u.test(match[0]) && code > 0x7f };
  }
  return undefined;
}

function isJoiner(code: number): boolean {
  return code === 0x200c || code === 0x200d;
}

function isForeign(text: string, at: number): boolean {
  return (text.charCodeAt(at) || 0) > 0xff;
}

function nameOf(code: number): string {
  const name = NAMES[code];
  if (code === 0x0a && name !== undefined) return name;
  const point = `U+${code.toString(16).toUpperCase().padStart(4, "0")}`;
  if (name !== undefined) return `${point} (${name})`;
  if (code < 0xa0) return `the control character ${point}`;
  return `${point} (a ${
    /\s/u.test(String.fromCodePoint(code)) ? "blank of another kind" : "character that nobody sees"
  })`;
}

/** The text without what nobody sees. */
export function withoutInvisible(text: string): string {
  return text.replace(INVISIBLE, (char) => /^\s$/u.test(char) ? " " : "");
}
