/**
 * One run of the local runner: its facts in Kubernetes' words, made of its spec, and `job.json`, by which they outlive
 * the service. Owns that file's shape. Must not start, stop or wait for a process.
 */
import { basename, join } from "node:path";
import { type JobFacts, type PodFacts, RefusedError, type RunSpec } from "../../ports.ts";
import {
  CONTAINER_NAME,
  Filler,
  isRetried,
  isRunName,
  keptRow,
  keptValue,
  lineageOf,
  messageEnv,
  outputOf,
  resourcesOf,
} from "../../run_spec.ts";
import { compact } from "../../util/compact.ts";
import { errorMessage } from "../../util/errors.ts";
import { readAtMost } from "../../util/streams.ts";
import type { RunLog } from "./log.ts";
import { type Wanted, wantedBy } from "./secrets.ts";

/** The node's name in all facts. */
const NODE = "local";

/** Why the processes of a run are being stopped. */
export type Stop = "cancelled" | "deadline" | "failed" | "deleted" | "closing";

export interface Run {
  job: JobFacts;
  readonly pods: PodFacts[];
  readonly command: readonly string[];
  readonly env: Readonly<Record<string, string>>;
  /** Where the processes start, if this machine has that folder. */
  readonly workingDir?: string;
  /** What it takes of secrets and config maps. Not in `job.json`: its processes do not outlive the service. */
  readonly wanted?: Wanted;
  /** Columns of the row that need Kubernetes and do nothing here. */
  readonly leftOut?: readonly string[];
  readonly activeDeadlineSeconds?: number;
  readonly memoryLimit?: string;
  /** As JSON, where a further attempt may be made of it. */
  readonly row?: string;
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

/**
 * A run that is to be made. Throws RefusedError for one that no process can do. `hasSecrets`: this machine has a folder of
 * secrets and config maps.
 */
export function newRun(spec: RunSpec, { hasSecrets = false }: { hasSecrets?: boolean } = {}): Run {
  const { row, runName } = spec;
  const refuse = (why: string, cause?: unknown) =>
    new RefusedError(`Cannot run job "${row.jobName}" locally: ${why}`, { cause });
  if (row.command === undefined || row.command.length === 0) {
    throw refuse(
      "its command column is empty; only Kubernetes can run the image's own entrypoint. " +
        "Write the command into the row, or set up a cluster",
    );
  }
  if ((row.completions ?? row.parallelism) > row.parallelism) {
    throw refuse("only Kubernetes runs more parts (completions) than there are at a time (parallelism)");
  }
  // It becomes the name of a folder.
  if (!isRunName(runName)) throw refuse(`"${runName}" is no run name`);
  let env: Record<string, string>;
  try {
    env = messageEnv(spec);
  } catch (error) {
    throw refuse(errorMessage(error), error);
  }
  const filler = new Filler(spec);
  const args = (row.args ?? []).map((word) => filler.fill(word, "args"));
  const variables = Object.fromEntries(
    (row.env ?? []).flatMap((entry) => entry.from === "value" ? [[entry.name, filler.fill(entry.value, "env")]] : []),
  );
  const workingDir = row.workingDir && filler.fill(row.workingDir, "working_dir");
  const job = newFacts(spec);
  const pods = Array.from({ length: row.parallelism }, (_, index): PodFacts => ({
    podName: `${runName}-${index}`,
    runName,
    phase: "Pending",
    node: NODE,
    createdAt: job.createdAt,
    ...(row.parallelism > 1 ? { index } : {}),
    containers: [{ name: CONTAINER_NAME, state: "waiting", reason: "ContainerCreating", restartCount: 0 }],
  }));
  return {
    job,
    pods,
    command: [...row.command, ...args],
    env: { ...env, ...variables },
    ...compact({ workingDir }),
    leftOut: leftOutHere(row, hasSecrets),
    ...compact({
      wanted: hasSecrets ? wantedBy(row) : undefined,
      activeDeadlineSeconds: row.activeDeadlineSeconds,
      memoryLimit: resourcesOf(row, spec.rung).limits["memory"],
      row: isRetried(row) ? JSON.stringify(row) : undefined,
    }),
    ...idle(),
  };
}

/** Columns that a process of this machine cannot follow, and that are not about the place where Kubernetes runs it. */
function leftOutHere({ env, mounts, runAs, diskMount, podTemplate }: RunSpec["row"], hasSecrets: boolean): string[] {
  const wants = (...kinds: string[]) => env?.some(({ from }) => kinds.includes(from)) ?? false;
  const isEnvLeftOut = wants("field") || (!hasSecrets && wants("secret", "config", "all"));
  const fields = hasSecrets ? "fields of the pod" : "secrets, config maps and fields of the pod; see LOCAL_SECRETS_DIR";
  const linked = mounts?.some(({ from }) => from === "secret" || from === "config") && hasSecrets;
  return [
    ...(isEnvLeftOut ? [`env (${fields})`] : []),
    ...(mounts ? [linked ? "mounts (secrets and config maps are below $LOCAL_MOUNTS)" : "mounts"] : []),
    ...(diskMount === undefined ? [] : ["disk_mount"]),
    ...(runAs ? ["run_as"] : []),
    ...(podTemplate === undefined ? [] : ["pod_template"]),
  ];
}

function newFacts(spec: RunSpec): JobFacts {
  const { row, message, payloadLink } = spec;
  return {
    runName: spec.runName,
    jobName: row.jobName,
    topic: message.topic,
    ...(payloadLink === undefined ? { payload: message.payload } : { payloadObject: payloadLink.object }),
    messageHash: spec.messageHash,
    ...lineageOf(spec),
    ...compact({ owner: row.owner, output: outputOf(spec), concurrency: spec.concurrency }),
    ...compact({ activeDeadlineSeconds: row.activeDeadlineSeconds }),
    image: row.image,
    gpu: row.gpu,
    ...resourcesOf(row, spec.rung),
    receivedAt: spec.receivedAt,
    createdAt: new Date(),
    ...(spec.heldFor === undefined ? {} : { heldFor: spec.heldFor, suspended: {} }),
  };
}

function idle(): Pick<Run, "groups" | "logs" | "changes" | "done"> {
  return { groups: new Map(), logs: new Map(), changes: Promise.resolve(), done: Promise.resolve() };
}

/** How the run ended, once all of its processes have; the words are Kubernetes'. */
export function endOf(run: Run): NonNullable<JobFacts["end"]> {
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

/** The facts as they are told, with what the run's record keeps of it. */
export function factsOf(run: Run): JobFacts {
  const { row } = run;
  return { ...run.job, manifest: () => keptRun(run), ...(row === undefined ? {} : { row: () => keptRow(row) }) };
}

/** What there is of a Job here. Through JSON: YAML has no `undefined`. */
function keptRun({ job, command, env, memoryLimit, activeDeadlineSeconds }: Run): Record<string, unknown> {
  const kept = Object.fromEntries(Object.entries(env).map(([name, value]) => [name, keptValue(name, value)]));
  return JSON.parse(
    JSON.stringify({ kind: "LocalRun", name: job.runName, command, env: kept, memoryLimit, activeDeadlineSeconds }),
  );
}

// ---------------------------------------------------------------- job.json

/** Writes the run's `job.json` into `folder`, whole or not at all. */
export async function saveRun(run: Run, folder: string): Promise<void> {
  const temporary = join(folder, "job.json~");
  await Deno.writeTextFile(temporary, serialize(run));
  await Deno.rename(temporary, join(folder, "job.json"));
}

function serialize(
  { job, pods, command, env, groups, memoryLimit, activeDeadlineSeconds, workingDir, leftOut, row }: Run,
): string {
  const payload = job.payload?.toBase64();
  const saved = {
    job: { ...job, payload },
    pods,
    command,
    env,
    memoryLimit,
    activeDeadlineSeconds,
    workingDir,
    leftOut,
    row,
  };
  return JSON.stringify({ ...saved, groups: [...groups] }, null, 1);
}

/** Largest job.json that is read: one with the largest payload has less than 1 MiB. */
const MAX_JOB_BYTES = 4 * 1024 * 1024;

/**
 * The run of a folder; undefined: it holds none. Throws SyntaxError where its job.json is not one that `saveRun` wrote:
 * a command has the rights to write there.
 */
export async function readRun(folder: string): Promise<Run | undefined> {
  const path = join(folder, "job.json");
  const name = basename(folder);
  try {
    // Not a link, nor a pipe, which would be waited for.
    if (!(await Deno.lstat(path)).isFile) throw new SyntaxError("it is no file");
    const text = new TextDecoder().decode(await readAtMost((await Deno.open(path)).readable, MAX_JOB_BYTES));
    const saved = JSON.parse(text, (key, value) => key.endsWith("At") ? new Date(value) : value);
    if (!isSaved(saved, name)) throw new SyntaxError("it is not as it was written");
    const { job: { payload, ...job }, groups, ...rest } = saved;
    const bytes = typeof payload === "string" ? { payload: Uint8Array.fromBase64(payload) } : {};
    return { ...rest, job: { ...job, ...bytes }, ...idle(), groups: new Map(groups) };
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return undefined;
    throw new SyntaxError(`Cannot read ${folder}/job.json: ${errorMessage(error)}; delete the folder`, {
      cause: error,
    });
  }
}

/** A run as it stands in job.json. */
type Saved = Omit<Run, "groups" | "logs" | "changes" | "done" | "job"> & {
  readonly job: Omit<JobFacts, "payload"> & { readonly payload?: unknown };
  readonly groups: [index: number, group: number][];
};

function isSaved(value: unknown, runName: string): value is Saved {
  const { job, pods, command, groups, row } = (value ?? {}) as { [K in keyof Saved]?: unknown };
  const isObject = (one: unknown): one is Record<string, unknown> => typeof one === "object" && one !== null;
  const isTime = (one: unknown) => one instanceof Date && !Number.isNaN(one.getTime());
  return isObject(job) && job["runName"] === runName && typeof job["jobName"] === "string" &&
    isTime(job["createdAt"]) && isTime(job["receivedAt"]) &&
    (row === undefined || typeof row === "string") &&
    Array.isArray(pods) && pods.length > 0 && pods.every((pod, index) => {
      return isObject(pod) && pod["podName"] === `${runName}-${index}` && isTime(pod["createdAt"]) &&
        Array.isArray(pod["containers"]) && isObject(pod["containers"][0]);
    }) &&
    Array.isArray(command) && command.every((word) => typeof word === "string") &&
    // A group of 1 or less would be every process there is.
    Array.isArray(groups) && groups.every((one) => Array.isArray(one) && Number.isSafeInteger(one[1]) && one[1] > 1);
}
