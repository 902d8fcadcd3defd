/**
 * Webhook: one webhook call per ended run, in Slack's form. Owns a bounded queue, retries and the words of a notice.
 * Must never block or throw into the core: what cannot be sent is dropped and said in the log. The webhook's URL is a
 * secret and stands in no message.
 */
import type { Emit, RunRecord } from "../ports.ts";
import { compact } from "../util/compact.ts";
import { durationWords } from "../util/duration.ts";
import { errorMessage, safeWords } from "../util/errors.ts";
import { startOf } from "../util/streams.ts";
import { backoffMs, delay } from "../util/retry.ts";
import { retryAfterMs } from "../util/retry_after.ts";

export interface WebhookOptions {
  /** Slack-compatible incoming webhook; others take `text`. */
  readonly url: string;
  /** The channel's name, for what is said of it. Default: it is the preset one. */
  readonly name?: string;
  /** `failed`: only runs that failed; `all`: also those that succeeded or were cancelled. */
  readonly on: "failed" | "all";
  /** The page as people reach it, without a trailing slash; a run's page is `/runs/{run name}` there. */
  readonly statusUrl?: string;
  /** Hears, in a sentence without secrets, of notices that could not be sent; `runName`: of which run. */
  readonly onTrouble?: (reason: string, runName?: string) => void;
  /** Notices waiting at most; the oldest is dropped. Default 100. */
  readonly maxWaiting?: number;
  /** Calls for one notice at most. Default 6. */
  readonly attempts?: number;
  /** Wait before the first repetition, doubled for each further one up to a minute. Default 1,000. */
  readonly firstRetryMs?: number;
  /** For one call. Default 10,000. */
  readonly timeoutMs?: number;
}

/** Body of a webhook call. `text` is all that others than Slack need. */
export interface Notice {
  readonly text: string;
  readonly blocks: readonly Record<string, unknown>[];
}

const LONGEST_RETRY_MS = 60_000;
/** A webhook that asks for more than this is not worth the wait. */
const LONGEST_RETRY_AFTER_MS = 10 * 60_000;
/** Of the webhook's answer, in bytes; 200 characters of it are told. */
const LONGEST_ANSWER = 4_096;
/** Slack takes 3,000 characters in a block's text. */
const LONGEST_TEXT = 2_900;

type Maybe = "statusUrl" | "name";

/** Sends notices one after the other, from the first one told until `close`. */
export class Webhook {
  readonly #options: Required<Omit<WebhookOptions, Maybe>> & Pick<WebhookOptions, Maybe>;
  readonly #waiting: RunRecord[] = [];
  readonly #ended = new AbortController();
  #working: Promise<void> | undefined;
  #dropped = 0;

