/**
 * The index of ended runs in SQLite: takes lines in and out, and keeps the figures of rows and days with them. Owns the
 * database; what is asked of it is queries.ts. All of SQLite is synchronous, so whoever has much to add calls often with
 * a little. Knows no store.
 */
import { DatabaseSync, type StatementSync } from "node:sqlite";
import type { EndedRun } from "../history.ts";
import { DAY_MS } from "../util/duration.ts";
import { requestedOf, tookMs } from "./figures.ts";
import { type HistoryLine, lineText } from "./line.ts";
import { APPLICATION_ID, SCHEMA, SCHEMA_VERSION } from "./schema.ts";
import { Words } from "./words.ts";

/** What `status` is in the tables. */
export const STATUSES = ["succeeded", "failed", "cancelled"] as const;
/** Ids of one second of ends. */
export const IDS_A_SECOND = 2 ** 20;
/** Ids that a run is tried with. */
const MOST_TRIES = 100;
/** SQLITE_CONSTRAINT: a value that a column cannot have. */
const REFUSED = 19;
/** Later ends than 2239 stand there, so that an id is a safe integer. */
const LAST_SECOND = 8_500_000_000;

/** A row of `runs` as `RUN_COLUMNS` gives it. */
export interface StoredRun {
  readonly run_name: string;
  readonly job: number;
  readonly status: number;
  readonly reason: number;
  readonly owner: number | null;
  readonly parent: string | null;
  readonly root: string | null;
  readonly grp: string | null;
  readonly finished_ms: number;
  readonly requested: number;
  readonly rest: string;
}
export const RUN_COLUMNS = "run_name, job, status, reason, owner, parent, root, grp, finished_ms, requested, rest";

const INSERT_RUN = `INSERT INTO runs(id, took_ms, retried, ${RUN_COLUMNS})
  VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING`;

type FoundRun = StoredRun & { readonly id: number };

interface Figures {
  readonly job: number;
  readonly day: number;
  readonly counts: [number, number, number];
  readonly worth: [number, number, number];
}

export class RunIndex {
  readonly db: DatabaseSync;
  readonly words: Words;
  /** Rows whose last ends have changed, told as they change. */
  onChange: (job: number) => void = () => {};
  /** There are, or were, runs for which there was no room. */
  leftOut = false;
  readonly #statements = new Map<string, StatementSync>();
  #runs = 0;
  #unstored = 0;

  /** `db`: with our tables; see `createTables`. */
  constructor(db: DatabaseSync) {
    this.db = db;
    this.words = new Words(db);
    this.#runs = Number(this.#one("SELECT sum(succeeded + failed + cancelled) n FROM days")["n"] ?? 0);
    this.#unstored = Number(this.#one("SELECT count(*) n FROM unstored")["n"]);
    this.leftOut = this.#one("SELECT EXISTS (SELECT 1 FROM known) n")["n"] === 1;
  }

  /** Of all of them. */
  get runs(): number {
    return this.#runs;
  }

  /** Runs that no segment holds, as far as is known. */
  get unstored(): number {
    return this.#unstored;
  }

  /** A statement, made once. */
  sql(text: string): StatementSync {
    let statement = this.#statements.get(text);
    if (!statement) this.#statements.set(text, statement = this.db.prepare(text));
    return statement;
  }

  /**
   * A statement, made once, whose rows are arrays. For what is asked a million times: objects that node:sqlite makes, as each
   * `run()` does too, are kept by V8 until a collection of everything, arrays are not.
   */
  arrays(text: string): StatementSync {
    let statement = this.#statements.get(text);
    if (!statement) {
      statement = this.sql(text);
      // Missing in Deno's types (2.9.6).
      (statement as StatementSync & { setReturnArrays(are: boolean): void }).setReturnArrays(true);
    }
    return statement;
  }

