/**
 * What is attacked: the service as a process, on a real broker, store and API server (without nodes), each behind a gate
 * at which a peer can be made hostile. A canary stands in every secret setting. Measures what an attack may not break:
 * life, memory, health, the event loop, messages. Knows no attack.
 */
import type { V1Job, V1Pod } from "@kubernetes/client-node";
import { equal, ok } from "node:assert/strict";
import { bundleEntry, startBundled } from "../harness/bundled.ts";
import { startCluster, type TestCluster } from "../harness/cluster.ts";
import { removeFolder, scratchFolder } from "../harness/folder.ts";
import { envOf, JobWatch } from "../harness/job_watch.ts";
import { startMosquitto } from "../harness/mosquitto.ts";
import { freePort } from "../harness/ports.ts";
import { HttpProxy } from "../harness/proxy.ts";
import { type S3Server, startS3 } from "../harness/s3.ts";
import { MALLOC, MqttEar, type ServiceProcess } from "../harness/service.ts";
import { type Cells, csv } from "../harness/table.ts";
import { eventually, pause } from "../harness/wait.ts";
import { BrokerGate } from "./broker_gate.ts";
import { type Canaries, found, makeCanaries } from "./canaries.ts";

export const PREFIX = "services/attacked";
/** The container limit under which the service is to live, in MB. */
export const LIMIT_MB = 512;
/** What it may take of it, or `MORE_MB` more than before the attack: V8 does not give back what it once had. */
export const MOST_MB = 300;
export const MORE_MB = 50;
export const HEALTH_MS = 1_000;
export const TURN_MS = 50;
/** Bytes kept of one run's output in the attacked service. */
export const MAX_LOG_BYTES = 8 * 1024 * 1024;
/** Open files that the service may have. */
const DESCRIPTORS = 4_096;

/** One attack. `run` resolves with what was seen, and throws where a bound of its own was broken. */
export interface Attack {
  readonly actor: string;
  readonly name: string;
  /** The bound in words, beside those of all. */
  readonly bound: string;
  /** Part of the form in CI. */
  readonly short?: true;
  /** Where messages, tables and answers of allowed sizes are the memory: only the limit counts. */
  readonly large?: boolean;
  /** Longest turn of the event loop. Default: TURN_MS; `null`: not one input, so only health counts. */
  readonly turnMs?: number | null;
  run(bed: Bed, form: Form): Promise<string>;
}

/** `short`: smaller sizes, for CI. */
export type Form = "short" | "full";

/** What was measured while an attack went on. */
export interface Measured {
  /** Resident memory before the attack, and at most during it. */
  readonly beforeMb: number;
  readonly peakMb: number;
  readonly healthMs: readonly number[];
  readonly turnMs: number;
}

interface Parts {
  readonly s3: S3Server;
  readonly cluster: TestCluster;
  readonly brokerGate: BrokerGate;
  readonly storeGate: HttpProxy;
  readonly apiGate: HttpProxy;
  readonly service: ServiceProcess;
  readonly ear: MqttEar;
  readonly jobs: JobWatch;
  readonly limited: boolean;
  /** Ends them all. */
  readonly stack: AsyncDisposableStack;
}

const ROWS: readonly Cells[] = [
  // Normal messages; nothing attacks this row.
  { job_name: "normal", mqtt_topic: "lab/normal" },
  { job_name: "any", mqtt_topic: "lab/any/#" },
  { job_name: "chatty", mqtt_topic: "lab/chatty" },
  { job_name: "after", mqtt_topic: `${PREFIX}/job_complete/normal` },
].map((cells) => ({ image: "busybox:lab", command: "true", ...cells }));

export class Bed implements AsyncDisposable {
  /** Numbers of the normal messages that were sent. */
  readonly #sent: number[] = [];
  #logRead = 0;

  private constructor(
    private readonly parts: Parts,
    readonly canaries: Canaries,
    readonly env: Readonly<Record<string, string>>,
    private readonly dir: string,
  ) {}

