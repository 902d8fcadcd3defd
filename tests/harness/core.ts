/**
 * The core's way from a delivery to a Job, on fake ports: one process of the service, as often as a test wants one on the
 * same store. Owns no check.
 */
import type { Condition } from "../../catalog.ts";
import { Listener } from "../../listener.ts";
import type { Row } from "../../ports.ts";
import { RunRecords } from "../../records.ts";
import { RunTable } from "../../runs.ts";
import { NamedStarts, Starter } from "../../starter.ts";
import { events, FakeCluster, FakeStore, row } from "./fakes.ts";

export interface CoreOptions {
  readonly rows?: readonly Row[];
  /** Default: all rows, whatever the topic. */
  readonly match?: (delivery: { readonly topic: string; readonly filters?: readonly string[] }) => Row[];
  readonly conditionOf?: (row: Row) => Condition | undefined;
  readonly maxRuns?: number;
  readonly concurrency?: number;
  /** What outlives the process. Default: nothing. */
  readonly store?: FakeStore;
  readonly cluster?: FakeCluster;
  readonly redeliveryMs?: number;
}

/** A process that has read what the one before it left; `connect` it. */
export async function startProcess(
  {
    rows = [row()],
    match = () => [...rows],
    conditionOf = () => undefined,
    maxRuns = Infinity,
    concurrency = 4,
    store = new FakeStore(),
    cluster = new FakeCluster(),
    redeliveryMs = 30_000,
  }: CoreOptions = {},
) {
  const stop = new AbortController();
  const { signal } = stop;
  const { emit, all } = events();
  const runs = new RunTable({ emit });
  const records = new RunRecords(store);
  const starter = new Starter({ cluster, runs, payloads: store, concurrency, maxRuns, emit, signal });
  const listener = new Listener({
    catalog: { match, conditionOf },
    runs,
    records,
    starter,
    named: new NamedStarts({ runs, records, signal }),
    topicPrefix: "services/mqtt_job_listener",
    handleRetained: false,
    maxChainDepth: 3,
    emit,
    signal,
    onControl: () => {},
    redeliveryMs,
  });
  await listener.recall();
  return {
    listener,
    cluster,
    store,
    runs,
    records,
    starter,
    all,
    /** The process is gone at once. */
    kill: () => stop.abort(),
    [Symbol.dispose]: () => stop.abort(),
  };
}

/** A process with a new session. */
export async function startCore(options: CoreOptions = {}) {
  const core = await startProcess(options);
  await core.listener.connected(false);
  return core;
}
