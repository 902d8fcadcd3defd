/**
 * Figures of ended runs: how long they took, what they had requested, percentiles. Pure.
 */
import type { EndedRun } from "../history.ts";
import { DAY_MS } from "../util/duration.ts";
import { quantityValue } from "../util/quantities.ts";

const GIB = 1024 ** 3;
/**
 * What one run counts for at most: a hundred years, and so many cores, GiB and GPUs. What a record says is anybody's word,
 * and sums must stay finite.
 */
const MOST_MS = 100 * 365 * DAY_MS;
const MOST_WORTH = 1e9;

/** From start to end, in milliseconds; undefined: it never started. */
export function tookMs({ started_at, finished_at }: Pick<EndedRun, "started_at" | "finished_at">): number | undefined {
  if (started_at === null) return undefined;
  return Math.min(Math.max(0, Date.parse(finished_at) - Date.parse(started_at)), MOST_MS);
}

/** Cores, GiB and GPUs that a run had requested, or was limited to where it requested none; 0 where neither is said. */
export function requestedOf({ requests, limits, gpu = 0 }: Pick<EndedRun, "requests" | "limits" | "gpu">) {
  const worth = (name: string) => quantityValue(requests[name] ?? limits[name] ?? "0") ?? 0;
  return { cores: within(worth("cpu")), gib: within(worth("memory") / GIB), gpus: within(gpu) };
}

function within(worth: number): number {
  return Math.min(Math.max(0, worth), MOST_WORTH);
}

/** Nearest rank; undefined: there are none. */
export function percentile(sorted: readonly number[], part: number): number | undefined {
  return sorted[Math.max(0, Math.ceil(sorted.length * part) - 1)];
}

/** What a text is searched by: its words of letters and digits, in lower case. */
export function wordsOf(text: string): string[] {
  return text.toLowerCase().match(/[\p{L}\p{N}\p{M}\p{Co}]+/gu) ?? [];
}
