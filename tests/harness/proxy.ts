/**
 * Faults on the way to a server: a TCP proxy whose connections can be cut, refused, swallowed or slowed, and an HTTP
 * proxy where a hook decides for each request. Both listen on loopback; neither knows what is spoken through it beyond
 * that. The target is named per proxy and may be down.
 */
import http from "node:http";
import https from "node:https";
import type { Certificate } from "./certs.ts";
import { freePort } from "./ports.ts";
import { pause } from "./wait.ts";

/**
 * - `pass`: hand everything on.
 * - `refuse`: close each new connection at once; open ones stay.
 * - `blackhole`: take connections and bytes, hand nothing on in either direction and say nothing: a half-open link. A
 *   connection that lost bytes this way stays lost when the mode changes; new ones work.
 * - `mute`: hand on what the client sends, and nothing of what is answered; for connections that are cut then.
 * - `{ delayMs }`: hold each chunk this long, in either direction.
 */
export type TcpMode = "pass" | "refuse" | "blackhole" | "mute" | { readonly delayMs: number };

/** A TCP proxy. The mode counts for open connections too, except `refuse`. Disposing it closes all. */
export class TcpProxy implements AsyncDisposable {
  readonly port: number;
  /** Connections taken since the start. */
  accepted = 0;
  mode: TcpMode = "pass";
  /** Bytes that went into a black hole. */
  lostBytes = 0;
  readonly #listener: Deno.TcpListener;
  readonly #targetPort: number;
  readonly #open = new Set<Deno.Conn>();
  readonly #accepting: Promise<void>;

  /** `hostname`: another address of this machine, for those who cannot reach loopback. */
  constructor(targetPort: number, { hostname = "127.0.0.1" }: { hostname?: string } = {}) {
    this.#targetPort = targetPort;
    this.#listener = Deno.listen({ hostname, port: 0 });
    this.port = this.#listener.addr.port;
    this.#accepting = this.#accept();
  }

  /** Number of clients connected now. */
  get connections(): number {
    return this.#open.size / 2;
  }

  /** Closes every open connection; new ones go by the mode. */
  cut(): void {
    for (const connection of this.#open) close(connection);
    this.#open.clear();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#listener.close();
    this.cut();
    await this.#accepting;
  }

  async #accept(): Promise<void> {
    const pumps = new Set<Promise<void>>();
    for await (const client of this.#listener) {
      this.accepted++;
      if (this.mode === "refuse") close(client);
      else {
        const pump: Promise<void> = this.#join(client).finally(() => pumps.delete(pump));
        pumps.add(pump);
      }
    }
    await Promise.all(pumps);
  }

