/**
 * Publications until the broker has acknowledged them, over connections. Owns their order and packet identifiers.
 */
import { Buffer } from "node:buffer";
import type { IPublishPacket } from "mqtt";
import { onAbort } from "../util/abort.ts";
import type { Connection } from "./connection.ts";
import { reasonCode } from "./errors.ts";
import { HIGHEST_CLIENT_ID } from "./options.ts";
import { RefusedError, TooLargeError, UnavailableError } from "../ports.ts";
import { compact } from "../util/compact.ts";
import { errorMessage } from "../util/errors.ts";
import { Queue } from "../util/queue.ts";

/** A message that may have been too large for the broker. */
export interface Suspect {
  readonly topic: string;
  readonly bytes: number;
}

/** What is to be published. */
export interface Publication {
  readonly topic: string;
  readonly payload: Buffer;
  readonly qos: 0 | 1;
  readonly retain: boolean;
  /** User properties, and the type of its content; of MQTT 5. */
  readonly properties?: Readonly<Record<string, string>>;
  readonly contentType?: string;
  readonly correlationData?: Uint8Array;
  /** Means nothing after this connection. */
  readonly onlyOn?: Connection;
}

/** Reason code "Packet too large". */
const TOO_LARGE = 0x95;
/**
 * A broker of MQTT 3.1.1 ends the connection at what is too large for it, and says nothing. What is retained (the table,
 * which may be large) or large, and was under way so often, is believed to be that. Who publishes an end tries again.
 */
const MOST_CUTS = 3;
/** No broker is known that takes only smaller ones: Moquette's preset, the smallest, is 8 KiB. */
const SMALL_BYTES = 4_096;
/**
 * How long a first message with user properties is waited for. A broker that leaves it unanswered, or cuts the connection
 * at it, as mochi does, gets none from then on: the message matters more.
 */
const PROPERTIES_MS = 5_000;

interface Pending extends Publication {
  /** Connections that ended while it was under way. */
  cuts: number;
  /** It went out with its properties. */
  hadProperties?: boolean;
  /** Its caller waits no longer; the packet identifier stays taken until the broker answers. */
  abandoned: boolean;
  readonly settled: PromiseWithResolvers<void>;
}

/**
 * Publications until the broker acknowledged them. After a reconnect they go out again in their order, with their
 * packet identifiers and DUP [MQTT-4.4.0-1]. MQTT.js' own store would send them one at a time, each waiting for its
 * PUBACK, and hold back the "connect" event meanwhile.
 */
export class Outbox {
  readonly #onTrouble: (reason: string) => void;
  readonly #waiting = new Queue<Pending>();
  readonly #sent = new Map<number, Pending>();
  #lastId = HIGHEST_CLIENT_ID;
  #connection: Connection | undefined;
  /** Of this broker. */
  #properties: "untried" | "answered" | "left out" = "untried";
  #patience: ReturnType<typeof setTimeout> | undefined;

  constructor(onTrouble: (reason: string) => void) {
    this.#onTrouble = onTrouble;
  }

  publish(publication: Publication, signal?: AbortSignal): Promise<void> {
    if (signal?.aborted) return Promise.reject(signal.reason);
    const pending: Pending = { ...publication, cuts: 0, abandoned: false, settled: Promise.withResolvers<void>() };
    const leave = onAbort(signal, () => {
      pending.abandoned = true;
      this.#waiting.remove(pending);
      pending.settled.reject(signal?.reason);
    });
    this.#waiting.push(pending);
    this.#pump();
    return pending.settled.promise.finally(leave);
  }

