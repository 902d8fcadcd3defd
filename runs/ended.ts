/**
 * The names of runs that ended in the last ten minutes, and what made them. At hundreds of ends a second these are many, so
 * each is a few words, and a minute's are forgotten at once.
 */
import type { JobFacts } from "../ports.ts";

/** How long a name counts as taken after its Job was deleted: far longer than a create call can be under way. */
const REMEMBER_MS = 10 * 60_000;
const SPAN_MS = 60_000;

type Ended = Pick<JobFacts, "runName" | "jobName" | "messageHash" | "createdAt">;

/** What ended within a minute. */
interface Span {
  readonly begunMs: number;
  /** By name, when its Job was created, in milliseconds of Unix time. */
  readonly createdMs: Map<string, number>;
  /** By row, the names by the messages' hashes. */
  readonly byRow: Map<string, Map<string, string>>;
}

export class EndedRuns {
  /** Newest first. */
  #spans: Span[] = [];

  add({ runName, jobName, messageHash, createdAt }: Ended): void {
    const { createdMs, byRow } = this.#current();
    createdMs.set(runName, createdAt.getTime());
    const byMessage = byRow.get(jobName) ?? new Map<string, string>();
    byRow.set(jobName, byMessage.set(messageHash, runName));
  }

  has(runName: string): boolean {
    return this.createdMs(runName) !== undefined;
  }

  /** When the Job of that name was created, in milliseconds of Unix time, if the run has ended. */
  createdMs(runName: string): number | undefined {
    return this.#first(({ createdMs }) => createdMs.get(runName));
  }

  /** The name of the last that the message made of the row. */
  findByMessage(jobName: string, messageHash: string): string | undefined {
    return this.#first(({ byRow }) => byRow.get(jobName)?.get(messageHash));
  }

  names(): string[] {
    return this.#spans.flatMap(({ createdMs }) => [...createdMs.keys()]);
  }

  /** What the newest span says that says anything. */
  #first<T>(look: (span: Span) => T | undefined): T | undefined {
    for (const span of this.#spans) {
      const found = look(span);
      if (found !== undefined) return found;
    }
    return undefined;
  }

  #current(): Span {
    const now = Date.now();
    const newest = this.#spans[0];
    if (newest && now < newest.begunMs + SPAN_MS) return newest;
    const span: Span = { begunMs: now, createdMs: new Map(), byRow: new Map() };
    const kept = this.#spans.filter(({ begunMs }) => begunMs + SPAN_MS + REMEMBER_MS > now);
    this.#spans = [span, ...kept];
    return span;
  }
}
