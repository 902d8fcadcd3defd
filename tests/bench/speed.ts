/**
 * Measurements of how fast the service is: messages to Jobs, one message to its Job, its start, its table.
 * The limits are taken by turns with the values.
 */
import { bundleEntry } from "../harness/bundled.ts";
import { startService } from "../harness/service.ts";
import { pause } from "../harness/wait.ts";
import { parseTableInSlices, rowsFor } from "../../catalog.ts";
import { TopicIndex } from "../../topics.ts";
import { atLeast, atMost, cpuSeconds, type Measurement, percentile, rssMb, type Sample } from "./measure.ts";
import type { JobClock } from "./job_clock.ts";
import { benchRow, JOBS_ONLY, Scene } from "./scene.ts";

const PREFIX = "services/mqtt_job_listener";

/** By name. */
export const SPEED: Readonly<Record<string, Measurement>> = {
  "burst-one-topic": {
    figures: {
      "burst-one-topic": { unit: "Jobs/s", goal: atLeast(0.8) },
      "burst-one-topic-hop": { unit: "Jobs/s" },
      "burst-one-topic-cpu": { unit: "ms of CPU a message", goal: atMost(1, "value") },
    },
    run: (repeats, messages) => burst("burst-one-topic", { repeats, messages, rows: 1 }),
  },
  "burst-500-topics": {
    figures: {
      "burst-500-topics": { unit: "Jobs/s", goal: atLeast(0.8) },
      "burst-500-topics-hop": { unit: "Jobs/s" },
      "burst-500-topics-cpu": { unit: "ms of CPU a message", goal: atMost(1, "value") },
    },
    run: (repeats, messages) => burst("burst-500-topics", { repeats, messages, rows: 500 }),
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
      "cold-start-bundle": { unit: "ms", goal: atMost(400, "value") },
      "memory-idle": { unit: "MB", goal: atMost(150, "value") },
      "memory-idle-bundle": { unit: "MB", goal: atMost(100, "value") },
    },
    run: idle,
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

const WARM_UP = 200;

/**
 * Two limits: a process that only creates the same Jobs, and (`-hop`) one that creates each when its message has come
 * through the same broker from the same publisher.
 */
async function burst(
  name: string,
  { repeats, messages, rows }: { repeats: number; messages: number; rows: number },
): Promise<Sample[]> {
  await using scene = await Scene.start({
    rows: Array.from({ length: rows }, (_, index) => benchRow(`burst-${index}`, `lab/burst/${index}`)),
    cluster: JOBS_ONLY,
  });
  const topics = (count: number) => Array.from({ length: count }, (_, index) => `lab/burst/${index % rows}`);
  const hopTopics = (turn: string, count: number) => Array.from({ length: count }, (_, n) => `lab/hop/${turn}-${n}`);
  await using clock = await scene.clock();
  // Watches the limits' Jobs too, so that the server serves as many watches of them: this and the process' own.
  await using bareClock = await scene.clock("bare");
  const perSecond = async (seen: JobClock, sent: readonly string[]) => {
    const before = seen.count;
    const begun = performance.now();
    void scene.publish(sent);
    return sent.length / ((await seen.until(before + sent.length)) - begun) * 1000;
  };
  await perSecond(clock, topics(WARM_UP));
  await using _listener = await scene.listenBare("lab/hop/+");
  await perSecond(bareClock, hopTopics("warm", WARM_UP));
  const samples: Sample[] = [];
  for (let repeat = 0; repeat < repeats; repeat++) {
    let cpuMs = NaN;
    const turns = {
      service: async () => {
        const before = cpuSeconds(scene.service.pid);
        const rate = await perSecond(clock, topics(messages));
        cpuMs = (cpuSeconds(scene.service.pid) - before) * 1_000;
        return rate;
      },
      bare: async () => {
        const before = bareClock.count;
        const { ms } = await scene.createBare(messages, { warmUp: WARM_UP });
        await bareClock.until(before + WARM_UP + messages);
        return messages / ms * 1000;
      },
      hop: () => perSecond(bareClock, hopTopics(String(repeat), messages)),
    };
    const taken = { service: NaN, bare: NaN, hop: NaN };
    // By turns: the one that comes later finds more Jobs in the cluster.
    const order = ["service", "bare", "hop"] as const;
    for (const turn of repeat % 2 === 0 ? order : order.toReversed()) taken[turn] = await turns[turn]();
    samples.push({
      [name]: { value: taken.service, limit: taken.bare },
      [`${name}-hop`]: { value: taken.service, limit: taken.hop },
      [`${name}-cpu`]: { value: cpuMs / messages },
    });
  }
  return samples;
}

const LATENCY_BLOCKS = 10;
const LATENCY_BLOCK = 40;

/**
 * The limit: the same message goes through the same broker to a process that creates the same Job at once. Service and
 * limit take turns of less than a second, so that what else the machine does meets both.
 */
async function latency(repeats: number): Promise<Sample[]> {
  await using scene = await Scene.start({ rows: [benchRow("latency", "lab/latency/+")], cluster: JOBS_ONLY });
  await using seen = await scene.clock();
  await using seenBare = await scene.clock("bare");
  const times = (of: "latency" | "bare", name: string, count = LATENCY_BLOCK) =>
    scene.publishPaced({
      count,
      perSecond: 50,
      topicOf: (index) => `lab/${of}/${name}-${index}`,
      seenAt: (of === "bare" ? seenBare : seen).seenAt,
    });
  await times("latency", "warm", 200);
  await using _listener = await scene.listenBare("lab/bare/+");
  await times("bare", "warm", 200);
  const samples: Sample[] = [];
  for (let repeat = 0; repeat < repeats; repeat++) {
    const [service, bare]: [number[], number[]] = [[], []];
    for (let block = 0; block < LATENCY_BLOCKS; block++) {
      bare.push(...await times("bare", `m${repeat}-${block}`));
      service.push(...await times("latency", `m${repeat}-${block}`));
    }
    samples.push({
      "latency-p50": { value: percentile(service, 50), limit: percentile(bare, 50) },
      "latency-p99": { value: percentile(service, 99), limit: percentile(bare, 99) },
    });
  }
  return samples;
}

async function idle(repeats: number): Promise<Sample[]> {
  await using scene = await Scene.start({ rows: [benchRow("idle", "lab/idle")], bare: true });
  const bundle = await bundleEntry();
  const samples: Sample[] = [];
  const start = async (entry: string, settleMs = 5_000) => {
    const begun = performance.now();
    // Jobs of its own; the session at the broker is the one before, as at a restart.
    await using service = await startService({ ...scene.env, INSTANCE: `bench-${samples.length}` }, { entry });
    const ms = performance.now() - begun;
    await pause(settleMs);
    return { ms, rss: rssMb(service.pid) };
  };
  // Deno compiles what it has not run before, and keeps that.
  for (const entry of ["main.ts", bundle]) await start(entry, 1_000);
  for (let repeat = 0; repeat < repeats; repeat++) {
    const source = await start("main.ts");
    const bundled = await start(bundle);
    samples.push({
      "cold-start": { value: source.ms },
      "cold-start-bundle": { value: bundled.ms },
      "memory-idle": { value: source.rss },
      "memory-idle-bundle": { value: bundled.rss },
    });
  }
  return samples;
}

const HEADER = "job_name,mqtt_topic,image,command,cpu_request,cpu_limit,memory_request,memory_limit,gpu,disk_request," +
  "disk_limit,disk_mount,parallelism";

function bigTable(): Uint8Array {
  const lines = Array.from({ length: 100_000 }, (_, n) => {
    const topic = n % 2 ? `${PREFIX}/job_complete/job-${n - 1}` : `lab/${n % 500}/+/dev${n}`;
    return `job-${n},${topic},lab/job-${n}:v1,python run.py --n ${n},0.5,1,500Mi,1Gi,0,10Gi,20Gi,/tmp,1`;
  });
  return new TextEncoder().encode(`${HEADER}\n${lines.join("\n")}\n`);
}

async function table(repeats: number): Promise<Sample[]> {
  const options = { topicPrefix: PREFIX };
  const edited = bigTable();
  const samples: Sample[] = [];
  for (let repeat = 0; repeat < repeats; repeat++) {
    // What the bench itself has left, tables as texts among it, is not the service's to collect.
    collectGarbage();
    let [stall, last] = [0, performance.now()];
    const ticker = setInterval(() => {
      const now = performance.now();
      stall = Math.max(stall, now - last);
      last = now;
    }, 0);
    const begun = performance.now();
    const parsed = await parseTableInSlices(edited, options);
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

function collectGarbage(): void {
  const { gc } = globalThis as { gc?: () => void };
  if (!gc) throw new Error("Cannot measure the table without --v8-flags=--expose-gc");
  gc();
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
