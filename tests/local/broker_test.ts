/** The local broker: what the conformance suite of the broker port does not ask. */
import { equal } from "node:assert/strict";
import { Buffer } from "node:buffer";
import mqtt from "mqtt";
import { startLocalBroker } from "../../local/broker.ts";

Deno.test("messages of up to 5 MB go through the local broker, and come in order", async () => {
  const broker = await startLocalBroker();
  const [sender, receiver] = await Promise.all([1, 2].map(() => mqtt.connectAsync(broker.url, { protocolVersion: 4 })));
  const sizes = [200_000, 500_000, 1_000_000, 5_000_000, 10];
  const heard: string[] = [];
  const whole = Promise.withResolvers<void>();
  receiver!.on("message", (_, payload) => {
    heard.push(`${payload.length} × ${payload.at(-1)}`);
    if (heard.length === sizes.length) whole.resolve();
  });
  await receiver!.subscribeAsync("large", { qos: 1 });
  for (const [at, size] of sizes.entries()) await sender!.publishAsync("large", Buffer.alloc(size, at), { qos: 1 });
  await whole.promise;
  equal(heard.join(), sizes.map((size, at) => `${size} × ${at}`).join());
  await Promise.all([sender, receiver].map((client) => client!.endAsync()));
  await broker.close();
});
