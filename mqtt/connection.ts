/**
 * One network connection to a broker over MQTT.js, from its first byte to its end; never used again, so that what
 * MQTT.js keeps over reconnects never competes with what mqtt.ts keeps. Owns acknowledgements in the order of receipt
 * and the bound on deliveries that wait. Knows nothing of filters' meaning or of publications.
 */
import type { Socket } from "node:net";
import mqtt from "mqtt";
import type { IConnackPacket, IPublishPacket, MqttClient, Packet } from "mqtt";
import { AckQueue } from "./acknowledgements.ts";
import { type End, noRetainWords, reasonCode, sayings, sessionCutWords, tooLargeWords } from "./errors.ts";
import { clientOptions, type Settled } from "./options.ts";
import { PacketLimit } from "./packet_limit.ts";
import { Slab } from "./slab.ts";
import { type TraceContext, traceContextIn } from "../run_spec.ts";
import { topicFault } from "../topics.ts";

/** Publications that may be unacknowledged, where the broker allows as many. */
const PUBLISHES_AT_ONCE = 1_000;
/** Reason code "Retain not supported". */
const NO_RETAIN = 0x9a;
/** Characters of an idempotency key. */
const LONGEST_KEY = 1_024;
/** Bytes of correlation data that are given back. */
const LONGEST_CORRELATION = 1_024;
/** How long a connection is given to end in order. */
export const CLOSING_MS = 1_000;
/** How long a few unfinished deliveries hold up fetching what was left with the broker. */
const REFETCH_GRACE_MS = 1_000;

/** A PUBLISH as it came, with what is kept of it. */
export interface Arrival {
  readonly connection: Connection;
  readonly topic: string;
  readonly payload: Uint8Array;
  readonly qos: 0 | 1 | 2;
  readonly retain: boolean;
  readonly dup: boolean;
  readonly packetId: number | undefined;
  /** Subscription identifiers of this copy; undefined: the broker does not tell. */
  readonly identifiers: readonly number[] | undefined;
  readonly idempotencyKey: string | undefined;
  readonly responseTopic: string | undefined;
  readonly correlationData: Uint8Array | undefined;
  readonly traceparent: string | undefined;
  readonly tracestate: string | undefined;
  /** Its payload was thrown away: the bytes of the packet. */
  readonly tooLarge: number | undefined;
}

interface ConnectionEvents {
  onConnack(sessionPresent: boolean): void;
  /** A sentence about what this broker does not give. */
  onTerms(sentence: string): void;
  onReady(): void;
  onArrival(arrival: Arrival): void;
  onPuback(packetId: number, reasonCode: number): void;
}

/** The connection was lost while something was asked of the broker. */
export class ConnectionLost extends Error {}

/** Says to MQTT.js that a PUBLISH was taken over: no PUBACK goes out and the next packet is handled. */
const TAKEN_OVER = new Error("Taken over");

/** One network connection, from the first byte to its end; never used again. */
export class Connection {
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
  /** Whether the broker keeps retained messages. */
  retains: boolean;

  readonly #options: Settled;
  readonly #client: MqttClient;
  readonly #end = Promise.withResolvers<End>();
  readonly #acks = new AckQueue((packet) => this.write(packet));
  readonly #slab = new Slab();
  /** PUBLISHes that came with QoS 2. */
  readonly #exactlyOnce = new WeakSet<Packet>();
  #error: (Error & { code?: number | string }) | undefined;
  readonly #over = new AbortController();
  /** Sizes of messages whose payload was thrown away, by packet identifier. */
  readonly #tooLarge = new Map<number, number>();
  #disconnectCode: number | undefined;
  /** The broker's own words in CONNACK or DISCONNECT. */
  #said = "";
  #left = false;
  #refetch = false;
  #renewed = false;
  #readyAt = 0;
  #waiting = 0;
  #waitingBytes = 0;
  #overflowed = false;
  #graceTimer: ReturnType<typeof setTimeout> | undefined;

