/**
 * Pages that many ask for at once: open pages all hear of an event, and ask anew together. Who asks while such a page is
 * being made shares the next one, so that what is shown is never older than the question. Owns no content.
 */
import { setTimeout as delay } from "node:timers/promises";
import type { Page } from "./answers.ts";
import { theVisitor } from "./pages/visitor.ts";

/** Who asks within so long of the first one shares its page. */
const GATHER_MS = 5;

export class SharedPages {
  /** Of those that have not begun to look, by what they are of. */
  readonly #next = new Map<string, Promise<Page>>();
  readonly #now = new Map<string, Promise<unknown>>();

  /** `make` is called once for all that ask before it begins, one at a time of a `key`. */
  read(key: string, make: () => Promise<Page>): Promise<Page> {
    let page = this.#next.get(key);
    if (!page) {
      page = this.#make(key, make);
      this.#next.set(key, page);
    }
    return page;
  }

  async #make(key: string, make: () => Promise<Page>): Promise<Page> {
    await Promise.all([this.#now.get(key), delay(GATHER_MS)]);
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
