/**
 * Time that passes only when a test says so: replaces timers and clocks of the whole process, so use it in a file of its
 * own. Work that waits for nothing but promises and timers is run to its next wait at each step.
 */

interface Timer {
  readonly atMs: number;
  readonly run: () => void;
}

export class VirtualTime {
  #nowMs = 1_000;
  #lastId = 0;
  readonly #timers = new Map<number, Timer>();
  readonly #real = {
    setTimeout: globalThis.setTimeout,
    clearTimeout: globalThis.clearTimeout,
    now: performance.now,
    date: Date.now,
  };

  constructor() {
    const start = Date.now();
    globalThis.setTimeout = ((run: () => void, ms = 0) => {
      this.#timers.set(++this.#lastId, { atMs: this.#nowMs + ms, run });
      return this.#lastId;
    }) as unknown as typeof setTimeout;
    globalThis.clearTimeout = ((id: number) => void this.#timers.delete(id)) as typeof clearTimeout;
    performance.now = () => this.#nowMs;
    Date.now = () => start + this.#nowMs;
  }

  /** Lets `ms` pass, and all that is due in it happen. */
  async advance(ms: number): Promise<void> {
    const untilMs = this.#nowMs + ms;
    await settle();
    for (let next = this.#due(untilMs); next !== undefined; next = this.#due(untilMs)) {
      const [id, { atMs, run }] = next;
      this.#timers.delete(id);
      this.#nowMs = Math.max(this.#nowMs, atMs);
      run();
      await settle();
    }
    this.#nowMs = untilMs;
  }

  [Symbol.dispose](): void {
    globalThis.setTimeout = this.#real.setTimeout;
    globalThis.clearTimeout = this.#real.clearTimeout;
    performance.now = this.#real.now;
    Date.now = this.#real.date;
  }

  #due(untilMs: number): [number, Timer] | undefined {
    let first: [number, Timer] | undefined;
    for (const entry of this.#timers) {
      if (entry[1].atMs <= untilMs && (first === undefined || entry[1].atMs < first[1].atMs)) first = entry;
    }
    return first;
  }
}

/** Lets promises go on until nothing but timers is waited for; 200 steps are more than any chain here has. */
async function settle(): Promise<void> {
  for (let step = 0; step < 200; step++) await undefined;
}
