/**
 * Copies of one message that each name all of its overlapping subscriptions, as ActiveMQ Artemis sends them: k copies with
 * k identifiers each. MQTT knows one copy that names all, or k that name one each [MQTT-3.3.4-3] [MQTT-3.3.4-4]. A copy
 * does not show which way its broker has, so that is tried out once, by a message of our own on two subscriptions. Owns
 * that, and which copies are one message. Must not leave a message out in doubt: twice is better than never.
 */
import { createHash } from "node:crypto";
import { delayAtMost } from "../util/retry.ts";
import type { Arrival, Connection } from "./connection.ts";
import { HIGHEST_IDENTIFIER } from "./identifiers.ts";

/** How long a second copy is waited for. It holds messages of overlapping subscriptions back, once a process. */
const TRIAL_MS = 3_000;
/** Messages of which not all copies have come; beyond these the oldest is forgotten, and may then run twice. */
const MOST_OPEN = 10_000;

/** The copies of one message; acknowledged together. */
export class CopyGroup {
  #left: number;
  #done = false;
  readonly #others: Arrival[] = [];

  constructor(copies: number) {
    this.#left = copies;
  }

  /** Counts a copy; false: it was the last one. */
  count(): boolean {
    return --this.#left > 0;
  }

  add(arrival: Arrival): void {
    if (this.#done) arrival.connection.release(arrival);
    else this.#others.push(arrival);
  }

  done(): void {
    this.#done = true;
    for (const arrival of this.#others.splice(0)) arrival.connection.release(arrival);
  }
}

interface CopiesOptions {
  /** Below it lie the topics of the trial. */
  readonly topic: string;
  publish(topic: string, payload: string, connection: Connection): Promise<void>;
  /** `group`: of which this copy is the first. */
  handOver(arrival: Arrival, group?: CopyGroup): void;
}

export class Copies {
  readonly #options: CopiesOptions;
  /** `each`: a broker of Artemis' way. */
  #way: "unknown" | "one" | "each" = "unknown";
  readonly #open = new Map<string, CopyGroup>();
  #held: Arrival[] = [];
  #trial: { readonly word: string; copies: number; readonly over: AbortController } | undefined;

  constructor(options: CopiesOptions) {
    this.#options = options;
  }

  /** Takes a copy that names several subscriptions; hands it over unless it is another copy of a message. */
  take(arrival: Arrival): void {
    if (this.#way === "one") return this.#options.handOver(arrival);
    if (this.#way === "unknown") {
      this.#held.push(arrival);
      void this.#try(arrival.connection);
      return;
    }
    const copies = arrival.identifiers!.length;
    const key = keyOf(arrival);
    const known = this.#open.get(key);
    const group = known ?? new CopyGroup(copies);
    if (!group.count()) this.#open.delete(key);
    else if (!known) {
      this.#open.set(key, group);
      if (this.#open.size > MOST_OPEN) this.#open.delete(this.#open.keys().next().value!);
    }
    if (known) known.add(arrival);
    else this.#options.handOver(arrival, group);
  }

  /** Whether this is a message of a trial; then it is nobody else's. */
  isTrial({ topic, payload, identifiers = [] }: Arrival): boolean {
    if (!topic.startsWith(`${this.#options.topic}/`)) return false;
    const trial = this.#trial;
    if (trial && identifiers.length > 1 && new TextDecoder().decode(payload) === trial.word && ++trial.copies === 2) {
      trial.over.abort();
    }
    return true;
  }

  /** The connection is lost: what it brought comes again. */
  forget(connection: Connection): void {
    this.#held = this.#held.filter((arrival) => arrival.connection !== connection);
    // Their first copies may be nobody's any more: none of a next connection may wait for them.
    this.#open.clear();
  }

  async #try(connection: Connection): Promise<void> {
    if (this.#trial) return;
    const { topic, publish } = this.#options;
    const trial = this.#trial = { word: crypto.randomUUID(), copies: 0, over: new AbortController() };
    const filters = [`${topic}/copies`, `${topic}/+`];
    try {
      const codes = await Promise.all(
        filters.map((filter, index) => connection.subscribe([filter], HIGHEST_IDENTIFIER - index)),
      );
      if (codes.flat().every((code) => code < 0x80)) {
        await publish(filters[0]!, trial.word, connection);
        const lost = connection.ended.then(() => trial.over.abort());
        await Promise.race([delayAtMost(TRIAL_MS, trial.over.signal), lost]);
      }
      if (!connection.open) return;
      this.#way = trial.copies > 1 ? "each" : "one";
      await connection.unsubscribe(filters);
    } catch {
      // The connection was lost, or we may not publish there: what nobody can tell counts as MQTT has it.
      if (connection.open) this.#way = "one";
    } finally {
      this.#trial = undefined;
      this.#decide();
    }
  }

  #decide(): void {
    if (this.#way === "unknown") return;
    for (const arrival of this.#held.splice(0)) this.take(arrival);
  }
}

function keyOf({ topic, payload, identifiers }: Arrival): string {
  return createHash("sha256").update(`${identifiers}\0${topic}\0`).update(payload).digest("base64");
}
