/**
 * Where a run stands among all that its message has set off: its fields, picked out of what holds more, and the keys by
 * which what belongs together is named. Pure.
 */
import type { Lineage, Row, RunRecord } from "../ports.ts";
import { compact } from "../util/compact.ts";
import { shortHash } from "./hash.ts";
import { traceContextOf } from "./trace_context.ts";

/** The root that these parts identify; the same parts have the same. */
export function rootFrom(parts: readonly string[]): string {
  return shortHash(["root", ...parts]);
}

/** Of a run of a version that knew no roots: all of its chain have the first run in common. */
export function rootOfRun(rootRun: string): string {
  return rootFrom(["run", rootRun]);
}

/** Whether `rootFrom` can have made it: a root from outside becomes a label and a part of keys. */
export function isRoot(text: string): boolean {
  return /^[a-z2-7]{12}$/.test(text);
}

/** The lineage alone. */
export function lineageOf(lineage: Lineage): Lineage {
  const { root, rootRun, parentRun, chainDepth, attempt, rung, firstRun, group, index, item, rerunOf, batch } = lineage;
  const { requestedBy, traceparent, tracestate } = lineage;
  return {
    root,
    rootRun,
    chainDepth,
    ...compact({ parentRun, attempt, rung, firstRun, group, index, item, rerunOf, batch }),
    ...compact({ requestedBy, traceparent, tracestate }),
  };
}

/** As a record has it. */
export function recordedLineage(lineage: Lineage): Pick<
  RunRecord,
  | "parent_run"
  | "root_run"
  | "chain_depth"
  | "root"
  | "attempt"
  | "rung"
  | "first_run"
  | "group"
  | "index"
  | "item"
  | "rerun_of"
  | "batch"
  | "requested_by"
  | "traceparent"
  | "tracestate"
> {
  const { root, rootRun, parentRun, chainDepth, attempt, rung, firstRun, group, index, item, rerunOf, batch } = lineage;
  const { traceparent, tracestate } = lineage;
  return {
    parent_run: parentRun ?? null,
    root_run: rootRun,
    chain_depth: chainDepth,
    root,
    ...compact({ attempt, rung, first_run: firstRun, group, index, item, rerun_of: rerunOf, batch }),
    ...compact({ requested_by: lineage.requestedBy, traceparent, tracestate }),
  };
}

/** Of a record; one of a former version, or with a root that is none, has a root made of its first run. */
export function lineageOfRecord(record: RunRecord): Lineage {
  const { root_run: rootRun, parent_run: parentRun, chain_depth: chainDepth } = record;
  const { attempt, rung, first_run: firstRun, group, index, item, rerun_of: rerunOf, batch } = record;
  return {
    root: record.root !== undefined && isRoot(record.root) ? record.root : rootOfRun(rootRun),
    rootRun,
    chainDepth,
    ...compact({ parentRun: parentRun ?? undefined, attempt, rung, firstRun, group, index, item, rerunOf, batch }),
    ...compact({ requestedBy: record.requested_by }),
    ...traceContextOf(record),
  };
}

/** Of the run that a person has run again: it stands where that one stood, and begins with its first attempt. */
export function lineageOfRerun(
  { root, rootRun, parentRun, chainDepth, group, index, item, traceparent, tracestate }: Lineage,
  runName: string,
): Lineage {
  const more = compact({ parentRun, group, index, item, traceparent, tracestate });
  return { root, rootRun, chainDepth, ...more, rerunOf: runName };
}

/** Whether runs of the row may be tried again, so that their Jobs must keep what the next attempt is made of. */
export function isRetried({ retries = 0, memoryLimits = [] }: Pick<Row, "retries" | "memoryLimits">): boolean {
  return retries > 0 || memoryLimits.length > 1;
}

/**
 * Keys for runNameFor: the same cause has the same name, so that "has this happened already" is answered by the cluster
 * and by the records. No message can bring one of these, see listener/origin.ts.
 */
export const keyOfCause = {
  attempt: (firstRun: string, attempt: number) => `attempt\0${firstRun}\0${attempt}`,
  item: (group: string, index: number) => `item\0${group}\0${index}`,
  join: (root: string) => `join\0${root}`,
  due: (due: Date) => `due\0${due.toISOString()}`,
  /** A request's own key. */
  asked: (key: string) => `asked\0${key}`,
  batch: (batch: string, entry: string) => `batch\0${batch}\0${entry}`,
} as const;