  static async start(): Promise<Bed> {
    const stack = new AsyncDisposableStack();
    try {
      const dir = await scratchFolder("attack");
      stack.defer(() => removeFolder(dir));
      const hook = stack.use(Deno.serve({ hostname: "127.0.0.1", port: 0, onListen() {} }, () => {
        return new Response("no", { status: 500 });
      }));
      const canaries = makeCanaries({ webhook: `http://127.0.0.1:${hook.addr.port}` });
      const secretKey = canaries["AWS_SECRET_ACCESS_KEY"]!;
      const users = { service: canaries["MQTT_PASSWORD"]!, ear: "ear", attacker: "attacker" };
      const [broker, s3, cluster] = await Promise.all([
        startMosquitto({ users, maxQueuedMessages: 0 }).then((one) => stack.use(one)),
        startS3({ secretKey }).then((one) => stack.use(one)),
        startCluster({ node: "none" }).then((one) => stack.use(one)),
      ]);
      const brokerGate = stack.use(new BrokerGate(broker.port));
      const storeGate = stack.use(await HttpProxy.start({ target: s3.url }));
      const certificate = await cluster.authority.server("gate", ["127.0.0.1"]);
      const apiGate = stack.use(
        await HttpProxy.start({ target: cluster.server, targetCa: cluster.authority.ca, certificate }),
      );
      const root = `s3://${s3.buckets[0]}/${PREFIX}`;
      // The S3 server of the tests takes no temporary keys; commands that fail are tried with it.
      const { AWS_SESSION_TOKEN: _, ...usable } = canaries;
      const env: Record<string, string> = {
        ...MALLOC,
        ...usable,
        OTEL_EXPORTER_OTLP_HEADERS: `api-key=${encodeURIComponent(canaries["OTEL_EXPORTER_OTLP_HEADERS"]!)}`,
        MQTT_URL: `mqtt://127.0.0.1:${brokerGate.port}`,
        MQTT_USERNAME: "service",
        AWS_ENDPOINT_URL: storeGate.url,
        AWS_REGION: s3.region,
        AWS_ACCESS_KEY_ID: s3.accessKey,
        TOPIC_PREFIX: PREFIX,
        CATALOG_URL: `${root}/jobs.csv`,
        CATALOG_POLL: "1h",
        LOGS_URL: `${root}/logs`,
        RUNS_URL: `${root}/runs`,
        KUBECONFIG: await cluster.tokenKubeconfig(apiGate.url),
        NAMESPACE: "default",
        STATUS_ADDR: `127.0.0.1:${freePort()}`,
        WEBHOOK_ON: "all",
        MAX_LOG_BYTES: String(MAX_LOG_BYTES),
        ATTACK_METER: `${dir}/turns`,
        NO_COLOR: "1",
      };
      await Deno.writeTextFile(env["ATTACK_METER"]!, "");
      await s3.put(env["CATALOG_URL"]!, csv(ROWS));
      const meter = new URL("meter.ts", import.meta.url).pathname;
      const runFlags = ["--no-check", "--no-config", "--preload", meter];
      const group = await limitedGroup(stack);
      // In the group from the start, as in a container: V8 sizes its heap by what it finds.
      const script = `ulimit -n ${DESCRIPTORS}; ${group ? `echo $$ >${group}/cgroup.procs; ` : ""}exec "$@"`;
      const under = ["sh", "-c", script, "sh"];
      const service = stack.use(await startBundled(env, { runFlags, under }));
      const limited = group !== undefined;
      const url = `mqtt://ear:ear@127.0.0.1:${broker.port}`;
      const ear = stack.use(await MqttEar.connect(url, [`${PREFIX}/#`]));
      const jobs = stack.use(await JobWatch.start(cluster.api));
      const parts = { s3, cluster, brokerGate, storeGate, apiGate, service, ear, jobs, limited, stack };
      return new Bed(parts, canaries, env, dir);
    } catch (error) {
      await stack.disposeAsync();
      throw error;
    }
  }

  get s3(): S3Server {
    return this.parts.s3;
  }

  get cluster(): TestCluster {
    return this.parts.cluster;
  }

  get brokerGate(): BrokerGate {
    return this.parts.brokerGate;
  }

  get storeGate(): HttpProxy {
    return this.parts.storeGate;
  }

  get apiGate(): HttpProxy {
    return this.parts.apiGate;
  }

  get service(): ServiceProcess {
    return this.parts.service;
  }

  get ear(): MqttEar {
    return this.parts.ear;
  }

  get jobs(): JobWatch {
    return this.parts.jobs;
  }

  /** Whether the machine holds the service to LIMIT_MB. */
  get limited(): boolean {
    return this.parts.limited;
  }

  get page(): string {
    return `http://${this.env["STATUS_ADDR"]}`;
  }

  get port(): number {
    return Number(this.env["STATUS_ADDR"]!.split(":")[1]);
  }

  get token(): string {
    return this.canaries["STATUS_TOKEN"]!;
  }

  publish(topic: string, payload: string | Uint8Array): Promise<void> {
    const late = AbortSignal.timeout(60_000);
    return Promise.race([
      this.ear.publish(topic, payload),
      new Promise<void>((_, reject) =>
        late.addEventListener("abort", () => reject(new Error(`${topic} is not taken`)))
      ),
    ]);
  }

