/**
 * Runs that never end well, on real parts: an API server with kubelets that run containers, mosquitto, an S3 server, and
 * the service as a process. Each run must get one outcome in plain words, and its log as far as there is one.
 * API_AWAY_SECONDS says how long the API server is away in its test; preset is 20.
 */
import { deepEqual, equal, match, ok } from "node:assert/strict";
import { createHash } from "node:crypto";
import { inTurn, steps } from "../harness/at_once.ts";
import { GATE_MOUNT, Gates, untilOpen } from "../harness/gate.ts";
import { envOf, JobWatch } from "../harness/job_watch.ts";
import { type Kit, type KitOptions, startKit } from "../harness/kit.ts";
import { needs } from "../harness/needs.ts";
import { HttpProxy } from "../harness/proxy.ts";
import { boundNamespace } from "../harness/quota.ts";
import { MqttEar, type ServiceProcess, type ServiceStart, startService } from "../harness/service.ts";
import { type Cells, csv, shell } from "../harness/table.ts";
import { eventually, pause } from "../harness/wait.ts";

const PREFIX = "services/mqtt_job_listener";
const JOBS = "/apis/batch/v1/namespaces/default/jobs";
const PODS = "/api/v1/namespaces/default/pods";
const AWAY_MS = Number(Deno.env.get("API_AWAY_SECONDS") ?? 20) * 1_000;
const ready = await needs("mosquitto", "s3", "node");

/** 60 MB, 2 MB a second; the kubelet looks every 10 s whether a file has 10 MiB, and then begins another one. */
const ROTATED = { lines: 480_000, digits: 124, perSecond: 16_000 };
/** Below what is rotated: the API server reads out the newest file only. */
const CUT = { lines: 60_000, digits: 124, perSecond: 3_000 };

const ROWS: readonly Cells[] = [
  row("quick", "echo quick"),
  // A shell that is process 1 hears no SIGTERM unless it says what to do.
  row("stays", `trap "exit 143" TERM; echo begin; sleep 600 & wait`),
  { ...row("once", `trap "exit 143" TERM; echo begin; sleep 600 & wait`), rerun_after_disruption: "no" },
  { ...row("gated", `echo begin; ${untilOpen("gated")}; echo end`), mounts: GATE_MOUNT },
  row("ticks", "for n in 1 2 3 4 5 6 7 8 9 10; do echo tick $n; sleep 1; done"),
  counts("rotated", ROTATED),
  counts("cut", CUT),
];

function row(name: string, script: string): Cells {
  return { job_name: name, image: "busybox:lab", mqtt_topic: `lab/${name}`, command: shell(script) };
}

/**
 * Writes numbered lines. The pause at the end is for containerd 1.6, which was seen to lose the last 64 KiB of a
 * program that ends at once.
 */
function counts(name: string, { lines, digits, perSecond }: typeof CUT): Cells {
  const script = `BEGIN { for (i = 1; i <= ${lines}; i++) { printf "%0${digits}d\\n", i; ` +
    `if (i % ${perSecond} == 0) { fflush(); system("sleep 1") } } system("sleep 3") }`;
  return { ...row(name, ""), command: `awk '${script}'` };
}

interface End {
  readonly status: string;
  readonly reason: string;
  readonly message: string;
  readonly run_name: string;
  readonly log_url: string;
}

/** A kit with a service on it, reached by way of a proxy that passes all on, and the eyes on both. */
class Bed implements AsyncDisposable {
  private constructor(
    readonly kit: Kit,
    readonly env: Record<string, string>,
    readonly proxy: HttpProxy,
    readonly ear: MqttEar,
    readonly jobs: JobWatch,
    readonly gates: Gates,
    public service: ServiceProcess,
  ) {}

