/**
 * The cells of a row that is being made of a manifest. A cell counts only if the table's own reader makes of it what the
 * manifest said; what it says is then taken out of the manifest, and what is left over is the template's. Pure.
 */
import { isDeepStrictEqual } from "node:util";
import { allColumns, COLUMNS, type Field, type Row } from "../columns.ts";
import type { Kind } from "../kinds.ts";
import { parseTable } from "../table.ts";
import { toCsv } from "./cells.ts";

interface Part {
  readonly field: Field;
  /** The cell, or an entry of it. */
  readonly text: string;
  /** Takes out of the manifest what the part says. */
  readonly take: () => void;
}

/**
 * Rules about nodes make one list in the pod: of its halves none may be the template's. Nor may arguments of a row follow
 * a template's command.
 */
const TOGETHER: readonly (readonly Field[])[] = [
  ["nodeSelector", "gpuProduct"],
  ["command", "args"],
  ["maxRuns", "whenBusy"],
];
/** How entries of a cell are joined. */
const JOINED: Partial<Record<Field, string>> = { nodeSelector: ", ", nodePreference: ", ", gpuProduct: ", " };

/** What a cell's kind makes of a text; undefined: nothing, or an error. */
export function valueOf<F extends Field>(field: F, text: string): Row[F] | undefined {
  let isBad = false;
  const report = { error: () => void (isBad = true), warn: () => {} };
  // A cell is trimmed before it is read.
  const value = (COLUMNS[field].kind as Kind<unknown>).read(text.trim(), report, {});
  return isBad ? undefined : value as Row[F] | undefined;
}

/** Whether a cell's kind makes `expected` of a text, without an error. */
export function readsBack(field: Field, text: string, expected: unknown): boolean {
  const value = valueOf(field, text);
  return value !== undefined && isDeepStrictEqual(value, expected);
}

export class Draft {
  readonly #parts: Part[] = [];
  readonly #refused = new Set<Field>();

  /** Puts a text into a column if it means `expected` there; whether it does. */
  offer(field: Field, text: string, expected: unknown, take: () => void): boolean {
    if (!readsBack(field, text, expected)) return false;
    this.#parts.push({ field, text, take });
    return true;
  }

  /** Puts a text into a column that no row can be without; what is wrong with it is told when the draft is settled. */
  require(field: Field, text: string, take: () => void): void {
    this.#parts.push({ field, text, take });
  }

  /** Puts entries into a column if each means what is expected; all or none. */
  offerAll(field: Field, entries: readonly (readonly [text: string, expected: unknown])[], take: () => void): boolean {
    if (entries.length === 0 || !entries.every(([text, expected]) => readsBack(field, text, [expected]))) return false;
    entries.forEach(([text], at) => this.#parts.push({ field, text, take: at === 0 ? take : () => {} }));
    return true;
  }

  has(field: Field): boolean {
    return this.#parts.some((part) => part.field === field);
  }

  /** Leaves a column empty. */
  drop(field: Field): void {
    const group = TOGETHER.find((fields) => fields.includes(field)) ?? [field];
    for (const one of group) this.#refused.add(one);
    const kept = this.#parts.filter((part) => !this.#refused.has(part.field));
    this.#parts.splice(0, this.#parts.length, ...kept);
  }

  /** By column name, in the order of the documentation. */
  cells(): Record<string, string> {
    const texts = (field: Field) => this.#parts.filter((part) => part.field === field).map(({ text }) => text);
    return Object.fromEntries(allColumns.flatMap(({ field, name }) => {
      const parts = texts(field);
      return parts.length === 0 ? [] : [[name, parts.join(JOINED[field] ?? "; ")]];
    }));
  }

  /**
   * Drops columns that the table refuses in this row, and takes what the others say out of the manifest. The row as the
   * table has it, or what it has against a column that must be there.
   */
  settle(topicPrefix: string): { readonly row: Row } | { readonly fault: string } {
    for (;;) {
      const cells = this.cells();
      const { rows, problems } = parseTable(toCsv(Object.keys(cells), [cells]), { topicPrefix });
      const [row] = rows;
      if (row !== undefined) {
        for (const { take } of this.#parts) take();
        return { row };
      }
      const errors = problems.filter(({ severity }) => severity === "error");
      const bad = errors.flatMap(({ column }) => allColumns.filter(({ name }) => name === column));
      const required = bad.find((column) => "required" in column && column.required !== undefined);
      if (required !== undefined || bad.length === 0) {
        const { column = "row", message = "it cannot be read" } = errors[0] ?? {};
        return { fault: `${column}: ${message}` };
      }
      for (const { field } of bad) this.drop(field);
    }
  }
}
