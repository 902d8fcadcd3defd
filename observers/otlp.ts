/**
 * Spans on their way to an OpenTelemetry receiver: OTLP/HTTP in JSON (https://opentelemetry.io/docs/specs/otlp/#otlphttp).
 * Owns a bounded queue, batches and retries. Must never block or throw into the core: what cannot be sent is dropped and
 * said in the log. Headers are secrets and stand in no message.
 *
 * Deno's own exporter does not serve here: it gives each span a random id, and a span must have the one that its children,
 * which may have been told it by a process that is gone, call it by.
 */
import { compact } from "../util/compact.ts";
import { errorMessage, safeWords } from "../util/errors.ts";
import { backoffMs, delayAtMost } from "../util/retry.ts";
import { retryAfterMs } from "../util/retry_after.ts";
import { startOf } from "../util/streams.ts";

/** A span that has ended. */
export interface Span {
  readonly traceId: string;
  readonly spanId: string;
  readonly parentSpanId?: string | undefined;
  readonly traceState?: string | undefined;
  readonly name: string;
  readonly kind: "internal" | "producer" | "consumer";
  /** Milliseconds since the epoch. */
  readonly startMs: number;
  readonly endMs: number;
  readonly attributes: Readonly<Record<string, string | number | undefined>>;
  /** What failed; absent: nothing did. */
  readonly fault?: string | undefined;
}

export interface SpanExporterOptions {
  /** The receiver for traces, such as `http://collector:4318/v1/traces`. */
  readonly url: string;
  readonly headers?: Readonly<Record<string, string>>;
  /** Attributes of the service itself. */
  readonly resource: Readonly<Record<string, string>>;
  /** Hears, in a sentence, of spans that could not be sent; once until some are sent again. */
  readonly onTrouble: (reason: string) => void;
  /** Between calls. Default 1,000. */
  readonly delayMs?: number;
  /** Wait before the first repetition, doubled for each further one up to ten seconds. Default 500. */
  readonly firstRetryMs?: number;
  /** Calls for one batch at most. Default 6. */
  readonly attempts?: number;
  /** Spans that wait at most; what comes then is dropped. Default 20,000. */
  readonly maxWaiting?: number;
}

/** Spans of one call: far from the 4 MiB that receivers take. */
const BATCH = 512;
const TIMEOUT_MS = 10_000;
const LONGEST_RETRY_MS = 10_000;
/** Of the receiver's answer, in bytes. */
const LONGEST_ANSWER = 4_096;
/** Those that the standard calls so (https://opentelemetry.io/docs/specs/otlp/#retryable-response-codes). */
const RETRYABLE: ReadonlySet<number> = new Set([429, 502, 503, 504]);
const KINDS = { internal: 1, producer: 4, consumer: 5 } as const;
const STATUS_ERROR = 2;

/** Sends spans in batches, one call at a time, until `close`. */
export class SpanExporter {
  readonly #options: Required<SpanExporterOptions>;
  readonly #waiting: Span[] = [];
  readonly #ended = new AbortController();
  /** Aborts when what waits should leave at once. */
  readonly #closing = new AbortController();
  #working: Promise<void> | undefined;
  #sentAtMs = -Infinity;
  #dropped = 0;
  #isInTrouble = false;

  constructor(options: SpanExporterOptions) {
    this.#options = { headers: {}, delayMs: 1_000, firstRetryMs: 500, attempts: 6, maxWaiting: 20_000, ...options };
  }

