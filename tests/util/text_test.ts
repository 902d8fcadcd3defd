import { equal } from "node:assert/strict";
import { cut, oneLine, visible } from "../../util/text.ts";

Deno.test("visible() shows every order to a terminal, and leaves lines, tabs and letters", () => {
  equal(visible("a\tb\r\nc\n"), "a\tb\nc\n");
  equal(visible("\x1b[2Jx\x07\x08\u009b31m\x7f"), "\\u001b[2Jx\\u0007\\u0008\\u009b31m\\u007f");
  equal(visible("50 %\r100 %"), "50 %\\u000d100 %");
  equal(visible("safe\u202etxt.exe\u2066 \u200f"), "safe\\u202etxt.exe\\u2066 \\u200f");
  equal(visible("Zelle ä 細胞 👩‍🔬"), "Zelle ä 細胞 👩‍🔬");
});

Deno.test("oneLine() makes one line", () => equal(oneLine("a\nb\u2028c\td"), "a\\nb\\u2028c\\u0009d"));

Deno.test("cut() says how much is left out, and halves no character", () => {
  equal(cut("abc", 3), "abc");
  equal(cut("abcd", 3), "abc… (1 more characters)");
  equal(cut("ab👩", 3), "ab\ufffd… (1 more characters)");
});
