/**
 * The books of a long run of crashes: which messages the broker took over, which Jobs came, how each ended. Counts what
 * is missing and what is there twice. Pure; keeps a few numbers for each message and each run, and no Job or message.
 */

/** Rows of the long form: what runs alone, what starts a child, the child, what fails. */
export type Row = "plain" | "parent" | "child" | "bad";

/** The row that message `n` is for: three of ten have a chain, one fails. */
export function rowOf(n: number): Exclude<Row, "child"> {
  if (n % 10 === 0) return "bad";
  return n % 10 <= 3 ? "parent" : "plain";
}

/** Whether message `n` has an idempotency key: each second ten. */
export function isKeyed(n: number): boolean {
  return n % 20 >= 10;
}

/** A Job as the checker's watch sees it. */
export interface SeenJob {
  readonly uid: string;
  readonly runName: string;
  readonly row: Row;
  /** Number of the message; of a child: that of the chain. */
  readonly message: number;
  /** Run whose end started it. */
  readonly parentRun?: string;
}

/** One line of the result. */
export interface Line {
  readonly name: string;
  readonly expected: number;
  readonly found: number;
  readonly lost: number;
  readonly doubled: number;
  /** Neither lost nor doubled, and not as it should be. */
  readonly wrong: number;
}

interface Run {
  uid: string;
  readonly row: Row;
  readonly message: number;
  /** Jobs of this name beyond the first. */
  again: number;
  children: number;
  /** Each different `status reason` that was told of it. */
  ends: string[];
}

/** What the broker took over, what came of it. All counts are kept as it goes. */
export class Ledger {
  /** By number of message: how often it was handed to the broker; 0: not taken over yet. */
  readonly #attempts: number[] = [];
  /** By number of message: Jobs that it started itself. */
  readonly #jobs: number[] = [];
  readonly #runs = new Map<string, Run>();
  readonly #alive = new Map<string, string>();
  #taken = 0;
  #withJob = 0;
  #withEnd = 0;
  #parents = 0;
  #parentsWithChild = 0;

  /** The broker acknowledged message `n`, which was handed to it `attempts` times. */
  taken(n: number, attempts: number): void {
    this.#attempts[n] = attempts;
    this.#taken++;
  }

