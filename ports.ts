/**
 * The words of the core and the three ports it stands on: Broker, ObjectStore and Cluster (with its Lease).
 * Owns shapes only: no behaviour, no SDK types. Adapters (mqtt.ts, s3.ts, k8s.ts, local/) implement these;
 * the core (catalog, listener, runs, completion, logs, …) knows nothing else of the outside.
 */

import type { ReportReason } from "./reasons.ts";

// ---------------------------------------------------------------- the table

import type { Row } from "./catalog/columns.ts";

// Its fields follow from the table of columns; what they hold beyond texts and numbers is ports/row.ts.
export type { Row };
export type * from "./ports/row.ts";

// ---------------------------------------------------------------- a message

/** What an MQTT message says, without its delivery. */
export interface Message {
  readonly topic: string;
  readonly payload: Uint8Array;
}

/**
 * One delivery of a message. It stays the broker's until `done` is called; PUBACKs leave in the order of receipt. What
 * must be known before a PUBACK leaves is written before `done` is called.
 */
export interface Delivery extends Message {
  readonly qos: 0 | 1 | 2;
  readonly retain: boolean;
  /** The broker says that it may have sent this before. */
  readonly dup: boolean;
  /**
   * Packet identifier; absent with QoS 0. A redelivery within the session should have the same one [MQTT-4.4.0-1], and a
   * broker may give it to another message as soon as it is acknowledged: it identifies nothing by itself.
   */
  readonly packetId?: number;
  /**
   * The filters (as given to `subscribe`) for which this copy was sent. A broker may send one copy per overlapping
   * subscription [MQTT-3.3.4-2]; only rows with one of these filters may run for this copy.
   * Absent: the broker does not tell (MQTT 3.1.1), every row that matches may run.
   */
  readonly filters?: readonly string[];
  /** MQTT 5 user property `idempotency-key`. */
  readonly idempotencyKey?: string;
  /**
   * The message is dealt with for good: acknowledge it, when all before it are. Calling it again, or after the connection
   * ended, does nothing.
   */
  done(): void;
}

// ---------------------------------------------------------------- Broker

export interface BrokerEvents {
  /** Called at each connect, before any delivery of that connection. `sessionPresent`: the broker kept our session. */
  onConnect(info: { sessionPresent: boolean }): void;
  /** Called for each message, in the order of receipt. Must return at once; the work goes on elsewhere. */
  onDelivery(delivery: Delivery): void;
  /** The connection was lost or refused; the adapter goes on trying. `reason` is a sentence for people. */
  onDisconnect(reason: string): void;
  /** A service that is older than this one uses its session: the adapter has closed. `reason` is a sentence for people. */
  onRival?(reason: string): void;
}

/** A client of one MQTT broker with one lasting session. */
export interface Broker {
  /** Broker URL without credentials, for messages to people. */
  readonly url: string;
  /** Starts connecting and keeps on until `close`. Resolves at the first CONNACK; rejects only if `signal` aborts. */
  connect(events: BrokerEvents, signal?: AbortSignal): Promise<void>;
  readonly connected: boolean;
  /** Filters that are wanted and have no subscription, since the broker refused them, with its reason in words. */
  readonly refused: ReadonlyMap<string, string>;
  /**
   * Makes the set of subscriptions (QoS 1) equal to `filters` by difference, and keeps it over reconnects.
   * Resolves when the broker granted the new ones; rejects with RefusedError naming filters that it refused
   * (the others stay, those are tried again), and waits for a connection where there is none.
   */
  subscribe(filters: ReadonlySet<string>, signal?: AbortSignal): Promise<void>;
  /**
   * Resolves when the broker acknowledged (QoS 1) or the bytes were written (QoS 0); over a reconnect it goes on trying.
   * Rejects with TooLargeError where the broker takes no such size, with another RefusedError where it refuses it.
   */
  publish(
    topic: string,
    payload: string | Uint8Array,
    options?: { qos?: 0 | 1; retain?: boolean; signal?: AbortSignal },
  ): Promise<void>;
  /** Ends the connection in order and connects anew at once; the session stays. Nothing where there is no connection. */
  reconnect(): void;
  /** No further deliveries are handed over; those not `done` come again in the next session. */
  pause(): void;
  /** Publishes the farewell (the will's topic, `offline`) and closes; the session stays with the broker. */
  close(): Promise<void>;
}

// ---------------------------------------------------------------- ObjectStore

export interface StoredObject {
  readonly body: Uint8Array;
  readonly etag: string;
  readonly modifiedAt?: Date;
}

export interface ObjectInfo {
  readonly key: string;
  readonly size: number;
  readonly modifiedAt: Date;
}

/** Largest object that `get` reads where its caller does not say: 64 MiB. */
export const MAX_GET_BYTES = 64 * 1024 * 1024;

