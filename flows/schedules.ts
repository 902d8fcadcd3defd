/**
 * Schedules: rows that run by themselves. Owns the note of since when each (row, expression, zone) is known, in
 * `.schedules`, which is in the store before anything is started by it. There is no list of what was started: the last
 * due time is computed, and the name of its run, made of row and due time, says whether that has been.
 */
import type { Catalog } from "../catalog.ts";
import { scheduleText } from "../catalog.ts";
import type { Listener } from "../listener.ts";
import type { Emit, Message, Row } from "../ports.ts";
import type { RunRecords } from "../records.ts";
import { keyOfCause, rootFrom, shortHash } from "../run_spec.ts";
import { scheduleTopic } from "../topics.ts";
import { errorMessage } from "../util/errors.ts";
import { delay, retryForever } from "../util/retry.ts";
import { finishInSlices } from "../util/slices.ts";

export interface SchedulesOptions {
  readonly catalog: Pick<Catalog, "table" | "timetableOf" | "conditionOf">;
  readonly records: Pick<RunRecords, "readableNote" | "replaceNote">;
  readonly listener: Pick<Listener, "run">;
  readonly topicPrefix: string;
  /** A due time that was missed for longer is left out. */
  readonly startingDeadlineMs: number;
  readonly emit: Emit;
  readonly signal: AbortSignal;
}

/** A clock that is set is noticed within this time, and a timer cannot be longer than 2 ** 31 ms. */
const LONGEST_SLEEP_MS = 15_000;
/** A table has no more rows. */
const MAX_ENTRIES = 200_000;

/** Since when a row is known with its schedule. */
interface Entry {
  readonly schedule: string;
  readonly timeZone: string;
  readonly sinceMs: number;
}

/** What is known of a row that is in force. */
interface Plan {
  row: Row;
  readonly entry: Entry;
  /** All due times up to this one are dealt with. */
  doneMs: number;
  /** The first one after it; Infinity: there is none. */
  nextMs: number;
  isStarting: boolean;
}

export class Schedules {
  readonly #options: SchedulesOptions;
  readonly #noteName: string;
  /** As the note in the store has it; undefined: it is not read yet. */
  #entries: Map<string, Entry> | undefined;
  #plans = new Map<string, Plan>();
  #plannedTable: Catalog["table"];
  #lookedMs = 0;
  #woken = Promise.withResolvers<void>();

  constructor(options: SchedulesOptions) {
    this.#options = options;
    this.#noteName = shortHash(["schedules", options.topicPrefix]);
  }

  /** The table has changed. */
  wake(): void {
    this.#woken.resolve();
  }

  /** When rows are due next, by their names, as far as is known yet. */
  *nextDue(): Iterable<readonly [jobName: string, due: Date]> {
    for (const [jobName, { nextMs }] of this.#plans) {
      if (nextMs > 0 && nextMs < Infinity) yield [jobName, new Date(nextMs)];
    }
  }

