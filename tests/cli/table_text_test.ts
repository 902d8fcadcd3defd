import { deepEqual, equal, ok } from "node:assert/strict";
import { stateCell, tableText } from "../../cli/table_text.ts";
import { cutToWidth, textWidth } from "../../util/text_width.ts";

const NAME = "sort-spikes-of-the-left-hemisphere-abcdefgh2345";
const ROWS = [
  [
    NAME,
    stateCell("failed"),
    "2026-03-02T00:00:00Z",
    "Out of memory: the limit is 8Gi; raise memory_limit or use less",
  ],
  ["a", "running", "", ""],
];
const HEAD = ["RUN", "STATE", "ENDED", "WHY"];

Deno.test("textWidth() counts wide characters twice and combining ones not", () => {
  const cases: [string, number][] = [
    ["abc", 3],
    ["脳オルガノイド", 14],
    ["e\u0301", 1],
    ["👩‍🔬", 2],
    ["✔️", 2],
    ["Größe", 5],
    ["뇌", 2],
    ["हिन्दी", 5],
  ];
  for (const [text, width] of cases) equal(textWidth(text), width, text);
});

Deno.test("cutToWidth() cuts between characters and never makes a text wider than asked", () => {
  equal(cutToWidth("脳オルガノイド", 6), "脳オ…");
  equal(cutToWidth("脳オルガノイド", 14), "脳オルガノイド");
  equal(cutToWidth("ab👩‍🔬cd", 4), "ab…");
  equal(cutToWidth("abc", 0), "");
});

Deno.test("tableText() gives a pipe each cell whole, without colours or blanks at a line's end", () => {
  const lines = tableText(HEAD, ROWS).split("\n");
  ok(lines[1]!.startsWith(`${NAME}  failed   2026`));
  ok(lines[1]!.endsWith("use less"));
  equal(lines[2], `a${" ".repeat(NAME.length + 1)}running`);
  ok(!tableText(HEAD, ROWS).includes("\x1b"));
});

Deno.test("tableText() makes no line wider than the terminal, whatever its width and the cells' script", () => {
  const names = ["脳オルガノイド".repeat(12), "x".repeat(89), "👩‍🔬".repeat(20)];
  for (let width = 12; width <= 200; width++) {
    const text = tableText(HEAD, [...ROWS, ...names.map((name) => [name, "failed", name, name])], {
      width,
      colour: false,
    });
    for (const line of text.split("\n")) ok(textWidth(line) <= width, `${width}: ${line}`);
  }
});

Deno.test("tableText() keeps names whole as long as other columns can give", () => {
  const lines = tableText(HEAD, ROWS, { width: 100, colour: false }).split("\n");
  ok(lines[1]!.startsWith(`${NAME}  failed`), lines[1]!);
  ok(lines[1]!.endsWith("…"));
});

Deno.test("tableText() colours states where the terminal has colours, beside the word", () => {
  const text = tableText(["STATE"], [[stateCell("failed")], [stateCell("odd")]], { colour: true });
  deepEqual(text.split("\n"), ["\x1b[1mSTATE\x1b[0m", "\x1b[31mfailed\x1b[0m", "odd"]);
});

Deno.test("tableText() lets no cell give the terminal an order", () => {
  const text = tableText(["A"], [["\x1b[2Jx\ny\u202ez\u009b31m"]], { colour: true });
  equal(text.split("\n")[1], " [2Jx y\\u202ez 31m");
});

Deno.test("tableText() lets numbers end below each other", () => {
  const text = tableText(["A", { title: "N", isNumber: true }, "B"], [["x", "1", "y"], ["x", "1000", ""]]);
  deepEqual(text.split("\n"), ["A     N  B", "x     1  y", "x  1000"]);
});
