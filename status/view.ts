/**
 * Joins what the page shows: live runs and their output from the service, ended ones from the history and the store.
 * Reads only.
 */
import { History } from "./history.ts";
import type { Cluster, ObjectStore } from "../ports.ts";
import { viewOf } from "../runs.ts";
import type { Service } from "../service.ts";
import { LiveEvents, selectRecords, serveStatus, type StatusOptions, type StatusView } from "../status.ts";

export interface PageOptions {
  readonly status: { readonly listen?: StatusOptions["listen"]; readonly token?: string; readonly url?: string };
  readonly metrics: StatusOptions["metrics"];
  readonly cluster: Cluster;
  readonly logs: ObjectStore;
}

/** Serves the page, health and metrics of a service; undefined where nothing shall be served. */
export async function openPage(
  service: Service,
  { status, metrics, cluster, logs }: PageOptions,
): Promise<{ readonly url: string; close(): Promise<void> } | undefined> {
  if (!status.listen) return undefined;
  const events = new LiveEvents();
  service.subscribe(events.emit);
  const closing = new AbortController();
  const server = await serveStatus({
    listen: status.listen,
    ...(status.token ? { token: status.token } : {}),
    ...(status.url ? { publicUrl: status.url } : {}),
    metrics,
    health: () => service.health(),
    view: statusView(service, { cluster, logs, signal: closing.signal }),
    actions: service.actions,
    events,
  });
  return {
    url: server.url,
    close() {
      closing.abort(new DOMException("The page closes", "AbortError"));
      return server.close();
    },
  };
}

/** The view of a running service; begins to read the history. */
export function statusView(
  service: Service,
  { cluster, logs, signal }: { cluster: Cluster; logs: ObjectStore; signal: AbortSignal },
): StatusView {
  const history = new History(service.records);
  service.subscribe(history.emit);
  history.load(signal).catch(() => {}); // an unreachable store shows in the page's own reads
  return {
    table: () => service.catalog.table,
    tableFailure: () => service.catalog.failure?.message,
    liveRuns: () => service.runs.views(),
    liveRun(runName) {
      const run = service.runs.get(runName);
      return run && viewOf(run);
    },
    records: (filter) => Promise.resolve(selectRecords(history.values(), filter)),
    record: (runName, signal) => service.records.get(runName, signal),
    job: (runName, signal) => cluster.get(runName, { signal }),
    manifest: (runName, signal) => cluster.manifest(runName, { signal }),
    async log(runName, { follow, tailBytes, signal }) {
      const tail = tailBytes === undefined ? {} : { tail: tailBytes };
      if (!service.runs.get(runName)) return await logs.read(`${runName}.txt`, { ...tail, signal });
      return ReadableStream.from(liveOutput(service, cluster, { runName, follow, signal }));
    },
  };
}

/** The output of a live run's containers, one after the other. */
async function* liveOutput(
  service: Service,
  cluster: Cluster,
  { runName, follow, signal }: { runName: string; follow: boolean; signal: AbortSignal },
): AsyncGenerator<Uint8Array> {
  const pods = [...service.runs.get(runName)?.pods.values() ?? []];
  for (const { podName, containers } of pods) {
    for (const { name, state } of containers) {
      if (state === "waiting") continue;
      const head = `----- pod ${podName}, container ${name} -----\n`;
      if (pods.length > 1 || containers.length > 1) yield new TextEncoder().encode(head);
      const stream = await cluster.logs(podName, name, { follow, timestamps: false, signal });
      if (stream) yield* stream;
    }
  }
}
