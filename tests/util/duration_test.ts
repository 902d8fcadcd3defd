import { equal } from "node:assert/strict";
import { durationMs, durationWords } from "../../util/duration.ts";

Deno.test("durationMs() reads durations of one or more units, and nothing else", () => {
  const cases: [string, number | undefined][] = [
    ["0", 0],
    ["500ms", 500],
    ["1h30m", 5_400_000],
    ["1.5s", 1_500],
    ["2w", 1_209_600_000],
    ["10", undefined],
    ["soon", undefined],
    ["10s ", undefined],
    ["9".repeat(100_000), undefined],
  ];
  for (const [text, ms] of cases) equal(durationMs(text), ms, text.slice(0, 20));
});

Deno.test("durationWords() gives the two largest units", () => {
  const cases: [number, string][] = [
    [-5, "0 s"],
    [42_400, "42 s"],
    [185_000, "3 min 5 s"],
    [7_800_000, "2 h 10 min"],
    [100 * 3_600_000, "4 d 4 h"],
  ];
  for (const [ms, words] of cases) equal(durationWords(ms), words);
});