  async #join(client: Deno.TcpConn): Promise<void> {
    let server: Deno.TcpConn;
    try {
      server = await Deno.connect({ hostname: "127.0.0.1", port: this.#targetPort });
    } catch {
      close(client);
      return;
    }
    this.#open.add(client).add(server);
    const link = { lost: false };
    await Promise.all([this.#pump(client, server, link), this.#pump(server, client, link, { isAnswer: true })]);
    for (const connection of [client, server]) {
      close(connection);
      this.#open.delete(connection);
    }
  }

  async #pump(
    from: Deno.TcpConn,
    to: Deno.TcpConn,
    link: { lost: boolean },
    { isAnswer = false } = {},
  ): Promise<void> {
    const buffer = new Uint8Array(64 * 1024);
    try {
      for (;;) {
        const count = await from.read(buffer);
        if (count === null) break;
        if (this.mode === "blackhole") link.lost = true;
        if (link.lost || isAnswer && this.mode === "mute") {
          this.lostBytes += count;
          continue;
        }
        if (typeof this.mode === "object") await pause(this.mode.delayMs);
        await writeAll(to, buffer.subarray(0, count));
      }
      if (!link.lost && this.mode !== "blackhole") await to.closeWrite();
      // Whoever leaves a lost link leaves it alone; the other end hears nothing until cut().
    } catch {
      // One end is gone: so is the other.
      close(from);
      close(to);
    }
  }
}

/**
 * What to do with one request.
 * - `pass`: hand it on.
 * - `status`: answer without asking the server.
 * - `delayMs`: hand it on after this time.
 * - `cutAfterBytes`: hand on the answer's head and so many bytes of its body, then break the stream.
 * - `silentAfterBytes`: hand on so many bytes, then keep the stream open without a word until cut() or the client goes.
 * - `swallow`: hand it on, then break off instead of answering: the client cannot know that it was done.
 * - `answer`: answer in its own way without asking the server; what it leaves open ends with cut() or the client.
 */
export type HttpFault =
  | "pass"
  | "swallow"
  | { readonly status: number; readonly headers?: Record<string, string>; readonly body?: string }
  | { readonly answer: (response: http.ServerResponse) => void | Promise<void> }
  | { readonly delayMs: number }
  | { readonly cutAfterBytes: number }
  | { readonly silentAfterBytes: number };

/** A request as the hook sees it. */
export interface ProxiedRequest {
  readonly method: string;
  /** Path and query. */
  readonly path: string;
  readonly headers: Headers;
  readonly body: Uint8Array<ArrayBuffer>;
}

/** Decides about one request. `count`: how many requests came before it. */
export type HttpHook = (request: ProxiedRequest, count: number) => HttpFault | Promise<HttpFault>;

export interface HttpProxyOptions {
  /** `http://127.0.0.1:PORT` or `https://…`. */
  target: string;
  /** PEM of the authority that the target's certificate is checked with. */
  targetCa?: string;
  /** Serve https with this certificate. Default: plain http. */
  certificate?: Certificate;
  hook?: HttpHook;
}

/** An HTTP/1.1 proxy to one target. Disposing it closes all. */
export class HttpProxy implements AsyncDisposable {
  readonly port: number;
  readonly url: string;
  /** May be replaced at any time. */
  hook: HttpHook;
  /** Method and path of each request, in the order of arrival. */
  readonly requests: string[] = [];
  /** Bytes of answers' bodies that were passed on, by path. */
  readonly passed = new Map<string, number>();
  // node:http rather than Deno.serve: an answer can be broken off without a word on the console.
  readonly #server: http.Server;
  readonly #client: Deno.HttpClient;
  readonly #target: string;
  readonly #open = new Map<http.ServerResponse, AbortController>();

  private constructor({ target, targetCa, certificate, hook = () => "pass" }: HttpProxyOptions, port: number) {
    this.#target = target;
    this.hook = hook;
    this.port = port;
    this.url = `${certificate === undefined ? "http" : "https"}://127.0.0.1:${port}`;
    this.#client = Deno.createHttpClient({
      http2: false,
      // S3 signatures cover the host that the client called.
      allowHost: true,
      poolIdleTimeout: 1_000,
      ...(targetCa === undefined ? {} : { caCerts: [targetCa] }),
    });
    const listener: http.RequestListener = (request, response) => void this.#handle(request, response);
    this.#server = certificate === undefined
      ? http.createServer(listener)
      : https.createServer({ cert: certificate.cert, key: certificate.key }, listener);
  }

  /** Starts a proxy; resolves when it listens. */
  static async start(options: HttpProxyOptions): Promise<HttpProxy> {
    const proxy = new HttpProxy(options, freePort());
    await new Promise<void>((resolve, reject) => {
      proxy.#server.once("error", reject).listen(proxy.port, "127.0.0.1", () => resolve());
    });
    return proxy;
  }

  /** Breaks off every answer that is under way, silent ones too. */
  cut(): void {
    for (const [response, upstream] of this.#open) {
      upstream.abort(new Error("Cut by the test"));
      response.destroy();
    }
    this.#open.clear();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.cut();
    const closed = new Promise<void>((resolve) => this.#server.close(() => resolve()));
    this.#server.closeAllConnections();
    await closed;
    this.#client.close();
  }

  async #handle(incoming: http.IncomingMessage, response: http.ServerResponse): Promise<void> {
    const upstream = new AbortController();
    this.#open.set(response, upstream);
    // Also when the client goes: the target is to see that.
    response.once("close", () => upstream.abort(new Error("The client is gone")));
    try {
      const request = await readRequest(incoming);
      const count = this.requests.push(`${request.method} ${request.path}`) - 1;
      await this.#answer(request, await this.hook(request, count), response, upstream.signal);
    } catch {
      // The client is gone, or the target broke off: pass that on.
      response.destroy();
    } finally {
      this.#open.delete(response);
    }
  }

