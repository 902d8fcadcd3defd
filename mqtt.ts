/**
 * MqttBroker: the Broker port over MQTT.js, for MQTT 5 and 3.1.1. Owns the session over connections (mqtt/connection.ts), the
 * waits between them and subscription identifiers; hands publications to mqtt/outbox.ts. Knows nothing of rows or runs,
 * and must not put a secret into a message.
 */
import { Buffer } from "node:buffer";
import { onAbort } from "./util/abort.ts";
import {
  type Arrival,
  CLOSING_MS,
  Connection,
  ConnectionLost,
  type MqttOptions,
  type Settled,
} from "./mqtt/connection.ts";
import { Outbox } from "./mqtt/outbox.ts";
import { describeEnd, type EndKind, qosZeroWords, reasonCode } from "./mqtt/errors.ts";
import { delayAtMost } from "./util/retry.ts";
import { type Broker, type BrokerEvents, type Delivery, RefusedError, UnavailableError } from "./ports.ts";

export type { MqttOptions } from "./mqtt/connection.ts";

const SUBSCRIBES_AT_ONCE = 500;
const FILTERS_PER_PACKET = 200;
/** A connection that lasted so long begins the backoff anew. */
const STEADY_MS = 60_000;
const FAREWELL_MS = 1_500;

/** A client of one MQTT broker with one lasting session. Nothing happens before `connect`. */
export class MqttBroker implements Broker {
  readonly url: string;
  readonly #options: Settled;
  readonly #outbox: Outbox;
  readonly #closed = new AbortController();
  #events: BrokerEvents | undefined;
  #connection: Connection | undefined;
  #loop: Promise<void> | undefined;
  #ready = Promise.withResolvers<Connection>();
  #firstReady = Promise.withResolvers<void>();
  /** undefined until `subscribe` was called: then nobody can say yet whose a copy is. */
  #wanted: Identifiers | undefined;
  #early: Arrival[] = [];
  #paused = false;
  #closing = false;

