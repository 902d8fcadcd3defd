/**
 * What people ask of the running service, be it by MQTT, page or command line: refresh, check, run, cancel, rerun.
 * Owns the `request/…` and `response/…` topics and REFRESH; each answer carries the caller's `transaction`.
 */
import type { Catalog } from "./catalog.ts";
import { describeProblem } from "./catalog.ts";
import type { Listener } from "./listener.ts";
import type { AnswerPayload } from "./payloads.ts";
import type { Broker, Cluster, Delivery, JobFacts, Lineage, Message, ObjectStore, RunRecord } from "./ports.ts";
import type { RunRecords } from "./records.ts";
import { isRunName, lineageOfRecord, lineageOfRerun } from "./run_spec.ts";
import { compact } from "./util/compact.ts";
import { payloadKey } from "./starter.ts";
import { errorMessage } from "./util/errors.ts";
import { cut } from "./util/text.ts";
import { Semaphore } from "./util/semaphore.ts";
import { parseJson } from "./util/json.ts";

export interface ActionParts {
  readonly catalog: Catalog;
  readonly listener: Listener;
  readonly records: RunRecords;
  readonly payloads: ObjectStore;
  readonly cluster: Cluster;
  readonly topicPrefix: string;
}

/** Answers are plain data; a refusal is an Error whose message is for people. */
export class Actions {
  readonly #parts: ActionParts;

  constructor(parts: ActionParts) {
    this.#parts = parts;
  }

  refresh() {
    return this.#parts.catalog.refresh();
  }

  check() {
    const { table } = this.#parts.catalog;
    return {
      rows: table?.rows.length ?? 0,
      problems: (table?.problems ?? []).map((problem) => ({ ...problem, text: describeProblem(problem) })),
    };
  }

  /** Runs a row as if `payload` had come on `topic` (default: the request's own topic). */
  async run(
    jobName: string,
    payload: string | Uint8Array = "",
    { topic, lineage }: { topic?: string; lineage?: Lineage } = {},
  ): Promise<{ run_name: string }> {
    const row = this.#parts.catalog.table?.rows.find((row) => row.jobName === jobName);
    if (!row) throw new RangeError(`Cannot run "${cut(jobName, 100)}": no row of the table has that job_name`);
    const message: Message = {
      topic: topic ?? `${this.#parts.topicPrefix}/request/run`,
      payload: typeof payload === "string" ? new TextEncoder().encode(payload) : payload,
    };
    const started = await this.#parts.listener.run(row, message, compact({ lineage }));
    if (started.result === "refused") throw started.error;
    return { run_name: started.runName };
  }

  /**
   * Runs the row of a run again with that run's message, as it is in the table now. The new run stands where that one
   * stood: what it was an item of, and what waits for it, counts its success.
   */
  async rerun(runName: string): Promise<{ run_name: string }> {
    const { records, cluster } = this.#parts;
    checkRunName(runName);
    const record = await records.get(runName);
    const live = record ? undefined : await cluster.get(runName);
    if (!record && !live) throw new RangeError(`Cannot run "${runName}" again: there is no such run`);
    const jobName = record?.job_name ?? live!.jobName;
    const payload = await this.#payloadOf(record ?? live!);
    const lineage = lineageOfRerun(record ? lineageOfRecord(record) : live!, runName);
    return await this.run(jobName, payload, { topic: record?.topic ?? live!.topic, lineage });
  }

  async cancel(runName: string, who: string): Promise<{ run_name: string }> {
    checkRunName(runName);
    if (!await this.#parts.cluster.cancel(runName, who)) {
      throw new RangeError(`Cannot cancel "${runName}": no such run is under way`);
    }
    return { run_name: runName };
  }

  async #payloadOf(run: RunRecord | JobFacts): Promise<Uint8Array> {
    if ("runName" in run) {
      return run.payloadObject === undefined ? run.payload ?? new Uint8Array() : await this.#stored(run.payloadObject);
    }
    if (run.payload_object !== undefined) return await this.#stored(run.payload_object);
    if (run.payload_base64 !== undefined) return Uint8Array.fromBase64(run.payload_base64);
    return new TextEncoder().encode(run.payload ?? "");
  }

  /** A payload that the service itself put into the store. Who writes records or Jobs must not make it read others. */
  async #stored(object: string): Promise<Uint8Array> {
    const { payloads } = this.#parts;
    const key = payloadKey(payloads, object);
    if (key === undefined) {
      throw new RangeError(
        `Its payload is said to be at ${
          cut(object, 200)
        }, which is not below ${payloads.url}/.payloads/: it is not read`,
      );
    }
    const found = await payloads.get(key);
    if (found === undefined || found === "unchanged") throw new RangeError("Its payload is not in the store any more");
    return found.body;
  }
}

/** A run's name becomes a part of paths, in the cluster and in the store. */
function checkRunName(runName: string): void {
  if (!isRunName(runName)) throw new RangeError(`"${cut(runName, 63)}" is no name of a run`);
}

/** Anybody below the prefix may send one, and reading it keeps everything else waiting. */
const MAX_REQUEST_BYTES = 1024 * 1024;
/** In JSON, in characters. */
const LONGEST_TRANSACTION = 1_000;

