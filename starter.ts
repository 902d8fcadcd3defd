/**
 * Starts runs: takes what shall run, waits where it must (quota, API server away, policy's bound), creates it once.
 * Each row has a lane of its own, so that a row whose quota is full holds up no other; a lane that was refused for
 * now sends one probe at a time until it gets through. Owns no message: who asked hears how it went.
 */
import type { Gate } from "./flows.ts";
import type { Cluster, Emit, ObjectStore, Row, RunSpec } from "./ports.ts";
import { RefusedError, UnavailableError } from "./ports.ts";
import { errorMessage } from "./util/errors.ts";
import { Queue } from "./util/queue.ts";
import { backoffMs, delayAtMost, retryForever } from "./util/retry.ts";
import type { RunTable } from "./runs.ts";
import { viewOf } from "./runs.ts";
import { fillsFromPayload, payloadFits, traced } from "./run_spec.ts";
import { Pace } from "./starter/pace.ts";
import { payloadKey, putPayload } from "./starter/payloads.ts";

export { NamedStarts } from "./starter/named_starts.ts";
export { linkOfRun, linkPayload, payloadKey, putPayload } from "./starter/payloads.ts";

export type StartResult =
  /** `skipped`: its record is in the store, and there is no Job. */
  | { readonly result: "created" | "exists" | "skipped"; readonly runName: string }
  | { readonly result: "refused"; readonly runName: string; readonly error: RefusedError };

export interface StarterOptions {
  readonly cluster: Cluster;
  readonly runs: RunTable;
  /** Where payloads go that are too large for a container's environment. */
  readonly payloads: ObjectStore;
  /** Create calls at once. */
  readonly concurrency: number;
  /** Most live runs at a time; Infinity: no bound. */
  readonly maxRuns: number;
  readonly gate?: Gate;
  /** Each run is a span of its own, whose context its program is given. */
  readonly tracing?: boolean;
  /** Starts a group of the row's items in the place of the one run, see flows/groups.ts. */
  readonly startGroup?: (spec: RunSpec) => Promise<StartResult>;
  readonly emit: Emit;
  readonly signal: AbortSignal;
}

/** A run that is wanted. Thousands may wait, so what can be made later is made when its turn has come. */
export interface Order {
  readonly row: Row;
  /** Of a batch: its turn is when nothing else can go on. */
  readonly later?: boolean;
  /** One of many that one message has set off: few of them have their call under way at a time, see starter/pace.ts. */
  readonly ofMany?: true;
  /** Called once. */
  spec(): RunSpec;
  /** Called once; never where the service stops first. */
  settle(result: StartResult): void;
  /**
   * It takes the place of a run that lives until then, so no bound holds it up: else those that wait for a place could
   * be all that have one.
   */
  readonly takesOver?: true;
  /** Aborts when it is not wanted any more: it is refused then, unless it is there. */
  readonly stop?: AbortSignal;
}

/** Longer than a call that seemed to fail can be under way. */
const LATE_MS = 5_000;

interface Task {
  readonly order: Order;
  /** The same for each attempt: what seems to have failed may have made the Job. */
  spec: RunSpec | undefined;
  /** When a call ended of which nobody knows how it went; absent: none has. */
  unknownAtMs?: number;
}

interface Lane {
  readonly tasks: Queue<Task>;
  holdUntilMs: number;
  /** In a row, each after a wait. */
  failures: number;
  busy: number;
}

export class Starter {
  readonly #options: StarterOptions;
  readonly #lanes = new Map<string, Lane>();
  /** Of what is of batches. */
  readonly #laterLanes = new Map<string, Lane>();
  #active = 0;
  #activeOfMany = 0;
  readonly #pace = new Pace();
  #waiting = 0;
  #timer: ReturnType<typeof setTimeout> | undefined;
  #wakeAtMs = Infinity;
  /** What a person was told to do. */
  readonly #advice = new Set<string>();

