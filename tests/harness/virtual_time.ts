/**
 * Time that passes only when a test says so: replaces timers and clocks of the whole process, so use it in a file of its
 * own. Work that waits for nothing but promises and timers is run to its next wait at each step. With a seed chance is
 * replaced too, so that the same steps go the same way again.
 */
import { setImmediate } from "node:timers";

interface Timer {
  readonly atMs: number;
  readonly everyMs?: number;
  readonly run: () => void;
}

export class VirtualTime {
  #nowMs = 1_000;
  #lastId = 0;
  readonly #timers = new Map<number, Timer>();
  readonly #real = {
    setTimeout: globalThis.setTimeout,
    clearTimeout: globalThis.clearTimeout,
    setInterval: globalThis.setInterval,
    clearInterval: globalThis.clearInterval,
    Date: globalThis.Date,
    now: performance.now,
    timeout: AbortSignal.timeout,
    random: Math.random,
    randomUUID: crypto.randomUUID,
  };

  /** `startMs`: what the wall clock says at first; the preset is the real one. */
  constructor({ seed, startMs = Date.now() }: { seed?: number; startMs?: number } = {}) {
    const start = startMs;
    const set = (timer: Timer) => {
      this.#timers.set(++this.#lastId, timer);
      return this.#lastId;
    };
    globalThis.setTimeout =
      ((run: () => void, ms = 0) => set({ atMs: this.#nowMs + ms, run })) as unknown as typeof setTimeout;
    globalThis.setInterval =
      ((run: () => void, ms = 0) =>
        set({ atMs: this.#nowMs + ms, everyMs: Math.max(1, ms), run })) as unknown as typeof setInterval;
    globalThis.clearTimeout = ((id: number) => void this.#timers.delete(id)) as typeof clearTimeout;
    globalThis.clearInterval = globalThis.clearTimeout;
    performance.now = () => this.#nowMs;
    const now = () => start + this.#nowMs;
    globalThis.Date = class extends this.#real.Date {
      constructor(...given: unknown[]) {
        // deno-lint-ignore no-explicit-any
        super(...(given.length === 0 ? [now()] : given) as [any]);
      }
      static override now = now;
    } as unknown as DateConstructor;
    AbortSignal.timeout = (ms) => {
      const controller = new AbortController();
      set({ atMs: this.#nowMs + ms, run: () => controller.abort(new DOMException("Too late", "TimeoutError")) });
      return controller.signal;
    };
    if (seed !== undefined) {
      Math.random = randomOf(seed);
      crypto.randomUUID = () => {
        const hex = () => Math.floor(Math.random() * 2 ** 32).toString(16).padStart(8, "0");
        return `${hex()}-0000-4000-8000-${hex()}0000`;
      };
    }
  }

  /** Lets `ms` pass, and all that is due in it happen. */
  async advance(ms: number): Promise<void> {
    const untilMs = this.#nowMs + ms;
    await settled();
    for (let next = this.#due(untilMs); next !== undefined; next = this.#due(untilMs)) {
      const [id, { atMs, everyMs, run }] = next;
      if (everyMs === undefined) this.#timers.delete(id);
      else this.#timers.set(id, { atMs: atMs + everyMs, everyMs, run });
      this.#nowMs = Math.max(this.#nowMs, atMs);
      run();
      await settled();
    }
    this.#nowMs = untilMs;
  }

  [Symbol.dispose](): void {
    const { now, timeout, random, randomUUID, ...globals } = this.#real;
    Object.assign(globalThis, globals);
    performance.now = now;
    AbortSignal.timeout = timeout;
    Math.random = random;
    crypto.randomUUID = randomUUID;
  }

  #due(untilMs: number): [number, Timer] | undefined {
    let first: [number, Timer] | undefined;
    for (const entry of this.#timers) {
      if (entry[1].atMs <= untilMs && (first === undefined || entry[1].atMs < first[1].atMs)) first = entry;
    }
    return first;
  }
}

/** Numbers from 0 to 1 (mulberry32). */
export function randomOf(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

/** Promises have gone on until nothing but timers is waited for. */
function settled(): Promise<void> {
  return new Promise((resolve) => void setImmediate(resolve));
}
