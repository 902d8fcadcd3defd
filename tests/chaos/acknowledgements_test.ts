/**
 * Messages that are all alike on mosquitto, which gives packet identifiers in order, and a service that is killed at a
 * chosen acknowledgement: before its number is written, when it is written and no PUBACK has left, and when some of
 * the PUBACKs have. Each message has its own write, or all share one. None is lost, and none runs twice. A service that is
 * killed while it tries the broker's order leaves that to the next one.
 */
import { deepEqual, equal, ok } from "node:assert/strict";
import { JobWatch } from "../harness/job_watch.ts";
import { type Kit, startKit } from "../harness/kit.ts";
import { needs } from "../harness/needs.ts";
import { MqttEar, startService } from "../harness/service.ts";
import { sessionRecord } from "../harness/session_record.ts";
import { csv } from "../harness/table.ts";
import { eventually } from "../harness/wait.ts";
import { ENTRY } from "./stage.ts";

const MESSAGES = 5;
const MORE = 3;

const ready = await needs("mosquitto", "s3", "cluster");
let kit: Kit;

Deno.test.beforeAll(async () => {
  if (ready) kit = await startKit({ cluster: { node: "none" } });
});

Deno.test.afterAll(async () => {
  await kit?.[Symbol.asyncDispose]();
});

const recordOf = (env: Readonly<Record<string, string>>) => sessionRecord(kit.s3, env["RUNS_URL"]!);

/** The second: all messages share one write. */
const CASES: readonly (readonly [fault: string, isBurst: boolean])[] = [
  ...[1, 3, 5].flatMap((nth) =>
    [`number:before:${nth}`, `number:after:${nth}`, `acknowledge:after:${nth}`].map((fault) => [fault, false] as const)
  ),
  ...["number:before:1", "number:after:1", "acknowledge:before:3", "acknowledge:after:3"].map((fault) =>
    [fault, true] as const
  ),
];

for (const fault of ["trial:before:1", "trial:after:1", "trial:after:2", "trial:before:3"]) {
  Deno.test({
    name: `a session in which the service died at ${fault} is tried by the next start, and only once`,
    ignore: !ready,
    sanitizeOps: false,
    sanitizeResources: false,
    async fn() {
      const id = fault.replaceAll(":", "-");
      const env: Record<string, string> = { ...kit.env(`services/${id}`), MQTT_CLIENT_ID: id };
      await kit.s3.put(
        env["CATALOG_URL"]!,
        csv([{ job_name: id, image: "busybox:lab", mqtt_topic: `${id}/in`, command: "true" }]),
      );
      {
        await using service = await startService({ ...env, CHAOS_FAULT: fault }, { entry: ENTRY, mayEnd: true });
        ok(service.status !== undefined, await service.logTail());
      }
      equal((await recordOf(env))?.tried, undefined);
      {
        await using service = await startService(env);
        const { tried, orderly } = await eventually(async () => {
          const record = await recordOf(env);
          return record?.tried && record;
        });
        deepEqual([tried, orderly], [true, true], await service.logTail());
        await service.stop();
      }
      await using infos = await MqttEar.connect(kit.broker.url, [`services/${id}/info`]);
      await using service = await startService(env);
      await eventually(() => infos.json<{ instance: string }>(`services/${id}/info`).length >= 2);
      await service.stop();
      // What was retained, and what this one has said of itself.
      equal(infos.json(`services/${id}/info`).length, 2);
    },
  });
}

for (const [fault, isBurst] of CASES) {
  Deno.test({
    name: `no message is lost and none runs twice when the service is killed at ${fault}, ${
      isBurst ? "all messages at once" : "one write for each"
    }`,
    ignore: !ready,
    sanitizeOps: false,
    sanitizeResources: false,
    async fn() {
      const id = fault.replaceAll(":", "-") + (isBurst ? "-burst" : "");
      const env: Record<string, string> = { ...kit.env(`services/${id}`), MQTT_CLIENT_ID: id };
      await kit.s3.put(
        env["CATALOG_URL"]!,
        csv([{ job_name: id, image: "busybox:lab", mqtt_topic: `${id}/in`, command: "true" }]),
      );
      await using jobs = await JobWatch.start(kit.cluster.api);
      await using publisher = await MqttEar.connect(kit.broker.url, []);
      const publish = () => publisher.publish(`${id}/in`, '{"same":true}');
      {
        await using service = await startService({ ...env, CHAOS_FAULT: fault }, { entry: ENTRY });
        // What follows is promised only where the trial of the broker's order has succeeded.
        await eventually(async () => (await recordOf(env))?.orderly === true, { what: () => service.logTail() });
        for (let n = 1; n <= MESSAGES; n++) {
          await publish();
          if (isBurst) continue;
          await eventually(
            async () => service.status !== undefined || ((await recordOf(env))?.acknowledged ?? 0) >= n,
            { what: async () => `the acknowledgement of message ${n}\n${await service.logTail()}` },
          );
        }
        await eventually(() => service.status !== undefined, { what: () => service.logTail() });
      }
      equal((await recordOf(env))?.orderly, true, "what comes at once comes in order, too");
      await using service = await startService(env);
      for (let n = 0; n < MORE; n++) await publish();
      await eventually(() => jobs.created(id).length >= MESSAGES + MORE, {
        what: async () => `all Jobs; there are ${jobs.created(id).length}\n${await service.logTail()}`,
      });
      await service.stop();
      equal(jobs.created(id).length, MESSAGES + MORE);
    },
  });
}