  constructor(options: StarterOptions) {
    this.#options = options;
    options.signal.addEventListener("abort", () => clearTimeout(this.#timer), { once: true });
  }

  /** Runs that wait for their create call. */
  get waiting(): number {
    return this.#waiting;
  }

  /** Returns at once, or after the create call has left. An order of a row with `for_each` that is no item is a group. */
  start(order: Order): void {
    const { startGroup } = this.#options;
    const spec = startGroup && order.row.forEach !== undefined ? this.#specOf(order) : undefined;
    if (spec && spec.group === undefined) {
      startGroup!(spec).then((result) => order.settle(result), () => {/* The service stops. */});
      return;
    }
    this.#waiting++;
    const { tasks } = this.#laneOf(order.row.jobName, order.later ? this.#laterLanes : this.#lanes);
    // Not behind one that may wait for the place that it will leave.
    const task: Task = { order, spec };
    if (order.takesOver) tasks.putFirst([task]);
    else tasks.push(task);
    this.pump();
  }

  /** Looks for work that may go on now; call it when a live run has ended. */
  pump(): void {
    const { concurrency, maxRuns, runs, signal } = this.#options;
    if (signal.aborted) return;
    const now = Date.now();
    let nextAt = Infinity;
    let progress = true;
    while (progress && this.#active < concurrency) {
      progress = false;
      for (const [lanes, name, lane] of this.#inTurn()) {
        const task = lane.tasks.first;
        if (task === undefined) {
          if (lane.busy === 0) lanes.delete(name);
          continue;
        }
        if (task.order.later) {
          if (progress) break;
          // What holds the row's own messages up must not let these by.
          if (this.#lanes.get(name)?.tasks.first) continue;
        }
        if (lane.holdUntilMs > now) {
          nextAt = Math.min(nextAt, lane.holdUntilMs);
          continue;
        }
        if (lane.failures > 0 && lane.busy > 0) continue; // one probe at a time
        if (this.#active >= concurrency) break;
        if (task.order.ofMany && this.#activeOfMany >= this.#pace.atOnce) continue;
        if (!task.order.takesOver && (runs.size >= maxRuns || !this.#hasRoom(task))) continue;
        progress = true;
        lane.tasks.shift();
        void this.#run(lane, task);
      }
    }
    if (nextAt < this.#wakeAtMs) this.#wakeAt(nextAt);
  }

  #specOf(order: Order): RunSpec {
    return this.#options.tracing ? traced(order.spec()) : order.spec();
  }

  /** One that had its turn has its place, whatever became of its call. */
  #hasRoom({ order, spec }: Task): boolean {
    return spec !== undefined || this.#options.gate?.hasRoom(order.row, order.later) !== false;
  }

  /**
   * Only ever nearer: a pump that ends late must not take back what one within it has set. Deno runs microtasks in the
   * middle of a call where it loads a part of itself.
   */
  #wakeAt(atMs: number): void {
    clearTimeout(this.#timer);
    this.#wakeAtMs = atMs;
    this.#timer = setTimeout(() => {
      this.#wakeAtMs = Infinity;
      this.pump();
    }, atMs - Date.now());
  }

  *#inTurn(): Iterable<[lanes: Map<string, Lane>, name: string, lane: Lane]> {
    for (const lanes of [this.#lanes, this.#laterLanes]) {
      for (const [name, lane] of lanes) yield [lanes, name, lane];
    }
  }

  #laneOf(name: string, lanes: Map<string, Lane>): Lane {
    let lane = lanes.get(name);
    if (!lane) lanes.set(name, lane = { tasks: new Queue(), holdUntilMs: 0, failures: 0, busy: 0 });
    return lane;
  }

  async #run(lane: Lane, task: Task): Promise<void> {
    this.#active++;
    if (task.order.ofMany) this.#activeOfMany++;
    lane.busy++;
    const { runs } = this.#options;
    const spec = task.spec ??= this.#specOf(task.order);
    const { runName } = spec;
    try {
      // A call that seemed to fail may have made a Job that has ended since and is gone: the next one would succeed.
      const isThere = runs.knows(runName);
      if (!isThere && task.order.stop?.aborted) throw new RefusedError("It is not wanted any more");
      const result = isThere ? "exists" : await this.#create(spec);
      lane.failures = 0;
      this.#advice.clear();
      this.#settle(task, { result, runName });
    } catch (error) {
      runs.notCreated(runName);
      if (error instanceof RefusedError) {
        this.#options.gate?.through(runName, "refused");
        this.#settle(task, { result: "refused", runName, error });
      } else {
        await this.#giveBack(task, runName, error).catch(() => {/* It keeps what it was given. */});
        this.#putBack(lane, task, runName, error);
      }
    } finally {
      this.#active--;
      lane.busy--;
      if (task.order.ofMany) void this.#restAndLeave();
      this.pump();
    }
  }

  async #restAndLeave(): Promise<void> {
    const { restMs } = this.#pace;
    if (restMs > 0) await delayAtMost(restMs, this.#options.signal);
    this.#activeOfMany--;
    this.pump();
  }

  async #create(asked: RunSpec): Promise<"created" | "exists" | "skipped"> {
    const { cluster, runs, gate, signal, emit } = this.#options;
    runs.creating(asked.runName);
    // At once where it can be: as many as have their turn must not all find the same room.
    const given = lacksPayload(asked) ? await this.#withPayload(asked) : asked;
    const admission = gate ? await gate.admit(given) : { spec: given };
    if ("skipped" in admission) {
      runs.notCreated(given.runName);
      return "skipped";
    }
    const { spec: admitted } = admission;
    const spec = await this.stored(admitted);
    const begunMs = performance.now();
    const result = await cluster.create(spec, { signal });
    const createMs = performance.now() - begunMs;
    this.#pace.took(createMs);
    if (result === "exists") {
      runs.notCreated(spec.runName);
      gate?.through(spec.runName, result);
      return result;
    }
    const run = runs.created(spec);
    gate?.through(spec.runName, result);
    emit({ type: "created", run: viewOf(run), createMs, sinceReceiptMs: Date.now() - spec.receivedAt.getTime() });
    return result;
  }

  /** What the gate gave it must not be missing to those for whose places it waits: where it is sure that there is no Job. */
  async #giveBack(task: Task, runName: string, error: unknown): Promise<void> {
    const { cluster, gate, signal } = this.#options;
    if (!gate) return;
    if (!(error instanceof UnavailableError && error.isUndone)) return void (task.unknownAtMs = Date.now());
    if (task.unknownAtMs !== undefined) {
      if (Date.now() - task.unknownAtMs < LATE_MS || await cluster.get(runName, { signal })) return;
      delete task.unknownAtMs;
    }
    gate.through(runName, "undone");
  }

