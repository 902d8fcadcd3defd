/** What the observer hears, on a real mosquitto; and that it takes nothing from anybody. */
import { deepEqual, equal, match } from "node:assert/strict";
import { observeTopics } from "../../mqtt/observer.ts";
import { startMosquitto } from "../harness/mosquitto.ts";
import { needs } from "../harness/needs.ts";
import { MqttEar } from "../harness/service.ts";
import { eventually } from "../harness/wait.ts";

const ignore = !await needs("mosquitto");

function observed(url: string, filters: readonly string[]) {
  const stop = new AbortController();
  const [topics, troubles]: [string[], string[]] = [[], []];
  const options = {
    url,
    clientId: "lab",
    filters,
    onTopic: (topic: string) => void topics.push(topic),
    onTrouble: (reason: string) => void troubles.push(reason),
  };
  const over = observeTopics(options, stop.signal);
  return {
    topics,
    troubles,
    async [Symbol.asyncDispose]() {
      stop.abort(new Error("over"));
      await over;
    },
  };
}

Deno.test({
  name: "the observer hears topics, not what the broker had kept, and again after the broker was away",
  ignore,
  async fn() {
    await using broker = await startMosquitto();
    await using ear = await MqttEar.connect(broker.url, []);
    await ear.publish("lab/kept", "old", { retain: true });
    await using seen = await observed(broker.url, ["lab/#"]);
    await eventually(async () => (await ear.publish("lab/a", "x"), seen.topics.includes("lab/a")));
    await ear.publish("other/b", "x");
    await ear.publish("lab/large", "x".repeat(64 * 1024));
    await ear.publish("lab/c", "x");
    await eventually(() => seen.topics.includes("lab/c"));
    deepEqual([...new Set(seen.topics)], ["lab/a", "lab/c"]);
    await broker.stop();
    await broker.start();
    await eventually(async () => (await ear.publish("lab/d", "x"), seen.topics.includes("lab/d")));
  },
});

Deno.test({
  name: "of a flood the observer hears a hundred a second",
  ignore,
  async fn() {
    await using broker = await startMosquitto();
    await using ear = await MqttEar.connect(broker.url, []);
    await using seen = await observed(broker.url, ["lab/#"]);
    await eventually(async () => (await ear.publish("lab/begin", "x"), seen.topics.includes("lab/begin")));
    const beginMs = performance.now();
    await Promise.all(Array.from({ length: 3_000 }, (_, n) => ear.publish(`lab/${n}`, "x")));
    const seconds = Math.ceil((performance.now() - beginMs) / 1_000) + 2;
    equal(seen.topics.length <= seconds * 100, true, `${seen.topics.length} in ${seconds} s`);
  },
});

Deno.test("a broker that cannot be reached is told once", async () => {
  await using seen = await observed("mqtt://127.0.0.1:1", ["lab/#"]);
  await eventually(() => seen.troubles.length > 0);
  match(seen.troubles[0]!, /^Cannot hear of messages on lab\/# \(OBSERVE_TOPICS\): /);
  equal(seen.troubles.length, 1);
});
