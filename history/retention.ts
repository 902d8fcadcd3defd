/**
 * What may be deleted by age: records (KEEP_RUNS) with their payloads, and logs (KEEP_LOGS). Owns the answer to "does this
 * record still keep something from running twice?", for records say what has happened: of a delivery, a key, a parent, a
 * group, a join, a due time. What cannot be told stays, and what segments say is only where to look: the record itself
 * decides. Notes are not touched, nor what the service has not written.
 */
import type { EndedRun } from "../history.ts";
import type { ObjectStore } from "../ports.ts";
import type { RunRecords, SessionRecord } from "../records.ts";
import { deliveryHash, deliveryPartsOf, isMadeRunName } from "../run_spec.ts";
import { isJoinTopic, scheduleTopic } from "../topics.ts";
import { DAY_MS } from "../util/duration.ts";
import { errorMessage } from "../util/errors.ts";
import { delay } from "../util/retry.ts";
import { atOnce } from "../util/semaphore.ts";
import { endedRun } from "./ended_run.ts";
import type { HistoryLine } from "./line.ts";
import { SegmentError, Segments } from "./segments.ts";

export interface RetentionOptions {
  readonly records: RunRecords;
  /** That of the records, with the payloads. */
  readonly store: ObjectStore;
  readonly logs: ObjectStore;
  readonly topicPrefix: string;
  /** Absent: all are kept. */
  readonly keepRunsMs?: number;
  readonly keepLogsMs?: number;
  /** All ended runs of a message; undefined, or absent: not all are known, so what depends on it stays. */
  readonly runsOfRoot?: (root: string) => Promise<readonly EndedRun[] | undefined>;
  /** A due time that is older makes no run any more. */
  readonly startingDeadlineMs: number;
  readonly signal: AbortSignal;
}

/** Why a record stays though it is old enough. */
export type Guard = "open" | "delivery" | "key" | "batch" | "child" | "rerun" | "join" | "due" | "unreadable";

export interface Pruned {
  readonly runs: number;
  readonly logs: number;
  /** Records that are old enough and stay, by why. */
  readonly kept: ReadonlyMap<Guard, number>;
  /** Names of the records that are no more; there may be more the next time. */
  readonly names: ReadonlySet<string>;
}

/** Records that go at a time: of more, the rest goes the next day. */
const MOST_RUNS = 50_000;
/** Reads, too. */
const DELETES_AT_ONCE = 8;
/** Bytes of a log that say whose it is. */
const HEAD_BYTES = 256;

export class Retention {
  readonly #options: RetentionOptions;
  readonly #segments: Segments;

  constructor(options: RetentionOptions) {
    this.#options = options;
    this.#segments = new Segments(options.store);
  }

  /**
   * Deletes what is old enough; with `dryRun` only counts it. Call it where nothing waits to be acknowledged: a message
   * that does may ask for any record. What it had to leave is left: it can be called again.
   */
  async prune({ dryRun, now = new Date() }: { readonly dryRun: boolean; readonly now?: Date }): Promise<Pruned> {
    const { keepRunsMs, keepLogsMs } = this.#options;
    const kept = new Map<Guard, number>();
    const names = new Set<string>();
    const gone = new Set<string>();
    if (keepRunsMs !== undefined) {
      const before = new Date(now.getTime() - keepRunsMs);
      const open = await openThings(this.#options.records, this.#options.signal);
      await this.#pruneRuns({ before, now, dryRun, kept, names, gone, open, seen: new Set() });
      if (!dryRun && names.size + gone.size > 0) {
        const isGone = (name: string) => Promise.resolve(names.has(name) || gone.has(name));
        const rewriteBefore = before.getTime() / 1000;
        await this.#segments.compact({ isGone, rewriteBefore, signal: this.#options.signal });
      }
    }
    const logs = keepLogsMs === undefined
      ? 0
      : await this.#pruneLogs({ before: new Date(now.getTime() - keepLogsMs), dryRun });
    return { runs: names.size, logs, kept, names };
  }

  async #pruneRuns(round: Round): Promise<void> {
    const { signal } = this.#options;
    // The oldest first: a child can go when its parent has.
    for (const segment of (await this.#segments.list(signal)).reverse()) {
      if (segment.from * 1000 >= round.before.getTime() || round.names.size >= MOST_RUNS) continue;
      try {
        for await (const lines of this.#segments.read(segment, signal)) await this.#pruneLines(lines, round);
      } catch (error) {
        if (!(error instanceof SegmentError)) throw error;
      }
    }
  }

  async #pruneLines(lines: readonly HistoryLine[], round: Round): Promise<void> {
    const { store, signal } = this.#options;
    const { before, dryRun, kept, names, gone } = round;
    const isOld = ({ finished_at }: EndedRun) => Date.parse(finished_at) < before.getTime();
    const stays = (guard: Guard) => kept.set(guard, (kept.get(guard) ?? 0) + 1);
    // What stays by its line is not read each day.
    const likely: string[] = [];
    const likelyNames = new Set(names);
    for (const { run } of lines) {
      if (!isOld(run) || !isMadeRunName(run.run_name) || round.seen.has(run.run_name)) continue;
      round.seen.add(run.run_name);
      const guard = await this.#guardOf(run, { ...round, names: likelyNames });
      if (guard !== undefined) stays(guard);
      else {
        likely.push(run.run_name);
        likelyNames.add(run.run_name);
      }
    }
    // Whoever may write to the store may have written the line; what goes, goes by its record.
    const found = await this.#read(likely);
    const going: string[] = [];
    for (const name of likely) {
      const run = found.get(name);
      if (run === undefined) gone.add(name);
      else if (run === "unreadable") stays(run);
      else if (isOld(run)) {
        const guard = await this.#guardOf(run, round);
        if (guard !== undefined) stays(guard);
        else {
          names.add(name);
          going.push(name);
        }
      }
    }
    if (dryRun) return;
    await atOnce(DELETES_AT_ONCE, going, async (name) => {
      // The record last: while it is there, all of this is found again.
      await store.delete(`.payloads/${name}`, { signal });
      await store.delete(`${name}.json`, { signal });
    });
  }

  /** What the records of these runs say; of one without a record, nothing. */
  async #read(runNames: readonly string[]): Promise<Map<string, EndedRun | "unreadable">> {
    const { records, signal } = this.#options;
    const found = new Map<string, EndedRun | "unreadable">();
    await atOnce(DELETES_AT_ONCE, runNames, async (name) => {
      const record = await records.find(name, signal);
      if (record !== undefined) found.set(name, record === "unreadable" ? record : endedRun(record));
    });
    return found;
  }

