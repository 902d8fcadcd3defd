/**
 * What runs cost, and what they could do with: requested hours by row, owner and week, peaks against what was asked for,
 * and advice in words. Pure; changes nothing.
 */
import type { EndedRun, RowDay } from "../history.ts";
import { compact } from "../util/compact.ts";
import { DAY_MS } from "../util/duration.ts";
import { quantityValue } from "../util/quantities.ts";

/** Requested, times the time from start to end. */
export interface Hours {
  readonly coreHours: number;
  readonly gibHours: number;
  readonly gpuHours: number;
}

export interface UsageLine extends Hours {
  /** A row, an owner, or a week by its Monday (`2026-11-23`). */
  readonly name: string;
  readonly runs: number;
  readonly failed: number;
}

/** The most that was seen of a row's last runs, of those that were watched. */
export interface Peaks {
  readonly runs: number;
  /** Bytes. */
  readonly memory?: number;
  /** Bytes: the limit of the newest run, or what it requested. */
  readonly memoryAllowed?: number;
  /** Cores. */
  readonly cpu?: number;
  /** Cores: what the newest run requested, or its limit. */
  readonly cpuRequested?: number;
}

/** Advice needs so many runs. */
const LEAST_RUNS = 5;
/** What is advised is so much more than the peak. */
const ROOM = 1.25;
/** Less than this part of what is there is used: less would do. */
const LITTLE = 0.6;
/** More than this part of the limit is used: more would be safer. */
const MUCH = 0.9;
const MIB = 1024 ** 2;

/** Sums of days, by a name that each has, weeks too; the largest first. */
export function usageBy(days: readonly RowDay[], nameOf: (day: RowDay) => string): UsageLine[] {
  const lines = new Map<string, UsageLine>();
  for (const day of days) {
    const name = nameOf(day);
    const { runs = 0, failed = 0, coreHours = 0, gibHours = 0, gpuHours = 0 } = lines.get(name) ?? {};
    lines.set(name, {
      name,
      runs: runs + day.succeeded + day.failed + day.cancelled,
      failed: failed + day.failed,
      coreHours: coreHours + day.coreHours,
      gibHours: gibHours + day.gibHours,
      gpuHours: gpuHours + day.gpuHours,
    });
  }
  return [...lines.values()].sort((a, b) => worth(b) - worth(a) || (a.name < b.name ? -1 : 1));
}

/** For the order alone: a GPU costs as much as some tens of cores. */
function worth({ coreHours, gibHours, gpuHours }: Hours): number {
  return coreHours + gibHours / 8 + gpuHours * 30;
}

/** The Monday of a day's week: `2026-11-26` → `2026-11-23`. */
export function weekOf(day: string): string {
  const at = Date.parse(`${day}T00:00:00Z`);
  const sinceMonday = (new Date(at).getUTCDay() + 6) % 7;
  return new Date(at - sinceMonday * DAY_MS).toISOString().slice(0, 10);
}

/** Of a row's last ends, oldest first. */
export function peaksOf(ends: readonly EndedRun[]): Peaks {
  const watched = ends.filter(({ peak_memory, peak_cpu }) => peak_memory !== undefined || peak_cpu !== undefined);
  const newest = ends.at(-1);
  const most = (values: (number | undefined)[]) => {
    const known = values.filter((value) => value !== undefined);
    return known.length === 0 ? undefined : Math.max(...known);
  };
  return {
    runs: watched.length,
    ...compact({
      memory: most(watched.map(({ peak_memory }) => peak_memory)),
      memoryAllowed: quantityOf(newest?.limits["memory"] ?? newest?.requests["memory"]),
      cpu: most(watched.map(({ peak_cpu }) => peak_cpu)),
      cpuRequested: quantityOf(newest?.requests["cpu"] ?? newest?.limits["cpu"]),
    }),
  };
}

function quantityOf(text: string | undefined): number | undefined {
  const value = text === undefined ? undefined : quantityValue(text);
  // 9e999 is a quantity by its grammar.
  return Number.isFinite(value) ? value : undefined;
}

