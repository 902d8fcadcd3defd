/**
 * `deno task bench growth`: how cost grows with rows of the table, with live Jobs and with the bytes of a log; how it
 * grows with messages is a by-product of `memory-flat`. Each point is one measurement; there are no goals.
 */
import { startService } from "../harness/service.ts";
import { csv } from "../harness/table.ts";
import { parseTableInSlices, rowsFor } from "../../catalog.ts";
import { measureLogVolume } from "./log_volume.ts";
import { makeLive } from "./memory.ts";
import { type BenchPoint, percentile, rounded, settledRssMb } from "./measure.ts";
import { benchRow, JOBS_ONLY, Scene } from "./scene.ts";

type Emit = (point: BenchPoint) => void;

/** Measures all points; `messages` below 5,000 leaves out the larger ones, for a trial. */
export async function measureGrowth(messages: number, tell: Emit): Promise<void> {
  const largest = messages / 5_000;
  await withRows([1, 100, 10_000, 100_000].filter((count) => count <= 100_000 * largest || count === 1), tell);
  await withLiveJobs([100, 1_000, 5_000, 10_000].filter((count) => count <= 10_000 * largest), tell);
  await withLogBytes([10, 100, 1_000].filter((megabytes) => megabytes <= 1_000 * largest), tell);
}

/** Messages whose way to their Job is measured, at 50 a second. */
const TIMED = 100;

async function withRows(counts: readonly number[], tell: Emit): Promise<void> {
  await using scene = await Scene.start({ rows: [], cluster: JOBS_ONLY, bare: true });
  await using clock = await scene.clock();
  for (const x of counts) {
    const point = (name: string, unit: string, value: number) =>
      tell({ name: `growth-rows-${name}`, unit, x, xUnit: "rows", value: rounded(value) });
    const table = csv(Array.from({ length: x }, (_, index) => benchRow(`row-${index}`, `lab/rows/${index}/+`)));
    const options = { topicPrefix: "services/mqtt_job_listener" };
    const begunMs = performance.now();
    const parsed = await parseTableInSlices(new TextEncoder().encode(table), options);
    point("table", "ms", performance.now() - begunMs);
    const matchedMs = performance.now();
    for (let n = 0; n < 20_000; n++) rowsFor(parsed, `lab/rows/${n % x}/x`);
    point("match", "µs", (performance.now() - matchedMs) * 1_000 / 20_000);
    await scene.kit.s3.put(scene.env["CATALOG_URL"]!, table);
    // A session of its own, without the subscriptions of the table before.
    const startedMs = performance.now();
    await using service = await startService({ ...scene.env, INSTANCE: `rows-${x}`, MQTT_CLIENT_ID: `rows-${x}` }, {
      readyTimeoutMs: 300_000,
    });
    point("start", "ms", performance.now() - startedMs);
    point("memory", "MB", await settledRssMb(service.pid));
    const timed = (name: string, count: number) =>
      scene.publishPaced({
        count,
        perSecond: 50,
        topicOf: (index) => `lab/rows/${index % x}/${name}-${x}-${index}`,
        seenAt: clock.seenAt,
      });
    await timed("warm", 50);
    point("latency", "ms", percentile(await timed("m", TIMED), 50));
  }
}

async function withLiveJobs(counts: readonly number[], tell: Emit): Promise<void> {
  await using scene = await Scene.start({
    rows: [benchRow("live", "lab/live"), benchRow("timed", "lab/timed/+")],
    cluster: JOBS_ONLY,
  });
  await using clock = await scene.clock();
  for (const x of counts) {
    const point = (name: string, unit: string, value: number) =>
      tell({ name: `growth-jobs-${name}`, unit, x, xUnit: "live Jobs", value: rounded(value) });
    await makeLive(scene, clock, x);
    point("memory", "MB", await settledRssMb(scene.service.pid));
    const times = await scene.publishPaced({
      count: TIMED,
      perSecond: 50,
      topicOf: (index) => `lab/timed/${x}-${index}`,
      seenAt: clock.seenAt,
    });
    point("latency", "ms", percentile(times, 50));
  }
}

async function withLogBytes(counts: readonly number[], tell: Emit): Promise<void> {
  for (const x of counts) {
    const { rssMb, seconds, whole } = await measureLogVolume(x / 1_000);
    if (!whole) throw new Error("The log in the store is not what was sent");
    const same = { x, xUnit: "MB of log" };
    tell({ name: "growth-log-memory", unit: "MB", ...same, value: rounded(Math.max(...rssMb)) });
    tell({ name: "growth-log-time", unit: "s", ...same, value: seconds });
  }
}