/**
 * Objects under one root URL (`s3://bucket/prefix` or a folder). Keys are relative to it and use `/`; one with an empty,
 * "." or ".." part, a control character or more than 1,024 bytes is refused (RefusedError).
 */
export interface ObjectStore {
  /** Root without credentials and without a trailing slash: `${url}/${key}` is what people are told. */
  readonly url: string;
  /**
   * undefined: no such object. "unchanged": it still has the ETag `ifNoneMatch`. RefusedError: it has more than
   * `maxBytes` (default MAX_GET_BYTES), of which no more is read.
   */
  get(
    key: string,
    options?: { ifNoneMatch?: string; maxBytes?: number; signal?: AbortSignal },
  ): Promise<StoredObject | "unchanged" | undefined>;
  /** The bytes as a stream, with `tail` (at least 1) only so many of the last; undefined: no such object. */
  read(
    key: string,
    options?: { tail?: number; signal?: AbortSignal },
  ): Promise<ReadableStream<Uint8Array> | undefined>;
  exists(key: string, options?: { signal?: AbortSignal }): Promise<boolean>;
  /** Whole or not at all. A stream is sent in parts with flat memory (S3: multipart upload, aborted on failure). */
  put(
    key: string,
    body: string | Uint8Array | AsyncIterable<Uint8Array>,
    options?: { contentType?: string; signal?: AbortSignal },
  ): Promise<void>;
  /** Deleting what is not there is success. */
  delete(key: string, options?: { signal?: AbortSignal }): Promise<void>;
  /** In the order of keys (UTF-8 bytes), starting after `after`. */
  list(prefix: string, options?: { after?: string; signal?: AbortSignal }): AsyncIterable<ObjectInfo>;
  /** A URL that a container can fetch with plain GET for `expiresSeconds` (S3: presigned, at most 7 days). */
  link(key: string, options: { expiresSeconds: number }): Promise<string>;
}

/** Whether there is an object at a URL or path of anybody's, as the column `output` names it. Errors as of ObjectStore. */
export type ObjectLook = (url: string, options?: { signal?: AbortSignal }) => Promise<boolean>;

// ---------------------------------------------------------------- Cluster

