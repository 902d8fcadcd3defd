/**
 * The newest ended runs in memory: those of former processes are read from the store once, those that end meanwhile are
 * told by the core. Keeps of each what lists show; the record itself stays in the store.
 */
import type { EndedRun, GrowingHistory, Reach, RowDay, RunFilter, RunSearch } from "../history.ts";
import type { Emit, RunRecord } from "../ports.ts";
import type { RunRecords } from "../records.ts";
import { compact } from "../util/compact.ts";
import { quantityValue } from "../util/quantities.ts";
import { endedRun } from "./ended_run.ts";

/** Runs kept: the newest. */
const MOST_RUNS = 2_000;
/** So many more, before the oldest are dropped together: to find them takes a sort. */
const SLACK = 200;
const READS_AT_ONCE = 8;
/** Runs that `load` finds a place for at most: a store may list millions. */
const MOST_LISTED = 2 * MOST_RUNS;

const GIB = 1024 ** 3;

export class MemoryHistory implements GrowingHistory {
  readonly #records: RunRecords;
  readonly #known = new Map<string, EndedRun>();
  #isLoaded = false;
  #leftOut = false;

  constructor(records: RunRecords) {
    this.#records = records;
  }

  readonly emit: Emit = (event) => {
    if (event.type === "finished" || event.type === "retrying") this.#add(event.record);
  };

  values(): Iterable<EndedRun> {
    return this.#known.values();
  }

