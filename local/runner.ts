/**
 * LocalRunner: the Cluster port on this machine's processes, for a laptop. Owns a folder per run: `job.json` (what the
 * run is and how it stands), `{index}.log`, and `{index}/`, the working folder of a process. It is no sandbox: a command
 * has the rights of this service. Must not hand a process more of this service's environment than it is told to.
 *
 * What differs from Kubernetes: the image, `backoffLimit`, requests, GPUs, disk limits, `disk_mount` and the CPU limit
 * are ignored. `memory_limit` is `ulimit -v` where the OS has it (Linux; not macOS): it bounds each process' address
 * space, not what it uses of it, so that runtimes which reserve much (Go, Java, Node.js) need a larger one, and a program
 * that meets it sees its allocation fail instead of being killed: it ends by its own exit code, never as OOMKilled.
 */
import { isAbsolute, join, resolve } from "node:path";
import { stringify } from "yaml";
import { CONTAINER_NAME, isRunName, keptValue, messageEnv, resourcesOf } from "../run_spec.ts";
import {
  type Cluster,
  type ClusterEvents,
  type ContainerFacts,
  type EventFacts,
  type JobFacts,
  type PodFacts,
  RefusedError,
  type RunSpec,
  UnavailableError,
} from "../ports.ts";
import { quantityValue } from "../util/quantities.ts";
import { delayAtMost, errorMessage } from "../util/retry.ts";
import { readRunLog, RunLog } from "./run_log.ts";

/** The node's name in all facts. */
const NODE = "local";
/** From SIGTERM to SIGKILL. */
const KILL_AFTER_MS = 5_000;
/** How long output may stay open once its process group is dead: held by a process that left the group. */
const DRAIN_MS = 2_000;
/** setTimeout takes no more. */
const MAX_TIMER_MS = 2 ** 31 - 1;
const USUAL_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin:/opt/homebrew/bin";

export interface LocalRunnerOptions {
  /** Folder for the runs; made at the first run. */
  readonly dir: string;
  /** What each process gets beside the message's variables. Default: the usual PATH, and its working folder as HOME. */
  readonly env?: { readonly PATH?: string; readonly HOME?: string };
}

/** Why the processes of a run are being stopped. */
type Stop = "cancelled" | "deadline" | "failed" | "deleted" | "closing";

interface Run {
  job: JobFacts;
  readonly pods: PodFacts[];
  readonly command: readonly string[];
  readonly env: Readonly<Record<string, string>>;
  readonly activeDeadlineSeconds?: number;
  readonly memoryLimit?: string;
  /** Process groups that live, by index of the pod. */
  readonly groups: Map<number, number>;
  /** Logs that are being written, by index of the pod. */
  readonly logs: Map<number, RunLog>;
  stop?: Stop;
  killTimer?: ReturnType<typeof setTimeout>;
  deadlineTimer?: ReturnType<typeof setTimeout>;
  /** Its processes have ended: no timer may be set any more. */
  over?: true;
  /** Changes are saved and told one after the other. */
  changes: Promise<void>;
  /** All processes ended and that was saved. */
  done: Promise<void>;
  gone?: Promise<void>;
}

/** Runs a row's `command` as `parallelism` processes of this machine. */
export class LocalRunner implements Cluster {
  readonly url: string;
  heardAt: Date | undefined;
  readonly #dir: string;
  readonly #env: { readonly PATH?: string; readonly HOME?: string };
  readonly #runs = new Map<string, Run>();
  readonly #watchers = new Set<ClusterEvents>();
  #loaded: Promise<void> | undefined;
  #closing = false;

  constructor({ dir, env = {} }: LocalRunnerOptions) {
    this.#dir = isAbsolute(dir) ? resolve(dir) : resolve(Deno.cwd(), dir);
    this.#env = env;
    this.url = `local:${this.#dir}`;
  }

  /** Throws RefusedError for a row without a command or a payload that no environment can hold. */
  async create(spec: RunSpec, { dryRun = false, signal }: { dryRun?: boolean; signal?: AbortSignal } = {}): Promise<
    "created" | "exists"
  > {
    signal?.throwIfAborted();
    const run = newRun(spec);
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
    run.done = this.#runAll(run);
    return "created";
  }

