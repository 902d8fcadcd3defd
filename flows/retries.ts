/**
 * Attempts: whether a run that failed is tried again, when, and with how much memory. An attempt is a Job of its own,
 * named by the first run and its number; the Job of the one before stays until it is there, so that a crash forgets none.
 */
import type { Aftermath, EndedJob, FailedAttempt, NextAttempt, NotRetried } from "../flows.ts";
import { type Emit, type ObjectStore, type Outcome, RefusedError, type Row, type RunSpec } from "../ports.ts";
import type { RunReason } from "../reasons.ts";
import { keyOfCause, lineageOf, rungsOf, runNameFor } from "../run_spec.ts";
import { linkPayload, type NamedStarts, type Starter, type StartResult } from "../starter.ts";
import { onAbort, Scope } from "../util/abort.ts";
import { compact } from "../util/compact.ts";
import { errorMessage } from "../util/errors.ts";
import { delayAtMost, retryForever } from "../util/retry.ts";
import { Semaphores } from "../util/semaphore.ts";

export interface RetriesOptions {
  readonly starter: Pick<Starter, "start">;
  readonly named: NamedStarts;
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

  constructor(options: RetriesOptions) {
    this.#options = options;
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
    const start = () => this.#start(record, { runName, readJob, stop });
    const started = await this.#inTurn(jobName, start, stop);
    if (started.result !== "refused") return undefined;
    if (stop.aborted) return stop.reason as Outcome;
    const { status, reason, message, exit_code: exitCode } = record;
    const why = `${message}; it cannot be tried again: ${started.error.message}`;
    return { status, reason, message: why, ...compact({ exitCode: exitCode ?? undefined }) };
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
    { runName, readJob, stop }: { runName: string } & Parameters<Aftermath["startNext"]>[1],
  ): Promise<StartResult> {
    const { named, emit } = this.#options;
    return await named.start(runName, {
      begin: async () =>
        stop.aborted
          ? refused(runName, "it was stopped")
          : await this.#begin(await readJob(), record, { runName, stop }),
      onRetry: (error) => {
        const reason = `cannot look for its record: ${errorMessage(error)}`;
        emit({ type: "waiting", runName, jobName: record.job_name, reason });
      },
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

  async #begin(
    job: EndedJob,
    record: FailedAttempt,
    { runName, stop }: { readonly runName: string; readonly stop: AbortSignal },
  ): Promise<StartResult> {
    const next = this.nextAttempt(job, record);
    if (next === undefined || "not" in next) return refused(runName, next?.not ?? "its Job was gone");
    const spec = await this.#specOf(job, record, runName);
    if (spec === undefined) return refused(runName, "its payload is not where this service has put it");
    const { promise, resolve } = Promise.withResolvers<StartResult>();
    this.#options.starter.start({ row: spec.row, spec: () => spec, settle: resolve, takesOver: true, stop });
    return await promise;
  }

  /** The same run once more; undefined: its payload is said to be where none of this service's are. */
  async #specOf(job: EndedJob, record: FailedAttempt, runName: string): Promise<RunSpec | undefined> {
    const place = placeOf(job, record);
    if (place === undefined || "not" in place) return undefined;
    const { row, attempt, rung } = place;
    const { payloads, signal, emit } = this.#options;
    const link = job.payloadObject === undefined ? undefined : await retryForever(
      () => linkPayload(payloads, job.payloadObject!),
      {
        signal,
        onRetry: (error) => {
          const reason = `its payload cannot be linked to: ${errorMessage(error)}`;
          emit({ type: "waiting", runName, jobName: row.jobName, reason });
        },
      },
    );
    if (job.payloadObject !== undefined && link === undefined) return undefined;
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
