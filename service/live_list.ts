/**
 * The list of live runs in the store (`.live.json`), by which a run whose Job vanished while no service was running still
 * gets an outcome. Ends none itself.
 */
import type { RunRecords } from "../records.ts";
import type { LiveRun, RunTable } from "../runs.ts";
import { delay } from "../util/retry.ts";

/** How often the list is written, where it changed. */
const WRITE_MS = 10_000;

export interface LiveListOptions {
  readonly runs: RunTable;
  readonly records: RunRecords;
  readonly signal: AbortSignal;
}

export class LiveList {
  readonly #options: LiveListOptions;

  constructor(options: LiveListOptions) {
    this.#options = options;
  }

  /** Ends those that have vanished since the list was written; once the live runs are known. */
  async endVanished(end: (job: LiveRun["job"]) => void): Promise<void> {
    const { runs, records, signal } = this.#options;
    const listed = await records.getLive(signal).catch(() => []);
    // All at once: most of them have ended since the list was written, and there may be hundreds.
    await Promise.all(
      listed.filter(({ runName }) => !runs.knows(runName)).map(async (job) => {
        if (await this.#isForgotten(job.runName)) end(job);
      }),
    );
  }

  /** Whether a run without a Job has no record either, or one by which it was to be tried again, and was not. */
  async #isForgotten(runName: string): Promise<boolean> {
    const { runs, records, signal } = this.#options;
    try {
      const record = await records.get(runName, signal);
      const next = record?.retried_as;
      if (record === undefined || next === undefined) return record === undefined;
      return !runs.knows(next) && !await records.exists(next, signal);
    } catch {
      return false;
    }
  }

  /** Writes it until the service stops. */
  async keep(): Promise<void> {
    let written = "";
    for (;;) {
      await delay(WRITE_MS, this.#options.signal);
      const names = [...this.#options.runs.values()].map(({ job }) => job.runName).join();
      if (names === written) continue;
      await this.put().then(() => written = names, () => {});
    }
  }

  put(): Promise<void> {
    const { runs, records, signal } = this.#options;
    return records.putLive([...runs.values()].map(({ job }) => job), signal);
  }
}
