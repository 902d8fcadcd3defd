/**
 * More than one run of a message, and runs that wait: retries, groups, joins and limits, each in a file of flows/.
 * Names are hashes of causes, what waits is a suspended Job, and what is decided over several runs is decided after the
 * own mark is in the store, by one list: so each step may be repeated, and a crash loses and doubles nothing.
 * Starts what follows by the Starter; must not end a run itself (completion.ts) nor acknowledge a message (listener.ts).
 */
import type { JobFacts, Outcome, Row, RunRecord, RunSpec } from "./ports.ts";
import type { LiveRun } from "./runs.ts";

/** A Job that has ended; without its payload, manifest and row where those cannot be had any more. */
export type EndedJob = LiveRun["job"] & Pick<JobFacts, "payload" | "manifest" | "row">;

/** The attempt that follows one which has failed. */
export interface NextAttempt {
  readonly runName: string;
  /** Not before. */
  readonly at: Date;
}

/** How a run may begin: as that spec says, or not at all for it counts as ended with that outcome. */
export type Admission = { readonly spec: RunSpec } | { readonly skipped: Outcome };

/** What the end of a run leads to beyond itself; asked by completion.ts. */
export interface Aftermath {
  /** undefined: the run has ended for good. Asked before anything of the end is told. */
  nextAttempt(job: EndedJob, record: RunRecord): NextAttempt | undefined;
  /** The record with `retried_as` is in the store: resolves when the next attempt is there. May be repeated. */
  startNext(job: EndedJob, record: RunRecord): Promise<void>;
  /** The record of a run that ended for good is in the store: resolves when all that follows is durable. May be repeated. */
  recorded(record: RunRecord): Promise<void>;
}

/** How runs begin; asked by starter.ts. */
export interface Gate {
  /** Whether another run of the row may begin, or wait as a suspended Job; if not, its message stays with the broker. */
  hasRoom(row: Row): boolean;
  /** Right before the create call. Throws what `Cluster.create` throws. */
  admit(spec: RunSpec): Promise<Admission>;
}
