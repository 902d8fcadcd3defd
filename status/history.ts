/**
 * The newest ended runs in memory, for the page: those of former processes are read from the store once, those that
 * end meanwhile are told by the core. Keeps of each what the list shows; the record itself stays in the store.
 */
import type { Emit, Outcome, RunRecord } from "../ports.ts";
import type { RunRecords } from "../records.ts";
import { lineageOfRecord } from "../run_spec.ts";
import { compact } from "../util/compact.ts";
import { short } from "./pages/parts.tsx";

/** Runs kept: the newest. */
const MOST_RUNS = 2_000;
/** So many more, before the oldest are dropped together: to find them takes a sort. */
const SLACK = 200;
const READS_AT_ONCE = 8;
/** Runs that `load` finds a place for at most: a store may list millions. */
const MOST_LISTED = 2 * MOST_RUNS;

/** Which ended runs are wanted; all that is set must hold. */
export interface RecordFilter {
  readonly jobName?: string;
  readonly status?: Outcome["status"];
  readonly parentRun?: string;
  readonly root?: string;
  readonly group?: string;
  /** Each item of a group by itself; absent: of each group the one that ended last, which stands for all. */
  readonly everyItem?: true;
  /** Ended at this time or later. */
  readonly since?: Date;
  /** Ended before this time. */
  readonly until?: Date;
  /** Only what comes after this one in the order of `selectRecords`: the next page. */
  readonly olderThan?: { readonly finishedAt: string; readonly runName: string };
  /** At most so many. */
  readonly limit: number;
}

/** What the list of ended runs shows of a record. */
export type EndedRun = Pick<
  RunRecord,
  | "run_name"
  | "job_name"
  | "status"
  | "message"
  | "node"
  | "parent_run"
  | "started_at"
  | "finished_at"
  | "root"
  | "attempt"
  | "retried_as"
  | "group"
  | "index"
>;

/** How far back a list of ended runs looks. */
export interface Reach {
  readonly runs: number;
  /** `newest`: there are older ones in the store. `partly`: the store is not read to its end, or could not be. */
  readonly kind: "all" | "newest" | "partly";
  /** End of the oldest that is looked at, RFC 3339. */
  readonly oldest?: string;
}

export class History {
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

  /** How far back `values` goes now. */
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

/** What the list shows of a record; its payload, Job and the rest are left to be collected. */
function endedRun(record: RunRecord): EndedRun {
  const { run_name, job_name, status, message, node, parent_run, started_at, finished_at, attempt, retried_as } =
    record;
  const { group, index } = record;
  const kept: EndedRun = {
    run_name: short(run_name),
    job_name: short(job_name),
    status,
    message: short(message),
    node: node === null ? null : short(node),
    parent_run: parent_run === null ? null : short(parent_run),
    started_at: started_at === null ? null : short(started_at),
    finished_at: short(finished_at),
    root: lineageOfRecord(record).root,
    ...compact({ attempt, retried_as: retried_as && short(retried_as), group: group && short(group), index }),
  };
  // A piece of a string keeps the whole of it in memory.
  return JSON.parse(JSON.stringify(kept));
}

/** Ended runs that fit, newest first; among those of one time, by name downwards. */
export function selectRecords<T extends EndedRun>(records: Iterable<T>, filter: RecordFilter): T[] {
  const { jobName, status, parentRun, root, group, everyItem, since, until, olderThan, limit } = filter;
  const fits: T[] = [];
  for (const record of records) {
    const at = Date.parse(record.finished_at);
    if (jobName !== undefined && record.job_name !== jobName) continue;
    if (status !== undefined && record.status !== status) continue;
    if (parentRun !== undefined && record.parent_run !== parentRun) continue;
    if (root !== undefined && record.root !== root) continue;
    if (group !== undefined && record.group !== group) continue;
    if (since && !(at >= since.getTime()) || until && !(at < until.getTime())) continue;
    fits.push(record);
  }
  fits.sort((a, b) => newerFirst(Date.parse(a.finished_at), a.run_name, Date.parse(b.finished_at), b.run_name));
  const listed = everyItem || [parentRun, root, group].some((one) => one !== undefined) ? fits : oneOfEachGroup(fits);
  const isOlder = ({ finished_at, run_name }: T) =>
    newerFirst(Date.parse(olderThan!.finishedAt), olderThan!.runName, Date.parse(finished_at), run_name) < 0;
  return (olderThan ? listed.filter(isOlder) : listed).slice(0, limit);
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
