/**
 * Joins: rows that start when all rows they need (`needs`) have succeeded for one root. Owns the marks
 * `.joins/{root}/{row}/{needed}`; the one who puts the last of them starts the row, under a name made of root and row.
 */
import type { Catalog } from "../catalog.ts";
import type { Emit, RunRecord } from "../ports.ts";
import type { RunRecords } from "../records.ts";
import type { NamedStarts, Starter } from "../starter.ts";
import type { GroupEnd } from "./groups.ts";

export interface JoinsOptions {
  readonly catalog: Pick<Catalog, "table">;
  readonly records: RunRecords;
  readonly starter: Pick<Starter, "start">;
  readonly named: NamedStarts;
  readonly topicPrefix: string;
  readonly emit: Emit;
  readonly signal: AbortSignal;
}

export class Joins {
  readonly #options: JoinsOptions;

  constructor(options: JoinsOptions) {
    this.#options = options;
  }

  /** The record of a run that is no item of a group is in the store. */
  recorded(_record: RunRecord): Promise<void> {
    this.#options.signal.throwIfAborted();
    return Promise.resolve();
  }

  /** A group has ended. */
  groupEnded(_end: GroupEnd): Promise<void> {
    return Promise.resolve();
  }
}
