/**
 * Connections of the page's visitors: how many there may be, of all and of one address, and how long each may take.
 * Owns the listener and its sockets; a listener that fails is started anew, and nothing here ends the process.
 * Must not know HTTP: it is told when a request's head and body are there.
 *
 * Why not Deno.serve or a node:http server that listens by itself: neither closes a connection that sends no request
 * (node:http does, by timers of its own), and with no file descriptor left the one ends the process by an uncaught
 * "Too many open files" and the other stops accepting for ever (Deno 2.9.6). Here the failed accept is seen.
 */
import { Buffer } from "node:buffer";
import { Duplex } from "node:stream";
import { errorMessage } from "../util/errors.ts";
import { getLogger } from "../util/log.ts";

export interface ConnectionLimits {
  /** Connections of all visitors, and of one address. */
  readonly all: number;
  readonly ofAddress: number;
  /** Longest until the (next) request's head is whole. */
  readonly headMs: number;
  /** Longest for a request's body. */
  readonly bodyMs: number;
  /** Longest for a write that the visitor does not take. */
  readonly writeMs: number;
  /** Longest to go on after the answer that closes the connection, so that the visitor can read it. */
  readonly lingerMs: number;
}

export const LIMITS: ConnectionLimits = {
  all: 384,
  ofAddress: 128,
  headMs: 10_000,
  bodyMs: 20_000,
  writeMs: 60_000,
  lingerMs: 2_000,
};

/** What a connection does. When there are too many, the oldest of the first of these kinds that there is must go. */
const STAGES = ["idle", "request", "stream"] as const;
export type Stage = (typeof STAGES)[number];

/** Bytes read at once: of a body, and of heads. Of heads few, for node:http takes all requests in them at once. */
const READ_BYTES = 16 * 1024;
const READ_HEAD_BYTES = 1024;
/** Between two attempts to accept: after room was made, and where none could be. */
const ROOM_MS = 5;
const RETRY_MS = 200;
/** How long fewer connections are kept after descriptors or memory ran short. */
const SHORTAGE_MS = 60_000;
/** At most one line of the log in this time about a listener that fails. */
const COMPLAINT_MS = 60_000;

/** A visitor's connection as a stream for node:http, which takes any (its event `connection`). */
export class Connection extends Duplex {
  /** Of whom: an IPv4 address, or the /64 network of an IPv6 one, which is what one visitor has. */
  readonly visitor: string;
  /** Requests that are not yet answered. */
  underWay = 0;
  readonly #conn: Deno.TcpConn;
  readonly #limits: ConnectionLimits;
  readonly #buffer = new Uint8Array(READ_BYTES);
  #stage: Stage = "idle";
  #isBody = false;
  #deadline: ReturnType<typeof setTimeout> | undefined;

  constructor(conn: Deno.TcpConn, limits: ConnectionLimits) {
    super({ allowHalfOpen: true });
    this.#conn = conn;
    this.#limits = limits;
    this.visitor = visitorOf(conn.remoteAddr.hostname);
    this.awaitsHead();
  }

  get stage(): Stage {
    return this.#stage;
  }

  /** A request is to come. */
  awaitsHead(): void {
    this.#enter("idle", this.#limits.headMs);
  }

  /** A request's head is there; its body is to come. */
  awaitsBody(): void {
    this.#enter("request", this.#limits.bodyMs);
    this.#isBody = true;
  }

  /** A request is whole: its answer may take as long as its handler does. */
  awaitsAnswer(stage: "request" | "stream"): void {
    this.#enter(stage, undefined);
  }

  /** The last answer has left. */
  lingers(): void {
    this.#enter("idle", this.#limits.lingerMs);
  }

  // What node:http asks of a socket and a plain stream has not.
  get remoteAddress(): string {
    return this.#conn.remoteAddr.hostname;
  }
  setTimeout(): this {
    return this;
  }
  setKeepAlive(): this {
    return this;
  }
  setNoDelay(): this {
    return this;
  }

