/**
 * All runs that one message has set off, live and ended, as one list in the order of a tree: what a run started stands
 * below it, its further attempts and reruns beside it, the items of a group below their group. Pure; reads nothing.
 */
import type { EndedRun } from "../history.ts";
import type { RunView } from "../ports.ts";
import { compact } from "../util/compact.ts";
import type { RunState } from "./pages/parts.tsx";

/** A run, live or ended, as lists of a message show it; names as records have them. */
export interface FamilyRun {
  readonly run_name: string;
  readonly job_name: string;
  readonly state: RunState;
  /** Why it ended so, or why it waits; "" where there is nothing to say. */
  readonly message: string;
  readonly reason?: string;
  readonly parent_run: string | null;
  readonly group?: string;
  readonly index?: number;
  readonly attempt?: number;
  readonly retried_as?: string;
  readonly rerun_of?: string;
  readonly requested_by?: string;
  readonly received_at: string;
  readonly started_at: string | null;
  /** Absent while it lives. */
  readonly finished_at?: string;
}

/** A line of the tree: a run, or a group whose items follow. */
export type FamilyLine = FamilyRunLine | FamilyGroupLine;

export interface FamilyRunLine {
  readonly run: FamilyRun;
  /** Levels below what began with the message. */
  readonly depth: number;
  /** RFC 3339: since when it waited; of a further attempt, since the one before it had ended. */
  readonly queued_at: string;
}

export interface FamilyGroupLine {
  readonly group: string;
  readonly depth: number;
  readonly items: readonly FamilyRun[];
}

/** Of both; a run that is told twice, for it just ends, is there once. */
export function familyOf(live: readonly RunView[], ended: readonly EndedRun[]): FamilyRun[] {
  const byName = new Map(ended.map((record) => [record.run_name, ofRecord(record)]));
  for (const run of live) if (!byName.has(run.runName)) byName.set(run.runName, ofLive(run));
  return [...byName.values()];
}

function ofRecord(record: EndedRun): FamilyRun {
  const { run_name, job_name, status, message, reason, parent_run, received_at, started_at, finished_at } = record;
  const { group, index, attempt, retried_as, rerun_of, requested_by } = record;
  return {
    ...{ run_name, job_name, state: status, message, reason, parent_run, received_at, started_at, finished_at },
    ...compact({ group, index, attempt, retried_as, rerun_of, requested_by }),
  };
}

/** A live run as its family has it. */
function ofLive(run: RunView): FamilyRun {
  return {
    run_name: run.runName,
    job_name: run.jobName,
    state: run.state,
    message: run.detail,
    parent_run: run.parentRun ?? null,
    received_at: run.receivedAt.toISOString(),
    started_at: run.startedAt?.toISOString() ?? null,
    ...compact({
      group: run.group,
      index: run.index,
      attempt: run.attempt,
      rerun_of: run.rerunOf,
      requested_by: run.requestedBy,
    }),
  };
}

/** The lines in the order of a tree. Runs whose parent is not among them begin one of their own. */
export function familyLines(runs: readonly FamilyRun[]): FamilyLine[] {
  const tree = new Tree(runs);
  return tree.lines();
}

/** Runs above the one of that name, the nearest first; as far as they are known. A group counts by its name. */
export function ancestorsOf(runs: readonly FamilyRun[], runName: string): string[] {
  const byName = new Map(runs.map((run) => [run.run_name, run]));
  const groups = groupsOf(runs);
  const found: string[] = [];
  const parentOf = (name: string) => (byName.get(name) ?? groups.get(name)?.[0])?.parent_run ?? undefined;
  for (let name = parentOf(runName); name !== undefined && !found.includes(name); name = parentOf(name)) {
    found.push(name);
  }
  return found;
}

/** Runs below the one of that name, over all levels, nearest first. */
export function descendantsOf(runs: readonly FamilyRun[], runName: string): FamilyRun[] {
  const byParent = Map.groupBy(runs, ({ parent_run }) => parent_run);
  const found = new Map<string, FamilyRun>();
  const names = [runName];
  for (const name of names) {
    for (const run of byParent.get(name) ?? []) {
      if (found.has(run.run_name) || run.run_name === runName) continue;
      found.set(run.run_name, run);
      names.push(run.run_name);
      // What a group starts names the group as its parent.
      if (run.group !== undefined && !names.includes(run.group)) names.push(run.group);
    }
  }
  return [...found.values()];
}

function groupsOf(runs: readonly FamilyRun[]): ReadonlyMap<string, FamilyRun[]> {
  return Map.groupBy(runs.filter(({ group }) => group !== undefined), ({ group }) => group!);
}

class Tree {
  readonly #byName: ReadonlyMap<string, FamilyRun>;
  readonly #groups: ReadonlyMap<string, FamilyRun[]>;
  readonly #children: ReadonlyMap<string | null, FamilyRun[]>;
  /** By name, the attempt or the run that it repeats. */
  readonly #before = new Map<string, string>();
  readonly #after = new Map<string, FamilyRun[]>();
  readonly #done = new Set<string>();
  readonly #lines: FamilyLine[] = [];

