/** MqttBroker on mosquitto (MQTT 5 and 3.1.1) and on the local broker: the conformance suite, and what is its own. */
import { deepEqual, equal, match, ok, rejects, throws } from "node:assert/strict";
import mqtt from "mqtt";
import { startLocalBroker } from "../local/broker.ts";
import { MqttBroker, type MqttOptions } from "../mqtt.ts";
import { Identifiers } from "../mqtt/identifiers.ts";
import { RefusedError } from "../ports.ts";
import { Bench, brokerConformance, text } from "./conformance/broker.ts";
import { startMosquitto } from "./harness/mosquitto.ts";
import { freePort } from "./harness/ports.ts";
import { needs } from "./harness/needs.ts";
import { eventually } from "./harness/wait.ts";

const noMosquitto = !await needs("mosquitto");
const noTls = !await needs("mosquitto", "openssl");

// ---------------------------------------------------------------- conformance

for (const protocolVersion of [5, 4] as const) {
  const name = `MqttBroker on mosquitto, MQTT ${protocolVersion === 5 ? "5" : "3.1.1"}`;
  brokerConformance(name, async () => {
    const mosquitto = await startMosquitto({ persistence: "on-stop", maxQueuedMessages: 0 });
    return {
      port: mosquitto.port,
      client: (options) => new MqttBroker({ ...options, protocolVersion }),
      restart: () => mosquitto.restart(),
      [Symbol.asyncDispose]: () => mosquitto[Symbol.asyncDispose](),
    };
  }, { ignore: noMosquitto, lacks: protocolVersion === 5 ? [] : ["filters", "properties"] });
}

brokerConformance("MqttBroker on the local broker", async () => {
  // Not one of the system's choice: that could be taken by an outgoing connection while the broker restarts.
  const port = freePort();
  let broker = await startLocalBroker({ port });
  return {
    port,
    // aedes looks through its array of unacknowledged messages for each PUBACK.
    burst: 3_000,
    client: (options) => new MqttBroker({ ...options, protocolVersion: 4 }),
    async restart() {
      await broker.close();
      broker = await startLocalBroker({ port });
    },
    [Symbol.asyncDispose]: () => broker.close(),
  };
}, { lacks: ["filters", "properties", "sessions over restart"] });

// ---------------------------------------------------------------- what is refused, in plain words

/** The first sentence that onDisconnect hears. */
async function errorMessage(options: Partial<MqttOptions> & { url: string }): Promise<string> {
  const broker = new MqttBroker({ clientId: "reason", backoff: { minMs: 10, maxMs: 50 }, ...options });
  const { promise, resolve } = Promise.withResolvers<string>();
  broker.connect({ onConnect() {}, onDelivery() {}, onDisconnect: resolve }).catch(() => {});
  const reason = await promise;
  await broker.close();
  return reason;
}

Deno.test("a connection that is refused says where and names MQTT_URL", async () => {
  const port = freePort();
  match(
    await errorMessage({ url: `mqtt://127.0.0.1:${port}` }),
    new RegExp(`127.0.0.1:${port}: connection refused.*MQTT_URL`),
  );
});

Deno.test("a host name that does not exist is named", async () => {
  match(
    await errorMessage({ url: "mqtt://no-such-host.invalid" }),
    /host name is not known.*no-such-host.invalid.*MQTT_URL/,
  );
});

Deno.test({
  name: "a wrong password is said with the user's name and without the password",
  ignore: noMosquitto,
  async fn() {
    await using mosquitto = await startMosquitto({ users: { ada: "right" } });
    const reason = await errorMessage({ url: `mqtt://ada:wr%40ng@127.0.0.1:${mosquitto.port}` });
    match(reason, /user "ada".*MQTT_USERNAME and MQTT_PASSWORD/);
    ok(!reason.includes("wr"), reason);
    match(await errorMessage({ url: mosquitto.url, protocolVersion: 4 }), /without a user/);
    const broker = new MqttBroker({ url: mosquitto.url, clientId: "c", username: "ada", password: "right" });
    await broker.connect({ onConnect() {}, onDelivery() {}, onDisconnect() {} });
    await broker.close();
  },
});

Deno.test("a broker without MQTT 5 makes the message name MQTT_VERSION", async () => {
  const broker = await startLocalBroker();
  match(await errorMessage({ url: broker.url }), /does not support MQTT 5: set MQTT_VERSION=4/);
  await broker.close();
});

