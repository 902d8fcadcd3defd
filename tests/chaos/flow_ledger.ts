/**
 * The books of the flows in a long run of crashes: attempts, items, groups, joins, limits, due times. What each message is
 * to come to follows from its number. Pure; keeps a few numbers for each run, and no Job or message.
 */
import type { Line } from "./ledger.ts";

/** Rows of the flows: the items (one in ten is tried again), what runs beside them, the two joins; what waits for a slot; what runs by the clock. */
export type FlowRow = "item" | "side" | "third" | "report" | "digest" | "limited" | "tick";

export const FLOW_ROWS: ReadonlySet<string> = new Set<FlowRow>([
  "item",
  "side",
  "third",
  "report",
  "digest",
  "limited",
  "tick",
]);

/** `max_runs` of the row "limited". */
export const MAX_RUNS = 3;
/** How often the row "tick" runs. */
export const TICK_MS = 60_000;
/** Of 250 messages one is a flow, and one wants a slot. */
const FLOW_EVERY = 250;
const LIMITED_EVERY = 250;
const SIZES = [1, 3, 12, 40, 200];

/** What message `n` is: a flow, one that wants a slot, or neither. */
export function flowOf(n: number): "flow" | "limited" | undefined {
  if (n % FLOW_EVERY === 25) return "flow";
  return n % LIMITED_EVERY === 65 ? "limited" : undefined;
}

/** Items of the flow that message `n` starts: 1 to 200. */
export function sizeOf(n: number): number {
  return SIZES[Math.floor(n / FLOW_EVERY) % SIZES.length]!;
}

/** How attempt `attempt` of a run of flow `n` ends. Some are tried again, some of these with more memory, some fail. */
export function endingOf(
  { row, n, index = 0, attempt }: { row: FlowRow; n: number; index?: number; attempt: number },
): "succeeds" | "fails" | "out of memory" {
  const flow = Math.floor(n / FLOW_EVERY);
  if (row === "item" && index === 0 && flow % 4 === 3) return "fails";
  if (row === "item" && index % 10 === 1 && attempt === 1) return "fails";
  if (row === "side" && flow % 2 === 0 && attempt < 3) return "out of memory";
  return "succeeds";
}

/** Attempts that a run of flow `n` comes to: one item in ten is tried again, `side` climbs its ladder of three. */
export function attemptsOf(row: FlowRow, n: number, index = 0): number {
  for (let attempt = 1;; attempt++) {
    const ending = endingOf({ row, n, index, attempt });
    if (ending === "succeeds" || attempt === (row === "side" ? 3 : 2)) return attempt;
  }
}

/** Whether all items of flow `n` succeed in the end. */
export function isComplete(n: number): boolean {
  return Math.floor(n / FLOW_EVERY) % 4 !== 3;
}

/** A Job as the checker's watch sees it. */
export interface SeenFlowJob {
  readonly uid: string;
  readonly row: FlowRow;
  /** Number of the message that began it all; of "tick" the due time. */
  readonly message: number;
  readonly index?: number;
  readonly attempt: number;
}

/** What the flows of the messages came to. */
export class FlowLedger {
  /** Numbers of messages that the broker took over. */
  readonly #flows: number[] = [];
  readonly #limited: number[] = [];
  readonly #uids = new Set<string>();
  /** Jobs by `row message index attempt`. */
  readonly #jobs = new Map<string, number>();
  /** By message: each different end that was told of its group. */
  readonly #groups = new Map<number, string[]>();
  readonly #alive = new Set<string>();
  readonly #running = new Set<string>();
  #mostRunning = 0;
  readonly #ticks = new Map<number, number>();

  taken(n: number): void {
    const what = flowOf(n);
    if (what === "flow") this.#flows.push(n);
    else if (what === "limited") this.#limited.push(n);
  }

