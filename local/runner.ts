/**
 * LocalRunner: the Cluster port on this machine's processes, for a laptop. Owns a folder per run: `job.json` (what the
 * run is and how it stands), `{index}.log`, and `{index}/`, the working folder of a process. It is no sandbox: a command
 * has the rights of this service. Must not hand a process more of this service's environment than it is told to.
 *
 * What differs from Kubernetes: the image, `backoffLimit`, requests, GPUs, disk limits, `disk_mount` and the CPU limit
 * are ignored. `memory_limit` is `ulimit -v` where the OS has it (Linux; not macOS): it bounds each process' address
 * space, not what it uses of it, so that runtimes which reserve much (Go, Java, Node.js) need a larger one, and a program
 * that meets it sees its allocation fail instead of being killed. One that then fails, and says so in the last words of
 * its output, counts as OOMKilled.
 */
import { isAbsolute, join, resolve } from "node:path";
import {
  type Cluster,
  type ClusterEvents,
  type ContainerFacts,
  type EventFacts,
  type JobFacts,
  type LogOptions,
  type PodFacts,
  type PodUsage,
  type RunSpec,
  UnavailableError,
} from "../ports.ts";
import { CONTAINER_NAME } from "../run_spec.ts";
import { compact } from "../util/compact.ts";
import { errorMessage } from "../util/errors.ts";
import { delayAtMost } from "../util/retry.ts";
import { readRunLog, RunLog } from "./runner/log.ts";
import { lackedMemory, readMessage } from "./runner/message.ts";
import { killLeftBehind, signalGroup, startProcess } from "./runner/process.ts";
import { linkMounts, readVariables } from "./runner/secrets.ts";
import { ProcessUsage } from "./runner/usage.ts";
import { endOf, factsOf, newRun, readRun, type Run, saveRun, type Stop } from "./runner/run.ts";

export { processPlan } from "./runner/plan.ts";

const KILL_AFTER_MS = 5_000;
/** How long output may stay open once its process group is dead: held by a process that left the group. */
const DRAIN_MS = 2_000;
/** setTimeout takes no more. */
const MAX_TIMER_MS = 2 ** 31 - 1;

export interface LocalRunnerOptions {
  /** Folder for the runs; made at the first run. */
  readonly dir: string;
  /** What each process gets beside the message's variables. Default: the usual PATH, and its working folder as HOME. */
  readonly env?: { readonly PATH?: string; readonly HOME?: string };
  /** Secrets and config maps: a folder each, in it a file for each key. Default: there are none. */
  readonly secretsDir?: string;
  /** Output that is kept of one process, in bytes. Default 10 GiB. */
  readonly maxLogBytes?: number;
  /** From SIGTERM to SIGKILL; other values than the preset are for tests. */
  readonly killAfterMs?: number;
}

/** Runs a row's `command` as `parallelism` processes of this machine. */
export class LocalRunner implements Cluster {
  readonly url: string;
  heardAt: Date | undefined;
  readonly #dir: string;
  readonly #env: { readonly PATH?: string; readonly HOME?: string };
  readonly #secretsDir: string | undefined;
  readonly #maxLogBytes: number;
  readonly #killAfterMs: number;
  readonly #runs = new Map<string, Run>();
  readonly #usage = new ProcessUsage();
  /** Folders that cannot be read, and why. */
  readonly #unreadable = new Set<string>();
  readonly #watchers = new Set<ClusterEvents>();
  #loaded: Promise<void> | undefined;
  #closing = false;

  constructor({ dir, env = {}, ...options }: LocalRunnerOptions) {
    const { secretsDir, maxLogBytes = 10 * 2 ** 30, killAfterMs = KILL_AFTER_MS } = options;
    this.#secretsDir = secretsDir === undefined ? undefined : resolve(Deno.cwd(), secretsDir);
    this.#killAfterMs = killAfterMs;
    this.#maxLogBytes = maxLogBytes;
    this.#dir = isAbsolute(dir) ? resolve(dir) : resolve(Deno.cwd(), dir);
    this.#env = env;
    this.url = `local:${this.#dir}`;
  }

