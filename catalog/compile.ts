/**
 * Reads a table with the conditions of its rows (`when`) made ready: one that is no CEL is an error of its row. The one way
 * in which the service, `check` and `explain` read a table. Must not know what a message says.
 */
import type { Row } from "../ports.ts";
import type { Condition } from "./conditions.ts";
import { cut, type Problem } from "./problem.ts";
import { parseTableInSlices, type Table, type TableOptions } from "./table.ts";

export interface CompiledTable extends Table {
  /** By the text of the cell. */
  readonly conditions: ReadonlyMap<string, Condition>;
}

const NO_CONDITIONS: ReadonlyMap<string, Condition> = new Map();

/**
 * Reads a table in slices, see `parseTableInSlices`. The library for conditions is loaded only where a row has one; such
 * a table is read once more, since a row that is left out leaves others without a parent, too.
 */
export async function readTable(
  source: Uint8Array | string,
  options: TableOptions,
  slices: { sliceMs?: number; signal?: AbortSignal } = {},
): Promise<CompiledTable> {
  const table = await parseTableInSlices(source, options, slices);
  if (!table.rows.some(({ when }) => when !== undefined)) return { ...table, conditions: NO_CONDITIONS };
  const { compileCondition } = await import("./conditions.ts");
  const compiled = new Map<string, ReturnType<typeof compileCondition>>();
  const check = (row: Row): readonly Problem[] => {
    const problems = options.check?.(row) ?? [];
    const { when: text, line, jobName } = row;
    if (text === undefined) return problems;
    let condition = compiled.get(text);
    if (condition === undefined) compiled.set(text, condition = compileCondition(text));
    if (!("fault" in condition)) return problems;
    const message = `not a condition: ${condition.fault}`;
    return [...problems, { severity: "error", line, column: "when", value: cut(text), jobName, message }];
  };
  const checked = await parseTableInSlices(source, { ...options, check }, slices);
  const conditions = [...compiled].flatMap(([text, one]) => "fault" in one ? [] : [[text, one] as const]);
  return { ...checked, conditions: new Map(conditions) };
}
