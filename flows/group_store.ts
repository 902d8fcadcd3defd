/**
 * Groups in the store: the manifest, and beside it the note that the group has not ended, which is put first and taken
 * away last. Each call may be repeated; what it finds done it leaves. Knows no run.
 */
import type { Emit, ObjectStore, RunSpec } from "../ports.ts";
import type { RunRecords } from "../records.ts";
import { linkOfRun, putPayload } from "../starter.ts";
import { asManifest, type Manifest, storedManifest } from "./manifest.ts";

export interface GroupStoreOptions {
  readonly records: RunRecords;
  /** Where a payload goes that is too large for a container's environment. */
  readonly payloads: ObjectStore;
  readonly emit: Emit;
  readonly signal: AbortSignal;
}

const MANIFESTS = ".groups";
const OPEN = ".open-groups";

export class GroupStore {
  readonly #options: GroupStoreOptions;

  constructor(options: GroupStoreOptions) {
    this.#options = options;
  }

  /** Whether there is or was such a group. */
  exists(group: string): Promise<boolean> {
    const { records, signal } = this.#options;
    return records.hasNote(MANIFESTS, group, signal);
  }

  /** Whether it has not ended, as far as was written down. */
  isOpen(group: string): Promise<boolean> {
    const { records, signal } = this.#options;
    return records.hasNote(OPEN, group, signal);
  }

  openNames(): Promise<string[]> {
    const { records, signal } = this.#options;
    return records.notedRuns(OPEN, signal);
  }

  /** Says that there will be a group; before its manifest. */
  async announce(group: string): Promise<void> {
    const { records, signal } = this.#options;
    await records.putNote(OPEN, group, { at: new Date().toISOString() }, signal);
  }

  /** False: there is one already. */
  put(manifest: Manifest): Promise<boolean> {
    const { records, signal } = this.#options;
    return records.putNote(MANIFESTS, manifest.group, storedManifest(manifest), signal);
  }

  /** It has ended. */
  async close(group: string): Promise<void> {
    const { records, signal } = this.#options;
    await records.deleteNote(OPEN, group, signal);
  }

  /** undefined: there is none that can be believed, which is told. */
  async read(group: string): Promise<Manifest | undefined> {
    const { records, signal } = this.#options;
    try {
      const found = await records.getNote(MANIFESTS, group, signal);
      if (found === undefined) return undefined;
      const manifest = asManifest(found, group);
      if (manifest) return manifest;
    } catch (error) {
      if (!(error instanceof SyntaxError)) throw error;
    }
    this.#reportUnreadable(group);
    return undefined;
  }

  #reportUnreadable(group: string): void {
    const message = `The group "${group}" cannot go on: .groups/${group}.json in RUNS_URL is no list of its items. ` +
      `Delete it and .open-groups/${group}.json, and send its message again`;
    const report = { reason: "GroupUnreadable", message, run_name: group } as const;
    this.#options.emit({ type: "error", scope: "store", report });
  }

  async putPayload(group: string, payload: Uint8Array): Promise<void> {
    const { payloads, signal } = this.#options;
    await putPayload(payloads, { runName: group, message: { payload } }, signal);
  }

  /** Of the payload that `putPayload` has put. */
  payloadLink(group: string): Promise<NonNullable<RunSpec["payloadLink"]>> {
    return linkOfRun(this.#options.payloads, group);
  }
}
