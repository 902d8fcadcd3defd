/**
 * From delivery to runs: matches rows, tells new messages from redelivered ones, asks the Starter for one run a row,
 * and says `done` only when each of them exists or is refused for good. Creates nothing itself.
 *
 * MQTT gives a message no identity, so one is made: a hash over the session's epoch (a random word made when the
 * broker begins a new session), packet identifier, topic and payload. A redelivery has the same packet identifier
 * [MQTT-4.4.0-1] and DUP = 1; only then is that hash looked up among live runs and records. Where the message names
 * an idempotency key, or the run that it announces, its runs are named by that instead, and a second one is refused
 * by the name itself.
 */
import type { Catalog } from "./catalog.ts";
import { isEndTopic, isUnderPrefix } from "./topics.ts";
import { runNameFor, runNamePrefix, shortHash } from "./run_spec.ts";
import type { Delivery, Emit, Message, Row, RunSpec } from "./ports.ts";
import type { RunRecords } from "./records.ts";
import { delay, errorMessage, retryForever } from "./util/retry.ts";
import type { RunTable } from "./runs.ts";
import type { Starter, StartResult } from "./starter.ts";
import { Semaphore } from "./util/semaphore.ts";

export interface ListenerOptions {
  readonly catalog: Pick<Catalog, "match">;
  readonly runs: RunTable;
  readonly records: RunRecords;
  readonly starter: Starter;
  readonly topicPrefix: string;
  readonly handleRetained: boolean;
  readonly maxChainDepth: number;
  readonly emit: Emit;
  readonly signal: AbortSignal;
  /** Messages under the service's prefix that are no end of a run: REFRESH and requests. */
  readonly onControl: (delivery: Delivery) => void;
}

/** What a message says of its origin. */
export interface Origin {
  /** What makes two messages one; undefined: each is its own. */
  readonly key?: string;
  readonly parentRun?: string;
  readonly rootRun?: string;
  readonly chainDepth: number;
}

/**
 * Look-ups of keys in the store at a time. After a reconnect all that waits may come again: thousands of look-ups at once
 * were seen to keep a store from answering any of them in time, and the process from its keepalive.
 */
const LOOKUPS_AT_ONCE = 16;

/** How long after the first list of Jobs one may still come by a create call that a killed process has left behind. */
const LATE_CREATE_MS = 3_000;

/** A message in work. As many wait as the broker may leave unacknowledged, so it holds what is needed and no more. */
interface Work {
  delivery: Delivery;
  readonly hash: string;
  readonly origin: Origin;
  readonly dup: boolean;
  /** By Date.now(). */
  readonly receivedAtMs: number;
  readonly rows: number;
  /** Rows whose start is not through. */
  left: number;
  outcome: MessageOutcome;
}

type MessageOutcome = "refused" | "duplicate" | "runs";

/** Of a message that says nothing of its origin, as nearly all do. */
const NO_ORIGIN: Origin = { chainDepth: 0 };

export class Listener {
  readonly #options: ListenerOptions;
  /** Messages in work by their hash: a redelivery over a new connection takes the place of the old one. */
  readonly #working = new Map<string, Work>();
  /** Starts of keyed runs that are not through, by the run's name. */
  readonly #starting = new Map<string, Promise<StartResult>>();
  #epoch = newEpoch();
  #waitingBytes = 0;
  readonly #lookups = new Semaphore(LOOKUPS_AT_ONCE);

  constructor(options: ListenerOptions) {
    this.#options = options;
  }

  /** The broker's session under which packet identifiers mean something; see records.ts. */
  get epoch(): string {
    return this.#epoch;
  }

  set epoch(epoch: string) {
    this.#epoch = epoch;
  }

