/**
 * The end of a run, in this order, each step repeatable: log in the store → end published and acknowledged → record
 * in the store → Job deleted. Watches the run table for runs that ended or hang; outcome.ts decides what that is.
 */
import { completeTopic, failedTopic } from "./topics.ts";
import { headOf } from "./completion/head.ts";
import { endPayloadOf, isTold, propertiesOf, recordOf, withLog } from "./completion/record.ts";
import { PodLists } from "./completion/pod_lists.ts";
import { UnstartedRuns } from "./completion/unstarted.ts";
import { type Aftermath, type EndedJob, type FailedAttempt, failedAttempt } from "./flows.ts";
import { hadPod, type LogCollector, type LogSummary } from "./logs.ts";
import type {
  Broker,
  Cluster,
  Emit,
  ErrorReport,
  EventFacts,
  JobFacts,
  ObjectLook,
  Outcome,
  PodFacts,
  RunRecord,
} from "./ports.ts";
import { cancellation, type GracePeriods, judge } from "./outcome.ts";
import type { RunRecords } from "./records.ts";
import { Scope } from "./util/abort.ts";
import { errorMessage } from "./util/errors.ts";
import { delay, retryForever } from "./util/retry.ts";
import { lowerFirst } from "./util/text.ts";
import { type LiveRun, type RunObserver, type RunTable, viewOf } from "./runs.ts";

export interface CompletionOptions {
  readonly broker: Broker;
  readonly cluster: Cluster;
  readonly runs: RunTable;
  readonly records: RunRecords;
  readonly logs: LogCollector;
  readonly topicPrefix: string;
  readonly gracePeriods: GracePeriods;
  /** Looks for a run's output; absent: nobody can, and nothing is said of it. */
  readonly look?: ObjectLook;
  readonly aftermath?: Aftermath;
  readonly emit: Emit;
  readonly signal: AbortSignal;
  /** A run is gone for good. */
  readonly onDone: () => void;
  /** Other values than the preset are for tests. */
  readonly sweepMs?: number;
  readonly noPodMs?: number;
  readonly noPodYetMs?: number;
  readonly noPodAtEndMs?: number;
  readonly podsSettleMs?: number;
  readonly unpreparedMs?: number;
}

/** How often hanging runs are looked at. */
const SWEEP_MS = 1_000;
/** After so long without a pod the cluster's events are asked why, each time, */
const NO_POD_MS = 30_000;
/** and of a few runs sooner, so that who tries a row out is told within ten seconds; a burst makes no more calls by it, */
const NO_POD_YET_MS = 5_000;
const ASKED_EARLY_AT_A_SWEEP = 2;
/** of a pod that is on a node and not prepared so, for a mount that fails is no state of the pod, */
const UNPREPARED_MS = 5_000;
const UNPREPARED_REASONS = new Set(["FailedMount", "FailedAttachVolume", "FailedMapVolume", "FailedCreatePodSandBox"]);
/** but of no more runs at a sweep: thousands may wait where a quota is full. */
const ASKED_AT_A_SWEEP = 20;
/** How long a Job that has ended is given to show its pods, and the pods to show their end, before they are asked for. */
const NO_POD_AT_END_MS = 3_000;
const PODS_SETTLE_MS = 10_000;
/** Of one run, so that somebody is told. */
const MANY_DISRUPTIONS = 5;
/** What is said of the log of a run whose Job has vanished. */
const NOT_READ = "What it wrote while this service was not running could not be read: its pod is gone";

