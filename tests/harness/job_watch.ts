/**
 * A test's own eyes on the Jobs of a namespace, by a watch that has nothing to do with the service's. They see two Jobs
 * where the service believes in one. JobWatch keeps all Jobs; followJobs() keeps none and tells of each change.
 */
import type { V1Job } from "@kubernetes/client-node";
import type { KubeApi } from "./kube_api.ts";
import { pause } from "./wait.ts";

interface WatchLine {
  readonly type: "ADDED" | "MODIFIED" | "DELETED" | "BOOKMARK" | "ERROR";
  readonly object: V1Job;
}

/** What followJobs() tells. */
export interface JobEvents {
  /** A Job was created or has changed. */
  onJob(job: V1Job): void;
  /** The Job of this uid is gone. */
  onGone(uid: string): void;
  /** The uids of all Jobs that are there, after a gap in the watch: what was told before and is not among them is gone. */
  onList(uids: ReadonlySet<string>): void;
}

/** Tells of all Jobs from now on, over restarts of the API server too, until it is disposed of. */
export async function followJobs(api: KubeApi, events: JobEvents, namespace = "default"): Promise<AsyncDisposable> {
  const path = `/apis/batch/v1/namespaces/${namespace}/jobs`;
  const list = await api.get<{ metadata: { resourceVersion: string } }>(`${path}?limit=1`);
  return new JobStream(api, path, events, list.metadata.resourceVersion);
}

class JobStream implements AsyncDisposable {
  readonly #running: Promise<void>;
  #reader: ReadableStreamDefaultReader<Uint8Array> | undefined;
  #ended = false;

  constructor(
    private readonly api: KubeApi,
    private readonly path: string,
    private readonly events: JobEvents,
    from: string,
  ) {
    this.#running = this.#watch(from);
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
        const query = `watch=1&allowWatchBookmarks=true&timeoutSeconds=600&resourceVersion=${version}`;
        const response = await this.api.request("GET", `${this.path}?${query}`);
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
    type List = { items: V1Job[]; metadata: { resourceVersion: string } };
    const { items, metadata } = await this.api.get<List>(this.path);
    for (const job of items) this.#take("MODIFIED", job);
    this.events.onList(new Set(items.flatMap(({ metadata }) => metadata?.uid ?? [])));
    return metadata.resourceVersion;
  }

  #take(type: WatchLine["type"], job: V1Job): void {
    const uid = job.metadata?.uid;
    if (uid === undefined || type === "BOOKMARK") return;
    this.events.onJob(job);
    if (type === "DELETED") this.events.onGone(uid);
  }
}

/** Jobs by uid. Disposing it ends the watch. */
export class JobWatch implements AsyncDisposable {
  readonly #jobs = new Map<string, V1Job>();
  readonly #deleted = new Set<string>();
  #stream: AsyncDisposable | undefined;

  private constructor() {}

  /** Starts watching with what is there now; Jobs of before are left out. */
  static async start(api: KubeApi): Promise<JobWatch> {
    const watch = new JobWatch();
    watch.#stream = await followJobs(api, {
      onJob: (job) => watch.#jobs.set(job.metadata!.uid!, job),
      onGone: (uid) => watch.#deleted.add(uid),
      onList(uids) {
        for (const uid of watch.#jobs.keys()) if (!uids.has(uid)) watch.#deleted.add(uid);
      },
    });
    return watch;
  }

  /** Jobs that were created, in the order of creation; of one row if its name is given. */
  created(jobName?: string): V1Job[] {
    const jobs = [...this.#jobs.values()];
    return jobName === undefined ? jobs : jobs.filter((job) => envOf(job)["JOB_NAME"] === jobName);
  }

  /** Whether the Job with this name was created and deleted: what is told elsewhere may be known before both. */
  gone(name: string): boolean {
    return this.created().some((job) => job.metadata?.name === name) && !this.left().includes(name);
  }

  /** Names of the Jobs that were created and not deleted; of one row if its name is given. */
  left(jobName?: string): string[] {
    return this.created(jobName).flatMap(({ metadata }) =>
      this.#deleted.has(metadata?.uid ?? "") ? [] : [metadata?.name ?? ""]
    );
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#stream?.[Symbol.asyncDispose]();
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
