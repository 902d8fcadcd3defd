/**
 * Publications until the broker has acknowledged them, over connections. Owns their order and packet identifiers.
 */
import { Buffer } from "node:buffer";
import { onAbort } from "../util/abort.ts";
import type { Connection } from "./connection.ts";
import { reasonCode } from "./errors.ts";
import { HIGHEST_CLIENT_ID } from "./options.ts";
import { RefusedError, UnavailableError } from "../ports.ts";
import { Queue } from "../util/queue.ts";
import { errorMessage } from "../util/retry.ts";

/** What is to be published. */
export interface Publication {
  readonly topic: string;
  readonly payload: Buffer;
  readonly qos: 0 | 1;
  readonly retain: boolean;
  readonly properties?: Record<string, string> | undefined;
  /** Means nothing after this connection. */
  readonly onlyOn?: Connection;
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
export class Outbox {
  readonly #onTrouble: (reason: string) => void;
  readonly #waiting = new Queue<Pending>();
  readonly #sent = new Map<number, Pending>();
  #lastId = HIGHEST_CLIENT_ID;
  #connection: Connection | undefined;

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

  detach(connection: Connection): void {
    this.#connection = undefined;
    const lost = new UnavailableError("Connection lost");
    for (const pending of [...this.#sent.values(), ...this.#waiting.items()]) {
      if (pending.onlyOn !== connection) continue;
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
    this.#connection = undefined;
    for (const pending of [...this.#sent.values(), ...this.#waiting.items()]) pending.settled.reject(error);
    this.#sent.clear();
    this.#waiting.clear();
  }

  #pump(): void {
    const connection = this.#connection;
    for (let pending = this.#waiting.first; pending && connection?.open; pending = this.#waiting.first) {
      if (pending.qos === 1 && this.#sent.size >= connection.publishWindow) return;
      this.#waiting.shift();
      const bytes = pending.payload.length + Buffer.byteLength(pending.topic);
      if (bytes > connection.maximumPacketSize) {
        const why = `its ${bytes} bytes are more than the broker's Maximum Packet Size ${connection.maximumPacketSize}`;
        pending.settled.reject(publishRefusal(pending.topic, why));
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
    const { topic, payload, qos, retain, properties } = pending;
    try {
      connection.write({
        cmd: "publish",
        topic,
        payload,
        qos,
        // A broker that keeps none closes the connection at one [MQTT-3.2.2-14].
        retain: retain && connection.retains,
        dup,
        ...(packetId === undefined ? {} : { messageId: packetId }),
        // Left out by the writer where the protocol is MQTT 3.1.1, which has none.
        ...(properties ? { properties: { userProperties: properties } } : {}),
      });
      if (qos === 0) pending.settled.resolve();
    } catch (error) {
      if (packetId !== undefined) this.#sent.delete(packetId);
      this.#onTrouble(`Cannot write a message for "${topic}": ${errorMessage(error)}`);
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
