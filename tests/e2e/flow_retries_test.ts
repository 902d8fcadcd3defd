/**
 * Runs that are tried again, and pods that are taken away, on real parts: an API server with kubelets that run containers,
 * mosquitto, an S3 server, and the service as a process.
 */
import { deepEqual, equal, match } from "node:assert/strict";
import type { V1Job, V1Pod } from "@kubernetes/client-node";
import { envOf, JobWatch } from "../harness/job_watch.ts";
import { type Kit, startKit } from "../harness/kit.ts";
import { needs } from "../harness/needs.ts";
import { MqttEar, type ServiceProcess, startService } from "../harness/service.ts";
import { type Cells, csv, endingLater, shell } from "../harness/table.ts";
import { eventually } from "../harness/wait.ts";

const PREFIX = "services/mqtt_job_listener";
const PODS = "/api/v1/namespaces/default/pods";
const ready = await needs("mosquitto", "s3", "node");

/** Of an attempt that waits for twice as long a test cancels the next one. */
const RETRY_DELAY = "15s";
/** More than 30 MiB, and less than 300 MiB. */
const HUNGRY = "head -c 60000000 /dev/zero | tail > /dev/null";
// A shell that is process 1 hears no SIGTERM unless it says what to do.
const STAYS = `trap "exit 143" TERM; echo begin; sleep 9 & wait; echo end`;

const ROWS: readonly Cells[] = [
  row("climbs", endingLater(HUNGRY), { memory_limit: "30Mi, 300Mi", memory_request: "10Mi" }),
  row("child", `${HUNGRY}; echo went on; sleep 2`, { memory_limit: "30Mi" }),
  row("flaky", "echo attempt $ATTEMPT; [ $ATTEMPT -gt 1 ] || exit 75", { retries: 2, retry_on: "75" }),
  { ...row("after-flaky", "true"), mqtt_topic: `${PREFIX}/job_complete/flaky` },
  row("wrong", "exit 1", { retries: 2, retry_on: "75" }),
  row("hopeless", "exit 7", { retries: 20 }),
  row("drained", STAYS),
  row("once", STAYS, { rerun_after_disruption: "no", backoff_limit: 3 }),
];

function row(name: string, script: string, cells: Cells = {}): Cells {
  return { job_name: name, image: "busybox:lab", mqtt_topic: `lab/${name}`, command: shell(script), ...cells };
}

interface End {
  readonly status: string;
  readonly reason: string;
  readonly message: string;
  readonly run_name: string;
  readonly log_url: string;
  readonly root: string;
  readonly attempt?: number;
  readonly disruptions?: number;
  readonly oom_killed?: boolean;
}

interface News {
  readonly event: string;
  readonly run_name: string;
  readonly next_run?: string;
}

interface RunRecord extends End {
  readonly retried_as?: string;
  readonly limits: Readonly<Record<string, string>>;
  readonly requests: Readonly<Record<string, string>>;
}

let kit: Kit;
let ear: MqttEar;
let jobs: JobWatch;
let service: ServiceProcess;

Deno.test.beforeAll(async () => {
  if (!ready) return;
  kit = await startKit();
  const env: Record<string, string> = { ...kit.env(), RETRY_DELAY, LOG_LEVEL: "debug" };
  await kit.s3.put(env["CATALOG_URL"]!, csv(ROWS));
  ear = await MqttEar.connect(kit.broker.url, [`${PREFIX}/#`]);
  jobs = await JobWatch.start(kit.cluster.api);
  service = await startService(env);
  // All at once, for they have nothing to do with each other; but for the one whose attempts a test counts as they come.
  const now = ROWS.filter(({ job_name }) => job_name !== "hopeless");
  await Promise.all(now.map(({ job_name }) => ear.publish(`lab/${job_name}`, `{"of":"${job_name}"}`)));
});

Deno.test.afterAll(async () => {
  await service?.[Symbol.asyncDispose]();
  await jobs?.[Symbol.asyncDispose]();
  await ear?.[Symbol.asyncDispose]();
  await kit?.[Symbol.asyncDispose]();
});

function retries(name: string, fn: () => Promise<void>): void {
  Deno.test({ name: `retries: ${name}`, ignore: !ready, sanitizeOps: false, sanitizeResources: false, fn });
}

function ends(jobName: string): End[] {
  return ["complete", "failed"].flatMap((how) => ear.json<End>(`${PREFIX}/job_${how}/${jobName}`));
}

async function end(jobName: string): Promise<End> {
  const found = await eventually(() => ends(jobName)[0], {
    what: async () => `the end of ${jobName}; the service says:\n${await service.logTail(25)}`,
  });
  await eventually(() => jobs.gone(found.run_name) && jobs.left(jobName).length === 0, {
    what: `no Job of ${jobName}`,
  });
  equal(ends(jobName).length, 1);
  return found;
}

