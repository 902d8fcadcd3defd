/**
 * Attempts: whether a run that failed is tried again, when, and with how much memory. An attempt is a Job of its own,
 * named by the first run and its number; the Job of the one before stays until it is there.
 */
import type { EndedJob, NextAttempt } from "../flows.ts";
import type { RunRecord } from "../ports.ts";
import type { NamedStarts, Starter } from "../starter.ts";

export interface RetriesOptions {
  readonly starter: Pick<Starter, "start">;
  readonly named: NamedStarts;
  readonly signal: AbortSignal;
}

export class Retries {
  readonly #options: RetriesOptions;

  constructor(options: RetriesOptions) {
    this.#options = options;
  }

  /** See `Aftermath`. */
  nextAttempt(_job: EndedJob, _record: RunRecord): NextAttempt | undefined {
    return undefined;
  }

  /** See `Aftermath`. */
  startNext(_job: EndedJob, _record: RunRecord): Promise<void> {
    this.#options.signal.throwIfAborted();
    return Promise.resolve();
  }
}
