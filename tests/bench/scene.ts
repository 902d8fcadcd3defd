/**
 * What measurements run on: broker, store and API server of the test harness, the service as a process, publishers and
 * the bare creator. Only puts parts together; what is measured is in rows.ts.
 */
import type { V1Job } from "@kubernetes/client-node";
import mqtt, { type MqttClient } from "mqtt";
import { BUSYBOX_IMAGE, type ClusterOptions } from "../harness/cluster.ts";
import { type Kit, startKit } from "../harness/kit.ts";
import { type ServiceProcess, startService } from "../harness/service.ts";
import { type Cells, csv } from "../harness/table.ts";
import { eventually } from "../harness/wait.ts";
import type { BareOrder } from "./bare_creator.ts";
import { JobClock, type JobClockOptions } from "./job_clock.ts";

export const CONCURRENCY = 16;
/** No pods, and no controller that would make any: Jobs are created, and live until somebody ends them. */
export const JOBS_ONLY: ClusterOptions = { node: "none", controllerFlags: ["--controllers=serviceaccount-controller"] };
const BARE_NAMESPACE = "bare";
const SERVER_FIELDS = ["uid", "resourceVersion", "generation", "creationTimestamp", "managedFields", "ownerReferences"];

export interface SceneOptions {
  readonly rows: readonly Cells[];
  readonly cluster?: ClusterOptions;
  readonly env?: Readonly<Record<string, string>>;
  /** Flags of `deno run` for the service. */
  readonly runFlags?: readonly string[];
  /** No service is started. */
  readonly bare?: boolean;
}

/** A row of the bench's tables. */
export function benchRow(name: string, topic: string, cells: Cells = {}): Cells {
  return { job_name: name, image: BUSYBOX_IMAGE, mqtt_topic: topic, command: "true", ...cells };
}

export class Scene implements AsyncDisposable {
  #serial = 0;
  #closed = false;

  private constructor(
    readonly kit: Kit,
    readonly env: Record<string, string>,
    readonly publisher: MqttClient,
    private readonly started: ServiceProcess | undefined,
  ) {}

  static async start(
    { rows, cluster = { node: "none" }, env = {}, runFlags = [], bare = false }: SceneOptions,
  ): Promise<Scene> {
    const kit = await startKit({ broker: { maxQueuedMessages: 0 }, cluster });
    try {
      const all: Record<string, string> = { ...kit.env(), CATALOG_POLL: "1h", ...env };
      await kit.s3.put(all["CATALOG_URL"]!, csv(rows));
      await kit.cluster.api.create("/api/v1/namespaces", { metadata: { name: BARE_NAMESPACE } });
      const publisher = await mqtt.connectAsync(kit.broker.url, { protocolVersion: 5 });
      return new Scene(kit, all, publisher, bare ? undefined : await startService(all, { runFlags }));
    } catch (error) {
      await kit[Symbol.asyncDispose]();
      throw error;
    }
  }

  get service(): ServiceProcess {
    if (this.started === undefined) throw new Error("This scene was started without the service");
    return this.started;
  }

  /** A clock of the service's Jobs, or of the bare creator's. */
  clock(namespace: "default" | "bare" = "default", onAdded?: JobClockOptions["onAdded"]): Promise<JobClock> {
    const { api, server, token, authority } = this.kit.cluster;
    return JobClock.start({ api, server, ca: authority.ca, token, namespace, ...(onAdded ? { onAdded } : {}) });
  }

  /** Publishes one message a topic with QoS 1, all at once; resolves when the broker has them. */
  async publish(topics: readonly string[], payloadBytes = 40): Promise<void> {
    await Promise.all(
      topics.map((topic) => this.publisher.publishAsync(topic, this.payload(payloadBytes), { qos: 1 })),
    );
  }

  /** JSON of about so many bytes, each time another. */
  payload(bytes: number): string {
    const head = `{"n":${this.#serial++},"pad":"`;
    return `${head}${"x".repeat(Math.max(0, bytes - head.length - 2))}"}`;
  }

  /** A Job that the service has made, as somebody else would create it. */
  async template(): Promise<BareOrder["template"]> {
    const job = await eventually(async () => {
      const path = "/apis/batch/v1/namespaces/default/jobs?limit=1";
      return (await this.kit.cluster.api.get<{ items: V1Job[] }>(path)).items[0];
    }, { what: "a Job of the service" });
    // The server fills these in again; a copy of them would be refused.
    const { selector: _, ...spec } = job.spec!;
    const labels = Object.entries(spec.template.metadata?.labels ?? {}).filter(([key]) =>
      !/controller-uid|job-name/.test(key)
    );
    const metadata = Object.fromEntries(
      Object.entries(job.metadata ?? {}).filter(([key]) => !SERVER_FIELDS.includes(key)),
    );
    return {
      apiVersion: "batch/v1",
      kind: "Job",
      metadata,
      spec: { ...spec, template: { ...spec.template, metadata: { labels: Object.fromEntries(labels) } } },
    } as BareOrder["template"];
  }

  /** Creates Jobs without the service; returns the milliseconds. */
  async createBare(count: number, warmUp = 200): Promise<number> {
    const { server, token, authority } = this.kit.cluster;
    const order: BareOrder = {
      server,
      ca: authority.ca,
      token,
      namespace: BARE_NAMESPACE,
      template: await this.template(),
      count,
      warmUp,
      concurrency: CONCURRENCY,
    };
    const child = new Deno.Command(Deno.execPath(), {
      args: ["run", "-A", new URL("bare_creator.ts", import.meta.url).pathname],
      stdin: "piped",
      stdout: "piped",
      stderr: "piped",
    }).spawn();
    const writer = child.stdin.getWriter();
    await writer.write(new TextEncoder().encode(JSON.stringify(order)));
    await writer.close();
    const output = await child.output();
    const text = new TextDecoder();
    if (!output.success) throw new Error(`The bare creator failed: ${text.decode(output.stderr)}`);
    return Number(text.decode(output.stdout));
  }

  /** A call of the bench's own, of the kind whose cost is the limit of a row. */
  async postJob(job: unknown, client: Deno.HttpClient): Promise<void> {
    const { server, token } = this.kit.cluster;
    const response = await fetch(`${server}/apis/batch/v1/namespaces/${BARE_NAMESPACE}/jobs`, {
      method: "POST",
      client,
      headers: { authorization: `Bearer ${token}`, "content-type": "application/json" },
      body: JSON.stringify(job),
    });
    const text = await response.text();
    if (!response.ok) throw new Error(text);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    await this.started?.[Symbol.asyncDispose]();
    await this.publisher.endAsync(true);
    await this.kit[Symbol.asyncDispose]();
  }
}
