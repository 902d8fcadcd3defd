/**
 * The table as the service runs by it: loads it from the store, polls it by ETag and keeps the last good one.
 * Must not touch subscriptions nor runs (listener.ts, service.ts) nor know CSV (catalog/table.ts).
 */
import type { Emit, ObjectStore, Row } from "./ports.ts";
import { errorMessage } from "./util/errors.ts";
import { backoffMs, delay } from "./util/retry.ts";
import { MAX_TABLE_BYTES } from "./catalog/csv.ts";
import { describeProblem, type Problem } from "./catalog/problem.ts";
import { type CompiledTable, readTable } from "./catalog/compile.ts";
import type { Condition } from "./catalog/conditions.ts";
import type { Timetable } from "./catalog/timetables.ts";
import { rowsFor, type Table, type TableOptions } from "./catalog/table.ts";

export { MAX_TABLE_BYTES } from "./catalog/csv.ts";
export { conditionFor, readTable } from "./catalog/compile.ts";
export { forEachText, scheduleText } from "./catalog/cells/flows.ts";
export { nodeRuleText } from "./catalog/cells/nodes.ts";
export type { CompiledTable } from "./catalog/compile.ts";
export type { Timetable } from "./catalog/timetables.ts";
export { conditionValues } from "./catalog/condition_values.ts";
export type { Condition, ConditionValues } from "./catalog/conditions.ts";
export { parseTable, parseTableInSlices, rowsFor } from "./catalog/table.ts";
export type { Table, TableOptions } from "./catalog/table.ts";
export {
  MAX_SHEET_LINES,
  readSheet,
  readSheetInSlices,
  type Sheet,
  type SheetLine,
  sheetTemplate,
} from "./catalog/sheet.ts";
export { rowNamed } from "./catalog/row_names.ts";
export { rowSchema } from "./catalog/column_docs.ts";
export { describeProblem } from "./catalog/problem.ts";
export type { Problem } from "./catalog/problem.ts";
export { checkRow } from "./catalog/policy.ts";
export { checkChannels, checkTemplate, type RowRules } from "./catalog/rules.ts";
export type { Policy } from "./catalog/policy.ts";

export interface CatalogOptions extends TableOptions {
  readonly store: ObjectStore;
  /** Key of the table in the store. */
  readonly key: string;
  /** Time between looks at the store, in milliseconds. */
  readonly pollMs: number;
  readonly emit: Emit;
  /** Reads anew what `check` goes by; whether it has changed, so that the table must be checked again. Never rejects. */
  readonly refreshRules?: () => Promise<boolean>;
  /**
   * Called after each swap of the table, the first one included, with the table that is in force from then on.
   * Must neither throw nor block.
   */
  readonly onChange: (table: Table) => void;
  /** Wait before the second look for a first table, doubling up to `pollMs` or 30 s, in milliseconds. Default 500. */
  readonly firstRetryMs?: number;
}

/** How a look at the store ended. */
export interface LoadResult {
  /** `unchanged`: the table in force is what the store has. `failed`: it is not, and stays in force. */
  readonly status: "loaded" | "unchanged" | "failed";
  /** Why it failed; a sentence. */
  readonly message?: string;
  /** Of the table in force. */
  readonly rows: number;
  readonly errors: number;
  readonly warnings: number;
}

/** Problems of one table that are told one by one; the rest are counted in one more report. */
const MAX_ROW_REPORTS = 20;
/** Problems that are compared with those told before, so that a table that is all wrong stalls nothing. */
const MAX_COMPARED = 1000;

/** The table in force. Nothing happens before `start`. */
export class Catalog {
  readonly #options: CatalogOptions;
  /** Where the table is, for people. */
  readonly url: string;
  #table: CompiledTable | undefined;
  #filters: ReadonlySet<string> = new Set();
  /** ETag of the content last looked at, be it good or not. */
  #etag: string | undefined;
  #failure: { readonly message: string; readonly at: Date } | undefined;
  /** Set while the content last looked at, that of `#etag`, is one that was refused. */
  #refused: { readonly message: string; readonly at: Date } | undefined;
  readonly #ready = Promise.withResolvers<void>();
  #loadedAt: Date | undefined;
  #confirmedAt: Date | undefined;
  #told = new Set<string>();
  #signal: AbortSignal | undefined;
  #running: Promise<LoadResult> | undefined;
  #queued: Promise<LoadResult> | undefined;

