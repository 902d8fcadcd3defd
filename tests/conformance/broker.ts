/**
 * What every adapter of the Broker port must do, on a real broker. The broker is reached through a tap that sees the
 * packets' headers and can cut the connection, so that order and number of acknowledgements are observed on the wire.
 */
import { deepEqual, equal, ok, rejects } from "node:assert/strict";
import { Buffer } from "node:buffer";
import mqtt, { type MqttClient } from "mqtt";
import type { Broker, Delivery } from "../../ports.ts";
import { eventually, pause } from "../harness/wait.ts";

/** What a broker or the protocol version cannot do; docs/compatibility.md says of each broker what it lacks. */
export type Lack =
  /** Says for which subscription a copy is. */
  | "filters"
  | "properties"
  | "sessions over restart"
  /** Each overlapping subscription has a copy of its own, which names it alone. Else one copy names all. */
  | "copies"
  /** A redelivery has the packet identifier that it had, and DUP. */
  | "packet identifiers"
  /** Publishes the last will of a client that is back at once. */
  | "will"
  /** Redeliveries come in the order of the first deliveries. */
  | "order"
  /** Sends further messages beside one that is not acknowledged. */
  | "window"
  /** Keeps all that waits for a client which is slow to acknowledge. */
  | "queue"
  /** What was acknowledged just before the connection ended does not come again, nor is lost what the broker acknowledged. */
  | "acknowledgements";

/** Options that the suite gives to the client it tests, in the words of mqtt.ts. */
export interface ClientOptions {
  readonly url: string;
  readonly clientId: string;
  readonly keepaliveSeconds?: number;
  readonly connectTimeoutMs?: number;
  readonly maxWaiting?: number;
  readonly maxWaitingBytes?: number;
  readonly state?: { readonly topic: string };
  readonly backoff: { readonly minMs: number; readonly maxMs: number };
  readonly onTrouble?: (reason: string) => void;
}

export interface BrokerFixture extends AsyncDisposable {
  /** Where the real broker listens, on 127.0.0.1. */
  readonly port: number;
  /** Where nobody is let in without. */
  readonly credentials?: { readonly username: string; readonly password: string };
  /** A new client of the adapter under test, not connected. */
  client(options: ClientOptions): Broker;
  /** Stops the broker and starts it again on its port. */
  restart(): Promise<void>;
  /** Messages of the burst. Default 20,000; fewer where the broker's own memory of them is slow. */
  readonly burst?: number;
  /** Filters that are subscribed at once. Default 10,000; fewer where each costs the broker a queue. */
  readonly filters?: number;
}

/** Registers the suite; the fixture is made once for all of it. */
export function brokerConformance(
  name: string,
  start: () => Promise<BrokerFixture>,
  { lacks = [], ignore = false }: { lacks?: readonly Lack[]; ignore?: boolean } = {},
): void {
  Deno.test({
    name: `Broker: ${name}`,
    ignore,
    async fn(t) {
      await using fixture = await start();
      for (const { title, needs, run } of BROKER_CASES) {
        const ignore = needs.some((need) => lacks.includes(need));
        const isGood = await t.step({ name: title, ignore, fn: () => run(fixture, lacks) });
        // The broker may be gone by it, and the next would wait for that without end.
        if (!isGood && !ignore) break;
      }
    },
  });
}

/** What is asked of a broker's client, case by case. */
export interface BrokerCase {
  readonly title: string;
  /** It is left out on a broker that lacks one of these. */
  readonly needs: readonly Lack[];
  run(fixture: BrokerFixture, lacks: readonly Lack[]): Promise<void>;
}

type Case = readonly [title: string, body: (bench: Bench) => Promise<void>, needs: readonly Lack[]];

// ---------------------------------------------------------------- the cases

