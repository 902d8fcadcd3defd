/**
 * The core's way from a delivery to a Job, on fake ports: one process of the service, as often as a test wants one on the
 * same store. Owns no check.
 */
import { type Condition, conditionFor } from "../../catalog.ts";
import { Groups } from "../../flows/groups.ts";
import type { GroupEnd } from "../../flows.ts";
import { Listener } from "../../listener.ts";
import { type ObjectList, type Row, UnavailableError } from "../../ports.ts";
import { RunRecords } from "../../records.ts";
import { RunTable } from "../../runs.ts";
import { NamedStarts, Starter } from "../../starter.ts";
import { events, FakeBroker, FakeCluster, FakeStore, row } from "./fakes.ts";

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
  /** Ends of groups. */
  readonly onGroupEnd?: (end: GroupEnd) => void;
  readonly list?: ObjectList;
  readonly maxItems?: number;
  readonly tracing?: boolean;
  readonly broker?: FakeBroker;
  /** What is wrong with a row that the store has. */
  readonly against?: (row: Row) => readonly string[];
}

// deno-lint-ignore require-yield
async function* noObjects(begin: string): AsyncGenerator<string> {
  throw new UnavailableError(`Cannot list ${begin}: away`);
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
    onGroupEnd = () => {},
    list = noObjects,
    maxItems = 1_000,
    tracing = false,
    broker = new FakeBroker(),
    against = () => [],
  }: CoreOptions = {},
) {
  const stop = new AbortController();
  const { signal } = stop;
  const { emit, all } = events();
  const runs = new RunTable({ emit });
  const records = new RunRecords(store);
  const starter: Starter = new Starter({
    cluster,
    runs,
    payloads: store,
    concurrency,
    maxRuns,
    startGroup: (spec) => groups.start(spec),
    tracing,
    emit,
    signal,
  });
  const named = new NamedStarts({ runs, records, signal });
  const topicPrefix = "services/mqtt_job_listener";
  const groups: Groups = new Groups({
    broker,
    cluster,
    records,
    runs,
    starter,
    named,
    payloads: store,
    list,
    maxItems,
    conditionOf: conditionFor,
    against,
    topicPrefix,
    onEnd: (end) => Promise.resolve(onGroupEnd(end)),
    emit,
    signal,
  });
  const listener = new Listener({
    catalog: { match, conditionOf },
    runs,
    records,
    starter,
    named,
    groups,
    topicPrefix,
    handleRetained: false,
    maxChainDepth: 3,
    tracing,
    emit,
    signal,
    onControl: () => {},
    redeliveryMs,
  });
  await listener.recall();
  return {
    listener,
    groups,
    broker,
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
