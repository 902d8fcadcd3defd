/**
 * Subscription Identifiers (MQTT 5, 3.8.2.1.2): which number stands for which filter. Pure.
 */

/**
 * A set of filters, each with its Subscription Identifier (1 to 268,435,455). The identifier is a hash of the filter,
 * not a counter: messages that a broker queued for an earlier process of ours must still map to their filter. Filters
 * whose hashes collide take the next free numbers in the order of their names, so that a set always maps the same way.
 */
export class Identifiers {
  readonly #identifiers = new Map<string, number>();
  /** Lists of one each, that the copies of a filter may share theirs. */
  readonly #filters = new Map<number, readonly [string]>();

  constructor(readonly filters: ReadonlySet<string>) {
    const displaced: string[] = [];
    for (const filter of filters) {
      const identifier = hash28(filter);
      const [other] = this.#filters.get(identifier) ?? [];
      if (other === undefined || filter < other) this.#set(filter, identifier);
      if (other !== undefined) displaced.push(filter < other ? other : filter);
    }
    for (const filter of displaced.sort()) {
      let identifier = hash28(filter);
      while (this.#filters.has(identifier)) identifier = identifier >= HIGHEST_IDENTIFIER ? 1 : identifier + 1;
      this.#set(filter, identifier);
    }
  }

  of(filter: string): number | undefined {
    return this.#identifiers.get(filter);
  }
  /**
   * The filters that a copy is for. None: these identifiers are of no filter any more, so the copy is nobody's;
   * undefined: the broker does not tell.
   */
  filtersOf(identifiers: readonly number[] | undefined): readonly string[] | undefined {
    if (identifiers?.length === 1) return this.#filters.get(identifiers[0]!) ?? [];
    return identifiers?.flatMap((identifier) => this.#filters.get(identifier) ?? []);
  }

  #set(filter: string, identifier: number): void {
    this.#identifiers.set(filter, identifier);
    this.#filters.set(identifier, [filter]);
  }
}

/** The highest that MQTT has; this and the one below are for trials of our own (copies.ts). */
export const HIGHEST_IDENTIFIER = 0x0fffffff;

/** FNV-1a (http://www.isthe.com/chongo/tech/comp/fnv/) over UTF-16 units, xor-folded to 28 bits, never 0. */
function hash28(text: string): number {
  let hash = 0x811c9dc5;
  for (let index = 0; index < text.length; index++) {
    hash = Math.imul(hash ^ text.charCodeAt(index), 0x01000193) >>> 0;
  }
  return ((hash >>> 28) ^ (hash & HIGHEST_IDENTIFIER)) || 1;
}
