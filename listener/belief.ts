/**
 * Whether this service can have told an end that a message announces: of a run or group that is known to live and has not
 * ended it cannot. Asks nobody.
 */
import type { Groups } from "../flows.ts";
import type { RunTable } from "../runs.ts";
import { endOf } from "../topics.ts";

/** `unknown`: it was told before the last restart, or never; the run's record says which. */
export function canHaveEnded(
  topic: string,
  parentRun: string,
  { runs, groups, topicPrefix }: {
    readonly runs: RunTable;
    readonly groups?: Pick<Groups, "get">;
    readonly topicPrefix: string;
  },
): boolean | "unknown" {
  const end = endOf(topicPrefix, topic);
  if (end?.of === "group") {
    const group = groups?.get(parentRun);
    return group === undefined || group.jobName === end.jobName && group.mayBeTold;
  }
  const run = runs.get(parentRun);
  if (run === undefined) return true;
  if (run.job.jobName !== end?.jobName) return false;
  return run.state === "ending" || run.job.end !== undefined || "unknown";
}
