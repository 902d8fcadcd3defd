/**
 * What a row does beyond one run a message, in a few words each, for the graph and for `explain`. Pure.
 */
import type { Row } from "../ports.ts";
import { forEachText } from "./cells/flows.ts";
import { cut } from "./problem.ts";

/** `for each payload.files`, `retries 2 on 75, NodeLost`, `memory 8Gi, then 16Gi, 32Gi`; empty for most rows. */
export function rowNotes({ forEach, retries = 0, retryOn, memoryLimits, rerunAfterDisruption = true }: Row): string[] {
  const on = retryOn?.map((rule) =>
    "reason" in rule ? rule.reason : rule.first === rule.last ? `${rule.first}` : `${rule.first}-${rule.last}`
  );
  const [first, ...further] = memoryLimits ?? [];
  return [
    ...(forEach === undefined ? [] : [`for each ${cut(forEachText(forEach))}`]),
    ...(retries === 0 ? [] : [`retries ${retries}${on ? ` on ${on.join(", ")}` : ""}`]),
    ...(further.length === 0 ? [] : [`memory ${first}, then ${further.join(", ")}`]),
    ...(rerunAfterDisruption ? [] : ["not again after a disruption"]),
  ];
}
