/**
 * Which of the rows that are for a message it starts: asks their conditions (`when`). Pure, and the same for
 * each delivery of a message as long as the table is the same.
 */
import type { Condition, ConditionValues } from "../catalog.ts";
import type { FilteredRow, Message, Row } from "../ports.ts";
import { isEndTopic } from "../topics.ts";
import { parseJson } from "../util/json.ts";

export interface Selection {
  /** Those that it starts. */
  readonly rows: readonly Row[];
  readonly filtered: readonly FilteredRow[];
}

export interface SelectionOptions {
  readonly topicPrefix: string;
  readonly conditionOf: (row: Row) => Condition | undefined;
}

const NONE: readonly never[] = [];
/** Of a message that is for no row. */
export const NOTHING_SELECTED: Selection = { rows: NONE, filtered: NONE };

/** Payloads larger than this are not looked into: their fields are missing. In bytes. */
const MAX_PARSED_BYTES = 1024 * 1024;

/** Asks each row. Costs nothing where none has a condition. */
export function selectRows(rows: readonly Row[], message: Message, options: SelectionOptions): Selection {
  if (!rows.some(({ when }) => when !== undefined)) return { rows, filtered: NONE };
  const { topicPrefix, conditionOf } = options;
  const values = valuesOf(message, topicPrefix);
  const filtered: FilteredRow[] = [];
  const selected = rows.filter((row) => {
    const verdict = conditionOf(row)?.evaluate(values);
    if (verdict === undefined || verdict.passed) return true;
    filtered.push({ jobName: row.jobName, line: row.line, because: verdict.because });
    return false;
  });
  return { rows: selected, filtered };
}

/** What a condition may look at of a message. */
function valuesOf({ topic, payload }: Message, topicPrefix: string): ConditionValues {
  const value = parsed(payload);
  if (!isEndTopic(topicPrefix, topic)) return { topic, payload: value, input: value };
  const { input, result } = typeof value === "object" && value !== null ? value as Record<string, unknown> : {};
  return { topic, payload: value, input: typeof input === "string" ? jsonOr(input) : input, result };
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
