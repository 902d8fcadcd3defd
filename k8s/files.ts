/**
 * Files that a kubeconfig is, or names: read up to a bound, with words for why one cannot be read. Never shows what is
 * in them.
 */
import { cut } from "../util/text.ts";
import { errorMessage } from "../util/errors.ts";
import { readAtMost } from "../util/streams.ts";

/** A kubeconfig of a hundred clusters has less. */
const MAX_BYTES = 8 * 1024 * 1024;

/** The file's text. Throws as Deno does, or TooManyBytes for one that is larger than any such file. */
export async function readBounded(path: string): Promise<string> {
  const file = await Deno.open(path);
  return new TextDecoder().decode(await readAtMost(file.readable, MAX_BYTES));
}

/** Why a file could not be read, a clause. */
export function whyNotRead(error: unknown): string {
  if (error instanceof Deno.errors.NotFound) return "there is no such file";
  if (error instanceof Deno.errors.IsADirectory) {
    return "it is a folder; Docker makes one where the file to be mounted is missing";
  }
  if (error instanceof Deno.errors.PermissionDenied) return "its owner or mode does not let this user read it";
  return firstLine(error);
}

/** The first line of what was caught: the rest is a trace or a command's whole output. */
export function firstLine(error: unknown): string {
  return cut(errorMessage(error).trim().split("\n", 1)[0] ?? "", 300);
}