const CASES: readonly Case[] = [
  ["connect() resolves at the first CONNACK and tells of a new session", async (bench) => {
    const client = await bench.connect("new");
    equal(client.broker.connected, true);
    deepEqual(client.sessions, [false]);
  }, []],

  ["connect() rejects when the signal aborts and nothing listens", async (bench) => {
    const tap = bench.tap();
    tap.refuse();
    const broker = bench.make("aborted", { url: tap.url });
    const reasons: string[] = [];
    const events = { onConnect() {}, onDelivery() {}, onDisconnect: (reason: string) => void reasons.push(reason) };
    const stop = new AbortController();
    const connecting = broker.connect(events, stop.signal);
    await eventually(() => reasons.length >= 2);
    stop.abort(new Error("enough"));
    await rejects(connecting, /enough/);
    equal(broker.connected, false);
  }, []],

  ["a message comes with its topic, bytes and flags", async (bench) => {
    const client = await bench.connect("bytes", [`${bench.id}/#`]);
    const binary = Uint8Array.from([0, 255, 128, 36, 40]);
    await client.broker.publish(`${bench.id}/é/日本`, binary);
    await client.broker.publish(`${bench.id}/empty`, "");
    const [first, second] = await client.received(2);
    equal(first!.topic, `${bench.id}/é/日本`);
    deepEqual(first!.payload, binary);
    deepEqual([first!.qos, first!.retain, first!.dup], [1, false, false]);
    ok(first!.packetId! > 0);
    equal(second!.payload.length, 0);
  }, []],

  ["PUBACKs leave in the order of receipt, whatever the order of the work", async (bench) => {
    const tap = bench.tap();
    const client = await bench.queued("order", ["0", "1", "2", "3", "4", "5"], { url: tap.url });
    const deliveries = await client.received(6);
    const ids = deliveries.map((delivery) => delivery.packetId!);
    const order = [3, 1, 5, 2];
    for (const n of order) deliveries[n]!.done();
    await client.broker.publish(`other/${bench.id}`, "a round trip");
    deepEqual(tap.acknowledged, [], "nothing may pass the first, which is not done");
    deliveries[0]!.done();
    await eventually(() => tap.acknowledged.length === 4);
    deliveries[4]!.done();
    await eventually(() => tap.acknowledged.length === 6);
    deepEqual(tap.acknowledged, ids);
  }, ["queue", "window"]],

  ["done() twice acknowledges once", async (bench) => {
    const tap = bench.tap();
    const client = await bench.queued("twice", ["a", "b"], { url: tap.url });
    const [first, second] = await client.received(2);
    first!.done();
    first!.done();
    second!.done();
    second!.done();
    await client.broker.publish(`other/${bench.id}`, "a round trip");
    deepEqual(tap.acknowledged, [first!.packetId, second!.packetId]);
  }, ["queue", "window"]],

  ["what was not done comes again after the connection broke, as the same packet with DUP", async (bench) => {
    const tap = bench.tap();
    const client = await bench.queued("again", ["a", "b", "c"], { url: tap.url });
    const [a, b, c] = await client.received(3);
    a!.done();
    await eventually(() => tap.acknowledged.length === 1);
    // The broker has it, too.
    await client.broker.publish(`other/${bench.id}`, "a round trip");
    tap.cut();
    const again = await client.received(5);
    deepEqual(client.sessions, [true, true]);
    const redelivered = again.slice(3).map(text);
    deepEqual(bench.lacks.includes("order") ? redelivered.sort() : redelivered, ["b", "c"]);
    if (!bench.lacks.includes("packet identifiers")) {
      deepEqual(again.slice(3).map(({ packetId }) => packetId), [b!.packetId, c!.packetId]);
      ok(again.slice(3).every(({ dup }) => dup));
    }
    // Acknowledgements of the connection that broke are void: they could be taken for another message's.
    b!.done();
    c!.done();
    await client.broker.publish(`other/${bench.id}`, "a round trip");
    equal(tap.acknowledged.length, 1);
  }, ["queue", "window"]],

  ["nothing that was done comes again", async (bench) => {
    const tap = bench.tap();
    const client = await bench.connect("once", [`${bench.id}/#`], { url: tap.url });
    for (let n = 0; n < 50; n++) await bench.publisher.publish(`${bench.id}/x`, String(n));
    await client.received(50);
    await eventually(() => tap.acknowledged.length === 50);
    tap.cut();
    await eventually(() => client.sessions.length === 2 && client.broker.connected);
    await bench.publisher.publish(`${bench.id}/x`, "last");
    equal(text((await client.received(51))[50]!), "last");
  }, ["acknowledgements"]],

  ["messages wait in the session while the client is away", async (bench) => {
    const first = await bench.connect("away", [`${bench.id}/#`]);
    await first.broker.close();
    for (const payload of ["a", "b"]) await bench.publisher.publish(`${bench.id}/x`, payload);
    const second = await bench.connect("away", [`${bench.id}/#`]);
    deepEqual(second.sessions, [true]);
    deepEqual((await second.received(2)).map(text), ["a", "b"]);
  }, ["queue"]],

  ["messages of a resumed session wait until somebody says what is subscribed", async (bench) => {
    const first = await bench.connect("early", [`${bench.id}/+`]);
    await first.broker.close();
    await bench.publisher.publish(`${bench.id}/x`, "early");
    const second = await bench.connect("early");
    await second.broker.publish(`other/${bench.id}`, "a round trip");
    equal(second.deliveries.length, 0);
    await second.broker.subscribe(new Set([`${bench.id}/+`]));
    const [delivery] = await second.received(1);
    ok(delivery!.filters === undefined || delivery!.filters[0] === `${bench.id}/+`);
  }, ["queue"]],

  ["each overlapping filter has its copy", async (bench) => {
    const filters = [`${bench.id}/+`, `${bench.id}/b`, `${bench.id}/#`, `+/b`];
    const client = await bench.connect("overlap", filters);
    await bench.publisher.publish(`${bench.id}/b`, "one");
    await bench.publisher.publish(`${bench.id}/c`, "two");
    await client.received((deliveries) => deliveries.some((delivery) => text(delivery) === "two"));
    await client.broker.publish(`${bench.id}/end`, "end");
    await client.received((deliveries) => deliveries.some((delivery) => text(delivery) === "end"));
    const of = (payload: string) =>
      client.deliveries.filter((delivery) => text(delivery) === payload).flatMap((delivery) => delivery.filters!);
    deepEqual(of("one").sort(), [...filters].sort());
    deepEqual(of("two").sort(), [`${bench.id}/#`, `${bench.id}/+`].sort());
  }, ["filters"]],

  ["without subscription identifiers a delivery names no filter", async (bench) => {
    const client = await bench.connect("plain", [`${bench.id}/+`]);
    await bench.publisher.publish(`${bench.id}/b`, "one");
    const [delivery] = await client.received(1);
    equal(delivery!.filters === undefined, bench.lacks.includes("filters"));
  }, []],

  ["a queued copy for a filter that is wanted no more is nobody's", async (bench) => {
    const first = await bench.connect("gone", [`${bench.id}/+`, `${bench.id}/b`]);
    await first.broker.close();
    await bench.publisher.publish(`${bench.id}/b`, "late");
    const second = await bench.connect("gone");
    await second.broker.subscribe(new Set([`${bench.id}/+`]));
    const deliveries = await second.received(2);
    deepEqual(deliveries.map(({ filters }) => filters!.length).sort(), [0, 1]);
  }, ["filters", "copies"]],

  ["subscribe() sends the difference only", async (bench) => {
    const tap = bench.tap();
    const client = await bench.connect("difference", ["x/a", "x/b"].map((end) => `${bench.id}/${end}`), {
      url: tap.url,
    });
    const before = [tap.subscribed, tap.unsubscribed];
    await client.broker.subscribe(new Set(["x/b", "x/c"].map((end) => `${bench.id}/${end}`)));
    deepEqual([tap.subscribed, tap.unsubscribed], [before[0]! + 1, before[1]! + 1]);
    await client.broker.subscribe(new Set(["x/b", "x/c"].map((end) => `${bench.id}/${end}`)));
    deepEqual([tap.subscribed, tap.unsubscribed], [before[0]! + 1, before[1]! + 1]);
    for (const end of ["a", "b", "c"]) await bench.publisher.publish(`${bench.id}/x/${end}`, end);
    deepEqual((await client.received(2)).map(text), ["b", "c"]);
  }, []],

  ["subscribe() waits for a connection, and is kept over a reconnect", async (bench) => {
    const tap = bench.tap();
    const broker = bench.make("waits", { url: tap.url });
    const granted = broker.subscribe(new Set([`${bench.id}/#`]));
    const client = await bench.open(broker);
    await granted;
    const before = tap.subscribed;
    tap.cut();
    await eventually(() => client.sessions.length === 2 && tap.subscribed > before);
    await bench.publisher.publish(`${bench.id}/x`, "after");
    await client.received((deliveries) => deliveries.some((delivery) => text(delivery) === "after"));
  }, []],

  ["subscribe() stops waiting when its signal aborts", async (bench) => {
    const broker = bench.make("impatient", {});
    const stop = new AbortController();
    const waiting = broker.subscribe(new Set(["x"]), stop.signal);
    stop.abort(new Error("enough"));
    await rejects(waiting, /enough/);
  }, []],

  ["thousands of filters are subscribed", async (bench) => {
    const { filters: count = 10_000 } = bench.fixture;
    const client = await bench.connect("many");
    const filters = new Set(Array.from({ length: count }, (_, n) => `${bench.id}/${n}/+`));
    await client.broker.subscribe(filters);
    await bench.publisher.publish(`${bench.id}/${count - 1}/x`, "found");
    await client.received(1);
    await client.broker.subscribe(new Set());
  }, []],

  ["reconnect() keeps the session: what was not done comes again, what was done does not", async (bench) => {
    const client = await bench.queued("renewed", ["a", "b"], {});
    const [a] = await client.received(2);
    a!.done();
    client.broker.reconnect();
    const [, , again] = await client.received(3);
    deepEqual([text(again!), client.sessions], ["b", [true, true]]);
  }, ["queue", "acknowledgements", "window"]],

  ["publish() loses nothing while the connection is cut again and again", async (bench) => {
    const observer = await bench.connect("observer", [`${bench.id}/#`]);
    const tap = bench.tap();
    const client = await bench.connect("sender", [], { url: tap.url });
    let settled = 0;
    const all = Array.from({ length: 600 }, (_, n) => {
      const sent = client.broker.publish(`${bench.id}/x`, String(n));
      return sent.then(() => void settled++);
    });
    // A case that fails before leaves them open.
    for (const sent of all) sent.catch(() => {});
    for (const after of [1, 200, 400]) {
      await eventually(() => settled >= after, { intervalMs: 1 });
      tap.cut();
    }
    await Promise.all(all);
    const seen = new Set(
      (await observer.received((deliveries) => new Set(deliveries.map(text)).size === 600)).map(text),
    );
    equal(seen.size, 600);
  }, ["acknowledgements"]],

  ["publish() goes on over a restart of the broker", async (bench) => {
    const client = await bench.connect("restart");
    await bench.fixture.restart();
    await client.broker.publish(`${bench.id}/x`, "over the restart");
    equal(client.broker.connected, true);
    ok(client.reasons.length > 0);
  }, []],

  ["a session outlives a restart of the broker, with what it had not delivered", async (bench) => {
    const client = await bench.connect("durable", [`${bench.id}/#`], { done: false });
    await bench.publisher.publish(`${bench.id}/x`, "kept");
    const [before] = await client.received(1);
    await bench.fixture.restart();
    const [, after] = await client.received(2);
    equal(text(after!), "kept");
    if (!bench.lacks.includes("packet identifiers")) deepEqual([after!.dup, after!.packetId], [true, before!.packetId]);
    equal(client.sessions.at(-1), true);
  }, ["sessions over restart"]],

  ["publish() rejects when its signal aborts, and sends nothing later", async (bench) => {
    const observer = await bench.connect("quiet", [`${bench.id}/#`]);
    const broker = bench.make("aborts", {});
    const stop = new AbortController();
    const waiting = broker.publish(`${bench.id}/x`, "never", { signal: stop.signal });
    stop.abort(new Error("enough"));
    await rejects(waiting, /enough/);
    const client = await bench.open(broker);
    await client.broker.publish(`${bench.id}/x`, "later");
    deepEqual((await observer.received(1)).map(text), ["later"]);
  }, []],

  ["publish() with QoS 0 and with retain reach the other side so", async (bench) => {
    const client = await bench.connect("flags", [`${bench.id}/#`]);
    await client.broker.publish(`${bench.id}/zero`, "zero", { qos: 0 });
    const [zero] = await client.received(1);
    deepEqual([zero!.qos, zero!.packetId], [0, undefined]);
    zero!.done();
    await client.broker.publish(`${bench.id}/kept`, "kept", { retain: true });
    equal((await client.received(2))[1]!.retain, false, "a live message is not a retained one");
    await client.broker.publish(`${bench.id}/kept`, "", { retain: true });
  }, []],

  ["an idempotency key arrives", async (bench) => {
    const client = await bench.connect("key", [`${bench.id}/#`]);
    const publisher = await bench.plainClient();
    try {
      const properties = { userProperties: { "idempotency-key": "k 1" } };
      await publisher.publishAsync(`${bench.id}/x`, "", { qos: 1, properties });
      equal((await client.received(1))[0]!.idempotencyKey, "k 1");
    } finally {
      await publisher.endAsync(true);
    }
  }, ["properties"]],

  ["where the answer is wanted arrives with what it is known by, and goes out with the answer", async (bench) => {
    const client = await bench.connect("asked", [`${bench.id}/#`]);
    const asker = await bench.plainClient();
    try {
      const heard = Promise.withResolvers<unknown>();
      asker.on("message", (_topic, _payload, { properties }) => heard.resolve(properties));
      const responseTopic = `answers/${bench.id}`;
      await asker.subscribeAsync(responseTopic, { qos: 1 });
      const correlationData = Buffer.from([1, 0, 255]);
      await asker.publishAsync(`${bench.id}/x`, "", { qos: 1, properties: { responseTopic, correlationData } });
      const [asked] = await client.received(1);
      deepEqual([asked!.responseTopic, asked!.correlationData], [responseTopic, new Uint8Array([1, 0, 255])]);
      await client.broker.publish(responseTopic, "{}", { correlationData: asked!.correlationData! });
      deepEqual([...(await heard.promise as { correlationData: Buffer }).correlationData], [1, 0, 255]);
    } finally {
      await asker.endAsync(true);
    }
  }, ["properties"]],

  ["what is published with properties arrives, and a trace context is told where it is one", async (bench) => {
    const client = await bench.connect("traced", [`${bench.id}/#`]);
    const traceparent = "00-11112222333344445555666677778888-1111222233334444-01";
    const more = { contentType: "application/json" };
    await client.broker.publish(`${bench.id}/a`, "{}", {
      properties: { traceparent, tracestate: "a=1", id: "1" },
      ...more,
    });
    await client.broker.publish(`${bench.id}/b`, "{}", { properties: { traceparent: "00-1-2-3", tracestate: "a=1" } });
    if (bench.lacks.includes("properties")) return; // Both were acknowledged: such a broker gets none.
    const contexts = (await client.received(2)).map(({ traceparent, tracestate }) => [traceparent, tracestate]);
    deepEqual(contexts, [[traceparent, "a=1"], [undefined, undefined]]);
  }, []],

  ["user properties and a content type are on the wire", async (bench) => {
    const ear = await bench.plainClient();
    try {
      const heard = Promise.withResolvers<unknown>();
      ear.on("message", (_topic, _payload, { properties }) => heard.resolve(properties));
      await ear.subscribeAsync(`${bench.id}/x`, { qos: 1 });
      const { broker } = await bench.connect("sender");
      const properties = { id: "run-1/succeeded", subject: "sort spikes é" };
      await broker.publish(`${bench.id}/x`, "{}", { properties, contentType: "application/json" });
      const { userProperties, contentType } = await heard.promise as { userProperties: object; contentType: string };
      deepEqual([{ ...userProperties }, contentType], [properties, "application/json"]);
    } finally {
      await ear.endAsync(true);
    }
  }, ["properties"]],

  ["the state topic says online, offline by the last will, and offline at close()", async (bench) => {
    const topic = `${bench.id}/state`;
    const observer = await bench.connect("watcher", [topic]);
    const tap = bench.tap();
    const client = await bench.connect("lives", [], { url: tap.url, state: { topic } });
    deepEqual((await observer.received(1)).map(text), ["online"]);
    tap.cut();
    deepEqual((await observer.received(3)).map(text), ["online", "offline", "online"]);
    await client.broker.close();
    equal(text((await observer.received(4))[3]!), "offline");
    equal(observer.deliveries.length, 4);
    equal(client.broker.connected, false);
  }, ["will"]],

  ["after pause() nothing is handed over; it comes in the next session", async (bench) => {
    const first = await bench.connect("paused", [`${bench.id}/#`], { done: false });
    await bench.publisher.publish(`${bench.id}/x`, "before");
    const [before] = await first.received(1);
    first.broker.pause();
    await bench.publisher.publish(`${bench.id}/x`, "after");
    before!.done();
    await first.broker.publish(`other/${bench.id}`, "a round trip");
    await first.broker.close();
    equal(first.deliveries.length, 1);
    const second = await bench.connect("paused", [`${bench.id}/#`]);
    const come = (await second.received((deliveries) => deliveries.some((one) => text(one) === "after"))).map(text);
    // Such a broker may send the one that is done once more.
    deepEqual(bench.lacks.includes("acknowledgements") ? come.filter((one) => one !== "before") : come, ["after"]);
  }, []],

  ["more messages than may wait are left with the broker and fetched when there is room", async (bench) => {
    const client = await bench.connect("bounded", [`${bench.id}/#`], { done: false, maxWaiting: 100 });
    await Promise.all(Array.from({ length: 1_000 }, (_, n) => bench.publisher.publish(`${bench.id}/x`, String(n))));
    const seen = new Set<string>();
    let most = 0;
    await eventually(async () => {
      const batch = client.take();
      most = Math.max(most, batch.length);
      for (const delivery of batch) seen.add(text(delivery));
      // Publishing goes on meanwhile: what waits may need it to get on.
      if (batch.length > 0) await client.broker.publish(`other/${bench.id}`, "x");
      for (const delivery of batch) delivery.done();
      return seen.size === 1_000;
    }, { intervalMs: 5, what: () => `1,000 messages (${seen.size} came)` });
    ok(most <= 100, `${most} were held at once`);
    ok(client.reasons.every((reason) => reason.includes("More messages waited")), client.reasons.join("\n"));
  }, ["queue"]],

  ["a message that is not done for long holds up those after it, and none is lost or doubled", async (bench) => {
    const client = await bench.queued("stuck", Array.from({ length: 200 }, (_, n) => String(n)), { maxWaiting: 50 });
    const seen: string[] = [];
    let stuck: Delivery | undefined;
    const work = () => {
      for (const delivery of client.take()) {
        seen.push(text(delivery));
        if (stuck) delivery.done();
        stuck ??= delivery;
      }
    };
    await eventually(() => {
      work();
      return seen.length > 1;
    }, { intervalMs: 5 });
    stuck!.done();
    await eventually(() => {
      work();
      return new Set(seen).size === 200;
    }, { intervalMs: 5, what: () => `200 messages (${new Set(seen).size} came)` });
    equal(seen.length, 200);
  }, ["queue", "window"]],

  ["a bound in bytes lets one large message through", async (bench) => {
    const client = await bench.connect("large", [`${bench.id}/#`], { done: false, maxWaitingBytes: 1_000 });
    await bench.publisher.publish(`${bench.id}/x`, new Uint8Array(5_000));
    const [large] = await client.received(1);
    equal(large!.payload.length, 5_000);
    await bench.publisher.publish(`${bench.id}/x`, "small");
    await client.broker.publish(`other/${bench.id}`, "a round trip");
    equal(client.deliveries.length, 1);
    large!.done();
    equal(text((await client.received(2))[1]!), "small");
  }, ["acknowledgements"]],

  ["keepalive holds while a burst of messages waits", async (bench) => {
    const { burst = 20_000 } = bench.fixture;
    // A machine that stalls for less than half as long again is no silence of the client's.
    const keepaliveSeconds = 8;
    const client = await bench.connect("busy", [`${bench.id}/#`], {
      done: false,
      maxWaiting: burst,
      keepaliveSeconds,
    });
    const payload = "x".repeat(50);
    await Promise.all(Array.from({ length: burst }, (_, n) => bench.publisher.publish(`${bench.id}/${n}`, payload)));
    // Nothing is acknowledged for longer than the broker waits for a PINGREQ (1.5 × keepalive) [MQTT-3.1.2-22].
    await pause(keepaliveSeconds * 1_500 + 1_000);
    deepEqual(client.reasons, []);
    const topics = new Set<string>();
    await eventually(() => {
      for (const delivery of client.take()) {
        topics.add(delivery.topic);
        delivery.done();
      }
      return topics.size === burst;
    }, { intervalMs: 5, what: () => `${burst} messages (${topics.size} came)` });
    deepEqual(client.reasons, []);
  }, []],

  ["close() leaves the session and can be called twice", async (bench) => {
    const client = await bench.connect("closes", [`${bench.id}/#`]);
    await client.broker.close();
    await client.broker.close();
    await rejects(client.broker.publish("x", "y"), /closed/);
    deepEqual(client.reasons, []);
    deepEqual((await bench.connect("closes")).sessions, [true]);
  }, []],
];

