/**
 * Lines of output as a terminal shows them: colours and weights as classes, carriage returns and what moves the cursor
 * within the line carried out, all other orders to a terminal left out or shown as characters. Pure. Must not emit markup:
 * spans are text for JSX, which escapes it.
 */

/** Text of one look. `classes`: of the style sheet, separated by blanks; "" for none. */
export interface Span {
  readonly text: string;
  readonly classes: string;
}

/**
 * An order: CSI with its parameters, intermediates and final byte; OSC up to its end; a string that nobody sees (DCS, SOS,
 * PM, APC); another escape; or a character that moves the cursor, or rings. ECMA-48. Each part stops at the next ESC, so
 * that the search takes linear time.
 */
const ORDER =
  // deno-lint-ignore no-control-regex
  /\u001b\[([0-?]*)([ -/]*)([@-~])|\u001b\][^\u0007\u001b]*(?:\u0007|\u001b\\)|\u001b[PX^_][^\u001b]*\u001b\\|\u001b[ -/]*[0-OQ-WYZ\\`-~]|[\r\b\u0007]/g;
/** What makes a line more than its text from left to right. */
// deno-lint-ignore no-control-regex
const MOVES = /[\r\b]|\u001b\[[0-9;]*[CDGKPX`]/;
/** C0 and DEL but for the tab: shown by the pictures that Unicode has of them. */
// deno-lint-ignore no-control-regex
const CONTROLS = /[\u0000-\u0008\u000a-\u001f\u007f]/g;
/** What has no place of its own: marks upon the character before. */
const COMBINING = /^[\p{M}\u200d\ufe0f]/u;
/** The cursor goes to no further column beyond the text: blanks for a few bytes could fill a page. */
const LAST_COLUMN = 400;
/**
 * Characters that are moved, blanked or filled in at most, for each one of the line: orders of a few bytes that change
 * all of a long line would take quadratic time. What a line has beyond that is shown from left to right.
 */
const MOVES_PER_CHARACTER = 16;
/** So many in any case: a short line may go far to the right. */
const LEAST_MOVES = 1_000;

/** Colours that both themes have, as the number of their classes; 0: that of the text, 7: of the text reversed. */
type Colour = 0 | 1 | 2 | 3 | 4 | 5 | 6 | 7 | 8;

interface Look {
  readonly ink: Colour;
  readonly ground: Colour;
  readonly bold: boolean;
  readonly dim: boolean;
  readonly italic: boolean;
  readonly underlined: boolean;
  readonly struck: boolean;
  readonly reversed: boolean;
}

const PLAIN: Look = {
  ink: 0,
  ground: 0,
  bold: false,
  dim: false,
  italic: false,
  underlined: false,
  struck: false,
  reversed: false,
};

/** Shows one line after the other; a look lasts over the end of a line until it is changed. */
export class Terminal {
  #look = PLAIN;
  #classes = "";

