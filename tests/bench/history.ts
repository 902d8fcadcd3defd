/**
 * Measurement of the history of ended runs: how long a million records take to be an index, from segments in a folder; what
 * memory that takes, how long it holds everything else up, and how fast it answers what pages ask. Each step is a process of
 * its own, this file with an order, so that what one holds is not counted for the next. The names of records are listed by a
 * store that makes them up: a million files would measure the file system.
 */
import process from "node:process";
import { KeptHistory, type RunHistory } from "../../history.ts";
import { lineOf } from "../../history/line.ts";
import { FULL_SEGMENT, Segments } from "../../history/segments.ts";
import { LocalStore } from "../../local/store.ts";
import type { ObjectInfo, RunRecord } from "../../ports.ts";
import { RunRecords } from "../../records.ts";
import { shortHash } from "../../run_spec.ts";
import { aRecord } from "../harness/fakes.ts";
import { removeFolder, scratchFolder } from "../harness/folder.ts";
import { V8_FLAGS } from "../harness/service.ts";
import { pause } from "../harness/wait.ts";
import { atMost, type Measurement, percentile, rssMb, type Sample } from "./measure.ts";

/** By name. */
export const HISTORY: Readonly<Record<string, Measurement>> = {
  "history": {
    figures: {
      "history-runs": { unit: "runs" },
      "history-whole": { unit: "s", goal: atMost(60, "value") },
      "history-whole-cpu": { unit: "s of CPU" },
      "history-compared": { unit: "s" },
      "history-first-answer": { unit: "ms", goal: atMost(2_000, "value") },
      "history-memory": { unit: "MB more", goal: atMost(60, "value") },
      "history-memory-peak": { unit: "MB more", goal: atMost(60, "value") },
      "history-file": { unit: "MB" },
      "history-build-stall": { unit: "ms", goal: atMost(50, "value") },
      "history-page-p95": { unit: "ms", goal: atMost(150, "value") },
      "history-page-stall": { unit: "ms", goal: atMost(50, "value") },
    },
    once: true,
    run: measure,
  },
};

/** Runs for each message that is asked for: a million with the preset. */
export const RUNS_A_MESSAGE = 200;
const ROWS = 60;
/** Ends are so far apart: 10,000 a day. */
const APART_MS = 8_640;
const NEWEST_MS = Date.UTC(2026, 10, 26);
const DAY_MS = 24 * 3600_000;
const ROUNDS = 12;

export interface Order {
  readonly step: "make" | "build" | "ask";
  readonly dir: string;
  readonly runs: number;
}

async function measure(_repeats: number, messages: number): Promise<Sample[]> {
  const dir = await scratchFolder("history");
  const runs = messages * RUNS_A_MESSAGE;
  try {
    const sample: Record<string, { value: number }> = { "history-runs": { value: runs } };
    for (const step of ["make", "build", "ask"] as const) {
      const figures = Object.entries(await stepOf({ step, dir, runs }));
      for (const [name, value] of figures) sample[`history-${name}`] = { value };
    }
    return [sample];
  } finally {
    await removeFolder(dir);
  }
}

/** Takes a step in a process of its own. */
export async function stepOf(order: Order): Promise<Readonly<Record<string, number>>> {
  const { success, stdout } = await new Deno.Command(Deno.execPath(), {
    args: ["run", "-A", "--no-check", `${V8_FLAGS},--expose-gc`, import.meta.filename!],
    env: { HISTORY_BENCH: JSON.stringify(order) },
    stdout: "piped",
    stderr: "inherit",
  }).output();
  if (!success) throw new Error(`The step ${order.step} failed`);
  return JSON.parse(new TextDecoder().decode(stdout));
}

/** The records' names are made up, the segments are in a folder. */
class BenchStore extends LocalStore {
  readonly #runs: number;

  constructor(dir: string, runs: number) {
    super(`${dir}/runs`);
    this.#runs = runs;
  }

  override async *list(
    prefix: string,
    options: { after?: string; signal?: AbortSignal } = {},
  ): AsyncIterable<ObjectInfo> {
    if (prefix !== "") return yield* super.list(prefix, options);
    for (let at = 0; at < this.#runs; at++) {
      // As a page of S3 comes.
      if (at % 1_000 === 0) await pause(0);
      yield { key: `${nameOf(at)}.json`, size: 2_000, modifiedAt: new Date(NEWEST_MS) };
    }
  }
}

