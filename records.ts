/**
 * Run records in the store: `{RUNS_URL}/{run name}.json` for each run that ended, and `.live.json`, a list of the
 * runs under way, so that one whose Job vanished while the service was down still gets an outcome.
 * Owns their names and shapes; knows nothing of the cluster or the broker.
 */
import { MAX_GET_BYTES, type ObjectStore, type RunRecord } from "./ports.ts";
import { asLiveEntries, asRunRecord } from "./records/shape.ts";
import { isRunName } from "./run_spec.ts";
import type { LiveRun } from "./runs.ts";
import { safeWords } from "./util/errors.ts";

const LIVE_KEY = ".live.json";
const SESSION_KEY = ".session.json";
/** Largest record that is read; one with the largest payload and Job has less than 1 MiB. */
const MAX_RECORD_BYTES = 4 * 1024 * 1024;

/** What outlives a process of the broker's session: its epoch, see listener.ts. */
export interface SessionRecord {
  readonly epoch: string;
}

/** Facts of a live run as `.live.json` keeps them; dates as RFC 3339. */
export type LiveRecord = LiveRun["job"];

interface Wanted {
  readonly prefix: string;
  resolve(runName: string | undefined): void;
  reject(error: unknown): void;
}

/** S3's own page: to go on to the next one costs as much as to list from elsewhere. */
const PAGE_KEYS = 1_000;

export class RunRecords {
  readonly #store: ObjectStore;
  #wanted: Wanted[] = [];
  #isSearching = false;

  constructor(store: ObjectStore) {
    this.#store = store;
  }

  async put(record: RunRecord, signal?: AbortSignal): Promise<void> {
    // What the cluster said of the end is anybody's words.
    await this.#putJson(`${record.run_name}.json`, { ...record, message: safeWords(record.message) }, signal);
  }

  exists(runName: string, signal?: AbortSignal): Promise<boolean> {
    return this.#store.exists(`${runName}.json`, signal ? { signal } : {});
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

  /**
   * Name of an ended run whose name begins so. After a reconnect thousands may be asked for at a time: those that wait
   * while others are looked for go together, and each page of the list answers all whose place it shows.
   */
  findByPrefix(prefix: string, signal?: AbortSignal): Promise<string | undefined> {
    return new Promise((resolve, reject) => {
      this.#wanted.push({ prefix, resolve, reject });
      if (!this.#isSearching) void this.#search(signal);
    });
  }

  /** Names of the runs that ended, and when; in the order of names. */
  async *list(signal?: AbortSignal): AsyncIterable<{ runName: string; modifiedAt: Date }> {
    for await (const { key, modifiedAt } of this.#store.list("", signal ? { signal } : {})) {
      const runName = key.slice(0, -".json".length);
      if (key.endsWith(".json") && isRunName(runName)) yield { runName, modifiedAt };
    }
  }

  async putLive(runs: readonly LiveRecord[], signal?: AbortSignal): Promise<void> {
    await this.#putJson(LIVE_KEY, runs, signal);
  }

  async getLive(signal?: AbortSignal): Promise<LiveRecord[]> {
    const runs = asLiveEntries(await this.#getJson(LIVE_KEY, MAX_GET_BYTES, signal) ?? []);
    return runs.map((run) => ({
      ...run as unknown as LiveRecord,
      receivedAt: new Date(run.receivedAt),
      createdAt: new Date(run.createdAt),
      ...(run.startedAt ? { startedAt: new Date(run.startedAt) } : {}),
    }));
  }

  async putSession(session: SessionRecord, signal?: AbortSignal): Promise<void> {
    await this.#putJson(SESSION_KEY, session, signal);
  }

  getSession(signal?: AbortSignal): Promise<SessionRecord | undefined> {
    return this.#getJson(SESSION_KEY, MAX_RECORD_BYTES, signal) as Promise<SessionRecord | undefined>;
  }

  async #search(signal: AbortSignal | undefined): Promise<void> {
    this.#isSearching = true;
    while (this.#wanted.length > 0) {
      const wanted = this.#wanted.sort((a, b) => a.prefix < b.prefix ? 1 : a.prefix > b.prefix ? -1 : 0);
      this.#wanted = [];
      try {
        while (wanted.length > 0) await this.#searchPage(wanted, signal);
      } catch (error) {
        for (const { reject } of wanted) reject(error);
      }
    }
    this.#isSearching = false;
  }

  /** Answers those of `wanted`, the first of which stands last, that the page after the first one tells of. */
  async #searchPage(wanted: Wanted[], signal: AbortSignal | undefined): Promise<void> {
    const after = wanted.at(-1)!.prefix;
    let left = PAGE_KEYS;
    for await (const { key } of this.#store.list("", { after, ...(signal ? { signal } : {}) })) {
      for (let next = wanted.at(-1); next && next.prefix < key; next = wanted.at(-1)) {
        const found = key.startsWith(next.prefix);
        if (found && !key.endsWith(".json")) break;
        wanted.pop();
        next.resolve(found ? key.slice(0, -".json".length) : undefined);
      }
      if (wanted.length === 0 || --left === 0) return;
    }
    for (const { resolve } of wanted.splice(0)) resolve(undefined);
  }

  async #putJson(key: string, value: unknown, signal?: AbortSignal): Promise<void> {
    const options = { contentType: "application/json", ...(signal ? { signal } : {}) };
    await this.#store.put(key, JSON.stringify(value), options);
  }

  async #getJson(key: string, maxBytes: number, signal?: AbortSignal): Promise<unknown> {
    const found = await this.#store.get(key, { maxBytes, ...(signal ? { signal } : {}) });
    if (found === undefined || found === "unchanged") return undefined;
    try {
      return JSON.parse(new TextDecoder().decode(found.body));
    } catch (cause) {
      throw this.#unreadable(key, "it is not JSON", cause);
    }
  }

  #unreadable(key: string, why: string, cause?: unknown): SyntaxError {
    return new SyntaxError(`Cannot read ${this.#store.url}/${key}: ${why}; delete or mend it`, { cause });
  }
}
