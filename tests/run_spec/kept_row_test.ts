import { deepEqual, throws } from "node:assert/strict";
import { keptRow } from "../../run_spec.ts";
import { earlierAttempts, keyOfCause, runNameFor } from "../../run_spec.ts";
import { rowWith } from "../catalog/kit.ts";
import { row } from "../harness/fakes.ts";

/** A row with all that an attempt is made of. */
const CELLS: Record<string, string> = {
  command: "sort.py",
  args: "--in {payload.file=none} {topic[1]}",
  env: "A={payload.x}; B=secret:lab/key; C=config:lab/key; D=field:spec.nodeName; secret:all",
  mounts: "pvc:data/raw:/data:ro; secret:lab/key:/etc/key; config:lab:/etc/lab; memory:1Gi:/dev/shm; scratch:/tmp",
  working_dir: "/data/{payload.uuid}",
  run_as: "1000:100",
  cpu_request: "500m",
  cpu_limit: "2",
  memory_request: "1Gi",
  memory_limit: "1Gi, 2Gi",
  disk_limit: "10Gi",
  disk_mount: "/scratch",
  gpu: "1",
  gpu_product: "NVIDIA-A10, NVIDIA-L4",
  resources: "rdma/ib=1",
  node_selector: "zone in (a,b), !spot, cores>8",
  node_preference: "zone=a",
  tolerations: "nvidia.com/gpu:NoSchedule; *",
  labels: "team={payload.team=lab}",
  annotations: "example.org/run={run_name}",
  inputs: "uuid, mode=fast|slow",
  output: "s3://lab/{payload.uuid}.zip",
  retries: "3",
  retry_on: "75, NodeLost",
  rerun_after_disruption: "no",
  owner: "Ada",
  notify: "imaging",
  max_runs: "2",
  concurrency_group: "microscope-{payload.instrument}",
};

Deno.test("a row that went through a Job is the same row", () => {
  const [given] = rowWith(CELLS).rows;
  deepEqual(keptRow(JSON.stringify(given)), JSON.parse(JSON.stringify(given)));
  deepEqual(keptRow(JSON.stringify(row())), row());
});

Deno.test("what is no row is not taken for one, whoever wrote it", () => {
  const wrong: Record<string, unknown>[] = [
    { image: 7 },
    { command: "rm -rf /" },
    { command: [1] },
    { args: ["--in"] },
    { env: [{ from: "secret", name: "A" }] },
    { env: [{ from: "everywhere", name: "A" }] },
    { mounts: [{ from: "host", path: "/" }] },
    { memoryLimits: [] },
    { memoryLimits: ["much"] },
    { memoryLimit: "8 elephants" },
    { parallelism: 0 },
    { retries: -1 },
    { retryOn: [{ code: 75 }] },
    { labels: { team: "lab" } },
    { runAs: "root" },
    { output: "s3://lab" },
  ];
  for (const change of wrong) throws(() => keptRow(JSON.stringify({ ...row(), ...change })), SyntaxError);
  for (const text of ["", "null", "[]", "7", "{", "[".repeat(100_000)]) throws(() => keptRow(text), SyntaxError);
});

Deno.test("the attempts before one are found by its name, and no more of them than are wanted", () => {
  const firstRun = "count-aaaaaaaaaaaaaaaa";
  const nameOf = (attempt: number) => runNameFor(row(), { key: keyOfCause.attempt(firstRun, attempt) });
  const at = (attempt: number) => ({ runName: nameOf(attempt), jobName: "count", attempt, firstRun });
  deepEqual(earlierAttempts(at(4), 10), [firstRun, nameOf(2), nameOf(3)]);
  deepEqual(earlierAttempts(at(999_999), 2), [nameOf(999_997), nameOf(999_998)]);
  deepEqual(earlierAttempts({ runName: firstRun, jobName: "count" }, 10), []);
  const indexed = row({ parallelism: 4, jobName: "a row with quite a long name, of which its runs keep a part only" });
  const of = (attempt: number) => runNameFor(indexed, { key: keyOfCause.attempt("first", attempt) });
  const { jobName } = indexed;
  deepEqual(earlierAttempts({ runName: of(3), jobName, attempt: 3, firstRun: "first" }, 10), ["first", of(2)]);
});
