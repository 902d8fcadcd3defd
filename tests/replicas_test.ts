/** Two replicas on one real API server and broker: one leads, and the other one takes over without a lost message. */
import { strictEqual } from "node:assert/strict";
import { JobWatch } from "./harness/job_watch.ts";
import { startKit } from "./harness/kit.ts";
import { needs } from "./harness/needs.ts";
import { MqttEar, startService } from "./harness/service.ts";
import { csv } from "./harness/table.ts";
import { eventually } from "./harness/wait.ts";

const MESSAGES = 20;

Deno.test({
  name: "a replica takes over from a killed leader: each message has one Job",
  ignore: !await needs("mosquitto", "s3", "cluster"),
  async fn() {
    await using kit = await startKit({ cluster: { node: "none" } });
    const env: Record<string, string> = { ...kit.env(), LEADER_ELECT: "true" };
    await kit.s3.put(env["CATALOG_URL"]!, csv([{ job_name: "a", mqtt_topic: "lab/a", image: "busybox:lab" }]));
    await using jobs = await JobWatch.start(kit.cluster.api);
    await using ear = await MqttEar.connect(env["MQTT_URL"]!, ["services/mqtt_job_listener/#"]);
    const first = await startService({ ...env, REPLICA_NAME: "first" });
    const taking = startService({ ...env, REPLICA_NAME: "second" });
    const send = async (from: number) => {
      for (let i = from; i < from + MESSAGES; i++) await ear.publish("lab/a", String(i));
    };
    await send(0);
    await first.kill9();
    await send(MESSAGES);
    await using _second = await taking;
    await eventually(() => jobs.created("a").length >= 2 * MESSAGES, { timeoutMs: 30_000 });
    await send(2 * MESSAGES);
    await eventually(() => jobs.created("a").length >= 3 * MESSAGES, { timeoutMs: 30_000 });
    strictEqual(jobs.created("a").length, 3 * MESSAGES);
    await first[Symbol.asyncDispose]();
  },
});
