/** A history as simple as can be, of what it is told: the model that the real one is compared with, and the pages' fake. */
import type { EndedRun, RowDay, RunFilter, RunHistory, RunSearch } from "../../history.ts";
import { percentile, requestedOf, tookMs, wordsOf } from "../../history/figures.ts";
import { type HistoryLine, lineOf } from "../../history/line.ts";
import type { Emit } from "../../ports.ts";
import { compact } from "../../util/compact.ts";

const DAY_MS = 24 * 3600_000;

export class ModelHistory implements RunHistory {
  readonly #lines = new Map<string, HistoryLine>();

  readonly emit: Emit = (event) => {
    if (event.type !== "finished" && event.type !== "retrying") return;
    const line = lineOf(event.record);
    if (line) this.#lines.set(event.record.run_name, line);
  };

  find(search: RunSearch): Promise<readonly EndedRun[]> {
    return Promise.resolve(this.#select(search));
  }

  count(filter: RunFilter): Promise<number> {
    return Promise.resolve(this.#select({ ...filter, limit: Infinity }).length);
  }

  lastEnds(most: number): Promise<ReadonlyMap<string, readonly EndedRun[]>> {
    const found = new Map<string, EndedRun[]>();
    for (const run of this.#select({ everyItem: true, limit: Infinity })) {
      if (run.retried_as !== undefined) continue;
      const ends = found.get(run.job_name);
      if (!ends) found.set(run.job_name, [run]);
      else if (ends.length < most) ends.unshift(run);
    }
    return Promise.resolve(found);
  }

  days({ since, until, ...query }: Parameters<RunHistory["days"]>[0]): Promise<readonly RowDay[]> {
    const found = new Map<string, EndedRun[]>();
    const days = {
      since: new Date(Math.floor(since.getTime() / DAY_MS) * DAY_MS),
      ...compact({ until: until && new Date(Math.ceil(until.getTime() / DAY_MS) * DAY_MS) }),
    };
    for (const run of this.#select({ ...query, ...days, everyItem: true, limit: Infinity })) {
      const key = `${new Date(run.finished_at).toISOString().slice(0, 10)} ${run.job_name}`;
      const runs = found.get(key);
      if (runs) runs.push(run);
      else found.set(key, [run]);
    }
    const sorted = [...found].sort(([a], [b]) => a < b ? -1 : 1);
    return Promise.resolve(sorted.map(([key, runs]) => rowDay(key.slice(11), key.slice(0, 10), runs)));
  }

  reach() {
    return { runs: this.#lines.size, kind: "all" } as const;
  }

  #select(search: RunSearch): EndedRun[] {
    const runs = [...this.#lines.values()].map(({ run }) => run);
    return selectRuns(runs, search, ({ run_name }) => this.#lines.get(run_name)?.payload ?? "");
  }
}

/**
 * Ended runs that fit, newest first; among those of one time, by name downwards. `payloadOf`: what is searched of a run
 * besides its message.
 */
export function selectRuns<T extends EndedRun>(
  runs: Iterable<T>,
  search: RunSearch,
  payloadOf: (run: T) => string = () => "",
): T[] {
  const { parentRun, root, group, everyItem, olderThan, limit } = search;
  const fits = [...runs].filter((run) => isWanted({ run, payload: payloadOf(run) }, search));
  fits.sort((a, b) => newerFirst(Date.parse(a.finished_at), a.run_name, Date.parse(b.finished_at), b.run_name));
  const listed = everyItem || [parentRun, root, group].some((one) => one !== undefined) ? fits : oneOfEachGroup(fits);
  const isOlder = ({ finished_at, run_name }: T) =>
    newerFirst(Date.parse(olderThan!.finishedAt), olderThan!.runName, Date.parse(finished_at), run_name) < 0;
  return (olderThan ? listed.filter(isOlder) : listed).slice(0, limit);
}

function isWanted({ run, payload }: HistoryLine, filter: RunFilter): boolean {
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
    !(text !== undefined && !holdsWords(`${run.message}\n${payload}`, text));
}

function holdsWords(held: string, text: string): boolean {
  const words = new Set(wordsOf(held));
  return wordsOf(text).every((word) => words.has(word));
}

/** The runs of one row and day in figures. */
function rowDay(jobName: string, day: string, runs: readonly EndedRun[]): RowDay {
  const of = (status: EndedRun["status"]) => runs.filter((run) => run.status === status);
  const succeeded = of("succeeded");
  const took = succeeded.flatMap((run) => tookMs(run) ?? []).sort((a, b) => a - b);
  const requested = runs.map((run) => ({ ...requestedOf(run), hours: (tookMs(run) ?? 0) / 3600_000 }));
  const sum = (of: (one: typeof requested[number]) => number) => requested.reduce((all, one) => all + of(one), 0);
  return {
    jobName,
    day,
    succeeded: succeeded.length,
    failed: of("failed").length,
    cancelled: of("cancelled").length,
    ...compact({ medianMs: percentile(took, 0.5), p95Ms: percentile(took, 0.95) }),
    coreHours: sum(({ cores, hours }) => cores * hours),
    gibHours: sum(({ gib, hours }) => gib * hours),
    gpuHours: sum(({ gpus, hours }) => gpus * hours),
  };
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
