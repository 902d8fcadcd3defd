/**
 * Opens the index: in a file of DATA_DIR, or in memory where there is no folder that can be written to. Owns the file: one
 * process uses it at a time, and one that is damaged, of another version or of another store is made anew. Never fails.
 */
import { join } from "node:path";
import { DatabaseSync } from "node:sqlite";
import { shortHash } from "../run_spec.ts";
import { compact } from "../util/compact.ts";
import { errorMessage } from "../util/errors.ts";
import { createTables, indexInMemory, RunIndex } from "./index.ts";
import { APPLICATION_ID, SCHEMA_VERSION } from "./schema.ts";

/** SQLite's own cache, in KiB; what it does not hold is in the system's. */
const CACHE_KIB = 4 * 1024;
/** Of the log of changes, once they are in the file. */
const MOST_LOG_BYTES = 32 * 1024 * 1024;

/** Others read while we write, and a crash of the machine does no harm. */
const WHOLE = "PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL";
/**
 * Until it is whole, nothing is lost with it. A million runs are read in half the time, and no transaction waits for all that
 * it changed to be copied from a log.
 */
const FILLING = "PRAGMA journal_mode = TRUNCATE; PRAGMA synchronous = OFF";

export interface IndexPlace {
  readonly folder: string;
  /** The folder is used only where it is there. */
  readonly ifThere?: boolean;
}

export interface OpenedIndex {
  readonly index: RunIndex;
  /** It holds all runs; else the newest. */
  readonly isFile: boolean;
  /** It has read all of the store once, whenever that was. */
  readonly wasWhole: boolean;
  /** What a person should know, in a sentence. */
  readonly trouble?: string;
  /** When it resolves, a crash of the machine does no harm any more. */
  markWhole(): Promise<void>;
  /** `discard`: the file goes. */
  close(how?: { readonly discard: boolean }): void;
}

/** `storeUrl`: of which records it is the index. */
export function openIndex(place: IndexPlace | undefined, storeUrl: string): OpenedIndex {
  if (!place || place.ifThere && !isFolder(place.folder)) return inMemory();
  try {
    return openFile(place.folder, storeUrl);
  } catch (error) {
    const isNotOurs = error instanceof Deno.errors.PermissionDenied || error instanceof Deno.errors.NotCapable;
    if (place.ifThere && isNotOurs) return inMemory();
    return inMemory(
      `No index of runs in ${place.folder} (DATA_DIR): ${errorMessage(error)}; the newest are kept in memory`,
    );
  }
}

/** The file for a store in that folder. */
export function indexFile(folder: string, storeUrl: string): string {
  return join(folder, `history-${shortHash([storeUrl])}.sqlite`);
}

/** Reads the index that a service keeps; undefined: there is none that is whole, or it cannot be read. */
export function readIndex(folder: string, storeUrl: string): { index: RunIndex; close(): void } | undefined {
  const path = indexFile(folder, storeUrl);
  let db: DatabaseSync | undefined;
  try {
    // SQLite would make an empty one.
    if (!Deno.statSync(path).isFile) return undefined;
    db = new DatabaseSync(path, { readOnly: true, timeout: 1_000 });
    const found = db;
    if (isOurs(found, storeUrl) && aboutOf(found, "whole") === "yes") {
      return { index: new RunIndex(found), close: () => found.close() };
    }
  } catch {
    // None, or none for us: segments tell the same.
  }
  db?.close();
  return undefined;
}

function inMemory(trouble?: string): OpenedIndex {
  const index = indexInMemory();
  return {
    index,
    isFile: false,
    wasWhole: false,
    ...compact({ trouble }),
    markWhole: () => Promise.resolve(),
    close: () => index.db.close(),
  };
}

function openFile(folder: string, storeUrl: string): OpenedIndex {
  Deno.mkdirSync(folder, { recursive: true });
  const path = indexFile(folder, storeUrl);
  const lock = Deno.openSync(`${path}.lock`, { create: true, write: true });
  try {
    if (!lock.tryLockSync(true)) throw new Error("another process uses it");
    let trouble: string | undefined;
    let index: RunIndex;
    try {
      index = openOurs(path, storeUrl);
    } catch (error) {
      trouble = `The index of runs ${path} cannot be used and is made anew: ${errorMessage(error)}`;
      removeFiles(path);
      index = openOurs(path, storeUrl);
    }
    const { db } = index;
    // Closed after SQLite has closed its own: to close one file is to lose the locks that a process has by another one.
    const file = Deno.openSync(path);
    return {
      index,
      isFile: true,
      wasWhole: aboutOf(db, "whole") === "yes",
      ...compact({ trouble }),
      async markWhole() {
        // Hundreds of MB that no disk has yet: SQLite would wait for them, and everything else for SQLite.
        await file.syncData().catch(() => {/* SQLite says the same of what it writes next. */});
        db.exec(WHOLE);
        setAbout(db, "whole", "yes");
      },
      close({ discard } = { discard: false }) {
        db.close();
        file.close();
        if (discard) removeFiles(path);
        lock.close();
      },
    };
  } catch (error) {
    lock.close();
    throw error;
  }
}

function openOurs(path: string, storeUrl: string): RunIndex {
  const db = new DatabaseSync(path, { timeout: 100 });
  try {
    db.exec(`PRAGMA cache_size = -${CACHE_KIB}; PRAGMA mmap_size = 0; PRAGMA temp_store = MEMORY;
      PRAGMA journal_size_limit = ${MOST_LOG_BYTES}`);
    if (isEmpty(db)) {
      createTables(db);
      setAbout(db, "store", storeUrl);
    } else if (!isOurs(db, storeUrl)) throw new Error("another version has written it, or something else");
    const isWhole = aboutOf(db, "whole") === "yes";
    const index = new RunIndex(db);
    // Finds what is torn where it can be seen at once, too; the rest shows when it is read.
    const oldest = index.oldest();
    if (!isWhole && oldest !== undefined) throw new Error("it was not finished");
    db.exec(isWhole ? WHOLE : FILLING);
    return index;
  } catch (error) {
    db.close();
    throw error;
  }
}

function isEmpty(db: DatabaseSync): boolean {
  return db.prepare("SELECT count(*) n FROM sqlite_schema").get()!["n"] === 0;
}

function isOurs(db: DatabaseSync, storeUrl: string): boolean {
  const pragma = (name: string) => db.prepare(`PRAGMA ${name}`).get()?.[name];
  return pragma("application_id") === APPLICATION_ID && pragma("user_version") === SCHEMA_VERSION &&
    aboutOf(db, "store") === storeUrl;
}

function aboutOf(db: DatabaseSync, key: string): string | undefined {
  return db.prepare("SELECT value FROM about WHERE key = ?").get(key)?.["value"] as string | undefined;
}

function setAbout(db: DatabaseSync, key: string, value: string): void {
  db.prepare("INSERT INTO about(key, value) VALUES (?, ?) ON CONFLICT(key) DO UPDATE SET value = excluded.value")
    .run(key, value);
}

function removeFiles(path: string): void {
  for (const suffix of ["", "-journal", "-wal", "-shm"]) {
    try {
      Deno.removeSync(path + suffix);
    } catch (error) {
      if (!(error instanceof Deno.errors.NotFound)) throw error;
    }
  }
}

function isFolder(path: string): boolean {
  try {
    return Deno.statSync(path).isDirectory;
  } catch {
    return false;
  }
}
