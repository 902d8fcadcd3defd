/** MqttBroker on brokers with narrow terms: filters a packet, no retained messages, short sessions, small packets. */
import { deepEqual, equal, match, ok, rejects } from "node:assert/strict";
import { MqttBroker, type MqttOptions } from "../../mqtt.ts";
import type { Table } from "../../catalog.ts";
import { EventTopics } from "../../observers/event_topics.ts";
import { type Delivery, RefusedError, TooLargeError } from "../../ports.ts";
import { uncovered } from "../../topics.ts";
import { startStrictBroker, type StrictBroker } from "../harness/brokers/strict.ts";
import { timersBegun } from "../harness/timers.ts";
import { eventually } from "../harness/wait.ts";

/** A connected client with what it hears. */
class Client implements AsyncDisposable {
  readonly troubles: string[] = [];
  readonly reasons: string[] = [];
  readonly deliveries: Delivery[] = [];
  readonly broker: MqttBroker;

  constructor(server: StrictBroker, options: Partial<MqttOptions> = {}) {
    this.broker = new MqttBroker({
      url: server.url,
      clientId: "c",
      backoff: { minMs: 1, maxMs: 5 },
      onTrouble: (reason) => void this.troubles.push(reason),
      ...options,
    });
  }

  async connect(signal?: AbortSignal): Promise<this> {
    await this.broker.connect({
      onConnect() {},
      onDelivery: (delivery) => {
        this.deliveries.push(delivery);
        delivery.done();
      },
      onDisconnect: (reason) => void this.reasons.push(reason),
    }, signal);
    return this;
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.broker.close();
  }
}

for (const protocolVersion of [5, 4] as const) {
  Deno.test(`a broker that takes eight filters a packet gets no more, MQTT ${protocolVersion}`, async () => {
    await using server = await startStrictBroker({ filtersPerPacket: 8, noSubscriptionIdentifiers: true });
    await using client = await new Client(server, { protocolVersion }).connect();
    const filters = Array.from({ length: 50 }, (_, n) => `lab/${n}`);
    await client.broker.subscribe(new Set(filters));
    await client.broker.subscribe(new Set(filters.slice(0, 20)));
    equal(server.sent("subscribe").flatMap(({ subscriptions }) => subscriptions).length, 50);
    equal(server.sent("unsubscribe").flatMap(({ unsubscriptions }) => unsubscriptions).length, 30);
    equal(server.connections, 1);
  });
}

Deno.test("filters that are refused because of another one in their packet are asked for by themselves", async () => {
  const refuses = (filter: string) => filter.includes(" ") ? 0x80 : undefined;
  await using server = await startStrictBroker({ refuses });
  await using client = await new Client(server, { protocolVersion: 4 }).connect();
  const filters = Array.from({ length: 30 }, (_, n) => n === 9 ? "lab/a b" : `lab/${n}`);
  await rejects(client.broker.subscribe(new Set(filters)), (error: Error) => {
    ok(error instanceof RefusedError);
    match(error.message, /^Broker refused the subscription to "lab\/a b" \(no reason given\): ask /);
    return true;
  });
  deepEqual([...client.broker.refused], [["lab/a b", "no reason given"]]);
  server.publish("lab/29", "x");
  await eventually(() => client.deliveries.length === 1, { intervalMs: 5 });
});

Deno.test("where a filter that covers others is refused, the others are subscribed", async () => {
  await using server = await startStrictBroker({ refuses: (filter) => filter.endsWith("#") ? 0x80 : undefined });
  await using client = await new Client(server, { protocolVersion: 4, reduce: uncovered }).connect();
  await rejects(client.broker.subscribe(new Set(["lab/#", "lab/a"])), /"lab\/#"/);
  deepEqual([...client.broker.refused.keys()], ["lab/#"]);
  server.publish("lab/a", "x");
  await eventually(() => client.deliveries.length === 1, { intervalMs: 5 });
});

