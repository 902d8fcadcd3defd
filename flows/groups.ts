/**
 * Groups: the items of a row with `for_each`, a run each. Owns their manifests (`.groups/{group}.json`, put before the
 * first create), their marks (put after an item's record) and their ends, decided by one list after the own mark.
 * `.open-groups/{group}.json` stands there from before the manifest until the group has ended: a restart goes on with
 * those. Must not create Jobs nor end runs; a message is durable here when the manifest is.
 */
import type { Condition } from "../catalog.ts";
import {
  type Cluster,
  type ErrorReport,
  type ObjectList,
  RefusedError,
  type Row,
  type RunRecord,
  type RunSpec,
  UnavailableError,
} from "../ports.ts";
import { lineageOf, payloadFits } from "../run_spec.ts";
import type { RunTable } from "../runs.ts";
import type { NamedStarts, Starter, StartResult } from "../starter.ts";
import { errorMessage } from "../util/errors.ts";
import { retryForever } from "../util/retry.ts";
import { Semaphore, Semaphores } from "../util/semaphore.ts";
import { type GroupDetails, groupDetails } from "./group_details.ts";
import { endOf } from "./group_end.ts";
import { GroupEnds, type GroupEndsOptions } from "./group_ends.ts";
import { GroupStore, type GroupStoreOptions } from "./group_store.ts";
import { itemsOrRefusal } from "./items.ts";
import { headOf, itemRunName, itemSpec, type Manifest, manifestOf } from "./manifest.ts";
import { lastRecord } from "./last_record.ts";
import { type ItemEnd, listMarks, putCancelled, putMark } from "./marks.ts";
import { countsOf, type GroupView, OpenGroup } from "./open_group.ts";
import { RecentGroups } from "./recent.ts";

export interface GroupsOptions extends GroupStoreOptions, GroupEndsOptions {
  readonly cluster: Pick<Cluster, "cancel">;
  readonly runs: RunTable;
  readonly starter: Pick<Starter, "start">;
  readonly named: NamedStarts;
  /** Lists the objects that a row names; absent: nobody can. */
  readonly list?: ObjectList;
  /** Of one group. Default 1,000. */
  readonly maxItems?: number;
  readonly conditionOf: (row: Row) => Promise<Condition | undefined>;
  /** What is against the row by the rules of now, in sentences; what the store has of it may be older, or anybody's. */
  readonly against: (row: Row) => readonly string[];
}

const MAX_ITEMS = 1_000;
/** Look-ups and reads of groups in the store at a time. */
const CALLS_AT_ONCE = 16;
/** Of a row's items, so many are with the starter at a time: what comes later has its turn soon. */
const AHEAD = 16;
/** Groups of a row whose items begin at a time. The messages of further ones wait with the broker. */
const BEGINNING = 20;
/** Items of a group that did not begin and are told of. */
const MOST_REPORTED = 10;
/** Whose call waits. */
interface Wait {
  readonly runName: string;
  readonly jobName: string;
}

export class Groups {
  readonly #options: GroupsOptions;
  readonly #store: GroupStore;
  readonly #ends: GroupEnds;
  readonly #open = new Map<string, OpenGroup>();
  /** Starts that are not through, by the group's name. */
  readonly #starting = new Map<string, Promise<StartResult>>();
  readonly #loading = new Map<string, Promise<void>>();
  /** Notes without a group that are taken away. */
  readonly #closing = new Map<string, Promise<void>>();
  readonly #calls = new Semaphore(CALLS_AT_ONCE);
  /** By row. */
  readonly #beginning = new Semaphores(BEGINNING);
  readonly #ahead = new Semaphores(AHEAD);
  /** What a former process left is known. */
  readonly #ready = Promise.withResolvers<void>();
  readonly #recent = new RecentGroups();

  constructor(options: GroupsOptions) {
    this.#options = options;
    this.#store = new GroupStore(options);
    this.#ends = new GroupEnds(options);
  }

  // ---------------------------------------------------------------- what there is

