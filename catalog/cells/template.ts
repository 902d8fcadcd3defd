/**
 * Text with placeholders: `{payload.uuid}`, `{topic[2]}`, `{payload.params=default.json}`. Parses only; run_spec.ts fills
 * them in, within the word or value they stand in.
 */
import type { Placeholder, PlaceholderRoot, Template } from "../../ports.ts";
import { nearest } from "../../util/nearest.ts";

/** What may follow each root: a path of any length, one step, or nothing. */
const ROOTS: Readonly<Record<PlaceholderRoot, "path" | "position" | "field" | "nothing">> = {
  payload: "path",
  input: "path",
  result: "path",
  topic: "position",
  item: "field",
  index: "nothing",
  job_name: "nothing",
  run_name: "nothing",
  root_run: "nothing",
  attempt: "nothing",
};

const NAMES = Object.keys(ROOTS) as PlaceholderRoot[];
const MAX_STEPS = 16;

export interface ParsedTemplate {
  readonly template: Template;
  /** What looks like a placeholder and is none; a sentence each. */
  readonly doubts: readonly string[];
}

/**
 * Parses a text. A `{` opens a placeholder only before one of the roots; `{{payload}}` is the text `{payload}`.
 * `fault`: what is wrong with the first placeholder that cannot be read, as a clause to follow a colon.
 */
export function parseTemplate(text: string): ParsedTemplate | { readonly fault: string } {
  const pieces: (string | Placeholder)[] = [];
  const doubts: string[] = [];
  let plain = "";
  let at = 0;
  for (let open = text.indexOf("{"); open !== -1; open = text.indexOf("{", at)) {
    plain += text.slice(at, open);
    const isLiteral = text[open + 1] === "{";
    const start = open + (isLiteral ? 2 : 1);
    const root = rootAt(text, start);
    if (root === undefined) {
      doubts.push(...doubtAt(text, open));
      plain += "{";
      at = open + 1;
      continue;
    }
    const close = text.indexOf("}", start);
    if (close === -1) {
      return { fault: `the placeholder "${text.slice(open, open + 40)}" is not closed; end it with "}"` };
    }
    if (isLiteral) {
      const end = text[close + 1] === "}" ? close + 2 : close + 1;
      plain += text.slice(open + 1, close + 1);
      at = end;
      continue;
    }
    const found = readPlaceholder(text.slice(open, close + 1), root);
    if ("fault" in found) return found;
    if (plain !== "") pieces.push(plain);
    plain = "";
    pieces.push(found);
    at = close + 1;
  }
  plain += text.slice(at);
  if (plain !== "") pieces.push(plain);
  return { template: pieces, doubts };
}

/** The root that stands at `at`, as a whole word. */
function rootAt(text: string, at: number): PlaceholderRoot | undefined {
  return NAMES.find((name) => text.startsWith(name, at) && !/[A-Za-z0-9_-]/.test(text.charAt(at + name.length)));
}

function readPlaceholder(source: string, root: PlaceholderRoot): Placeholder | { readonly fault: string } {
  const inner = source.slice(1 + root.length, -1);
  const equals = inner.indexOf("=");
  const steps = equals === -1 ? inner : inner.slice(0, equals);
  const path = pathOf(steps);
  const wrong = (fault: string) => ({ fault: `the placeholder "${source.slice(0, 80)}" ${fault}` });
  if (path === undefined) {
    return wrong(
      `cannot be read; write a path such as {payload.file} or {payload.files[0].name}, or double its braces ` +
        "for the text itself",
    );
  }
  if (path.length > MAX_STEPS) return wrong(`has ${path.length} steps, ${MAX_STEPS} are allowed`);
  const may = ROOTS[root];
  if (may === "nothing" && path.length > 0) return wrong(`has no parts; write {${root}}`);
  if (may === "position" && (path.length > 1 || typeof path[0] === "string")) {
    return wrong("has levels only; write {topic} or {topic[2]}");
  }
  if (may === "nothing" && equals !== -1) return wrong(`is never missing; write {${root}}`);
  const preset = equals === -1 ? {} : { preset: inner.slice(equals + 1) };
  return { root, path, ...preset, source };
}

/** `.a.b[0]` as its steps; undefined: it is no path. */
function pathOf(text: string): (string | number)[] | undefined {
  const path: (string | number)[] = [];
  const step = /\.([A-Za-z_][A-Za-z0-9_-]*)|\[(\d{1,4})\]/y;
  while (step.lastIndex < text.length) {
    const match = step.exec(text);
    if (!match) return undefined;
    if (match[1] !== undefined) path.push(match[1]);
    else path.push(Number(match[2]));
  }
  return path;
}

/** `{uuid}`, `{Payload.uuid}`, `{payloads.uuid}`, `${…}` aside: somebody meant a placeholder. */
function doubtAt(text: string, open: number): string[] {
  if (text[open - 1] === "$" || text[open - 1] === "{" || text[open + 1] === "{") return [];
  const word = /^\{([A-Za-z_]\w{0,40})((?:\.\w{1,40}|\[\d{1,4}\]){0,16})(?==[^{}]{0,40}\}|\})/.exec(
    text.slice(open, open + 800),
  );
  if (!word) return [];
  const [, name = "", steps = ""] = word;
  const near = nearest(name.toLowerCase(), NAMES);
  const guess = near === undefined ? `{payload.${name}${steps}}` : `{${near}${steps}}`;
  return [`"{${name}${steps}}" is no placeholder and is passed on as it is; did you mean "${guess}"?`];
}

/** Whether a text holds a placeholder. */
export function hasPlaceholder(template: Template): boolean {
  return template.some((piece) => typeof piece !== "string");
}

/** The text of a template without placeholders; undefined: it has some. */
export function plainText(template: Template): string | undefined {
  return hasPlaceholder(template) ? undefined : template.join("");
}
