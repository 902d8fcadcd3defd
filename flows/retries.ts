/**
 * Attempts: whether a run that failed is tried again, when, and with how much memory. An attempt is a Job of its own,
 * named by the first run and its number; the Job of the one before stays until it is there, or until a note holds what
 * it is made of (flows/open_attempts.ts), so that a crash forgets none.
 */
import type { Aftermath, EndedJob, FailedAttempt, NextAttempt, NotRetried } from "../flows.ts";
import { type Emit, type ObjectStore, type Outcome, RefusedError, type Row, type RunSpec } from "../ports.ts";
import type { RunReason } from "../reasons.ts";
import type { RunRecords } from "../records.ts";
import { keyOfCause, lineageOf, rungsOf, runNameFor } from "../run_spec.ts";
import { linkPayload, type NamedStarts, type Starter, type StartResult } from "../starter.ts";
import { onAbort, Scope } from "../util/abort.ts";
import { compact } from "../util/compact.ts";
import { errorMessage } from "../util/errors.ts";
import { atMost, delay, delayAtMost, retryForever } from "../util/retry.ts";
import { Semaphore, Semaphores } from "../util/semaphore.ts";
import { type LastFailure, type OpenAttempt, OpenAttempts } from "./open_attempts.ts";

export interface RetriesOptions {
  readonly starter: Pick<Starter, "start">;
  readonly named: NamedStarts;
  readonly records: RunRecords;
  /** Ends a run that never had a Job; resolves when that is durable. */
  readonly endUnstarted: (spec: RunSpec, outcome: Outcome) => Promise<void>;
  /** Where payloads are that no Job can hold. */
  readonly payloads: Pick<ObjectStore, "url" | "link">;
  /** What is against the row by the rules of now, in sentences; what its Job keeps may be older, or anybody's. */
  readonly against: (row: Row) => readonly string[];
  /** From the end of the first attempt to the second, in milliseconds; doubled for each further one. Default 10 s. */
  readonly retryDelayMs?: number;
  readonly emit: Emit;
  readonly signal: AbortSignal;
}

const FIRST_DELAY_MS = 10_000;
/** Attempts of one row that are read and made at a time: each holds a Job with its payload. */
const AT_ONCE = 4;
/**
 * How long the Job of the attempt before stays for the sake of the create call. Its place may be the very one that the
 * call waits for (a quota of Jobs), so after that a note holds what is to be created.
 */
const PATIENCE_MS = 2_000;
/** Longer than a call of a killed process can be under way. */
const LATE_MS = 5_000;
/** Notes that are read at a time after a start. */
const READS_AT_ONCE = 16;
/** The wait before an attempt does not grow beyond this, unless it is longer from the first. */
const MAX_DELAY_MS = 6 * 60_000;

/**
 * What is tried again where `retry_on` is empty: what the program did. Not what kept it from running, which has been
 * waited for already; not what somebody did to it; not a lost node, where it may still run; and not a deadline, which it
 * would meet again.
 */
const OF_THE_PROGRAM: ReadonlySet<string> = new Set(
  ["ExitCode", "OOMKilled", "Evicted", "Failed", "BackoffLimitExceeded"] satisfies (
    | RunReason
    | "BackoffLimitExceeded"
  )[],
);

export class Retries {
  readonly #options: RetriesOptions;
  readonly #turns = new Semaphores(AT_ONCE);
  readonly #open: OpenAttempts;
  readonly #reads = new Semaphore(READS_AT_ONCE);
  /** Attempts whose notes this process sees to; `true`: the note holds what it is made of. */
  readonly #noted = new Map<string, boolean>();
  /** Told when there is such a note, by the attempt's name. */
  readonly #onNoted = new Map<string, () => void>();

  constructor(options: RetriesOptions) {
    this.#options = options;
    this.#open = new OpenAttempts(options.records, options.payloads, options.signal);
  }

