/**
 * Child processes of tests: start, wait until ready, end by process id, show the end of the log when something fails.
 * Output goes straight into a file, so a busy test never has to pump it. Never ends a process by its name.
 */
import { eventually, pause } from "./wait.ts";

export interface SpawnOptions {
  /** Short name for messages and files, such as `mosquitto`. */
  name: string;
  command: string;
  args?: readonly string[];
  env?: Record<string, string>;
  /** Start with only `env`, without this process's environment. */
  clearEnv?: boolean;
  cwd?: string;
  /** Folder for `{name}.log` and `{name}.pid`; must exist. A log is appended to, so restarts are seen in one file. */
  dir: string;
  /** Looked at until true; an error means "not yet". */
  ready?: () => boolean | Promise<boolean>;
  /** Default 120,000: what waits in vain ends by it, not what is late on a busy machine. */
  readyTimeoutMs?: number;
}

/** A running or ended child process. Disposing it stops it. */
export class ManagedProcess implements AsyncDisposable {
  readonly name: string;
  readonly pid: number;
  readonly logFile: string;
  readonly #child: Deno.ChildProcess;
  readonly #pidFile: string;
  #status: Deno.CommandStatus | undefined;
  /** Resolves when the process has ended, by itself or not. */
  readonly ended: Promise<Deno.CommandStatus>;

