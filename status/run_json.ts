/**
 * Live runs and open groups as pages give them to programs, by the names that records have. Pure.
 */
import type { RunView } from "../ports.ts";
import { compact } from "../util/compact.ts";
import type { LiveLine } from "./live_lines.ts";

/** Dates become RFC 3339 as JSON. */
export function liveRunData(run: RunView) {
  return {
    run_name: run.runName,
    job_name: run.jobName,
    state: run.state,
    detail: run.detail,
    topic: run.topic,
    received_at: run.receivedAt,
    started_at: run.startedAt ?? null,
    nodes: run.nodes,
    image: run.image,
    gpu: run.gpu,
    requests: run.requests,
    limits: run.limits,
    parent_run: run.parentRun ?? null,
    root: run.root,
    ...compact({
      attempt: run.attempt,
      group: run.group,
      index: run.index,
      rerun_of: run.rerunOf,
      requested_by: run.requestedBy,
    }),
  };
}

/** A run, or a group that stands for its items. */
export function liveLineData(line: LiveLine) {
  if ("run" in line) return liveRunData(line.run);
  const { group, jobName: job_name, topic, receivedAt: received_at, states } = line.group;
  return { group, job_name, topic, received_at, states };
}
