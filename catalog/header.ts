/**
 * The header: which column each cell of a record belongs to. Must not know rows.
 */
import { nearest } from "../util/nearest.ts";
import { columnKey, columnOf, columns, type NamedColumn } from "./columns.ts";
import type { RawRecord } from "./csv.ts";
import { findInvisible, type Invisible } from "./invisible.ts";
import { cut, type Problem, Refusal } from "./problem.ts";
import type { Place } from "./row.ts";

/** Cells of the header. */
const MAX_CELLS = 1_000;

export interface Header {
  readonly line: number;
  /** Number of its cells. */
  readonly width: number;
  /** Known columns, in the order of the table of columns. */
  readonly places: readonly Place[];
  /** Warnings: columns that nobody knows. */
  readonly problems: readonly Problem[];
}

/** Reads the header. Throws a Refusal where rows cannot be read by it. */
export function readHeader({ line, cells, fault }: RawRecord, delimiter: string): Header {
  if (fault) throw new Refusal(line, fault.message, { column: cut(cells[fault.at] ?? "") });
  if (cells.length > MAX_CELLS) {
    throw new Refusal(line, `the header has ${cells.length} cells, ${MAX_CELLS} are allowed; take the empty ones away`);
  }
  const names = cells.map((cell) => cell.trim());
  const places = new Map<NamedColumn, number>();
  const unknown: string[] = [];
  const hidden: Problem[] = [];
  for (const [at, name] of names.entries()) {
    const column = columnOf(name);
    if (column === undefined) {
      if (name !== "") unknown.push(name);
    } else if (places.has(column)) {
      throw new Refusal(line, `the header has the column ${column.name} twice; take one away`, { column: column.name });
    } else {
      places.set(column, at);
      const odd = findInvisible(name.replaceAll("\n", " "));
      if (odd) hidden.push({ severity: "warning", line, column: column.name, message: hiddenIn(odd, column.name) });
    }
  }
  if (places.size === 0) {
    const value = cut(names.join(delimiter));
    throw new Refusal(line, "no known column is named here; the first line must be job_name,mqtt_topic,image,…", {
      value,
    });
  }
  const free = columns.filter((column) => !places.has(column));
  const missing = free.filter(({ required }) => required !== undefined).map(({ name }) => name);
  if (missing.length > 0) refuseMissing(line, missing, unknown);
  return {
    line,
    width: cells.length,
    places: columns.flatMap((column) => {
      const at = places.get(column);
      return at === undefined ? [] : [{ column, at }];
    }),
    problems: [...hidden, ...unknown.map((name) => unknownColumn(line, name, free))],
  };
}

function hiddenIn({ what, at }: Invisible, name: string): string {
  return `the header holds ${what} at character ${at + 1} of this cell, which is read as ${name}; take it out`;
}

function refuseMissing(line: number, missing: readonly string[], unknown: readonly string[]): never {
  const [first = ""] = missing;
  const near = nearest(columnKey(first), unknown.map(columnKey));
  const misspelt = near === undefined ? undefined : unknown.find((name) => columnKey(name) === near);
  const hint = misspelt === undefined ? "" : `; did you misspell it as "${misspelt}"?`;
  const what = missing.length === 1 ? `the column ${first} is` : `the columns ${missing.join(", ")} are`;
  throw new Refusal(line, `${what} missing from the header${hint}`, { column: first });
}

function unknownColumn(line: number, name: string, free: readonly NamedColumn[]): Problem {
  const near = nearest(columnKey(name), free.map((column) => columnKey(column.name)));
  const hint = near === undefined ? "" : `; did you mean ${columnOf(near)?.name}?`;
  return {
    severity: "warning",
    line,
    column: cut(name),
    message: `unknown column "${cut(name)}" is ignored${hint}`,
  };
}
