/**
 * MqttBroker: the Broker port over MQTT.js, for MQTT 5 and 3.1.1. Owns the session over connections (mqtt/connection.ts), the
 * waits between them and subscription identifiers; hands publications to mqtt/outbox.ts. Knows nothing of rows or runs,
 * and must not put a secret into a message.
 */
import { Buffer } from "node:buffer";
import { onAbort } from "./util/abort.ts";
import { Backoff } from "./mqtt/backoff.ts";
import { type Arrival, CLOSING_MS, Connection, ConnectionLost } from "./mqtt/connection.ts";
import { Copies, type CopyGroup } from "./mqtt/copies.ts";
import { Outbox } from "./mqtt/outbox.ts";
import { describeEnd, reasonCode, refusedFilterWords } from "./mqtt/errors.ts";
import { type MqttOptions, settle, type Settled } from "./mqtt/options.ts";
import { Rivals } from "./mqtt/rivals.ts";
import { Subscriptions } from "./mqtt/subscriptions.ts";
import { errorMessage } from "./util/errors.ts";
import { delayAtMost } from "./util/retry.ts";
import { compact } from "./util/compact.ts";
import type { Broker, BrokerEvents, Delivery, PublishOptions } from "./ports.ts";
import { RefusedError, UnavailableError } from "./ports.ts";

export { observeTopics } from "./mqtt/observer.ts";
export type { MqttOptions } from "./mqtt/options.ts";

const FAREWELL_MS = 1_500;

/** A client of one MQTT broker with one lasting session. Nothing happens before `connect`. */
export class MqttBroker implements Broker {
  readonly url: string;
  #options: Settled;
  readonly #outbox: Outbox;
  readonly #closed = new AbortController();
  #events: BrokerEvents | undefined;
  #connection: Connection | undefined;
  #loop: Promise<void> | undefined;
  #ready = Promise.withResolvers<Connection>();
  #firstReady = Promise.withResolvers<void>();
  readonly #subscriptions: Subscriptions;
  /** False once the broker refused a retained message: then none is sent, nor is the last will one. */
  #retains = true;
  readonly #copies: Copies;
  readonly #rivals: Rivals | undefined;
  /** What was said of this broker's terms, once each. */
  readonly #terms = new Set<string>();
  #early: Arrival[] = [];
  #paused = false;
  #closing = false;

