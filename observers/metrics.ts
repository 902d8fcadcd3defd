/**
 * Prometheus metrics `mqtt_job_listener_*` in a registry of their own. Counts what the core tells; what is a state
 * (queue, runs, table, connections) is asked for when somebody scrapes. Must not throw into the core, nor let names
 * from tables or clusters make endless series.
 */
import process from "node:process";
import { Counter, Gauge, Histogram, Registry } from "prom-client";
import type { Emit, HeldFor, RunRecord, RunView, ServiceEvent } from "../ports.ts";

/** The service's state at a scrape. */
export interface MetricsSnapshot {
  /** Messages received and not yet done, and what they take. */
  readonly waitingMessages: number;
  readonly waitingBytes: number;
  /** Rows that wait for others that they need, of each message. */
  readonly waitingJoins: number;
  readonly groups?: { readonly open: number; readonly itemsWaiting: number };
  readonly runs: Readonly<Record<RunView["state"], number>>;
  /** Of the pending ones, those that the service itself holds back, by what they wait for. */
  readonly held: Readonly<Record<HeldFor, number>>;
  readonly table: { readonly rows: number; readonly errors: number; readonly warnings: number };
  /** When the table in use was last known to be the one in the store; absent: there is none yet. */
  readonly tableReadAt?: Date;
  /** When something was last heard from the cluster's watch. */
  readonly watchHeardAt?: Date;
  readonly leading: boolean;
  readonly brokerConnected: boolean;
}

export interface MetricsOptions {
  readonly version: string;
  readonly snapshot: () => MetricsSnapshot;
  /** Rows with series of their own; those that end later are counted as `_other`. Default 200. */
  readonly maxJobNames?: number;
}

const PREFIX = "mqtt_job_listener_";
/** Kubernetes may come up with reasons of its own. */
const MAX_REASONS = 50;
const OTHER = "_other";
/** Seconds. From a create call on loopback to a cluster that is in trouble. */
const SHORT = [0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 900];
/** Seconds. Images to pull, nodes to wait for, large logs. */
const MEDIUM = [0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600, 1800, 3600];
/** Seconds. Runs: from a second to days. */
const LONG = [1, 5, 15, 60, 300, 900, 1800, 3600, 3 * 3600, 6 * 3600, 12 * 3600, 86400, 3 * 86400, 7 * 86400];

export class Metrics {
  readonly #registry = new Registry();
  readonly #options: MetricsOptions;
  readonly #jobNames: Capped;
  readonly #reasons = new Capped(MAX_REASONS);
  readonly #retryReasons = new Capped(MAX_REASONS);
  readonly #messages: Counter;
  readonly #runsEnded: Counter;
  readonly #retried: Counter;
  readonly #disruptions: Counter;
  readonly #jobRuns: Counter;
  readonly #created: Counter;
  readonly #delayed: Counter;
  readonly #errors: Counter;
  readonly #groupsEnded: Counter;
  readonly #reconnects: Counter;
  readonly #tableLoads: Counter;
  readonly #pageRefusals: Counter;
  readonly #joins: Counter;
  readonly #messageToCreated: Histogram;
  readonly #scheduleLag: Histogram;
  readonly #create: Histogram;
  readonly #createdToStarted: Histogram;
  readonly #finishedToCompleted: Histogram;
  readonly #duration: Histogram;
  readonly #gauges: ((snapshot: MetricsSnapshot, now: number) => void)[] = [];

