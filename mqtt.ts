/**
 * MqttBroker: the Broker port over MQTT.js, for MQTT 5 and 3.1.1. Owns the connection and its waits, acknowledgements
 * in the order of receipt, subscription identifiers, and publications that outlive a connection. Knows nothing of rows
 * or runs, and must not put a secret into a message. One MqttClient is made for each connection, so that what MQTT.js
 * keeps over reconnects (its stores, its resubscribing) never competes with what is kept here.
 */
import { Buffer } from "node:buffer";
import mqtt from "mqtt";
import type { IClientOptions, IConnackPacket, IPublishPacket, MqttClient, Packet } from "mqtt";
import { onAbort } from "./abort.ts";
import { type Broker, type BrokerEvents, type Delivery, RefusedError, UnavailableError } from "./ports.ts";
import { reasonOf } from "./retry.ts";

export interface MqttOptions {
  /** `mqtt:`, `mqtts:`, `ws:` or `wss:` URL; a user and password in it are used where the options name none. */
  readonly url: string;
  /** Fixed: the broker keeps the session under it. Two instances with one id throw each other out. */
  readonly clientId: string;
  readonly username?: string;
  readonly password?: string;
  /** PEM texts. `ca` replaces the system's authorities; `cert` and `key` are this client's own. */
  readonly tls?: { readonly ca?: string; readonly cert?: string; readonly key?: string };
  /** 5 (default), or 4 for MQTT 3.1.1. */
  readonly protocolVersion?: 5 | 4;
  /** How long the broker keeps the session without us (MQTT 5). Default 7 days. */
  readonly sessionExpirySeconds?: number;
  /**
   * Unacknowledged messages that the broker may send (MQTT 5). Default 1,000, at most maxWaiting. One message that is
   * not done for long holds up all acknowledgements after it, so no more than these come meanwhile. Brokers exceed it.
   */
  readonly receiveMaximum?: number;
  /** Largest packet that the broker may send, in bytes (MQTT 5); it drops larger messages. */
  readonly maximumPacketSize?: number;
  /** Default 30. */
  readonly keepaliveSeconds?: number;
  /** Retained: `online` at each connect, `offline` at close and as the last will. */
  readonly state?: { readonly topic: string; readonly online?: string; readonly offline?: string };
  /** Most deliveries that are not `done`; those beyond are left with the broker. Default 10,000. */
  readonly maxWaiting?: number;
  /** The same in bytes of topic and payload. One message alone may be larger. Default 64 MiB. */
  readonly maxWaitingBytes?: number;
  /** From the start of a connection to CONNACK. Default 10,000. */
  readonly connectTimeoutMs?: number;
  /** Waits between connections: doubled from `minMs` (250) to `maxMs` (30,000), half of it random. */
  readonly backoff?: { readonly minMs: number; readonly maxMs: number };
  /** Ask for the retained message of a filter that is new to the session (MQTT 5). Default false. */
  readonly retained?: boolean;
  /** Leaves out filters covered by others; used where the broker cannot say for which filter a copy is. */
  readonly reduce?: (filters: Iterable<string>) => Iterable<string>;
  /** Hears, in a sentence, of what a person should mend though the connection stands. */
  readonly onTrouble?: (reason: string) => void;
}

const SUBSCRIBES_AT_ONCE = 500;
const FILTERS_PER_PACKET = 200;
const PUBLISHES_AT_ONCE = 1_000;
/** MQTT.js numbers its SUBSCRIBEs up to here, publications are numbered above. */
const HIGHEST_CLIENT_ID = 0x7fff;
/** A connection that lasted so long begins the backoff anew. */
const STEADY_MS = 60_000;
const FAREWELL_MS = 1_500;
const CLOSING_MS = 1_000;
/** How long a few unfinished deliveries hold up fetching what was left with the broker. */
const REFETCH_GRACE_MS = 1_000;

type Settled =
  & Required<Omit<MqttOptions, "username" | "password" | "tls" | "state" | "maximumPacketSize">>
  & MqttOptions;

