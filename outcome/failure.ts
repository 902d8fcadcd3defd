/**
 * Why a Job that Kubernetes calls Failed has failed, as a sentence that says which container is meant and what to do.
 * Pure.
 */
import type { ContainerFacts, Outcome, PodFacts } from "../ports.ts";
import type { RunReason } from "../reasons.ts";
import { compact } from "../util/compact.ts";
import { durationWords } from "../util/duration.ts";
import { cut, withoutColours } from "../util/text.ts";
import { type Facts, isMain, nameOf } from "./verdict.ts";

/** How the run failed, by what its Job and pods say. */
export function explainFailure(job: Facts, allPods: readonly PodFacts[]): Outcome {
  if (job.end?.reason === "DeadlineExceeded") return failed("DeadlineExceeded", deadlineWords(job));
  const pods = thatCount(job, allPods);
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
  const container = pod && culprit(pod.containers);
  if (container && pod && wasDeletedAlive(pod)) {
    const code = container.exitCode;
    const words = `Somebody deleted its pod; its program then ended with exit code ${code}; run it again`;
    return failed("PodDeleted", words, code);
  }
  if (container) return explainContainer(job, container, partWords(pod));
  if (pod?.reason !== undefined) return failedAsSaid(pod.reason, `Its pod failed: ${pod.message ?? pod.reason}`);
  if (pods.every(({ deletionAskedAt }) => deletionAskedAt !== undefined)) {
    return failed("PodDeleted", "Somebody deleted its pod before it had ended; run it again");
  }
  return failedAsSaid(
    job.end?.reason ?? "Failed",
    job.end?.message ?? "The Job failed and the cluster does not say why",
  );
}

/**
 * Those that the cluster took away were made anew, and explain nothing where another one failed; unless the Job has failed
 * by them, as its policy says (k8s/manifest.ts).
 */
function thatCount({ end }: Facts, pods: readonly PodFacts[]): readonly PodFacts[] {
  const taken = pods.filter(({ disruption }) => disruption !== undefined);
  const others = pods.filter(({ disruption }) => disruption === undefined);
  if (end?.reason === "PodFailurePolicy") return taken.length > 0 ? taken : pods;
  return others.some(({ reason, containers }) => reason !== undefined || containers.some(hasFailed)) ? others : pods;
}

function deadlineWords({ activeDeadlineSeconds: seconds }: Facts): string {
  if (seconds === undefined) return "Ran longer than the row's active_deadline_seconds allow and was stopped";
  const limit = seconds < 60 ? `${seconds} s` : `${seconds} s (${durationWords(seconds * 1_000)})`;
  return `Ran longer than ${limit} and was stopped: the row's active_deadline_seconds is ${seconds}; raise it, ` +
    "or find out what took so long";
}

function failed(reason: RunReason, message: string, exitCode?: number): Outcome {
  return { status: "failed", reason, message, ...compact({ exitCode }) };
}

/** With a reason in the cluster's words. */
function failedAsSaid(reason: string, message: string): Outcome {
  return { status: "failed", reason, message };
}

/** Which part of several it was; "" where there is one only. */
function partWords({ index, podName }: PodFacts): string {
  return index === undefined ? "" : ` in part ${index} (pod ${podName})`;
}

/** Of those that failed, the one that the row describes; sidecars last, for they are stopped when the others have ended. */
function culprit(containers: readonly ContainerFacts[]): ContainerFacts | undefined {
  const failed = containers.filter(hasFailed);
  return failed.find(isMain) ?? failed.find(({ kind }) => kind !== "sidecar") ?? failed[0];
}

/** Out of memory counts whatever the code: a shell may end well though what it started was killed. */
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

function explainContainer(job: Facts, container: ContainerFacts, part: string): Outcome {
  const code = container.exitCode ?? -1;
  const main = isMain(container);
  const name = nameOf(container);
  if (container.reason === "OOMKilled") {
    const limit = job.limits["memory"];
    const words = !main
      ? `${name} ran out of memory${part}`
      : limit
      ? `Out of memory${part}: the limit is ${limit}; raise memory_limit or use less`
      : `Out of memory${part}: the node had no more; set memory_request to what the job needs`;
    return failed("OOMKilled", words, code);
  }
  if (container.reason === "StartError" || container.reason === "ContainerCannotRun") {
    const said = container.message ?? container.reason;
    const subject = main ? "Its command" : name;
    const words = `${subject} could not be started${part}: ${said}`;
    return failed("CannotStart", words, code);
  }
  const subject = main ? "Its program" : name;
  const after = container.kind === "init" ? ", so that its program was not started" : "";
  return failed(
    "ExitCode",
    `${subject} ended with exit code ${code}${exitHint(code)}${part}${lastLine(container)}${after}; the log says more`,
    code,
  );
}

/** Longest last line that a sentence shows. */
const MAX_LINE = 200;
// deno-lint-ignore no-control-regex
const CONTROL = /[\u0000-\u001f\u007f-\u009f\u2028\u2029]+/g;

/** The last line that the program wrote, mostly the error itself: `: ValueError: no units found`. */
function lastLine({ message = "" }: ContainerFacts): string {
  const lines = withoutColours(message).split("\n")
    // What follows a carriage return stands over what was before.
    .map((one) => one.trim().split("\r").at(-1)!.replace(CONTROL, " ").trim());
  const line = lines.findLast((one) => one !== "");
  return line === undefined ? "" : `: ${cut(line, MAX_LINE)}`;
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
