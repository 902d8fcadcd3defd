/**
 * What is wrong with a table, in words: the shape of a problem, its sentence, and the refusal of a whole file.
 * Must not know what is checked; the readers of the file, of rows and of cells do.
 */

import { cut as cutText } from "../util/text.ts";

/** Something wrong with the table. An error leaves the row (or, in `Table.refusal`, the table) out. */
export interface Problem {
  readonly severity: "error" | "warning";
  /** 1-based line of the file on which the row begins. */
  readonly line: number;
  /** Column as the contract names it, or as the header has it where it is unknown. */
  readonly column?: string;
  /** The cell, cut after 120 characters. */
  readonly value?: string;
  /** What is wrong and what would be right. */
  readonly message: string;
  readonly jobName?: string;
}

/** Ends the reading of a file of which nothing can be used. */
export class Refusal extends Error {
  override name = "Refusal";
  readonly problem: Problem;
  constructor(line: number, message: string, more: { column?: string; value?: string } = {}) {
    super(message);
    this.problem = { severity: "error", line, message: cutMessage(message), ...more };
  }
}

/** A problem as one sentence: `Line 3, memory_limit "8GB": not a Kubernetes quantity: write "8Gi"`. */
export function describeProblem({ line, column, value, message }: Problem): string {
  const where = column === undefined
    ? ""
    : value === undefined || value === ""
    ? `, ${column}`
    : `, ${column} "${value}"`;
  return `Line ${line}${where}: ${message}`;
}

/** What is wrong, where it quotes cells: far longer than any sentence of ours. */
export function cutMessage(message: string): string {
  return cutText(message, 1_500);
}

/** A cell as it is shown to people: at most 120 characters. */
export function cut(text: string): string {
  return text.length > 120 ? `${text.slice(0, 119).toWellFormed()}…` : text;
}
