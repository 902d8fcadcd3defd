/**
 * What the service tells as lines for a person who watches the demo: one a thing that happens, a run's output with its
 * end. Owns the words and their order; starts nothing.
 */
import { describeProblem } from "../catalog.ts";
import type { Problem } from "../catalog.ts";
import type { Emit, ObjectStore, RunRecord, ServiceEvent } from "../ports.ts";
import { errorMessage } from "../util/errors.ts";
import { withoutColours } from "../util/text.ts";

/** Warnings of one table that are said in lines. */
const MAX_WARNINGS = 10;

/** Where its lines go and what they are made of. */
export interface NarratorOptions {
  readonly write: (line: string) => void;
  readonly logs: ObjectStore;
  /** What is wrong with the table in force. */
  readonly problems: () => readonly Problem[];
  /** A run that fails is a part of what is shown. */
  readonly mayFail: boolean;
  /** The service's own topics lie below it; messages there are not told of. */
  readonly topicPrefix: string;
}

/** Turns what the service tells into lines. A child's lines wait for those of its parent's end. */
export class Narrator {
  readonly #write: (line: string) => void;
  readonly #logs: ObjectStore;
  readonly #problems: () => readonly Problem[];
  readonly #mayFail: boolean;
  readonly #prefix: string;
  /** What somebody waits for, by the row that is to succeed. */
  readonly #awaited = new Map<string, PromiseWithResolvers<string | undefined>>();
  readonly #unfinished = new Set<string>();
  /** Runs, attempts to come and groups that have not ended. */
  readonly #underWay = new Set<string>();
  #heardMs = performance.now();
  #queue: Promise<void> = Promise.resolve();
  /** Lines of children whose parent has not been told as finished, by the parent. */
  readonly #held = new Map<string, ServiceEvent[]>();
  readonly #parents = new Map<string, string>();

  constructor({ write, logs, problems, mayFail, topicPrefix }: NarratorOptions) {
    this.#write = write;
    this.#logs = logs;
    this.#problems = problems;
    this.#mayFail = mayFail;
    this.#prefix = topicPrefix;
  }

  /** Resolves when a run of the row succeeds from now on (undefined), or a run has failed that may not (why it has). */
  success(jobName: string): Promise<string | undefined> {
    const awaited = Promise.withResolvers<string | undefined>();
    this.#awaited.set(jobName, awaited);
    return awaited.promise;
  }

  /** For how long nothing has been under way; 0 while something is. */
  get quietMs(): number {
    return this.#underWay.size > 0 ? 0 : performance.now() - this.#heardMs;
  }

  /** All lines so far are written. */
  get written(): Promise<void> {
    return this.#queue;
  }

  readonly tell: Emit = (event) => {
    this.#heardMs = performance.now();
    this.#follow(event);
    if (event.type === "retrying") this.#unfinished.delete(event.record.run_name);
    const parent = this.#parentOf(event);
    if (parent !== undefined && this.#unfinished.has(parent)) {
      this.#held.set(parent, [...this.#held.get(parent) ?? [], event]);
      return;
    }
    this.#queue = this.#queue.then(() => this.#narrate(event));
    if (event.type !== "finished") return;
    const { record } = event;
    this.#unfinished.delete(record.run_name);
    const children = this.#held.get(record.run_name) ?? [];
    this.#held.delete(record.run_name);
    this.#parents.delete(record.run_name);
    for (const child of children) this.tell(child);
    this.#queue.then(() => this.#settle(record));
  };

  /** Says each warning of the table; its errors come as events of their own. */
  tellWarnings(): void {
    const warnings = this.#problems().filter(({ severity }) => severity === "warning");
    for (const warning of warnings.slice(0, MAX_WARNINGS)) this.#write(`warning    ${describeProblem(warning)}`);
    const more = warnings.length - MAX_WARNINGS;
    if (more > 0) this.#write(`warning    … and ${more} more; the page and the command check have all`);
  }

