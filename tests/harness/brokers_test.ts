/** The real brokers of the harness start, carry a message, and have their port again after a restart. */
import { deepEqual, equal } from "node:assert/strict";
import mqtt from "mqtt";
import { BROKERS } from "./brokers/all.ts";
import { startHiveMq } from "./brokers/java.ts";
import { needs } from "./needs.ts";
import { accepts } from "./ports.ts";
import { MqttEar } from "./service.ts";
import { eventually } from "./wait.ts";

for (const { name, part, protocolVersion, start } of BROKERS) {
  Deno.test({
    name: `${name} carries a message, also after it was killed, and leaves nothing`,
    ignore: !await needs(part),
    async fn() {
      let port: number;
      {
        await using broker = await start();
        port = broker.port;
        for (const death of ["none", "kill9"]) {
          if (death === "kill9") {
            await broker.kill9();
            await broker.start();
          }
          const client = await mqtt.connectAsync(broker.url, { protocolVersion, reconnectPeriod: 0 });
          const message = new Promise<string>((resolve) => client.on("message", (_, bytes) => resolve(String(bytes))));
          await client.subscribeAsync("a/+", { qos: 1 });
          await client.publishAsync("a/b", death, { qos: 1 });
          equal(await message, death);
          await client.endAsync();
        }
      }
      equal(await accepts(port), false);
    },
  });
}

Deno.test({
  name: "an ear that publishes many messages at once keeps to what HiveMQ takes, so that none is sent twice",
  ignore: !await needs("hivemq"),
  async fn() {
    await using broker = await startHiveMq();
    await using ear = await MqttEar.connect(broker.url, ["a/b"]);
    const numbers = Array.from({ length: 50 }, (_, n) => String(n));
    await Promise.all(numbers.map((n) => ear.publish("a/b", n)));
    await ear.publish("a/b", "last");
    await eventually(() => ear.heard.some(({ text }) => text === "last"));
    deepEqual(ear.heard.map(({ text }) => text), [...numbers, "last"]);
  },
});
