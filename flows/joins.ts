/**
 * Joins: rows that start when all rows that they need (`needs`) have succeeded for one root. Owns the marks
 * `.joins/{root}/{row}/{needed}`; who puts the last of them starts the row, under a name made of root and row. Two last
 * ones both see all, and the name makes one run of it. Marks are gone when the record of that run is in the store.
 */
import type { Catalog } from "../catalog.ts";
import { chainTooDeep, refused, selectRows } from "../listener.ts";
import type { Emit, ErrorReport, RunRecord, RunSpec } from "../ports.ts";
import type { RunRecords } from "../records.ts";
import { isRoot } from "../run_spec.ts";
import type { RunTable } from "../runs.ts";
import type { NamedStarts, Starter, StartResult } from "../starter.ts";
import { Scope } from "../util/abort.ts";
import { errorMessage } from "../util/errors.ts";
import { delayAtMost, retryForever } from "../util/retry.ts";
import { Semaphore } from "../util/semaphore.ts";
import type { GroupEnd } from "./group_end.ts";
import {
  asJoinMark,
  type Join,
  joinedRunName,
  joinedSpec,
  type JoinMark,
  markOfGroup,
  markOfRun,
  marksOf,
  rootOfRecord,
  rowKey,
} from "./join_marks.ts";
import { joiningRows, rowsThatNeed } from "./needs.ts";

export interface JoinsOptions {
  readonly catalog: Pick<Catalog, "table" | "conditionOf">;
  readonly runs: Pick<RunTable, "knows">;
  readonly records: RunRecords;
  readonly starter: Pick<Starter, "start">;
  readonly named: Pick<NamedStarts, "start">;
  readonly topicPrefix: string;
  readonly maxChainDepth: number;
  readonly emit: Emit;
  readonly signal: AbortSignal;
  /** Other values than the preset are for tests. */
  readonly patienceMs?: number;
}

/** A row that waits, of a root some of whose needed rows have succeeded. */
export interface WaitingJoin {
  readonly root: string;
  readonly jobName: string;
  /** Needed rows that have not succeeded. */
  readonly missing: readonly string[];
}

/** Ends that look into the store at a time. */
const AT_ONCE = 16;
/** Keys below one row of one root that are looked at: there are as many as it has needs. */
const MOST_MARKS = 1_000;
/** Joins that are known to wait; of more nobody could read the list. */
const MOST_WAITING = 10_000;
/**
 * How long the Job of the last needed run stays for the sake of the start. Its place may be the very one that the start
 * waits for (a quota of Jobs), so after that the store holds what is to be started.
 */
const PATIENCE_MS = 500;

export class Joins {
  readonly #options: JoinsOptions;
  readonly #turns = new Semaphore(AT_ONCE);
  /** By the name of the run that will be, in the order in which they began to wait. */
  readonly #waiting = new Map<string, WaitingJoin>();
  /** Runs that shall not be, by the table in force. */
  #told: { readonly table: unknown; readonly names: Set<string> } = { table: undefined, names: new Set() };
  /** Starts that are not through, by the run's name. */
  readonly #starting = new Map<string, Promise<void>>();

  constructor(options: JoinsOptions) {
    this.#options = options;
  }

  /** Those that this process knows of, at most 10,000. */
  get waiting(): Iterable<WaitingJoin> {
    return this.#waiting.values();
  }

  get waitingCount(): number {
    return this.#waiting.size;
  }

  /** The record of a run that is no item of a group is in the store. Resolves when what it leads to is durable. */
  async recorded(record: RunRecord): Promise<void> {
    const root = rootOfRecord(record);
    await this.#ended(root, record.job_name, record.first_run ?? record.run_name);
    if (record.status === "succeeded") await this.#succeeded(root, markOfRun(record));
  }

  /** A group has ended. */
  async groupEnded(end: GroupEnd): Promise<void> {
    const root = end.root;
    if (!isRoot(root)) return;
    await this.#ended(root, end.jobName, end.group);
    if (end.failed === 0 && end.succeeded === end.total) await this.#succeeded(root, markOfGroup(end));
  }