  constructor(options: CatalogOptions) {
    this.#options = options;
    this.url = `${options.store.url}/${options.key}`;
  }

  /** The table in force; undefined: none was ever usable. */
  get table(): Table | undefined {
    return this.#table;
  }

  /** Resolves when a first table is in force. */
  get ready(): Promise<void> {
    return this.#ready.promise;
  }

  /** The distinct topic filters of the table in force. */
  filters(): ReadonlySet<string> {
    return this.#filters;
  }

  /** Rows that a message starts, in table order; see `rowsFor`. */
  match(delivery: { readonly topic: string; readonly filters?: readonly string[] }): Row[] {
    return this.#table ? rowsFor(this.#table, delivery.topic, delivery.filters) : [];
  }

  /** The row's condition; undefined: it has none, or is no row of the table in force. */
  conditionOf({ when }: Row): Condition | undefined {
    return when === undefined ? undefined : this.#table?.conditions.get(when);
  }

  /** When the row is due; undefined: it has no schedule, or is no row of the table in force. */
  timetableOf(row: Row): Timetable | undefined {
    return this.#table?.timetableOf(row);
  }

  /** When the table in force was put in force. */
  get loadedAt(): Date | undefined {
    return this.#loadedAt;
  }

  /** When the store last confirmed that the table in force is the newest; its age is the time since. */
  get confirmedAt(): Date | undefined {
    return this.#confirmedAt;
  }

  /** Why the table in force is not what the store has, and since when; undefined: it is. */
  get failure(): { readonly message: string; readonly at: Date } | undefined {
    return this.#failure;
  }

