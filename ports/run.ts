/**
 * The words of a run: what is asked of the cluster, what it says of a Job and its pods, and the port itself.
 * Owns shapes only.
 */
import type { Message, Row } from "../ports.ts";

/**
 * Where a run stands among all that its message has set off. Its Job and its record keep it, and its further attempts,
 * reruns and children take theirs from it.
 */
export interface Lineage {
  /**
   * A hash, the same for all that one message from outside sets off: all rows of it, their chains, groups, attempts and
   * reruns. Made of what identifies the message.
   */
  readonly root: string;
  /** First run of the chain (itself if it has no parent). */
  readonly rootRun: string;
  /** Set if the message announced the end of another run. */
  readonly parentRun?: string;
  /** 0 for a run that no run started. */
  readonly chainDepth: number;
  /** From 1; absent: 1. */
  readonly attempt?: number;
  /** Name of the first attempt; absent: the run is that. */
  readonly firstRun?: string;
  /** How many times it ran out of memory before, so which rung of the ladder it has; absent: 0. */
  readonly rung?: number;
  /** Name of the group that the run is an item of, see flows/groups.ts. */
  readonly group?: string;
  /** Position in the group, from 0. */
  readonly index?: number;
  /** The item, as JSON. */
  readonly item?: string;
  /** Name of the run that a person had run again. */
  readonly rerunOf?: string;
  /** What a person started together, by replay or from a sheet. */
  readonly batch?: string;
  /** Who asked for it by hand. */
  readonly requestedBy?: string;
  /**
   * Its trace context (https://www.w3.org/TR/trace-context/): that of its message, or, where this service makes traces, its
   * own span in the same trace. Checked by run_spec/trace_context.ts where it enters.
   */
  readonly traceparent?: string;
  /** What others have added to that of its message; never there alone. */
  readonly tracestate?: string;
}

/** Why a Job is created suspended; it waits until `Cluster.resume`. */
export type HeldFor = "slot" | "pause";

/** Everything that one run needs to be started, and later to be ended without the table. */
export interface RunSpec extends Lineage {
  /** `{row as an RFC 1123 label}-{12 or 16 characters}`, at most 63 characters (52 where parallelism > 1). */
  readonly runName: string;
  readonly row: Row;
  readonly message: Message;
  /**
   * Where a payload too large for the environment was put: the run gets this link. `message.payload` is then there only
   * where the row's placeholders take something of it.
   */
  readonly payloadLink?: { readonly url: string; readonly object: string };
  /** Hash that a redelivery of the very message has again; see listener.ts. */
  readonly messageHash: string;
  readonly receivedAt: Date;
  /** What it shares its slots with (`concurrency_group`), where the row limits them. */
  readonly concurrency?: string;
  /** Its Job is created suspended. */
  readonly heldFor?: HeldFor;
  /** A person asked for it: it runs though its row is paused. */
  readonly byHand?: true;
}

/** What a container did, in Kubernetes' terms (`reason`, `exitCode`, …). */
export interface ContainerFacts {
  readonly name: string;
  /** `init` runs before the others, `sidecar` beside them without being waited for; absent: one that the run waits for. */
  readonly kind?: "init" | "sidecar";
  readonly state: "waiting" | "running" | "terminated";
  readonly reason?: string;
  readonly message?: string;
  readonly exitCode?: number;
  readonly signal?: number;
  readonly startedAt?: Date;
  readonly finishedAt?: Date;
  readonly restartCount: number;
  /** It ran out of memory, now or before it was started again, whatever code it ended with. */
  readonly oomKilled?: true;
  /** Since when it has been seen unable to start, by the service's own clock; see outcome.ts. */
  readonly failingSince?: Date;
}