/** What could be changed in the row's cells, in sentences; [] where nothing is to be said. */
export function adviceOf(ends: readonly EndedRun[]): string[] {
  const { runs, memory, memoryAllowed, cpu, cpuRequested } = peaksOf(ends);
  const advice: string[] = [];
  const outOfMemory = ends.filter(({ reason }) => reason === "OOMKilled").length;
  if (outOfMemory > 0) {
    advice.push(`${outOfMemory} of the last ${ends.length} ran out of memory: raise memory_limit, or give it a ladder`);
  }
  if (runs < LEAST_RUNS) return advice;
  if (memory !== undefined && memoryAllowed !== undefined && outOfMemory === 0) {
    const seen = `${runs} runs, peak ${bytesWords(memory)} of ${bytesWords(memoryAllowed)}`;
    const enough = roundUp(memory * ROOM);
    if (memory > MUCH * memoryAllowed) advice.push(`${seen}: ${bytesWords(enough)} would be safer`);
    else if (memory < LITTLE * memoryAllowed && enough < memoryAllowed) {
      advice.push(`${seen}: ${bytesWords(enough)} would do`);
    }
  }
  if (cpu !== undefined && cpuRequested !== undefined && cpu < LITTLE * cpuRequested) {
    const enough = Math.max(0.1, Math.ceil(cpu * ROOM * 10) / 10);
    if (enough < cpuRequested) {
      advice.push(
        `${runs} runs, peak ${coresWords(cpu)} of ${coresWords(cpuRequested)}: ${coresWords(enough)} would do`,
      );
    }
  }
  return advice;
}

/** To a value that people write: 64 MiB, 256 MiB, 1 GiB, 12 GiB. */
function roundUp(bytes: number): number {
  const step = bytes < 512 * MIB
    ? 64 * MIB
    : bytes < 4096 * MIB
    ? 256 * MIB
    : bytes < 16_384 * MIB
    ? 1024 * MIB
    : 4096 * MIB;
  return Math.ceil(bytes / step) * step;
}

/** `9.1 GiB`, `256 MiB` */
export function bytesWords(bytes: number): string {
  const gib = bytes / (1024 * MIB);
  return gib >= 1 ? `${round(gib)} GiB` : `${Math.max(1, Math.round(bytes / MIB))} MiB`;
}

/** `0.4 cores`, `1 core` */
export function coresWords(cores: number): string {
  const rounded = cores < 0.1 ? Math.round(cores * 1_000) / 1_000 : round(cores);
  return `${rounded} ${rounded === 1 ? "core" : "cores"}`;
}

function round(value: number): number {
  return Math.round(value * 10) / 10;
}

const CSV_HEAD = ["week", "job_name", "owner", "runs", "failed", "core_hours", "gib_hours", "gpu_hours"];

/** By week and row, as a table for a spreadsheet. */
export function* usageCsv(days: readonly RowDay[], ownerOf: (jobName: string) => string): Generator<string> {
  yield `${CSV_HEAD.join(",")}\n`;
  const lines = usageBy(days, ({ day, jobName }) => `${weekOf(day)} ${jobName}`);
  for (const { name, runs, failed, coreHours, gibHours, gpuHours } of lines.sort((a, b) => a.name < b.name ? -1 : 1)) {
    const [week, jobName] = [name.slice(0, 10), name.slice(11)];
    const cells = [week, jobName, ownerOf(jobName), runs, failed, ...[coreHours, gibHours, gpuHours].map(hoursText)];
    yield `${cells.map((cell) => csvCell(String(cell))).join(",")}\n`;
  }
}

/** Three digits after the point. */
function hoursText(hours: number): string {
  return hours.toFixed(3);
}

/** A spreadsheet takes what begins so for a formula. */
const FORMULA = /^[=+\-@\t\r]/;

function csvCell(text: string): string {
  const safe = FORMULA.test(text) ? `'${text}` : text;
  return /[",\n\r]/.test(safe) ? `"${safe.replaceAll('"', '""')}"` : safe;
}
