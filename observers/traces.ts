/**
 * Traces: the spans of what the core tells, all of one message in one trace. A run's spans are made at its end, from its
 * record, by whichever process ends it: their ids and times are the record's, so that one that was told by a process which
 * has died since is the same when it is told again. Owns what the record does not keep of a start. Decides nothing.
 */
import type { Emit, Lineage, RunRecord, ServiceEvent } from "../ports.ts";
import {
  isSampled,
  lineageOfRecord,
  originSpanIdOf,
  partSpanIdOf,
  spanIdOf,
  traceIdOf,
  traceParentIn,
} from "../run_spec.ts";
import { cut } from "../util/text.ts";
import type { Span } from "./otlp.ts";

/** What the creating process alone knows of a run's start. */
interface Start {
  /** Why it had to wait, last. */
  reason?: string;
  /** Milliseconds since the epoch. */
  createBegunMs?: number;
  createdMs?: number;
}

/** Runs of which that is kept; of more, a trace has a span less. */
const MOST_STARTS = 20_000;
/** Of a sentence or a name in a span, in characters. */
const LONGEST_TEXT = 500;

type EventOf<T extends ServiceEvent["type"]> = Extract<ServiceEvent, { type: T }>;

/** Where a span belongs. */
type Place = Pick<Span, "traceId" | "spanId" | "parentSpanId" | "traceState">;

export class Traces {
  readonly #add: (span: Span) => void;
  readonly #starts = new Map<string, Start>();
  /** Attempts whose spans are made, until their Jobs are gone: such a one may end once more, as the last one. */
  readonly #told = new Set<string>();

  constructor(add: (span: Span) => void) {
    this.#add = add;
  }

  /** Give it what the core tells. */
  readonly emit: Emit = (event) => {
    switch (event.type) {
      case "origin":
        return this.#origin(event);
      case "waiting":
        if (event.runName !== "") this.#startOf(event.runName).reason = cut(event.reason, LONGEST_TEXT);
        return;
      case "created": {
        const createdMs = Date.now();
        Object.assign(this.#startOf(event.run.runName), { createdMs, createBegunMs: createdMs - event.createMs });
        return;
      }
      case "retrying":
      case "adopted":
        if (!this.#told.has(event.record.run_name)) this.#run(event.record);
        this.#told.add(event.record.run_name);
        return;
      case "finished":
        if (!this.#told.has(event.record.run_name)) this.#run(event.record);
        return;
      case "deleted":
        return this.#deleted(event);
      case "group":
        if (event.state !== "started") this.#group(event);
    }
  };

  #startOf(runName: string): Start {
    let start = this.#starts.get(runName);
    if (!start) {
      const [oldest = ""] = this.#starts.keys();
      if (this.#starts.size >= MOST_STARTS) this.#starts.delete(oldest);
      this.#starts.set(runName, start = {});
    }
    return start;
  }

  /** A message with its receipt, or what stands for one, until each of its runs was there. */
  #origin({ topic, root, traceparent, tracestate, receivedAt, outcome, runs }: EventOf<"origin">): void {
    const parent = traceParentIn(traceparent);
    if (parent && !isSampled(parent)) return;
    this.#add({
      traceId: parent?.traceId ?? (root === undefined ? randomId(16) : traceIdOf(root)),
      spanId: root === undefined ? randomId(8) : originSpanIdOf(root),
      parentSpanId: parent?.spanId,
      traceState: tracestate,
      name: `process ${cut(topic, LONGEST_TEXT)}`,
      kind: "consumer",
      startMs: receivedAt.getTime(),
      endMs: Date.now(),
      attributes: {
        "messaging.system": "mqtt",
        "messaging.operation.type": "process",
        "messaging.destination.name": cut(topic, LONGEST_TEXT),
        "mqtt_job_listener.outcome": outcome,
        "mqtt_job_listener.runs": runs.length,
      },
      fault: outcome === "refused" ? "Refused" : undefined,
    });
  }