/** As names of runs are, without a hash of each: what that leaves to be collected would be counted. */
function nameOf(at: number): string {
  let [name, rest] = [`row-${at % ROWS}-`, at + 1];
  for (let digit = 0; digit < 12; digit++) {
    rest = Math.imul(rest ^ rest >>> 15, 0x2c1b3c6d);
    name += "abcdefghijklmnopqrstuvwxyz234567"[rest >>> 27];
  }
  return name;
}

/** Always the same for the same number. */
function recordOf(at: number, runs: number): RunRecord {
  const endMs = NEWEST_MS - (runs - at) * APART_MS;
  const row = at % ROWS;
  const tookMs = 60_000 + (Math.imul(at + 1, 0x9e3779b1) >>> 12) % 600_000;
  const isFailed = at % 20 === 7;
  const reason = isFailed ? ["OOMKilled", "ExitCode", "DeadlineExceeded"][at % 3]! : "Completed";
  const time = (ms: number) => new Date(ms).toISOString();
  return aRecord({
    run_name: nameOf(at),
    job_name: `row-${row}`,
    status: isFailed ? "failed" : "succeeded",
    reason,
    message: isFailed ? `Out of memory: the limit is 8Gi; the last line was plate ${at % 977}` : "Ended without error",
    exit_code: isFailed ? 137 : 0,
    topic: `lab/exp-${at % 300}/uploaded`,
    payload: JSON.stringify({
      uuid: `${shortHash(["u", String(at)])}-${at % 4096}`,
      path: `s3://lab/ephys/2026-11-${at % 28}-e-${row}/original/data/chip${at % 5_000}.raw.h5`,
      sample: "organoid",
      well: at % 96,
      stage: "spike sorting",
    }),
    node: `gpu-node-${at % 20}`,
    parent_run: at % 3 === 0 ? nameOf(Math.max(0, at - 1)) : null,
    root: shortHash(["root", String(Math.floor(at / 3))]),
    requests: { cpu: String(1 + row % 8), memory: `${1 + row % 32}Gi` },
    limits: { memory: `${1 + row % 32}Gi` },
    gpu: row % 2,
    owner: `owner-${row % 7}`,
    received_at: time(endMs - 700_000),
    created_at: time(endMs - 690_000),
    started_at: time(endMs - tookMs),
    finished_at: time(endMs),
    // One in twenty is an item.
    ...(at % 1_000 < 50
      ? { group: `row-${row}-${shortHash(["group", String(Math.floor(at / 1_000))])}`, index: at % 50 }
      : {}),
  });
}

async function make({ dir, runs }: Order): Promise<Record<string, number>> {
  const segments = new Segments(new LocalStore(`${dir}/runs`));
  for (let from = 0; from < runs; from += FULL_SEGMENT) {
    const lines = Array.from(
      { length: Math.min(FULL_SEGMENT, runs - from) },
      (_, at) => lineOf(recordOf(from + at, runs))!,
    );
    await segments.write(lines);
  }
  return {};
}

/** What the step `build` has left. */
export function openHistory({ dir, runs }: Order): KeptHistory {
  const store = new BenchStore(dir, runs);
  return new KeptHistory({
    store,
    records: new RunRecords(store),
    place: { folder: `${dir}/data` },
    leads: () => false,
    onTrouble: (sentence) => console.error(sentence),
  });
}

/**
 * The longest time in which nothing else had its turn, in milliseconds: no more than the process worked meanwhile, for on a
 * busy machine it waits for its own turn.
 */
