/**
 * What the columns of limits and outputs must be together, in a row and between rows. Pure.
 */
import type { Row } from "../ports.ts";
import { cut, type Problem } from "./problem.ts";

interface Finding {
  readonly severity: Problem["severity"];
  readonly column: string;
  readonly value: string;
  readonly message: string;
}

/** What is wrong within one row. */
export function limitFindings(row: Row): Finding[] {
  const { maxRuns, whenBusy, concurrencyGroup, maxWaiting, queue, enabled, forEach, skipExisting, output } = row;
  const findings: Finding[] = [];
  const refuse = (column: string, value: string, message: string) =>
    findings.push({ severity: "error", column, value, message });
  if (queue !== undefined && maxRuns !== undefined) {
    refuse("max_runs", String(maxRuns), `the queue "${queue}" holds its runs back already; empty one of the two cells`);
  }
  if (queue !== undefined && enabled === "paused") {
    refuse(
      "enabled",
      enabled,
      `the queue "${queue}" would let its runs go on; empty the cell queue, or stop the queue`,
    );
  }
  if (whenBusy !== undefined && maxRuns === undefined) {
    refuse("when_busy", whenBusy, "no run of the row is ever in the way of another one; fill max_runs");
  }
  if (concurrencyGroup !== undefined && maxRuns === undefined) {
    refuse("concurrency_group", "", "the row has no limit that it could share; fill max_runs");
  }
  if (forEach !== undefined && whenBusy !== undefined && whenBusy !== "wait") {
    refuse("when_busy", whenBusy, "the items of for_each would be in each other's way; write wait, or empty the cell");
  }
  if (skipExisting && output === undefined) {
    refuse("skip_existing", "yes", "the row does not say where its result will be; fill output");
  }
  if (maxWaiting !== undefined && maxRuns === undefined && enabled !== "paused") {
    const message = "no run of the row ever waits; fill max_runs, or empty the cell";
    findings.push({ severity: "warning", column: "max_waiting", value: String(maxWaiting), message });
  }
  const own = concurrencyGroup?.find((piece) => typeof piece !== "string" && OWN.has(piece.root));
  if (typeof own === "object") {
    const message = "each run would be alone in its group, so max_runs limits nothing; name what runs have in common";
    findings.push({ severity: "warning", column: "concurrency_group", value: own.source, message });
  }
  return findings;
}

/** Placeholders whose value no other run has. */
const OWN: ReadonlySet<string> = new Set(["run_name"]);

/** Rows of one group that say different things of it. A group whose name depends on the message is not known here. */
export function groupFindings(rows: readonly Row[]): Problem[] {
  const first = new Map<string, Row>();
  const problems: Problem[] = [];
  for (const row of rows) {
    if (row.maxRuns === undefined) continue;
    const group = groupOf(row);
    if (group === undefined) continue;
    const other = first.get(group);
    if (!other) {
      first.set(group, row);
      continue;
    }
    const { line, jobName } = row;
    const where = `the row "${cut(other.jobName)}" (line ${other.line}) of the same group "${cut(group)}"`;
    if (row.maxRuns !== other.maxRuns) {
      const message = `${where} has ${other.maxRuns}; each run waits for its own row's limit: write the same in both`;
      problems.push({ severity: "warning", line, column: "max_runs", value: String(row.maxRuns), jobName, message });
    }
    const [mode, others] = [row.whenBusy ?? "wait", other.whenBusy ?? "wait"];
    if (mode !== others) {
      const message = `${where} has ${others}; the newest run that waits decides for all: write the same in both`;
      problems.push({ severity: "warning", line, column: "when_busy", value: mode, jobName, message });
    }
  }
  return problems;
}

/** Where that is the same for all its runs. */
function groupOf({ jobName, concurrencyGroup }: Row): string | undefined {
  if (concurrencyGroup === undefined) return jobName;
  const [text, ...more] = concurrencyGroup;
  return typeof text === "string" && more.length === 0 ? text.trim() : undefined;
}
