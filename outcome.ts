/**
 * Reads a run's facts and says how it stands: pending, running or ended, and why, in words for people.
 * Pure. The Job's conditions decide first, then the pods' container states; the log is never consulted.
 */
import type { ContainerFacts, JobFacts, Outcome, PodFacts } from "./ports.ts";
import type { RunReason } from "./reasons.ts";

/** How long a run may hang before it counts as failed, in milliseconds. */
export interface GracePeriods {
  /** From the pod's creation, while its image cannot be pulled or its container cannot be created. */
  readonly imagePullMs: number;
  /** From the scheduler's first refusal. */
  readonly unschedulableMs: number;
  /** From the pod's deletion, while its node does not confirm it. */
  readonly nodeLostMs: number;
}

export type Verdict =
  | { readonly kind: "pending" | "running"; readonly detail: string; readonly recheckAt?: Date }
  | { readonly kind: "ended"; readonly outcome: Outcome };

/** A rate limit ends by itself, so it gets this many times the grace of a wrong image. */
const RATE_LIMIT_PATIENCE = 30;

type Facts = Pick<JobFacts, "image" | "gpu" | "requests" | "limits" | "end" | "cancelledBy">;

/** How the run stands at `now`; `noPodReason` is what the cluster's events say of a Job that has no pod. */
export function judge(
  job: Facts,
  pods: readonly PodFacts[],
  { gracePeriods, now, noPodReason }: { gracePeriods: GracePeriods; now: Date; noPodReason?: string },
): Verdict {
  if (job.end?.type === "Complete") return ended("succeeded", "Completed", "Ended without error");
  if (job.cancelledBy !== undefined) return judgeCancelled(job.cancelledBy, pods);
  if (job.end?.type === "Failed") return { kind: "ended", outcome: explainFailure(job, pods) };
  if (pods.length === 0) return judgeWithoutPod(noPodReason);
  for (const pod of pods) {
    const trouble = lostNode(pod, gracePeriods, now) ?? unschedulable(job, pod, gracePeriods, now) ??
      stuckContainer(job, pod, gracePeriods, now);
    if (trouble) return trouble;
  }
  const started = pods.some((pod) => pod.phase !== "Pending");
  return started ? { kind: "running", detail: "" } : { kind: "pending", detail: "Its pod is being prepared" };
}

function ended(status: Outcome["status"], reason: RunReason, message: string): Verdict {
  return { kind: "ended", outcome: { status, reason, message } };
}

function judgeCancelled(who: string, pods: readonly PodFacts[]): Verdict {
  const alive = pods.some((pod) => pod.phase === "Running" || pod.containers.some((c) => c.state === "running"));
  if (alive) return { kind: "running", detail: `Being cancelled by ${who}` };
  return ended("cancelled", "Cancelled", `Cancelled by ${who}`);
}

function judgeWithoutPod(reason: string | undefined): Verdict {
  if (reason === undefined) return { kind: "pending", detail: "Waiting for its pod to be created" };
  if (/exceeded quota/i.test(reason)) {
    return { kind: "pending", detail: `Waiting, for the namespace's quota is full: ${reason}` };
  }
  return ended("failed", "PodRefused", `The cluster refuses its pod: ${reason}`);
}

function lostNode(pod: PodFacts, gracePeriods: GracePeriods, now: Date): Verdict | undefined {
  if (pod.deletionAt === undefined || pod.phase === "Succeeded" || pod.phase === "Failed") return undefined;
  const recheckAt = new Date(pod.deletionAt.getTime() + gracePeriods.nodeLostMs);
  if (now >= recheckAt) {
    return ended("failed", "NodeLost", `Its node ${pod.node ?? ""} does not answer any more; run it again`);
  }
  return { kind: "running", detail: "Its pod is being removed", recheckAt };
}