  constructor(options: Settled, events: ConnectionEvents, { retains }: { retains: boolean }) {
    this.#options = options;
    this.retains = retains;
    this.ended = this.#end.promise;
    const client = this.#client = mqtt.connect(clientOptions(options, { retains }));
    PacketLimit.putOn(client, () =>
      new PacketLimit(options.maximumPacketSize, options.protocolVersion, (packet) => {
        if (packet.packetId !== undefined) this.#tooLarge.set(packet.packetId, packet.bytes);
        options.onTrouble(tooLargeWords(packet, options.maximumPacketSize));
      }));
    client.on("packetreceive", (packet) => this.#onPacket(packet, events));
    client.handleMessage = (packet, callback) => {
      // Handed on before MQTT.js is told: at the end of a chunk it handles the next one's packets within this call, and
      // they would come, and be acknowledged, before this one.
      try {
        events.onArrival(this.#read(packet));
      } finally {
        callback(TAKEN_OVER);
      }
    };
    client.on("connect", () => {
      // A PUBACK has no answer, and what follows it would wait until the broker's kernel acknowledges it: 40 ms on Linux.
      (client.stream as Partial<Socket>).setNoDelay?.(true);
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
    client.connect();
  }

  /** User properties and the like can be sent. */
  get hasProperties(): boolean {
    return this.#options.protocolVersion === 5;
  }

  /** Packets may be written. */
  get open(): boolean {
    return this.state !== "ended" && !this.#left;
  }

  /** Aborts when it has ended. */
  get over(): AbortSignal {
    return this.#over.signal;
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
    if (!this.open) return Promise.reject(new ConnectionLost("Connection lost"));
    // QoS 1: what was published with QoS 2 comes with QoS 1 too. `rap` false keeps `retain` for what was stored.
    const options = { qos: 1 as const, nl: false, rap: false, rh: this.#options.retained ? 1 : 2 };
    const properties = subscriptionIdentifier === undefined ? {} : { properties: { subscriptionIdentifier } };
    return new Promise((resolve, reject) => {
      this.#client.subscribe([...filters], { ...options, ...properties }, (error, _subscriptions, packet) => {
        const codes = packet?.granted as number[] | undefined;
        if (codes?.length === filters.length) resolve(codes);
        else if (error?.message.startsWith("Invalid topic")) resolve(filters.map(() => 0x8f));
        else reject(new ConnectionLost("Connection lost while subscribing", { cause: error }));
      });
    });
  }

  unsubscribe(filters: readonly string[]): Promise<void> {
    if (!this.open) return Promise.reject(new ConnectionLost("Connection lost"));
    return new Promise((resolve, reject) => {
      this.#client.unsubscribe([...filters], (error) => {
        if (error) reject(new ConnectionLost("Connection lost while unsubscribing", { cause: error }));
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
    const bytes = heldBytes(arrival.topic, arrival.payload);
    if (tooMany || (this.#waiting > 0 && this.#waitingBytes + bytes > maxWaitingBytes)) {
      this.#overflowed = true;
      return false;
    }
    this.#waiting += 1;
    this.#waitingBytes += bytes;
    if (arrival.packetId !== undefined) this.#acks.add(arrival.packetId, arrival.qos);
    return true;
  }

  /** Dealt with: acknowledge it when all before it are. */
  release(
    { topic, payload, packetId }: Pick<Arrival, "topic" | "payload"> & { readonly packetId?: number | undefined },
  ): void {
    if (this.state === "ended") return;
    this.#waiting -= 1;
    this.#waitingBytes -= heldBytes(topic, payload);
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

  /** Leaves, for a new connection at once. */
  renew(): void {
    this.#renewed = true;
    this.leave();
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
  #onPacket(packet: Packet, events: ConnectionEvents): void {
    if (packet.cmd === "connack") this.#onConnack(packet, events);
    else if (packet.cmd === "puback") events.onPuback(packet.messageId!, packet.reasonCode ?? 0);
    else if (packet.cmd === "disconnect") {
      this.#disconnectCode = packet.reasonCode;
      this.#said = sayings(packet.properties);
      this.destroy();
    } else if (packet.cmd === "publish" && packet.qos === 2) {
      // We never ask for QoS 2, but a session made by another program may have it. Passed off as QoS 1, so that
      // MQTT.js sends no PUBREC and leaves it to the queue of acknowledgements; it answers the PUBREL by itself.
      this.#exactlyOnce.add(packet);
      packet.qos = 1;
    }
  }

  #onConnack(packet: IConnackPacket, events: ConnectionEvents): void {
    const { properties } = packet;
    this.#said = sayings(properties);
    if ((packet.reasonCode ?? packet.returnCode ?? 0) !== 0) return;
    const { protocolVersion, sessionExpirySeconds } = this.#options;
    this.sessionPresent = packet.sessionPresent;
    this.tellsFilters = protocolVersion === 5 && properties?.subscriptionIdentifiersAvailable !== false;
    this.publishWindow = Math.min(PUBLISHES_AT_ONCE, properties?.receiveMaximum ?? PUBLISHES_AT_ONCE);
    this.maximumPacketSize = properties?.maximumPacketSize ?? Infinity;
    if (properties?.retainAvailable === false) this.retains = false;
    if (!this.retains) events.onTerms(noRetainWords());
    const kept = properties?.sessionExpiryInterval;
    if (kept !== undefined && kept < sessionExpirySeconds) events.onTerms(sessionCutWords(kept, sessionExpirySeconds));
    // Here and not at MQTT.js' "connect", for messages of the session may be handled before that event.
    events.onConnack(packet.sessionPresent);
  }

  #read(packet: IPublishPacket): Arrival {
    const { properties } = packet;
    const qos = this.#exactlyOnce.has(packet) ? 2 : packet.qos;
    const identifier = properties?.subscriptionIdentifier as number | number[] | undefined;
    const said = properties?.userProperties;
    const key = [said?.["idempotency-key"]].flat()[0];
    const context = said?.["traceparent"] === undefined ? NO_TRACE : traceIn(said);
    const packetId = qos === 0 ? undefined : packet.messageId;
    const tooLarge = packetId === undefined ? undefined : this.#tooLarge.get(packetId);
    if (packetId !== undefined) this.#tooLarge.delete(packetId);
    const payload = typeof packet.payload === "string"
      ? new TextEncoder().encode(packet.payload)
      : this.#slab.own(packet.payload);
    return {
      connection: this,
      topic: packet.topic,
      payload,
      qos,
      retain: packet.retain,
      dup: packet.dup,
      packetId,
      identifiers: identifier === undefined ? undefined : [identifier].flat(),
      // No longer than what a payload may name (listener.ts): what is longer is no such key.
      idempotencyKey: key !== undefined && key.length <= LONGEST_KEY ? key : undefined,
      ...answerIn(properties),
      traceparent: context.traceparent,
      tracestate: context.tracestate,
      tooLarge,
    };
  }

  #finish(): void {
    if (this.state === "ended") return;
    this.state = "ended";
    clearTimeout(this.#graceTimer);
    this.#over.abort(new ConnectionLost("Connection lost"));
    this.#end.resolve(this.#whyEnded());
  }

  #whyEnded(): End {
    if (this.#refetch) return { kind: "refetch" };
    if (this.#renewed) return { kind: "renewed" };
    if (this.#disconnectCode !== undefined && this.#disconnectCode !== 0) {
      const code = this.#disconnectCode;
      const kind = code === 0x8e ? "takeover" : code === NO_RETAIN ? "no retain" : "lost";
      return { kind, code, words: reasonCode(code) + this.#said };
    }
    const error = this.#error;
    if (this.#readyAt > 0) return { kind: "lost", ...(error ? { words: error.message } : {}) };
    if (!error) return { kind: "unanswered" };
    const end = { code: error.code ?? "", words: error.message + (typeof error.code === "number" ? this.#said : "") };
    if (typeof error.code === "number") {
      if (error.code === NO_RETAIN) return { kind: "no retain", ...end };
      if ([4, 5, 0x86, 0x87, 0x8c].includes(error.code)) return { kind: "credentials", ...end };
      if ([1, 0x84].includes(error.code)) return { kind: "version", ...end };
      return { kind: "refused", ...end };
    }
    if (/certificate|tls|ssl|alert|handshake|pem/i.test(error.message)) return { kind: "tls", ...end };
    if (error.message === "connack timeout" || error.code === "ECONNRESET") return { kind: "unanswered", ...end };
    return { kind: "refused", ...end };
  }
}

/** Of a message without one, as nearly all are. */
const NO_TRACE: TraceContext = {};

/** Where the sender wants the answer; nothing where it is no topic, or larger than an answer is worth. */
function answerIn(properties: IPublishPacket["properties"]): Pick<Arrival, "responseTopic" | "correlationData"> {
  const { responseTopic, correlationData } = properties ?? {};
  const isTopic = responseTopic !== undefined && topicFault(responseTopic) === undefined;
  if (!isTopic || (correlationData?.length ?? 0) > LONGEST_CORRELATION) {
    return { responseTopic: undefined, correlationData: undefined };
  }
  return { responseTopic, correlationData: correlationData && new Uint8Array(correlationData) };
}

/** Two of them name no parent; several tracestates are one list (https://www.w3.org/TR/trace-context/#tracestate-header). */
function traceIn(said: NonNullable<NonNullable<IPublishPacket["properties"]>["userProperties"]>): TraceContext {
  const { traceparent, tracestate } = said;
  if (typeof traceparent !== "string") return NO_TRACE;
  return traceContextIn(traceparent, tracestate === undefined ? undefined : [tracestate].flat().join(","));
}

function heldBytes(topic: string, payload: Uint8Array): number {
  return payload.length + topic.length;
}
