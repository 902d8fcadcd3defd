/**
 * Run records in the store: `{RUNS_URL}/{run name}.json` for each run that ended; `.live.json`, a list of the runs under
 * way, so that one whose Job vanished while the service was down still gets an outcome; and in `.session/` what outlives
 * a process of the broker's session. Owns their names and shapes; knows nothing of the cluster or the broker.
 */
import { MAX_GET_BYTES, type ObjectStore, type Row, type RunRecord, TooLargeError } from "./ports.ts";
export { ORIGIN, PLACE, runName, words } from "./records/shape.ts";
import { asLiveEntries, asRunRecord } from "./records/shape.ts";
import { isRoot, isRunName, rootOfRun, runNameStart, shortHash } from "./run_spec.ts";
import type { LiveRun } from "./runs.ts";
import { compact } from "./util/compact.ts";
import { safeWords } from "./util/errors.ts";
import { parseJson } from "./util/json.ts";

/** Folders of what is kept beside records: their names begin with a dot, as no run's name does. */
export type Notes =
  | ".groups"
  | ".open-groups"
  | ".joins"
  | ".open-joins"
  | ".open-attempts"
  | ".schedules"
  | ".unstarted";

/** A run that has ended, and when its record was written. */
export interface WrittenRecord {
  readonly runName: string;
  readonly modifiedAt: Date;
}

/** Behind all keys that begin with a dot, of which there may be many more than records. */
const AFTER_NOTES = ".~";
const LIVE_KEY = ".live.json";
const SESSIONS = ".session/";
/** Largest record that is read; one with the largest payload and Job has less than 1 MiB. */
const MAX_RECORD_BYTES = 4 * 1024 * 1024;

/** What outlives a process of the broker's session, see listener/session.ts. Numbers are those of deliveries. */
export interface SessionRecord {
  /** A word of this session of the broker's: a new session has a new one. */
  readonly epoch: string;
  /** All deliveries up to this one are acknowledged, or about to be, but for those of `open`. */
  readonly acknowledged: number;
  /** Ranges of older ones, first and last, in which some are not acknowledged. */
  readonly open: readonly (readonly [number, number])[];
  /** No delivery has had this number or a higher one. */
  readonly reserved: number;
  /** The lowest number of those that were acknowledged last, of which the broker may not have heard. */
  readonly from: number;
  /** Packet identifier of the newest delivery that is acknowledged. */
  readonly lastId?: number;
  /** What was seen of the broker: it keeps packet identifiers and gives them out in order, over connections too. */
  readonly orderly?: boolean;
  /** The broker's order was tried in this session, see listener/order_trial.ts, whatever that has shown. */
  readonly tried?: boolean;
  /** The service ended with nothing open. */
  readonly clean: boolean;
}

/** A revision of the record of one session. */
export interface StoredSession {
  readonly record: SessionRecord;
  readonly revision: number;
}

/** Facts of a live run as `.live.json` keeps them; dates as RFC 3339. */
export type LiveRecord = LiveRun["job"];

export class RunRecords {
  readonly #store: ObjectStore;
  /** Of the newest revision that was written or read. */
  #sessionKey: string | undefined;

  constructor(store: ObjectStore) {
    this.#store = store;
  }

  async put(record: RunRecord, signal?: AbortSignal): Promise<void> {
    // What the cluster said of the end is anybody's words.
    await this.#putJson(`${record.run_name}.json`, { ...record, message: safeWords(record.message) }, signal);
  }

  exists(runName: string, signal?: AbortSignal): Promise<boolean> {
    return this.#store.exists(`${runName}.json`, compact({ signal }));
  }

  /** undefined: the run has not ended, or never was. Throws SyntaxError for what is no record of that run. */
  async get(runName: string, signal?: AbortSignal): Promise<RunRecord | undefined> {
    if (!isRunName(runName)) return undefined;
    const key = `${runName}.json`;
    const found = await this.#getJson(key, MAX_RECORD_BYTES, signal);
    if (found === undefined) return undefined;
    const record = asRunRecord(found, runName);
    if (!record) throw this.#unreadable(key, "it is no record of that run");
    return record;
  }

