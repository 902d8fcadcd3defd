/** What the outbox does about brokers that do not answer user properties. On a connection that is written by hand. */
import { deepEqual, equal, match } from "node:assert/strict";
import { Buffer } from "node:buffer";
import type { Packet } from "mqtt";
import type { Connection } from "../../mqtt/connection.ts";
import { Outbox } from "../../mqtt/outbox.ts";
import { VirtualTime } from "../harness/virtual_time.ts";

function connection() {
  const sent: Packet[] = [];
  const seen = { renewed: 0 };
  const one = {
    open: true,
    hasProperties: true,
    sessionPresent: true,
    maximumPacketSize: Infinity,
    publishWindow: 100,
    retains: true,
    write: (packet: Packet) => void sent.push(packet),
    renew: () => void seen.renewed++,
  } as unknown as Connection;
  return { one, sent, seen };
}

const end = { topic: "x", payload: Buffer.from("{}"), qos: 1 as const, retain: false, properties: { id: "1" } };
const propertiesOf = (packets: readonly Packet[]) =>
  packets.map((packet) => packet.cmd === "publish" && packet.properties?.userProperties !== undefined);

Deno.test("a broker that leaves a message with user properties unanswered gets it again without them, and no more", async () => {
  using time = new VirtualTime();
  const troubles: string[] = [];
  const outbox = new Outbox((reason) => troubles.push(reason));
  const [first, second] = [connection(), connection()];
  outbox.attach(first.one);
  const published = outbox.publish(end);
  await time.advance(6_000);
  equal(first.seen.renewed, 1);
  outbox.detach(first.one);
  outbox.attach(second.one);
  outbox.acknowledge((second.sent[0] as { messageId: number }).messageId, 0);
  await published;
  void outbox.publish(end);
  deepEqual([propertiesOf(first.sent), propertiesOf(second.sent)], [[true], [false, false]]);
  equal(troubles.length, 1);
  match(troubles[0]!, /does not answer messages with user properties/);
});

Deno.test("a broker that cuts the connection at user properties twice gets none from then on", async () => {
  using time = new VirtualTime();
  const outbox = new Outbox(() => {});
  const all = [connection(), connection(), connection()];
  void outbox.publish(end);
  for (const { one } of all) {
    outbox.attach(one);
    await time.advance(100);
    outbox.detach(one);
  }
  deepEqual(all.map(({ sent }) => propertiesOf(sent)), [[true], [true], [false]]);
});

Deno.test("a broker that has answered one goes on getting them, however slow it is", async () => {
  using time = new VirtualTime();
  const outbox = new Outbox(() => {});
  const { one, sent, seen } = connection();
  outbox.attach(one);
  void outbox.publish(end);
  outbox.acknowledge((sent[0] as { messageId: number }).messageId, 0);
  void outbox.publish(end);
  await time.advance(60_000);
  deepEqual([propertiesOf(sent), seen.renewed], [[true, true], 0]);
});
