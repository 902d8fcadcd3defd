/**
 * What somebody looks for on the page `/runs`, read from its query: each word is taken as meant, or told as not
 * understood. Pure.
 */
import type { RunSearch } from "../history.ts";
import { RUN_REASONS } from "../reasons.ts";
import { isRoot } from "../run_spec.ts";
import { compact } from "../util/compact.ts";
import { durationMs } from "../util/duration.ts";
import { cut } from "../util/text.ts";
import { END_STATES, isLiveState, LIVE_STATES, type RunState } from "./pages/parts.tsx";

/** `live`: any that has not ended. `ended`: any that has. */
export type WantedState = RunState | "live" | "ended";
export const WANTED_STATES: readonly WantedState[] = [
  "live",
  ...LIVE_STATES,
  "ended",
  ...END_STATES,
];

export const RUN_SORTS = [["newest", "newest first"], ["longest", "longest first"], ["row", "by row"]] as const;
export type RunSort = (typeof RUN_SORTS)[number][0];

export interface RunsQuery {
  /** A row's name as it was typed. */
  readonly row?: string;
  readonly state?: WantedState;
  readonly reason?: string;
  readonly owner?: string;
  readonly root?: string;
  readonly text?: string;
  /** Ended within so long, ms. */
  readonly time?: number;
  readonly since?: Date;
  readonly until?: Date;
  /** Took at least so long, ms. */
  readonly took?: number;
  readonly sort: RunSort;
  /** From 1. */
  readonly page: number;
  /** Only runs that ended before this one. */
  readonly older?: NonNullable<RunSearch["olderThan"]>;
}

const REASONS = Object.keys(RUN_REASONS);

/** The query, and a sentence for each word of it that was not understood and is left out. */
export function readRunsQuery(params: URLSearchParams): { query: RunsQuery; faults: string[] } {
  const faults: string[] = [];
  const text = (name: string) => params.get(name)?.trim() || undefined;
  const read = <T>(name: string, parse: (text: string) => T | undefined, expected: string): T | undefined => {
    const given = text(name);
    if (given === undefined) return undefined;
    const value = parse(given);
    if (value === undefined) faults.push(`${name} is "${cut(given, 80)}": ${expected}. It is left out.`);
    return value;
  };
  const state = (word: string) =>
    WANTED_STATES.find((one) => one === (word.toLowerCase() === "waiting" ? "pending" : word.toLowerCase()));
  const duration = "not a duration such as 90m, 24h or 7d";
  const time = "not a time such as 2026-03-01T10:00 (UTC)";
  const query: RunsQuery = {
    ...compact({
      row: text("row"),
      state: read("state", state, `not one of ${WANTED_STATES.join(", ")}`),
      reason: canonical(text("reason")),
      owner: text("owner"),
      root: read("root", (word) => isRoot(word) ? word : undefined, "not the 12 characters of a root"),
      text: text("text"),
      time: read("time", durationMs, duration),
      since: read("since", readTime, time),
      until: read("until", readTime, time),
      took: read("took", durationMs, duration),
      older: read("older", readCursor, "not the place of a run in the list"),
    }),
    sort: RUN_SORTS.find(([name]) => name === params.get("sort"))?.[0] ?? "newest",
    page: Math.max(1, Math.trunc(Number(params.get("page"))) || 1),
  };
  return { query, faults };
}

/** A reason as our own list spells it, whatever the case; one of Kubernetes' own stays as it is. */
function canonical(reason: string | undefined): string | undefined {
  return REASONS.find((one) => one.toLowerCase() === reason?.toLowerCase()) ?? reason;
}

/** Whether runs that have not ended, and those that have, can fit. A reason and a time are those of an end. */
export function wantedKinds(
  { state, reason, time, since, until, older }: RunsQuery,
): { readonly live: boolean; readonly ended: boolean } {
  const isOfEnd = [reason, time, since, until, older].some((one) => one !== undefined);
  const isLive = state === undefined ? undefined : state === "live" || state !== "ended" && isLiveState(state);
  return { live: isLive ?? !isOfEnd, ended: isLive === undefined || !isLive };
}

/** Times without a zone are UTC, as the form says. */
function readTime(text: string): Date | undefined {
  const zoned = /(Z|[+-]\d\d:\d\d)$/.test(text) || !text.includes("T") ? text : `${text}Z`;
  const time = new Date(zoned);
  return Number.isNaN(time.getTime()) ? undefined : time;
}

function readCursor(text: string): RunsQuery["older"] {
  const [finishedAt, runName] = text.split(" ");
  if (!finishedAt || !runName || Number.isNaN(Date.parse(finishedAt))) return undefined;
  return { finishedAt, runName };
}
