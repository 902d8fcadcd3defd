/**
 * What people ask of the running service, be it by MQTT, page or command line: refresh, check, run, cancel, rerun.
 * Owns the `request/…` and `response/…` topics and REFRESH; each answer carries the caller's `transaction`.
 */
import type { Catalog } from "./catalog.ts";
import { describeProblem, rowNamed } from "./catalog.ts";
import type { Groups } from "./flows.ts";
import type { RunHistory } from "./history.ts";
import type { Listener } from "./listener.ts";
import { type BatchCounts, type BatchEntry, Batches } from "./control/batches.ts";
import { type EachAnswer, type EachRequest, startEach } from "./control/each.ts";
import { cancelPicked, type PickedAnswer, rerunPicked } from "./control/many.ts";
import { chooseRuns, type Chosen, type ReplayRequest } from "./control/replay.ts";
import { readRequester } from "./control/requester.ts";
import type { AnswerPayload } from "./payloads.ts";
import {
  type Broker,
  type Cluster,
  type Delivery,
  type JobFacts,
  type Lineage,
  type Message,
  type ObjectStore,
  type Row,
  type RunRecord,
  UnavailableError,
} from "./ports.ts";
import type { RunRecords } from "./records.ts";
import { isRunName, keptPayload, keyOfCause, lineageOfRecord, lineageOfRerun } from "./run_spec.ts";
import type { RunTable } from "./runs.ts";
import type { StartResult } from "./starter.ts";
import { compact } from "./util/compact.ts";
import { payloadKey } from "./starter.ts";
import { errorMessage } from "./util/errors.ts";
import { getLogger } from "./util/log.ts";
import { retryForever } from "./util/retry.ts";
import { cut } from "./util/text.ts";
import { Semaphore } from "./util/semaphore.ts";
import { parseJson } from "./util/json.ts";

export type { EachAnswer, EachRequest } from "./control/each.ts";
export { checkPicked, MAX_PICKED, type PickedAnswer, type PickedResult } from "./control/many.ts";
export type { Chosen, ReplayRequest } from "./control/replay.ts";
export { MAX_REQUESTER, readRequester } from "./control/requester.ts";

export interface ActionParts {
  readonly catalog: Catalog;
  readonly listener: Listener;
  readonly records: RunRecords;
  /** Chooses the runs of a replay; absent: records do. */
  readonly history?: RunHistory;
  readonly payloads: ObjectStore;
  readonly cluster: Cluster;
  /** Live runs: what is run again already is not run again by a replay. */
  readonly runs?: Pick<RunTable, "values">;
  /** Groups of items; absent: there are none. */
  readonly groups?: Pick<Groups, "cancel">;
  readonly topicPrefix: string;
  /** Ends batches; absent: nothing does. */
  readonly signal?: AbortSignal;
}

/** Runs that the answer to a replay shows. */
const MAX_CHOSEN_SHOWN = 20;

/** What a replay chose, and what became of it so far. */
export interface ReplayAnswer extends BatchCounts {
  readonly batch: string;
  readonly total: number;
  /** Fit, but were run again since. */
  readonly superseded: number;
  /** There are more than can be replayed at once; ask again when these have begun. */
  readonly more: boolean;
  /** The first of them, newest first. */
  readonly runs: readonly Chosen[];
}

/** Answers are plain data; a refusal is an Error whose message is for people. */
export class Actions {
  readonly #parts: ActionParts;
  readonly #signal: AbortSignal;
  readonly #batches: Batches;

