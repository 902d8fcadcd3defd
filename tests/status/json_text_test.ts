import { deepEqual, equal } from "node:assert/strict";
import { jsonLines } from "../../status/json_text.ts";

const text = (json: string, most = 10_000) => jsonLines(json, most)?.pieces.map(({ text }) => text).join("");

Deno.test("jsonLines() gives each value a line, as JSON.stringify would", () => {
  const values = [{ a: [1, 2, { b: null }], c: {}, d: [], 'e"\\': "x\n,:{}[]" }, [], [[]], [true, -1.5e3]];
  for (const value of values) equal(text(JSON.stringify(value)), JSON.stringify(value, undefined, 2));
});

Deno.test("jsonLines() leaves values as they were written", () => {
  equal(text('{"n":12345678901234567890,"n":1.0 }'), '{\n  "n": 12345678901234567890,\n  "n": 1.0\n}');
  deepEqual(jsonLines('{"a":"a"}', 100)?.pieces.map(({ kind }) => kind), ["mark", "key", "mark", "value", "mark"]);
});

Deno.test("jsonLines() takes nothing for JSON that is not an object or an array", () => {
  for (const other of ["", "plain", '"a"', "7", "{", '{"a":}', "[1,]", "[".repeat(40_000)]) {
    equal(jsonLines(other, 100), undefined, other.slice(0, 10));
  }
});

Deno.test("jsonLines() stops where it is asked to, however deep the text", () => {
  const deep = "[".repeat(20_000) + "]".repeat(20_000);
  const { pieces, isCut } = jsonLines(deep, 5_000)!;
  equal(isCut, true);
  equal(pieces.map(({ text }) => text).join("").length < 5_200, true);
});
