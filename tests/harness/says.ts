/** What an error must be and say, for `rejects`. */
import { match, ok } from "node:assert/strict";
import type { RefusedError, UnavailableError } from "../../ports.ts";

/** An error of this kind whose message matches. */
export function says(
  kind: typeof RefusedError | typeof UnavailableError,
  words: RegExp,
): (error: Error) => true {
  return (error) => {
    ok(error instanceof kind, `${error.name}: ${error.message}`);
    match(error.message, words);
    return true;
  };
}
