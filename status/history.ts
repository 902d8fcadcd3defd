/**
 * The newest run records in memory, for the page: those of former processes are read from the store once, those that
 * end meanwhile are told by the core, both without their Jobs. Owns no record; the store has them all.
 */
import type { Emit, RunRecord } from "../ports.ts";
import type { RunRecords } from "../records.ts";

/** Records kept: the newest. */
const MOST_RECORDS = 2_000;
/** So many more, before the oldest are dropped together: to find them takes a sort. */
const SLACK = 200;
const READS_AT_ONCE = 8;

export class History {
  readonly #records: RunRecords;
  readonly #known = new Map<string, RunRecord>();

  constructor(records: RunRecords) {
    this.#records = records;
  }

  readonly emit: Emit = (event) => {
    if (event.type === "finished") this.#add(event.record);
  };

  values(): Iterable<RunRecord> {
    return this.#known.values();
  }

  /** Reads what former processes left; what cannot be read is left out. */
  async load(signal: AbortSignal): Promise<void> {
    const found: { runName: string; modifiedAt: Date }[] = [];
    for await (const one of this.#records.list(signal)) found.push(one);
    found.sort((a, b) => b.modifiedAt.getTime() - a.modifiedAt.getTime());
    const left = found.slice(0, MOST_RECORDS).filter(({ runName }) => !this.#known.has(runName));
    const read = async () => {
      for (let next = left.pop(); next && !signal.aborted; next = left.pop()) {
        const record = await this.#records.get(next.runName, signal).catch(() => undefined);
        if (record) this.#add(record);
      }
    };
    await Promise.all(Array.from({ length: READS_AT_ONCE }, read));
  }

  #add({ job: _, ...record }: RunRecord): void {
    this.#known.set(record.run_name, record);
    if (this.#known.size < MOST_RECORDS + SLACK) return;
    const byAge = [...this.#known.values()].sort((a, b) => a.finished_at < b.finished_at ? -1 : 1);
    for (const { run_name } of byAge.slice(0, SLACK)) this.#known.delete(run_name);
  }
}