export class Completion implements RunObserver {
  /** Ends of runs that have no Job. */
  readonly unstarted: UnstartedRuns;
  readonly #options: CompletionOptions;
  readonly #ending = new Map<string, Promise<void>>();
  /** Runs of which that was told. */
  readonly #oftenDisrupted = new Set<string>();
  /** By run that waits for its next attempt, who stops that. */
  readonly #retrying = new Map<string, AbortController>();
  /** Runs to be judged again though nothing changes, by the time of it in milliseconds. */
  readonly #rechecks = new Map<string, number>();
  /** By run, the pod that the cluster or somebody takes away: it is gone before the Job's end is told, which does not say why. */
  readonly #takenPods = new Map<string, PodFacts>();
  /** By run, who waits for a change of its pods. */
  readonly #waitForPods = new Map<string, PromiseWithResolvers<void>>();
  /** Jobs and pods are told apart from each other: before both are, an ended Job may seem to have had no pod. */
  #synced = false;
  #sweeper: ReturnType<typeof setInterval> | undefined;
  readonly #noPodMs: number;
  readonly #noPodYetMs: number;
  readonly #noPodAtEndMs: number;
  readonly #podsSettleMs: number;
  readonly #podLists: PodLists;
  readonly #unpreparedMs: number;
  /** Runs whose pod is being made ready. */
  readonly #unprepared = new Set<string>();

  constructor(options: CompletionOptions) {
    this.#options = options;
    this.#noPodMs = options.noPodMs ?? NO_POD_MS;
    this.#noPodYetMs = Math.min(options.noPodYetMs ?? NO_POD_YET_MS, this.#noPodMs);
    this.#noPodAtEndMs = options.noPodAtEndMs ?? NO_POD_AT_END_MS;
    this.#podLists = new PodLists(options.cluster, options.signal);
    this.#podsSettleMs = options.podsSettleMs ?? PODS_SETTLE_MS;
    this.#unpreparedMs = options.unpreparedMs ?? UNPREPARED_MS;
    options.signal.addEventListener("abort", () => clearInterval(this.#sweeper), { once: true });
    this.unstarted = new UnstartedRuns({
      ...options,
      step: (run, what, step) => this.#step(run, what, step),
      publish: (run, payload, record) => this.#publish(run, payload, record),
    });
  }

  /** Begins to look at hanging runs. */
  start(): void {
    this.#sweeper = setInterval(() => this.#sweep(), this.#options.sweepMs ?? SWEEP_MS);
  }

  /** Runs whose end is under way, without those that only wait for their next attempt. */
  get ending(): number {
    return this.#ending.size - this.#retrying.size;
  }

  onRun(run: LiveRun, full?: JobFacts): void {
    this.#stopIfCancelled(run);
    this.#judge(run, full);
  }

  onPod(run: LiveRun, pod: PodFacts): void {
    this.#podChanged(run);
    this.#options.logs.observe(run, pod);
    if (pod.disruption || pod.deletionAskedAt) this.#takenPods.set(run.job.runName, pod);
    this.#tellDisruptions(run);
    this.#judge(run);
  }

  onPodGone(run: LiveRun, podName: string): void {
    this.#options.logs.podGone(run, podName);
    this.#podChanged(run);
    this.#judge(run);
  }

  onRunGone(run: LiveRun, last: JobFacts | undefined): void {
    this.#podChanged(run);
    for (const podName of run.pods.keys()) this.#options.logs.podGone(run, podName);
    if (last?.end) this.#judge(run, last);
    const deleted = { status: "cancelled", reason: "Deleted" } as const;
    this.#retrying.get(run.job.runName)?.abort(
      { ...deleted, message: "Someone deleted its Job while it waited to be tried again" } satisfies Outcome,
    );
    this.#end(run, { ...deleted, message: "Someone deleted its Job before it had ended" }, last);
  }

  onSynced(): void {
    this.#synced = true;
    for (const run of this.#options.runs.values()) this.#judge(run);
  }

  /** Ends a run whose Job vanished while the service was not running. */
  endVanished(job: LiveRun["job"]): void {
    const run: LiveRun = { job, pods: new Map(), adopted: true, state: "ending", detail: "" };
    this.#end(run, {
      status: "failed",
      reason: "Vanished",
      message: "Its Job vanished while this service was not running (deleted by someone, or by its time to live); " +
        "how it ended is not known",
    });
  }