  /** See `Aftermath`. */
  nextAttempt(job: EndedJob, record: FailedAttempt): NextAttempt | NotRetried | undefined {
    const place = placeOf(job, record);
    if (place === undefined || "not" in place) return place;
    const { row, attempt } = place;
    const [fault] = this.#options.against(row);
    if (fault !== undefined) return { not: `its row is not allowed any more: ${fault}` };
    if (job.payload === undefined && job.payloadObject === undefined) {
      return { not: "its message is not known any more" };
    }
    const runName = runNameFor(row, { key: keyOfCause.attempt(firstOf(record), attempt) });
    return { runName, at: this.nextDue(record) };
  }

  /** See `Aftermath`. */
  async startNext(
    record: FailedAttempt,
    { readJob, stop }: Parameters<Aftermath["startNext"]>[1],
  ): Promise<Outcome | undefined> {
    const { retried_as: runName, job_name: jobName } = record;
    if (runName === undefined) return undefined;
    await this.#untilDue(record, stop);
    if (this.#noted.get(runName)) return undefined;
    const isNoted = Promise.withResolvers<undefined>();
    this.#onNoted.set(runName, () => isNoted.resolve(undefined));
    const starting = this.#inTurn(jobName, () => this.#start(record, { runName, readJob, stop }), stop);
    const started = await Promise.race([starting, isNoted.promise]).finally(() => this.#onNoted.delete(runName));
    if (started === undefined) {
      starting.catch(() => {/* The service stops. */});
      return undefined;
    }
    if (started.result !== "refused") return undefined;
    return stop.aborted ? stop.reason as Outcome : notTriedAgain(record, started.error);
  }

  /**
   * Goes on with attempts whose Jobs before them are gone; once more when a note can no more come that a killed process
   * has asked for. Call it when all live runs are known.
   */
  async resume(): Promise<void> {
    await this.#resumeAll();
    delay(LATE_MS, this.#options.signal).then(() => this.#resumeAll()).catch(() => {/* The service stops. */});
  }

  async #resumeAll(): Promise<void> {
    const { emit, signal } = this.#options;
    const names = await retryForever(() => this.#open.names(), {
      signal,
      onLasting: (error) => {
        const message = `Cannot see which runs wait to be tried again: ${errorMessage(error)}`;
        emit({ type: "error", scope: "store", report: { reason: "StoreUnavailable", message } });
      },
    });
    for (const name of names) if (!this.#noted.has(name)) void this.#goOn(name).catch(() => {/* The service stops. */});
  }

  /** With one that a former process has noted. */
  async #goOn(runName: string): Promise<void> {
    const { named, signal } = this.#options;
    this.#noted.set(runName, false);
    const open = await this.#reads.take(() => this.#readNote(runName), signal);
    if (open) {
      this.#isNoted(runName);
      const { jobName } = open.spec.row;
      const nothing: StartResult = { result: "exists", runName };
      const begin = async () => await this.#fromNote(runName) ?? nothing;
      const start = () => named.start(runName, { begin, onRetry: this.#waits({ runName, jobName }, CANNOT_LOOK) });
      await this.#turns.of(jobName).take(start, signal);
    }
    await this.#forget(runName);
  }

  /** Resolves when what the note holds is created, or has ended without that; undefined: there is no note. */
  async #fromNote(runName: string): Promise<StartResult | undefined> {
    const open = await this.#readNote(runName);
    if (!open) return undefined;
    const { spec, failure } = open;
    const [fault] = this.#options.against(spec.row);
    const started = fault === undefined
      ? await this.#order(spec)
      : refused(runName, `its row is not allowed any more: ${fault}`);
    await this.#settled(spec, started, (error) => notTriedAgain(failure, error));
    return { result: "exists", runName };
  }

  #readNote(runName: string): Promise<OpenAttempt | undefined> {
    return this.#patiently({ runName, jobName: "" }, "its note cannot be read", () => this.#open.read(runName));
  }

  /** One that will never be has ended: nobody else is left to say so. */
  async #settled(spec: RunSpec, started: StartResult, outcomeOf: (error: Error) => Outcome): Promise<void> {
    if (started.result === "refused") await this.#options.endUnstarted(spec, outcomeOf(started.error));
  }

