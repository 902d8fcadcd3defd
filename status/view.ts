/**
 * Joins what the page shows: live runs and their output from the service, ended ones from the history and the store.
 * Reads only.
 */
import type { Table } from "../catalog.ts";
import type { Cluster, EventFacts, JobFacts, ObjectStore, RunRecord, RunView } from "../ports.ts";
import { RecentMessages, type SeenMessage } from "../observers/messages.ts";
import type { GroupDetails, GroupView, WaitingJoin } from "../flows.ts";
import { type LogText, openStored } from "../logs.ts";
import { viewOf } from "../runs.ts";
import type { Service } from "../service.ts";
import { compact } from "../util/compact.ts";
import type { RunHistory } from "../history.ts";

/** Marks of one root that are looked at. */
const MOST_MARKS = 10_000;

/** What the page shows, in the ports' words. Whatever rejects is shown as a sentence, not as a broken page. */
export interface StatusView {
  /** The table in force; undefined: none yet. */
  table(): Table | undefined;
  /** When rows with a schedule are due next, by their names. Absent: nothing is known of schedules. */
  nextDue?(): ReadonlyMap<string, Date>;
  /** Where the table is, for people. */
  readonly tableUrl?: string;
  /** Why the table in force is not what the store has; undefined: it is. */
  tableFailure(): string | undefined;
  /** Groups that have not ended. Absent: nothing is known of groups. */
  openGroups?(): readonly GroupView[];
  /** A group with its items, be it open or not; undefined: there is none. */
  group?(name: string, signal: AbortSignal): Promise<GroupDetails | undefined>;
  /** The last messages, newest first. */
  messages(which?: { readonly outcome?: SeenMessage["outcome"]; readonly limit?: number }): readonly SeenMessage[];
  liveRuns(): readonly RunView[];
  liveRun(runName: string): RunView | undefined;
  /** Runs that ended. */
  readonly history: RunHistory;
  record(runName: string, signal: AbortSignal): Promise<RunRecord | undefined>;
  /** Whether the store has a record of the run, or a group of that name. */
  hasBegun(runName: string, signal: AbortSignal): Promise<boolean>;
  /** Rows that wait for rows that they need. */
  waitingJoins(): readonly WaitingJoin[];
  /** The marks of a root, see flows/joins.ts: `{row}/{needed}` of each needed row that has succeeded. */
  joinMarks(root: string, signal: AbortSignal): Promise<ReadonlySet<string>>;
  /** What the cluster says of a live run and its pods. Absent: nothing. */
  events?(runName: string, signal: AbortSignal): Promise<readonly EventFacts[]>;
  /** A live run with its message, from the cluster. */
  job(runName: string, signal: AbortSignal): Promise<JobFacts | undefined>;
  /**
   * The run's log as text. `follow`: goes on until the run ended. `tailBytes`: of a stored log, only so many of its last
   * bytes. undefined: there is none (yet).
   */
  log(
    runName: string,
    options: { follow: boolean; tailBytes?: number; signal: AbortSignal },
  ): Promise<ReadableStream<Uint8Array> | undefined>;
  /**
   * The run's output at random access, of all containers or of one; of a live run always of one. undefined: there is none
   * (yet). Absent: no output can be had so.
   */
  output?(runName: string, options: { part?: string; signal: AbortSignal }): Promise<LogText | undefined>;
}

/** The view of a running service. */
export function statusView(
  service: Service,
  { cluster, logs }: { cluster: Cluster; logs: ObjectStore },
): StatusView {
  const messages = new RecentMessages();
  service.subscribe(messages.emit);
  return {
    table: () => service.catalog.table,
    nextDue: () => service.nextDue(),
    tableUrl: service.catalog.url,
    tableFailure: () => service.catalog.failure?.message,
    openGroups: () => service.groups.views(),
    group: (name, signal) => service.groups.details(name, signal),
    messages: (which) => messages.values(which),
    liveRuns: () => service.runs.views(),
    liveRun(runName) {
      const run = service.runs.get(runName);
      return run && viewOf(run);
    },
    history: service.history,
    record: (runName, signal) => service.records.get(runName, signal),
    async hasBegun(runName, signal) {
      return await service.records.exists(runName, signal) ||
        await service.records.hasNote(".groups", runName, signal);
    },
    waitingJoins: () => [...service.waitingJoins],
    async joinMarks(root, signal) {
      const marks = new Set<string>();
      for await (const path of service.records.notes(".joins", `${root}/`, { signal })) {
        if (marks.add(path.slice(root.length + 1)).size >= MOST_MARKS) break;
      }
      return marks;
    },
    events: (runName, signal) => cluster.events(runName, [...service.runs.get(runName)?.pods.keys() ?? []], { signal }),
    job: (runName, signal) => cluster.get(runName, { signal }),
    async log(runName, { follow, tailBytes, signal }) {
      const run = service.runs.get(runName);
      // Who hears of an end asks for its log before its Job is gone.
      if (!run || run.state === "ending") {
        const stored = await logs.read(`${runName}.txt`, { ...compact({ tail: tailBytes }), signal });
        if (stored || !run) return stored;
      }
      return ReadableStream.from(liveOutput(service, cluster, { runName, follow, signal }));
    },
    async output(runName, options) {
      const live = service.runs.get(runName) && service.output(runName, options);
      return live ?? await openStored(logs, runName, options);
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
