/**
 * Pages that many ask for at once: open pages all hear of an event, and ask anew together. Who asks while such a page is
 * being made shares the next one, so that what is shown is never older than the question. Owns no content.
 */
import { setTimeout as delay } from "node:timers/promises";
import type { Page } from "./answers.ts";
import { theVisitor } from "./pages/visitor.ts";

/** Who asks within so long of the first one shares its page. */
const GATHER_MS = 5;
/** From one page that shows itself anew to the next, and how long one waits at most: messages go first. */
const APART_MS = 60;
const LONGEST_WAIT_MS = 500;

export class SharedPages {
  /** Of those that have not begun to look, by what they are of. */
  readonly #next = new Map<string, Promise<Page>>();
  readonly #now = new Map<string, Promise<unknown>>();

  #turnMs = 0;

  /** The turn of a page that shows itself anew. */
  async turn(): Promise<void> {
    const now = performance.now();
    const at = Math.min(Math.max(now + GATHER_MS, this.#turnMs + APART_MS), now + LONGEST_WAIT_MS);
    this.#turnMs = Math.max(this.#turnMs, at);
    await delay(at - now);
  }

  /**
   * `make` is called once for all that ask before it begins, one at a time of a `key`. `isAgain`: an open page shows itself
   * anew; nobody who comes to it waits for its turn.
   */
  read(asked: string, make: () => Promise<Page>, isAgain = false): Promise<Page> {
    const key = isAgain ? `again ${asked}` : asked;
    let page = this.#next.get(key);
    if (!page) {
      page = this.#make(key, make, isAgain ? this.turn() : delay(GATHER_MS));
      this.#next.set(key, page);
    }
    return page;
  }

  async #make(key: string, make: () => Promise<Page>, turn: Promise<void>): Promise<Page> {
    await Promise.all([this.#now.get(key), turn]);
    this.#next.delete(key);
    const made = make().then(once);
    const settled = made.catch(() => {});
    this.#now.set(key, settled);
    try {
      return await made;
    } finally {
      if (this.#now.get(key) === settled) this.#now.delete(key);
    }
  }
}

/** The page with its HTML made once for visitors that see the same. */
function once({ data, html }: Page): Page {
  const made = new Map<string, string>();
  return {
    data,
    html() {
      const visitor = JSON.stringify(theVisitor());
      const text = made.get(visitor) ?? html();
      made.set(visitor, text);
      return text;
    },
  };
}
