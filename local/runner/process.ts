/**
 * Processes of the local runner: finds a row's program, starts it in a group of its own with the environment that it is
 * given and no other, and signals the group. Knows nothing of how a run stands.
 */
import { join, resolve } from "node:path";
import { quantityValue } from "../../util/quantities.ts";

const USUAL_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin:/opt/homebrew/bin";

/** What a process is started with. */
export interface ProcessOptions {
  readonly command: readonly string[];
  /** Its working folder; made if it is missing. */
  readonly cwd: string;
  /** All that its environment holds beside `PATH` and `HOME`. */
  readonly env: Readonly<Record<string, string>>;
  /** Default: the usual one. */
  readonly path?: string | undefined;
  /** Default: `cwd`. */
  readonly home?: string | undefined;
  /** A Kubernetes quantity. */
  readonly memoryLimit?: string | undefined;
}

/** Starts a process; throws NotFound where there is no such program. */
export async function startProcess(
  { command, cwd, env, path = USUAL_PATH, home = cwd, memoryLimit }: ProcessOptions,
): Promise<Deno.ChildProcess> {
  await Deno.mkdir(cwd, { recursive: true });
  const [name = "", ...args] = command;
  const program = await findProgram(name, path, cwd);
  const limit = memoryLimit === undefined ? undefined : quantityValue(memoryLimit);
  const line = limit === undefined ? [program, ...args] : limited(limit, [program, ...args]);
  return new Deno.Command(line[0]!, {
    args: line.slice(1),
    cwd,
    clearEnv: true,
    env: { ...env, PATH: path, HOME: home },
    stdin: "null",
    stdout: "piped",
    stderr: "piped",
    // A process group of its own, so that what it starts is stopped with it.
    detached: true,
  }).spawn();
}

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

/** Signals all processes of a group; one that is dead already is left alone. */
export function signalGroup(group: number, signal: Deno.Signal): void {
  try {
    Deno.kill(-group, signal);
  } catch {
    // Dead already.
  }
}

/** Kills what a crashed service left, if /proc can prove that the number is still that process'. `index`: of several. */
export async function killLeftBehind(
  group: number,
  { runName, index }: { runName: string; index: number | undefined },
): Promise<void> {
  try {
    const environment = (await Deno.readTextFile(`/proc/${group}/environ`)).split("\0");
    const ours = environment.includes(`RUN_NAME=${runName}`) &&
      (index === undefined || environment.includes(`JOB_COMPLETION_INDEX=${index}`));
    if (ours) signalGroup(group, "SIGKILL");
  } catch {
    // Ended, no /proc, or no permission: it will meet a closed pipe at its next line.
  }
}
