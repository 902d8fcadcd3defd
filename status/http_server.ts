/**
 * HTTP over the connections: requests and answers between node:http, which parses them, and web-standard handlers.
 * Owns the conversion and its deadlines. Must not know routes, nor who may ask what.
 */
import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import type { Socket } from "node:net";
import { onAbort } from "../util/abort.ts";
import { getLogger } from "../util/log.ts";
import { chunksOf } from "../util/streams.ts";
import { type Connection, type ConnectionLimits, Connections } from "./connections.ts";

/** What a handler is told of a request besides itself. */
export interface Exchange {
  /** Of whom it is, see `Connection.visitor`. */
  readonly visitor: string;
  /** Aborts when the answer has left, or its visitor. */
  readonly over: AbortSignal;
  /** The answer goes on for as long as there is something to say: not the first to go when there are too many. */
  streams(): void;
}

export type Handler = (request: Request, exchange: Exchange) => Promise<Response>;

/** Longest head of a request, in bytes. */
const MAX_HEAD_BYTES = 16 * 1024;
const MAX_HEADERS = 100;
/**
 * Requests of one connection under way. node:http reads ahead without bound; browsers wait for the answer, but their
 * next request may be here before we know that it has left.
 */
const MAX_UNDER_WAY = 4;
/** Requests of one connection; then it is closed. */
const MAX_REQUESTS = 1_000;
/** Longest wait for answers under way when the server stops. */
const STOP_MS = 3_000;

/** Serves until `close`. Throws what Deno.listen throws. `Request.url` holds the path and query; its host says nothing. */
export class HttpServer {
  readonly #connections: Connections;
  readonly #underWay = new Set<Promise<void>>();

  constructor(
    address: { readonly hostname: string; readonly port: number },
    handler: Handler,
    limits?: ConnectionLimits,
  ) {
    const server = createServer({ maxHeaderSize: MAX_HEAD_BYTES, keepAlive: true }, (incoming, outgoing) => {
      const connection = incoming.socket as unknown as Connection;
      if (connection.destroyed) return;
      if (++connection.underWay > MAX_UNDER_WAY) return void connection.destroy();
      const work = answer(connection, incoming, outgoing, handler).catch((error) => {
        getLogger("status").error("Cannot answer {path}", { path: incoming.url?.slice(0, 200), error });
        connection.destroy();
      });
      this.#underWay.add(work);
      void work.finally(() => this.#underWay.delete(work));
    });
    server.maxRequestsPerSocket = MAX_REQUESTS;
    server.maxHeadersCount = MAX_HEADERS;
    server.on("clientError", (_error, socket) => socket.destroy());
    this.#connections = new Connections(
      address,
      (connection) => void server.emit("connection", connection as unknown as Socket),
      limits,
    );
  }

  get port(): number {
    return this.#connections.port;
  }

  /** Lets what is under way end for a moment. */
  async close(): Promise<void> {
    await this.#connections.stop();
    let timer: ReturnType<typeof setTimeout> | undefined;
    const time = new Promise<void>((resolve) => timer = setTimeout(resolve, STOP_MS));
    await Promise.race([Promise.all(this.#underWay), time]);
    clearTimeout(timer);
    this.#connections.destroy();
  }
}

async function answer(
  connection: Connection,
  incoming: IncomingMessage,
  outgoing: ServerResponse,
  handler: Handler,
): Promise<void> {
  const over = new AbortController();
  outgoing.once("close", () => over.abort());
  // Its connection is destroyed, which `close` tells.
  incoming.on("error", () => {});
  const body = bodyOf(incoming);
  let isAnswered = false;
  let stage: "request" | "stream" = "request";
  if (body) {
    connection.awaitsBody();
    incoming.once("end", () => {
      if (!isAnswered) connection.awaitsAnswer(stage);
    });
  } else connection.awaitsAnswer(stage);
  const request = requestOf(incoming, body);
  const response = request
    ? await handler(request, {
      visitor: connection.visitor,
      over: over.signal,
      streams() {
        stage = "stream";
        if (!body) connection.awaitsAnswer(stage);
      },
    })
    : new Response("The request's target must be a path\n", { status: 400 });
  if (outgoing.destroyed) return void await response.body?.cancel();
  // A body that nobody read must not be taken for the next request.
  const isLast = incoming.readableEnded === false && body !== null || !request;
  if (isLast) outgoing.setHeader("connection", "close");
  isAnswered = true;
  await send(response, outgoing, incoming.method === "HEAD", over.signal);
  connection.underWay--;
  if (isLast) {
    incoming.resume();
    connection.lingers();
  } else if (connection.underWay === 0) connection.awaitsHead();
}

/** A request's body, of which nothing is read before somebody asks; null: it has none. */
function bodyOf(incoming: IncomingMessage): ReadableStream<Uint8Array<ArrayBuffer>> | null {
  const { "content-length": length = "0", "transfer-encoding": encoding } = incoming.headers;
  if (encoding === undefined && Number(length) === 0) return null;
  const chunks = incoming[Symbol.asyncIterator]() as AsyncIterator<Uint8Array<ArrayBuffer>>;
  return new ReadableStream({
    async pull(controller) {
      const { done, value } = await chunks.next();
      if (done) controller.close();
      else controller.enqueue(value);
    },
  }, { highWaterMark: 0 });
}

/** undefined: it has no path. The whole URL as a target is what proxies are asked with, and this is none. */
function requestOf(incoming: IncomingMessage, body: ReadableStream<Uint8Array<ArrayBuffer>> | null) {
  const { url = "", method = "GET", rawHeaders } = incoming;
  const parsed = url.startsWith("/") ? URL.parse(`http://page${url}`) : null;
  if (!parsed) return undefined;
  try {
    const headers = new Headers();
    // Each by itself: what is sent twice, such as Host, shows.
    for (let at = 0; at + 1 < rawHeaders.length; at += 2) headers.append(rawHeaders[at]!, rawHeaders[at + 1]!);
    const hasBody = body !== null && method !== "GET" && method !== "HEAD";
    return new Request(parsed, { method, headers, ...(hasBody ? { body } : {}) });
  } catch {
    return undefined; // a method or a header that the web's standard forbids
  }
}

async function send(response: Response, outgoing: ServerResponse, isHead: boolean, over: AbortSignal): Promise<void> {
  outgoing.writeHead(response.status, [...response.headers].flat());
  if (!response.body || isHead) {
    await response.body?.cancel();
    outgoing.end();
  } else {
    outgoing.flushHeaders();
    try {
      for await (const chunk of chunksOf(response.body, over)) {
        if (!outgoing.write(chunk)) await drained(outgoing, over);
      }
      outgoing.end();
    } catch {
      outgoing.destroy(); // the source failed or the visitor went away: the answer is not whole, and shows it
    }
  }
  if (!over.aborted) {
    await new Promise<void>((resolve) => over.addEventListener("abort", () => resolve(), { once: true }));
  }
}

function drained(outgoing: ServerResponse, over: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    let leave = () => {};
    const done = () => {
      outgoing.off("drain", done);
      leave();
      resolve();
    };
    outgoing.once("drain", done);
    leave = onAbort(over, done);
  });
}