/** Filters that the service itself subscribes to. */
export function controlFilters(topicPrefix: string): string[] {
  return [`${topicPrefix}/REFRESH`, `${topicPrefix}/request/+`];
}

/** Requests under way, each of which may ask cluster and store. */
const AT_ONCE = 16;
/** What waits for its turn at most; the broker has been told that it is taken. */
const MOST_WAITING = { requests: 1_000, bytes: 16 * 1024 * 1024 };

/** Carries out what comes on the control topics, a few at a time; refuses what is too much to be kept. */
export class Requests {
  readonly #turns = new Semaphore(AT_ONCE);
  readonly #parts: Parameters<typeof handleControl>[1];
  #waiting = 0;
  #bytes = 0;

  constructor(parts: Parameters<typeof handleControl>[1]) {
    this.#parts = parts;
  }

  /** Takes a message over; returns at once. A failure to answer is the broker's, which says so itself. */
  receive(delivery: Delivery): void {
    const bytes = delivery.payload.length;
    if (this.#waiting >= MOST_WAITING.requests || this.#bytes + bytes > MOST_WAITING.bytes) {
      this.#refuse(delivery).catch(() => {});
      return;
    }
    this.#waiting++;
    this.#bytes += bytes;
    this.#turns.take(() => handleControl(delivery, this.#parts), this.#parts.signal).catch(() => {}).finally(() => {
      this.#waiting--;
      this.#bytes -= bytes;
    });
  }

  async #refuse({ topic }: Delivery): Promise<void> {
    const { broker, topicPrefix, signal } = this.#parts;
    const begin = `${topicPrefix}/request/`;
    if (!topic.startsWith(begin)) return;
    const answer: AnswerPayload = { status: "error", error: "Too many requests wait: send it again later" };
    const body = JSON.stringify({ ...answer, transaction: null });
    await broker.publish(`${topicPrefix}/response/${topic.slice(begin.length)}`, body, { qos: 1, signal });
  }
}

/** Carries out a message on one of the control topics; answers on `response/…`. */
export async function handleControl(
  delivery: Delivery,
  { actions, broker, topicPrefix, signal }: {
    actions: Actions;
    broker: Broker;
    topicPrefix: string;
    signal: AbortSignal;
  },
): Promise<void> {
  const own = controlFilters(topicPrefix);
  if (delivery.filters && !delivery.filters.some((filter) => own.includes(filter))) return;
  const word = delivery.topic.slice(topicPrefix.length + 1);
  if (word === "REFRESH") {
    await actions.refresh();
    return;
  }
  if (!word.startsWith("request/") || delivery.retain) return;
  const what = word.slice("request/".length);
  let transaction: unknown = null;
  let answer: AnswerPayload;
  try {
    const asked = parseRequest(delivery.payload);
    transaction = boundedTransaction(asked["transaction"]);
    answer = { status: "ok", data: await carryOut(what, asked, actions) };
  } catch (error) {
    answer = { status: "error", error: errorMessage(error) };
  }
  const body = JSON.stringify({ ...answer, transaction });
  await broker.publish(`${topicPrefix}/response/${what}`, body, { qos: 1, signal });
}

/** What the caller wants to know his answer by; much of it would be sent back to everybody. */
function boundedTransaction(given: unknown): unknown {
  if (given === undefined || given === null) return null;
  if (JSON.stringify(given).length > LONGEST_TRANSACTION) {
    throw new RangeError(`The field "transaction" is too long: write at most ${LONGEST_TRANSACTION} characters`);
  }
  return given;
}

function carryOut(what: string, asked: Record<string, unknown>, actions: Actions): unknown {
  switch (what) {
    case "refresh":
      return actions.refresh();
    case "check":
      return actions.check();
    case "run": {
      const { payload } = asked;
      return actions.run(
        wordIn(asked, "job_name"),
        typeof payload === "string" ? payload : JSON.stringify(payload ?? ""),
      );
    }
    case "cancel":
      return actions.cancel(wordIn(asked, "run_name"), "an MQTT request");
    case "rerun":
      return actions.rerun(wordIn(asked, "run_name"));
    default:
      throw new RangeError(`Unknown request "${cut(what, 100)}": send refresh, check, run, cancel or rerun`);
  }
}

function wordIn(asked: Record<string, unknown>, name: string): string {
  const value = asked[name];
  if (typeof value !== "string" || value === "") throw new TypeError(`The request needs the field "${name}"`);
  return value;
}

function parseRequest(payload: Uint8Array): Record<string, unknown> {
  if (payload.length === 0) return {};
  if (payload.length > MAX_REQUEST_BYTES) {
    throw new RangeError(`The request has ${payload.length} bytes: send at most ${MAX_REQUEST_BYTES}`);
  }
  const value: unknown = parseJson(new TextDecoder().decode(payload));
  if (typeof value !== "object" || value === null || Array.isArray(value)) {
    throw new TypeError("The request must be a JSON object");
  }
  return value as Record<string, unknown>;
}
