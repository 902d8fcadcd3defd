import { deepEqual, equal, match } from "node:assert/strict";
import { judge, type Trouble, withFailingSince } from "../outcome.ts";
import type { ContainerFacts, JobFacts, PodFacts } from "../ports.ts";
import { job, pod } from "./harness/fakes.ts";

const gracePeriods = { imagePullMs: 1000, unschedulableMs: 2000, nodeLostMs: 3000 };
const now = new Date("2026-01-01T00:01:00Z");
const before = (ms: number) => new Date(now.getTime() - ms);

function verdict(facts: Partial<JobFacts>, pods: PodFacts[], noPodReason?: string, trouble?: Trouble) {
  return judge(job(facts), pods, { gracePeriods, now, noPodReason, trouble });
}

function detail(facts: Partial<JobFacts>, pods: PodFacts[], trouble?: Trouble): string {
  const got = verdict(facts, pods, undefined, trouble);
  return got.kind === "ended" ? `ended: ${got.outcome.reason}: ${got.outcome.message}` : `${got.kind}: ${got.detail}`;
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
    [
      "one of three parts",
      FAILED,
      [0, 1, 2].map((index) => pod({ podName: `count-abc-${index}`, index }, index === 1 ? 3 : 0)),
      "ExitCode",
      /^Its program ended with exit code 3 in part 1 \(pod count-abc-1\); the log says more$/,
    ],
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
    [
      "no such part of a GPU",
      { gpu: 1 },
      [pod({
        phase: "Pending",
        containers: [],
        unschedulable: {
          since: before(2500),
          message: "0/1 nodes are available: 1 Insufficient nvidia.com/mig-1g.10gb.",
        },
      })],
      "Unschedulable",
      /none has 1 free GPU /,
    ],
    ["node silent", {}, [pod({ phase: "Running", deletionAt: before(4000) })], "NodeLost", /does not answer/],
  ];
  for (const [name, facts, pods, reason, words] of cases) {
    await t.step(name, () => {
      const got = verdict(facts, pods);
      equal(got.kind, "ended");
      if (got.kind !== "ended") return;
      equal(got.outcome.reason, reason);
      match(got.outcome.message, words);
    });
  }
});

Deno.test("judge() waits during the grace and says until when", () => {
  const got = verdict({}, [waiting("ImagePullBackOff", "Back-off pulling", 400)]);
  equal(got.kind, "pending");
  deepEqual(got.kind === "pending" ? got.recheckAt : undefined, new Date(now.getTime() + 600));
});

Deno.test("judge() does not take a registry's rate limit for a wrong image", () => {
  const got = verdict({}, [waiting("ErrImagePull", "429 Too Many Requests: toomanyrequests", 5000)]);
  equal(got.kind, "pending");
  match(got.kind === "pending" ? got.detail : "", /limits how often/);
});

Deno.test("judge() waits for a full quota, and fails a pod that is refused for good", () => {
  equal(verdict({}, [], "pods is forbidden: exceeded quota: lab").kind, "pending");
  const broken =
    'Error creating: Post "https://10.0.0.1/api/v1/namespaces/lab/pods": stream error: stream ID 425; INTERNAL_ERROR';
  equal(verdict({}, [], broken).kind, "pending");
  const refused = verdict({}, [], "violates PodSecurity");
  equal(refused.kind === "ended" ? refused.outcome.reason : "", "PodRefused");
});

Deno.test("judge() names what a row asks of the cluster and the cluster does not have", async (t) => {
  const scheduler = "0/3 nodes are available: ";
  for (
    const [reason, words] of [
      [
        'Error creating: pods "a-x" is forbidden: no PriorityClass with name gone was found',
        /^The cluster refuses its pod: the priority class "gone" does not exist; check the column priority_class/,
      ],
      [
        'Error creating: pods "a-x" is forbidden: pod rejected: RuntimeClass "gone" not found',
        /^The cluster refuses its pod: the runtime class "gone" does not exist; check the column runtime_class/,
      ],
      [
        'Error creating: pods "a-x" is forbidden: error looking up service account lab/gone: serviceaccount "gone" not found',
        /^The cluster refuses its pod: the service account "gone" does not exist in its namespace/,
      ],
    ] as const
  ) {
    await t.step(reason, () => {
      const got = verdict({}, [], reason);
      match(got.kind === "ended" ? got.outcome.message : "", words);
    });
  }
  await t.step("the account that each namespace gets is only on its way", () => {
    const got = verdict({}, [], 'error looking up service account lab/default: serviceaccount "default" not found');
    equal(got.kind, "pending");
  });
  for (
    const [said, words] of [
      ["3 node(s) didn't match Pod's node affinity/selector.", /no node has the labels that the row asks for/],
      ["1 node(s) didn't find available persistent volumes to bind.", /there is no volume for its claim, which waits/],
      ["3 node(s) had untolerated taint(s).", /all nodes have taints that the row does not tolerate/],
      ["1 node(s) had untolerated taint(s), 2 Insufficient cpu.", /^Waiting for a node: No node can take it: none has/],
    ] as const
  ) {
    await t.step(said, () => {
      const unschedulable = { since: now, message: scheduler + said };
      const got = verdict({}, [pod({ phase: "Pending", unschedulable, containers: [] })]);
      match(got.kind === "pending" ? got.detail : "", words);
    });
  }
});