  constructor(options: MqttOptions) {
    const { url, ...found } = readUrl(options.url);
    this.url = url;
    this.#options = {
      protocolVersion: 5,
      sessionExpirySeconds: 7 * 24 * 3600,
      receiveMaximum: 1_000,
      keepaliveSeconds: 30,
      maxWaiting: 10_000,
      maxWaitingBytes: 64 * 1024 * 1024,
      connectTimeoutMs: 10_000,
      backoff: { minMs: 250, maxMs: 30_000 },
      retained: false,
      reduce: (filters) => filters,
      onTrouble: () => {},
      ...found,
      ...options,
      url,
    };
    this.#outbox = new Outbox(this.#options.onTrouble);
    this.#expectLink();
    this.#firstReady.promise.catch(() => {/* Nobody need be waiting. */});
  }

  get connected(): boolean {
    return this.#connection?.state === "ready";
  }

  connect(events: BrokerEvents, signal?: AbortSignal): Promise<void> {
    if (this.#events) throw new TypeError("Cannot connect: connect() was called before");
    this.#events = events;
    const leave = onAbort(signal, () => {
      this.#firstReady.reject(signal?.reason);
      this.#stop();
    });
    this.#loop = this.#run();
    return this.#firstReady.promise.finally(leave);
  }

  async subscribe(filters: ReadonlySet<string>, signal?: AbortSignal): Promise<void> {
    signal?.throwIfAborted();
    const wanted = this.#wanted = new Identifiers(filters);
    const early = this.#early;
    this.#early = [];
    for (const arrival of early) this.#handOver(arrival);
    while (true) {
      const connection = await unlessAborted(this.#ready.promise, signal);
      try {
        const refused = await unlessAborted(this.#sync(connection), signal);
        // A later call asks for another set: its outcome is that call's.
        if (this.#wanted !== wanted) return;
        if (refused.size > 0) throw this.#refusal(refused);
        return;
      } catch (error) {
        if (!(error instanceof ConnectionLost)) throw error;
        await unlessAborted(connection.ended, signal);
      }
    }
  }

  publish(
    topic: string,
    payload: string | Uint8Array,
    options: { qos?: 0 | 1; retain?: boolean; signal?: AbortSignal; properties?: Record<string, string> } = {},
  ): Promise<void> {
    if (this.#closed.signal.aborted) {
      return Promise.reject(new UnavailableError(`Cannot publish to "${topic}": the connection was closed`));
    }
    return this.#outbox.publish({
      topic,
      payload: typeof payload === "string" ? Buffer.from(payload) : asBuffer(payload),
      qos: options.qos ?? 1,
      retain: options.retain ?? false,
      properties: options.properties,
    }, options.signal);
  }

  reconnect(): void {
    if (this.#connection?.state === "ready") this.#connection.renew();
  }

  pause(): void {
    this.#paused = true;
    this.#early = [];
  }

  async close(): Promise<void> {
    if (this.#closing) return await this.#loop;
    this.#closing = true;
    this.pause();
    const { state } = this.#options;
    const connection = this.#connection;
    if (connection?.state === "ready") {
      if (state) {
        const farewell = this.publish(state.topic, state.offline ?? "offline", { retain: true });
        await Promise.race([farewell.catch(() => {}), connection.ended, delayAtMost(FAREWELL_MS, this.#closed.signal)]);
      }
      connection.leave();
      await Promise.race([connection.ended, delayAtMost(CLOSING_MS, this.#closed.signal)]);
    }
    this.#stop();
    await this.#loop;
  }

  #expectLink(): void {
    this.#ready = Promise.withResolvers<Connection>();
    this.#ready.promise.catch(() => {/* Nobody need be waiting. */});
  }

  #stop(): void {
    this.#closing = true;
    const closed = new UnavailableError(`Connection to ${this.url} was closed`);
    this.#closed.abort(closed);
    this.#firstReady.reject(closed);
    this.#ready.reject(closed);
    this.#outbox.fail(closed);
    this.#connection?.destroy();
  }

  /** Connects again and again until `close`. */
  async #run(): Promise<void> {
    const backoff = new Backoff(this.#options.backoff);
    while (!this.#closing) {
      const connection = this.#connection = new Connection(this.#options, {
        onConnack: (sessionPresent) => this.#events?.onConnect({ sessionPresent }),
        onReady: () => this.#welcome(connection),
        onArrival: (arrival) => this.#arrive(arrival),
        onPuback: (packetId, code) => this.#outbox.acknowledge(packetId, code),
      });
      const end = await connection.ended;
      this.#connection = undefined;
      this.#outbox.detach(connection);
      this.#early = this.#early.filter((arrival) => arrival.connection !== connection);
      if (connection.heldMs > 0) this.#expectLink();
      if (this.#closing) return;
      const waitMs = backoff.next(end.kind, connection.heldMs);
      this.#events?.onDisconnect(describeEnd(end, this.#options, backoff.shortLived));
      await delayAtMost(waitMs, this.#closed.signal);
    }
  }

  #welcome(connection: Connection): void {
    const { onTrouble } = this.#options;
    this.#ready.resolve(connection);
    this.#firstReady.resolve();
    // Publications behind the SUBSCRIBEs: a broker without TCP_NODELAY holds SUBACK back until the PUBACKs before it are
    // acknowledged by our kernel, which takes its time for that (40 ms on Linux).
    setTimeout(() => this.#connection === connection && this.#greet(connection));
    if (!this.#wanted) return;
    this.#sync(connection).then((refused) => {
      if (refused.size > 0) onTrouble(this.#refusal(refused).message);
    }, () => {/* The connection was lost; the next one does it. */});
  }

  #greet(connection: Connection): void {
    const { state, onTrouble } = this.#options;
    this.#outbox.attach(connection);
    if (!state) return;
    const payload = Buffer.from(state.online ?? "online");
    this.#outbox.publish({ topic: state.topic, payload, qos: 1, retain: true, onlyOn: connection }).catch(
      (error: unknown) => {
        if (error instanceof RefusedError) onTrouble(error.message);
      },
    );
  }

  /** Makes the subscriptions of this connection those wanted now; one such work at a time. Resolves to the refused. */
  #sync(connection: Connection): Promise<Map<string, number>> {
    const turn = connection.turn.then(() => this.#subscribeDifference(connection));
    connection.turn = turn.catch(() => {});
    return turn;
  }

  async #subscribeDifference(connection: Connection): Promise<Map<string, number>> {
    const identifiers = this.#wanted ?? new Identifiers(new Set());
    const wanted = connection.tellsFilters ? identifiers.filters : new Set(this.#options.reduce(identifiers.filters));
    const refused = new Map<string, number>();
    const missing = [...wanted].filter((filter) => connection.granted.get(filter) !== identifiers.of(filter));
    // One SUBSCRIBE a filter where it carries the filter's identifier; many are under way at once.
    const size = connection.tellsFilters ? 1 : FILTERS_PER_PACKET;
    await inWaves(chunks(missing, size), async (filters) => {
      const identifier = connection.tellsFilters ? identifiers.of(filters[0]!) : undefined;
      const codes = await connection.subscribe(filters, identifier);
      filters.forEach((filter, index) => {
        const code = codes[index] ?? 0x80;
        if (code >= 0x80) refused.set(filter, code);
        else connection.granted.set(filter, identifiers.of(filter)!);
        if (code === 0) this.#options.onTrouble(qosZeroWords(filter));
      });
    });
    // After the new ones, so that a filter which replaces a covered one leaves no gap.
    const gone = [...connection.granted.keys()].filter((filter) => !wanted.has(filter));
    await inWaves(chunks(gone, FILTERS_PER_PACKET), async (filters) => {
      await connection.unsubscribe(filters);
      for (const filter of filters) connection.granted.delete(filter);
    });
    return refused;
  }

  #refusal(refused: ReadonlyMap<string, number>): RefusedError {
    const { clientId, username } = this.#options;
    const who = username ? `user "${username}"` : `client id "${clientId}"`;
    const list = [...refused].slice(0, 10).map(([filter, code]) => `"${filter}" (${reasonCode(code)})`).join(", ");
    const more = refused.size > 10 ? ` and ${refused.size - 10} more` : "";
    return new RefusedError(
      `Broker refused the subscription to ${list}${more}: ask its administrator to allow ${who} to read there`,
    );
  }

  #arrive(arrival: Arrival): void {
    // What is neither handed over nor acknowledged comes again in the next session.
    if (this.#paused || !arrival.connection.admit(arrival)) return;
    if (this.#wanted) this.#handOver(arrival);
    // A resumed session sends at once, before anybody said which filters there are.
    else this.#early.push(arrival);
  }

  #handOver(arrival: Arrival): void {
    this.#events?.onDelivery(new PendingDelivery(arrival, this.#wanted?.filtersOf(arrival.identifiers)));
  }
}

/** A message that is with the core until it is done. Thousands may be: one small object each. */
class PendingDelivery implements Delivery {
  readonly topic: string;
  readonly payload: Uint8Array;
  readonly qos: 0 | 1 | 2;
  readonly retain: boolean;
  readonly dup: boolean;
  readonly packetId?: number;
  readonly filters?: readonly string[];
  readonly idempotencyKey?: string;
  /** Until it is done. */
  #connection: Connection | undefined;

  constructor(arrival: Arrival, filters: readonly string[] | undefined) {
    const { connection, topic, payload, qos, retain, dup, packetId, idempotencyKey } = arrival;
    this.topic = topic;
    this.payload = payload;
    this.qos = qos;
    this.retain = retain;
    this.dup = dup;
    if (packetId !== undefined) this.packetId = packetId;
    if (filters !== undefined) this.filters = filters;
    if (idempotencyKey !== undefined) this.idempotencyKey = idempotencyKey;
    this.#connection = connection;
  }

  done(): void {
    this.#connection?.release(this);
    this.#connection = undefined;
  }
}

// ---------------------------------------------------------------- subscription identifiers

/**
 * A set of filters, each with its Subscription Identifier (1 to 268,435,455). The identifier is a hash of the filter,
 * not a counter: messages that a broker queued for an earlier process of ours must still map to their filter. Filters
 * whose hashes collide take the next free numbers in the order of their names, so that a set always maps the same way.
 */
export class Identifiers {
  readonly #identifiers = new Map<string, number>();
  /** Lists of one each, that the copies of a filter may share theirs. */
  readonly #filters = new Map<number, readonly [string]>();

  constructor(readonly filters: ReadonlySet<string>) {
    const displaced: string[] = [];
    for (const filter of filters) {
      const identifier = hash28(filter);
      const [other] = this.#filters.get(identifier) ?? [];
      if (other === undefined || filter < other) this.#set(filter, identifier);
      if (other !== undefined) displaced.push(filter < other ? other : filter);
    }
    for (const filter of displaced.sort()) {
      let identifier = hash28(filter);
      while (this.#filters.has(identifier)) identifier = identifier >= HIGHEST_IDENTIFIER ? 1 : identifier + 1;
      this.#set(filter, identifier);
    }
  }

  of(filter: string): number | undefined {
    return this.#identifiers.get(filter);
  }
  /**
   * The filters that a copy is for. None: these identifiers are of no filter any more, so the copy is nobody's;
   * undefined: the broker does not tell.
   */
  filtersOf(identifiers: readonly number[] | undefined): readonly string[] | undefined {
    if (identifiers?.length === 1) return this.#filters.get(identifiers[0]!) ?? [];
    return identifiers?.flatMap((identifier) => this.#filters.get(identifier) ?? []);
  }

  #set(filter: string, identifier: number): void {
    this.#identifiers.set(filter, identifier);
    this.#filters.set(identifier, [filter]);
  }
}

const HIGHEST_IDENTIFIER = 0x0fffffff;

/** FNV-1a (http://www.isthe.com/chongo/tech/comp/fnv/) over UTF-16 units, xor-folded to 28 bits, never 0. */
function hash28(text: string): number {
  let hash = 0x811c9dc5;
  for (let index = 0; index < text.length; index++) {
    hash = Math.imul(hash ^ text.charCodeAt(index), 0x01000193) >>> 0;
  }
  return ((hash >>> 28) ^ (hash & HIGHEST_IDENTIFIER)) || 1;
}

// ---------------------------------------------------------------- waits

/** Waits between connections: exponential with jitter, longer where only a person can mend the cause. */
class Backoff {
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

function unlessAborted<T>(promise: Promise<T>, signal: AbortSignal | undefined): Promise<T> {
  if (!signal) return promise;
  const aborted = Promise.withResolvers<never>();
  const leave = onAbort(signal, () => aborted.reject(signal.reason));
  return Promise.race([promise, aborted.promise]).finally(leave);
}

/** Runs `work` on each item, SUBSCRIBES_AT_ONCE at a time; rejects with the first failure once a wave is over. */
async function inWaves<T>(items: readonly T[], work: (item: T) => Promise<void>): Promise<void> {
  for (const wave of chunks(items, SUBSCRIBES_AT_ONCE)) await Promise.all(wave.map(work));
}

function chunks<T>(items: readonly T[], size: number): T[][] {
  const result: T[][] = [];
  for (let start = 0; start < items.length; start += size) result.push(items.slice(start, start + size));
  return result;
}

// ---------------------------------------------------------------- the URL, bytes

function asBuffer(bytes: Uint8Array): Buffer {
  return Buffer.from(bytes.buffer as ArrayBuffer, bytes.byteOffset, bytes.byteLength);
}

/** The URL without its credentials, and these. */
function readUrl(text: string): { url: string; username?: string; password?: string } {
  const url = URL.parse(text);
  if (!url || !/^(mqtts?|wss?):$/.test(url.protocol) || url.hostname === "") {
    const safe = text.replace(/^([a-z]+:\/\/)?.*@/i, "$1…@");
    throw new TypeError(`Invalid broker URL "${safe}": expected mqtt://, mqtts://, ws:// or wss:// and a host`);
  }
  const { username, password } = url;
  url.username = url.password = "";
  return {
    url: url.href.replace(/\/$/, ""),
    ...(username ? { username: decodeURIComponent(username) } : {}),
    ...(password ? { password: decodeURIComponent(password) } : {}),
  };
}