Deno.test("a refused filter is tried again, and nobody hears the same refusal twice", async () => {
  await using server = await startStrictBroker({ refuses: () => 0x97 });
  await using client = await new Client(server).connect();
  await rejects(
    client.broker.subscribe(new Set(["lab/a"])),
    /"lab\/a" \(quota exceeded\): the broker's quota is used up/,
  );
  await eventually(() => server.sent("subscribe").length >= 2);
  server.terms = {};
  await eventually(() => client.broker.refused.size === 0);
  deepEqual(client.troubles, []);
});

Deno.test("a packet identifier that the broker says is in use is no refusal: another one is taken", async () => {
  let asked = 0;
  await using server = await startStrictBroker({ refuses: () => ++asked <= 3 ? 0x91 : undefined });
  await using client = await new Client(server).connect();
  await client.broker.subscribe(new Set(["lab/a"]));
  const ids = server.sent("subscribe").map(({ messageId }) => messageId);
  equal(ids.length, 4);
  equal(new Set(ids).size, 4);
  deepEqual([...client.broker.refused], []);
});

Deno.test("a broker without retained messages refuses the last will once, then all goes on without them", async () => {
  await using server = await startStrictBroker({ noRetain: true });
  await using client = new Client(server, { state: { topic: "lab/state" } });
  await client.connect();
  await client.broker.publish("lab/table", "x", { retain: true });
  const connects = server.sent("connect");
  deepEqual(connects.map(({ will }) => will?.retain), [true, false]);
  ok(server.sent("publish").every(({ retain }) => !retain));
  equal(server.connections, 2);
  equal(client.troubles.filter((trouble) => /keeps no retained messages/.test(trouble)).length, 1);
  match(client.reasons.join(), /^Broker mqtt:.* keeps no retained messages: .*: connecting again without$/);
});

Deno.test("a broker that only says so by ending the connection at a retained message gets no second one", async () => {
  await using server = await startStrictBroker({ refusal: () => undefined });
  await using client = await new Client(server).connect();
  server.terms = { noRetain: true, silent: true };
  await client.broker.publish("lab/table", "x", { retain: true });
  deepEqual(server.sent("publish").map(({ retain }) => retain), [true, false]);
});

Deno.test("a session that the broker keeps for less long is said once", async () => {
  await using server = await startStrictBroker({ sessionExpirySeconds: 3600 });
  await using client = await new Client(server).connect();
  server.cut();
  await eventually(() => server.connections === 2 && client.broker.connected, { intervalMs: 5 });
  deepEqual(client.troubles, [
    "The broker keeps the session for 3600 s without this service, not 604800 s as MQTT_SESSION_EXPIRY asks: " +
    "messages are lost when the service is away for longer",
  ]);
});

Deno.test("the broker is told the largest packet", async () => {
  await using server = await startStrictBroker();
  await using _ = await new Client(server, { maximumPacketSize: 5_000 }).connect();
  equal(server.sent("connect")[0]!.properties!.maximumPacketSize, 5_000);
});

