/**
 * From delivery to runs: matches rows, tells new messages from redelivered ones, asks the Starter for one run a row,
 * and lets a message be acknowledged only when each of them exists or is refused for good. Creates nothing itself.
 *
 * MQTT gives a message no identity, and packet identifiers are used again as soon as they are acknowledged. So deliveries
 * are counted: each has a number that its runs carry in their names, and session.ts says which numbers are acknowledged.
 * After a reconnect the first u deliveries of equal messages are the u that are not, whatever their identifiers and DUP;
 * all others are new. Only where a broker was seen to give identifiers in order (packet_order.ts) do these decide, too.
 * Where the message names an idempotency key, or the run that it announces, its runs are named by that instead, and a
 * second one is refused by the name itself. In doubt a message runs: lost is worse than twice.
 */
import type { Catalog } from "./catalog.ts";
import type { Groups } from "./flows.ts";
import { canHaveEnded } from "./listener/belief.ts";
import { FormerRuns } from "./listener/former_runs.ts";
import { emitOrigin, emitStart, type Origins } from "./listener/origin_event.ts";
import { OrderTrial, type TrialOptions } from "./listener/order_trial.ts";
import { PacketOrder } from "./listener/packet_order.ts";
import { chainTooDeep, endNotBelieved, refused } from "./listener/reports.ts";
import { inputReport, NOTHING_SELECTED, selectRows } from "./listener/selection.ts";
import { Session } from "./listener/session.ts";
import { hashOf, keyOf, newWork, noteRefusal, noteStart, type RunOptions } from "./listener/work.ts";
import { sharesRows, specOf, uniqueName, type Work } from "./listener/work.ts";
import { type Delivery, type Emit, type ErrorReport, type Message, RefusedError, type Row } from "./ports.ts";
import type { RunRecords } from "./records.ts";
import { messageHashOf, runNameFor } from "./run_spec.ts";
import type { RunTable } from "./runs.ts";
import { NamedStarts, type Starter, type StartResult } from "./starter.ts";
import { isEndTopic, isUnderPrefix } from "./topics.ts";
import { compact } from "./util/compact.ts";
import { errorMessage } from "./util/errors.ts";
import { retryForever } from "./util/retry.ts";

export { type Origin, originOf } from "./listener/origin.ts";
export { chainTooDeep, refused } from "./listener/reports.ts";
export { selectRows } from "./listener/selection.ts";

export interface ListenerOptions {
  readonly catalog: Pick<Catalog, "match" | "conditionOf">;
  readonly runs: RunTable;
  readonly records: RunRecords;
  readonly starter: Starter;
  readonly named: NamedStarts;
  readonly groups?: Pick<Groups, "get" | "findByMessage" | "names">;
  readonly topicPrefix: string;
  readonly handleRetained: boolean;
  readonly maxChainDepth: number;
  /** Traces are made, see the event `origin`. */
  readonly tracing?: boolean;
  readonly emit: Emit;
  readonly signal: AbortSignal;
  /** Messages under the service's prefix that are no end of a run: REFRESH and requests. */
  readonly onControl: (delivery: Delivery) => void;
  /** How long after a reconnect messages may come again. Default 30 s. */
  readonly redeliveryMs?: number;
}

/**
 * Brokers send again at once what was open. What did not come by then expired there, and an equal message that comes
 * later is a new one.
 */
const REDELIVERY_MS = 30_000;

export class Listener {
  readonly #options: ListenerOptions;
  readonly #session: Session<Work>;
  readonly #origins: Origins | undefined;
  /** Work of earlier connections whose messages have not come again, by the hash of these, the oldest first. */
  readonly #open = new Map<string, Work[]>();
  #former: FormerRuns | undefined;
  #order: PacketOrder;
  /** Deliveries that wait for the record of a new session to be in the store. */
  #held: Delivery[] | undefined = [];
  #isRecorded = false;
  /** Deliveries that wait to be told apart, in the order of receipt. */
  #telling: Promise<void> = Promise.resolve();
  #tellingCount = 0;
  #timer: ReturnType<typeof setTimeout> | undefined;
  /** Hears of the service's own messages on a topic, while the broker's order is tried. */
  #trial: OrderTrial | undefined;