  /** Throws RefusedError for a row without a command or a payload that no environment can hold. */
  async create(spec: RunSpec, { dryRun = false, signal }: { dryRun?: boolean; signal?: AbortSignal } = {}): Promise<
    "created" | "exists"
  > {
    signal?.throwIfAborted();
    const run = newRun(spec, { hasSecrets: this.#secretsDir !== undefined });
    if (this.#closing) {
      throw new UnavailableError(`Cannot run job "${spec.row.jobName}" locally: the runner is closing`);
    }
    await this.#load();
    if (this.#runs.has(spec.runName)) return "exists";
    if (dryRun) return "created";
    // Before the first await, so that a second create of the name sees it.
    this.#runs.set(spec.runName, run);
    try {
      await this.#makeFolder(run);
    } catch (error) {
      this.#runs.delete(spec.runName);
      throw new UnavailableError(`Cannot make the folder of run "${spec.runName}": ${errorMessage(error)}`, {
        cause: error,
      });
    }
    this.#tell(run);
    if (!run.job.suspended) run.done = this.#runAll(run);
    return "created";
  }

  async resume(runName: string, { signal }: { signal?: AbortSignal } = {}): Promise<boolean> {
    signal?.throwIfAborted();
    await this.#load();
    const run = this.#runs.get(runName);
    if (!run) return false;
    if (!run.job.suspended || run.job.cancelledBy !== undefined) return true;
    const { suspended: _suspended, heldFor: _heldFor, ...job } = run.job;
    run.job = job;
    const changed = this.#change(run, {});
    run.done = changed.then(() => this.#runAll(run));
    await changed;
    return true;
  }

  async pods(runNames: readonly string[], { signal }: { signal?: AbortSignal } = {}): Promise<PodFacts[]> {
    signal?.throwIfAborted();
    await this.#load();
    return runNames.flatMap((runName) => this.#runs.get(runName)?.pods ?? []);
  }

  async delete(runName: string, { signal }: { signal?: AbortSignal } = {}): Promise<void> {
    signal?.throwIfAborted();
    await this.#load();
    const run = this.#runs.get(runName);
    if (run) await (run.gone ??= this.#remove(run));
  }

  /** An ended run stays as it ended; the mark is for who waits to try it again. */
  async cancel(runName: string, who: string, { signal }: { signal?: AbortSignal } = {}): Promise<boolean> {
    signal?.throwIfAborted();
    await this.#load();
    const run = this.#runs.get(runName);
    if (!run) return false;
    if (run.job.cancelledBy !== undefined) return true;
    const marked = this.#change(run, { cancelledBy: who });
    if (!run.job.end) this.#stop(run, "cancelled");
    await marked;
    return true;
  }

  async get(runName: string, { signal }: { signal?: AbortSignal } = {}): Promise<JobFacts | undefined> {
    signal?.throwIfAborted();
    await this.#load();
    const run = this.#runs.get(runName);
    return run && factsOf(run);
  }

  async watch(events: ClusterEvents, signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      try {
        await this.#load();
        break;
      } catch (error) {
        events.onTrouble(errorMessage(error));
        await delayAtMost(1_000, signal);
      }
    }
    if (signal.aborted) return;
    this.heardAt = new Date();
    for (const fault of this.#unreadable) events.onTrouble(fault);
    for (const run of this.#runs.values()) tellAll(events, run);
    this.#watchers.add(events);
    events.onSynced();
    await new Promise<void>((resolve) => signal.addEventListener("abort", () => resolve(), { once: true }));
    this.#watchers.delete(events);
  }

  /** A process writes into one file. */
  readonly rotatesLogs = false;

  async logs(
    podName: string,
    container: string,
    options: LogOptions,
  ): Promise<ReadableStream<Uint8Array> | undefined> {
    options.signal?.throwIfAborted();
    await this.#load();
    const run = this.#runs.get(podName.slice(0, podName.lastIndexOf("-")));
    const index = run?.pods.findIndex((pod) => pod.podName === podName) ?? -1;
    if (!run || index < 0 || container !== CONTAINER_NAME) return undefined;
    if (run.pods[index]!.containers[0]!.state === "waiting") {
      throw new UnavailableError(`Cannot read the log of "${podName}": its process has not started`);
    }
    return await readRunLog(this.#logPath(run, index), { ...options, live: run.logs.get(index) });
  }

  async podUsage(): Promise<PodUsage[]> {
    const usage = await this.#usage.sample();
    return [...this.#runs.values()].flatMap(({ job: { runName }, pods, groups }) =>
      [...groups].flatMap(([index, group]) => {
        const [pod, used] = [pods[index], usage.get(group)];
        return pod && used ? [{ podName: pod.podName, runName, ...used }] : [];
      })
    );
  }

  /** This machine keeps no event log; the one thing to say is what of the row it cannot do. */
  events(runName: string): Promise<EventFacts[]> {
    const run = this.#runs.get(runName);
    if (!run?.leftOut?.length) return Promise.resolve([]);
    const message = `left out, for only Kubernetes does it: ${run.leftOut.join(", ")}`;
    const at = run.job.createdAt;
    return Promise.resolve([{ at, type: "Warning", object: runName, reason: "LeftOut", message, count: 1 }]);
  }

  /** Stops all processes (SIGTERM, SIGKILL after 5 s). The next start reports their runs as lost. */
  async close(): Promise<void> {
    this.#closing = true;
    await this.#loaded?.catch(() => {});
    const runs = [...this.#runs.values()];
    for (const run of runs) if (!run.job.end) this.#stop(run, "closing");
    await Promise.all(runs.map((run) => run.done));
  }

  // ------------------------------------------------------------ a run's life

  async #runAll(run: Run): Promise<void> {
    this.#armDeadline(run, Date.now());
    await Promise.all(run.pods.map((_, index) => this.#runPod(run, index)));
    run.over = true;
    clearTimeout(run.killTimer);
    clearTimeout(run.deadlineTimer);
    if (run.stop !== "closing") await this.#change(run, { end: endOf(run), finishedAt: new Date() });
    await run.changes;
  }

  async #runPod(run: Run, index: number): Promise<void> {
    const startedAt = new Date();
    let facts: Partial<ContainerFacts>;
    try {
      const log = await RunLog.create(this.#logPath(run, index), {
        maxBytes: this.#maxLogBytes,
        onTrouble: (reason) => this.#trouble(`Run "${run.job.runName}": ${reason}`),
      });
      run.logs.set(index, log);
      try {
        facts = run.stop ? { reason: "Error", exitCode: 143 } : await this.#runProcess(run, index, startedAt, log);
      } finally {
        log.close();
      }
    } catch (error) {
      // Kubernetes' word and exit code for a command that cannot be started.
      facts = { reason: "StartError", message: errorMessage(error), exitCode: 128 };
    }
    if (run.stop === "closing") return;
    const container: ContainerFacts = {
      name: CONTAINER_NAME,
      state: "terminated",
      startedAt,
      finishedAt: new Date(),
      restartCount: 0,
      ...facts,
    };
    if (container.exitCode !== 0) this.#stop(run, "failed");
    const phase = container.exitCode === 0 ? "Succeeded" : "Failed";
    await this.#change(run, {}, index, { phase, containers: [container] });
  }

  async #runProcess(run: Run, index: number, startedAt: Date, log: RunLog): Promise<Partial<ContainerFacts>> {
    const child = await this.#spawn(run, index);
    run.groups.set(index, child.pid);
    // It may have come while the process was being started.
    if (run.stop) signalGroup(child.pid, "SIGTERM");
    const containers: ContainerFacts[] = [{ name: CONTAINER_NAME, state: "running", startedAt, restartCount: 0 }];
    const told = this.#change(run, run.job.startedAt ? {} : { startedAt }, index, { phase: "Running", containers });
    const drained = new AbortController();
    const pumps = Promise.all([log.pump(child.stdout, drained.signal), log.pump(child.stderr, drained.signal)]);
    const status = await child.status;
    // As a container ends with its first process.
    signalGroup(child.pid, "SIGKILL");
    run.groups.delete(index);
    const timer = setTimeout(() => drained.abort(), DRAIN_MS);
    await pumps;
    clearTimeout(timer);
    await told;
    const signal = status.signal === null ? {} : { signal: status.code - 128 };
    const message = await readMessage(this.#resultPath(run, index), status.success ? undefined : log);
    const isOom = !status.success && run.stop === undefined && run.memoryLimit !== undefined && lackedMemory(message);
    return {
      ...(isOom ? { oomKilled: true } : {}),
      reason: status.success ? "Completed" : isOom ? "OOMKilled" : "Error",
      exitCode: status.code,
      ...signal,
      ...compact({ message }),
    };
  }

  /** Variables from secrets and config maps; what the row mounts of them is linked to below `LOCAL_MOUNTS`. */
  async #secretsOf(run: Run): Promise<Record<"all" | "keys", Record<string, string>>> {
    const { wanted } = run;
    if (wanted === undefined || this.#secretsDir === undefined) return { all: {}, keys: {} };
    const { all, keys } = await readVariables(this.#secretsDir, wanted);
    if (wanted.mounts.length === 0) return { all, keys };
    const folder = join(this.#folder(run), "mounts");
    await linkMounts(this.#secretsDir, wanted, folder);
    return { all, keys: { ...keys, LOCAL_MOUNTS: folder } };
  }

  async #spawn(run: Run, index: number): Promise<Deno.ChildProcess> {
    const { command, env, memoryLimit, pods, workingDir } = run;
    const { all, keys } = await this.#secretsOf(run);
    const isHere = workingDir !== undefined && await Deno.stat(workingDir).then((it) => it.isDirectory, () => false);
    return await startProcess({
      command,
      cwd: isHere ? workingDir : join(this.#folder(run), String(index)),
      env: {
        ...all,
        ...env,
        ...keys,
        RESULT_FILE: this.#resultPath(run, index),
        ...(pods.length > 1 ? { JOB_COMPLETION_INDEX: String(index) } : {}),
      },
      path: this.#env.PATH,
      home: this.#env.HOME,
      memoryLimit,
    });
  }

  #stop(run: Run, why: Stop): void {
    // A second reason does not stop harder, but closing must leave the facts as they are.
    if (run.stop === undefined || why === "closing") run.stop = why;
    if (run.over || run.killTimer !== undefined) return;
    for (const group of run.groups.values()) signalGroup(group, "SIGTERM");
    run.killTimer = setTimeout(() => {
      for (const group of run.groups.values()) signalGroup(group, "SIGKILL");
    }, this.#killAfterMs);
  }

  #armDeadline(run: Run, begunMs: number): void {
    if (run.activeDeadlineSeconds === undefined) return;
    const leftMs = begunMs + run.activeDeadlineSeconds * 1000 - Date.now();
    run.deadlineTimer = setTimeout(() => {
      if (leftMs > MAX_TIMER_MS) this.#armDeadline(run, begunMs);
      else this.#stop(run, "deadline");
    }, Math.min(Math.max(leftMs, 0), MAX_TIMER_MS));
  }

  async #remove(run: Run): Promise<void> {
    if (!run.job.end) {
      const marked = this.#change(run, { deletionAt: new Date() });
      this.#stop(run, "deleted");
      await marked;
    }
    await run.done;
    await run.changes;
    try {
      await Deno.remove(this.#folder(run), { recursive: true });
    } catch (error) {
      if (!(error instanceof Deno.errors.NotFound)) {
        delete run.gone;
        throw new UnavailableError(`Cannot delete run "${run.job.runName}": ${errorMessage(error)}`, { cause: error });
      }
    }
    this.#runs.delete(run.job.runName);
    for (const events of this.#watchers) {
      for (const pod of run.pods) events.onPodGone(pod.podName, pod.runName);
      events.onJobGone(run.job.runName, run.job);
    }
  }

  // ------------------------------------------------------------ facts, told and kept

  /** Saved before it is told: what was acted upon must be so after a restart, too. */
  #change(run: Run, job: Partial<JobFacts>, index?: number, pod: Partial<PodFacts> = {}): Promise<void> {
    run.changes = run.changes.then(async () => {
      run.job = { ...run.job, ...job };
      if (index !== undefined) run.pods[index] = { ...run.pods[index]!, ...pod };
      try {
        await saveRun(run, this.#folder(run));
      } catch (error) {
        this.#trouble(`Cannot save how run "${run.job.runName}" stands: ${errorMessage(error)}`);
      }
      this.#tell(run, index);
    });
    return run.changes;
  }

  #tell(run: Run, index?: number): void {
    this.heardAt = new Date();
    for (const events of this.#watchers) {
      if (index === undefined) tellAll(events, run);
      else {
        events.onPod(run.pods[index]!);
        events.onJob(factsOf(run));
      }
    }
  }

  #trouble(reason: string): void {
    for (const events of this.#watchers) events.onTrouble(reason);
  }

  #folder(run: Run): string {
    return join(this.#dir, run.job.runName);
  }

  #logPath(run: Run, index: number): string {
    return join(this.#folder(run), `${index}.log`);
  }

  #resultPath(run: Run, index: number): string {
    return join(this.#folder(run), `${index}.result`);
  }

  /** The folder appears with its job.json or not at all; no run's name begins with "~". */
  async #makeFolder(run: Run): Promise<void> {
    const staging = join(this.#dir, `~${crypto.randomUUID()}`);
    await Deno.mkdir(staging, { recursive: true });
    await saveRun(run, staging);
    await Deno.rename(staging, this.#folder(run));
  }

  #load(): Promise<void> {
    return this.#loaded ??= this.#readFolders().catch((error) => {
      this.#loaded = undefined;
      throw new UnavailableError(`Cannot read the runs in ${this.#dir}: ${errorMessage(error)}`, { cause: error });
    });
  }

  async #readFolders(): Promise<void> {
    await Deno.mkdir(this.#dir, { recursive: true });
    for await (const { name, isDirectory } of Deno.readDir(this.#dir)) {
      if (!isDirectory) continue;
      if (name.startsWith("~")) {
        await Deno.remove(join(this.#dir, name), { recursive: true });
        continue;
      }
      try {
        const run = await readRun(join(this.#dir, name));
        if (run === undefined) continue;
        // A suspended one has no process that could be lost.
        if (run.job.end === undefined && !run.job.suspended) await this.#endLost(run);
        this.#runs.set(name, run);
      } catch (error) {
        // One that cannot be read keeps no other from going on.
        this.#unreadable.add(errorMessage(error));
      }
    }
  }

  /** Its processes were this service's children, so nobody reads their output nor waits for them any more. */
  async #endLost(run: Run): Promise<void> {
    const finishedAt = new Date();
    const { runName } = run.job;
    for (const [index, group] of run.groups) {
      await killLeftBehind(group, { runName, index: run.pods.length > 1 ? index : undefined });
    }
    run.groups.clear();
    for (const [index, pod] of run.pods.entries()) {
      const [container] = pod.containers;
      if (container?.state === "terminated") continue;
      const message = "the service that ran it on this machine ended before it did";
      run.pods[index] = {
        ...pod,
        phase: "Failed",
        disruption: { reason: "Lost", message },
        containers: [{
          ...container,
          name: CONTAINER_NAME,
          state: "terminated",
          reason: "Lost",
          message,
          finishedAt,
          restartCount: 0,
        }],
      };
    }
    run.job = { ...run.job, end: endOf(run), finishedAt };
    await saveRun(run, this.#folder(run));
  }
}

function tellAll(events: ClusterEvents, run: Run): void {
  events.onJob(factsOf(run));
  // As a suspended Job it has no pods.
  if (!run.job.suspended) { for (const pod of run.pods) events.onPod(pod); }
}
