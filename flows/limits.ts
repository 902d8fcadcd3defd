/**
 * Limits: how many runs of a row, or of a concurrency group, there are at a time. What waits is a suspended Job; slots
 * are counted from the live runs, so no counter can leak. Also whether a run begins at all (`forbid`, `skip_existing`).
 * Must not end a run that has a Job: it asks the cluster to resume or to cancel it, and completion.ts ends it.
 */
import { type Catalog, rowNamed } from "../catalog.ts";
import type { Admission, Gate } from "../flows.ts";
import { givingWayTo } from "../outcome.ts";
import {
  type Cluster,
  type Emit,
  type HeldFor,
  type JobFacts,
  type ObjectLook,
  type Outcome,
  type Row,
  type RunSpec,
  UnavailableError,
  type WhenBusy,
} from "../ports.ts";
import { concurrencyOf } from "../run_spec.ts";
import type { LiveRun, RunObserver, RunTable } from "../runs.ts";
import { errorMessage } from "../util/errors.ts";
import { delay, retryForever } from "../util/retry.ts";
import { outputThere } from "./outputs.ts";
import { type Member, planOf, slotsOf, waitingOf } from "./slots.ts";

export interface LimitsOptions {
  readonly catalog: Pick<Catalog, "table">;
  readonly cluster: Cluster;
  readonly runs: RunTable;
  /** Looks for outputs; absent: nobody can, and `skip_existing` skips nothing. */
  readonly look?: ObjectLook;
  /** Ends a run that has no Job: publishes, puts the record. */
  readonly endUnstarted: (spec: RunSpec, outcome: Outcome) => Promise<void>;
  /** A lane that had no room may have some. */
  readonly onRoom: () => void;
  readonly emit: Emit;
  readonly signal: AbortSignal;
  /** Another value than the preset is for tests. */
  readonly settleMs?: number;
}

/**
 * How long after the first list of Jobs one may still come, or go on, by a call that a killed process has left behind.
 * No slot is given before.
 */
const SETTLE_MS = 3_000;
/** Where the cluster says that a Job is there and the watch has not told it. */
const LOOK_AGAIN_MS = 1_000;
const MAX_WAITING = 100;
/** A group of which more wait is looked at ten times a second at most. */
const LARGE = 200;
const LARGE_MS = 100;

/** A run from its turn in the starter until the watch tells its Job: it counts, for its create call may be under way. */
interface Turn {
  readonly jobName: string;
  readonly key: string;
  readonly slot: string;
  readonly receivedAtMs: number;
  hasLooked: boolean;
  /** undefined: not decided yet. What was decided stays: a call that seemed to fail may have made the Job. */
  begins: HeldFor | "at once" | undefined;
}

/** The runs that share slots, by name. */
interface Group {
  readonly turns: Map<string, Turn>;
  /** Live ones that are not held, */
  readonly active: Set<string>;
  /** and those that are. */
  readonly held: Set<string>;
}

export class Limits implements Gate, RunObserver {
  readonly #options: LimitsOptions;
  readonly #groups = new Map<string, Group>();
  readonly #turns = new Map<string, Turn>();
  /** What is known of a live run: its group, and whether it waits. */
  readonly #seen = new Map<string, { readonly key: string; readonly jobName: string; readonly state: string }>();
  /** Names of the runs of each row that wait. */
  readonly #waiting = new Map<string, Set<string>>();
  /** Runs that have got a slot, until the watch tells that they go on; */
  readonly #resuming = new Set<string>();
  /** and those that have lost theirs, until they are gone. */
  readonly #cancelling = new Set<string>();
  readonly #dirty = new Set<string>();
  #flush: ReturnType<typeof setTimeout> | undefined;
  #isSettled = false;
  #timer: ReturnType<typeof setTimeout> | undefined;

