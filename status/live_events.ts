/**
 * Events of the core as browsers hear them: names and words, never a payload. Must not wait for a slow browser.
 */
import type { Emit, ServiceEvent } from "../ports.ts";
import { onAbort } from "../util/abort.ts";
import { cut } from "../util/text.ts";

/** What browsers are told of an event: names and words, never a payload. */
export interface BrowserEvent {
  readonly type: ServiceEvent["type"];
  readonly data: Readonly<Record<string, string | number | boolean>>;
}

/** Passes what the core tells on to who listens now. Give the core its `emit`. */
export class LiveEvents {
  readonly #listeners = new Set<(event: BrowserEvent) => void>();

  readonly emit: Emit = (event) => {
    if (this.#listeners.size === 0) return;
    const short = shortEvent(event);
    if (!short) return;
    for (const listener of this.#listeners) listener(short);
  };

  /** Number of listeners. */
  get size(): number {
    return this.#listeners.size;
  }

  /** `listener` must neither throw nor block. Returns what ends it. */
  subscribe(listener: (event: BrowserEvent) => void): () => void {
    this.#listeners.add(listener);
    return () => void this.#listeners.delete(listener);
  }
}

/** An event in names and words that a program may show to anybody; undefined: no page shows it. */
export function shortEvent(event: ServiceEvent): BrowserEvent | undefined {
  const { type } = event;
  switch (type) {
    case "message":
      return { type, data: { topic: event.topic, rows: event.rows, outcome: event.outcome } };
    case "created":
    case "started":
      return {
        type,
        data: { run_name: event.run.runName, job_name: event.run.jobName, state: event.run.state },
      };
    case "waiting":
      return { type, data: { run_name: event.runName, job_name: event.jobName, reason: event.reason } };
    case "scheduled": {
      const { runName, jobName, due, lagMs } = event;
      return { type, data: { run_name: runName, job_name: jobName, due: due.toISOString(), lag_ms: lagMs } };
    }
    case "join": {
      const { jobName: job_name, runName: run_name, outcome, missing } = event;
      return { type, data: { job_name, run_name, outcome, missing: missing.join(", ") } };
    }
    case "retrying": {
      const { run_name, job_name, reason, message, retried_as } = event.record;
      return {
        type,
        data: { run_name, job_name, reason, message, next: retried_as ?? "", at: event.at.toISOString() },
      };
    }
    case "finished": {
      const { run_name, job_name, status, reason, message } = event.record;
      return { type, data: { run_name, job_name, status, reason, message } };
    }
    case "group": {
      const { group, jobName: job_name, state, total, succeeded } = event;
      return { type, data: { group, job_name, state, total, succeeded } };
    }
    case "table":
      return { type, data: { rows: event.rows, errors: event.errors, warnings: event.warnings } };
    case "broker":
      return { type, data: { connected: event.connected } };
    case "leader":
      return { type, data: { leading: event.leading } };
    case "error":
      return { type, data: { scope: event.scope, reason: event.report.reason, message: event.report.message } };
    case "origin":
    case "adopted":
    case "deleted":
      return undefined;
  }
}

/** Events that wait for one slow browser; what comes then is dropped, and it is told to look for itself. */
const MAX_QUEUED = 200;
const KEEPALIVE_MS = 15_000;

/** Characters of a topic or sentence that a browser is told: whoever sends them decides their length. */
const MAX_TEXT = 500;

function shortened(_name: string, value: unknown): unknown {
  return typeof value === "string" ? cut(value, MAX_TEXT) : value;
}

/** What a browser's EventSource reads; ends when `signal` aborts. */
export function eventStream(events: LiveEvents, signal: AbortSignal): ReadableStream<Uint8Array> {
  const encoder = new TextEncoder();
  let missed = false;
  let end = () => {};
  return new ReadableStream<Uint8Array>({
    start(controller) {
      const send = (text: string) => controller.enqueue(encoder.encode(text));
      send("retry: 3000\n\n");
      const unsubscribe = events.subscribe(({ type, data }) => {
        if ((controller.desiredSize ?? 0) <= 0) missed = true;
        // JSON has no raw line break, so that no value can begin a field of its own. `error` is EventSource's own word.
        else send(`event: ${type === "error" ? "report" : type}\ndata: ${JSON.stringify(data, shortened)}\n\n`);
      });
      const keepalive = setInterval(() => {
        if ((controller.desiredSize ?? 0) > 0) send(": still here\n\n");
      }, KEEPALIVE_MS);
      const stop = () => {
        end();
        controller.close();
      };
      let leave = () => {};
      end = () => {
        unsubscribe();
        clearInterval(keepalive);
        leave();
      };
      leave = onAbort(signal, stop);
    },
    pull(controller) {
      if (!missed) return;
      missed = false;
      controller.enqueue(encoder.encode("event: resync\ndata: {}\n\n"));
    },
    cancel() {
      end();
    },
  }, { highWaterMark: MAX_QUEUED });
}