Deno.test({
  name: "TLS with a client certificate connects; an unknown authority and a missing certificate are told apart",
  ignore: noTls,
  async fn() {
    await using mosquitto = await startMosquitto({ tls: "mutual" });
    const authority = mosquitto.authority!;
    const { cert, key } = await authority.client("listener");
    const broker = new MqttBroker({ url: mosquitto.url, clientId: "tls", tls: { ca: authority.ca, cert, key } });
    await broker.connect({ onConnect() {}, onDelivery() {}, onDisconnect() {} });
    await broker.publish("x", "over TLS");
    await broker.close();
    match(await errorMessage({ url: mosquitto.url }), /No secure connection.*self-signed certificate.*MQTT_CA_FILE/);
    match(await errorMessage({ url: mosquitto.url, tls: { ca: authority.ca } }), /MQTT_CERT_FILE and MQTT_KEY_FILE/);
    const plain = `mqtt://127.0.0.1:${mosquitto.port}`;
    match(await errorMessage({ url: plain, connectTimeoutMs: 500 }), /mqtts:\/\/ is the secure one/);
    match(await errorMessage({ url: mosquitto.url, tls: { ca: "nonsense" } }), /MQTT_CA_FILE/);
  },
});

Deno.test({
  name: "subscribe() rejects with the refused filters by name and keeps the others",
  ignore: noMosquitto,
  async fn() {
    // A file of rules makes mosquitto 2.0 grant every SUBSCRIBE and withhold the messages, so it cannot show this.
    const server = await scriptedBroker((packet) =>
      packet[0] === 0x82 ? [0x90, 4, packet.at(2)!, packet[3]!, 0, packet.includes(0x7e) ? 0x87 : 1] : undefined
    );
    const broker = new MqttBroker({ url: server.url, clientId: "c", username: "ada" });
    await broker.connect({ onConnect() {}, onDelivery() {}, onDisconnect() {} });
    const refusal = broker.subscribe(new Set(["a/ok", "a/no~"]));
    await rejects(refusal, (error: Error) => {
      ok(error instanceof RefusedError);
      equal(
        error.message,
        `Broker refused the subscription to "a/no~" (not authorized): ask its administrator to allow user "ada" to read there`,
      );
      return true;
    });
    await broker.close();
    server.close();
  },
});

Deno.test({
  name: "publish() rejects with RefusedError where the broker forbids the topic",
  ignore: noMosquitto,
  async fn() {
    await using mosquitto = await startMosquitto({ acl: ["topic read #", "topic write allowed/#"] });
    const broker = new MqttBroker({ url: mosquitto.url, clientId: "c" });
    await broker.connect({ onConnect() {}, onDelivery() {}, onDisconnect() {} });
    await broker.publish("allowed/x", "");
    await rejects(broker.publish("forbidden/x", ""), (error: Error) => {
      ok(error instanceof RefusedError);
      equal(error.message, 'Broker refused the message for "forbidden/x": not authorized');
      return true;
    });
    await broker.close();
  },
});

Deno.test("a takeover is told apart, and the reconnect waits longer than after a mere loss", async () => {
  const server = await scriptedBroker(() => undefined, { afterConnack: [0xe0, 2, 0x8e, 0] });
  const reasons: string[] = [];
  let lostAt = Infinity;
  const broker = new MqttBroker({ url: server.url, clientId: "listener", backoff: { minMs: 1, maxMs: 400 } });
  await broker.connect({
    onConnect() {},
    onDelivery() {},
    onDisconnect(reason) {
      lostAt = Math.min(lostAt, performance.now());
      reasons.push(reason);
    },
  });
  await eventually(() => reasons.length === 1, { intervalMs: 5 });
  match(reasons[0]!, /another client connected with the client id "listener".*MQTT_CLIENT_ID/);
  const before = server.connections();
  await eventually(() => server.connections() > before, { intervalMs: 5 });
  // Real time is the subject; a busy machine only makes it longer.
  ok(performance.now() - lostAt >= 350, "a lost connection would be back within 1 ms");
  await broker.close();
  server.close();
});

Deno.test({
  name: "instances that throw each other out are suspected though mosquitto gives no reason",
  ignore: noMosquitto,
  async fn() {
    await using mosquitto = await startMosquitto();
    const reasons: string[] = [];
    const events = { onConnect() {}, onDelivery() {}, onDisconnect: (reason: string) => void reasons.push(reason) };
    const backoff = { minMs: 5, maxMs: 50 };
    const brokers = [1, 2].map(() => new MqttBroker({ url: mosquitto.url, clientId: "same", backoff }));
    for (const broker of brokers) await broker.connect(events);
    await eventually(() =>
      reasons.some((reason) => reason.includes('does another instance use the client id "same"?'))
    );
    for (const broker of brokers) await broker.close();
  },
});

