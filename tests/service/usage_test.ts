/** The most that a run was seen to use: sums over its pods, highest of all samples, and nobody to ask. */
import { deepEqual, equal } from "node:assert/strict";
import { recordOf, withLog } from "../../completion/record.ts";
import { type Cluster, type PodUsage, RefusedError, UnavailableError } from "../../ports.ts";
import { type LiveRun, RunTable } from "../../runs.ts";
import { sampleUsage } from "../../service/usage.ts";
import { job, pod } from "../harness/fakes.ts";
import { eventually } from "../harness/wait.ts";

const RUN = "count-abcdefghijkl";

function startBed(answers: (PodUsage[] | Error)[]) {
  const runs = new RunTable({ emit: () => {} });
  const full = job({ runName: RUN });
  runs.clusterEvents.onJob(full);
  for (const podName of ["one", "two"]) runs.clusterEvents.onPod(pod({ podName, runName: RUN }));
  const run = runs.get(RUN)!;
  run.state = "running";
  const stop = new AbortController();
  const offs: string[] = [];
  let calls = 0;
  const cluster: Pick<Cluster, "podUsage"> = {
    podUsage() {
      calls++;
      const answer = answers.shift() ?? [];
      return answer instanceof Error ? Promise.reject(answer) : Promise.resolve(answer);
    },
  };
  const onOff = (reason: string) => void offs.push(reason);
  const done = sampleUsage({ cluster, runs, intervalMs: 1, retryMs: 1, signal: stop.signal, onOff }).catch(() => {});
  return {
    run,
    offs,
    calls: () => calls,
    full,
    async [Symbol.asyncDispose]() {
      stop.abort();
      await done;
    },
  };
}

const usage = (podName: string, cpu: number, memory: number): PodUsage => ({ podName, runName: RUN, cpu, memory });
const record = ({ run, full }: { run: LiveRun; full: ReturnType<typeof job> }) =>
  recordOf(run, full, { status: "succeeded", reason: "Completed", message: "It succeeded" }, "");

Deno.test("the peak is the highest sum over a run's pods, of memory and of cores each by itself", async () => {
  await using bed = startBed([
    [usage("one", 0.5, 100), usage("two", 0.5, 200)],
    [usage("one", 1.2345678, 250)],
    [usage("one", 0, 280), usage("foreign", 64, 1e12)],
  ]);
  await eventually(() => bed.calls() > 3);
  const { peak_memory, peak_cpu } = record(bed);
  deepEqual([peak_memory, peak_cpu], [300, 1.235]);
});

Deno.test("nobody is asked while nothing runs", async () => {
  const stop = new AbortController();
  let [looks, calls] = [0, 0];
  const runs = { get: () => undefined, values: () => (looks++, [].values()) };
  const cluster = { podUsage: () => (calls++, Promise.resolve([])) };
  const done = sampleUsage({ cluster, runs, intervalMs: 1, signal: stop.signal }).catch(() => {});
  await eventually(() => looks > 5);
  stop.abort();
  await done;
  equal(calls, 0);
});

Deno.test("a missing API is said once, and looked for again; one that is away is no news", async () => {
  const refused = () => new RefusedError("Cannot ask what pods use: no metrics-server");
  await using bed = startBed([new UnavailableError("away"), refused(), refused(), refused(), [usage("one", 1, 42)]]);
  await eventually(() => bed.run.peak !== undefined);
  deepEqual(bed.offs, ["Cannot ask what pods use: no metrics-server"]);
  equal(record(bed).peak_memory, 42);
});

Deno.test("what GNU time says in the log counts where it is more, or nothing was measured", async () => {
  await using bed = startBed([[usage("one", 1, 300)]]);
  await eventually(() => bed.run.peak !== undefined);
  const withTime = (residentBytes: number | undefined) => {
    const log = { bytes: 0, complete: true, missing: undefined, residentBytes };
    return withLog(record(bed), bed.run, { log, events: [] }).peak_memory;
  };
  deepEqual([withTime(undefined), withTime(200), withTime(1_000)], [300, 300, 1_000]);
  delete bed.run.peak;
  deepEqual([withTime(undefined), withTime(200)], [undefined, 200]);
});
