/**
 * Measurements of flows: ten groups of items, runs that wait for a slot, rows that run by the clock; what they cost in
 * memory and in calls, and what they do to the message of a row that has nothing to do with them. Judges nothing.
 */
import mqtt from "mqtt";
import { JobEnder } from "../chaos/ender.ts";
import type { KubeApi } from "../harness/kube_api.ts";
import { eventually } from "../harness/wait.ts";
import type { JobClock } from "./job_clock.ts";
import {
  atMost,
  type Measurement,
  median,
  percentile,
  rssMb,
  type Sample,
  settledRssMb,
  unevenness,
} from "./measure.ts";
import { sendAll } from "./memory.ts";
import { benchRow, JOBS_ONLY, Scene } from "./scene.ts";

const PREFIX = "services/mqtt_job_listener";

/** By name. */
export const FLOWS: Readonly<Record<string, Measurement>> = {
  "groups": {
    figures: {
      "groups-memory": { unit: "% off the median", goal: atMost(10, "value") },
      "groups-rss": { unit: "MB" },
      "groups-items": { unit: "items/s" },
      "groups-calls": { unit: "API calls an item", goal: atMost(4, "value") },
      "groups-latency-p50": { unit: "ms", goal: atMost(1.5) },
    },
    run: groups,
  },
  "group-memory": {
    figures: {
      "group-memory": { unit: "MB", goal: atMost(1.2) },
      "group-memory-more": { unit: "MB more", goal: atMost(30, "value") },
    },
    run: groupMemory,
  },
  "limits": {
    figures: { "limits-rss": { unit: "MB" }, "limits-latency-p50": { unit: "ms", goal: atMost(1.5) } },
    run: limits,
  },
  "schedules": {
    figures: {
      "schedules-rss": { unit: "MB", goal: atMost(300, "value") },
      "schedules-latency-p50": { unit: "ms", goal: atMost(1.5) },
    },
    run: schedules,
  },
};

const GROUPS = 10;
const SLOTS = 50;
const SCHEDULES = 500;
const PLAIN = benchRow("plain", "lab/plain/+");
/** Messages of the row that has nothing to do with the rest, and how many of them a second. */
const UNRELATED = 40;
const UNRELATED_PER_SECOND = 10;

/** Median time from an unrelated message to its Job. */
async function unrelated(scene: Scene, clock: JobClock, turn: string): Promise<number> {
  const topicOf = (index: number) => `lab/plain/${turn}-${index}`;
  const { seenAt } = clock;
  return percentile(
    await scene.publishPaced({ count: UNRELATED, perSecond: UNRELATED_PER_SECOND, topicOf, seenAt }),
    50,
  );
}

/** Ten groups, of twice as many items as `messages` together. */
async function groups(repeats: number, messages: number): Promise<Sample[]> {
  const size = Math.ceil(messages * 2 / GROUPS);
  const items = Array.from({ length: size }, (_, index) => `file-${index}`);
  const samples: Sample[] = [];
  for (let repeat = 0; repeat < repeats; repeat++) {
    await using scene = await Scene.start({
      rows: [PLAIN, benchRow("item", "lab/items", { for_each: "payload.items" })],
      cluster: JOBS_ONLY,
      env: { MAX_ITEMS: String(Math.max(1_000, size)) },
    });
    const { api } = scene.kit.cluster;
    await using ender = new JobEnder(api);
    await using clock = await scene.clock("default", (runName, createdAt) => {
      ender.end({ runName, createdAt, fails: false, afterMs: 0 });
    });
    const ear = await mqtt.connectAsync(scene.kit.broker.url, { protocolVersion: 5 });
    const ended = new Set<string>();
    ear.on("message", (_topic, payload) => ended.add((JSON.parse(payload.toString()) as { group: string }).group));
    await ear.subscribeAsync(`${PREFIX}/group_complete/item`, { qos: 1 });
    const alone = await unrelated(scene, clock, "alone");
    await scene.empty();
    const taken: number[] = [];
    const sampling = setInterval(() => taken.push(rssMb(scene.service.pid)), 100);
    const [calls, begunMs] = [await callsOf(api), performance.now()];
    try {
      for (let n = 0; n < GROUPS; n++) {
        await scene.publisher.publishAsync("lab/items", JSON.stringify({ n, items }), { qos: 1 });
      }
      const beside = await unrelated(scene, clock, "beside");
      await eventually(() => ended.size === GROUPS, {
        timeoutMs: 600_000,
        intervalMs: 100,
        what: () => `${ended.size} of ${GROUPS} groups to end`,
      });
      const seconds = (performance.now() - begunMs) / 1_000;
      await scene.empty();
      samples.push({
        "groups-memory": { value: unevenness(stretches(taken)) },
        "groups-rss": { value: median(taken) },
        "groups-items": { value: GROUPS * size / seconds },
        "groups-calls": { value: (await callsOf(api) - calls) / (GROUPS * size + UNRELATED) },
        "groups-latency-p50": { value: beside, limit: alone },
      });
    } finally {
      clearInterval(sampling);
      await ear.endAsync(true);
    }
  }
  return samples;
}

