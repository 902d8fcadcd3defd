/**
 * The runs of deliveries that a former process had taken over: owns the answer to "which of them was this one?" after a
 * restart. Counts, and does not identify: the first deliveries of a kind are those that are not acknowledged, the oldest
 * first. Live runs are in the table of runs; those that ended are found in the store by one list a row, whose names sort
 * as the deliveries' numbers do.
 */
import type { Row } from "../ports.ts";
import type { RunRecords, SessionRecord } from "../records.ts";
import { deliveryHash, deliveryPartsOf } from "../run_spec.ts";
import type { RunTable } from "../runs.ts";
import { retryForever } from "../util/retry.ts";
import { Semaphore } from "../util/semaphore.ts";

export interface FormerRunsOptions {
  readonly record: SessionRecord;
  readonly runs: RunTable;
  readonly records: RunRecords;
  /** Names of the groups that have not ended. */
  readonly groups?: readonly string[];
  readonly signal: AbortSignal;
}

/** Lists at a time: after a restart there may be one for each of thousands of rows. */
const LISTS_AT_ONCE = 16;

export class FormerRuns {
  readonly #options: FormerRunsOptions;
  /** Numbers by the hash of session, message and row. */
  readonly #numbers = new Map<string, Set<number>>();
  readonly #taken = new Set<number>();
  #noted: Promise<void> | undefined;
  readonly #lists = new Map<string, Promise<void>>();
  /** Lists of groups once none can come any more, by row. */
  readonly #settledGroups = new Map<string, Promise<void>>();
  readonly #turns = new Semaphore(LISTS_AT_ONCE);

  constructor(options: FormerRunsOptions) {
    this.#options = options;
    this.#add(options.groups ?? []);
    this.#scan();
  }

  /** The former process had acknowledged all, and said so. */
  get allAcknowledged(): boolean {
    return this.#options.record.clean;
  }

  /** Resolves when the ended runs of these rows are known too; rejects where the store cannot be read. */
  async load(rows: readonly Row[]): Promise<void> {
    const { record, records, signal } = this.#options;
    await Promise.all(rows.map((row) => {
      const known = this.#lists.get(row.jobName);
      if (known) return known;
      const list = this.#turns.take(async () => {
        this.#add(await records.endedBetween(row, this.#first, record.reserved, signal));
        await this.#addGroups(row);
      }, signal);
      this.#lists.set(row.jobName, list);
      list.catch(() => this.#lists.delete(row.jobName));
      return list;
    }));
  }

  /** Resolves when no Job, and no group of these rows, can come any more that a killed process had asked for. */
  async settled(rows: readonly Row[]): Promise<void> {
    const { runs, records, signal } = this.#options;
    await runs.settled(signal);
    this.#scan();
    // For a run that ends without a Job, a note stands.
    await (this.#noted ??= retryForever(async () => this.#add(await records.notedRuns(".unstarted", signal)), {
      signal,
    }));
    await Promise.all(rows.map((row) => this.#settleGroups(row)));
  }

  /** Once a row. */
  #settleGroups(row: Row): Promise<void> {
    const known = this.#settledGroups.get(row.jobName);
    if (known) return known;
    const { signal } = this.#options;
    const settling = retryForever(() => this.#turns.take(() => this.#addGroups(row), signal), { signal });
    this.#settledGroups.set(row.jobName, settling);
    return settling;
  }

  /** Groups have names as runs have, and records of their own. */
  async #addGroups(row: Row): Promise<void> {
    const { record, records, signal } = this.#options;
    if (row.forEach !== undefined) this.#add(await records.groupsBetween(row, this.#first, record.reserved, signal));
  }

  get #first(): number {
    const { from, acknowledged, open } = this.#options.record;
    return Math.min(from, acknowledged + 1, ...open.map(([first]) => first));
  }

  /**
   * The oldest delivery of this kind that was not acknowledged and has a run; nobody gets it twice.
   * `among` leaves out numbers that it cannot be.
   */
  take(messageHash: string, rows: readonly Row[], among: (number: number) => boolean): number | undefined {
    let oldest = Infinity;
    for (const row of rows) {
      for (const number of this.#of(messageHash, row)) {
        if (number < oldest && !this.#taken.has(number) && among(number)) oldest = number;
      }
    }
    if (oldest === Infinity) return undefined;
    this.#taken.add(oldest);
    return oldest;
  }

  /** Whether the delivery of this number has a run of the row. */
  has(messageHash: string, row: Row, number: number): boolean {
    return this.#of(messageHash, row).has(number);
  }

  /** Whether a delivery of this kind that is acknowledged has a run of the row. */
  hasAcknowledged(messageHash: string, row: Row, isOpen: (number: number) => boolean): boolean {
    return [...this.#of(messageHash, row)].some((number) => !isOpen(number));
  }

  #of(messageHash: string, row: Row): ReadonlySet<number> {
    return this.#numbers.get(deliveryHash(row, { epoch: this.#options.record.epoch, messageHash })) ?? NONE;
  }

  #scan(): void {
    const { runs } = this.#options;
    this.#add([...runs.values()].filter(({ adopted }) => adopted).map(({ job }) => job.runName));
    // One that came late and was short may have ended since the store was asked.
    this.#add(runs.endedNames());
  }

  #add(runNames: readonly string[]): void {
    for (const { number, hash } of runNames.flatMap((name) => deliveryPartsOf(name) ?? [])) {
      if (number > this.#options.record.reserved) continue;
      const numbers = this.#numbers.get(hash);
      if (numbers) numbers.add(number);
      else this.#numbers.set(hash, new Set([number]));
    }
  }
}

const NONE: ReadonlySet<number> = new Set();
