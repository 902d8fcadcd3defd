/**
 * What a row does beyond one run a message, in a few words each, for the graph and for `explain`. Pure.
 */
import type { Row } from "../ports.ts";
import { forEachText } from "./cells/flows.ts";
import { cut } from "./problem.ts";

/** `for each payload.files`, `retries 2 on 75, NodeLost`, `memory 8Gi, then 16Gi, 32Gi`, `at most 2 at a time`; empty for most rows. */
export function rowNotes(row: Row): string[] {
  const { forEach, retries = 0, retryOn, memoryLimits, rerunAfterDisruption = true } = row;
  const on = retryOn?.map((rule) =>
    "reason" in rule ? rule.reason : rule.first === rule.last ? `${rule.first}` : `${rule.first}-${rule.last}`
  );
  const [first, ...further] = memoryLimits ?? [];
  return [
    ...(forEach === undefined ? [] : [`for each ${cut(forEachText(forEach))}`]),
    ...(retries === 0 ? [] : [`retries ${retries}${on ? ` on ${on.join(", ")}` : ""}`]),
    ...(further.length === 0 ? [] : [`memory ${first}, then ${further.join(", ")}`]),
    ...(rerunAfterDisruption ? [] : ["not again after a disruption"]),
    ...limitNotes(row),
  ];
}

function limitNotes({ maxRuns, concurrencyGroup, whenBusy = "wait", enabled, skipExisting }: Row): string[] {
  const group = concurrencyGroup?.map((piece) => typeof piece === "string" ? piece : piece.source).join("");
  const of = group === undefined ? "" : ` in the group ${cut(group)}`;
  const busy = {
    wait: "",
    forbid: ", others are skipped",
    replace: ", the newest stops the oldest",
    latest: ", the newest waits",
  };
  return [
    ...(maxRuns === undefined ? [] : [`at most ${maxRuns} at a time${of}${busy[whenBusy]}`]),
    ...(enabled === "paused" ? ["paused: its messages wait"] : []),
    ...(skipExisting ? ["not where its output is there"] : []),
  ];
}