/** A client of one MQTT broker with one lasting session. Nothing happens before `connect`. */
export class MqttBroker implements Broker {
  readonly url: string;
  readonly #options: Settled;
  readonly #outbox: Outbox;
  readonly #closed = new AbortController();
  #events: BrokerEvents | undefined;
  #link: Link | undefined;
  #loop: Promise<void> | undefined;
  #ready = Promise.withResolvers<Link>();
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
    return this.#link?.state === "ready";
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
      const link = await unlessAborted(this.#ready.promise, signal);
      try {
        const refused = await unlessAborted(this.#sync(link), signal);
        // A later call asks for another set: its outcome is that call's.
        if (this.#wanted !== wanted) return;
        if (refused.size > 0) throw this.#refusal(refused);
        return;
      } catch (error) {
        if (!(error instanceof LinkLost)) throw error;
        await unlessAborted(link.ended, signal);
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

  pause(): void {
    this.#paused = true;
    this.#early = [];
  }

  async close(): Promise<void> {
    if (this.#closing) return await this.#loop;
    this.#closing = true;
    this.pause();
    const { state } = this.#options;
    const link = this.#link;
    if (link?.state === "ready") {
      if (state) {
        const farewell = this.publish(state.topic, state.offline ?? "offline", { retain: true });
        await Promise.race([farewell.catch(() => {}), link.ended, delay(FAREWELL_MS, this.#closed.signal)]);
      }
      link.leave();
      await Promise.race([link.ended, delay(CLOSING_MS, this.#closed.signal)]);
    }
    this.#stop();
    await this.#loop;
  }

  #expectLink(): void {
    this.#ready = Promise.withResolvers<Link>();
    this.#ready.promise.catch(() => {/* Nobody need be waiting. */});
  }

  #stop(): void {
    this.#closing = true;
    const closed = new UnavailableError(`Connection to ${this.url} was closed`);
    this.#closed.abort(closed);
    this.#firstReady.reject(closed);
    this.#ready.reject(closed);
    this.#outbox.fail(closed);
    this.#link?.destroy();
  }

  /** Connects again and again until `close`. */
  async #run(): Promise<void> {
    const backoff = new Backoff(this.#options.backoff);
    while (!this.#closing) {
      const link = this.#link = new Link(this.#options, {
        onConnack: (sessionPresent) => this.#events?.onConnect({ sessionPresent }),
        onReady: () => this.#welcome(link),
        onArrival: (arrival) => this.#arrive(arrival),
        onPuback: (packetId, code) => this.#outbox.acknowledge(packetId, code),
      });
      const end = await link.ended;
      this.#link = undefined;
      this.#outbox.detach(link);
      this.#early = this.#early.filter((arrival) => arrival.link !== link);
      if (link.heldMs > 0) this.#expectLink();
      if (this.#closing) return;
      const waitMs = backoff.next(end.kind, link.heldMs);
      this.#events?.onDisconnect(describeEnd(end, this.#options, backoff.shortLived));
      await delay(waitMs, this.#closed.signal);
    }
  }

  #welcome(link: Link): void {
    const { state, onTrouble } = this.#options;
    this.#outbox.attach(link);
    if (state) {
      const birth = {
        topic: state.topic,
        payload: Buffer.from(state.online ?? "online"),
        qos: 1 as const,
        retain: true,
      };
      this.#outbox.publish({ ...birth, onlyOn: link }).catch((error: unknown) => {
        if (error instanceof RefusedError) onTrouble(error.message);
      });
    }
    this.#ready.resolve(link);
    this.#firstReady.resolve();
    if (!this.#wanted) return;
    this.#sync(link).then((refused) => {
      if (refused.size > 0) onTrouble(this.#refusal(refused).message);
    }, () => {/* The link was lost; the next one does it. */});
  }

  /** Makes the subscriptions of this connection those wanted now; one such work at a time. Resolves to the refused. */
  #sync(link: Link): Promise<Map<string, number>> {
    const turn = link.turn.then(() => this.#subscribeDifference(link));
    link.turn = turn.catch(() => {});
    return turn;
  }

  async #subscribeDifference(link: Link): Promise<Map<string, number>> {
    const identifiers = this.#wanted ?? new Identifiers(new Set());
    const wanted = link.tellsFilters ? identifiers.filters : new Set(this.#options.reduce(identifiers.filters));
    const refused = new Map<string, number>();
    const missing = [...wanted].filter((filter) => link.granted.get(filter) !== identifiers.of(filter));
    // One SUBSCRIBE a filter where it carries the filter's identifier; many are under way at once.
    const size = link.tellsFilters ? 1 : FILTERS_PER_PACKET;
    await inWaves(chunks(missing, size), async (filters) => {
      const identifier = link.tellsFilters ? identifiers.of(filters[0]!) : undefined;
      const codes = await link.subscribe(filters, identifier);
      filters.forEach((filter, index) => {
        const code = codes[index] ?? 0x80;
        if (code >= 0x80) refused.set(filter, code);
        else link.granted.set(filter, identifiers.of(filter)!);
        if (code === 0) this.#options.onTrouble(qosZeroWords(filter));
      });
    });
    // After the new ones, so that a filter which replaces a covered one leaves no gap.
    const gone = [...link.granted.keys()].filter((filter) => !wanted.has(filter));
    await inWaves(chunks(gone, FILTERS_PER_PACKET), async (filters) => {
      await link.unsubscribe(filters);
      for (const filter of filters) link.granted.delete(filter);
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
    if (this.#paused || !arrival.link.admit(arrival)) return;
    if (this.#wanted) this.#handOver(arrival);
    // A resumed session sends at once, before anybody said which filters there are.
    else this.#early.push(arrival);
  }

  #handOver(arrival: Arrival): void {
    const { link, qos, packetId, identifiers, topic, payload, retain, dup, idempotencyKey, bytes } = arrival;
    const filters = identifiers?.flatMap((identifier) => this.#wanted?.filterOf(identifier) ?? []);
    let done = false;
    const delivery: Delivery = {
      topic,
      payload,
      qos,
      retain,
      dup,
      ...(packetId === undefined ? {} : { packetId }),
      // Identifiers that are all unknown: the copy is for a filter that no row has any more, so nobody's.
      ...(filters === undefined ? {} : { filters }),
      ...(idempotencyKey === undefined ? {} : { idempotencyKey }),
      done: () => {
        if (done) return;
        done = true;
        link.release(packetId, bytes);
      },
    };
    this.#events?.onDelivery(delivery);
  }
}

// ---------------------------------------------------------------- one connection

/** A PUBLISH as it came, with what is kept of it. */
interface Arrival {
  readonly link: Link;
  readonly topic: string;
  readonly payload: Uint8Array;
  readonly qos: 0 | 1 | 2;
  readonly retain: boolean;
  readonly dup: boolean;
  readonly packetId: number | undefined;
  /** Subscription identifiers of this copy; undefined: the broker does not tell. */
  readonly identifiers: readonly number[] | undefined;
  readonly idempotencyKey: string | undefined;
  readonly bytes: number;
}

interface LinkEvents {
  onConnack(sessionPresent: boolean): void;
  onReady(): void;
  onArrival(arrival: Arrival): void;
  onPuback(packetId: number, reasonCode: number): void;
}

type EndKind = "refetch" | "lost" | "takeover" | "refused" | "credentials" | "version" | "tls" | "unanswered";

interface End {
  readonly kind: EndKind;
  readonly code?: number | string;
  /** The other side's own words. */
  readonly words?: string;
}

class LinkLost extends Error {}

/** Says to MQTT.js that a PUBLISH was taken over: no PUBACK goes out and the next packet is handled. */
const TAKEN_OVER = new Error("Taken over");

/** One network connection, from the first byte to its end; never used again. */
class Link {
  state: "connecting" | "ready" | "ended" = "connecting";
  /** Filters granted on this connection, with their identifiers. */
  readonly granted = new Map<string, number>();
  /** Subscription work queues here. */
  turn: Promise<unknown> = Promise.resolve();
  readonly ended: Promise<End>;
  sessionPresent = false;
  tellsFilters = false;
  /** Publications that may be unacknowledged at the broker [MQTT-3.3.4-7]. */
  publishWindow = PUBLISHES_AT_ONCE;
  maximumPacketSize = Infinity;

  readonly #options: Settled;
  readonly #client: MqttClient;
  readonly #end = Promise.withResolvers<End>();
  readonly #acks = new AckQueue((packet) => this.write(packet));
  /** PUBLISHes that came with QoS 2. */
  readonly #exactlyOnce = new WeakSet<Packet>();
  #error: (Error & { code?: number | string }) | undefined;
  #disconnectCode: number | undefined;
  #left = false;
  #refetch = false;
  #readyAt = 0;
  #waiting = 0;
  #waitingBytes = 0;
  #overflowed = false;
  #graceTimer: ReturnType<typeof setTimeout> | undefined;

  constructor(options: Settled, events: LinkEvents) {
    this.#options = options;
    this.ended = this.#end.promise;
    const client = this.#client = mqtt.connect(clientOptions(options));
    client.on("packetreceive", (packet) => this.#onPacket(packet, events));
    client.handleMessage = (packet, callback) => {
      callback(TAKEN_OVER);
      events.onArrival(this.#read(packet));
    };
    client.on("connect", () => {
      this.state = "ready";
      this.#readyAt = Date.now();
      events.onReady();
    });
    client.on("error", (error) => {
      this.#error ??= error;
      // MQTT.js reports some errors of a TLS handshake without closing the socket.
      if (this.state === "connecting") this.destroy();
    });
    client.on("close", () => this.#finish());
  }

  /** Packets may be written. */
  get open(): boolean {
    return this.state !== "ended" && !this.#left;
  }

  /** Milliseconds since it was ready, at least 1; 0: it never was. */
  get heldMs(): number {
    return this.#readyAt === 0 ? 0 : Date.now() - this.#readyAt + 1;
  }

  /**
   * The one place that uses MQTT.js' packet writer, a private method: acknowledgements in the order of receipt and
   * publications that keep their packet identifier over connections have no public one. tests/mqtt_test.ts pins it.
   */
  write(packet: Packet): void {
    if (this.open) this.#client["_writePacket"](packet);
  }

  /** SUBACK's reason codes, one a filter. */
  subscribe(filters: readonly string[], subscriptionIdentifier: number | undefined): Promise<number[]> {
    // MQTT.js would keep it for a next connection that this client never has.
    if (!this.open) return Promise.reject(new LinkLost("Connection lost"));
    // QoS 1: what was published with QoS 2 comes with QoS 1 too. `rap` false keeps `retain` for what was stored.
    const options = { qos: 1 as const, nl: false, rap: false, rh: this.#options.retained ? 1 : 2 };
    const properties = subscriptionIdentifier === undefined ? {} : { properties: { subscriptionIdentifier } };
    return new Promise((resolve, reject) => {
      this.#client.subscribe([...filters], { ...options, ...properties }, (error, _subscriptions, packet) => {
        const codes = packet?.granted as number[] | undefined;
        if (codes?.length === filters.length) resolve(codes);
        else if (error?.message.startsWith("Invalid topic")) resolve(filters.map(() => 0x8f));
        else reject(new LinkLost("Connection lost while subscribing", { cause: error }));
      });
    });
  }

  unsubscribe(filters: readonly string[]): Promise<void> {
    if (!this.open) return Promise.reject(new LinkLost("Connection lost"));
    return new Promise((resolve, reject) => {
      this.#client.unsubscribe([...filters], (error) => {
        if (error) reject(new LinkLost("Connection lost while unsubscribing", { cause: error }));
        else resolve();
      });
    });
  }

  /**
   * False: too much waits already, the message stays with the broker. The socket is read on (PINGRESP and PUBACK come
   * through it, and completions must go out for what waits to get on), but no more is held; once the work has drained,
   * a new connection makes the broker send again what was left. All that follows the first one left is left too, since
   * acknowledgements are in order.
   */
  admit(arrival: Arrival): boolean {
    const { maxWaiting, maxWaitingBytes } = this.#options;
    if (this.#overflowed) return false;
    // A broker that repeats itself within a connection (MQTT 3.1.1 allows it) gets its one acknowledgement.
    if (arrival.packetId !== undefined && this.#acks.has(arrival.packetId)) return false;
    const tooMany = this.#waiting >= maxWaiting;
    if (tooMany || (this.#waiting > 0 && this.#waitingBytes + arrival.bytes > maxWaitingBytes)) {
      this.#overflowed = true;
      return false;
    }
    this.#waiting += 1;
    this.#waitingBytes += arrival.bytes;
    if (arrival.packetId !== undefined) this.#acks.add(arrival.packetId, arrival.qos);
    return true;
  }

  /** Dealt with: acknowledge it when all before it are. */
  release(packetId: number | undefined, bytes: number): void {
    if (this.state === "ended") return;
    this.#waiting -= 1;
    this.#waitingBytes -= bytes;
    if (packetId !== undefined) this.#acks.done(packetId);
    if (this.#overflowed) this.#refetchWhenDrained();
  }

  /** Ends the connection as MQTT wants it: the last will is not published, the session stays. */
  leave(): void {
    if (!this.open) return;
    this.write({ cmd: "disconnect", reasonCode: 0 });
    this.#left = true;
    this.#client.stream.end();
    const force = setTimeout(() => this.destroy(), CLOSING_MS);
    this.ended.then(() => clearTimeout(force));
  }

  destroy(): void {
    this.#client.end(true);
    this.#client.stream.destroy();
    // Not every socket that is destroyed while it connects tells that it closed.
    queueMicrotask(() => setTimeout(() => this.#finish(), 100));
  }

  #refetchWhenDrained(): void {
    if (this.#refetch) return;
    const leave = () => {
      clearTimeout(this.#graceTimer);
      if (this.#refetch || this.state === "ended") return;
      this.#refetch = true;
      this.leave();
    };
    // What is done but not acknowledged, since one before it is not done, would come again too: nothing would be won.
    if (this.#waiting === 0) leave();
    else if (this.#acks.size <= this.#options.maxWaiting / 10) {
      this.#graceTimer ??= setTimeout(leave, REFETCH_GRACE_MS);
    }
  }

  /** Sees each packet before MQTT.js handles it. */
  #onPacket(packet: Packet, events: LinkEvents): void {
    if (packet.cmd === "connack") this.#onConnack(packet, events);
    else if (packet.cmd === "puback") events.onPuback(packet.messageId!, packet.reasonCode ?? 0);
    else if (packet.cmd === "disconnect") {
      this.#disconnectCode = packet.reasonCode;
      this.destroy();
    } else if (packet.cmd === "publish" && packet.qos === 2) {
      // We never ask for QoS 2, but a session made by another program may have it. Passed off as QoS 1, so that
      // MQTT.js sends no PUBREC and leaves it to the queue of acknowledgements; it answers the PUBREL by itself.
      this.#exactlyOnce.add(packet);
      packet.qos = 1;
    }
  }

  #onConnack(packet: IConnackPacket, events: LinkEvents): void {
    if ((packet.reasonCode ?? packet.returnCode ?? 0) !== 0) return;
    const { properties } = packet;
    this.sessionPresent = packet.sessionPresent;
    this.tellsFilters = this.#options.protocolVersion === 5 && properties?.subscriptionIdentifiersAvailable !== false;
    this.publishWindow = Math.min(PUBLISHES_AT_ONCE, properties?.receiveMaximum ?? PUBLISHES_AT_ONCE);
    this.maximumPacketSize = properties?.maximumPacketSize ?? Infinity;
    // Here and not at MQTT.js' "connect", for messages of the session may be handled before that event.
    events.onConnack(packet.sessionPresent);
  }

  #read(packet: IPublishPacket): Arrival {
    const { properties } = packet;
    const qos = this.#exactlyOnce.has(packet) ? 2 : packet.qos;
    const identifier = properties?.subscriptionIdentifier as number | number[] | undefined;
    const key = properties?.userProperties?.["idempotency-key"];
    // A copy: the packet's own bytes are a view that would keep the socket's whole buffer alive.
    const payload = typeof packet.payload === "string"
      ? new TextEncoder().encode(packet.payload)
      : new Uint8Array(packet.payload);
    return {
      link: this,
      topic: packet.topic,
      payload,
      qos,
      retain: packet.retain,
      dup: packet.dup,
      packetId: qos === 0 ? undefined : packet.messageId,
      identifiers: identifier === undefined ? undefined : [identifier].flat(),
      idempotencyKey: Array.isArray(key) ? key[0] : key,
      bytes: payload.length + packet.topic.length,
    };
  }

  #finish(): void {
    if (this.state === "ended") return;
    this.state = "ended";
    clearTimeout(this.#graceTimer);
    this.#end.resolve(this.#whyEnded());
  }

  #whyEnded(): End {
    if (this.#refetch) return { kind: "refetch" };
    if (this.#disconnectCode !== undefined && this.#disconnectCode !== 0) {
      const kind = this.#disconnectCode === 0x8e ? "takeover" : "lost";
      return { kind, code: this.#disconnectCode, words: reasonCode(this.#disconnectCode) };
    }
    const error = this.#error;
    if (this.#readyAt > 0) return { kind: "lost", ...(error ? { words: error.message } : {}) };
    if (!error) return { kind: "unanswered" };
    const end = { code: error.code ?? "", words: error.message };
    if (typeof error.code === "number") {
      if ([4, 5, 0x86, 0x87, 0x8c].includes(error.code)) return { kind: "credentials", ...end };
      if ([1, 0x84].includes(error.code)) return { kind: "version", ...end };
      return { kind: "refused", ...end };
    }
    if (/certificate|tls|ssl|alert|handshake|pem/i.test(error.message)) return { kind: "tls", ...end };
    if (error.message === "connack timeout" || error.code === "ECONNRESET") return { kind: "unanswered", ...end };
    return { kind: "refused", ...end };
  }
}

/**
 * PUBACK and PUBREC in the order of receipt [MQTT-4.6.0-2] [MQTT-4.6.0-3], whatever the order of the work.
 * Holds no payload; at most 65,535 entries, for so many packet identifiers there are.
 */
class AckQueue {
  readonly #order = new Queue<Unacknowledged>();
  readonly #byId = new Map<number, Unacknowledged>();
  readonly #write: (packet: Packet) => void;

  constructor(write: (packet: Packet) => void) {
    this.#write = write;
  }

  get size(): number {
    return this.#byId.size;
  }

  has(packetId: number): boolean {
    return this.#byId.has(packetId);
  }

  add(packetId: number, qos: 0 | 1 | 2): void {
    const entry = { packetId, qos, done: false };
    this.#byId.set(packetId, entry);
    this.#order.push(entry);
  }

  done(packetId: number): void {
    const entry = this.#byId.get(packetId);
    if (entry) entry.done = true;
    for (let first = this.#order.first; first?.done; first = this.#order.first) {
      this.#order.shift();
      this.#byId.delete(first.packetId);
      this.#write({ cmd: first.qos === 2 ? "pubrec" : "puback", messageId: first.packetId, reasonCode: 0 });
    }
  }
}

interface Unacknowledged {
  readonly packetId: number;
  readonly qos: 0 | 1 | 2;
  done: boolean;
}

/** First in, first out, without moving what is left at each step. */
class Queue<T> {
  #items: T[] = [];
  #head = 0;

  get first(): T | undefined {
    return this.#items[this.#head];
  }
  push(item: T): void {
    this.#items.push(item);
  }
  shift(): void {
    this.#head += 1;
    if (this.#head < 1_024 || this.#head * 2 < this.#items.length) return;
    this.#items = this.#items.slice(this.#head);
    this.#head = 0;
  }
  remove(item: T): void {
    this.#items = this.#items.slice(this.#head).filter((other) => other !== item);
    this.#head = 0;
  }
  putFirst(items: readonly T[]): void {
    this.#items = [...items, ...this.#items.slice(this.#head)];
    this.#head = 0;
  }
  items(): T[] {
    return this.#items.slice(this.#head);
  }
  clear(): void {
    this.#items = [];
    this.#head = 0;
  }
}

// ---------------------------------------------------------------- publications

interface Publication {
  readonly topic: string;
  readonly payload: Buffer;
  readonly qos: 0 | 1;
  readonly retain: boolean;
  readonly properties?: Record<string, string> | undefined;
  /** Means nothing after this connection. */
  readonly onlyOn?: Link;
}

interface Pending extends Publication {
  /** Its caller waits no longer; the packet identifier stays taken until the broker answers. */
  abandoned: boolean;
  readonly settled: PromiseWithResolvers<void>;
}

/**
 * Publications until the broker acknowledged them. After a reconnect they go out again in their order, with their
 * packet identifiers and DUP [MQTT-4.4.0-1]. MQTT.js' own store would send them one at a time, each waiting for its
 * PUBACK, and hold back the "connect" event meanwhile.
 */
class Outbox {
  readonly #onTrouble: (reason: string) => void;
  readonly #waiting = new Queue<Pending>();
  readonly #sent = new Map<number, Pending>();
  #lastId = HIGHEST_CLIENT_ID;
  #link: Link | undefined;

  constructor(onTrouble: (reason: string) => void) {
    this.#onTrouble = onTrouble;
  }

  publish(publication: Publication, signal?: AbortSignal): Promise<void> {
    if (signal?.aborted) return Promise.reject(signal.reason);
    const pending: Pending = { ...publication, abandoned: false, settled: Promise.withResolvers<void>() };
    const leave = onAbort(signal, () => {
      pending.abandoned = true;
      this.#waiting.remove(pending);
      pending.settled.reject(signal?.reason);
    });
    this.#waiting.push(pending);
    this.#pump();
    return pending.settled.promise.finally(leave);
  }

  attach(link: Link): void {
    this.#link = link;
    for (const [packetId, pending] of this.#sent) if (pending.abandoned) this.#sent.delete(packetId);
    if (link.sessionPresent) {
      for (const [packetId, pending] of this.#sent) this.#write(link, pending, packetId, true);
    } else {
      // A new session knows nothing of the old one's packets: they begin anew, ahead of those that wait.
      this.#waiting.putFirst([...this.#sent.values()]);
      this.#sent.clear();
    }
    this.#pump();
  }

  detach(link: Link): void {
    this.#link = undefined;
    const lost = new UnavailableError("Connection lost");
    for (const pending of [...this.#sent.values(), ...this.#waiting.items()]) {
      if (pending.onlyOn !== link) continue;
      pending.abandoned = true;
      this.#waiting.remove(pending);
      pending.settled.reject(lost);
    }
  }

  acknowledge(packetId: number, code: number): void {
    const pending = this.#sent.get(packetId);
    if (!pending) return; // MQTT.js' own
    this.#sent.delete(packetId);
    if (code >= 0x80) pending.settled.reject(publishRefusal(pending.topic, reasonCode(code)));
    else pending.settled.resolve();
    this.#pump();
  }

  fail(error: Error): void {
    this.#link = undefined;
    for (const pending of [...this.#sent.values(), ...this.#waiting.items()]) pending.settled.reject(error);
    this.#sent.clear();
    this.#waiting.clear();
  }

  #pump(): void {
    const link = this.#link;
    for (let pending = this.#waiting.first; pending && link?.open; pending = this.#waiting.first) {
      if (pending.qos === 1 && this.#sent.size >= link.publishWindow) return;
      this.#waiting.shift();
      const bytes = pending.payload.length + Buffer.byteLength(pending.topic);
      if (bytes > link.maximumPacketSize) {
        const why = `its ${bytes} bytes are more than the broker's Maximum Packet Size ${link.maximumPacketSize}`;
        pending.settled.reject(publishRefusal(pending.topic, why));
      } else if (pending.qos === 0) {
        this.#write(link, pending, undefined, false);
      } else {
        const packetId = this.#nextId();
        this.#sent.set(packetId, pending);
        this.#write(link, pending, packetId, false);
      }
    }
  }

  #write(link: Link, pending: Pending, packetId: number | undefined, dup: boolean): void {
    const { topic, payload, qos, retain, properties } = pending;
    try {
      link.write({
        cmd: "publish",
        topic,
        payload,
        qos,
        retain,
        dup,
        ...(packetId === undefined ? {} : { messageId: packetId }),
        // Left out by the writer where the protocol is MQTT 3.1.1, which has none.
        ...(properties ? { properties: { userProperties: properties } } : {}),
      });
      if (qos === 0) pending.settled.resolve();
    } catch (error) {
      if (packetId !== undefined) this.#sent.delete(packetId);
      this.#onTrouble(`Cannot write a message for "${topic}": ${reasonOf(error)}`);
      pending.settled.reject(error);
    }
  }

  #nextId(): number {
    do this.#lastId = this.#lastId >= 0xffff ? HIGHEST_CLIENT_ID + 1 : this.#lastId + 1; while (
      this.#sent.has(this.#lastId)
    );
    return this.#lastId;
  }
}

function publishRefusal(topic: string, why: string): RefusedError {
  return new RefusedError(`Broker refused the message for "${topic}": ${why}`);
}

/** Packet identifiers of MQTT.js' SUBSCRIBE and UNSUBSCRIBE, apart from those of publications. */
class ClientIds {
  readonly #taken = new Set<number>();
  #last = 0;

  allocate(): number | null {
    if (this.#taken.size >= HIGHEST_CLIENT_ID) return null;
    do this.#last = this.#last >= HIGHEST_CLIENT_ID ? 1 : this.#last + 1; while (this.#taken.has(this.#last));
    this.#taken.add(this.#last);
    return this.#last;
  }
  getLastAllocated(): number | null {
    return this.#last || null;
  }
  register(id: number): boolean {
    if (this.#taken.has(id)) return false;
    this.#taken.add(id);
    return true;
  }
  deallocate(id: number): void {
    this.#taken.delete(id);
  }
  clear(): void {
    this.#taken.clear();
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
  readonly #filters = new Map<number, string>();

  constructor(readonly filters: ReadonlySet<string>) {
    const displaced: string[] = [];
    for (const filter of filters) {
      const identifier = hash28(filter);
      const other = this.#filters.get(identifier);
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
  filterOf(identifier: number): string | undefined {
    return this.#filters.get(identifier);
  }

  #set(filter: string, identifier: number): void {
    this.#identifiers.set(filter, identifier);
    this.#filters.set(identifier, filter);
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
    if (kind === "refetch") return 0;
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

/** Resolves after `ms`, or at once when `signal` aborts. */
function delay(ms: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal.aborted) return resolve();
    const finish = () => {
      clearTimeout(timer);
      leave();
      resolve();
    };
    const timer = setTimeout(finish, ms);
    const leave = onAbort(signal, finish);
  });
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

// ---------------------------------------------------------------- options and words

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

function clientOptions(options: Settled): IClientOptions {
  const url = new URL(options.url);
  const protocol = url.protocol.slice(0, -1) as "mqtt" | "mqtts" | "ws" | "wss";
  const { state, tls, protocolVersion } = options;
  return {
    protocol,
    host: url.hostname.replace(/^\[|\]$/g, ""),
    ...(url.port ? { port: Number(url.port) } : {}),
    ...(protocol.startsWith("ws") ? { path: `${url.pathname}${url.search}` || "/" } : {}),
    // A certificate would make MQTT.js turn mqtt: into mqtts: silently.
    ...(tls && (protocol === "mqtts" || protocol === "wss") ? tls : {}),
    ...(options.username === undefined ? {} : { username: options.username }),
    ...(options.password === undefined ? {} : { password: options.password }),
    clientId: options.clientId,
    protocolVersion,
    clean: false,
    keepalive: options.keepaliveSeconds,
    connectTimeout: options.connectTimeoutMs,
    // Reconnecting and resubscribing are done here, on a client of their own.
    reconnectPeriod: 0,
    resubscribe: false,
    messageIdProvider: new ClientIds(),
    timerVariant: "native",
    ...(state
      ? { will: { topic: state.topic, payload: Buffer.from(state.offline ?? "offline"), qos: 1, retain: true } }
      : {}),
    ...(protocolVersion === 5
      ? {
        properties: {
          sessionExpiryInterval: options.sessionExpirySeconds,
          receiveMaximum: Math.min(options.receiveMaximum, options.maxWaiting),
          ...(options.maximumPacketSize === undefined ? {} : { maximumPacketSize: options.maximumPacketSize }),
        },
      }
      : {}),
  };
}

function qosZeroWords(filter: string): string {
  return `Broker granted only QoS 0 for "${filter}": its messages are lost while this service is away`;
}

/** Why a connection ended and what to do, as a sentence for people; never holds a password. */
function describeEnd(end: End, options: Settled, shortLived: number): string {
  const { url, clientId, username } = options;
  const said = end.words ? `: ${end.words}` : "";
  switch (end.kind) {
    case "refetch":
      return `More messages waited than are held at once (${options.maxWaiting} messages, ` +
        `${options.maxWaitingBytes} bytes): connecting to ${url} again to fetch those left with the broker`;
    case "takeover":
      return `Broker ${url} closed the connection: another client connected with the client id "${clientId}". ` +
        `Stop the other instance, or give one of them another MQTT_CLIENT_ID`;
    case "credentials":
      return `Broker ${url} refused ${username ? `user "${username}"` : "the connection without a user"}${said}. ` +
        `Check MQTT_USERNAME and MQTT_PASSWORD`;
    case "version":
      return `Broker ${url} does not support MQTT ${options.protocolVersion === 5 ? "5" : "3.1.1"}: ` +
        `set MQTT_VERSION=${options.protocolVersion === 5 ? "4" : "5"}`;
    case "tls":
      return `No secure connection to ${url}${said}. ` +
        `Check MQTT_CA_FILE against the broker's certificate, and MQTT_CERT_FILE and MQTT_KEY_FILE if it asks for one`;
    case "unanswered":
      return `Broker ${url} closed the connection before it accepted it or did not answer${said}. ` +
        `${unansweredHint(options)}`;
    case "lost":
      return `Connection to ${url} was lost${said || ": the broker closed it"}${takeoverHint(clientId, shortLived)}`;
    case "refused":
      return refusedWords(end, url);
  }
}

/** mosquitto 2.0 does not tell whom it throws out for a newcomer with the same client id. */
function takeoverHint(clientId: string, shortLived: number): string {
  if (shortLived < 3) return "";
  return `. That happened ${shortLived} times in a row soon after connecting: ` +
    `does another instance use the client id "${clientId}"?`;
}

function unansweredHint({ url, protocolVersion }: Settled): string {
  const version = protocolVersion === 5 ? "If it only speaks MQTT 3.1.1, set MQTT_VERSION=4; " : "";
  const secure = /^(mqtts|wss):/.test(url);
  return version +
    (secure
      ? "check that this port speaks TLS, and MQTT_CERT_FILE and MQTT_KEY_FILE if it asks for a client certificate"
      : "check that this port speaks MQTT without TLS (mqtts:// is the secure one)");
}

function refusedWords({ code, words }: End, url: string): string {
  const cannot = `Cannot connect to broker ${url}`;
  switch (code) {
    case "ECONNREFUSED":
      return `${cannot}: connection refused. Check that the broker runs and that MQTT_URL has its host and port`;
    case "ENOTFOUND":
    case "EAI_AGAIN":
      return `${cannot}: its host name is not known (${words}). Check MQTT_URL`;
    case "ETIMEDOUT":
    case "EHOSTUNREACH":
    case "ENETUNREACH":
      return `${cannot}: the host does not answer (${words}). Check MQTT_URL and the network`;
    default:
      return `${cannot}: ${words ?? "no reason given"}`;
  }
}

/** The reason codes of MQTT 5 (section 2.4) that a person meets; SUBACK's 0x80 of MQTT 3.1.1 is among them. */
const REASON_CODES: Readonly<Record<number, string>> = {
  0x80: "no reason given",
  0x81: "malformed packet",
  0x82: "protocol error",
  0x83: "the broker's own rules",
  0x87: "not authorized",
  0x88: "server unavailable",
  0x89: "server busy",
  0x8b: "server shutting down",
  0x8d: "keep alive timeout",
  0x8e: "session taken over",
  0x8f: "invalid topic filter",
  0x90: "invalid topic name",
  0x93: "receive maximum exceeded",
  0x95: "packet too large",
  0x96: "message rate too high",
  0x97: "quota exceeded",
  0x98: "administrative action",
  0x99: "invalid payload format",
  0x9a: "retained messages not supported",
  0x9b: "QoS not supported",
  0x9e: "shared subscriptions not supported",
  0xa1: "subscription identifiers not supported",
  0xa2: "wildcard subscriptions not supported",
};

function reasonCode(code: number): string {
  return REASON_CODES[code] ?? `reason code 0x${code.toString(16)}`;
}
