/**
 * Measurements of how runs end: from a Job's end to its announcement, calls of the API server a run, whole cycles on fake
 * nodes. The limits are taken by turns with the values.
 */
import type { V1Job } from "@kubernetes/client-node";
import { BUSYBOX_IMAGE } from "../harness/cluster.ts";
import { followJobs } from "../harness/job_watch.ts";
import { MqttEar } from "../harness/service.ts";
import { startBundled } from "../harness/bundled.ts";
import { eventually } from "../harness/wait.ts";
import { atLeast, atMost, cpuSeconds, type Measurement, percentile, type Sample } from "./measure.ts";
import { serveFakeLogs } from "./fake_kubelet.ts";
import { benchRow, Scene, type SceneOptions } from "./scene.ts";

const PREFIX = "services/mqtt_job_listener";

/** By name. */
export const ENDS: Readonly<Record<string, Measurement>> = {
  "completion": {
    figures: {
      "completion-p50": { unit: "ms", goal: atMost(3) },
      "api-calls-per-run": { unit: "calls", goal: atMost(4, "value") },
    },
    run: completion,
  },
  "full-cycle": {
    figures: {
      "full-cycle": { unit: "runs/s", goal: atLeast(0.8) },
      "full-cycle-cpu": { unit: "% of a core", goal: atMost(25, "value") },
    },
    // Thousands of runs each way are a mean by themselves.
    once: true,
    run: fullCycle,
  },
};

const AUDIT_POLICY = `apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
rules:
- level: Metadata
  users: ["system:serviceaccount:default:bench"]
- level: None
`;
const COMPLETIONS = 12;

/** Runs in real containers, one after the other. Calls are counted in the API server's audit log, by who made them. */
async function completion(repeats: number): Promise<Sample[]> {
  const dir = await Deno.makeTempDir({ prefix: "bench-" });
  await Deno.writeTextFile(`${dir}/policy.yaml`, AUDIT_POLICY);
  const auditFlags = [`--audit-policy-file=${dir}/policy.yaml`, `--audit-log-path=${dir}/audit.log`];
  await using scene = await Scene.start({
    rows: [benchRow("ends", "lab/ends", { command: "echo done" })],
    cluster: { node: "real", apiServerFlags: auditFlags },
    bare: true,
  });
  const roleYaml = await Deno.readTextFile(new URL("../../deploy/role.yaml", import.meta.url));
  const kubeconfig = await scene.kit.cluster.serviceAccountKubeconfig({ roleYaml, name: "bench" });
  await using _service = await startBundled({ ...scene.env, KUBECONFIG: kubeconfig });
  await using ear = await MqttEar.connect(scene.kit.broker.url, [`${PREFIX}/job_complete/#`]);
  await using ends = await EndClock.start(scene);
  const { api } = scene.kit.cluster;
  const samples: Sample[] = [];
  for (let repeat = 0; repeat < repeats; repeat++) {
    const [value, limit]: [number[], number[]] = [[], []];
    const callsBefore = await auditCalls(`${dir}/audit.log`);
    for (let count = 0; count < COMPLETIONS; count++) {
      const before = ear.heard.length;
      await scene.publish(["lab/ends"]);
      const heard = await eventually(() => ear.heard[before], { timeoutMs: 60_000, intervalMs: 5 });
      const { run_name } = JSON.parse(heard.text);
      const endedAt = await eventually(() => ends.endedAt.get(run_name), { what: `the end of ${run_name}` });
      value.push(heard.at - endedAt);
      await eventually(async () => await api.find(`/apis/batch/v1/namespaces/default/jobs/${run_name}`) === undefined);
      limit.push(await bareEnd(scene, ear));
    }
    const calls = await auditCalls(`${dir}/audit.log`) - callsBefore;
    samples.push({
      "completion-p50": { value: percentile(value, 50), limit: percentile(limit, 50) },
      "api-calls-per-run": { value: calls / COMPLETIONS },
    });
  }
  await Deno.remove(dir, { recursive: true });
  return samples;
}

/** One log read, one put, one QoS 1 publish, in milliseconds. */
async function bareEnd(scene: Scene, ear: MqttEar): Promise<number> {
  const { api } = scene.kit.cluster;
  const pod = {
    metadata: { name: "bare-log" },
    spec: {
      restartPolicy: "Never",
      containers: [{ name: "main", image: BUSYBOX_IMAGE, command: ["echo", "done"] }],
    },
  };
  const path = "/api/v1/namespaces/default/pods/bare-log";
  if (await api.find(path) === undefined) await api.create("/api/v1/namespaces/default/pods", pod);
  await eventually(async () => (await api.get<{ status: { phase: string } }>(path)).status.phase === "Succeeded", {
    timeoutMs: 30_000,
  });
  const before = ear.heard.length;
  const begun = Date.now();
  const log = await api.text(`${path}/log`);
  await scene.kit.s3.put(`s3://${scene.kit.s3.buckets[0]}/bare.txt`, log);
  await scene.publisher.publishAsync(`${PREFIX}/job_complete/bare`, log, { qos: 1 });
  // The time of receipt, as for the value.
  return (await eventually(() => ear.heard[before], { intervalMs: 5 })).at - begun;
}

