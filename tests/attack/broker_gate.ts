/**
 * A gate before a broker: hands all on, or speaks for itself in the broker's place. Knows of MQTT what a client needs to
 * feel at home: an answer to its CONNECT.
 */
import { eventually, pause } from "../harness/wait.ts";

/** What a forged broker says after its CONNACK; the connection ends when it resolves or the client goes. */
export type Forgery = (send: (bytes: Uint8Array) => Promise<void>) => Promise<void>;

/** CONNACK of MQTT 5: the session is there, success, no properties. */
export const WELCOME = Uint8Array.of(0x20, 3, 1, 0, 0);

interface Play {
  readonly welcome: Uint8Array;
  readonly play: Forgery;
  played: number;
}

export class BrokerGate implements AsyncDisposable {
  readonly port: number;
  readonly #listener: Deno.TcpListener;
  readonly #target: number;
  readonly #open = new Set<Deno.Conn>();
  #forgery: Play | undefined;

  constructor(target: number) {
    this.#target = target;
    this.#listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
    this.port = this.#listener.addr.port;
    void this.#accept();
  }

  /** Cuts the client off, plays the forgery to its next `times` connections, then lets it to the broker again. */
  async forge(play: Forgery, { welcome = WELCOME, times = 1 }: { welcome?: Uint8Array; times?: number } = {}) {
    const forgery = { welcome, play, played: 0 };
    this.#forgery = forgery;
    this.cut();
    try {
      await eventually(() => forgery.played >= times, { what: "the client to come to the forger" });
    } finally {
      this.#forgery = undefined;
      this.cut();
    }
  }

  cut(): void {
    for (const conn of this.#open) close(conn);
    this.#open.clear();
  }

  [Symbol.asyncDispose](): Promise<void> {
    this.#listener.close();
    this.cut();
    return Promise.resolve();
  }

  async #accept(): Promise<void> {
    for await (const client of this.#listener) {
      this.#open.add(client);
      void (this.#forgery ? this.#speak(client, this.#forgery) : this.#relay(client)).catch(() => {});
    }
  }

  async #speak(client: Deno.TcpConn, forgery: Play): Promise<void> {
    const buffer = new Uint8Array(65_536);
    await client.read(buffer);
    // The service looks for rivals over a connection of its own, which is nobody's to play to.
    if (isCleanStart(buffer)) return close(client);
    try {
      const send = async (bytes: Uint8Array) => {
        for (let at = 0; at < bytes.length;) at += await client.write(bytes.subarray(at));
      };
      await send(forgery.welcome);
      const reading = (async () => {
        while (await client.read(buffer) !== null);
      })().catch(() => {});
      // A client that leaves has answered enough.
      await Promise.race([forgery.play(send).catch(() => {}), reading]);
      await Promise.race([pause(300), reading]);
    } finally {
      forgery.played++;
      close(client);
    }
  }

  async #relay(client: Deno.TcpConn): Promise<void> {
    const server = await Deno.connect({ hostname: "127.0.0.1", port: this.#target });
    this.#open.add(server);
    const ends = [client.readable.pipeTo(server.writable), server.readable.pipeTo(client.writable)];
    await Promise.allSettled(ends);
    this.#open.delete(client);
    this.#open.delete(server);
    close(server);
    close(client);
  }
}

/** Whether a CONNECT wants a new session [MQTT-3.1.2-4]: its flags stand behind the length, the name and the level. */
function isCleanStart(packet: Uint8Array): boolean {
  const afterLength = packet.findIndex((byte, at) => at > 0 && byte < 0x80) + 1;
  return (packet[afterLength + 7]! & 0b10) !== 0;
}

function close(conn: Deno.Conn): void {
  try {
    conn.close();
  } catch { /* closed before */ }
}
