/**
 * What nobody should do, on real parts (mosquitto, an S3 server, an API server without nodes) and the service as a
 * process: large payloads, a table of 100,000 rows, a table that changes ten times a second, a row whose quota is full.
 * PAYLOAD_MB says how large the large payload is; preset is 10.
 */
import { deepEqual, equal, ok } from "node:assert/strict";
import { createHash } from "node:crypto";
import { rssMb } from "../bench/measure.ts";
import { envOf, JobWatch } from "../harness/job_watch.ts";
import { type Kit, startKit } from "../harness/kit.ts";
import { needs } from "../harness/needs.ts";
import { freePort } from "../harness/ports.ts";
import { MqttEar, startService } from "../harness/service.ts";
import { type Cells, csv } from "../harness/table.ts";
import { eventually, pause } from "../harness/wait.ts";

const PAYLOAD_MB = Number(Deno.env.get("PAYLOAD_MB") ?? 10);
const ready = await needs("mosquitto", "s3", "cluster");

let kit: Kit;

Deno.test.beforeAll(async () => {
  if (ready) kit = await startKit({ broker: { maxQueuedMessages: 0 }, cluster: { node: "none" } });
});

Deno.test.afterAll(async () => {
  await kit?.[Symbol.asyncDispose]();
});

function row(name: string, topic: string): Cells {
  return { job_name: name, image: "busybox:lab", mqtt_topic: topic, command: "true" };
}

/** A service with a table of its own, and the eyes on it. */
async function startStage(id: string, rows: readonly Cells[], more: Record<string, string> = {}) {
  const own = { CATALOG_POLL: "100ms", MQTT_MAX_PACKET_SIZE: "255Mi" };
  const env: Record<string, string> = { ...kit.env(`services/${id}`), ...own, ...more };
  await kit.s3.put(env["CATALOG_URL"]!, csv(rows));
  const jobs = await JobWatch.start(kit.cluster.api);
  const ear = await MqttEar.connect(kit.broker.url, [`services/${id}/#`]);
  const service = await startService(env);
  return {
    jobs,
    ear,
    service,
    putTable: (rows: readonly Cells[]) => kit.s3.put(env["CATALOG_URL"]!, csv(rows)),
    created: (name: string, count: number) =>
      eventually(() => jobs.created(name).length >= count && jobs.created(name), {
        what: async () => `${count} Jobs of ${name}; the service says:\n${await service.logTail(15)}`,
      }),
    async [Symbol.asyncDispose]() {
      await service[Symbol.asyncDispose]();
      await ear[Symbol.asyncDispose]();
      await jobs[Symbol.asyncDispose]();
    },
  };
}

function abuse(name: string, fn: () => Promise<void>): void {
  Deno.test({ name: `abuse: ${name}`, ignore: !ready, sanitizeOps: false, sanitizeResources: false, fn });
}

abuse(`a payload of ${PAYLOAD_MB} MB is kept in the store and given by its URL, and others go on`, async () => {
  await using stage = await startStage("large", [row("large", "large/in"), row("small", "small/in")]);
  const before = rssMb(stage.service.pid);
  const payload = new Uint8Array(PAYLOAD_MB * 1e6);
  for (let at = 0; at < payload.length; at += 65_536) crypto.getRandomValues(payload.subarray(at, at + 65_536));
  await stage.ear.publish("large/in", payload);
  await stage.ear.publish("small/in", "after");
  await stage.created("small", 1);
  const [job] = await stage.created("large", 1);
  const env = envOf(job!);
  deepEqual([env["MQTT_PAYLOAD"] ?? "", env["MQTT_PAYLOAD_BASE64"] ?? ""], ["", ""]);
  const hash = createHash("sha256");
  for await (const chunk of (await fetch(env["MQTT_PAYLOAD_URL"]!)).body!) hash.update(chunk);
  equal(hash.digest("hex"), createHash("sha256").update(payload).digest("hex"));
  equal(stage.jobs.created().length, 2);
  await eventually(() => rssMb(stage.service.pid) < before + 150 + PAYLOAD_MB, {
    what: () => `memory to come back: ${before.toFixed(0)} MB before, ${rssMb(stage.service.pid).toFixed(0)} MB now`,
  });
});

