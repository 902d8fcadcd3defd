/**
 * The lines of one container's output, over all streams that bring it: strips the time at the start of each, takes each
 * line once although a new stream repeats some, and sees where lines are missing. Pure; works on bytes, for output need
 * not be UTF-8. Must not know where the lines go.
 */

/** A place in a container's output: the time of a line as the cluster wrote it, and how much of the line was taken. */
export interface Position {
  /** "": nothing has been taken yet. */
  readonly time: string;
  /** Of the line under way; 0 where it is complete. */
  readonly bytes: number;
  readonly complete: boolean;
}

export interface LineEvents {
  /** A part of the output, never beyond the end of a line. Copy it: the array is the stream's. */
  onText(text: Uint8Array): void;
  /**
   * A line begins that a new stream has brought first, and none before it was known: the two may not adjoin. `from` is
   * "" for the first line of all.
   */
  onSeam(from: string, to: string): void;
  /** Lines between these two are missing: one that the cluster had was passed over. Called at the start of a line. */
  onGap(from: string, to: string): void;
  /** A line without a time: not output, but what the node has to say. Cut. */
  onRemark(text: string): void;
}

const BLANK = 0x20;
const NEWLINE = 0x0a;
/** `2006-01-02T15:04:05.000000000+07:00`, what a node writes at most (RFC 3339 with nine digits). */
const MOST_TIME_BYTES = 35;
const TIME = /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d/;
const MOST_REMARK_BYTES = 300;
/**
 * So many lines are known by their times where two streams meet. Lines of stdout and stderr are written in another order
 * than that of their times, by microseconds, so that the last line's time alone does not say which lines were taken.
 */
const REMEMBERED = 256;
/** Times of two lines that the node wrote one after the other are never so far in the wrong order. */
const DISORDER_MS = 1_000;
/** The runtime parts lines of this size, and a part may be taken for a line. */
export const LONG_LINE_BYTES = 16_000;
/** A stream that reads one file a second time begins with a line that stood behind such a leap of time. */
const LEAP_MS = 2_000;
const MOST_LEAPS = 64;

export class LineReader {
  readonly #events: LineEvents;
  /** Times of the last lines taken, oldest first from `#next` on. */
  readonly #recent: string[] = [];
  #next = 0;
  #at: { time: string; bytes: number; complete: boolean };
  /** Set where a stream may repeat what is known. */
  #seam: Seam | undefined;
  /** Lines that stood behind a leap of time, with the ones before it, and whether that was told as a gap. */
  readonly #leaps = new Map<string, { readonly from: string; isTold: boolean }>();
  /** Times of lines that the cluster has, and which must come. */
  #expected: Expected[] = [];
  /** Of the line under way: where its bytes go. */
  #mode: "head" | "take" | "skip" | "remark" = "head";
  readonly #head = new Uint8Array(MOST_TIME_BYTES + 1);
  #headBytes = 0;
  #skipBytes = 0;
  #remark: number[] = [];
  /** Behind which line the last gap or seam is that was told. */
  #told = "";

  /** `known`: what a former process has taken. */
  constructor(events: LineEvents, known: Position = { time: "", bytes: 0, complete: true }) {
    this.#events = events;
    this.#at = { ...known };
    if (known.time !== "") this.#recent.push(known.time);
  }

  /** Up to where the output is known. */
  get at(): Position {
    return this.#at;
  }

  /** A new stream begins, which may repeat lines from the second of the last one on. */
  beginStream(): void {
    this.#mode = "head";
    this.#headBytes = 0;
    this.#skipBytes = 0;
    this.#remark = [];
    this.#seam = this.#at.time === "" ? undefined : new Seam(this.#recent, this.#at);
  }

