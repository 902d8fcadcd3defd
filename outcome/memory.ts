/**
 * Memory that a run lacked though it succeeded: a child of its program, another container or a former pod was killed for
 * it, and nobody knows what that would have written. Pure.
 */
import { lowerFirst } from "../util/text.ts";
import type { JobFacts, PodFacts } from "../ports.ts";
import { isMain, nameOf } from "./verdict.ts";

/** A clause that follows how the run ended; undefined: nothing of it ran out of memory. Told of runs that succeeded. */
export function outOfMemoryWords(
  { limits }: Pick<JobFacts, "limits">,
  pods: readonly PodFacts[],
): string | undefined {
  const killed = pods.flatMap(({ containers }) => containers).find(({ oomKilled }) => oomKilled);
  if (killed === undefined) return undefined;
  const limit = isMain(killed) && limits["memory"] ? ` (the limit is ${limits["memory"]})` : "";
  const name = nameOf(killed);
  return `but ${lowerFirst(name)} ran out of memory${limit}: something in it was killed; ` +
    "check the result, and raise memory_limit";
}
