/**
 * How cost grows with what flows keep: ended runs in the index, items of a group, runs that wait for a slot, rows that run
 * by the clock. Parts of growth.ts; judges nothing.
 */
import { JobEnder } from "../chaos/ender.ts";
import { removeFolder, scratchFolder } from "../harness/folder.ts";
import { MqttEar } from "../harness/service.ts";
import { startBundled } from "../harness/bundled.ts";
import { csv } from "../harness/table.ts";
import { eventually, pause } from "../harness/wait.ts";
import type { Emit } from "./growth.ts";
import { stepOf } from "./history.ts";
import type { JobClock } from "./job_clock.ts";
import { cpuSeconds, percentile, rounded, rssMb, settledRssMb } from "./measure.ts";
import { benchRow, JOBS_ONLY, Scene } from "./scene.ts";

const PREFIX = "services/mqtt_job_listener";
const PLAIN = benchRow("plain", "lab/plain/+");

/** Tells points of one series' begin at one x. */
function pointsAt(of: string, x: number, xUnit: string, tell: Emit) {
  return (name: string, unit: string, value: number) =>
    tell({ name: `growth-${of}-${name}`, unit, x, xUnit, value: rounded(value) });
}

/** Median time from a message to its Job, of a row that has nothing to do with the rest. */
async function latency(scene: Scene, clock: JobClock, turn: string): Promise<number> {
  const topicOf = (index: number) => `lab/plain/${turn}-${index}`;
  return percentile(await scene.publishPaced({ count: 60, perSecond: 20, topicOf, seenAt: clock.seenAt }), 50);
}

/** The index of ended runs, made anew from a folder, and asked what pages ask. */
export async function withRecords(counts: readonly number[], tell: Emit): Promise<void> {
  for (const x of counts) {
    const point = pointsAt("records", x, "ended runs", tell);
    const dir = await scratchFolder("growth");
    try {
      await stepOf({ step: "make", dir, runs: x });
      const build = await stepOf({ step: "build", dir, runs: x });
      const ask = await stepOf({ step: "ask", dir, runs: x });
      point("fill", "s of CPU", build["whole-cpu"]!);
      point("page", "ms", ask["page-p95"]!);
      point("memory", "MB", ask["memory"]!);
    } finally {
      await removeFolder(dir);
    }
  }
}

/** One group after the other, whose Jobs end at once; each with a service of its own. */
export async function withItems(counts: readonly number[], tell: Emit): Promise<void> {
  await using scene = await Scene.start({
    rows: [benchRow("item", "lab/items/+", { for_each: "payload.items" })],
    cluster: JOBS_ONLY,
    bare: true,
  });
  await using ender = new JobEnder(scene.kit.cluster.api);
  await using _clock = await scene.clock("default", (runName, createdAt) => {
    ender.end({ runName, createdAt, fails: false, afterMs: 0 });
  });
  await using ear = await MqttEar.connect(scene.kit.broker.url, [`${PREFIX}/group_complete/item`]);
  for (const x of counts) {
    const point = pointsAt("items", x, "items", tell);
    await using service = await startBundled({ ...scene.env, MAX_ITEMS: "10000", INSTANCE: `items-${x}` });
    const before = ear.heard.length;
    const begunMs = performance.now();
    const taken: number[] = [];
    const items = Array.from({ length: x }, (_, index) => `file-${index}`);
    await scene.publisher.publishAsync(`lab/items/${x}`, JSON.stringify({ items }), { qos: 1 });
    while (ear.heard.length === before) {
      taken.push(rssMb(service.pid));
      await pause(50);
      if (performance.now() - begunMs > 600_000) {
        throw new Error(`The group of ${x} items has not ended in ten minutes`);
      }
    }
    point("time", "s", (performance.now() - begunMs) / 1_000);
    point("memory", "MB", percentile(taken, 90));
    await service.stop();
    await scene.empty();
  }
}

const SLOTS = 20;

/** Twenty runs have a slot, the others wait; then all are let go on. */
export async function withWaiting(counts: readonly number[], tell: Emit): Promise<void> {
  for (const x of counts) {
    const point = pointsAt("waiting", x, "runs that wait", tell);
    await using scene = await Scene.start({
      rows: [PLAIN, benchRow("limited", "lab/limited", { max_runs: SLOTS, max_waiting: 10_000 })],
      cluster: JOBS_ONLY,
    });
    await using ender = new JobEnder(scene.kit.cluster.api);
    const limited: { runName: string; createdAt: string }[] = [];
    await using clock = await scene.clock("default", (runName, createdAt) => {
      if (runName.startsWith("limited-")) limited.push({ runName, createdAt });
    });
    await using ear = await MqttEar.connect(scene.kit.broker.url, [`${PREFIX}/job_complete/limited`]);
    await scene.publish(Array.from({ length: SLOTS + x }, () => "lab/limited"));
    await clock.until(SLOTS + x);
    point("latency", "ms", await latency(scene, clock, "beside"));
    point("memory", "MB", await settledRssMb(scene.service.pid));
    // Ends are written for those that run, in the order of creation: the queue is in that order too.
    const cpu = cpuSeconds(scene.service.pid);
    const ends = Math.min(x, 200);
    for (let n = 0; n < ends; n += SLOTS) {
      for (const one of limited.slice(n, n + SLOTS)) ender.end({ ...one, fails: false, afterMs: 0 });
      const want = Math.min(limited.length, n + SLOTS);
      await eventually(() => ear.heard.length >= want, { timeoutMs: 60_000, what: `${want} ends` });
    }
    point("cpu", "ms a run", (cpuSeconds(scene.service.pid) - cpu) * 1_000 / ends);
  }
}

/** None of them due meanwhile. */
export async function withSchedules(counts: readonly number[], tell: Emit): Promise<void> {
  await using scene = await Scene.start({ rows: [PLAIN], cluster: JOBS_ONLY, bare: true });
  await using clock = await scene.clock();
  for (const x of counts) {
    const point = pointsAt("schedules", x, "schedules", tell);
    const rows = Array.from({ length: x }, (_, n) => benchRow(`clock-${n}`, "", { schedule: `${n % 60} 0 1 1 *` }));
    await scene.kit.s3.put(scene.env["CATALOG_URL"]!, csv([PLAIN, ...rows]));
    const begunMs = performance.now();
    await using service = await startBundled({ ...scene.env, INSTANCE: `clocks-${x}`, MQTT_CLIENT_ID: `clocks-${x}` });
    point("start", "ms", performance.now() - begunMs);
    point("memory", "MB", await settledRssMb(service.pid));
    point("latency", "ms", await latency(scene, clock, `clocks-${x}`));
  }
}