  constructor(runs: readonly FamilyRun[]) {
    const sorted = runs.toSorted((a, b) => beganAt(a) < beganAt(b) ? -1 : beganAt(a) > beganAt(b) ? 1 : 0);
    this.#byName = new Map(sorted.map((run) => [run.run_name, run]));
    this.#groups = groupsOf(sorted);
    this.#children = Map.groupBy(sorted, ({ parent_run }) => parent_run);
    for (const { run_name, retried_as } of sorted) {
      if (retried_as !== undefined && this.#byName.has(retried_as)) this.#before.set(retried_as, run_name);
    }
    for (const run of sorted) {
      const before = this.#before.get(run.run_name) ?? run.rerun_of;
      if (before === undefined || !this.#byName.has(before)) continue;
      this.#after.set(before, [...this.#after.get(before) ?? [], run]);
    }
  }

  lines(): FamilyLine[] {
    const all = [...this.#byName.values()];
    const isTop = ({ parent_run, run_name, rerun_of }: FamilyRun) =>
      (parent_run === null || !this.#byName.has(parent_run) && !this.#groups.has(parent_run)) &&
      !this.#before.has(run_name) && !(rerun_of !== undefined && this.#byName.has(rerun_of));
    for (const run of all.filter(isTop)) this.#add(run, 0);
    // Of names that lead in a circle.
    for (const run of all) this.#add(run, 0);
    return this.#lines;
  }

  #add(run: FamilyRun, depth: number): void {
    if (this.#done.has(run.run_name)) return;
    const { group } = run;
    if (group !== undefined && !this.#done.has(group)) {
      this.#done.add(group);
      const items = this.#groups.get(group)!;
      this.#lines.push({ group, depth, items });
      for (const item of items.toSorted((a, b) => (a.index ?? 0) - (b.index ?? 0))) this.#addRun(item, depth + 1);
      this.#addChildren(group, depth + 1);
    } else this.#addRun(run, depth);
  }

  #addRun(run: FamilyRun, depth: number): void {
    if (this.#done.has(run.run_name)) return;
    this.#done.add(run.run_name);
    const before = this.#byName.get(this.#before.get(run.run_name) ?? "");
    const queued_at = before?.finished_at ?? run.received_at;
    this.#lines.push({ run, depth, queued_at });
    const after = this.#after.get(run.run_name) ?? [];
    this.#addChildren(run.run_name, depth + 1, after);
    for (const next of after) this.#addRun(next, depth);
  }

  #addChildren(name: string, depth: number, but: readonly FamilyRun[] = []): void {
    for (const child of this.#children.get(name) ?? []) if (!but.includes(child)) this.#add(child, depth);
  }
}

function beganAt({ started_at, received_at }: FamilyRun): string {
  return started_at ?? received_at;
}

/** Items of a group that are lines of their own; of larger ones only those that somebody looks for. */
const MAX_ITEMS = 12;

/**
 * At most so many of the lines, in their order: first the run itself with what is above and below it, what lives and what
 * has failed, then what comes first. Items of a large group stand in its line.
 */
export function pickLines(
  lines: readonly FamilyLine[],
  { most, own }: { readonly most: number; readonly own?: string },
): { readonly lines: FamilyLine[]; readonly left: number } {
  const runs = lines.flatMap((line) => "run" in line ? [line.run] : []);
  const near = new Set<string>();
  if (own !== undefined) {
    near.add(own);
    for (const name of ancestorsOf(runs, own)) near.add(name);
    for (const { run_name } of descendantsOf(runs, own)) near.add(run_name);
  }
  const large = new Set(lines.flatMap((line) => "group" in line && line.items.length > MAX_ITEMS ? [line.group] : []));
  const rankOf = (line: FamilyLine): number => {
    if ("group" in line) return 1;
    const { run_name, state, group } = line.run;
    if (run_name === own) return 0;
    if (near.has(run_name)) return group !== undefined && large.has(group) ? 4 : 1;
    if (group !== undefined && large.has(group)) return state === "failed" ? 4 : 9;
    return state === "failed" || state === "running" || state === "ending" ? 2 : 3;
  };
  const ranked = [...lines.entries()].map(([at, line]) => ({ at, rank: rankOf(line) }))
    .filter(({ rank }) => rank < 9)
    .sort((a, b) => a.rank - b.rank || a.at - b.at).slice(0, most)
    .sort((a, b) => a.at - b.at);
  const kept = ranked.map(({ at }) => lines[at]!);
  const inGroups = lines.filter((line) => "run" in line && line.run.group !== undefined && large.has(line.run.group));
  const keptRuns = kept.filter((line) => "run" in line).length;
  const standing = new Set(kept.flatMap((line) => "group" in line ? [line.group] : []));
  // Those are counted in their group's line.
  const counted =
    inGroups.filter((line) => "run" in line && standing.has(line.run.group!) && !kept.includes(line)).length;
  return { lines: kept, left: runs.length - keptRuns - counted };
}