  /** As `get`, but one that cannot be read is there nevertheless: the run has ended. */
  async find(runName: string, signal?: AbortSignal): Promise<RunRecord | "unreadable" | undefined> {
    try {
      return await this.get(runName, signal);
    } catch (error) {
      if (error instanceof SyntaxError) return "unreadable";
      throw error;
    }
  }

  /**
   * Names of ended runs of a row whose delivery's number is between these two, both included; by one call, for the names
   * sort as the numbers do. Others of the store's keys may be among them.
   */
  async endedBetween(row: Pick<Row, "jobName" | "parallelism">, from: number, to: number, signal?: AbortSignal) {
    const { first, common } = rangeOf(row, from, to);
    const names: string[] = [];
    for await (const { key } of this.#store.list(common, { after: first, ...compact({ signal }) })) {
      if (key.endsWith(".json")) names.push(key.slice(0, -".json".length));
    }
    return names;
  }

  /** Likewise names of groups of a row, be they open or not; a call for each of them, which passes over its marks. */
  async groupsBetween(row: Pick<Row, "jobName" | "parallelism">, from: number, to: number, signal?: AbortSignal) {
    const { first, common } = rangeOf(row, from, to);
    const names: string[] = [];
    let after: string | undefined = first;
    while (after !== undefined) {
      const from: string = after;
      after = undefined;
      for await (const path of this.notes(".groups", common, { after: from, ...compact({ signal }) })) {
        const slash = path.indexOf("/");
        if (slash === -1) names.push(path);
        else {
          after = `${path.slice(0, slash)}/~`;
          break;
        }
      }
    }
    return names;
  }

  /** Names of the runs that ended, and when, of those whose names begin so; in the order of names. */
  async *list(signal?: AbortSignal, prefix = "", afterRun?: string): AsyncIterable<WrittenRecord> {
    const after = afterRun !== undefined ? `${afterRun}.json` : prefix === "" ? AFTER_NOTES : undefined;
    for await (const { key, modifiedAt } of this.#store.list(prefix, compact({ after, signal }))) {
      const runName = key.slice(0, -".json".length);
      if (key.endsWith(".json") && isRunName(runName)) yield { runName, modifiedAt };
    }
  }

  /**
   * Of the records that `list` gives and that are wanted, those that were written last, the newest first; holds twice as
   * many meanwhile. `leftOut`: there are more.
   */
  async lastWritten(
    most: number,
    isWanted: (one: WrittenRecord) => boolean,
    { prefix, signal }: { prefix: string; signal: AbortSignal | undefined },
  ): Promise<{ found: WrittenRecord[]; leftOut: boolean }> {
    let found: WrittenRecord[] = [];
    let leftOut = false;
    const cutOff = () => {
      found.sort((a, b) => b.modifiedAt.getTime() - a.modifiedAt.getTime());
      leftOut ||= found.length > most;
      found = found.slice(0, most);
    };
    for await (const one of this.list(signal, prefix)) {
      if (isWanted(one) && found.push(one) >= 2 * most) cutOff();
    }
    cutOff();
    return { found, leftOut };
  }

  /** Puts a note unless there is one; false: there is. `path`: below the folder, without `.json`. */
  async putNote(folder: Notes, path: string, value: unknown, signal?: AbortSignal): Promise<boolean> {
    const options = { contentType: "application/json", ...compact({ signal }) };
    return await this.#store.putIfAbsent(`${folder}/${path}.json`, JSON.stringify(value), options);
  }

  /** Puts it in the place of one that is there. */
  async replaceNote(folder: Notes, path: string, value: unknown, signal?: AbortSignal): Promise<void> {
    await this.#putJson(`${folder}/${path}.json`, value, signal);
  }

