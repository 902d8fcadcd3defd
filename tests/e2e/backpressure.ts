/**
 * A burst against a slow API server: `deno run -A tests/e2e/backpressure.ts [--messages=20000] [--creates-per-second=5]
 * [--max-waiting=10000]`. A proxy in front of a real API server lets so many create calls a second through; messages
 * wait meanwhile. Counts Jobs by a watch of its own, and looks at the service's memory and at the broker's log for lost
 * connections.
 */
import { JobClock } from "../bench/job_clock.ts";
import { median, rssMb } from "../bench/measure.ts";
import { JobEnder } from "../chaos/ender.ts";
import { numberFlag } from "../harness/flags.ts";
import { followJobs } from "../harness/job_watch.ts";
import { type Kit, startKit } from "../harness/kit.ts";
import { HttpProxy } from "../harness/proxy.ts";
import { MqttEar, type ServiceProcess, startService } from "../harness/service.ts";
import { csv } from "../harness/table.ts";
import { pause } from "../harness/wait.ts";

const PREFIX = "services/mqtt_job_listener";
const CLIENT_ID = "backpressure";
/** Mosquitto ends a client that says nothing for one and a half times as long; a busy machine may stall for some of it. */
const KEEPALIVE_S = 10;

/** From a Job's creation to its end. */
const RUN_MS = 1_000;
/** No further end or record for so long, after all Jobs are there: none comes any more. */
const NO_MORE_MS = 60_000;

export interface BackpressureOptions {
  readonly messages: number;
  readonly createsPerSecond: number;
  /** Messages that the service holds in memory; its preset is 10,000. */
  readonly maxWaiting?: number;
  readonly onProgress?: (line: string) => void;
}

/** What the scene showed. */
export interface BackpressureResult {
  readonly messages: number;
  /** Messages without a Job. */
  readonly lost: number;
  /** Jobs beyond one for each message. */
  readonly doubled: number;
  /** Runs whose end was told, each counted once. */
  readonly ends: number;
  /** Records of runs in the store. */
  readonly records: number;
  /** Connections of the service that the broker saw. */
  readonly connects: number;
  /** Those of them by which the service fetched what it had left with the broker, because too much waited already. */
  readonly refetches: number;
  /** Times that the broker gave the service up for silence. */
  readonly timeouts: number;
  readonly seconds: number;
  /** Resident memory in MB: before the burst, early and late while messages waited (medians), and the highest. */
  readonly memoryMb: { readonly before: number; readonly early: number; readonly late: number; readonly peak: number };
}

/**
 * Sends the burst at once and waits until each message has a Job and each run an end. Nothing runs in the Jobs: the test
 * writes their ends, since controllers that look for nodes in vain would take most of a small machine.
 */
export async function runBackpressure(
  { messages, createsPerSecond, maxWaiting, onProgress = () => {} }: BackpressureOptions,
): Promise<BackpressureResult> {
  // As in deploy/mosquitto.conf, whose bounds are to hold a burst of this size.
  await using kit = await startKit({
    broker: { maxQueuedMessages: 100_000, maxInflightMessages: 1_000, conf: ["max_queued_bytes 1073741824"] },
    // Faster than preset, so that ends keep up with creates; else live runs pile up, which is not what is looked at.
    cluster: { node: "none", controllerFlags: ["--controllers=serviceaccount-controller"] },
  });
  await using proxy = await slowProxy(kit, createsPerSecond);
  await using service = await startSlowed(kit, proxy, maxWaiting);
  const { api, server, token, authority } = kit.cluster;
  await using clock = await JobClock.start({ api, server, ca: authority.ca, token, namespace: "default" });
  await using ender = new JobEnder(api);
  await using _ended = await followJobs(api, {
    onJob: ({ metadata, status }) => {
      if (status?.conditions) return;
      const createdAt = String(metadata?.creationTimestamp);
      ender.end({ runName: metadata?.name ?? "", createdAt, fails: false, afterMs: RUN_MS });
    },
    onGone: () => {},
    onList: () => {},
  });
  await using ear = await MqttEar.connect(kit.broker.url, [`${PREFIX}/job_complete/#`]);
  const before = rssMb(service.pid);
  const samples: number[] = [];
  const begunMs = performance.now();
  await Promise.all(Array.from({ length: messages }, (_, n) => ear.publish(`lab/burst/${n}`, `{"n":${n}}`)));
  onProgress(`${messages} messages published in ${Math.round(performance.now() - begunMs)} ms`);
  const deadlineMs = begunMs + messages / createsPerSecond * 1_500 + 60_000;
  for (let told = 0; clock.count < messages && performance.now() < deadlineMs;) {
    await pause(500);
    samples.push(rssMb(service.pid));
    if (samples.length < told) continue;
    told = samples.length + 120;
    onProgress(`${clock.count} Jobs, ${ear.heard.length} ends, ${samples.at(-1)!.toFixed(0)} MB`);
  }
  const seconds = (performance.now() - begunMs) / 1_000;
  await all(messages, () => distinctEnds(ear));
  // A record is stored once its end is told.
  const records = await all(messages, () => recordsIn(kit));
  const brokerLog = await kit.broker.process.log();
  const count = (pattern: RegExp) => [...brokerLog.matchAll(pattern)].length;
  return {
    messages,
    lost: messages - clock.seenAt.size,
    doubled: clock.count - clock.seenAt.size,
    ends: distinctEnds(ear),
    records,
    // One more is the trial of the broker's order, at the start of a session.
    connects: count(new RegExp(`New client connected from \\S+ as ${CLIENT_ID} `, "g")) - 1,
    refetches: [...(await service.log()).matchAll(/More messages waited than are held at once/g)].length,
    timeouts: count(new RegExp(`Client ${CLIENT_ID} has exceeded timeout`, "g")),
    seconds: Math.round(seconds),
    memoryMb: { before, peak: Math.max(...samples), ...earlyAndLate(samples) },
  };
}