function unschedulable(job: Facts, pod: PodFacts, gracePeriods: GracePeriods, now: Date): Verdict | undefined {
  if (pod.phase !== "Pending" || !pod.unschedulable) return undefined;
  const recheckAt = new Date(pod.unschedulable.since.getTime() + gracePeriods.unschedulableMs);
  const words = noNodeWords(job, pod.unschedulable.message);
  if (now >= recheckAt) return ended("failed", "Unschedulable", words);
  return { kind: "pending", detail: `Waiting for a node: ${words}`, recheckAt };
}

/** "No node can take it: …" with the resource that is short, as the scheduler lists them. */
function noNodeWords(job: Facts, message: string): string {
  const short = new Set([...message.matchAll(/Insufficient ([\w./-]*\w)/g)].map((match) => match[1]!));
  const wants: string[] = [];
  if (short.has("nvidia.com/gpu")) wants.push(`${job.gpu} free GPU${job.gpu === 1 ? "" : "s"}`);
  for (const resource of ["cpu", "memory", "ephemeral-storage"]) {
    if (!short.has(resource)) continue;
    const asked = job.requests[resource] ?? "what it asks for";
    wants.push(`${asked} of free ${resource === "ephemeral-storage" ? "disk" : resource}`);
  }
  const why = wants.length > 0 ? `none has ${wants.join(" and ")}` : "";
  return `No node can take it: ${why}${why ? " " : ""}(the scheduler says: ${message})`;
}

const IMAGE_REASONS = new Set([
  "ImagePullBackOff",
  "ErrImagePull",
  "ErrImageNeverPull",
  "ImageInspectError",
  "RegistryUnavailable",
  "SignatureValidationFailed",
]);
const CREATE_REASONS = new Set([
  "CreateContainerConfigError",
  "CreateContainerError",
  "RunContainerError",
  "CrashLoopBackOff",
]);

function stuckContainer(job: Facts, pod: PodFacts, gracePeriods: GracePeriods, now: Date): Verdict | undefined {
  for (const container of pod.containers) {
    if (container.state !== "waiting" || container.reason === undefined) continue;
    const said = container.message ?? container.reason;
    if (container.reason === "InvalidImageName") {
      return ended("failed", "ImagePull", `The image name "${job.image}" is not valid: ${said}`);
    }
    if (CREATE_REASONS.has(container.reason)) {
      return afterGrace(pod, gracePeriods.imagePullMs, now, "CannotStart", `Its container cannot be started: ${said}`);
    }
    if (!IMAGE_REASONS.has(container.reason)) continue;
    if (/toomanyrequests|too many requests|rate limit|\b429\b/i.test(said)) {
      const words = `The registry limits how often the image "${job.image}" may be pulled: ${said}`;
      return afterGrace(pod, gracePeriods.imagePullMs * RATE_LIMIT_PATIENCE, now, "ImageRateLimit", words);
    }
    return afterGrace(pod, gracePeriods.imagePullMs, now, "ImagePull", imageWords(job.image, said));
  }
  return undefined;
}

function afterGrace(pod: PodFacts, graceMs: number, now: Date, reason: RunReason, words: string): Verdict {
  const recheckAt = new Date(pod.createdAt.getTime() + graceMs);
  return now >= recheckAt ? ended("failed", reason, words) : { kind: "pending", detail: words, recheckAt };
}

function imageWords(image: string, said: string): string {
  const hint = /not found|manifest unknown|does not exist/i.test(said)
    ? "there is no such image or tag; check the image column"
    : /unauthorized|denied|authentication/i.test(said)
    ? "the registry does not let the cluster have it; make it public or check its name"
    : /no such host|timeout|connection refused|dial tcp/i.test(said)
    ? "the cluster cannot reach the registry; check the name before the first slash"
    : "check the image column";
  return `The image "${image}" cannot be pulled: ${hint} (the cluster says: ${said})`;
}