  hasNote(folder: Notes, path: string, signal?: AbortSignal): Promise<boolean> {
    return this.#store.exists(`${folder}/${path}.json`, compact({ signal }));
  }

  /** undefined: there is none. Whoever reads it checks its shape. Throws SyntaxError for what is no JSON, or too large. */
  getNote(folder: Notes, path: string, signal?: AbortSignal): Promise<unknown> {
    return this.#getJson(`${folder}/${path}.json`, MAX_RECORD_BYTES, signal);
  }

  /** As `getNote`; undefined also where what is there cannot be read. */
  readableNote(folder: Notes, path: string, signal?: AbortSignal): Promise<unknown> {
    return this.getNote(folder, path, signal).catch(unreadableAsNone);
  }

  /** Names of the runs, or groups, of which there is a note in the folder. */
  async notedRuns(folder: Notes, signal?: AbortSignal): Promise<string[]> {
    const names: string[] = [];
    for await (const name of this.notes(folder, "", compact({ signal }))) if (isRunName(name)) names.push(name);
    return names;
  }

  /** A record that was noted; undefined: there is none, or it is no record of that run. */
  async getNotedRecord(folder: Notes, runName: string, signal?: AbortSignal): Promise<RunRecord | undefined> {
    return asRunRecord(await this.readableNote(folder, runName, signal), runName);
  }

  async deleteNote(folder: Notes, path: string, signal?: AbortSignal): Promise<void> {
    await this.#store.delete(`${folder}/${path}.json`, compact({ signal }));
  }

  /** Paths of the notes that begin so, in the order of keys; those after `after`. */
  async *notes(
    folder: Notes,
    prefix = "",
    { after, signal }: { after?: string; signal?: AbortSignal } = {},
  ): AsyncIterable<string> {
    const from = after === undefined ? {} : { after: `${folder}/${after}.json` };
    for await (const { key } of this.#store.list(`${folder}/${prefix}`, { ...from, ...compact({ signal }) })) {
      if (key.endsWith(".json")) yield key.slice(folder.length + 1, -".json".length);
    }
  }

  async putLive(runs: readonly LiveRecord[], signal?: AbortSignal): Promise<void> {
    await this.#putJson(LIVE_KEY, runs, signal);
  }

