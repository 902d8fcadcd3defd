/**
 * The output of a run at random access, wherever it is: in the store when the run has ended, on its way there before.
 * Owns shapes only.
 */
import type { LineMap } from "./line_map.ts";

/** One container of a run. */
export interface LogPart {
  /** `{pod}/{container}`, by which it is chosen. */
  readonly name: string;
  readonly pod: string;
  readonly container: string;
  readonly state: "running" | "ended";
  /** How it failed, in a few words; absent where it did not, or that is not known. */
  readonly failure?: string;
}

/** Output, of all containers or of one: places and lines count from its beginning, without the head of a log. */
export interface LogText {
  /** What the service says of the run; "": nothing yet, or it is not told apart. */
  readonly head: string;
  /** In their order in the log; empty where it is not known. */
  readonly parts: readonly LogPart[];
  /** Name of the part that this is; absent: this is all. */
  readonly part?: string;
  /** In bytes. */
  readonly size: number;
  /** More may come. */
  readonly isLive: boolean;
  /** Where lines are; absent: that is not known, for the log is large and of a former version. */
  readonly lines?: LineMap;
  /** Up to `length` bytes from `from` on: fewer at the end. Errors as of ObjectStore. */
  read(from: number, length: number): Promise<Uint8Array>;
}
