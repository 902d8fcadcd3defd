/**
 * Rows that run by themselves, and many runs at once, on real parts: an API server, a kubelet that runs containers,
 * mosquitto, an S3 server and the service as a process, killed in the middle. The clock is the machine's: what is due is
 * due since the last hour.
 */
import { deepEqual, equal, match } from "node:assert/strict";
import { DUE_TIMES } from "../chaos/due_times.ts";
import { runCase } from "../chaos/stage.ts";
import { envOf, JobWatch } from "../harness/job_watch.ts";
import { type Kit, startKit } from "../harness/kit.ts";
import { needs } from "../harness/needs.ts";
import { freePort } from "../harness/ports.ts";
import { MqttEar, startService } from "../harness/service.ts";
import { csv, shell } from "../harness/table.ts";
import { eventually } from "../harness/wait.ts";

const ready = await needs("mosquitto", "s3", "node");

Deno.test({
  name: "due times and batches start once each on a real cluster, whenever the service is killed",
  ignore: !ready,
  async fn(t) {
    await using kit = await startKit();
    const steps = [
      ...DUE_TIMES.map((one, at) => ({
        name: one.name,
        async fn() {
          const { lost, doubled, outcome } = await runCase(kit, one, `d${at}`);
          deepEqual({ lost, doubled, outcome }, { lost: 0, doubled: 0, outcome: "ok" });
        },
      })),
      { name: "a row that is new runs at its next time only, and its page says when", fn: () => newRow(kit) },
      { name: "a sheet and a replay, killed in the middle and asked for again", fn: () => batches(kit) },
    ];
    const options = { sanitizeOps: false, sanitizeResources: false, sanitizeExit: false };
    const passed = await Promise.all(steps.map((step) => t.step({ ...step, ...options })));
    equal(passed.every(Boolean), true);
  },
});

async function newRow(kit: Kit): Promise<void> {
  const prefix = "new-row";
  const port = freePort();
  const env: Record<string, string> = {
    ...kit.env(prefix),
    MQTT_CLIENT_ID: prefix,
    REPLICA_NAME: prefix,
    STATUS_ADDR: `127.0.0.1:${port}`,
  };
  await using jobs = await JobWatch.start(kit.cluster.api);
  await kit.s3.put(
    env["CATALOG_URL"]!,
    csv([{ image: "busybox:lab", job_name: prefix, mqtt_topic: "", schedule: "@hourly", time_zone: "Europe/Berlin" }]),
  );
  await using _service = await startService(env);
  const notes = async () => await kit.s3.list(`${env["RUNS_URL"]}/.schedules/`);
  await eventually(async () => (await notes()).length === 1);
  await eventually(async () => {
    const page = await (await fetch(`http://127.0.0.1:${port}/table`)).text();
    match(page, /Next by schedule/);
    match(page, /<code>@hourly<\/code> Europe\/Berlin, next <time/);
    return true;
  });
  const minutes = new Date().getUTCMinutes();
  // The hour may just begin.
  if (minutes > 0 && minutes < 58) deepEqual(jobs.created(prefix), []);
}

async function batches(kit: Kit): Promise<void> {
  const prefix = "sheet";
  const env: Record<string, string> = { ...kit.env(prefix), MQTT_CLIENT_ID: prefix, REPLICA_NAME: prefix };
  await using jobs = await JobWatch.start(kit.cluster.api);
  await using ear = await MqttEar.connect(kit.broker.url, [`${prefix}/response/+`, `${prefix}/job_failed/+`]);
  const command = shell("test $PAYLOAD_N != 3");
  await kit.s3.put(env["CATALOG_URL"]!, csv([{ image: "busybox:lab", job_name: prefix, mqtt_topic: "x/y", command }]));
  const ask = async (what: string, asked: object) => {
    const transaction = crypto.randomUUID();
    await ear.publish(`${prefix}/request/${what}`, JSON.stringify({ job_name: prefix, ...asked, transaction }));
    return await eventually(
      () =>
        ear.json<{ status: string; data: Record<string, number>; transaction: string }>(`${prefix}/response/${what}`)
          .find((answer) => answer.transaction === transaction),
    );
  };
  const sheet = `n\n${[1, 2, 3, 4, 5, 6].join("\n")}\n`;
  {
    const entry = "tests/chaos/entry.ts";
    await using dying = await startService({ ...env, CHAOS_FAULT: "create:after:3" }, { entry, mayEnd: true });
    await ear.publish(`${prefix}/request/each`, JSON.stringify({ job_name: prefix, sheet }));
    await eventually(() => dying.status !== undefined);
  }
  await using _service = await startService(env);
  const { data } = await ask("each", { sheet });
  equal(data["started"]! + data["exists"]!, 6);
  // An answer may come before the watch's word on the Jobs of which it tells.
  const values = async (count: number) => {
    await eventually(() => jobs.created(prefix).length >= count, { what: `${count} Jobs` });
    return jobs.created(prefix).map((job) => envOf(job)["PAYLOAD_N"]).sort();
  };
  deepEqual(await values(6), ["1", "2", "3", "4", "5", "6"]);
  await eventually(() => ear.on(`${prefix}/job_failed/${prefix}`).length >= 1 && jobs.left(prefix).length === 0, {
    intervalMs: 200,
  });
  const replay = { since: "1h" };
  equal((await ask("replay", replay)).data["started"], 1);
  equal((await ask("replay", replay)).data["started"], 0);
  deepEqual(await values(7), ["1", "2", "3", "3", "4", "5", "6"]);
}
