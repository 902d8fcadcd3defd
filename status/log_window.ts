/**
 * Windows of a log: so many bytes of it, cut at line ends, with the numbers of their lines. Reads no more than it shows
 * and one step of the map of lines. Must not know what lines look like.
 */
import { breaksIn, type LogText, STEP_BYTES } from "../logs.ts";

/** A window has at most so much: with its markup that is a page of about 120 KB, of ordinary lines. */
export const WINDOW_BYTES = 40 * 1024;
export const WINDOW_LINES = 400;
/** Shown before a line that was asked for. */
const BEFORE_BYTES = WINDOW_BYTES / 4;
const BEFORE_LINES = WINDOW_LINES / 5;
/** Shown before a place within a line. */
const BEFORE_WITHIN = 1024;
const NEWLINE = 0x0a;

/** A line, or a piece of one that is larger than a window. */
export interface LogLine {
  /** From 1; absent: it is not known. */
  readonly number?: number;
  /** Bytes of the output before it and before its end; its line break is within. */
  readonly from: number;
  readonly to: number;
  /** As it was written, without its line break; what is no UTF-8 is U+FFFD. */
  readonly text: string;
  /** It began before this. */
  readonly isRest?: true;
  /** It goes on behind this. */
  readonly goesOn?: true;
}

export interface LogWindow {
  /** Bytes of the output before it and before its end. */
  readonly from: number;
  readonly to: number;
  readonly lines: readonly LogLine[];
  /** Where the line ends of which this window ends in the middle; absent where it does not, or that is not known. */
  readonly nextLine?: number;
}

/** The window that begins there. */
export async function windowFrom(text: LogText, from: number): Promise<LogWindow> {
  const begin = Math.min(from, text.size);
  const back = begin > 0 ? 1 : 0;
  const bytes = await text.read(begin - back, WINDOW_BYTES + back);
  const isRest = back === 1 && bytes[0] !== NEWLINE;
  // Not in the middle of a character.
  const start = back + (isRest ? continuation(bytes, back) : 0);
  const isEnd = begin - back + bytes.length >= text.size;
  return await numbered(text, begin - back + start, bytes.subarray(start, endOf(bytes, start, isEnd)), isRest);
}

/** The window that ends there. */
export async function windowBefore(text: LogText, to: number): Promise<LogWindow> {
  const end = Math.min(to, text.size);
  const begin = Math.max(0, end - WINDOW_BYTES);
  const back = begin > 0 ? 1 : 0;
  const bytes = await text.read(begin - back, end - begin + back);
  const start = startOf(bytes, { back, lines: WINDOW_LINES });
  const isRest = start === undefined;
  const at = start ?? back + continuation(bytes, back);
  return await numbered(text, begin - back + at, bytes.subarray(at), isRest);
}

/** The window with the line that begins there, and so many lines before it; or with a place within a line. */
export async function windowAround(
  text: LogText,
  from: number,
  { linesBefore = BEFORE_LINES }: { linesBefore?: number } = {},
): Promise<LogWindow> {
  const begin = Math.max(0, from - BEFORE_BYTES);
  const back = begin > 0 ? 1 : 0;
  const bytes = await text.read(begin - back, from - begin + back);
  const start = startOf(bytes, { back, lines: linesBefore });
  if (from > 0 && bytes.at(-1) !== NEWLINE) return await windowFrom(text, Math.max(0, from - BEFORE_WITHIN));
  if (start === undefined) return await windowFrom(text, from);
  const window = await windowFrom(text, begin - back + start);
  // A line that did not fit has a window of its own.
  return window.to > from ? window : await windowFrom(text, from);
}

/** Where the line of that number begins, the last one where there are fewer; undefined: lines have no numbers. */
export async function placeOfLine(text: LogText, number: number): Promise<number | undefined> {
  if (!text.lines) return undefined;
  if (number <= 1) return 0;
  const place = text.lines.beforeBreak(number - 1);
  if (!place) return text.size;
  let { breaks } = place;
  for (let at = place.at; at < text.size;) {
    const bytes = await text.read(at, STEP_BYTES);
    if (bytes.length === 0) break;
    for (let index = bytes.indexOf(NEWLINE); index >= 0; index = bytes.indexOf(NEWLINE, index + 1)) {
      if (++breaks === number - 1) return at + index + 1;
    }
    at += bytes.length;
  }
  return text.size;
}