  /**
   * Begins to look for what former processes have left; call it when the live runs and the table are known, and when the
   * table has changed.
   */
  look(): void {
    // Both end early only where the service stops.
    this.load().catch(() => {});
    this.resume().catch(() => {});
  }

  /**
   * Goes on with starts that a former process has left to the store; also of a row that was out of the table and is back.
   * Rejects only where the service stops.
   */
  async resume(): Promise<void> {
    const paths = await this.#patiently("starts that wait cannot be read", async () => {
      const paths: string[] = [];
      for await (const path of this.#options.records.notes(".open-joins", "", { signal: this.#options.signal })) {
        if (!this.#starting.has(path)) paths.push(path);
      }
      return paths;
    });
    await Promise.all(paths.map((runName) => this.#resumeOne(runName)));
  }

  /** Learns of the joins that waited when the former process ended. Rejects only where the service stops. */
  async load(): Promise<void> {
    await this.#patiently("what waits cannot be read", () => this.#load());
  }

  async #load(): Promise<void> {
    const { catalog, records, runs, signal } = this.#options;
    const joining = [...joiningRows(catalog.table?.rows).values()].filter(({ enabled }) => enabled !== "no");
    const rows = new Map(joining.map((row) => [rowKey(row.jobName), row]));
    if (rows.size === 0) return;
    const found = new Map<string, { readonly join: Join; readonly there: Set<string> }>();
    for await (const path of records.notes(".joins", "", { signal })) {
      const [root = "", key = "", needed = ""] = path.split("/");
      const row = rows.get(key);
      if (!row || !isRoot(root)) continue;
      const known = found.get(`${root}/${key}`);
      if (known) known.there.add(needed);
      else if (found.size >= MOST_WAITING) break;
      else found.set(`${root}/${key}`, { join: { root, row }, there: new Set([needed]) });
    }
    for (const { join, there } of found.values()) {
      const missing = join.row.needs!.filter((name) => !there.has(rowKey(name)));
      if (missing.length > 0 && !runs.knows(joinedRunName(join))) this.#waits(join, missing);
    }
  }

  // ---------------------------------------------------------------- marks

