/**
 * The head of a stored log: what a reader must know of the run, in lines that nothing in it can forge. Pure.
 */
import { type LogSummary, summaryLine } from "../logs.ts";
import type { EventFacts, RunRecord } from "../ports.ts";

/** Line breaks of any kind, and what else a terminal would obey. */
// deno-lint-ignore no-control-regex
const CONTROL = /[\u0000-\u001f\u007f-\u009f\u2028\u2029]/g;

/** Ends with an empty line. */
export function headOf(record: RunRecord, log: LogSummary, events: readonly EventFacts[]): string {
  const lines = [
    `run:       ${record.run_name}`,
    `job:       ${record.job_name}`,
    `topic:     ${record.topic}`,
    `parent:    ${record.parent_run ?? "-"}`,
    ...(record.attempt === undefined ? [] : [`attempt:   ${record.attempt} of ${record.first_run ?? record.run_name}`]),
    `image:     ${record.image}`,
    `node:      ${record.node ?? "-"}`,
    `requests:  ${quantities(record.requests)}`,
    `limits:    ${quantities(record.limits)}`,
    `gpus:      ${record.gpu || "-"}`,
    `received:  ${record.received_at}`,
    `started:   ${record.started_at ?? "-"}`,
    `finished:  ${record.finished_at}`,
    `ended:     ${record.status}: ${record.message}`,
    summaryLine(log),
    "events:",
    ...events.map(({ at, type, object, reason, message, count }) =>
      `  ${at.toISOString()} ${type} ${object} ${reason}${count > 1 ? ` (${count} times)` : ""}: ${message}`
    ),
  ];
  return lines.map((line) => line.replace(CONTROL, " ")).join("\n") + "\n\n";
}

function quantities(set: Readonly<Record<string, string>>): string {
  return Object.entries(set).map(([name, quantity]) => `${name} ${quantity}`).join(", ") || "-";
}
