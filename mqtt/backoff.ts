/**
 * How long to wait between two connections. Pure but for the jitter.
 */
import type { EndKind } from "./errors.ts";

/** A connection that lasted so long begins the backoff anew. */
const STEADY_MS = 60_000;

/** Waits between connections: exponential with jitter, longer where only a person can mend the cause. */
export class Backoff {
  readonly #minMs: number;
  readonly #maxMs: number;
  #failures = 0;
  #takeovers = 0;
  /** Connections in a row that were accepted and then lost within a minute. */
  shortLived = 0;

  constructor({ minMs, maxMs }: { minMs: number; maxMs: number }) {
    this.#minMs = minMs;
    this.#maxMs = maxMs;
  }

  next(kind: EndKind, heldMs: number): number {
    if (kind === "refetch" || kind === "renewed") return 0;
    const steady = heldMs >= STEADY_MS;
    this.shortLived = heldMs > 0 && !steady ? this.shortLived + 1 : 0;
    this.#failures = steady ? 1 : this.#failures + 1;
    this.#takeovers = kind === "takeover" ? this.#takeovers + 1 : steady ? 0 : this.#takeovers;
    return this.#ceilingMs(kind) * (0.5 + Math.random() / 2);
  }

  #ceilingMs(kind: EndKind): number {
    // Two instances with one client id throw each other out: each waits twice as long every time, up to 16 × maxMs.
    if (kind === "takeover") return this.#maxMs * 2 ** Math.min(this.#takeovers, 4);
    if (kind === "credentials" || kind === "version") return this.#maxMs;
    return Math.min(this.#maxMs, this.#minMs * 2 ** Math.min(this.#failures - 1, 20));
  }
}
