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

/** How long what is told is gathered, so that twenty open pages take twenty writes of many events, not of each. */
const GATHER_MS = 50;
/** Characters that are told at once; whoever has missed something looks for itself. */
const MOST_AT_ONCE = 64 * 1024;
const RESYNC = "event: resync\ndata: {}\n\n";
const encoder = new TextEncoder();

/** Passes what the core tells on to who listens now, as an EventSource reads it. Give the core its `emit`. */
export class LiveEvents {
  readonly #listeners = new Set<(told: Uint8Array) => void>();
  #gathered = "";
  #isCut = false;
  #telling: ReturnType<typeof setTimeout> | undefined;

  readonly emit: Emit = (event) => {
    if (this.#listeners.size === 0) return;
    const short = shortEvent(event);
    if (!short) return;
    const { type, data } = short;
    // JSON has no raw line break, so that no value can begin a field of its own. `error` is EventSource's own word.
    const text = `event: ${type === "error" ? "report" : type}\ndata: ${JSON.stringify(data, shortened)}\n\n`;
    if (this.#gathered.length + text.length > MOST_AT_ONCE) this.#isCut = true;
    else this.#gathered += text;
    this.#telling ??= setTimeout(() => this.#tell(), GATHER_MS);
  };

  /** Number of listeners. */
  get size(): number {
    return this.#listeners.size;
  }

  /** `listener` must neither throw nor block, nor change what all are given. Returns what ends it. */
  subscribe(listener: (told: Uint8Array) => void): () => void {
    this.#listeners.add(listener);
    return () => {
      this.#listeners.delete(listener);
      if (this.#listeners.size === 0) this.#take();
    };
  }

  #tell(): void {
    const told = encoder.encode(this.#take());
    for (const listener of this.#listeners) listener(told);
  }

  #take(): string {
    clearTimeout(this.#telling);
    const text = this.#isCut ? this.#gathered + RESYNC : this.#gathered;
    [this.#telling, this.#gathered, this.#isCut] = [undefined, "", false];
    return text;
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

/** Times that one slow browser is told something and does not read it; what comes then is dropped, and it looks for itself. */
const MAX_QUEUED = 20;
const KEEPALIVE_MS = 15_000;

/** Characters of a topic or sentence that a browser is told: whoever sends them decides their length. */
const MAX_TEXT = 500;

function shortened(_name: string, value: unknown): unknown {
  return typeof value === "string" ? cut(value, MAX_TEXT) : value;
}

/** What a browser's EventSource reads; ends when `signal` aborts. */
export function eventStream(events: LiveEvents, signal: AbortSignal): ReadableStream<Uint8Array> {
  let missed = false;
  let end = () => {};
  return new ReadableStream<Uint8Array>({
    start(controller) {
      const send = (text: string) => controller.enqueue(encoder.encode(text));
      send("retry: 3000\n\n");
      const unsubscribe = events.subscribe((told) => {
        if ((controller.desiredSize ?? 0) <= 0) missed = true;
        else controller.enqueue(told);
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
      controller.enqueue(encoder.encode(RESYNC));
    },
    cancel() {
      end();
    },
  }, { highWaterMark: MAX_QUEUED });
}