  #follow(event: ServiceEvent): void {
    if (event.type === "created") this.#underWay.add(event.run.runName);
    if (event.type === "group" && event.state === "started") this.#underWay.add(event.group);
    if (event.type === "group" && event.state !== "started") this.#underWay.delete(event.group);
    if (event.type !== "finished" && event.type !== "retrying") return;
    this.#underWay.delete(event.record.run_name);
    if (event.type === "retrying" && event.record.retried_as !== undefined) this.#underWay.add(event.record.retried_as);
  }

  #parentOf(event: ServiceEvent): string | undefined {
    if (event.type === "created") {
      this.#unfinished.add(event.run.runName);
      if (event.run.parentRun !== undefined) this.#parents.set(event.run.runName, event.run.parentRun);
    }
    if (event.type === "created" || event.type === "started") return this.#parents.get(event.run.runName);
    return event.type === "finished" || event.type === "retrying"
      ? this.#parents.get(event.record.run_name)
      : undefined;
  }

  #settle({ status, job_name, message }: RunRecord): void {
    if (status === "succeeded") this.#awaited.get(job_name)?.resolve(undefined);
    else if (!this.#mayFail) {
      for (const { resolve } of this.#awaited.values()) resolve(`Failed: job "${job_name}" ${status}: ${message}`);
    }
  }

  async #narrate(event: ServiceEvent): Promise<void> {
    const write = this.#write;
    switch (event.type) {
      case "table":
        write(`table      rows: ${event.rows}, errors: ${event.errors}, warnings: ${event.warnings}`);
        return this.tellWarnings();
      case "message":
        // One that made runs is told of once they exist, so those lines name it.
        if (event.outcome === "runs" || event.topic.startsWith(`${this.#prefix}/`)) return;
        return write(`message    ${event.topic}: ${event.outcome}`);
      case "created": {
        const { runName, jobName, parentRun, topic } = event.run;
        const why = parentRun === undefined ? `a message on ${topic}` : `the end of ${parentRun}`;
        return write(`created    ${runName} of row ${jobName}, set off by ${why}`);
      }
      case "started":
        return write(`started    ${event.run.runName}`);
      case "finished":
        return await this.#narrateEnd(event.record);
      case "group": {
        const { group, jobName, state, total, succeeded } = event;
        const items = `${total} ${total === 1 ? "item" : "items"}`;
        return write(
          state === "started"
            ? `group      ${group} of row ${jobName} has ${items}`
            : `group      ${group} of row ${jobName} ${state}: ${succeeded} of ${items} succeeded`,
        );
      }
      case "retrying": {
        await this.#narrateOutput(event.record);
        const { run_name, message, retried_as } = event.record;
        const at = event.at.toISOString().slice(11, 19);
        return write(`retrying   ${run_name}: ${message}; tried again at ${at} as ${retried_as}`);
      }
      case "error":
        // The table's own line has told it.
        if (event.report.reason === "TableWarning") return;
        return write(`error      ${event.report.message}`);
      case "broker":
        if (!event.connected && !event.planned) write(`broker     ${event.reason ?? "connection lost"}`);
    }
  }

  async #narrateEnd(record: RunRecord): Promise<void> {
    await this.#narrateOutput(record);
    this.#write(`${record.status.padEnd(10)} ${record.run_name}: ${record.message}`);
    // What never had a Job has no log.
    if (record.log_url !== "") this.#write(`  log      ${record.log_url}`);
  }

  async #narrateOutput(record: RunRecord): Promise<void> {
    // The log's head ends at its first empty line.
    const output = afterFirst(await this.#log(record), "\n\n").trimEnd();
    const lines = output === "" ? [] : output.split("\n");
    for (const line of lines.slice(0, 5)) this.#write(`  output   ${seen(line)}`);
    if (lines.length > 5) this.#write(`  output   … ${lines.length - 5} more lines in the log`);
  }

  async #log({ run_name }: RunRecord): Promise<string> {
    try {
      const stored = await this.#logs.get(`${run_name}.txt`);
      return typeof stored === "object" ? new TextDecoder().decode(stored.body) : "";
    } catch (error) {
      return `\n\n(the log cannot be read: ${errorMessage(error)})`;
    }
  }
}

function afterFirst(text: string, separator: string): string {
  const at = text.indexOf(separator);
  return at < 0 ? "" : text.slice(at + separator.length);
}

/** What a terminal shows of a line in the end: behind a carriage return it begins anew. */
function seen(line: string): string {
  return withoutColours(line).split("\r").findLast((text) => text !== "") ?? "";
}
