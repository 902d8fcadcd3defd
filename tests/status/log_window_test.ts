/** Windows of logs: cut at line ends, numbered, bounded, whatever the lines are. */
import { deepEqual, equal, ok } from "node:assert/strict";
import fc from "fast-check";
import {
  type LogWindow,
  placeOfLine,
  WINDOW_BYTES,
  WINDOW_LINES,
  windowAround,
  windowBefore,
  windowFrom,
} from "../../status/log_window.ts";
import { logTextOf } from "../harness/log_text.ts";

const LINES = Array.from({ length: 5_000 }, (_, at) => `line ${at + 1}${" ".repeat(at % 50)}`);
const LONG = LINES.join("\n") + "\n";

const textsOf = ({ lines }: LogWindow) => lines.map(({ text }) => text);
const numbersOf = ({ lines }: LogWindow) => [lines[0]?.number, lines.at(-1)?.number];

Deno.test("a short log is one window, with or without a break at its end", async () => {
  for (const content of ["a\nb\n", "a\nb"]) {
    const text = logTextOf(content);
    for (const window of [await windowFrom(text, 0), await windowBefore(text, text.size)]) {
      deepEqual(textsOf(window), ["a", "b"]);
      deepEqual([window.from, window.to], [0, text.size]);
      deepEqual(numbersOf(window), [1, 2]);
    }
  }
  deepEqual(textsOf(await windowFrom(logTextOf("\n\nx"), 0)), ["", "", "x"]);
  deepEqual(textsOf(await windowBefore(logTextOf("\n\nx\n\n"), 5)), ["", "", "x", ""]);
  deepEqual(textsOf(await windowFrom(logTextOf(""), 0)), []);
  deepEqual(textsOf(await windowBefore(logTextOf(""), 0)), []);
});

Deno.test("windows one after the other, in both directions, hold each line once with its number", async () => {
  for (const content of [LONG, LONG.slice(0, -1)]) {
    const text = logTextOf(content);
    const seen: [number | undefined, string][] = [];
    for (let at = 0; at < text.size;) {
      const window = await windowFrom(text, at);
      ok(window.to - window.from <= WINDOW_BYTES && window.lines.length <= WINDOW_LINES);
      seen.push(...window.lines.map(({ number, text }): [number | undefined, string] => [number, text]));
      at = window.to;
    }
    const wanted = LINES.map((line, at) => [at + 1, line]);
    deepEqual(seen, wanted);
    const back: [number | undefined, string][] = [];
    for (let to = text.size; to > 0;) {
      const window = await windowBefore(text, to);
      ok(window.to - window.from <= WINDOW_BYTES && window.lines.length <= WINDOW_LINES);
      back.unshift(...window.lines.map(({ number, text }): [number | undefined, string] => [number, text]));
      to = window.from;
    }
    deepEqual(back, wanted);
  }
});

Deno.test("a line is found by its number, with lines before it", async () => {
  const text = logTextOf(LONG);
  for (const number of [1, 2, 500, 501, 2_345, 5_000]) {
    const place = await placeOfLine(text, number);
    const window = await windowAround(text, place!);
    const at = window.lines.findIndex((line) => line.number === number);
    equal(window.lines[at]?.text, LINES[number - 1]);
    equal(window.lines[at]?.from, place);
    ok(at >= Math.min(number - 1, 50), `line ${number} is at place ${at}`);
  }
  equal(await placeOfLine(text, 9_999), text.size);
  equal(await placeOfLine(logTextOf(LONG, { numbered: false }), 7), undefined);
});

Deno.test("lines of a large log of a former version have places instead of numbers", async () => {
  const text = logTextOf(LONG, { numbered: false });
  const { lines } = await windowFrom(text, 7);
  deepEqual(lines.slice(0, 2), [{ from: 7, to: 15, text: "line 2 " }, { from: 15, to: 24, text: "line 3  " }]);
});

Deno.test("an endless line is cut visibly, and the line behind it can be gone to", async () => {
  const content = `first\n${"é".repeat(400_000)}\nlast\n`;
  const text = logTextOf(content);
  const first = await windowFrom(text, 0);
  deepEqual(textsOf(first), ["first"]);
  const second = await windowFrom(text, first.to);
  equal(second.lines.length, 1);
  const [line] = second.lines;
  ok(line!.goesOn && !line!.isRest && line!.number === 2);
  ok(/^é+$/.test(line!.text), "no character is cut");
  equal(second.nextLine, content.length - 5 + 400_000);
  const third = await windowFrom(text, second.to);
  ok(third.lines[0]!.isRest && third.lines[0]!.goesOn && third.lines[0]!.number === 2);
  deepEqual(textsOf(await windowFrom(text, second.nextLine!)), ["last"]);
  deepEqual(numbersOf(await windowFrom(text, second.nextLine!)), [3, 3]);
  const end = await windowBefore(text, text.size - 5);
  ok(end.lines[0]!.isRest && end.lines.length === 1 && /^é+$/.test(end.lines[0]!.text));
});

Deno.test("bytes that are no UTF-8 are shown as such, and lose no line", async () => {
  const bytes = Uint8Array.from([0xff, 0xfe, 0x0a, 0xc3, 0x0a, 0xe2, 0x82, 0x0a, 0x80, 0x80]);
  const window = await windowFrom(logTextOf(bytes), 0);
  deepEqual(textsOf(window), ["\ufffd\ufffd", "\ufffd", "\ufffd", "\ufffd\ufffd"]);
  deepEqual([window.from, window.to], [0, 10]);
});

Deno.test("a window reads itself and one step of the map of lines", async () => {
  const text = logTextOf(LONG, { step: 4_096 });
  await windowFrom(text, 100_000);
  ok(text.bytesRead <= WINDOW_BYTES + 1 + 4_096, `${text.bytesRead} bytes`);
  const before = text.bytesRead;
  await windowFrom(text, text.size);
  equal(text.bytesRead - before, 1);
});

const pieces = fc.oneof(
  fc.constantFrom("\n", "\r\n", "a", "é", "🧬", "x".repeat(30_000), "y".repeat(60_000)),
  fc.string({ maxLength: 20 }),
);
const contents = fc.array(pieces, { maxLength: 40 }).map((parts) => parts.join(""));

Deno.test("whatever the lines are: windows adjoin, are bounded, and their bytes make up the log", async () => {
  await fc.assert(
    fc.asyncProperty(contents, async (content) => {
      const text = logTextOf(content);
      const all = new TextEncoder().encode(content);
      const numberOf = (at: number) => 1 + all.subarray(0, at).filter((byte) => byte === 10).length;
      for (let at = 0; at < text.size;) {
        const window = await windowFrom(text, at);
        equal(window.from, at);
        ok(window.to > at, "it goes on");
        ok(window.to - window.from <= WINDOW_BYTES);
        for (const line of window.lines) equal(line.number, numberOf(line.from));
        at = window.to;
      }
      for (let to = text.size; to > 0;) {
        const window = await windowBefore(text, to);
        equal(window.to, to);
        ok(window.from < to && to - window.from <= WINDOW_BYTES);
        equal(window.lines[0]?.number, numberOf(window.from));
        to = window.from;
      }
    }),
    { numRuns: 150 },
  );
});