  /** What its record keeps from running twice; undefined: nothing any more. */
  async #guardOf(
    run: EndedRun,
    { open, now, names }: { open: OpenThings; now: Date; names: ReadonlySet<string> },
  ): Promise<Guard | undefined> {
    const { records, topicPrefix, startingDeadlineMs, signal } = this.#options;
    const { run_name, job_name, root = "", group, parent_run } = run;
    const isOpen = open.names.has(run_name) || open.roots.has(root) || group !== undefined && open.names.has(group) ||
      run.retried_as !== undefined && open.names.has(run.retried_as);
    if (isOpen) return "open";
    if (run.batch !== undefined) return "batch";
    // A replay does not run again what was run again.
    if (run.rerun_of !== undefined) return await this.#isThere(run.rerun_of, names) ? "rerun" : undefined;
    // The attempts and items of what has ended are asked for by nobody.
    if ((run.attempt ?? 1) > 1 || group !== undefined) return undefined;
    if (run.topic === `${topicPrefix}/request/run`) return undefined;
    if (isJoinTopic(topicPrefix, run.topic)) return await this.#guardOfJoin(run, { open, names });
    if (run.topic === scheduleTopic(topicPrefix, job_name)) {
      return now.getTime() - Date.parse(run.received_at) > 2 * startingDeadlineMs ? undefined : "due";
    }
    if (parent_run !== null) {
      // The end of a run that has no record is not believed, so it starts nothing.
      return await this.#isThere(parent_run, names) ? "child" : undefined;
    }
    const delivery = deliveryPartsOf(run_name);
    if (delivery === undefined) return "key";
    if (!open.sessions.some((session) => delivery.number >= firstOf(session))) return undefined;
    const record = await records.find(run_name, signal);
    if (record === undefined) return undefined;
    if (record === "unreadable") return "delivery";
    const isOfSession = ({ epoch }: SessionRecord) =>
      deliveryHash({ jobName: job_name }, { epoch, messageHash: record.message_hash }) === delivery.hash;
    return open.sessions.some((one) => delivery.number >= firstOf(one) && isOfSession(one)) ? "delivery" : undefined;
  }

  /** Whether there is a record, or a group, of that name, and it stays. */
  async #isThere(runName: string, names: ReadonlySet<string>): Promise<boolean> {
    const { records, signal } = this.#options;
    if (names.has(runName)) return false;
    return await records.exists(runName, signal) || await records.hasNote(".groups", runName, signal);
  }

  /** While a run that it needed has a record, somebody may run that again, which must not start the join again. */
  async #guardOfJoin(
    { root = "", run_name, finished_at }: EndedRun,
    { open, names }: { open: OpenThings; names: ReadonlySet<string> },
  ): Promise<Guard | undefined> {
    const { runsOfRoot } = this.#options;
    if (open.joined.has(root)) return "join";
    const runs = await runsOfRoot?.(root);
    if (!runs) return "join";
    const others = runs.filter((run) =>
      run.run_name !== run_name && Date.parse(run.finished_at) <= Date.parse(finished_at)
    );
    return others.every((run) => names.has(run.run_name)) ? undefined : "join";
  }

  /** By when they were written, which is never before the end. */
  async #pruneLogs({ before, dryRun }: { before: Date; dryRun: boolean }): Promise<number> {
    const { records, logs, signal } = this.#options;
    const live = new Set((await records.getLive(signal)).map(({ runName }) => runName));
    let count = 0;
    let old: string[] = [];
    const remove = async () => {
      await atOnce(DELETES_AT_ONCE, old, async (runName) => {
        if (!await this.#isLogOf(runName)) return;
        count++;
        if (dryRun) return;
        await logs.delete(`.lines/${runName}.json`, { signal });
        await logs.delete(`${runName}.txt`, { signal });
      });
      old = [];
    };
    for await (const { key, modifiedAt } of logs.list("", { after: AFTER_PARTS, signal })) {
      const runName = key.slice(0, -".txt".length);
      if (!key.endsWith(".txt") || !isMadeRunName(runName) || live.has(runName)) continue;
      if (modifiedAt.getTime() >= before.getTime()) continue;
      if (old.push(runName) >= 1_000) await remove();
    }
    await remove();
    return count;
  }

  /** Whether it begins as the service begins the log of that run: anybody may have put another file there. */
  async #isLogOf(runName: string): Promise<boolean> {
    const { logs, signal } = this.#options;
    const part = await logs.readPart(`${runName}.txt`, { from: 0, length: HEAD_BYTES, signal });
    return part !== undefined && /^run: +(\S+)\n/.exec(new TextDecoder().decode(part.bytes))?.[1] === runName;
  }
}

