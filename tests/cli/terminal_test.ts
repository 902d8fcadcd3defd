import { deepEqual, equal } from "node:assert/strict";
import { fitScreen, wantsColour } from "../../cli/terminal.ts";

Deno.test("wantsColour() goes by the terminal, NO_COLOR, FORCE_COLOR, TERM and --no-color", () => {
  const cases: [env: Record<string, string>, isTerminal: boolean, noColour: boolean, colour: boolean][] = [
    [{}, true, false, true],
    [{}, false, false, false],
    [{ TERM: "xterm-256color" }, true, false, true],
    [{ TERM: "dumb" }, true, false, false],
    [{ NO_COLOR: "1" }, true, false, false],
    [{ NO_COLOR: "" }, true, false, true],
    [{ FORCE_COLOR: "1" }, false, false, true],
    [{ FORCE_COLOR: "0" }, true, false, false],
    [{ FORCE_COLOR: "1", TERM: "dumb" }, false, false, true],
    [{ FORCE_COLOR: "1", NO_COLOR: "1" }, true, false, false],
    [{ FORCE_COLOR: "1" }, true, true, false],
  ];
  for (const [env, isTerminal, noColour, colour] of cases) {
    equal(wantsColour(env, { isTerminal, noColour }), colour, JSON.stringify([env, isTerminal, noColour]));
  }
});

Deno.test("fitScreen() shows no more rows than the terminal has, long lines and colours counted", () => {
  const size = { columns: 10, rows: 5 };
  deepEqual(fitScreen("a\nb\nc\nd", size), ["a", "b", "c", "d"]);
  deepEqual(fitScreen("a\nb\nc\nd\ne", size), ["a", "b", "c", "…"]);
  deepEqual(fitScreen(`a\n${"x".repeat(20)}\nc\nd`, size), ["a", "x".repeat(20), "…"]);
  deepEqual(fitScreen("\x1b[31m0123456789\x1b[0m\nb\nc\nd", size).length, 4);
  deepEqual(fitScreen("a\nb", undefined), ["a", "b"]);
});
