/**
 * Finds the error messages in the text of a module, for the test that holds docs/troubleshoot.md complete. Reads calls
 * that make or tell an error, and the words within; knows strings, templates and comments, no types.
 */

/** An error message as it stands in the code. */
export interface CodeMessage {
  /** `file:line`. */
  readonly where: string;
  /** What the code puts in is `…`. */
  readonly text: string;
}

/** What makes an error or tells one. All end with what opens the words. */
const SINKS = [
  /\bnew (?:\w*Error|Deno\.errors\.\w+)\(/g,
  /\bsuper\(/g,
  /\bio\.tell\(/g,
  /\bfaults\.push\(/g,
  /\.fault\(/g,
  /\bc\.text\(/g,
  /\bmessagePage\(/g,
  /\brefuse\(/g,
  /\b(?:refused|unavailable)\(/g,
  /\b(?:payloadNote|recordsFailure|message|report|failure|text): (?=["`])/g,
  /\b(?:stopped|#chain)\.resolve\(/g,
  /#?onTrouble\(/g,
  /\blog\.(?:warn|error)\(/g,
  /\bgetLogger\("\w+"\)\.(?:warn|error)\(/g,
  /#trouble\(/g,
  /#(?:fail|report|tellError|tellStore)\(/g,
  /#failed\.resolve\(/g,
  /\b(?:message|why|reason|what|then|summary|words|advice|which|unable|note) = /g,
  /\breturn (?=["`])/g,
];

/** The messages of one module; words that are no sentence (names, codes) are left out. */
export function messagesOf(file: string, code: string): CodeMessage[] {
  const found = new Map<number, CodeMessage>();
  for (const sink of SINKS) {
    for (const match of code.matchAll(sink)) {
      const { index } = match;
      if (/^\s*(\*|\/\/)/.test(code.slice(code.lastIndexOf("\n", index) + 1, index))) continue;
      for (const { at, text } of wordsWithin(code, index + match[0].length)) {
        if (!isSentence(text)) continue;
        const where = `${file}:${code.slice(0, at).split("\n").length}`;
        // The log's own placeholders are such as {path}.
        found.set(at, { where, text: text.replace(/\{\w+\}/g, "…").trim() });
      }
    }
  }
  return [...found].sort(([a], [b]) => a - b).map(([, message]) => message);
}

/** Two words at least, beside what the code puts in, and no script of many lines. */
function isSentence(text: string): boolean {
  return text.split("\n").length < 5 && /\p{L}\p{L}+[,:;]? \p{L}+/u.test(text.replaceAll("…", ""));
}

/** The texts from `from` to the end of the call or value that begins there; what is joined by + is one. */
function wordsWithin(code: string, from: number): { at: number; text: string }[] {
  const found: { at: number; text: string }[] = [];
  let last: { at: number; text: string } | undefined;
  let depth = 0;
  let isJoined = false;
  for (let at = from; at < code.length; at++) {
    const char = code[at]!;
    if (/\s/.test(char)) continue;
    if (code.startsWith("//", at)) at = endOf(code, "\n", at);
    else if (char === '"' || char === "`") {
      const { text, end } = literal(code, at);
      if (last && isJoined) last.text += text;
      else found.push(last = { at, text });
      isJoined = false;
      at = end;
    } else if ("([{".includes(char)) depth++;
    else if (")]}".includes(char)) {
      if (--depth < 0) break;
    } else if (char === ";" || char === "," && depth === 0 && code[from - 1] !== "(") break;
    else if (char === "+") isJoined = last !== undefined;
    else if (",?:".includes(char)) [last, isJoined] = [undefined, false];
    else if (isJoined && last) {
      last.text += "…";
      isJoined = false;
    }
  }
  return found;
}

function endOf(code: string, what: string, from: number): number {
  const at = code.indexOf(what, from);
  return at < 0 ? code.length : at;
}

/** The literal at `at`, and where its last character is. */
function literal(code: string, at: number): { text: string; end: number } {
  const quote = code[at]!;
  let text = "";
  for (at++; at < code.length && code[at] !== quote; at++) {
    if (code[at] === "\\") text += code[++at] === "n" ? "\n" : code[at];
    else if (quote === "`" && code.startsWith("${", at)) {
      text += "…";
      at = endOfPlaceholder(code, at + 2);
    } else text += code[at];
  }
  return { text, end: at };
}

function endOfPlaceholder(code: string, at: number): number {
  for (let depth = 0; at < code.length; at++) {
    if (code[at] === '"' || code[at] === "`") at = literal(code, at).end;
    else if (code[at] === "{") depth++;
    else if (code[at] === "}" && depth-- === 0) return at;
  }
  return at;
}