  override _read(): void {
    const part = this.#isBody ? this.#buffer : this.#buffer.subarray(0, READ_HEAD_BYTES);
    this.#conn.read(part).then(
      (length) => this.push(length === null ? null : Buffer.from(this.#buffer.slice(0, length))),
      () => this.destroy(),
    );
  }

  override _write(chunk: Uint8Array, _encoding: string, done: (error?: Error | null) => void): void {
    const stalled = setTimeout(() => this.destroy(), this.#limits.writeMs);
    this.#writeAll(chunk).then(() => done(), done).finally(() => clearTimeout(stalled));
  }

  override _final(done: (error?: Error | null) => void): void {
    this.#conn.closeWrite().then(() => done(), () => done());
  }

  override _destroy(error: Error | null, done: (error: Error | null) => void): void {
    clearTimeout(this.#deadline);
    try {
      this.#conn.close();
    } catch {
      // It is closed already.
    }
    done(error);
  }

  async #writeAll(chunk: Uint8Array): Promise<void> {
    for (let at = 0; at < chunk.length;) at += await this.#conn.write(chunk.subarray(at));
  }

  #enter(stage: Stage, ms: number | undefined): void {
    clearTimeout(this.#deadline);
    this.#isBody = false;
    this.#stage = stage;
    this.#deadline = ms === undefined || this.destroyed ? undefined : setTimeout(() => this.destroy(), ms);
  }
}

/** One name for all addresses that one visitor may choose from. */
export function visitorOf(address: string): string {
  const mapped = /^::ffff:(\d+\.\d+\.\d+\.\d+)$/i.exec(address)?.[1];
  if (mapped !== undefined || !address.includes(":")) return mapped ?? address;
  // The URL parser writes out `::` in no other way than as it is shortest.
  const [head = "", tail = ""] = address.split("%")[0]!.split("::");
  const [first, last] = [head, tail].map((part) => part === "" ? [] : part.split(":")) as [string[], string[]];
  const zeros = address.includes("::") ? Array<string>(Math.max(0, 8 - first.length - last.length)).fill("0") : [];
  return `${[...first, ...zeros, ...last].slice(0, 4).join(":")}::/64`;
}

/** Listens, and hands each connection that may be to `onConnection`. */
export class Connections {
  readonly #address: Deno.TcpListenOptions;
  readonly #limits: ConnectionLimits;
  readonly #onConnection: (connection: Connection) => void;
  /** By visitor; those of each in the order of their coming. */
  readonly #open = new Map<string, Set<Connection>>();
  #listener: Deno.TcpListener;
  #isClosing = false;
  #complainedAt = -Infinity;
  /** In place of `limits.all` until then. */
  #ceiling = { connections: Infinity, until: -Infinity };
  readonly #done: Promise<void>;

  /** Throws what Deno.listen throws. */
  constructor(
    { hostname, port }: { readonly hostname: string; readonly port: number },
    onConnection: (connection: Connection) => void,
    limits: ConnectionLimits = LIMITS,
  ) {
    this.#limits = limits;
    this.#onConnection = onConnection;
    this.#listener = Deno.listen({ hostname, port });
    this.#address = { hostname, port: this.port };
    this.#done = this.#acceptAll();
  }

  get port(): number {
    return this.#listener.addr.port;
  }

  /** Number of connections now. */
  get size(): number {
    return this.#open.values().reduce((sum, { size }) => sum + size, 0);
  }

  /** No more are accepted; those that are idle are closed, the others by `destroy`. */
  async stop(): Promise<void> {
    this.#isClosing = true;
    this.#listener.close();
    await this.#done;
    for (const connection of this.#all()) {
      if (connection.stage === "idle") connection.destroy();
    }
  }

  destroy(): void {
    for (const connection of this.#all()) connection.destroy();
  }

  #all(): Connection[] {
    return [...this.#open.values()].flatMap((ofVisitor) => [...ofVisitor]);
  }

  async #acceptAll(): Promise<void> {
    while (!this.#isClosing) {
      try {
        this.#admit(await this.#listener.accept());
      } catch (error) {
        if (!this.#isClosing) await this.#recover(error);
      }
    }
  }

  /** Makes room where there is none, and a new listener where this one is of no more use. */
  async #recover(error: unknown): Promise<void> {
    const now = performance.now();
    if (now - this.#complainedAt >= COMPLAINT_MS) {
      this.#complainedAt = now;
      getLogger("status").error("Cannot accept connections to the page for now: {why}; trying again", {
        why: errorMessage(error),
      });
    }
    const { size } = this;
    if (isShortage(error) && size > 0) {
      this.#ceiling = { connections: Math.ceil(size * 3 / 4), until: now + SHORTAGE_MS };
      for (let left = size; left > this.#ceiling.connections; left--) this.#evict(this.#largest());
      return await new Promise((resolve) => setTimeout(resolve, ROOM_MS));
    }
    await new Promise((resolve) => setTimeout(resolve, RETRY_MS));
    if (this.#isClosing || isShortage(error)) return;
    try {
      this.#listener.close();
    } catch {
      // It is closed already.
    }
    try {
      this.#listener = Deno.listen(this.#address);
    } catch {
      // The next accept fails at once, and leads here again.
    }
  }

  #admit(conn: Deno.TcpConn): void {
    const connection = new Connection(conn, this.#limits);
    const { visitor } = connection;
    const ofVisitor = this.#open.get(visitor) ?? new Set();
    this.#open.set(visitor, ofVisitor);
    // Whoever has the most loses the oldest: no visitor can keep another one out, nor a flood the next health check.
    if (ofVisitor.size >= this.#limits.ofAddress) this.#evict([...ofVisitor]);
    else if (this.size >= this.#mostOfAll()) this.#evict(this.#largest());
    ofVisitor.add(connection);
    connection.once("close", () => {
      ofVisitor.delete(connection);
      if (ofVisitor.size === 0 && this.#open.get(visitor) === ofVisitor) this.#open.delete(visitor);
    });
    // Whatever fails on a connection concerns it alone.
    connection.on("error", () => connection.destroy());
    this.#onConnection(connection);
  }

  #mostOfAll(): number {
    const { connections, until } = this.#ceiling;
    return performance.now() < until ? Math.min(connections, this.#limits.all) : this.#limits.all;
  }

  #largest(): Connection[] {
    let largest = new Set<Connection>();
    for (const ofVisitor of this.#open.values()) if (ofVisitor.size > largest.size) largest = ofVisitor;
    return [...largest];
  }

  #evict(connections: readonly Connection[]): void {
    for (const stage of STAGES) {
      const oldest = connections.find((connection) => connection.stage === stage);
      if (oldest) {
        // At once, so that the count holds; `close` comes later.
        this.#open.get(oldest.visitor)?.delete(oldest);
        return void oldest.destroy();
      }
    }
  }
}

/** Whether an accept failed for want of something that comes back: descriptors, memory. */
function isShortage(error: unknown): boolean {
  return /too many open files|no buffer space|out of memory|cannot allocate|os error (12|23|24|105)\b/i
    .test(errorMessage(error));
}