  /** A run from its message to its announcement, with the parts of its time. */
  #run(record: RunRecord): void {
    const { run_name: runName, job_name: jobName, status, reason } = record;
    const start = this.#starts.get(runName);
    this.#starts.delete(runName);
    const place = placeOf(runName, lineageOfRecord(record));
    if (!place) return;
    const parts = partsOf(record, start);
    const startMs = Date.parse(record.received_at);
    this.#add({
      ...place,
      name: `run ${cut(jobName, LONGEST_TEXT)}`,
      kind: "internal",
      startMs,
      endMs: parts.at(-1)?.endMs ?? startMs,
      attributes: attributesOf(record),
      fault: status === "failed" ? reason : undefined,
    });
    for (const part of parts) this.#part(place, runName, part);
  }

  #deleted({ run, begunAt }: EventOf<"deleted">): void {
    this.#told.delete(run.runName);
    this.#starts.delete(run.runName);
    const place = placeOf(run.runName, run);
    const times = { startMs: begunAt.getTime(), endMs: Date.now() };
    if (place) this.#part(place, run.runName, { name: "delete", ...times });
  }

  /** A group from its message to its end; its items are below it. */
  #group({ group, jobName, state, total, succeeded, lineage, receivedAt }: EventOf<"group">): void {
    const place = placeOf(group, lineage);
    if (!place) return;
    this.#add({
      ...place,
      name: `group ${cut(jobName, LONGEST_TEXT)}`,
      kind: "internal",
      startMs: receivedAt.getTime(),
      endMs: Math.max(Date.now(), receivedAt.getTime()),
      attributes: {
        "mqtt_job_listener.job_name": cut(jobName, LONGEST_TEXT),
        "mqtt_job_listener.group": group,
        "mqtt_job_listener.root": lineage.root,
        "mqtt_job_listener.items": total,
        "mqtt_job_listener.items_succeeded": succeeded,
      },
      fault: state === "failed" ? `${total - succeeded} of ${total} items have not succeeded` : undefined,
    });
  }

  #part(
    { traceId, spanId, traceState }: Place,
    runName: string,
    { name, startMs, endMs, attributes = {} }: Part,
  ): void {
    this.#add({
      traceId,
      spanId: partSpanIdOf(runName, name),
      parentSpanId: spanId,
      traceState,
      name,
      kind: name === "publish" ? "producer" : "internal",
      startMs,
      endMs,
      attributes,
    });
  }
}

/**
 * Where the span of a run or a group belongs; undefined: in no trace that is kept. One that was made when no traces were
 * is below what its message named, if that named anything.
 */
function placeOf(name: string, lineage: Omit<Lineage, "rootRun">): Place | undefined {
  const own = traceParentIn(lineage.traceparent);
  if (own === undefined || !isSampled(own)) return undefined;
  const spanId = spanIdOf(name);
  const above = lineage.rerunOf ?? lineage.group ?? lineage.parentRun;
  const parentSpanId = own.spanId !== spanId
    ? own.spanId
    : above === undefined
    ? originSpanIdOf(lineage.root)
    : spanIdOf(above);
  return { traceId: own.traceId, spanId, parentSpanId, traceState: lineage.tracestate };
}

/** A part of a run's time. */
interface Part {
  readonly name: string;
  readonly startMs: number;
  readonly endMs: number;
  readonly attributes?: Span["attributes"];
}

/**
 * The parts of a run's time, one after the other. Kubernetes' own times are whole seconds, so that one may seem to lie
 * before what it followed: none begins before the one before it has ended.
 */
function partsOf(record: RunRecord, start: Start = {}): Part[] {
  const marks: [name: string, at: number | string | null | undefined, attributes?: Span["attributes"]][] = [
    ["wait", start.createBegunMs, { "mqtt_job_listener.reason": start.reason }],
    ["create", start.createdMs ?? record.created_at],
    ["hold", record.released_at, { "mqtt_job_listener.held_for": record.held_for }],
    ["schedule", record.scheduled_at],
    ["pull", record.pulled_at],
    ["start", record.started_at],
    [record.started_at === null ? "pending" : "run", record.finished_at],
    ["log", record.log_stored_at],
    ["publish", record.announced_at],
  ];
  const parts: Part[] = [];
  let startMs = Date.parse(record.received_at);
  for (const [name, at, attributes = {}] of marks) {
    if (at === undefined || at === null) continue;
    const endMs = Math.max(startMs, typeof at === "number" ? at : Date.parse(at));
    parts.push({ name, startMs, endMs, attributes });
    startMs = endMs;
  }
  return parts;
}

function attributesOf(record: RunRecord): Span["attributes"] {
  return {
    "mqtt_job_listener.job_name": cut(record.job_name, LONGEST_TEXT),
    "mqtt_job_listener.root": record.root,
    "mqtt_job_listener.status": record.status,
    "mqtt_job_listener.reason": cut(record.reason, LONGEST_TEXT),
    "mqtt_job_listener.attempt": record.attempt,
    "mqtt_job_listener.group": record.group,
    "mqtt_job_listener.index": record.index,
    "mqtt_job_listener.rerun_of": record.rerun_of,
    "mqtt_job_listener.log_url": record.log_url === "" ? undefined : cut(record.log_url, LONGEST_TEXT),
    "messaging.destination.name": cut(record.topic, LONGEST_TEXT),
    "k8s.job.name": record.run_name,
    "k8s.node.name": record.node === null ? undefined : cut(record.node, LONGEST_TEXT),
    "container.image.name": cut(record.image, LONGEST_TEXT),
    "process.exit.code": record.exit_code ?? undefined,
  };
}

function randomId(bytes: number): string {
  return crypto.getRandomValues(new Uint8Array(bytes)).toHex();
}
