/**
 * The core, put together on given ports: what a message sets off goes one way, broker → listener → starter → cluster,
 * and what the cluster says goes the other, cluster → runs → completion → store, broker. Knows no adapter.
 */
import { Catalog, checkChannels, checkRow, checkTemplate, conditionFor } from "./catalog.ts";
import { Completion } from "./completion.ts";
import { Flows, type Groups, Limits, Schedules, type WaitingJoin } from "./flows.ts";
import { becomeLeader, type Leadership } from "./leader.ts";
import { Listener } from "./listener.ts";
import { KeptHistory } from "./history.ts";
import { LogCollector } from "./logs.ts";
import type { MetricsSnapshot } from "./observers/metrics.ts";
import type { Emit, HeldFor, Outcome, Row, RunSpec, RunView, ServiceEvent } from "./ports.ts";
import { RunRecords } from "./records.ts";
import { tryOrder } from "./service/broker_trial.ts";
import { EventTopics } from "./observers/event_topics.ts";
import { Actions, controlFilters, Requests } from "./control.ts";
import { atMost, delay } from "./util/retry.ts";
import { RunTable } from "./runs.ts";
import { LiveList } from "./service/live_list.ts";
import type { ServiceOptions } from "./service/options.ts";
import { sampleUsage } from "./service/usage.ts";
import { withSafeWords } from "./service/safe_event.ts";
import { NamedStarts, Starter } from "./starter.ts";
import { compact } from "./util/compact.ts";
import { errorMessage } from "./util/errors.ts";

export type { Election, ServiceOptions, ServiceSettings } from "./service/options.ts";

/** How long `stop` waits for what is under way. */
const DRAIN_MS = 5_000;
/** How long `stop` tries to give the lease up; another replica has to wait it out otherwise. */
const RELEASE_MS = 5_000;
const STARTING_DEADLINE_MS = 3600_000;
/** A broker or watch silent for so long is not healthy. */
const SILENT_MS = 5 * 60_000;

export class Service {
  readonly #options: ServiceOptions;
  readonly #abort = new AbortController();
  readonly #listeners: Emit[];
  readonly #eventTopics: EventTopics;
  readonly #limits: Limits;
  readonly #starter: Starter;
  readonly #listener: Listener;
  readonly #logs: LogCollector;
  readonly #liveList: LiveList;
  readonly #completion: Completion;
  readonly #named: NamedStarts;
  readonly #flows: Flows;
  readonly #schedules: Schedules;
  readonly runs: RunTable;
  readonly records: RunRecords;
  readonly history: KeptHistory;
  readonly catalog: Catalog;
  readonly actions: Actions;
  #leadership: Leadership | undefined;
  #holder = "";
  /** Why this replica cannot even try to lead. */
  #leaseTrouble: string | undefined;
  #started = false;
  readonly #failed = Promise.withResolvers<string>();

