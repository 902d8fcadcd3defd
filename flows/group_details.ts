/**
 * A group with its items as people see it, be it open or not: from its manifest, its marks and the live runs. Reads only.
 */
import type { RunRecords } from "../records.ts";
import type { RunTable } from "../runs.ts";
import type { GroupStore } from "./group_store.ts";
import { listMarks } from "./marks.ts";
import type { GroupView, ItemState } from "./open_group.ts";

export interface GroupDetails extends Omit<GroupView, "items"> {
  readonly isOpen: boolean;
  readonly items: readonly ItemDetails[];
}

export interface ItemDetails {
  readonly state: ItemState;
  /** As JSON. */
  readonly item: string;
  /** Its run that lives, or that its state is of; absent: it has none. */
  readonly runName?: string;
}

/** undefined: there is no such group. */
export async function groupDetails(
  group: string,
  { store, records, runs, signal }: {
    readonly store: GroupStore;
    readonly records: RunRecords;
    readonly runs: RunTable;
    readonly signal: AbortSignal;
  },
): Promise<GroupDetails | undefined> {
  const manifest = await store.read(group);
  if (!manifest) return undefined;
  const [marks, isOpen] = await Promise.all([listMarks(records, manifest, { signal }), store.isOpen(group)]);
  const live = new Map<number | undefined, string>();
  for (const { job } of runs.ofGroup(group)) live.set(job.index, job.runName);
  const { row: _row, payload: _payload, isStored: _isStored, items, ...head } = manifest;
  return {
    ...head,
    isOpen,
    isCancelled: marks.isCancelled,
    items: items.map((item, index) => {
      const runName = live.get(index) ?? marks.runs.get(index);
      const state = marks.ends.get(index) ?? (runName === undefined ? "waiting" : "begun");
      return { state, item, ...(runName === undefined ? {} : { runName }) };
    }),
  };
}