  /** The cluster has a line of that time: if lines far behind it come and it does not, some are missing. */
  expect(time: string): void {
    if (isLater(time, this.#at.time)) this.#expected.push({ time, passed: undefined });
  }

  /** The stream has brought no line so far, not even the last one that is known. */
  get isEmptyStream(): boolean {
    return this.#at.time === "" || (this.#seam?.isNew ?? false);
  }

  /** A line that the cluster has has not come yet. */
  get isBehind(): boolean {
    return this.#expected.length > 0;
  }

  /** All has come that will: what is expected still, is missing. */
  end(): void {
    const [first] = this.#expected;
    if (!first) return;
    const { from, to } = first.passed ?? { from: this.#at.time, to: this.#expected.at(-1)!.time };
    this.#expected = [];
    this.#events.onGap(from, to);
  }

  push(chunk: Uint8Array): void {
    for (let at = 0; at < chunk.length;) {
      at = this.#mode === "head" ? this.#readHead(chunk, at) : this.#readText(chunk, at);
    }
  }

  #readHead(chunk: Uint8Array, at: number): number {
    for (; at < chunk.length; at++) {
      const byte = chunk[at]!;
      if (byte === BLANK || byte === NEWLINE || this.#headBytes === MOST_TIME_BYTES + 1) {
        const head = this.#head.subarray(0, this.#headBytes);
        const time = String.fromCharCode(...head);
        this.#headBytes = 0;
        if (byte === BLANK && TIME.test(time)) {
          this.#beginLine(time);
          return at + 1;
        }
        // What a stream begins with in the middle of a long line, is the rest of one that is known.
        this.#mode = this.#seam?.isNew ? "skip" : "remark";
        if (this.#mode === "remark") this.#remark.push(...head);
        return at;
      }
      this.#head[this.#headBytes++] = byte;
    }
    return at;
  }

  #readText(chunk: Uint8Array, at: number): number {
    const newline = chunk.indexOf(NEWLINE, at);
    const end = newline < 0 ? chunk.length : newline + 1;
    if (this.#mode === "take") this.#take(chunk, at, end);
    else if (this.#mode === "remark") this.#note(chunk.subarray(at, newline < 0 ? end : newline));
    if (newline >= 0) this.#endLine();
    return end;
  }

  #take(chunk: Uint8Array, at: number, end: number): void {
    const known = Math.min(this.#skipBytes, end - at);
    this.#skipBytes -= known;
    if (known === end - at) return;
    this.#at.bytes += end - at - known;
    if (this.#at.bytes > LONG_LINE_BYTES) this.#expected = [];
    this.#events.onText(chunk.subarray(at + known, end));
  }

  #note(text: Uint8Array): void {
    if (this.#remark.length < MOST_REMARK_BYTES) this.#remark.push(...text.subarray(0, MOST_REMARK_BYTES));
  }

  #endLine(): void {
    if (this.#mode === "take") {
      this.#at.complete = true;
      this.#at.bytes = 0;
    } else if (this.#mode === "remark" && this.#remark.length > 0) {
      this.#events.onRemark(new TextDecoder().decode(new Uint8Array(this.#remark)).slice(0, MOST_REMARK_BYTES));
      this.#remark = [];
    }
    this.#mode = "head";
  }

  #beginLine(time: string): void {
    const last = this.#at.time;
    if (this.#expected.length > 0) this.#look(time, last);
    // The node reads one file twice when it has left one out: it heard of two new ones and opened the newest for each.
    const leap = !this.#seam && time < last ? this.#leaps.get(time) : undefined;
    if (leap) {
      this.#seam = new Seam(this.#recent, this.#at);
      if (!leap.isTold) this.#events.onGap(leap.from, time);
      leap.isTold = true;
    }
    const seam = this.#seam;
    if (seam) {
      const verdict = seam.judge(time);
      this.#mode = verdict === "known" ? "skip" : "take";
      if (verdict === "known") return;
      if (verdict === "goesOn") {
        this.#skipBytes = this.#at.bytes;
        return;
      }
      if (verdict === "apart") this.#tellSeam(last, time);
      if (seam.isOver(time)) this.#seam = undefined;
    }
    this.#mode = "take";
    if (last === "") this.#events.onSeam("", time);
    if (last !== "" && time.slice(0, 19) !== last.slice(0, 19) && Date.parse(time) - Date.parse(last) >= LEAP_MS) {
      if (this.#leaps.size === MOST_LEAPS) this.#leaps.clear();
      this.#leaps.set(time, { from: last, isTold: this.#told === time });
    }
    this.#at = { time, bytes: 0, complete: false };
    if (this.#recent.length < REMEMBERED) this.#recent.push(time);
    else {
      this.#recent[this.#next] = time;
      this.#next = (this.#next + 1) % REMEMBERED;
    }
  }

  /** The seam is a gap where a line that must come would stand in it. */
  #tellSeam(from: string, to: string): void {
    const left = this.#expected.filter((expected) => !isLater(to, expected.time));
    const isGap = left.length < this.#expected.length;
    this.#expected = left;
    if (this.#told === to) return;
    if (isGap) this.#events.onGap(from, to);
    else this.#events.onSeam(from, to);
    this.#told = to;
  }

  /** Whether a line that is expected has come, or been passed over for good. */
  #look(time: string, last: string): void {
    this.#expected = this.#expected.filter((expected) => {
      if (time === expected.time) return false;
      if (!isLater(time, expected.time)) return true;
      expected.passed ??= { from: last, to: time };
      if (Date.parse(time) - Date.parse(expected.time) <= DISORDER_MS) return true;
      const { from, to } = expected.passed;
      // Of several in one gap, the first tells of it.
      if (this.#told !== to) this.#events.onGap(from, to);
      this.#told = to;
      const leap = this.#leaps.get(to);
      if (leap) leap.isTold = true;
      return false;
    });
  }
}

interface Expected {
  readonly time: string;
  /** The lines around the place where it should have come. */
  passed: { readonly from: string; readonly to: string } | undefined;
}

/** Tells, where a stream repeats some lines, which of them are known. */
class Seam {
  /** How many lines of that time were taken. */
  readonly #known = new Map<string, number>();
  readonly #at: Position;
  /** A line that is known was seen: what comes behind it and is not known itself is new, whatever its time. */
  #met = false;
  #began = false;

  constructor(recent: readonly string[], at: Position) {
    for (const time of recent) this.#known.set(time, (this.#known.get(time) ?? 0) + 1);
    this.#at = { ...at };
  }

  /** No line has begun yet. */
  get isNew(): boolean {
    return !this.#began;
  }

  judge(time: string): "known" | "goesOn" | "new" | "apart" {
    this.#began = true;
    const count = this.#known.get(time) ?? 0;
    if (count > 0) {
      this.#met = true;
      if (count > 1) this.#known.set(time, count - 1);
      else this.#known.delete(time);
      return count === 1 && time === this.#at.time && !this.#at.complete ? "goesOn" : "known";
    }
    if (this.#met) return "new";
    if (!isLater(time, this.#at.time)) return "known";
    this.#met = true;
    return "apart";
  }

  /** Nothing that is known can come any more. */
  isOver(time: string): boolean {
    return this.#known.size === 0 || Date.parse(time) - Date.parse(this.#at.time) > DISORDER_MS;
  }
}

/** Compares RFC 3339 times to the nanosecond; Date alone holds milliseconds. "" is before all. */
export function isLater(a: string, b: string): boolean {
  // All of one node are of one form, unless its zone has changed.
  if (a.length === b.length && a.slice(29) === b.slice(29)) return a > b;
  if (a === "" || b === "") return a > b;
  const [ms, otherMs] = [Date.parse(a), Date.parse(b)];
  if (ms !== otherMs) return ms > otherMs;
  return fraction(a) > fraction(b);
}

function fraction(time: string): string {
  return (/\.(\d+)/.exec(time)?.[1] ?? "").padEnd(9, "0");
}