  /** Puts a table of these rows and the usual ones, and resolves with what the service says of it. */
  async table(rows: readonly Cells[] | string | Uint8Array): Promise<Record<string, unknown>> {
    const text = typeof rows === "string" || rows instanceof Uint8Array ? rows : csv([...ROWS, ...rows]);
    await this.s3.put(this.env["CATALOG_URL"]!, text);
    return await this.ask("refresh", {});
  }

  /** An answer to a request over MQTT. */
  async ask(what: string, fields: Record<string, unknown>, timeoutMs = 60_000): Promise<Record<string, unknown>> {
    const transaction = crypto.randomUUID();
    await this.publish(`${PREFIX}/request/${what}`, JSON.stringify({ ...fields, transaction }));
    return await eventually(
      () => this.answers(what).find((answer) => answer["transaction"] === transaction),
      { timeoutMs, what: `the answer to ${what}` },
    );
  }

  answers(what: string): Record<string, unknown>[] {
    return this.ear.json(`${PREFIX}/response/${what}`);
  }

  /** Sends a message that must run once. */
  async sendNormal(): Promise<void> {
    const n = this.#sent.length;
    this.#sent.push(n);
    await this.publish("lab/normal", JSON.stringify({ n }));
  }

  /** The Jobs of a row that were made; waits for `count`. */
  created(row: string, count: number, timeoutMs = 60_000): Promise<V1Job[]> {
    return eventually(() => this.jobs.created(row).length >= count && this.jobs.created(row), {
      timeoutMs,
      what: async () => `${count} Jobs of ${row} (${this.jobs.created(row).length}); ${await this.service.logTail(15)}`,
    });
  }