  async #answer(request: ProxiedRequest, fault: HttpFault, response: http.ServerResponse, signal: AbortSignal) {
    if (typeof fault === "object" && "status" in fault) {
      response.writeHead(fault.status, fault.headers ?? {}).end(fault.body ?? "");
      return;
    }
    if (typeof fault === "object" && "answer" in fault) {
      await fault.answer(response);
      return;
    }
    if (typeof fault === "object" && "delayMs" in fault) await pause(fault.delayMs);
    const answer = await this.#ask(request, signal);
    if (fault === "swallow") {
      await answer.arrayBuffer();
      response.destroy();
      return;
    }
    response.writeHead(answer.status, [...answer.headers].filter(([name]) => !HOP_BY_HOP.has(name)).flat());
    response.flushHeaders();
    const onPassed = (bytes: number) => this.passed.set(request.path, (this.passed.get(request.path) ?? 0) + bytes);
    await relay(answer, fault, response, { signal, onPassed });
  }

  async #ask({ method, path, headers, body }: ProxiedRequest, signal: AbortSignal): Promise<Response> {
    return await fetch(this.#target + path, {
      method,
      headers: [...[...headers].filter(([name]) => !HOP_BY_HOP.has(name) && name !== "accept-encoding"), PLAIN],
      // Whole, so that it keeps its length: S3 refuses chunks.
      ...(body.length === 0 ? {} : { body }),
      redirect: "manual",
      client: this.#client,
      signal,
    });
  }
}

/** Hands on the answer's body as far as the fault lets it. */
async function relay(
  answer: Response,
  fault: HttpFault,
  response: http.ServerResponse,
  { signal, onPassed }: { signal: AbortSignal; onPassed: (bytes: number) => void },
) {
  const cut = typeof fault === "object" && "cutAfterBytes" in fault;
  const silent = typeof fault === "object" && "silentAfterBytes" in fault;
  let left = cut ? fault.cutAfterBytes : silent ? fault.silentAfterBytes : Infinity;
  for await (const chunk of answer.body ?? []) {
    const part = chunk.subarray(0, left);
    response.write(part);
    onPassed(part.length);
    left -= chunk.length;
    if (left <= 0) break;
  }
  if (left > 0) {
    response.end();
    return;
  }
  // Until cut() or the client's end.
  if (silent) await new Promise((resolve) => signal.addEventListener("abort", resolve));
  // What was written is to arrive before the end.
  else await new Promise((resolve) => response.write("", resolve));
  response.destroy();
}

async function readRequest(incoming: http.IncomingMessage): Promise<ProxiedRequest> {
  const chunks: Uint8Array[] = [];
  for await (const chunk of incoming) chunks.push(chunk);
  const headers = new Headers();
  for (const [name, value] of Object.entries(incoming.headers)) {
    for (const one of [value ?? []].flat()) headers.append(name, one);
  }
  const body = new Uint8Array(await new Blob(chunks as Uint8Array<ArrayBuffer>[]).arrayBuffer());
  return { method: incoming.method ?? "GET", path: incoming.url ?? "/", headers, body };
}

/** What is asked for: fetch would unpack a packed body, and leave the header that says it is packed. */
const PLAIN: [string, string] = ["accept-encoding", "identity"];

/** Headers of one connection, not of the message (RFC 9110, 7.6.1). */
const HOP_BY_HOP = new Set(["connection", "keep-alive", "transfer-encoding", "te", "trailer", "upgrade"]);

function close(connection: Deno.Conn): void {
  try {
    connection.close();
  } catch { /* closed before */ }
}

async function writeAll(to: Deno.Conn, bytes: Uint8Array): Promise<void> {
  for (let at = 0; at < bytes.length;) at += await to.write(bytes.subarray(at));
}
