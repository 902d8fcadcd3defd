/**
 * A trial of a broker's packet identifiers by three messages of the service's own: the first is acknowledged before the
 * second is sent, the second is open when the connection ends, the third comes after. What they show is packet_order.ts' to say.
 * Owns the order of these steps; knows nothing of how messages are acknowledged.
 */
import { onAbort } from "../util/abort.ts";

export interface TrialOptions {
  /** Where the service may publish and subscribe; it is subscribed. */
  readonly topic: string;
  readonly publish: () => Promise<void>;
  readonly reconnect: () => void;
  /** Ends the trial: without an answer nothing is known. */
  readonly signal: AbortSignal;
}

/** Settles a message; `onAcknowledged` is called when its acknowledgement has left. */
export type Settle = (onAcknowledged?: () => void) => void;

export class OrderTrial {
  readonly topic: string;
  readonly #options: TrialOptions;
  /** What settles each message that came. */
  readonly #received: Settle[] = [];
  #wake = () => {};

  constructor(options: TrialOptions) {
    this.#options = options;
    this.topic = options.topic;
  }

  /** A message came on the topic, or came again; it is acknowledged by `settle`. */
  received(settle: Settle): void {
    this.#received.push(settle);
    this.#wake();
  }

  async run(): Promise<void> {
    const { publish, reconnect } = this.#options;
    try {
      await publish();
      const first = await this.#next();
      let isAcknowledged = false;
      first(() => {
        isAcknowledged = true;
        this.#wake();
      });
      // The record of the session may have to be written first; were two open, nothing would be proved.
      await this.#until(() => isAcknowledged);
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

  async #next(): Promise<Settle> {
    await this.#until(() => this.#received.length > 0);
    return this.#received.shift()!;
  }

  async #until(isSo: () => boolean): Promise<void> {
    const { signal } = this.#options;
    const leave = onAbort(signal, () => this.#wake());
    while (!isSo()) {
      signal.throwIfAborted();
      await new Promise<void>((resolve) => this.#wake = resolve);
    }
    leave();
  }
}