  constructor(options: ListenerOptions) {
    this.#options = options;
    const { records, topicPrefix: scope, emit, signal } = options;
    this.#session = new Session({ records, scope, emit, signal });
    this.#origins = options.tracing ? { emit, session: this.#session } : undefined;
    this.#order = new PacketOrder({ orderly: undefined, newest: undefined });
    signal.addEventListener("abort", () => clearTimeout(this.#timer), { once: true });
  }

  /** Messages that are not acknowledged, and the bytes of their payloads. */
  get waiting(): { readonly messages: number; readonly bytes: number } {
    return this.#session.waiting;
  }

  /** Reads what the former process knew of the session; before the first connection. Waits for the store. */
  async recall(): Promise<void> {
    await this.#session.recall();
  }

  /** Says in the store that nothing is open, if so; at the end, when nothing is handed over any more. */
  async finish(): Promise<void> {
    await this.#session.finish();
  }

  /**
   * A connection begins; call it before its first delivery. Resolves when deliveries are taken: those of a new session,
   * and of a new process, wait until the store has the record of it.
   */
  async connected(sessionPresent: boolean): Promise<void> {
    const { runs, records, groups, signal } = this.#options;
    const isFirst = !this.#isRecorded && this.#former === undefined;
    this.#collectOpen(sessionPresent);
    this.#session.begin(sessionPresent);
    if (!sessionPresent) {
      this.#former = undefined;
      this.#order = new PacketOrder({ orderly: undefined, newest: undefined });
      this.#isRecorded = false;
    } else if (isFirst && this.#session.former) {
      const record = this.#session.former;
      this.#former = new FormerRuns({ record, runs, records, signal, groups: [...groups?.names() ?? []] });
      this.#order = new PacketOrder({ orderly: record.orderly, newest: record.lastId });
    }
    this.#session.orderly = this.#order.orderly;
    this.#expectRedeliveries();
    if (this.#isRecorded) return;
    const held: Delivery[] = this.#held = [];
    await this.#session.write();
    if (this.#held !== held) return; // another connection has begun
    this.#isRecorded = true;
    this.#held = undefined;
    for (const delivery of held) this.receive(delivery);
  }

  /** The connection has ended: what is not acknowledged comes again on another one. */
  disconnected(): void {
    this.#session.end();
  }

  /** Takes a delivery over; returns at once. */
  receive(delivery: Delivery): void {
    if (this.#held) {
      this.#held.push(delivery);
      return;
    }
    const { topicPrefix, catalog, handleRetained } = this.#options;
    const { topic, packetId } = delivery;
    const isControl = isUnderPrefix(topicPrefix, topic) && !isEndTopic(topicPrefix, topic);
    const selection = isControl || (delivery.retain && !handleRetained)
      ? NOTHING_SELECTED
      : selectRows(catalog.match({ topic, ...(delivery.filters ? { filters: delivery.filters } : {}) }), delivery, {
        topicPrefix,
        conditionOf: (row) => catalog.conditionOf(row),
      });
    const { rows } = selection;
    if (packetId !== undefined) {
      this.#see(delivery);
      if (this.#takeOver(delivery, rows)) return;
    }
    const work = newWork(delivery, selection, topicPrefix);
    for (const report of selection.refused) this.#refuse(work, report);
    if (packetId !== undefined) {
      this.#session.add(work);
      if (!work.counted) this.#order.take(packetId);
    }
    if (isControl) this.#control(work);
    else if (rows.length === 0) this.#finish(work);
    else if (work.origin.chainDepth > this.#options.maxChainDepth) {
      this.#refuseDepth(work);
      this.#finish(work);
    } else if (work.origin.parentRun !== undefined) this.#startChild(work, work.origin.parentRun);
    else this.#tellApart(work);
  }

  /** Runs a row without a message of a broker's; resolves when its Job exists or is refused. */
  async run(row: Row, message: Message, { lineage, key, later, requestedBy }: RunOptions = {}): Promise<StartResult> {
    const report = inputReport(row, message);
    if (report) {
      this.#emitReport(report);
      return { result: "refused", runName: "", error: new RefusedError(report.message) };
    }
    const delivery: Delivery = { ...message, qos: 0, retain: false, dup: false, done() {} };
    const made = newWork(delivery, { ...NOTHING_SELECTED, rows: [row] }, this.#options.topicPrefix);
    // What has a key was not asked for by a person there and then.
    const byHand = key === undefined ? true as const : undefined;
    const work = { ...made, ...compact({ lineage, later, byHand, requestedBy }) };
    const result =
      await (key === undefined ? this.#started(row, work, uniqueName(row)) : this.#startedOnce(row, work, key));
    this.#emitRefusal(message.topic, row, result);
    emitStart(work, result, this.#origins);
    return result;
  }

  /** Whether the broker's order was tried in this session, by this process or a former one. */
  get isOrderTried(): boolean {
    return this.#session.tried;
  }

  /**
   * Finds out whether the broker gives packet identifiers in order over connections, see listener/order_trial.ts. Best in
   * a new session, before anything else is subscribed: it proves nothing where other messages are open. A process that
   * dies in it leaves the session untried.
   */
  async tryOrder(options: TrialOptions): Promise<void> {
    const trial = this.#trial = new OrderTrial(options);
    try {
      await trial.run();
    } finally {
      this.#trial = undefined;
      if (!this.#options.signal.aborted) {
        this.#session.tried = true;
        void this.#session.write();
      }
    }
  }

  // ---------------------------------------------------------------- which message it is

  #see(delivery: Delivery): void {
    this.#order.see(delivery);
    if (this.#order.orderly === this.#session.orderly) return;
    this.#session.orderly = this.#order.orderly;
    void this.#session.write();
  }

  /** What is not acknowledged comes again, if the broker has kept the session. */
  #collectOpen(sessionPresent: boolean): void {
    const works = this.#session.pending;
    if (!sessionPresent) {
      this.#open.clear();
      for (const work of works) work.dropped = work.counted && work.number === 0;
      return;
    }
    for (const work of works) work.dropped = work.counted && work.number === 0;
    const ids = works.map(({ delivery }) => delivery.packetId!);
    const untold = ids.find((packetId, at) => works[at]!.dropped && !this.#order.wasReceived(packetId));
    const onTrial = this.#trial && ids.length === 1 && this.#open.size === 0 ? ids[0] : undefined;
    this.#order.reconnected({ untold, onTrial });
    for (const work of works) {
      if (work.dropped) continue;
      const hash = hashOf(work);
      const others = this.#open.get(hash);
      if (others) others.push(work);
      else this.#open.set(hash, [work]);
    }
    for (const equal of this.#open.values()) equal.sort((one, other) => one.number - other.number);
  }

  /** Whether the message is one of those that were open when an earlier connection of this process ended. */
  #takeOver(delivery: Delivery, rows: readonly Row[]): boolean {
    if (this.#open.size === 0) return false;
    const hash = messageHashOf(delivery);
    const equal = this.#open.get(hash);
    const index = equal?.findIndex((work) => this.#mayBe(work, delivery, rows)) ?? -1;
    if (index === -1) return false;
    const [work] = equal!.splice(index, 1);
    if (equal!.length === 0) this.#open.delete(hash);
    const { emit } = this.#options;
    work!.delivery = delivery;
    this.#order.take(delivery.packetId!);
    this.#session.add(work!);
    if (work!.settled) this.#session.settle(work!);
    else if (delivery.topic === this.#trial?.topic) this.#trial.received((done) => this.#session.settle(work!, done));
    emit({ type: "message", topic: delivery.topic, rows: rows.length, outcome: "duplicate" });
    this.#expectRedeliveries();
    return true;
  }

  #mayBe(work: Work, { dup, packetId }: Delivery, rows: readonly Row[]): boolean {
    if (this.#order.orderly && !(dup && packetId === work.delivery.packetId)) return false;
    return sharesRows(work, rows);
  }

  /** Gives a message without a key its number: that of the delivery which it repeats, or a new one. */
  #tellApart(work: Work): void {
    const { dup, packetId } = work.delivery;
    if (!work.counted) return this.#startRows(work);
    const mayRepeat = this.#former !== undefined && (!this.#former.allAcknowledged || (this.#order.orderly && dup));
    if (!mayRepeat && this.#tellingCount === 0) {
      const isKnown = this.#order.orderly && dup && this.#order.wasReceived(packetId!);
      return this.#startNew(work, isKnown ? (row) => this.#findRun(row, work) : undefined);
    }
    // Asked for now, so that the lists of many rows are under way together.
    this.#former?.load(work.rows).catch(() => {});
    this.#tellingCount++;
    this.#telling = this.#telling.then(() => this.#tellFromFormer(work)).catch(() => {/* The service stops. */})
      .finally(
        () => this.#tellingCount--,
      );
  }

  async #tellFromFormer(work: Work): Promise<void> {
    const { signal } = this.#options;
    const former = this.#former;
    const { dup, packetId } = work.delivery;
    if (work.dropped) return;
    if (!former || (this.#order.orderly && !dup)) return this.#startNew(work);
    const wasReceived = this.#order.orderly && this.#order.wasReceived(packetId!);
    await retryForever(() => former.load(work.rows), { signal, onRetry: (error) => this.#emitLookup(work, error) });
    if (work.dropped) return;
    const isOpen = (number: number) => this.#session.isOpen(number);
    // What an orderly broker sends again of what was acknowledged has an identifier of before; what is open has none.
    let number = wasReceived ? undefined : former.take(hashOf(work), work.rows, isOpen);
    if (number === undefined && wasReceived) {
      const known = (row: Row) =>
        this.#findRun(row, work) ??
          (former.hasAcknowledged(hashOf(work), row, isOpen) ? "" : undefined);
      if (work.rows.some((row) => known(row) !== undefined)) return this.#startNew(work, known);
    }
    if (number === undefined) {
      await former.settled(work.rows);
      if (work.dropped) return;
      number = former.take(hashOf(work), work.rows, isOpen);
    }
    if (number === undefined) return this.#startNew(work);
    work.number = number;
    this.#expectRedeliveries();
    this.#startRows(work, (row) => former.has(hashOf(work), row, number) ? this.#runName(row, work) : undefined);
  }

  /** What does not come again within some time after a reconnect is not there any more. */
  #expectRedeliveries(): void {
    const { signal, redeliveryMs = REDELIVERY_MS } = this.#options;
    clearTimeout(this.#timer);
    if (signal.aborted) return;
    const timer = this.#timer = setTimeout(() => {
      // A broker whose window is full sends the rest when we acknowledge; an orderly one marks what it repeats.
      const mayComeYet = this.#order.orderly && this.waiting.messages > 0;
      if (this.#held || mayComeYet) return this.#expectRedeliveries();
      // Behind what has come by now and waits to be told apart, for a store may be slow.
      this.#telling = this.#telling.then(() => {
        if (this.#timer !== timer) return;
        this.#open.clear();
        this.#former = undefined;
        this.#session.closeOlder();
      });
    }, redeliveryMs);
  }

  /** Name of the run that a message equal to this one made of the row, if it lives or ended in the last ten minutes. */
  #findRun(row: Row, work: Work): string | undefined {
    const { runs, groups } = this.#options;
    return runs.findByMessage(row.jobName, hashOf(work)) ?? groups?.findByMessage(row.jobName, hashOf(work));
  }

  // ---------------------------------------------------------------- its runs

  #control(work: Work): void {
    const { onControl } = this.#options;
    const { delivery } = work;
    if (delivery.topic === this.#trial?.topic) {
      if (delivery.retain) this.#session.settle(work);
      else this.#trial.received((done) => this.#session.settle(work, done));
      return;
    }
    onControl(delivery);
    if (delivery.packetId === undefined) delivery.done();
    else this.#session.settle(work);
  }

  #startNew(work: Work, known?: (row: Row) => string | undefined): void {
    work.number = this.#session.nextNumber();
    this.#startRows(work, known);
  }

  /** Starts a run of each row; `known`: the name of the one that is there already. */
  #startRows(work: Work, known: (row: Row) => string | undefined = () => undefined): void {
    if (work.counted) this.#order.take(work.delivery.packetId!);
    for (const row of work.rows) {
      const found = known(row);
      // A group goes on by its manifest, so it has to be looked at.
      const isGroup = found !== undefined && row.forEach !== undefined && found === this.#runName(row, work);
      const runName = isGroup ? undefined : found;
      const key = runName === undefined ? keyOf(row, work) : undefined;
      if (runName !== undefined) this.#through(row, work, { result: "exists", runName });
      else if (key instanceof RefusedError) this.#through(row, work, { result: "refused", runName: "", error: key });
      else if (key !== undefined) this.#startKeyed(row, work, key);
      else {
        this.#options.starter.start({
          row,
          spec: () =>
            specOf(row, work, {
              runName: work.counted ? this.#runName(row, work) : uniqueName(row),
              epoch: this.#session.epoch,
            }),
          settle: (result) => this.#through(row, work, result),
        });
      }
    }
  }

  /** An end that this service cannot have told starts nothing. */
  #startChild(work: Work, parentRun: string): void {
    const { records, signal } = this.#options;
    const answer = canHaveEnded(work.delivery.topic, parentRun, this.#options);
    if (answer === true) return this.#startRows(work);
    if (answer === false) return this.#refuseEnd(work, parentRun);
    // After a restart its end may have been told already, and not be seen yet.
    retryForever(() => records.exists(parentRun, signal), {
      signal,
      onRetry: (error) => this.#emitLookup(work, error),
    }).then(
      (hasEnded) => hasEnded ? this.#startRows(work) : this.#refuseEnd(work, parentRun),
      () => {/* The service stops: the message comes again. */},
    );
  }

  #startKeyed(row: Row, work: Work, key: string): void {
    this.#startedOnce(row, work, key).then(
      (result) => this.#through(row, work, result),
      () => {/* The service stops: the message comes again. */},
    );
  }

  #startedOnce(row: Row, work: Work, key: string): Promise<StartResult> {
    return this.#options.named.start(runNameFor(row, { key }), {
      begin: (runName) => this.#started(row, work, runName),
      onRetry: (error) => this.#emitLookup(work, error),
    });
  }

