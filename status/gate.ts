/**
 * The one gate before all handlers: looks at a request's head (name of the host, declared size, number of requests
 * under way) before anything is done for it. The token is looked at by status/token.ts, also before a body is read.
 * Must not know what is asked for beyond its path, nor read a body.
 */
import type { MiddlewareHandler } from "hono";
import { isLoopback } from "../util/loopback.ts";
import type { Exchange } from "./http_server.ts";
import type { Visitor } from "./pages/visitor.ts";

export interface GateOptions {
  /** URL of the page as people have it: its host is answered. */
  readonly publicUrl?: string;
  /** Other names that are answered, such as those that a proxy asks by. */
  readonly hosts?: readonly string[];
  /** Told why a request was refused, for metrics. */
  readonly onRefusal?: (why: Refusal) => void;
}

export type Refusal = "host" | "size" | "busy" | "token";

/** Routes with the facts of the connection. Without them (tests) all requests are one visitor's. */
export interface Env {
  Bindings: Partial<Exchange>;
  Variables: { visitor: Visitor };
}

/** Largest body of a request, in bytes. */
export const MAX_BODY_BYTES = 1024 * 1024;

/** How many at a time, of all visitors and of one. All are less than its connections, so that some are left. */
const MOST = {
  /** Answers that go on: logs and events. */
  stream: { all: 192, ofVisitor: 64 },
  /** Pages, metrics, actions. */
  request: { all: 64, ofVisitor: 32 },
} as const;

/** Seconds after which to try again. */
const RETRY_AFTER = "5";
const STREAM = /^\/(events|runs\/[^/]+\/log)$/;
const HEALTH: ReadonlySet<string> = new Set(["/healthz", "/readyz"]);

/** Lets through what may be answered. */
export function gate(options: GateOptions): MiddlewareHandler<Env> {
  const names = new Set([hostnameOf(options.publicUrl ?? ""), ...options.hosts ?? []].map((name) => bareName(name)));
  const counts = { stream: new Counts(MOST.stream), request: new Counts(MOST.request) };
  return async (c, next) => {
    c.header("cache-control", "no-store");
    const refuse = (why: Refusal, status: 400 | 413 | 421 | 503, words: string) => {
      options.onRefusal?.(why);
      return c.text(`${words}\n`, status, status === 503 ? { "retry-after": RETRY_AFTER } : {});
    };
    const host = c.req.header("host") ?? "";
    const name = hostnameOf(`http://${host}`);
    if (!isPlainHost(host) || name === "") {
      return refuse("host", 400, "The request does not name its host, or not as RFC 9110 has it");
    }
    if (!isAnswered(name, names)) {
      return refuse("host", 421, `Not answered under the name ${name}: add it to STATUS_HOSTS if it is this service's`);
    }
    if (Number(c.req.header("content-length") ?? 0) > MAX_BODY_BYTES) {
      return refuse("size", 413, `Too large: at most ${MAX_BODY_BYTES} bytes`);
    }
    // Health costs nothing and must be seen when everything else is too much.
    if (HEALTH.has(c.req.path)) return await next();
    const kind = STREAM.test(c.req.path) ? "stream" : "request";
    const { visitor = "", over, streams } = c.env ?? {};
    const leave = counts[kind].enter(visitor);
    if (!leave) return refuse("busy", 503, "Too many requests at a time; try again soon");
    if (kind === "stream") streams?.();
    if (over?.aborted) leave();
    else over?.addEventListener("abort", leave, { once: true });
    await next();
    if (!over) leave();
  };
}

/** Who is in, of all and of each visitor. */
export class Counts {
  readonly #most: { readonly all: number; readonly ofVisitor: number };
  readonly #inside = new Map<string, number>();
  #all = 0;

  constructor(most: { readonly all: number; readonly ofVisitor: number }) {
    this.#most = most;
  }

  /** undefined: there are too many. Else what leaves again, once. */
  enter(visitor: string): (() => void) | undefined {
    const count = this.#inside.get(visitor) ?? 0;
    if (this.#all >= this.#most.all || count >= this.#most.ofVisitor) return undefined;
    this.#inside.set(visitor, count + 1);
    this.#all++;
    let isInside = true;
    return () => {
      if (!isInside) return;
      isInside = false;
      this.#all--;
      const left = (this.#inside.get(visitor) ?? 1) - 1;
      if (left > 0) this.#inside.set(visitor, left);
      else this.#inside.delete(visitor);
    };
  }
}

/** A name or an address, and perhaps a port; several headers are joined by a comma, which no host has. */
function isPlainHost(host: string): boolean {
  return host.length <= 300 && /^(\[[0-9a-f:.]+\]|[\w-]+(\.[\w-]+)*\.?)(:\d{1,5})?$/i.test(host);
}

/** The name in a URL, as the URL parser writes it: lower case, addresses in their one form; "" if there is none. */
function hostnameOf(url: string): string {
  return bareName(URL.parse(url)?.hostname ?? "");
}

function bareName(name: string): string {
  return name.toLowerCase().replace(/\.$/, "");
}

/**
 * Whether a name may be this service's. A site that a browser has open can make a name of its own point here (DNS
 * rebinding) and read what the browser can reach: it cannot do so with an address, nor with a name without a dot.
 */
function isAnswered(name: string, names: ReadonlySet<string>): boolean {
  return name.startsWith("[") || /^\d+(\.\d+){3}$/.test(name) || !name.includes(".") || isLoopback(name) ||
    names.has(name);
}
