/**
 * Measurements of the service's resident memory: with messages that wait, with live Jobs, over many runs, for a large
 * log. Judges nothing; the goals stand beside the figures.
 */
import mqtt from "mqtt";
import { JobEnder } from "../chaos/ender.ts";
import { flag } from "../harness/flags.ts";
import { pause } from "../harness/wait.ts";
import { measureLogVolume } from "./log_volume.ts";
import {
  atMost,
  type BenchPoint,
  cpuSeconds,
  type Measurement,
  median,
  rounded,
  rssMb,
  type Sample,
  settledRssMb,
  unevenness,
} from "./measure.ts";
import { startBundled } from "../harness/bundled.ts";
import { benchRow, JOBS_ONLY, Scene } from "./scene.ts";

const PREFIX = "services/mqtt_job_listener";

/** By name. */
export const MEMORY: Readonly<Record<string, Measurement>> = {
  "waiting": {
    figures: { "memory-waiting-message": { unit: "B", goal: atMost(2_048, "value") } },
    run: waiting,
  },
  "live-jobs": {
    figures: {
      "memory-2000-messages": { unit: "MB", goal: atMost(150, "value") },
      "memory-live-jobs": { unit: "MB", goal: atMost(220, "value") },
      "memory-live-jobs-restart": { unit: "MB", goal: atMost(220, "value") },
    },
    run: liveJobs,
  },
  "log-memory": {
    figures: {
      "memory-log": { unit: "% off the median", goal: atMost(10, "value") },
      "memory-log-rss": { unit: "MB" },
      "memory-log-peak": { unit: "MB", goal: atMost(200, "value") },
    },
    once: true,
    run: logMemory,
  },
  "memory-flat": {
    figures: {
      "memory-flat": { unit: "% off the median", goal: atMost(10, "value") },
      "memory-flat-rss": { unit: "MB" },
      "memory-flat-runs": { unit: "runs/s" },
      "memory-flat-cpu": { unit: "ms of CPU a run" },
    },
    once: true,
    run: memoryFlat,
  },
};

/** The API server is stopped, so every message waits; all are let into memory. */
async function waiting(repeats: number, messages: number): Promise<Sample[]> {
  const count = messages * 4;
  const samples: Sample[] = [];
  for (let repeat = 0; repeat < repeats; repeat++) {
    await using scene = await Scene.start({
      rows: [benchRow("waiting", "lab/waiting")],
      cluster: JOBS_ONLY,
      env: { MQTT_RECEIVE_MAXIMUM: "65535", MAX_WAITING_MESSAGES: "65535" },
    });
    await using clock = await scene.clock();
    await scene.publish(Array.from({ length: 2_000 }, () => "lab/waiting"), 200);
    await clock.until(2_000);
    const before = await settledRssMb(scene.service.pid);
    await scene.kit.cluster.apiServer.freeze();
    await scene.publish(Array.from({ length: count }, () => "lab/waiting"), 200);
    const value = (await quietRssMb(scene.service.pid) - before) * 1e6 / count;
    scene.kit.cluster.apiServer.signal("SIGCONT");
    samples.push({ "memory-waiting-message": { value } });
  }
  return samples;
}

/** Resident memory when it has not grown for three seconds: the broker has handed over what it will. */
async function quietRssMb(pid: number): Promise<number> {
  let highest = rssMb(pid);
  for (let quiet = 0; quiet < 15; quiet++) {
    await pause(200);
    const now = rssMb(pid);
    if (now > highest * 1.005) quiet = 0;
    highest = Math.max(highest, now);
  }
  return highest;
}

/**
 * Jobs that nobody ends, twice as many as `messages`, looked at first after 2,000; then a new process that finds them all
 * there.
 */
async function liveJobs(repeats: number, messages: number): Promise<Sample[]> {
  const samples: Sample[] = [];
  for (let repeat = 0; repeat < repeats; repeat++) {
    await using scene = await Scene.start({ rows: [benchRow("live", "lab/live")], cluster: JOBS_ONLY });
    await using clock = await scene.clock();
    await makeLive(scene, clock, Math.min(2_000, messages * 2));
    const first = await settledRssMb(scene.service.pid);
    await makeLive(scene, clock, messages * 2);
    const value = await settledRssMb(scene.service.pid);
    await scene.service.kill9();
    await using again = await startBundled(scene.env);
    const restarted = await settledRssMb(again.pid);
    samples.push({
      "memory-2000-messages": { value: first },
      "memory-live-jobs": { value },
      "memory-live-jobs-restart": { value: restarted },
    });
  }
  return samples;
}

/** Publishes on `lab/live` until the clock has seen so many Jobs; a thousand messages at a time. */
export async function makeLive(
  scene: Scene,
  clock: { readonly count: number; until(count: number): Promise<number> },
  jobs: number,
): Promise<void> {
  while (clock.count < jobs) {
    const next = Math.min(jobs, clock.count + 1_000);
    await scene.publish(Array.from({ length: next - clock.count }, () => "lab/live"));
    await clock.until(next);
  }
}

