/**
 * How many columns of a terminal a text takes, and cutting or wrapping it to so many. Pure.
 */

/** Of East Asian width W or F in Unicode 16, and what terminals draw as wide: whole blocks where a table would gain little. */
const WIDE =
  /[\u1100-\u115f\u231a\u231b\u2329\u232a\u2e80-\u303e\u3041-\u33ff\u3400-\u4dbf\u4e00-\u9fff\ua000-\ua4cf\ua960-\ua97c\uac00-\ud7a3\uf900-\ufaff\ufe10-\ufe19\ufe30-\ufe6f\uff01-\uff60\uffe0-\uffe6\u{16fe0}-\u{18dff}\u{1aff0}-\u{1b2ff}\u{20000}-\u{3fffd}]|\p{Emoji_Presentation}|\p{Emoji}\ufe0f/u;
/** Combining marks and what joins characters take no column of their own. */
const NO_COLUMN = /[\p{Mn}\p{Me}\p{Cf}\u1160-\u11ff]/gu;
const PLAIN = /^[\x20-\x7e]*$/;

// Made when it is wanted: it takes milliseconds that most commands need not spend.
let segmenter: Intl.Segmenter | undefined;

function* charactersOf(text: string): Generator<string> {
  segmenter ??= new Intl.Segmenter();
  for (const { segment } of segmenter.segment(text)) yield segment;
}

function characterWidth(character: string): number {
  if (WIDE.test(character)) return 2;
  // Letters that are written as one, as in Devanagari: terminals give each a column.
  return [...character.replace(NO_COLUMN, "")].length;
}

/** Columns that one line of text takes. */
export function textWidth(text: string): number {
  if (PLAIN.test(text)) return text.length;
  let width = 0;
  for (const character of charactersOf(text)) width += characterWidth(character);
  return width;
}

/** The start of a text in at most `most` columns; what is cut ends in `…`. */
export function cutToWidth(text: string, most: number): string {
  if (textWidth(text) <= most) return text;
  if (most < 1) return "";
  let kept = "";
  let width = 1; // of the …
  for (const character of charactersOf(text)) {
    width += characterWidth(character);
    if (width > most) break;
    kept += character;
  }
  return `${kept}…`;
}

/** With blanks behind it, so that it takes `width` columns. */
export function padToWidth(text: string, width: number): string {
  return text + " ".repeat(Math.max(0, width - textWidth(text)));
}

/** Lines of at most `width` characters, where no word is longer; each begins with `indent`, which is not counted. */
export function wrap(text: string, width: number, indent = ""): string[] {
  const lines: string[] = [];
  let line = "";
  for (const word of text.split(" ")) {
    if (line !== "" && line.length + 1 + word.length > width) {
      lines.push(indent + line);
      line = word;
    } else line = line === "" ? word : `${line} ${word}`;
  }
  return [...lines, indent + line];
}