  /** From now on nobody needs the Job before it. */
  #isNoted(runName: string): void {
    this.#noted.set(runName, true);
    this.#onNoted.get(runName)?.();
  }

  async #forget(runName: string): Promise<void> {
    await this.#patiently({ runName, jobName: "" }, "its note cannot be removed", () => this.#open.remove(runName));
    this.#noted.delete(runName);
  }

  /** Says what it waits for. */
  #waits({ runName, jobName }: Wait, what: string): (error: unknown) => void {
    return (error) =>
      this.#options.emit({ type: "waiting", runName, jobName, reason: `${what}: ${errorMessage(error)}` });
  }

  #patiently<T>(wait: Wait, what: string, work: () => Promise<T>): Promise<T> {
    return retryForever(work, { signal: this.#options.signal, onRetry: this.#waits(wait, what) });
  }

  async #order(spec: RunSpec, stop?: AbortSignal): Promise<StartResult> {
    const { promise, resolve } = Promise.withResolvers<StartResult>();
    const order = { row: spec.row, spec: () => spec, settle: resolve, takesOver: true as const };
    this.#options.starter.start({ ...order, ...compact({ stop }) });
    return await promise;
  }

  /** Each row has turns of its own, so that one which waits for the cluster holds up no other. Who is stopped needs none. */
  async #inTurn<T>(jobName: string, work: () => Promise<T>, stop: AbortSignal): Promise<T> {
    const { signal } = this.#options;
    using wait = new Scope(signal);
    const leave = onAbort(stop, () => wait.end(stop.reason));
    try {
      return await this.#turns.of(jobName).take(work, wait.signal);
    } catch (error) {
      signal.throwIfAborted();
      if (!stop.aborted) throw error;
      return await work();
    } finally {
      leave();
    }
  }

  async #start(
    record: FailedAttempt,
    { runName, readJob, stop }: Begin & Parameters<Aftermath["startNext"]>[1],
  ): Promise<StartResult> {
    return await this.#options.named.start(runName, {
      begin: async () =>
        stop.aborted
          ? refused(runName, "it was stopped")
          : await this.#begin(await readJob(), record, { runName, stop }),
      onRetry: this.#waits({ runName, jobName: record.job_name }, CANNOT_LOOK),
    });
  }

  /** See `Aftermath`. Counted from the end of the attempt, so that a restart computes the same. */
  nextDue(record: FailedAttempt): Date {
    return new Date(Date.parse(record.finished_at) + this.#delayMs(record));
  }

  #delayMs({ attempt = 1 }: FailedAttempt): number {
    const { retryDelayMs: firstMs = FIRST_DELAY_MS } = this.#options;
    return Math.min(Math.max(MAX_DELAY_MS, firstMs), firstMs * 2 ** Math.min(attempt - 1, 20));
  }

  /** Clocks may differ, and a record may say anything: no longer than the delay itself. */
  async #untilDue(record: FailedAttempt, stop: AbortSignal): Promise<void> {
    const { signal } = this.#options;
    const leftMs = this.nextDue(record).getTime() - Date.now();
    using wait = new Scope(signal);
    const leave = onAbort(stop, () => wait.end(stop.reason));
    await delayAtMost(Math.max(0, Math.min(leftMs, this.#delayMs(record))), wait.signal);
    leave();
    signal.throwIfAborted();
  }

  /** Resolves when it is created; one that waits for that has a note meanwhile. */
  async #begin(
    job: EndedJob,
    record: FailedAttempt,
    { runName, stop }: Begin,
  ): Promise<StartResult> {
    const next = this.nextAttempt(job, record);
    if (next === undefined || "not" in next) {
      // Its Job may be gone because the note is there.
      return await this.#fromNote(runName) ?? refused(runName, next?.not ?? "its Job was gone");
    }
    const spec = await this.#specOf(job, record, runName);
    if (spec === undefined) return refused(runName, "its payload is not where this service has put it");
    let isThrough = false;
    const starting = this.#order(spec, stop).finally(() => isThrough = true);
    await atMost(PATIENCE_MS, starting);
    if (isThrough || stop.aborted) return await starting;
    this.#noted.set(runName, false);
    const wait = { runName, jobName: spec.row.jobName };
    await this.#patiently(wait, "what it is made of cannot be noted", () => this.#open.put({ spec, failure: record }));
    this.#isNoted(runName);
    const started = await starting;
    await this.#settled(spec, started, (error) => stop.aborted ? stop.reason as Outcome : notTriedAgain(record, error));
    await this.#forget(runName);
    return started;
  }

  /** The same run once more; undefined: its payload is said to be where none of this service's are. */
  async #specOf(job: EndedJob, record: FailedAttempt, runName: string): Promise<RunSpec | undefined> {
    const place = placeOf(job, record);
    if (place === undefined || "not" in place) return undefined;
    const { row, attempt, rung } = place;
    const { payloads } = this.#options;
    const { payloadObject: object } = job;
    const wait = { runName, jobName: row.jobName };
    const link = object === undefined
      ? undefined
      : await this.#patiently(wait, "its payload cannot be linked to", () => linkPayload(payloads, object));
    if (object !== undefined && link === undefined) return undefined;
    return {
      ...lineageOf(job),
      runName,
      row,
      message: { topic: job.topic, payload: job.payload ?? new Uint8Array() },
      messageHash: job.messageHash,
      receivedAt: job.receivedAt,
      attempt,
      firstRun: firstOf(record),
      ...(rung === 0 ? {} : { rung }),
      ...compact({ payloadLink: link, concurrency: job.concurrency }),
    };
  }
}

