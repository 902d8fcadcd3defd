/**
 * Measurement of what a million ended runs leave in memory: the whole core with the index of runs, metrics and the event
 * log, in a process of its own, on ports that keep nothing. A hundred runs a second would take three hours, so its clocks
 * go faster by so much that what is forgotten after ten minutes is, as it would be. What adapters leave is `memory-flat`'s.
 */
import process from "node:process";
import { Metrics } from "../../observers/metrics.ts";
import { eventLog } from "../../observers/event_log.ts";
import { LocalStore } from "../../local/store.ts";
import type { Broker, BrokerEvents, Cluster, ClusterEvents, JobFacts, RunSpec } from "../../ports.ts";
import { Service } from "../../service.ts";
import { setupLog } from "../../util/log.ts";
import { jobOf, pod } from "../harness/fakes.ts";
import { V8_FLAGS } from "../harness/service.ts";
import { csv } from "../harness/table.ts";
import { eventually, pause } from "../harness/wait.ts";
import {
  atMost,
  type BenchPoint,
  type Measurement,
  median,
  rounded,
  rssMb,
  type Sample,
  unevenness,
} from "./measure.ts";

/** By name. */
export const MILLION: Readonly<Record<string, Measurement>> = {
  "million": {
    figures: {
      "million-runs": { unit: "runs" },
      "million-heap": { unit: "% off the median", goal: atMost(10, "value") },
      "million-heap-median": { unit: "MB" },
      "million-rss": { unit: "MB" },
      "million-cpu": { unit: "ms of CPU a run" },
    },
    once: true,
    run: measure,
  },
};

/** Runs for each message that is asked for: a million with the preset. */
const RUNS_A_MESSAGE = 200;
/** How much faster its clocks and timers go. */
const FASTER = 20;
const UNDER_WAY = 400;
const WINDOWS = 10;
const ROWS = 50;

interface Taken {
  readonly runs: number;
  readonly heapMb: number;
  readonly rssMb: number;
}

async function measure(_repeats: number, messages: number, tell: (point: BenchPoint) => void): Promise<Sample[]> {
  const runs = messages * RUNS_A_MESSAGE;
  const { success, stdout } = await new Deno.Command(Deno.execPath(), {
    args: ["run", "-A", "--no-check", `${V8_FLAGS},--expose-gc`, import.meta.filename!, String(runs)],
    stdout: "piped",
    stderr: "inherit",
  }).output();
  if (!success) throw new Error("The process that makes the runs has failed");
  const { taken, cpuMs }: { taken: Taken[]; cpuMs: number } = JSON.parse(new TextDecoder().decode(stdout));
  const point = (name: string, value: (one: Taken) => number) =>
    taken.forEach((one) =>
      tell({ name: `growth-ended-${name}`, unit: "MB", x: one.runs, xUnit: "runs ended", value: rounded(value(one)) })
    );
  point("heap", ({ heapMb }) => heapMb);
  point("rss", ({ rssMb }) => rssMb);
  // The first is warm-up, and comes before anything is forgotten.
  const rest = taken.slice(1);
  return [{
    "million-runs": { value: runs },
    "million-heap": { value: unevenness(rest.map(({ heapMb }) => heapMb)) },
    "million-heap-median": { value: median(rest.map(({ heapMb }) => heapMb)) },
    "million-rss": { value: Math.max(...rest.map(({ rssMb }) => rssMb)) },
    "million-cpu": { value: cpuMs / runs },
  }];
}

/** Keeps the session and the index's segments in a folder, and no record. */
class ForgetfulStore extends LocalStore {
  override put(...args: Parameters<LocalStore["put"]>): Promise<void> {
    return isOfARun(args[0]) ? Promise.resolve() : super.put(...args);
  }

  override putIfAbsent(...args: Parameters<LocalStore["putIfAbsent"]>): Promise<boolean> {
    return isOfARun(args[0]) ? Promise.resolve(true) : super.putIfAbsent(...args);
  }
}

/** A record or a log. */
function isOfARun(key: string): boolean {
  return /^row-\d+-[a-z2-7]{12}\./.test(key);
}

/** Jobs that end as soon as they are there, and are forgotten when they are deleted. */
class ForgetfulCluster implements Partial<Cluster> {
  readonly url = "bench cluster";
  readonly rotatesLogs = false;
  readonly heardAt = new Date();
  readonly #jobs = new Map<string, JobFacts>();
  #events: ClusterEvents | undefined;

