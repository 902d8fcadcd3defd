import { equal } from "node:assert/strict";
import { LastLine } from "../../logs/last_line.ts";

Deno.test("the last line is the last one that is not blank, however its pieces come", async (t) => {
  const cases: readonly [name: string, pieces: readonly string[], line: string][] = [
    ["nothing", [], ""],
    ["one line without an end", ["one"], "one"],
    ["blank lines at the end", ["one\n", "two\n", "\n", "  \n"], "two"],
    ["a line in pieces", ["one\n", "t", "w", "o\n"], "two"],
    ["a line under way", ["one\n", "tw"], "tw"],
    ["a progress bar", ["one\n", "10 %\r20 %\r", "30 %\r"], "30 %"],
    ["lines of Windows", ["one\r\n", "two\r\n"], "two"],
    ["an endless line", ["x".repeat(5_000)], "x".repeat(1_000)],
  ];
  for (const [name, pieces, line] of cases) {
    await t.step(name, () => {
      const last = new LastLine();
      for (const piece of pieces) last.take(new TextEncoder().encode(piece));
      equal(last.text, line);
    });
  }
});