Deno.test("judge() calls a cancelled run cancelled only when its containers have ended", () => {
  const cancelledBy = "somebody";
  const running = pod({ phase: "Running", containers: [container({ state: "running" })] });
  equal(verdict({ cancelledBy }, [running]).kind, "running");
  const done = verdict({ cancelledBy }, []);
  equal(done.kind === "ended" ? done.outcome.status : "", "cancelled");
});

Deno.test("judge() keeps a success that came before the cancellation took effect", () => {
  const got = verdict({ cancelledBy: "somebody", end: { type: "Complete" } }, [pod()]);
  equal(got.kind === "ended" ? got.outcome.status : "", "succeeded");
});

Deno.test("the grace counts from the first failure that was seen, however long the pod had waited before", () => {
  const failing = (reason: string, ageMs = 60_000) => waiting(reason, "no such image", ageMs);
  const seen = withFailingSince(failing("ErrImagePull"), undefined, before(400));
  equal(verdict({}, [seen]).kind, "pending");
  // Another word for the same failure, later, begins no new grace.
  const later = withFailingSince(failing("ImagePullBackOff"), seen, now);
  deepEqual(later.containers[0]?.failingSince, before(400));
  const got = verdict({}, [later]);
  deepEqual(got.kind === "pending" ? got.recheckAt : undefined, new Date(now.getTime() + 600));
  equal(verdict({}, [withFailingSince(failing("ImagePullBackOff"), undefined, before(1_500))]).kind, "ended");
  // One that was well in between begins anew.
  const well = pod({ phase: "Pending", containers: [container({ reason: "ContainerCreating" })] });
  deepEqual(withFailingSince(failing("ErrImagePull"), well, now).containers[0]?.failingSince, now);
});

Deno.test("a node that pulls as much as it may is no wrong image", () => {
  const got = verdict({}, [waiting("ErrImagePull", "pull QPS exceeded", 5_000)]);
  match(got.kind === "pending" ? got.detail : "", /waits, for its node pulls as many as it may at a time/);
});