  constructor(child: Deno.ChildProcess, options: SpawnOptions) {
    this.#child = child;
    this.name = options.name;
    this.pid = child.pid;
    this.logFile = `${options.dir}/${options.name}.log`;
    this.#pidFile = `${options.dir}/${options.name}.pid`;
    this.ended = child.status.then((status) => (this.#status = status));
    // A test that fails before it disposes must not keep the whole run open.
    child.unref();
  }

  /** How it ended; undefined while it runs. */
  get status(): Deno.CommandStatus | undefined {
    return this.#status;
  }

  /** Sends a signal; does nothing when the process is gone. SIGCONT ends freeze(). */
  signal(signal: Deno.Signal): void {
    if (this.#status === undefined) trySignal(this.pid, signal);
  }

  /** SIGSTOP; resolves when all of its threads have stopped: one may have answered a last call until then. */
  async freeze(): Promise<void> {
    this.signal("SIGSTOP");
    const stopped = async () => {
      for await (const { name } of Deno.readDir(`/proc/${this.pid}/task`)) {
        const stat = await Deno.readTextFile(`/proc/${this.pid}/task/${name}/stat`);
        if (stat.slice(stat.lastIndexOf(")") + 2)[0] !== "T") return false;
      }
      return true;
    };
    await eventually(stopped, { intervalMs: 5, what: `process ${this.pid} to stop` });
  }

  /**
   * SIGTERM, then SIGKILL after `graceMs`, which ends what hangs, not what is late on a busy machine: HiveMQ takes seconds
   * on an idle one, and what is killed meanwhile may not have written what it keeps. Resolves when the process is gone.
   */
  async stop({ graceMs = 60_000 }: { graceMs?: number } = {}): Promise<Deno.CommandStatus> {
    this.signal("SIGTERM");
    // A frozen process would not see the SIGTERM.
    this.signal("SIGCONT");
    const deadline = performance.now() + graceMs;
    while (this.#status === undefined && performance.now() < deadline) await pause(10);
    return await this.kill9();
  }

  /** SIGKILL. Resolves when the process is gone. */
  async kill9(): Promise<Deno.CommandStatus> {
    this.signal("SIGKILL");
    this.#child.ref();
    const status = await this.ended;
    await Deno.remove(this.#pidFile).catch(() => {});
    return status;
  }

  /** The whole log as text. */
  log(): Promise<string> {
    return Deno.readTextFile(this.logFile);
  }

  /** The last lines of the log. */
  async logTail(lines = 20): Promise<string> {
    return (await this.log()).trimEnd().split("\n").slice(-lines).join("\n");
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.stop();
  }
}

/** Starts a process and waits for it to be ready. When it ends early or is late, it is ended and the log is shown. */
export async function spawn(options: SpawnOptions): Promise<ManagedProcess> {
  const { name, command, args = [], env = {}, clearEnv = false, dir, ready, readyTimeoutMs = 120_000 } = options;
  const child = new Deno.Command("/bin/sh", {
    // exec keeps the process id; the shell is only here to open the log file.
    args: ["-c", 'log=$1; shift; exec "$@" >>"$log" 2>&1', "sh", `${dir}/${name}.log`, command, ...args],
    env,
    clearEnv,
    ...(options.cwd === undefined ? {} : { cwd: options.cwd }),
    stdin: "null",
    stdout: "null",
    stderr: "null",
  }).spawn();
  const process = new ManagedProcess(child, options);
  const identity = processIdentity(process.pid);
  await Deno.writeTextFile(`${dir}/${name}.pid`, `${process.pid} ${identity ?? "gone"}\n`);
  if (ready === undefined) return process;
  try {
    await eventually(() => process.status !== undefined || ready(), {
      timeoutMs: readyTimeoutMs,
      intervalMs: 25,
      what: `${name} to be ready`,
    });
    if (process.status !== undefined) throw new Error(`${name} ended with exit code ${process.status.code}`);
  } catch (error) {
    await process.kill9();
    throw new Error(`Cannot start ${name}: ${(error as Error).message}\n${await process.logTail()}`, { cause: error });
  }
  return process;
}

/** Runs a command to its end and returns its standard output; throws with its standard error when it fails. */
export async function run(
  command: string,
  args: readonly string[],
  options: { cwd?: string; env?: Record<string, string> } = {},
): Promise<string> {
  const output = await new Deno.Command(command, { args: [...args], stdin: "null", ...options }).output();
  const text = new TextDecoder();
  if (!output.success) {
    throw new Error(`${command} ${args[0] ?? ""} ended with exit code ${output.code}: ${text.decode(output.stderr)}`);
  }
  return text.decode(output.stdout);
}

/** Runs a command that reads `input` from its standard input; what it says on both outputs. */
export async function runOn(
  input: string,
  command: string,
  args: readonly string[],
  options: { cwd?: string | URL } = {},
): Promise<{ code: number; said: string }> {
  const process = new Deno.Command(command, {
    args: [...args],
    ...options,
    stdin: "piped",
    stdout: "piped",
    stderr: "piped",
  }).spawn();
  const writer = process.stdin.getWriter();
  await writer.write(new TextEncoder().encode(input));
  await writer.close();
  const { code, stdout, stderr } = await process.output();
  const text = new TextDecoder();
  return { code, said: text.decode(stdout) + text.decode(stderr) };
}

/**
 * What tells a process from a later one with the same id: its start time in clock ticks since boot (field 22 of
 * /proc/PID/stat, proc(5)). Undefined when there is no such process or it is a zombie.
 */
export function processIdentity(pid: number): string | undefined {
  try {
    const stat = Deno.readTextFileSync(`/proc/${pid}/stat`);
    // The second field, the name, may hold blanks and brackets.
    const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
    return fields[0] === "Z" ? undefined : fields[19];
  } catch {
    return undefined;
  }
}

/** Words of this process by which `isOfDead` tells later whether it still lives. */
export function ownMark(): string {
  return `${Deno.pid} ${processIdentity(Deno.pid)}`;
}

/** Whether the process of the mark is gone. False of an empty one, which is being written. */
export function isOfDead(mark: string): boolean {
  const [pid, identity] = mark.trim().split(" ");
  return identity !== undefined && processIdentity(Number(pid)) !== identity;
}

/** Sends a signal and says whether there was a process to get it. */
export function trySignal(pid: number, signal: Deno.Signal): boolean {
  try {
    Deno.kill(pid, signal);
    return true;
  } catch {
    return false;
  }
}

/** Ends what the pid files of a folder name, if it is still the same process; for folders whose owner has died. */
export async function endLeftovers(dir: string): Promise<void> {
  const ended: { pid: number; identity: string }[] = [];
  for await (const entry of Deno.readDir(dir)) {
    if (!entry.name.endsWith(".pid")) continue;
    const [pid, identity] = (await Deno.readTextFile(`${dir}/${entry.name}`)).trim().split(" ");
    if (identity === undefined || processIdentity(Number(pid)) !== identity) continue;
    trySignal(Number(pid), "SIGKILL");
    ended.push({ pid: Number(pid), identity });
  }
  await eventually(() => ended.every(({ pid, identity }) => processIdentity(pid) !== identity), {
    what: `the leftover processes of ${dir} to end`,
  });
}