/**
 * One group of twice as many items as `messages`, against as many messages of a row without items, a few hundred at a
 * time; each with a service of its own. Resident memory that is exceeded for a tenth of the time.
 */
async function groupMemory(repeats: number, messages: number): Promise<Sample[]> {
  const size = messages * 2;
  const items = Array.from({ length: size }, (_, index) => `file-${index}`);
  const during = async (work: (scene: Scene, ended: () => number) => Promise<unknown>): Promise<number> => {
    await using scene = await Scene.start({
      rows: [benchRow("single", "lab/single"), benchRow("item", "lab/items", { for_each: "payload.items" })],
      cluster: JOBS_ONLY,
      env: { MAX_ITEMS: "10000" },
    });
    await using ender = new JobEnder(scene.kit.cluster.api);
    await using _clock = await scene.clock("default", (runName, createdAt) => {
      ender.end({ runName, createdAt, fails: false, afterMs: 0 });
    });
    const ear = await mqtt.connectAsync(scene.kit.broker.url, { protocolVersion: 5 });
    let ended = 0;
    ear.on("message", () => ended++);
    await ear.subscribeAsync(`${PREFIX}/job_complete/+`, { qos: 1 });
    const taken: number[] = [];
    const sampling = setInterval(() => taken.push(rssMb(scene.service.pid)), 100);
    try {
      await work(scene, () => ended);
      await eventually(() => ended >= size, {
        timeoutMs: 600_000,
        intervalMs: 100,
        what: () => `${size} runs to end; ${ended} have`,
      });
      return percentile(taken, 90);
    } finally {
      clearInterval(sampling);
      await ear.endAsync(true);
    }
  };
  const samples: Sample[] = [];
  for (let repeat = 0; repeat < repeats; repeat++) {
    const limit = await during((scene, ended) => sendAll(scene, size, ended, "lab/single"));
    const value = await during((scene) =>
      scene.publisher.publishAsync("lab/items", JSON.stringify({ items }), { qos: 1 })
    );
    samples.push({ "group-memory": { value, limit }, "group-memory-more": { value: value - limit } });
  }
  return samples;
}

/** Medians of five stretches of what was sampled, the first tenth of it left out as warm-up. */
function stretches(taken: readonly number[]): number[] {
  const rest = taken.slice(Math.floor(taken.length / 10));
  const size = Math.max(1, Math.ceil(rest.length / 5));
  return Array.from(
    { length: Math.ceil(rest.length / size) },
    (_, at) => median(rest.slice(at * size, (at + 1) * size)),
  );
}

/** Calls about single Jobs and logs that the API server has answered; not those by which the bench ends Jobs. */
async function callsOf(api: KubeApi): Promise<number> {
  const text = await (await api.request("GET", "/metrics")).text();
  let calls = 0;
  for (const [, labels, count] of text.matchAll(/^apiserver_request_total\{([^}]*)\} (\S+)$/gm)) {
    const is = (label: string, ...values: string[]) => values.some((value) => labels!.includes(`${label}="${value}"`));
    if (is("verb", "WATCH", "LIST")) continue;
    const isJob = is("resource", "jobs") && is("subresource", "");
    if (isJob || is("resource", "pods") && is("subresource", "log")) calls += Number(count);
  }
  return calls;
}

/** Fifty runs have a slot, two fifths of `messages` wait for one. */
async function limits(repeats: number, messages: number): Promise<Sample[]> {
  const jobs = SLOTS + Math.ceil(messages * 0.4);
  const samples: Sample[] = [];
  for (let repeat = 0; repeat < repeats; repeat++) {
    await using scene = await Scene.start({
      rows: [PLAIN, benchRow("limited", "lab/limited", { max_runs: SLOTS, max_waiting: 10_000 })],
      cluster: JOBS_ONLY,
    });
    await using clock = await scene.clock();
    const alone = await unrelated(scene, clock, "alone");
    await scene.publish(Array.from({ length: jobs }, () => "lab/limited"));
    await clock.until(UNRELATED + jobs);
    const beside = await unrelated(scene, clock, "beside");
    samples.push({
      "limits-rss": { value: await settledRssMb(scene.service.pid) },
      "limits-latency-p50": { value: beside, limit: alone },
    });
  }
  return samples;
}

/** Rows that run by the clock, none of them due meanwhile, against a table without them. */
async function schedules(repeats: number, messages: number): Promise<Sample[]> {
  const count = Math.min(SCHEDULES, messages);
  const rows = Array.from({ length: count }, (_, n) => benchRow(`clock-${n}`, "", { schedule: `${n % 60} 0 1 1 *` }));
  const measure = async (more: typeof rows) => {
    await using scene = await Scene.start({ rows: [PLAIN, ...more], cluster: JOBS_ONLY });
    await using clock = await scene.clock();
    return { latency: await unrelated(scene, clock, "one"), rss: await settledRssMb(scene.service.pid) };
  };
  const samples: Sample[] = [];
  for (let repeat = 0; repeat < repeats; repeat++) {
    const [without, withThem] = [await measure([]), await measure(rows)];
    samples.push({
      "schedules-rss": { value: withThem.rss, limit: without.rss },
      "schedules-latency-p50": { value: withThem.latency, limit: without.latency },
    });
  }
  return samples;
}
