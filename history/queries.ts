/**
 * What is asked of the index: runs that fit, how many, the last ends of each row, figures of days. Owns the slices in which
 * it is looked through, so that no call of SQLite keeps messages waiting however many runs there are. Changes nothing but
 * the percentiles that it keeps.
 */
import type { EndedRun, RowDay, RunFilter, RunSearch } from "../history.ts";
import { compact } from "../util/compact.ts";
import { DAY_MS } from "../util/duration.ts";
import { pauses } from "../util/slices.ts";
import { percentile, wordsOf } from "./figures.ts";
import { IDS_A_SECOND, RUN_COLUMNS, type RunIndex, secondOf, STATUSES, type StoredRun } from "./index.ts";

/** Runs that a slice looks at: at first about as many as are wanted, then more and more. */
const LEAST_LOOKED_AT = 60;
const MOST_LOOKED_AT = 2_000;
/** Of a slice: the next one is smaller. */
const LONG_MS = 10;
/** Of counts, which read an index alone. */
const MOST_COUNTED = 20_000;
/** Runs of a row and day of which percentiles are made; of more, a sample. */
const SAMPLE = 20_000;
/** Rows of a day whose percentiles are made by reading all of it. */
const MANY_ROWS = 4;
/** Words of a search; more of them find no less. */
const MOST_WORDS = 16;

type Value = string | number;

/** How runs that fit are looked for: `source` gives them in the order of their ids, all of them by an index. */
interface Plan {
  readonly source: string;
  /** Parameters of `source` and its condition. */
  readonly begin: readonly Value[];
  /** Further conditions. */
  readonly where: string;
  readonly params: readonly Value[];
  /** The condition on ids; two parameters. */
  readonly range: string;
  readonly ids: readonly [number, number];
  /** It looks at all runs. */
  readonly isAll?: true;
  /** Id of the run so many further down. */
  readonly skip: string;
}

export class Queries {
  readonly #index: RunIndex;
  /** The last ends of rows, as they were asked for last. */
  readonly #ends = new Map<number, { readonly most: number; readonly ends: readonly EndedRun[] }>();

  constructor(index: RunIndex) {
    this.#index = index;
    index.onChange = (job) => this.#ends.delete(job);
  }

