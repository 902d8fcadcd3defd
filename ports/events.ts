/**
 * What the core tells: outcomes, records, events for observers, reports for people. Owns shapes only.
 */
import type { ReportReason } from "../reasons.ts";
import type { HeldFor, JobFacts, Lineage } from "./run.ts";

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
  /** See `Lineage`, as the next ones; absent in records of former versions. */
  readonly root?: string;
  readonly attempt?: number;
  readonly rung?: number;
  readonly first_run?: string;
  readonly group?: string;
  readonly index?: number;
  /** JSON, as text. */
  readonly item?: string;
  readonly rerun_of?: string;
  readonly batch?: string;
  /** Who asked for it by hand, as the page's proxy names them; absent where a message did. */
  readonly requested_by?: string;
  /** Trace context, see `Lineage`. */
  readonly traceparent?: string;
  readonly tracestate?: string;
  /** Name of the next attempt: this one has failed, and nobody is told that the run has ended. */
  readonly retried_as?: string;
  /** Pods of it that the cluster took away, as far as was seen. */
  readonly disruptions?: number;
  /** Of a run that did not succeed: the last line that its program wrote, cut; see completion/last_line.ts. */
  readonly last_line?: string;
  /** It succeeded, though a container of it ran out of memory. */
  readonly oom_killed?: true;
  readonly image: string;
  readonly node: string | null;
  readonly requests: Readonly<Record<string, string>>;
  readonly limits: Readonly<Record<string, string>>;
  /** Of each pod; absent in records of former versions, as are the fields of the log. */
  readonly gpu?: number;
  readonly received_at: string;
  readonly created_at: string;
  /** When its program first started; null: it did not. */
  readonly started_at: string | null;
  readonly finished_at: string;
  /** What its Job was held back for, and until when; absent where that was not seen. */
  readonly held_for?: HeldBy;
  readonly released_at?: string;
  /** When its first pod had a node, and its image; absent where that was not seen. */
  readonly scheduled_at?: string;
  readonly pulled_at?: string;
  /** When its whole log was in the store, and when its end was published. */
  readonly log_stored_at?: string;
  readonly announced_at?: string;
  /** The most that was seen of it, over all its pods at a time: bytes and cores. Absent where nobody looked. */
  readonly peak_memory?: number;
  readonly peak_cpu?: number;
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

/** What has become of a message, see the event `message`. */
export type MessageOutcome = "runs" | "ignored" | "filtered" | "duplicate" | "skipped" | "refused";

/** Something that happened, told to metrics, page, MQTT reports and notices. They must not throw nor block. */
export type ServiceEvent =
  | {
    type: "message";
    topic: string;
    /** That it is for. */
    rows: number;
    /** `filtered`: the conditions of all its rows are false. */
    outcome: MessageOutcome;
    /** Rows whose condition is false for it, with the values that decided. */
    filtered?: readonly FilteredRow[];
    /** Names of its runs, of those that were there already too; the first 20. */
    runs?: readonly string[];
    /** Why rows refused it, in sentences; the first 20. */
    refusals?: readonly string[];
    /** It was kept by the broker, and such messages are not asked for (HANDLE_RETAINED). */
    retained?: true;
    /** It was not sent to the service, which heard of it only (OBSERVE_TOPICS). */
    observed?: true;
  }
  | { type: "created"; run: RunView; createMs: number; sinceReceiptMs: number }
  | { type: "waiting"; runName: string; jobName: string; reason: string }
  | { type: "started"; run: RunView }
  | { type: "finished"; record: RunRecord; completionMs: number }
  /** A row with a schedule was due then, and its run is created so much later. */
  | { type: "scheduled"; runName: string; jobName: string; due: Date; lagMs: number }
  /** One of the rows that a row needs has succeeded. */
  | {
    type: "join";
    jobName: string;
    runName: string;
    root: string;
    /** `waiting`: for those of `missing`. `exists`: it was started before. `filtered`: its condition is false. */
    outcome: "waiting" | "started" | "exists" | "filtered" | "refused";
    /** Rows. */
    missing: readonly string[];
    /** Of `filtered`: the values that decided. */
    because?: string;
  }
  /** An attempt has failed and its record is in the store; the next one, `record.retried_as`, begins at that time. */
  | { type: "retrying"; record: RunRecord; at: Date }
  /** A group of items has begun, or has ended; `failed`: an item of it has not succeeded. */
  | {
    type: "group";
    group: string;
    jobName: string;
    state: "started" | "succeeded" | "failed";
    total: number;
    succeeded: number;
    /** Where it stands among what its message has set off. */
    lineage: Lineage;
    receivedAt: Date;
  }
  | { type: "table"; rows: number; errors: number; warnings: number }
  /** `planned`: the service left for a moment, by itself. */
  | { type: "broker"; connected: boolean; reason?: string; planned?: true }
  | { type: "leader"; leading: boolean; holder: string }
  /**
   * It is known what has become of a message, a request by hand or a due time. Told only where traces are made; a message
   * is an event of its own besides.
   */
  | {
    type: "origin";
    topic: string;
    /** Of its runs; absent where it has none. */
    root?: string;
    /** Brought by the message. */
    traceparent?: string;
    tracestate?: string;
    receivedAt: Date;
    outcome: MessageOutcome;
    runs: readonly string[];
  }
  /** A former process has put the record of a run, and may have told of its end; its Job was there still. */
  | { type: "adopted"; record: RunRecord }
  /** The Job of a run that has ended is deleted; the call began then. */
  | { type: "deleted"; run: Lineage & Pick<JobFacts, "runName" | "jobName">; begunAt: Date }
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
export interface RunView extends Lineage, Pick<JobFacts, RunViewFact>, SeenTimes {
  readonly state: "pending" | "running" | "ending";
  /** Why it is pending or how it ends; a sentence, "" if there is nothing to say. */
  readonly detail: string;
  /** Pods of it that the cluster took away. */
  readonly disruptions?: number;
  readonly nodes: readonly string[];
}

/** Times of a run that its Job does not keep: of its pods, of which the first may be gone. */
export interface SeenTimes {
  /** When its program first started, on any of its pods. */
  readonly startedAt?: Date;
  /** When the first of its pods had a node. */
  readonly scheduledAt?: Date;
  /** What its pods are or were held back for, and until when. */
  readonly heldBy?: HeldBy;
  readonly releasedAt?: Date;
}

/** Who holds a run's pods back: the service (`max_runs`, a paused row), a queue of the cluster, or a person. */
export type HeldBy = HeldFor | "queue" | "person";

/** What is shown of a run's Job as it is. */
type RunViewFact =
  | "runName"
  | "jobName"
  | "topic"
  | "messageHash"
  | "image"
  | "gpu"
  | "requests"
  | "limits"
  | "receivedAt"
  | "createdAt";
