/**
 * When each Job of a namespace was first seen, by a client of its own that watches metadata only: it takes little from
 * the machine that is being measured. Knows nothing of the service.
 */
import type { KubeApi } from "../harness/kube_api.ts";
import { eventually } from "../harness/wait.ts";

const METADATA_ONLY = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1";

export interface JobClockOptions {
  readonly api: KubeApi;
  readonly server: string;
  readonly ca: string;
  readonly token: string;
  readonly namespace: string;
  /** Told of each Job that comes, with its creationTimestamp. */
  readonly onAdded?: (name: string, createdAt: string) => void;
}

export class JobClock implements AsyncDisposable {
  /** Time of the ADDED event (performance.now()) by the Job's topic annotation, or by its name where it has none. */
  readonly seenAt = new Map<string, number>();
  #count = 0;
  #ended = false;
  #reader: ReadableStreamDefaultReader<Uint8Array> | undefined;
  readonly #client: Deno.HttpClient;
  #running: Promise<void> = Promise.resolve();

  readonly #onAdded: JobClockOptions["onAdded"];

  private constructor({ ca, onAdded }: JobClockOptions) {
    this.#client = Deno.createHttpClient({ caCerts: [ca] });
    this.#onAdded = onAdded;
  }

  static async start(options: JobClockOptions): Promise<JobClock> {
    const { api, server, token, namespace } = options;
    const path = `/apis/batch/v1/namespaces/${namespace}/jobs`;
    const { metadata } = await api.get<{ metadata: { resourceVersion: string } }>(`${path}?limit=1`);
    const clock = new JobClock(options);
    let version = metadata.resourceVersion;
    const connect = async () => {
      const response = await fetch(`${server}${path}?watch=1&resourceVersion=${version}`, {
        client: clock.#client,
        headers: { authorization: `Bearer ${token}`, accept: METADATA_ONLY },
      });
      return clock.#reader = response.body!.getReader();
    };
    const take = (line: string, now: number) => {
      if (line.startsWith('{"type":"ERROR"')) throw new Error(`The bench's watch is broken: ${line}`);
      version = /"resourceVersion":"(\d+)"/.exec(line)?.[1] ?? version;
      clock.#take(line, now);
    };
    clock.#running = (async (first) => {
      // The server drops a watcher that is too slow for it, as this one may be on a busy machine.
      let reader = first;
      for (;;) {
        await watchLines(reader, take);
        if (clock.#ended) return;
        reader = await connect();
      }
    })(await connect());
    return clock;
  }

  /** Jobs that have come since the start. */
  get count(): number {
    return this.#count;
  }

  /** Waits until `count` Jobs have come; returns the time of the look that saw it (performance.now()). */
  async until(count: number, timeoutMs = 120_000): Promise<number> {
    await eventually(() => this.#count >= count, {
      timeoutMs,
      intervalMs: 5,
      what: () => `${count} Jobs; ${this.#count} have come`,
    });
    return performance.now();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#ended = true;
    await this.#reader?.cancel();
    await this.#running;
    this.#client.close();
  }

  #take(line: string, now: number): void {
    if (!line.startsWith('{"type":"ADDED"')) return;
    this.#count++;
    const name = /"name":"([^"]+)"/.exec(line)?.[1];
    if (name !== undefined) this.#onAdded?.(name, /"creationTimestamp":"([^"]+)"/.exec(line)?.[1] ?? "");
    const key = /"mqtt-job-listener\/topic":"([^"]+)"/.exec(line)?.[1] ?? name;
    if (key !== undefined && !this.seenAt.has(key)) this.seenAt.set(key, now);
  }
}

/** Gives each line of a watch with the time it came (performance.now()); ends when the reader is cancelled. */
async function watchLines(
  reader: ReadableStreamDefaultReader<Uint8Array>,
  take: (line: string, now: number) => void,
): Promise<void> {
  const decoder = new TextDecoder();
  let rest = "";
  for (let next = await reader.read(); !next.done; next = await reader.read()) {
    const now = performance.now();
    const lines = (rest + decoder.decode(next.value, { stream: true })).split("\n");
    rest = lines.pop() ?? "";
    for (const line of lines) take(line, now);
  }
}
