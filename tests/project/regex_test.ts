/**
 * Anybody may write a topic, a payload, a cell or an answer of 64 KB, so no pattern of the product may take more than
 * linear time over it. Finds each pattern in the sources, feeds it what is worst for its kind, and measures.
 */
import { deepEqual, ok } from "node:assert/strict";
import { productModules, readProject } from "../harness/project.ts";

interface Pattern {
  readonly where: string;
  readonly pattern: RegExp;
}

const LENGTH = 64 * 1024;
/** The limit is for each call; a busy machine may steal time from one of them, not from the quickest of several. */
const LIMIT_MS = 20;
const TRIES = 5;

/** Where a slash begins a pattern and not a division: behind these, or at the line's start. */
const BEFORE = /(?:^|[(,=:[!&|?{};+]|\breturn|=>|\?\?)\s*$/;

/** Pattern literals of a module's text, with their flags. Knows strings, templates and comments as far as that needs. */
function literalsOf(code: string): { at: number; source: string; flags: string }[] {
  const found: { at: number; source: string; flags: string }[] = [];
  const templates: number[] = [];
  let depth = 0;
  for (let at = 0; at < code.length; at++) {
    const two = code.slice(at, at + 2);
    const char = code[at]!;
    if (two === "//") at = endOf(code, at, "\n");
    else if (two === "/*") at = code.indexOf("*/", at) + 1;
    else if (char === '"' || char === "'") at = stringEnd(code, at, char);
    else if (char === "`" || char === "}" && templates.at(-1) === depth) {
      if (char === "}") templates.pop();
      const end = templateEnd(code, at + 1);
      if (code[end] === "$") {
        templates.push(depth);
        at = end + 1;
      } else at = end;
    } else if (char === "{") depth++;
    else if (char === "}") depth--;
    else if (char === "/" && two !== "/>" && BEFORE.test(code.slice(Math.max(0, at - 40), at))) {
      const end = patternEnd(code, at + 1);
      const flags = /^[a-z]*/.exec(code.slice(end + 1, end + 10))![0];
      found.push({ at, source: code.slice(at + 1, end), flags });
      at = end + flags.length;
    }
  }
  return found;
}

const endOf = (code: string, from: number, mark: string) => {
  const end = code.indexOf(mark, from);
  return end < 0 ? code.length : end;
};

function stringEnd(code: string, from: number, quote: string): number {
  for (let at = from + 1; at < code.length; at++) {
    if (code[at] === "\\") at++;
    else if (code[at] === quote || code[at] === "\n") return at;
  }
  return code.length;
}

/** Of the template's text from here on: where it ends, or where `${` begins. */
function templateEnd(code: string, from: number): number {
  for (let at = from; at < code.length; at++) {
    if (code[at] === "\\") at++;
    else if (code[at] === "`" || code.startsWith("${", at)) return at;
  }
  return code.length;
}

function patternEnd(code: string, from: number): number {
  let inClass = false;
  for (let at = from; at < code.length; at++) {
    const char = code[at];
    if (char === "\\") at++;
    else if (char === "[") inClass = true;
    else if (char === "]") inClass = false;
    else if (char === "/" && !inClass) return at;
  }
  return code.length;
}

async function patternsOf(file: string): Promise<Pattern[]> {
  const code = await readProject(file);
  return literalsOf(code).map(({ at, source, flags }) => ({
    where: `${file}:${code.slice(0, at).split("\n").length} /${source}/${flags}`,
    pattern: new RegExp(source, flags),
  }));
}

/** Texts that a pattern may take long over: what its parts match, again and again, and then something that fails. */
function worstInputs(source: string): string[] {
  const plain = source.replace(/\\[dwsbDWSB]|\\[pP]\{[^}]*\}|\\u\{?[\da-f]+\}?|\(\?<?[:=!]|[()[\]{}|*+?^$]/gi, "\0")
    .replaceAll("\\", "");
  const words = [...new Set(plain.split("\0").filter((word) => word !== ""))];
  const classes = [
    "a",
    "A",
    "0",
    " ",
    "\t",
    "\n",
    ".",
    "-",
    "_",
    "/",
    ":",
    "=",
    "+",
    "%",
    '"',
    "'",
    "\\",
    "#",
    ",",
    "ä",
  ];
  const units = [
    ...classes,
    ...words,
    ...words.flatMap((word) => ["a", "0", " ", "-", "."].map((char) => word + char)),
    ...words.map((word, at) => word + (words[at + 1] ?? "")),
    words.join(""),
    "a0",
    "a-",
    "a.",
    "0.",
    "a ",
    '\\"',
    "a/",
    " \n",
  ].filter((unit) => unit !== "");
  return [...new Set(units)].flatMap((unit) => {
    const long = unit.repeat(Math.ceil(LENGTH / unit.length)).slice(0, LENGTH);
    const tails = ["", "\0", "!\n", "\u202e"];
    const heads = ["", ...words.slice(0, 6)];
    return heads.flatMap((head) => tails.map((tail) => head + long.slice(head.length + tail.length) + tail));
  });
}

/**
 * Milliseconds of the quickest of some tries, to the end of the text where the pattern goes on. A pattern that is slow
 * over a part of the text already is not tried with more: what is quadratic would take seconds.
 */
function timeOf({ pattern }: Pattern, text: string): number {
  for (const length of [LENGTH / 64, LENGTH / 8, LENGTH]) {
    const part = length < text.length ? text.slice(0, length - 8) + text.slice(-8) : text;
    let best = Infinity;
    for (let again = 0; again < TRIES && best > LIMIT_MS * length / LENGTH; again++) {
      const start = performance.now();
      pattern.lastIndex = 0;
      if (pattern.global) part.replace(pattern, "");
      else pattern.test(part);
      best = Math.min(best, performance.now() - start);
    }
    // Four times the part of the limit: the shortest times are rough.
    if (best > LIMIT_MS * (length < LENGTH ? 4 * length / LENGTH : 1)) return best * LENGTH / length;
  }
  return 0;
}

const PATTERNS = (await Promise.all((await productModules()).map(patternsOf))).flat();

Deno.test("the patterns of the product are found", () => {
  ok(PATTERNS.length > 60, `only ${PATTERNS.length}`);
  for (const known of ["util/redact.ts", "catalog/", "k8s/", "mqtt/"]) {
    ok(PATTERNS.some(({ where }) => where.startsWith(known)), `none of ${known}`);
  }
});

/** The first input over which the pattern is too slow, in words. */
function slowness(one: Pattern): string | undefined {
  for (const text of worstInputs(one.pattern.source)) {
    const ms = timeOf(one, text);
    if (ms > 0) return `${one.where}: ${Math.round(ms)} ms over ${JSON.stringify(text.slice(0, 20))}…`;
  }
  return undefined;
}

Deno.test("a pattern that takes quadratic time is found", () => {
  const slow = ["[a-z][a-z0-9+.-]*:\\/\\/", "\\s+$", "(\\d+)(ms|s)", "(a|b)*c"];
  for (const source of slow) ok(slowness({ where: source, pattern: new RegExp(source, "g") }), source);
});

Deno.test("no pattern takes more than 20 ms over 64 KB of its worst input", () => {
  deepEqual(PATTERNS.map(slowness).filter((found) => found !== undefined), []);
});

Deno.test("patterns are not made of text at run time", async () => {
  const made: string[] = [];
  for (const file of await productModules()) {
    for (const [call] of (await readProject(file)).matchAll(/\bRegExp\([^)]*\)/g)) made.push(`${file}: ${call}`);
  }
  deepEqual(made, []);
});