/** Everything that one run needs to be started, and later to be ended without the table. */
export interface RunSpec {
  /** `{row as an RFC 1123 label}-{12 or 16 characters}`, at most 63 characters (52 where parallelism > 1). */
  readonly runName: string;
  readonly row: Row;
  readonly message: Message;
  /** Where a payload too large for the environment was put; then `message.payload` is empty here. */
  readonly payloadLink?: { readonly url: string; readonly object: string };
  /** Hash that a redelivery of the very message has again; see listener.ts. */
  readonly messageHash: string;
  /** Set if the message announced the end of another run. */
  readonly parentRun?: string;
  /** First run of the chain (itself if it has no parent). */
  readonly rootRun: string;
  /** 0 for a run that no run started. */
  readonly chainDepth: number;
  readonly receivedAt: Date;
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
export interface JobFacts {
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
  readonly messageHash: string;
  readonly parentRun?: string;
  readonly rootRun: string;
  readonly chainDepth: number;
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
  /** Job condition Complete or Failed; undefined while it runs. `reason`: BackoffLimitExceeded, DeadlineExceeded, … */
  readonly end?: { readonly type: "Complete" | "Failed"; readonly reason?: string; readonly message?: string };
  /** Its pods are held back, by a queue of that name or by a person. */
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
  /** One run as it is now; undefined: gone. */
  get(runName: string, options?: { signal?: AbortSignal }): Promise<JobFacts | undefined>;
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

// ---------------------------------------------------------------- what the core tells

/** How a run ended, for programs (`status`, `reason`) and for people (`message`). */
export interface Outcome {
  readonly status: "succeeded" | "failed" | "cancelled";
  /** CamelCase word: a RunReason of reasons.ts, or Kubernetes' own. */
  readonly reason: string;
  /** One sentence that a biologist understands and can act on. */
  readonly message: string;
  readonly exitCode?: number;
}

/** The lasting record of a run, `{RUNS_URL}/{run name}.json`. Times are RFC 3339 UTC. */
export interface RunRecord {
  readonly run_name: string;
  readonly job_name: string;
  readonly status: Outcome["status"];
  readonly reason: string;
  readonly message: string;
  readonly exit_code: number | null;
  readonly topic: string;
  /** The payload as text; null where it is not UTF-8 or larger than 96 KiB (then see payload_base64, payload_object). */
  readonly payload: string | null;
  readonly payload_base64?: string;
  readonly payload_object?: string;
  readonly message_hash: string;
  readonly parent_run: string | null;
  readonly root_run: string;
  readonly chain_depth: number;
  readonly image: string;
  readonly node: string | null;
  readonly requests: Readonly<Record<string, string>>;
  readonly limits: Readonly<Record<string, string>>;
  /** Of each pod; absent in records of former versions, as are the fields of the log. */
  readonly gpu?: number;
  readonly received_at: string;
  readonly created_at: string;
  readonly started_at: string | null;
  readonly finished_at: string;
  readonly log_url: string;
  /** The log holds all output, as far as can be known. */
  readonly log_complete?: boolean;
  /** Of output in the log. */
  readonly log_bytes?: number;
  /** What is missing, in a sentence; absent where nothing is. */
  readonly log_missing?: string;
  /** Whom to ask about the row. */
  readonly owner?: string;
  /** Where its result is, or was to be. */
  readonly output?: string;
  /** The run succeeded, and there is nothing at `output`. */
  readonly output_missing?: true;
  /** JSON that the program wrote into RESULT_FILE, of at most 4 KiB; absent where it wrote none or did not succeed. */
  readonly result?: unknown;
  /** The Job as it ran, see `JobFacts.manifest`; absent where it was gone when the run ended. */
  readonly job?: Readonly<Record<string, unknown>>;
}

/** Something that happened, told to metrics, page, MQTT reports and notices. They must not throw nor block. */
export type ServiceEvent =
  | {
    type: "message";
    topic: string;
    /** That it is for. */
    rows: number;
    /** `filtered`: the conditions of all its rows are false. */
    outcome: "runs" | "ignored" | "filtered" | "duplicate" | "refused";
    /** Rows whose condition is false for it, with the values that decided. */
    filtered?: readonly FilteredRow[];
  }
  | { type: "created"; run: RunView; createMs: number; sinceReceiptMs: number }
  | { type: "waiting"; runName: string; jobName: string; reason: string }
  | { type: "started"; run: RunView }
  | { type: "finished"; record: RunRecord; completionMs: number }
  | { type: "table"; rows: number; errors: number; warnings: number }
  | { type: "broker"; connected: boolean; reason?: string }
  | { type: "leader"; leading: boolean; holder: string }
  /** Something that a person must act on; goes to the ERROR topic. */
  | {
    type: "error";
    scope: "table" | "message" | "run" | "broker" | "store" | "cluster" | "service";
    report: ErrorReport;
  };

/** A row that a message does not start, for its condition (`when`) is false. */
export interface FilteredRow {
  readonly jobName: string;
  /** Line of the table. */
  readonly line: number;
  /** `payload.size is 12, payload.kind is missing` */
  readonly because: string;
}

export type Emit = (event: ServiceEvent) => void;

/** Payload of the ERROR topic: what failed, why, and what to do, in one sentence; where, in fields. */
export interface ErrorReport {
  readonly message: string;
  readonly reason: ReportReason;
  readonly job_name?: string;
  readonly run_name?: string;
  readonly topic?: string;
  readonly line?: number;
  readonly column?: string;
  readonly value?: string;
}

/** A live run as people see it. */
export interface RunView {
  readonly runName: string;
  readonly jobName: string;
  readonly topic: string;
  readonly state: "pending" | "running" | "ending";
  /** Why it is pending or how it ends; a sentence, "" if there is nothing to say. */
  readonly detail: string;
  readonly parentRun?: string;
  readonly rootRun: string;
  readonly chainDepth: number;
  readonly messageHash: string;
  readonly image: string;
  readonly gpu: number;
  readonly requests: Readonly<Record<string, string>>;
  readonly limits: Readonly<Record<string, string>>;
  readonly receivedAt: Date;
  readonly createdAt: Date;
  readonly startedAt?: Date;
  readonly nodes: readonly string[];
}

// ---------------------------------------------------------------- errors that a caller tells apart

/** Refused for good: trying again changes nothing. The message holds the refuser's own words. */
export class RefusedError extends Error {
  override name = "RefusedError";
}

/** A publication is larger than its broker takes. */
export class TooLargeError extends RefusedError {
  override name = "TooLargeError";
}

/** What a peer may ask us to wait at most, whatever it says: none may silence the service for years. */
const LONGEST_WAIT_MS = 10 * 60_000;

/** Not possible now: try again, after `retryAfterMs` where the peer said so. */
export class UnavailableError extends Error {
  override name = "UnavailableError";
  readonly retryAfterMs?: number;
  /** What a person has to do about it, a clause that the message holds; absent: it ends by itself. */
  readonly advice?: string;
  constructor(message: string, options: ErrorOptions & { retryAfterMs?: number; advice?: string } = {}) {
    super(message, options);
    if (options.advice !== undefined) this.advice = options.advice;
    if (options.retryAfterMs !== undefined) this.retryAfterMs = Math.min(options.retryAfterMs, LONGEST_WAIT_MS);
  }
}
