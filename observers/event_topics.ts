/**
 * What the service says on MQTT besides the ends of runs: errors on `ERROR`, retained `info` and `table`, run events
 * on `run/{job_name}/{run}`. Best effort: these are news, not promises; a full queue drops the oldest news.
 */
import type { Table } from "../catalog.ts";
import { failedTopic } from "../topics.ts";
import { compact } from "../util/compact.ts";
import { delayAtMost } from "../util/retry.ts";
import { cut, visible } from "../util/text.ts";
import {
  endProperties,
  type ErrorPayload,
  type RefusedPayload,
  type RunPayload,
  type TablePayload,
} from "../payloads.ts";
import {
  type Broker,
  type ErrorReport,
  type PublishOptions,
  type RunView,
  type ServiceEvent,
  TooLargeError,
} from "../ports.ts";

const MAX_QUEUED = 1_000;
/** News of runs wait so long for others: in a burst they then share a write to the socket, 0.07 ms of processor each. */
const TOGETHER_MS = 10;
const MOST_TOGETHER = 100;
/** Of a cell in the retained table, in characters: a topic alone may have 64 KB. */
const LONGEST_CELL = 256;

/** Reasons of a row that is not started though a message was for it. */
const NO_RUN: ReadonlySet<ErrorReport["reason"]> = new Set(["Refused", "InputMissing", "InputRefused", "ItemsRefused"]);

interface News {
  readonly topic: string;
  readonly body: string;
  readonly retain?: boolean;
  readonly properties?: NonNullable<PublishOptions["properties"]>;
  readonly contentType?: string;
  /** A shorter body for a broker that does not take this one; undefined: there is none. */
  readonly shorten?: (attempt: number) => unknown;
}

export class EventTopics {
  readonly #broker: Broker;
  readonly #prefix: string;
  readonly #signal: AbortSignal;
  readonly #queue: News[] = [];
  #sending = false;

  constructor({ broker, topicPrefix, signal }: { broker: Broker; topicPrefix: string; signal: AbortSignal }) {
    this.#broker = broker;
    this.#prefix = topicPrefix;
    this.#signal = signal;
  }

  /** Publishes what others may want to hear of an event. */
  readonly emit = (event: ServiceEvent): void => {
    if (event.type === "error") this.error(event.report);
    else if (event.type === "created") this.#runEvent("created", event.run);
    else if (event.type === "started") this.#runEvent("started", event.run);
    else if (event.type === "retrying") {
      const { record } = event;
      const news: RunPayload = {
        event: "retrying",
        reason: record.reason,
        message: record.message,
        job_name: record.job_name,
        run_name: record.run_name,
        next_run: record.retried_as ?? "",
        next_at: event.at.toISOString(),
        at: record.finished_at,
      };
      this.#say(`run/${record.job_name}/${record.run_name}`, news);
    } else if (event.type === "finished") {
      const { record } = event;
      const news: RunPayload = {
        event: record.status === "succeeded" ? "succeeded" : "failed",
        status: record.status,
        reason: record.reason,
        message: record.message,
        job_name: record.job_name,
        run_name: record.run_name,
        at: record.finished_at,
      };
      this.#say(`run/${record.job_name}/${record.run_name}`, news);
    }
  };

  error(report: ErrorReport): void {
    const error: ErrorPayload = { status: "error", ...report, at: new Date().toISOString() };
    this.#say("ERROR", error);
    // Who waits for a run's end must hear too that there will be none.
    if (report.job_name !== undefined && report.run_name === undefined && NO_RUN.has(report.reason)) {
      const topic = failedTopic(this.#prefix, report.job_name).slice(this.#prefix.length + 1);
      const { job_name, reason, message } = report;
      const refused: RefusedPayload = { status: "failed", job_name, reason, message };
      const facts = { what: "run", name: crypto.randomUUID(), status: "refused", jobName: job_name } as const;
      this.#say(topic, refused, endProperties({ ...facts, finishedAt: error.at }, this.#prefix));
    }
  }

  info(info: Readonly<Record<string, unknown>>): void {
    this.#say("info", info, { retain: true });
  }

  table({ rows, problems }: Table): void {
    const shown = rows.slice(0, 1_000).map(({ jobName, mqttTopic, image, needs }) => ({
      job_name: jobName,
      mqtt_topic: cut(mqttTopic, LONGEST_CELL),
      image: cut(image, LONGEST_CELL),
      ...compact({ needs: needs && [...needs] }),
    }));
    const first = problems.slice(0, 100).map((problem) => ({
      ...problem,
      message: cut(visible(problem.message), LONGEST_CELL),
      ...("value" in problem && problem.value !== undefined
        ? { value: cut(visible(problem.value), LONGEST_CELL) }
        : {}),
    }));
    const told = (part: number): TablePayload => ({
      rows: rows.length,
      shown: shown.slice(0, Math.ceil(shown.length * part)),
      problems: first.slice(0, Math.ceil(first.length * part)),
    });
    this.#say("table", told(1), {
      retain: true,
      shorten: (attempt) => attempt > 10 ? undefined : told(0.5 ** attempt),
    });
  }

  #runEvent(event: "created" | "started", run: RunView): void {
    const news: RunPayload = {
      event,
      job_name: run.jobName,
      run_name: run.runName,
      parent_run: run.parentRun ?? null,
      at: new Date().toISOString(),
    };
    this.#say(`run/${run.jobName}/${run.runName}`, news);
  }

  #say(topic: string, body: unknown, options: Partial<News> = {}): void {
    if (this.#queue.length >= MAX_QUEUED) this.#queue.shift();
    this.#queue.push({ topic: `${this.#prefix}/${topic}`, body: JSON.stringify(body), ...options });
    if (!this.#sending) void this.#send();
  }

  async #send(): Promise<void> {
    this.#sending = true;
    while (this.#queue.length > 0) {
      if (this.#queue.every((news) => this.#isOfRun(news))) await delayAtMost(TOGETHER_MS, this.#signal);
      await Promise.all(this.#queue.splice(0, MOST_TOGETHER).map((news) => this.#publish(news).catch(() => {})));
    }
    this.#sending = false;
  }

  #isOfRun({ topic }: News): boolean {
    return topic.startsWith(`${this.#prefix}/run/`);
  }

  async #publish(news: News): Promise<void> {
    const { topic, retain = false, shorten, ...more } = news;
    let { body } = news;
    // ERROR and what is retained must arrive; the rest is worth one write.
    const qos = retain || !this.#isOfRun(news) ? 1 : 0;
    for (let attempt = 1;; attempt++) {
      try {
        return await this.#broker.publish(topic, body, { qos, retain, ...more, signal: this.#signal });
      } catch (error) {
        const shorter = error instanceof TooLargeError ? shorten?.(attempt) : undefined;
        if (shorter === undefined) throw error;
        body = JSON.stringify(shorter);
      }
    }
  }
}