  constructor(options: LimitsOptions) {
    this.#options = options;
    options.signal.addEventListener("abort", () => {
      clearTimeout(this.#timer);
      clearTimeout(this.#flush);
    }, { once: true });
  }

  // ---------------------------------------------------------------- how runs begin

  /** See `Gate`. */
  hasRoom(given: Row, later = false): boolean {
    const row = this.#rowOf(given.jobName) ?? given;
    if (!isHeldBack(row)) return true;
    // A batch waits in its lane, where messages go before it, and is not skipped run by run.
    if (later && row.enabled !== "paused") return this.#hasSlot(row);
    // Whether it is busy is not known before.
    if (row.whenBusy === "forbid" && row.enabled !== "paused") return this.#isReady;
    return (this.#waiting.get(row.jobName)?.size ?? 0) < (row.maxWaiting ?? MAX_WAITING);
  }

  /** Of a concurrency group that a message names it is not known before: then one of the row may wait. */
  #hasSlot({ jobName, maxRuns = Infinity, concurrencyGroup }: Row): boolean {
    if ((this.#waiting.get(jobName)?.size ?? 0) > 0 || !this.#isReady) return false;
    return concurrencyGroup !== undefined || this.#slotsOf(jobName).size < maxRuns && !this.#doesAnyWait(jobName);
  }

  /** See `Gate`. */
  admit(spec: RunSpec): Promise<Admission> {
    const row = this.#rowOf(spec.row.jobName) ?? spec.row;
    if (!isHeldBack(row) && !spec.row.skipExisting) return Promise.resolve({ spec });
    return this.#admit(spec, row);
  }

  async #admit(spec: RunSpec, row: Row): Promise<Admission> {
    const turn = this.#turnOf(spec, row);
    if (spec.row.skipExisting && !turn.hasLooked) {
      const there = await outputThere(spec, this.#options);
      if (there !== undefined) {
        const message = `Nothing to do: its output ${there} is there already (skip_existing)`;
        return await this.#skip(spec, { status: "succeeded", reason: "Skipped", message });
      }
      turn.hasLooked = true;
    }
    if (turn.begins === undefined) {
      const begins = this.#decide(spec, row, turn);
      if (typeof begins === "object") return await this.#skip(spec, begins.outcome);
      turn.begins = begins;
      this.#countWaiting(turn.jobName, spec.runName, begins !== "at once");
    }
    const { begins, key } = turn;
    const concurrency = row.maxRuns === undefined ? {} : { concurrency: key };
    return { spec: { ...spec, ...concurrency, ...(begins === "at once" ? {} : { heldFor: begins }) } };
  }

  #turnOf(spec: RunSpec, row: Row): Turn {
    const known = this.#turns.get(spec.runName);
    if (known) return known;
    const turn: Turn = {
      jobName: row.jobName,
      key: row.maxRuns === undefined ? row.jobName : concurrencyOf({ ...spec, row }),
      slot: spec.firstRun ?? spec.runName,
      receivedAtMs: spec.receivedAt.getTime(),
      hasLooked: false,
      begins: undefined,
    };
    this.#turns.set(spec.runName, turn);
    this.#groupOf(turn.key).turns.set(spec.runName, turn);
    // Until that is decided it may have to wait: as many as have their turn at once must not all find room.
    if (isHeldBack(row)) this.#countWaiting(turn.jobName, spec.runName, true);
    return turn;
  }

  #decide(spec: RunSpec, row: Row, { key, slot }: Turn): HeldFor | "at once" | { readonly outcome: Outcome } {
    const slots = this.#slotsOf(key);
    // The attempt before it has kept its slot.
    if (slots.has(slot)) return "at once";
    // What a person asks for runs though its row is paused; not what somebody starts by the hundred.
    const isAsked = spec.byHand || spec.rerunOf !== undefined && spec.batch === undefined;
    if (row.enabled === "paused" && !isAsked) return "pause";
    const { limit } = row.maxRuns === undefined ? { limit: Infinity } : this.#termsOf(row.jobName);
    if (limit === Infinity) return "at once";
    if (row.whenBusy === "forbid" && !this.#isReady) {
      throw new UnavailableError("Its slots are being counted", { retryAfterMs: 500 });
    }
    const isBusy = slots.size >= limit || this.#doesAnyWait(key);
    if (row.whenBusy !== "forbid") return isBusy || !this.#isReady ? "slot" : "at once";
    if (!isBusy) return "at once";
    const message = `Skipped: ${takenWords(slots.size, limit)}, and the row lets nothing wait (when_busy: forbid)`;
    return { outcome: { status: "cancelled", reason: "Skipped", message } };
  }

  /** Slots that are taken. As `slotsOf` of all members, without a look at those that wait. */
  #slotsOf(key: string): Set<string> {
    const { turns, active, held } = this.#groupOf(key);
    const slots = new Set<string>();
    for (const { slot, begins } of turns.values()) if (begins === "at once") slots.add(slot);
    for (const runName of [...active, ...this.#resuming]) {
      const run = active.has(runName) || held.has(runName) ? this.#options.runs.get(runName) : undefined;
      if (run && !hasGivenUp(run)) slots.add(run.job.firstRun ?? runName);
    }
    return slots;
  }

  #doesAnyWait(key: string): boolean {
    const { turns, held } = this.#groupOf(key);
    for (const { jobName, begins } of turns.values()) {
      if (begins !== undefined && begins !== "at once" && !this.#termsOf(jobName).isPaused) return true;
    }
    for (const runName of held) {
      const run = this.#options.runs.get(runName);
      const isOut = !run || isLeaving(run) || this.#resuming.has(runName) || this.#cancelling.has(runName);
      if (!isOut && !this.#termsOf(run.job.jobName).isPaused) return true;
    }
    return false;
  }

  async #skip(spec: RunSpec, outcome: Outcome): Promise<Admission> {
    await this.#options.endUnstarted(spec, outcome);
    this.#endTurn(spec.runName);
    return { skipped: outcome };
  }

  /** See `Gate`. */
  through(runName: string, result: "created" | "exists" | "refused" | "undone"): void {
    const turn = this.#turns.get(runName);
    if (!turn) return;
    if (result === "undone") {
      turn.begins = undefined;
      this.#countWaiting(turn.jobName, runName, true);
      this.#mark(turn.key);
    } else if (result === "exists") void this.#untilSeen(runName).catch(() => {/* The service stops. */});
    else this.#endTurn(runName);
  }

  /** There is a Job of that name, of an earlier call; the watch tells it soon, unless it is gone by then. */
  async #untilSeen(runName: string): Promise<void> {
    const { cluster, runs, signal } = this.#options;
    while (this.#turns.has(runName)) {
      const isThere = await retryForever(() => cluster.get(runName, { signal }), { signal }) !== undefined;
      if (!isThere || runs.hasEnded(runName)) this.#endTurn(runName);
      else await delay(LOOK_AGAIN_MS, signal);
    }
  }

  #endTurn(runName: string): void {
    const turn = this.#turns.get(runName);
    if (!turn) return;
    this.#turns.delete(runName);
    this.#groups.get(turn.key)?.turns.delete(runName);
    if (!this.#seen.has(runName)) this.#countWaiting(turn.jobName, runName, false);
    this.#mark(turn.key);
  }

  // ---------------------------------------------------------------- the live runs

  onRun(run: LiveRun): void {
    const { job } = run;
    const { runName, jobName } = job;
    const key = job.concurrency ?? jobName;
    const isHeld = job.heldFor !== undefined;
    if (!isHeld) this.#resuming.delete(runName);
    const state = `${job.heldFor} ${isLeaving(run)} ${hasGivenUp(run)}`;
    const before = this.#seen.get(runName);
    this.#endTurn(runName);
    if (before?.state === state && before.key === key) {
      if (isHeld) this.#mark(key); // what is said of it
      return;
    }
    if (before) this.#leaveGroup(before.key, runName);
    this.#seen.set(runName, { key, jobName, state });
    const group = this.#groupOf(key);
    (isHeld ? group.held : group.active).add(runName);
    this.#countWaiting(jobName, runName, isHeld);
    this.#mark(key);
  }

  onRunGone(run: LiveRun, _last?: JobFacts): void {
    this.onRunDeleted(run);
  }

  onRunDeleted({ job: { runName, jobName } }: LiveRun): void {
    const seen = this.#seen.get(runName);
    this.#seen.delete(runName);
    this.#resuming.delete(runName);
    this.#cancelling.delete(runName);
    this.#countWaiting(jobName, runName, false);
    if (!seen) return;
    this.#leaveGroup(seen.key, runName);
    this.#mark(seen.key);
  }

  onPod(): void {}

  onPodGone(): void {}

  onSynced(): void {
    if (this.#isSettled) return this.#markAll();
    this.#timer ??= setTimeout(() => {
      this.#isSettled = true;
      this.#markAll();
      this.#options.onRoom();
    }, this.#options.settleMs ?? SETTLE_MS);
  }

  /** Another table is in force: limits may be others, and a paused row may go on. */
  tableChanged(): void {
    this.#markAll();
    this.#options.onRoom();
  }

  // ---------------------------------------------------------------- who goes on

  get #isReady(): boolean {
    return this.#isSettled && this.#options.catalog.table !== undefined;
  }

