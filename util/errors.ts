/**
 * What a caught value says to people: the one way by which errors leave the program. The words are redacted, hold the
 * causes and are cut.
 */
import { fetchWords } from "./fetch_failure.ts";
import { permissionWords } from "./permission_words.ts";
import { redact } from "./redact.ts";
import { cut, LONGEST_WORDS, visible } from "./text.ts";

/** Causes of causes that are looked at. */
const DEEPEST = 8;

/**
 * An error's message with those of its causes, such as `Cannot read the table: connection refused`; of anything else
 * its text.
 * Without secrets, at most 2,000 characters.
 */
export function errorMessage(error: unknown): string {
  const words: string[] = [];
  let at: unknown = error;
  for (let depth = 0; depth < DEEPEST && at !== undefined && at !== null; depth++) {
    const said = wordsOf(at).slice(0, 32 * LONGEST_WORDS);
    const cause = at instanceof Error ? at.cause ?? firstOf(at) : undefined;
    // Often a message holds its cause's already. What fetch says tells nothing: the cause has the reason.
    const isEmpty = said === "" || said === "fetch failed" && cause !== undefined;
    if (!isEmpty && !words.some((earlier) => earlier.includes(said))) words.push(said);
    at = cause;
  }
  return safeWords(words.join(": ") || "unknown");
}

/** Foreign words without secrets and without orders to terminals and eyes, at most `most` characters of them. */
export function safeWords(text: string, most: number = LONGEST_WORDS): string {
  // Cut before as well: what may be megabytes is not searched. A secret that is halved there lies beyond `most`.
  return cut(visible(redact(text.slice(0, Math.max(32 * most, 64 * 1024)))), most);
}

/** The first of several, as Node has it where each address of a host was tried. */
function firstOf(error: Error): unknown {
  return error instanceof AggregateError ? error.errors[0] : undefined;
}

function wordsOf(value: unknown): string {
  if (typeof value === "string") return value;
  if (value instanceof Error) {
    // Errors of sockets may have nothing but a code.
    const said = value.message || String((value as { code?: unknown }).code ?? value.name);
    return fetchWords(said) ?? permissionWords(said) ?? said;
  }
  // An ErrorEvent and plain objects of libraries.
  const { message } = value as { message?: unknown };
  if (typeof message === "string" && message !== "") return message;
  try {
    return typeof value === "object" ? JSON.stringify(value) : String(value);
  } catch {
    return String(value);
  }
}
