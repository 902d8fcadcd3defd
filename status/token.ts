/**
 * The token that actions want: compared in constant time; a wrong one is logged (without it), counted and answered
 * late, so that it cannot be guessed by trying.
 */
import { createHash, timingSafeEqual } from "node:crypto";
import { getLogger } from "../util/log.ts";
import { Counts } from "./gate.ts";

export interface TokenOptions {
  readonly token: string;
  /** How long a wrong token waits for its answer. Default: a second. */
  readonly delayMs?: number;
  readonly onWrong?: () => void;
}

/** Wrong tokens that wait at a time; more are not looked at. A visitor who waits keeps nobody else out. */
const MOST_WAITING = { all: 64, ofVisitor: 4 };
/** At most one line of the log in this time. */
const COMPLAINT_MS = 10_000;

/** What people are told of a token that was not taken, by what `check` said of it. */
export const TOKEN_FAULTS = {
  wrong: "The token is not the right one.",
  busy: "Too many wrong tokens came from your address: try again in a moment.",
} as const;

export class TokenCheck {
  readonly #digest: Uint8Array;
  readonly #delayMs: number;
  readonly #onWrong: () => void;
  readonly #waiting = new Counts(MOST_WAITING);
  #wrong = 0;
  #complainedAt = -Infinity;

  constructor({ token, delayMs = 1_000, onWrong = () => {} }: TokenOptions) {
    this.#digest = digest(token);
    this.#delayMs = delayMs;
    this.#onWrong = onWrong;
  }

  /** `busy`: this visitor has too many wrong ones that wait; the token was not looked at. */
  async check(given: string, visitor: string): Promise<"right" | "wrong" | "busy"> {
    const leave = this.#waiting.enter(visitor);
    if (!leave) return "busy";
    try {
      if (timingSafeEqual(digest(given), this.#digest)) return "right";
      this.#onWrong();
      this.#complain(visitor);
      await new Promise((resolve) => setTimeout(resolve, this.#delayMs));
      return "wrong";
    } finally {
      leave();
    }
  }

  #complain(visitor: string): void {
    this.#wrong++;
    const now = performance.now();
    if (now - this.#complainedAt < COMPLAINT_MS) return;
    this.#complainedAt = now;
    getLogger("status").warn("Wrong token on the page from {visitor}; {count} since the last line about it", {
      visitor,
      count: this.#wrong,
    });
    this.#wrong = 0;
  }
}

/** Of equal length for all tokens, so that the time a comparison takes tells nothing. */
function digest(text: string): Uint8Array {
  return createHash("sha256").update(text).digest();
}
