/**
 * What a process says at its end, as Kubernetes' termination message has it: what it wrote into RESULT_FILE, else, of one
 * that failed, the end of its output.
 */
import { errorMessage } from "../../util/errors.ts";
import { readAtMost } from "../../util/streams.ts";
import type { RunLog } from "./log.ts";

/** As Kubernetes reads of a termination message, in bytes. */
const MAX_RESULT_BYTES = 4_096;

/** undefined: nothing was said. `log`: of a process that failed. */
export async function readMessage(path: string, log: RunLog | undefined): Promise<string | undefined> {
  return await readResult(path) || log?.tail || undefined;
}

async function readResult(path: string): Promise<string> {
  try {
    // Whoever may write there may have made a link or a pipe of it.
    if (!(await Deno.lstat(path)).isFile) return "";
    return new TextDecoder().decode(await readAtMost((await Deno.open(path)).readable, MAX_RESULT_BYTES));
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return "";
    return `RESULT_FILE cannot be read: ${errorMessage(error)}`;
  }
}

/** What runtimes say when an allocation fails: C's ENOMEM, C++, Python, Java, Node.js, Go, R, GNU and busybox tools, shells. */
const NO_MEMORY =
  /cannot allocate|out of (memory|space)|memory exhausted|MemoryError|OutOfMemoryError|std::bad_alloc|failed to allocate memory/i;

/** Whether a program that failed under a memory limit says that it had no more; `message`: the end of its output. */
export function lackedMemory(message: string | undefined): boolean {
  return message !== undefined && NO_MEMORY.test(message);
}
