/**
 * Rows by their names. Pure; looks through the rows of a table once.
 */
import type { Row } from "../ports.ts";

const indexes = new WeakMap<readonly Row[], ReadonlyMap<string, Row>>();

/** undefined: there is none. */
export function rowNamed(rows: readonly Row[] | undefined, jobName: string): Row | undefined {
  if (rows === undefined) return undefined;
  let index = indexes.get(rows);
  if (!index) indexes.set(rows, index = new Map(rows.map((row) => [row.jobName, row])));
  return index.get(jobName);
}
