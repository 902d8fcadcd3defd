/** The table of live runs, as the cluster's events and the starter's calls fill it. */
import { deepEqual, equal } from "node:assert/strict";
import type { JobFacts, PodFacts, RunSpec } from "../ports.ts";
import { type LiveRun, RunTable } from "../runs.ts";
import { events, job, pod, row } from "./harness/fakes.ts";

function setUp() {
  const { emit, all } = events();
  const runs = new RunTable({ emit });
  const seen: string[] = [];
  runs.observe({
    onRun: (run: LiveRun, full?: JobFacts) => void seen.push(`run ${run.job.runName}${full ? "" : " without its Job"}`),
    onPod: (_run: LiveRun, { podName }: PodFacts) => void seen.push(`pod ${podName}`),
    onPodGone: (_run: LiveRun, podName: string) => void seen.push(`pod ${podName} gone`),
    onRunGone: ({ job }: LiveRun) => void seen.push(`run ${job.runName} gone`),
    onSynced: () => void seen.push("synced"),
  });
  return { runs, seen, all, tell: runs.clusterEvents };
}

function aSpec(): RunSpec {
  return {
    runName: "count-abc",
    row: row(),
    message: { topic: "lab/count", payload: new Uint8Array() },
    messageHash: "hash",
    root: "rootrootroot",
    rootRun: "count-abc",
    chainDepth: 0,
    receivedAt: new Date(),
  };
}

Deno.test("a pod that is told before its Job is told on when the Job is", () => {
  const { seen, tell } = setUp();
  tell.onPod(pod());
  tell.onJob(job());
  deepEqual(seen, ["run count-abc", "pod count-abc-x"]);
});

Deno.test("a pod that is told long before its Job is told on, whatever is listed meanwhile, unless it is gone", () => {
  const { runs, seen, tell } = setUp();
  tell.onPod(pod({ podName: "count-abc-w" }));
  tell.onPod(pod({ phase: "Running" }));
  tell.onPod(pod());
  tell.onSynced();
  tell.onPodGone("count-abc-w", "count-abc");
  tell.onJob(job());
  deepEqual(seen, ["synced", "run count-abc", "pod count-abc-x"]);
  deepEqual([...runs.get("count-abc")!.pods.values()].map(({ phase }) => phase), ["Succeeded"]);
});

Deno.test("a run that this service deleted is known for a while, and a late event of its Job is none", () => {
  const { runs, seen, tell } = setUp();
  const createdAt = new Date();
  tell.onJob(job({ createdAt }));
  runs.deleted("count-abc");
  tell.onJob(job({ createdAt }));
  tell.onPod(pod());
  equal(runs.knows("count-abc"), true);
  equal(runs.get("count-abc"), undefined);
  deepEqual(seen, ["run count-abc"]);
});

Deno.test("a run that is over before the answer to its create call comes is not live again", () => {
  const { runs, seen, tell } = setUp();
  runs.creating("count-abc");
  tell.onJob(job());
  runs.deleted("count-abc");
  equal(runs.created(aSpec()).job.runName, "count-abc");
  tell.onJobGone("count-abc", job());
  deepEqual([runs.size, runs.get("count-abc")], [0, undefined]);
  deepEqual(seen, ["run count-abc"]);
});

Deno.test("a Job of the name of one that was deleted, made after it, is told as one that another process made", () => {
  const { runs, seen, tell } = setUp();
  const createdAt = new Date();
  tell.onJob(job({ createdAt }));
  runs.deleted("count-abc");
  tell.onJob(job({ createdAt: new Date(createdAt.getTime() + 1_000) }));
  deepEqual(seen, ["run count-abc", "run count-abc"]);
  equal(runs.get("count-abc")?.adopted, true);
});

Deno.test("a Job that somebody else deleted is told as gone, once", () => {
  const { seen, tell } = setUp();
  tell.onJob(job());
  tell.onJobGone("count-abc", job());
  tell.onJobGone("count-abc", job());
  deepEqual(seen, ["run count-abc", "run count-abc gone"]);
});

Deno.test("a run whose create call is under way counts, and is not adopted when the watch tells it first", () => {
  const { runs, tell } = setUp();
  runs.creating("count-abc");
  equal(runs.size, 1);
  equal(runs.knows("count-abc"), true);
  tell.onJob(job());
  equal(runs.get("count-abc")?.adopted, false);
  runs.creating("other");
  runs.notCreated("other");
  equal(runs.knows("other"), false);
});

Deno.test("findByMessage() finds a run of an equal message, live or ended lately", () => {
  const { runs, tell } = setUp();
  tell.onJob(job({ runName: "count-a", messageHash: "m" }));
  equal(runs.findByMessage("count", "m"), "count-a");
  equal(runs.findByMessage("sum", "m"), undefined);
  runs.deleted("count-a");
  equal(runs.findByMessage("count", "m"), "count-a");
});

Deno.test("findByMessage() does not forget a run when an equal message's earlier one is forgotten", () => {
  const { runs, tell } = setUp();
  const now = Date.now;
  try {
    tell.onJob(job({ runName: "count-a", messageHash: "m" }));
    runs.deleted("count-a");
    tell.onJob(job({ runName: "count-b", messageHash: "m" }));
    Date.now = () => now() + 3_600_000;
    tell.onJob(job({ runName: "count-c", messageHash: "n" }));
    // What ended an hour ago is forgotten when another one ends.
    runs.deleted("count-c");
    equal(runs.knows("count-a"), false);
    equal(runs.findByMessage("count", "m"), "count-b");
  } finally {
    Date.now = now;
  }
});
