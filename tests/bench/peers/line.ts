/** What a turn of `deno task bench peers` says, as it is saved. Only types. */

/** What came of it. Times in milliseconds from the call that publishes to the sight of the Job. */
export interface Outcome {
  /** Jobs that came. */
  readonly jobs: number;
  /** From the first publish to the last Job. */
  readonly seconds: number;
  readonly perSecond: number;
  readonly p50: number;
  readonly p99: number;
  /** Seconds of user and system time: of all of the contestant's processes, of API server and etcd. */
  readonly cpu: number;
  readonly controlPlaneCpu: number;
  /** Peak, all of the contestant's processes. */
  readonly memoryMb: number;
  /** Messages that the broker took over and that no Job came of, when none came any more. */
  readonly lost: number;
  /** Jobs beyond the first one of a message. */
  readonly doubled: number;
  /** Messages without a Job yet when the time was up and Jobs still came. */
  readonly late: number;
}

/** A line of a saved run. */
export interface PeerLine extends Outcome {
  /** A name of CONTESTANTS. */
  readonly peer: string;
  /** A name of CASES. */
  readonly case: string;
}

/** What is known of bare creates. */
export type CreatesLine = Pick<PeerLine, "peer" | "case" | "jobs" | "seconds" | "perSecond">;
