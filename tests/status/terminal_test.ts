/** Lines as a terminal shows them: colours, what is written over, and nothing that could be markup or an order. */
import { deepEqual, equal, ok } from "node:assert/strict";
import { threadCpuUsage } from "node:process";
import fc from "fast-check";
import { plainText, type Span, Terminal } from "../../status/terminal.ts";

const ESC = "\u001b";
const lineOf = (text: string) => new Terminal().line(text);
const look = (codes: string) => lineOf(`${ESC}[${codes}mx`)[0]!.classes;

Deno.test("a line without orders is its text, in one span", () => {
  deepEqual(lineOf("12 of 40 done\tok"), [{ text: "12 of 40 done\tok", classes: "" }]);
  deepEqual(lineOf(""), []);
  deepEqual(lineOf("by Windows\r"), [{ text: "by Windows", classes: "" }]);
});

Deno.test("a colour lasts until it is changed, over the end of a line too", () => {
  const terminal = new Terminal();
  deepEqual(terminal.line(`a${ESC}[31;1mb`), [{ text: "a", classes: "" }, { text: "b", classes: "a1 tb" }]);
  deepEqual(terminal.line(`c${ESC}[22md${ESC}[me`), [
    { text: "c", classes: "a1 tb" },
    { text: "d", classes: "a1" },
    { text: "e", classes: "" },
  ]);
});

Deno.test("colours of 16, of 256 and of 16 million become those that both themes have", () => {
  const cases: [codes: string, classes: string][] = [
    ["31", "a1"],
    ["92", "a2"],
    ["90", "a8"],
    ["37", ""],
    ["97", ""],
    ["30", ""],
    ["38;5;9", "a1"],
    ["38;5;33", "a4"],
    ["38;5;208", "a3"],
    ["38;5;244", "a8"],
    ["38;5;255", ""],
    ["38;2;255;0;0", "a1"],
    ["38;2;20;200;40", "a2"],
    ["38;2;0;200;200", "a6"],
    ["38;2;200;0;220", "a5"],
    ["38:2::255:0:0", "a1"],
    ["38:5:33", "a4"],
    ["41", "k1"],
    ["37;44", "k4"],
    ["40", ""],
    ["30;47", "k7"],
    ["100", "k8"],
    ["48;2;0;0;255", "k4"],
    ["7", "k7"],
    ["31;7", "k1"],
    ["2", "a8"],
    ["3;4;9", "ti tu ts"],
    ["4:3", "tu"],
    ["4:0", ""],
    ["1;31;0", ""],
    ["38;5;1;1", "a1 tb"],
    ["38;2;300;x;1", ""],
    ["38", ""],
    ["38;5", ""],
    ["38;9;31", "a1"],
    ["1000", ""],
  ];
  deepEqual(cases.map(([codes]) => [codes, look(codes)]), cases);
});

Deno.test("a carriage return writes over what stands there, as a terminal does", () => {
  equal(plainText("abc\rX"), "Xbc");
  equal(plainText(" 10%|#   |\r 50%|##  |\r100%|####|"), "100%|####|");
  equal(plainText(`working...\r${ESC}[Kdone`), "done");
  equal(plainText(`working...\r${ESC}[2Kdone`), "done");
  equal(plainText("working...\r          \rdone"), "done      ");
  equal(plainText("abc\b\bX"), "aXc");
  equal(plainText(`abc${ESC}[1DX${ESC}[3Cy`), "abX   y");
  equal(plainText(`abc${ESC}[1GX`), "Xbc");
  equal(plainText(`abcdef\r${ESC}[2P`), "cdef");
  equal(plainText(`abcdef\r${ESC}[2X`), "  cdef");
  equal(plainText(`abc\b${ESC}[1K`), "   ");
  deepEqual(lineOf(`${ESC}[31mabc${ESC}[m\rX`), [{ text: "X", classes: "" }, { text: "bc", classes: "a1" }]);
  equal(plainText("e\u0301a\rx"), "xa");
});

Deno.test("what else a terminal would obey is left out or shown, and hides no output", () => {
  equal(plainText(`${ESC}[?25lhidden cursor${ESC}[?25h`), "hidden cursor");
  equal(plainText(`${ESC}]0;a title\u0007text`), "text");
  equal(plainText(`${ESC}]8;;https://evil${ESC}\\link${ESC}]8;;${ESC}\\`), "link");
  equal(plainText(`${ESC}P1;2q#0${ESC}\\image`), "image");
  equal(plainText(`${ESC}(Bascii${ESC}7${ESC}[2J${ESC}[10;10H!`), "ascii!");
  equal(plainText("ding\u0007"), "ding");
  equal(plainText(`${ESC}]0;without an end, and the output`), "␛]0;without an end, and the output");
  equal(plainText(`end${ESC}`), "end␛");
  equal(plainText(`${ESC}[31`), "␛[31");
  equal(plainText("a\u0000b\u007f"), "a␀b␡");
  // xterm's setting of keys ends as a colour does.
  deepEqual(lineOf(`${ESC}[>4;1mx`), [{ text: "x", classes: "" }]);
});