for (const protocolVersion of [5, 4] as const) {
  Deno.test(`a message beyond the limit is acknowledged and said, and the next one comes, MQTT ${protocolVersion}`, async () => {
    await using server = await startStrictBroker();
    await using client = await new Client(server, { protocolVersion, maximumPacketSize: 5_000 }).connect();
    await client.broker.subscribe(new Set(["lab/a"]));
    server.publish("lab/a", "before");
    for (const qos of [0, 1] as const) server.publish("lab/a", new Uint8Array(20_000), { qos });
    server.publish("lab/a", new Uint8Array(4_000));
    await eventually(() => client.deliveries.length === 2, { intervalMs: 5 });
    deepEqual(client.deliveries.map(({ payload }) => payload.length), [6, 4_000]);
    await eventually(() => server.sent("puback").length === 3, { intervalMs: 5 });
    equal(client.troubles.length, 2);
    match(
      client.troubles[0]!,
      /^A message of 200\d\d bytes on "lab\/a" started nothing: at most 5000 bytes are taken \(MQTT_/,
    );
    deepEqual(client.reasons, []);
  });
}

Deno.test("messages that come in many chunks at once are handed on, and acknowledged, in their order", async () => {
  await using server = await startStrictBroker();
  await using client = await new Client(server).connect();
  await client.broker.subscribe(new Set(["lab/a"]));
  const ids = Array.from({ length: 20_000 }, (_, n) => n + 1);
  const topic = new TextEncoder().encode("lab/a");
  // Of 64 KB each: MQTT.js has the next chunk when it has handled the last packet of one.
  server.send(Uint8Array.from(ids.flatMap((id) => [0x32, 10, 0, 5, ...topic, id >> 8, id & 255, 0])));
  await eventually(() => client.deliveries.length === ids.length, { intervalMs: 5 });
  deepEqual(client.deliveries.map(({ packetId }) => packetId), ids);
  await eventually(() => server.sent("puback").length === ids.length, { intervalMs: 5 });
  deepEqual(server.sent("puback").map(({ messageId }) => messageId), ids);
});

Deno.test("10,000 answers to pings that nobody sent begin no timers", async () => {
  await using server = await startStrictBroker();
  await using client = await new Client(server).connect();
  await client.broker.subscribe(new Set(["lab/a"]));
  const before = timersBegun();
  server.send(Uint8Array.from({ length: 20_000 }, (_, at) => at % 2 === 0 ? 0xd0 : 0));
  server.publish("lab/a", "after");
  await eventually(() => client.deliveries.length === 1, { intervalMs: 5 });
  // Those of waiting and of the sockets are a few.
  const begun = timersBegun() - before;
  ok(begun < 5_000, `${begun} timers`);
});

Deno.test("four messages of 250 MB pass by, and none is kept", async () => {
  await using server = await startStrictBroker();
  await using client = await new Client(server, { protocolVersion: 4 }).connect();
  await client.broker.subscribe(new Set(["lab/a"]));
  const length = 250_000_000;
  const header = [0x32];
  for (let rest = length; rest > 0; rest = Math.floor(rest / 128)) header.push(rest % 128 | (rest >= 128 ? 128 : 0));
  const before = Deno.memoryUsage().rss;
  const chunk = new Uint8Array(1_000_000);
  let most = 0;
  for (const packetId of [6, 7, 8, 9]) {
    server.send(Uint8Array.from([...header, 0, 5, ...new TextEncoder().encode("lab/a"), 0, packetId]));
    for (let left = length - 9; left > 0; left -= chunk.length) {
      server.send(chunk.subarray(0, left));
      // As fast as it is read.
      await eventually(() => server.pending === 0, { intervalMs: 1 });
      most = Math.max(most, Deno.memoryUsage().rss);
    }
  }
  server.publish("lab/a", "after");
  await eventually(() => client.deliveries.length === 1, { intervalMs: 5 });
  await eventually(() => server.sent("puback").length === 5, { intervalMs: 5 });
  deepEqual(server.sent("puback").map(({ messageId }) => messageId), [6, 7, 8, 9, 1]);
  // 300 MB would wait for the garbage collector if they were not freed; MQTT.js would have held 500 MB at the first.
  ok(most - before < 100_000_000, `${most - before} bytes more`);
});

Deno.test("a broker's own words and the server it names are in the reason, cut and without what is not seen", async () => {
  const reasonString = `no seats left\u001b[31m\u202e${"x".repeat(10_000)}`;
  await using server = await startStrictBroker({
    refusal: () => ({ code: 0x9c, reasonString, serverReference: "other.example:1883" }),
  });
  const client = new Client(server);
  const over = new AbortController();
  const connecting = client.connect(over.signal).catch(() => {});
  const [reason] = await eventually(() => client.reasons.length > 0 && client.reasons, { intervalMs: 5 });
  match(reason!, /broker says: no seats left�\[31m�x+…\).*names another server for MQTT_URL: other\.example:1883/);
  ok(reason!.length < 500);
  over.abort();
  await connecting;
});

Deno.test("the words of a DISCONNECT are in the reason", async () => {
  await using server = await startStrictBroker();
  await using client = await new Client(server).connect();
  server.disconnect({ code: 0x8b, reasonString: "back at noon" });
  await eventually(() => client.reasons.length === 1, { intervalMs: 5 });
  match(client.reasons[0]!, /server shutting down \(the broker says: back at noon\)/);
});

Deno.test("credentials are asked for again at each connection", async () => {
  const passwords = ["old", "old", "new"];
  await using server = await startStrictBroker({
    refusal: ({ password }) => String(password) === "new" ? undefined : { code: 0x87 },
  });
  const renew = () => Promise.resolve({ username: "ada", password: passwords.shift() ?? "new" });
  await using client = await new Client(server, { password: "first", renew }).connect();
  deepEqual(server.sent("connect").map(({ password }) => String(password)), ["old", "old", "new"]);
  ok(client.reasons.every((reason) => !reason.includes("old")));
});

Deno.test("an idempotency key of absurd length is none, and a topic of 65,000 characters is a topic", async () => {
  await using server = await startStrictBroker();
  await using client = await new Client(server).connect();
  await client.broker.subscribe(new Set(["#"]));
  const topic = "a/".repeat(32_000);
  server.publish(topic, "", { properties: { userProperties: { "idempotency-key": "k".repeat(60_000) } } });
  server.publish("b", "", { properties: { userProperties: { "idempotency-key": "k".repeat(1_024) } } });
  await eventually(() => client.deliveries.length === 2, { intervalMs: 5 });
  deepEqual(client.deliveries.map(({ topic, idempotencyKey }) => [topic.length, idempotencyKey?.length]), [
    [64_000, undefined],
    [1, 1_024],
  ]);
});

for (const copies of ["one", "all name all"] as const) {
  Deno.test(`a message of overlapping filters is handed over once for all, copies: ${copies}`, async () => {
    await using server = await startStrictBroker({ copies });
    await using client = await new Client(server, { state: { topic: "own/state" } }).connect();
    await client.broker.subscribe(new Set(["lab/+", "lab/a", "lab/#", "other"]));
    const start = client.deliveries.length;
    // Equal messages are as many messages.
    for (const payload of ["x", "x", "y"]) server.publish("lab/a", payload);
    server.publish("other", "z");
    await eventually(() => client.deliveries.length === start + 4, { intervalMs: 5 });
    // Another one shows that no further copy of those before it is on its way.
    server.publish("lab/a", "end");
    await eventually(() => client.deliveries.some(({ payload }) => payload.length === 3), { intervalMs: 5 });
    const seen = client.deliveries.slice(start).map(({ payload, filters }) =>
      `${new TextDecoder().decode(payload)}: ${[...filters!].sort()}`
    );
    deepEqual(seen.sort(), [
      "end: lab/#,lab/+,lab/a",
      "x: lab/#,lab/+,lab/a",
      "x: lab/#,lab/+,lab/a",
      "y: lab/#,lab/+,lab/a",
      "z: other",
    ]);
    // Every copy is acknowledged.
    const sentIds = server.handed;
    await eventually(() => server.sent("puback").length === sentIds, { intervalMs: 5 });
    deepEqual(client.reasons, []);
  });
}

Deno.test("copies that were not acknowledged come again after a cut and are one message", async () => {
  await using server = await startStrictBroker({ copies: "all name all" });
  const held: Delivery[] = [];
  const broker = new MqttBroker({
    url: server.url,
    clientId: "c",
    backoff: { minMs: 1, maxMs: 5 },
    state: { topic: "own/s" },
  });
  await broker.connect({ onConnect() {}, onDelivery: (delivery) => void held.push(delivery), onDisconnect() {} });
  await broker.subscribe(new Set(["lab/+", "lab/a"]));
  server.publish("lab/a", "x");
  await eventually(() => held.length === 1, { intervalMs: 5 });
  server.cut();
  await eventually(() => server.connections === 2 && broker.connected, { intervalMs: 5 });
  const before = server.sent("puback").length;
  server.publish("lab/a", "x", { dup: true });
  await eventually(() => held.length === 2, { intervalMs: 5 });
  held[0]!.done();
  held[1]!.done();
  await eventually(() => server.sent("puback").length === before + 2, { intervalMs: 5 });
  await broker.close();
});

Deno.test("an own message that is too large is refused by its size; what the broker takes goes on", async () => {
  await using server = await startStrictBroker({ maximumPacketSize: 1_000 });
  await using client = await new Client(server).connect();
  await rejects(client.broker.publish("lab/table", "x".repeat(2_000), { retain: true }), (error: Error) => {
    ok(error instanceof TooLargeError);
    equal(
      error.message,
      `Broker refused the message for "lab/table" of 2018 bytes: more than the broker's Maximum Packet Size 1000`,
    );
    return true;
  });
  await client.broker.publish("lab/x", "small");
  equal(server.connections, 1);
});

Deno.test("a retained message at which an old broker ends the connection is given up, the others arrive", async () => {
  await using server = await startStrictBroker({ maximumPacketSize: 1_000 });
  await using client = await new Client(server, { protocolVersion: 4 }).connect();
  const small = client.broker.publish("lab/x", "small");
  await rejects(client.broker.publish("lab/table", "x".repeat(2_000), { retain: true }), TooLargeError);
  await small;
  await client.broker.publish("lab/y", "later");
});

Deno.test("an end at which an old broker ends the connection goes back to its sender, whose log names its size", async () => {
  await using server = await startStrictBroker({ maximumPacketSize: 8_192 });
  await using client = await new Client(server, { protocolVersion: 4 }).connect();
  await rejects(client.broker.publish("lab/job_complete/a", "x".repeat(9_000)), TooLargeError);
  await client.broker.publish("lab/job_complete/b", "later");
  const said = client.reasons.find((reason) => reason.includes("3 times in a row"))!;
  match(said, /3 times in a row .* a message of 9027 bytes for "lab\/job_complete\/a" was under way: does the broker/);
});

Deno.test("a small message is sent again however often the connection ends", async () => {
  await using server = await startStrictBroker();
  await using client = await new Client(server, { protocolVersion: 4 }).connect();
  server.terms = { maximumPacketSize: 100 };
  const published = client.broker.publish("lab/x", "x".repeat(1_000));
  await eventually(() => server.connections > 6, { intervalMs: 5 });
  server.terms = {};
  await published;
  ok(client.reasons.every((words) => !words.includes("bytes")), client.reasons.join("\n"));
});

Deno.test("a table that is too large for the broker is published in part", async () => {
  await using server = await startStrictBroker({ maximumPacketSize: 10_000 });
  await using client = await new Client(server).connect();
  const topics = new EventTopics({ broker: client.broker, topicPrefix: "lab", signal: new AbortController().signal });
  const rows = Array.from({ length: 500 }, (_, n) => ({ jobName: `row${n}`, mqttTopic: `lab/${n}`, image: "busybox" }));
  topics.table({ rows, problems: [] } as unknown as Table);
  const [table] = await eventually(() => server.sent("publish").length > 0 && server.sent("publish"), {
    intervalMs: 5,
  });
  const told = JSON.parse(String(table!.payload));
  deepEqual([table!.topic, told.rows], ["lab/table", 500]);
  ok(told.shown.length > 50 && told.shown.length < 500, String(told.shown.length));
});
