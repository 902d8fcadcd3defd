/**
 * More than one run of a message, and runs that wait: retries, groups, joins and limits, each in a file of flows/.
 * Names are hashes of causes, what waits is a suspended Job, and what is decided over several runs is decided after the
 * own mark is in the store, by one list: so each step may be repeated, and a crash loses and doubles nothing.
 * Starts what follows by the Starter; must not end a run itself (completion.ts) nor acknowledge a message (listener.ts).
 */
import type { Catalog } from "./catalog.ts";
import { Groups, type GroupsOptions } from "./flows/groups.ts";
import { Joins, type JoinsOptions } from "./flows/joins.ts";
import { Retries, type RetriesOptions } from "./flows/retries.ts";
import type { JobFacts, Outcome, Row, RunRecord, RunSpec } from "./ports.ts";
import type { LiveRun } from "./runs.ts";
import { compact } from "./util/compact.ts";

export { type GroupEnd } from "./flows/group_end.ts";
export { type GroupDetails, type ItemDetails } from "./flows/group_details.ts";
export { type Groups } from "./flows/groups.ts";
export { type GroupView, type ItemState } from "./flows/open_group.ts";
export { type WaitingJoin } from "./flows/joins.ts";
export { Limits, type LimitsOptions } from "./flows/limits.ts";
export { dueMessage, Schedules, type SchedulesOptions } from "./flows/schedules.ts";

/** A Job that has ended; without its payload, manifest and row where those cannot be had any more. */
export type EndedJob = LiveRun["job"] & Pick<JobFacts, "payload" | "manifest" | "row">;

/** What is kept of a failed attempt while it waits for the next one: thousands may wait at a time. */
export type FailedAttempt = Pick<
  RunRecord,
  | "run_name"
  | "job_name"
  | "status"
  | "reason"
  | "message"
  | "exit_code"
  | "finished_at"
  | "attempt"
  | "rung"
  | "first_run"
  | "disruptions"
  | "retried_as"
>;

/** That alone, of its record. */
export function failedAttempt(record: RunRecord): FailedAttempt {
  const { run_name, job_name, status, reason, message, exit_code, finished_at } = record;
  const { attempt, rung, first_run, disruptions, retried_as } = record;
  return {
    ...{ run_name, job_name, status, reason, message, exit_code, finished_at },
    ...compact({ attempt, rung, first_run, disruptions, retried_as }),
  };
}

/** The attempt that follows one which has failed. */
export interface NextAttempt {
  readonly runName: string;
  /** Not before. */
  readonly at: Date;
}

/** It would be tried again, but cannot be: a clause that says why. */
export interface NotRetried {
  readonly not: string;
}

/** How a run may begin: as that spec says, or not at all for it counts as ended with that outcome. */
export type Admission = { readonly spec: RunSpec } | { readonly skipped: Outcome };

/** What the end of a run leads to beyond itself; asked by completion.ts. */
export interface Aftermath {
  /** undefined: the run has ended for good. Asked before anything of the end is told. */
  nextAttempt(job: EndedJob, failed: FailedAttempt): NextAttempt | NotRetried | undefined;
  /** When the next attempt begins. */
  nextDue(failed: FailedAttempt): Date;
  /**
   * The record with `retried_as` is in the store: resolves when the next attempt is there, with undefined. With an outcome
   * where there will be none: then the run has ended so, for good. `stop` aborts, with an outcome, when somebody wants
   * it to be tried no more. `readJob`: as the cluster has it by then. May be repeated.
   */
  startNext(
    failed: FailedAttempt,
    options: { readonly readJob: () => Promise<EndedJob>; readonly stop: AbortSignal },
  ): Promise<Outcome | undefined>;
  /** The record of a run that ended for good is in the store: resolves when all that follows is durable. May be repeated. */
  recorded(record: RunRecord): Promise<void>;
}

/** How runs begin; asked by starter.ts. */
export interface Gate {
  /** Whether another run of the row may begin, or wait as a suspended Job; if not, its message stays with the broker. `later`: of a batch. */
  hasRoom(row: Row, later?: boolean): boolean;
  /** Right before the create call. Throws what `Cluster.create` throws. */
  admit(spec: RunSpec): Promise<Admission>;
  /**
   * How the create call of a run that was admitted went. One that may succeed yet is not through. `undone`: there is
   * no Job of it, nor will be by a call that was made: it is admitted anew.
   */
  through(runName: string, result: "created" | "exists" | "refused" | "undone"): void;
}

export type FlowsOptions = RetriesOptions & Omit<GroupsOptions, "onEnd"> & JoinsOptions & {
  readonly catalog: Pick<Catalog, "ready">;
};

/** What follows from ends, put together. */
export class Flows implements Aftermath {
  readonly groups: Groups;
  readonly joins: Joins;
  readonly #retries: Retries;
  readonly #tableReady: Promise<void>;

  constructor(options: FlowsOptions) {
    this.#tableReady = options.catalog.ready;
    this.#retries = new Retries(options);
    this.joins = new Joins(options);
    this.groups = new Groups({ ...options, onEnd: (end) => this.joins.groupEnded(end) });
  }

  /** Goes on with what former processes left; when all live runs are known, and before messages come. */
  async resume(): Promise<void> {
    await Promise.all([this.groups.resume(), this.#retries.resume()]);
  }

  nextAttempt(job: EndedJob, failed: FailedAttempt): NextAttempt | NotRetried | undefined {
    return this.#retries.nextAttempt(job, failed);
  }

  nextDue(failed: FailedAttempt): Date {
    return this.#retries.nextDue(failed);
  }

  startNext(failed: FailedAttempt, options: Parameters<Aftermath["startNext"]>[1]): Promise<Outcome | undefined> {
    return this.#retries.startNext(failed, options);
  }

  async recorded(record: RunRecord): Promise<void> {
    // What follows is what the table says; after a restart Jobs that have ended are known sooner than that.
    await this.#tableReady;
    // Of a group it counts that all of it has succeeded, not an item.
    if (record.group === undefined) await this.joins.recorded(record);
    else await this.groups.recorded(record);
  }
}