  #markAll(): void {
    for (const key of this.#groups.keys()) this.#mark(key);
  }

  /** Has the group looked at soon: one event may change much, and looking at thousands takes milliseconds. */
  #mark(key: string): void {
    this.#dirty.add(key);
    if (this.#flush !== undefined || this.#options.signal.aborted) return;
    const isLarge = (this.#groups.get(key)?.held.size ?? 0) > LARGE;
    this.#flush = setTimeout(() => {
      this.#flush = undefined;
      const keys = [...this.#dirty];
      this.#dirty.clear();
      for (const key of keys) this.#pump(key);
    }, isLarge ? LARGE_MS : 0);
  }

  #pump(key: string): void {
    const group = this.#groups.get(key);
    if (!group) return;
    if (group.active.size + group.held.size + group.turns.size === 0) {
      this.#groups.delete(key);
      return;
    }
    if (!this.#isReady || group.held.size === 0) return;
    const { resume, cancel } = planOf(this.#membersOf(key));
    // One whose create call is under way has its turn when the watch tells it.
    for (const { runName } of resume) if (group.held.has(runName)) this.#resume(key, runName);
    for (const { member, by } of cancel) if (!group.turns.has(member.runName)) this.#cancel(key, member.runName, by);
    this.#tell(key);
  }

  #resume(key: string, runName: string): void {
    this.#resuming.add(runName);
    const { cluster, signal } = this.#options;
    this.#ask(key, runName, this.#resuming, "be let go on", () => cluster.resume(runName, { signal }));
  }

