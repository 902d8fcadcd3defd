/**
 * Which of the rows that are for a message it starts: asks their conditions (`when`), and whether it has the
 * fields that they need (`inputs`). Pure, and the same for each delivery of a message as long as the table is the same.
 */
import type { Condition, ConditionValues } from "../catalog.ts";
import type { ErrorReport, FilteredRow, Message, Row } from "../ports.ts";
import { inputFault } from "../run_spec.ts";
import { isEndTopic, isJoinTopic } from "../topics.ts";
import { parseJson } from "../util/json.ts";

export interface Selection {
  /** Those that it starts. */
  readonly rows: readonly Row[];
  readonly filtered: readonly FilteredRow[];
  /** Of rows whose inputs it does not have. */
  readonly refused: readonly ErrorReport[];
}

export interface SelectionOptions {
  readonly topicPrefix: string;
  readonly conditionOf: (row: Row) => Condition | undefined;
}

const NONE: readonly never[] = [];
/** Of a message that is for no row. */
export const NOTHING_SELECTED: Selection = { rows: NONE, filtered: NONE, refused: NONE };

/** Payloads larger than this are not looked into: their fields are missing. In bytes. */
const MAX_PARSED_BYTES = 1024 * 1024;

/** Asks each row. Costs nothing where none has a condition or inputs. */
export function selectRows(rows: readonly Row[], message: Message, options: SelectionOptions): Selection {
  if (!rows.some(({ when, inputs }) => when ?? inputs)) return { rows, filtered: NONE, refused: NONE };
  const { topicPrefix, conditionOf } = options;
  let values: ConditionValues | undefined;
  const filtered: FilteredRow[] = [];
  const refused: ErrorReport[] = [];
  const selected = rows.filter((row) => {
    const verdict = conditionOf(row)?.evaluate(values ??= valuesOf(message, topicPrefix));
    if (verdict?.passed === false) {
      filtered.push({ jobName: row.jobName, line: row.line, because: verdict.because });
      return false;
    }
    const report = inputReport(row, message);
    if (report) refused.push(report);
    return report === undefined;
  });
  return { rows: selected, filtered, refused };
}

/** What is reported of a message that lacks what the row needs; undefined: it has it. */
export function inputReport(row: Row, message: Message): ErrorReport | undefined {
  const fault = inputFault(row, message);
  if (!fault) return undefined;
  const { reason, value } = fault;
  return {
    reason,
    message: `Job "${row.jobName}" was not started: ${fault.message}`,
    job_name: row.jobName,
    topic: message.topic,
    line: row.line,
    column: "inputs",
    ...(value === undefined ? {} : { value }),
  };
}

/** What a condition may look at of a message. */
function valuesOf({ topic, payload }: Message, topicPrefix: string): ConditionValues {
  const value = parsed(payload);
  if (isJoinTopic(topicPrefix, topic)) return { topic, payload: value, ...valuesOfJoin(value) };
  if (!isEndTopic(topicPrefix, topic)) return { topic, payload: value, input: value };
  const { input, result } = typeof value === "object" && value !== null ? value as Record<string, unknown> : {};
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