  /**
   * Resolves when a first usable table is in force, however long that takes, and goes on polling until `signal`
   * aborts. Rejects only with the signal's reason.
   */
  async start(signal: AbortSignal): Promise<void> {
    this.#signal = signal;
    const maxMs = Math.min(30_000, Math.max(1, this.#options.pollMs));
    const firstMs = Math.min(this.#options.firstRetryMs ?? 500, maxMs);
    for (let attempt = 0;; attempt++) {
      await this.refresh();
      signal.throwIfAborted();
      if (this.#table) break;
      await delay(backoffMs(attempt, { firstMs, maxMs }), signal);
    }
    this.#poll(signal).catch(() => {}); // Ends by the signal alone: #load does not reject.
  }

  async #poll(signal: AbortSignal): Promise<void> {
    for (;;) {
      await delay(this.#options.pollMs, signal);
      await this.refresh();
    }
  }

  /**
   * Looks at the store now. Calls while a look is under way share the next one, which begins after it: the one
   * under way may have read what was there before. Never rejects.
   */
  refresh(): Promise<LoadResult> {
    if (!this.#running) {
      this.#running = this.#load().finally(() => this.#running = undefined);
      return this.#running;
    }
    this.#queued ??= this.#running.then(() => {
      this.#queued = undefined;
      return this.refresh();
    });
    return this.#queued;
  }

  async #load(): Promise<LoadResult> {
    const { store, key } = this.#options;
    const signal = this.#signal;
    try {
      if (await this.#options.refreshRules?.()) this.#etag = undefined;
      const options = {
        maxBytes: MAX_TABLE_BYTES,
        ...(this.#etag === undefined ? {} : { ifNoneMatch: this.#etag }),
        ...(signal ? { signal } : {}),
      };
      const found = await store.get(key, options);
      if (found === undefined) {
        this.#etag = undefined;
        return this.#fail("store", "there is no such object; put the table there");
      }
      if (found === "unchanged") return this.#confirm();
      const table = await readTable(found.body, this.#options, signal ? { signal } : {});
      this.#etag = found.etag;
      const refusal = table.refusal ?? this.#emptied(table);
      if (refusal) return this.#fail("table", refusal.message, refusal);
      return this.#swap(table);
    } catch (error) {
      if (signal?.aborted) return this.#result("failed", "the service is stopping");
      return this.#fail("store", errorMessage(error));
    }
  }

  /** The store still has what was read last, which may have been a table that was refused. */
  #confirm(): LoadResult {
    this.#failure = this.#refused;
    if (this.#refused) return this.#result("failed", this.#refused.message);
    this.#confirmedAt = new Date();
    return this.#result("unchanged");
  }

  /** A table without a row that runs is no edit that anybody means, where there were rows before. */
  #emptied({ rows, badRows, problems }: Table): Problem | undefined {
    if (rows.length > 0 || (this.#table?.rows.length ?? 0) === 0) return undefined;
    const first = problems.find(({ severity }) => severity === "error");
    if (badRows.length === 0 || !first) {
      const message = "it has no rows; to stop all rows on purpose, write no into their cells enabled";
      return { severity: "error", line: 1, message };
    }
    return { ...first, message: `none of its rows can be used. The first error: ${first.message}` };
  }

  #swap(table: CompiledTable): LoadResult {
    this.#table = table;
    this.#filters = new Set(table.index.filters());
    this.#loadedAt = this.#confirmedAt = new Date();
    this.#ready.resolve();
    this.#failure = this.#refused = undefined;
    const result = this.#result("loaded");
    this.#options.emit({ type: "table", rows: result.rows, errors: result.errors, warnings: result.warnings });
    if (result.rows + result.errors === 0) {
      this.#emitError(`The table ${this.url} has no rows; nothing will run`, "TableUnusable");
    } else this.#emitProblems(table);
    this.#options.onChange(table);
    return result;
  }

  #result(status: LoadResult["status"], message?: string): LoadResult {
    const problems = this.#table?.problems ?? [];
    const errors = problems.filter(({ severity }) => severity === "error").length;
    return {
      status,
      ...(message === undefined ? {} : { message }),
      rows: this.#table?.rows.length ?? 0,
      errors,
      warnings: problems.length - errors,
    };
  }

  /** Tells of a failure once, not at each poll; the table in force stays. */
  #fail(scope: "store" | "table", why: string, problem?: Problem): LoadResult {
    const what = scope === "store" ? "Cannot read the table" : "Cannot use the table";
    const then = this.#table ? "the last good table stays in force" : "waiting for a usable one";
    const line = problem ? `, line ${problem.line}` : "";
    const message = `${what} ${this.url}${line}: ${why} (${then})`;
    if (this.#failure?.message === message) return this.#result("failed", message);
    this.#failure = { message, at: new Date() };
    if (scope === "table") this.#refused = this.#failure;
    this.#options.emit({
      type: "error",
      scope,
      report: {
        message,
        reason: scope === "store" ? "TableUnreachable" : "TableUnusable",
        ...(problem ? { line: problem.line } : {}),
        ...(problem?.column === undefined ? {} : { column: problem.column }),
        ...(problem?.value === undefined ? {} : { value: problem.value }),
      },
    });
    return this.#result("failed", message);
  }

  /** Tells each error, and then each warning, that the table before this one did not have. */
  #emitProblems(table: Table): void {
    const of = (severity: Problem["severity"]) => table.problems.filter((problem) => problem.severity === severity);
    const all = [...of("error"), ...of("warning")];
    const compared = all.slice(0, MAX_COMPARED);
    const told = this.#told;
    // The line may shift by an edit above, which makes it no new error.
    const keyOf = ({ jobName, column, value, message }: Problem) => JSON.stringify([jobName, column, value, message]);
    this.#told = new Set(compared.map(keyOf));
    const fresh = compared.filter((problem) => !told.has(keyOf(problem)));
    for (const problem of fresh.slice(0, MAX_ROW_REPORTS)) {
      this.#emitError(describeProblem(problem), problem.severity === "error" ? "TableRow" : "TableWarning", problem);
    }
    const rest = all.length - MAX_ROW_REPORTS;
    const summary = `The table ${this.url} has ${rest} more errors and warnings: see them with the command check`;
    if (rest <= 0) return;
    this.#told.add(summary);
    if (!told.has(summary)) this.#emitError(summary, "TableRow");
  }

  #emitError(message: string, reason: "TableRow" | "TableWarning" | "TableUnusable", problem?: Problem): void {
    this.#options.emit({
      type: "error",
      scope: "table",
      report: {
        message,
        reason,
        ...(problem?.jobName === undefined ? {} : { job_name: problem.jobName }),
        ...(problem === undefined ? {} : { line: problem.line }),
        ...(problem?.column === undefined ? {} : { column: problem.column }),
        ...(problem?.value === undefined ? {} : { value: problem.value }),
      },
    });
  }
}
