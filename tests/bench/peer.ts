/**
 * The service beside a peer of another make, peers/listener.py, on the same messages, broker and cluster, by turns.
 * The peer's figure stands where other rows have their limit.
 */
import { JobEnder } from "../chaos/ender.ts";
import { type HelperProcess, startHelper } from "./helper.ts";
import { atLeast, atMost, type Measurement, percentile, rssMb, type Sample } from "./measure.ts";
import { peerPython } from "./python.ts";
import { benchRow, JOBS_ONLY, Scene } from "./scene.ts";

/** By name. */
export const PEER: Readonly<Record<string, Measurement>> = {
  "peer-burst": {
    figures: {
      "peer-burst": { unit: "Jobs/s", goal: atLeast(1) },
      "peer-memory": { unit: "MB", goal: atMost(1) },
    },
    run: burst,
  },
  "peer-latency": {
    figures: {
      "peer-latency-10-p50": { unit: "ms", goal: atMost(1) },
      "peer-latency-10-p99": { unit: "ms", goal: atMost(1) },
      "peer-latency-50-p50": { unit: "ms", goal: atMost(1) },
      "peer-latency-50-p99": { unit: "ms", goal: atMost(1) },
    },
    run: latency,
  },
};

type Who = "service" | "peer";

/** A fifth of `messages` at once, to each; memory is taken while all their Jobs live. */
async function burst(repeats: number, messages: number): Promise<Sample[]> {
  const count = Math.ceil(messages / 5);
  await using scene = await Scene.start({ rows: [benchRow("burst", "lab/service/+")], cluster: JOBS_ONLY });
  const names: string[] = [];
  await using clock = await scene.clock("default", (name) => names.push(name));
  await scene.publish(["lab/service/first"]);
  await using peer = await startPeer(scene);
  const one = async (who: Who, jobs: number) => {
    const begun = performance.now();
    const before = clock.count;
    void scene.publish(Array.from({ length: jobs }, () => `lab/${who}/burst`));
    const perSecond = jobs / ((await clock.until(before + jobs, 300_000)) - begun) * 1_000;
    const rss = rssMb(who === "peer" ? peer.pid : scene.service.pid);
    await using ender = new JobEnder(scene.kit.cluster.api);
    endAll(ender, names.splice(0), 0);
    await scene.empty();
    return { perSecond, rss };
  };
  for (const who of ["service", "peer"] as const) await one(who, 50);
  const samples: Sample[] = [];
  for (let repeat = 0; repeat < repeats; repeat++) {
    const { service, peer } = await byTurns(repeat, (who) => one(who, count));
    samples.push({
      "peer-burst": { value: service.perSecond, limit: peer.perSecond },
      "peer-memory": { value: service.rss, limit: peer.rss },
    });
  }
  return samples;
}

/** Jobs live for two seconds, so that the peer's threads poll as they would in life. */
const LIFE_MS = 2_000;

async function latency(repeats: number, messages: number): Promise<Sample[]> {
  const counts = { 10: Math.min(100, messages), 50: Math.min(200, messages) } as const;
  await using scene = await Scene.start({ rows: [benchRow("latency", "lab/service/+")], cluster: JOBS_ONLY });
  await using ender = new JobEnder(scene.kit.cluster.api);
  await using clock = await scene.clock("default", (name) => endAll(ender, [name], LIFE_MS));
  await scene.publish(["lab/service/first"]);
  await using _peer = await startPeer(scene);
  let serial = 0;
  const one = async (who: Who, perSecond: 10 | 50, count: number = counts[perSecond]) => {
    const name = ++serial;
    const topicOf = (index: number) => `lab/${who}/${name}-${index}`;
    const times = await scene.publishPaced({ count, perSecond, topicOf, seenAt: clock.seenAt });
    await scene.empty();
    return times;
  };
  for (const who of ["service", "peer"] as const) await one(who, 50, 50);
  const samples: Sample[] = [];
  for (let repeat = 0; repeat < repeats; repeat++) {
    const sample: Record<string, { value: number; limit: number }> = {};
    for (const perSecond of [10, 50] as const) {
      const { service, peer } = await byTurns(repeat, (who) => one(who, perSecond));
      for (const percent of [50, 99]) {
        const figure = { value: percentile(service, percent), limit: percentile(peer, percent) };
        sample[`peer-latency-${perSecond}-p${percent}`] = figure;
      }
    }
    samples.push(sample);
  }
  return samples;
}

async function byTurns<T>(repeat: number, one: (who: Who) => Promise<T>): Promise<Record<Who, T>> {
  if (repeat % 2 === 0) return { service: await one("service"), peer: await one("peer") };
  const peer = await one("peer");
  return { service: await one("service"), peer };
}

function endAll(ender: JobEnder, names: readonly string[], afterMs: number): void {
  const createdAt = new Date().toISOString().replace(/\.\d+Z$/, "Z");
  for (const runName of names) ender.end({ runName, createdAt, fails: false, afterMs });
}

/** Creates the service's Jobs, but for labels by which the service would take them for its own. */
async function startPeer(scene: Scene): Promise<HelperProcess> {
  const { broker, cluster } = scene.kit;
  const template = await scene.template();
  const labels = Object.fromEntries(Object.keys(template.metadata.labels).map((key) => [key, "peer"]));
  const namespace = "default";
  const order = {
    host: "127.0.0.1",
    port: broker.port,
    filter: "lab/peer/+",
    kubeconfig: cluster.kubeconfig,
    namespace,
    completions: "lab/peer-complete",
    template: {
      ...template,
      metadata: { ...template.metadata, namespace, labels },
      spec: { ...template.spec, template: { ...template.spec.template, metadata: { labels } } },
    },
  };
  const script = new URL("./peers/listener.py", import.meta.url).pathname;
  return await startHelper({ name: "peer", command: await peerPython(), args: [script], order });
}
