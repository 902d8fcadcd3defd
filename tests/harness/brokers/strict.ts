/**
 * A small broker over TCP with the narrow terms that hosted brokers have, for what none that can be installed shows: AWS
 * IoT Core takes eight filters in a SUBSCRIBE and small packets, Azure Event Grid keeps no retained messages and cuts the
 * session's time, NATS refuses all filters after one it does not like. Sessions live as long as it does.
 */
import { Buffer } from "node:buffer";
import net from "node:net";
import mqttPacket, { type IConnectPacket, type IPublishPacket, type Packet } from "mqtt-packet";

/** What a broker does not give. Each absent: no such term. */
export interface Terms {
  /** More in one SUBSCRIBE or UNSUBSCRIBE and the connection is closed. */
  readonly filtersPerPacket?: number;
  /** Filters that are refused; MQTT 3.1.1: and all that follow one in its packet, as NATS does. */
  readonly refuses?: (filter: string) => number | undefined;
  /** A retained will is refused with 0x9A, a retained message ends the connection. */
  readonly noRetain?: boolean;
  /** Not said in CONNACK either. */
  readonly silent?: boolean;
  /** The longest that a session is kept, in seconds. */
  readonly sessionExpirySeconds?: number;
  /** Larger packets end the connection; MQTT 5: CONNACK says so. */
  readonly maximumPacketSize?: number;
  readonly noSubscriptionIdentifiers?: boolean;
  /** Copies of a message for overlapping subscriptions: one that names all, or as Artemis, as many that each name all. */
  readonly copies?: "one" | "all name all";
  /** Answers the CONNECT; undefined: accepted. */
  readonly refusal?: (connect: IConnectPacket) => Refusal | undefined;
}

/** A CONNACK that refuses, or a DISCONNECT. */
export interface Refusal {
  readonly code: number;
  readonly reasonString?: string;
  readonly serverReference?: string;
}

interface Session {
  readonly filters: Map<string, number | undefined>;
  socket: net.Socket | undefined;
  protocolVersion: number;
}

/** Starts such a broker on a free port of loopback. */
export async function startStrictBroker(terms: Terms = {}): Promise<StrictBroker> {
  const broker = new StrictBroker(terms);
  await broker.listen();
  return broker;
}

export class StrictBroker implements AsyncDisposable {
  /** May be changed at any time. */
  terms: Terms;
  /** All packets that clients sent, over all connections. */
  readonly received: Packet[] = [];
  connections = 0;
  readonly #sessions = new Map<string, Session>();
  readonly #sockets = new Set<net.Socket>();
  readonly #server = net.createServer((socket) => this.#accept(socket));
  #nextId = 0;
  /** Messages handed out, each copy counted. */
  handed = 0;

  constructor(terms: Terms) {
    this.terms = terms;
  }

  get url(): string {
    return `mqtt://127.0.0.1:${(this.#server.address() as net.AddressInfo).port}`;
  }