  /** `text`: without its line break. The spans have at most LAST_COLUMN more characters. */
  line(text: string): Span[] {
    const line = text.endsWith("\r") ? text.slice(0, -1) : text;
    const moves = MOVES.test(line);
    const to = moves ? new Cells(LEAST_MOVES + MOVES_PER_CHARACTER * line.length) : new Row();
    let at = 0;
    for (const order of line.matchAll(ORDER)) {
      if (order.index > at) to.write(shown(line.slice(at, order.index)), this.#classes);
      at = order.index + order[0].length;
      const [word, params = "", between, final] = order;
      if (final === "m" && between === "" && !/^[<-?]/.test(params)) {
        this.#look = changed(this.#look, params);
        this.#classes = classesOf(this.#look);
      } else if (to instanceof Cells) to.obey(final ?? word, Math.min(Number.parseInt(params) || 0, 1e6));
    }
    if (at < line.length) to.write(shown(line.slice(at)), this.#classes);
    return to.spans();
  }
}

/** The text of a line as a terminal shows it. */
export function plainText(line: string): string {
  return new Terminal().line(line).map(({ text }) => text).join("");
}

function shown(text: string): string {
  return text.replace(
    CONTROLS,
    (char) => char === "\u007f" ? "\u2421" : String.fromCharCode(0x2400 + char.charCodeAt(0)),
  );
}

/** Spans from left to right. */
class Row {
  readonly #spans: { text: string; classes: string }[] = [];

  write(text: string, classes: string): void {
    const last = this.#spans.at(-1);
    if (last?.classes === classes) last.text += text;
    else this.#spans.push({ text, classes });
  }

  spans(): Span[] {
    return this.#spans;
  }
}

const BLANK: Span = { text: " ", classes: "" };

/** Places of a line that may be written over, until so many of them were moved. */
class Cells {
  #cells: Span[] = [];
  #at = 0;
  #moves: number;
  /** What was written since there are no moves left. */
  #rest: Row | undefined;

  constructor(moves: number) {
    this.#moves = moves;
  }

  write(text: string, classes: string): void {
    if (!this.#canMove(this.#at - this.#cells.length)) return this.#rest!.write(text, classes);
    while (this.#cells.length < this.#at) this.#cells.push(BLANK);
    for (const char of text) {
      const before = this.#cells[this.#at - 1];
      if (before && COMBINING.test(char)) this.#cells[this.#at - 1] = { ...before, text: before.text + char };
      else this.#cells[this.#at++] = { text: char, classes };
    }
  }

  /** `final`: of a CSI, or the character; `count`: its first number, 0 for none. */
  obey(final: string, count: number): void {
    const some = Math.max(1, count);
    const [at, cells] = [this.#at, this.#cells];
    if (!this.#canMove(moved(final, count, cells.length, at))) return;
    if (final === "\r") this.#at = 0;
    else if (final === "\b") this.#at = Math.max(0, at - 1);
    else if (final === "C") this.#at = Math.min(at + some, Math.max(at, cells.length, LAST_COLUMN));
    else if (final === "D") this.#at = Math.max(0, at - some);
    else if (final === "G" || final === "`") this.#at = Math.min(some - 1, Math.max(cells.length, LAST_COLUMN));
    else if (final === "P") cells.splice(at, some);
    else if (final === "X") cells.fill(BLANK, at, at + some);
    else if (final === "K") {
      if (count === 1) cells.fill(BLANK, 0, at + 1);
      else cells.length = count === 2 ? 0 : Math.min(cells.length, at);
    }
  }

  spans(): Span[] {
    const row = new Row();
    for (const { text, classes } of this.#cells) row.write(text, classes);
    for (const { text, classes } of this.#rest?.spans() ?? []) row.write(text, classes);
    return row.spans();
  }

  #canMove(count: number): boolean {
    if (!this.#rest && count > 0) this.#moves -= count;
    if (this.#moves < 0) this.#rest ??= new Row();
    return this.#rest === undefined;
  }
}

/** Characters of a line of this length that an order moves or blanks. */
function moved(final: string, count: number, length: number, at: number): number {
  if (final === "P") return length - at;
  if (final === "X") return Math.min(Math.max(1, count), length - at);
  return final === "K" && count === 1 ? Math.min(length, at + 1) : 0;
}

/** A look after Select Graphic Rendition (SGR) with these parameters. */
function changed(before: Look, params: string): Look {
  let look = before;
  const words = params.split(";");
  for (let at = 0; at < words.length; at++) {
    const [code = 0, ...more] = words[at]!.split(":").map(Number);
    if (code === 38 || code === 48) {
      // `38:2::1:2:3` or `38;2;1;2;3`, and the like with 5 for one of 256.
      const rest = more.length > 0 ? more : words.slice(at + 1, at + 5).map(Number);
      const [kind, ...values] = rest;
      if (more.length === 0) at += kind === 2 ? 4 : kind === 5 ? 2 : 1;
      const found = kind === 5
        ? ofPalette(values[0] ?? 0, code === 48)
        : kind === 2
        ? nearest(values.slice(more.length > 4 ? 1 : 0), code === 48)
        : undefined;
      if (found !== undefined) look = { ...look, [code === 38 ? "ink" : "ground"]: found };
    } else look = { ...look, ...simple(code, more[0]) };
  }
  return look;
}

function simple(code: number, sub: number | undefined): Partial<Look> {
  if (code >= 30 && code <= 37) return { ink: ofPalette(code - 30, false) };
  if (code >= 90 && code <= 97) return { ink: ofPalette(code - 82, false) };
  if (code >= 40 && code <= 47) return { ground: ofPalette(code - 40, true) };
  if (code >= 100 && code <= 107) return { ground: ofPalette(code - 92, true) };
  if (code === 4) return { underlined: sub !== 0 };
  return SIMPLE[code] ?? {};
}

/** What the other codes change. */
const SIMPLE: Readonly<Record<number, Partial<Look>>> = {
  0: PLAIN,
  1: { bold: true },
  2: { dim: true },
  3: { italic: true },
  7: { reversed: true },
  9: { struck: true },
  21: { underlined: true },
  22: { bold: false, dim: false },
  23: { italic: false },
  24: { underlined: false },
  27: { reversed: false },
  29: { struck: false },
  39: { ink: 0 },
  49: { ground: 0 },
};

/** One of 256: the 16 named ones, a cube of 6 × 6 × 6, and greys. */
function ofPalette(code: number, isGround: boolean): Colour {
  if (code >= 1 && code <= 6) return code as Colour;
  if (code >= 9 && code <= 14) return (code - 8) as Colour;
  if (code === 8) return 8;
  // Black and white are the text's own on one theme and cannot be read on the other.
  if (code < 16) return isGround && code > 0 ? 7 : 0;
  if (code > 255 || Number.isNaN(code)) return 0;
  if (code >= 232) return nearest(new Array(3).fill(8 + (code - 232) * 10), isGround);
  const level = (value: number) => value === 0 ? 0 : 55 + value * 40;
  const cube = code - 16;
  return nearest([Math.floor(cube / 36), Math.floor(cube / 6) % 6, cube % 6].map(level), isGround);
}

/** The colour of both themes that is nearest to red, green and blue of 0 to 255, by its hue. */
function nearest([red = 0, green = 0, blue = 0]: readonly number[], isGround: boolean): Colour {
  const [most, least] = [Math.max(red, green, blue), Math.min(red, green, blue)];
  const span = most - least;
  // Also where a value is no number.
  if (!(span >= 48 && span >= most / 5)) {
    if (most >= 70 && most < 190) return 8;
    return isGround && most >= 190 ? 7 : 0;
  }
  const sector = most === red
    ? ((green - blue) / span + 6) % 6
    : most === green
    ? (blue - red) / span + 2
    : (red - green) / span + 4;
  const hue = sector * 60;
  return hue < 20 || hue >= 340 ? 1 : hue < 70 ? 3 : hue < 165 ? 2 : hue < 200 ? 6 : hue < 262 ? 4 : 5;
}

function classesOf({ ink, ground, bold, dim, italic, underlined, struck, reversed }: Look): string {
  const front = dim && ink === 0 ? 8 : ink;
  const [text, back] = reversed ? [ground, front || 7] : [front, ground];
  const names = [
    // A ground brings the ink that can be read upon it.
    back !== 0 ? `k${back}` : text !== 0 ? `a${text}` : "",
    bold ? "tb" : "",
    italic ? "ti" : "",
    underlined ? "tu" : "",
    struck ? "ts" : "",
  ];
  return names.filter((name) => name !== "").join(" ");
}
