/**
 * What a broker's packet identifiers are worth: owns the answer to "does it keep them until they are acknowledged, mark
 * what it sends again, and give out new ones in order, over connections too?". Brokers need do no such thing: HiveMQ
 * gives out the lowest free one, RabbitMQ and mochi begin at 1 on each connection, Artemis renumbers. Pure.
 *
 * A proof takes a trial over one change of connections (order_trial.ts): one message alone is open, and the one before it
 * is acknowledged, so that a lower identifier is free. The open one must come again as it was, and nothing else, and then
 * a new message with the identifier behind it. Whatever comes out of order later ends the belief.
 */
import type { Delivery } from "../ports.ts";

const IDS = 65_535;
/** So far behind the newest identifier one is taken for old, not for the next round's. */
const HALF = 16_384;

export class PacketOrder {
  /** undefined: nothing was seen that says so or otherwise. */
  orderly: boolean | undefined;
  #newest: number | undefined;
  /** Of the newest message that was taken over. */
  #taken: number | undefined;
  /** The same when the connection began. */
  #before: number | undefined;
  /** In a trial: what must come again, alone; then, with `again`, what must follow. */
  #expected: { readonly packetId: number; again: boolean } | undefined;

  /** `newest`: identifier of the newest message of the session that is known to have been taken over. */
  constructor({ orderly, newest }: { readonly orderly: boolean | undefined; readonly newest: number | undefined }) {
    this.orderly = orderly;
    this.#newest = newest;
    this.#taken = newest;
    this.#before = newest;
  }

  /**
   * A connection of the same session begins; `untold`: identifier of the first message that came on the former one and was
   * not taken over; `onTrial`: that of the only one which is open, in a trial.
   */
  reconnected(
    { untold, onTrial }: { readonly untold?: number | undefined; readonly onTrial?: number | undefined },
  ): void {
    if (untold !== undefined) this.#taken = untold === 1 ? IDS : untold - 1;
    this.#before = this.#taken;
    this.#expected = onTrial !== undefined && onTrial > 1 ? { packetId: onTrial, again: false } : undefined;
  }

  /** Hears of each delivery, in the order of receipt. */
  see({ packetId, dup }: Pick<Delivery, "packetId" | "dup">): void {
    if (packetId === undefined) return;
    const expected = this.#expected;
    if (dup) {
      if (expected && !expected.again && packetId === expected.packetId) expected.again = true;
      else this.#expected = undefined;
      this.#newest = newerId(this.#newest, packetId);
      return;
    }
    if (this.#newest !== undefined) {
      if (isBehind(packetId, this.#newest)) this.orderly = false;
      else if (expected?.again && packetId === expected.packetId % IDS + 1) this.orderly = true;
    }
    this.#expected = undefined;
    this.#newest = packetId;
  }

  /** The message under this identifier was taken over: it has its number, or needs none. */
  take(packetId: number): void {
    this.#taken = newerId(this.#taken, packetId);
  }

  /** A message that is sent again under this identifier was taken over on an earlier connection. */
  wasReceived(packetId: number): boolean {
    return this.#before !== undefined && isBehind(packetId, this.#before);
  }
}

/** That of the two identifiers which was given out later. */
export function newerId(one: number | undefined, other: number | undefined): number | undefined {
  if (one === undefined || other === undefined) return one ?? other;
  return isBehind(other, one) ? one : other;
}

/** Whether the identifier was given out before `newest`, or is that. */
function isBehind(packetId: number, newest: number): boolean {
  return (newest - packetId + IDS) % IDS < HALF;
}