  async getLive(signal?: AbortSignal): Promise<LiveRecord[]> {
    const runs = asLiveEntries(await this.#getJson(LIVE_KEY, MAX_GET_BYTES, signal) ?? []);
    return runs.map((run) => ({
      ...run as unknown as LiveRecord,
      // A former version wrote none.
      root: run.root !== undefined && isRoot(run.root) ? run.root : rootOfRun(run.rootRun),
      receivedAt: new Date(run.receivedAt),
      createdAt: new Date(run.createdAt),
      ...(run.startedAt ? { startedAt: new Date(run.startedAt) } : {}),
    }));
  }

  /**
   * Each revision is an object of its own: a write that seemed to fail, or one of a process that was killed, may be
   * carried out long after a newer one, and must not take its place.
   */
  async putSession(scope: string, { record, revision }: StoredSession, signal?: AbortSignal): Promise<void> {
    await this.#putJson(sessionKey(scope, revision), record, signal);
    // What stays behind after a crash is removed at the next start.
    if (this.#sessionKey !== undefined) void this.#store.delete(this.#sessionKey, compact({ signal })).catch(() => {});
    this.#sessionKey = sessionKey(scope, revision);
  }

  /** The newest revision; undefined: there is none. Throws SyntaxError for what is no record; the next write removes it. */
  async getSession(scope: string, signal?: AbortSignal): Promise<StoredSession | undefined> {
    for (;;) {
      const keys: string[] = [];
      for await (const { key } of this.#store.list(sessionKey(scope), compact({ signal }))) keys.push(key);
      keys.sort();
      const newest = keys.at(-1);
      if (newest === undefined) return undefined;
      this.#sessionKey = newest;
      const record = await this.#getJson(newest, MAX_RECORD_BYTES, signal);
      // Removed meanwhile by who wrote a newer one.
      if (record === undefined) continue;
      for (const old of keys.slice(0, -1)) void this.#store.delete(old, compact({ signal })).catch(() => {});
      const revision = Number(newest.slice(newest.lastIndexOf("/") + 1, -".json".length));
      if (!isSessionRecord(record) || !Number.isSafeInteger(revision)) {
        throw this.#unreadable(newest, "it is no record of a session");
      }
      return { record, revision };
    }
  }

  /** The newest revision of each session that there is; one that cannot be read is left out. */
  async sessions(signal?: AbortSignal): Promise<SessionRecord[]> {
    const newest = new Map<string, string>();
    for await (const { key } of this.#store.list(SESSIONS, compact({ signal }))) {
      newest.set(key.slice(0, key.lastIndexOf("/")), key);
    }
    const read = [...newest.values()].map(async (key) => {
      const record = await this.#getJson(key, MAX_RECORD_BYTES, signal).catch(unreadableAsNone);
      return isSessionRecord(record) ? [record] : [];
    });
    return (await Promise.all(read)).flat();
  }

  async #putJson(key: string, value: unknown, signal?: AbortSignal): Promise<void> {
    const options = { contentType: "application/json", ...compact({ signal }) };
    await this.#store.put(key, JSON.stringify(value), options);
  }

  async #getJson(key: string, maxBytes: number, signal?: AbortSignal): Promise<unknown> {
    const found = await this.#store.get(key, { maxBytes, ...compact({ signal }) }).catch((error) => {
      // Nothing that the service writes is so large.
      if (error instanceof TooLargeError) throw this.#unreadable(key, `it has more than ${maxBytes} bytes`, error);
      throw error;
    });
    if (found === undefined || found === "unchanged") return undefined;
    try {
      return parseJson(new TextDecoder().decode(found.body));
    } catch (cause) {
      throw this.#unreadable(key, "it is not JSON", cause);
    }
  }

  #unreadable(key: string, why: string, cause?: unknown): SyntaxError {
    return new SyntaxError(`Cannot read ${this.#store.url}/${key}: ${why}; delete or mend it`, { cause });
  }
}

function unreadableAsNone(error: unknown): undefined {
  if (!(error instanceof SyntaxError)) throw error;
}

/** How the names of the row's runs begin that were made of deliveries from one number to another, and the first one. */
function rangeOf(row: Pick<Row, "jobName" | "parallelism">, from: number, to: number) {
  const [first, last] = [runNameStart(row, from), runNameStart(row, to)];
  let length = 0;
  while (length < first.length && first[length] === last[length]) length++;
  return { first, common: first.slice(0, length) };
}

/** Below `.session/`; without a revision: how all of them begin. */
function sessionKey(scope: string, revision?: number): string {
  const folder = `${SESSIONS}${shortHash([scope])}/`;
  return revision === undefined ? folder : `${folder}${String(revision).padStart(16, "0")}.json`;
}

/** What comes from the store is checked before it is believed. */
function isSessionRecord(value: unknown): value is SessionRecord {
  if (typeof value !== "object" || value === null) return false;
  const { epoch, acknowledged, open, reserved, from, lastId, orderly, tried, clean } = value as Record<string, unknown>;
  return typeof epoch === "string" && [acknowledged, reserved, from].every(isNumber) && Array.isArray(open) &&
    open.every((range) => Array.isArray(range) && range.length === 2 && range.every(isNumber)) &&
    (lastId === undefined || isNumber(lastId)) &&
    [orderly, tried].every((one) => one === undefined || typeof one === "boolean") &&
    typeof clean === "boolean";
}

function isNumber(value: unknown): boolean {
  return Number.isSafeInteger(value) && (value as number) >= 0;
}
