/**
 * Hand-written fakes of the ports, for unit tests of the core: they keep what they were told and do what the test says.
 */
import {
  type Broker,
  type BrokerEvents,
  type Cluster,
  type ClusterEvents,
  type Delivery,
  type EventFacts,
  type JobFacts,
  MAX_GET_BYTES,
  type ObjectInfo,
  type ObjectPart,
  type ObjectStore,
  type PodFacts,
  type Row,
  type RunRecord,
  type RunSpec,
  type RunView,
  type ServiceEvent,
  type StoredObject,
  TooLargeError,
} from "../../ports.ts";
import { lineageOf, resourcesOf } from "../../run_spec.ts";

/** A row with nothing special, but for `changes`. */
export function row(changes: Partial<Row> = {}): Row {
  return {
    line: 2,
    jobName: "count",
    mqttTopic: "lab/count",
    image: "busybox",
    gpu: 0,
    parallelism: 1,
    backoffLimit: 0,
    ...changes,
  };
}

/** A live run, but for `more`: it began to run three minutes ago. */
export function aRunView(more: Partial<RunView> = {}): RunView {
  return {
    runName: "sort-spikes-abcdefgh2345",
    jobName: "sort-spikes",
    topic: "experiments/e1/uploaded",
    state: "running",
    detail: "",
    root: "rootrootroot",
    rootRun: "sort-spikes-abcdefgh2345",
    chainDepth: 0,
    messageHash: "abcdefgh2345",
    image: "lab/sorter:3",
    gpu: 1,
    requests: { cpu: "4", memory: "16Gi" },
    limits: {},
    receivedAt: new Date(Date.now() - 185_000),
    createdAt: new Date(Date.now() - 184_000),
    startedAt: new Date(Date.now() - 170_000),
    nodes: ["gpu-node-3"],
    ...more,
  };
}

/** The record of a run that succeeded, but for `more`. */
export function aRecord(more: Partial<RunRecord> = {}): RunRecord {
  return {
    run_name: "sort-spikes-zzzzzzzz2345",
    job_name: "sort-spikes",
    status: "succeeded",
    reason: "Completed",
    message: "Completed",
    exit_code: 0,
    topic: "experiments/e0/uploaded",
    payload: '{"uuid":"2026-03-01-e0"}',
    message_hash: "zzzzzzzz2345",
    parent_run: null,
    root_run: "sort-spikes-zzzzzzzz2345",
    chain_depth: 0,
    image: "lab/sorter:3",
    node: "gpu-node-1",
    requests: { cpu: "4", memory: "16Gi" },
    limits: {},
    received_at: "2026-03-01T10:00:00Z",
    created_at: "2026-03-01T10:00:00Z",
    started_at: "2026-03-01T10:00:10Z",
    finished_at: "2026-03-01T10:12:00Z",
    log_url: "s3://lab/logs/sort-spikes-zzzzzzzz2345.txt",
    ...more,
  };
}

/** A delivery that counts its acknowledgements. */
export function delivery(changes: Partial<Delivery> & { text?: string } = {}): Delivery & { acks: number } {
  const { text, ...rest } = changes;
  return {
    topic: "lab/count",
    payload: new TextEncoder().encode(text ?? ""),
    qos: 1,
    retain: false,
    dup: false,
    packetId: 1,
    acks: 0,
    ...rest,
    done() {
      this.acks++;
    },
  };
}

export class FakeStore implements ObjectStore {
  readonly url = "fake://bucket";
  readonly objects = new Map<string, Uint8Array>();
  /** Thrown by the next calls, first one first. */
  readonly faults: Error[] = [];
  readonly calls: string[] = [];

  text(key: string): string | undefined {
    const body = this.objects.get(key);
    return body && new TextDecoder().decode(body);
  }

  async get(key: string, { maxBytes = MAX_GET_BYTES }: { maxBytes?: number } = {}): Promise<StoredObject | undefined> {
    await this.#call(`get ${key}`);
    const body = this.objects.get(key);
    if (body && body.length > maxBytes) throw new TooLargeError(`${key} has more than ${maxBytes} bytes`);
    return body && { body, etag: "e" };
  }

