/**
 * Texts that many runs share (names of rows, reasons, owners, what was requested), each kept once. Owns the table `words`.
 */
import type { DatabaseSync, StatementSync } from "node:sqlite";

/** Kept in memory, each way. */
const MOST_CACHED = 5_000;

export class Words {
  readonly #find: StatementSync;
  readonly #insert: StatementSync;
  readonly #read: StatementSync;
  readonly #ids = new Map<string, number>();
  readonly #texts = new Map<number, string>();

  constructor(db: DatabaseSync) {
    this.#find = db.prepare("SELECT id FROM words WHERE text = ?");
    this.#insert = db.prepare("INSERT INTO words(text) VALUES (?) RETURNING id");
    this.#read = db.prepare("SELECT text FROM words WHERE id = ?");
  }

  /** undefined: no run has it. */
  find(text: string): number | undefined {
    const id = this.#ids.get(text) ?? this.#find.get(text)?.["id"] as number | undefined;
    if (id !== undefined) keep(this.#ids, text, id);
    return id;
  }

  idOf(text: string): number {
    const id = this.find(text) ?? this.#insert.get(text)!["id"] as number;
    keep(this.#ids, text, id);
    return id;
  }

  text(id: number): string {
    const text = this.#texts.get(id) ?? this.#read.get(id)?.["text"] as string | undefined;
    if (text === undefined) throw new RangeError(`the index has no word ${id}`);
    keep(this.#texts, id, text);
    return text;
  }

  /** What a broken transaction had added is there no more. */
  forget(): void {
    this.#ids.clear();
    this.#texts.clear();
  }
}

function keep<K, V>(cache: Map<K, V>, key: K, value: V): void {
  if (cache.size >= MOST_CACHED && !cache.has(key)) cache.clear();
  cache.set(key, value);
}