/** The suite as data, for who runs it outside of `deno test`. */
export const BROKER_CASES: readonly BrokerCase[] = CASES.map(([title, body, needs]) => ({
  title,
  needs,
  async run(fixture, lacks) {
    await using bench = new Bench(fixture, lacks);
    await body(bench);
  },
}));

// ---------------------------------------------------------------- the bench

interface OpenOptions extends Partial<ClientOptions> {
  /** Whether deliveries are acknowledged at once. Default true. */
  readonly done?: boolean;
}

/** A connected client with what came to it. */
class Client {
  readonly deliveries: Delivery[] = [];
  readonly sessions: boolean[] = [];
  readonly reasons: string[] = [];

  constructor(readonly broker: Broker) {}

  /** Waits until so many came, or until what came satisfies; returns all. */
  async received(wanted: number | ((deliveries: readonly Delivery[]) => boolean)): Promise<Delivery[]> {
    const enough = typeof wanted === "number" ? () => this.deliveries.length >= wanted : () => wanted(this.deliveries);
    await eventually(enough, {
      intervalMs: 5,
      what: () => `deliveries (${this.deliveries.length} came; ${this.reasons.join("; ")})`,
    });
    return this.deliveries;
  }

  /** What came since the last call. */
  take(): Delivery[] {
    return this.deliveries.splice(0);
  }
}