/** Runs that have begun and not ended, at most: each waits three seconds at its end for pods that there are none of. */
const UNDER_WAY = 1_500;
const WINDOWS = 10;

interface Taken {
  /** How far it had come: runs that had ended, or samples of a log's memory. */
  readonly at: number;
  readonly rss: number;
}

/** Twenty times `messages` runs that end at once: their Jobs get the status that a Job controller would write. */
async function memoryFlat(
  _repeats: number,
  messages: number,
  tell: (point: BenchPoint) => void,
): Promise<Sample[]> {
  const count = messages * 20;
  await using scene = await Scene.start({ rows: [benchRow("flat", "lab/flat")], cluster: JOBS_ONLY });
  await using ender = new JobEnder(scene.kit.cluster.api);
  await using _clock = await scene.clock("default", (runName, createdAt) => {
    ender.end({ runName, createdAt, fails: false, afterMs: 0 });
  });
  const ear = await mqtt.connectAsync(scene.kit.broker.url, { protocolVersion: 5 });
  let ends = 0;
  ear.on("message", () => ends++);
  await ear.subscribeAsync(`${PREFIX}/job_complete/+`, { qos: 1 });
  const { pid } = scene.service;
  const taken: Taken[] = [];
  const sampling = setInterval(() => taken.push({ at: ends, rss: rssMb(pid) }), 100);
  const begun = { at: performance.now(), cpu: cpuSeconds(pid) };
  try {
    await sendAll(scene, count, () => ends);
  } finally {
    clearInterval(sampling);
    await ear.endAsync(true);
  }
  const seconds = (performance.now() - begun.at) / 1_000;
  const windows = windowsOf(taken, count);
  windows.forEach((value, index) => {
    const x = Math.round(count * (0.1 + 0.9 * (index + 1) / WINDOWS));
    tell({ name: "growth-messages-memory", unit: "MB", x, xUnit: "runs ended", value: rounded(value) });
  });
  return [{
    "memory-flat": { value: unevenness(windows) },
    "memory-flat-rss": { value: median(windows) },
    "memory-flat-runs": { value: count / seconds },
    "memory-flat-cpu": { value: (cpuSeconds(pid) - begun.cpu) * 1_000 / count },
  }];
}

/** Publishes so many messages, the next ones as runs end, and waits for the last end. */
export async function sendAll(
  scene: Scene,
  count: number,
  ended: () => number,
  topic = "lab/flat",
): Promise<void> {
  let [sent, last, changedAt] = [0, 0, performance.now()];
  while (ended() < count) {
    const room = Math.min(UNDER_WAY - (sent - ended()), count - sent);
    if (room >= 50 || room > 0 && sent + room === count) {
      await scene.publish(Array.from({ length: room }, () => topic));
      sent += room;
    } else {
      await pause(5);
    }
    if (ended() !== last) [last, changedAt] = [ended(), performance.now()];
    if (performance.now() - changedAt > 60_000) {
      throw new Error(`No run has ended for a minute: ${last} of ${count} have`);
    }
  }
}

/** Medians of ten stretches of the way to `count`; the first tenth of it is warm-up and left out. */
function windowsOf(taken: readonly Taken[], count: number): number[] {
  return Array.from({ length: WINDOWS }, (_, index) => {
    const [from, to] = [index, index + 1].map((part) => count * (0.1 + 0.9 * part / WINDOWS)) as [number, number];
    return median(taken.filter(({ at }) => at >= from && at < to).map(({ rss }) => rss));
  }).filter((value) => !Number.isNaN(value));
}

/** One log of `--gigabytes` (preset 1), from its first byte until it is put together; the first tenth of the time apart. */
async function logMemory(_repeats: number, messages: number): Promise<Sample[]> {
  const gigabytes = Number(flag("gigabytes") ?? Math.min(1, messages / 5_000));
  await checkSpace(gigabytes);
  const { rssMb: taken, whole } = await measureLogVolume(gigabytes);
  if (!whole) throw new Error("The log in the store is not what was sent");
  const windows = windowsOf(taken.map((rss, at) => ({ at, rss })), taken.length);
  return [{
    "memory-log": { value: unevenness(windows) },
    "memory-log-rss": { value: median(windows) },
    "memory-log-peak": { value: Math.max(...taken) },
  }];
}

/** Segments, the whole log and the store's parts of it lie on the disk at one time. */
async function checkSpace(gigabytes: number): Promise<void> {
  const { stdout } = await new Deno.Command("df", { args: ["--output=avail", "-B1", "/tmp"] }).output();
  const free = Number(new TextDecoder().decode(stdout).trim().split("\n").at(-1)) / 1e9;
  if (free > 3.5 * gigabytes) return;
  throw new Error(`A log of ${gigabytes} GB needs ${3.5 * gigabytes} GB in /tmp, and ${free.toFixed(1)} GB are free`);
}
