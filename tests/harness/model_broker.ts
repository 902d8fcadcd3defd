/**
 * A broker as a model: one session, a wire that loses what is on it at a cut, and the ways in which real brokers number
 * and mark what they send. Owns no clock: what is on the wire moves when a test says so.
 */
import type { Delivery } from "../../ports.ts";

/** How a broker treats packet identifiers and DUP. */
export interface Manners {
  /** Of new messages: the next one of the session; the lowest free one; counted from 1, or a random word, on each connection. */
  readonly ids: "in order" | "lowest free" | "from 1" | "from anywhere";
  /** What is sent again has its identifier still, or a new one. */
  readonly again: "kept" | "renumbered";
  /** On what is sent again; on nothing; also on what waited while nobody was connected, and was never sent. */
  readonly dup: "right" | "never" | "queued too";
  /** Most that may be unacknowledged. */
  readonly window: number;
}

/** What orders packets as the standard asks for: kept identifiers, in order, DUP as it should be. */
export function isOrderly({ ids, again, dup }: Manners): boolean {
  return ids === "in order" && again === "kept" && dup === "right";
}

export interface ModelMessage {
  readonly topic: string;
  readonly payload: string;
}

interface Sent {
  readonly message: ModelMessage;
  id: number;
}

interface Connection {
  receive(delivery: Delivery): void;
  readonly toService: { readonly sent: Sent; readonly dup: boolean }[];
  readonly toBroker: number[];
}

export class ModelBroker {
  readonly #manners: Manners;
  #queue: { readonly message: ModelMessage; readonly wasAway: boolean }[] = [];
  #unacknowledged: Sent[] = [];
  #lastId = 0;
  #hasSession = false;
  #connection: Connection | undefined;

  constructor(manners: Manners) {
    this.#manners = manners;
    if (manners.ids === "from anywhere") this.#lastId = 31_007;
  }

  get connected(): boolean {
    return this.#connection !== undefined;
  }

  /** Nothing is left to send or to hear. */
  get idle(): boolean {
    return this.#queue.length === 0 && this.#unacknowledged.length === 0;
  }

  /** What the broker has sent and holds for unacknowledged. */
  get unacknowledged(): readonly ModelMessage[] {
    return this.#unacknowledged.map(({ message }) => message);
  }

  /** All that is not acknowledged, sent or not. */
  get held(): readonly ModelMessage[] {
    return [...this.unacknowledged, ...this.#queue.map(({ message }) => message)];
  }

  /** False: there is no session that it is for. */
  publish(message: ModelMessage): boolean {
    if (!this.#hasSession) return false;
    this.#queue.push({ message, wasAway: this.#connection === undefined });
    this.#pump();
    return true;
  }

  /** Whether the session is there still. What was open is on the wire again at once. */
  connect(receive: (delivery: Delivery) => void): boolean {
    const sessionPresent = this.#hasSession;
    this.#hasSession = true;
    const { ids, again, dup } = this.#manners;
    if (ids === "from 1") this.#lastId = 0;
    if (ids === "from anywhere") this.#lastId = (this.#lastId * 7 + 1_013) % 65_535;
    this.#connection = { receive, toService: [], toBroker: [] };
    const open = this.#unacknowledged;
    if (again === "renumbered") {
      this.#unacknowledged = [];
      for (const sent of open) {
        sent.id = this.#nextId();
        this.#unacknowledged.push(sent);
      }
    }
    for (const sent of open) this.#connection.toService.push({ sent: { ...sent }, dup: dup !== "never" });
    this.#pump();
    return sessionPresent;
  }

  /** Moves packets, the oldest first: so many to the service, and so many to the broker. */
  move(toService: number, toBroker: number): void {
    const connection = this.#connection;
    if (!connection) return;
    for (const { sent, dup } of connection.toService.splice(0, toService)) {
      const { id, message } = sent;
      connection.receive({
        topic: message.topic,
        payload: new TextEncoder().encode(message.payload),
        qos: 1,
        retain: false,
        dup,
        packetId: id,
        done: () => void connection.toBroker.push(id),
      });
    }
    for (const id of connection.toBroker.splice(0, toBroker)) {
      const at = this.#unacknowledged.findIndex((sent) => sent.id === id);
      if (at !== -1) this.#unacknowledged.splice(at, 1);
    }
    this.#pump();
  }

  /** What is on the wire is lost. Returns the messages whose acknowledgements are. */
  cut(): ModelMessage[] {
    const ids = this.#connection?.toBroker ?? [];
    this.#connection = undefined;
    return this.#unacknowledged.filter(({ id }) => ids.includes(id)).map(({ message }) => message);
  }

  /** Ends the session with all that it holds; only while nobody is connected. Returns what was not acknowledged. */
  loseSession(): ModelMessage[] {
    const gone = [...this.held];
    [this.#queue, this.#unacknowledged, this.#hasSession] = [[], [], false];
    if (this.#manners.ids !== "from anywhere") this.#lastId = 0;
    return gone;
  }

  /** The oldest message that was not sent expires; what was sent may not [MQTT-3.3.2-5]. */
  expire(): ModelMessage | undefined {
    return this.#queue.shift()?.message;
  }

  #pump(): void {
    while (this.#connection && this.#queue.length > 0 && this.#unacknowledged.length < this.#manners.window) {
      const { message, wasAway } = this.#queue.shift()!;
      const sent = { message, id: this.#nextId() };
      this.#unacknowledged.push(sent);
      this.#connection.toService.push({ sent: { ...sent }, dup: this.#manners.dup === "queued too" && wasAway });
    }
  }

  #nextId(): number {
    const taken = new Set(this.#unacknowledged.map(({ id }) => id));
    let id = this.#manners.ids === "lowest free" ? 0 : this.#lastId;
    do id = id % 65_535 + 1; while (taken.has(id));
    return this.#lastId = id;
  }
}
