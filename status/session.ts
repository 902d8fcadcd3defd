/**
 * Sessions of the page: who has sent the token once acts without it until the session ends. Kept here and not in the
 * cookie, which is random: so a sign-out is final for every copy of it, nothing of the token can be guessed from it, and
 * their number is bounded. A restart ends them all, which costs each person one sign-in.
 * Must not know the token (status/token.ts), nor what a session allows.
 */
import { createHash, randomBytes } from "node:crypto";

/** How long a session lasts, however much it is used. */
export const SESSION_MS = 12 * 3600_000;
/** Sessions at a time; one more ends the oldest. */
const MOST_SESSIONS = 1_000;
/** Random bytes of a session's cookie. */
const ID_BYTES = 32;
/** As `randomBytes` of so many is in base64url. */
const ID = /^[A-Za-z0-9_-]{43}$/;
/** Values of the cookie that are looked at: a neighbouring site may have put others before ours. */
const MOST_VALUES = 8;

interface Session {
  /** By `now`. */
  readonly endsAtMs: number;
  /** As the proxy named who opened it; it is nobody else's. */
  readonly user: string | undefined;
}

export interface SessionOptions {
  /** The page as people reach it: where that is by https, the cookie is sent by https alone. */
  readonly publicUrl?: string | undefined;
  /** In milliseconds, of a clock that nobody sets. */
  readonly now?: () => number;
}

export class Sessions {
  readonly #now: () => number;
  readonly #isSecure: boolean;
  /** By digests of what the cookies hold, oldest first: what is in memory opens nothing. */
  readonly #open = new Map<string, Session>();
  /** Name of the cookie. By `__Host-` a browser takes it from this very name alone, by https. */
  readonly cookie: string;

  constructor({ publicUrl, now = () => performance.now() }: SessionOptions = {}) {
    this.#now = now;
    // Not by a header such as X-Forwarded-Proto, which anybody can send.
    this.#isSecure = publicUrl !== undefined && URL.parse(publicUrl)?.protocol === "https:";
    this.cookie = this.#isSecure ? "__Host-mjl-session" : "mjl-session";
  }

  /** How many are open, those too whose time is over and that nobody has asked for. */
  get size(): number {
    return this.#open.size;
  }

  /** Opens one under a new name, whatever the request has sent. Gives the value of `Set-Cookie`. */
  open(user: string | undefined): string {
    const now = this.#now();
    for (const [digest, { endsAtMs }] of this.#open) {
      if (endsAtMs > now && this.#open.size < MOST_SESSIONS) break;
      this.#open.delete(digest);
    }
    const id = randomBytes(ID_BYTES).toString("base64url");
    this.#open.set(digestOf(id), { endsAtMs: now + SESSION_MS, user });
    return this.#cookieOf(id, SESSION_MS / 1000);
  }

  /** Whether the request is of an open session of that user. */
  isOpen(headers: Headers, user: string | undefined): boolean {
    return this.#digestsIn(headers).some((digest) => {
      const session = this.#open.get(digest);
      if (session && session.endsAtMs <= this.#now()) this.#open.delete(digest);
      return session !== undefined && session.endsAtMs > this.#now() && session.user === user;
    });
  }

  /** Ends the request's sessions, for all who have a copy. Gives the value of `Set-Cookie` that has it forgotten. */
  end(headers: Headers): string {
    for (const digest of this.#digestsIn(headers)) this.#open.delete(digest);
    return this.#cookieOf("", 0);
  }

  #cookieOf(value: string, seconds: number): string {
    const parts = [`${this.cookie}=${value}`, "Path=/", `Max-Age=${seconds}`, "HttpOnly", "SameSite=Strict"];
    return [...parts, ...this.#isSecure ? ["Secure"] : []].join("; ");
  }

  #digestsIn(headers: Headers): string[] {
    const begin = `${this.cookie}=`;
    return (headers.get("cookie") ?? "").split(/[;,] */)
      .filter((pair) => pair.startsWith(begin))
      .map((pair) => pair.slice(begin.length))
      .filter((value) => ID.test(value))
      .slice(0, MOST_VALUES)
      .map(digestOf);
  }
}

function digestOf(id: string): string {
  return createHash("sha256").update(id).digest("base64");
}
