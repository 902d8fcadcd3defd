/**
 * Tells ends of groups: on the broker, and to what waits for them. Each once a process, so that two last items, or two
 * reruns, do not tell the same. Decides by marks alone; deletes nothing.
 */
import type { Broker } from "../ports.ts";
import { endProperties } from "../payloads.ts";
import type { RunRecords } from "../records.ts";
import { groupCompleteTopic, groupFailedTopic } from "../topics.ts";
import { endOf, endPayload, type GroupEnd, toldKey } from "./group_end.ts";
import type { GroupHead } from "./manifest.ts";
import { listMarks } from "./marks.ts";

export interface GroupEndsOptions {
  readonly broker: Broker;
  readonly records: RunRecords;
  readonly topicPrefix: string;
  /** Called before the group is marked as done; may be called again after a crash. */
  readonly onEnd: (end: GroupEnd) => Promise<void>;
  readonly signal: AbortSignal;
}

/** Ends that are remembered. */
const MOST_TOLD = 10_000;

export class GroupEnds {
  readonly #options: GroupEndsOptions;
  /** What was told by this process, the oldest first. */
  readonly #told = new Set<string>();
  /** Ends of reruns of groups that have ended, one after the other. */
  readonly #counting = new Map<string, Promise<void>>();

  constructor(options: GroupEndsOptions) {
    this.#options = options;
  }

  /** May be repeated. */
  async tell(end: GroupEnd, head: GroupHead): Promise<void> {
    const { broker, topicPrefix, onEnd, signal } = this.#options;
    const topic = (end.failed === 0 ? groupCompleteTopic : groupFailedTopic)(topicPrefix, head.jobName);
    if (!this.#told.has(toldKey(end))) {
      const payload = endPayload(end, head);
      const { group: name, jobName, traceparent, tracestate } = head;
      const { status, finished_at: finishedAt } = payload;
      const facts = { what: "group", name, status, jobName, finishedAt, traceparent, tracestate } as const;
      await broker.publish(topic, JSON.stringify(payload), { qos: 1, ...endProperties(facts, topicPrefix), signal });
      this.#told.add(toldKey(end));
      const [oldest = ""] = this.#told;
      if (this.#told.size > MOST_TOLD) this.#told.delete(oldest);
    }
    await onEnd(end);
  }

  /** A rerun of an item has succeeded, and its mark is put: tells it if the group, which had failed, is complete by it. */
  async rerunSucceeded(head: GroupHead, runName: string): Promise<void> {
    const { group } = head;
    const before = this.#counting.get(group) ?? Promise.resolve();
    const counting = before.catch(() => {}).then(() => this.#countRerun(head, runName));
    this.#counting.set(group, counting);
    try {
      await counting;
    } finally {
      if (this.#counting.get(group) === counting) this.#counting.delete(group);
    }
  }

  async #countRerun(head: GroupHead, runName: string): Promise<void> {
    const { records, signal } = this.#options;
    const without = await listMarks(records, head, { except: runName, signal });
    if (endOf(head, without).failed === 0 || this.#told.has(head.group)) return;
    const end = endOf(head, await listMarks(records, head, { signal }));
    if (end.failed === 0) await this.tell(end, head);
  }
}