  /** Starts what is due, until the signal ends it, with whose reason it rejects. */
  async run(): Promise<void> {
    const { signal, catalog } = this.#options;
    for (;;) {
      signal.throwIfAborted();
      this.#woken = Promise.withResolvers();
      if (catalog.table !== this.#plannedTable) await this.#plan();
      // In slices: at midnight hundreds of rows may be due.
      const sleepMs = await finishInSlices(this.#look(), { signal }) - Date.now();
      const sleep = new AbortController();
      await Promise.race([
        this.#woken.promise,
        delay(Math.max(1, Math.min(sleepMs, LONGEST_SLEEP_MS)), AbortSignal.any([sleep.signal, signal])),
      ]).finally(() => sleep.abort());
    }
  }

  /** Takes the table over: what is new is known from now on, what is gone is forgotten. */
  async #plan(): Promise<void> {
    const { catalog: { table }, records, topicPrefix, signal } = this.#options;
    const rows = (table?.rows ?? []).filter(({ schedule, enabled }) => schedule !== undefined && enabled !== "no");
    this.#plannedTable = table;
    // Most tables have none: then the store need not even be asked.
    if (rows.length === 0 && this.#entries === undefined) return;
    this.#entries ??= await this.#retry(
      "read",
      async () => entriesOf(await records.readableNote(".schedules", this.#noteName, signal), topicPrefix),
    );
    const nowMs = Date.now();
    const known = this.#entries;
    const entries = new Map<string, Entry>();
    for (const row of rows) {
      const [schedule, timeZone] = [scheduleText(row), row.timeZone ?? "UTC"];
      const old = known.get(row.jobName);
      const isKnown = old?.schedule === schedule && old.timeZone === timeZone && old.sinceMs <= nowMs;
      entries.set(row.jobName, isKnown ? old : { schedule, timeZone, sinceMs: nowMs });
    }
    // A row with errors is not gone: it is mended.
    for (const { jobName } of table?.badRows ?? []) {
      const old = known.get(jobName);
      if (old && !entries.has(jobName)) entries.set(jobName, old);
    }
    if (entries.size !== known.size || [...entries].some(([name, entry]) => known.get(name) !== entry)) {
      const note = noteOf(entries, topicPrefix);
      await this.#retry("store", () => records.replaceNote(".schedules", this.#noteName, note, signal));
      this.#entries = entries;
    }
    const plans = new Map<string, Plan>();
    for (const row of rows) {
      const entry = entries.get(row.jobName)!;
      const old = this.#plans.get(row.jobName);
      if (old?.entry === entry) {
        old.row = row;
        plans.set(row.jobName, old);
      } else {
        const plan = { row, entry, doneMs: entry.sinceMs, nextMs: 0, isStarting: old?.isStarting ?? false };
        plans.set(row.jobName, plan);
      }
    }
    this.#plans = plans;
  }

  /** Starts what is due; says when to look again. */
  *#look(): Generator<void, number> {
    const nowMs = Date.now();
    // The clock was set back: what is due by it again is found by its name.
    if (nowMs < this.#lookedMs) this.#clockWasSetBack(nowMs);
    this.#lookedMs = nowMs;
    let soonestMs = Infinity;
    for (const plan of this.#plans.values()) {
      // What is due meanwhile coalesces; the end of the start looks again.
      if (plan.isStarting) continue;
      if (plan.nextMs <= nowMs) {
        this.#due(plan, nowMs);
        yield;
      }
      if (!plan.isStarting) soonestMs = Math.min(soonestMs, plan.nextMs);
    }
    return soonestMs;
  }

  #clockWasSetBack(nowMs: number): void {
    for (const plan of this.#plans.values()) {
      plan.doneMs = Math.min(plan.doneMs, nowMs);
      plan.nextMs = 0;
      // It became known in what is the future now, and would not run until then.
      if (plan.entry.sinceMs > nowMs) this.#plannedTable = undefined;
    }
  }

  #due(plan: Plan, nowMs: number): void {
    const { catalog, startingDeadlineMs } = this.#options;
    const timetable = catalog.timetableOf(plan.row);
    const afterMs = Math.max(plan.doneMs, nowMs - startingDeadlineMs);
    const due = timetable?.last(new Date(afterMs), new Date(nowMs));
    plan.doneMs = Math.max(plan.doneMs, nowMs);
    plan.nextMs = timetable?.next(new Date(nowMs))?.getTime() ?? Infinity;
    if (!due) return;
    plan.isStarting = true;
    this.#start(plan.row, due).catch(() => {/* The service stops. */}).finally(() => {
      plan.isStarting = false;
      const current = this.#plans.get(plan.row.jobName);
      if (current) current.isStarting = false;
      this.wake();
    });
  }

  async #start(row: Row, due: Date): Promise<void> {
    const { catalog, listener, topicPrefix, emit } = this.#options;
    const message = dueMessage(topicPrefix, row, due);
    const verdict = catalog.conditionOf(row)?.evaluate({
      topic: message.topic,
      payload: JSON.parse(new TextDecoder().decode(message.payload)),
    });
    if (verdict?.passed === false) {
      const filtered = [{ jobName: row.jobName, line: row.line, because: verdict.because }];
      return emit({ type: "message", topic: message.topic, rows: 1, outcome: "filtered", filtered });
    }
    const key = keyOfCause.due(due);
    const root = rootFrom([key, row.jobName]);
    const { result, runName } = await listener.run(row, message, { key, lineage: { root, chainDepth: 0 } });
    if (result !== "created") return;
    emit({ type: "scheduled", runName, jobName: row.jobName, due, lagMs: Date.now() - due.getTime() });
  }

  #retry<T>(what: "read" | "store", step: () => Promise<T>): Promise<T> {
    const { signal, emit } = this.#options;
    return retryForever(step, {
      signal,
      onLasting: (error) => {
        const message = `Rows with a schedule wait: cannot ${what} since when each is known: ${errorMessage(error)}`;
        emit({ type: "error", scope: "store", report: { reason: "SchedulesWait", message } });
      },
    });
  }
}

/** What a due time says in the place of a message. */
export function dueMessage(topicPrefix: string, row: Row, due: Date): Message {
  const payload = { schedule: scheduleText(row), time_zone: row.timeZone ?? "UTC", due: due.toISOString() };
  return {
    topic: scheduleTopic(topicPrefix, row.jobName),
    payload: new TextEncoder().encode(JSON.stringify(payload)),
  };
}

function noteOf(entries: ReadonlyMap<string, Entry>, topicPrefix: string) {
  const rows = [...entries].map(([jobName, { schedule, timeZone, sinceMs }]) => ({
    job_name: jobName,
    schedule,
    time_zone: timeZone,
    since: new Date(sinceMs).toISOString(),
  }));
  return { topic_prefix: topicPrefix, rows };
}

/** What is not as `noteOf` makes it is left out: such a row is new. */
function entriesOf(note: unknown, topicPrefix: string): Map<string, Entry> {
  const entries = new Map<string, Entry>();
  const { topic_prefix, rows } = (note ?? {}) as Record<string, unknown>;
  if (topic_prefix !== topicPrefix || !Array.isArray(rows)) return entries;
  for (const row of rows.slice(0, MAX_ENTRIES)) {
    const { job_name, schedule, time_zone, since } = (row ?? {}) as Record<string, unknown>;
    const sinceMs = typeof since === "string" ? Date.parse(since) : NaN;
    if (typeof job_name !== "string" || typeof schedule !== "string" || typeof time_zone !== "string") continue;
    if (Number.isFinite(sinceMs)) entries.set(job_name, { schedule, timeZone: time_zone, sinceMs });
  }
  return entries;
}
