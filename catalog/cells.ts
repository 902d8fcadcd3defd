/**
 * The little languages of a table's cells that need more than a pattern: a command's words, an image reference.
 * Pure; never runs nor expands anything.
 */

/** Words of a command, or what is wrong with it as a clause to follow a colon. */
export type Command = { readonly words: readonly string[]; readonly operators: readonly string[] } | {
  readonly fault: string;
};

const OPERATOR = /^(\|\|?|&&?|;|\d?>>?(&\d)?|<<?)$|;$/;

/**
 * Splits a command as a POSIX shell would, and expands nothing: blanks part words, '…' keeps all, "…" keeps all but
 * `\"` and `\\`, a backslash keeps the next character. `operators`: unquoted words that only a shell understands.
 */
export function parseCommand(text: string): Command {
  const words: string[] = [];
  const operators: string[] = [];
  let word: string | undefined;
  let quoted = false;
  const end = () => {
    if (word === undefined) return;
    if (!quoted && (OPERATOR.test(word) || /\$[A-Za-z_({]/.test(word))) operators.push(word);
    words.push(word);
    word = undefined;
    quoted = false;
  };
  for (let at = 0; at < text.length; at++) {
    const char = text.charAt(at);
    if (/\s/.test(char)) {
      end();
    } else if (char === "'" || char === '"') {
      const piece = quotedPiece(text, at, char);
      if (!piece) return { fault: `the quote ${char} at character ${at + 1} is not closed` };
      word = (word ?? "") + piece.value;
      quoted = true;
      at = piece.end;
    } else if (char === "\\") {
      if (at + 1 === text.length) return { fault: "it ends in a backslash, which must stand before a character" };
      word = (word ?? "") + text.charAt(++at);
      quoted = true;
    } else {
      word = (word ?? "") + char;
    }
  }
  end();
  return { words, operators };
}

/** The text inside the quotes that open at `start`, and where they close. */
function quotedPiece(text: string, start: number, quote: string): { value: string; end: number } | undefined {
  let value = "";
  for (let at = start + 1; at < text.length; at++) {
    const char = text.charAt(at);
    if (char === quote) return { value, end: at };
    const next = text.charAt(at + 1);
    if (quote === '"' && char === "\\" && (next === '"' || next === "\\")) {
      value += next;
      at++;
    } else value += char;
  }
  return undefined;
}

/** A command as one line that `parseCommand` reads back to the same words. */
export function quoteCommand(words: readonly string[]): string {
  return words.map((word) => /^[\w@%+=:,./-]+$/.test(word) ? word : `'${word.replaceAll("'", `'\\''`)}'`).join(" ");
}

const HOST = /^(?:[a-zA-Z0-9](?:[a-zA-Z0-9-]*[a-zA-Z0-9])?)(?:\.[a-zA-Z0-9](?:[a-zA-Z0-9-]*[a-zA-Z0-9])?)*(?::\d+)?$/;
const PATH_PART = /^[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*$/;
const TAG = /^\w[\w.-]{0,127}$/;
const DIGEST = /^[A-Za-z][A-Za-z0-9]*(?:[-_+.][A-Za-z][A-Za-z0-9]*)*:[0-9a-fA-F]{32,}$/;

/**
 * What is wrong with an image reference and what would be right, as a clause to follow a colon; undefined: it is valid.
 * Grammar: https://github.com/distribution/reference/blob/main/reference.go
 */
export function imageFault(image: string): string | undefined {
  if (/^[a-z]+:\/\//i.test(image)) return `leave out "${image.slice(0, image.indexOf("://") + 3)}"`;
  if (/\s/.test(image)) return "an image reference has no blanks; a command belongs in the column command";
  const [named = "", digest, ...more] = image.split("@");
  if (more.length > 0 || (digest !== undefined && !DIGEST.test(digest))) {
    return `what follows "@" must be a digest such as sha256:…`;
  }
  const colon = named.lastIndexOf(":");
  const hasTag = colon > named.lastIndexOf("/");
  const name = hasTag ? named.slice(0, colon) : named;
  const tag = hasTag ? named.slice(colon + 1) : undefined;
  if (tag === "") return `give a tag after ":" or leave the colon out`;
  if (tag !== undefined && !TAG.test(tag)) {
    return `the tag "${tag}" may hold letters, digits, "_", "." and "-" only, at most 128`;
  }
  return nameFault(name);
}

function nameFault(name: string): string | undefined {
  const parts = name.split("/");
  const first = parts[0] ?? "";
  const hasHost = parts.length > 1 && (/[.:]/.test(first) || first === "localhost");
  if (hasHost && !HOST.test(first)) return `"${first}" is not a registry's host name`;
  const path = hasHost ? parts.slice(1) : parts;
  for (const part of path) {
    if (part === "") return `it has an empty part between slashes`;
    if (PATH_PART.test(part)) continue;
    if (PATH_PART.test(part.toLowerCase())) {
      const low = [...(hasHost ? [first] : []), ...path].join("/").toLowerCase();
      return `a repository is written in lower case: "${low}"`;
    }
    return `"${part}" may hold a-z, 0-9 and single ".", "_" or "-" between them only`;
  }
  return name.length > 255 ? `it has ${name.length} characters, 255 are allowed` : undefined;
}