async function record(runName: string): Promise<RunRecord> {
  return JSON.parse((await kit.s3.get(`${kit.env()["RUNS_URL"]}/${runName}.json`))!) as RunRecord;
}

function attemptsOf(jobName: string): string[] {
  return jobs.created(jobName).map((job) => `${envOf(job)["ATTEMPT"] ?? "-"} ${memoryOf(job)}`);
}

function memoryOf(job: V1Job): string {
  const { limits = {}, requests = {} } = job.spec!.template.spec!.containers[0]!.resources ?? {};
  return `${requests["memory"] ?? "-"}/${limits["memory"] ?? "-"}`;
}

/** Evicts the pod of a row's run once it runs, as `kubectl drain` does. */
async function evict(jobName: string): Promise<void> {
  const pod = await eventually(async () => {
    const runName = jobs.created(jobName)[0]?.metadata?.name;
    const { items } = await kit.cluster.api.get<{ items: V1Pod[] }>(`${PODS}?labelSelector=job-name%3D${runName}`);
    return items.find(({ status }) => status?.phase === "Running");
  }, { what: `a pod of ${jobName} that runs` });
  const { name } = pod.metadata!;
  await kit.cluster.api.create(`${PODS}/${name}/eviction`, {
    apiVersion: "policy/v1",
    kind: "Eviction",
    metadata: { name, namespace: "default" },
    deleteOptions: { gracePeriodSeconds: 5 },
  });
}

retries(
  "a pod that is evicted is made anew, and no failure; where it must not run twice, its run has failed",
  async () => {
    await Promise.all([evict("drained"), evict("once")]);
    const [again, once] = await Promise.all([end("drained"), end("once")]);
    deepEqual([again.status, again.disruptions, again.attempt], ["succeeded", 1, undefined]);
    equal(jobs.created("drained").length, 1);
    // What the pod that was taken away had written is in the log, too.
    const log = await kit.s3.get(again.log_url) ?? "";
    deepEqual([...log.matchAll(/^(?:begin|end)$/gm)].map(String), ["begin", "begin", "end"]);
    deepEqual([once.status, once.reason, once.disruptions], ["failed", "EvictionByEvictionAPI", 1]);
    match(once.message, /^The cluster took its node or its place away/);
  },
);

retries("a run that is out of memory is tried again with the next size, and its request rises with it", async () => {
  const last = await end("climbs");
  equal(last.status, "succeeded", `${last.reason}: ${last.message}`);
  equal(last.attempt, 2);
  deepEqual(attemptsOf("climbs"), ["1 10Mi/30Mi", "2 100Mi/300Mi"]);
  const [first] = jobs.created("climbs");
  const kept = await record(first!.metadata!.name!);
  deepEqual([kept.status, kept.reason, kept.retried_as], ["failed", "OOMKilled", last.run_name]);
  deepEqual((await record(last.run_name)).limits["memory"], "300Mi");
});

retries("a program that goes on although a child of it was killed for its memory does not just succeed", async () => {
  const { status, reason, message, oom_killed } = await end("child");
  // With cgroup v2 the kubelet has all of the container killed.
  if (status === "failed") equal(reason, "OOMKilled");
  else {
    equal(oom_killed, true);
    match(message, /^Ended without error, but its container ran out of memory \(the limit is 30Mi\)/);
  }
});

retries("an exit code of retry_on is tried again and its chain goes on once; another one is not", async () => {
  const flaky = await end("flaky");
  deepEqual([flaky.status, flaky.attempt], ["succeeded", 2]);
  const child = await end("after-flaky");
  deepEqual([child.status, child.root], ["succeeded", flaky.root]);
  equal(jobs.created("after-flaky").length, 1);
  const wrong = await end("wrong");
  deepEqual([wrong.status, wrong.reason], ["failed", "ExitCode"]);
  equal(jobs.created("wrong").length, 1);
  const [first] = jobs.created("flaky");
  const news = ear.json<News>(`${PREFIX}/run/flaky/${first!.metadata!.name}`);
  deepEqual(news.map(({ event }) => event), ["created", "started", "retrying"]);
  equal(news.at(-1)!.next_run, flaky.run_name);
});

retries("a run that waits for its next attempt can be cancelled, and then has ended once", async () => {
  await ear.publish("lab/hopeless", `{"of":"hopeless"}`);
  const waiting = await eventually(
    () => ear.json<News>(`${PREFIX}/run/hopeless/#`).filter(({ event }) => event === "retrying")[1],
    {
      what: "the second attempt to have failed",
    },
  );
  await ear.publish(`${PREFIX}/request/cancel`, JSON.stringify({ run_name: waiting.run_name }));
  const last = await end("hopeless");
  deepEqual([last.status, last.reason, last.run_name], ["cancelled", "Cancelled", waiting.run_name]);
  match(last.message, /^Cancelled by an MQTT request while it waited to be tried again/);
  equal((await record(last.run_name)).retried_as, undefined);
  equal(jobs.created("hopeless").length, 2);
});