  #cancel(key: string, runName: string, by: string): void {
    this.#cancelling.add(runName);
    const { cluster, signal } = this.#options;
    this.#ask(
      key,
      runName,
      this.#cancelling,
      "be cancelled",
      () => cluster.cancel(runName, givingWayTo(by), { signal }),
    );
  }

  /** Asks until the cluster does it; the watch tells that it has. */
  #ask(key: string, runName: string, asked: Set<string>, what: string, call: () => Promise<boolean>): void {
    const { runs, emit, signal } = this.#options;
    const onRetry = (error: unknown) => {
      const jobName = runs.get(runName)?.job.jobName ?? key;
      emit({ type: "waiting", runName, jobName, reason: `it cannot ${what} yet: ${errorMessage(error)}` });
    };
    retryForever(call, { signal, onRetry }).then(async (isThere) => {
      if (isThere) return;
      // The watch tells that it is gone, or has another one of that name.
      await delay(LOOK_AGAIN_MS, signal);
      asked.delete(runName);
      this.#mark(key);
    }).catch(() => {/* The service stops. */});
  }

  /** Says at each run that waits for what it does. */
  #tell(key: string): void {
    const members = this.#membersOf(key);
    const { size } = slotsOf(members);
    for (const [before, { runName, limit }] of waitingOf(members).entries()) {
      const run = this.#options.runs.get(runName);
      if (run?.job.heldFor === undefined || limit === Infinity) continue;
      const of = key === run.job.jobName ? "max_runs" : `max_runs of ${JSON.stringify(key)}`;
      run.detail = `Waits for a free slot: ${takenWords(size, limit)} (${of}), ${before} before it`;
    }
  }

  /** Those that have a slot or wait for one; of a paused row none waits for that. */
  #membersOf(key: string): Member[] {
    const group = this.#groups.get(key);
    if (!group) return [];
    const members: Member[] = [];
    for (const [runName, { jobName, slot, receivedAtMs, begins }] of group.turns) {
      if (begins === undefined) continue;
      const terms = this.#termsOf(jobName);
      const held = begins !== "at once";
      if (!(held && terms.isPaused)) members.push({ runName, slot, receivedAtMs, held, leaving: false, ...terms });
    }
    for (const runName of [...group.active, ...group.held]) {
      const run = this.#options.runs.get(runName);
      if (!run || hasGivenUp(run)) continue;
      const { job } = run;
      const terms = this.#termsOf(job.jobName);
      const held = job.heldFor !== undefined && !this.#resuming.has(runName);
      if (held && terms.isPaused) continue;
      members.push({
        runName,
        slot: job.firstRun ?? runName,
        receivedAtMs: job.receivedAt.getTime(),
        held,
        leaving: isLeaving(run) || this.#cancelling.has(runName),
        ...terms,
      });
    }
    return members;
  }

  /**
   * As the table in force has it. Runs of a row that is not there, or has an error, go on one at a time: so many any
   * limit allows.
   */
  #termsOf(jobName: string): { limit: number; mode: WhenBusy; isPaused: boolean } {
    const row = this.#rowOf(jobName);
    if (!row) return { limit: 1, mode: "wait", isPaused: false };
    return { limit: row.maxRuns ?? Infinity, mode: row.whenBusy ?? "wait", isPaused: row.enabled === "paused" };
  }

  #rowOf(jobName: string): Row | undefined {
    return rowNamed(this.#options.catalog.table?.rows, jobName);
  }

  #groupOf(key: string): Group {
    let group = this.#groups.get(key);
    if (!group) this.#groups.set(key, group = { turns: new Map(), active: new Set(), held: new Set() });
    return group;
  }

  #leaveGroup(key: string, runName: string): void {
    const group = this.#groups.get(key);
    group?.active.delete(runName);
    group?.held.delete(runName);
  }

  #countWaiting(jobName: string, runName: string, waits: boolean): void {
    const names = this.#waiting.get(jobName);
    if (waits) {
      if (names) names.add(runName);
      else this.#waiting.set(jobName, new Set([runName]));
    } else if (names?.delete(runName)) {
      if (names.size === 0) this.#waiting.delete(jobName);
      queueMicrotask(this.#options.onRoom);
    }
  }
}

/** Whether runs of the row may have to wait. */
function isHeldBack({ maxRuns, enabled }: Row): boolean {
  return maxRuns !== undefined || enabled === "paused";
}

/** It has ended and is not tried again, or is about to. */
function isLeaving({ job, state, recorded }: LiveRun): boolean {
  if (job.cancelledBy !== undefined || job.deletionAt !== undefined) return true;
  return recorded !== "retried" && (job.end !== undefined || state === "ending");
}

/** Its slot is another one's: all of it has ended, and its record says so. A Job that was cancelled may have a pod yet. */
function hasGivenUp({ job, recorded }: LiveRun): boolean {
  return recorded === "for good" && job.end !== undefined;
}

function takenWords(taken: number, limit: number): string {
  return `${taken} of ${limit} ${limit === 1 ? "is" : "are"} taken`;
}