  constructor(options: MqttOptions) {
    this.#options = settle(options);
    this.url = this.#options.url;
    this.#outbox = new Outbox(this.#options.onTrouble);
    this.#subscriptions = new Subscriptions(this.#options);
    this.#copies = new Copies({
      topic: `${this.#options.state?.topic ?? `clients/${this.#options.clientId}`}/trial`,
      publish: (topic, word, onlyOn) =>
        this.#outbox.publish({ topic, payload: Buffer.from(word), qos: 1, retain: false, onlyOn }),
      handOver: (arrival, group) => this.#deliver(arrival, group),
    });
    const { identity, clientId } = this.#options;
    this.#rivals = identity && new Rivals({ identity, clientId, signal: this.#closed.signal });
    this.#expectLink();
    this.#firstReady.promise.catch(() => {/* Nobody need be waiting. */});
  }

  get connected(): boolean {
    return this.#connection?.state === "ready";
  }

  get refused(): ReadonlyMap<string, string> {
    return new Map([...this.#subscriptions.refused].map(([filter, code]) => [filter, reasonCode(code)]));
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
    const wanted = this.#subscriptions.want(filters);
    this.#handOverEarly();
    while (true) {
      const connection = await unlessAborted(this.#ready.promise, signal);
      try {
        await unlessAborted(this.#subscriptions.sync(connection), signal);
        // A later call asks for another set: its outcome is that call's.
        if (this.#subscriptions.wanted !== wanted) return;
        const { refused } = this.#subscriptions;
        // Who is told here need not hear it again by onTrouble.
        this.#subscriptions.news();
        if (refused.size > 0) throw new RefusedError(refusedFilterWords(refused, this.#options));
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
    options: PublishOptions = {},
  ): Promise<void> {
    if (this.#closed.signal.aborted) {
      return Promise.reject(new UnavailableError(`Cannot publish to "${topic}": the connection was closed`));
    }
    const told = options.retain ? this.#rivals?.tells(topic, this.#connection) : undefined;
    const published = this.#outbox.publish({
      topic,
      payload: typeof payload === "string" ? Buffer.from(payload) : asBuffer(payload),
      qos: options.qos ?? 1,
      retain: options.retain ?? false,
      ...compact({
        properties: options.properties,
        contentType: options.contentType,
        correlationData: options.correlationData,
      }),
    }, options.signal);
    return told === undefined ? published : published.then(told);
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
    if (this.#rivals) {
      await this.#renewCredentials();
      await this.#rivals.before(this.#options);
    }
    while (!this.#closing) {
      await this.#renewCredentials();
      if (this.#closing) return;
      const connection = this.#connection = new Connection(this.#options, {
        onTerms: (sentence) => this.#sayTerms(sentence),
        onConnack: (sessionPresent) => this.#events?.onConnect({ sessionPresent }),
        onReady: () => this.#welcome(connection),
        onArrival: (arrival) => this.#arrive(arrival),
        onPuback: (packetId, code) => this.#outbox.acknowledge(packetId, code),
      }, { retains: this.#retains });
      const end = await connection.ended;
      if (end.kind === "no retain") this.#retains = false;
      this.#connection = undefined;
      const large = this.#outbox.detach(connection, end.code);
      this.#early = this.#early.filter((arrival) => arrival.connection !== connection);
      this.#copies.forget(connection);
      if (connection.heldMs > 0) this.#expectLink();
      if (this.#closing) return;
      const waitMs = backoff.next(end.kind, connection.heldMs);
      const words = describeEnd(end, this.#options, { shortLived: backoff.shortLived, large });
      this.#events?.onDisconnect(words, { planned: end.kind === "renewed" });
      const rival = await this.#rivals?.after(connection, end.kind, this.#options);
      // Who connects again would throw the elder one out again.
      if (rival?.mustGo) this.#stop();
      if (rival?.isNews || rival?.mustGo) this.#events?.onRival?.(rival.words, rival);
      if (rival?.mustGo) return;
      await delayAtMost(rival ? Math.min(waitMs, this.#options.backoff.minMs) : waitMs, this.#closed.signal);
    }
  }

  #welcome(connection: Connection): void {
    const { onTrouble } = this.#options;
    this.#ready.resolve(connection);
    this.#firstReady.resolve();
    this.#rivals?.began(connection, () => this.#handOverEarly());
    // Publications behind the SUBSCRIBEs: a broker without TCP_NODELAY holds SUBACK back until the PUBACKs before it are
    // acknowledged by our kernel, which takes its time for that (40 ms on Linux).
    setTimeout(() => this.#connection === connection && this.#greet(connection));
    const sayNews = () => {
      const news = this.#subscriptions.news();
      if (news !== undefined) onTrouble(news);
    };
    void this.#subscriptions.retry(connection, sayNews);
    if (!this.#subscriptions.wanted) return;
    this.#subscriptions.sync(connection).then(sayNews, () => {/* The connection was lost; the next one does it. */});
  }

  #sayTerms(sentence: string): void {
    if (this.#terms.has(sentence)) return;
    this.#terms.add(sentence);
    this.#options.onTrouble(sentence);
  }

  async #renewCredentials(): Promise<void> {
    try {
      this.#options = { ...this.#options, ...await this.#options.renew() };
    } catch (error) {
      this.#options.onTrouble(`The broker's credentials cannot be read again: ${errorMessage(error)}`);
    }
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

  #arrive(arrival: Arrival): void {
    // What is neither handed over nor acknowledged comes again in the next session.
    if (this.#paused || !arrival.connection.admit(arrival)) return;
    if (arrival.tooLarge !== undefined || this.#copies.isTrial(arrival)) arrival.connection.release(arrival);
    else if (this.#subscriptions.wanted && !this.#rivals?.onProbation) this.#handOver(arrival);
    // A resumed session sends at once, before anybody said which filters there are.
    else this.#early.push(arrival);
  }

  #handOver(arrival: Arrival): void {
    if ((arrival.identifiers?.length ?? 0) > 1) this.#copies.take(arrival);
    else this.#deliver(arrival);
  }

  #handOverEarly(): void {
    if (!this.#subscriptions.wanted || this.#rivals?.onProbation) return;
    for (const arrival of this.#early.splice(0)) this.#handOver(arrival);
  }

  #deliver(arrival: Arrival, group?: CopyGroup): void {
    if (this.#paused) return;
    const filters = this.#subscriptions.wanted?.filtersOf(arrival.identifiers);
    this.#events?.onDelivery(new PendingDelivery(arrival, filters, group));
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
  readonly responseTopic?: string;
  readonly correlationData?: Uint8Array;
  readonly traceparent?: string;
  readonly tracestate?: string;
  /** Until it is done. */
  #connection: Connection | undefined;

  readonly #group: CopyGroup | undefined;

  constructor(arrival: Arrival, filters: readonly string[] | undefined, group: CopyGroup | undefined) {
    const { connection, topic, payload, qos, retain, dup, packetId, idempotencyKey } = arrival;
    const { responseTopic, correlationData, traceparent, tracestate } = arrival;
    this.topic = topic;
    this.payload = payload;
    this.qos = qos;
    this.retain = retain;
    this.dup = dup;
    if (packetId !== undefined) this.packetId = packetId;
    if (filters !== undefined) this.filters = filters;
    if (idempotencyKey !== undefined) this.idempotencyKey = idempotencyKey;
    if (responseTopic !== undefined) this.responseTopic = responseTopic;
    if (correlationData !== undefined) this.correlationData = correlationData;
    if (traceparent !== undefined) this.traceparent = traceparent;
    if (tracestate !== undefined) this.tracestate = tracestate;
    this.#connection = connection;
    this.#group = group;
  }

  done(): void {
    this.#connection?.release(this);
    this.#connection = undefined;
    this.#group?.done();
  }
}

function unlessAborted<T>(promise: Promise<T>, signal: AbortSignal | undefined): Promise<T> {
  if (!signal) return promise;
  const aborted = Promise.withResolvers<never>();
  const leave = onAbort(signal, () => aborted.reject(signal.reason));
  return Promise.race([promise, aborted.promise]).finally(leave);
}

function asBuffer(bytes: Uint8Array): Buffer {
  return Buffer.from(bytes.buffer as ArrayBuffer, bytes.byteOffset, bytes.byteLength);
}
