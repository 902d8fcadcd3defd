/**
 * The measurements, each a function that boots what it needs, runs a number of repeats and returns their figures, the
 * limit beside the value. Which goal a figure has is said here too.
 */
import mqtt from "mqtt";
import { BUSYBOX_IMAGE } from "../harness/cluster.ts";
import { MqttEar, startService } from "../harness/service.ts";
import { eventually, pause } from "../harness/wait.ts";
import { finishInSlices, rowsFor } from "../../table.ts";
import { diffRows, parseTable, parseTableInSlices } from "../../catalog.ts";
import { TopicIndex } from "../../topics.ts";
import { cpuSeconds, percentile, rssMb, type Sample, type Spec } from "./measure.ts";
import { watchLines } from "./job_clock.ts";
import { benchRow, Scene } from "./scene.ts";

export interface Measurement {
  readonly figures: Readonly<Record<string, Spec>>;
  run(repeats: number, messages: number): Promise<Sample[]>;
}

const PREFIX = "services/mqtt_job_listener";

const atLeast = (bound: number, of: "ratio" | "value" = "ratio") => ({ of, is: ">=", bound }) as const;
const atMost = (bound: number, of: "ratio" | "value" = "ratio") => ({ of, is: "<=", bound }) as const;

/** All measurements by name. */
export const MEASUREMENTS: Readonly<Record<string, Measurement>> = {
  "burst-one-topic": {
    figures: {
      "burst-one-topic": { unit: "Jobs/s", goal: atLeast(0.8) },
      "memory-live-jobs-10000": { unit: "MB", goal: atMost(300, "value") },
    },
    run: (repeats, messages) => burst({ repeats, messages }, (index) => `lab/burst/${index * 0}`),
  },
  "burst-500-topics": {
    figures: { "burst-500-topics": { unit: "Jobs/s", goal: atLeast(0.8) } },
    run: (repeats, messages) => burst({ repeats, messages }, (index) => `lab/burst/${index % 500}`, 500),
  },
  "latency": {
    figures: {
      "latency-p50": { unit: "ms", goal: atMost(1.5) },
      "latency-p99": { unit: "ms", goal: atMost(2) },
    },
    run: latency,
  },
  "idle": {
    figures: {
      "cold-start": { unit: "ms", goal: atMost(1_500, "value") },
      "cold-start-bundle": { unit: "ms", goal: atMost(500, "value") },
      "memory-idle": { unit: "MB", goal: atMost(150, "value") },
    },
    run: idle,
  },
  "waiting": {
    figures: { "memory-waiting-message": { unit: "B", goal: atMost(2_048, "value") } },
    run: waiting,
  },
  "completion": {
    figures: {
      "completion-p50": { unit: "ms", goal: atMost(3) },
      "api-calls-per-run": { unit: "calls", goal: atMost(4, "value") },
    },
    run: completion,
  },
  "full-cycle": {
    figures: {
      "full-cycle": { unit: "runs/s" },
      "full-cycle-cpu": { unit: "% of a core", goal: atMost(25, "value") },
    },
    run: fullCycle,
  },
  "table": {
    figures: {
      "table-100000": { unit: "ms", goal: atMost(2_000, "value") },
      "table-100000-stall": { unit: "ms", goal: atMost(50, "value") },
      "match-10000": { unit: "µs", goal: atMost(50, "value") },
    },
    run: table,
  },
};

