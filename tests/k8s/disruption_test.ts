/** What Kubernetes is told of disruptions and further attempts, and what it says of memory. */
import { deepEqual, equal, throws } from "node:assert/strict";
import type { V1Job } from "@kubernetes/client-node";
import { jobFacts, podFacts } from "../../k8s/facts.ts";
import { ANNOTATION } from "../../k8s/labels.ts";
import { buildJob } from "../../k8s/manifest.ts";
import { judge } from "../../outcome.ts";
import type { PodFacts, Row, RunSpec } from "../../ports.ts";
import { job, pod, row } from "../harness/fakes.ts";

const OPTIONS = { namespace: "lab", instance: "lab-a", ttlSecondsAfterFinished: 60 };

function made(cells: Partial<Row>, more: Partial<RunSpec> = {}): V1Job {
  return buildJob({
    runName: "count-abcdefghijkl",
    row: row(cells),
    message: { topic: "lab/count", payload: new Uint8Array() },
    messageHash: "h",
    root: "rootrootroot",
    rootRun: "count-abcdefghijkl",
    chainDepth: 0,
    receivedAt: new Date(0),
    ...more,
  }, OPTIONS);
}

Deno.test("a pod that is taken away is ignored, or fails the Job where it must not run twice, whatever backoff_limit", () => {
  const onPodConditions = [{ type: "DisruptionTarget", status: "True" }];
  for (const backoffLimit of [0, 3]) {
    for (const [rerunAfterDisruption, action] of [[true, "Ignore"], [false, "FailJob"]] as const) {
      const { spec } = made({ backoffLimit, rerunAfterDisruption });
      deepEqual(spec!.podFailurePolicy, { rules: [{ action, onPodConditions }] });
      deepEqual([spec!.podReplacementPolicy, spec!.template.spec!.restartPolicy], ["Failed", "Never"]);
    }
  }
});

Deno.test("the Job of a run that is tried again keeps its row, and lives longer than any wait", () => {
  equal(made({}).spec!.ttlSecondsAfterFinished, 60);
  equal(made({}).metadata!.annotations![ANNOTATION.row], undefined);
  const retried = made({ retries: 2 }, { attempt: 3, firstRun: "count-aaaaaaaaaaaa", rung: 1 });
  equal(retried.spec!.ttlSecondsAfterFinished, 3_600);
  const facts = jobFacts(JSON.parse(JSON.stringify(retried)));
  deepEqual([facts.attempt, facts.firstRun, facts.rung], [3, "count-aaaaaaaaaaaa", 1]);
  deepEqual(facts.row!(), row({ retries: 2 }));
  const forged = JSON.parse(JSON.stringify(retried));
  forged.metadata.annotations[ANNOTATION.row] = '{"jobName":"count","image":"evil","line":1,"command":"sh"}';
  throws(() => jobFacts(forged).row!(), SyntaxError);
});

Deno.test("a rung of the ladder is the limit of the container, and its request has risen with it", () => {
  const cells = { memoryRequest: "4Gi", memoryLimit: "8Gi", memoryLimits: ["8Gi", "16Gi"] };
  const resources = (rung?: number) =>
    made(cells, rung === undefined ? {} : { rung }).spec!.template.spec!.containers[0]!.resources;
  deepEqual(resources(), { requests: { memory: "4Gi" }, limits: { memory: "8Gi" } });
  deepEqual(resources(1), { requests: { memory: "8Gi" }, limits: { memory: "16Gi" } });
});

Deno.test("that a container ran out of memory is known whatever its code, and after it was started again", () => {
  const oom = (status: object) =>
    podFacts({ status: { containerStatuses: [{ name: "main", restartCount: 0, ...status }] } } as never)
      .containers[0]!.oomKilled;
  const killed = { terminated: { reason: "OOMKilled", exitCode: 0 } };
  equal(oom({ state: killed }), true);
  equal(oom({ state: { running: {} }, lastState: killed }), true);
  equal(oom({ state: { terminated: { reason: "Error", exitCode: 137 } } }), undefined);
});

const DISRUPTION = { reason: "TerminationByKubelet", message: "The node was low on resource: memory" };
const EVICTED: PodFacts = { ...pod({ podName: "a", reason: "Evicted", disruption: DISRUPTION }, 137) };
const JUDGED = { gracePeriods: { imagePullMs: 1e6, unschedulableMs: 1e6, nodeLostMs: 1e6 }, now: new Date() };

Deno.test("a pod that was taken away says nothing of a run that goes on, nor of one that failed by another pod", () => {
  const waiting = pod({ podName: "b", phase: "Pending", containers: [] });
  equal(judge(job(), [EVICTED, waiting], JUDGED).kind, "pending");
  deepEqual(judge(job(), [EVICTED], JUDGED), { kind: "pending", detail: "Waiting for its pod to be created" });
  const reasonOf = (reason: string, pods: PodFacts[]) => {
    const verdict = judge(job({ end: { type: "Failed", reason } }), pods, JUDGED);
    return verdict.kind === "ended" ? verdict.outcome.reason : verdict.kind;
  };
  equal(reasonOf("BackoffLimitExceeded", [EVICTED, pod({ podName: "b" }, 3)]), "ExitCode");
  const drained = pod({ podName: "a", disruption: { reason: "EvictionByEvictionAPI", message: "evicting" } }, 143);
  equal(reasonOf("PodFailurePolicy", [pod({ podName: "b" }, 3), drained]), "EvictionByEvictionAPI");
  equal(reasonOf("PodFailurePolicy", [drained]), "EvictionByEvictionAPI");
});
