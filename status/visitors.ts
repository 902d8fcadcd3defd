/**
 * Who asks: the session of a request, and the name that a trusted proxy gives. The name allows nothing: it goes into
 * records and the log. Must not know what is asked for.
 */
import type { Context, MiddlewareHandler } from "hono";
import { readRequester } from "../control.ts";
import { compact } from "../util/compact.ts";
import type { Env } from "./gate.ts";
import type { Visitor } from "./pages/visitor.ts";
import { type SessionKeeper, Sessions } from "./session.ts";

export interface VisitorOptions {
  /** Absent: nobody may act. */
  readonly token?: string;
  readonly publicUrl?: string;
  /** Header in which the proxy before the page gives the name of who asks. */
  readonly userHeader?: string;
  /** Keeps sessions over a restart; absent: nothing does. */
  readonly keeper?: SessionKeeper;
  /** For tests; otherwise new ones. */
  readonly sessions?: Sessions;
}

/** Who asks by the page where no proxy says. */
const NOBODY = "the status page";

export class Visitors {
  readonly sessions: Sessions;
  readonly #hasToken: boolean;
  readonly #userHeader: string | undefined;

  constructor({ token, publicUrl, userHeader, sessions, keeper }: VisitorOptions) {
    this.sessions = sessions ?? new Sessions({ publicUrl, token, keeper });
    this.#hasToken = token !== undefined;
    this.#userHeader = userHeader;
  }

  /** Tells all handlers who asks. */
  readonly middleware: MiddlewareHandler<Env> = async (c, next) => {
    c.set("visitor", this.#visitorOf(c));
    await next();
  };

  #visitorOf(c: Context<Env>): Visitor {
    const { headers, url } = c.req.raw;
    const name = this.#nameIn(headers);
    const isSignedIn = this.#hasToken && this.sessions.isOpen(headers, name);
    const { pathname, searchParams } = new URL(url);
    const done = searchParams.get("done") ?? undefined;
    searchParams.delete("done");
    return {
      mayAct: !this.#hasToken ? "never" : isSignedIn ? "yes" : "after sign-in",
      path: searchParams.size === 0 ? pathname : `${pathname}?${searchParams}`,
      ...compact({ name, done }),
    };
  }

  /** The name, for records and the log. RangeError: what the proxy sends is none. */
  whoAsks(headers: Headers): string {
    const given = this.#userHeader === undefined ? undefined : headers.get(this.#userHeader) ?? undefined;
    if (given === undefined || given === "") return NOBODY;
    // Sent twice it arrives with a comma: one of the two is not the proxy's.
    if (given.includes(",")) throw new RangeError(`${this.#userHeader} names more than one user: look at the proxy`);
    return readRequester(utf8(given));
  }

  /** undefined: the proxy names nobody who can be named. */
  #nameIn(headers: Headers): string | undefined {
    try {
      const name = this.whoAsks(headers);
      return name === NOBODY ? undefined : name;
    } catch (error) {
      if (error instanceof RangeError) return undefined;
      throw error;
    }
  }
}

/** A header's bytes are UTF-8 where they can be: it reaches us as Latin-1. */
function utf8(text: string): string {
  const bytes = Uint8Array.from(text, (char) => char.charCodeAt(0));
  try {
    return new TextDecoder("utf-8", { fatal: true }).decode(bytes);
  } catch {
    return text;
  }
}