  /** Resolves when each normal message has run; throws where one ran twice. */
  async normalRan(): Promise<void> {
    const runs = () => {
      const counts = new Map<string, number>();
      for (const job of this.jobs.created("normal")) {
        const n = envOf(job)["PAYLOAD_N"] ?? "?";
        counts.set(n, (counts.get(n) ?? 0) + 1);
      }
      return counts;
    };
    await eventually(() => this.#sent.every((n) => runs().has(String(n))), {
      what: async () =>
        `normal messages ${this.#sent.filter((n) => !runs().has(String(n)))} to run; ${await this.service.logTail(15)}`,
    });
    const wrong = [...runs()].filter(([, count]) => count !== 1);
    equal(wrong.length, 0, `ran more than once: ${JSON.stringify(wrong)}`);
  }

  /** The pod of a run, as the controller made it. */
  async podOf(runName: string): Promise<V1Pod> {
    const path = `/api/v1/namespaces/default/pods?labelSelector=${encodeURIComponent(`job-name=${runName}`)}`;
    return await eventually(async () => (await this.cluster.api.get<{ items: V1Pod[] }>(path)).items[0], {
      what: `the pod of ${runName}`,
    });
  }

  /** Pretends what a kubelet would say of the pod's one container: it runs, or it ended with 0. */
  async setPod(pod: V1Pod, state: "running" | "ended"): Promise<void> {
    const at = new Date().toISOString().replace(/\.\d+/, "");
    const containerState = state === "running"
      ? { running: { startedAt: at } }
      : { terminated: { exitCode: 0, reason: "Completed", startedAt: at, finishedAt: at } };
    const { name } = pod.spec!.containers[0]!;
    await this.cluster.api.patch(`/api/v1/namespaces/default/pods/${pod.metadata!.name}/status`, {
      status: {
        phase: state === "running" ? "Running" : "Succeeded",
        containerStatuses: [{
          name,
          image: "busybox:lab",
          imageID: "",
          ready: state === "running",
          restartCount: 0,
          state: containerState,
        }],
      },
    });
  }

  /** Runs `attack` and measures meanwhile. A normal message is sent during and one after it. */
  async measure(attack: () => Promise<string>): Promise<{ seen: string; measured: Measured }> {
    await this.#acknowledged();
    await Deno.writeTextFile(`/proc/${this.service.pid}/clear_refs`, "5").catch(() => {});
    const beforeMb = await this.#peakMb();
    const from = Date.now();
    const healthMs: number[] = [];
    let over = false;
    const probing = (async () => {
      do {
        healthMs.push(await this.#healthMs());
        if (healthMs.length === 2) await this.sendNormal();
        await pause(100);
      } while (!over || healthMs.length < 3);
    })();
    let seen = "";
    try {
      seen = await attack();
    } finally {
      over = true;
      await probing;
    }
    await this.sendNormal();
    await this.normalRan();
    equal(this.service.status, undefined, "the process ended");
    const turns = (await Deno.readTextFile(this.env["ATTACK_METER"]!)).trim().split("\n").map((line) =>
      line.split(" ")
    );
    const turnMs = Math.max(0, ...turns.filter(([at]) => Number(at) >= from).map(([, ms]) => Number(ms)));
    return { seen, measured: { beforeMb, peakMb: await this.#peakMb(), healthMs, turnMs } };
  }

  /** Throws where a canary stands in what came out of the service since the last look. */
  async checkCanaries(): Promise<void> {
    const log = await this.service.log();
    const outputs: Record<string, string> = {
      log: log.slice(Math.max(0, this.#logRead - 1_000)),
      topics: this.ear.heard.map(({ topic, text }) => `${topic} ${text}`).join("\n"),
    };
    this.#logRead = log.length;
    const pages = [
      "/",
      "/index.json",
      "/runs",
      "/runs.json?state=failed",
      "/table.json",
      "/graph",
      "/usage",
      "/messages",
    ];
    for (const path of [...pages, "/metrics", "/healthz", "/readyz", "/runs/nothing"]) {
      const answer = await fetch(this.page + path).catch((error) => new Response(String(error)));
      outputs[`page ${path}`] = await answer.text();
    }
    for (const [output, text] of Object.entries(outputs)) {
      const names = found(text, this.canaries);
      ok(names.length === 0, `${names.join(", ")} stands in the ${output}`);
    }
  }

  /** Each record and log, for canaries. */
  async checkStore(): Promise<void> {
    for (const folder of ["logs", "runs"]) {
      for (const at of await this.s3.list(`${this.env["LOGS_URL"]!.replace(/logs$/, "")}${folder}/`)) {
        const names = found((await this.s3.get(at)) ?? "", this.canaries);
        ok(names.length === 0, `${names.join(", ")} stands in ${at}`);
      }
    }
  }

  /** A command of the program with the service's own settings; `terminal`: as a person at one sees it. */
  async command(
    args: readonly string[],
    { env = {}, terminal = false }: { env?: Readonly<Record<string, string>>; terminal?: boolean } = {},
  ): Promise<{ code: number; out: string }> {
    const all = [Deno.execPath(), "run", "-A", "--no-prompt", "--no-check", await bundleEntry(), ...args];
    const [command, ...rest] = terminal ? ["script", "-qec", all.join(" "), "/dev/null"] : all;
    const { code, stdout, stderr } = await new Deno.Command(command!, {
      args: rest,
      env: { ...this.env, ...env },
      cwd: this.dir,
      stdin: "null",
    }).output();
    const text = new TextDecoder();
    return { code, out: text.decode(stdout) + text.decode(stderr) };
  }

  /** Infinity: no answer; that a peer is away is one. From an address of its own, as a kubelet has; an attacker's connections are not its. */
  async #healthMs(): Promise<number> {
    const start = performance.now();
    using client = Deno.createHttpClient({ localAddress: "127.0.0.2" });
    const signal = AbortSignal.timeout(60_000);
    try {
      const answer = await fetch(`${this.page}/healthz`, { client, signal });
      await answer.body?.cancel();
      return performance.now() - start;
    } catch {
      return Infinity;
    }
  }

  /**
   * Resolves when all messages are acknowledged, or some seconds later: of an attack before, some may have to wait. A false
   * broker that says it has the session, and for half a minute sends none of what is not acknowledged, makes it run twice.
   */
  async #acknowledged(): Promise<void> {
    const none = async () => /_waiting_messages 0$/m.test(await (await fetch(`${this.page}/metrics`)).text());
    await eventually(none, { timeoutMs: 5_000 }).catch(() => {});
  }

  /** Most resident memory since the last clear_refs, in MB. */
  async #peakMb(): Promise<number> {
    const status = await Deno.readTextFile(`/proc/${this.service.pid}/status`);
    return Number(/VmHWM:\s+(\d+)/.exec(status)?.[1]) / 1_000;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.parts.stack.disposeAsync();
  }
}

/** A control group of LIMIT_MB, where the machine has those of version 1 and this is root. */
async function limitedGroup(stack: AsyncDisposableStack): Promise<string | undefined> {
  const group = `/sys/fs/cgroup/memory/mjl-attack-${crypto.randomUUID().slice(0, 8)}`;
  try {
    await Deno.mkdir(group);
    await Deno.writeTextFile(`${group}/memory.limit_in_bytes`, String(LIMIT_MB * 1024 * 1024));
  } catch {
    return undefined;
  }
  stack.defer(() => eventually(() => Deno.remove(group).then(() => true)).then(() => {}));
  return group;
}