  constructor(options: ServiceOptions) {
    this.#options = options;
    const { broker, cluster, stores, settings, topicPrefix } = options;
    const { signal } = this.#abort;
    const emit = this.emit;
    this.#eventTopics = new EventTopics({ broker, topicPrefix, signal });
    this.#listeners = [...options.listeners ?? [], this.#eventTopics.emit];
    this.runs = new RunTable({ emit });
    this.records = new RunRecords(stores.runs);
    this.history = new KeptHistory({
      records: this.records,
      store: stores.runs,
      ...compact({ place: settings.data }),
      leads: () => this.#started,
      onTrouble: (message) => emit({ type: "error", scope: "store", report: { reason: "HistoryNotWhole", message } }),
    });
    this.#listeners.push(this.history.emit);
    this.#liveList = new LiveList({ runs: this.runs, records: this.records, signal });
    const { policy } = settings;
    const check = (row: Row) => [
      ...checkRow(policy ?? {}, row),
      ...checkTemplate(options.rules, row),
      ...checkChannels(settings.channels ?? [], row),
    ];
    this.catalog = new Catalog({
      store: stores.catalog,
      key: stores.catalogKey,
      topicPrefix,
      pollMs: settings.pollMs,
      emit,
      onChange: () => this.#onTable(),
      check,
      ...(options.rules ? { refreshRules: () => options.rules!.refresh() } : {}),
    });
    const endUnstarted = async (spec: RunSpec, outcome: Outcome) =>
      await this.#completion.unstarted.end(await this.#starter.stored(spec), outcome);
    const limits = this.#limits = new Limits({
      catalog: this.catalog,
      cluster,
      runs: this.runs,
      ...(options.look ? { look: options.look } : {}),
      endUnstarted,
      onRoom: () => this.#starter.pump(),
      emit,
      signal,
    });
    this.#starter = new Starter({
      cluster,
      runs: this.runs,
      gate: limits,
      startGroup: (spec) => this.#flows.groups.start(spec),
      payloads: stores.runs,
      concurrency: settings.createConcurrency,
      ...compact({ tracing: settings.tracing }),
      maxRuns: policy?.maxJobs ?? Infinity,
      emit,
      signal,
    });
    this.#named = new NamedStarts({ runs: this.runs, records: this.records, signal });
    this.#flows = new Flows({
      endUnstarted,
      broker,
      cluster,
      payloads: stores.runs,
      ...compact({ list: options.list, maxItems: settings.maxItems }),
      conditionOf: conditionFor,
      against: (row) => check(row).filter(({ severity }) => severity === "error").map(({ message }) => message),
      ...compact({ retryDelayMs: settings.retryDelayMs }),
      maxChainDepth: settings.maxChainDepth,
      catalog: this.catalog,
      records: this.records,
      runs: this.runs,
      starter: this.#starter,
      named: this.#named,
      topicPrefix,
      emit,
      signal,
    });
    this.#listener = new Listener({
      named: this.#named,
      groups: this.#flows.groups,
      catalog: this.catalog,
      runs: this.runs,
      records: this.records,
      starter: this.#starter,
      topicPrefix,
      handleRetained: settings.handleRetained,
      maxChainDepth: settings.maxChainDepth,
      ...compact({ tracing: settings.tracing }),
      emit,
      signal,
      onControl: (delivery) => requests.receive(delivery),
    });
    this.actions = new Actions({
      catalog: this.catalog,
      listener: this.#listener,
      history: this.history,
      records: this.records,
      payloads: stores.runs,
      cluster,
      runs: this.runs,
      groups: this.#flows.groups,
      topicPrefix,
      signal,
    });
    const requests = new Requests({
      actions: this.actions,
      broker,
      topicPrefix,
      signal,
    });
    this.#logs = new LogCollector({
      cluster,
      store: stores.logs,
      settings: settings.logs,
      signal,
      onTrouble: (message) => emit({ type: "error", scope: "store", report: { reason: "SpoolUnusable", message } }),
    });
    this.#completion = new Completion({
      aftermath: this.#flows,
      broker,
      cluster,
      runs: this.runs,
      records: this.records,
      logs: this.#logs,
      topicPrefix,
      gracePeriods: settings.gracePeriods,
      ...(options.look ? { look: options.look } : {}),
      emit,
      signal,
      onDone: () => this.#starter.pump(),
    });
    this.#schedules = new Schedules({
      catalog: this.catalog,
      records: this.records,
      listener: this.#listener,
      topicPrefix,
      startingDeadlineMs: settings.startingDeadlineMs ?? STARTING_DEADLINE_MS,
      emit,
      signal,
    });
    this.runs.observe(this.#completion);
    this.runs.observe(limits);
  }

  /** Tells all listeners. */
  readonly emit = (event: ServiceEvent): void => {
    const safe = withSafeWords(event);
    for (const listener of this.#listeners) listener(safe);
  };

  /** Adds a listener. */
  subscribe(listener: Emit): void {
    this.#listeners.push(listener);
  }

  get groups(): Groups {
    return this.#flows.groups;
  }

  /** Resolves with a sentence if the service must not go on in this process (its leadership is lost). */
  get failed(): Promise<string> {
    return this.#failed.promise;
  }

  /** Resolves when the service takes messages; a replica that does not lead waits here. */
  async start(): Promise<void> {
    const { signal } = this.#abort;
    void this.history.load(signal);
    await this.#lead();
    this.#completion.start();
    const watching = this.#options.cluster.watch(this.runs.clusterEvents, signal);
    watching.catch((error) => signal.aborted || this.#failed.resolve(`The watch ended: ${error}`));
    await Promise.all([this.catalog.start(signal), this.runs.synced, this.#listener.recall()]);
    const ending = this.#liveList.endVanished((job) => this.#completion.endVanished(job));
    await Promise.all([ending, this.#completion.unstarted.resume(), this.#flows.resume()]);
    void this.#liveList.keep().catch(() => {});
    this.#sampleUsage();
    this.#schedules.run().catch((error) => signal.aborted || this.#failed.resolve(`Schedules ended: ${error}`));
    this.#flows.joins.look();
    await this.#connect();
    this.#started = true;
  }

  #sampleUsage(): void {
    const { cluster, settings: { usageIntervalMs: intervalMs = 0 } } = this.#options;
    if (intervalMs === 0 || !cluster.podUsage) return;
    void sampleUsage({ cluster, runs: this.runs, intervalMs, signal: this.#abort.signal }).catch(() => {});
  }

  /**
   * Stops intake, gives what is under way a few seconds (`drain`), says `offline`, closes. What is left goes on at the
   * next start. A replica that lost its leadership must not drain: another one may do the same work by now.
   */
  async stop({ drain = true }: { drain?: boolean } = {}): Promise<void> {
    const { broker } = this.#options;
    broker.pause();
    const untilMs = Date.now() + (drain && this.#started ? DRAIN_MS : 0);
    while (Date.now() < untilMs && (this.#listener.waiting.messages > 0 || this.#completion.ending > 0)) {
      await delay(20);
    }
    if (this.#started && drain) {
      await Promise.all([
        atMost(1_000, Promise.all([this.#liveList.put(), this.#listener.finish()])),
        atMost(Math.max(1_000, untilMs - Date.now()), this.#logs.flush()),
      ]);
    }
    this.#abort.abort(new DOMException("The service stops", "AbortError"));
    await atMost(2_000, broker.close());
    this.history.close();
    if (this.#leadership) await atMost(RELEASE_MS, this.#leadership.release());
  }

  /** When rows with a schedule are due next, by their names. */
  nextDue(): ReadonlyMap<string, Date> {
    return new Map(this.#schedules.nextDue());
  }

  /** The output of a run under way, see `LogCollector.live`. */
  readonly output: LogCollector["live"] = (...asked) => this.#logs.live(...asked);

  /** Rows that wait for rows that they need, as far as this process knows. */
  get waitingJoins(): Iterable<WaitingJoin> {
    return this.#flows.joins.waiting;
  }

  /** State for metrics and health checks. */
  snapshot(): MetricsSnapshot {
    const runs: Record<RunView["state"], number> = { pending: 0, running: 0, ending: 0 };
    const held: Record<HeldFor, number> = { slot: 0, pause: 0 };
    for (const { state, job } of this.runs.values()) {
      runs[state]++;
      if (job.heldFor) held[job.heldFor]++;
    }
    const { table, confirmedAt } = this.catalog;
    const { heardAt } = this.#options.cluster;
    const errors = table?.problems.filter(({ severity }) => severity === "error").length ?? 0;
    return {
      waitingJoins: this.#flows.joins.waitingCount,
      groups: this.#flows.groups.counts,
      waitingMessages: this.#listener.waiting.messages,
      waitingBytes: this.#listener.waiting.bytes,
      runs,
      held,
      table: { rows: table?.rows.length ?? 0, errors, warnings: (table?.problems.length ?? 0) - errors },
      ...(confirmedAt ? { tableReadAt: confirmedAt } : {}),
      ...(heardAt ? { watchHeardAt: heardAt } : {}),
      leading: this.#leadership !== undefined || this.#options.election === undefined,
      brokerConnected: this.#options.broker.connected,
    };
  }

  /** `ok`: the process does its part (a waiting replica too); `checks` says each in words. */
  health(): { ok: boolean; ready: boolean; checks: Record<string, string> } {
    const { leading, brokerConnected, watchHeardAt, table, held } = this.snapshot();
    if (!leading) {
      const trouble = this.#leaseTrouble;
      const leader = trouble === undefined ? `waiting; ${this.#holder || "nobody"} leads` : `cannot lead: ${trouble}`;
      return { ok: true, ready: trouble === undefined, checks: { leader } };
    }
    const watchAlive = watchHeardAt !== undefined && Date.now() - watchHeardAt.getTime() < SILENT_MS;
    const without = this.#withoutSubscription();
    const checks = {
      leader: "leading",
      broker: brokerConnected ? "connected" : "not connected",
      watch: watchAlive ? "alive" : "silent",
      table: this.catalog.failure?.message ?? `${table.rows} rows`,
      ...without === "" ? {} : { subscriptions: without },
      ...held.slot + held.pause === 0
        ? {}
        : { held: `${held.slot} runs wait for a free slot, ${held.pause} for a paused row` },
    };
    const ok = !this.#started || brokerConnected && watchAlive;
    return { ok, ready: this.#started && ok, checks };
  }

  /** Rows that no message can start, for the broker refused their topic; a sentence, "" where there are none. */
  #withoutSubscription(): string {
    const { refused } = this.#options.broker;
    if (refused.size === 0) return "";
    const rows = (this.catalog.table?.rows ?? []).filter(({ mqttTopic }) => refused.has(mqttTopic));
    const shown = rows.slice(0, 20).map(({ jobName, mqttTopic }) =>
      `"${jobName}" on "${mqttTopic}" (${refused.get(mqttTopic)})`
    );
    const more = rows.length > 20 ? ` and ${rows.length - 20} more` : "";
    return rows.length === 0
      ? `refused: ${[...refused.keys()].slice(0, 20).join(", ")}`
      : `none for ${rows.length} of ${this.catalog.table?.rows.length} rows: ${shown.join(", ")}${more}`;
  }

  async #lead(): Promise<void> {
    const { election } = this.#options;
    if (!election) return;
    this.#leadership = await becomeLeader({
      lease: election.lease,
      identity: election.identity,
      ...election.times,
      signal: this.#abort.signal,
      onHolder: (holder) => {
        this.#holder = holder;
        this.emit({ type: "leader", leading: holder === election.identity, holder });
      },
      onTrouble: (reason) => {
        this.#leaseTrouble = reason;
        if (reason === undefined) return;
        const message = `This replica cannot lead: ${reason}`;
        this.emit({ type: "error", scope: "cluster", report: { reason: "LeaseUnavailable", message } });
      },
    });
    this.emit({ type: "leader", leading: true, holder: election.identity });
    this.#leadership.lost.then(
      (why) => this.#failed.resolve(`This replica leads no more: ${why}`),
      () => {}, // the service stops
    );
  }

  async #connect(): Promise<void> {
    const { broker, settings, topicPrefix } = this.#options;
    const { signal } = this.#abort;
    const taking = Promise.withResolvers<void>();
    taking.promise.catch(() => {/* The service stops; nobody need be waiting. */});
    let isNew: boolean | undefined;
    await broker.connect({
      onConnect: ({ sessionPresent }) => {
        isNew ??= !sessionPresent;
        this.#listener.connected(sessionPresent).then(taking.resolve, taking.reject);
        this.emit({ type: "broker", connected: true });
        this.#eventTopics.info({ ...settings.info, topic_prefix: topicPrefix });
      },
      onDelivery: (delivery) => this.#listener.receive(delivery),
      onDisconnect: (reason, { planned = false } = {}) => {
        this.#listener.disconnected();
        this.emit({ type: "broker", connected: false, reason, ...(planned ? { planned } : {}) });
      },
      onRival: (message, { mustGo }) => {
        if (mustGo) this.#failed.resolve(message);
        else this.emit({ type: "error", scope: "broker", report: { reason: "SharedClientId", message } });
      },
    }, signal);
    await taking.promise;
    if (isNew || !this.#listener.isOrderTried) {
      const body = JSON.stringify({ ...settings.info, topic_prefix: topicPrefix });
      const others = isNew ? [] : this.#filters();
      await tryOrder(this.#listener, { broker, topic: `${topicPrefix}/info`, body, others, signal });
    }
    await this.#subscribe();
    this.#announceTable();
  }

  #onTable(): void {
    this.#schedules.wake();
    this.#limits.tableChanged();
    if (!this.#started) return;
    this.#flows.joins.look();
    void this.#subscribe().then(() => this.#announceTable());
  }

  #filters(): string[] {
    return [...this.catalog.filters(), ...controlFilters(this.#options.topicPrefix)];
  }

  /** After the subscriptions: who sees a row on `table` may send its message at once. */
  #announceTable(): void {
    if (this.catalog.table) this.#eventTopics.table(this.catalog.table);
  }

  async #subscribe(): Promise<void> {
    try {
      await this.#options.broker.subscribe(new Set(this.#filters()), this.#abort.signal);
    } catch (error) {
      if (this.#abort.signal.aborted) return;
      const message = errorMessage(error);
      this.emit({ type: "error", scope: "broker", report: { reason: "SubscriptionRefused", message } });
    }
  }
}