  static async start(options: KitOptions = {}, service: ServiceStart = {}): Promise<Bed> {
    const kit = await startKit({ ...options, broker: { persistence: "always", maxQueuedMessages: 0 } });
    const { cluster } = kit;
    const certificate = await cluster.authority.server("proxy", ["127.0.0.1"]);
    const proxy = await HttpProxy.start({ target: cluster.server, targetCa: cluster.authority.ca, certificate });
    const env: Record<string, string> = {
      ...kit.env(),
      KUBECONFIG: await cluster.tokenKubeconfig(proxy.url),
      CATALOG_POLL: "1h",
      LOG_LEVEL: "debug",
    };
    await kit.s3.put(env["CATALOG_URL"]!, csv(ROWS));
    const ear = await MqttEar.connect(kit.broker.url, [`${PREFIX}/#`]);
    const jobs = await JobWatch.start(cluster.api);
    const gates = await Gates.make(cluster);
    return new Bed(kit, env, proxy, ear, jobs, gates, await startService(env, service));
  }

  ends(jobName: string): End[] {
    return ["complete", "failed"].flatMap((how) => this.ear.json<End>(`${PREFIX}/job_${how}/${jobName}`));
  }

  /** The `count`th end of a row's runs. */
  async end(jobName: string, { count = 1, timeoutMs = 120_000 } = {}): Promise<End> {
    return await eventually(() => this.ends(jobName)[count - 1], {
      timeoutMs,
      what: async () => `end ${count} of ${jobName}; the service says:\n${await this.service.logTail(25)}`,
    });
  }

  /** Starts the row's next run and waits until it has written `begin`, which the service has read. */
  async begin(jobName: string): Promise<{ runName: string; podName: string; node: string }> {
    const before = this.jobs.created(jobName).length;
    await this.ear.publish(`lab/${jobName}`, "go");
    const runName = await eventually(() => this.jobs.created(jobName)[before]?.metadata?.name);
    const pod = await eventually(async () => {
      const { items } = await this.kit.cluster.api.get<{ items: Pod[] }>(
        `${PODS}?labelSelector=job-name%3D${runName}`,
      );
      return items.find(({ status }) => status.phase === "Running");
    }, { what: `the pod of ${runName} to run` });
    const isLog = ([path, bytes]: [string, number]) => path.includes(`/pods/${pod.metadata.name}/log?`) && bytes > 0;
    await eventually(() => [...this.proxy.passed].some(isLog), { what: `output of ${runName}` });
    return { runName, podName: pod.metadata.name, node: pod.spec.nodeName };
  }

  async restart(): Promise<void> {
    await this.service[Symbol.asyncDispose]();
    this.service = await startService(this.env);
  }

  /** Log without its head, once the Job is gone. */
  async output({ run_name, log_url }: End): Promise<string> {
    await eventually(() => this.jobs.gone(run_name), { what: `Job ${run_name} to be deleted` });
    const log = await this.kit.s3.get(log_url) ?? "";
    return log.slice(log.indexOf("\n\n") + 2);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.service[Symbol.asyncDispose]();
    await this.jobs[Symbol.asyncDispose]();
    await this.ear[Symbol.asyncDispose]();
    await this.proxy[Symbol.asyncDispose]();
    await this.kit[Symbol.asyncDispose]();
  }
}

interface Pod {
  readonly metadata: { readonly name: string };
  readonly spec: { readonly nodeName: string };
  readonly status: { readonly phase: string };
}

let bed: Bed;

Deno.test.beforeAll(async () => {
  if (ready) bed = await Bed.start();
});

Deno.test.afterAll(async () => {
  await bed?.[Symbol.asyncDispose]();
});

function ends(name: string, fn: () => Promise<void>): void {
  Deno.test({ name: `ends: ${name}`, ignore: !ready, sanitizeOps: false, sanitizeResources: false, fn });
}

