/**
 * What cannot be meant in a row that needs others: values of rows that it does not need, a key of its own. Pure.
 */
import type { Row } from "../ports.ts";
import { placeholdersOf } from "../run_spec.ts";
import { cut } from "./problem.ts";

/** Sentences. Nothing can be said of a row that messages of its own start too. */
export function doubtsOfNeeds(row: Row): { readonly value: string; readonly message: string }[] {
  const { needs, mqttTopic, schedule } = row;
  if (needs === undefined || mqttTopic !== "" || schedule !== undefined) return [];
  const ofKey = row.idempotencyKey === undefined ? [] : [{
    value: needs.join(", "),
    message: "such a row runs once for each message from outside, whatever its idempotency_key says; empty that cell",
  }];
  const ofPlaceholders = placeholdersOf(row).flatMap(({ root, path, preset, source }) => {
    if (preset !== undefined) return [];
    const named = root === "result" ? path[0] ?? "" : root === "payload" && path[0] === "needs" ? path[1] : undefined;
    if (named === undefined || needs.includes(String(named))) return [];
    const right = root === "result" ? `{result.${needs[0]}…}` : `{payload.needs.${needs[0]}…}`;
    const message = `${cut(source)} names no row of needs, so each run is refused; write it such as ${right}`;
    return [{ value: needs.join(", "), message }];
  });
  return [...ofKey, ...ofPlaceholders];
}