  constructor(parts: ActionParts) {
    this.#parts = parts;
    this.#signal = parts.signal ?? new AbortController().signal;
    this.#batches = new Batches({ signal: this.#signal });
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

  /** Runs a row as if `payload` had come on `topic` (default: the request's own topic). `requestedBy`: for the record. */
  async run(
    jobName: string,
    payload: string | Uint8Array = "",
    { topic, lineage, requestedBy, key }: {
      topic?: string;
      lineage?: Lineage;
      requestedBy?: string;
      /** The same one starts the row once. */
      key?: string;
    } = {},
  ): Promise<{ run_name: string }> {
    const row = this.#rowOf(jobName);
    const message: Message = {
      topic: topic ?? `${this.#parts.topicPrefix}/request/run`,
      payload: typeof payload === "string" ? new TextEncoder().encode(payload) : payload,
    };
    const started = await this.#parts.listener.run(row, message, {
      ...compact({ lineage, requestedBy }),
      ...(key === undefined ? {} : { key: keyOfCause.asked(key) }),
    });
    if (started.result === "refused") throw started.error;
    return { run_name: started.runName };
  }

  /**
   * Runs the row of a run again with that run's message, as it is in the table now. The new run stands where that one
   * stood: what it was an item of, and what waits for it, counts its success.
   */
  async rerun(runName: string, requestedBy?: string): Promise<{ run_name: string }> {
    const { records, cluster } = this.#parts;
    checkRunName(runName);
    const record = await records.get(runName);
    const live = record ? undefined : await cluster.get(runName);
    if (!record && !live) {
      if (await records.hasNote(".groups", runName)) {
        const what = "it is a group; run its items again, or by replay all that failed";
        throw new RangeError(`Cannot run "${runName}" again: ${what}`);
      }
      throw new RangeError(`Cannot run "${runName}" again: there is no such run`);
    }
    const jobName = record?.job_name ?? live!.jobName;
    const payload = await this.#payloadOf(record ?? live!);
    const lineage = lineageOfRerun(record ? lineageOfRecord(record) : live!, runName);
    const topic = record?.topic ?? live!.topic;
    return await this.run(jobName, payload, { topic, lineage, ...compact({ requestedBy }) });
  }

  /** Runs a row for each line of a sheet, behind fresh messages. */
  async each(jobName: string, request: EachRequest): Promise<EachAnswer> {
    const { listener, topicPrefix } = this.#parts;
    return await startEach(this.#rowOf(jobName), request, { batches: this.#batches, listener, topicPrefix });
  }

  /** Runs again what ended some way and has not been run again since, behind fresh messages. */
  async replay(request: ReplayRequest): Promise<ReplayAnswer> {
    const { records, history, runs } = this.#parts;
    const row = this.#rowOf(request.jobName);
    const { batch, runs: chosen, superseded, more } = await chooseRuns(request, {
      records,
      ...compact({ history }),
      runs,
      signal: this.#signal,
    });
    const entries = chosen.map(({ run_name }): BatchEntry => ({
      label: run_name,
      start: () => this.#replayRun(run_name, { row, batch, requestedBy: request.requestedBy }),
    }));
    const counts = await this.#batches.start(request.dryRun ? [] : entries);
    return { batch, total: chosen.length, superseded, more, ...counts, runs: chosen.slice(0, MAX_CHOSEN_SHOWN) };
  }

  /** The record is read when it is its turn: 10,000 messages at once would be too much. */
  async #replayRun(
    runName: string,
    { row, batch, requestedBy }: { row?: Row; batch: string; requestedBy: string | undefined },
  ): Promise<StartResult> {
    const { records, listener } = this.#parts;
    const record = await this.#patiently(() => records.get(runName, this.#signal));
    if (!record) throw new RangeError("It has not ended, or its record is gone");
    const payload = await this.#patiently(() => this.#payloadOf(record));
    return await listener.run(row ?? this.#rowOf(record.job_name), { topic: record.topic, payload }, {
      key: keyOfCause.batch(batch, `run\0${runName}`),
      lineage: { ...lineageOfRerun(lineageOfRecord(record), runName), batch, ...compact({ requestedBy }) },
      later: true,
    });
  }

  /** Runs again what was picked, behind fresh messages: each by the same `batch` once. */
  async rerunMany(
    runNames: readonly string[],
    { batch, requestedBy }: { batch?: string; requestedBy?: string } = {},
  ): Promise<PickedAnswer & { readonly batch: string }> {
    const start = (runName: string, batch: string) => this.#replayRun(runName, { batch, requestedBy });
    return await rerunPicked(runNames, { batch }, { batches: this.#batches, start });
  }

  /** Cancels what was picked, as `cancel` does each. */
  async cancelMany(runNames: readonly string[], who: string): Promise<PickedAnswer> {
    return await cancelPicked(runNames, (runName) => this.cancel(runName, who), { signal: this.#signal });
  }

  /** A store that is away holds a batch up; what is left of it comes to its turn yet. */
  #patiently<T>(step: () => Promise<T>): Promise<T> {
    const isFinal = (error: unknown) => !(error instanceof UnavailableError);
    return retryForever(step, { signal: this.#signal, isFinal });
  }

  #rowOf(jobName: string): Row {
    const row = rowNamed(this.#parts.catalog.table?.rows, jobName);
    if (!row) throw new RangeError(`Cannot run "${cut(jobName, 100)}": no row of the table has that job_name`);
    return row;
  }

  /** Cancels a run, or the attempt that has followed it; gives the name of which it was. */
  async cancel(runName: string, who: string): Promise<{ run_name: string }> {
    const { cluster, records, groups } = this.#parts;
    checkRunName(runName);
    if (await groups?.cancel(runName, who)) return { run_name: runName };
    let attempt: string | undefined = runName;
    for (let count = 0; attempt !== undefined && count < MOST_ATTEMPTS; count++) {
      if (await cluster.cancel(attempt, who)) return { run_name: attempt };
      attempt = (await records.get(attempt))?.retried_as;
    }
    throw new RangeError(`Cannot cancel "${runName}": no such run is under way`);
  }

  async #payloadOf(run: RunRecord | JobFacts): Promise<Uint8Array> {
    if ("runName" in run) {
      return run.payloadObject === undefined ? run.payload ?? new Uint8Array() : await this.#stored(run.payloadObject);
    }
    if (run.payload_object !== undefined) return await this.#stored(run.payload_object);
    return keptPayload(run) ?? new Uint8Array();
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

/** Of one run: `retries` and the sizes of `memory_limit`. */
const MOST_ATTEMPTS = 120;

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
  readonly #parts: ControlParts;
  #waiting = 0;
  #bytes = 0;

  constructor(parts: ControlParts) {
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

  async #refuse(delivery: Delivery): Promise<void> {
    const begin = `${this.#parts.topicPrefix}/request/`;
    if (!delivery.topic.startsWith(begin)) return;
    const answer: AnswerPayload = { status: "error", error: "Too many requests wait: send it again later" };
    await publishAnswer(delivery, { ...answer, transaction: null }, this.#parts);
  }
}

interface ControlParts {
  readonly actions: Actions;
  readonly broker: Broker;
  readonly topicPrefix: string;
  readonly signal: AbortSignal;
}

/** On the topic below `response/` that the request names, else on that of its kind. */
async function publishAnswer(
  { topic, responseTopic, correlationData }: Delivery,
  answer: AnswerPayload & { readonly transaction: unknown },
  { broker, topicPrefix, signal }: ControlParts,
): Promise<void> {
  const answers = `${topicPrefix}/response/`;
  // Whoever may send requests must not make the service speak where he may not: to rows, devices or other services.
  const to = responseTopic?.startsWith(answers)
    ? responseTopic
    : answers + topic.slice(`${topicPrefix}/request/`.length);
  await broker.publish(to, JSON.stringify(answer), { qos: 1, signal, ...compact({ correlationData }) });
}

/** Carries out a message on one of the control topics, and answers. */
export async function handleControl(delivery: Delivery, parts: ControlParts): Promise<void> {
  const { actions, topicPrefix } = parts;
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
    const who = requesterIn(asked);
    const data = await carryOut(what, asked, { actions, who });
    answer = { status: "ok", data };
    if (!READING.has(what)) {
      const { run_name: run } = data as { run_name?: string };
      getLogger("control").info("Request {what} by {requested_by}", { what, requested_by: who, ...compact({ run }) });
    }
  } catch (error) {
    answer = { status: "error", error: errorMessage(error) };
  }
  await publishAnswer(delivery, { ...answer, transaction }, parts);
}

/** What the caller wants to know his answer by; much of it would be sent back to everybody. */
function boundedTransaction(given: unknown): unknown {
  if (given === undefined || given === null) return null;
  if (JSON.stringify(given).length > LONGEST_TRANSACTION) {
    throw new RangeError(`The field "transaction" is too long: write at most ${LONGEST_TRANSACTION} characters`);
  }
  return given;
}

/** Requests that change nothing which has an owner. */
const READING: ReadonlySet<string> = new Set(["refresh", "check"]);

/** Who the request says that asks. Anybody below the prefix may say any name: it is for people, and allows nothing. */
function requesterIn(asked: Record<string, unknown>): string {
  const name = optionalWord(asked, "requested_by");
  return name === undefined ? "an MQTT request" : readRequester(name);
}

function carryOut(
  what: string,
  asked: Record<string, unknown>,
  { actions, who }: { readonly actions: Actions; readonly who: string },
): unknown {
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
        { requestedBy: who, ...compact({ key: keyIn(asked) }) },
      );
    }
    case "cancel":
      return actions.cancel(wordIn(asked, "run_name"), who);
    case "rerun":
      return actions.rerun(wordIn(asked, "run_name"), who);
    case "each":
      return actions.each(wordIn(asked, "job_name"), { ...eachOf(asked), requestedBy: who });
    case "replay":
      return actions.replay({
        jobName: wordIn(asked, "job_name"),
        since: wordIn(asked, "since"),
        dryRun: asked["dry_run"] === true,
        requestedBy: who,
        ...compact({
          state: optionalWord(asked, "state"),
          reason: optionalWord(asked, "reason"),
          batch: optionalWord(asked, "batch"),
        }),
      });
    default:
      throw new RangeError(
        `Unknown request "${cut(what, 100)}": send refresh, check, run, cancel, rerun, each or replay`,
      );
  }
}

function wordIn(asked: Record<string, unknown>, name: string): string {
  const value = asked[name];
  if (typeof value !== "string" || value === "") throw new TypeError(`The request needs the field "${name}"`);
  return value;
}

/** As long as an idempotency key of a message. */
const LONGEST_KEY = 1_024;

function keyIn(asked: Record<string, unknown>): string | undefined {
  const key = optionalWord(asked, "key");
  if (key === undefined || key.length <= LONGEST_KEY) return key;
  throw new RangeError(`The field "key" has ${key.length} characters: write at most ${LONGEST_KEY}`);
}

function optionalWord(asked: Record<string, unknown>, name: string): string | undefined {
  return asked[name] === undefined || asked[name] === null ? undefined : wordIn(asked, name);
}

function eachOf(asked: Record<string, unknown>): EachRequest {
  return {
    sheet: wordIn(asked, "sheet"),
    dryRun: asked["dry_run"] === true,
    ...compact({
      batch: optionalWord(asked, "batch"),
      sheetId: optionalWord(asked, "sheet_id"),
      lines: countsIn(asked, "lines"),
      copies: countsIn(asked, "copies"),
    }),
  };
}

function countsIn(asked: Record<string, unknown>, name: string): number[] | undefined {
  const given = asked[name];
  if (given === undefined) return undefined;
  if (Array.isArray(given) && given.every((one) => Number.isSafeInteger(one) && one > 0)) return given;
  throw new TypeError(`The field "${name}" must be a list of whole numbers from 1`);
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