  async find(search: RunSearch, signal?: AbortSignal): Promise<EndedRun[]> {
    return (await this.#select(search, signal)).map((run) => this.#index.runOf(run));
  }

  async count(filter: RunFilter, signal?: AbortSignal): Promise<number> {
    const plan = this.#plan(filter);
    if (!plan) return 0;
    let count = 0;
    // An index is read faster than the runs themselves.
    const plans = plan.isAll ? STATUSES.map((_, status) => ({ ...plan, ...planOf(BY_STATUS, { status }) })) : [plan];
    for (const one of plans) {
      const sql = `SELECT count(*) n FROM ${one.source} AND ${one.range} ${one.where}`;
      for await (const [low, high] of this.#slices(one, MOST_LOOKED_AT, MOST_COUNTED, signal)) {
        count += this.#index.sql(sql).get(...one.begin, low, high, ...one.params)!["n"] as number;
      }
    }
    return count;
  }

  async lastEnds(most: number, signal?: AbortSignal): Promise<ReadonlyMap<string, readonly EndedRun[]>> {
    const found = new Map<string, readonly EndedRun[]>();
    const jobs = this.#index.sql("SELECT DISTINCT job FROM days").all().map(({ job }) => job as number);
    const pause = pauses(signal);
    for (const job of jobs) {
      let known = this.#ends.get(job);
      if (known?.most !== most) {
        const search = { jobName: this.#index.words.text(job), everyItem: true, final: true, limit: most } as const;
        const runs = await this.#select(search, signal);
        known = { most, ends: runs.map((run) => this.#index.runOf(run)).reverse() };
        if (this.#ends.size >= MOST_KEPT_ENDS) this.#ends.clear();
        this.#ends.set(job, known);
      }
      if (known.ends.length > 0) found.set(this.#index.words.text(job), known.ends);
      await pause();
    }
    return found;
  }

  async days(
    { jobName, since, until }: { readonly jobName?: string; readonly since: Date; readonly until?: Date },
    signal?: AbortSignal,
  ): Promise<RowDay[]> {
    const job = jobName === undefined ? undefined : this.#index.words.find(jobName);
    if (jobName !== undefined && job === undefined) return [];
    const range = [dayAt(since), until ? dayAt(new Date(until.getTime() - 1)) : Number.MAX_SAFE_INTEGER] as const;
    const where = `${job === undefined ? "true" : "job = ?"} AND day BETWEEN ? AND ?`;
    const params = [...job === undefined ? [] : [job], ...range];
    const pause = pauses(signal);
    await this.#refresh(
      this.#index.sql(`SELECT job, day FROM days WHERE stale = 1 AND ${where}`).all(...params),
      pause,
    );
    const days = this.#index.sql(`SELECT * FROM days WHERE ${where}`).all(...params);
    const found: RowDay[] = [];
    for (const one of days) {
      found.push(this.#rowDay(one as never));
      await pause();
    }
    return found.sort((a, b) => a.day < b.day ? -1 : a.day > b.day ? 1 : a.jobName < b.jobName ? -1 : 1);
  }

  /** Makes the percentiles of days that have changed, so that nobody has to wait for it. */
  async refresh(signal?: AbortSignal): Promise<void> {
    const stale = this.#index.sql("SELECT job, day FROM days WHERE stale = 1").all();
    await this.#refresh(stale, pauses(signal));
  }

  async #refresh(stale: readonly Record<string, unknown>[], pause: () => Promise<void> | undefined): Promise<void> {
    const jobs = new Map<number, number[]>();
    for (const { job, day } of stale as { job: number; day: number }[]) jobs.set(day, [...jobs.get(day) ?? [], job]);
    for (const [day, ofDay] of jobs) {
      // Of many rows all runs of the day are read, in their order, else those of each row.
      if (ofDay.length >= MANY_ROWS) await this.#refreshDay(day, ofDay, pause);
      else for (const job of ofDay) this.#refreshRow(job, day);
      await pause();
    }
  }

  async #refreshDay(day: number, jobs: readonly number[], pause: () => Promise<void> | undefined): Promise<void> {
    const read = this.#index.arrays(
      `SELECT id, job, took_ms FROM runs NOT INDEXED
       WHERE id BETWEEN ? AND ? AND status = 0 AND took_ms IS NOT NULL ORDER BY id LIMIT ?`,
    );
    const took = new Map<number, number[]>();
    let [low, high] = idsOfDay(day);
    const next = () => read.all(low, high, MOST_LOOKED_AT) as unknown as [id: number, job: number, tookMs: number][];
    for (let found = next(); found.length > 0; found = next()) {
      for (const [, job, tookMs] of found) {
        const all = took.get(job);
        if (!all) took.set(job, [tookMs]);
        else if (all.length < SAMPLE) all.push(tookMs);
      }
      low = found.at(-1)![0] + 1;
      await pause();
    }
    this.#index.transaction(() => {
      for (const job of jobs) this.#putPercentiles(job, day, took.get(job) ?? []);
    });
  }

  #rowDay(day: Record<string, number> & { readonly median_ms: number | null; readonly p95_ms: number | null }): RowDay {
    const hours = (ms: number) => ms / 3600_000;
    return {
      jobName: this.#index.words.text(day["job"]!),
      day: new Date(day["day"]! * DAY_MS).toISOString().slice(0, 10),
      succeeded: day["succeeded"]!,
      failed: day["failed"]!,
      cancelled: day["cancelled"]!,
      ...compact({ medianMs: day.median_ms ?? undefined, p95Ms: day.p95_ms ?? undefined }),
      coreHours: hours(day["core_ms"]!),
      gibHours: hours(day["gib_ms"]!),
      gpuHours: hours(day["gpu_ms"]!),
    };
  }

