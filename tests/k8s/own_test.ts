/** k8s/own.ts: which Jobs and pods this service can have made; on a real cluster in k8s_test.ts. */
import { equal, match } from "node:assert/strict";
import fc from "fast-check";
import { jobFacts, type Json } from "../../k8s/facts.ts";
import { buildJob } from "../../k8s/manifest.ts";
import { jobFault, podFault } from "../../k8s/own.ts";
import { runNameFor } from "../../run_spec.ts";
import type { V1Job, V1Pod } from "@kubernetes/client-node";
import { row } from "../harness/fakes.ts";

const options = { namespace: "lab", instance: "test", ttlSecondsAfterFinished: 60 };

function made(jobName: string, parallelism = 1, topic = "lab/x", payload = new Uint8Array()): Json<V1Job> {
  const ours = row({ jobName, parallelism });
  const runName = runNameFor(ours, { epoch: "e", number: 1, messageHash: "h" });
  const job = buildJob({
    runName,
    row: ours,
    message: { topic, payload },
    messageHash: "h",
    root: "rootrootroot",
    rootRun: runName,
    chainDepth: 0,
    receivedAt: new Date(),
  }, options);
  return JSON.parse(JSON.stringify(job));
}

Deno.test("each Job that the service makes is known again as its own, whatever its row is called", () => {
  const name = fc.string({ unit: "binary", minLength: 1, maxLength: 200 })
    // deno-lint-ignore no-control-regex
    .filter((text) => text.length <= 200 && text.isWellFormed() && !/[/+#\0-\x1f\x7f]/.test(text));
  fc.assert(
    fc.property(
      name,
      fc.integer({ min: 1, max: 3 }),
      fc.uint8Array({ maxLength: 2_000 }),
      (jobName, parallelism, payload) => {
        equal(jobFault(made(jobName, parallelism, "lab/x", Uint8Array.from(payload)), "test"), undefined);
      },
    ),
  );
});

Deno.test("no change of a Job's labels and annotations by strangers breaks the reading of it", () => {
  const texts = fc.dictionary(fc.string({ maxLength: 40 }), fc.string({ maxLength: 300 }));
  fc.assert(
    fc.property(texts, texts, fc.anything(), (labels, annotations, spec) => {
      const good = made("count");
      const job = { ...good, metadata: { ...good.metadata, labels, annotations }, spec } as unknown as Json<V1Job>;
      match(String(jobFault(job, "test")), /^its label app\.kubernetes\.io\/managed-by is not /);
    }),
  );
});

Deno.test("what a message may have put into a Job is read, or left out, and never a fault", () => {
  const job = made("count");
  const notes = job.metadata!.annotations as Record<string, string>;
  notes["mqtt-job-listener/parent-run"] = "../../evil";
  notes["mqtt-job-listener/root-run"] = "x".repeat(10_000);
  notes["mqtt-job-listener/chain-depth"] = "1e9";
  notes["mqtt-job-listener/received-at"] = "never";
  notes["mqtt-job-listener/cancelled-by"] = "y".repeat(100_000);
  equal(jobFault(job, "test"), undefined);
  const facts = jobFacts(job);
  equal(facts.parentRun, undefined);
  equal(facts.rootRun, facts.runName);
  equal(facts.chainDepth, 0);
  equal(facts.cancelledBy!.length < 2_100, true);
});

Deno.test("a pod is one of the service's only where a Job of its run owns it", () => {
  const pod = (owner: Record<string, unknown> | undefined, run = "count-aaaaaaaaaaaa") =>
    ({
      metadata: { name: "p", labels: { "mqtt-job-listener/run": run }, ...(owner ? { ownerReferences: [owner] } : {}) },
    }) as unknown as Json<V1Pod>;
  const owner = { kind: "Job", name: "count-aaaaaaaaaaaa", uid: "1", controller: true };
  const uidOf = (runName: string) => runName === "count-aaaaaaaaaaaa" ? "1" : undefined;
  equal(podFault(pod(owner), uidOf), undefined);
  // Its Job may come after it.
  equal(podFault(pod(owner), () => undefined), undefined);
  match(podFault(pod(undefined), uidOf)!, /^no Job "count-a+" owns it$/);
  match(podFault(pod({ ...owner, kind: "ReplicaSet" }), uidOf)!, /^no Job/);
  match(podFault(pod({ ...owner, controller: false }), uidOf)!, /^no Job/);
  match(podFault(pod({ ...owner, name: "other" }), uidOf)!, /^no Job/);
  match(podFault(pod({ ...owner, uid: "2" }), uidOf)!, /^it belongs to another Job/);
  match(podFault(pod(owner, "../x"), uidOf)!, /^no Job "\.\.\/x" owns it$/);
});
