/**
 * The filters that are wanted, and what the broker makes of them on each connection: asks by difference, in the size that
 * brokers take, tries refused ones again. Owns which filters have no subscription. Knows nothing of rows.
 */
import { delay, delayAtMost } from "../util/retry.ts";
import { type Connection, ConnectionLost } from "./connection.ts";
import { qosZeroWords, refusedFilterWords } from "./errors.ts";
import { Identifiers } from "./identifiers.ts";
import type { Settled } from "./options.ts";

const PACKETS_AT_ONCE = 500;
/** AWS IoT Core takes eight and closes the connection at the ninth. */
const FILTERS_PER_PACKET = 8;
/** Packet identifier in use: no matter of the filter. mochi says so of its own identifiers while messages are in flight. */
const IDENTIFIER_IN_USE = 0x91;
const TRIES_OF_IDENTIFIERS = 8;
/** Between two attempts at refused filters: doubled from the first to the last. A right may be given, a quota end. */
const FIRST_RETRY_MS = 1_000;
const LAST_RETRY_MS = 10 * 60_000;

export class Subscriptions {
  readonly #options: Settled;
  /** undefined until somebody said which: then nobody can say yet whose a copy is. */
  #wanted: Identifiers | undefined;
  #refused: ReadonlyMap<string, number> = new Map();
  /** Of the refused ones that somebody was told of. */
  #told = "";

  constructor(options: Settled) {
    this.#options = options;
  }

  get wanted(): Identifiers | undefined {
    return this.#wanted;
  }

  /** Filters that have no subscription though they are wanted, with the broker's reason code. */
  get refused(): ReadonlyMap<string, number> {
    return this.#refused;
  }

  want(filters: ReadonlySet<string>): Identifiers {
    return this.#wanted = new Identifiers(filters);
  }

  /** What the refused ones are, in a sentence; undefined: none, or nothing new since the last call. */
  news(): string | undefined {
    const key = [...this.#refused].map(String).sort().join("\n");
    if (key === this.#told) return undefined;
    this.#told = key;
    return key === "" ? undefined : refusedFilterWords(this.#refused, this.#options);
  }

  /** Makes the subscriptions of this connection those wanted now; one such work at a time. */
  sync(connection: Connection): Promise<void> {
    const turn = connection.turn.then(() => this.#subscribeDifference(connection));
    connection.turn = turn.catch(() => {});
    return turn;
  }

  /** Tries the refused ones again and again while this connection lasts; `onChange` hears when others are refused. */
  async retry(connection: Connection, onChange: () => void): Promise<void> {
    for (let waitMs = FIRST_RETRY_MS; connection.open; waitMs = Math.min(waitMs * 2, LAST_RETRY_MS)) {
      await delayAtMost(waitMs, connection.over);
      if (!connection.open) return;
      if (this.#refused.size === 0) continue;
      await this.sync(connection).then(onChange, () => {/* The connection was lost; the next one does it. */});
    }
  }

  async #subscribeDifference(connection: Connection): Promise<void> {
    const identifiers = this.#wanted ?? new Identifiers(new Set());
    const refused = new Map<string, number>();
    let wanted: ReadonlySet<string>;
    for (;;) {
      const left = [...identifiers.filters].filter((filter) => !refused.has(filter));
      // Where a filter that covers others is refused, the others are asked for themselves.
      wanted = new Set(connection.tellsFilters ? left : this.#options.reduce(left));
      const missing = [...wanted].filter((filter) => connection.granted.get(filter) !== identifiers.of(filter));
      const before = refused.size;
      await this.#ask(connection, identifiers, missing, refused);
      if (refused.size === before) break;
    }
    // After the new ones, so that a filter which replaces a covered one leaves no gap.
    const gone = [...connection.granted.keys()].filter((filter) => !wanted.has(filter));
    await inWaves(chunks(gone, FILTERS_PER_PACKET), async (filters) => {
      await connection.unsubscribe(filters);
      for (const filter of filters) connection.granted.delete(filter);
    });
    if (this.#wanted === undefined || this.#wanted === identifiers) this.#refused = refused;
  }

  async #ask(
    connection: Connection,
    identifiers: Identifiers,
    missing: readonly string[],
    refused: Map<string, number>,
  ): Promise<void> {
    // One SUBSCRIBE a filter where it carries the filter's identifier; many are under way at once.
    const size = connection.tellsFilters ? 1 : FILTERS_PER_PACKET;
    const alone: string[] = [];
    const take = async (filters: readonly string[]) => {
      const codes = await this.#codes(connection, filters, identifiers);
      filters.forEach((filter, index) => {
        const code = codes[index] ?? 0x80;
        // NATS refuses all that follow one that it does not like: each is asked for by itself before it counts as refused.
        if (code >= 0x80 && filters.length > 1) alone.push(filter);
        else if (code >= 0x80) refused.set(filter, code);
        else connection.granted.set(filter, identifiers.of(filter)!);
        if (code === 0) this.#options.onTrouble(qosZeroWords(filter));
      });
    };
    await inWaves(chunks(missing, size), take);
    await inWaves(chunks(alone, 1), take);
  }

  async #codes(connection: Connection, filters: readonly string[], identifiers: Identifiers): Promise<number[]> {
    const identifier = connection.tellsFilters ? identifiers.of(filters[0]!) : undefined;
    for (let attempt = 1;; attempt++) {
      const codes = await connection.subscribe(filters, identifier);
      if (attempt === TRIES_OF_IDENTIFIERS || !codes.includes(IDENTIFIER_IN_USE)) return codes;
      await delay(10 * 2 ** attempt, connection.over).catch(() => {
        throw new ConnectionLost("Connection lost");
      });
    }
  }
}

/** Runs `work` on each item, PACKETS_AT_ONCE at a time; rejects with the first failure once a wave is over. */
async function inWaves<T>(items: readonly T[], work: (item: T) => Promise<void>): Promise<void> {
  for (const wave of chunks(items, PACKETS_AT_ONCE)) await Promise.all(wave.map(work));
}

function chunks<T>(items: readonly T[], size: number): T[][] {
  const result: T[][] = [];
  for (let start = 0; start < items.length; start += size) result.push(items.slice(start, start + size));
  return result;
}
