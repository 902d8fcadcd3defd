/**
 * Reads a run's facts and says how it stands: pending, running or ended, and why, in words for people.
 * Pure. The Job's conditions decide first, then the pods' container states; the log is never consulted. Why a run has
 * failed is said in outcome/failure.ts, why it waits in outcome/waiting.ts.
 */
import { explainFailure } from "./outcome/failure.ts";
import { cancellation, ended, type Facts, type GracePeriods, type Trouble, type Verdict } from "./outcome/verdict.ts";
import { preparation, whyItGoesOn, whyItWaits, whyNoPod, whySuspended } from "./outcome/waiting.ts";
import type { PodFacts } from "./ports.ts";
import { compact } from "./util/compact.ts";

export { explainFailure } from "./outcome/failure.ts";
export { cancellation, givingWayTo, type GracePeriods, type Trouble, type Verdict } from "./outcome/verdict.ts";
export { outOfMemoryWords } from "./outcome/memory.ts";
export { resultOf, type RunResult } from "./outcome/result.ts";
export { withFailingSince } from "./outcome/waiting.ts";

/**
 * How the run stands at `now`. `noPodReason`: what the cluster's events say of a Job that has no pod; `trouble`: what
 * they say of a pod that is not prepared.
 */
export function judge(
  job: Facts,
  pods: readonly PodFacts[],
  { gracePeriods, now, noPodReason, trouble }: {
    gracePeriods: GracePeriods;
    now: Date;
    noPodReason?: string | undefined;
    trouble?: Trouble | undefined;
  },
): Verdict {
  if (job.end?.type === "Complete") return ended("succeeded", "Completed", "Ended without error");
  if (job.cancelledBy !== undefined) return judgeCancelled(job, job.cancelledBy, pods);
  if (job.end?.type === "Failed") return { kind: "ended", outcome: explainFailure(job, pods) };
  const suspended = whySuspended(job);
  if (suspended) return suspended;
  // Those that were taken away are made anew.
  const current = pods.filter(({ disruption, phase }) => disruption === undefined || phase !== "Failed");
  if (current.length === 0) return whyNoPod(noPodReason);
  for (const pod of current) {
    const verdict = lostNode(pod, gracePeriods, now) ??
      whyItWaits(job, pod, { gracePeriods, now, ...compact({ trouble }) });
    if (verdict) return verdict;
  }
  const started = current.some((pod) => pod.phase !== "Pending");
  return started ? { kind: "running", detail: whyItGoesOn(current) } : preparation(current);
}

function judgeCancelled({ heldFor }: Facts, who: string, pods: readonly PodFacts[]): Verdict {
  const alive = pods.some((pod) => pod.phase === "Running" || pod.containers.some((c) => c.state === "running"));
  if (alive) return { kind: "running", detail: `Being cancelled by ${who}` };
  return { kind: "ended", outcome: cancellation(who, { began: heldFor === undefined }) };
}

function lostNode(pod: PodFacts, gracePeriods: GracePeriods, now: Date): Verdict | undefined {
  if (pod.deletionAt === undefined || pod.phase === "Succeeded" || pod.phase === "Failed") return undefined;
  const recheckAt = new Date(pod.deletionAt.getTime() + gracePeriods.nodeLostMs);
  if (now >= recheckAt) {
    return ended("failed", "NodeLost", `Its node ${pod.node ?? ""} does not answer any more; run it again`);
  }
  return { kind: "running", detail: "Its pod is being removed", recheckAt };
}
