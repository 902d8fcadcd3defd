/**
 * Search in a log: plain words, in what a terminal would show, whatever their case; what a line has only since its parts
 * were written over each other is not found. Reads one piece after the other up to a bound of bytes and time, and says
 * how far it came. Must not hold more than a piece.
 */
import type { LogText } from "../logs.ts";
import { Semaphore } from "../util/semaphore.ts";
import { finishInSlices } from "../util/slices.ts";
import { withoutColours } from "../util/text.ts";
import { plainText } from "./terminal.ts";

/** Bytes read at a time. */
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
/** Characters searched at a time: backwards, each of them may be compared with all of the words. */
const STRIDE = 64 * 1024;
/** Lines counted at a time. */
const LINES = 10_000;
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
    const isOver = at !== start && (looked.to - looked.from >= mostBytes || performance.now() > untilMs);
    if (isDone || isOver) return { ...looked, isDone };
    const begin = isBack ? Math.max(0, at - PIECE_BYTES) : at;
    const bytes = await text.read(begin, isBack ? at - begin : PIECE_BYTES);
    if (bytes.length === 0) return { ...looked, isDone: true };
    const [from, to] = wholeLines(bytes, { isBack, isLast: isBack ? begin === 0 : begin + bytes.length >= text.size });
    const { found, stopped } = await finishInSlices(findIn(bytes.subarray(from, to), wanted, { isBack, untilMs }), {
      signal,
    });
    if (found) {
      const here = { from: begin + from + found.from, to: begin + from + found.to };
      return { found: here, from: Math.min(start, here.from), to: Math.max(start, here.to), isDone: false };
    }
    if (stopped !== undefined) {
      at = begin + from + stopped;
      continue;
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

/** `stopped`: where it was when its time was over, if it was over before the end; the next line begins or ends there. */
interface FoundIn {
  readonly found?: Found;
  readonly stopped?: number;
}

/** Yields whenever some milliseconds of work may be done: after each line that was looked at, to begin with. */
function* findIn(
  bytes: Uint8Array,
  wanted: string,
  { isBack, untilMs }: { isBack: boolean; untilMs: number },
): Generator<void, FoundIn> {
  const written = new TextDecoder("utf-8", { ignoreBOM: true }).decode(bytes);
  yield;
  const raw = written.toLowerCase();
  yield;
  const text = raw.includes("\u001b") ? withoutColours(raw) : raw;
  yield;
  const lines = isBack ? new LinesBack(bytes, text) : new LinesOn(bytes, text);
  let at = yield* seek(text, wanted, isBack ? text.length : 0, isBack);
  while (at >= 0) {
    yield* lines.goTo(at);
    const { from, to } = lines;
    if (to - from > LONG_LINE_BYTES) return { found: yield* placeIn(bytes, { from, to }, wanted, isBack) };
    const end = to - (bytes[to - 1] === NEWLINE ? 1 : 0);
    const shown = plainText(new TextDecoder().decode(bytes.subarray(from, end)));
    if (shown.toLowerCase().includes(wanted)) return { found: { from, to } };
    if (performance.now() > untilMs) return { stopped: isBack ? from : to };
    yield;
    // The words have no line break: the next ones are in another line.
    at = yield* seek(text, wanted, isBack ? lines.textFrom - wanted.length : lines.textTo, isBack);
  }
  return {};
}

/** Where the words begin next, from this place on or back; -1: nowhere. */
function* seek(text: string, wanted: string, from: number, isBack: boolean): Generator<void, number> {
  const more = wanted.length - 1;
  for (let at = from; isBack ? at >= 0 : at < text.length; at += isBack ? -STRIDE : STRIDE) {
    const begin = isBack ? Math.max(0, at - STRIDE + 1) : at;
    const part = text.slice(begin, (isBack ? at + 1 : at + STRIDE) + more);
    const hit = isBack ? part.lastIndexOf(wanted) : part.indexOf(wanted);
    if (hit >= 0) return begin + hit;
    yield;
  }
  return -1;
}

/** The line that has a place of the text, and where it is in the bytes: both have the same line breaks. */
class LinesOn {
  from = 0;
  to = 0;
  textFrom = 0;
  textTo = 0;

  constructor(readonly bytes: Uint8Array, readonly text: string) {}

  /** Goes on to the line with this place, which is no earlier one. */
  *goTo(at: number): Generator<void, void> {
    for (let count = 1; at >= this.textTo; count++) {
      this.textFrom = this.textTo;
      this.textTo = this.text.indexOf("\n", this.textFrom) + 1 || this.text.length;
      this.from = this.to;
      this.to = this.bytes.indexOf(NEWLINE, this.from) + 1 || this.bytes.length;
      if (count % LINES === 0) yield;
    }
  }
}

/** The same from the end on. */
class LinesBack {
  from: number;
  to: number;
  textFrom: number;
  textTo: number;

  constructor(readonly bytes: Uint8Array, readonly text: string) {
    this.from = this.to = bytes.length;
    this.textFrom = this.textTo = text.length;
  }

  /** Goes back to the line with this place, which is no later one. */
  *goTo(at: number): Generator<void, void> {
    for (let count = 1; at < this.textFrom; count++) {
      this.textTo = this.textFrom;
      // The break before the last one; a negative place would mean another.
      this.textFrom = this.textTo < 2 ? 0 : this.text.lastIndexOf("\n", this.textTo - 2) + 1;
      this.to = this.from;
      this.from = this.to < 2 ? 0 : this.bytes.lastIndexOf(NEWLINE, this.to - 2) + 1;
      if (count % LINES === 0) yield;
    }
  }
}

function* placeIn(bytes: Uint8Array, line: Found, wanted: string, isBack: boolean): Generator<void, Found> {
  const text = new TextDecoder().decode(bytes.subarray(line.from, line.to));
  yield;
  const lower = text.toLowerCase();
  yield;
  // Its colours may stand within the words.
  const at = Math.max(0, yield* seek(lower, wanted, isBack ? lower.length : 0, isBack));
  const bytesOf = (part: string) => new TextEncoder().encode(part).length;
  const hit = Math.min(line.from + bytesOf(text.slice(0, at)), line.to - 1);
  return { from: hit, to: Math.min(line.to, hit + bytesOf(wanted)) };
}