  attach(connection: Connection): void {
    this.#connection = connection;
    for (const [packetId, pending] of this.#sent) if (pending.abandoned) this.#sent.delete(packetId);
    if (connection.sessionPresent) {
      for (const [packetId, pending] of this.#sent) this.#write(connection, pending, packetId, true);
    } else {
      // A new session knows nothing of the old one's packets: they begin anew, ahead of those that wait.
      this.#waiting.putFirst([...this.#sent.values()]);
      this.#sent.clear();
    }
    this.#pump();
  }

  /** `code`: the DISCONNECT's, where there was one. Returns the largest message under way, unless all were small. */
  detach(connection: Connection, code?: number | string): Suspect | undefined {
    this.#connection = undefined;
    this.#endPatience();
    const suspect = this.#giveUpTooLarge(code === TOO_LARGE);
    if ([...this.#sent.values()].some(({ hadProperties, cuts }) => hadProperties && cuts > 1)) {
      this.#leaveOutProperties();
    }
    const lost = new UnavailableError("Connection lost");
    for (const pending of [...this.#sent.values(), ...this.#waiting.items()]) {
      if (pending.onlyOn !== connection) continue;
      pending.abandoned = true;
      this.#waiting.remove(pending);
      pending.settled.reject(lost);
    }
    return suspect;
  }

  acknowledge(packetId: number, code: number): void {
    const pending = this.#sent.get(packetId);
    if (!pending) return; // MQTT.js' own
    this.#sent.delete(packetId);
    if (pending.hadProperties) {
      this.#properties = "answered";
      this.#endPatience();
    }
    if (code === TOO_LARGE) pending.settled.reject(tooLarge(pending, reasonCode(code)));
    else if (code >= 0x80) pending.settled.reject(publishRefusal(pending.topic, reasonCode(code)));
    else pending.settled.resolve();
    this.#pump();
  }

  fail(error: Error): void {
    this.#connection = undefined;
    this.#endPatience();
    for (const pending of [...this.#sent.values(), ...this.#waiting.items()]) pending.settled.reject(error);
    this.#sent.clear();
    this.#waiting.clear();
  }

  /** Of what was under way when the connection ended: `said`, the largest; else one that it happened to often. */
  #giveUpTooLarge(said: boolean): Suspect | undefined {
    const sent = [...this.#sent].sort(([, a], [, b]) => bytesOf(b) - bytesOf(a));
    for (const [, pending] of sent) pending.cuts++;
    const [packetId, pending] = sent[0] ?? [];
    if (packetId === undefined || !pending) return undefined;
    const bytes = bytesOf(pending);
    const isLarge = bytes > SMALL_BYTES;
    if (said || (pending.retain || isLarge) && pending.cuts >= MOST_CUTS) {
      this.#sent.delete(packetId);
      pending.settled.reject(
        tooLarge(pending, said ? reasonCode(TOO_LARGE) : "the broker ended the connection each time"),
      );
    }
    return isLarge ? { topic: pending.topic, bytes } : undefined;
  }

  #pump(): void {
    const connection = this.#connection;
    for (let pending = this.#waiting.first; pending && connection?.open; pending = this.#waiting.first) {
      if (pending.qos === 1 && this.#sent.size >= connection.publishWindow) return;
      this.#waiting.shift();
      if (bytesOf(pending) > connection.maximumPacketSize) {
        const limit = connection.maximumPacketSize;
        pending.settled.reject(tooLarge(pending, `more than the broker's Maximum Packet Size ${limit}`));
      } else if (pending.qos === 0) {
        this.#write(connection, pending, undefined, false);
      } else {
        const packetId = this.#nextId();
        this.#sent.set(packetId, pending);
        this.#write(connection, pending, packetId, false);
      }
    }
  }

  #write(connection: Connection, pending: Pending, packetId: number | undefined, dup: boolean): void {
    const { topic, payload, qos, retain } = pending;
    const properties = this.#properties === "left out" ? {} : propertiesOf(pending, connection);
    if (properties.properties?.userProperties && qos === 1) this.#tryProperties(pending, connection);
    else pending.hadProperties = false;
    try {
      connection.write({
        cmd: "publish",
        topic,
        payload,
        qos,
        // A broker that keeps none closes the connection at one [MQTT-3.2.2-14].
        retain: retain && connection.retains,
        dup,
        ...properties,
        ...(packetId === undefined ? {} : { messageId: packetId }),
      });
      if (qos === 0) pending.settled.resolve();
    } catch (error) {
      if (packetId !== undefined) this.#sent.delete(packetId);
      this.#onTrouble(`Cannot write a message for "${topic}": ${errorMessage(error)}`);
      pending.settled.reject(error);
    }
  }

  #tryProperties(pending: Pending, connection: Connection): void {
    pending.hadProperties = true;
    if (this.#properties !== "untried") return;
    this.#patience ??= setTimeout(() => {
      this.#leaveOutProperties();
      // What is under way goes out again, without them.
      connection.renew();
    }, PROPERTIES_MS);
  }

  #endPatience(): void {
    clearTimeout(this.#patience);
    this.#patience = undefined;
  }

  #leaveOutProperties(): void {
    if (this.#properties !== "untried") return;
    this.#properties = "left out";
    this.#onTrouble(
      "The broker does not answer messages with user properties, so ends go out without those of CloudEvents",
    );
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

function tooLarge(publication: Publication, why: string): TooLargeError {
  return new TooLargeError(
    `Broker refused the message for "${publication.topic}" of ${bytesOf(publication)} bytes: ${why}`,
  );
}

/** The least that its packet has; a properties' length, an identifier and the header come to at most 9 more. */
function bytesOf({ topic, payload }: Publication): number {
  return payload.length + Buffer.byteLength(topic) + 9;
}

/** None where the broker takes no such size with them: the message matters more. */
function propertiesOf(
  publication: Publication,
  { hasProperties, maximumPacketSize }: Connection,
): Pick<IPublishPacket, "properties"> {
  const { properties, contentType, correlationData } = publication;
  if (!hasProperties || [properties, contentType, correlationData].every((one) => one === undefined)) return {};
  if (bytesOf(publication) + propertyBytes(publication) > maximumPacketSize) return {};
  return {
    properties: compact({
      userProperties: properties && { ...properties },
      contentType,
      correlationData: correlationData && Buffer.from(correlationData),
    }),
  };
}

/** One has an identifier, and lengths of its texts; their own length together takes three bytes more at most. */
function propertyBytes({ properties = {}, contentType, correlationData }: Publication): number {
  const entries = Object.entries(properties);
  const bytes = entries.reduce((sum, [name, value]) => sum + 5 + Buffer.byteLength(name) + Buffer.byteLength(value), 3);
  return bytes + (contentType === undefined ? 0 : 3 + Buffer.byteLength(contentType)) +
    (correlationData === undefined ? 0 : 3 + correlationData.length);
}
