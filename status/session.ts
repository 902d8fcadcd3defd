/**
 * Sessions of the page: who has sent the token once acts without it until the session ends. Kept here and not in the
 * cookie, which is random: so a sign-out is final for every copy of it, nothing of the token can be guessed from it, and
 * their number is bounded. Each is known by a digest of cookie and token, so that another token ends all of them; a file
 * may keep these over a restart. Must not know what a session allows.
 */
import { createHmac, randomBytes } from "node:crypto";

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
  /** By the clock. */
  readonly endsAtMs: number;
  /** As the proxy named who opened it; it is nobody else's. */
  readonly user: string | undefined;
}

/** A session as a file has it. */
export interface KeptSession extends Session {
  readonly digest: string;
}

/** What keeps sessions over a restart. */
export interface SessionKeeper {
  load(): readonly KeptSession[];
  /** All that are open. Never throws. */
  save(all: readonly KeptSession[]): void;
}

export interface SessionOptions {
  /** That the sessions are opened with. */
  readonly token?: string | undefined;
  /** Absent: a restart ends them all. */
  readonly keeper?: SessionKeeper | undefined;

  /** The page as people reach it: where that is by https, the cookie is sent by https alone. */
  readonly publicUrl?: string | undefined;
  /** As Date.now. */
  readonly now?: () => number;
}

export class Sessions {
  readonly #now: () => number;
  readonly #token: string;
  readonly #keeper: SessionKeeper | undefined;
  readonly #isSecure: boolean;
  /** By digests of what the cookies hold, oldest first: what is in memory opens nothing. */
  readonly #open = new Map<string, Session>();
  /** Name of the cookie. By `__Host-` a browser takes it from this very name alone, by https. */
  readonly cookie: string;

  constructor({ publicUrl, token = "", keeper, now = () => Date.now() }: SessionOptions = {}) {
    this.#now = now;
    this.#token = token;
    this.#keeper = keeper;
    // Not by a header such as X-Forwarded-Proto, which anybody can send.
    this.#isSecure = publicUrl !== undefined && URL.parse(publicUrl)?.protocol === "https:";
    this.cookie = this.#isSecure ? "__Host-mjl-session" : "mjl-session";
    for (const { digest, endsAtMs, user } of (keeper?.load() ?? []).slice(-MOST_SESSIONS)) {
      // Whatever clock or hand has written it, none lasts longer than one of now.
      if (endsAtMs > now()) this.#open.set(digest, { endsAtMs: Math.min(endsAtMs, now() + SESSION_MS), user });
    }
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
    this.#open.set(this.#digestOf(id), { endsAtMs: now + SESSION_MS, user });
    this.#save();
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
    let ended = 0;
    for (const digest of this.#digestsIn(headers)) if (this.#open.delete(digest)) ended++;
    if (ended > 0) this.#save();
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
      .map((id) => this.#digestOf(id));
  }

  #digestOf(id: string): string {
    return createHmac("sha256", this.#token).update(id).digest("base64");
  }

  #save(): void {
    this.#keeper?.save([...this.#open].map(([digest, session]) => ({ digest, ...session })));
  }
}
