import { deepStrictEqual, match, strictEqual } from "node:assert/strict";
import { judge } from "../outcome.ts";
import type { ContainerFacts, JobFacts, PodFacts } from "../ports.ts";
import { job, pod } from "./harness/fakes.ts";

const gracePeriods = { imagePullMs: 1000, unschedulableMs: 2000, nodeLostMs: 3000 };
const now = new Date("2026-01-01T00:01:00Z");
const before = (ms: number) => new Date(now.getTime() - ms);

function verdict(facts: Partial<JobFacts>, pods: PodFacts[], noPodReason?: string) {
  return judge(job(facts), pods, { gracePeriods, now, ...(noPodReason ? { noPodReason } : {}) });
}

function container(facts: Partial<ContainerFacts>): ContainerFacts {
  return { name: "main", state: "waiting", restartCount: 0, ...facts };
}

function waiting(reason: string, message: string, ageMs: number): PodFacts {
  return pod({ phase: "Pending", createdAt: before(ageMs), containers: [container({ reason, message })] });
}

const FAILED = { end: { type: "Failed" as const, reason: "BackoffLimitExceeded" } };

Deno.test("judge() names the reason of each end in words", async (t) => {
  const cases: [string, Partial<JobFacts>, PodFacts[], string, RegExp][] = [
    ["success", { end: { type: "Complete" } }, [pod()], "Completed", /without error/],
    ["exit code", FAILED, [pod({}, 3)], "ExitCode", /exit code 3/],
    [
      "out of memory",
      { ...FAILED, limits: { memory: "8Gi" } },
      [pod({ containers: [container({ state: "terminated", reason: "OOMKilled", exitCode: 137 })] }, 137)],
      "OOMKilled",
      /Out of memory: the limit is 8Gi/,
    ],
    [
      "eviction for disk",
      { ...FAILED, limits: { "ephemeral-storage": "20Gi" } },
      [pod({ reason: "Evicted", message: "Pod ephemeral local storage usage exceeds" }, 1)],
      "Evicted",
      /disk limit is 20Gi/,
    ],
    ["deadline", { end: { type: "Failed", reason: "DeadlineExceeded" } }, [pod({}, 143)], "DeadlineExceeded", /longer/],
    ["pod deleted", FAILED, [], "PodDeleted", /^Somebody deleted its pod before it had ended/],
    [
      "pod deleted while its program ran, which then ended with a code of its own",
      FAILED,
      [pod({ deletionAt: new Date(Date.now() + 30_000), deletionAskedAt: before(3e9) }, 3)],
      "PodDeleted",
      /^Somebody deleted its pod; its program then ended with exit code 3; run it again$/,
    ],
    [
      "pod deleted after its program had failed",
      FAILED,
      [pod({ deletionAskedAt: new Date(Date.now() + 60_000) }, 3)],
      "ExitCode",
      /exit code 3/,
    ],
    [
      "one of several pods has failed, the others were deleted for that",
      FAILED,
      [pod({ podName: "a", deletionAskedAt: before(3e9) }, 143), pod({ podName: "b" }, 3)],
      "ExitCode",
      /exit code 3/,
    ],
    [
      "node taken away",
      FAILED,
      [pod({ disruption: { reason: "DeletionByTaintManager", message: "the node is gone" } }, 137)],
      "DeletionByTaintManager",
      /run it again/,
    ],
    ["wrong image", {}, [waiting("ErrImagePull", "not found", 1500)], "ImagePull", /no such image or tag/],
    ["invalid image name", {}, [waiting("InvalidImageName", "bad", 0)], "ImagePull", /not valid/],
    [
      "no such GPU",
      { gpu: 4 },
      [pod({
        phase: "Pending",
        containers: [],
        unschedulable: { since: before(2500), message: "0/1 nodes are available: 1 Insufficient nvidia.com/gpu." },
      })],
      "Unschedulable",
      /none has 4 free GPUs/,
    ],
    ["node silent", {}, [pod({ phase: "Running", deletionAt: before(4000) })], "NodeLost", /does not answer/],
  ];
  for (const [name, facts, pods, reason, words] of cases) {
    await t.step(name, () => {
      const got = verdict(facts, pods);
      strictEqual(got.kind, "ended");
      if (got.kind !== "ended") return;
      strictEqual(got.outcome.reason, reason);
      match(got.outcome.message, words);
    });
  }
});

Deno.test("judge() waits during the grace and says until when", () => {
  const got = verdict({}, [waiting("ImagePullBackOff", "Back-off pulling", 400)]);
  strictEqual(got.kind, "pending");
  deepStrictEqual(got.kind === "pending" ? got.recheckAt : undefined, new Date(now.getTime() + 600));
});

Deno.test("judge() does not take a registry's rate limit for a wrong image", () => {
  const got = verdict({}, [waiting("ErrImagePull", "429 Too Many Requests: toomanyrequests", 5000)]);
  strictEqual(got.kind, "pending");
  match(got.kind === "pending" ? got.detail : "", /limits how often/);
});

Deno.test("judge() waits for a full quota, and fails a pod that is refused for good", () => {
  strictEqual(verdict({}, [], "pods is forbidden: exceeded quota: lab").kind, "pending");
  const refused = verdict({}, [], "violates PodSecurity");
  strictEqual(refused.kind === "ended" ? refused.outcome.reason : "", "PodRefused");
});

Deno.test("judge() calls a cancelled run cancelled only when its containers have ended", () => {
  const cancelledBy = "somebody";
  const running = pod({ phase: "Running", containers: [container({ state: "running" })] });
  strictEqual(verdict({ cancelledBy }, [running]).kind, "running");
  const done = verdict({ cancelledBy }, []);
  strictEqual(done.kind === "ended" ? done.outcome.status : "", "cancelled");
});

Deno.test("judge() keeps a success that came before the cancellation took effect", () => {
  const got = verdict({ cancelledBy: "somebody", end: { type: "Complete" } }, [pod()]);
  strictEqual(got.kind === "ended" ? got.outcome.status : "", "succeeded");
});