/** Calls of the service that are no long watch and no lease. */
async function auditCalls(file: string): Promise<number> {
  const lines = (await Deno.readTextFile(file).catch(() => "")).trim().split("\n").filter((line) => line !== "");
  const calls = lines.map((line) => JSON.parse(line) as { verb: string; stage: string; requestURI: string });
  return calls.filter(({ verb, stage }) => stage === "ResponseComplete" && verb !== "watch").length;
}

/** When each Job was seen as ended, in milliseconds since the epoch, as MqttEar has its times. */
export class EndClock implements AsyncDisposable {
  readonly endedAt = new Map<string, number>();
  readonly #onEnd: (name: string) => void;
  #stream: AsyncDisposable | undefined;

  private constructor(onEnd: (name: string) => void) {
    this.#onEnd = onEnd;
  }

  static async start(
    scene: Scene,
    namespace: "default" | "bare" = "default",
    onEnd: (name: string) => void = () => {},
  ): Promise<EndClock> {
    const clock = new EndClock(onEnd);
    const events = { onJob: (job: V1Job) => clock.#take(job), onGone() {}, onList() {} };
    clock.#stream = await followJobs(scene.kit.cluster.api, events, namespace);
    return clock;
  }

  #take({ metadata, status }: V1Job): void {
    const name = metadata!.name!;
    const ended = status?.conditions?.some(({ type }) => /^(Complete|Failed)$/.test(type));
    if (!ended || this.endedAt.has(name)) return;
    this.endedAt.set(name, Date.now());
    this.#onEnd(name);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#stream?.[Symbol.asyncDispose]();
  }
}

/** What whole runs are measured on: fake nodes, and controllers that keep up. */
export const CYCLES: Pick<SceneOptions, "cluster"> = {
  cluster: {
    node: "kwok",
    controllerFlags: ["--kube-api-qps=500", "--kube-api-burst=1000", "--concurrent-job-syncs=20"],
  },
};

/**
 * The limit: the same Jobs without the service, deleted as they end, from the first create call to the last end; what
 * controllers, scheduler and fake nodes can do. By turns, in the same cluster, each from an empty one.
 */
async function fullCycle(repeats: number, messages: number): Promise<Sample[]> {
  const runs = Math.round(messages * 0.4);
  await using scene = await Scene.start({
    rows: [benchRow("cycle", "lab/cycle")],
    ...CYCLES,
  });
  await using _logs = await serveFakeLogs(scene.kit.cluster);
  await using ear = await MqttEar.connect(scene.kit.broker.url, [`${PREFIX}/job_complete/#`, `${PREFIX}/job_failed/#`]);
  // The watches of both stand in both turns.
  const bareJobs = "/apis/batch/v1/namespaces/bare/jobs";
  const { api } = scene.kit.cluster;
  await using bareEnds = await EndClock.start(scene, "bare", (name) => {
    void api.request("DELETE", `${bareJobs}/${name}?propagationPolicy=Background`).then(({ body }) => body?.cancel());
  });
  await using clock = await scene.clock();
  await scene.publish(["lab/cycle"]);
  await clock.until(1);
  const template = await scene.template();
  const { pid } = scene.service;
  const service = async (count: number) => {
    const [before, cpu, begun] = [ear.heard.length, cpuSeconds(pid), performance.now()];
    await scene.publish(Array.from({ length: count }, () => "lab/cycle"));
    await eventually(() => ear.heard.length >= before + count, {
      timeoutMs: 400_000,
      what: () => `${count} ends; ${ear.heard.length - before} have come`,
    });
    const seconds = (performance.now() - begun) / 1_000;
    await checkLog(scene, ear.heard.at(-1)!.text);
    return { perSecond: count / seconds, cpu: (cpuSeconds(pid) - cpu) / seconds * 100 };
  };
  const bare = async (count: number) => {
    const before = bareEnds.endedAt.size;
    const { ms: tookMs } = await scene.createBare(count, { template });
    // Without the start of the creator's process.
    const begun = performance.now() - tookMs;
    await eventually(() => bareEnds.endedAt.size >= before + count, {
      timeoutMs: 400_000,
      what: () => `${count} ends; ${bareEnds.endedAt.size - before} have come`,
    });
    const perSecond = count / (performance.now() - begun) * 1_000;
    await scene.empty();
    return perSecond;
  };
  await eventually(() => ear.heard.length > 0, { timeoutMs: 60_000, what: "the end of the first run" });
  await scene.empty();
  // Controllers are slower when they have had nothing to do yet.
  const warmUp = Math.ceil(runs / 10);
  await service(warmUp);
  await scene.empty();
  await bare(warmUp);
  const samples: Sample[] = [];
  for (let repeat = 0; repeat < repeats; repeat++) {
    const first = repeat % 2 === 0 ? await service(runs) : undefined;
    await scene.empty();
    const limit = await bare(runs);
    const { perSecond, cpu } = first ?? await service(runs);
    await scene.empty();
    samples.push({ "full-cycle": { value: perSecond, limit }, "full-cycle-cpu": { value: cpu } });
  }
  return samples;
}

/** A run whose log could not be read costs something else. */
async function checkLog(scene: Scene, announced: string): Promise<void> {
  const { run_name } = JSON.parse(announced) as { run_name: string };
  const { dataDir, buckets } = scene.kit.s3;
  const log = await Deno.readTextFile(`${dataDir}/${buckets[0]}/${PREFIX}/logs/${run_name}.txt`);
  if (!/^done$/m.test(log)) throw new Error(`The log of ${run_name} does not hold what the fake node serves:\n${log}`);
}
