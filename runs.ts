/**
 * The live runs, as the cluster's watch tells them: one small entry each, nothing of a payload.
 * Owns the answer to "is there a run of this name, or for this message?"; decides nothing and calls nobody
 * but the observer it is given.
 */
import type { ClusterEvents, Emit, JobFacts, PodFacts, RunSpec, RunView, SeenTimes } from "./ports.ts";
import { type Trouble, withFailingSince } from "./outcome.ts";
import { lineageOf, resourcesOf } from "./run_spec.ts";
import { EndedRuns } from "./runs/ended.ts";
import { timesWithJob, timesWithPod } from "./runs/times.ts";
import { compact } from "./util/compact.ts";
import { delay } from "./util/retry.ts";

export { pulledAt } from "./runs/times.ts";

/** A run as the table keeps it. `pods` is the table's own map; read it only. */
export interface LiveRun {
  job: Omit<JobFacts, "payload" | "manifest" | "row">;
  readonly pods: Map<string, PodFacts>;
  /** Made by a former process or another replica, which may have done a part of its end. */
  readonly adopted: boolean;
  /** What people are told of it; completion.ts keeps it. */
  state: RunView["state"];
  detail: string;
  /** Absent: none was seen. */
  times?: SeenTimes;
  /** Names of its pods that the cluster took away; absent: none was seen. */
  disrupted?: Set<string>;
  /** What the cluster's events say is in the way of its pod; completion.ts keeps it. */
  trouble?: Trouble | undefined;
  /** The most that it was seen to use, over all its pods at a time: cores and bytes; absent: nobody looked. */
  peak?: { readonly cpu: number; readonly memory: number };
  /** Its record is in the store: it has ended, or a further attempt follows. */
  recorded?: "for good" | "retried";
}

/** Who acts on changes: the completion of runs. `full` is the Job with its payload where the event brought it. */
export interface RunObserver {
  onRun(run: LiveRun, full?: JobFacts): void;
  onPod(run: LiveRun, pod: PodFacts): void;
  onPodGone(run: LiveRun, podName: string): void;
  /** The Job is gone and it was not this service that deleted it. */
  onRunGone(run: LiveRun, last: JobFacts | undefined): void;
  /** This service deleted it. */
  onRunDeleted?(run: LiveRun): void;
  onSynced(): void;
}

/** How long after the first list of Jobs one may still come by a create call that a killed process has left behind. */
const LATE_CREATE_MS = 3_000;

export class RunTable {
  readonly #runs = new Map<string, LiveRun>();
  /** By run whose Job is not told yet, its pods by name as they were last told. */
  readonly #early = new Map<string, Map<string, PodFacts>>();
  readonly #creating = new Set<string>();
  readonly #recorded = new Set<string>();
  readonly #ended = new EndedRuns();
  /** Names of live runs by what made them: after a reconnect thousands of messages may ask. */
  readonly #byMessage = new Map<string, string>();
  readonly #observers: RunObserver[] = [];
  readonly #emit: Emit;
  readonly #synced = Promise.withResolvers<void>();
  /** By performance.now(); -Infinity: not yet. */
  #syncedAtMs = -Infinity;

  constructor({ emit }: { emit: Emit }) {
    this.#emit = emit;
  }

  observe(observer: RunObserver): void {
    this.#observers.push(observer);
  }

  /** Resolves when the cluster has told all runs that there are. */
  get synced(): Promise<void> {
    return this.#synced.promise;
  }

  /**
   * Number of live runs, those whose create call is under way included. Not of those that have ended for good: some stay
   * until what they lead to is there, which must not wait for their end.
   */
  get size(): number {
    return this.#runs.size + this.#creating.size - this.#recorded.size;
  }

  /** Resolves when no Job can come any more by a call that a killed process had under way. */
  async settled(signal: AbortSignal): Promise<void> {
    const leftMs = this.#syncedAtMs + LATE_CREATE_MS - performance.now();
    if (leftMs > 0) await delay(leftMs, signal);
  }

  get(runName: string): LiveRun | undefined {
    return this.#runs.get(runName);
  }

  values(): IterableIterator<LiveRun> {
    return this.#runs.values();
  }

