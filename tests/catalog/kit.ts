/** What the tests of the table share: reading a text, a table of one row, problems as sentences. */
import { describeProblem, parseTable, type Table } from "../../catalog.ts";

export const PREFIX = "services/mqtt_job_listener";
export const OPTIONS = { topicPrefix: PREFIX };
export const read = (text: string | Uint8Array) => parseTable(text, OPTIONS);
/** Its UTF-8. */
export const bytes = (text: string) => new TextEncoder().encode(text);

/** A table of one row that has these cells besides the required ones. */
export function rowWith(cells: Record<string, string>): Table {
  const row: Record<string, string> = { job_name: "a", mqtt_topic: "x/y", image: "busybox", ...cells };
  const quote = (cell: string) => `"${cell.replaceAll('"', '""')}"`;
  return read(`${Object.keys(row).join(",")}\n${Object.values(row).map(quote).join(",")}\n`);
}

export const messages = (table: Table) => table.problems.map(describeProblem);

/** A command as one line that `parseCommand` reads back to the same words. */
export function quoteCommand(words: readonly string[]): string {
  return words.map((word) => /^[\w@%+=:,./-]+$/.test(word) ? word : `'${word.replaceAll("'", `'\\''`)}'`).join(" ");
}

/** Cells without which a column means nothing. */
export const BESIDE: Readonly<Record<string, Readonly<Record<string, string>>>> = {
  resources: { memory_request: "1Gi" },
  skip_existing: { output: "s3://lab/results/{payload.uuid}.zip" },
  concurrency_group: { max_runs: "2" },
  when_busy: { max_runs: "2" },
  max_waiting: { max_runs: "2" },
};
