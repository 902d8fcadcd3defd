/**
 * Batches: many runs that a person starts together. They queue behind fresh messages, a few at a time, so that memory
 * stays flat. Nothing of a batch is kept over a restart: each entry has a name of its own, so the same command again
 * starts what is left, and nothing twice.
 */
import { UnavailableError } from "../ports.ts";
import type { StartResult } from "../starter.ts";
import { errorMessage } from "../util/errors.ts";
import { delayAtMost } from "../util/retry.ts";
import { cut } from "../util/text.ts";

/** One run of a batch. */
export interface BatchEntry {
  /** What people know it by: `line 3`, a run's name. */
  readonly label: string;
  /** Its run; whether there is one already is known by its name. Throws a RangeError where it cannot be one. */
  start(): Promise<StartResult>;
}

/** What became of the entries so far. */
export interface BatchCounts {
  readonly started: number;
  /** Had a run already, under way or ended. */
  readonly exists: number;
  readonly refused: number;
  /** Wait for their turn; should the service end before, the same command again starts them. */
  readonly waiting: number;
  /** The first runs, in the order of their starts. */
  readonly run_names: readonly string[];
  /** The first refusals. */
  readonly refusals: readonly { readonly entry: string; readonly message: string }[];
}

/** Entries that wait in all. */
export const MAX_BATCH_ENTRIES = 10_000;
/** Starts of one batch under way. */
const AT_ONCE = 32;
/** Run names and refusals that an answer shows. */
const MAX_SHOWN = 20;
/** How long an answer waits for starts. */
const ANSWER_MS = 5_000;

export class Batches {
  readonly #signal: AbortSignal;
  readonly #answerMs: number;
  #waiting = 0;

  constructor({ signal, answerMs = ANSWER_MS }: { signal: AbortSignal; answerMs?: number }) {
    this.#signal = signal;
    this.#answerMs = answerMs;
  }

  /** Throws UnavailableError where so many more are too many. */
  checkRoom(count: number): void {
    if (count > MAX_BATCH_ENTRIES) {
      throw new RangeError(`${count} runs at once are too many: start at most ${MAX_BATCH_ENTRIES}`);
    }
    if (this.#waiting + count > MAX_BATCH_ENTRIES) {
      throw new UnavailableError(`${this.#waiting} runs of batches wait: ask again when they have begun`);
    }
  }

  /** Resolves when all entries are through, or after a few seconds; then the rest goes on. */
  async start(entries: readonly BatchEntry[]): Promise<BatchCounts> {
    this.checkRoom(entries.length);
    this.#waiting += entries.length;
    const counts = { started: 0, exists: 0, refused: 0 };
    const run_names: string[] = [];
    const refusals: { entry: string; message: string }[] = [];
    const refuse = (label: string, message: string) => {
      counts.refused++;
      if (refusals.length < MAX_SHOWN) refusals.push({ entry: cut(label, 100), message: cut(message, 500) });
    };
    const take = (label: string, started: StartResult) => {
      if (started.result === "refused") return refuse(label, errorMessage(started.error));
      counts[started.result === "exists" ? "exists" : "started"]++;
      if (run_names.length < MAX_SHOWN) run_names.push(started.runName);
    };
    let next = 0;
    const work = async () => {
      for (let entry = entries[next++]; entry && !this.#signal.aborted; entry = entries[next++]) {
        try {
          take(entry.label, await entry.start());
        } catch (error) {
          if (this.#signal.aborted) return;
          refuse(entry.label, errorMessage(error));
        }
        this.#waiting--;
      }
    };
    const all = Promise.all(Array.from({ length: Math.min(AT_ONCE, entries.length) }, work));
    const answered = new AbortController();
    await Promise.race([all, delayAtMost(this.#answerMs, AbortSignal.any([answered.signal, this.#signal]))]);
    answered.abort();
    const waiting = entries.length - counts.started - counts.exists - counts.refused;
    return { ...counts, waiting, run_names: [...run_names], refusals: [...refusals] };
  }
}

/** Name of a batch as people give it. Throws RangeError. */
export function checkBatch(batch: string | undefined): string | undefined {
  if (batch === undefined || /^[A-Za-z0-9][\w.-]{0,62}$/.test(batch)) return batch;
  throw new RangeError(`The batch "${cut(batch, 63)}" is no name: write 1 to 63 letters, digits, "-", "_" and "."`);
}