  /** True: not seen before. */
  seen({ uid, row, message, index = 0, attempt }: SeenFlowJob): boolean {
    if (this.#uids.has(uid)) return false;
    this.#uids.add(uid);
    this.#alive.add(uid);
    if (row === "tick") this.#ticks.set(message, (this.#ticks.get(message) ?? 0) + 1);
    else this.#count(keyOf(row, message, index, attempt));
    return true;
  }

  /** A Job of the row "limited" has its slot, or has it no more. */
  runs(uid: string, isRunning: boolean): void {
    if (isRunning) this.#running.add(uid);
    else this.#running.delete(uid);
    this.#mostRunning = Math.max(this.#mostRunning, this.#running.size);
  }

  gone(uid: string): void {
    this.#alive.delete(uid);
    this.#running.delete(uid);
  }

  /** All Jobs but these are gone. */
  only(uids: ReadonlySet<string>): void {
    for (const uid of this.#alive) if (!uids.has(uid)) this.gone(uid);
  }

  get aliveCount(): number {
    return this.#alive.size;
  }

  groupEnded(message: number, end: string): void {
    const told = this.#groups.get(message) ?? [];
    if (!told.includes(end)) this.#groups.set(message, [...told, end]);
  }

  /** Nothing is missing any more, and nothing is under way. */
  get settled(): boolean {
    return this.#alive.size === 0 && this.lines([]).every(({ lost }) => lost === 0);
  }

  /** What is under way or missing, for people. */
  get state(): string {
    const missing = this.lines([]).filter(({ lost }) => lost > 0).map(({ name, lost }) => `${lost} ${name}`);
    return `${this.#flows.length} flows, ${this.#alive.size} Jobs of them left; missing: ${
      missing.join(", ") || "none"
    }`;
  }

  /** Some of what is not as it should be, for a look at the service's log. */
  suspects(due: readonly number[], most = 20): string[] {
    const expected = new Set(this.#flows.flatMap((n) => keysOf(n)));
    for (const n of this.#limited) expected.add(keyOf("limited", n));
    const found: string[] = [];
    for (const key of expected) if (!this.#jobs.has(key)) found.push(`${key}: no Job`);
    for (const [key, jobs] of this.#jobs) {
      if (jobs > 1 || !expected.has(key)) {
        found.push(`${key}: ${jobs} Jobs${expected.has(key) ? "" : ", not expected"}`);
      }
    }
    for (const n of this.#flows) {
      const ends = this.#groups.get(n) ?? [];
      if (ends.length !== 1 || ends[0] !== groupEndOf(n)) found.push(`group of ${n}: ${ends.join(", ") || "no end"}`);
    }
    for (const at of due) if (!this.#ticks.has(at)) found.push(`tick ${new Date(at).toISOString()}: no Job`);
    for (const [at, runs] of this.#ticks) if (runs > 1) found.push(`tick ${new Date(at).toISOString()}: ${runs} Jobs`);
    return found.slice(0, most);
  }

  /** `due`: the times at which "tick" was to run, in milliseconds. */
  lines(due: readonly number[]): Line[] {
    const flows = this.#flows;
    return [
      this.#line("items and their attempts", flows.flatMap((n) => expectedItems(n))),
      this.#line("runs beside them", flows.flatMap((n) => [...expectedRuns("side", n), ...expectedRuns("third", n)])),
      this.#groupLine(),
      this.#line("joins", flows.filter(isComplete).flatMap((n) => [keyOf("report", n), keyOf("digest", n)])),
      this.#line("runs that want a slot", this.#limited.map((n) => keyOf("limited", n))),
      {
        name: `most of ${MAX_RUNS} slots`,
        expected: MAX_RUNS,
        found: this.#mostRunning,
        lost: 0,
        doubled: 0,
        wrong: Math.max(0, this.#mostRunning - MAX_RUNS),
      },
      this.#tickLine(due),
    ];
  }

  #count(key: string): void {
    this.#jobs.set(key, (this.#jobs.get(key) ?? 0) + 1);
  }

  /** What is there and not expected is wrong, as a join of a group that has failed. */
  #line(name: string, expected: readonly string[]): Line {
    const line = { name, expected: expected.length, found: 0, lost: 0, doubled: 0, wrong: 0 };
    for (const key of expected) {
      const jobs = this.#jobs.get(key) ?? 0;
      line.found += jobs;
      if (jobs === 0) line.lost++;
      line.doubled += Math.max(0, jobs - 1);
    }
    const rows = new Set(expected.map((key) => key.split(" ")[0]!));
    if (name === "joins") { for (const row of ["report", "digest"]) rows.add(row); }
    const known = new Set(expected);
    for (const [key, jobs] of this.#jobs) {
      if (rows.has(key.split(" ")[0]!) && !known.has(key)) line.wrong += jobs;
    }
    return line;
  }

  #groupLine(): Line {
    const line = { name: "groups ended", expected: this.#flows.length, found: 0, lost: 0, doubled: 0, wrong: 0 };
    for (const n of this.#flows) {
      const ends = this.#groups.get(n) ?? [];
      line.found += ends.length;
      if (ends.length === 0) line.lost++;
      line.doubled += Math.max(0, ends.length - 1);
      if (ends.length > 0 && !ends.includes(groupEndOf(n))) line.wrong++;
    }
    return line;
  }

  #tickLine(due: readonly number[]): Line {
    const line = { name: "due times", expected: due.length, found: 0, lost: 0, doubled: 0, wrong: 0 };
    for (const at of due) if (!this.#ticks.has(at)) line.lost++;
    for (const [at, runs] of this.#ticks) {
      line.found += runs;
      line.doubled += runs - 1;
      if (at % TICK_MS !== 0) line.wrong++;
    }
    return line;
  }
}

/** Status, items that succeeded, and all of them, as `group_complete/…` and `group_failed/…` tell it. */
export function groupEndOf(n: number): string {
  const total = sizeOf(n);
  return isComplete(n) ? `succeeded ${total}/${total}` : `failed ${total - 1}/${total}`;
}

function keyOf(row: FlowRow, message: number, index = 0, attempt = 1): string {
  return `${row} ${message} ${index} ${attempt}`;
}

/** All runs that flow `n` comes to. */
function keysOf(n: number): string[] {
  const joins = isComplete(n) ? [keyOf("report", n), keyOf("digest", n)] : [];
  return [...expectedItems(n), ...expectedRuns("side", n), ...expectedRuns("third", n), ...joins];
}

function expectedRuns(row: FlowRow, n: number, index = 0): string[] {
  return Array.from({ length: attemptsOf(row, n, index) }, (_, at) => keyOf(row, n, index, at + 1));
}

function expectedItems(n: number): string[] {
  return Array.from({ length: sizeOf(n) }, (_, index) => expectedRuns("item", n, index)).flat();
}