  /** Messages that are not done, and the bytes of their payloads. */
  get waiting(): { readonly messages: number; readonly bytes: number } {
    return { messages: this.#working.size, bytes: this.#waitingBytes };
  }

  /** Takes a delivery over; returns at once. */
  receive(delivery: Delivery): void {
    const { topicPrefix, catalog, handleRetained, emit, onControl } = this.#options;
    const { topic } = delivery;
    if (isUnderPrefix(topicPrefix, topic) && !isEndTopic(topicPrefix, topic)) {
      onControl(delivery);
      delivery.done();
      return;
    }
    const rows = delivery.retain && !handleRetained
      ? []
      : catalog.match({ topic, ...(delivery.filters ? { filters: delivery.filters } : {}) });
    if (rows.length === 0) {
      emit({ type: "message", topic, rows: 0, outcome: "ignored" });
      delivery.done();
      return;
    }
    const hash = this.#hashOf(delivery);
    const known = this.#working.get(hash);
    if (known && delivery.dup) {
      known.delivery = delivery;
      emit({ type: "message", topic, rows: rows.length, outcome: "duplicate" });
      return;
    }
    // A broker that says it again without DUP: two messages, as far as anybody can know.
    if (known) this.#forget(known);
    const origin = originOf(delivery, topicPrefix);
    const work = newWork(delivery, { hash, origin, rows: rows.length });
    this.#working.set(hash, work);
    this.#waitingBytes += delivery.payload.length;
    if (origin.chainDepth > this.#options.maxChainDepth) {
      this.#refuseDepth(topic, rows, origin);
      this.#finish(work);
    } else {
      for (const row of rows) this.#startRow(row, work);
    }
  }

  /** Runs a row without a message of a broker's; resolves when its Job exists or is refused. */
  async run(row: Row, message: Message): Promise<StartResult> {
    const delivery: Delivery = { ...message, qos: 0, retain: false, dup: false, done() {} };
    const work = newWork(delivery, { hash: shortHash([newEpoch()]), origin: NO_ORIGIN, rows: 1 });
    const result = await this.#started(row, work);
    this.#emitRefusal(message.topic, row, result);
    return result;
  }

  #startRow(row: Row, work: Work): void {
    if (work.origin.key === undefined && !work.dup) {
      this.#options.starter.start({
        row,
        spec: () => this.#specOf(row, work, this.#newRunName(row, work)),
        settle: (result) => this.#through(row, work, result),
      });
      return;
    }
    this.#startUnlessThere(row, work).then(
      (result) => this.#through(row, work, result),
      // Only the service's end comes here: the message stays with the broker and comes again.
      () => this.#forget(work),
    );
  }

  async #startUnlessThere(row: Row, work: Work): Promise<StartResult> {
    const { runs } = this.#options;
    const { origin, hash, dup } = work;
    const known = await this.#findEarlier(row, hash, origin, dup);
    if (known !== undefined) return { result: "exists", runName: known };
    if (origin.key === undefined) return await this.#started(row, work);
    const runName = runNameFor(row, { key: origin.key });
    // No await between these looks and the start: nothing can end and be forgotten in between.
    if (runs.knows(runName)) return { result: "exists", runName };
    // A start may wait for long. Did both wait, the first one's run could be over and its Job gone when the second
    // one's create call leaves, which would then succeed.
    const twin = this.#starting.get(runName);
    if (twin) {
      const first = await twin;
      return first.result === "refused" ? first : { result: "exists", runName };
    }
    const starting = this.#started(row, work, runName);
    this.#starting.set(runName, starting);
    return await starting.finally(() => this.#starting.delete(runName));
  }

  /** Stays open where the service stops first. */
  #started(row: Row, work: Work, runName = this.#newRunName(row, work)): Promise<StartResult> {
    return new Promise((settle) => {
      this.#options.starter.start({ row, spec: () => this.#specOf(row, work, runName), settle });
    });
  }

  /** The start of one row is through; the message is done when that of each is. */
  #through(row: Row, work: Work, result: StartResult): void {
    this.#emitRefusal(work.delivery.topic, row, result);
    if (result.result === "created") work.outcome = "runs";
    else if (result.result === "exists" && work.outcome === "refused") work.outcome = "duplicate";
    if (--work.left === 0) this.#finish(work);
  }

  #finish(work: Work): void {
    const { delivery, rows, outcome } = work;
    this.#options.emit({ type: "message", topic: delivery.topic, rows, outcome });
    delivery.done();
    this.#forget(work);
  }

  #forget(work: Work): void {
    if (this.#working.get(work.hash) !== work) return;
    this.#working.delete(work.hash);
    this.#waitingBytes -= work.delivery.payload.length;
  }

  #newRunName(row: Row, { hash }: Work): string {
    return runNameFor(row, { messageHash: hash });
  }

  #specOf(row: Row, { delivery, hash, origin, receivedAtMs }: Work, runName: string): RunSpec {
    return {
      runName,
      row,
      message: { topic: delivery.topic, payload: delivery.payload },
      messageHash: hash,
      ...(origin.parentRun === undefined ? {} : { parentRun: origin.parentRun }),
      rootRun: origin.rootRun ?? runName,
      chainDepth: origin.chainDepth,
      receivedAt: new Date(receivedAtMs),
    };
  }

  /** Name of the run that this message made of the row before; waits for the store where only it can know. */
  async #findEarlier(row: Row, messageHash: string, origin: Origin, dup: boolean): Promise<string | undefined> {
    const { runs, records, signal, emit } = this.#options;
    const onRetry = (error: unknown) => {
      const reason = `whether it ran before cannot be read: ${errorMessage(error)}`;
      emit({ type: "waiting", runName: "", jobName: row.jobName, reason });
    };
    if (origin.key !== undefined) {
      const runName = runNameFor(row, { key: origin.key });
      if (runs.knows(runName)) return runName;
      const exists = await this.#lookups.take(
        () => retryForever(() => records.exists(runName, signal), { signal, onRetry }),
        signal,
      );
      return exists ? runName : undefined;
    }
    if (!dup) return undefined;
    const known = runs.findByMessage(row.jobName, messageHash) ??
      await retryForever(() => records.findByPrefix(runNamePrefix(row, messageHash), signal), { signal, onRetry });
    if (known !== undefined) return known;
    const leftMs = runs.syncedAtMs + LATE_CREATE_MS - performance.now();
    if (leftMs > 0) await delay(leftMs, signal);
    return runs.findByMessage(row.jobName, messageHash);
  }

  #refuseDepth(topic: string, rows: readonly Row[], origin: Origin): void {
    const { maxChainDepth, emit } = this.#options;
    for (const row of rows) {
      emit({
        type: "error",
        scope: "message",
        report: {
          reason: "ChainTooDeep",
          message: `Job "${row.jobName}" was not started: its chain is ${origin.chainDepth} runs deep and at most ` +
            `${maxChainDepth} are allowed (MAX_CHAIN_DEPTH); look for rows that start each other in a circle`,
          job_name: row.jobName,
          topic,
          line: row.line,
          ...(origin.parentRun === undefined ? {} : { run_name: origin.parentRun }),
        },
      });
    }
  }

  #emitRefusal(topic: string, row: Row, started: StartResult): void {
    if (started.result !== "refused") return;
    this.#options.emit({
      type: "error",
      scope: "message",
      report: {
        reason: "Refused",
        message: `No run for job "${row.jobName}": ${started.error.message}`,
        job_name: row.jobName,
        topic,
        line: row.line,
      },
    });
  }

  #hashOf({ topic, payload, packetId }: Delivery): string {
    return shortHash([this.#epoch, packetId === undefined ? newEpoch() : String(packetId), topic, payload]);
  }
}

