/**
 * Who asks for something by hand, as whoever passes it on names them: a proxy before the page, a request by MQTT. It is
 * a name to be shown and kept, and allows nothing. Pure.
 */
import { cut, oneLine } from "../util/text.ts";

/** Characters of such a name. */
export const MAX_REQUESTER = 200;

/** The name as it is kept. RangeError: it is none that can be shown. */
export function readRequester(given: string): string {
  const name = given.trim();
  if (name === "" || name.length > MAX_REQUESTER || !name.isWellFormed()) {
    throw new RangeError(`The name "${oneLine(cut(name, 40))}" of who asks: write 1 to ${MAX_REQUESTER} characters`);
  }
  if (oneLine(name) !== name) {
    throw new RangeError(`The name "${oneLine(cut(name, 40))}" of who asks has control characters: leave them out`);
  }
  return name;
}