/** Where the lines begin, at most so many, of bytes of which `back` are before the window; undefined: none does. */
function startOf(bytes: Uint8Array, { back, lines }: { back: number; lines: number }): number | undefined {
  let start: number | undefined;
  let count = 0;
  // The break at the end is that of the last line.
  let at = bytes.length - 1;
  while (count < lines && at > 0) {
    at = bytes.lastIndexOf(NEWLINE, at - 1);
    if (at < 0) break;
    start = at + 1;
    count++;
  }
  return count < lines && back === 0 ? 0 : start;
}

/** Where the last line that fits ends; in the middle of one where none does. */
function endOf(bytes: Uint8Array, start: number, isEnd: boolean): number {
  let end = start;
  for (let count = 0; count < WINDOW_LINES; count++) {
    const at = bytes.indexOf(NEWLINE, end);
    if (at < 0) {
      if (isEnd) return bytes.length;
      break;
    }
    end = at + 1;
  }
  return end > start ? end : wholeCharacters(bytes);
}

/** Bytes at `at` that belong to a character which began before. */
function continuation(bytes: Uint8Array, at: number): number {
  let count = 0;
  while (count < 3 && (bytes[at + count]! & 0xc0) === 0x80) count++;
  return count;
}

/** The length without the beginning of a character at the end. */
function wholeCharacters(bytes: Uint8Array): number {
  for (let back = 1; back <= 3 && back < bytes.length; back++) {
    const byte = bytes[bytes.length - back]!;
    if ((byte & 0xc0) === 0x80) continue;
    const length = byte >= 0xf0 ? 4 : byte >= 0xe0 ? 3 : byte >= 0xc0 ? 2 : 1;
    return length > back ? bytes.length - back : bytes.length;
  }
  return bytes.length;
}

async function numbered(text: LogText, from: number, bytes: Uint8Array, isRest: boolean): Promise<LogWindow> {
  const decoder = new TextDecoder("utf-8", { ignoreBOM: true });
  // A page that follows a log asks often, and mostly there is nothing new.
  const first = bytes.length === 0 ? undefined : await numberAt(text, from);
  const to = from + bytes.length;
  const lines: LogLine[] = [];
  for (let start = 0; start < bytes.length;) {
    const at = bytes.indexOf(NEWLINE, start);
    const end = at < 0 ? bytes.length : at + 1;
    lines.push({
      ...first === undefined ? {} : { number: first + lines.length },
      from: from + start,
      to: from + end,
      text: decoder.decode(bytes.subarray(start, at < 0 ? end : at)),
      ...isRest && start === 0 ? { isRest } : {},
      ...at < 0 && to < text.size ? { goesOn: true } : {},
    });
    start = end;
  }
  const nextLine = lines.at(-1)?.goesOn ? await nextLineAfter(text, to) : undefined;
  return { from, to, lines, ...nextLine === undefined ? {} : { nextLine } };
}

async function numberAt(text: LogText, from: number): Promise<number | undefined> {
  if (!text.lines) return undefined;
  const place = text.lines.before(from);
  let { breaks } = place;
  for (let at = place.at; at < from;) {
    const bytes = await text.read(at, Math.min(STEP_BYTES, from - at));
    // Somebody has put another one there.
    if (bytes.length === 0) return undefined;
    breaks += breaksIn(bytes);
    at += bytes.length;
  }
  return breaks + 1;
}

async function nextLineAfter(text: LogText, at: number): Promise<number | undefined> {
  for (const place of [at, text.lines?.nextWithBreak(at)]) {
    if (place === undefined) continue;
    const bytes = await text.read(place, STEP_BYTES);
    const index = bytes.indexOf(NEWLINE);
    if (index >= 0) return place + index + 1;
  }
  return undefined;
}