Deno.test("judge() says why a run waits", async (t) => {
  const pending = (facts: Partial<PodFacts>) => pod({ phase: "Pending", containers: [], ...facts });
  const init = (facts: Partial<ContainerFacts>) => container({ name: "fetch", kind: "init", ...facts });
  const creating = pending({ node: "n1", containers: [container({ reason: "ContainerCreating" })] });
  const config = (message: string) => waiting("CreateContainerConfigError", message, 0);
  const scheduler = (message: string) => pending({ unschedulable: { since: before(0), message } });
  const cases: [name: string, facts: Partial<JobFacts>, pods: PodFacts[], trouble: string, words: RegExp][] = [
    ["suspended by a person", { suspended: {} }, [], "", /^pending: Suspended: somebody has set `suspend`/],
    [
      "suspended by Kueue",
      { suspended: { queue: "lab" } },
      [],
      "",
      /^pending: Waits in queue "lab" for its turn \(Kueue keeps its Job suspended\)$/,
    ],
    [
      "a gate",
      {},
      [pending({ gates: ["example.com/wait"] })],
      "",
      /the scheduling gate "example.com\/wait" off its pod$/,
    ],
    ["Kueue's gate", {}, [pending({ gates: ["kueue.x-k8s.io/admission"] })], "", /its turn in a queue \(Kueue\)$/],
    [
      "an init container at work",
      {},
      [pending({ containers: [init({ state: "running" }), container({ reason: "PodInitializing" })] })],
      "",
      /^pending: Its init container "fetch" is running$/,
    ],
    [
      "an init container's image",
      {},
      [pending({ createdAt: now, containers: [init({ reason: "ErrImagePull", message: "not found" })] })],
      "",
      /^pending: The image of its init container "fetch" cannot be pulled: there is no such image/,
    ],
    [
      "a missing secret",
      {},
      [config('secret "lab-s3" not found')],
      "",
      /^pending: Its container cannot be started: the secret "lab-s3" does not exist in its namespace \(/,
    ],
    ["a missing config map", {}, [config('configmap "conf" not found')], "", /the config map "conf" does not exist/],
    [
      "a missing key",
      {},
      [config("couldn't find key token in Secret lab/lab-s3")],
      "",
      /the secret lab\/lab-s3 has no key "token"/,
    ],
    [
      "root",
      {},
      [config("container has runAsNonRoot and image will run as root (pod: x)")],
      "",
      /its image runs as root/,
    ],
    [
      "a mount",
      {},
      [creating],
      'MountVolume.SetUp failed for volume "s" : secret "lab-s3" not found',
      /^pending: Its pod cannot be prepared: the secret "lab-s3" does not exist/,
    ],
    ["a mount's key", {}, [creating], "references non-existent secret key: token", /the secret has no key "token"/],
    ["nothing known", {}, [creating], "", /^pending: Its pod is being prepared$/],
    [
      "a missing claim",
      {},
      [scheduler('0/1 nodes are available: persistentvolumeclaim "data" not found.')],
      "",
      /the claim "data" does not exist in its namespace/,
    ],
    [
      "an unbound claim",
      {},
      [scheduler("pod has unbound immediate PersistentVolumeClaims")],
      "",
      /its claim is bound to no volume yet/,
    ],
    [
      "a program that ended beside one that goes on",
      {},
      [
        pod({
          phase: "Running",
          containers: [container({ state: "terminated", exitCode: 0 }), container({ name: "proxy", state: "running" })],
        }),
      ],
      "",
      /^running: Its program has ended \(exit code 0\), but its container "proxy" goes on and holds the pod$/,
    ],
    [
      "a sidecar that fails beside a program that runs",
      {},
      [
        pod({
          phase: "Running",
          containers: [
            container({ name: "proxy", kind: "sidecar", reason: "CrashLoopBackOff" }),
            container({ state: "running" }),
          ],
        }),
      ],
      "",
      /^running: $/,
    ],
  ];
  for (const [name, facts, pods, message, words] of cases) {
    const trouble = message === "" ? undefined : { message, since: before(0) };
    await t.step(name, () => match(detail(facts, pods, trouble), words));
  }
  await t.step("a mount that fails for longer than the grace ends the run", () => {
    match(
      detail({}, [creating], { message: "no such volume", since: before(1_500) }),
      /^ended: CannotStart: Its pod cannot/,
    );
  });
  await t.step("a webhook of the cluster that fails is no fault of the pod", () => {
    equal(verdict({}, [], "failed calling webhook: connection refused").kind, "pending");
  });
});

Deno.test("judge() says of which container an exit code is", async (t) => {
  const done = (facts: Partial<ContainerFacts>) => container({ state: "terminated", exitCode: 0, ...facts });
  const cases: [name: string, containers: ContainerFacts[], words: RegExp][] = [
    [
      "the program",
      [done({ name: "proxy", exitCode: 1 }), done({ exitCode: 3 })],
      /^Its program ended with exit code 3/,
    ],
    [
      "the last line of its output",
      [done({ exitCode: 1, message: "Traceback\n 10%\r\u001b[31mValueError: no units found\u001b[0m\r\n\n" })],
      /^Its program ended with exit code 1: ValueError: no units found; the log says more$/,
    ],
    [
      "an init container",
      [done({ name: "fetch", kind: "init", exitCode: 4 }), container({})],
      /^Its init container "fetch" ended with exit code 4, so that its program was not started/,
    ],
    [
      "another container",
      [done({}), done({ name: "proxy", exitCode: 5 })],
      /^Its container "proxy" ended with exit code 5/,
    ],
    ["a sidecar that was stopped in the end", [
      done({ name: "s", kind: "sidecar", exitCode: 143 }),
      done({ exitCode: 6 }),
    ], /^Its program ended with exit code 6/],
    [
      "memory of another one",
      [done({ name: "proxy", reason: "OOMKilled", exitCode: 137 }), done({})],
      /^Its container "proxy" ran out of memory$/,
    ],
  ];
  for (const [name, containers, words] of cases) {
    await t.step(name, () => {
      const got = verdict(FAILED, [pod({ phase: "Failed", containers })]);
      match(got.kind === "ended" ? got.outcome.message : "", words);
    });
  }
});

Deno.test("a pod that somebody deleted has not failed by the code that its program ends with then", () => {
  const end = (finishedAt: Date, facts: Partial<PodFacts>) =>
    pod({ phase: "Failed", containers: [container({ state: "terminated", exitCode: 3, finishedAt })], ...facts });
  const reasonOf = (pods: PodFacts[]) => {
    const got = verdict(FAILED, pods);
    return got.kind === "ended" ? got.outcome.reason : got.kind;
  };
  const asked = { deletionAskedAt: before(5_000), deletionAt: before(-25_000) };
  equal(reasonOf([end(before(4_000), asked)]), "PodDeleted");
  // It had failed before; then the Job's controller or somebody else tidied up.
  equal(reasonOf([end(before(20_000), asked)]), "ExitCode");
  equal(reasonOf([end(before(4_000), {})]), "ExitCode");
  // Of several, the one that failed by itself; the others were ended with it.
  equal(reasonOf([end(before(4_000), asked), end(before(6_000), {})]), "ExitCode");
  // A rule of the cluster took it away, and says which.
  equal(
    reasonOf([end(before(4_000), { ...asked, disruption: { reason: "PreemptionByScheduler", message: "" } })]),
    "PreemptionByScheduler",
  );
});
