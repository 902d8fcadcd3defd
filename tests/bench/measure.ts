/**
 * What all measurements share: a row of the result, medians and percentiles, what /proc says of a process.
 * Measures nothing itself.
 */
import { pause } from "../harness/wait.ts";

/** One measured figure. `limit` is what the same run measured without the service; `ratio` is value / limit. */
export interface BenchRow {
  readonly name: string;
  readonly unit: string;
  readonly value: number;
  /** Absent where the goal is a plain figure. */
  readonly limit?: number;
  readonly ratio?: number;
  readonly goal: string;
  readonly ok: boolean;
}

/** What a figure must be: at most or at least `bound`, as a ratio to the limit or by itself. */
export interface Goal {
  readonly of: "ratio" | "value";
  readonly is: "<=" | ">=";
  readonly bound: number;
}

/** A goal that is met by so much or more. */
export function atLeast(bound: number, of: Goal["of"] = "ratio"): Goal {
  return { of, is: ">=", bound };
}

/** A goal that is met by so much or less. */
export function atMost(bound: number, of: Goal["of"] = "ratio"): Goal {
  return { of, is: "<=", bound };
}

/** One point of how a cost grows: `value` at `x`. */
export interface BenchPoint {
  readonly name: string;
  readonly unit: string;
  readonly x: number;
  readonly xUnit: string;
  readonly value: number;
}

/** What boots what it needs, measures so often, and returns the figures of each repeat. */
export interface Measurement {
  readonly figures: Readonly<Record<string, Spec>>;
  /** Takes so long that it is done once, however often the others are. */
  readonly once?: true;
  run(repeats: number, messages: number, tell: (point: BenchPoint) => void): Promise<Sample[]>;
}

/** Figures of one repeat, by the row's name. */
export type Sample = Readonly<Record<string, { value: number; limit?: number }>>;

export interface Spec {
  readonly unit: string;
  readonly goal?: Goal;
}

/** The rows of several repeats: the median of the values, of the limits, and of the ratios. */
export function rowsOf(samples: readonly Sample[], specs: Readonly<Record<string, Spec>>): BenchRow[] {
  return Object.entries(specs).flatMap(([name, { unit, goal }]) => {
    const taken = samples.flatMap((sample) => sample[name] ?? []);
    if (taken.length === 0) return [];
    const value = median(taken.map((one) => one.value));
    const limits = taken.flatMap(({ limit }) => limit ?? []);
    const limit = limits.length === 0 ? undefined : median(limits);
    const ratio = limit === undefined
      ? undefined
      : median(taken.flatMap((one) => one.limit === undefined ? [] : one.value / one.limit));
    const judged = goal?.of === "ratio" ? ratio ?? NaN : value;
    return {
      name,
      unit,
      value: rounded(value),
      ...(limit === undefined ? {} : { limit: rounded(limit) }),
      ...(ratio === undefined ? {} : { ratio: rounded(ratio) }),
      goal: goal ? `${goal.of} ${goal.is} ${goal.bound}` : "none",
      ok: !goal || (goal.is === "<=" ? judged <= goal.bound : judged >= goal.bound),
    };
  });
}

/** Of an even count, the mean of the two in the middle; NaN of nothing. */
export function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  const [low, high] = [sorted[Math.floor((sorted.length - 1) / 2)], sorted[Math.floor(sorted.length / 2)]];
  return low === undefined || high === undefined ? NaN : (low + high) / 2;
}

/** The value at a percentile by the nearest rank; NaN of nothing. */
export function percentile(values: readonly number[], percent: number): number {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[Math.max(0, Math.ceil(sorted.length * percent / 100) - 1)] ?? NaN;
}

/** In percent: how far the farthest of some medians is from their own median. */
export function unevenness(medians: readonly number[]): number {
  const middle = median(medians);
  return Math.max(...medians.map((one) => Math.abs(one - middle))) / middle * 100;
}

/** Four digits: no figure is better than that. */
export function rounded(value: number): number {
  return Number(value.toPrecision(4));
}

/** Resident memory of a process, in MB (10^6 bytes); NaN of one that has ended. */
export function rssMb(pid: number): number {
  try {
    const [, kib = "NaN"] = /^VmRSS:\s+(\d+) kB/m.exec(Deno.readTextFileSync(`/proc/${pid}/status`)) ?? [];
    return Number(kib) * 1024 / 1e6;
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return NaN;
    throw error;
  }
}

/** User and system time of a process in seconds: fields 14 and 15 of proc(5), in ticks of 10 ms as Linux has them. */
export function cpuSeconds(pid: number): number {
  const stat = Deno.readTextFileSync(`/proc/${pid}/stat`);
  const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
  return (Number(fields[11]) + Number(fields[12])) / 100;
}

/** The same of several together. */
export function cpuSecondsOf(pids: readonly number[]): number {
  return pids.reduce((sum, pid) => sum + cpuSeconds(pid), 0);
}

/** Resident memory of a process in MB when it has nothing to do: the median of some seconds. */
export async function settledRssMb(pid: number, seconds = 5): Promise<number> {
  const taken: number[] = [];
  for (let count = 0; count < seconds * 5; count++) {
    await pause(200);
    taken.push(rssMb(pid));
  }
  return median(taken.slice(taken.length / 2));
}