  /** The run, or group, that a join has led to is over: its marks are of no further use. */
  async #ended(root: string, jobName: string, runName: string): Promise<void> {
    const { catalog, records, signal } = this.#options;
    const row = joiningRows(catalog.table?.rows).get(jobName);
    if (row === undefined || joinedRunName({ root, row }) !== runName) return;
    this.#waiting.delete(runName);
    const found: string[] = [];
    for await (const path of records.notes(".joins", marksOf({ root, row }), { signal })) {
      if (found.push(path) >= MOST_MARKS) break;
    }
    for (const path of found) await records.deleteNote(".joins", path, signal);
    await records.deleteNote(".open-joins", runName, signal);
  }

  async #succeeded(root: string, mark: JoinMark): Promise<void> {
    const rows = rowsThatNeed(this.#options.catalog.table?.rows, mark.job_name);
    await Promise.all(
      rows.filter(({ enabled }) => enabled !== "no").map(async (row) => {
        const join = { root, row };
        const marks = await this.#turns.take(() => this.#mark(join, mark), this.#options.signal);
        if (marks) await this.#start(join, marks);
      }),
    );
  }

  /** Puts the mark and looks for those of the others; undefined: some are missing, or the row was started before. */
  async #mark(join: Join, mark: JoinMark): Promise<readonly JoinMark[] | undefined> {
    const { runs, records, signal } = this.#options;
    const runName = joinedRunName(join);
    const isStarting = this.#starting.has(runName);
    if (!isStarting && (runs.knows(runName) || await this.#hasBegun(join))) return undefined;
    const path = marksOf(join) + rowKey(mark.job_name);
    // The first success counts, so that a repetition computes the same.
    const isNew = await records.putNote(".joins", path, mark, signal);
    if (!isNew && await this.#markAt(path, mark.job_name) === undefined) {
      await records.replaceNote(".joins", path, mark, signal);
    }
    return await this.#complete(join, isNew);
  }

  /** Whether the store knows the run, which then has ended, or the group. A group goes on by itself. */
  #hasBegun(join: Join): Promise<boolean> {
    const { records, signal } = this.#options;
    const runName = joinedRunName(join);
    return join.row.forEach === undefined
      ? records.exists(runName, signal)
      : records.hasNote(".groups", runName, signal);
  }

  /** The marks of all needed rows, in their order; undefined: some are missing. */
  async #complete(join: Join, isNew: boolean): Promise<readonly JoinMark[] | undefined> {
    const { records, signal } = this.#options;
    const { root, row } = join;
    const folder = marksOf(join);
    const needs = row.needs ?? [];
    const there = new Set<string>();
    let looked = 0;
    for await (const path of records.notes(".joins", folder, { signal })) {
      there.add(path.slice(folder.length));
      if (++looked >= MOST_MARKS) break;
    }
    const marks = await Promise.all(
      needs.map((name) => there.has(rowKey(name)) ? this.#markAt(folder + rowKey(name), name) : undefined),
    );
    const missing = needs.filter((_, at) => marks[at] === undefined);
    const runName = joinedRunName(join);
    if (missing.length === 0) {
      this.#waiting.delete(runName);
      return marks as JoinMark[];
    }
    this.#waits(join, missing);
    if (isNew) this.#options.emit({ type: "join", jobName: row.jobName, runName, root, outcome: "waiting", missing });
    return undefined;
  }

  /** undefined: it is no mark of that row, which is said. */
  async #markAt(path: string, needed: string): Promise<JoinMark | undefined> {
    const { records, signal } = this.#options;
    const mark = asJoinMark(await records.readableNote(".joins", path, signal), needed);
    if (mark) return mark;
    this.#report({
      reason: "MarkUnusable",
      message: `The object .joins/${path}.json of RUNS_URL is no mark of a run of "${needed}", and is not used: ` +
        `find out who wrote it, and run "${needed}" again`,
      job_name: needed,
    });
    return undefined;
  }

  #waits({ root, row }: Join, missing: readonly string[]): void {
    const runName = joinedRunName({ root, row });
    if (this.#waiting.size >= MOST_WAITING && !this.#waiting.has(runName)) return;
    this.#waiting.set(runName, { root, jobName: row.jobName, missing });
  }

  // ---------------------------------------------------------------- the start

  /** Resolves when the row is started, or is not to be (true), or the store holds that it is to be (false). */
  async #start(join: Join, marks: readonly JoinMark[]): Promise<boolean> {
    const { records, signal, patienceMs = PATIENCE_MS, topicPrefix } = this.#options;
    const runName = joinedRunName(join);
    let through = this.#starting.get(runName);
    if (!through) {
      const spec = joinedSpec(join, marks, topicPrefix);
      if (!this.#mayStart(join, spec)) return true;
      through = this.#through(join, spec).finally(() => this.#starting.delete(runName));
      this.#starting.set(runName, through);
    }
    using wait = new Scope(signal);
    const isThrough = await Promise.race([
      through.then(() => true),
      delayAtMost(patienceMs, wait.signal).then(() => false),
    ]);
    signal.throwIfAborted();
    if (isThrough) return true;
    await records.putNote(".open-joins", runName, { root: join.root, job_name: join.row.jobName }, signal);
    through.then(() => this.#deleteOpen(runName)).catch(() => {/* The service stops: the next one goes on. */});
    return false;
  }

  /** Whether anything is against it, which is told: its depth, its condition, an input that it lacks. */
  #mayStart({ root, row }: Join, spec: RunSpec): boolean {
    const { catalog, topicPrefix, maxChainDepth, emit } = this.#options;
    if (row.enabled === "no") return false;
    const { runName, chainDepth, message } = spec;
    const { filtered: [filtered], refused: [fault] } = selectRows([row], message, {
      topicPrefix,
      conditionOf: (row) => catalog.conditionOf(row),
    });
    const report = chainDepth > maxChainDepth ? chainTooDeep(message.topic, row, spec, maxChainDepth) : fault;
    if (!report && !filtered) return true;
    if (this.#isToldAlready(runName)) return false;
    const event = { type: "join", jobName: row.jobName, runName, root, missing: [] } as const;
    if (report) this.#report(report);
    if (report) emit({ ...event, outcome: "refused" });
    else emit({ ...event, outcome: "filtered", because: filtered!.because });
    return false;
  }

  /** Of two last ones that both see all, one tells why the row is not started; after a change of the table it is told anew. */
  #isToldAlready(runName: string): boolean {
    const { table } = this.#options.catalog;
    if (this.#told.table !== table || this.#told.names.size >= MOST_WAITING) this.#told = { table, names: new Set() };
    const isTold = this.#told.names.has(runName);
    this.#told.names.add(runName);
    return isTold;
  }

  /** The start, however long it has to wait. Never settles where the service stops first. */
  async #through({ root, row }: Join, spec: RunSpec): Promise<void> {
    const { named, starter, emit } = this.#options;
    const { jobName } = row;
    const { result } = await named.start(spec.runName, {
      begin: () =>
        new Promise<StartResult>((settle) =>
          starter.start({
            row,
            spec: () => spec,
            settle: (result) => {
              if (result.result === "refused") this.#report(refused(spec.message.topic, row, result.error));
              settle(result);
            },
          })
        ),
      onRetry: (error) => {
        const reason = `whether it ran before cannot be read: ${errorMessage(error)}`;
        emit({ type: "waiting", runName: spec.runName, jobName, reason });
      },
    });
    const outcome = result === "refused" ? "refused" : result === "exists" ? "exists" : "started";
    emit({ type: "join", jobName, runName: spec.runName, root, outcome, missing: [] });
  }

  async #resumeOne(runName: string): Promise<void> {
    const { catalog, signal } = this.#options;
    await this.#patiently(`the start of ${runName} waits`, async () => {
      const note = await this.#turns.take(() => this.#openNote(runName), signal);
      const row = joiningRows(catalog.table?.rows).get(note.jobName);
      // A row that is out of the table, for an error perhaps, or switched off may be back.
      if (!row || row.enabled === "no" || !isRoot(note.root)) return;
      const join = { root: note.root, row };
      if (joinedRunName(join) !== runName) return;
      const marks = await this.#hasBegun(join)
        ? undefined
        : await this.#turns.take(() => this.#complete(join, false), signal);
      if (marks === undefined || await this.#start(join, marks)) await this.#deleteOpen(runName);
    });
  }

  /** What cannot be read is the note of no row. */
  async #openNote(runName: string): Promise<{ readonly root: string; readonly jobName: string }> {
    const { records, signal } = this.#options;
    const note = await records.readableNote(".open-joins", runName, signal);
    const { root, job_name } = note as { root?: unknown; job_name?: unknown } ?? {};
    return { root: String(root), jobName: String(job_name) };
  }

  async #deleteOpen(runName: string): Promise<void> {
    const { records, signal } = this.#options;
    await this.#patiently(`the note of ${runName} stays`, () => records.deleteNote(".open-joins", runName, signal));
  }

  /** Repeats work on the store until it succeeds; says once what is in the way. */
  #patiently<T>(what: string, work: () => Promise<T>): Promise<T> {
    return retryForever(work, {
      signal: this.#options.signal,
      onLasting: (error) => {
        const message = `Rows that need others: ${what}: ${errorMessage(error)}`;
        this.#report({ reason: "StoreUnavailable", message });
      },
    });
  }

  #report(report: ErrorReport): void {
    this.#options.emit({ type: "error", scope: "message", report });
  }
}
