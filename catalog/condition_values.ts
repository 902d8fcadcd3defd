/**
 * What a condition (`when`) may look at of a message. Pure; loads no CEL.
 */
import type { Message } from "../ports.ts";
import { MAX_PARSED_BYTES } from "../run_spec.ts";
import { isEndTopic, isJoinTopic } from "../topics.ts";
import { parseJson } from "../util/json.ts";
import type { ConditionValues } from "./conditions.ts";

/** Its payload, what began its chain, and the result of the run whose end it is. */
export function conditionValues({ topic, payload }: Message, topicPrefix: string): ConditionValues {
  const value = parsed(payload);
  if (isJoinTopic(topicPrefix, topic)) return { topic, payload: value, ...valuesOfJoin(value) };
  if (!isEndTopic(topicPrefix, topic)) return { topic, payload: value, input: value };
  const { input, result } = fieldsOf(value);
  return { topic, payload: value, input: typeof input === "string" ? jsonOr(input) : input, result };
}

/** The results are those of the rows that it needed, by their names. */
function valuesOfJoin(value: unknown): Pick<ConditionValues, "input" | "result"> {
  const { input, needs } = fieldsOf(value);
  const result = Object.fromEntries(
    Object.entries(fieldsOf(needs)).map(([name, one]) => [name, fieldsOf(one)["result"]]),
  );
  return { ...(typeof input === "string" ? { input: jsonOr(input) } : {}), result };
}

function fieldsOf(value: unknown): Record<string, unknown> {
  return typeof value === "object" && value !== null ? value as Record<string, unknown> : {};
}

function parsed(payload: Uint8Array): unknown {
  if (payload.length > MAX_PARSED_BYTES) return undefined;
  return jsonOr(new TextDecoder().decode(payload));
}

function jsonOr(text: string): unknown {
  try {
    return parseJson(text);
  } catch {
    return text;
  }
}
