/**
 * Where lines are in a text that is too large to be read for that: how many line breaks each step of it has. Pure.
 */

/** Line breaks in each `step` bytes of a text, from its first byte on. */
export interface LineCounts {
  readonly step: number;
  readonly breaks: readonly number[];
}

/** A place in a text, and the line breaks before it. */
export interface Place {
  readonly at: number;
  readonly breaks: number;
}

/** Bytes of a step: so much is read at most to find a line. */
export const STEP_BYTES = 256 * 1024;
/** Beyond it, two steps become one: 4 GiB of text with the first step. */
const MOST_STEPS = 16_384;
const NEWLINE = 0x0a;

/** Counts the lines of a text as it goes by. */
export class LineCounter implements LineCounts {
  step: number;
  breaks: number[] = [];
  /** Of the text so far. */
  bytes = 0;
  total = 0;
  readonly #mostSteps: number;

  /** Other bounds are for tests. */
  constructor({ step = STEP_BYTES, mostSteps = MOST_STEPS }: { step?: number; mostSteps?: number } = {}) {
    this.step = step;
    this.#mostSteps = mostSteps;
  }

  push(text: Uint8Array): void {
    for (let at = 0; at < text.length;) {
      const step = Math.floor(this.bytes / this.step);
      if (step >= this.#mostSteps) {
        this.#coarsen();
        continue;
      }
      const end = Math.min(text.length, at + this.step - this.bytes % this.step);
      const count = breaksIn(text, at, end);
      this.breaks[step] = (this.breaks[step] ?? 0) + count;
      this.total += count;
      this.bytes += end - at;
      at = end;
    }
  }

  #coarsen(): void {
    const half = Math.ceil(this.breaks.length / 2);
    this.breaks = Array.from({ length: half }, (_, at) => this.breaks[2 * at]! + (this.breaks[2 * at + 1] ?? 0));
    this.step *= 2;
  }
}

/** Line breaks from `from` up to `to`. */
export function breaksIn(text: Uint8Array, from = 0, to = text.length): number {
  let count = 0;
  for (let at = from; at < to; at++) if (text[at] === NEWLINE) count++;
  return count;
}

/** Finds lines in the part of a text that begins at a place; all that is asked and answered counts from there. */
export class LineMap {
  readonly #counts: LineCounts;
  readonly #start: Place;

  constructor(counts: LineCounts, start: Place) {
    this.#counts = counts;
    this.#start = start;
  }

  /** The last place at or before `at` of which the number of line breaks before it is known. */
  before(at: number): Place {
    const { step, breaks } = this.#counts;
    const whole = Math.min(Math.floor((this.#start.at + at) / step), breaks.length);
    if (whole * step <= this.#start.at) return { at: 0, breaks: 0 };
    let count = 0;
    for (let index = 0; index < whole; index++) count += breaks[index]!;
    return { at: whole * step - this.#start.at, breaks: count - this.#start.breaks };
  }

  /** The last place before the line break of that number (1: the first one), a step before it at most; undefined: there is none. */
  beforeBreak(number: number): Place | undefined {
    const { step, breaks } = this.#counts;
    const wanted = this.#start.breaks + number;
    let count = 0;
    for (let index = 0; index < breaks.length; index++) {
      if (count + breaks[index]! >= wanted) {
        if (index * step <= this.#start.at) return { at: 0, breaks: 0 };
        return { at: index * step - this.#start.at, breaks: count - this.#start.breaks };
      }
      count += breaks[index]!;
    }
    return undefined;
  }

  /** Where the first step begins, or `at` itself, in which there is a line break behind `at`; it may be before `at`. */
  nextWithBreak(at: number): number | undefined {
    const { step, breaks } = this.#counts;
    const first = Math.floor((this.#start.at + at) / step);
    // The step of `at` itself may have its breaks before `at`.
    for (let index = first + 1; index < breaks.length; index++) {
      if (breaks[index]! > 0) return index * step - this.#start.at;
    }
    return undefined;
  }
}
