/**
 * Two replicas on one real API server and broker: one leads, and the other one takes over without a lost message when
 * the leader is killed, ended, or cut off; also where each call of the API server takes 4 s. How long that takes is
 * printed.
 */
import { equal, match, notEqual } from "node:assert/strict";
import { parseAllDocuments } from "yaml";
import { atOnce } from "../harness/at_once.ts";
import { JobWatch } from "../harness/job_watch.ts";
import { type Kit, startKit } from "../harness/kit.ts";
import { needs } from "../harness/needs.ts";
import { freePort } from "../harness/ports.ts";
import { HttpProxy, TcpProxy } from "../harness/proxy.ts";
import { MqttEar, type ServiceProcess, startService } from "../harness/service.ts";
import { csv } from "../harness/table.ts";
import { eventually } from "../harness/wait.ts";

const MESSAGES = 20;
/** Such API servers there are: far away, or with much to do. */
const SLOW_MS = 4_000;

/** The second one is ready when it leads, and not before. */
const UNHURRIED = { readyTimeoutMs: 400_000 };

/** A first replica that leads and a second that waits, with what is seen of their work. */
class Replicas implements AsyncDisposable {
  sent = 0;

  private constructor(
    readonly kit: Kit,
    readonly first: ServiceProcess,
    readonly taking: Promise<ServiceProcess>,
    readonly wire: TcpProxy,
    readonly jobs: JobWatch,
    readonly ear: MqttEar,
    readonly api: HttpProxy,
  ) {}

  /** The first one reaches the API server through the wire, and both so late. */
  static async start(kit: Kit, delayMs: number): Promise<Replicas> {
    const env: Record<string, string> = { ...kit.env(), LEADER_ELECT: "true" };
    await kit.s3.put(env["CATALOG_URL"]!, csv([{ job_name: "a", mqtt_topic: "lab/a", image: "busybox:lab" }]));
    const certificate = await kit.cluster.authority.server("late", ["127.0.0.1"]);
    const { server: target, authority } = kit.cluster;
    const api = await HttpProxy.start({ target, targetCa: authority.ca, certificate, hook: () => ({ delayMs }) });
    const wire = new TcpProxy(api.port);
    const jobs = await JobWatch.start(kit.cluster.api);
    const ear = await MqttEar.connect(env["MQTT_URL"]!, ["services/mqtt_job_listener/#"]);
    const kubeconfig = await kit.cluster.tokenKubeconfig(`https://127.0.0.1:${wire.port}`);
    const first = await startService({ ...env, REPLICA_NAME: "first", KUBECONFIG: kubeconfig }, UNHURRIED);
    const late = await kit.cluster.tokenKubeconfig(api.url);
    const taking = startService({ ...env, REPLICA_NAME: "second", KUBECONFIG: late }, UNHURRIED);
    return new Replicas(kit, first, taking, wire, jobs, ear, api);
  }

  /** Who has the lease, as the API server has it. */
  async holder(): Promise<string | undefined> {
    const leases = "/apis/coordination.k8s.io/v1/namespaces/default/leases";
    const { items } = await this.kit.cluster.api.get<{ items: { spec: { holderIdentity?: string } }[] }>(leases);
    return items[0]?.spec.holderIdentity;
  }

  async send(): Promise<void> {
    for (let n = 0; n < MESSAGES; n++) await this.ear.publish("lab/a", String(this.sent++));
  }

