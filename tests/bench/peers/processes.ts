/**
 * What /proc says of all processes of a contestant together, also of those that have ended. Starts and ends none.
 */
import { cpuSeconds } from "../measure.ts";
import { pause } from "../../harness/wait.ts";

/** Processor time and memory of a group of processes whose members change. Disposing it ends the sampling. */
export class Group implements AsyncDisposable {
  readonly #pids: () => readonly number[];
  readonly #cpu = new Map<number, number>();
  #peakMb = 0;
  #ended = false;
  readonly #sampling: Promise<void>;

  /** `pids` is asked again and again. */
  constructor(pids: () => readonly number[]) {
    this.#pids = pids;
    this.#sampling = this.#sample();
  }

  /** Seconds of user and system time since each process began; of one that has ended, as last seen. */
  cpu(): number {
    for (const pid of this.#pids()) {
      try {
        this.#cpu.set(pid, cpuSeconds(pid));
      } catch (error) {
        if (!isOfOneThatEnded(error)) throw error;
      }
    }
    return [...this.#cpu.values()].reduce((sum, one) => sum + one, 0);
  }

  /** The highest sum of resident memory in MB that was seen. */
  get peakMb(): number {
    return this.#peakMb;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#ended = true;
    await this.#sampling;
  }

  async #sample(): Promise<void> {
    while (!this.#ended) {
      this.cpu();
      this.#peakMb = Math.max(this.#peakMb, residentMb(this.#pids()));
      await pause(100);
    }
  }
}

/** In MB (10^6 bytes). Pages of a program's file are counted once for all processes of that program. */
export function residentMb(pids: readonly number[]): number {
  const files = new Map<string, number>();
  let own = 0;
  for (const pid of pids) {
    try {
      const status = Deno.readTextFileSync(`/proc/${pid}/status`);
      const kb = (name: string) => Number(new RegExp(`^${name}:\\s+(\\d+) kB`, "m").exec(status)?.[1] ?? 0);
      own += kb("RssAnon") + kb("RssShmem");
      const program = Deno.readLinkSync(`/proc/${pid}/exe`);
      files.set(program, Math.max(files.get(program) ?? 0, kb("RssFile")));
    } catch (error) {
      if (!isOfOneThatEnded(error)) throw error;
    }
  }
  return [...files.values()].reduce((sum, one) => sum + one, own) * 1024 / 1e6;
}

/** With threads still on their way out there is a folder of a process, but nothing to read. */
function isOfOneThatEnded(error: unknown): boolean {
  return error instanceof Deno.errors.NotFound || /ESRCH|No such process/.test(String(error));
}
