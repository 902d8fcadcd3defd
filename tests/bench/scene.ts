/**
 * What measurements run on: broker, store and API server of the test harness, the service as a process, publishers and
 * the bare creator. Only puts parts together; what is measured is in rows.ts.
 */
import type { V1Job } from "@kubernetes/client-node";
import { deepEqual } from "node:assert/strict";
import mqtt, { type MqttClient } from "mqtt";
import { BUSYBOX_IMAGE, type ClusterOptions, type TestCluster } from "../harness/cluster.ts";
import { removeFolder, scratchFolder } from "../harness/folder.ts";
import { envOf } from "../harness/job_watch.ts";
import { type Kit, startKit } from "../harness/kit.ts";
import type { MosquittoOptions } from "../harness/mosquitto.ts";
import { MALLOC, type ServiceProcess } from "../harness/service.ts";
import { type Cells, csv } from "../harness/table.ts";
import { eventually, pause } from "../harness/wait.ts";
import { parseTable } from "../../catalog.ts";
import { ANNOTATION, LABEL } from "../../k8s/labels.ts";
import { compact } from "../../util/compact.ts";
import { buildJob } from "../../k8s/manifest.ts";
import type { BareOrder, BareResult, JobTemplate } from "./bare_creator.ts";
import { startBundled } from "../harness/bundled.ts";
import type { BareListenerOrder } from "./bare_listener.ts";
import { type HelperProcess, startHelper } from "./helper.ts";
import { JobClock, type JobClockOptions } from "./job_clock.ts";

/** Create calls at once, of the service and of the bare creator. */
const CONCURRENCY = 16;
/** No pods, and no controller that would make any: Jobs are created, and live until somebody ends them. */
export const JOBS_ONLY: ClusterOptions = { node: "none", controllerFlags: ["--controllers=serviceaccount-controller"] };
const BARE_NAMESPACE = "bare";

export interface SceneOptions {
  readonly rows: readonly Cells[];
  readonly cluster?: ClusterOptions;
  readonly broker?: MosquittoOptions;
  readonly env?: Readonly<Record<string, string>>;
  /** Flags of `deno run` for the service. */
  readonly runFlags?: readonly string[];
  /** Program of the service. Default: the bundle, whose names are short. */
  readonly entry?: string;
  /** No service is started. */
  readonly bare?: boolean;
}

/** A row of the bench's tables. */
export function benchRow(name: string, topic: string, cells: Cells = {}): Cells {
  return { job_name: name, image: BUSYBOX_IMAGE, mqtt_topic: topic, command: "true", ...cells };
}

/** A clock of the Jobs of a namespace. */
export function clockOf(
  { api, server, token, authority }: TestCluster,
  namespace: string,
  onAdded?: JobClockOptions["onAdded"],
): Promise<JobClock> {
  return JobClock.start({ api, server, ca: authority.ca, token, namespace, ...(onAdded ? { onAdded } : {}) });
}

export class Scene implements AsyncDisposable {
  #serial = 0;
  #closed = false;

  private constructor(
    readonly kit: Kit,
    readonly env: Record<string, string>,
    readonly publisher: MqttClient,
    private readonly rows: readonly Cells[],
    private readonly folder: string,
    private readonly started: ServiceProcess | undefined,
  ) {}

  static async start(
    { rows, cluster = { node: "none" }, broker = {}, env = {}, runFlags = [], entry, bare = false }: SceneOptions,
  ): Promise<Scene> {
    // Small messages do not wait for others, as deploy/mosquitto.conf has it.
    const conf = ["set_tcp_nodelay true"];
    const kit = await startKit({ broker: { maxQueuedMessages: 0, conf, ...broker }, cluster });
    const folder = await scratchFolder("data");
    try {
      const all: Record<string, string> = {
        ...kit.env(),
        ...MALLOC,
        DATA_DIR: `${folder}/index`,
        CATALOG_POLL: "1h",
        CREATE_CONCURRENCY: String(CONCURRENCY),
        ...env,
      };
      await kit.s3.put(all["CATALOG_URL"]!, csv(rows));
      await kit.cluster.api.create("/api/v1/namespaces", { metadata: { name: BARE_NAMESPACE } });
      const publisher = await mqtt.connectAsync(kit.broker.url, { protocolVersion: 5 });
      return new Scene(
        kit,
        all,
        publisher,
        rows,
        folder,
        bare ? undefined : await startBundled(all, { runFlags, ...compact({ entry }) }),
      );
    } catch (error) {
      await kit[Symbol.asyncDispose]();
      await removeFolder(folder);
      throw error;
    }
  }

  get service(): ServiceProcess {
    if (this.started === undefined) throw new Error("This scene was started without the service");
    return this.started;
  }

  /** A clock of the service's Jobs, or of the bare creator's. */
  clock(namespace: "default" | "bare" = "default", onAdded?: JobClockOptions["onAdded"]): Promise<JobClock> {
    return clockOf(this.kit.cluster, namespace, onAdded);
  }

  /** Publishes one message a topic with QoS 1, all at once; resolves when the broker has them. */
  async publish(topics: readonly string[], payloadBytes = 40): Promise<void> {
    await Promise.all(
      topics.map((topic) => this.publisher.publishAsync(topic, this.payload(payloadBytes), { qos: 1 })),
    );
  }

