/**
 * Reads a table with what its cells need libraries for made ready: conditions (`when`) and schedules. One that is not
 * right is an error of its row. The one way in which the service, `check` and `explain` read a table. Must not know what
 * a message says, nor what time it is for.
 */
import type { Row } from "../ports.ts";
import { scheduleText } from "./cells/flows.ts";
import type { Condition } from "./conditions.ts";
import { cut, type Problem } from "./problem.ts";
import { parseTableInSlices, type Table, type TableOptions } from "./table.ts";
import type { Timetable } from "./timetables.ts";

export interface CompiledTable extends Table {
  /** By the text of the cell. */
  readonly conditions: ReadonlyMap<string, Condition>;
  /** When the row is due; undefined: it has no schedule. */
  readonly timetableOf: (row: Row) => Timetable | undefined;
}

/** Says what is wrong with one cell of a row. */
type CellCheck = (row: Row) => Pick<Problem, "column" | "value" | "message"> | undefined;

/**
 * Reads a table in slices, see `parseTableInSlices`. Each library is loaded only where a row needs it; such a table is
 * read once more, since a row that is left out leaves others without a parent, too.
 */
export async function readTable(
  source: Uint8Array | string,
  options: TableOptions,
  slices: { sliceMs?: number; signal?: AbortSignal } = {},
): Promise<CompiledTable> {
  const table = await parseTableInSlices(source, options, slices);
  const conditions = await conditionsOf(table);
  const timetables = await timetablesOf(table);
  const checks = [conditions.check, timetables.check].filter((check) => check !== undefined);
  const compiled = { conditions: conditions.all, timetableOf: timetables.of };
  if (checks.length === 0) return { ...table, ...compiled };
  const check = (row: Row): readonly Problem[] => {
    const { line, jobName } = row;
    const found = checks.flatMap((check) => check(row) ?? []);
    return [
      ...options.check?.(row) ?? [],
      ...found.map((problem): Problem => ({ severity: "error", line, jobName, ...problem })),
    ];
  };
  return { ...await parseTableInSlices(source, { ...options, check }, slices), ...compiled };
}

/** Compiles in the check of each row, so that a long table still is read in slices. */
async function conditionsOf(
  table: Table,
): Promise<{ readonly all: ReadonlyMap<string, Condition>; readonly check?: CellCheck }> {
  const all = new Map<string, Condition>();
  if (!table.rows.some(({ when }) => when !== undefined)) return { all };
  const { compileCondition } = await import("./conditions.ts");
  const faults = new Map<string, string>();
  return {
    all,
    check({ when, forEach }) {
      if (when === undefined) return undefined;
      if (!all.has(when) && !faults.has(when)) {
        const condition = compileCondition(when);
        if ("fault" in condition) faults.set(when, condition.fault);
        else all.set(when, condition);
      }
      if (all.get(when)?.looksAtItem && forEach === undefined) {
        const message = "it looks at item, which only a row with for_each has; fill for_each, or write payload.…";
        return { column: "when", value: cut(when), message };
      }
      if (all.has(when)) return undefined;
      return { column: "when", value: cut(when), message: `not a condition: ${faults.get(when)}` };
    },
  };
}

/** The same for schedules. */
async function timetablesOf(
  table: Table,
): Promise<{ readonly of: CompiledTable["timetableOf"]; readonly check?: CellCheck }> {
  if (!table.rows.some(({ schedule }) => schedule !== undefined)) return { of: () => undefined };
  const { compileTimetable, timetableKey } = await import("./timetables.ts");
  const all = new Map<string, ReturnType<typeof compileTimetable>>();
  return {
    of(row) {
      const found = row.schedule && all.get(timetableKey(row));
      return found === undefined || "fault" in found ? undefined : found;
    },
    check(row) {
      if (row.schedule === undefined) return undefined;
      const key = timetableKey(row);
      let found = all.get(key);
      if (found === undefined) all.set(key, found = compileTimetable(row.schedule, row.timeZone));
      if (!("fault" in found)) return undefined;
      return { column: "schedule", value: cut(scheduleText(row)), message: `not a schedule: ${found.fault}` };
    },
  };
}

/** The condition of a row whose table may be in force no more; undefined: it has none. Throws TypeError for what is none. */
export async function conditionFor({ when }: Pick<Row, "when">): Promise<Condition | undefined> {
  if (when === undefined) return undefined;
  const { compileCondition } = await import("./conditions.ts");
  const condition = compileCondition(when);
  if ("fault" in condition) throw new TypeError(`Not a condition: ${condition.fault}`);
  return condition;
}
