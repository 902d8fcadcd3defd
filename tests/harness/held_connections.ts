/** Connections that are held for as long as the other side lets them, as an attacker of the page holds them. */
import { pause } from "./wait.ts";

/** Disposing it closes them all. */
export class HeldConnections implements Disposable {
  readonly #port: number;
  readonly #open = new Set<Deno.TcpConn>();

  constructor(port: number) {
    this.#port = port;
  }

  /** Those that the other side has not closed. */
  get size(): number {
    return this.#open.size;
  }

  /** Sends `head`, then `drip` again and again; takes nothing of an answer unless `reads`. */
  async open(head: string, { drip, reads = true }: { drip?: string; reads?: boolean } = {}): Promise<void> {
    const encoder = new TextEncoder();
    const conn = await Deno.connect({ hostname: "127.0.0.1", port: this.#port });
    this.#open.add(conn);
    const end = () => {
      if (this.#open.delete(conn)) conn.close();
    };
    const talk = async () => {
      await conn.write(encoder.encode(head));
      while (drip !== undefined && this.#open.has(conn)) {
        await conn.write(encoder.encode(drip));
        await pause(100);
      }
    };
    const listen = async () => {
      const buffer = new Uint8Array(65_536);
      while (await conn.read(buffer) !== null);
      end();
    };
    talk().catch(end);
    if (reads) listen().catch(end);
  }

  [Symbol.dispose](): void {
    for (const conn of this.#open) conn.close();
    this.#open.clear();
  }
}