  find(search: RunSearch): Promise<readonly EndedRun[]> {
    return Promise.resolve(selectRuns(this.#known.values(), search));
  }

  count(filter: RunFilter): Promise<number> {
    return Promise.resolve(selectRuns(this.#known.values(), { ...filter, limit: Infinity }).length);
  }

  lastEnds(most: number): Promise<ReadonlyMap<string, readonly EndedRun[]>> {
    const found = new Map<string, EndedRun[]>();
    for (const run of selectRuns(this.#known.values(), { everyItem: true, limit: Infinity })) {
      if (run.retried_as !== undefined) continue;
      const ends = found.get(run.job_name);
      if (!ends) found.set(run.job_name, [run]);
      else if (ends.length < most) ends.unshift(run);
    }
    return Promise.resolve(found);
  }

  days(query: { jobName?: string; since: Date; until?: Date }): Promise<readonly RowDay[]> {
    const found = new Map<string, EndedRun[]>();
    for (const run of selectRuns(this.#known.values(), { ...query, everyItem: true, limit: Infinity })) {
      const key = `${run.finished_at.slice(0, 10)} ${run.job_name}`;
      const runs = found.get(key);
      if (runs) runs.push(run);
      else found.set(key, [run]);
    }
    const days = [...found].sort(([a], [b]) => a < b ? -1 : 1);
    return Promise.resolve(days.map(([key, runs]) => rowDay(key.slice(11), key.slice(0, 10), runs)));
  }

  /** How far back the answers go now. */
  reach(): Reach {
    let oldest: string | undefined;
    for (const { finished_at } of this.#known.values()) {
      if (oldest === undefined || finished_at < oldest) oldest = finished_at;
    }
    const kind = this.#leftOut ? "newest" : this.#isLoaded ? "all" : "partly";
    return { runs: this.#known.size, kind, ...compact({ oldest }) };
  }

  /** Reads what former processes left; what cannot be read is left out. */
  async load(signal: AbortSignal): Promise<void> {
    const left = (await this.#newest(signal)).filter(({ runName }) => !this.#known.has(runName));
    const read = async () => {
      for (let next = left.pop(); next && !signal.aborted; next = left.pop()) {
        const record = await this.#records.get(next.runName, signal).catch(() => undefined);
        // Whoever may write there could put a record under another run's name.
        if (record?.run_name === next.runName) this.#add(record);
      }
    };
    await Promise.all(Array.from({ length: READS_AT_ONCE }, read));
    this.#isLoaded = !signal.aborted;
  }

  /** The newest that the store lists, newest first; of a long list no more is kept at a time than twice as many. */
  async #newest(signal: AbortSignal): Promise<{ runName: string; modifiedAt: Date }[]> {
    let found: { runName: string; modifiedAt: Date }[] = [];
    const cut = () => {
      found.sort((a, b) => b.modifiedAt.getTime() - a.modifiedAt.getTime());
      if (found.length > MOST_RUNS) this.#leftOut = true;
      found = found.slice(0, MOST_RUNS);
    };
    for await (const one of this.#records.list(signal)) {
      if (found.push(one) >= MOST_LISTED) cut();
    }
    cut();
    return found;
  }

  #add(record: RunRecord): void {
    this.#known.set(record.run_name, endedRun(record));
    if (this.#known.size < MOST_RUNS + SLACK) return;
    const byAge = [...this.#known.values()].sort((a, b) => a.finished_at < b.finished_at ? -1 : 1);
    for (const { run_name } of byAge.slice(0, SLACK)) this.#known.delete(run_name);
    this.#leftOut = true;
  }
}

/** Ended runs that fit, newest first; among those of one time, by name downwards. */
export function selectRuns<T extends EndedRun>(runs: Iterable<T>, search: RunSearch): T[] {
  const { parentRun, root, group, everyItem, olderThan, limit } = search;
  const fits = [...runs].filter((run) => isWanted(run, search));
  fits.sort((a, b) => newerFirst(Date.parse(a.finished_at), a.run_name, Date.parse(b.finished_at), b.run_name));
  const listed = everyItem || [parentRun, root, group].some((one) => one !== undefined) ? fits : oneOfEachGroup(fits);
  const isOlder = ({ finished_at, run_name }: T) =>
    newerFirst(Date.parse(olderThan!.finishedAt), olderThan!.runName, Date.parse(finished_at), run_name) < 0;
  return (olderThan ? listed.filter(isOlder) : listed).slice(0, limit);
}

function isWanted(run: EndedRun, filter: RunFilter): boolean {
  const { jobName, status, reason, owner, parentRun, root, group, final, since, until, minMs, text } = filter;
  const at = Date.parse(run.finished_at);
  const pairs = [
    [jobName, run.job_name],
    [status, run.status],
    [reason, run.reason],
    [owner, run.owner],
    [parentRun, run.parent_run],
    [root, run.root],
    [group, run.group],
  ];
  return pairs.every(([wanted, is]) => wanted === undefined || wanted === is) &&
    !(final && run.retried_as !== undefined) &&
    !(since && !(at >= since.getTime())) && !(until && !(at < until.getTime())) &&
    !(minMs !== undefined && !((tookMs(run) ?? 0) >= minMs)) &&
    !(text !== undefined && !holdsWords(run.message, text));
}

function holdsWords(message: string, text: string): boolean {
  const held = message.toLowerCase();
  return text.toLowerCase().split(/\s+/).every((word) => held.includes(word));
}

/** From start to end; undefined: it never started. */
function tookMs({ started_at, finished_at }: EndedRun): number | undefined {
  return started_at === null ? undefined : Math.max(0, Date.parse(finished_at) - Date.parse(started_at));
}

/** The runs of one row and day in figures. */
function rowDay(jobName: string, day: string, runs: readonly EndedRun[]): RowDay {
  const of = (status: EndedRun["status"]) => runs.filter((run) => run.status === status);
  const succeeded = of("succeeded");
  const took = succeeded.flatMap((run) => tookMs(run) ?? []).sort((a, b) => a - b);
  const hours = (worth: (run: EndedRun) => number) =>
    runs.reduce((sum, run) => sum + worth(run) * (tookMs(run) ?? 0), 0) / 3600_000;
  return {
    jobName,
    day,
    succeeded: succeeded.length,
    failed: of("failed").length,
    cancelled: of("cancelled").length,
    ...compact({ medianMs: percentile(took, 0.5), p95Ms: percentile(took, 0.95) }),
    coreHours: hours(({ requests, limits }) => quantityValue(requests["cpu"] ?? limits["cpu"] ?? "0") ?? 0),
    gibHours: hours(({ requests, limits }) =>
      (quantityValue(requests["memory"] ?? limits["memory"] ?? "0") ?? 0) / GIB
    ),
    gpuHours: hours(({ gpu }) => gpu ?? 0),
  };
}

/** Nearest rank; undefined: there are none. */
function percentile(sorted: readonly number[], part: number): number | undefined {
  return sorted[Math.max(0, Math.ceil(sorted.length * part) - 1)];
}

/** The first one of each group, which stands on one page only. */
function oneOfEachGroup<T extends EndedRun>(records: readonly T[]): T[] {
  const seen = new Set<string>();
  return records.filter(({ group }) => {
    if (group === undefined) return true;
    const isFirst = !seen.has(group);
    seen.add(group);
    return isFirst;
  });
}

function newerFirst(atA: number, nameA: string, atB: number, nameB: string): number {
  return atB - atA || (nameA === nameB ? 0 : nameA < nameB ? 1 : -1);
}
