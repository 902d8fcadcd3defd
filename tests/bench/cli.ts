/**
 * Measurement of the commands' start: each from the bundle, beside an empty program of Deno's in the same run, by turns.
 * The best of ten, for what the machine does besides only adds. Judges nothing.
 */
import { LocalStore } from "../../local/store.ts";
import { RunRecords } from "../../records.ts";
import { aRecord } from "../harness/fakes.ts";
import { removeFolder, scratchFolder } from "../harness/folder.ts";
import { bundleEntry } from "../harness/bundled.ts";
import { atMost, type Measurement, type Sample } from "./measure.ts";

const PROJECT = new URL("../../", import.meta.url).pathname;
const TABLE = `${PROJECT}tests/data/jobs-lab-2023-08.csv`;
const TIMES = 10;
const RECORDS = 100;

const LINES: Readonly<Record<string, readonly string[]>> = {
  help: ["help"],
  version: ["version"],
  check: ["check", TABLE],
  explain: ["explain", "experiments/upload", '{"uuid":"x"}'],
  graph: ["graph", TABLE],
  runs: ["runs"],
  completions: ["completions", "bash"],
};

/** By name. */
export const CLI: Readonly<Record<string, Measurement>> = {
  "cli": {
    figures: Object.fromEntries(
      Object.keys(LINES).map((name) => [`cli-${name}`, { unit: "ms", goal: atMost(300, "value") }]),
    ),
    run: commands,
  },
};

async function commands(repeats: number): Promise<Sample[]> {
  const bundle = await bundleEntry();
  const dir = await scratchFolder("bench-cli");
  try {
    const empty = `${dir}/empty.js`;
    await Deno.writeTextFile(empty, "");
    const records = new RunRecords(new LocalStore(`${dir}/runs`));
    for (let n = 0; n < RECORDS; n++) await records.put(aRecord({ run_name: `align-${n}` }));
    const env = { CATALOG_URL: TABLE, RUNS_URL: `${dir}/runs`, LOGS_URL: `${dir}/logs` };
    const samples: Sample[] = [];
    for (let repeat = 0; repeat < repeats; repeat++) {
      const best: Record<string, { value: number; limit: number }> = {};
      // Once more than is counted: Deno keeps what it has compiled.
      for (let time = 0; time <= TIMES; time++) {
        for (const [name, line] of Object.entries(LINES)) {
          const limit = await spentMs([empty], env);
          const value = await spentMs([bundle, ...line], env);
          const before = best[`cli-${name}`] ?? { value: Infinity, limit: Infinity };
          if (time === 0) continue;
          best[`cli-${name}`] = { value: Math.min(before.value, value), limit: Math.min(before.limit, limit) };
        }
      }
      samples.push(best);
    }
    return samples;
  } finally {
    await removeFolder(dir);
  }
}

async function spentMs(args: readonly string[], env: Record<string, string>): Promise<number> {
  const begun = performance.now();
  const output = await new Deno.Command(Deno.execPath(), { args: ["run", "-A", ...args], env }).output();
  const ms = performance.now() - begun;
  if (!output.success) throw new Error(`${args.join(" ")}: ${new TextDecoder().decode(output.stderr)}`);
  return ms;
}