async function burst(
  { repeats, messages }: { repeats: number; messages: number },
  topicOf: (index: number) => string,
  rows = 1,
): Promise<Sample[]> {
  await using scene = await Scene.start({
    rows: Array.from({ length: rows }, (_, index) => benchRow(`burst-${index}`, `lab/burst/${index}`)),
  });
  const samples: Sample[] = [];
  const topics = Array.from({ length: messages }, (_, index) => topicOf(index));
  await using clock = await scene.clock();
  // Watches the bare creator's Jobs too, so that the server serves as many watches for them.
  await using _bareClock = await scene.clock("bare");
  await scene.publish(topics.slice(0, 200));
  await clock.until(200);
  for (let repeat = 0; repeat < repeats; repeat++) {
    const service = async () => {
      const before = clock.count;
      const begun = performance.now();
      void scene.publish(topics);
      return messages / ((await clock.until(before + messages)) - begun) * 1000;
    };
    const bare = async () => messages / (await scene.createBare(messages)) * 1000;
    // By turns: the one that comes later finds more Jobs in the cluster.
    const first = repeat % 2 === 0 ? await service() : undefined;
    const limit = await bare();
    const value = first ?? await service();
    const memory = rows === 1 && clock.count >= 10_000
      ? { "memory-live-jobs-10000": { value: rssMb(scene.service.pid) } }
      : {};
    samples.push({ [rows === 1 ? "burst-one-topic" : "burst-500-topics"]: { value, limit }, ...memory });
  }
  return samples;
}

const LATENCY_MESSAGES = 400;
const LATENCY_GAP_MS = 20;

/** The limit: the same message goes through the same broker to this process, which creates the same Job at once. */
async function latency(repeats: number): Promise<Sample[]> {
  await using scene = await Scene.start({ rows: [benchRow("latency", "lab/latency/+")] });
  await using seen = await scene.clock();
  await using seenBare = await scene.clock("bare");
  await scene.publish(Array.from({ length: 300 }, (_, index) => `lab/latency/warm-${index}`));
  await seen.until(300);
  const template = await scene.template();
  const client = Deno.createHttpClient({ caCerts: [scene.kit.cluster.authority.ca], http2: false });
  const echo = await mqtt.connectAsync(scene.kit.broker.url, { protocolVersion: 5 });
  await echo.subscribeAsync("lab/bare/+", { qos: 1 });
  echo.on("message", (topic) => {
    const name = topic.replace("lab/bare/", "");
    const annotations = { "mqtt-job-listener/topic": topic };
    void scene.postJob(
      { ...template, metadata: { ...template.metadata, name, namespace: "bare", annotations } },
      client,
    );
  });
  const samples: Sample[] = [];
  for (let repeat = 0; repeat < repeats; repeat++) {
    const times = async (topicOf: (index: number) => string, at: ReadonlyMap<string, number>) => {
      const sent = new Map<string, number>();
      const begun = performance.now();
      for (let index = 0; index < LATENCY_MESSAGES; index++) {
        await pause(Math.max(0, begun + index * LATENCY_GAP_MS - performance.now()));
        const topic = topicOf(index);
        sent.set(topic, performance.now());
        void scene.publish([topic]);
      }
      await eventually(() => [...sent.keys()].every((topic) => at.has(topic)), { timeoutMs: 30_000 });
      return [...sent].map(([topic, sentAt]) => at.get(topic)! - sentAt);
    };
    if (repeat === 0) await times((index) => `lab/bare/warm-${index}`, seenBare.seenAt);
    const bare = await times((index) => `lab/bare/m${repeat}-${index}`, seenBare.seenAt);
    const service = await times((index) => `lab/latency/m${repeat}-${index}`, seen.seenAt);
    samples.push({
      "latency-p50": { value: percentile(service, 50), limit: percentile(bare, 50) },
      "latency-p99": { value: percentile(service, 99), limit: percentile(bare, 99) },
    });
  }
  await echo.endAsync(true);
  client.close();
  return samples;
}

async function idle(repeats: number): Promise<Sample[]> {
  await using scene = await Scene.start({ rows: [benchRow("idle", "lab/idle")], bare: true });
  const bundle = await makeBundle();
  const samples: Sample[] = [];
  const start = async (entry: string) => {
    const begun = performance.now();
    // A new client identifier, for a session of its own.
    await using service = await startService({ ...scene.env, INSTANCE: `bench-${samples.length}` }, { entry });
    const ms = performance.now() - begun;
    await pause(5_000);
    return { ms, rss: rssMb(service.pid) };
  };
  for (let repeat = 0; repeat < repeats; repeat++) {
    const source = await start("main.ts");
    const bundled = await start(bundle);
    samples.push({
      "cold-start": { value: source.ms },
      "cold-start-bundle": { value: bundled.ms },
      "memory-idle": { value: source.rss },
    });
  }
  return samples;
}