/** The clients and taps of one case, with topics of its own. */
export class Bench implements AsyncDisposable {
  readonly id = `t${crypto.randomUUID().slice(0, 8)}`;
  readonly #brokers: Broker[] = [];
  readonly #taps: Tap[] = [];
  #publisher: Broker | undefined;

  constructor(readonly fixture: BrokerFixture, readonly lacks: readonly Lack[] = []) {}

  /** A client to publish with; it connects at its first message. */
  get publisher(): Broker {
    if (this.#publisher) return this.#publisher;
    this.#publisher = this.make("publisher", {});
    this.open(this.#publisher).catch(() => {});
    return this.#publisher;
  }

  tap(): Tap {
    const tap = new Tap(this.fixture.port);
    this.#taps.push(tap);
    return tap;
  }

  /** A client that is not the adapter's, of MQTT 5. */
  plainClient(): Promise<MqttClient> {
    const { port, credentials = {} } = this.fixture;
    return mqtt.connectAsync({ protocol: "mqtt", host: "127.0.0.1", port, protocolVersion: 5, ...credentials });
  }

  make(name: string, options: Partial<ClientOptions>): Broker {
    const url = `mqtt://127.0.0.1:${this.fixture.port}`;
    const backoff = { minMs: 10, maxMs: 100 };
    // A broker that is late on a machine that stalls is not one that does not answer.
    const connectTimeoutMs = 60_000;
    const broker = this.fixture.client({ url, clientId: `${this.id}-${name}`, backoff, connectTimeoutMs, ...options });
    this.#brokers.push(broker);
    return broker;
  }

  async open(broker: Broker, { done = true }: { done?: boolean } = {}): Promise<Client> {
    const client = new Client(broker);
    await broker.connect({
      onConnect: ({ sessionPresent }) => void client.sessions.push(sessionPresent),
      onDelivery(delivery) {
        client.deliveries.push(delivery);
        if (done) delivery.done();
      },
      onDisconnect: (reason) => void client.reasons.push(reason),
    });
    return client;
  }

  async connect(
    name: string,
    filters: readonly string[] = [],
    { done = true, ...options }: OpenOptions = {},
  ): Promise<Client> {
    const client = await this.open(this.make(name, options), { done });
    if (filters.length > 0) await client.broker.subscribe(new Set(filters));
    return client;
  }

  /**
   * A client to which these payloads come at once and stay open: a broker may send nothing new beside an unacknowledged
   * message (HiveMQ), but all that waits in a session.
   */
  async queued(name: string, payloads: readonly string[], options: Partial<ClientOptions>): Promise<Client> {
    const filters = [`${this.id}/#`];
    await (await this.connect(name, filters)).broker.close();
    for (const payload of payloads) await this.publisher.publish(`${this.id}/x`, payload);
    return await this.connect(name, filters, { ...options, done: false });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.all(this.#brokers.map((broker) => broker.close()));
    for (const tap of this.#taps) tap.close();
  }
}

export function text({ payload }: Delivery): string {
  return new TextDecoder().decode(payload);
}

// ---------------------------------------------------------------- the tap

/** A TCP proxy on loopback that reads along what the client sends, and can cut or refuse connections. */
export class Tap {
  readonly url: string;
  /** Packet identifiers of the PUBACKs that the client sent, over all connections. */
  readonly acknowledged: number[] = [];
  /** Identifier, DUP flag and QoS of the client's PUBLISHes. */
  readonly published: { packetId: number; dup: boolean; qos: number }[] = [];
  subscribed = 0;
  unsubscribed = 0;
  readonly #listener: Deno.TcpListener;
  readonly #open = new Set<Deno.TcpConn>();
  #refusing = false;

  constructor(port: number) {
    this.#listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
    this.url = `mqtt://127.0.0.1:${this.#listener.addr.port}`;
    this.#accept(port);
  }

  /** Breaks all connections without a word. */
  cut(): void {
    for (const connection of this.#open) closeQuietly(connection);
    this.#open.clear();
  }

  /** From now on connections are closed at once. */
  refuse(): void {
    this.#refusing = true;
  }

  close(): void {
    this.#listener.close();
    this.cut();
  }

  async #accept(port: number): Promise<void> {
    for await (const client of this.#listener) {
      const server = this.#refusing ? undefined : await Deno.connect({ hostname: "127.0.0.1", port }).catch(() => {});
      if (!server) {
        closeQuietly(client);
        continue;
      }
      client.setNoDelay(true);
      server.setNoDelay(true);
      this.#open.add(client).add(server);
      const parser = new HeaderParser((type, flags, body) => this.#see(type, flags, body));
      this.#pump(client, server, (bytes) => parser.push(bytes));
      this.#pump(server, client, () => {});
    }
  }

  async #pump(from: Deno.TcpConn, to: Deno.TcpConn, see: (bytes: Uint8Array) => void): Promise<void> {
    try {
      for await (const bytes of from.readable) {
        see(bytes);
        for (let written = 0; written < bytes.length;) written += await to.write(bytes.subarray(written));
      }
    } catch {
      // Cut.
    }
    closeQuietly(from);
    closeQuietly(to);
    this.#open.delete(from);
    this.#open.delete(to);
  }

  #see(type: number, flags: number, body: Uint8Array): void {
    const number = (at: number) => (body[at]! << 8) | body[at + 1]!;
    if (type === 4) this.acknowledged.push(number(0));
    if (type === 8) this.subscribed++;
    if (type === 10) this.unsubscribed++;
    const qos = (flags >> 1) & 3;
    if (type === 3 && qos > 0) {
      this.published.push({ packetId: number(2 + number(0)), dup: (flags & 8) !== 0, qos });
    }
  }
}

/** Splits a stream of bytes into MQTT control packets (MQTT 5, section 2.1). */
class HeaderParser {
  #rest = new Uint8Array();

  constructor(readonly onPacket: (type: number, flags: number, body: Uint8Array) => void) {}

  push(bytes: Uint8Array): void {
    let data = this.#rest.length === 0 ? bytes : concat(this.#rest, bytes);
    while (true) {
      let length = 0;
      let at = 1;
      do {
        if (at >= data.length) return this.#keep(data);
        length += (data[at]! & 127) * 128 ** (at - 1);
      } while (data[at++]! & 128);
      if (data.length < at + length) return this.#keep(data);
      this.onPacket(data[0]! >> 4, data[0]! & 15, data.subarray(at, at + length));
      data = data.subarray(at + length);
    }
  }

  #keep(data: Uint8Array): void {
    this.#rest = data.slice();
  }
}

function concat(a: Uint8Array, b: Uint8Array): Uint8Array<ArrayBuffer> {
  const whole = new Uint8Array(a.length + b.length);
  whole.set(a);
  whole.set(b, a.length);
  return whole;
}

function closeQuietly(connection: Deno.TcpConn): void {
  try {
    connection.close();
  } catch {
    // Closed already.
  }
}
