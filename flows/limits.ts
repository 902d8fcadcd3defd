/**
 * Limits: how many runs of a row, or of a concurrency group, there are at a time. What waits is a suspended Job; slots
 * are counted from the live runs, so no counter can leak. Also whether a run begins at all (`skip_existing`).
 */
import type { Admission, Gate } from "../flows.ts";
import type { Cluster, Emit, Outcome, Row, RunSpec } from "../ports.ts";
import type { RunTable } from "../runs.ts";

export interface LimitsOptions {
  readonly cluster: Cluster;
  readonly runs: RunTable;
  /** Ends a run that has no Job: publishes, puts the record. */
  readonly endUnstarted: (spec: RunSpec, outcome: Outcome) => Promise<void>;
  /** A lane that had no room may have some. */
  readonly onRoom: () => void;
  readonly emit: Emit;
  readonly signal: AbortSignal;
}

export class Limits implements Gate {
  readonly #options: LimitsOptions;

  constructor(options: LimitsOptions) {
    this.#options = options;
  }

  /** See `Gate`. */
  hasRoom(_row: Row): boolean {
    return true;
  }

  /** See `Gate`. */
  admit(spec: RunSpec): Promise<Admission> {
    this.#options.signal.throwIfAborted();
    return Promise.resolve({ spec });
  }
}
