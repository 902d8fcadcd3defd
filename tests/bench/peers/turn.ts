/**
 * One turn: a contestant is started, warmed up, sent the messages of one case, and what it made of them is counted from
 * outside, by the API server's watch and its list. Knows nothing of who the contestant is.
 */
import { Buffer } from "node:buffer";
import mqtt, { type MqttClient } from "mqtt";
import type { TestCluster } from "../../harness/cluster.ts";
import { eventually, pause } from "../../harness/wait.ts";
import { JobClock } from "../job_clock.ts";
import { cpuSecondsOf, percentile, rounded } from "../measure.ts";
import type { Scene } from "../scene.ts";
import type { Contestant, Running, Start } from "./contestants.ts";
import type { Outcome } from "./line.ts";
import { Group } from "./processes.ts";

/** What is sent, and what happens meanwhile. */
export interface Case {
  readonly title: string;
  readonly messages: number;
  /** Absent: all at once. */
  readonly perSecond?: number;
  /** In the middle of the messages. */
  readonly fault?: "kill-9" | "broker-restart";
  /** So long after the last message Jobs are waited for, as long as they come. Default 60,000. */
  readonly limitMs?: number;
}

const JOBS = "/apis/batch/v1/namespaces/default/jobs";
const METADATA_ONLY = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1";
/** So long no Job has come: none will. Beyond the 30 s after which JetStream sends again what was not acknowledged. */
const QUIET_MS = 40_000;
const WARM_UP = 100;
/** Longer than the service waits for pods of a Job that is gone. */
const QUIET_WINDOW_MS = 5_000;
/** Of a core. */
const QUIET_SHARE = 0.05;

/** Starts, measures and ends one contestant; no Job is left. */
export async function takeTurn(contestant: Contestant, one: Case, options: Omit<Start, "filter">): Promise<Outcome> {
  const { scene, id } = options;
  await using sender = await Sender.connect(scene, `lab/${id}`);
  await deleteJobs(scene.kit.cluster);
  await using running = await contestant.start({ ...options, filter: `lab/${id}/+` });
  {
    await using clock = await scene.clock();
    await warmUp(sender, clock, contestant.warmUp ?? WARM_UP, running);
  }
  await deleteJobs(scene.kit.cluster);
  await quiet(running);
  await using clock = await scene.clock();
  return await measure(one, { scene, sender, running, clock });
}

/** Messages until the first Job shows that it is subscribed, then some at once. */
async function warmUp(sender: Sender, clock: JobClock, count: number, running: Running): Promise<void> {
  let sent = 0;
  await eventually(async () => {
    if (clock.count > 0) return true;
    await sender.send(`first-${sent++}`);
    return false;
  }, { timeoutMs: 60_000, intervalMs: 1_000, what: async () => `a first Job\n${await running.logTail()}` });
  await Promise.all(Array.from({ length: count }, (_, index) => sender.send(`warm-${index}`)));
  await eventually(() => sender.missing(clock, /warm/).length === 0, {
    timeoutMs: 60_000,
    what: async () => `Jobs of ${count} messages; ${clock.count} have come\n${await running.logTail()}`,
  });
  // What is done after a Job was made, and what a rate limit must recover.
  await pause(3_000);
  sender.forget();
}

/** What is done about Jobs that are gone is no part of what messages cost: the service tells how each of them ended. */
async function quiet(running: Running): Promise<void> {
  await eventually(async () => {
    const before = cpuSecondsOf(running.pids());
    await pause(QUIET_WINDOW_MS);
    return cpuSecondsOf(running.pids()) - before < QUIET_WINDOW_MS / 1_000 * QUIET_SHARE;
  }, { timeoutMs: 60_000, what: async () => `nothing to be done any more\n${await running.logTail()}` });
}

async function measure(
  { messages, perSecond, fault, limitMs = 60_000 }: Case,
  { scene, sender, running, clock }: { scene: Scene; sender: Sender; running: Running; clock: JobClock },
): Promise<Outcome> {
  const { controlPlanePids } = scene.kit.cluster;
  const controlPlane = () => cpuSecondsOf(controlPlanePids);
  await using group = new Group(() => running.pids());
  const before = { cpu: group.cpu(), controlPlane: controlPlane() };
  const begun = performance.now();
  const faults: Promise<void>[] = [];
  for (let index = 0; index < messages; index++) {
    if (perSecond !== undefined) await pause(Math.max(0, begun + index * 1_000 / perSecond - performance.now()));
    if (index === messages / 2 && fault === "kill-9") faults.push(running.killAndStart());
    if (index === messages / 2 && fault === "broker-restart") {
      await sender.duringRestart(() => scene.kit.broker.restart());
    }
    void sender.send(`m-${index}`);
  }
  const sentAll = performance.now();
  await Promise.all(faults);
  await sender.taken();
  const end = await lastJob(sender, clock, {
    deadline: sentAll + limitMs,
    look: () => ({ cpu: group.cpu() - before.cpu, controlPlane: controlPlane() - before.controlPlane }),
  });
  const missing = sender.missing(clock).length;
  const times = sender.times(clock);
  const lastSeen = Math.max(begun, ...clock.seenAt.values());
  const seconds = (lastSeen - begun) / 1_000;
  return {
    jobs: times.length,
    seconds: rounded(seconds),
    perSecond: rounded(times.length / seconds),
    p50: rounded(percentile(times, 50)),
    p99: rounded(percentile(times, 99)),
    cpu: rounded(end.cpu),
    controlPlaneCpu: rounded(end.controlPlane),
    memoryMb: rounded(group.peakMb),
    lost: end.late ? 0 : missing,
    doubled: await doubled(scene),
    late: end.late ? missing : 0,
  };
}

