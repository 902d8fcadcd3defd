/**
 * How a run ended in the end: the record of its last attempt. Reads only.
 */
import type { RunRecord } from "../ports.ts";
import type { RunRecords } from "../records.ts";
import type { RunTable } from "../runs.ts";

/** More attempts than a row can have: records that go round in a circle are none of ours. */
const MOST_ATTEMPTS = 1_000;

/**
 * Follows the attempts of a run; undefined: it has not ended. Where the Job of its next attempt was deleted by somebody,
 * the last one that is known counts. `unreadable`: it has ended, and what is written of it is no record.
 */
export async function lastRecord(
  runName: string,
  { records, runs, signal }: { readonly records: RunRecords; readonly runs: RunTable; readonly signal: AbortSignal },
): Promise<RunRecord | "unreadable" | undefined> {
  let last: RunRecord | undefined;
  let left = MOST_ATTEMPTS;
  for (let name: string | undefined = runName; name !== undefined && left-- > 0; name = last.retried_as) {
    if (runs.get(name)) return undefined;
    const record: RunRecord | "unreadable" | undefined = await records.find(name, signal);
    if (record === "unreadable") return record;
    if (record === undefined) {
      // One that waits for its place has a note instead of a Job, see open_attempts.ts; its note goes when it is there.
      if (last && (await records.hasNote(".open-attempts", name, signal) || runs.get(name))) return undefined;
      break;
    }
    last = record;
  }
  return last;
}