// ---------------------------------------------------------------- the wire

Deno.test({
  name: "MQTT.js 5.16 still has the packet writer that acknowledgements go through",
  fn() {
    const client = mqtt.connect({ protocol: "mqtt", host: "127.0.0.1", manualConnect: true, reconnectPeriod: 0 });
    equal(typeof client["_writePacket"], "function");
    equal(client["_writePacket"].length, 2);
  },
});

Deno.test({
  name: "publications go out again with their packet identifiers and DUP [MQTT-4.4.0-1]",
  ignore: noMosquitto,
  async fn() {
    // Acknowledges nothing on its first connection.
    const server = await scriptedBroker(
      (packet, connection) => packet[0]! >> 4 === 3 && connection > 1 ? pubackFor(packet) : undefined,
      { sessionPresent: (connection) => connection > 1 },
    );
    const broker = new MqttBroker({ url: server.url, clientId: "c", backoff: { minMs: 1, maxMs: 5 } });
    await broker.connect({ onConnect() {}, onDelivery() {}, onDisconnect() {} });
    const both = Promise.all([broker.publish("x", "a"), broker.publish("x", "b")]);
    await eventually(() => server.publishes.length === 2, { intervalMs: 5 });
    server.cut();
    await both;
    deepEqual(server.publishes.map(({ dup }) => dup), [false, false, true, true]);
    const ids = server.publishes.map(({ packetId }) => packetId);
    deepEqual(ids.slice(2), ids.slice(0, 2));
    await broker.close();
    server.close();
  },
});

Deno.test({
  name: "publish() keeps to the broker's Receive Maximum [MQTT-3.3.4-7]",
  async fn() {
    const held: number[][] = [];
    const server = await scriptedBroker((packet) => {
      if (packet[0]! >> 4 === 3) held.push(pubackFor(packet));
      return undefined;
    }, { receiveMaximum: 2 });
    const broker = new MqttBroker({ url: server.url, clientId: "c" });
    await broker.connect({ onConnect() {}, onDelivery() {}, onDisconnect() {} });
    const all = Promise.all(["a", "b", "c", "d"].map((payload) => broker.publish("x", payload)));
    await eventually(() => held.length === 2, { intervalMs: 5 });
    server.send(held[0]!);
    await eventually(() => held.length === 3, { intervalMs: 5 });
    server.send(held[1]!);
    server.send(held[2]!);
    await eventually(() => held.length === 4, { intervalMs: 5 });
    server.send(held[3]!);
    await all;
    await broker.close();
    server.close();
  },
});

Deno.test({
  name: "a message of QoS 2 arrives once, with QoS 1, since that is what we subscribe with",
  ignore: noMosquitto,
  async fn() {
    await using mosquitto = await startMosquitto();
    await using bench = new Bench({
      port: mosquitto.port,
      client: (options) => new MqttBroker(options),
      restart: () => mosquitto.restart(),
      [Symbol.asyncDispose]: () => Promise.resolve(),
    });
    const client = await bench.connect("qos", ["x/#"]);
    const publisher = await mqtt.connectAsync({ protocol: "mqtt", host: "127.0.0.1", port: mosquitto.port });
    await publisher.publishAsync("x/a", "two", { qos: 2 });
    await publisher.publishAsync("x/a", "end", { qos: 2 });
    await publisher.endAsync();
    deepEqual((await client.received(2)).map((delivery) => [text(delivery), delivery.qos]), [["two", 1], ["end", 1]]);
  },
});

Deno.test({
  name: "a session that another program made with QoS 2 is answered by PUBREC once the work is done",
  ignore: noMosquitto,
  async fn() {
    await using mosquitto = await startMosquitto();
    const at = { protocol: "mqtt" as const, host: "127.0.0.1", port: mosquitto.port, clientId: "old", clean: false };
    const properties = { sessionExpiryInterval: 100 };
    const old = await mqtt.connectAsync({ ...at, protocolVersion: 5, properties });
    await old.subscribeAsync("x/#", { qos: 2 });
    await old.endAsync();
    const publisher = await mqtt.connectAsync({ ...at, clientId: "publisher" });
    await publisher.publishAsync("x/a", "exactly once", { qos: 2 });
    await using bench = new Bench({
      port: mosquitto.port,
      client: (options) => new MqttBroker({ ...options, clientId: "old" }),
      restart: () => mosquitto.restart(),
      [Symbol.asyncDispose]: () => Promise.resolve(),
    });
    const first = await bench.connect("old", ["x/#"], { done: false });
    const [delivery] = await first.received(1);
    equal(delivery!.qos, 2);
    delivery!.done();
    await first.broker.publish("y", "a round trip");
    await first.broker.close();
    const second = await bench.connect("old", ["x/#"]);
    await publisher.publishAsync("x/a", "next", { qos: 1 });
    deepEqual((await second.received(1)).map(text), ["next"]);
    await publisher.endAsync();
  },
});

