/**
 * Which rows with `needs` the rows that a message starts can lead to: what would have to succeed. Pure.
 */
import type { Row } from "../ports.ts";
import { completeTopic, groupCompleteTopic, isUnderPrefix } from "../topics.ts";
import type { Table } from "./table.ts";

/** A row that needs some of what a message starts. */
export interface JoinAfter {
  readonly row: Row;
  /** Needed rows that this message does not start, whatever succeeds; empty: it can run. */
  readonly missing: readonly string[];
}

/** Rows that are followed, and found, at most. */
const MOST_ROWS = 1_000;

/** All that success leads to, conditions aside; in the order of the table. */
export function joinsAfter({ topicPrefix, rows, index }: Table, started: readonly Row[]): JoinAfter[] {
  const joining = rows.filter(({ needs, enabled }) => needs !== undefined && enabled !== "no");
  if (joining.length === 0) return [];
  const reached = new Set<Row>();
  const names = new Set<string>();
  const left = [...started];
  for (let row = left.pop(); row && reached.size < MOST_ROWS; row = left.pop()) {
    if (reached.has(row)) continue;
    reached.add(row);
    names.add(row.jobName);
    const ends = [completeTopic(topicPrefix, row.jobName), groupCompleteTopic(topicPrefix, row.jobName)];
    left.push(
      ...ends.flatMap((topic) => index.match(topic)).filter(({ mqttTopic }) => isUnderPrefix(topicPrefix, mqttTopic)),
    );
    left.push(
      ...joining.filter(({ needs }) => needs!.includes(row.jobName) && needs!.every((name) => names.has(name))),
    );
  }
  return joining.filter(({ needs }) => needs!.some((name) => names.has(name)))
    .map((row) => ({ row, missing: row.needs!.filter((name) => !names.has(name)) }));
}
