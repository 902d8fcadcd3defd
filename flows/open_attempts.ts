/**
 * Attempts that wait for long to be created: `.open-attempts/{run}.json` holds what each is made of until it is there, so
 * that the Job before it may go. Whoever may write to the store may have written a note: it is checked before it is
 * believed. Starts nothing.
 */
import * as z from "zod";
import type { FailedAttempt } from "../flows.ts";
import type { ObjectStore, RunRecord, RunSpec } from "../ports.ts";
import { ORIGIN, PLACE, runName, type RunRecords, words } from "../records.ts";
import {
  isRoot,
  keptPayload,
  keyOfCause,
  lineageOfRecord,
  payloadText,
  recordedLineage,
  runNameFor,
  storedRow,
} from "../run_spec.ts";
import { linkPayload } from "../starter.ts";
import { compact } from "../util/compact.ts";

/** How the attempt before it ended: so has the run, if this one cannot be. */
export type LastFailure = Pick<FailedAttempt, "reason" | "message" | "exit_code">;

export interface OpenAttempt {
  readonly spec: RunSpec;
  readonly failure: LastFailure;
}

const NOTES = ".open-attempts";

const stored = z.looseObject({
  ...ORIGIN,
  ...PLACE,
  payload_object: words.optional(),
  row: z.record(z.string(), z.unknown()),
  root: z.string().refine(isRoot),
  attempt: z.int().min(2),
  first_run: runName,
  concurrency: words.optional(),
  failure: z.looseObject({ reason: words, message: words, exit_code: z.number().nullable() }),
});

export class OpenAttempts {
  readonly #records: RunRecords;
  readonly #payloads: Pick<ObjectStore, "url" | "link">;
  readonly #signal: AbortSignal;

  constructor(records: RunRecords, payloads: Pick<ObjectStore, "url" | "link">, signal: AbortSignal) {
    this.#records = records;
    this.#payloads = payloads;
    this.#signal = signal;
  }

  /** Resolves when the note is in the store. May be repeated. */
  put(open: OpenAttempt): Promise<void> {
    return this.#records.replaceNote(NOTES, open.spec.runName, storedAttempt(open), this.#signal);
  }

  remove(runName: string): Promise<void> {
    return this.#records.deleteNote(NOTES, runName, this.#signal);
  }

  /** Names of those that former processes have left. */
  names(): Promise<string[]> {
    return this.#records.notedRuns(NOTES, this.#signal);
  }

  /** undefined: there is none that can be believed. */
  async read(runName: string): Promise<OpenAttempt | undefined> {
    const note = await this.#records.readableNote(NOTES, runName, this.#signal);
    const read = stored.safeParse(note);
    const row = read.success ? storedRow(read.data.row) : undefined;
    if (!read.success || !row) return undefined;
    const { data } = read;
    // A name says what it is a run of: nobody can have another one started by it.
    const key = keyOfCause.attempt(data.first_run, data.attempt);
    if (runNameFor(row, { key }) !== runName) return undefined;
    const payload = data.payload_object === undefined ? keptPayload(data as Pick<RunRecord, "payload">) : undefined;
    const payloadLink = data.payload_object === undefined
      ? undefined
      : await linkPayload(this.#payloads, data.payload_object);
    if (payload === undefined && payloadLink === undefined) return undefined;
    const spec: RunSpec = {
      ...lineageOfRecord(data as unknown as RunRecord),
      runName,
      row,
      message: { topic: data.topic, payload: payload ?? new Uint8Array() },
      messageHash: data.message_hash,
      receivedAt: new Date(data.received_at),
      ...compact({ payloadLink, concurrency: data.concurrency }),
    };
    return { spec, failure: data.failure };
  }
}

function storedAttempt({ spec, failure: { reason, message, exit_code } }: OpenAttempt) {
  const { payload } = spec.message;
  const text = spec.payloadLink ? null : payloadText(payload) ?? null;
  return {
    ...recordedLineage(spec),
    row: { ...spec.row },
    topic: spec.message.topic,
    payload: text,
    ...(spec.payloadLink
      ? { payload_object: spec.payloadLink.object }
      : text === null
      ? { payload_base64: payload.toBase64() }
      : {}),
    message_hash: spec.messageHash,
    ...compact({ concurrency: spec.concurrency }),
    received_at: spec.receivedAt.toISOString(),
    failure: { reason, message, exit_code },
  };
}