  #refreshRow(job: number, day: number): void {
    const counted = this.#index.sql("SELECT succeeded FROM days WHERE job = ? AND day = ?").get(job, day);
    if (!counted) return;
    const every = Math.ceil(Math.max(1, counted["succeeded"] as number) / SAMPLE);
    const found = this.#index.sql(
      `SELECT took_ms FROM runs INDEXED BY by_job_status
       WHERE job = ? AND status = 0 AND id BETWEEN ? AND ? AND (id >> 1) % ? = 0 AND took_ms IS NOT NULL`,
    ).all(job, ...idsOfDay(day), every);
    this.#putPercentiles(job, day, found.map(({ took_ms }) => took_ms as number));
  }

  #putPercentiles(job: number, day: number, took: number[]): void {
    took.sort((a, b) => a - b);
    this.#index.sql("UPDATE days SET median_ms = ?, p95_ms = ?, stale = 0 WHERE job = ? AND day = ?")
      .run(percentile(took, 0.5) ?? null, percentile(took, 0.95) ?? null, job, day);
  }

  /** Newest first. */
  async #select(search: RunSearch, signal?: AbortSignal): Promise<StoredRun[]> {
    const { limit, olderThan } = search;
    const cursor = olderThan && { ms: Date.parse(olderThan.finishedAt), name: olderThan.runName };
    const plan = this.#plan(search, cursor?.ms);
    if (!plan) return [];
    const found: StoredRun[] = [];
    const sql = `SELECT ${COLUMNS} FROM ${plan.source} AND ${plan.range} ${plan.where}
      ${cursor ? "AND (r.finished_ms, r.run_name) < (?, ?)" : ""}
      ORDER BY r.finished_ms DESC, r.run_name DESC LIMIT ?`;
    const first = Math.max(LEAST_LOOKED_AT, Math.min(2 * limit, MOST_LOOKED_AT));
    for await (const [low, high] of this.#slices(plan, first, MOST_LOOKED_AT, signal)) {
      const params = [...plan.begin, low, high, ...plan.params, ...(cursor ? [cursor.ms, cursor.name] : [])];
      const most = Math.min(limit - found.length, Number.MAX_SAFE_INTEGER);
      found.push(...this.#index.sql(sql).all(...params, most) as unknown as StoredRun[]);
      if (found.length >= limit) break;
    }
    return found;
  }

  /** Ranges of ids, newest first, with whole seconds, each of about so many runs of the plan's source. */
  async *#slices(plan: Plan, first: number, most: number, signal?: AbortSignal): AsyncGenerator<[number, number]> {
    const [lowest, highest] = plan.ids;
    const skip = this.#index.sql(plan.skip);
    const pause = pauses(signal);
    let size = first;
    for (let high = highest; high >= lowest;) {
      const begunMs = performance.now();
      const last = skip.get(...plan.begin, lowest, high, size)?.["id"] as number | undefined;
      const low = last === undefined ? lowest : Math.max(lowest, last - last % IDS_A_SECOND);
      yield [low, high];
      high = low - 1;
      const tookMs = performance.now() - begunMs;
      // What it takes depends on the conditions, and on what is in memory.
      size = tookMs > LONG_MS ? Math.max(LEAST_LOOKED_AT, size >> 1) : Math.min(size * 4, Math.max(most, first));
      await pause();
    }
  }

  /** undefined: nothing can fit. */
  #plan(filter: RunFilter, untilMs?: number): Plan | undefined {
    const { jobName, status, reason, owner, parentRun, root, group, everyItem, final, since, until, minMs, text } =
      filter;
    const equal: Record<string, Value | undefined> = {
      ...compact({ root, grp: group, parent: parentRun }),
      ...(status === undefined ? {} : { status: STATUSES.indexOf(status) }),
    };
    for (const [column, word] of [["job", jobName], ["reason", reason], ["owner", owner]] as const) {
      if (word === undefined) continue;
      equal[column] = this.#index.words.find(word);
      if (equal[column] === undefined) return undefined;
    }
    const words = text === undefined ? [] : [...new Set(wordsOf(text))].slice(0, MOST_WORDS);
    const match = words.map((word) => `"${word}"`).join(" ");
    const first = since ? secondOf(since.getTime()) : 0;
    const last = secondOf(Math.min(until ? until.getTime() - 1 : Infinity, untilMs ?? Infinity));
    const ids = [first * IDS_A_SECOND, (last + 1) * IDS_A_SECOND - 1] as const;
    const conditions = (run: string, byText: boolean): { sql: string[]; params: Value[] } => {
      const sql = Object.keys(equal).map((column) => `${run}.${column} = ?`);
      const params = Object.values(equal) as Value[];
      // The second of a run is in its id: only at the ends of the range must the run itself be read.
      if (since && since.getTime() % 1000 !== 0) {
        sql.push(`(${run}.id >= ? OR ${run}.finished_ms >= ?)`);
        params.push((first + 1) * IDS_A_SECOND, since.getTime());
      }
      if (until && until.getTime() % 1000 !== 0) {
        sql.push(`(${run}.id < ? OR ${run}.finished_ms < ?)`);
        params.push(secondOf(until.getTime()) * IDS_A_SECOND, until.getTime());
      }
      if (final) sql.push(`${run}.retried = 0`);
      if (minMs !== undefined) {
        sql.push(`coalesce(${run}.took_ms, 0) >= ?`);
        params.push(minMs);
      }
      if (byText) {
        sql.push(`EXISTS (SELECT 1 FROM texts WHERE texts MATCH ? AND texts.rowid = ${run}.id)`);
        params.push(match);
      }
      return { sql, params };
    };
    const isExact = root !== undefined || group !== undefined || parentRun !== undefined;
    const own = conditions("r", match !== "" && isExact);
    if (!everyItem && !isExact) {
      const newer = conditions("n", match !== "");
      const fits = newer.sql.map((one) => ` AND ${one}`).join("");
      own.sql.push(`(r.id & 1 = 0 OR NOT EXISTS (SELECT 1 FROM runs n INDEXED BY by_group
        WHERE n.grp = r.grp AND n.id >= r.id - r.id % ${IDS_A_SECOND}
        AND (n.finished_ms, n.run_name) > (r.finished_ms, r.run_name)${fits}))`);
      own.params.push(...newer.params);
    }
    const where = own.sql.map((one) => ` AND ${one}`).join("");
    const rest = { where, params: own.params, ids };
    if (match !== "" && !isExact) {
      const range = "t.rowid >= CAST(? AS INTEGER) AND t.rowid <= CAST(? AS INTEGER)";
      return {
        ...rest,
        source: "texts t CROSS JOIN runs r ON r.id = t.rowid WHERE texts MATCH ?",
        range,
        skip: `SELECT t.rowid id FROM texts t WHERE texts MATCH ? AND ${range} ORDER BY t.rowid DESC LIMIT 1 OFFSET ?`,
        begin: [match],
      };
    }
    const way = INDEXES.find(([, columns]) => columns.every((one) => equal[one] !== undefined));
    return { ...rest, ...way ? planOf(way, equal) : { ...planOf(["NOT INDEXED", []], {}), isAll: true } };
  }
}