  #judge(run: LiveRun, full?: JobFacts, noPodReason?: string): void {
    const { runName } = run.job;
    if (!this.#synced || this.#ending.has(runName) || this.#options.signal.aborted) return;
    const now = new Date();
    const verdict = judge(run.job, this.#podsOf(run), {
      gracePeriods: this.#options.gracePeriods,
      now,
      noPodReason,
      trouble: run.trouble,
    });
    this.#rechecks.delete(runName);
    if (verdict.kind === "ended") return this.#end(run, verdict.outcome, full);
    const started = run.state === "pending" && verdict.kind === "running" && !run.job.cancelledBy;
    run.state = verdict.kind;
    run.detail = [disruptionWords(run), verdict.detail].filter((words) => words !== "").join(". ");
    if (started) this.#options.emit({ type: "started", run: viewOf(run) });
    // Whoever waits for a pod, or for what its pod needs, has to be asked for: nothing else says why.
    const askAt = run.job.suspended
      ? Infinity
      : run.pods.size === 0
      ? now.getTime() + (this.#isYoung(run, now.getTime()) ? this.#noPodYetMs : this.#noPodMs)
      : verdict.unprepared
      ? now.getTime() + this.#unpreparedMs
      : Infinity;
    const recheckAt = Math.min(verdict.recheckAt?.getTime() ?? Infinity, askAt);
    if (recheckAt < Infinity) this.#rechecks.set(runName, recheckAt);
    if (verdict.unprepared) this.#unprepared.add(runName);
    else this.#unprepared.delete(runName);
  }

