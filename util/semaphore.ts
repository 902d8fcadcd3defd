/**
 * A bound on work that goes on at once. Pure timing: knows nothing of what the work is.
 */
import { onAbort } from "./abort.ts";

/** Does `work` for each, in their order, at most so many at a time. Rejects with the first error, and lets the others go on. */
export async function atOnce<T>(most: number, all: readonly T[], work: (one: T) => Promise<void>): Promise<void> {
  const left = all.values();
  const goOn = async () => {
    for (const one of left) await work(one);
  };
  await Promise.all(Array.from({ length: Math.min(most, all.length) }, goOn));
}

/** Lets so many pieces of work go on at a time, the others in the order of their coming. */
export class Semaphore {
  #free: number;
  readonly #waiting = new Set<() => void>();

  constructor(atOnce: number) {
    this.#free = atOnce;
  }

  /** Does `work` when it is its turn; rejects with the signal's reason if that aborts before. */
  async take<T>(work: () => Promise<T>, signal: AbortSignal | undefined): Promise<T> {
    signal?.throwIfAborted();
    if (this.#free > 0) this.#free--;
    else await this.#turn(signal);
    try {
      return await work();
    } finally {
      const [next] = this.#waiting;
      if (next) next();
      else this.#free++;
    }
  }

  /** Resolves when somebody hands the turn on. */
  #turn(signal: AbortSignal | undefined): Promise<void> {
    return new Promise((resolve, reject) => {
      const go = () => {
        this.#waiting.delete(go);
        leave();
        resolve();
      };
      this.#waiting.add(go);
      const leave = onAbort(signal, () => {
        this.#waiting.delete(go);
        reject(signal?.reason);
      });
    });
  }
}

/** A semaphore for each key. */
export class Semaphores {
  readonly #atOnce: number;
  readonly #all = new Map<string, Semaphore>();

  constructor(atOnce: number) {
    this.#atOnce = atOnce;
  }

  /** The key's own. */
  of(key: string): Semaphore {
    let semaphore = this.#all.get(key);
    if (!semaphore) this.#all.set(key, semaphore = new Semaphore(this.#atOnce));
    return semaphore;
  }
}