/** How runs are looked for by an index. */
function planOf([index, columns]: Way, equal: Record<string, Value | undefined>) {
  const source = `runs r ${index} WHERE ${["true", ...columns.map((one) => `r.${one} = ?`)].join(" AND ")}`;
  const range = "r.id BETWEEN ? AND ?";
  return {
    source,
    range,
    skip: `SELECT r.id id FROM ${source} AND ${range} ORDER BY r.id DESC LIMIT 1 OFFSET ?`,
    begin: columns.map((one) => equal[one]!),
  };
}

/** Rows whose last ends are kept. */
const MOST_KEPT_ENDS = 300;
const COLUMNS = RUN_COLUMNS.split(", ").map((column) => `r.${column}`).join(", ");

/** An index, and the columns that it has. */
type Way = readonly [string, readonly string[]];

const BY_STATUS: Way = ["INDEXED BY by_status", ["status"]];
/** The one that leaves the fewest first. */
const INDEXES: readonly Way[] = [
  ["INDEXED BY by_root", ["root"]],
  ["INDEXED BY by_group", ["grp"]],
  ["INDEXED BY by_parent", ["parent"]],
  ["INDEXED BY by_job_status", ["job", "status"]],
  ["INDEXED BY by_job", ["job"]],
  ["INDEXED BY by_reason", ["reason"]],
  ["INDEXED BY by_owner", ["owner"]],
  BY_STATUS,
];

/** The first and the last one. */
function idsOfDay(day: number): [number, number] {
  return [day, day + 1].map((one, at) => one * DAY_MS / 1000 * IDS_A_SECOND - at) as [number, number];
}

function dayAt(date: Date): number {
  return Math.floor(date.getTime() / DAY_MS);
}