interface Spent {
  readonly cpu: number;
  readonly controlPlane: number;
}

/** Waits until every message has its Job or no further one comes; what was spent until then. */
async function lastJob(
  sender: Sender,
  clock: JobClock,
  { deadline, look }: { deadline: number; look: () => Spent },
): Promise<Spent & { readonly late: boolean }> {
  let [count, since, spent] = [-1, performance.now(), look()];
  while (sender.missing(clock).length > 0) {
    const now = performance.now();
    if (clock.count !== count) [count, since, spent] = [clock.count, now, look()];
    if (now - since > QUIET_MS) return { ...spent, late: false };
    if (now > deadline && now - since < QUIET_MS / 2) return { ...look(), late: true };
    await pause(100);
  }
  // What is still to be done for the last Jobs belongs to them.
  await pause(1_000);
  return { ...look(), late: false };
}

/** Jobs of messages that have more than one, without the first one of each. */
async function doubled({ kit: { cluster } }: Scene): Promise<number> {
  const client = Deno.createHttpClient({ caCerts: [cluster.authority.ca] });
  try {
    const response = await fetch(`${cluster.server}${JOBS}`, {
      client,
      headers: { authorization: `Bearer ${cluster.token}`, accept: METADATA_ONLY },
    });
    const { items } = await response.json() as { items: { metadata: { annotations: Record<string, string> } }[] };
    const topics = items.map(({ metadata }) => metadata.annotations["mqtt-job-listener/topic"]);
    return topics.length - new Set(topics).size;
  } finally {
    client.close();
  }
}

/** All of the namespace `default`; resolves when they are gone. */
export async function deleteJobs({ api }: TestCluster): Promise<void> {
  await api.delete(JOBS, { propagationPolicy: "Background" });
  await eventually(async () => (await api.get<{ items: unknown[] }>(`${JOBS}?limit=1`)).items.length === 0, {
    timeoutMs: 120_000,
    intervalMs: 200,
    what: "all Jobs to be deleted",
  });
}

/** Publishes with QoS 1, one topic a message, and knows when; goes on after the broker was away. */
class Sender implements AsyncDisposable {
  readonly #client: MqttClient;
  readonly #begin: string;
  readonly #payload: (bytes: number) => string;
  readonly #sentAt = new Map<string, number>();
  readonly #open = new Set<Promise<unknown>>();

  private constructor(client: MqttClient, begin: string, payload: (bytes: number) => string) {
    this.#client = client;
    this.#begin = begin;
    this.#payload = payload;
    // Without a listener a lost connection would end the bench.
    client.on("error", () => {});
  }

  static async connect(scene: Scene, begin: string): Promise<Sender> {
    const client = await mqtt.connectAsync(scene.kit.broker.url, { protocolVersion: 5, reconnectPeriod: 100 });
    return new Sender(client, begin, (bytes) => scene.payload(bytes));
  }

  /** Resolves when the broker has it. */
  async send(name: string): Promise<void> {
    const topic = `${this.#begin}/${name}`;
    this.#sentAt.set(topic, performance.now());
    const taken = this.#client.publishAsync(topic, Buffer.from(this.#payload(40)), { qos: 1 });
    this.#open.add(taken);
    await taken.finally(() => this.#open.delete(taken));
  }

  /** Waits until the broker has all messages. */
  async taken(): Promise<void> {
    await Promise.all(this.#open);
  }

  /** Nothing is under way meanwhile, so that a message that comes twice was not sent twice. */
  async duringRestart(restart: () => Promise<void>): Promise<void> {
    await this.taken();
    await restart();
    await eventually(() => this.#client.connected, { timeoutMs: 30_000, what: "the broker after its restart" });
  }

  /** Topics that have no Job. */
  missing({ seenAt }: JobClock, name = /./): string[] {
    return [...this.#sentAt.keys()].filter((topic) => name.test(topic) && !seenAt.has(topic));
  }

  /** Of each message that has a Job. */
  times({ seenAt }: JobClock): number[] {
    return [...this.#sentAt].flatMap(([topic, at]) => {
      const seen = seenAt.get(topic);
      return seen === undefined ? [] : [seen - at];
    });
  }

  forget(): void {
    this.#sentAt.clear();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#client.endAsync(true);
  }
}
