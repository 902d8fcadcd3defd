/**
 * What the service is put together of, and its settings. Shapes only.
 */
import type { Policy, RowRules } from "../catalog.ts";
import type { IndexPlace } from "../history.ts";
import type { LeaseTimes } from "../leader.ts";
import type { LogSettings } from "../logs.ts";
import type { GracePeriods } from "../outcome.ts";
import type { Broker, Cluster, Emit, Lease, ObjectList, ObjectLook, ObjectStore } from "../ports.ts";

export interface ServiceSettings {
  readonly pollMs: number;
  readonly handleRetained: boolean;
  readonly createConcurrency: number;
  readonly maxChainDepth: number;
  /** How late a run by schedule may begin; 1 h unless given. */
  readonly startingDeadlineMs?: number;
  /** Items of one group. Default 1,000. */
  readonly maxItems?: number;
  readonly gracePeriods: GracePeriods;
  readonly logs: LogSettings;
  /** Where the index of ended runs is; memory unless given. */
  readonly data?: IndexPlace;
  readonly policy?: Policy;
  /** Names of the channels that rows may have in `notify`. Default: none. */
  readonly channels?: readonly string[];
  /** From the end of a first attempt to the second; see flows/retries.ts. */
  readonly retryDelayMs?: number;
  /** How often it is asked what pods use; absent or 0: never. */
  readonly usageIntervalMs?: number;
  /** Each run is a span of a trace, and says so; absent: traces that messages bring are handed on as they are. */
  readonly tracing?: boolean;
  /** Published retained on `info`; nothing secret. */
  readonly info: Readonly<Record<string, unknown>>;
}

/** How replicas elect a leader: by which lease, and under which name this one. */
export interface Election {
  readonly lease: Lease;
  readonly identity: string;
  readonly times: LeaseTimes;
}

export interface ServiceOptions {
  readonly broker: Broker;
  readonly stores: {
    readonly catalog: ObjectStore;
    readonly catalogKey: string;
    readonly logs: ObjectStore;
    readonly runs: ObjectStore;
  };
  readonly cluster: Cluster;
  /** Looks for the outputs of runs. */
  readonly look?: ObjectLook;
  /** Lists the objects that rows name as their items. */
  readonly list?: ObjectList;
  /** Rules for rows beyond those of the policy. */
  readonly rules?: RowRules;
  /** Where replicas elect a leader; absent: this is the only one. */
  readonly election?: Election;
  readonly topicPrefix: string;
  readonly settings: ServiceSettings;
  /** Told everything that happens; must not throw nor block. */
  readonly listeners?: readonly Emit[];
}