  /**
   * Publishes `count` messages at a steady rate, each on a topic of its own, and waits until a Job of each was seen.
   * Milliseconds from the call that publishes to the sight, in the order of sending.
   */
  async publishPaced(
    { count, perSecond, topicOf, seenAt }: {
      readonly count: number;
      readonly perSecond: number;
      readonly topicOf: (index: number) => string;
      readonly seenAt: ReadonlyMap<string, number>;
    },
  ): Promise<number[]> {
    const sent = new Map<string, number>();
    const begun = performance.now();
    for (let index = 0; index < count; index++) {
      await pause(Math.max(0, begun + index * 1_000 / perSecond - performance.now()));
      const topic = topicOf(index);
      sent.set(topic, performance.now());
      void this.publish([topic]);
    }
    const missing = () => [...sent.keys()].filter((topic) => !seenAt.has(topic));
    await eventually(() => missing().length === 0, {
      timeoutMs: 60_000,
      what: () => `Jobs of ${missing().length} messages, ${missing()[0]} among them`,
    });
    return [...sent].map(([topic, sentAt]) => seenAt.get(topic)! - sentAt);
  }

  /** JSON of about so many bytes, each time another. */
  payload(bytes: number): string {
    const head = `{"n":${this.#serial++},"pad":"`;
    return `${head}${"x".repeat(Math.max(0, bytes - head.length - 2))}"}`;
  }

  /**
   * A Job of the service's as the service sends it, for the bare namespace; what tells runs apart is that of one run.
   * Throws unless the server makes the same of it as it made of the service's.
   */
  async template(): Promise<JobTemplate> {
    const { api } = this.kit.cluster;
    const made = await eventually(async () => {
      const path = "/apis/batch/v1/namespaces/default/jobs?limit=1&labelSelector=" +
        encodeURIComponent(`${LABEL.managedBy}=mqtt-job-listener`);
      return (await api.get<{ items: V1Job[] }>(path)).items[0];
    }, { what: "a Job of the service" });
    const { name = "", labels = {}, annotations = {} } = made.metadata!;
    const { rows } = parseTable(csv(this.rows), { topicPrefix: "services/mqtt_job_listener" });
    const topic = annotations[ANNOTATION.topic]!;
    const template = buildJob({
      runName: name,
      row: rows.find(({ jobName }) => jobName === annotations[ANNOTATION.jobName])!,
      message: { topic, payload: new TextEncoder().encode(envOf(made)["MQTT_PAYLOAD"]) },
      messageHash: labels[LABEL.message]!,
      root: labels[LABEL.root]!,
      rootRun: name,
      chainDepth: 0,
      receivedAt: new Date(annotations[ANNOTATION.receivedAt]!),
    }, {
      namespace: BARE_NAMESPACE,
      instance: labels[LABEL.instance]!,
      ttlSecondsAfterFinished: made.spec!.ttlSecondsAfterFinished!,
    });
    const copy = await api.create<V1Job>(`/apis/batch/v1/namespaces/${BARE_NAMESPACE}/jobs?dryRun=All`, template);
    deepEqual(ownPart(copy), ownPart(made), "The bare creator's Jobs are not the service's");
    return template as unknown as JobTemplate;
  }

  /** Waits until there is no Job and no pod. */
  async empty(): Promise<void> {
    await eventually(async () => {
      for (const path of ["/apis/batch/v1/jobs?limit=1", "/api/v1/pods?limit=1"]) {
        if ((await this.kit.cluster.api.get<{ items: unknown[] }>(path)).items.length > 0) return false;
      }
      return true;
    }, { timeoutMs: 300_000, intervalMs: 200, what: "all Jobs and pods to be deleted" });
  }

  /** Creates Jobs without the service, such as it makes now unless a `template` is given. */
  async createBare(count: number, like: Partial<BareOrder> = {}): Promise<BareResult> {
    const { server, token, authority } = this.kit.cluster;
    const template = like.template ?? await this.template();
    const order = { server, ca: authority.ca, token, count, warmUp: 0, concurrency: CONCURRENCY, ...like, template };
    await using creator = await this.#bare("bare_creator", order);
    const took = await eventually(async () => /^took (.*)$/m.exec(await creator.logTail())?.[1], {
      timeoutMs: 120_000,
      what: async () => `the bare creator: ${await creator.logTail()}`,
    });
    return JSON.parse(took);
  }

  /** A process that creates a Job in the bare namespace for each message of a filter. */
  async listenBare(filter: string): Promise<HelperProcess> {
    return await this.#bare("bare_listener", this.bareOrder(filter, await this.template()));
  }

  /** Of a process that creates a Job such as `template` for each message of a filter. */
  bareOrder(filter: string, template: JobTemplate): BareListenerOrder {
    const { server, token, authority } = this.kit.cluster;
    return {
      brokerUrl: this.kit.broker.url,
      filter,
      server,
      ca: authority.ca,
      token,
      template,
      concurrency: CONCURRENCY,
    };
  }

  #bare(name: string, order: unknown): Promise<HelperProcess> {
    const args = ["run", "-A", new URL(`${name}.ts`, import.meta.url).pathname];
    return startHelper({ name, command: Deno.execPath(), args, order });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    await this.started?.[Symbol.asyncDispose]();
    await this.publisher.endAsync(true);
    await this.kit[Symbol.asyncDispose]();
    await removeFolder(this.folder);
  }
}

/** What of a Job does not come from the server, or from the one run that it is of. */
function ownPart({ metadata, spec }: V1Job): unknown {
  const { selector: _, ...rest } = spec!;
  const labels = Object.entries(rest.template.metadata?.labels ?? {})
    .filter(([key]) => !/controller-uid|job-name/.test(key));
  const template = { ...rest.template, metadata: Object.fromEntries(labels) };
  return { labels: metadata?.labels, annotations: metadata?.annotations, spec: { ...rest, template } };
}
