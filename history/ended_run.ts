/**
 * What lists show of a record: its payload, Job and the rest are left to be collected. Pure.
 */
import type { EndedRun } from "../history.ts";
import type { RunRecord } from "../ports.ts";
import { lineageOfRecord } from "../run_spec.ts";
import { compact } from "../util/compact.ts";
import { cut } from "../util/text.ts";

/** Characters of a name or sentence that are kept: whoever may write to the store decides their length. */
const MAX_TEXT = 500;
/** Resources of which requests and limits are kept. */
const KEPT_RESOURCES = ["cpu", "memory", "ephemeral-storage"];

/** Of a record from the store too: whoever may write there could have made it large. */
export function endedRun(record: RunRecord): EndedRun {
  const kept: EndedRun = {
    run_name: short(record.run_name),
    job_name: short(record.job_name),
    status: record.status,
    reason: short(record.reason),
    message: short(record.message),
    exit_code: record.exit_code,
    topic: short(record.topic),
    node: orNull(record.node),
    parent_run: orNull(record.parent_run),
    received_at: short(record.received_at),
    started_at: orNull(record.started_at),
    finished_at: short(record.finished_at),
    root: lineageOfRecord(record).root,
    requests: quantities(record.requests),
    limits: quantities(record.limits),
    ...compact({
      attempt: record.attempt,
      retried_as: record.retried_as && short(record.retried_as),
      rerun_of: record.rerun_of && short(record.rerun_of),
      batch: record.batch && short(record.batch),
      requested_by: record.requested_by && short(record.requested_by),
      group: record.group && short(record.group),
      index: record.index,
      owner: record.owner && short(record.owner),
      gpu: record.gpu,
      peak_memory: record.peak_memory,
      peak_cpu: record.peak_cpu,
    }),
  };
  // A piece of a string keeps the whole of it in memory.
  return JSON.parse(JSON.stringify(kept));
}

function short(text: string): string {
  return cut(text, MAX_TEXT);
}

function orNull(text: string | null): string | null {
  return text === null ? null : short(text);
}

function quantities(all: Readonly<Record<string, string>>): Record<string, string> {
  return Object.fromEntries(
    KEPT_RESOURCES.flatMap((name) => all[name] === undefined ? [] : [[name, short(all[name])]]),
  );
}