  constructor(options: MetricsOptions) {
    this.#options = options;
    this.#jobNames = new Capped(options.maxJobNames ?? 200);
    this.#messages = this.#counter("messages_total", "Messages by what became of them", "outcome");
    this.#created = this.#counter("runs_created_total", "Runs that the cluster took over");
    this.#runsEnded = this.#counter("runs_ended_total", "Ended runs by status and reason", "status", "reason");
    this.#retried = this.#counter("attempts_retried_total", "Attempts that failed and were tried again", "reason");
    this.#disruptions = this.#counter("disruptions_total", "Pods that the cluster took away from runs");
    this.#jobRuns = this.#counter("job_runs_ended_total", "Ended runs by row of the table", "job_name", "status");
    this.#delayed = this.#counter("creates_delayed_total", "Runs that the cluster would not take for now");
    this.#groupsEnded = this.#counter("groups_ended_total", "Groups of items that ended, by status", "status");
    this.#errors = this.#counter("errors_total", "EventTopics on the ERROR topic by what they are about", "scope");
    this.#reconnects = this.#counter("broker_disconnects_total", "Lost or refused connections to the broker");
    this.#pageRefusals = this.#counter("page_refusals_total", "Requests to the page that were refused", "why");
    this.#joins = this.#counter("joins_total", "Rows with needs by what the success of a needed one led to", "outcome");
    this.#tableLoads = this.#counter("table_loads_total", "Tables taken into use");
    this.#messageToCreated = this.#histogram("message_to_created_seconds", "From a message to its Job", SHORT);
    this.#scheduleLag = this.#histogram("schedule_lag_seconds", "From a due time to the Job of its run", SHORT);
    this.#create = this.#histogram("create_seconds", "Create calls of the cluster that succeeded", SHORT);
    this.#createdToStarted = this.#histogram("created_to_started_seconds", "From a Job to its first container", MEDIUM);
    this.#finishedToCompleted = this.#histogram(
      "finished_to_completed_seconds",
      "From a run's end to its message, log and record in place",
      MEDIUM,
    );
    this.#duration = this.#histogram("run_duration_seconds", "From a run's start to its end", LONG, "status");
    this.#defineGauges();
    this.#defineProcess();
    this.#startFromZero();
  }

  /** Give it what the core tells. */
  readonly emit: Emit = (event) => {
    try {
      this.#count(event);
    } catch {
      // A metric that cannot be kept must not stop a run.
    }
  };

  /** A request to the page was refused: for its host's name, its size, the number of requests, a wrong token. */
  refused(why: "host" | "size" | "busy" | "token"): void {
    this.#pageRefusals.inc({ why });
  }

  /** `Content-Type` of `render`. */
  get contentType(): string {
    return this.#registry.contentType;
  }

  /** What Prometheus scrapes. */
  async render(): Promise<string> {
    const snapshot = this.#options.snapshot();
    const now = Date.now();
    for (const set of this.#gauges) set(snapshot, now);
    return await this.#registry.metrics();
  }

  /** Names of all metrics, for the test of dashboard and alerts. */
  names(): string[] {
    return this.#registry.getMetricsAsArray().map(({ name }) => name);
  }

  #count(event: ServiceEvent): void {
    switch (event.type) {
      case "message":
        if (event.observed) return;
        return this.#messages.inc({ outcome: event.outcome });
      case "created":
        this.#created.inc();
        this.#create.observe(event.createMs / 1000);
        // A further attempt comes long after its message.
        if ((event.run.attempt ?? 1) === 1) this.#messageToCreated.observe(event.sinceReceiptMs / 1000);
        return;
      case "scheduled":
        return this.#scheduleLag.observe(Math.max(0, event.lagMs) / 1000);
      case "waiting":
        return this.#delayed.inc();
      case "started": {
        const { startedAt, createdAt } = event.run;
        if (startedAt) this.#createdToStarted.observe(secondsBetween(createdAt, startedAt));
        return;
      }
      case "finished":
        return this.#countEnd(event.record, event.completionMs);
      case "join":
        return this.#joins.inc({ outcome: event.outcome });
      case "retrying":
        this.#disruptions.inc(event.record.disruptions ?? 0);
        return this.#retried.inc({ reason: this.#retryReasons.name(event.record.reason) });
      case "group":
        return event.state === "started" ? undefined : this.#groupsEnded.inc({ status: event.state });
      case "table":
        return this.#tableLoads.inc();
      case "broker":
        return event.connected ? undefined : this.#reconnects.inc();
      case "error":
        return event.report.reason === "TableWarning" ? undefined : this.#errors.inc({ scope: event.scope });
      case "leader":
        return;
    }
  }

  #countEnd(record: RunRecord, completionMs: number): void {
    const { job_name, status, reason, started_at, finished_at } = record;
    this.#disruptions.inc(record.disruptions ?? 0);
    this.#runsEnded.inc({ status, reason: this.#reasons.name(reason) });
    this.#jobRuns.inc({ job_name: this.#jobNames.name(job_name), status });
    this.#finishedToCompleted.observe(completionMs / 1000);
    if (started_at !== null) {
      this.#duration.observe({ status }, secondsBetween(new Date(started_at), new Date(finished_at)));
    }
  }

  #defineGauges(): void {
    this.#gauge("waiting_messages", "Messages received and not yet done", (s) => s.waitingMessages);
    this.#gauge("waiting_bytes", "Memory of messages received and not yet done", (s) => s.waitingBytes);
    this.#gauge("groups_open", "Groups of items that have not ended", (s) => s.groups?.open ?? 0);
    this.#gauge("group_items_waiting", "Items of groups that have no run yet", (s) => s.groups?.itemsWaiting ?? 0);
    this.#gauge("joins_waiting", "Rows that wait for rows that they need", (s) => s.waitingJoins);
    this.#gauge("table_rows", "Rows in use", (s) => s.table.rows);
    this.#gauge("table_errors", "Errors in the table; their rows are left out", (s) => s.table.errors);
    this.#gauge("table_warnings", "Warnings about the table", (s) => s.table.warnings);
    this.#gauge(
      "table_age_seconds",
      "Since the table was last read or found unchanged",
      (s, now) => age(s.tableReadAt, now),
    );
    this.#gauge(
      "watch_age_seconds",
      "Since something was last heard from the cluster's watch",
      (s, now) => age(s.watchHeardAt, now),
    );
    this.#gauge("leader", "1: this replica works; 0: it waits to take over", (s) => Number(s.leading));
    this.#gauge("broker_connected", "1: connected to the broker", (s) => Number(s.brokerConnected));
    const runs = this.#newGauge("runs", "Live runs by state", "state");
    this.#gauges.push(({ runs: states }) => {
      for (const [state, count] of Object.entries(states)) runs.set({ state }, count);
    });
    const held = this.#newGauge("held_runs", "Runs that wait as suspended Jobs, by what they wait for", "reason");
    this.#gauges.push(({ held: reasons }) => {
      for (const [reason, count] of Object.entries(reasons)) held.set({ reason }, count);
    });
    this.#newGauge("build_info", "Version of the service", "version").set({ version: this.#options.version }, 1);
  }

  /** Under the names of Prometheus' own client libraries; prom-client's defaults want Node. */
  #defineProcess(): void {
    const registers = [this.#registry];
    const start = new Gauge({ name: "process_start_time_seconds", help: "Start of the process", registers });
    start.set(performance.timeOrigin / 1000);
    const resident = new Gauge({ name: "process_resident_memory_bytes", help: "Resident memory", registers });
    const heap = new Gauge({ name: "process_heap_bytes", help: "Used heap of JavaScript", registers });
    const cpu = new Counter({ name: "process_cpu_seconds_total", help: "User and system CPU time", registers });
    this.#gauges.push(() => {
      const { rss, heapUsed } = Deno.memoryUsage();
      resident.set(rss);
      heap.set(heapUsed);
      const { user, system } = process.cpuUsage();
      cpu.reset();
      cpu.inc((user + system) / 1e6);
    });
  }

  /** Series that exist from the start, so that a first failure is an increase. */
  #startFromZero(): void {
    for (const outcome of ["runs", "ignored", "filtered", "duplicate", "skipped", "refused"]) {
      this.#messages.inc({ outcome }, 0);
    }
    for (const outcome of ["waiting", "started", "exists", "filtered", "refused"]) this.#joins.inc({ outcome }, 0);
    for (const why of ["host", "size", "busy", "token"]) this.#pageRefusals.inc({ why }, 0);
    for (const scope of ["table", "message", "run", "broker", "store", "cluster", "service"]) {
      this.#errors.inc({ scope }, 0);
    }
    this.#runsEnded.inc({ status: "succeeded", reason: this.#reasons.name("Completed") }, 0);
    this.#retried.inc({ reason: this.#retryReasons.name("ExitCode") }, 0);
  }

  #counter(name: string, help: string, ...labelNames: string[]): Counter {
    return new Counter({ name: PREFIX + name, help, labelNames, registers: [this.#registry] });
  }

  #histogram(name: string, help: string, buckets: number[], ...labelNames: string[]): Histogram {
    return new Histogram({ name: PREFIX + name, help, buckets, labelNames, registers: [this.#registry] });
  }

  #newGauge(name: string, help: string, ...labelNames: string[]): Gauge {
    return new Gauge({ name: PREFIX + name, help, labelNames, registers: [this.#registry] });
  }

  #gauge(name: string, help: string, value: (snapshot: MetricsSnapshot, now: number) => number): void {
    const gauge = this.#newGauge(name, help);
    this.#gauges.push((snapshot, now) => gauge.set(value(snapshot, now)));
  }
}

/** Lets the first `most` names through; all others are one. */
class Capped {
  readonly #most: number;
  readonly #names = new Set<string>();

  constructor(most: number) {
    this.#most = most;
  }

  name(name: string): string {
    if (this.#names.has(name)) return name;
    if (this.#names.size >= this.#most) return OTHER;
    this.#names.add(name);
    return name;
  }
}

/** Two clocks may differ: never negative. */
function secondsBetween(from: Date, to: Date): number {
  return Math.max(0, (to.getTime() - from.getTime()) / 1000);
}

/** NaN while there is nothing: a rule on its size does not fire then. */
function age(at: Date | undefined, now: number): number {
  return at === undefined ? NaN : Math.max(0, (now - at.getTime()) / 1000);
}
