/**
 * Which of the rows that are for a message it starts: asks their conditions (`when`), and whether it has the
 * fields that they need (`inputs`). Pure, and the same for each delivery of a message as long as the table is the same.
 */
import { type Condition, type ConditionValues, conditionValues } from "../catalog.ts";
import type { ErrorReport, FilteredRow, Message, Row } from "../ports.ts";
import { inputFault } from "../run_spec.ts";

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

/** Asks each row. Costs nothing where none has a condition or inputs. */
export function selectRows(rows: readonly Row[], message: Message, options: SelectionOptions): Selection {
  if (!rows.some(({ when, inputs }) => when ?? inputs)) return { rows, filtered: NONE, refused: NONE };
  const { topicPrefix, conditionOf } = options;
  let values: ConditionValues | undefined;
  const filtered: FilteredRow[] = [];
  const refused: ErrorReport[] = [];
  const selected = rows.filter((row) => {
    const condition = conditionOf(row);
    // One that looks at the item is asked for each of them, see flows/items.ts.
    const isOfItems = row.forEach !== undefined && condition?.looksAtItem;
    const verdict = isOfItems ? undefined : condition?.evaluate(values ??= conditionValues(message, topicPrefix));
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
