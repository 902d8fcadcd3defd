/**
 * What peers do wrong without dying, on the real service with real peers: the cases of chaos/faults.ts. Here too: what
 * the broker is told of how much it may send.
 */
import { equal } from "node:assert/strict";
import { MqttBroker } from "../../mqtt.ts";
import { renderTable, runChaos } from "./main.ts";
import { needs } from "../harness/needs.ts";

Deno.test({
  name: "no message is lost and none runs twice when broker, store or API server do wrong",
  ignore: !await needs("mosquitto", "s3", "node"),
  async fn() {
    const results = await runChaos({ extent: "faults" });
    const bad = results.filter(({ lost, doubled, outcome }) => lost > 0 || doubled > 0 || outcome !== "ok");
    equal(bad.length, 0, `\n${renderTable(results)}`);
  },
});

Deno.test("CONNECT tells the broker how many messages it may send unacknowledged (MQTT 5, 3.1.2.11.3)", async () => {
  for (const [receiveMaximum, maxWaiting, told] of [[300, 10_000, 300], [300, 40, 40]] as const) {
    equal(receiveMaximumOf(await connectOf({ receiveMaximum, maxWaiting })), told);
  }
});

/** The CONNECT packet that a client sends. */
async function connectOf(options: { receiveMaximum: number; maxWaiting: number }): Promise<Uint8Array> {
  using listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  const stop = new AbortController();
  const broker = new MqttBroker({ url: `mqtt://127.0.0.1:${listener.addr.port}`, clientId: "c", ...options });
  const connecting = broker.connect({ onConnect() {}, onDelivery() {}, onDisconnect() {} }, stop.signal);
  connecting.catch(() => {});
  const connection = await listener.accept();
  const buffer = new Uint8Array(1_024);
  const size = await connection.read(buffer) ?? 0;
  stop.abort();
  await broker.close();
  connection.close();
  return buffer.slice(0, size);
}

/** The property 0x21 of a CONNECT of MQTT 5; all others of this client have fixed sizes too (MQTT 5, 2.2.2.2). */
function receiveMaximumOf(packet: Uint8Array): number | undefined {
  // One byte for the type, one for the length, ten for protocol, version, flags and keepalive, one for the properties'.
  const sizes: Record<number, number> = { 0x11: 4, 0x17: 1, 0x19: 1, 0x21: 2, 0x22: 2, 0x27: 4 };
  for (let at = 13; at < 13 + packet[12]!; at += 1 + sizes[packet[at]!]!) {
    if (packet[at] === 0x21) return packet[at + 1]! * 256 + packet[at + 2]!;
    if (sizes[packet[at]!] === undefined) return undefined;
  }
  return undefined;
}
