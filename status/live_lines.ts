/**
 * Live runs as lists show them: a line each, and one for each group of items that has not ended. Pure.
 */
import type { ItemState } from "../flows.ts";
import type { RunView } from "../ports.ts";
import type { ShownState } from "./pages/group.tsx";
import type { StatusView } from "./view.ts";

/** A group that has not ended, as one line. */
export interface GroupLine {
  readonly group: string;
  readonly jobName: string;
  readonly topic: string;
  readonly receivedAt: Date;
  readonly states: readonly ShownState[];
}

export type LiveLine = { readonly run: RunView } | { readonly group: GroupLine };

/** Groups stand for their items. */
export function liveLines(view: StatusView, runs: readonly RunView[]): LiveLine[] {
  const open = view.openGroups?.() ?? [];
  const items = liveItems(open.length === 0 ? [] : runs);
  const drawn = new Set(open.map(({ group }) => group));
  return [
    ...open.map(({ group, jobName, topic, receivedAt, items: states }) => ({
      group: { group, jobName, topic, receivedAt, states: statesOf(states, items.get(group)) },
    })),
    ...runs.filter(({ group }) => group === undefined || !drawn.has(group)).map((run) => ({ run })),
  ];
}

/** How items stand. One that has a run which is not known here has just begun, or is just ending. */
export function statesOf(
  states: readonly ItemState[],
  live: ReadonlyMap<number | undefined, RunView> | undefined,
): ShownState[] {
  return states.map((state, index) => state === "begun" ? live?.get(index)?.state ?? "pending" : state);
}

/** The row of the run or group. */
export function lineJob(line: LiveLine): string {
  return ("group" in line ? line.group : line.run).jobName;
}

/** The order in which their messages came, the last one first. */
export function newestFirst(a: LiveLine, b: LiveLine): number {
  const at = (line: LiveLine) => ("group" in line ? line.group : line.run).receivedAt.getTime();
  return at(b) - at(a);
}

/** Live runs of one row. */
export interface LiveCount {
  readonly running: number;
  readonly waiting: number;
}

/** By rows, those that have live runs; what ends counts as running. */
export function liveCounts(runs: readonly RunView[]): ReadonlyMap<string, LiveCount> {
  const counts = new Map<string, { running: number; waiting: number }>();
  for (const { jobName, state } of runs) {
    let count = counts.get(jobName);
    if (!count) counts.set(jobName, count = { running: 0, waiting: 0 });
    count[state === "pending" ? "waiting" : "running"]++;
  }
  return counts;
}

/** How long it has been running, in ms; 0 for what has not begun. */
export function liveTookMs(line: LiveLine, now = Date.now()): number {
  return "run" in line && line.run.startedAt ? Math.max(0, now - line.run.startedAt.getTime()) : 0;
}

/** Live runs of items, by group and index. */
function liveItems(runs: readonly RunView[]): ReadonlyMap<string, ReadonlyMap<number, RunView>> {
  const found = new Map<string, Map<number, RunView>>();
  for (const run of runs) {
    if (run.group === undefined || run.index === undefined) continue;
    const items = found.get(run.group);
    if (items) items.set(run.index, run);
    else found.set(run.group, new Map([[run.index, run]]));
  }
  return found;
}