const SHORT: Readonly<Record<string, () => Promise<void>>> = {
  "a Job that someone deletes is cancelled, with the log so far": async () => {
    const { runName } = await bed.begin("stays");
    await bed.kit.cluster.api.delete(`${JOBS}/${runName}?propagationPolicy=Background&gracePeriodSeconds=0`);
    const end = await bed.end("stays");
    deepEqual([end.status, end.reason, end.run_name], ["cancelled", "Deleted", runName]);
    match(await bed.output(end), /^begin\n/);
  },

  "a pod that someone deletes fails its run and says so, whatever code its program then ends with": async () => {
    const { podName } = await bed.begin("stays");
    await bed.kit.cluster.api.delete(`${PODS}/${podName}?gracePeriodSeconds=5`);
    const end = await bed.end("stays", { count: 2 });
    deepEqual([end.status, end.reason], ["failed", "PodDeleted"]);
    match(end.message, /^Somebody deleted its pod/);
    match(await bed.output(end), /^begin\n/);
  },

  "an evicted pod fails a run that must not run twice in plain words, with the log so far": async () => {
    const { podName } = await bed.begin("once");
    await bed.kit.cluster.api.create(`${PODS}/${podName}/eviction`, {
      apiVersion: "policy/v1",
      kind: "Eviction",
      metadata: { name: podName, namespace: "default" },
      deleteOptions: { gracePeriodSeconds: 1 },
    });
    const end = await bed.end("once");
    deepEqual([end.status, end.reason], ["failed", "EvictionByEvictionAPI"]);
    match(end.message, /^The cluster took its node or its place away: .*; run it again$/);
    match(await bed.output(end), /^begin\n/);
  },

  "a run whose pod the quota forbids waits, and runs when there is room": async () => {
    const { api } = bed.kit.cluster;
    const quota = await boundNamespace(api, { pods: "0" });
    await bed.ear.publish("lab/quick", "waits");
    const runName = await eventually(() => bed.jobs.created("quick")[0]?.metadata?.name);
    await eventually(async () => {
      const { items } = await api.get<{ items: { reason: string; involvedObject: { name: string } }[] }>(
        "/api/v1/namespaces/default/events",
      );
      return items.some(({ reason, involvedObject }) => reason === "FailedCreate" && involvedObject.name === runName);
    });
    deepEqual(bed.ends("quick"), []);
    await quota[Symbol.asyncDispose]();
    equal((await bed.end("quick")).status, "succeeded");
    await hasItsTimes(runName);
  },
};

/** Its record says when it had its node and its image, when its log was stored and when its end was told. */
async function hasItsTimes(runName: string): Promise<void> {
  const url = `${bed.env["RUNS_URL"]}/${runName}.json`;
  const record = JSON.parse(await eventually(() => bed.kit.s3.get(url))) as Record<string, string | undefined>;
  const names = ["created", "scheduled", "pulled", "started", "finished", "log_stored", "announced"];
  const times = names.map((name) => record[`${name}_at`]);
  ok(times.every((time) => time !== undefined), JSON.stringify(times));
  // The API server and the node count whole seconds.
  const seconds = times.map((time) => time!.slice(0, 19));
  deepEqual(seconds, seconds.toSorted());
  ok(times[5]! <= times[6]!);
}

/** A log of 60 MB is whole though the kubelet rotates it while it is written. */
async function isWholeThoughRotated(): Promise<void> {
  await bed.ear.publish("lab/rotated", "");
  const end = await bed.end("rotated", { timeoutMs: 150_000 });
  equal(end.status, "succeeded");
  isCount(await bed.output(end), ROTATED);
}

/** On a cluster of its own, where a dead node is found in seconds. */
async function isLostWithItsNode(): Promise<void> {
  await using own = await Bed.start({ cluster: { node: "real", nodeCount: 2, quickEviction: true } }, {
    entry: "tests/e2e/impatient_entry.ts",
  });
  const { node } = await own.begin("stays");
  await own.kit.cluster.killNode(node);
  const end = await own.end("stays", { timeoutMs: 180_000 });
  deepEqual([end.status, end.reason], ["failed", "NodeLost"]);
  match(end.message, new RegExp(`^Its node ${node} does not answer any more; run it again$`));
  match(await own.output(end), /^begin\n/);
  equal(own.jobs.created("stays").length, 1);
}