  /** Whether a statement gives a row. */
  #gives(text: string, ...params: readonly (string | number | null)[]): boolean {
    return this.arrays(text).get(...params) !== undefined;
  }

  /** All of `work` or nothing; throws what it throws. Within another one it is a part of that. */
  transaction(work: () => void): void {
    if (this.db.isTransaction) return work();
    this.db.exec("BEGIN IMMEDIATE");
    const before = { runs: this.#runs, unstored: this.#unstored };
    try {
      work();
      this.db.exec("COMMIT");
    } catch (error) {
      // A full disk has ended it already.
      if (this.db.isTransaction) this.db.exec("ROLLBACK");
      [this.#runs, this.#unstored] = [before.runs, before.unstored];
      this.words.forget();
      throw error;
    }
  }

  /** Adds runs, or puts them in the place of what was known of them. `stored`: they come from a segment. */
  add(lines: readonly HistoryLine[], { stored }: { readonly stored: boolean }): void {
    const figures = new Map<number, Figures>();
    for (const line of lines) {
      this.#tryAdd(line, figures);
      if (!stored) this.keepUnstored([line]);
      else if (this.#unstored > 0) this.#dropUnstored(line.run.run_name);
    }
    for (const one of figures.values()) this.#count(one, 1);
  }

  /** Begins a transaction that goes on over pauses, or ends it: many runs are added in half the time. */
  bulk(step: "begin" | "end"): void {
    if (this.db.isTransaction !== (step === "end")) return;
    this.db.exec(step === "begin" ? "BEGIN IMMEDIATE" : "COMMIT");
  }

  has(runName: string): boolean {
    return this.#gives("SELECT 1 FROM runs WHERE run_name = ?", runName);
  }

  /** Takes a run out. */
  remove(runName: string): void {
    const found = this.#find(runName);
    if (found) this.#remove(found);
    this.#dropUnstored(runName);
  }

  /** Takes the oldest out until there are no more than that. */
  trim(most: number): void {
    while (this.#runs > most) {
      const oldest = this.sql(`SELECT id, ${RUN_COLUMNS} FROM runs ORDER BY id LIMIT 1`).get();
      if (!oldest) return;
      this.#remove(oldest as unknown as FoundRun);
      this.leftOut = true;
    }
  }

  /** End of the oldest run, RFC 3339; undefined: there is none. */
  oldest(): string | undefined {
    const found = this.sql(`SELECT ${RUN_COLUMNS} FROM runs ORDER BY id LIMIT 1`).get();
    return found && this.runOf(found as unknown as StoredRun).finished_at;
  }

  runOf({ job, status, reason, owner, parent, root, grp, requested, rest, run_name }: StoredRun): EndedRun {
    return {
      run_name,
      job_name: this.words.text(job),
      status: STATUSES[status]!,
      reason: this.words.text(reason),
      ...JSON.parse(rest),
      ...JSON.parse(this.words.text(requested)),
      parent_run: parent,
      ...(root === null ? {} : { root }),
      ...(grp === null ? {} : { group: grp }),
      ...(owner === null ? {} : { owner: this.words.text(owner) }),
    };
  }

  /** Notes lines that no segment holds. */
  keepUnstored(lines: readonly HistoryLine[]): void {
    const statement = this.sql("INSERT INTO unstored(run_name, line) VALUES (?, ?) ON CONFLICT DO NOTHING");
    for (const line of lines) {
      this.#unstored += Number(statement.run(line.run.run_name, lineText(line)).changes);
    }
  }

  /** The first lines that no segment holds. */
  unstoredLines(most: number): { readonly run_name: string; readonly line: string }[] {
    return this.sql("SELECT run_name, line FROM unstored LIMIT ?").all(most) as never;
  }

  /** These are in a segment of that name now. */
  stored(runNames: readonly string[], segment: string): void {
    for (const runName of runNames) this.#dropUnstored(runName);
    this.takeSegment(segment);
  }

  /** Remembers that there is such a run, where it is not kept itself. */
  know(runName: string): void {
    this.sql("INSERT OR IGNORE INTO known(name) VALUES (?)").run(wideHash(runName));
  }

  knows(runName: string): boolean {
    return this.has(runName) || this.#gives("SELECT 1 FROM known WHERE name = ?", wideHash(runName));
  }

  /** Runs of which the store has a record that is to be read; what is known already is left alone. */
  miss(found: readonly { readonly runName: string; readonly modifiedAt: Date }[]): void {
    const statement = this.sql("INSERT INTO missing(run_name, modified_ms) VALUES (?, ?) ON CONFLICT DO NOTHING");
    for (const { runName, modifiedAt } of found) statement.run(runName, modifiedAt.getTime());
  }

  /** The newest of them. */
  missing(most: number): string[] {
    const found = this.sql("SELECT run_name FROM missing ORDER BY modified_ms DESC LIMIT ?").all(most);
    return found.map(({ run_name }) => run_name as string);
  }

  missedNoMore(runName: string): void {
    this.sql("DELETE FROM missing WHERE run_name = ?").run(runName);
  }

  /** Names of runs after that one, in their order. */
  names(after: string, most: number): string[] {
    const found = this.sql("SELECT run_name FROM runs WHERE run_name > ? ORDER BY run_name LIMIT ?").all(after, most);
    return found.map(({ run_name }) => run_name as string);
  }

  takeSegment(name: string): void {
    this.sql("INSERT OR IGNORE INTO segments(name) VALUES (?)").run(name);
  }

  dropSegment(name: string): void {
    this.sql("DELETE FROM segments WHERE name = ?").run(name);
  }

  takenSegments(): Set<string> {
    return new Set(this.sql("SELECT name FROM segments").all().map(({ name }) => name as string));
  }

  /** Leaves a run out that SQLite refuses: it would do so again in any other index, and the other runs must be found. */
  #tryAdd(line: HistoryLine, figures: Map<number, Figures>): void {
    try {
      this.#add(line, figures);
    } catch (error) {
      const { errcode = 0 } = error as { errcode?: number };
      if ((errcode & 0xff) !== REFUSED) throw error;
      this.#leaveOut(line.run.run_name);
    }
  }

  #add({ run, payload }: HistoryLine, figures: Map<number, Figures>): void {
    const {
      run_name,
      job_name,
      status,
      reason,
      parent_run,
      root,
      group,
      owner,
      requests,
      limits,
      gpu,
      ...rest
    } = run;
    const finishedMs = Date.parse(run.finished_at);
    const took = tookMs(run);
    const job = this.words.idOf(job_name);
    const stored: StoredRun = {
      run_name,
      job,
      status: STATUSES.indexOf(status),
      reason: this.words.idOf(reason),
      owner: owner === undefined ? null : this.words.idOf(owner),
      parent: parent_run,
      root: root ?? null,
      grp: group ?? null,
      finished_ms: finishedMs,
      requested: this.words.idOf(JSON.stringify({ requests, limits, gpu })),
      rest: JSON.stringify(rest),
    };
    let id = idOf(stored);
    for (let tries = 0; !this.#insert(id, stored, took ?? null, run.retried_as !== undefined); tries++) {
      const known = this.#find(run_name);
      if (known && isSame(known, stored)) return;
      if (known) this.#remove(known);
      // Two names of that second have the same hash.
      else if (tries < MOST_TRIES) id += 2;
      // Hundreds of thousands of one second, as of a clock that stands still: there is no room for all.
      else return this.#leaveOut(run_name);
    }
    this.#gives("INSERT INTO texts(rowid, text) VALUES (CAST(? AS INTEGER), ?)", id, `${run.message}\n${payload}`);
    this.#runs++;
    this.onChange(job);
    tally(figures, { job, day: dayOf(id), status: stored.status, run, took: took ?? 0 });
  }

  #leaveOut(runName: string): void {
    this.leftOut = true;
    this.know(runName);
  }

  #insert(id: number, run: StoredRun, took: number | null, retried: boolean): boolean {
    const { run_name, job, status, reason, owner, parent, root, grp, finished_ms, requested, rest } = run;
    const values = [run_name, job, status, reason, owner, parent, root, grp, finished_ms, requested, rest];
    this.#gives(INSERT_RUN, id, took, Number(retried), ...values);
    return this.#gives("SELECT 1 WHERE changes() = 1");
  }

  #find(runName: string): FoundRun | undefined {
    return this.sql(`SELECT id, ${RUN_COLUMNS} FROM runs WHERE run_name = ?`).get(runName) as never;
  }

  #remove(found: FoundRun): void {
    const { id, job, status } = found;
    const run = this.runOf(found);
    this.sql("DELETE FROM runs WHERE id = ?").run(id);
    this.sql("DELETE FROM texts WHERE rowid = CAST(? AS INTEGER)").run(id);
    this.#runs--;
    this.onChange(job);
    const figures = new Map<number, Figures>();
    tally(figures, { job, day: dayOf(id), status, run, took: tookMs(run) ?? 0 });
    for (const one of figures.values()) this.#count(one, -1);
  }

  #count({ job, day, counts, worth }: Figures, sign: 1 | -1): void {
    const values = [...counts, ...worth].map((value) => sign * value);
    this.#gives(
      `INSERT INTO days(job, day, succeeded, failed, cancelled, core_ms, gib_ms, gpu_ms, stale)
       VALUES (?, ?, ?, ?, ?, ?, ?, ?, 1) ON CONFLICT(job, day) DO UPDATE SET
       succeeded = succeeded + excluded.succeeded, failed = failed + excluded.failed,
       cancelled = cancelled + excluded.cancelled, core_ms = core_ms + excluded.core_ms,
       gib_ms = gib_ms + excluded.gib_ms, gpu_ms = gpu_ms + excluded.gpu_ms, stale = 1`,
      job,
      day,
      ...values,
    );
    if (sign > 0) return;
    this.sql("DELETE FROM days WHERE job = ? AND day = ? AND succeeded + failed + cancelled = 0").run(job, day);
  }

  #dropUnstored(runName: string): void {
    if (this.#unstored === 0) return;
    this.#unstored -= Number(this.sql("DELETE FROM unstored WHERE run_name = ?").run(runName).changes);
  }

  #one(text: string): Record<string, unknown> {
    return this.db.prepare(text).get() as Record<string, unknown>;
  }
}