/** What is known, and comes to be known, while records are looked at. */
interface Round {
  readonly before: Date;
  readonly now: Date;
  readonly dryRun: boolean;
  readonly open: OpenThings;
  readonly kept: Map<Guard, number>;
  /** Whose records go. */
  readonly names: Set<string>;
  /** Of which segments tell though there is no record: there is nothing to delete. */
  readonly gone: Set<string>;
  readonly seen: Set<string>;
}

/** Behind `.lines/` and `.parts/`. */
const AFTER_PARTS = ".~";

/** What has not ended, and may ask for records. */
interface OpenThings {
  readonly names: ReadonlySet<string>;
  readonly roots: ReadonlySet<string>;
  /** Roots of which marks of joins are left. */
  readonly joined: ReadonlySet<string>;
  readonly sessions: readonly SessionRecord[];
}

async function openThings(records: RunRecords, signal: AbortSignal): Promise<OpenThings> {
  const names = new Set<string>();
  const roots = new Set<string>();
  const joined = new Set<string>();
  for (const live of await records.getLive(signal)) {
    roots.add(live.root);
    for (const name of [live.runName, live.rootRun, live.parentRun, live.firstRun, live.group, live.rerunOf]) {
      if (name !== undefined) names.add(name);
    }
  }
  for (const folder of [".open-groups", ".open-joins", ".open-attempts", ".unstarted"] as const) {
    for await (const path of records.notes(folder, "", { signal })) {
      names.add(path);
      const note = await records.readableNote(folder, path, signal) as Record<string, unknown> | undefined;
      for (const field of ["run_name", "root_run", "parent_run", "first_run", "group"]) {
        if (typeof note?.[field] === "string") names.add(note[field]);
      }
      if (typeof note?.["root"] === "string") roots.add(note["root"]);
    }
  }
  for await (const path of records.notes(".joins", "", { signal })) joined.add(path.slice(0, path.indexOf("/")));
  return { names, roots, joined, sessions: await records.sessions(signal) };
}

/** The lowest number of a delivery that the broker may send again. */
function firstOf({ from, acknowledged, open }: SessionRecord): number {
  return Math.min(from, acknowledged + 1, ...open.map(([first]) => first));
}

/** How often it is looked whether it may be done. */
const LOOK_MS = 60_000;

/** Prunes once a day, at a moment when `isQuiet`; until the signal aborts. */
export async function pruneDaily(
  retention: Pick<Retention, "prune">,
  { isQuiet, onPruned, onTrouble, signal, lookMs = LOOK_MS }: {
    /** This process leads, it is connected, and no message waits to be acknowledged. */
    readonly isQuiet: () => boolean;
    readonly onPruned: (pruned: Pruned) => Promise<void>;
    readonly onTrouble: (sentence: string) => void;
    readonly signal: AbortSignal;
    readonly lookMs?: number;
  },
): Promise<void> {
  for (let dueMs = performance.now();;) {
    await delay(lookMs, signal);
    if (performance.now() < dueMs || !isQuiet()) continue;
    dueMs = performance.now() + DAY_MS;
    try {
      await onPruned(await retention.prune({ dryRun: false }));
    } catch (error) {
      if (signal.aborted) return;
      onTrouble(`Old records or logs cannot be deleted: ${errorMessage(error)}`);
    }
  }
}
