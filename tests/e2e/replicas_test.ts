/**
 * Two replicas on one real API server and broker: one leads, and the other one takes over without a lost message when
 * the leader is killed, ended, or cut off. How long that takes is printed.
 */
import { match, ok, strictEqual } from "node:assert/strict";
import { JobWatch } from "../harness/job_watch.ts";
import { type Kit, startKit } from "../harness/kit.ts";
import { needs } from "../harness/needs.ts";
import { TcpProxy } from "../harness/proxy.ts";
import { MqttEar, type ServiceProcess, startService } from "../harness/service.ts";
import { csv } from "../harness/table.ts";
import { eventually } from "../harness/wait.ts";

const MESSAGES = 20;
/** Preset of leader.ts: how long a silent leader keeps the lease, and how often the other one looks, at most. */
const LEASE_MS = 15_000;
const LOOK_MS = 2_400;

/** A first replica that leads and a second that waits, with what is seen of their work. */
class Replicas implements AsyncDisposable {
  sent = 0;

  private constructor(
    readonly first: ServiceProcess,
    readonly taking: Promise<ServiceProcess>,
    readonly wire: TcpProxy,
    readonly jobs: JobWatch,
    readonly ear: MqttEar,
  ) {}

  /** The first one reaches the API server through the wire. */
  static async start(kit: Kit): Promise<Replicas> {
    const env: Record<string, string> = { ...kit.env(), LEADER_ELECT: "true" };
    await kit.s3.put(env["CATALOG_URL"]!, csv([{ job_name: "a", mqtt_topic: "lab/a", image: "busybox:lab" }]));
    const wire = new TcpProxy(kit.cluster.port);
    const jobs = await JobWatch.start(kit.cluster.api);
    const ear = await MqttEar.connect(env["MQTT_URL"]!, ["services/mqtt_job_listener/#"]);
    const kubeconfig = await kit.cluster.tokenKubeconfig(`https://127.0.0.1:${wire.port}`);
    const first = await startService({ ...env, REPLICA_NAME: "first", KUBECONFIG: kubeconfig });
    const taking = startService({ ...env, REPLICA_NAME: "second" });
    return new Replicas(first, taking, wire, jobs, ear);
  }

  async send(): Promise<void> {
    for (let n = 0; n < MESSAGES; n++) await this.ear.publish("lab/a", String(this.sent++));
  }

  /** Waits until each message that was sent has its Job; resolves to the time of that (performance.now()). */
  async untilTaken(): Promise<number> {
    await eventually(() => this.jobs.created("a").length >= this.sent, {
      timeoutMs: 60_000,
      intervalMs: 10,
      what: () => `${this.sent} Jobs; ${this.jobs.created("a").length} are there`,
    });
    return performance.now();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.first[Symbol.asyncDispose]();
    await (await this.taking)[Symbol.asyncDispose]();
    await this.ear[Symbol.asyncDispose]();
    await this.jobs[Symbol.asyncDispose]();
    await this.wire[Symbol.asyncDispose]();
  }
}

/** Ends the first one's lead by `trouble`, and looks that each message has one Job; resolves to the time it took. */
async function failover(replicas: Replicas, trouble: () => Promise<void>): Promise<number> {
  await replicas.send();
  await replicas.untilTaken();
  const beginMs = performance.now();
  await trouble();
  await replicas.send();
  const ms = await replicas.untilTaken() - beginMs;
  await replicas.taking;
  await replicas.send();
  await replicas.untilTaken();
  strictEqual(replicas.jobs.created("a").length, 3 * MESSAGES);
  return ms;
}

/** A test with two replicas on parts of their own. */
function replicasTest(name: string, fn: (replicas: Replicas) => Promise<void>): void {
  Deno.test({
    name: `${name}: each message has one Job`,
    ignore,
    async fn() {
      await using kit = await startKit({ cluster: { node: "none" } });
      await using replicas = await Replicas.start(kit);
      await fn(replicas);
    },
  });
}

function emit(from: string, ms: number): void {
  console.log(`From ${from} to the last of ${MESSAGES} Jobs: ${(ms / 1_000).toFixed(1)} s`);
}

const ignore = !await needs("mosquitto", "s3", "cluster");

replicasTest("a replica takes over from a killed leader", async (replicas) => {
  const ms = await failover(replicas, () => replicas.first.kill9());
  emit("SIGKILL of the leader", ms);
  ok(ms < LEASE_MS + LOOK_MS + 10_000, `${ms} ms`);
});

replicasTest("a replica takes over at once from a leader that ends in order", async (replicas) => {
  const ms = await failover(replicas, () => replicas.first.stop());
  emit("SIGTERM of the leader", ms);
  ok(ms < LEASE_MS, `${ms} ms: the lease was not given up`);
});

replicasTest(
  "a leader that is cut off from the API server stops itself, and a replica takes over",
  async (replicas) => {
    const beginMs = performance.now();
    let stoppedMs = 0;
    void replicas.first.ended.then(() => stoppedMs = performance.now());
    const ms = await failover(replicas, () => {
      replicas.wire.mode = "blackhole";
      return Promise.resolve();
    });
    emit("the cut", ms);
    await eventually(() => stoppedMs > 0, { what: "the first one to end" });
    match(await replicas.first.log(), /the lease could not be renewed/);
    ok(stoppedMs - beginMs < LEASE_MS + 10_000, `stopped after ${stoppedMs - beginMs} ms`);
  },
);
