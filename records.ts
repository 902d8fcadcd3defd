/**
 * Run records in the store: `{RUNS_URL}/{run name}.json` for each run that ended, and `.live.json`, a list of the
 * runs under way, so that one whose Job vanished while the service was down still gets an outcome.
 * Owns their names and shapes; knows nothing of the cluster or the broker.
 */
import type { ObjectStore, RunRecord } from "./ports.ts";
import type { LiveRun } from "./runs.ts";

const LIVE_KEY = ".live.json";
const SESSION_KEY = ".session.json";

/** What outlives a process of the broker's session: its epoch, see listener.ts. */
export interface SessionRecord {
  readonly epoch: string;
}

/** Facts of a live run as `.live.json` keeps them; dates as RFC 3339. */
export type LiveRecord = LiveRun["job"];

export class RunRecords {
  readonly #store: ObjectStore;

  constructor(store: ObjectStore) {
    this.#store = store;
  }

  async put(record: RunRecord, signal?: AbortSignal): Promise<void> {
    await this.#putJson(`${record.run_name}.json`, record, signal);
  }

  exists(runName: string, signal?: AbortSignal): Promise<boolean> {
    return this.#store.exists(`${runName}.json`, signal ? { signal } : {});
  }

  /** undefined: the run has not ended, or never was. */
  get(runName: string, signal?: AbortSignal): Promise<RunRecord | undefined> {
    return this.#getJson<RunRecord>(`${runName}.json`, signal);
  }

  /** Name of a run whose name begins so. */
  async findByPrefix(prefix: string, signal?: AbortSignal): Promise<string | undefined> {
    for await (const { key } of this.#store.list(prefix, signal ? { signal } : {})) {
      if (key.endsWith(".json")) return key.slice(0, -".json".length);
    }
    return undefined;
  }

  /** Names of the runs that ended, and when; in the order of names. */
  async *list(signal?: AbortSignal): AsyncIterable<{ runName: string; modifiedAt: Date }> {
    for await (const { key, modifiedAt } of this.#store.list("", signal ? { signal } : {})) {
      if (key.endsWith(".json") && !key.startsWith(".") && !key.includes("/")) {
        yield { runName: key.slice(0, -".json".length), modifiedAt };
      }
    }
  }

  async putLive(runs: readonly LiveRecord[], signal?: AbortSignal): Promise<void> {
    await this.#putJson(LIVE_KEY, runs, signal);
  }

  async getLive(signal?: AbortSignal): Promise<LiveRecord[]> {
    const runs = await this.#getJson<LiveRecord[]>(LIVE_KEY, signal) ?? [];
    return runs.map((run) => ({
      ...run,
      receivedAt: new Date(run.receivedAt),
      createdAt: new Date(run.createdAt),
      ...(run.startedAt ? { startedAt: new Date(run.startedAt) } : {}),
    }));
  }

  async putSession(session: SessionRecord, signal?: AbortSignal): Promise<void> {
    await this.#putJson(SESSION_KEY, session, signal);
  }

  getSession(signal?: AbortSignal): Promise<SessionRecord | undefined> {
    return this.#getJson<SessionRecord>(SESSION_KEY, signal);
  }

  async #putJson(key: string, value: unknown, signal?: AbortSignal): Promise<void> {
    const options = { contentType: "application/json", ...(signal ? { signal } : {}) };
    await this.#store.put(key, JSON.stringify(value), options);
  }

  async #getJson<T>(key: string, signal?: AbortSignal): Promise<T | undefined> {
    const found = await this.#store.get(key, signal ? { signal } : {});
    if (found === undefined || found === "unchanged") return undefined;
    try {
      return JSON.parse(new TextDecoder().decode(found.body)) as T;
    } catch (cause) {
      throw new SyntaxError(`Cannot read ${this.#store.url}/${key}: it is not JSON; delete or mend it`, { cause });
    }
  }
}