  /** Those that are items of the group. */
  ofGroup(group: string): LiveRun[] {
    return [...this.#runs.values()].filter(({ job }) => job.group === group);
  }

  /** A run of that name lives, is being created, or ended in the last ten minutes. */
  knows(runName: string): boolean {
    return this.#runs.has(runName) || this.#creating.has(runName) || this.#ended.has(runName);
  }

  /** Names of runs that ended in the last ten minutes. */
  endedNames(): string[] {
    return this.#ended.names();
  }

  /** A run of that name ended in the last ten minutes, and its Job is deleted. */
  hasEnded(runName: string): boolean {
    return this.#ended.has(runName);
  }

  /** Name of the run that the message made of the row, if it lives or ended in the last ten minutes. */
  findByMessage(jobName: string, messageHash: string): string | undefined {
    const live = this.#byMessage.get(messageKey({ jobName, messageHash }));
    return live ?? this.#ended.findByMessage(jobName, messageHash);
  }

  /** Call before the create call leaves, so that no gap opens in which the name is unknown. */
  creating(runName: string): void {
    this.#creating.add(runName);
  }

  /** The create call failed: there is no such run. */
  notCreated(runName: string): void {
    this.#creating.delete(runName);
  }

  /** The create call succeeded; the watch may have told it already. */
  created(spec: RunSpec): LiveRun {
    this.#creating.delete(spec.runName);
    const known = this.#runs.get(spec.runName);
    if (known) return known;
    // The call's answer may be so late that the watch has told all of the run, and its Job is deleted.
    if (this.#ended.has(spec.runName)) return newRun(factsOf(spec), { adopted: false });
    return this.#add(factsOf(spec), { adopted: false });
  }

  /** The run's record is in the store. */
  recorded(runName: string, how: NonNullable<LiveRun["recorded"]>): void {
    const run = this.#runs.get(runName);
    if (!run || run.recorded === how || run.recorded === "for good") return;
    run.recorded = how;
    if (how === "for good") this.#recorded.add(runName);
    this.#observers.forEach((o) => o.onRun(run));
  }

  /** This service deleted the run. */
  deleted(runName: string): void {
    const run = this.#runs.get(runName);
    if (!run) return;
    this.#runs.delete(runName);
    this.#remember(run);
    this.#observers.forEach((o) => o.onRunDeleted?.(run));
  }

  /** What the cluster's watch calls. */
  readonly clusterEvents: ClusterEvents = {
    onJob: (job) => this.#onJob(job),
    onJobGone: (runName, last) => this.#onJobGone(runName, last),
    onPod: (pod) => this.#onPod(pod),
    onPodGone: (podName, runName) => {
      const run = this.#runs.get(runName);
      if (run?.pods.delete(podName)) this.#observers.forEach((o) => o.onPodGone(run, podName));
      const early = this.#early.get(runName);
      if (early?.delete(podName) && early.size === 0) this.#early.delete(runName);
    },
    // At each list of one of the two watches; the other may be far behind.
    onSynced: () => {
      if (this.#syncedAtMs === -Infinity) this.#syncedAtMs = performance.now();
      this.#synced.resolve();
      this.#observers.forEach((o) => o.onSynced());
    },
    onForeign: (message) =>
      this.#emit({ type: "error", scope: "cluster", report: { reason: "ForeignObject", message } }),
    onTrouble: (reason) =>
      this.#emit({
        type: "error",
        scope: "cluster",
        report: { reason: "WatchInterrupted", message: `The watch of the cluster was interrupted: ${reason}` },
      }),
  };

  /** All live runs as people see them. */
  views(): RunView[] {
    return [...this.#runs.values()].map(viewOf);
  }

  #onJob(full: JobFacts): void {
    const { payload: _payload, manifest: _manifest, row: _row, ...job } = full;
    const run = this.#runs.get(job.runName);
    if (run) {
      run.job = job;
      run.times = timesWithJob(run.times ?? {}, job, new Date());
      this.#observers.forEach((o) => o.onRun(run, full));
    } else if (this.#isNew(job)) {
      this.#add(job, { full, adopted: !this.#creating.has(job.runName) });
    }
  }

  /**
   * Not the late event of a Job that has been deleted. One that was made after that, by a create call that came late, has to
   * be ended too.
   */
  #isNew({ runName, createdAt }: LiveRun["job"]): boolean {
    const createdMs = this.#ended.createdMs(runName);
    return createdMs === undefined || createdAt.getTime() > createdMs;
  }