  listen(): Promise<void> {
    return new Promise((resolve) => this.#server.listen(0, "127.0.0.1", resolve));
  }

  /** Packets of one kind that clients sent. */
  sent<C extends Packet["cmd"]>(cmd: C): Extract<Packet, { cmd: C }>[] {
    return this.received.filter((packet): packet is Extract<Packet, { cmd: C }> => packet.cmd === cmd);
  }

  /** Ends every connection without a word. */
  cut(): void {
    for (const socket of this.#sockets) socket.destroy();
  }

  /** Ends every connection with MQTT 5's DISCONNECT. */
  disconnect({ code, ...properties }: Refusal): void {
    for (const socket of this.#sockets) {
      write(socket, { cmd: "disconnect", reasonCode: code, properties }, 5);
      socket.end();
    }
  }

  /** Hands a message to whoever subscribed to its topic, with QoS 1. */
  publish(topic: string, payload: string | Uint8Array, flags: Partial<IPublishPacket> = {}): void {
    for (const { filters, socket, protocolVersion } of this.#sessions.values()) {
      const identifiers = [...filters].filter(([filter]) => matches(filter, topic)).map(([, id]) => id);
      if (socket === undefined) continue;
      const { copies } = this.terms;
      for (const identifier of copies === "one" ? identifiers.slice(0, 1) : identifiers) {
        this.handed++;
        this.#nextId = this.#nextId % 0xffff + 1;
        const named = copies === undefined ? identifier : identifiers;
        write(socket, {
          cmd: "publish",
          topic,
          payload: typeof payload === "string" ? payload : Buffer.from(payload),
          qos: 1,
          dup: false,
          retain: false,
          messageId: this.#nextId,
          ...(identifier === undefined ? {} : { properties: { subscriptionIdentifier: named as number } }),
          ...flags,
        }, protocolVersion);
      }
    }
  }

  /** Bytes as they are, to every client. */
  send(bytes: Uint8Array): void {
    for (const socket of this.#sockets) socket.write(bytes);
  }

  /** Bytes that no client has taken yet. */
  get pending(): number {
    return [...this.#sockets].reduce((sum, socket) => sum + socket.writableLength, 0);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const closed = new Promise<void>((resolve) => this.#server.close(() => resolve()));
    this.cut();
    await closed;
  }

  #accept(socket: net.Socket): void {
    this.connections++;
    this.#sockets.add(socket);
    const parser = mqttPacket.parser();
    let session: Session | undefined;
    parser.on("packet", (packet: Packet) => {
      this.received.push(packet);
      if ((packet.length ?? 0) > (this.terms.maximumPacketSize ?? Infinity)) return void socket.destroy();
      if (packet.cmd === "connect") session = this.#connect(packet, socket);
      else if (session !== undefined) this.#answer(packet, session, socket);
    });
    socket.on("data", (chunk) => parser.parse(Buffer.from(chunk)));
    socket.on("error", () => {});
    socket.on("close", () => {
      this.#sockets.delete(socket);
      if (session?.socket === socket) session.socket = undefined;
    });
  }

  #connect(packet: IConnectPacket, socket: net.Socket): Session | undefined {
    const { terms } = this;
    const protocolVersion = packet.protocolVersion ?? 4;
    const refusal = terms.refusal?.(packet) ?? (terms.noRetain && packet.will?.retain ? { code: 0x9a } : undefined);
    if (refusal) {
      const { code, ...properties } = refusal;
      const answer = protocolVersion === 5 ? { reasonCode: code, properties } : { returnCode: code };
      write(socket, { cmd: "connack", sessionPresent: false, ...answer }, protocolVersion);
      socket.end();
      return undefined;
    }
    const sessionPresent = this.#sessions.has(packet.clientId);
    const session = this.#sessions.get(packet.clientId) ?? { filters: new Map(), socket, protocolVersion };
    this.#sessions.set(packet.clientId, session);
    session.socket = socket;
    const { sessionExpirySeconds, maximumPacketSize } = terms;
    const properties = terms.silent ? {} : {
      ...(terms.noRetain ? { retainAvailable: false } : {}),
      ...(sessionExpirySeconds === undefined ? {} : { sessionExpiryInterval: sessionExpirySeconds }),
      ...(maximumPacketSize === undefined ? {} : { maximumPacketSize }),
      ...(terms.noSubscriptionIdentifiers ? { subscriptionIdentifiersAvailable: false } : {}),
    };
    const answer = protocolVersion === 5 ? { reasonCode: 0, properties } : { returnCode: 0 };
    write(socket, { cmd: "connack", sessionPresent, ...answer }, protocolVersion);
    return session;
  }

  #answer(packet: Packet, session: Session, socket: net.Socket): void {
    const { terms } = this;
    const { protocolVersion } = session;
    const { filtersPerPacket = Infinity } = terms;
    switch (packet.cmd) {
      case "subscribe": {
        if (packet.subscriptions.length > filtersPerPacket) return void socket.destroy();
        let bad: number | undefined;
        const granted = packet.subscriptions.map(({ topic }) => {
          const code = terms.refuses?.(topic);
          if (protocolVersion !== 5) bad ??= code;
          if ((code ?? bad) !== undefined) return code ?? bad!;
          session.filters.set(topic, packet.properties?.subscriptionIdentifier as number | undefined);
          return 1;
        });
        return write(socket, { cmd: "suback", messageId: packet.messageId!, granted }, protocolVersion);
      }
      case "unsubscribe":
        if (packet.unsubscriptions.length > filtersPerPacket) return void socket.destroy();
        for (const filter of packet.unsubscriptions) session.filters.delete(filter);
        return write(socket, {
          cmd: "unsuback",
          messageId: packet.messageId!,
          granted: packet.unsubscriptions.map(() => 0),
        }, protocolVersion);
      case "publish":
        if (terms.noRetain && packet.retain) return this.disconnect({ code: 0x9a });
        this.publish(packet.topic, packet.payload);
        if (packet.qos === 1) {
          write(socket, { cmd: "puback", messageId: packet.messageId!, reasonCode: 0 }, protocolVersion);
        }
        return;
      case "pingreq":
        return write(socket, { cmd: "pingresp" }, protocolVersion);
      case "disconnect":
        socket.end();
    }
  }
}

function write(socket: net.Socket, packet: Packet, protocolVersion: number): void {
  if (!socket.destroyed) socket.write(mqttPacket.generate(packet, { protocolVersion }));
}

function matches(filter: string, topic: string): boolean {
  const [levels, wanted] = [topic.split("/"), filter.split("/")];
  const rest = wanted.at(-1) === "#" ? wanted.pop() : undefined;
  return (rest ? levels.length >= wanted.length : levels.length === wanted.length) &&
    wanted.every((level, index) => level === "+" || level === levels[index]);
}