export interface PodFacts {
  readonly podName: string;
  readonly runName: string;
  readonly phase: "Pending" | "Running" | "Succeeded" | "Failed" | "Unknown";
  readonly node?: string;
  /** Pod-level reason, such as Evicted, NodeLost, and its message. */
  readonly reason?: string;
  readonly message?: string;
  readonly createdAt: Date;
  /** When it got its node. */
  readonly scheduledAt?: Date;
  /** Which part of the run it is, from 0, where that has several. */
  readonly index?: number;
  /** When it is to be gone. */
  readonly deletionAt?: Date;
  /** When somebody asked for that: before it by the grace that its containers have to end. */
  readonly deletionAskedAt?: Date;
  /** Scheduling gates: no node is looked for before somebody takes them off. */
  readonly gates?: readonly string[];
  /** Condition PodScheduled is False with reason Unschedulable: since when, and the scheduler's words. */
  readonly unschedulable?: { readonly since: Date; readonly message: string };
  /** Condition DisruptionTarget: why the control plane ends the pod. */
  readonly disruption?: { readonly reason: string; readonly message: string };
  /** Init containers first. */
  readonly containers: readonly ContainerFacts[];
}

/** What the cluster says of one run (of its Job), and what the Job keeps of the RunSpec. */
export interface JobFacts extends Lineage {
  readonly runName: string;
  readonly jobName: string;
  readonly topic: string;
  /** As the container gets it; undefined where it was too large (see payloadObject). */
  readonly payload?: Uint8Array;
  readonly payloadObject?: string;
  /**
   * Makes what people are shown of the Job itself and the run's record keeps: as the cluster had it, without its status, long values cut,
   * signed links left out. A function, so that who drops it drops the whole Job with it.
   */
  readonly manifest?: () => Readonly<Record<string, unknown>>;
  /** The row as the run was made of it; kept of rows whose runs are tried again. Throws SyntaxError where it cannot be read. */
  readonly row?: () => Row;
  readonly messageHash: string;
  /** Of the RunSpec. */
  readonly concurrency?: string;
  /** The service itself holds its pods back, see `Cluster.resume`. */
  readonly heldFor?: HeldFor;
  /** Whom to ask about the row. */
  readonly owner?: string;
  /** Where its result will be: `s3://bucket/key`, a `file:` URL or a path. */
  readonly output?: string;
  readonly image: string;
  readonly gpu: number;
  readonly requests: Readonly<Record<string, string>>;
  readonly limits: Readonly<Record<string, string>>;
  readonly receivedAt: Date;
  readonly createdAt: Date;
  readonly startedAt?: Date;
  readonly finishedAt?: Date;
  /** As the row has it. */
  readonly activeDeadlineSeconds?: number;
  /** Job condition Complete or Failed; undefined while it runs. `reason`: BackoffLimitExceeded, DeadlineExceeded, … */
  readonly end?: { readonly type: "Complete" | "Failed"; readonly reason?: string; readonly message?: string };
  /** Its pods are held back: by this service (`heldFor`), by a queue of that name or by a person. */
  readonly suspended?: { readonly queue?: string };
  /** Someone asked for its deletion. */
  readonly deletionAt?: Date;
  /** Annotation `mqtt-job-listener/cancelled-by`, set by our own cancel. */
  readonly cancelledBy?: string;
}

/** A line of the cluster's event log for a run or one of its pods. */
export interface EventFacts {
  readonly at: Date;
  readonly type: "Normal" | "Warning";
  readonly object: string;
  readonly reason: string;
  readonly message: string;
  readonly count: number;
}

export interface ClusterEvents {
  /** State of a Job or pod as it is now; called at first for all that exist, later at each change. */
  onJob(job: JobFacts): void;
  onJobGone(runName: string, last: JobFacts | undefined): void;
  onPod(pod: PodFacts): void;
  onPodGone(podName: string, runName: string): void;
  /** All that existed has been told once. Called again after each relist. */
  onSynced(): void;
  /** The watch has a gap that it is mending; `reason` is a sentence for people. */
  onTrouble(reason: string): void;
  /** Once for each object that bears the marks of this service's but cannot be: it is left alone. A sentence. */
  onForeign?(what: string): void;
}

