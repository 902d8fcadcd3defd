/**
 * What became of the last messages, for whoever published one and saw nothing happen. Owns a ring of them, bounded in
 * number and text. Must not keep payloads, nor cost more than an object a message: what is shown is made when it is asked
 * for.
 */
import type { Emit, ServiceEvent } from "../ports.ts";
import { safeWords } from "../util/errors.ts";
import { oneLine } from "../util/text.ts";

type Told = ServiceEvent & { type: "message" };

/** A message, in words that anybody may see. */
export interface SeenMessage {
  readonly at: Date;
  readonly topic: string;
  readonly outcome: Told["outcome"];
  /** Its runs' names, the first ones. */
  readonly runs: readonly string[];
  /** Why it started no more: refusals, and conditions with the values that decided; sentences, the first ones. */
  readonly why: readonly string[];
}

/** Messages that are kept. */
const MAX_MESSAGES = 1_000;
/** Of one message: so many runs and reasons, */
const MAX_NAMED = 5;
/** so much text of each, in characters. */
const MAX_TEXT = 300;
/** Kept of each: a secret that is halved here lies beyond what is shown. */
const MAX_KEPT = 2 * MAX_TEXT;

export class RecentMessages {
  readonly #most: number;
  readonly #ring: SeenMessage[] = [];
  /** Where the next one goes. */
  #next = 0;

  constructor({ most = MAX_MESSAGES }: { most?: number } = {}) {
    this.#most = most;
  }

  /** Give it what the core tells. */
  readonly emit: Emit = (event) => {
    if (event.type !== "message") return;
    this.#ring[this.#next] = kept(event);
    this.#next = (this.#next + 1) % this.#most;
  };

  /** Newest first; of one outcome where that is given, and at most so many. */
  values({ outcome, limit = Infinity }: { outcome?: SeenMessage["outcome"]; limit?: number } = {}): SeenMessage[] {
    const newestFirst = [...this.#ring.slice(0, this.#next).reverse(), ...this.#ring.slice(this.#next).reverse()];
    const wanted = outcome === undefined ? newestFirst : newestFirst.filter((message) => message.outcome === outcome);
    return wanted.slice(0, limit).map(({ topic, why, ...rest }) => ({
      ...rest,
      topic: oneLine(safeWords(topic, MAX_TEXT)),
      why: why.map((words) => safeWords(words, MAX_TEXT)),
    }));
  }
}

function kept({ topic, outcome, filtered = [], runs = [], refusals = [], retained }: Told): SeenMessage {
  const conditions = filtered.slice(0, MAX_NAMED).map(({ jobName, because }) =>
    `The condition of ${jobName} is false, since ${because}`
  );
  const of = retained ? ["The broker had kept it, and such messages start nothing (HANDLE_RETAINED)"] : [];
  return {
    at: new Date(),
    topic: startOf(topic),
    outcome,
    runs: runs.slice(0, MAX_NAMED),
    why: [...refusals, ...conditions, ...of].slice(0, MAX_NAMED).map(startOf),
  };
}

/** A copy: a part of a text keeps the whole of it in memory. */
function startOf(text: string): string {
  return text.length <= MAX_KEPT ? text : new TextDecoder().decode(new TextEncoder().encode(text.slice(0, MAX_KEPT)));
}