  async read(key: string): Promise<ReadableStream<Uint8Array> | undefined> {
    await this.#call(`read ${key}`);
    const body = this.objects.get(key);
    return body && ReadableStream.from([body]);
  }

  async readPart(key: string, { from, length }: { from: number; length: number }): Promise<ObjectPart | undefined> {
    await this.#call(`readPart ${key}`);
    const body = this.objects.get(key);
    return body && { bytes: body.slice(from, from + length), size: body.length };
  }

  async exists(key: string): Promise<boolean> {
    await this.#call(`exists ${key}`);
    return this.objects.has(key);
  }

  async put(key: string, body: string | Uint8Array | AsyncIterable<Uint8Array>): Promise<void> {
    await this.#call(`put ${key}`);
    this.objects.set(key, await bytesOf(body));
  }

  async putIfAbsent(key: string, body: string | Uint8Array): Promise<boolean> {
    await this.#call(`putIfAbsent ${key}`);
    if (this.objects.has(key)) return false;
    this.objects.set(key, await bytesOf(body));
    return true;
  }

  async delete(key: string): Promise<void> {
    await this.#call(`delete ${key}`);
    this.objects.delete(key);
  }

  async *list(prefix: string, { after = "" }: { after?: string } = {}): AsyncIterable<ObjectInfo> {
    await this.#call(`list ${prefix}`);
    for (const key of [...this.objects.keys()].filter((key) => key.startsWith(prefix) && key > after).sort()) {
      yield { key, size: this.objects.get(key)!.length, modifiedAt: new Date(0) };
    }
  }

  link(key: string): Promise<string> {
    return Promise.resolve(`https://fake/${key}`);
  }

  #call(what: string): Promise<void> {
    this.calls.push(what);
    const fault = this.faults.shift();
    return fault ? Promise.reject(fault) : Promise.resolve();
  }
}

async function bytesOf(body: string | Uint8Array | AsyncIterable<Uint8Array>): Promise<Uint8Array> {
  if (typeof body === "string") return new TextEncoder().encode(body);
  if (body instanceof Uint8Array) return body;
  const parts: Uint8Array[] = [];
  // Copied: the source may use the same buffer again.
  for await (const part of body) parts.push(part.slice());
  return new Uint8Array(await new Blob(parts as BlobPart[]).arrayBuffer());
}

export class FakeBroker implements Broker {
  readonly refused = new Map<string, string>();
  readonly url = "mqtt://fake";
  connected = true;
  readonly published: { topic: string; body: string }[] = [];
  readonly faults: Error[] = [];
  subscribed: ReadonlySet<string> = new Set();
  events: BrokerEvents | undefined;

  connect(events: BrokerEvents): Promise<void> {
    this.events = events;
    events.onConnect({ sessionPresent: false });
    return Promise.resolve();
  }

  subscribe(filters: ReadonlySet<string>): Promise<void> {
    this.subscribed = filters;
    return Promise.resolve();
  }

  publish(topic: string, payload: string | Uint8Array): Promise<void> {
    const fault = this.faults.shift();
    if (fault) return Promise.reject(fault);
    this.published.push({ topic, body: typeof payload === "string" ? payload : new TextDecoder().decode(payload) });
    return Promise.resolve();
  }

  reconnect(): void {
    this.events?.onConnect({ sessionPresent: true });
  }

  pause(): void {}

  close(): Promise<void> {
    this.connected = false;
    return Promise.resolve();
  }
}