  /** Takes a span over; returns at once. */
  add(span: Span): void {
    if (this.#ended.signal.aborted) return;
    if (this.#waiting.length >= this.#options.maxWaiting) {
      this.#dropped++;
      return;
    }
    this.#waiting.push(span);
    this.#working ??= this.#work();
  }

  /** Sends what waits, for `withinMs` at most, and takes no more. Never rejects. */
  async close({ withinMs }: { readonly withinMs: number }): Promise<void> {
    this.#closing.abort();
    const timer = setTimeout(() => this.#ended.abort(), withinMs);
    await this.#working;
    clearTimeout(timer);
    this.#ended.abort();
  }

  async #work(): Promise<void> {
    while (this.#waiting.length > 0) {
      // What comes after a silence leaves at once, for the process may be killed; of what comes often, more may join.
      const waitMs = this.#sentAtMs + this.#options.delayMs - performance.now();
      await delayAtMost(Math.max(0, waitMs), this.#closing.signal);
      while (this.#waiting.length > 0) await this.#send(this.#waiting.splice(0, BATCH));
      this.#sentAtMs = performance.now();
    }
    this.#working = undefined;
  }

  async #send(spans: readonly Span[]): Promise<void> {
    const body = JSON.stringify(requestOf(spans, this.#options.resource));
    const { attempts, firstRetryMs } = this.#options;
    for (let attempt = 0;; attempt++) {
      const answer = await this.#post(body);
      if (answer === "sent") {
        this.#isInTrouble = false;
        return this.#tellDropped();
      }
      if (answer.isFinal || attempt + 1 >= attempts) return this.#drop(spans.length, answer.reason);
      const waitMs = answer.retryAfterMs ?? backoffMs(attempt, { firstMs: firstRetryMs, maxMs: LONGEST_RETRY_MS });
      await delayAtMost(Math.min(waitMs, LONGEST_RETRY_MS), this.#ended.signal);
    }
  }

  async #post(body: string): Promise<"sent" | { reason: string; isFinal: boolean; retryAfterMs?: number }> {
    const signal = AbortSignal.any([this.#ended.signal, AbortSignal.timeout(TIMEOUT_MS)]);
    try {
      const headers = { ...this.#options.headers, "content-type": "application/json" };
      const response = await fetch(this.#options.url, { method: "POST", headers, body, signal, redirect: "manual" });
      const words = safeWords((await startOf(response.body, LONGEST_ANSWER).catch(() => "")).trim(), 200);
      if (response.ok) return "sent";
      const reason = `the receiver answered ${response.status}${words === "" ? "" : `: ${words}`}`;
      const askedMs = retryAfterMs(response.headers.get("retry-after"));
      return { reason, isFinal: !RETRYABLE.has(response.status), ...compact({ retryAfterMs: askedMs }) };
    } catch (error) {
      const reason = this.#ended.signal.aborted ? "the service ends" : errorMessage(error);
      return { reason, isFinal: this.#ended.signal.aborted };
    }
  }

  #drop(count: number, reason: string): void {
    this.#dropped += count;
    if (this.#isInTrouble) return;
    this.#isInTrouble = true;
    this.#trouble(
      `Traces cannot be sent: ${reason}; ${this.#dropped} spans were dropped, and so are those that follow`,
    );
    this.#dropped = 0;
  }

  #tellDropped(): void {
    if (this.#dropped === 0) return;
    this.#trouble(`Traces are sent again; ${this.#dropped} spans were dropped meanwhile`);
    this.#dropped = 0;
  }

  #trouble(reason: string): void {
    try {
      this.#options.onTrouble(reason);
    } catch {
      // Whoever listens must not stop the spans.
    }
  }
}

/** ExportTraceServiceRequest, in JSON: ids in hexadecimal digits, 64-bit numbers as texts. */
function requestOf(spans: readonly Span[], resource: Readonly<Record<string, string>>): unknown {
  const scope = { name: "mqtt-job-listener", version: resource["service.version"] };
  return {
    resourceSpans: [{
      resource: { attributes: attributesOf(resource) },
      scopeSpans: [{ scope, spans: spans.map(spanOf) }],
    }],
  };
}

function spanOf({ traceId, spanId, parentSpanId, traceState, name, kind, startMs, endMs, attributes, fault }: Span) {
  return {
    traceId,
    spanId,
    ...compact({ parentSpanId, traceState }),
    name,
    kind: KINDS[kind],
    startTimeUnixNano: nanoseconds(startMs),
    endTimeUnixNano: nanoseconds(endMs),
    attributes: attributesOf(attributes),
    ...(fault === undefined ? {} : { status: { code: STATUS_ERROR, message: fault } }),
  };
}

function nanoseconds(ms: number): string {
  return `${Math.round(ms)}000000`;
}

function attributesOf(attributes: Span["attributes"]) {
  return Object.entries(attributes).flatMap(([key, value]) => {
    if (value === undefined) return [];
    return [{ key, value: typeof value === "number" ? { intValue: String(value) } : { stringValue: value } }];
  });
}
