/**
 * The broker's session as this service counts it: owns the numbers of deliveries, their acknowledgements in the order of
 * receipt, and the record that says which of them are acknowledged. It is written before the PUBACKs leave, many at a
 * time: what lies beyond it was certainly not acknowledged, so the broker has it still. Knows nothing of rows or runs.
 */
import { type Delivery, type Emit } from "../ports.ts";
import type { RunRecords, SessionRecord } from "../records.ts";
import { Scope } from "../util/abort.ts";
import { compact } from "../util/compact.ts";
import { errorMessage } from "../util/errors.ts";
import { Queue } from "../util/queue.ts";
import { newerId } from "./packet_order.ts";
import { backoffMs, delay, delayAtMost, retryForever } from "../util/retry.ts";

/** A delivery until it is acknowledged. Thousands may wait. */
export interface Pending {
  delivery: Delivery;
  /** 0: it has none yet. */
  number: number;
  /** May be acknowledged. */
  settled: boolean;
  /** Has runs that are found by its number: the record has to be written first. */
  readonly counted: boolean;
  /** Called when its acknowledgement has left. */
  onAcknowledged?: () => void;
}

export interface SessionOptions {
  readonly records: RunRecords;
  /** Whose session it is, where several services keep their records in one place. */
  readonly scope: string;
  readonly emit: Emit;
  readonly signal: AbortSignal;
}

/**
 * At least so long between the starts of two writes: each is a put and a delete, which take 4 to 9 ms of processor. Few
 * messages wait longest, for no broker need have noticed: at ten a second, a write for each took half of all they cost. A
 * broker that lets few messages be unacknowledged waits for them, which shows: with the PUBACKs, as many messages come as
 * it had waited with. One that has sent thousands can wait longer: for as many as PER_MS a millisecond.
 */
const WRITE_MS = { awaited: 25, otherwise: 100, few: 500, most: 500 };
/** Fewer are few, where a broker has let as many be unacknowledged: half of what mosquitto's preset lets be. */
const FEW = 10;
/** More than twice of what a cluster makes Jobs of. */
const PER_MS = 2;
/** So soon they come on the way there and back. */
const SOON_MS = 15;
/** Numbers that a process may give out beyond those of its last write; far more than a broker can leave open. */
const RESERVE = 2 ** 20;
/** Writes of a killed process stay below those of the next one, whenever they arrive. */
const REVISIONS = 1_000_000;
/** A PUBACK that is lost in a cut was sent in the last so many milliseconds. */
const DOUBT_MS = 60_000;

type Range = readonly [first: number, last: number];

export class Session<P extends Pending = Pending> {
  readonly #options: SessionOptions;
  readonly #queue = new Queue<P>();
  #epoch: string = crypto.randomUUID();
  #acknowledged = 0;
  #open: Range[] = [];
  #last = 0;
  #lastId: number | undefined;
  #batches: { readonly atMs: number; readonly from: number }[] = [];
  #waitingBytes = 0;
  #revision = 0;
  /** Of the connection; what was begun on an earlier one is not finished on this one. */
  #generation = 0;
  #isConnected = false;
  #dirty = false;
  #pumping = false;
  #wroteAtMs = -Infinity;
  /** The last PUBACKs: when they left, how many, and how many messages came soon afterwards. */
  #released = { atMs: -Infinity, count: 0, followed: 0 };
  /** Most that were unacknowledged at once on this connection, and whether the broker was seen to wait. */
  #seen = { most: 0, awaited: false };
  /** While a write waits for more to join: ends that. */
  #wake: (() => void) | undefined;
  /** So many unacknowledged end it, too. */
  #wakeAt = Infinity;
  #whenWritten: PromiseWithResolvers<void>[] = [];
  /** What was seen of the broker, see packet_order.ts. */
  orderly: boolean | undefined;
  /** It was tried in this session. */
  tried = false;
  /** What the former process wrote; undefined: nothing, or its session is no more. */
  former: SessionRecord | undefined;

  constructor(options: SessionOptions) {
    this.#options = options;
  }

  /** A word of this session of the broker's. */
  get epoch(): string {
    return this.#epoch;
  }

  /** Nothing is open that the broker could send again. */
  get idle(): boolean {
    return this.#queue.first === undefined && this.#open.length === 0;
  }

