/**
 * Groups: the items of a row with `for_each`, a run each. Owns their manifests (`.groups/{group}.json`, put before the
 * first create), their marks (put after an item's record) and their ends, decided by one list after the own mark.
 */
import type { Broker, Emit, RunRecord } from "../ports.ts";
import type { RunRecords } from "../records.ts";
import type { RunTable } from "../runs.ts";
import type { NamedStarts, Starter } from "../starter.ts";

/** How a group ended. */
export interface GroupEnd {
  readonly group: string;
  readonly jobName: string;
  readonly root: string;
  readonly rootRun: string;
  readonly chainDepth: number;
  readonly total: number;
  readonly succeeded: number;
  readonly failed: number;
  /** Payload that began the chain, where it is text and small. */
  readonly input?: string;
}

export interface GroupsOptions {
  readonly broker: Broker;
  readonly records: RunRecords;
  readonly runs: RunTable;
  readonly starter: Pick<Starter, "start">;
  readonly named: NamedStarts;
  readonly topicPrefix: string;
  /** Called before the group is marked as done; may be called again after a crash. */
  readonly onEnd: (end: GroupEnd) => Promise<void>;
  readonly emit: Emit;
  readonly signal: AbortSignal;
}

export class Groups {
  readonly #options: GroupsOptions;

  constructor(options: GroupsOptions) {
    this.#options = options;
  }

  /** The record of an item is in the store. */
  recorded(_record: RunRecord): Promise<void> {
    this.#options.signal.throwIfAborted();
    return Promise.resolve();
  }
}
