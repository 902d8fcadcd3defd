/**
 * The last line that a program wrote before it failed, which mostly says why: a field of the record, and the end of its
 * sentence where that does not have it already. Pure.
 */
import type { LogSummary } from "../logs.ts";
import type { ContainerFacts, PodFacts, RunRecord } from "../ports.ts";
import type { RunReason } from "../reasons.ts";
import { safeWords } from "../util/errors.ts";
import { withoutColours } from "../util/text.ts";

/** Characters of a line in a record and in a sentence. */
const MAX_LINE = 200;
/** Reasons that the program's own words explain; where its place was taken away they say nothing. */
const OWN_FAULTS: ReadonlySet<string> = new Set(
  ["ExitCode", "OOMKilled", "DeadlineExceeded"] satisfies RunReason[],
);
// deno-lint-ignore no-control-regex
const CONTROL = /[\u0000-\u001f\u007f-\u009f\u2028\u2029]+/g;

/** Unchanged where the run succeeded, or nothing of its output was seen by this process. */
export function withLastLine(record: RunRecord, pods: readonly PodFacts[], { lastLines }: LogSummary): RunRecord {
  if (record.status === "succeeded") return record;
  const text = withoutColours(lineOf(pods, lastLines) ?? "").replace(CONTROL, " ").trim();
  // It goes to whoever hears of ends: a program may print the link or the token that it was given.
  const line = safeWords(text, MAX_LINE);
  if (line === "") return record;
  const isSaid = !OWN_FAULTS.has(record.reason) || record.message.includes(line);
  const message = isSaid ? record.message : `${record.message}; the last line of its log: ${line}`;
  return { ...record, message, last_line: line };
}

/** Of the container that the row describes; with several pods, of one that has failed. */
function lineOf(pods: readonly PodFacts[], lines: LogSummary["lastLines"]): string | undefined {
  const own = pods.flatMap(({ podName, containers }) =>
    containers.filter(({ kind }) => kind === undefined).map((container) => ({ podName, container }))
  );
  const lineIn = ({ podName, container }: (typeof own)[number]) => lines?.get(`${podName}/${container.name}`);
  const failed = own.filter(({ container }) => hasFailed(container)).map(lineIn);
  // A pod that is gone has no facts any more.
  return [...failed, ...own.map(lineIn), ...lines?.values() ?? []].find((line) => line !== undefined);
}

function hasFailed({ state, exitCode, reason }: ContainerFacts): boolean {
  return state === "terminated" && (exitCode !== 0 || reason === "OOMKilled");
}
