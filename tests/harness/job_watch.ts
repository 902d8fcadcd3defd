/**
 * A test's own record of every Job that was ever created in a namespace, by a watch that has nothing to do with the
 * service's. It sees two Jobs where the service believes in one.
 */
import type { V1Job } from "@kubernetes/client-node";
import type { KubeApi } from "./kube_api.ts";
import { pause } from "./wait.ts";

const JOBS = "/apis/batch/v1/namespaces/default/jobs";

interface WatchLine {
  readonly type: "ADDED" | "MODIFIED" | "DELETED" | "BOOKMARK" | "ERROR";
  readonly object: V1Job;
}

/** Jobs by uid. Disposing it ends the watch. */
export class JobWatch implements AsyncDisposable {
  readonly #jobs = new Map<string, V1Job>();
  readonly #deleted = new Set<string>();
  readonly #running: Promise<void>;
  #reader: ReadableStreamDefaultReader<Uint8Array> | undefined;
  #ended = false;

  private constructor(private readonly api: KubeApi, from: string) {
    this.#running = this.#watch(from);
  }

  /** Starts watching with what is there now; Jobs of before are left out. */
  static async start(api: KubeApi): Promise<JobWatch> {
    const list = await api.get<{ metadata: { resourceVersion: string } }>(`${JOBS}?limit=1`);
    return new JobWatch(api, list.metadata.resourceVersion);
  }

  /** Jobs that were created, in the order of creation; of one row if its name is given. */
  created(jobName?: string): V1Job[] {
    const jobs = [...this.#jobs.values()];
    return jobName === undefined ? jobs : jobs.filter((job) => envOf(job)["JOB_NAME"] === jobName);
  }

  /** Names of the Jobs that were created and not deleted; of one row if its name is given. */
  left(jobName?: string): string[] {
    return this.created(jobName).flatMap(({ metadata }) =>
      this.#deleted.has(metadata?.uid ?? "") ? [] : [metadata?.name ?? ""]
    );
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#ended = true;
    await this.#reader?.cancel().catch(() => {});
    await this.#running;
  }

  /** Lists after each break: an API server that was started anew may not know the last version any more. */
  async #watch(from: string): Promise<void> {
    let version = from;
    while (!this.#ended) {
      try {
        const path = `${JOBS}?watch=1&allowWatchBookmarks=true&timeoutSeconds=600&resourceVersion=${version}`;
        const response = await this.api.request("GET", path);
        this.#reader = response.body!.getReader();
        for await (const line of lines(this.#reader)) {
          const { type, object } = JSON.parse(line) as WatchLine;
          if (type === "ERROR") throw new Error(`The watch of Jobs is broken: ${line}`);
          version = object.metadata?.resourceVersion ?? version;
          this.#take(type, object);
        }
      } catch {
        if (!this.#ended) await pause(100);
        version = await this.#list().catch(() => version);
      }
    }
  }

  async #list(): Promise<string> {
    const { items, metadata } = await this.api.get<{ items: V1Job[]; metadata: { resourceVersion: string } }>(JOBS);
    const alive = new Set(items.map(({ metadata }) => metadata?.uid));
    for (const job of items) this.#take("MODIFIED", job);
    for (const uid of this.#jobs.keys()) if (!alive.has(uid)) this.#deleted.add(uid);
    return metadata.resourceVersion;
  }

  #take(type: WatchLine["type"], job: V1Job): void {
    const uid = job.metadata?.uid;
    if (uid === undefined || type === "BOOKMARK") return;
    this.#jobs.set(uid, job);
    if (type === "DELETED") this.#deleted.add(uid);
  }
}

/** The environment that a Job's container gets, `$$` read as Kubernetes reads it. */
export function envOf(job: V1Job): Record<string, string> {
  const env = job.spec?.template.spec?.containers[0]?.env ?? [];
  return Object.fromEntries(env.map(({ name, value = "" }) => [name, value.replaceAll("$$", "$")]));
}

async function* lines(reader: ReadableStreamDefaultReader<Uint8Array>): AsyncGenerator<string> {
  const decoder = new TextDecoder();
  let rest = "";
  for (let next = await reader.read(); !next.done; next = await reader.read()) {
    const parts = (rest + decoder.decode(next.value, { stream: true })).split("\n");
    rest = parts.pop() ?? "";
    for (const part of parts) if (part !== "") yield part;
  }
}