  /** The pods that say how a run stands; of one that has failed and has none left, the one that was taken away. */
  #podsOf({ job, pods }: LiveRun): PodFacts[] {
    const taken = this.#takenPods.get(job.runName);
    return pods.size === 0 && job.end?.type === "Failed" && taken ? [taken] : [...pods.values()];
  }

  #sweep(): void {
    const now = Date.now();
    let asked = 0;
    let askedEarly = 0;
    for (const [runName, at] of this.#rechecks) {
      if (at > now) continue;
      const run = this.#options.runs.get(runName);
      if (!run) this.#rechecks.delete(runName);
      else if (run.pods.size > 0 && !this.#unprepared.has(runName)) this.#judge(run);
      else if (run.pods.size === 0 && this.#isYoung(run, now)) {
        if (askedEarly++ < ASKED_EARLY_AT_A_SWEEP) void this.#askWhyNoPod(run);
      } else if (asked++ < ASKED_AT_A_SWEEP) {
        void (run.pods.size > 0 ? this.#askWhyUnprepared(run) : this.#askWhyNoPod(run));
      }
    }
  }

  /** A pod may still be on its way, as in a burst. */
  #isYoung({ job }: LiveRun, nowMs: number): boolean {
    return nowMs - job.createdAt.getTime() < this.#noPodMs;
  }

  async #askWhyNoPod(run: LiveRun): Promise<void> {
    const { runName } = run.job;
    // To the end of the line, so that each run has its turn.
    this.#rechecks.delete(runName);
    this.#rechecks.set(runName, Date.now() + this.#noPodMs);
    const events = await this.#options.cluster.events(runName, []).catch(() => []);
    const refusal = events.findLast(({ reason }) => reason === "FailedCreate");
    if (run.pods.size === 0) this.#judge(run, undefined, refusal?.message);
  }

  async #askWhyUnprepared(run: LiveRun): Promise<void> {
    const { runName } = run.job;
    this.#rechecks.delete(runName);
    this.#rechecks.set(runName, Date.now() + this.#unpreparedMs);
    const podNames = [...run.pods.keys()];
    const events = await this.#options.cluster.events(runName, podNames).catch(() => []);
    const message = events.findLast(({ reason }) => UNPREPARED_REASONS.has(reason))?.message;
    run.trouble = message === undefined ? undefined : { message, since: run.trouble?.since ?? new Date() };
    this.#judge(run);
  }

  #end(run: LiveRun, outcome: Outcome, full?: JobFacts): void {
    const { runName } = run.job;
    if (this.#ending.has(runName) || this.#options.signal.aborted) return;
    run.state = "ending";
    run.detail = outcome.message;
    this.#rechecks.delete(runName);
    this.#unprepared.delete(runName);
    const ending = this.#conclude(run, outcome, full)
      .then((failed) => this.#leave(run, failed))
      .catch((error) => {
        if (this.#options.signal.aborted) return;
        const why = errorMessage(error);
        this.#report(run, "CompletionFailed", `Run "${runName}" cannot be completed: ${why}`);
      })
      .finally(() => {
        this.#ending.delete(runName);
        this.#takenPods.delete(runName);
        this.#oftenDisrupted.delete(runName);
      });
    this.#ending.set(runName, ending);
  }

  /**
   * Puts the record, and does what follows of a run that has ended for good. Gives one that is tried again: thousands may
   * wait for that, so no more of it is kept than that takes.
   */
  async #conclude(run: LiveRun, outcome: Outcome, full?: JobFacts): Promise<FailedAttempt | undefined> {
    const { records, logs, runs, signal, emit, aftermath } = this.#options;
    const begunMs = performance.now();
    const { runName } = run.job;
    const { adopted } = run;
    const earlier = adopted
      ? await this.#step(run, "look for its record", () => records.find(runName, signal))
      : undefined;
    let record = earlier;
    if (record === undefined) {
      await this.#podsSettled(run);
      // The Job's end may have come before its pods' words on why.
      if (run.job.end?.type === "Failed" && outcome.status === "failed") {
        const verdict = judge(run.job, this.#podsOf(run), {
          gracePeriods: this.#options.gracePeriods,
          now: new Date(),
        });
        if (verdict.kind === "ended") outcome = verdict.outcome;
      }
      const job = full ?? await this.#readJob(run);
      const found = await this.#withOutput(recordOf(run, job, outcome, logs.urlOf(runName)));
      const asked = aftermath?.nextAttempt(job, found);
      const next = asked && "runName" in asked ? asked : undefined;
      const ended = asked && "not" in asked
        ? { ...found, message: `${found.message}; it is not tried again: ${asked.not}` }
        : found;
      const stored = adopted ? await this.#step(run, "look for its log", () => logs.stored(runName)) : undefined;
      const lost = outcome.reason === "Vanished" ? NOT_READ : undefined;
      let events: readonly EventFacts[] = [];
      const head = async (log: LogSummary) => {
        events = await this.#events(run);
        return headOf(withLog(ended, run, { log, events }), log, events);
      };
      const log = stored ?? await this.#step(run, "store its log", () => logs.finish(run, head, { lost }));
      const logged = withLog(ended, run, { log, events, storedAt: stored ? undefined : new Date() });
      const whole = next ? { ...logged, retried_as: next.runName } : await this.#publish(run, job.payload, logged);
      await this.#step(run, "store its record", () => records.put(whole, signal));
      if (next) emit({ type: "retrying", record: whole, at: next.at });
      else emit({ type: "finished", record: whole, completionMs: performance.now() - begunMs });
      record = whole;
    }
    const isRetried = record !== "unreadable" && record.retried_as !== undefined;
    if (earlier !== undefined && earlier !== "unreadable") emit({ type: "adopted", record: earlier });
    runs.recorded(runName, isRetried ? "retried" : "for good");
    if (record === "unreadable" || aftermath === undefined) return undefined;
    if (isRetried) return failedAttempt(record);
    // Repeated after a crash: what it finds done already stays as it is.
    const last = record;
    await this.#step(run, "start what follows", () => aftermath.recorded(last));
    return undefined;
  }

  /** Sees to the next attempt of one that is tried again; then nobody needs the Job any more. */
  async #leave(run: LiveRun, failed: FailedAttempt | undefined): Promise<void> {
    const { cluster, logs, runs, signal, emit, onDone, aftermath } = this.#options;
    const { runName } = run.job;
    if (failed && aftermath) await this.#startNext(run, failed, aftermath);
    const begunAt = new Date();
    await this.#step(run, "delete its Job", () => cluster.delete(runName, { signal }));
    emit({ type: "deleted", run: run.job, begunAt });
    runs.deleted(runName);
    onDone();
    await logs.forget(run).catch(() => {});
  }

  async #readJob(run: LiveRun): Promise<EndedJob> {
    const { cluster, signal } = this.#options;
    return await this.#step(run, "read its Job", () => cluster.get(run.job.runName, { signal })) ?? run.job;
  }

  /** Waits until the next attempt is there; ends a run that will have none. */
  async #startNext(run: LiveRun, failed: FailedAttempt, aftermath: Aftermath): Promise<void> {
    const { runName } = run.job;
    const stop = new AbortController();
    const at = aftermath.nextDue(failed).toISOString().slice(11, 19);
    run.detail = `Failed (${failed.message}); tried again at ${at}`;
    this.#retrying.set(runName, stop);
    this.#stopIfCancelled(run);
    const options = { readJob: () => this.#readJob(run), stop: stop.signal };
    const outcome = await this.#step(run, "start its next attempt", () => aftermath.startNext(failed, options))
      .finally(() => this.#retrying.delete(runName));
    if (outcome) await this.#endAfterAll(run, outcome, aftermath);
  }

  /** Of a run whose record says that it is tried again, and that is not. */
  async #endAfterAll(run: LiveRun, outcome: Outcome, aftermath: Aftermath): Promise<void> {
    const { records, logs, runs, signal, emit } = this.#options;
    const begunMs = performance.now();
    const { runName } = run.job;
    const job = await this.#readJob(run);
    const found = await this.#step(run, "read its record", () => records.find(runName, signal));
    const { retried_as: _, ...kept } = found === undefined || found === "unreadable"
      ? recordOf(run, job, outcome, logs.urlOf(runName))
      : found;
    const { status, reason, message, exitCode = null } = outcome;
    run.detail = message;
    const ended: RunRecord = { ...kept, status, reason, message, exit_code: exitCode };
    const whole = await this.#publish(run, job.payload, ended);
    await this.#step(run, "store its record", () => records.put(whole, signal));
    runs.recorded(runName, "for good");
    emit({ type: "finished", record: whole, completionMs: performance.now() - begunMs });
    await this.#step(run, "start what follows", () => aftermath.recorded(whole));
  }

  /** A run that waits for its next attempt, and that somebody cancels, is not tried again. */
  #stopIfCancelled({ job }: LiveRun): void {
    const who = job.cancelledBy;
    if (who === undefined) return;
    this.#retrying.get(job.runName)?.abort(cancellation(who, { when: "while it waited to be tried again" }));
  }

  /** A run that says that it succeeded, without its result, is a warning; one whose result cannot be looked for is none. */
  async #withOutput(record: RunRecord): Promise<RunRecord> {
    const { look, signal } = this.#options;
    const { output, status, message } = record;
    if (!look || output === undefined || status !== "succeeded") return record;
    try {
      if (await look(output, { signal })) return record;
      return { ...record, output_missing: true, message: `${message}, but there is nothing at its output ${output}` };
    } catch (error) {
      signal.throwIfAborted();
      return { ...record, message: `${message}; its output ${output} cannot be looked for: ${errorMessage(error)}` };
    }
  }

  /**
   * Jobs and pods come by two watches: waits until that of the pods has caught up with the Job's end, and asks for them
   * where it does not. What the Job alone says may be less than why it failed, and of output says nothing.
   */
  async #podsSettled(run: LiveRun): Promise<void> {
    const { runs, signal } = this.#options;
    const { runName } = run.job;
    const sinceMs = Date.now();
    const byPods = hadPod(run);
    const isSettled = () => run.pods.size > 0 && [...run.pods.values()].every((pod) => saysItsEnd(pod, byPods));
    try {
      while (run.job.end && runs.get(runName) === run && !isSettled()) {
        const leftMs = sinceMs + (run.pods.size === 0 ? this.#noPodAtEndMs : this.#podsSettleMs) - Date.now();
        if (leftMs <= 0) {
          const pods = await this.#step(run, "list its pods", () => this.#podLists.of(runName));
          if (isSettled()) return;
          pods.forEach((pod) => runs.clusterEvents.onPod(pod));
          if (pods.length === 0 || Date.now() - sinceMs >= this.#podsSettleMs) return;
          continue;
        }
        const changed = Promise.withResolvers<void>();
        this.#waitForPods.set(runName, changed);
        using wait = new Scope(signal);
        await Promise.race([changed.promise, delay(leftMs, wait.signal)]);
      }
    } finally {
      this.#waitForPods.delete(runName);
    }
  }

  /** Once a run: what is taken away again and again costs much, and may never end. */
  #tellDisruptions(run: LiveRun): void {
    const { runName } = run.job;
    if ((run.disrupted?.size ?? 0) < MANY_DISRUPTIONS || this.#oftenDisrupted.has(runName)) return;
    this.#oftenDisrupted.add(runName);
    const message = `Run "${runName}": ${lowerFirst(disruptionWords(run))}, and begins from the start each time`;
    this.#report(run, "OftenDisrupted", message);
  }

  #podChanged(run: LiveRun): void {
    this.#waitForPods.get(run.job.runName)?.resolve();
  }

  /** Repeats one step until it succeeds; tells once what it waits for. */
  #step<T>(run: LiveRun, what: string, step: () => Promise<T>): Promise<T> {
    return retryForever(step, {
      signal: this.#options.signal,
      onRetry: (error) => run.detail = `Ended; cannot ${what} yet: ${errorMessage(error)}`,
      onLasting: (error) => {
        const message = `Run "${run.job.runName}" waits: cannot ${what}: ${errorMessage(error)}`;
        this.#report(run, "CompletionWaits", message);
      },
    });
  }

  /** The record with the time of it, unless nobody is told. */
  async #publish(run: LiveRun, payload: Uint8Array | undefined, record: RunRecord): Promise<RunRecord> {
    if (!isTold(record)) return record;
    const { broker, topicPrefix, signal } = this.#options;
    const succeeded = record.status === "succeeded";
    const topic = (succeeded ? completeTopic : failedTopic)(topicPrefix, record.job_name);
    const end = endPayloadOf(record, payload);
    const body = JSON.stringify(end);
    const options = { qos: 1, ...propertiesOf(record, topicPrefix), signal } as const;
    await this.#step(run, "publish its end", () => broker.publish(topic, body, options));
    const error = `${topicPrefix}/ERROR`;
    if (!succeeded) await this.#step(run, "publish its error", () => broker.publish(error, body, options));
    return { ...record, announced_at: new Date().toISOString() };
  }

  async #events({ job: { runName }, pods }: LiveRun): Promise<EventFacts[]> {
    const { cluster, signal } = this.#options;
    return await cluster.events(runName, [...pods.keys()], { signal }).catch(() => []);
  }

  #report(run: LiveRun, reason: ErrorReport["reason"], message: string): void {
    const report: ErrorReport = { reason, message, job_name: run.job.jobName, run_name: run.job.runName };
    this.#options.emit({ type: "error", scope: "run", report });
  }
}

/** "" where none of its pods was taken away. */
function disruptionWords({ disrupted }: LiveRun): string {
  const times = disrupted?.size ?? 0;
  if (times === 0) return "";
  const often = times === 1 ? "" : times === 2 ? " twice" : ` ${times} times`;
  return `Its pod was taken away${often} and made anew`;
}

/** Whether no more is to come of why it ended. `byPods`: its Job ended by its pods, so a pod has containers to tell of. */
function saysItsEnd({ containers, disruption, phase }: PodFacts, byPods: boolean): boolean {
  if (disruption !== undefined && phase === "Failed") return true;
  if (containers.length === 0) return !byPods || phase === "Failed" || phase === "Succeeded";
  return containers.every(({ state }) => state === "terminated");
}
