/**
 * How many calls of items are under way at a time: as many as keep an API server at work while answers are on their way,
 * and no more, for those would wait in its queue, and so would the call of a message of another row. Pure but for its
 * memory of durations.
 */

/** What a create call takes at least where the API server is near. */
const WORK_MS = 6;
const MOST = 16;
/** Calls after which older ones count no more: the way to the cluster may have become another one. */
const WINDOW = 200;

export class Pace {
  #least = Infinity;
  #leastBefore = Infinity;
  #calls = 0;

  /** One call took so long, from its start to its answer. */
  took(ms: number): void {
    this.#least = Math.min(this.#least, ms);
    if (++this.#calls < WINDOW) return;
    this.#calls = 0;
    this.#leastBefore = this.#least;
    this.#least = Infinity;
  }

  /** From 1. The shortest call is the way there and back and the work; longer ones have waited as well. */
  get atOnce(): number {
    const shortest = Math.min(this.#least, this.#leastBefore);
    return shortest === Infinity ? 1 : Math.min(MOST, Math.max(1, Math.ceil(shortest / WORK_MS)));
  }
}