  /** True: not seen before. */
  seen({ uid, runName, row, message, parentRun }: SeenJob): boolean {
    const known = this.#runs.get(runName);
    if (known?.uid === uid) return false;
    this.#alive.set(uid, runName);
    if (known) {
      known.uid = uid;
      known.again++;
      return true;
    }
    this.#runs.set(runName, { uid, row, message, again: 0, children: 0, ends: [] });
    if (row === "child") this.#childOf(parentRun);
    else if ((this.#jobs[message] = (this.#jobs[message] ?? 0) + 1) === 1) this.#withJob++;
    if (row === "parent") this.#parents++;
    return true;
  }

  gone(uid: string): void {
    this.#alive.delete(uid);
  }

  /** All Jobs but these are gone. */
  only(uids: ReadonlySet<string>): void {
    for (const uid of this.#alive.keys()) if (!uids.has(uid)) this.#alive.delete(uid);
  }

  /** The service has told a run's end; false: of a run that nobody has seen. */
  ended(runName: string, status: string, reason: string): boolean {
    const run = this.#runs.get(runName);
    if (!run) return false;
    const end = `${status} ${reason}`;
    if (run.ends.length === 0) this.#withEnd++;
    if (!run.ends.includes(end)) run.ends.push(end);
    return true;
  }

  get takenCount(): number {
    return this.#taken;
  }

  get runCount(): number {
    return this.#runs.size;
  }

  get aliveCount(): number {
    return this.#alive.size;
  }

  get endCount(): number {
    return this.#withEnd;
  }

  /** Names of all runs, with their rows. */
  *runs(): Generator<[runName: string, row: Row]> {
    for (const [runName, { row }] of this.#runs) yield [runName, row];
  }

  /** Nothing is under way: each message has a Job, each parent a child, each run an end, and all Jobs are deleted. */
  get settled(): boolean {
    return this.#withJob >= this.#taken && this.#parentsWithChild >= this.#parents &&
      this.#withEnd >= this.#runs.size && this.#alive.size === 0;
  }

  /** What is under way or missing, for people. */
  get state(): string {
    return `${this.#taken} messages taken over, ${this.#withJob} with a Job; ${this.#parents} parents, ` +
      `${this.#parentsWithChild} with a child; ${this.#runs.size} runs, ${this.#withEnd} ends, ` +
      `${this.#alive.size} Jobs left`;
  }

  /** The count of all that was told so far. */
  lines(): Line[] {
    return [this.#messageLine(true), this.#messageLine(false), this.#childLine(), this.#endLine()];
  }

  /** Messages that the publisher had to send again, because a connection was lost before the PUBACK. */
  get sentAgain(): number {
    return this.#attempts.filter((attempts) => attempts > 1).length;
  }

  /** Some of what is not as it should be, for a look at the service's log. */
  suspects(most = 20): string[] {
    const found: string[] = [];
    this.#attempts.forEach((attempts, n) => {
      const jobs = this.#jobs[n] ?? 0;
      if (jobs === 0 || jobs > this.#allowed(n)) found.push(`message ${n}: ${jobs} runs, sent ${attempts} times`);
    });
    for (const [name, { row, again, children, ends }] of this.#runs) {
      if (again > 0) found.push(`${name}: ${again + 1} Jobs of this name`);
      if (row === "parent" && children !== 1) found.push(`${name}: ${children} children`);
      if (ends.length !== 1 || ends[0] !== expectedEnd(row)) found.push(`${name}: ends ${ends.join(", ") || "none"}`);
    }
    return found.slice(0, most);
  }

  #childOf(parentRun: string | undefined): void {
    const parent = parentRun === undefined ? undefined : this.#runs.get(parentRun);
    if (parent && ++parent.children === 1) this.#parentsWithChild++;
  }

  /** Runs that message `n` may have. What has no key and was sent twice by its publisher is two messages. */
  #allowed(n: number): number {
    return isKeyed(n) ? 1 : this.#attempts[n] ?? 1;
  }

  #messageLine(keyed: boolean): Line {
    const line = { name: `messages ${keyed ? "with" : "without"} a key`, expected: 0, found: 0, lost: 0, doubled: 0 };
    this.#attempts.forEach((_, n) => {
      if (isKeyed(n) !== keyed) return;
      const jobs = this.#jobs[n] ?? 0;
      line.expected++;
      line.found += jobs;
      if (jobs === 0) line.lost++;
      line.doubled += Math.max(0, jobs - this.#allowed(n));
    });
    for (const { row, message, again } of this.#runs.values()) {
      if (row !== "child" && isKeyed(message) === keyed) line.doubled += again;
    }
    return { ...line, wrong: 0 };
  }

  #childLine(): Line {
    const line = { name: "children", expected: this.#parents, found: 0, lost: 0, doubled: 0, wrong: 0 };
    let strangers = 0;
    for (const { row, children, again } of this.#runs.values()) {
      if (row === "child") {
        strangers++;
        line.found++;
        line.doubled += again;
      }
      if (row !== "parent") continue;
      if (children === 0) line.lost++;
      line.doubled += Math.max(0, children - 1);
      strangers -= children;
    }
    return { ...line, wrong: strangers };
  }

  #endLine(): Line {
    const line = { name: "ends told", expected: this.#runs.size, found: 0, lost: 0, doubled: 0, wrong: 0 };
    for (const { row, ends } of this.#runs.values()) {
      line.found += ends.length;
      if (ends.length === 0) line.lost++;
      line.doubled += Math.max(0, ends.length - 1);
      if (ends.length === 1 && ends[0] !== expectedEnd(row)) line.wrong++;
    }
    return line;
  }
}

/** Status and reason of a run of this row, as the long form ends its Jobs. */
export function expectedEnd(row: Row): string {
  return row === "bad" ? "failed DeadlineExceeded" : "succeeded Completed";
}