Deno.test("the cursor cannot fill a page with blanks", () => {
  ok(plainText(`${ESC}[999999999Cx`.repeat(1_000)).length < 2_000);
  ok(plainText(`${ESC}[999999999Gx`.repeat(1_000)).length < 2_000);
});

Deno.test("a bar that is drawn again and again is the last one, by whatever order the one before is taken away", () => {
  const bar = (done: number) => "#".repeat(done).padEnd(200, ".");
  const away = {
    "nothing but a return": "\r",
    "from here on": `\r${ESC}[K`,
    "up to here": `${ESC}[1K\r`,
    "all of it": `${ESC}[2K${ESC}[G`,
    "so many characters": `\r${ESC}[200P`,
    "so many blanks": `\r${ESC}[200X`,
    "backwards": "\b".repeat(200),
  };
  for (const [name, order] of Object.entries(away)) {
    equal(plainText(Array.from({ length: 200 }, (_, at) => bar(at)).join(order)), bar(199), name);
  }
});

/** Each of them changes all of a line by a few bytes. */
const LARGE_ORDERS = [
  `\r${ESC}[P`,
  `${ESC}[P\b`,
  `${ESC}[1K`,
  `\r${ESC}[99999X`,
  `${ESC}[2Kx`,
  `${ESC}[1P`,
  `\r${ESC}[K${ESC}[400Gx`,
];
const longLine = (order: string) => `${"x".repeat(20_000)}${order.repeat(20_000 / order.length)}end`;

Deno.test("orders that change all of a long line are obeyed so often, and hide no output after that", () => {
  for (const order of [`\r${ESC}[P`, `\r${ESC}[99999X`, `${ESC}[2Kx`]) {
    ok(plainText(longLine(order)).endsWith("end"), order);
  }
  const text = plainText(longLine(`\r${ESC}[P`));
  ok(text.length > 19_900 && text.length < 20_003, `${text.length} characters`);
});

Deno.test("no order makes a line a long computation", () => {
  const before = threadCpuUsage();
  for (const order of LARGE_ORDERS) plainText(longLine(order));
  const { user, system } = threadCpuUsage(before);
  ok(user + system < 250_000, `${user + system} µs`);
});

const PIECES = [
  ESC,
  `${ESC}[`,
  "31",
  ";",
  "38;2;",
  "m",
  "K",
  "C",
  "G",
  "\r",
  "\b",
  "]",
  "\u0007",
  "\\",
  "P",
  "a",
  "<b>",
  "é",
];
const lines = fc.array(fc.oneof(fc.constantFrom(...PIECES), fc.string({ unit: "binary", maxLength: 4 })), {
  maxLength: 60,
}).map((pieces) => pieces.join("").replaceAll("\n", ""));

Deno.test("whatever a line holds: no order is left, no class but ours is given, its size is bounded", () => {
  fc.assert(
    fc.property(lines, (line) => {
      const spans: Span[] = lineOf(line);
      const text = spans.map((span) => span.text).join("");
      // deno-lint-ignore no-control-regex
      ok(!/[\u0000-\u0008\u000a-\u001f\u007f]/.test(text), JSON.stringify(text));
      ok(spans.every(({ classes }) => /^([ak][1-8]|t[bius])?( t[bius])*$/.test(classes)), JSON.stringify(spans));
      ok(spans.every((span) => span.text !== ""));
      ok(text.length <= line.length + 400);
    }),
    { numRuns: 3_000 },
  );
});

Deno.test("what was shown once is shown the same again", () => {
  fc.assert(fc.property(lines, (line) => equal(plainText(plainText(line)), plainText(line))), { numRuns: 2_000 });
});

Deno.test("text without control characters stays as it is", () => {
  const printable = fc.string({ unit: "grapheme", maxLength: 200 });
  fc.assert(fc.property(printable, (text) => {
    // deno-lint-ignore no-control-regex
    const line = text.replace(/[\u0000-\u001f\u007f]/g, "");
    equal(plainText(line), line);
  }));
});