  /** A group that has not ended; `mayBeTold`: its end may have been told. */
  get(group: string): { readonly jobName: string; readonly mayBeTold: boolean } | undefined {
    const open = this.#open.get(group);
    return open && { jobName: open.head.jobName, mayBeTold: open.isTold || open.isComplete };
  }

  /** Name of the group that an equal message made of the row, if it is open or ended in the last ten minutes. */
  findByMessage(jobName: string, messageHash: string): string | undefined {
    return this.#recent.find(jobName, messageHash);
  }

  /** One with its items, be it open or not; undefined: there is none. */
  details(group: string, signal: AbortSignal): Promise<GroupDetails | undefined> {
    const { records, runs } = this.#options;
    return groupDetails(group, { store: this.#store, records, runs, signal });
  }

  /** Of those that have not ended. */
  names(): Iterable<string> {
    return this.#open.keys();
  }

  /** Groups that have not ended, and items of theirs that have no run yet. */
  get counts(): { readonly open: number; readonly itemsWaiting: number } {
    return countsOf(this.#open.values());
  }

  /** Those that have not ended, the oldest first. */
  views(): GroupView[] {
    return [...this.#open.values()].map(({ view }) => view);
  }

  // ---------------------------------------------------------------- the start

  /**
   * Starts a group of the row's items. `spec`: the one run that the message would make of a row without for_each; the
   * group has its name. Resolves when the manifest is in the store: from then on nothing can keep its items from running.
   * Waits where too many groups of the row begin. Rejects only where the service stops.
   */
  async start(spec: RunSpec): Promise<StartResult> {
    const { runName } = spec;
    if (this.#open.has(runName)) return { result: "exists", runName };
    const twin = this.#starting.get(runName);
    if (twin) {
      const first = await twin;
      return first.result === "refused" ? first : { result: "exists", runName };
    }
    const starting = this.#start(spec);
    this.#starting.set(runName, starting);
    return await starting.finally(() => this.#starting.delete(runName));
  }

  async #start(spec: RunSpec): Promise<StartResult> {
    const { signal } = this.#options;
    const { runName, row } = spec;
    const wait = { runName, jobName: row.jobName };
    if (await this.#call(wait, "be looked up", () => this.#store.exists(runName))) {
      return await this.#adopt(runName, row);
    }
    const started = Promise.withResolvers<StartResult>();
    this.#beginning.of(row.jobName).take(async () => {
      const manifest = await this.#makeManifest(spec);
      if (manifest instanceof RefusedError) return started.resolve({ result: "refused", runName, error: manifest });
      if (manifest === undefined) return started.resolve(await this.#adopt(runName, row));
      const open = this.#add(manifest);
      started.resolve({ result: "created", runName });
      await this.#begin(open, manifest, [...manifest.items.keys()], { isNew: true });
    }, signal).catch(started.reject);
    return await started.promise;
  }

  /** Puts it; undefined: there is one already. */
  async #makeManifest(spec: RunSpec): Promise<Manifest | RefusedError | undefined> {
    const { runName, row, message: { payload } } = spec;
    const items = await this.#items(spec);
    if (items instanceof RefusedError) return items;
    const isStored = !payloadFits(payload);
    const manifest = manifestOf(spec, items, { isStored });
    const put = <T>(work: () => Promise<T>) => this.#call({ runName, jobName: row.jobName }, "be written down", work);
    if (isStored) await put(() => this.#store.putPayload(runName, payload));
    await put(() => this.#store.announce(runName));
    return await put(() => this.#store.put(manifest)) ? manifest : undefined;
  }

  async #items(spec: RunSpec): Promise<string[] | RefusedError> {
    const { list, maxItems = MAX_ITEMS, conditionOf, topicPrefix, signal, emit } = this.#options;
    const { runName, row: { jobName } } = spec;
    const options = { list, maxItems, topicPrefix, condition: await conditionOf(spec.row), signal };
    return await itemsOrRefusal(spec, options, {
      turns: this.#calls,
      onRetry: (error) =>
        emit({ type: "waiting", runName, jobName, reason: `its items cannot be listed: ${errorMessage(error)}` }),
    });
  }

  /** The group of a former start: goes on with it, if it has not ended. */
  async #adopt(runName: string, { jobName }: Row): Promise<StartResult> {
    const isOpen = await this.#call({ runName, jobName }, "be looked up", () => this.#store.isOpen(runName));
    if (isOpen && !this.#open.has(runName)) await this.#load(runName);
    return { result: "exists", runName };
  }

  #add(manifest: Manifest): OpenGroup {
    const head = headOf(manifest);
    const open = new OpenGroup(head);
    this.#open.set(head.group, open);
    this.#recent.begun(head);
    this.#emit(open, "started");
    return open;
  }

  // ---------------------------------------------------------------- after a restart

  /** Goes on with what former processes left; when all live runs are known, and before messages come. */
  async resume(): Promise<void> {
    const names = await this.#call({ runName: "", jobName: "" }, "be listed", () => this.#store.openNames());
    await Promise.all(names.map((name) => this.#load(name)));
    this.#ready.resolve();
  }

  /** Resolves when the group is open here; its items begin in the background. */
  #load(group: string): Promise<void> {
    let loading = this.#loading.get(group);
    if (!loading) {
      loading = this.#read(group).finally(() => this.#loading.delete(group));
      this.#loading.set(group, loading);
    }
    return loading;
  }

  async #read(group: string): Promise<void> {
    const { records, signal, runs, against } = this.#options;
    const wait = { runName: group, jobName: "" };
    const manifest = await this.#call(wait, "be read", () => this.#store.read(group));
    if (manifest === undefined) {
      const isUnreadable = await this.#call(wait, "be looked up", () => this.#store.exists(group));
      if (!isUnreadable) this.#endOrphan(group).catch(() => {/* The service stops. */});
      return;
    }
    const marks = await this.#call(wait, "be read", () => listMarks(records, manifest, { signal }));
    if (this.#open.has(group)) return;
    const open = this.#add(manifest);
    if (marks.isCancelled) this.#stop(open, "somebody");
    for (const [index, end] of marks.ends) open.ended(index, end);
    for (const { job: { index } } of runs.ofGroup(group)) {
      if (index !== undefined && index < manifest.total) open.begun(index);
    }
    const left = open.states.flatMap((state, index) => state === "waiting" ? [index] : []);
    const [fault] = against(manifest.row);
    if (fault !== undefined && left.length > 0) {
      this.#report(open, `its row is not allowed any more: ${fault}`);
      this.#stop(open, "the policy");
    }
    const begin = async () => {
      // A run that a killed process has asked for may come, and be over, while a create call of the same name is under way.
      await runs.settled(signal);
      if (open.cancelledBy !== undefined) await this.#cancelLeft(open, manifest, left);
      else await this.#begin(open, manifest, left, { isNew: false });
    };
    this.#beginning.of(manifest.row.jobName).take(begin, signal).catch(() => {/* The service stops. */});
  }

  /** Its process died before the manifest was there, which may come late. Its message comes again, under another name. */
  async #endOrphan(group: string): Promise<void> {
    const { runs, signal } = this.#options;
    const wait = { runName: group, jobName: "" };
    await runs.settled(signal);
    const isThere = await this.#call(wait, "be looked up", () => this.#store.exists(group));
    if (this.#open.has(group) || this.#starting.has(group)) return;
    if (isThere) return await this.#load(group);
    const closing = this.#call(wait, "be closed", () => this.#store.close(group));
    this.#closing.set(group, closing);
    await closing.finally(() => this.#closing.delete(group));
  }

  // ---------------------------------------------------------------- items

  /** Starts items in their order; resolves when each has a run, or has ended. `isNew`: none can have run before. */
  async #begin(
    open: OpenGroup,
    manifest: Manifest,
    left: readonly number[],
    { isNew }: { isNew: boolean },
  ): Promise<void> {
    const { signal } = this.#options;
    const until = AbortSignal.any([signal, open.stop.signal]);
    const ahead = this.#ahead.of(manifest.row.jobName);
    const started: Promise<void>[] = [];
    let next = 0;
    try {
      for (; next < left.length; next++) {
        const index = left[next]!;
        const turn = Promise.withResolvers<void>();
        const start = ahead.take(() => {
          turn.resolve();
          return this.#startItem(open, manifest, index, isNew);
        }, until);
        start.catch(turn.reject);
        await turn.promise;
        started.push(start);
      }
    } catch {
      signal.throwIfAborted();
    }
    if (next < left.length) await this.#cancelLeft(open, manifest, left.slice(next));
    await Promise.all(started);
    await this.#endIfComplete(open);
  }

  async #startItem(open: OpenGroup, manifest: Manifest, index: number, isNew: boolean): Promise<void> {
    const { runs, named, starter } = this.#options;
    const { row } = manifest;
    const runName = itemRunName(manifest, index);
    const wait = { runName, jobName: row.jobName };
    const payloadLink = manifest.isStored
      ? await this.#call(wait, "be started", () => this.#store.payloadLink(manifest.group))
      : undefined;
    const spec = () => itemSpec(manifest, index, payloadLink);
    const order = { row, later: manifest.batch !== undefined, ofMany: true as const, spec };
    const begin = () => new Promise<StartResult>((settle) => starter.start({ ...order, settle }));
    const started = isNew && !runs.knows(runName)
      ? await begin()
      : await named.start(runName, { begin, onRetry: (error) => this.#emitWait(wait, "be looked up", error) });
    if (started.result === "created") {
      open.begun(index);
      if (open.cancelledBy !== undefined) await this.#cancelRun(open, runName);
    } else if (started.result === "refused") {
      this.#report(open, started.error.message, "Refused");
      await this.#mark(open, { index, runName, end: "failed", message: started.error.message });
    } else {
      open.begun(index);
      const record = await this.#call(wait, "be looked up", () => lastRecord(runName, this.#options));
      if (record === "unreadable") {
        await this.#mark(open, { index, runName, end: "failed", message: "Its record cannot be read" });
      } else if (record) await this.#repeat(wait, "be counted", () => this.#count(record));
    }
  }

  /** Counts those as failed that shall not begin. */
  async #cancelLeft(open: OpenGroup, manifest: Manifest, left: readonly number[]): Promise<void> {
    const { runs, signal } = this.#options;
    // A create call of a killed process may still land: then the run counts, and is cancelled as the others are.
    await runs.settled(signal);
    const live = new Map<number | undefined, string>();
    for (const { job } of runs.ofGroup(manifest.group)) live.set(job.index, job.runName);
    await Promise.all([...live.values()].map((runName) => this.#cancelRun(open, runName)));
    await Promise.all(left.map(async (index) => {
      if (live.has(index)) return open.begun(index);
      const message = `It did not begin, for ${open.cancelledBy} has cancelled its group`;
      await this.#mark(open, { index, runName: itemRunName(manifest, index), end: "failed", message });
    }));
    await this.#endIfComplete(open);
  }

  // ---------------------------------------------------------------- ends

  /** The record of an item is in the store: resolves when it is counted, and what follows is durable. May be repeated. */
  async recorded(record: RunRecord): Promise<void> {
    // Until it is known which groups are open, what is counted here could be missed there.
    await this.#ready.promise;
    await this.#loading.get(record.group ?? "");
    await this.#count(record);
  }

  async #count(record: RunRecord): Promise<void> {
    const { records, signal } = this.#options;
    const { group, index, run_name: runName, message, status } = record;
    if (group === undefined || index === undefined) return;
    const known = this.#open.get(group);
    const head = known?.head ?? await this.#store.read(group);
    if (!head || index >= head.total || head.jobName !== record.job_name) return;
    const end = status === "succeeded" ? "succeeded" : "failed";
    await putMark(records, { group, index, runName, end, message }, signal);
    const open = this.#open.get(group);
    if (open && !open.isTold) {
      open.ended(index, end);
      return await this.#endIfComplete(open);
    }
    await open?.ending;
    if (record.rerun_of !== undefined && end === "succeeded") await this.#ends.rerunSucceeded(head, runName);
  }

  async #mark(
    open: OpenGroup,
    mark: { readonly index: number; readonly runName: string; readonly end: ItemEnd; readonly message: string },
  ): Promise<void> {
    const { records, signal } = this.#options;
    const { group, jobName } = open.head;
    await this.#call(
      { runName: mark.runName, jobName },
      "be counted",
      () => putMark(records, { group, ...mark }, signal),
    );
    open.ended(mark.index, mark.end);
  }

  /** For who has nobody that repeats it. */
  async #endIfComplete(open: OpenGroup): Promise<void> {
    if (!open.isComplete || this.#open.get(open.head.group) !== open) return;
    const { group: runName, jobName } = open.head;
    open.ending ??= this.#repeat({ runName, jobName }, "be ended", () => this.#end(open));
    await open.ending;
  }

  async #end(open: OpenGroup): Promise<void> {
    const { records, signal } = this.#options;
    const { head } = open;
    const marks = await listMarks(records, head, { signal });
    // Who has put the last one sees all, in a store that lists what it has.
    if (marks.ends.size < head.total) {
      throw new UnavailableError(`the store lists ${marks.ends.size} of ${head.total} items that have ended`);
    }
    open.isTold = true;
    const end = endOf(head, marks);
    await this.#ends.tell(end, head);
    await this.#store.close(head.group);
    this.#open.delete(head.group);
    this.#recent.ended(head);
    this.#emit(open, end.failed === 0 ? "succeeded" : "failed");
  }

  // ---------------------------------------------------------------- cancel

  /** Cancels all live items and begins no further ones; the group ends as failed. False: no such group is open. */
  async cancel(group: string, who: string): Promise<boolean> {
    const { records, runs, signal } = this.#options;
    const open = this.#open.get(group);
    if (!open) return false;
    await putCancelled(records, group, who, signal);
    this.#stop(open, who);
    await Promise.all(runs.ofGroup(group).map(({ job }) => this.#cancelRun(open, job.runName)));
    return true;
  }

  /** One that has ended by now is no fault. */
  #cancelRun({ cancelledBy = "", head }: OpenGroup, runName: string): Promise<boolean> {
    const { cluster, signal } = this.#options;
    const cancel = () => cluster.cancel(runName, cancelledBy, { signal });
    return this.#call({ runName, jobName: head.jobName }, "be cancelled", cancel);
  }

  #stop(open: OpenGroup, who: string): void {
    open.cancelledBy = who;
    open.stop.abort(new DOMException("The group is cancelled", "AbortError"));
  }

  // ---------------------------------------------------------------- what is kept and said

  /** Repeats what may take others' turns within, or waits for long, until it succeeds. */
  #repeat<T>(wait: Wait, what: string, work: () => Promise<T>): Promise<T> {
    return retryForever(work, {
      signal: this.#options.signal,
      onRetry: (error) => this.#emitWait(wait, what, error),
    });
  }

  /** A call that is repeated until it succeeds, in its turn. */
  #call<T>(wait: Wait, what: string, call: () => Promise<T>): Promise<T> {
    return this.#repeat(wait, what, () => this.#calls.take(call, this.#options.signal));
  }

  #emitWait({ runName, jobName }: Wait, what: string, error: unknown): void {
    const reason = `its group cannot ${what}: ${errorMessage(error)}`;
    this.#options.emit({ type: "waiting", runName, jobName, reason });
  }

  #report(open: OpenGroup, why: string, reason: ErrorReport["reason"] = "GroupStopped"): void {
    if (++open.reported > MOST_REPORTED) return;
    const { group, jobName, topic } = open.head;
    const more = open.reported === MOST_REPORTED ? ". Further ones are not told of one by one" : "";
    const message = `Of the group "${group}" of job "${jobName}" an item did not begin: ${why}${more}`;
    this.#options.emit({ type: "error", scope: "run", report: { reason, message, job_name: jobName, topic } });
  }

  #emit({ head, states }: OpenGroup, state: "started" | ItemEnd): void {
    const { group, jobName, total, receivedAt, ...place } = head;
    const succeeded = states.filter((one) => one === "succeeded").length;
    const lineage = lineageOf(place);
    this.#options.emit({ type: "group", group, jobName, state, total, succeeded, lineage, receivedAt });
  }
}
