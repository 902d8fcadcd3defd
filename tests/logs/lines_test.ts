/** One container's lines over several streams: each taken once, and what is missing is seen. */
import { deepEqual, equal } from "node:assert/strict";
import fc from "fast-check";
import { LineReader } from "../../logs/lines.ts";

const bytes = (text: string) => new TextEncoder().encode(text);

/** A time so many milliseconds and nanoseconds after some midnight. */
function timeOf(ms: number, ns = 0): string {
  return `${new Date(Date.UTC(2026, 0, 1) + ms).toISOString().slice(0, -1)}${String(ns).padStart(6, "0")}Z`;
}

/** A reader, and all that it says, in order. */
function listen(known?: ConstructorParameters<typeof LineReader>[1]) {
  const said: string[] = [];
  let text = "";
  const decoder = new TextDecoder();
  const reader = new LineReader({
    onText: (part) => text += decoder.decode(part, { stream: true }),
    onSeam: (from, to) => said.push(`seam ${from} ${to}`),
    onGap: (from, to) => said.push(`gap ${from} ${to}`),
    onRemark: (remark) => said.push(`remark ${remark}`),
  }, known);
  const read = (...chunks: (string | Uint8Array)[]) => {
    reader.beginStream();
    for (const chunk of chunks) reader.push(typeof chunk === "string" ? bytes(chunk) : chunk);
  };
  return { reader, said, read, text: () => text };
}

const line = (ms: number, text: string, ns = 0) => `${timeOf(ms, ns)} ${text}\n`;

Deno.test("LineReader strips times wherever a stream is cut", () => {
  const whole = bytes(line(1_000, "a b") + line(2_000, "") + line(3_000, "ü"));
  for (let cut = 0; cut <= whole.length; cut++) {
    const { read, text, said } = listen();
    read(whole.subarray(0, cut), whole.subarray(cut));
    deepEqual([text(), said], ["a b\n\nü\n", [`seam  ${timeOf(1_000)}`]], `cut at ${cut}`);
  }
});

Deno.test("LineReader goes on within a line that a stream broke off", () => {
  const { read, text } = listen();
  read(line(1_000, "one") + line(2_000, "two").slice(0, -2));
  read(line(1_000, "one") + line(2_000, "two") + line(3_000, "three"));
  equal(text(), "one\ntwo\nthree\n");
});

Deno.test("LineReader takes lines with equal times, and lines in another order than their times, once each", () => {
  const all = [line(1_000, "a", 5), line(1_000, "b", 5), line(1_000, "late", 4), line(1_000, "c", 5), line(1_001, "d")];
  for (let cut = 1; cut < all.length; cut++) {
    const { read, text } = listen();
    read(all.slice(0, cut).join(""));
    read(all.join(""));
    equal(text(), "a\nb\nlate\nc\nd\n", `cut after ${cut} lines`);
  }
});

Deno.test("LineReader tells of a seam where a new stream begins behind what is known", () => {
  const { read, said, text } = listen();
  read(line(1_000, "one"));
  read(line(9_000, "nine"));
  equal(text(), "one\nnine\n");
  deepEqual(said.slice(1), [`seam ${timeOf(1_000)} ${timeOf(9_000)}`]);
});

Deno.test("LineReader proves a gap by a line that the cluster had and that did not come", () => {
  const { reader, read, said } = listen();
  read(line(1_000, "one"));
  reader.expect(timeOf(5_000));
  reader.push(bytes(line(11_000, "eleven") + line(11_500, "more") + line(13_000, "thirteen")));
  deepEqual(said.slice(1), [`gap ${timeOf(1_000)} ${timeOf(11_000)}`]);
  equal(reader.isBehind, false);
});

Deno.test("LineReader calls a seam a gap where a line that the cluster had would stand in it", () => {
  const { reader, read, said } = listen();
  read(line(1_000, "one"));
  reader.expect(timeOf(5_000));
  read(line(9_000, "nine") + line(11_000, "eleven"));
  reader.end();
  deepEqual(said.slice(1), [`gap ${timeOf(1_000)} ${timeOf(9_000)}`]);
});

Deno.test("LineReader sees no gap where the expected line comes, also a little out of order", () => {
  const { reader, read, said } = listen();
  read(line(1_000, "one"));
  reader.expect(timeOf(2_000));
  reader.push(bytes(line(2_000, "later", 7) + line(2_000, "expected") + line(9_000, "nine")));
  reader.end();
  deepEqual(said.slice(1), []);
});

Deno.test("LineReader tells at the end of a line that never came", () => {
  const { reader, read, said } = listen();
  read(line(1_000, "one"));
  reader.expect(timeOf(5_000));
  reader.end();
  deepEqual(said.slice(1), [`gap ${timeOf(1_000)} ${timeOf(5_000)}`]);
});

Deno.test("LineReader takes a file once that a node reads out twice, and tells of the one that was left out for it", () => {
  const { read, text, said } = listen();
  const file = line(30_000, "thirty") + line(31_500, "more");
  read(line(1_000, "one") + file + file + line(32_000, "end"));
  equal(text(), "one\nthirty\nmore\nend\n");
  deepEqual(said.slice(1), [`gap ${timeOf(1_000)} ${timeOf(30_000)}`]);
});

Deno.test("LineReader keeps what the node itself says apart from the output", () => {
  const { read, text, said } = listen();
  read(line(1_000, "one"), "failed to try resolving symlinks in path: no such file\n");
  equal(text(), "one\n");
  deepEqual(said.slice(1), ["remark failed to try resolving symlinks in path: no such file"]);
});

Deno.test("LineReader skips the rest of a long line with which a stream begins", () => {
  const { read, text, said } = listen();
  read(line(1_000, "one"));
  read("xxxxxxx yyyyy\n" + line(1_000, "one") + line(2_000, "two"));
  equal(text(), "one\ntwo\n");
  deepEqual(said.slice(1), []);
});

Deno.test("LineReader goes on after what a former process has taken, within a line too", () => {
  const { read, text } = listen({ time: timeOf(2_000), bytes: 2, complete: false });
  read(line(1_000, "one") + line(2_000, "two") + line(3_000, "three"));
  equal(text(), "o\nthree\n");
});

Deno.test("LineReader gives the output whole whatever the lines, the chunks and the cuts", () => {
  const lines = fc.array(
    fc.record({ stepNs: fc.integer({ min: 0, max: 900_000 }), back: fc.boolean(), text: fc.string({ maxLength: 12 }) }),
    { minLength: 1, maxLength: 60 },
  );
  fc.assert(
    fc.property(
      lines,
      fc.array(fc.nat(4_000), { maxLength: 6 }),
      fc.integer({ min: 1, max: 90 }),
      (all, cuts, size) => {
        let atNs = 0;
        const written = all.map(({ stepNs, back, text }) => {
          atNs += stepNs;
          const ns = back && atNs > 3 ? atNs - 3 : atNs;
          return line(Math.floor(ns / 1e6), text.replaceAll(/[\n\r]/g, "_"), ns % 1e6);
        });
        const whole = bytes(written.join(""));
        const { read, text } = listen();
        const chunks = (to: number) => {
          const found: Uint8Array[] = [];
          for (let at = 0; at < to; at += size) found.push(whole.subarray(at, Math.min(to, at + size)));
          return found;
        };
        for (const cut of cuts.map((cut) => Math.min(cut, whole.length)).sort((a, b) => a - b)) read(...chunks(cut));
        read(...chunks(whole.length));
        equal(text(), written.map((one) => one.slice(one.indexOf(" ") + 1)).join(""));
      },
    ),
    { numRuns: 300 },
  );
});