/** A run that waits, as people are told of it. */
interface Wait {
  readonly runName: string;
  readonly jobName: string;
}

const CANNOT_LOOK = "cannot look for its record";

interface Begin {
  readonly runName: string;
  readonly stop: AbortSignal;
}

/** How a run has ended of which there is no further attempt, though its record says so. */
function notTriedAgain({ reason, message, exit_code: exitCode }: LastFailure, error: Error): Outcome {
  const why = `${message}; it cannot be tried again: ${error.message}`;
  return { status: "failed", reason, message: why, ...compact({ exitCode: exitCode ?? undefined }) };
}

function refused(runName: string, why: string): StartResult {
  return { result: "refused", runName, error: new RefusedError(why) };
}

interface Place {
  readonly row: Row;
  readonly attempt: number;
  readonly rung: number;
}

/** Number and rung of the attempt after this one; undefined: there is to be none. */
function placeOf(job: EndedJob, record: FailedAttempt): Place | NotRetried | undefined {
  if (record.status !== "failed" || job.row === undefined) return undefined;
  let row: Row;
  try {
    row = job.row();
  } catch (error) {
    if (!(error instanceof SyntaxError)) throw error;
    return { not: `what its Job keeps of its row cannot be read: ${errorMessage(error)}` };
  }
  if (row.jobName !== record.job_name) return { not: "its Job keeps the row of another one" };
  const { attempt = 1, rung = 0 } = record;
  if (record.reason === "OOMKilled" && rung + 1 < rungsOf(row)) return { row, attempt: attempt + 1, rung: rung + 1 };
  // Each rung was an attempt of its own, and none of `retries`.
  const used = attempt - 1 - rung;
  if (used >= (row.retries ?? 0) || !isRetriedOn(row, record)) return undefined;
  return { row, attempt: attempt + 1, rung };
}

function isRetriedOn(
  { retryOn: rules, rerunAfterDisruption = true }: Row,
  { reason, exit_code: code, disruptions = 0 }: FailedAttempt,
): boolean {
  // What must not run twice is no failure of the program, whatever the node says of it.
  if (rules === undefined) return OF_THE_PROGRAM.has(reason) && (rerunAfterDisruption || disruptions === 0);
  return rules.some((rule) =>
    "reason" in rule ? rule.reason === reason : code !== null && code >= rule.first && code <= rule.last
  );
}

function firstOf({ first_run, run_name }: FailedAttempt): string {
  return first_run ?? run_name;
}