export class FakeCluster implements Cluster {
  readonly url = "fake cluster";
  heardAt: Date | undefined = new Date();
  rotatesLogs = false;
  /** The last lines of any container. */
  tail = "";
  readonly created: RunSpec[] = [];
  readonly deleted: string[] = [];
  readonly resumed: string[] = [];
  /** What the next create calls do; then they succeed. */
  readonly answers: (Error | "exists" | Promise<"created">)[] = [];
  /** Output by `pod/container`: what each further call of logs gives. */
  readonly outputs = new Map<string, (string | Error | ReadableStream<Uint8Array>)[]>();
  readonly logCalls: { container: string; follow: boolean; since?: Date }[] = [];
  podEvents: EventFacts[] = [];
  /** The pods that a list shows. */
  listed: PodFacts[] = [];

  async create(spec: RunSpec): Promise<"created" | "exists"> {
    const answer = this.answers.shift();
    if (answer instanceof Error) throw answer;
    if (answer === "exists") return answer;
    await answer;
    this.created.push(spec);
    return "created";
  }

  delete(runName: string): Promise<void> {
    this.deleted.push(runName);
    return Promise.resolve();
  }

  cancel(): Promise<boolean> {
    return Promise.resolve(true);
  }

  resume(runName: string): Promise<boolean> {
    this.resumed.push(runName);
    return Promise.resolve(true);
  }

  get(): Promise<JobFacts | undefined> {
    return Promise.resolve(undefined);
  }

  pods(): Promise<PodFacts[]> {
    return Promise.resolve(this.listed);
  }

  watch(events: ClusterEvents): Promise<void> {
    events.onSynced();
    return Promise.resolve();
  }

  logs(
    podName: string,
    container: string,
    { follow, since, tailLines }: { follow: boolean; since?: Date; tailLines?: number },
  ): Promise<ReadableStream<Uint8Array> | undefined> {
    if (tailLines !== undefined) return Promise.resolve(ReadableStream.from([new TextEncoder().encode(this.tail)]));
    this.logCalls.push({ container, follow, ...(since ? { since } : {}) });
    const next = this.outputs.get(`${podName}/${container}`)?.shift();
    if (next instanceof Error) return Promise.reject(next);
    if (typeof next === "string") return Promise.resolve(ReadableStream.from([new TextEncoder().encode(next)]));
    return Promise.resolve(next);
  }

  events(_runName?: string): Promise<EventFacts[]> {
    return Promise.resolve(this.podEvents);
  }
}

/** Facts of a run's Job, but for `changes`. */
export function job(changes: Partial<JobFacts> = {}): JobFacts {
  return {
    runName: "count-abc",
    jobName: "count",
    topic: "lab/count",
    messageHash: "hash",
    root: "rootrootroot",
    rootRun: "count-abc",
    chainDepth: 0,
    image: "busybox",
    gpu: 0,
    requests: {},
    limits: {},
    receivedAt: new Date(),
    createdAt: new Date(),
    ...changes,
  };
}

/** The facts of a Job that was created of `spec` now. */
export function jobOf(spec: RunSpec, more: Partial<JobFacts> = {}): JobFacts {
  const { runName, row, message, messageHash, receivedAt, rung } = spec;
  return job({
    ...lineageOf(spec),
    runName,
    jobName: row.jobName,
    topic: message.topic,
    payload: message.payload,
    row: () => row,
    messageHash,
    image: row.image,
    ...resourcesOf(row, rung),
    receivedAt,
    createdAt: new Date(),
    ...more,
  });
}

/** Facts of a pod of that run whose one container ended with `exitCode`, but for `changes`. */
export function pod(changes: Partial<PodFacts> = {}, exitCode = 0): PodFacts {
  return {
    podName: "count-abc-x",
    runName: "count-abc",
    phase: exitCode === 0 ? "Succeeded" : "Failed",
    node: "node1",
    createdAt: new Date(),
    containers: [{
      name: "main",
      state: "terminated",
      exitCode,
      startedAt: new Date(Date.now() - 1000),
      finishedAt: new Date(Date.now() - 500),
      restartCount: 0,
    }],
    ...changes,
  };
}

/** Collects what the core tells. */
export function events(): { emit: (event: ServiceEvent) => void; all: ServiceEvent[] } {
  const all: ServiceEvent[] = [];
  return { emit: (event) => all.push(event), all };
}
