/**
 * Marks of a group's items in the store: `.groups/{group}/{index}.{run}.{succeeded|failed}.json`, one for each run of an
 * item that ended. An item has succeeded when one of its runs has; a later failure takes nothing back.
 */
import type { RunRecords } from "../records.ts";
import { isRunName } from "../run_spec.ts";
import { compact } from "../util/compact.ts";

export type ItemEnd = "succeeded" | "failed";

const FOLDER = ".groups";
/** Of an index in a name, so that names sort as indices do. */
const DIGITS = 5;
const NAME = /^(\d{5})\.([^.]+)\.(succeeded|failed)$/;
/** What is read of a list: an item may have been run again by people many times. */
const MAX_LISTED = 200_000;

/** What the marks say of each item; absent: it has not ended. */
export interface Marks {
  readonly ends: ReadonlyMap<number, ItemEnd>;
  /** Names of the runs that ended so. */
  readonly runs: ReadonlyMap<number, string>;
  /** Who cancelled the group. */
  readonly isCancelled: boolean;
}

/** Says that a run of the item ended so. May be repeated. */
export async function putMark(
  records: RunRecords,
  { group, index, runName, end, ...more }: {
    readonly group: string;
    readonly index: number;
    readonly runName: string;
    readonly end: ItemEnd;
    readonly message: string;
  },
  signal?: AbortSignal,
): Promise<void> {
  const path = `${group}/${String(index).padStart(DIGITS, "0")}.${runName}.${end}`;
  await records.replaceNote(FOLDER, path, more, signal);
}

/** Says that no further items shall begin. */
export async function putCancelled(
  records: RunRecords,
  group: string,
  who: string,
  signal?: AbortSignal,
): Promise<void> {
  await records.putNote(FOLDER, `${group}/cancelled`, { by: who, at: new Date().toISOString() }, signal);
}

/** By one list. `except`: without the marks of that run. What is no mark is passed over. */
export async function listMarks(
  records: RunRecords,
  { group, total }: { readonly group: string; readonly total: number },
  { except, signal }: { except?: string; signal?: AbortSignal } = {},
): Promise<Marks> {
  const ends = new Map<number, ItemEnd>();
  const runs = new Map<number, string>();
  let [isCancelled, listed] = [false, 0];
  for await (const path of records.notes(FOLDER, `${group}/`, compact({ signal }))) {
    if (++listed > MAX_LISTED) break;
    const name = path.slice(group.length + 1);
    if (name === "cancelled") isCancelled = true;
    const [, digits, runName = "", end] = NAME.exec(name) ?? [];
    const index = Number(digits);
    if (!(index < total) || runName === except || !isRunName(runName)) continue;
    if (ends.get(index) === "succeeded") continue;
    ends.set(index, end as ItemEnd);
    runs.set(index, runName);
  }
  return { ends, runs, isCancelled };
}