  /** Waits until each message that was sent has its Job; resolves to the time of that (performance.now()). */
  async untilTaken(): Promise<number> {
    await eventually(() => this.jobs.created("a").length >= this.sent, {
      timeoutMs: 120_000,
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
    await this.api[Symbol.asyncDispose]();
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
  equal(replicas.jobs.created("a").length, 3 * MESSAGES);
  return ms;
}

type Case = (replicas: Replicas) => Promise<void>;

/** A case with two replicas on parts of its own. */
async function play(fn: Case, delayMs = 0): Promise<void> {
  await using kit = await startKit({ cluster: { node: "none" } });
  await using replicas = await Replicas.start(kit, delayMs);
  await fn(replicas);
}

function tell(from: string, ms: number): void {
  console.log(`From ${from} to the last of ${MESSAGES} Jobs: ${(ms / 1_000).toFixed(1)} s`);
}

const ignore = !await needs("mosquitto", "s3", "cluster");

/** Cuts the leader off, and waits for its end. */
async function cutOff(replicas: Replicas): Promise<number> {
  const ms = await failover(replicas, () => {
    replicas.wire.mode = "blackhole";
    return Promise.resolve();
  });
  equal((await replicas.first.ended).code, 1);
  match(await replicas.first.log(), /the lease could not be renewed/);
  return ms;
}

const SWIFT: Readonly<Record<string, Case>> = {
  "a replica takes over from a killed leader": async (replicas) => {
    tell("SIGKILL of the leader", await failover(replicas, () => replicas.first.kill9()));
  },

  "a replica takes over at once from a leader that ends in order": async (replicas) => {
    const ms = await failover(replicas, async () => {
      equal(await replicas.holder(), "first");
      await replicas.first.stop();
      notEqual(await replicas.holder(), "first", "the lease was not given up");
    });
    tell("SIGTERM of the leader", ms);
  },

  "a leader that is cut off from the API server stops itself, and a replica takes over": async (replicas) => {
    tell("the cut", await cutOff(replicas));
  },
};

const AT_4_S = "with an API server at 4 s a call";

const LATE: Readonly<Record<string, Case>> = {
  "a leader goes on leading under load": async (replicas) => {
    const renewals = () => replicas.api.requests.filter((request) => /^PUT .*\/leases\//.test(request)).length;
    const from = renewals();
    // As long as two leases last, at least: each renewal takes 4 s.
    while (renewals() < from + 16) {
      await replicas.send();
      await replicas.untilTaken();
    }
    equal(replicas.jobs.created("a").length, replicas.sent);
    equal(replicas.first.status, undefined, await replicas.first.logTail());
    const reads = replicas.api.requests.filter((request) => /^GET .*\/leases\//.test(request)).length;
    console.log(`${replicas.sent} messages, ${renewals()} renewals; ${reads} looks of both replicas at the lease`);
  },

  "a replica takes over from a killed leader": async (replicas) => {
    tell(`SIGKILL of the leader, ${AT_4_S}`, await failover(replicas, () => replicas.first.kill9()));
  },

  "a replica takes over from a leader that ends in order": async (replicas) => {
    tell(`SIGTERM of the leader, ${AT_4_S}`, await failover(replicas, () => replicas.first.stop()));
  },

  "a leader that is cut off stops itself, and a replica takes over": async (replicas) => {
    tell(`the cut, ${AT_4_S}`, await cutOff(replicas));
  },
};

function playing(cases: Readonly<Record<string, Case>>, delayMs?: number): Record<string, () => Promise<void>> {
  return Object.fromEntries(Object.entries(cases).map(([name, fn]) => [name, () => play(fn, delayMs)]));
}

// At once, for nearly all of their minutes is waiting.
atOnce("replicas: each message has one Job", playing(SWIFT), { ignore });
atOnce(`replicas ${AT_4_S}: each message has one Job`, playing(LATE, SLOW_MS), { ignore });

Deno.test({
  name: "a replica whose account may not use the lease says so, and leads when it may",
  ignore,
  async fn() {
    await using kit = await startKit({ cluster: { node: "none" } });
    const { cluster } = kit;
    const roleYaml = await Deno.readTextFile(new URL("../../deploy/role.yaml", import.meta.url));
    const without = roleYaml.replaceAll("[coordination.k8s.io]", "[nobody.example]");
    const kubeconfig = await cluster.serviceAccountKubeconfig({ roleYaml: without, namespace: "lab" });
    const port = freePort();
    // Only the prefix is set: the lease's name is the one that the shipped Role allows.
    const env: Record<string, string> = {
      ...kit.env("lab/service"),
      LEADER_ELECT: "true",
      KUBECONFIG: kubeconfig,
      NAMESPACE: "lab",
      STATUS_ADDR: `127.0.0.1:${port}`,
    };
    await kit.s3.put(env["CATALOG_URL"]!, csv([{ job_name: "a", mqtt_topic: "lab/a", image: "busybox:lab" }]));
    const starting = startService(env, UNHURRIED);
    const ask = async (path: string) => {
      const answer = await fetch(`http://127.0.0.1:${port}${path}`);
      return { status: answer.status, text: await answer.text() };
    };
    const seen = await eventually(async () => {
      const answer = await ask("/readyz");
      return answer.status === 503 && answer;
    });
    match(seen.text, /cannot lead: .*cannot get resource \\?"leases.*deploy\/role\.yaml/);
    equal((await ask("/healthz")).status, 200);
    const roles = "/apis/rbac.authorization.k8s.io/v1/namespaces/lab/roles";
    const [role] = (await cluster.api.get<{ items: { metadata: { name: string } }[] }>(roles)).items;
    const { rules } = parseAllDocuments(roleYaml).map((one) => one.toJS()).find(({ kind }) => kind === "Role");
    await cluster.api.patch(`${roles}/${role!.metadata.name}`, { rules });
    await using service = await starting;
    match(await service.log(), /ERROR .*This replica cannot lead: Cannot read the Lease mqtt-job-listener/);
    equal((await ask("/readyz")).status, 200);
  },
});
