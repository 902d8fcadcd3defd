/**
 * Two services with one client id, as people start them by mistake: the younger one ends with a sentence, the elder goes
 * on. One that takes a dead service's place, or reconnects, is no younger one.
 */
import { deepEqual, equal, match } from "node:assert/strict";
import { envOf, JobWatch } from "../harness/job_watch.ts";
import { type Kit, startKit } from "../harness/kit.ts";
import { needs } from "../harness/needs.ts";
import { TcpProxy } from "../harness/proxy.ts";
import { MqttEar, startService } from "../harness/service.ts";
import { csv } from "../harness/table.ts";
import { eventually } from "../harness/wait.ts";

const ready = await needs("mosquitto", "s3", "cluster");
const options = { ignore: !ready, sanitizeOps: false, sanitizeResources: false };
let kit: Kit;

Deno.test.beforeAll(async () => {
  if (ready) kit = await startKit({ cluster: { node: "none" } });
});

Deno.test.afterAll(async () => {
  await kit?.[Symbol.asyncDispose]();
});

async function makeEnv(id: string): Promise<Record<string, string>> {
  const env: Record<string, string> = { ...kit.env(`services/${id}`), MQTT_CLIENT_ID: id };
  await kit.s3.put(
    env["CATALOG_URL"]!,
    csv([{ job_name: id, image: "busybox:lab", mqtt_topic: `${id}/in`, command: "true" }]),
  );
  return env;
}

for (const version of ["5", "4"]) {
  Deno.test(
    `of two services with one client id the younger ends and says why, with MQTT ${version}`,
    options,
    async () => {
      const id = `rivals-${version}`;
      const env = { ...await makeEnv(id), MQTT_VERSION: version };
      await using jobs = await JobWatch.start(kit.cluster.api);
      await using publisher = await MqttEar.connect(kit.broker.url, [`services/${id}/ERROR`]);
      await using elder = await startService(env);
      const sent: string[] = [];
      const publish = async () => {
        sent.push(`m${sent.length + 1}`);
        await publisher.publish(`${id}/in`, sent.at(-1)!);
      };
      await publish();
      await using younger = await startService(env, { mayEnd: true });
      await eventually(async () => {
        await publish();
        return younger.status !== undefined;
      }, { intervalMs: 100, what: () => younger.logTail() });
      equal(younger.status?.code, 1);
      match(
        await younger.log(),
        new RegExp(`Another service with MQTT_CLIENT_ID "${id}" has been running since 20.*: give this one its own`),
      );
      for (let n = 0; n < 3; n++) await publish();
      const ran = () => jobs.created(id).map((job) => envOf(job)["MQTT_PAYLOAD"]!);
      await eventually(() => new Set(ran()).size === sent.length, {
        what: async () => `${sent.length} messages to run, ${ran().length} did\n${await elder.logTail()}`,
      });
      const reports = () => publisher.json<{ reason: string; message: string }>(`services/${id}/ERROR`);
      await eventually(() => reports().length > 0, { what: () => elder.logTail() });
      await elder.stop();
      deepEqual(ran().sort(), sent.sort());
      deepEqual(reports().map(({ reason }) => reason), ["SharedClientId"]);
      match(
        reports()[0]!.message,
        new RegExp(`^Another service with MQTT_CLIENT_ID "${id}" has been running since 20`),
      );
    },
  );
}

Deno.test(
  "a service that takes a dead one's place and loses its connections again and again stays",
  options,
  async () => {
    const env = await makeEnv("successor");
    await using ear = await MqttEar.connect(kit.broker.url, ["services/successor/info"]);
    {
      await using dead = await startService(env);
      await dead.kill9();
    }
    await using wire = new TcpProxy(kit.broker.port);
    await using service = await startService({ ...env, MQTT_URL: `mqtt://127.0.0.1:${wire.port}` });
    for (let time = 0; time < 4; time++) {
      const before = ear.heard.length;
      wire.cut();
      await eventually(() => ear.heard.length > before, { what: () => service.logTail() });
    }
    equal(service.status, undefined);
    await service.stop();
  },
);
