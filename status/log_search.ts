/**
 * Search in a log: plain words, in what a terminal would show, whatever their case; what a line has only since its parts
 * were written over each other is not found. Reads one piece after the other up to a bound of bytes and time, and says
 * how far it came. Must not hold more than a piece.
 */
import type { LogText } from "../logs.ts";
import { Semaphore } from "../util/semaphore.ts";
import { withoutColours } from "../util/text.ts";
import { plainText } from "./terminal.ts";

/** Bytes read at a time: the work on them takes some milliseconds, in which nothing else is done. */
const PIECE_BYTES = 1024 * 1024;
/** One search looks at so much at most, for so long. */
const MOST_BYTES = 128 * 1024 * 1024;
const MOST_MS = 2_000;
/** Searches at a time, of all visitors. */
const SEARCHES = 2;
/** A longer line is not put together to be looked at: what is found in it is a place within. */
const LONG_LINE_BYTES = 32 * 1024;
/** Of a line that is larger than a piece, so much is looked at twice. */
const OVERLAP_BYTES = 1024;
/** Lines that have the words only in what a terminal does not show any more: of a piece no more are looked at. */
const MOST_HIDDEN = 50;
/** Characters of what is searched for. */
export const MOST_WORDS = 200;

const NEWLINE = 0x0a;

export interface SearchQuery {
  readonly words: string;
  /** Forwards from the line at this place on. */
  readonly next?: number;
  /** Backwards from the line that ends at this place. */
  readonly previous?: number;
}

export interface SearchAnswer {
  /** The line, or the place within a long one. */
  readonly found?: Found;
  /** What was looked through. */
  readonly from: number;
  readonly to: number;
  /** There is no more in that direction. */
  readonly isDone: boolean;
}

interface Found {
  readonly from: number;
  readonly to: number;
}

export interface SearchBounds {
  readonly mostBytes?: number;
  readonly mostMs?: number;
}

const searches = new Semaphore(SEARCHES);

/** Looks for the next or the previous line. Waits its turn; rejects when `signal` aborts. */
export function searchLog(
  text: LogText,
  query: SearchQuery,
  signal: AbortSignal,
  bounds: SearchBounds = {},
): Promise<SearchAnswer> {
  return searches.take(() => search(text, query, signal, bounds), signal);
}

async function search(
  text: LogText,
  { words, next, previous }: SearchQuery,
  signal: AbortSignal,
  { mostBytes = MOST_BYTES, mostMs = MOST_MS }: SearchBounds,
): Promise<SearchAnswer> {
  const wanted = words.toLowerCase();
  const isBack = previous !== undefined;
  const start = Math.min(previous ?? next ?? 0, text.size);
  const untilMs = performance.now() + mostMs;
  let at = start;
  for (;;) {
    const isDone = isBack ? at === 0 : at >= text.size;
    const looked = { from: Math.min(start, at), to: Math.max(start, at) };
    if (isDone || looked.to - looked.from >= mostBytes || performance.now() > untilMs) return { ...looked, isDone };
    const begin = isBack ? Math.max(0, at - PIECE_BYTES) : at;
    const bytes = await text.read(begin, isBack ? at - begin : PIECE_BYTES);
    if (bytes.length === 0) return { ...looked, isDone: true };
    const [from, to] = wholeLines(bytes, { isBack, isLast: isBack ? begin === 0 : begin + bytes.length >= text.size });
    const found = findIn(bytes.subarray(from, to), wanted, isBack);
    if (found) {
      const here = { from: begin + from + found.from, to: begin + from + found.to };
      return { found: here, from: Math.min(start, here.from), to: Math.max(start, here.to), isDone: false };
    }
    const isPart = from === 0 && to === bytes.length;
    const overlap = isPart && bytes.length > OVERLAP_BYTES && !bytes.subarray(0, -1).includes(NEWLINE)
      ? OVERLAP_BYTES
      : 0;
    if (isBack) at = begin === 0 ? 0 : begin + from + overlap;
    else at = begin + bytes.length >= text.size ? text.size : begin + to - overlap;
    // What is in memory is read without a pause.
    await new Promise((resolve) => setTimeout(resolve));
    signal.throwIfAborted();
  }
}

/** Where the first line begins and the last one ends of a piece; all of it where it is within one line. */
function wholeLines(bytes: Uint8Array, { isBack, isLast }: { isBack: boolean; isLast: boolean }): [number, number] {
  if (isLast) return [0, bytes.length];
  // A break at its very end is that of its last line.
  const first = bytes.indexOf(NEWLINE) + 1;
  if (isBack) return [first === bytes.length ? 0 : first, bytes.length];
  return [0, bytes.lastIndexOf(NEWLINE) + 1 || bytes.length];
}

function findIn(bytes: Uint8Array, wanted: string, isBack: boolean): Found | undefined {
  const raw = new TextDecoder("utf-8", { ignoreBOM: true }).decode(bytes).toLowerCase();
  const text = raw.includes("\u001b") ? withoutColours(raw) : raw;
  let hidden = 0;
  let at = isBack ? text.lastIndexOf(wanted) : text.indexOf(wanted);
  while (at >= 0) {
    const line = lineAt(bytes, text, at);
    const long = line.to - line.from > LONG_LINE_BYTES;
    if (long) return placeIn(bytes, line, wanted, isBack);
    const end = line.to - (bytes[line.to - 1] === NEWLINE ? 1 : 0);
    const shown = plainText(new TextDecoder().decode(bytes.subarray(line.from, end)));
    if (shown.toLowerCase().includes(wanted) || ++hidden >= MOST_HIDDEN) return line;
    if (isBack) {
      const before = text.lastIndexOf("\n", at);
      at = before < wanted.length ? -1 : text.lastIndexOf(wanted, before - wanted.length);
    } else {
      const after = text.indexOf("\n", at);
      at = after < 0 ? -1 : text.indexOf(wanted, after);
    }
  }
  return undefined;
}

/** The line of the bytes in which a place of their text lies: both have the same line breaks. */
function lineAt(bytes: Uint8Array, text: string, at: number): Found {
  let from = 0;
  for (let index = text.indexOf("\n"); index >= 0 && index < at; index = text.indexOf("\n", index + 1)) {
    from = bytes.indexOf(NEWLINE, from) + 1;
  }
  const end = bytes.indexOf(NEWLINE, from);
  return { from, to: end < 0 ? bytes.length : end + 1 };
}

function placeIn(bytes: Uint8Array, line: Found, wanted: string, isBack: boolean): Found {
  const text = new TextDecoder().decode(bytes.subarray(line.from, line.to));
  const lower = text.toLowerCase();
  // Its colours may stand within the words.
  const at = Math.max(0, isBack ? lower.lastIndexOf(wanted) : lower.indexOf(wanted));
  const bytesOf = (part: string) => new TextEncoder().encode(part).length;
  const hit = Math.min(line.from + bytesOf(text.slice(0, at)), line.to - 1);
  return { from: hit, to: Math.min(line.to, hit + bytesOf(wanted)) };
}
