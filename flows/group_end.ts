/**
 * How a group ended, in its marks' words and in those of its message. Pure.
 */
import type { GroupEndPayload } from "../payloads.ts";
import { compact } from "../util/compact.ts";
import type { GroupHead } from "./manifest.ts";
import type { Marks } from "./marks.ts";

/** How a group ended. */
export interface GroupEnd {
  readonly group: string;
  readonly jobName: string;
  readonly root: string;
  readonly rootRun: string;
  readonly parentRun?: string;
  readonly chainDepth: number;
  readonly total: number;
  readonly succeeded: number;
  readonly failed: number;
  /** Payload that began the chain, where it is text and small. */
  readonly input?: string;
  /** See `Lineage`. */
  readonly traceparent?: string;
  readonly tracestate?: string;
}

/** What has been told once; a group may end as failed, and succeed by reruns. */
export function toldKey({ group, failed }: GroupEnd): string {
  return failed === 0 ? group : `${group} failed`;
}

/** What its marks make of it. */
export function endOf(head: GroupHead, { ends }: Marks): GroupEnd {
  const { group, jobName, root, rootRun, parentRun, chainDepth, total, input, traceparent, tracestate } = head;
  const succeeded = [...ends.values()].filter((end) => end === "succeeded").length;
  return {
    group,
    jobName,
    root,
    rootRun,
    chainDepth,
    total,
    succeeded,
    failed: total - succeeded,
    ...compact({ parentRun, input, traceparent, tracestate }),
  };
}

/** What `group_complete/…` or `group_failed/…` says. */
export function endPayload({ failed, succeeded, total }: GroupEnd, head: GroupHead): GroupEndPayload {
  return {
    status: failed === 0 ? "succeeded" : "failed",
    job_name: head.jobName,
    group: head.group,
    root: head.root,
    root_run: head.rootRun,
    parent_run: head.parentRun ?? null,
    chain_depth: head.chainDepth,
    total,
    succeeded,
    failed,
    message: total === 0
      ? "It had no items"
      : failed === 0
      ? `All ${total} items have succeeded`
      : `${failed} of ${total} items have not succeeded`,
    topic: head.topic,
    ...compact({ input: head.input, traceparent: head.traceparent }),
    started_at: head.receivedAt.toISOString(),
    finished_at: new Date().toISOString(),
  };
}