  /** Deliveries of this connection that are not acknowledged, and the bytes of their payloads. */
  get waiting(): { readonly messages: number; readonly bytes: number } {
    return { messages: this.#queue.length, bytes: this.#waitingBytes };
  }

  /** Reads what the former process knew. Waits for the store; a record that cannot be read counts as none. */
  async recall(): Promise<void> {
    const { records, scope, signal } = this.#options;
    const stored = await retryForever(() => records.getSession(scope, signal), {
      signal,
      onRetry: (error, attempt) => attempt === 0 && this.#emitTrouble("the session's record cannot be read", error),
      isFinal: (error) => error instanceof SyntaxError,
    }).catch((error) => {
      signal.throwIfAborted();
      this.#emitTrouble("the session's record cannot be read", error);
      return undefined;
    });
    if (!stored) return;
    const { record, revision } = stored;
    this.former = record;
    this.#revision = revision + REVISIONS;
    this.#epoch = record.epoch;
    this.#open = [...record.open];
    this.#last = record.reserved;
    this.#acknowledged = record.clean ? record.reserved : record.acknowledged;
    this.#lastId = record.lastId;
    this.orderly = record.orderly;
    this.tried = record.tried ?? false;
    this.#batches = [{ atMs: performance.now(), from: record.from }];
  }

  /** The connection has ended: nothing more is acknowledged on it. */
  end(): void {
    this.#generation++;
    this.#isConnected = false;
    this.#wake?.();
  }

  /**
   * A connection begins. What was handed over before and is not acknowledged is open now: the broker sends it again.
   * `sessionPresent` false: it does not, and packet identifiers and numbers of before mean nothing.
   */
  begin(sessionPresent: boolean): void {
    this.#generation++;
    this.#isConnected = true;
    this.#queue.clear();
    this.#waitingBytes = 0;
    this.#seen = { most: 0, awaited: false };
    if (sessionPresent) {
      if (this.#last > this.#acknowledged) this.#open.push([this.#acknowledged + 1, this.#last]);
    } else {
      this.#epoch = crypto.randomUUID();
      this.#open = [];
      this.#batches = [];
      this.#lastId = undefined;
      this.tried = false;
      this.former = undefined;
    }
    this.#acknowledged = this.#last;
  }

  /** Resolves when the record in the store says what is known now; rejects when the service stops. */
  write(): Promise<void> {
    const written = Promise.withResolvers<void>();
    written.promise.catch(() => {/* Nobody need be waiting. */});
    this.#dirty = true;
    this.#whenWritten.push(written);
    this.#wake?.();
    void this.#pump();
    return written.promise;
  }

  /** What is not acknowledged of this connection, in the order of receipt. */
  get pending(): P[] {
    return this.#queue.items();
  }

  /** Puts a delivery behind those that came before it. */
  add(pending: P): void {
    this.#queue.push(pending);
    this.#waitingBytes += pending.delivery.payload.length;
    this.#seen.most = Math.max(this.#seen.most, this.#queue.length);
    if (this.#queue.length >= this.#wakeAt) this.#wake?.();
    if (performance.now() - this.#released.atMs < SOON_MS) this.#released.followed++;
  }

  /** The next number; call it in the order of receipt. */
  nextNumber(): number {
    return ++this.#last;
  }

  /** Whether the delivery of this number, of an earlier connection, is not acknowledged. */
  isOpen(number: number): boolean {
    return this.#open.some(([first, last]) => first <= number && number <= last);
  }

  /** Acknowledge it when all before it are, and when that is written; `onAcknowledged` is called then. */
  settle(pending: P, onAcknowledged?: () => void): void {
    pending.settled = true;
    if (onAcknowledged) pending.onAcknowledged = onAcknowledged;
    if (this.#queue.first?.settled) void this.#pump();
  }

  /** What the broker did not send again by now it will not send any more. */
  closeOlder(): void {
    if (this.#open.length === 0) return;
    // Those that came again and wait still are not acknowledged.
    this.#open = [...this.#queue].flatMap(({ number }): Range[] =>
      number > 0 && number <= this.#acknowledged ? [[number, number]] : []
    );
    void this.write();
  }

  /** Says at the end that nothing is open, if so: the next process then has nothing to tell apart. */
  async finish(): Promise<void> {
    const { records, scope, signal } = this.#options;
    if (!this.idle || this.#pumping) return;
    const record = { ...this.#recordOf(this.#acknowledged, this.#open, []), clean: true };
    await records.putSession(scope, { record, revision: this.#revision++ }, signal);
  }

  /** Acknowledges what may be; one at a time does. */
  async #pump(): Promise<void> {
    if (this.#pumping) return;
    this.#pumping = true;
    try {
      for (let batch = this.#settled(); batch.length > 0 || this.#dirty; batch = this.#settled()) {
        if (this.#dirty || batch.some(({ counted }) => counted)) {
          if (!await this.#written(batch)) continue;
        }
        for (const { delivery, onAcknowledged } of batch) {
          this.#queue.shift();
          this.#waitingBytes -= delivery.payload.length;
          delivery.done();
          onAcknowledged?.();
        }
        this.#released = { atMs: performance.now(), count: batch.length, followed: 0 };
      }
    } catch (error) {
      // The service stops: what is not acknowledged comes again.
      for (const { reject } of this.#whenWritten.splice(0)) reject(error);
    } finally {
      this.#pumping = false;
    }
  }

  /** Those at the head of the queue that may be acknowledged. */
  #settled(): P[] {
    const batch: P[] = [];
    if (!this.#isConnected) return batch;
    for (const pending of this.#queue) {
      if (!pending.settled) break;
      batch.push(pending);
    }
    return batch;
  }

  /** False: it is not, or means nothing any more; look again. */
  async #written(batch: readonly Pending[]): Promise<boolean> {
    const { records, scope, signal } = this.#options;
    const isAwaited = this.#released.followed * 2 > this.#released.count;
    if (isAwaited) this.#seen.awaited = true;
    const waitMs = this.#wroteAtMs + (isAwaited ? WRITE_MS.awaited : this.#paceMs()) - performance.now();
    if (waitMs > 0 && !this.#dirty) {
      // More may join, and show that they are awaited.
      const soonMs = this.#released.atMs + SOON_MS - performance.now();
      await this.#rest(soonMs > 0 ? Math.min(waitMs, soonMs) : waitMs);
      return false;
    }
    const generation = this.#generation;
    const waiting = this.#whenWritten.length;
    this.#dirty = false;
    const [acknowledged, open] = this.#after(batch);
    // What is sent again, and acknowledged again, is older than the newest one.
    const lastId = batch.reduce((newest, { delivery }) => newerId(newest, delivery.packetId), this.#lastId);
    const from = batch.reduce((lowest, { number }) => number > 0 ? Math.min(lowest, number) : lowest, Infinity);
    const batches = this.#batches.filter(({ atMs }) => performance.now() - atMs < DOUBT_MS);
    if (from < Infinity) batches.push({ atMs: performance.now(), from });
    const record = { ...this.#recordOf(acknowledged, open, batches), ...compact({ lastId }) };
    this.#wroteAtMs = performance.now();
    for (let attempt = 0;; attempt++) {
      try {
        await records.putSession(scope, { record, revision: this.#revision++ }, signal);
        break;
      } catch (error) {
        signal.throwIfAborted();
        if (attempt === 0) this.#emitTrouble("what is acknowledged cannot be written, so nothing is", error);
        await delay(backoffMs(attempt, { maxMs: 5_000 }), signal);
        if (generation !== this.#generation) break;
      }
    }
    if (generation !== this.#generation) {
      // The record names as acknowledged what the broker will send again.
      this.#dirty = true;
      return false;
    }
    [this.#acknowledged, this.#open, this.#batches, this.#lastId] = [acknowledged, open, batches, lastId];
    for (const { resolve } of this.#whenWritten.splice(0, waiting)) resolve();
    return true;
  }

  /** Where the broker does not wait. */
  #paceMs(): number {
    const { otherwise, few, most } = WRITE_MS;
    return this.#queue.length < this.#few ? few : Math.min(most, Math.max(otherwise, this.#queue.length / PER_MS));
  }

  /** Where the broker may let one more be unacknowledged than it did, that is tried. */
  get #few(): number {
    return Math.min(FEW, this.#seen.awaited ? this.#seen.most : this.#seen.most + 1);
  }

  /** Until there are so many that they are few no more, or something must be written at once. */
  async #rest(ms: number): Promise<void> {
    const { signal } = this.#options;
    using scope = new Scope(signal);
    this.#wakeAt = this.#queue.length < this.#few ? this.#few : Infinity;
    this.#wake = () => scope.end();
    await delayAtMost(ms, scope.signal);
    this.#wake = undefined;
    signal.throwIfAborted();
  }

  /** What is acknowledged, and open, once those of the batch are acknowledged. */
  #after(batch: readonly Pending[]): [acknowledged: number, open: Range[]] {
    let acknowledged = this.#acknowledged;
    let open = this.#open;
    for (const { number } of batch) {
      if (number > acknowledged) acknowledged = number;
      else if (number > 0) open = without(open, number);
    }
    return [acknowledged, open];
  }

  #recordOf(acknowledged: number, open: readonly Range[], batches: readonly { from: number }[]): SessionRecord {
    return {
      epoch: this.#epoch,
      acknowledged,
      open,
      reserved: this.#last + RESERVE,
      from: Math.min(acknowledged + 1, ...batches.map(({ from }) => from)),
      ...compact({ lastId: this.#lastId, orderly: this.orderly, tried: this.tried || undefined }),
      clean: false,
    };
  }

  #emitTrouble(what: string, error: unknown): void {
    this.#options.emit({
      type: "error",
      scope: "store",
      report: { reason: "StoreUnavailable", message: `Waiting: ${what}: ${errorMessage(error)}` },
    });
  }
}

function without(ranges: readonly Range[], number: number): Range[] {
  return ranges.flatMap(([first, last]): Range[] => {
    if (number < first || number > last) return [[first, last]];
    const parts: Range[] = [];
    if (first < number) parts.push([first, number - 1]);
    if (number < last) parts.push([number + 1, last]);
    return parts;
  });
}
