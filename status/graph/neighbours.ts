/**
 * A part of the table around some of its rows: those that lead to them and those that they lead to, by ends of jobs and by
 * `needs`. Pure; in steps, for a table may have 200,000 rows.
 */
import type { BadRow } from "../../catalog/chains.ts";
import { rowNamed, rowsFor, scheduleText, type Table } from "../../catalog.ts";
import { rowsThatNeed } from "../../flows/needs.ts";
import type { Row } from "../../ports.ts";
import { endName, endTopics, isUnderPrefix, matches } from "../../topics.ts";

/** Rows of the table, bad ones apart. */
export interface TablePart {
  readonly rows: readonly Row[];
  readonly badRows: readonly BadRow[];
  /** Rows that fit and have no place. */
  readonly omitted: number;
}

/** Rows between two looks at the clock. */
const STEP = 1_000;
/** Rows that wait for the ends of several jobs by a wildcard: each takes a look at all rows. */
const MAX_WILD = 10;

/** The rows whose names, topics, needs or schedules hold that text, whatever its case, and their neighbours; at most so many. */
export function* partThatHolds(table: Table, text: string, most: number): Generator<void, TablePart> {
  const wanted = text.toLowerCase();
  const holds = (words: string) => words.toLowerCase().includes(wanted);
  const isMeant = (row: Row) =>
    holds(row.jobName) || holds(row.mqttTopic) || row.needs?.some(holds) ||
    (row.schedule !== undefined && holds(`${scheduleText(row)} ${row.timeZone ?? "UTC"}`));
  const found: Row[] = [];
  for (const [at, row] of table.rows.entries()) {
    if (isMeant(row)) found.push(row);
    if (at % STEP === STEP - 1) yield;
  }
  const badRows = table.badRows.filter(({ jobName, mqttTopic }) => holds(jobName) || holds(mqttTopic));
  const rows = yield* withNeighbours(table, found.slice(0, most), { up: true, most });
  return {
    rows,
    badRows: badRows.slice(0, most),
    omitted: found.length - Math.min(found.length, most) + badRows.length - Math.min(badRows.length, most),
  };
}

/** Those rows with what they lead to and, where `up`, with what leads to them; in the order of the table. */
export function* withNeighbours(
  table: Table,
  seeds: readonly Row[],
  { up, most }: { readonly up: boolean; readonly most: number },
): Generator<void, Row[]> {
  const found = new Set(seeds);
  const walk = function* (next: (row: Row) => Iterable<Row>) {
    const left = [...seeds];
    for (let row = left.pop(); row && found.size < most; row = left.pop()) {
      for (const other of next(row)) {
        if (found.has(other) || found.size >= most) continue;
        found.add(other);
        left.push(other);
      }
      yield;
    }
  };
  yield* walk((row) => rowsAfter(table, row));
  let wild = 0;
  if (up) yield* walk((row) => rowsBefore(table, row, () => ++wild <= MAX_WILD));
  return [...found].sort((a, b) => a.line - b.line);
}

/** Rows that the row's ends start, and those that need it. */
export function rowsAfter(table: Table, row: Row): Row[] {
  const ends = endTopics(table.topicPrefix, row.jobName, { hasGroups: row.forEach !== undefined });
  return [...new Set([...ends.flatMap((topic) => rowsFor(table, topic)), ...rowsThatNeed(table.rows, row.jobName)])];
}

/** Rows that the row needs, and those whose ends start it. `mayLook`: at all rows, for a wildcard. */
export function rowsBefore(table: Table, { mqttTopic, needs = [] }: Row, mayLook = () => true): Row[] {
  const { rows, topicPrefix } = table;
  const found = needs.flatMap((name) => rowNamed(rows, name) ?? []);
  if (mqttTopic === "" || !isUnderPrefix(topicPrefix, mqttTopic)) return found;
  if (!/[+#]/.test(mqttTopic)) {
    const before = rowNamed(rows, endName(topicPrefix, mqttTopic) ?? "");
    return before ? [...new Set([...found, before])] : found;
  }
  if (!mayLook()) return found;
  const before = rows.filter(({ jobName, forEach }) =>
    endTopics(topicPrefix, jobName, { hasGroups: forEach !== undefined }).some((topic) => matches(mqttTopic, topic))
  );
  return [...new Set([...found, ...before])];
}
