/**
 * How many calls of items are under way at a time, and how long the next one waits: as many as keep an API server at work
 * while answers are on their way, and no more, for those would wait in its queue, and so would the call of a message of
 * another row. Where calls take longer than they need, somebody waits already, so items rest. Pure but for its memory of
 * durations.
 */

/** What a create call takes at least where the API server is near. */
const WORK_MS = 6;
const MOST = 16;
/** Calls after which older ones count no more: the way to the cluster may have become another one. */
const WINDOW = 200;
/** Of how much longer than the shortest calls take: as long is a rest, */
const REST = 1;
/** but no longer, for a server that is slow all the time is no better for it. */
const MOST_REST_MS = 50;
/** Weight of the newest call in the mean. */
const NEWEST = 1 / 16;

export class Pace {
  #least = Infinity;
  #leastBefore = Infinity;
  #calls = 0;
  #meanMs = NaN;

  /** One call took so long, from its start to its answer. */
  took(ms: number): void {
    this.#meanMs = Number.isNaN(this.#meanMs) ? ms : this.#meanMs + (ms - this.#meanMs) * NEWEST;
    this.#least = Math.min(this.#least, ms);
    if (++this.#calls < WINDOW) return;
    this.#calls = 0;
    this.#leastBefore = this.#least;
    this.#least = Infinity;
  }

  /** From 1. The shortest call is the way there and back and the work; longer ones have waited as well. */
  get atOnce(): number {
    const shortest = this.#shortest;
    return shortest === Infinity ? 1 : Math.min(MOST, Math.max(1, Math.ceil(shortest / WORK_MS)));
  }

  /** From the end of one call to the begin of the next in its place. */
  get restMs(): number {
    const shortest = this.#shortest;
    return shortest === Infinity ? 0 : Math.min(MOST_REST_MS, REST * Math.max(0, this.#meanMs - shortest));
  }

  get #shortest(): number {
    return Math.min(this.#least, this.#leastBefore);
  }
}