/** Why a Job that Kubernetes calls Failed has failed. */
export function explainFailure(job: Facts, pods: readonly PodFacts[]): Outcome {
  if (job.end?.reason === "DeadlineExceeded") {
    return failed("DeadlineExceeded", "Ran longer than the row's active_deadline_seconds allow and was stopped");
  }
  const pod = pods.find((pod) => pod.reason !== undefined) ??
    // When one pod has failed, the Job's others are deleted by Kubernetes: those explain nothing.
    pods.find((pod) => pod.containers.some(hasFailed) && !wasDeletedAlive(pod)) ??
    pods.find((pod) => pod.containers.some(hasFailed)) ??
    pods.find((pod) => pod.disruption !== undefined);
  if (pod?.reason === "Evicted") return explainEviction(job, pod);
  if (pod?.disruption && !pod.containers.some((container) => container.reason === "OOMKilled")) {
    return failedAsSaid(
      pod.disruption.reason,
      `The cluster took its node or its place away: ${pod.disruption.message}; run it again`,
    );
  }
  const container = pod?.containers.find(hasFailed);
  if (container && pod && wasDeletedAlive(pod)) {
    const code = container.exitCode;
    const words = `Somebody deleted its pod; its program then ended with exit code ${code}; run it again`;
    return failed("PodDeleted", words, code);
  }
  if (container) return explainContainer(job, container);
  if (pod?.reason !== undefined) return failedAsSaid(pod.reason, `Its pod failed: ${pod.message ?? pod.reason}`);
  if (pods.every(({ deletionAskedAt }) => deletionAskedAt !== undefined)) {
    return failed("PodDeleted", "Somebody deleted its pod before it had ended; run it again");
  }
  return failedAsSaid(
    job.end?.reason ?? "Failed",
    job.end?.message ?? "The Job failed and the cluster does not say why",
  );
}

function failed(reason: RunReason, message: string, exitCode?: number): Outcome {
  return { status: "failed", reason, message, ...(exitCode === undefined ? {} : { exitCode }) };
}

/** With a reason in the cluster's words. */
function failedAsSaid(reason: string, message: string): Outcome {
  return { status: "failed", reason, message };
}

function hasFailed(container: ContainerFacts): boolean {
  return container.state === "terminated" && (container.exitCode !== 0 || container.reason === "OOMKilled");
}

/** Its deletion was asked for while a container that then failed was running. Both times are the cluster's. */
function wasDeletedAlive({ deletionAskedAt, containers }: PodFacts): boolean {
  if (!deletionAskedAt) return false;
  return containers.some((container) =>
    hasFailed(container) && container.reason !== "OOMKilled" &&
    (container.finishedAt === undefined || container.finishedAt >= deletionAskedAt)
  );
}

function explainEviction(job: Facts, pod: PodFacts): Outcome {
  const said = pod.message ?? "the node was short of something";
  const limit = job.limits["ephemeral-storage"];
  if (/ephemeral|emptyDir|disk/i.test(said)) {
    const words = limit ? `the disk limit is ${limit}` : "the node ran out of disk";
    return failed("Evicted", `Out of disk: ${words}; raise disk_limit or write less (the cluster says: ${said})`);
  }
  return failed("Evicted", `The node threw it out: ${said}`);
}

function explainContainer(job: Facts, container: ContainerFacts): Outcome {
  const code = container.exitCode ?? -1;
  if (container.reason === "OOMKilled") {
    const limit = job.limits["memory"];
    const words = limit
      ? `Out of memory: the limit is ${limit}; raise memory_limit or use less`
      : "Out of memory: the node had no more; set memory_request to what the job needs";
    return failed("OOMKilled", words, code);
  }
  if (container.reason === "StartError" || container.reason === "ContainerCannotRun") {
    return failed("CannotStart", `Its command could not be started: ${container.message ?? container.reason}`, code);
  }
  return failed("ExitCode", `Its program ended with exit code ${code}${exitHint(code)}; the log says more`, code);
}

/** Meaning of the shell's reserved exit codes (POSIX.1-2017, 2.8.2: 126, 127; above 128: a signal). */
function exitHint(code: number): string {
  if (code === 126) return " (the command was found but could not be run)";
  if (code === 127) return " (a command was not found)";
  if (code === 137) return " (it was killed, often for using too much memory)";
  if (code === 143) return " (it was asked to stop)";
  if (code > 128 && code < 160) return ` (ended by signal ${code - 128})`;
  return "";
}
