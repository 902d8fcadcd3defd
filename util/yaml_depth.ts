/**
 * How deep YAML is nested, before it is parsed: the parser takes a second for 20,000 levels, and overflows its stack beyond.
 * Counts too much rather than too little. Pure.
 */

/** Levels within each other; a manifest has some 20. */
const MOST = 500;

const [NEWLINE, RETURN, BLANK, DASH, QUESTION] = [0x0a, 0x0d, 0x20, 0x2d, 0x3f];
const [OPEN_LIST, CLOSE_LIST, OPEN_MAP, CLOSE_MAP] = [0x5b, 0x5d, 0x7b, 0x7d];

/** Whether it has more levels than anybody needs, by brackets or by what stands before the first word of a line. */
export function isNestedTooDeep(text: string): boolean {
  let [open, before, isBefore] = [0, 0, true];
  for (let at = 0; at < text.length; at++) {
    const char = text.charCodeAt(at);
    if (char === NEWLINE || char === RETURN) [before, isBefore] = [0, true];
    else if (isBefore && (char === BLANK || char === DASH || char === QUESTION)) before++;
    else {
      isBefore = false;
      if (char === OPEN_LIST || char === OPEN_MAP) open++;
      else if ((char === CLOSE_LIST || char === CLOSE_MAP) && open > 0) open--;
    }
    if (open > MOST || before > 2 * MOST) return true;
  }
  return false;
}
