/**
 * The words of a command, as a shell would part them. Pure; never runs nor expands anything. What of them only a shell
 * would understand is command_doubts.ts.
 */

/** Words of a command. */
export interface Command {
  readonly words: readonly string[];
  /** Each word as far as it stands outside quotes; QUOTED stands for what is within them. */
  readonly bare: readonly string[];
}

/** In `Command.bare`: something quoted. */
export const QUOTED = "\0";

/**
 * Splits a command as a POSIX shell would, and expands nothing: blanks part words, '…' keeps all, "…" keeps all but
 * `\"` and `\\`, a backslash keeps the next character. `fault`: what is wrong, as a clause to follow a colon.
 */
export function parseCommand(text: string): Command | { readonly fault: string } {
  const words: string[] = [];
  const bare: string[] = [];
  let [word, outside, isOpen] = ["", "", false];
  const end = () => {
    if (!isOpen) return;
    words.push(word);
    bare.push(outside);
    [word, outside, isOpen] = ["", "", false];
  };
  for (let at = 0; at < text.length; at++) {
    const char = text.charAt(at);
    if (/\s/.test(char)) {
      end();
      continue;
    }
    isOpen = true;
    if (char === "'" || char === '"') {
      const piece = quotedPiece(text, at, char);
      if (!piece) return { fault: `the quote ${char} at character ${at + 1} is not closed` };
      word += piece.value;
      outside += QUOTED;
      at = piece.end;
    } else if (char === "\\") {
      if (at + 1 === text.length) return { fault: "it ends in a backslash, which must stand before a character" };
      word += text.charAt(++at);
      outside += QUOTED;
    } else {
      word += char;
      outside += char;
    }
  }
  end();
  return { words, bare };
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