abuse("a table that changes ten times a second loses no message and leaves the last one's subscriptions", async () => {
  const version = (n: number) => [
    row("always", "swap/always"),
    row(`only-${n}`, `swap/only/${n}`),
    // Its filter covers others in every second version.
    row("wide", n % 2 === 0 ? "swap/#" : "swap/wide"),
  ];
  await using stage = await startStage("swap", version(0));
  const versions = 50;
  let sent = 0;
  const sending = (async () => {
    for (; sent < 200; sent++) {
      await stage.ear.publish("swap/always", `{"n":${sent}}`);
      await pause(25);
    }
  })();
  for (let n = 1; n <= versions; n++) {
    await stage.putTable(version(n));
    await pause(100);
  }
  await stage.putTable(version(versions + 1));
  await sending;
  const always = await stage.created("always", 200);
  equal(new Set(always.map((job) => envOf(job)["PAYLOAD_N"])).size, 200);
  equal(always.length, 200);
  const last = versions + 1;
  await eventually(async () => {
    const subscribed = stage.ear.json<{ rows: number }>("services/swap/table").length;
    await stage.ear.publish(`swap/only/${last}`, "now");
    return subscribed > 0 && stage.jobs.created(`only-${last}`).length > 0;
  }, { intervalMs: 500 });
  // Of the version before: nobody hears it, while a later message of a row that is there is heard.
  const wide = stage.jobs.created("wide").length;
  await stage.ear.publish(`swap/only/${versions}`, "gone");
  await stage.ear.publish("swap/always", `{"n":-1}`);
  await stage.created("always", 201);
  equal(stage.jobs.created(`only-${versions}`).length, 0);
  equal(stage.jobs.created("wide").length, wide);
});

abuse(
  "a message that waits for the store holds up others only beyond the Receive Maximum, and none is lost",
  async () => {
    const most = 20;
    const rows = [row("large", "hold/large"), row("small", "hold/small")];
    const STATUS_ADDR = `127.0.0.1:${freePort()}`;
    const env = { MQTT_RECEIVE_MAXIMUM: String(most), CATALOG_POLL: "1h", STATUS_ADDR };
    await using stage = await startStage("hold", rows, env);
    await kit.s3.stop();
    await stage.ear.publish("hold/large", "x".repeat(200_000));
    for (let n = 0; n < 3 * most; n++) await stage.ear.publish("hold/small", `{"n":${n}}`);
    // These are not acknowledged, since the one before them is not; so the broker sends no more.
    await eventually(async () => {
      const metrics = await (await fetch(`http://${STATUS_ADDR}/metrics`)).text();
      return /^mqtt_job_listener_waiting_messages (\d+)$/m.exec(metrics)?.[1] === String(most);
    }, { what: () => stage.service.logTail(15) });
    equal((await stage.created("small", most - 1)).length, most - 1);
    await kit.s3.start();
    await stage.created("large", 1);
    const small = await stage.created("small", 3 * most);
    equal(new Set(small.map((job) => envOf(job)["PAYLOAD_N"])).size, 3 * most);
    equal(small.length, 3 * most);
  },
);

abuse("a table of 100,000 rows starts, and its rows run", async () => {
  const rows = Array.from({ length: 100_000 }, (_, n) => row(`job-${n}`, `mass/${n % 500}/dev${n}`));
  const begunMs = performance.now();
  await using stage = await startStage("mass", rows);
  const startMs = performance.now() - begunMs;
  for (const n of [0, 49_999, 99_999]) {
    await stage.ear.publish(`mass/${n % 500}/dev${n}`, "");
    const [job] = await stage.created(`job-${n}`, 1);
    equal(envOf(job!)["MQTT_TOPIC"], `mass/${n % 500}/dev${n}`);
  }
  const mb = rssMb(stage.service.pid);
  ok(mb < 1_000, `${Math.round(mb)} MB`);
  console.log(`100,000 rows: ${Math.round(startMs)} ms to start, ${Math.round(mb)} MB`);
});
