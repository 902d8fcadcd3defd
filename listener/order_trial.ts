/**
 * A trial of a broker's packet identifiers by three messages of the service's own: the first is acknowledged, the second
 * is open when the connection ends, the third comes after. What they show is packet_order.ts' to say.
 * Owns the order of these steps; knows nothing of how messages are acknowledged.
 */

export interface TrialOptions {
  /** Where the service may publish and subscribe; it is subscribed. */
  readonly topic: string;
  readonly publish: () => Promise<void>;
  readonly reconnect: () => void;
  /** Ends the trial: without an answer nothing is known. */
  readonly signal: AbortSignal;
}

export class OrderTrial {
  readonly topic: string;
  readonly #options: TrialOptions;
  /** What settles each message that came. */
  readonly #received: (() => void)[] = [];
  #wake = () => {};

  constructor(options: TrialOptions) {
    this.#options = options;
    this.topic = options.topic;
  }

  /** A message came on the topic, or came again; it is acknowledged by `settle`. */
  received(settle: () => void): void {
    this.#received.push(settle);
    this.#wake();
  }

  async run(): Promise<void> {
    const { publish, reconnect } = this.#options;
    try {
      await publish();
      (await this.#next())();
      await publish();
      const open = await this.#next();
      reconnect();
      const again = await this.#next().catch((error) => {
        open();
        throw error;
      });
      again();
      await publish();
      (await this.#next())();
    } finally {
      for (const settle of this.#received) settle();
    }
  }

  async #next(): Promise<() => void> {
    const { signal } = this.#options;
    const leave = () => this.#wake();
    signal.addEventListener("abort", leave, { once: true });
    while (this.#received.length === 0) {
      signal.throwIfAborted();
      await new Promise<void>((resolve) => this.#wake = resolve);
    }
    signal.removeEventListener("abort", leave);
    return this.#received.shift()!;
  }
}
