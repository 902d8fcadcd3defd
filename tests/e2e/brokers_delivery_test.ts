/**
 * Messages that are all alike on real brokers, which number and mark what they send each in its own way: none is lost
 * when the service is killed with runs in flight, or is started and stopped again and again. None is doubled on a broker
 * that gives packet identifiers in order; elsewhere at most what was acknowledged in the moment of the kill.
 */
import { deepEqual, equal, ok } from "node:assert/strict";
import mqtt from "mqtt";
import { steps } from "../harness/at_once.ts";
import { type BrokerKind, BROKERS, type RealBroker } from "../harness/brokers/all.ts";
import { JobWatch } from "../harness/job_watch.ts";
import { type Kit, startKit } from "../harness/kit.ts";
import { startMosquitto } from "../harness/mosquitto.ts";
import { needs, type Part } from "../harness/needs.ts";
import { startService } from "../harness/service.ts";
import { csv } from "../harness/table.ts";
import { eventually, pause } from "../harness/wait.ts";

/** `EQUAL_MESSAGES=180` for long. */
const MESSAGES = Number(Deno.env.get("EQUAL_MESSAGES") ?? 60);
/** Most that a broker has under way, and so most that one kill can leave in doubt. */
const WINDOW = 10;
type Broker = Pick<RealBroker, "url">;

interface Kind extends Pick<BrokerKind, "name" | "protocolVersion"> {
  readonly part: Part;
  readonly start: () => Promise<Broker & AsyncDisposable>;
}

const KINDS: readonly Kind[] = [
  { name: "mosquitto", part: "mosquitto", protocolVersion: 5, start: () => startMosquitto() },
  ...BROKERS.filter(({ part }) => ["hivemq", "artemis", "mochi", "rabbitmq"].includes(part)),
];

const ready = await needs("mosquitto", "s3", "cluster");
let kit: Kit;

Deno.test.beforeAll(async () => {
  if (ready) kit = await startKit({ cluster: { node: "none" } });
});

Deno.test.afterAll(async () => {
  await kit?.[Symbol.asyncDispose]();
});

/** A service on the broker with one row, whose Jobs are counted, and a publisher of equal messages. */
async function startStage(broker: Broker, id: string, protocolVersion: 5 | 4) {
  const env: Record<string, string> = {
    ...kit.env(`services/${id}`),
    MQTT_URL: broker.url,
    MQTT_VERSION: String(protocolVersion),
    // Artemis 2.40 sends nothing more to a session whose window was full when its connection was lost. mochi 2.7.9 forgets
    // what it held back for a full window as soon as it is sent, and never counts its acknowledgement: it sends less and
    // less, and then nothing (server.go, NextImmediate).
    ...(/artemis$|mochi$/.test(id) ? {} : { MQTT_RECEIVE_MAXIMUM: String(WINDOW) }),
  };
  await kit.s3.put(
    env["CATALOG_URL"]!,
    csv([{ job_name: id, image: "busybox:lab", mqtt_topic: `${id}/in`, command: "true" }]),
  );
  const jobs = await JobWatch.start(kit.cluster.api);
  const publisher = await mqtt.connectAsync(broker.url, { protocolVersion, clientId: `publisher-${id}` });
  return {
    start: () => startService(env),
    publish: () => publisher.publishAsync(`${id}/in`, '{"same":true}', { qos: 1 }),
    created: () => jobs.created(id).length,
    until: (count: number, log: () => Promise<string>) =>
      eventually(() => jobs.created(id).length >= count, {
        timeoutMs: 120_000 + 1_000 * MESSAGES,
        what: async () => `${count} Jobs, there are ${jobs.created(id).length}; the service says:\n${await log()}`,
      }),
    async [Symbol.asyncDispose]() {
      await publisher.endAsync();
      await jobs[Symbol.asyncDispose]();
    },
  };
}

async function isKilled({ part, protocolVersion }: Kind, broker: Broker): Promise<void> {
  await using stage = await startStage(broker, `kill-${part}`, protocolVersion);
  {
    await using service = await stage.start();
    const sending = (async () => {
      for (let n = 0; n < MESSAGES; n++) {
        await stage.publish();
        await pause(5);
      }
    })();
    await stage.until(MESSAGES / 3, () => service.logTail());
    await service.kill9();
    await sending;
  }
  await using service = await stage.start();
  await stage.until(MESSAGES, () => service.logTail());
  // One that is told apart last: nothing of before is under way any more when it has run and the broker has been left.
  await stage.publish();
  await stage.until(MESSAGES + 1, () => service.logTail());
  await service.stop();
  const doubled = stage.created() - MESSAGES - 1;
  if (Deno.env.has("EQUAL_MESSAGES")) {
    console.log(`${part}: of ${MESSAGES} equal messages and a kill none was lost, ${doubled} ran twice`);
  }
  if (part === "mosquitto") equal(doubled, 0);
  else ok(doubled <= WINDOW, `${doubled} ran twice`);
}

async function stopsAndStarts({ part, protocolVersion }: Kind, broker: Broker): Promise<void> {
  await using stage = await startStage(broker, `stops-${part}`, protocolVersion);
  const counts: number[] = [];
  // Published while it runs, while it is stopped, and while it is stopped after a start that brought nothing.
  for (const isRunning of [true, false, false]) {
    await using service = await stage.start();
    await stage.until(isRunning ? 0 : 3 * counts.length + 3, () => service.logTail());
    if (isRunning) {
      for (let n = 0; n < 3; n++) await stage.publish();
      await stage.until(3, () => service.logTail());
    }
    await service.stop();
    counts.push(stage.created());
    if (counts.length === 2) {
      await using idle = await stage.start();
      await idle.stop();
    }
    if (counts.length < 3) { for (let n = 0; n < 3; n++) await stage.publish(); }
  }
  await using service = await stage.start();
  await stage.until(9, () => service.logTail());
  await service.stop();
  deepEqual(counts, [3, 6, 9]);
  equal(stage.created(), 9);
}

for (const kind of KINDS) {
  Deno.test({
    name: `equal messages on ${kind.name}`,
    ignore: !ready || !await needs(kind.part),
    sanitizeOps: false,
    sanitizeResources: false,
    async fn(t) {
      await using broker = await kind.start();
      await steps(t, {
        [`of ${MESSAGES} equal messages none is lost when the service is killed`]: () => isKilled(kind, broker),
        "equal messages sent before and after stops and starts all run once": () => stopsAndStarts(kind, broker),
      });
    },
  });
}
