/** A view of a service that is busy: many rows, live runs and ended ones, the same at each call. For weights and times. */
import { parseTable } from "../../catalog/table.ts";
import type { RunRecord, RunView } from "../../ports.ts";
import type { StatusView } from "../../status/view.ts";
import { aRecord, aRunView } from "./fakes.ts";
import { fakeView, PREFIX } from "./page_kit.ts";

export interface BusyOptions {
  readonly rows?: number;
  readonly live?: number;
  readonly ended?: number;
  readonly now?: number;
}

/** 89 characters, of two scripts, with no place to break it. */
export const LONG_NAME = `${"神経".repeat(10)}${"x".repeat(69)}`;

const WHY = [
  ["OOMKilled", "Out of memory: the limit is 8Gi; raise memory_limit or use less"],
  ["ExitCode", `The program ended with exit code 1: no "spike_times" in /data/2026-11-25-e-hc52/original/data.h5`],
  ["NodeLost", "Its node gpu-node-4 does not answer any more; run it again"],
] as const;

/** The name of the row at that place; one of them is `LONG_NAME`. */
function rowName(at: number): string {
  const words = ["spike-sorting", "quality-control", "curate", "cell-assemblies", "lfp-power", "plot-summary"];
  if (at === 2) return LONG_NAME;
  return at < words.length ? words[at]! : `${words[at % words.length]}-${at}`;
}

const runName = (at: number, number: number) =>
  `${rowName(at).replaceAll(/[^a-z0-9-]/g, "x").slice(0, 46)}-${
    number.toString(32).padStart(12, "a").replaceAll(/[01]/g, "z")
  }`;

/** What it shows. */
export function busyView(
  { rows = 300, live = 1_000, ended = 1_900, now = Date.now() }: BusyOptions = {},
): StatusView & {
  readonly liveRuns: () => RunView[];
} {
  const lines = Array.from({ length: rows }, (_, at) => `${rowName(at)},lab/${at}/uploaded,lab/x:1,Ada,4Gi`);
  const table = parseTable(`job_name,mqtt_topic,image,owner,memory_request\n${lines.join("\n")}\n`, {
    topicPrefix: PREFIX,
  });
  const past = Array.from({ length: ended }, (_nothing, number): RunRecord => {
    const at = number % Math.min(rows, 60);
    const end = now - 60_000 * (number + 1);
    const why = WHY[number % WHY.length]!;
    const how = number % 17 === 3
      ? { status: "failed", reason: why[0], message: why[1] } as const
      : number % 41 === 5
      ? { status: "cancelled", reason: "Cancelled", message: "Cancelled by Ada" } as const
      : {};
    return aRecord({
      run_name: runName(at, number + 10_000),
      job_name: rowName(at),
      started_at: new Date(end - 1_000 * (20 + (number * 37) % 600)).toISOString(),
      finished_at: new Date(end).toISOString(),
      node: `gpu-node-${at % 5}`,
      owner: "Ada",
      ...how,
    });
  });
  const alive = Array.from({ length: live }, (_nothing, number): RunView => {
    const at = number % Math.min(rows, 40);
    const received = { receivedAt: new Date(now - 60_000 * (number + 1)) };
    const { startedAt: _, ...waiting } = aRunView({
      runName: runName(at, number),
      jobName: rowName(at),
      state: "pending",
      detail: "No node has a free GPU: 0/12 nodes are available, 12 Insufficient nvidia.com/gpu",
      nodes: [],
      ...received,
    });
    if (number % 4 === 3) return waiting;
    return { ...waiting, state: "running", detail: "", nodes: [`gpu-node-${at % 5}`], startedAt: received.receivedAt };
  });
  return { ...fakeView({ table, live: alive, ended: past }), liveRuns: () => alive };
}
