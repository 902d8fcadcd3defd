/**
 * What a small table of flows is to come to, computed naively from its messages and from how its programs end: the runs
 * that exist, the groups that end. Knows nothing of the service but the meaning of columns, and no time.
 */
import { type Cells, csv } from "../harness/table.ts";
import type { End } from "../harness/world.ts";

export const PREFIX = "services/mqtt_job_listener";
export const TOPICS = ["lab/a", "lab/b"] as const;

/** What starts a row; `of` and `rows` are positions of earlier rows. */
export type Cause =
  | { readonly on: "message"; readonly topic: number }
  | { readonly on: "job_complete" | "job_failed" | "group_complete" | "group_failed"; readonly of: number }
  | { readonly on: "needs"; readonly rows: readonly number[] };

export interface ModelRow {
  readonly cause: Cause;
  /** `for_each`: the list in the message, or so many numbers. */
  readonly items?: "list" | number;
  readonly retries: number;
  /** Of the memory ladder. */
  readonly rungs: number;
  readonly maxRuns?: number;
  /** How its programs end: by message, index and attempt in turn. */
  readonly ends: readonly End[];
}

export interface ModelMessage {
  readonly topic: number;
  /** Length of its list. */
  readonly items: number;
}

export const nameOf = (at: number) => `r${at}`;
export const positionOf = (jobName: string) => Number(jobName.slice(1));

/** What the message says. */
export function payloadOf({ items }: ModelMessage, n: number): string {
  return JSON.stringify({ n, files: Array.from({ length: items }, (_, at) => `f${at}`) });
}

/** Row that runs each minute. */
export const TICK = "tick";
export const TICK_MS = 60_000;

/** Row of which one runs at a time, and whose further messages do not simply wait. */
export const BUSY = "busy";
export const BUSY_TOPIC = 0;
export type Busy = "forbid" | "replace" | "latest";

/** As people would write it. */
export function tableOf(rows: readonly ModelRow[], { hasTick, busy }: { hasTick: boolean; busy?: Busy }): string {
  const image = "lab/program:1";
  const tick: Cells = { job_name: TICK, mqtt_topic: "", image, schedule: "every 1m" };
  const limited: Cells = { job_name: BUSY, mqtt_topic: TOPICS[BUSY_TOPIC], image, max_runs: 1, when_busy: busy ?? "" };
  return csv([...rows.map(cellsOf), ...hasTick ? [tick] : [], ...busy ? [limited] : []]);
}

function cellsOf(row: ModelRow, at: number): Cells {
  const { cause, items, retries, rungs, maxRuns } = row;
  const isFirst = cause.on === "message";
  return {
    job_name: nameOf(at),
    mqtt_topic: topicOf(cause),
    image: "lab/program:1",
    ...(cause.on === "needs" ? { needs: cause.rows.map(nameOf).join(", ") } : {}),
    ...(items === undefined
      ? {}
      : { for_each: typeof items === "number" ? `1..${items}` : isFirst ? "payload.files" : "input.files" }),
    ...(retries > 0 ? { retries } : {}),
    ...(rungs > 1 ? { memory_limit: Array.from({ length: rungs }, (_, rung) => `${2 ** rung}Gi`).join(", ") } : {}),
    ...(maxRuns === undefined ? {} : { max_runs: maxRuns }),
  };
}

function topicOf(cause: Cause): string {
  if (cause.on === "needs") return "";
  return cause.on === "message" ? TOPICS[cause.topic]! : `${PREFIX}/${cause.on}/${nameOf(cause.of)}`;
}

/** How the program of a run ends. */
export function endOf(row: ModelRow, { n, index, attempt }: { n: number; index: number; attempt: number }): End {
  return row.ends[(n + index + attempt - 1) % row.ends.length]!;
}

/** Name of a run: what caused it, not what the service calls it. */
export function keyOf(base: string, attempt: number): string {
  return `${base}#${attempt}`;
}

/** Name of what a row makes of a cause: its run without its attempt, or its group. */
export function baseOf(at: number, cause: string, index?: number): string {
  return `${nameOf(at)}(${cause})${index === undefined ? "" : `[${index}]`}`;
}

export interface Expected {
  /** Keys of runs, with how they are told to have ended; `retried`: nobody is told. */
  readonly runs: Map<string, "complete" | "failed" | "retried">;
  /** Bases of groups. */
  readonly groups: Map<string, { readonly total: number; readonly failed: number }>;
}

/** Most runs of a case. */
export const MOST_RUNS = 120;

/** What the table makes of the messages; undefined: more than is played. */
export function expect(rows: readonly ModelRow[], messages: readonly ModelMessage[]): Expected | undefined {
  const expected: Expected = { runs: new Map(), groups: new Map() };
  try {
    messages.forEach((message, n) => new Flow(rows, message, n, expected).begin());
  } catch (error) {
    if (error instanceof TooMany) return undefined;
    throw error;
  }
  return expected;
}

class TooMany extends Error {}

/** All that one message sets off. */
class Flow {
  readonly #succeeded = new Set<number>();
  readonly #joined = new Set<number>();

  constructor(
    readonly rows: readonly ModelRow[],
    readonly message: ModelMessage,
    readonly n: number,
    readonly expected: Expected,
  ) {}

  begin(): void {
    this.rows.forEach(({ cause }, at) => {
      if (cause.on === "message" && cause.topic === this.message.topic) this.#start(at, `message ${this.n}`);
    });
  }

  #start(at: number, cause: string): void {
    const { items } = this.rows[at]!;
    if (items === undefined) {
      const succeeded = this.#run(at, baseOf(at, cause));
      if (succeeded) this.#hasSucceeded(at);
      return;
    }
    const group = baseOf(at, cause);
    const total = items === "list" ? this.message.items : items;
    let failed = 0;
    for (let index = 0; index < total; index++) if (!this.#run(at, baseOf(at, cause, index), index)) failed++;
    this.expected.groups.set(group, { total, failed });
    this.#tell(failed === 0 ? "group_complete" : "group_failed", at, group);
    if (failed === 0) this.#hasSucceeded(at);
  }

  /** All attempts of one run; whether the last one succeeded. */
  #run(at: number, base: string, index = 0): boolean {
    const row = this.rows[at]!;
    let [retries, rung] = [row.retries, 0];
    for (let attempt = 1;; attempt++) {
      if (this.expected.runs.size >= MOST_RUNS) throw new TooMany();
      const key = keyOf(base, attempt);
      const end = endOf(row, { n: this.n, index, attempt });
      if (end === "oom" && rung + 1 < row.rungs) rung++;
      else if (end !== "ok" && retries > 0) retries--;
      else {
        this.expected.runs.set(key, end === "ok" ? "complete" : "failed");
        this.#tell(end === "ok" ? "job_complete" : "job_failed", at, base);
        return end === "ok";
      }
      this.expected.runs.set(key, "retried");
    }
  }

  #tell(on: Cause["on"], of: number, base: string): void {
    this.rows.forEach(({ cause }, at) => {
      if (cause.on === on && "of" in cause && cause.of === of) this.#start(at, `${on} ${base}`);
    });
  }

  #hasSucceeded(of: number): void {
    this.#succeeded.add(of);
    this.rows.forEach(({ cause }, at) => {
      if (cause.on !== "needs" || this.#joined.has(at)) return;
      if (!cause.rows.every((needed) => this.#succeeded.has(needed))) return;
      this.#joined.add(at);
      this.#start(at, `join ${this.n}`);
    });
  }
}
