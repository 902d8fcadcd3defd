/** The real brokers of the harness start, carry a message, and have their port again after a restart. */
import { equal } from "node:assert/strict";
import mqtt from "mqtt";
import { BROKERS } from "./brokers/all.ts";
import { needs } from "./needs.ts";
import { accepts } from "./ports.ts";

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