  /** Stays open where the service stops first. */
  #started(row: Row, work: Work, runName: string): Promise<StartResult> {
    return new Promise((settle) => {
      const { later = false } = work;
      this.#options.starter.start({
        row,
        later,
        spec: () => specOf(row, work, { runName, epoch: this.#session.epoch }),
        settle,
      });
    });
  }

  /** The start of one row is through; the message is done when that of each is. */
  #through(row: Row, work: Work, result: StartResult): void {
    this.#emitRefusal(work.delivery.topic, row, result);
    noteStart(work, result);
    const { outcome } = work;
    if (result.result === "created") work.outcome = "runs";
    else if (result.result === "skipped" && outcome !== "runs") work.outcome = "skipped";
    else if (result.result === "exists" && outcome === "refused") work.outcome = "duplicate";
    if (--work.left === 0) this.#finish(work);
  }

  #finish(work: Work): void {
    const { delivery, rows, filtered, outcome, runs, refusals } = work;
    const isRetained = outcome === "ignored" && delivery.retain && !this.#options.handleRetained;
    this.#options.emit({
      type: "message",
      topic: delivery.topic,
      rows: rows.length + filtered.length,
      outcome,
      ...compact({ filtered: filtered.length === 0 ? undefined : filtered, runs, refusals }),
      ...isRetained ? { retained: true } : {},
    });
    emitOrigin(work, this.#origins);
    if (delivery.packetId === undefined) delivery.done();
    else this.#session.settle(work);
  }

  #runName(row: Row, work: Work): string {
    return runNameFor(row, {
      epoch: this.#session.epoch,
      number: work.number,
      messageHash: hashOf(work),
    });
  }

  // ---------------------------------------------------------------- what is said

  #emitLookup(work: Work, error: unknown): void {
    const reason = `whether it ran before cannot be read: ${errorMessage(error)}`;
    for (const { jobName } of work.rows) this.#options.emit({ type: "waiting", runName: "", jobName, reason });
  }

  #refuseDepth(work: Work): void {
    const { delivery: { topic }, rows, origin } = work;
    for (const row of rows) this.#refuse(work, chainTooDeep(topic, row, origin, this.#options.maxChainDepth));
  }

  #refuseEnd(work: Work, parentRun: string): void {
    this.#refuse(work, endNotBelieved(work.delivery.topic, parentRun));
    this.#finish(work);
  }

  #emitRefusal(topic: string, row: Row, started: StartResult): void {
    if (started.result === "refused") this.#emitReport(refused(topic, row, started.error));
  }

  #refuse(work: Work, report: ErrorReport): void {
    noteRefusal(work, report.message);
    this.#emitReport(report);
  }

  #emitReport(report: ErrorReport): void {
    this.#options.emit({ type: "error", scope: "message", report });
  }
}
