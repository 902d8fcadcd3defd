/**
 * Ends of runs that never had a Job: noted, then published, recorded, followed, and the note removed. The note stands for
 * the Job that other runs have until all that is done. Owns the notes; decides nothing.
 */
import type { Aftermath } from "../flows.ts";
import type { Emit, Outcome, RunRecord, RunSpec } from "../ports.ts";
import type { RunRecords } from "../records.ts";
import { keptPayload, lineageOfRecord } from "../run_spec.ts";
import type { LiveRun } from "../runs.ts";
import { errorMessage } from "../util/errors.ts";
import { delay, retryForever } from "../util/retry.ts";
import { unstartedRecord } from "./record.ts";

export interface UnstartedOptions {
  readonly records: RunRecords;
  readonly aftermath?: Aftermath;
  /** Repeats a step until it succeeds, and says what it waits for. */
  readonly step: <T>(run: LiveRun, what: string, step: () => Promise<T>) => Promise<T>;
  readonly publish: (run: LiveRun, payload: Uint8Array | undefined, record: RunRecord) => Promise<RunRecord>;
  readonly emit: Emit;
  readonly signal: AbortSignal;
}

const NOTES = ".unstarted";
/** Longer than a call of a killed process can be under way. */
const LATE_MS = 5_000;

export class UnstartedRuns {
  readonly #options: UnstartedOptions;
  /** Runs whose end is under way. */
  readonly #under = new Set<string>();

  constructor(options: UnstartedOptions) {
    this.#options = options;
  }

  /** Resolves when all is done. */
  async end(spec: RunSpec, outcome: Outcome): Promise<void> {
    const { records, step, signal } = this.#options;
    const record = unstartedRecord(spec, outcome);
    const run = placeholderOf(record);
    this.#under.add(record.run_name);
    await step(run, "note its end", () => records.replaceNote(NOTES, record.run_name, record, signal));
    await this.#finish(run, record);
  }

  /**
   * Goes on with what a former process has left. Resolves when the records are in the store, so that a message that
   * comes again finds them; what is left waits for the broker. Waits for the store. Once more when a note can no more
   * come that a killed process has asked for, as listener/former_runs.ts waits for it.
   */
  async resume(): Promise<void> {
    await this.#resumeAll();
    delay(LATE_MS, this.#options.signal).then(() => this.#resumeAll()).catch(() => {/* The service stops. */});
  }

  async #resumeAll(): Promise<void> {
    const { emit, signal } = this.#options;
    await retryForever(() => this.#resume(), {
      signal,
      onLasting: (error) => {
        const message = `Cannot see which runs have ended without a Job: ${errorMessage(error)}`;
        emit({ type: "error", scope: "store", report: { reason: "StoreUnavailable", message } });
      },
    });
  }

  async #resume(): Promise<void> {
    const { records, signal } = this.#options;
    const names = await records.notedRuns(NOTES, signal);
    await Promise.all(
      names.filter((name) => !this.#under.has(name)).map(async (name) => {
        const record = await records.getNotedRecord(NOTES, name, signal);
        if (!record) return await records.deleteNote(NOTES, name, signal);
        await records.put(record, signal);
        this.#under.add(name);
        this.#finish(placeholderOf(record), record).catch(() => {/* The service stops. */});
      }),
    );
  }

  async #finish(run: LiveRun, ended: RunRecord): Promise<void> {
    const { records, aftermath, step, publish, emit, signal } = this.#options;
    const begunMs = performance.now();
    const record = await publish(run, keptPayload(ended), ended);
    await step(run, "store its record", () => records.put(record, signal));
    emit({ type: "finished", record, completionMs: performance.now() - begunMs });
    if (aftermath) await step(run, "start what follows", () => aftermath.recorded(record));
    await step(run, "remove its note", () => records.deleteNote(NOTES, record.run_name, signal));
    this.#under.delete(record.run_name);
  }
}

/** Stands for a run that has no Job, where one is told of. */
function placeholderOf(record: RunRecord): LiveRun {
  const { run_name: runName, job_name: jobName, topic, message_hash: messageHash, image, requests, limits } = record;
  const [receivedAt, createdAt] = [new Date(record.received_at), new Date(record.created_at)];
  const facts = { runName, jobName, topic, messageHash, image, gpu: record.gpu ?? 0, requests, limits };
  const job = { ...facts, ...lineageOfRecord(record), receivedAt, createdAt };
  return { job, pods: new Map(), adopted: false, state: "ending", detail: record.message };
}
