/**
 * Runs in a queue of Kueue's with quota for one pod, on a real API server and node, with the stand-in of
 * tests/harness/kueue.ts. Who waits says so, nobody runs twice, a restart and a cancellation change nothing of that.
 */
import { deepEqual, equal, match } from "node:assert/strict";
import type { V1Job } from "@kubernetes/client-node";
import { GATE_MOUNT, Gates, untilOpen } from "../harness/gate.ts";
import { JobWatch } from "../harness/job_watch.ts";
import { startKit } from "../harness/kit.ts";
import { startKueue } from "../harness/kueue.ts";
import { needs } from "../harness/needs.ts";
import { pageReason } from "../harness/page_reason.ts";
import { freePort } from "../harness/ports.ts";
import { MqttEar, startService } from "../harness/service.ts";
import { type Cells, csv, shell } from "../harness/table.ts";
import { eventually } from "../harness/wait.ts";

const PREFIX = "services/mqtt_job_listener";
const JOBS = "/apis/batch/v1/namespaces/default/jobs";
const WAITS = /^Waits in queue "lab-queue" for its turn/;
const ready = await needs("mosquitto", "s3", "node");

/** Each runs until the test opens the gate of its name. */
const ROWS: readonly Cells[] = ["first", "second", "third"].map((name) => ({
  job_name: name,
  image: "busybox:lab",
  mqtt_topic: `lab/${name}`,
  command: shell(`${untilOpen(name)}; echo ${name} ran`),
  mounts: GATE_MOUNT,
  queue: "lab-queue",
}));

interface End {
  readonly status: string;
  readonly reason: string;
  readonly message: string;
  readonly run_name: string;
}

Deno.test({
  name: "runs in one queue of Kueue's run one after the other, each once, over a restart and a cancellation",
  ignore: !ready,
  async fn(t) {
    await using kit = await startKit({ broker: { persistence: "always", maxQueuedMessages: 0 } });
    const { api } = kit.cluster;
    const gates = await Gates.make(kit.cluster);
    await api.patch("/api/v1/nodes/node1", { metadata: { labels: { flavour: "lab" } } });
    await using _kueue = await startKueue(api, { quota: { "lab-queue": 1 }, nodeLabels: { flavour: "lab" } });

    const port = freePort();
    const env: Record<string, string> = { ...kit.env(), CATALOG_POLL: "1h", STATUS_ADDR: `127.0.0.1:${port}` };
    await kit.s3.put(env["CATALOG_URL"]!, csv(ROWS));
    await using ear = await MqttEar.connect(kit.broker.url, [`${PREFIX}/#`]);
    await using jobs = await JobWatch.start(api);
    let service = await startService(env);
    const begin = async (name: string) => {
      await ear.publish(`lab/${name}`, "go");
      return await eventually(() => jobs.created(name)[0]?.metadata?.name, {
        what: `a Job of ${name}`,
      });
    };
    const says = (runName: string, words: RegExp) =>
      eventually(async () => words.test(await pageReason(port, runName)), {
        what: async () => `${words} on the page of ${runName}; it says: ${await pageReason(port, runName)}`,
      });
    const isSuspended = async (runName: string) => (await api.get<V1Job>(`${JOBS}/${runName}`)).spec?.suspend === true;
    const endOf = (name: string) =>
      eventually(
        () => ["complete", "failed"].flatMap((how) => ear.json<End>(`${PREFIX}/job_${how}/${name}`))[0],
        { what: async () => `the end of ${name}; the service says:\n${await service.logTail(15)}` },
      );

    try {
      const first = await begin("first");
      await eventually(async () => !await isSuspended(first), { what: "the first to be admitted" });
      const second = await begin("second");
      const third = await begin("third");

      await t.step("who has no quota waits, and its page says in which queue", async () => {
        for (const runName of [second, third]) await says(runName, WAITS);
        deepEqual([await isSuspended(first), await isSuspended(second), await isSuspended(third)], [false, true, true]);
      });

      await t.step("a run that waits in the queue can be cancelled", async () => {
        await ear.publish(`${PREFIX}/request/cancel`, JSON.stringify({ run_name: third }));
        const end = await endOf("third");
        deepEqual([end.status, end.run_name], ["cancelled", third]);
        match(end.message, /^Cancelled by /);
        await eventually(() => !jobs.left("third").includes(third), { what: "the Job of third to be deleted" });
      });

      await t.step("a restart of the service finds the one that runs and the one that waits", async () => {
        await service.kill9();
        service = await startService(env);
        await says(second, WAITS);
        equal(ear.on(`${PREFIX}/job_complete/#`).length, 0);
      });

      await t.step("the end of the first admits the second, on the nodes of its flavour", async () => {
        await gates.open("first");
        equal((await endOf("first")).status, "succeeded");
        await eventually(async () => !await isSuspended(second), {
          what: "the second to be admitted",
        });
        const { spec } = await api.get<V1Job>(`${JOBS}/${second}`);
        deepEqual(spec?.template.spec?.nodeSelector, { flavour: "lab" });
        await gates.open("second");
        const end = await endOf("second");
        deepEqual([end.status, end.run_name], ["succeeded", second]);
      });

      await t.step("none ran twice, and none is told twice", () => {
        for (const name of ["first", "second", "third"]) {
          equal(jobs.created(name).length, 1);
          equal(["complete", "failed"].flatMap((how) => ear.on(`${PREFIX}/job_${how}/${name}`)).length, 1);
        }
      });
    } finally {
      await service[Symbol.asyncDispose]();
    }
  },
});