  async delete(runName: string, { signal }: { signal?: AbortSignal } = {}): Promise<void> {
    signal?.throwIfAborted();
    await this.#load();
    const run = this.#runs.get(runName);
    if (run) await (run.gone ??= this.#remove(run));
  }

  /** An ended run stays as it ended. */
  async cancel(runName: string, who: string, { signal }: { signal?: AbortSignal } = {}): Promise<boolean> {
    signal?.throwIfAborted();
    await this.#load();
    const run = this.#runs.get(runName);
    if (!run) return false;
    if (run.job.end || run.job.cancelledBy !== undefined) return true;
    const marked = this.#change(run, { cancelledBy: who });
    this.#stop(run, "cancelled");
    await marked;
    return true;
  }

  async get(runName: string, { signal }: { signal?: AbortSignal } = {}): Promise<JobFacts | undefined> {
    signal?.throwIfAborted();
    await this.#load();
    const run = this.#runs.get(runName);
    return run && factsOf(run);
  }

  async manifest(runName: string, { signal }: { signal?: AbortSignal } = {}): Promise<string | undefined> {
    signal?.throwIfAborted();
    await this.#load();
    const run = this.#runs.get(runName);
    if (!run) return undefined;
    const { payload: _, ...job } = run.job;
    const { command, env, memoryLimit, activeDeadlineSeconds } = run;
    // Through JSON: YAML has no `undefined`, and times as text are what people read.
    const plain = JSON.parse(JSON.stringify({
      kind: "LocalRun",
      name: runName,
      folder: this.#folder(run),
      command,
      env,
      memoryLimit,
      activeDeadlineSeconds,
      status: { ...job, pods: run.pods },
    }));
    return stringify(plain);
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
    for (const run of this.#runs.values()) tellAll(events, run);
    this.#watchers.add(events);
    events.onSynced();
    await new Promise<void>((resolve) => signal.addEventListener("abort", () => resolve(), { once: true }));
    this.#watchers.delete(events);
  }

  async logs(
    podName: string,
    container: string,
    options: { follow: boolean; timestamps: boolean; since?: Date; signal?: AbortSignal },
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

  /** This machine keeps no event log. */
  events(): Promise<EventFacts[]> {
    return Promise.resolve([]);
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
    this.#armDeadline(run);
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
      const log = await RunLog.create(this.#logPath(run, index), (reason) => this.#trouble(reason));
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
    return { reason: status.success ? "Completed" : "Error", exitCode: status.code, ...signal };
  }

  async #spawn(run: Run, index: number): Promise<Deno.ChildProcess> {
    const cwd = join(this.#folder(run), String(index));
    await Deno.mkdir(cwd, { recursive: true });
    const own = { PATH: this.#env.PATH ?? USUAL_PATH, HOME: this.#env.HOME ?? cwd };
    const [name = "", ...args] = run.command;
    const program = await findProgram(name, own.PATH, cwd);
    const limit = run.memoryLimit === undefined ? undefined : quantityValue(run.memoryLimit);
    const line = limit === undefined ? [program, ...args] : limited(limit, [program, ...args]);
    return new Deno.Command(line[0]!, {
      args: line.slice(1),
      cwd,
      clearEnv: true,
      env: { ...run.env, ...own, ...(run.pods.length > 1 ? { JOB_COMPLETION_INDEX: String(index) } : {}) },
      stdin: "null",
      stdout: "piped",
      stderr: "piped",
      // A process group of its own, so that what it starts is stopped with it.
      detached: true,
    }).spawn();
  }

  #stop(run: Run, why: Stop): void {
    // A second reason does not stop harder, but closing must leave the facts as they are.
    if (run.stop === undefined || why === "closing") run.stop = why;
    if (run.over || run.killTimer !== undefined) return;
    for (const group of run.groups.values()) signalGroup(group, "SIGTERM");
    run.killTimer = setTimeout(() => {
      for (const group of run.groups.values()) signalGroup(group, "SIGKILL");
    }, KILL_AFTER_MS);
  }

  #armDeadline(run: Run): void {
    if (run.activeDeadlineSeconds === undefined) return;
    const leftMs = run.job.createdAt.getTime() + run.activeDeadlineSeconds * 1000 - Date.now();
    run.deadlineTimer = setTimeout(() => {
      if (leftMs > MAX_TIMER_MS) this.#armDeadline(run);
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
        await this.#save(run, this.#folder(run));
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

  /** The folder appears with its job.json or not at all; no run's name begins with "~". */
  async #makeFolder(run: Run): Promise<void> {
    const staging = join(this.#dir, `~${crypto.randomUUID()}`);
    await Deno.mkdir(staging, { recursive: true });
    await this.#save(run, staging);
    await Deno.rename(staging, this.#folder(run));
  }

  async #save(run: Run, folder: string): Promise<void> {
    const temporary = join(folder, "job.json~");
    await Deno.writeTextFile(temporary, serialize(run));
    await Deno.rename(temporary, join(folder, "job.json"));
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
      const run = await readRun(join(this.#dir, name));
      if (run === undefined || run.job.runName !== name) continue;
      this.#runs.set(name, run);
      if (run.job.end === undefined) await this.#endLost(run);
    }
  }

  /** Its processes were this service's children, so nobody reads their output nor waits for them any more. */
  async #endLost(run: Run): Promise<void> {
    const finishedAt = new Date();
    for (const [index, group] of run.groups) await killLeftBehind(index, group, run);
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
    await this.#save(run, this.#folder(run));
  }
}

// ---------------------------------------------------------------- runs

function newRun(spec: RunSpec): Run {
  const { row, runName } = spec;
  const refuse = (why: string, cause?: unknown) =>
    new RefusedError(`Cannot run job "${row.jobName}" locally: ${why}`, { cause });
  if (row.command === undefined || row.command.length === 0) {
    throw refuse(
      "its command column is empty; only Kubernetes can run the image's own entrypoint. " +
        "Write the command into the row, or set up a cluster",
    );
  }
  // It becomes the name of a folder.
  if (!isRunName(runName)) throw refuse(`"${runName}" is no run name`);
  let env: Record<string, string>;
  try {
    env = messageEnv(spec);
  } catch (error) {
    throw refuse(errorMessage(error), error);
  }
  const job = newFacts(spec);
  const pods = Array.from({ length: row.parallelism }, (_, index): PodFacts => ({
    podName: `${runName}-${index}`,
    runName,
    phase: "Pending",
    node: NODE,
    createdAt: job.createdAt,
    containers: [{ name: CONTAINER_NAME, state: "waiting", reason: "ContainerCreating", restartCount: 0 }],
  }));
  return {
    job,
    pods,
    command: row.command,
    env,
    ...(row.activeDeadlineSeconds === undefined ? {} : { activeDeadlineSeconds: row.activeDeadlineSeconds }),
    ...(row.memoryLimit === undefined ? {} : { memoryLimit: row.memoryLimit }),
    ...idle(),
  };
}

function newFacts(spec: RunSpec): JobFacts {
  const { row, message, payloadLink } = spec;
  return {
    runName: spec.runName,
    jobName: row.jobName,
    topic: message.topic,
    ...(payloadLink === undefined ? { payload: message.payload } : { payloadObject: payloadLink.object }),
    messageHash: spec.messageHash,
    ...(spec.parentRun === undefined ? {} : { parentRun: spec.parentRun }),
    rootRun: spec.rootRun,
    chainDepth: spec.chainDepth,
    image: row.image,
    gpu: row.gpu,
    ...resourcesOf(row),
    receivedAt: spec.receivedAt,
    createdAt: new Date(),
  };
}

function idle(): Pick<Run, "groups" | "logs" | "changes" | "done"> {
  return { groups: new Map(), logs: new Map(), changes: Promise.resolve(), done: Promise.resolve() };
}

/** How the run ended, once all of its processes have; the words are Kubernetes'. */
function endOf(run: Run): NonNullable<JobFacts["end"]> {
  if (run.job.cancelledBy !== undefined) {
    return { type: "Failed", reason: "Cancelled", message: `Cancelled by ${run.job.cancelledBy}` };
  }
  if (run.stop === "deadline") {
    return { type: "Failed", reason: "DeadlineExceeded", message: "Job was active longer than specified deadline" };
  }
  if (run.stop === "deleted") return { type: "Failed", reason: "Deleted", message: "Job was deleted while it ran" };
  if (run.pods.every((pod) => pod.phase === "Succeeded")) return { type: "Complete" };
  return {
    type: "Failed",
    reason: "BackoffLimitExceeded",
    message: "Job has reached the specified backoff limit",
  };
}

function factsOf(run: Run): JobFacts {
  return { ...run.job, manifest: () => keptRun(run) };
}

/** What there is of a Job here. Through JSON: YAML has no `undefined`. */
function keptRun({ job, command, env, memoryLimit, activeDeadlineSeconds }: Run): Record<string, unknown> {
  const kept = Object.fromEntries(Object.entries(env).map(([name, value]) => [name, keptValue(name, value)]));
  return JSON.parse(
    JSON.stringify({ kind: "LocalRun", name: job.runName, command, env: kept, memoryLimit, activeDeadlineSeconds }),
  );
}

function tellAll(events: ClusterEvents, run: Run): void {
  events.onJob(factsOf(run));
  for (const pod of run.pods) events.onPod(pod);
}

// ---------------------------------------------------------------- job.json

function serialize({ job, pods, command, env, groups, memoryLimit, activeDeadlineSeconds }: Run): string {
  const payload = job.payload?.toBase64();
  const saved = { job: { ...job, payload }, pods, command, env, memoryLimit, activeDeadlineSeconds };
  return JSON.stringify({ ...saved, groups: [...groups] }, null, 1);
}

/** undefined: the folder holds no run. */
async function readRun(folder: string): Promise<Run | undefined> {
  let text: string;
  try {
    text = await Deno.readTextFile(join(folder, "job.json"));
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return undefined;
    throw error;
  }
  try {
    const { job, groups, ...rest } = JSON.parse(text, (key, value) => key.endsWith("At") ? new Date(value) : value);
    const payload = job.payload === undefined ? {} : { payload: Uint8Array.fromBase64(job.payload) };
    return { ...rest, job: { ...job, ...payload }, ...idle(), groups: new Map(groups) };
  } catch (error) {
    throw new SyntaxError(`Cannot read ${folder}/job.json: ${errorMessage(error)}; delete the folder`, {
      cause: error,
    });
  }
}

// ---------------------------------------------------------------- processes

/** Absolute path of a program, looked up as execvp(3) does; throws NotFound. */
async function findProgram(name: string, path: string, cwd: string): Promise<string> {
  const candidates = name.includes("/")
    ? [resolve(cwd, name)]
    : path.split(":").filter((folder) => folder !== "").map((folder) => join(folder, name));
  for (const candidate of candidates) {
    const info = await Deno.stat(candidate).catch(() => undefined);
    if (info?.isFile && ((info.mode ?? 0o111) & 0o111) !== 0) return candidate;
  }
  throw new Deno.errors.NotFound(`there is no program "${name}" on this machine`);
}

/** Where the limit cannot be set, the command runs without. */
function limited(bytes: number, command: readonly string[]): string[] {
  const kilobytes = String(Math.max(1, Math.floor(bytes / 1024)));
  return ["/bin/sh", "-c", 'ulimit -v "$0" 2>/dev/null; exec "$@"', kilobytes, ...command];
}

function signalGroup(group: number, signal: Deno.Signal): void {
  try {
    Deno.kill(-group, signal);
  } catch {
    // Dead already.
  }
}

/** Kills what a crashed service left, if /proc can prove that the number is still that process'. */
async function killLeftBehind(index: number, group: number, run: Run): Promise<void> {
  try {
    const environment = (await Deno.readTextFile(`/proc/${group}/environ`)).split("\0");
    const ours = environment.includes(`RUN_NAME=${run.job.runName}`) &&
      (run.pods.length === 1 || environment.includes(`JOB_COMPLETION_INDEX=${index}`));
    if (ours) signalGroup(group, "SIGKILL");
  } catch {
    // Ended, no /proc, or no permission: it will meet a closed pipe at its next line.
  }
}
