/**
 * `deno task bench growth`, or one part of it such as `growth-rows`: how cost grows with rows of the table, live Jobs, the
 * bytes of a log, ended runs in the index, items of a group, runs that wait and schedules; how it grows with messages is a
 * by-product of `memory-flat` and `million`. Each point is one measurement. The page says which grow faster than what
 * they are measured over.
 */
import { csv } from "../harness/table.ts";
import { parseTableInSlices, rowsFor } from "../../catalog.ts";
import { measureLogVolume } from "./log_volume.ts";
import { withItems, withRecords, withSchedules, withWaiting } from "./growth_flows.ts";
import { makeLive } from "./memory.ts";
import { type BenchPoint, median, percentile, rounded, settledRssMb } from "./measure.ts";
import { startBundled } from "../harness/bundled.ts";
import { benchRow, JOBS_ONLY, Scene } from "./scene.ts";

export type Emit = (point: BenchPoint) => void;

interface Part {
  readonly xs: readonly number[];
  run(xs: readonly number[], tell: Emit): Promise<void>;
}

/** By name. */
export const GROWTH: Readonly<Record<string, Part>> = {
  "growth-rows": { xs: [1, 100, 1_000, 10_000, 100_000], run: withRows },
  "growth-jobs": { xs: [100, 1_000, 5_000, 10_000], run: withLiveJobs },
  "growth-log": { xs: [10, 100, 1_000], run: withLogBytes },
  "growth-records": { xs: [1_000, 10_000, 100_000, 1_000_000], run: withRecords },
  "growth-items": { xs: [10, 100, 1_000, 10_000], run: withItems },
  "growth-waiting": { xs: [20, 200, 2_000], run: withWaiting },
  "growth-schedules": { xs: [1, 50, 500], run: withSchedules },
};

/** Measures the points of a part; `messages` below 5,000 leaves out the larger ones, for a trial. */
export async function measureGrowth(name: string, messages: number, tell: Emit): Promise<void> {
  const { xs, run } = GROWTH[name]!;
  await run(xs.filter((x, at) => at === 0 || x <= xs.at(-1)! * messages / 5_000), tell);
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
    const bytes = new TextEncoder().encode(table);
    const tookMs: number[] = [];
    let parsed = await parseTableInSlices(bytes, options);
    for (let turn = 0; turn < 3; turn++) {
      const begunMs = performance.now();
      parsed = await parseTableInSlices(bytes, options);
      tookMs.push(performance.now() - begunMs);
    }
    point("table", "ms", median(tookMs));
    const matchedMs = performance.now();
    for (let n = 0; n < 20_000; n++) rowsFor(parsed, `lab/rows/${n % x}/x`);
    point("match", "µs", (performance.now() - matchedMs) * 1_000 / 20_000);
    await scene.kit.s3.put(scene.env["CATALOG_URL"]!, table);
    // A session of its own, without the subscriptions of the table before.
    const startedMs = performance.now();
    await using service = await startBundled({ ...scene.env, INSTANCE: `rows-${x}`, MQTT_CLIENT_ID: `rows-${x}` }, {
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