Deno.test({
  name: "ends: of short runs, beside a log that is written for half a minute and a node that dies",
  ignore: !ready,
  sanitizeOps: false,
  sanitizeResources: false,
  fn: (t) =>
    steps(t, {
      "short runs": async (t) => {
        // It has its pod before a quota forbids more.
        await eventually(() => bed.jobs.created("rotated")[0]?.status?.active === 1);
        await inTurn(t, SHORT);
      },
      "a log of 60 MB is whole though the kubelet rotates it while it is written": isWholeThoughRotated,
      "a node that dies fails its run in plain words, with the log so far": isLostWithItsNode,
    }),
});

ends("a Job that its time to live removed while the service was down ends once, as vanished", async () => {
  const { runName } = await bed.begin("gated");
  const list = `${bed.env["RUNS_URL"]}/.live.json`;
  await eventually(async () => (await bed.kit.s3.get(list))?.includes(runName), {
    what: `${runName} in the list of live runs`,
  });
  await bed.service.kill9();
  await bed.kit.cluster.api.patch(`${JOBS}/${runName}`, { spec: { ttlSecondsAfterFinished: 0 } });
  await bed.gates.open("gated");
  await eventually(() => bed.jobs.gone(runName), { what: "the Job to be removed by its time to live" });
  equal(bed.ends("gated").length, 0);
  await bed.restart();
  const end = await bed.end("gated");
  deepEqual([end.status, end.reason], ["failed", "Vanished"]);
  match(end.message, /vanished while this service was not running/);
  await eventually(() => bed.kit.s3.get(`${bed.env["RUNS_URL"]}/${runName}.json`));
  await bed.restart();
  await bed.ear.publish("lab/quick", "after");
  await bed.end("quick", { count: 2 });
  equal(bed.ends("gated").length, 1);
});

/** Holds that the output is the numbered lines, all of them, in order. */
function isCount(output: string, { lines, digits }: typeof CUT): void {
  const expected = createHash("sha256");
  for (let line = 1; line <= lines; line++) expected.update(`${String(line).padStart(digits, "0")}\n`);
  const said = output.split("\n").filter((line) => line.startsWith("["));
  equal(output.split("\n").length - 1, lines, `number of lines; of what is missing the log says: ${said.join(" ")}`);
  equal(createHash("sha256").update(output).digest("hex"), expected.digest("hex"));
}

ends("a log is whole though its stream is cut every two seconds", async () => {
  const followed = () => bed.proxy.requests.filter((one) => /\/log\?.*follow=true/.test(one)).length;
  const before = followed();
  await bed.ear.publish("lab/cut", "");
  const cutter = setInterval(() => bed.proxy.cut(), 2_000);
  const end = await bed.end("cut", { timeoutMs: 150_000 }).finally(() => clearInterval(cutter));
  equal(end.status, "succeeded");
  isCount(await bed.output(end), CUT);
  ok(followed() - before > 4, `the log was followed ${followed() - before} times`);
});

ends("an API server that is away costs no run and no outcome", async () => {
  const { cluster } = bed.kit;
  const before = bed.ends("quick").length;
  await bed.begin("ticks");
  await cluster.stopApiServer();
  const begunMs = Date.now();
  for (let n = 0; n < 5; n++) await bed.ear.publish("lab/quick", `away ${n}`);
  await pause(AWAY_MS - (Date.now() - begunMs));
  equal(bed.service.status, undefined, await bed.service.logTail(20));
  await cluster.startApiServer();
  const end = await bed.end("ticks");
  equal(end.status, "succeeded", end.message);
  equal(await bed.output(end), Array.from({ length: 10 }, (_, n) => `tick ${n + 1}\n`).join(""));
  await bed.end("quick", { count: before + 5 });
  // The watch of this test was cut off, too.
  await eventually(() => bed.jobs.created("quick").length >= before + 5);
  const payloads = bed.jobs.created("quick").slice(before).map((job) => envOf(job)["MQTT_PAYLOAD"]);
  deepEqual(payloads.toSorted(), [0, 1, 2, 3, 4].map((n) => `away ${n}`));
});