export interface LogOptions {
  readonly follow: boolean;
  readonly timestamps: boolean;
  readonly since?: Date;
  readonly tailLines?: number;
  readonly signal?: AbortSignal;
}

/** What a pod of a run uses, as its cluster has measured it. */
export interface PodUsage {
  readonly podName: string;
  readonly runName: string;
  /** Cores. */
  readonly cpu: number;
  /** Bytes that it cannot do without. */
  readonly memory: number;
}

/** The place where runs run, seen through the runs of this service alone. */
export interface Cluster {
  /** For messages to people: API server URL and namespace. */
  readonly url: string;
  /** "exists": a run of that name is there already. Throws RefusedError (for good) or UnavailableError (for now). */
  create(spec: RunSpec, options?: { dryRun?: boolean; signal?: AbortSignal }): Promise<"created" | "exists">;
  /** Deletes the run with its pods; success if it is gone already. */
  delete(runName: string, options?: { signal?: AbortSignal }): Promise<void>;
  /** Marks the run as cancelled by `who` and stops it; completion then ends it. False: no such run. */
  cancel(runName: string, who: string, options?: { signal?: AbortSignal }): Promise<boolean>;
  /** Lets a run go on that was created suspended (`heldFor`); success if it does already. False: no such run. */
  resume(runName: string, options?: { signal?: AbortSignal }): Promise<boolean>;
  /** One run as it is now; undefined: gone. */
  get(runName: string, options?: { signal?: AbortSignal }): Promise<JobFacts | undefined>;
  /** The pods of the runs as they are now, 2,000 at most. */
  pods(runNames: readonly string[], options?: { signal?: AbortSignal }): Promise<PodFacts[]>;
  /** Lists and watches until `signal` aborts; mends itself; never rejects for a fault of the cluster. */
  watch(events: ClusterEvents, signal: AbortSignal): Promise<void>;
  /** When something was last heard from the watch (an event, a bookmark, a list). */
  readonly heardAt: Date | undefined;
  /** Output may be dropped while its program runs: the cluster begins new files and reads out the newest one only. */
  readonly rotatesLogs: boolean;
  /**
   * A container's output as the cluster has it. `follow`: goes on until the container ends. `timestamps`: each line
   * begins with an RFC 3339 time and a blank. `tailLines`: only so many of the last, where `rotatesLogs`.
   * undefined: the pod, or its log, is gone for good.
   * UnavailableError: cannot be had now (also: the container has not started).
   */
  logs(
    podName: string,
    container: string,
    options: LogOptions,
  ): Promise<ReadableStream<Uint8Array> | undefined>;
  /**
   * What the pods of all runs use, one call; absent: nobody measures here. RefusedError: there is nobody to ask, or no
   * right to.
   */
  podUsage?(options?: { signal?: AbortSignal }): Promise<PodUsage[]>;
  /** Events of the run's Job and pods, oldest first; empty where they cannot be had. */
  events(runName: string, podNames: readonly string[], options?: { signal?: AbortSignal }): Promise<EventFacts[]>;
}

export interface LeaseRecord {
  readonly holder: string;
  readonly durationSeconds: number;
  readonly renewedAt: Date;
  readonly transitions: number;
  /** Opaque; a write with an older one is refused. "" for a lease that does not exist yet. */
  readonly version: string;
  /** What there is to say to a person where another service's replica wrote it; a sentence. */
  readonly stranger?: string;
}

/** A compare-and-set record that replicas elect their leader with. */
export interface Lease {
  read(options?: { signal?: AbortSignal }): Promise<LeaseRecord | undefined>;
  /** The record as it is now, with its new version; undefined: somebody else wrote in between. */
  write(next: LeaseRecord, options?: { signal?: AbortSignal }): Promise<LeaseRecord | undefined>;
}
