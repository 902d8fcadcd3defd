/**
 * The words that outcome.ts and its parts share: what is looked at, what is said, and which container is meant. Pure.
 */
import type { ContainerFacts, JobFacts, Outcome } from "../ports.ts";
import type { RunReason } from "../reasons.ts";
import { CONTAINER_NAME } from "../run_spec.ts";

/** How long a run may hang before it counts as failed, in milliseconds. */
export interface GracePeriods {
  /** From when it was first seen that its image cannot be pulled or its container cannot be created. */
  readonly imagePullMs: number;
  /** From the scheduler's first refusal. */
  readonly unschedulableMs: number;
  /** From the pod's deletion, while its node does not confirm it. */
  readonly nodeLostMs: number;
}

/** `unprepared`: its pod is being made ready, and only the cluster's events would say what is in the way. */
export type Verdict =
  | {
    readonly kind: "pending" | "running";
    readonly detail: string;
    readonly recheckAt?: Date;
    readonly unprepared?: boolean;
  }
  | { readonly kind: "ended"; readonly outcome: Outcome };

export type Facts = Pick<
  JobFacts,
  "image" | "gpu" | "requests" | "limits" | "end" | "cancelledBy" | "suspended" | "heldFor" | "activeDeadlineSeconds"
>;

/** What the cluster's events say is in the way of a pod, and since when that is known. */
export interface Trouble {
  readonly message: string;
  readonly since: Date;
}

/** Who cancels a run in whose place another one of its concurrency group runs or waits. */
export function givingWayTo(runName: string): string {
  return `run ${runName} of the same group`;
}

/** How a run ends that somebody cancelled, or another run of its group. A newer message is no fault of the older one's. */
export function cancellation(
  who: string,
  { began = true, when = "" }: { began?: boolean; when?: string } = {},
): Outcome {
  const status = "cancelled";
  const by = /^run (\S{1,63}) of the same group$/.exec(who)?.[1];
  const also = when === "" ? "" : ` ${when}`;
  if (by === undefined) return { status, reason: "Cancelled", message: `Cancelled by ${who}${also}` };
  if (began) {
    const message = `Stopped${also}, for the newer run ${by} of its group takes its place (when_busy: replace)`;
    return { status, reason: "Replaced", message };
  }
  const message = `It never began: the newer run ${by} of its group waits in its place (when_busy)`;
  return { status, reason: "Superseded", message };
}

/** A verdict that ends the run. */
export function ended(status: Outcome["status"], reason: RunReason, message: string): Verdict {
  return { kind: "ended", outcome: { status, reason, message } };
}

/** Whether it is the container that the row describes. */
export function isMain({ name, kind }: ContainerFacts): boolean {
  return kind === undefined && name === CONTAINER_NAME;
}

/** `Its container`, or which one of several it is. */
export function nameOf(container: ContainerFacts): string {
  if (isMain(container)) return "Its container";
  const what = container.kind === "init" ? "init container" : container.kind === "sidecar" ? "sidecar" : "container";
  return `Its ${what} "${container.name}"`;
}
