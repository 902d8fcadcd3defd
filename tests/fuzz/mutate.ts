/** Inputs for the fuzzers: seeds that are nearly right, changed in ways that break readers. Repeatable by its number. */

/** mulberry32 (https://gist.github.com/tommyettinger/46a874533244883189143505d203312c): small, repeatable. */
export class Dice {
  #state: number;

  constructor(seed: number) {
    this.#state = seed >>> 0;
  }

  /** A whole number from 0 to `below` - 1. */
  below(below: number): number {
    this.#state = (this.#state + 0x6d2b79f5) >>> 0;
    let t = this.#state;
    t = Math.imul(t ^ (t >>> 15), t | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return Math.floor(((t ^ (t >>> 14)) >>> 0) / 2 ** 32 * below);
  }

  pick<T>(items: readonly T[]): T {
    return items[this.below(items.length)]!;
  }
}

/** What readers stumble over. */
const TOKENS = [
  ..."\0\n\r\t\"'`\\,;:{}[]()<>&|#+/%$@!?*=~^-. ",
  ..."\u0085\u00a0\u00ad\u200b\u202e\u2028\u2066\ufeff\ud800\udfff\u{1f4a5}",
  "\r\n",
  "\x1b[31m",
  "\x1b]0;x\x07",
  "../",
  "/../../",
  "//",
  "$(date)",
  "$share/g/",
  "{payload}",
  "{{payload}}",
  "{payload.a[0]=x}",
  "{payload.__proto__.x}",
  "__proto__",
  "constructor",
  "toString",
  "null",
  "true",
  "NaN",
  "-0",
  "1e999",
  "99999999999999999999",
  "9007199254740993",
  "1.000",
  "0x10",
  "8GB",
  "1_000",
  "&a [*a,*a]",
  "!!js/function x",
  "<<: *a",
  "data:;base64,AAAA",
  "http://a:b@c/#?",
  "mqtt://",
  "job_complete/",
  "é".normalize("NFD"),
  "İ",
  "ß",
];

type Change = (text: string, dice: Dice, seeds: readonly string[]) => string;

const CHANGES: readonly Change[] = [
  // One character away, doubled, or another in its place.
  (text, dice) => splice(text, dice.below(text.length + 1), 1, ""),
  (text, dice) => splice(text, dice.below(text.length + 1), 0, dice.pick(TOKENS)),
  (text, dice) => splice(text, dice.below(text.length + 1), 1, dice.pick(TOKENS)),
  (text, dice) =>
    splice(text, dice.below(text.length + 1), 1, String.fromCharCode(dice.below(dice.pick([128, 0x10000])))),
  // A piece away, twice, many times, or at another place.
  (text, dice) => splice(text, dice.below(text.length + 1), dice.below(40), ""),
  (text, dice) => {
    const [at, length] = [dice.below(text.length + 1), dice.below(40)];
    return splice(text, at, 0, text.slice(at, at + length));
  },
  (text, dice) => {
    const [at, length] = [dice.below(text.length + 1), 1 + dice.below(8)];
    return splice(text, at, 0, text.slice(at, at + length).repeat(dice.pick([10, 100, 1_000])));
  },
  (text, dice) => {
    const [at, length] = [dice.below(text.length + 1), dice.below(40)];
    return splice(splice(text, at, length, ""), dice.below(text.length + 1), 0, text.slice(at, at + length));
  },
  // The beginning of one and the end of another.
  (text, dice, seeds) => text.slice(0, dice.below(text.length + 1)) + dice.pick(seeds).slice(dice.below(80)),
  // Cut off; nested; a number grown.
  (text, dice) => text.slice(0, dice.below(text.length + 1)),
  (text, dice) => {
    const [open, close] = dice.pick([["[", "]"], ['{"a":', "}"], ["(", ")"], ['"', '"']] as const);
    const depth = dice.pick([3, 300, 20_000]);
    return splice(text, dice.below(text.length + 1), 0, open.repeat(depth) + close.repeat(depth));
  },
  (text, dice) => text.replace(/\d+/, () => dice.pick(["0", "-1", "1e400", "4294967296", "9".repeat(400)])),
];

function splice(text: string, at: number, remove: number, insert: string): string {
  return text.slice(0, at) + insert + text.slice(at + remove);
}

/** Longest input that is made, in characters. */
const MAX_LENGTH = 200_000;

/** The input of this number: always the same of the same seeds. */
export function inputOf(number: number, seeds: readonly string[]): string {
  const dice = new Dice(number);
  let text = dice.pick(seeds);
  for (let changes = dice.below(8); changes >= 0; changes--) text = dice.pick(CHANGES)(text, dice, seeds);
  return text.slice(0, MAX_LENGTH);
}

/** As bytes; one in four is not UTF-8 at a place. */
export function bytesOf(number: number, text: string): Uint8Array {
  const bytes = new TextEncoder().encode(text);
  const dice = new Dice(number ^ 0x5bd1e995);
  if (bytes.length > 0 && dice.below(4) === 0) bytes[dice.below(bytes.length)] = dice.below(256);
  return bytes;
}