  /** Back to the front of its lane: the order of messages of a row is kept where it can be. */
  #putBack(lane: Lane, task: Task, runName: string, error: unknown): void {
    if (this.#options.signal.aborted) return;
    const reason = errorMessage(error);
    const now = Date.now();
    // Calls that were under way with the one that failed first say nothing new: only a failed probe doubles the wait.
    if (lane.holdUntilMs <= now) lane.failures++;
    const asked = error instanceof UnavailableError ? error.retryAfterMs : undefined;
    lane.holdUntilMs = Math.max(lane.holdUntilMs, now + (asked ?? backoffMs(lane.failures - 1)));
    lane.tasks.putFirst([task]);
    this.#options.emit({ type: "waiting", runName, jobName: task.order.row.jobName, reason });
    this.#tellAdvice(error, reason);
  }

  /** Once for each thing that a person has to mend, until a Job can be made again. */
  #tellAdvice(error: unknown, message: string): void {
    const advice = error instanceof UnavailableError ? error.advice : undefined;
    if (advice === undefined || this.#advice.has(advice)) return;
    this.#advice.add(advice);
    this.#options.emit({ type: "error", scope: "cluster", report: { reason: "CreateWaits", message } });
  }

  #settle(task: Task, result: StartResult): void {
    this.#waiting--;
    task.order.settle(result);
  }

  /** An attempt has the link alone of a payload that is in the store; what its row says may take something of it. */
  async #withPayload(spec: RunSpec): Promise<RunSpec> {
    const { payloads, signal } = this.#options;
    const { message, payloadLink, runName } = spec;
    const key = payloadLink && payloadKey(payloads, payloadLink.object);
    const found = key === undefined ? undefined : await payloads.get(key, { signal });
    if (found === undefined || found === "unchanged") {
      throw new RefusedError(`Cannot start run "${runName}": its payload is not in the store any more`);
    }
    return { ...spec, message: { ...message, payload: found.body } };
  }

  /** With a payload that no environment can hold in the store; the run gets its URL. */
  async stored(spec: RunSpec): Promise<RunSpec> {
    if (spec.payloadLink !== undefined || payloadFits(spec.message.payload)) return spec;
    const { payloads, signal, emit } = this.#options;
    const payloadLink = await retryForever(() => putPayload(payloads, spec, signal), {
      signal,
      onRetry: (error) =>
        emit({
          type: "waiting",
          runName: spec.runName,
          jobName: spec.row.jobName,
          reason: `its payload cannot be stored: ${errorMessage(error)}`,
        }),
    });
    return withoutNeedless({ ...spec, payloadLink });
  }
}

function lacksPayload({ message, payloadLink, row }: RunSpec): boolean {
  return payloadLink !== undefined && message.payload.length === 0 && fillsFromPayload(row);
}

/** The payload is in the store: it is kept only where the row takes something of it. */
function withoutNeedless(spec: RunSpec): RunSpec {
  return fillsFromPayload(spec.row) ? spec : { ...spec, message: { ...spec.message, payload: new Uint8Array() } };
}
