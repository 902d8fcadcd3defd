/** Words of a server, a file or a command, made fit for one line of a message. Pure. */
import { safeWords } from "../util/errors.ts";
import { oneLine } from "../util/text.ts";

/** Longest words of others that a message repeats, in characters. */
const MAX_WORDS = 300;

/** Words of others on one line, cut, without secrets and without orders to a terminal. */
export function plainWords(text: string): string {
  return oneLine(safeWords(text.slice(0, 64 * 1024).trim().replace(/\s+/g, " "), MAX_WORDS));
}
