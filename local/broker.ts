/**
 * An MQTT broker inside this process, for a laptop: aedes on a loopback port. Owns the listening socket and the open
 * connections. It speaks MQTT 3.1.1 only, so MqttBroker must be told `protocolVersion: 4`; sessions and retained
 * messages live in memory and end with the process. Must not listen beyond loopback unless its caller says so.
 */
import { Buffer } from "node:buffer";
import { createServer, type Socket } from "node:net";
import { Aedes } from "aedes";
import { errorMessage } from "../util/errors.ts";

/** A running broker. */
export interface LocalBroker {
  /** `mqtt://host:port`. */
  readonly url: string;
  /** Closes every connection and the port; sessions are forgotten. */
  close(): Promise<void>;
}

/** Starts a broker. `port` 0 (default) takes a free one; rejects if the port is taken. */
export async function startLocalBroker(
  { port = 0, host = "127.0.0.1" }: { port?: number; host?: string } = {},
): Promise<LocalBroker> {
  const broker = await Aedes.createBroker();
  // Its declarations leave `persistence` out.
  markRedeliveries((broker as unknown as { persistence: Persistence }).persistence);
  const sockets = new Set<Socket>();
  const server = createServer((socket) => {
    sockets.add(socket);
    socket.on("close", () => sockets.delete(socket));
    // Small packets both ways; waiting to fill a segment would add 40 ms to each message.
    socket.setNoDelay(true);
    readAllAtOnce(socket);
    broker.handle(socket);
  });
  await new Promise<void>((resolve, reject) => {
    server.once("error", (error) => {
      reject(new Error(`Cannot start the local broker on ${host}:${port}: ${errorMessage(error)}`, { cause: error }));
    });
    server.listen(port, host, resolve);
  });
  const address = server.address();
  const boundPort = typeof address === "object" && address !== null ? address.port : port;
  return {
    url: `mqtt://${host.includes(":") ? `[${host}]` : host}:${boundPort}`,
    async close() {
      const closed = new Promise<void>((resolve) => server.close(() => resolve()));
      await new Promise<void>((resolve) => broker.close(resolve));
      for (const socket of sockets) socket.destroy();
      await closed;
    },
  };
}

/**
 * aedes 1.2 reads once an event "readable"; Deno 2.9 has none for what comes during that read, so that a message of some
 * hundred kilobytes would never be whole. Each read takes all that is there.
 */
function readAllAtOnce(socket: Socket): void {
  const read = socket.read.bind(socket);
  socket.read = (size) => {
    const first = read(size);
    if (first === null || socket.readableLength === 0) return first;
    const chunks: Buffer[] = [first];
    for (let more = read(); more !== null; more = read()) chunks.push(more);
    return Buffer.concat(chunks);
  };
}

/**
 * aedes 1.2 sends what was not acknowledged again with its packet identifier but without DUP, against [MQTT-3.3.1-1];
 * a packet that has its identifier already was sent before.
 */
function markRedeliveries(persistence: Persistence): void {
  const outgoing = persistence.outgoingStream.bind(persistence);
  persistence.outgoingStream = async function* (client) {
    for await (const packet of outgoing(client)) {
      if (packet.messageId) packet.dup = true;
      yield packet;
    }
  };
}

interface Persistence {
  outgoingStream(client: unknown): AsyncIterable<{ messageId?: number; dup?: boolean }>;
}