/** Makes our tables in an empty database. */
export function createTables(db: DatabaseSync): void {
  db.exec(
    `BEGIN; ${SCHEMA} PRAGMA application_id = ${APPLICATION_ID}; PRAGMA user_version = ${SCHEMA_VERSION}; COMMIT;`,
  );
}

/** An index that lives in memory alone. */
export function indexInMemory(): RunIndex {
  const db = new DatabaseSync(":memory:");
  createTables(db);
  return new RunIndex(db);
}

/** The second of an end, kept within what an id can say. */
export function secondOf(ms: number): number {
  return Math.min(Math.max(0, Math.floor(ms / 1000)), LAST_SECOND);
}

function dayOf(id: number): number {
  return Math.floor(Math.floor(id / IDS_A_SECOND) * 1000 / DAY_MS);
}

function idOf({ finished_ms, run_name, grp }: StoredRun): number {
  // Half of them, so that there is room behind the last hash for names of the same one.
  const hash = Math.abs(hashOf(run_name)) % (IDS_A_SECOND / 4);
  return secondOf(finished_ms) * IDS_A_SECOND + hash * 2 + (grp === null ? 0 : 1);
}

/** FNV-1a. */
function hashOf(text: string): number {
  let hash = 0x811c9dc5;
  for (let at = 0; at < text.length; at++) hash = Math.imul(hash ^ text.charCodeAt(at), 0x01000193);
  return hash;
}

/** 52 bits: of a million names, hardly two have the same. */
export function wideHash(name: string): number {
  return (hashOf(name) >>> 0) * 2 ** 20 + (hashOf(`${name}.`) >>> 12);
}

const SAME: readonly (keyof StoredRun)[] = [
  "job",
  "status",
  "reason",
  "owner",
  "parent",
  "root",
  "grp",
  "requested",
  "rest",
];

function isSame(known: StoredRun, run: StoredRun): boolean {
  return SAME.every((column) => known[column] === run[column]);
}

/** More than there are until 2239. */
const DAYS = 2 ** 17;

function tally(
  all: Map<number, Figures>,
  { job, day, status, run, took }: { job: number; day: number; status: number; run: EndedRun; took: number },
): void {
  const key = job * DAYS + day;
  let figures = all.get(key);
  if (!figures) all.set(key, figures = { job, day, counts: [0, 0, 0], worth: [0, 0, 0] });
  const { cores, gib, gpus } = requestedOf(run);
  figures.counts[status]!++;
  figures.worth[0] += cores * took;
  figures.worth[1] += gib * took;
  figures.worth[2] += gpus * took;
}
