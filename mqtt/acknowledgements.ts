/**
 * Acknowledgements of one connection: owns their order. Knows no payload, and not why a delivery is dealt with: what must
 * be known before its acknowledgement leaves is the core's to wait for (listener/session.ts).
 */
import type { Packet } from "mqtt";
import { Queue } from "../util/queue.ts";

/**
 * PUBACK and PUBREC in the order of receipt [MQTT-4.6.0-2] [MQTT-4.6.0-3], whatever the order of the work.
 * Holds no payload; at most 65,535 entries, for so many packet identifiers there are.
 */
export class AckQueue {
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