/** Lets create calls through one after the other, each its turn later than the one before. */
async function slowProxy({ cluster }: Kit, createsPerSecond: number): Promise<HttpProxy> {
  const certificate = await cluster.authority.server("slow-proxy", ["127.0.0.1"]);
  let nextMs = performance.now();
  return await HttpProxy.start({
    target: cluster.server,
    targetCa: cluster.authority.ca,
    certificate,
    async hook({ method, path }): Promise<"pass"> {
      if (method !== "POST" || !/\/jobs(\?|$)/.test(path)) return "pass";
      const now = performance.now();
      nextMs = Math.max(now, nextMs + 1_000 / createsPerSecond);
      await pause(nextMs - now);
      return "pass";
    },
  });
}

async function startSlowed(kit: Kit, proxy: HttpProxy, maxWaiting?: number): Promise<ServiceProcess> {
  const env = kit.env();
  const row = { job_name: "burst", image: "busybox:lab", mqtt_topic: "lab/burst/+", command: "true" };
  await kit.s3.put(env["CATALOG_URL"]!, csv([row]));
  return await startService({
    ...env,
    KUBECONFIG: await kit.cluster.tokenKubeconfig(proxy.url),
    MQTT_CLIENT_ID: CLIENT_ID,
    MQTT_KEEPALIVE: `${KEEPALIVE_S}s`,
    CATALOG_POLL: "1h",
    ...(maxWaiting === undefined ? {} : { MAX_WAITING_MESSAGES: String(maxWaiting) }),
  });
}

function distinctEnds(ear: MqttEar): number {
  return new Set(ear.json<{ run_name: string }>(`${PREFIX}/job_complete/#`).map(({ run_name }) => run_name)).size;
}

async function recordsIn({ s3, env }: Kit): Promise<number> {
  const { pathname, hostname } = new URL(env()["RUNS_URL"]!);
  const names = await Array.fromAsync(Deno.readDir(`${s3.dataDir}/${hostname}${pathname}`));
  return names.filter(({ name }) => /^burst-.*\.json$/.test(name)).length;
}

/** How many there are, once it is all of them, or no more have come for long. */
async function all(wanted: number, count: () => number | Promise<number>): Promise<number> {
  let seen = await count();
  for (let sinceMs = Date.now(); seen < wanted && Date.now() - sinceMs < NO_MORE_MS;) {
    await pause(1_000);
    const now = await count();
    if (now !== seen) [sinceMs, seen] = [Date.now(), now];
  }
  return seen;
}

/** Medians of the second and of the last fifth: the first one is still taking messages over. */
function earlyAndLate(samples: readonly number[]): { early: number; late: number } {
  const fifth = (n: number) => samples.slice(samples.length * n / 5, samples.length * (n + 1) / 5);
  return { early: median(fifth(1)), late: median(fifth(4)) };
}

/**
 * Memory above that of before the burst, in MB: waiting messages, the work on them, and garbage that the engine leaves
 * for a while. And what it may grow by while nothing but the number of waiting messages changes.
 */
const RISE_BOUND_MB = 250;
const GROWTH_BOUND_MB = 40;
/** Growth is looked at in runs of this length only: in the first minute a process still warms up. */
const WARM_S = 120;

/** What is wrong with a result; empty if nothing is. */
export function faultsOf(
  { messages, lost, doubled, ends, records, connects, refetches, timeouts, seconds, memoryMb }: BackpressureResult,
): string[] {
  const { before, early, late, peak } = memoryMb;
  return [
    ...lost > 0 ? [`${lost} lost`] : [],
    ...doubled > 0 ? [`${doubled} doubled`] : [],
    ...ends !== messages || records !== messages ? [`${ends} ends, ${records} records`] : [],
    ...connects !== 1 + refetches || timeouts > 0 ? [`${connects} connections, ${timeouts} for silence`] : [],
    ...peak > before + RISE_BOUND_MB ? [`memory rose from ${before} to ${peak} MB`] : [],
    ...seconds >= WARM_S && late > early + GROWTH_BOUND_MB
      ? [`memory grew from ${early} to ${late} MB while messages waited`]
      : [],
  ];
}

if (import.meta.main) {
  const result = await runBackpressure({
    messages: numberFlag("messages", 20_000),
    createsPerSecond: numberFlag("creates-per-second", 5),
    maxWaiting: numberFlag("max-waiting", 10_000),
    onProgress: (line) => console.error(`${new Date().toISOString()} ${line}`),
  });
  const faults = faultsOf(result);
  console.log(JSON.stringify(result));
  console.log(faults.length === 0 ? "1 passed, 0 failed" : `0 passed, 1 failed: ${faults.join("; ")}`);
  Deno.exit(faults.length === 0 ? 0 : 1);
}