function newWork(
  delivery: Delivery,
  { hash, origin, rows }: Pick<Work, "hash" | "origin" | "rows">,
): Work {
  const { dup } = delivery;
  return { delivery, hash, origin, dup, receivedAtMs: Date.now(), rows, left: rows, outcome: "refused" };
}

/** A new word for a new session of the broker's. */
export function newEpoch(): string {
  return crypto.randomUUID();
}

/** Payloads larger than this are not searched for a key or a parent. */
const MAX_PARSED_BYTES = 1024 * 1024;

/** What the message says of its origin: its parent run, or an idempotency key. */
export function originOf(
  delivery: Pick<Delivery, "topic" | "payload" | "idempotencyKey">,
  topicPrefix: string,
): Origin {
  const fields = jsonObject(delivery.payload);
  const end = isEndTopic(topicPrefix, delivery.topic);
  const parentRun = end ? stringIn(fields, "run_name") : undefined;
  const depth = fields["chain_depth"];
  const chainDepth = !end ? 0 : typeof depth === "number" && depth >= 0 ? Math.floor(depth) + 1 : 1;
  const given = delivery.idempotencyKey ?? stringIn(fields, "idempotency-key");
  const key = parentRun !== undefined
    ? `parent\0${delivery.topic}\0${parentRun}`
    : given !== undefined
    ? `key\0${delivery.topic}\0${given}`
    : undefined;
  const rootRun = end ? stringIn(fields, "root_run") ?? parentRun : undefined;
  if (!end && key === undefined) return NO_ORIGIN;
  return {
    chainDepth,
    ...(key === undefined ? {} : { key }),
    ...(parentRun === undefined ? {} : { parentRun }),
    ...(rootRun === undefined ? {} : { rootRun }),
  };
}

/** Names of runs and keys go into annotations: longer ones are no such thing. */
function stringIn(fields: Record<string, unknown>, name: string): string | undefined {
  const value = fields[name];
  return typeof value === "string" && value !== "" && value.length <= 1024 ? value : undefined;
}

function jsonObject(payload: Uint8Array): Record<string, unknown> {
  if (payload.length > MAX_PARSED_BYTES || payload[0] !== 0x7b && !/^\s*\{/.test(head(payload))) return {};
  try {
    const value: unknown = JSON.parse(new TextDecoder().decode(payload));
    return typeof value === "object" && value !== null && !Array.isArray(value) ? value as Record<string, unknown> : {};
  } catch {
    return {};
  }
}

function head(payload: Uint8Array): string {
  return new TextDecoder().decode(payload.subarray(0, 64));
}
