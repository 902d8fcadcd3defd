/**
 * Starts of runs whose name says what makes them the same run again: a key, a parent, an item, an attempt. One that
 * lives, or has a record, is not started again. Owns no order and no message.
 */
import type { RunRecords } from "../records.ts";
import type { RunTable } from "../runs.ts";
import { retryForever } from "../util/retry.ts";
import { Semaphore } from "../util/semaphore.ts";
import type { StartResult } from "../starter.ts";

export interface NamedStartsOptions {
  readonly runs: RunTable;
  readonly records: RunRecords;
  readonly signal: AbortSignal;
}

/**
 * Look-ups in the store at a time. After a reconnect all that waits may come again: thousands of look-ups at once
 * were seen to keep a store from answering any of them in time, and the process from its keepalive.
 */
const LOOKUPS_AT_ONCE = 16;

export class NamedStarts {
  readonly #options: NamedStartsOptions;
  /** Starts that are not through, by the run's name. */
  readonly #starting = new Map<string, Promise<StartResult>>();
  readonly #lookups = new Semaphore(LOOKUPS_AT_ONCE);

  constructor(options: NamedStartsOptions) {
    this.#options = options;
  }

  /**
   * Begins the run unless there is or was one of that name. `onRetry`: the store cannot say whether there was. Rejects only
   * where the service stops first.
   */
  async start(
    runName: string,
    { begin, onRetry }: {
      readonly begin: (runName: string) => Promise<StartResult>;
      readonly onRetry: (error: unknown) => void;
    },
  ): Promise<StartResult> {
    const { runs, records, signal } = this.#options;
    if (runs.knows(runName)) return { result: "exists", runName };
    const hasEnded = await this.#lookups.take(
      () => retryForever(() => records.exists(runName, signal), { signal, onRetry }),
      signal,
    );
    // No await between these looks and the start: nothing can end and be forgotten in between.
    if (hasEnded || runs.knows(runName)) return { result: "exists", runName };
    // A start may wait for long. Did both wait, the first one's run could be over and its Job gone when the second
    // one's create call leaves, which would then succeed.
    const twin = this.#starting.get(runName);
    if (twin) {
      const first = await twin;
      return first.result === "refused" ? first : { result: "exists", runName };
    }
    const starting = begin(runName);
    this.#starting.set(runName, starting);
    return await starting.finally(() => this.#starting.delete(runName));
  }
}