  constructor(options: WebhookOptions) {
    this.#options = {
      onTrouble: () => {},
      maxWaiting: 100,
      attempts: 6,
      firstRetryMs: 1_000,
      timeoutMs: 10_000,
      ...options,
    };
  }

  /** Give it what the core tells; only ended runs matter here. */
  readonly emit: Emit = (event) => {
    if (event.type !== "finished" || this.#ended.signal.aborted) return;
    if (this.#options.on === "failed" && event.record.status !== "failed") return;
    this.#waiting.push(event.record);
    if (this.#waiting.length > this.#options.maxWaiting) {
      this.#waiting.shift();
      this.#dropped++;
    }
    this.#working ??= this.#work();
  };

  /** Notices that wait or are being sent. */
  get waiting(): number {
    return this.#waiting.length + (this.#working ? 1 : 0);
  }

  /** Sends what waits, for `withinMs` at most, and takes no more. Never rejects. */
  async close({ withinMs = 2_000 }: { withinMs?: number } = {}): Promise<void> {
    const timer = setTimeout(() => this.#ended.abort(), withinMs);
    await this.#working;
    clearTimeout(timer);
    this.#ended.abort();
  }

  async #work(): Promise<void> {
    for (let record = this.#waiting.shift(); record !== undefined; record = this.#waiting.shift()) {
      const dropped = this.#dropped;
      this.#dropped = 0;
      if (dropped > 0) this.#trouble(`${dropped} notices were dropped: more than ${this.#options.maxWaiting} waited`);
      try {
        await this.#send(noticeOf(record, { dropped, statusUrl: this.#options.statusUrl }));
      } catch (error) {
        const left = this.#ended.signal.aborted ? this.#waiting.splice(0).length : 0;
        const more = left > 0 ? ` (and ${left} more)` : "";
        const { run_name } = record;
        this.#trouble(`Cannot send the notice of run ${run_name}${more}: ${this.#words(error)}`, run_name);
      }
    }
    this.#working = undefined;
  }

  async #send(notice: Notice): Promise<void> {
    const body = JSON.stringify(notice);
    for (let attempt = 0;; attempt++) {
      const answer = await this.#post(body);
      if (answer === "sent") return;
      if (answer.final || attempt + 1 >= this.#options.attempts) throw new Error(answer.reason);
      const retry = backoffMs(attempt, { firstMs: this.#options.firstRetryMs, maxMs: LONGEST_RETRY_MS });
      await delay(answer.retryAfterMs ?? retry, this.#ended.signal);
    }
  }

  async #post(body: string): Promise<"sent" | { reason: string; final: boolean; retryAfterMs?: number }> {
    const signal = AbortSignal.any([this.#ended.signal, AbortSignal.timeout(this.#options.timeoutMs)]);
    let response: Response;
    try {
      const headers = { "content-type": "application/json; charset=utf-8" };
      response = await fetch(this.#options.url, { method: "POST", headers, body, signal, redirect: "manual" });
    } catch (error) {
      return { reason: this.#words(error), final: this.#ended.signal.aborted };
    }
    const words = safeWords((await startOf(response.body, LONGEST_ANSWER).catch(() => "")).trim(), 200);
    if (response.ok) return "sent";
    const reason = `the webhook answered ${response.status}${words === "" ? "" : `: ${words}`}`;
    const isTemporary = response.status === 408 || response.status === 429 || response.status >= 500;
    const askedMs = retryAfterMs(response.headers.get("retry-after"));
    const isTooLong = askedMs !== undefined && askedMs > LONGEST_RETRY_AFTER_MS;
    return { reason, final: !isTemporary || isTooLong, ...compact({ retryAfterMs: askedMs }) };
  }

  /** An error's words; those of fetch hold the URL, which is a secret. */
  #words(error: unknown): string {
    if (this.#ended.signal.aborted) return "the service ends";
    if (error instanceof DOMException && error.name === "TimeoutError") {
      return `no answer within ${this.#options.timeoutMs} ms`;
    }
    const { origin, href } = new URL(this.#options.url);
    return errorMessage(error).replaceAll(this.#options.url, origin).replaceAll(href, origin);
  }

  #trouble(reason: string, runName?: string): void {
    try {
      const { name, onTrouble } = this.#options;
      onTrouble(name === undefined ? reason : `Channel "${name}": ${reason}`, runName);
    } catch {
      // Whoever listens must not stop the notices.
    }
  }
}

// ---------------------------------------------------------------- words

/** The notice of an ended run. `dropped`: how many before it were not sent. */
export function noticeOf(
  record: RunRecord,
  { dropped = 0, statusUrl }: { dropped?: number; statusUrl?: string | undefined } = {},
): Notice {
  const { job_name, run_name, status, reason, message } = record;
  const sign = { succeeded: ":white_check_mark:", failed: ":x:", cancelled: ":no_entry_sign:" }[status];
  const head = `${sign} *${slack(job_name)}* ${status}`;
  const why = status === "succeeded" ? slack(message) : `${slack(message)} (${slack(reason)})`;
  const page = statusUrl === undefined ? undefined : `${statusUrl}/runs/${encodeURIComponent(run_name)}`;
  const run = page === undefined ? code(run_name) : link(page, run_name);
  const log = record.log_url === "" ? [] : [`log ${place(record.log_url)}`];
  const details = [`Run ${run}`, ...log, `topic ${code(record.topic)}`];
  if (record.parent_run !== null) details.push(`started by ${code(record.parent_run)}`);
  const time = took(record);
  if (time !== undefined) details.push(`took ${time}`);
  const context = details.join(" · ");
  const missing = dropped > 0 ? `${dropped} earlier notices were not sent` : undefined;
  return {
    text: cut([head, why, context, missing].filter((line) => line !== undefined && line !== "").join("\n")),
    blocks: [
      { type: "section", text: { type: "mrkdwn", text: cut(`${head}\n${why}`) } },
      { type: "context", elements: [{ type: "mrkdwn", text: cut(context) }] },
      ...(missing === undefined ? [] : [{ type: "context", elements: [{ type: "mrkdwn", text: missing }] }]),
    ],
  };
}

/** https://docs.slack.dev/messaging/formatting-message-text#escaping: these three, nothing else. */
function slack(text: string): string {
  return text.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;");
}

/** A backtick would end the mark, a line break as well. */
function code(text: string): string {
  return "`" + slack(text.replaceAll("`", "'").replace(/\s+/g, " ")) + "`";
}

/** Within a link, "|" parts the address from the words. */
function link(url: string, words: string): string {
  return `<${slack(url).replaceAll("|", "%7C")}|${slack(words)}>`;
}

/** `s3://` and `file:` are for copying, not for clicking. */
function place(url: string): string {
  return /^https?:/.test(url) ? link(url, "text") : code(url);
}

function took({ started_at, finished_at }: RunRecord): string | undefined {
  if (started_at === null) return undefined;
  const ms = Date.parse(finished_at) - Date.parse(started_at);
  return ms >= 0 ? durationWords(ms) : undefined;
}

function cut(text: string): string {
  // Not within an escape such as &amp;, which Slack would show.
  return text.length <= LONGEST_TEXT ? text : text.slice(0, LONGEST_TEXT).replace(/&[a-z]{0,3}$/, "") + "…";
}