async function makeBundle(): Promise<string> {
  const project = new URL("../../", import.meta.url).pathname;
  const output = await new Deno.Command(Deno.execPath(), { args: ["task", "bundle"], cwd: project }).output();
  if (!output.success) throw new Error(`Cannot bundle: ${new TextDecoder().decode(output.stderr)}`);
  return `${project}dist/mqtt-job-listener.js`;
}

const WAITING = 20_000;

/** The API server is stopped, so every message waits; all are let into memory. */
async function waiting(repeats: number): Promise<Sample[]> {
  const samples: Sample[] = [];
  for (let repeat = 0; repeat < repeats; repeat++) {
    await using scene = await Scene.start({
      rows: [benchRow("waiting", "lab/waiting")],
      env: { MQTT_RECEIVE_MAXIMUM: "65535", MAX_WAITING_MESSAGES: "65535" },
    });
    await scene.publish(Array.from({ length: 2_000 }, () => "lab/waiting"), 200);
    await pause(3_000);
    scene.kit.cluster.apiServer.signal("SIGSTOP");
    const before = rssMb(scene.service.pid);
    await scene.publish(Array.from({ length: WAITING }, () => "lab/waiting"), 200);
    await pause(5_000);
    const value = (rssMb(scene.service.pid) - before) * 1e6 / WAITING;
    scene.kit.cluster.apiServer.signal("SIGCONT");
    samples.push({ "memory-waiting-message": { value } });
  }
  return samples;
}

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
  await using _service = await startService({ ...scene.env, KUBECONFIG: kubeconfig });
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
  const begun = performance.now();
  const log = await api.text(`${path}/log`);
  await scene.kit.s3.put(`s3://${scene.kit.s3.buckets[0]}/bare.txt`, log);
  await scene.publisher.publishAsync(`${PREFIX}/job_complete/bare`, log, { qos: 1 });
  await eventually(() => ear.heard[before], { intervalMs: 1 });
  return performance.now() - begun;
}

/** Calls of the service that are no long watch and no lease. */
async function auditCalls(file: string): Promise<number> {
  const lines = (await Deno.readTextFile(file).catch(() => "")).trim().split("\n").filter((line) => line !== "");
  const calls = lines.map((line) => JSON.parse(line) as { verb: string; stage: string; requestURI: string });
  return calls.filter(({ verb, stage }) => stage === "ResponseComplete" && verb !== "watch").length;
}

/** When each Job was seen as ended, in milliseconds since the epoch, as MqttEar has its times. */
class EndClock implements AsyncDisposable {
  readonly endedAt = new Map<string, number>();
  #reader: ReadableStreamDefaultReader<Uint8Array> | undefined;
  #running: Promise<void> = Promise.resolve();

  static async start(scene: Scene): Promise<EndClock> {
    const clock = new EndClock();
    const jobs = "/apis/batch/v1/namespaces/default/jobs";
    const { metadata } = await scene.kit.cluster.api.get<{ metadata: { resourceVersion: string } }>(jobs);
    const path = `${jobs}?watch=1&resourceVersion=${metadata.resourceVersion}`;
    const { body } = await scene.kit.cluster.api.request("GET", path);
    clock.#reader = body!.getReader();
    clock.#running = watchLines(clock.#reader, (line) => clock.#take(line));
    return clock;
  }

  #take(line: string): void {
    const { object } = JSON.parse(line);
    const ended = object.status?.conditions?.some(({ type }: { type: string }) => /^(Complete|Failed)$/.test(type));
    if (ended && !this.endedAt.has(object.metadata.name)) this.endedAt.set(object.metadata.name, Date.now());
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#reader?.cancel();
    await this.#running;
  }
}