class Stalls implements Disposable {
  longestMs = 0;
  #lastMs = performance.now();
  #lastCpuMs = cpuMs();
  readonly #timer = setInterval(() => {
    const [now, cpu] = [performance.now(), cpuMs()];
    this.longestMs = Math.max(this.longestMs, Math.min(now - this.#lastMs - EVERY_MS, cpu - this.#lastCpuMs));
    [this.#lastMs, this.#lastCpuMs] = [now, cpu];
  }, EVERY_MS);

  [Symbol.dispose](): void {
    clearInterval(this.#timer);
  }
}
const EVERY_MS = 5;

function cpuMs(): number {
  const { user, system } = process.cpuUsage();
  return (user + system) / 1_000;
}

/** MB after what nothing holds is collected. */
function settledMb(): number {
  (globalThis as { gc?: () => void }).gc?.();
  return rssMb(Deno.pid);
}

async function build(order: Order): Promise<Record<string, number>> {
  const before = settledMb();
  const begunMs = performance.now();
  using stalls = new Stalls();
  const history = openHistory(order);
  const loading = history.load(new AbortController().signal);
  await history.find({ limit: 50 });
  let [wholeMs, wholeCpuMs, peak] = [0, 0, 0];
  const watching = setInterval(() => {
    peak = Math.max(peak, rssMb(Deno.pid));
    if (wholeMs > 0 || history.reach().runs < order.runs) return;
    [wholeMs, wholeCpuMs] = [performance.now() - begunMs, cpuMs()];
  }, 100);
  await loading;
  clearInterval(watching);
  if (history.reach().runs !== order.runs) {
    throw new Error(`The index has ${history.reach().runs} of ${order.runs} runs`);
  }
  const compared = (performance.now() - begunMs) / 1000;
  history.close();
  return {
    whole: (wholeMs || performance.now() - begunMs) / 1000,
    "whole-cpu": (wholeCpuMs || cpuMs()) / 1000,
    compared,
    "memory-peak": peak - before,
    "build-stall": stalls.longestMs,
  };
}

/** What the pages ask. */
const QUESTIONS: Readonly<Record<string, (history: RunHistory) => Promise<unknown>>> = {
  newest: (history) => history.find({ limit: 51 }),
  older: (history) => history.find({ limit: 51, olderThan: { finishedAt: "2026-09-01T00:00:00Z", runName: "z" } }),
  failed: (history) => history.find({ status: "failed", final: true, since: new Date(NEWEST_MS - DAY_MS), limit: 50 }),
  failedCount: (history) => history.count({ status: "failed", final: true, since: new Date(NEWEST_MS - DAY_MS) }),
  dayCount: (history) => history.count({ since: new Date(NEWEST_MS - DAY_MS) }),
  strips: (history) => history.lastEnds(30),
  rowState: (history) => history.find({ jobName: "row-7", status: "failed", limit: 50 }),
  rowReason: (history) => history.find({ jobName: "row-7", reason: "OOMKilled", limit: 50 }),
  rowCount: (history) => history.count({ jobName: "row-7" }),
  message: (history) => history.find({ root: shortHash(["root", "77"]), limit: 500 }),
  rareWord: (history) => history.find({ text: "chip4711", limit: 50 }),
  commonWords: (history) => history.find({ text: "organoid sorting", limit: 50 }),
  wordOfRow: (history) => history.find({ text: "chip4711", jobName: "row-31", limit: 50 }),
  noWord: (history) => history.find({ text: "nowhere", limit: 50 }),
  daysOfRow: (history) => history.days({ jobName: "row-7", since: new Date(NEWEST_MS - 90 * DAY_MS) }),
  days: (history) => history.days({ since: new Date(NEWEST_MS - 30 * DAY_MS) }),
};

async function ask(order: Order): Promise<Record<string, number>> {
  const before = settledMb();
  const begunMs = performance.now();
  const history = openHistory(order);
  await history.find({ limit: 51 });
  const first = performance.now() - begunMs;
  await pause(100);
  let slowest = 0;
  let longest = 0;
  for (const [name, question] of Object.entries(QUESTIONS)) {
    using stalls = new Stalls();
    const times: number[] = [];
    for (let round = 0; round < ROUNDS; round++) {
      const askedMs = performance.now();
      await question(history);
      times.push(performance.now() - askedMs);
      await pause(EVERY_MS);
    }
    const p95 = percentile(times, 95);
    console.error(`${name}: median ${percentile(times, 50).toFixed(1)} ms, p95 ${p95.toFixed(1)} ms`);
    slowest = Math.max(slowest, p95);
    longest = Math.max(longest, stalls.longestMs);
  }
  const memory = settledMb() - before;
  history.close();
  let bytes = 0;
  for await (const { name } of Deno.readDir(`${order.dir}/data`)) {
    bytes += (await Deno.stat(`${order.dir}/data/${name}`)).size;
  }
  return { "first-answer": first, "page-p95": slowest, "page-stall": longest, memory, file: bytes / 1e6 };
}

if (import.meta.main) {
  const order: Order = JSON.parse(Deno.env.get("HISTORY_BENCH") ?? "");
  console.log(JSON.stringify(await { make, build, ask }[order.step](order)));
  Deno.exit(0);
}
