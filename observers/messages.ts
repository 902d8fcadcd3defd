/**
 * What became of the last messages, for whoever published one and saw nothing happen. Owns a ring of them, bounded in
 * number and text. Must not keep payloads, nor make objects for each message: what is shown is made when it is asked for.
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
/** Of those that no row is for (OBSERVE_TOPICS). */
const MAX_OBSERVED = 200;
/** Of one message: so many runs and reasons, */
const MAX_NAMED = 5;
/** so much text of each, in characters. */
const MAX_TEXT = 300;
/** Kept of each: a secret that is halved here lies beyond what is shown. */
const MAX_KEPT = 2 * MAX_TEXT;

export class RecentMessages {
  readonly #own: Ring;
  /** Those that were only heard of: whoever publishes them must not push the others out. */
  readonly #observed = new Ring(MAX_OBSERVED);

  constructor({ most = MAX_MESSAGES }: { most?: number } = {}) {
    this.#own = new Ring(most);
  }

  /** Give it what the core tells. */
  readonly emit: Emit = (event) => {
    if (event.type === "message") note(event, (event.observed ? this.#observed : this.#own).next());
  };

  /** Newest first; of one outcome where that is given, and at most so many. */
  values({ outcome, limit = Infinity }: { outcome?: SeenMessage["outcome"]; limit?: number } = {}): SeenMessage[] {
    const newestFirst = [...this.#own.values(), ...this.#observed.values()]
      .sort((a, b) => b.atMs - a.atMs);
    const wanted = outcome === undefined ? newestFirst : newestFirst.filter((message) => message.outcome === outcome);
    return wanted.slice(0, limit).map(({ atMs, topic, outcome, runs, why }) => ({
      at: new Date(atMs),
      outcome,
      runs,
      topic: oneLine(safeWords(topic, MAX_TEXT)),
      why: why.map((words) => safeWords(words, MAX_TEXT)),
    }));
  }
}

/**
 * What is kept of a message. Used again for a later one: an object that lives for a thousand messages counts as lasting
 * for V8, and of half a million, 110 MB of such waited for its next long collection.
 */
interface Kept {
  atMs: number;
  topic: string;
  outcome: Told["outcome"];
  runs: readonly string[];
  why: readonly string[];
}

const NONE: readonly string[] = [];

/** The last ones. */
class Ring {
  readonly #most: number;
  readonly #kept: Kept[] = [];
  /** Where the next one goes. */
  #next = 0;

  constructor(most: number) {
    this.#most = most;
  }

  /** The place of the oldest one, for a new one. */
  next(): Kept {
    const place = this.#kept[this.#next] ??= { atMs: 0, topic: "", outcome: "ignored", runs: NONE, why: NONE };
    this.#next = (this.#next + 1) % this.#most;
    return place;
  }

  /** Newest first, until the next one comes. */
  values(): Kept[] {
    return [...this.#kept.slice(0, this.#next).reverse(), ...this.#kept.slice(this.#next).reverse()];
  }
}

function note(message: Told, place: Kept): void {
  const { topic, outcome, filtered, runs, refusals, retained } = message;
  place.atMs = Date.now();
  place.topic = startOf(topic);
  place.outcome = outcome;
  place.runs = runs?.slice(0, MAX_NAMED) ?? NONE;
  place.why = retained || filtered || refusals ? reasons(message) : NONE;
}

function reasons(
  { filtered = [], refusals = [], retained }: Pick<Told, "filtered" | "refusals" | "retained">,
): string[] {
  const conditions = filtered.slice(0, MAX_NAMED).map(({ jobName, because }) =>
    `The condition of ${jobName} is false, since ${because}`
  );
  const of = retained ? ["The broker had kept it, and such messages start nothing (HANDLE_RETAINED)"] : [];
  return [...refusals, ...conditions, ...of].slice(0, MAX_NAMED).map(startOf);
}

/** A copy: a part of a text keeps the whole of it in memory. */
function startOf(text: string): string {
  return text.length <= MAX_KEPT ? text : new TextDecoder().decode(new TextEncoder().encode(text.slice(0, MAX_KEPT)));
}