/** Fake nodes have no logs, so a run's log says so; everything else is as in life. */
async function fullCycle(repeats: number, messages: number): Promise<Sample[]> {
  const runs = Math.round(messages * 0.4);
  const samples: Sample[] = [];
  for (let repeat = 0; repeat < repeats; repeat++) {
    await using scene = await Scene.start({
      rows: [benchRow("cycle", "lab/cycle")],
      cluster: { node: "kwok", controllerFlags: ["--kube-api-qps=500", "--kube-api-burst=1000"] },
    });
    await using ear = await MqttEar.connect(scene.kit.broker.url, [
      `${PREFIX}/job_complete/#`,
      `${PREFIX}/job_failed/#`,
    ]);
    const cpuBefore = cpuSeconds(scene.service.pid);
    const begun = performance.now();
    await scene.publish(Array.from({ length: runs }, () => "lab/cycle"));
    await eventually(() => ear.heard.length >= runs, {
      timeoutMs: 240_000,
      what: () => `${runs} ends; ${ear.heard.length} have come`,
    });
    const seconds = (performance.now() - begun) / 1000;
    samples.push({
      "full-cycle": { value: runs / seconds },
      "full-cycle-cpu": { value: (cpuSeconds(scene.service.pid) - cpuBefore) / seconds * 100 },
    });
  }
  return samples;
}

const HEADER = "job_name,mqtt_topic,image,command,cpu_request,cpu_limit,memory_request,memory_limit,gpu,disk_request," +
  "disk_limit,disk_mount,parallelism";

function bigTable(version: number): Uint8Array {
  const lines = Array.from({ length: 100_000 }, (_, n) => {
    const topic = n % 2 ? `${PREFIX}/job_complete/job-${n - 1}` : `lab/${n % 500}/+/dev${n}`;
    return `job-${n},${topic},lab/job-${n}:v${version},python run.py --n ${n},0.5,1,500Mi,1Gi,0,10Gi,20Gi,/tmp,1`;
  });
  return new TextEncoder().encode(`${HEADER}\n${lines.join("\n")}\n`);
}

async function table(repeats: number): Promise<Sample[]> {
  const options = { topicPrefix: PREFIX };
  const old = parseTable(bigTable(0), options);
  const edited = bigTable(1);
  const samples: Sample[] = [];
  for (let repeat = 0; repeat < repeats; repeat++) {
    let [stall, last] = [0, performance.now()];
    const ticker = setInterval(() => {
      const now = performance.now();
      stall = Math.max(stall, now - last);
      last = now;
    }, 0);
    const begun = performance.now();
    const parsed = await parseTableInSlices(edited, options);
    await finishInSlices(diffRows(old.rows, parsed.rows));
    const value = performance.now() - begun;
    clearInterval(ticker);
    if (rowsFor(parsed, "lab/0/x/dev0").length !== 1) throw new Error("The big table does not match its own topics");
    samples.push({
      "table-100000": { value },
      "table-100000-stall": { value: stall },
      "match-10000": { value: matchMicroseconds() },
    });
  }
  return samples;
}

/** Over 10,000 filters with wildcards. */
function matchMicroseconds(): number {
  const index = new TopicIndex<number>();
  const filters = (n: number) => [`a/+/${n}`, `+/b/${n}/#`, `lab/${n}/+`, `lab/+/x/${n}`][n % 4]!;
  const topics = (n: number) => [`a/q/${n}`, `z/b/${n}/y`, `lab/${n}/q`, `lab/q/x/${n}`][n % 4]!;
  for (let n = 0; n < 10_000; n++) index.add(filters(n), n);
  const begun = performance.now();
  let found = 0;
  for (let n = 0; n < 100_000; n++) found += index.match(topics(n % 10_000)).length;
  if (found < 100_000) throw new Error("The index does not find its own filters");
  return (performance.now() - begun) * 1000 / 100_000;
}
