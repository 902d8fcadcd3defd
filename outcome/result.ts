/**
 * What a run's program wrote into RESULT_FILE: small JSON that goes on as `result`. Pure.
 */
import type { PodFacts } from "../ports.ts";
import { isMain } from "./verdict.ts";

/** What of a result can be used; `fault`: why it cannot, a sentence. */
export type RunResult = { readonly result?: unknown; readonly fault?: string };

/**
 * The result of a run that has succeeded, of the one pod that did; empty where nothing was written. With several parts
 * there is none: each has its own.
 */
export function resultOf(pods: readonly PodFacts[]): RunResult {
  const succeeded = pods.filter(({ phase }) => phase === "Succeeded");
  const text = succeeded.length === 1 ? succeeded[0]!.containers.find(isMain)?.message?.trim() ?? "" : "";
  if (text === "") return {};
  try {
    return { result: JSON.parse(text) };
  } catch {
    return { fault: "What it wrote into RESULT_FILE is left out, for it is no JSON of at most 4 KiB" };
  }
}