// ---------------------------------------------------------------- pure parts

Deno.test("the URL that people see has no credentials", () => {
  equal(new MqttBroker({ url: "mqtts://u:p%40ss@host:8883/", clientId: "c" }).url, "mqtts://host:8883");
});

Deno.test("an URL that cannot be a broker's is refused without showing its password", () => {
  for (const url of ["http://u:secret@host", "mqtt://", "u:secret@host", "host:1883"]) {
    throws(() => new MqttBroker({ url, clientId: "c" }), (error: Error) => {
      match(error.message, /^Invalid broker URL: write a URL that begins with mqtt:\/\/ /);
      ok(!error.message.includes("secret"), error.message);
      return true;
    });
  }
});

Deno.test("Identifiers map each filter to its own number, the same for the same set in any order", () => {
  const filters = Array.from({ length: 60_000 }, (_, n) => `lab/${n}/+`);
  const one = new Identifiers(new Set(filters));
  const other = new Identifiers(new Set(filters.toReversed()));
  const numbers = new Set<number>();
  for (const filter of filters) {
    const identifier = one.of(filter)!;
    ok(identifier >= 1 && identifier <= 268_435_455);
    equal(other.of(filter), identifier);
    deepEqual(one.filtersOf([identifier]), [filter]);
    numbers.add(identifier);
  }
  equal(numbers.size, filters.length);
});

// ---------------------------------------------------------------- a broker of our own

interface Scripted {
  readonly url: string;
  readonly publishes: { packetId: number; dup: boolean }[];
  connections(): number;
  send(bytes: number[]): void;
  cut(): void;
  close(): void;
}

/** Answers CONNECT with MQTT 5's CONNACK and each other packet as told; for what real brokers do too rarely to wait for. */
async function scriptedBroker(
  answer: (packet: Uint8Array, connection: number) => number[] | undefined,
  { afterConnack = [], receiveMaximum, sessionPresent = () => false }: {
    afterConnack?: number[];
    receiveMaximum?: number;
    sessionPresent?: (connection: number) => boolean;
  } = {},
): Promise<Scripted> {
  const listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  const publishes: Scripted["publishes"] = [];
  let connections = 0;
  let current: Deno.TcpConn | undefined;
  const send = (bytes: number[]) => void current?.write(Uint8Array.from(bytes)).catch(() => {});
  const properties = receiveMaximum === undefined ? [0] : [3, 0x21, receiveMaximum >> 8, receiveMaximum & 255];
  (async () => {
    for await (const connection of listener) {
      current = connection;
      const number = ++connections;
      (async () => {
        for await (const bytes of connection.readable) {
          for (const packet of split(bytes)) {
            const type = packet[0]! >> 4;
            if (type === 1) {
              const connack = [0, properties.length + 2, Number(sessionPresent(number)), 0, ...properties];
              send([0x20, ...connack.slice(1), ...afterConnack]);
            }
            if (type === 3) publishes.push({ packetId: packetIdOf(packet), dup: (packet[0]! & 8) !== 0 });
            if (type === 14) return connection.close();
            const reply = answer(packet, number);
            if (reply) send(reply);
          }
        }
      })().catch(() => {});
    }
  })().catch(() => {});
  const { port } = listener.addr;
  return await Promise.resolve({
    url: `mqtt://127.0.0.1:${port}`,
    publishes,
    connections: () => connections,
    send,
    cut: () => current?.close(),
    close() {
      listener.close();
      try {
        current?.close();
      } catch {
        // Closed already.
      }
    },
  });
}

/** Control packets shorter than 128 bytes, whole in one read. */
function split(bytes: Uint8Array): Uint8Array[] {
  const packets: Uint8Array[] = [];
  for (let at = 0; at < bytes.length; at += 2 + bytes[at + 1]!) packets.push(bytes.slice(at, at + 2 + bytes[at + 1]!));
  return packets;
}

function packetIdOf(publish: Uint8Array): number {
  const at = 4 + ((publish[2]! << 8) | publish[3]!);
  return (publish[at]! << 8) | publish[at + 1]!;
}

function pubackFor(publish: Uint8Array): number[] {
  const packetId = packetIdOf(publish);
  return [0x40, 2, packetId >> 8, packetId & 255];
}
