/**
 * Which rows of a table need which: by the name of the needed one, the rows that wait for it. Pure.
 */
import type { Row } from "../ports.ts";

interface Index {
  readonly waiting: ReadonlyMap<string, readonly Row[]>;
  readonly joining: ReadonlyMap<string, Row>;
}

const NONE: readonly Row[] = [];
const indexes = new WeakMap<readonly Row[], Index>();

/** Rows that need that one, in the order of the table. Looks through the rows once a table. */
export function rowsThatNeed(rows: readonly Row[] | undefined, jobName: string): readonly Row[] {
  return rows === undefined ? NONE : indexOf(rows).waiting.get(jobName) ?? NONE;
}

/** Rows that need others, by their names. */
export function joiningRows(rows: readonly Row[] | undefined): ReadonlyMap<string, Row> {
  return indexOf(rows ?? NONE).joining;
}

function indexOf(rows: readonly Row[]): Index {
  let index = indexes.get(rows);
  if (!index) indexes.set(rows, index = makeIndex(rows));
  return index;
}

function makeIndex(rows: readonly Row[]): Index {
  const waiting = new Map<string, Row[]>();
  const joining = new Map<string, Row>();
  for (const row of rows) {
    if (row.needs === undefined) continue;
    joining.set(row.jobName, row);
    for (const needed of row.needs) {
      const known = waiting.get(needed);
      if (known) known.push(row);
      else waiting.set(needed, [row]);
    }
  }
  return { waiting, joining };
}