  async create(spec: RunSpec): Promise<"created" | "exists"> {
    const { runName } = spec;
    if (this.#jobs.has(runName)) return "exists";
    const facts = jobOf(spec, { startedAt: new Date() });
    this.#jobs.set(runName, facts);
    await pause(0);
    this.#events?.onJob(facts);
    setTimeout(() => {
      const ended: JobFacts = { ...facts, finishedAt: new Date(), end: { type: "Complete" } };
      this.#jobs.set(runName, ended);
      this.#events?.onPod(pod({ podName: `${runName}-x`, runName }));
      this.#events?.onJob(ended);
    }, 1);
    return "created";
  }

  async delete(runName: string): Promise<void> {
    await pause(0);
    const facts = this.#jobs.get(runName);
    if (!this.#jobs.delete(runName)) return;
    this.#events?.onPodGone(`${runName}-x`, runName);
    this.#events?.onJobGone(runName, facts!);
  }

  get(runName: string): Promise<JobFacts | undefined> {
    return Promise.resolve(this.#jobs.get(runName));
  }

  watch(events: ClusterEvents, signal: AbortSignal): Promise<void> {
    this.#events = events;
    events.onSynced();
    return new Promise((resolve) => signal.addEventListener("abort", () => resolve(), { once: true }));
  }

  pods = (names: readonly string[]) =>
    Promise.resolve(names.map((runName) => pod({ podName: `${runName}-x`, runName })));
  logs = () => Promise.resolve(ReadableStream.from([new TextEncoder().encode(`${new Date().toISOString()} done\n`)]));
  events = () => Promise.resolve([]);
}

/** Hands over what it is told to, and counts what it is told of ends. */
class BenchBroker implements Broker {
  readonly url = "mqtt://bench";
  readonly connected = true;
  readonly refused = new Map<string, string>();
  ended = 0;
  #events: BrokerEvents | undefined;
  #sent = 0;

  connect(events: BrokerEvents): Promise<void> {
    this.#events = events;
    events.onConnect({ sessionPresent: false });
    return Promise.resolve();
  }

  send(topic: string, filter: string): void {
    const packetId = this.#sent++ % 65_535 + 1;
    const payload = new TextEncoder().encode(`{"n":${this.#sent},"plate":"${this.#sent % 97}"}`);
    const more = { qos: 1 as const, retain: false, dup: false, packetId, filters: [filter], done() {} };
    this.#events!.onDelivery({ topic, payload, ...more });
  }

  publish(topic: string): Promise<void> {
    if (topic.includes("/job_complete/")) this.ended++;
    return Promise.resolve();
  }

  subscribe = () => Promise.resolve();
  reconnect = () => {};
  pause = () => {};
  close = () => Promise.resolve();
}

function goFaster(): void {
  const [now, date] = [performance.now.bind(performance), Date.now.bind(Date)];
  const [begunNow, begun] = [now(), date()];
  performance.now = () => begunNow + (now() - begunNow) * FASTER;
  Date.now = () => Math.round(begun + (date() - begun) * FASTER);
  const { setTimeout, setInterval } = globalThis;
  globalThis.setTimeout = ((run: () => void, ms = 0) => setTimeout(run, ms / FASTER)) as typeof globalThis.setTimeout;
  globalThis.setInterval =
    ((run: () => void, ms = 0) => setInterval(run, ms / FASTER)) as typeof globalThis.setInterval;
}

async function make(runs: number): Promise<{ taken: Taken[]; cpuMs: number }> {
  // In memory: a disk is waited for, and that is another measurement's.
  const dir = await Deno.makeTempDir({ dir: "/dev/shm", prefix: "mjl-million-" });
  try {
    setupLog({ level: "info", format: "json", write: () => {} });
    const store = new ForgetfulStore(`${dir}/runs`);
    const rows = Array.from({ length: ROWS }, (_, n) => ({
      job_name: `row-${n}`,
      image: "lab/image:v1",
      mqtt_topic: `lab/${n}/+`,
      command: "python run.py {payload.plate}",
    }));
    const tables = new LocalStore(`${dir}/tables`);
    await tables.put("jobs.csv", csv(rows));
    const broker = new BenchBroker();
    const service = new Service({
      broker,
      cluster: new ForgetfulCluster() as Partial<Cluster> as Cluster,
      stores: { catalog: tables, catalogKey: "jobs.csv", logs: new ForgetfulStore(`${dir}/logs`), runs: store },
      topicPrefix: "services/mqtt_job_listener",
      settings: {
        pollMs: 3600_000,
        handleRetained: false,
        createConcurrency: 16,
        maxChainDepth: 20,
        gracePeriods: { imagePullMs: 1e9, unschedulableMs: 1e9, nodeLostMs: 1e9 },
        logs: { followers: 200, memoryBytes: 1 << 26, maxBytes: 1e9 },
        info: {},
        data: { folder: `${dir}/data` },
      },
      listeners: [eventLog()],
    });
    const metrics = new Metrics({ version: "bench", snapshot: () => service.snapshot() });
    service.subscribe(metrics.emit);
    goFaster();
    await service.start();
    const taken: Taken[] = [];
    let sent = 0;
    for (let window = 1; window <= WINDOWS; window++) {
      const until = Math.round(runs * window / WINDOWS);
      while (broker.ended < until) {
        for (; sent < until && sent - broker.ended < UNDER_WAY; sent++) {
          broker.send(`lab/${sent % ROWS}/${sent % 1_000}`, `lab/${sent % ROWS}/+`);
        }
        await pause(1);
      }
      await eventually(() => service.runs.size === 0, { what: "all runs to be forgotten", timeoutMs: 600_000 });
      (globalThis as { gc?: () => void }).gc?.();
      const { heapUsed } = Deno.memoryUsage();
      taken.push({ runs: until, heapMb: heapUsed / 1e6, rssMb: rssMb(Deno.pid) });
      console.error(JSON.stringify(taken.at(-1)));
    }
    const { user, system } = process.cpuUsage();
    return { taken, cpuMs: (user + system) / 1_000 };
  } finally {
    await Deno.remove(dir, { recursive: true });
  }
}

if (import.meta.main) {
  console.log(JSON.stringify(await make(Number(Deno.args[0]))));
  Deno.exit(0);
}
