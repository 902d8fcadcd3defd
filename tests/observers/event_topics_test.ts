/** News of runs: told together where many come together, in their order, and none of them holds the core up. */
import { deepEqual, equal } from "node:assert/strict";
import { EventTopics } from "../../observers/event_topics.ts";
import { aRunView, FakeBroker } from "../harness/fakes.ts";
import { eventually } from "../harness/wait.ts";

/** A broker that has not taken anything yet. */
class SlowBroker extends FakeBroker {
  readonly topics: string[] = [];
  readonly #taken = Promise.withResolvers<void>();

  override publish(topic: string): Promise<void> {
    this.topics.push(topic);
    return this.#taken.promise;
  }

  take(): void {
    this.#taken.resolve();
  }
}

function newsBed() {
  const broker = new SlowBroker();
  const topics = new EventTopics({ broker, topicPrefix: "p", signal: new AbortController().signal });
  const created = (runName: string) =>
    topics.emit({ type: "created", run: { ...aRunView(), jobName: "a", runName }, createMs: 1, sinceReceiptMs: 2 });
  return { broker, topics, created };
}

Deno.test("news of runs that begin together leave together, in their order", async () => {
  const { broker, created } = newsBed();
  for (const name of ["a-1", "a-2", "a-3"]) created(name);
  await eventually(() => broker.topics.length === 3);
  deepEqual(broker.topics, ["p/run/a/a-1", "p/run/a/a-2", "p/run/a/a-3"]);
});

Deno.test("an error waits for no news, and what a slow broker does not take is dropped, the oldest first", async () => {
  const { broker, topics, created } = newsBed();
  topics.error({ reason: "Refused", message: "no right" });
  equal(broker.topics[0], "p/ERROR");
  for (let n = 1; n <= 1_200; n++) created(`a-${n}`);
  broker.take();
  await eventually(() => broker.topics.at(-1) === "p/run/a/a-1200");
  equal(broker.topics.length, 1_001);
  equal(broker.topics[1], "p/run/a/a-201");
});