  #onJobGone(runName: string, last: JobFacts | undefined): void {
    const run = this.#runs.get(runName);
    if (!run) return;
    this.#runs.delete(runName);
    this.#remember(run);
    this.#observers.forEach((o) => o.onRunGone(run, last));
  }

  #onPod(pod: PodFacts): void {
    const run = this.#runs.get(pod.runName);
    if (!run) {
      // Two watches have no common order: a pod may come before its Job.
      if (this.#ended.has(pod.runName)) return;
      const early = this.#early.get(pod.runName) ?? new Map<string, PodFacts>();
      this.#early.set(pod.runName, early.set(pod.podName, pod));
      return;
    }
    const before = run.pods.get(pod.podName);
    const known = withFirstAsk(withFailingSince(pod, before, new Date()), before);
    run.pods.set(pod.podName, known);
    run.times = timesWithPod(run.times ?? {}, known);
    if (pod.disruption) (run.disrupted ??= new Set()).add(pod.podName);
    this.#observers.forEach((o) => o.onPod(run, known));
  }

  #add(job: LiveRun["job"], { full, adopted }: { full?: JobFacts; adopted: boolean }): LiveRun {
    const run = newRun(job, { adopted });
    this.#runs.set(job.runName, run);
    this.#byMessage.set(messageKey(job), job.runName);
    this.#observers.forEach((o) => o.onRun(run, full));
    const early = this.#early.get(job.runName);
    this.#early.delete(job.runName);
    early?.forEach((pod) => this.#onPod(pod));
    return run;
  }

  #remember({ job }: LiveRun): void {
    this.#recorded.delete(job.runName);
    // An equal message may have made a later run.
    if (this.#byMessage.get(messageKey(job)) === job.runName) this.#byMessage.delete(messageKey(job));
    this.#ended.add(job);
  }
}

function newRun(job: LiveRun["job"], { adopted }: { adopted: boolean }): LiveRun {
  const times = timesWithJob({}, job, new Date());
  return { job, pods: new Map(), adopted, state: "pending", detail: "", times };
}

/** What a run's Job will be, as far as it is known before. */
export function factsOf(spec: RunSpec): LiveRun["job"] {
  return {
    runName: spec.runName,
    jobName: spec.row.jobName,
    topic: spec.message.topic,
    messageHash: spec.messageHash,
    ...lineageOf(spec),
    ...compact({ concurrency: spec.concurrency, heldFor: spec.heldFor }),
    ...(spec.heldFor ? { suspended: {} } : {}),
    image: spec.row.image,
    gpu: spec.row.gpu,
    ...resourcesOf(spec.row, spec.rung),
    receivedAt: spec.receivedAt,
    createdAt: new Date(),
  };
}

function messageKey({ jobName, messageHash }: { readonly jobName: string; readonly messageHash: string }): string {
  return `${messageHash} ${jobName}`;
}

/** A live run as people see it. */
export function viewOf(run: LiveRun): RunView {
  const { job } = run;
  return {
    runName: job.runName,
    jobName: job.jobName,
    topic: job.topic,
    state: run.state,
    detail: run.detail,
    ...run.times,
    ...lineageOf(job),
    messageHash: job.messageHash,
    image: job.image,
    gpu: job.gpu,
    requests: job.requests,
    limits: job.limits,
    receivedAt: job.receivedAt,
    createdAt: job.createdAt,
    ...compact({ disruptions: run.disrupted?.size }),
    nodes: [...new Set([...run.pods.values()].flatMap((pod) => pod.node ?? []))],
  };
}

/**
 * Once its containers have ended, the API server counts the deletion of a pod anew, from then on: it would seem to have been
 * asked for after the end.
 */
function withFirstAsk(pod: PodFacts, before: PodFacts | undefined): PodFacts {
  const first = before?.deletionAskedAt;
  const isLater = first !== undefined && pod.deletionAskedAt !== undefined && pod.deletionAskedAt > first;
  return isLater ? { ...pod, deletionAskedAt: first } : pod;
}
