/**
 * The words of a command, as a shell would part them. Pure; never runs nor expands anything.
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
