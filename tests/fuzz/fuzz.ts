/** Feeds one target for a time, or a number of inputs, and keeps what broke a promise. */
import { cpuUsage } from "node:process";
import { errorMessage } from "../../util/errors.ts";
import { cacheFolder } from "../harness/cache.ts";
import { inputOf } from "./mutate.ts";
import { TARGETS } from "./targets.ts";

export interface Finding {
  readonly target: string;
  /** Makes the input again: `--seed=NUMBER --target=TARGET`. */
  readonly number: number;
  readonly words: string;
  /** The input. */
  readonly file: string;
}

/** Processor time that one input may take, compiling and collecting garbage included. */
const MOST_MS = 1_000;
const MOST_FINDINGS = 20;

export async function fuzz(
  name: string,
  { from, forMs = Infinity, inputs: most = Infinity }: { from: number; forMs?: number; inputs?: number },
): Promise<{ inputs: number; findings: Finding[] }> {
  await using target = await TARGETS[name]!();
  const findings: Finding[] = [];
  const until = performance.now() + forMs;
  let inputs = 0;
  for (; inputs < most && performance.now() < until && findings.length < MOST_FINDINGS; inputs++) {
    const number = (from + inputs) >>> 0;
    const text = inputOf(number, target.seeds);
    const before = cpuUsage();
    let words: string | undefined;
    try {
      await target.run(text, number);
    } catch (error) {
      const frame = error instanceof Error
        ? /\n\s+at (?:.*\()?file:\/\/\S*\/((?:\w+\/)?\w+\.tsx?:\d+)/.exec(error.stack ?? "")?.[1]
        : "";
      words = `${error instanceof Error ? error.name : "thrown"}: ${errorMessage(error).slice(0, 300)} (${
        frame ?? "?"
      })`;
    }
    const { user, system } = cpuUsage(before);
    const tookMs = (user + system) / 1_000;
    if (words === undefined && tookMs > MOST_MS) words = `took ${(tookMs / 1_000).toFixed(1)} s`;
    if (words !== undefined) findings.push({ target: name, number, words, file: await keep(name, number, text) });
  }
  return { inputs, findings };
}

async function keep(target: string, number: number, text: string): Promise<string> {
  const folder = `${cacheFolder()}/fuzz`;
  await Deno.mkdir(folder, { recursive: true });
  await Deno.writeTextFile(`${folder}/${target}-${number}.txt`, text);
  return `${folder}/${target}-${number}.txt`;
}
