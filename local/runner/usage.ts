/**
 * What the processes of local runs use, by `ps`, which Linux and macOS have alike: Deno reads /proc with all rights only.
 * Owns what is needed to make cores of seconds of processor time.
 */
import { RefusedError } from "../../ports.ts";
import { errorMessage } from "../../util/errors.ts";

/** Of a process group. */
export interface GroupUsage {
  /** Cores, since the sample before; 0 in the first one. */
  readonly cpu: number;
  /** Bytes. */
  readonly memory: number;
}

export class ProcessUsage {
  /** Seconds of processor time of each group, at the sample before. */
  #before = new Map<number, number>();
  #beforeMs = 0;

  /** Of all process groups of this machine, by their number. Throws RefusedError where nobody says it. */
  async sample(): Promise<Map<number, GroupUsage>> {
    let text: string;
    try {
      const { stdout } = await new Deno.Command("ps", { args: ["-A", "-o", "pgid=,rss=,time="], stderr: "null" })
        .output();
      text = new TextDecoder().decode(stdout);
    } catch (error) {
      throw new RefusedError(`Cannot ask ps what processes use: ${errorMessage(error)}`, { cause: error });
    }
    const nowMs = performance.now();
    const groups = groupsIn(text);
    const seconds = (nowMs - this.#beforeMs) / 1_000;
    const usage = new Map([...groups].map(([group, { busySeconds, memory }]) => {
      const before = this.#before.get(group);
      // A process that has ended takes its time along.
      const cpu = before === undefined ? 0 : Math.max(0, busySeconds - before) / seconds;
      return [group, { cpu, memory }];
    }));
    this.#before = new Map([...groups].map(([group, { busySeconds }]) => [group, busySeconds]));
    this.#beforeMs = nowMs;
    return usage;
  }
}

/** Sums of the lines of `ps` by process group; memory in bytes. */
function groupsIn(text: string): Map<number, { busySeconds: number; memory: number }> {
  const groups = new Map<number, { busySeconds: number; memory: number }>();
  for (const line of text.split("\n")) {
    const [group = "", kibibytes = "", time = ""] = line.trim().split(/\s+/);
    const busySeconds = secondsIn(time);
    if (!/^\d+$/.test(group) || !/^\d+$/.test(kibibytes) || busySeconds === undefined) continue;
    const sum = groups.get(Number(group)) ?? { busySeconds: 0, memory: 0 };
    sum.busySeconds += busySeconds;
    sum.memory += Number(kibibytes) * 1_024;
    groups.set(Number(group), sum);
  }
  return groups;
}

/** `[[days-]hours:]minutes:seconds[.hundredths]` */
function secondsIn(time: string): number | undefined {
  const [, days = "0", hours = "0", minutes, seconds] = /^(?:(?:(\d+)-)?(\d+):)?(\d+):(\d+(?:\.\d+)?)$/.exec(time) ??
    [];
  if (minutes === undefined || seconds === undefined) return undefined;
  return ((Number(days) * 24 + Number(hours)) * 60 + Number(minutes)) * 60 + Number(seconds);
}
