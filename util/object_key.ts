/**
 * Which keys a store may be asked for. One rule for every store, so that what one refuses another does not take. Pure.
 */
import { cut, oneLine } from "./text.ts";

/** Longest key of S3 with its prefix, in bytes (https://docs.aws.amazon.com/AmazonS3/latest/userguide/object-keys.html). */
const MAX_KEY_BYTES = 1024;
/** A key in a message is cut after so many characters. */
const MAX_SHOWN = 120;

/** Why no store may have the key; undefined: it may. `key`: with the store's prefix. */
export function keyFault(key: string): string | undefined {
  if (key.length > MAX_KEY_BYTES || new TextEncoder().encode(key).length > MAX_KEY_BYTES) {
    return `it is longer than ${MAX_KEY_BYTES} bytes`;
  }
  // deno-lint-ignore no-control-regex
  if (/[\x00-\x1f\x7f]/.test(key)) return "it holds a control character";
  if (!key.isWellFormed()) return "it is not Unicode";
  // A backslash is a letter of S3, and a way into folders for servers on Windows.
  if (key.split(/[/\\]/).some((part) => part === "." || part === "..")) return 'it has a "." or ".." part';
  if (key.split("/").includes("")) return "it has an empty part";
  return undefined;
}

/** Why nothing may be listed below the prefix, whose last part may be empty or begun; undefined: it may. */
export function prefixFault(prefix: string): string | undefined {
  return keyFault(prefix + "x");
}

/** A key for messages: cut, and on one line. */
export function shownKey(key: string): string {
  return oneLine(cut(key, MAX_SHOWN));
}
