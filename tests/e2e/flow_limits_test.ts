/**
 * Limits on real parts: an API server, a kubelet that runs containers, mosquitto, an S3 server and the service as a
 * process, which is killed in the middle. A watch of the test's own counts what runs at a time. Also what Kubernetes does
 * with a Job that begins suspended, which the limits rely on.
 */
import { deepEqual, equal, match, ok } from "node:assert/strict";
import type { V1Job } from "@kubernetes/client-node";
import { envOf, followJobs, JobWatch } from "../harness/job_watch.ts";
import { removeFolder, scratchFolder } from "../harness/folder.ts";
import { GATE_MOUNT, Gates, untilOpen } from "../harness/gate.ts";
import { type Kit, startKit } from "../harness/kit.ts";
import { needs } from "../harness/needs.ts";
import { MqttEar, type ServiceProcess, startService } from "../harness/service.ts";
import { type Cells, csv, shell } from "../harness/table.ts";
import { eventually } from "../harness/wait.ts";

const PREFIX = "services/mqtt_job_listener";
const JOBS = "/apis/batch/v1/namespaces/default/jobs";
const ready = await needs("mosquitto", "s3", "node");

/**
 * Until the gate opens that the message names. A shell that is process 1 hears no SIGTERM unless it says what to do.
 */
const STAYS = `trap "exit 143" TERM; ${untilOpen("$MQTT_PAYLOAD")}`;
/** Gates that are open from the beginning. */
const OPEN = ["open-1", "open-2", "open-3"] as const;
/** What a waiting run may take once it runs; a busy node needs some of it to start a pod. */
const DEADLINE_S = 40;

function rows(bucket: string, { publish = "paused" } = {}): Cells[] {
  const output = `s3://${bucket}/results/{payload.id}.zip`;
  return [
    row("queue", "sleep 1", { max_runs: 2 }),
    row("preview", STAYS, { max_runs: 1, when_busy: "latest", mounts: GATE_MOUNT }),
    row("train", STAYS, { max_runs: 1, when_busy: "replace", mounts: GATE_MOUNT }),
    row("backup", STAYS, { max_runs: 1, when_busy: "forbid", mounts: GATE_MOUNT }),
    row("long", STAYS, { max_runs: 1, concurrency_group: "one", mounts: GATE_MOUNT }),
    row("brief", "true", { max_runs: 1, concurrency_group: "one", active_deadline_seconds: DEADLINE_S }),
    row("publish", "true", { enabled: publish }),
    row("sort", "true", { output, skip_existing: "yes" }),
    { ...row("report", "true"), mqtt_topic: `${PREFIX}/job_complete/sort` },
  ];
}

function row(name: string, script: string, cells: Cells = {}): Cells {
  return { job_name: name, image: "busybox:lab", mqtt_topic: `lab/${name}`, command: shell(script), ...cells };
}

interface RunEnd {
  readonly status: string;
  readonly reason: string;
  readonly message: string;
  readonly run_name: string;
  readonly output?: string;
  readonly log_url: string;
  readonly payload: string;
  readonly started_at: string;
  readonly held_for?: string;
  readonly released_at?: string;
  readonly finished_at: string;
}

/** How many Jobs of each row were let run at a time, at most. */
class Peaks implements AsyncDisposable {
  readonly most = new Map<string, number>();
  readonly #running = new Map<string, string>();
  #stream: AsyncDisposable | undefined;

  static async start(kit: Kit): Promise<Peaks> {
    const peaks = new Peaks();
    peaks.#stream = await followJobs(kit.cluster.api, {
      onJob: (job) => peaks.#take(job),
      onGone: (uid) => void peaks.#running.delete(uid),
      onList: () => {},
    });
    return peaks;
  }

  #take(job: V1Job): void {
    const uid = job.metadata!.uid!;
    const jobName = envOf(job)["JOB_NAME"]!;
    const hasEnded = job.status?.conditions?.some(({ type, status }) =>
      status === "True" && (type === "Complete" || type === "Failed")
    );
    if (hasEnded || job.spec?.suspend === true) this.#running.delete(uid);
    else this.#running.set(uid, jobName);
    const now = [...this.#running.values()].filter((name) => name === jobName).length;
    this.most.set(jobName, Math.max(now, this.most.get(jobName) ?? 0));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#stream?.[Symbol.asyncDispose]();
  }
}

class Bed implements AsyncDisposable {
  private constructor(
    readonly kit: Kit,
    readonly env: Record<string, string>,
    readonly ear: MqttEar,
    readonly jobs: JobWatch,
    readonly peaks: Peaks,
    readonly gates: Gates,
    public service: ServiceProcess,
    readonly policy: string,
  ) {}

  static async start(): Promise<Bed> {
    const kit = await startKit({ broker: { persistence: "always", maxQueuedMessages: 0 } });
    const policy = await scratchFolder("policy");
    await Deno.writeTextFile(`${policy}/policy.yaml`, 'output_prefixes: ["s3://"]\n');
    const env: Record<string, string> = {
      ...kit.env(),
      POLICY_FILE: `${policy}/policy.yaml`,
      CATALOG_POLL: "1h",
      LOG_LEVEL: "debug",
    };
    const bucket = kit.s3.buckets[0]!;
    await kit.s3.put(env["CATALOG_URL"]!, csv(rows(bucket)));
    await kit.s3.put(`s3://${bucket}/results/there.zip`, "there");
    const ear = await MqttEar.connect(kit.broker.url, [`${PREFIX}/#`]);
    const [jobs, peaks] = [await JobWatch.start(kit.cluster.api), await Peaks.start(kit)];
    const gates = await Gates.make(kit.cluster);
    await Promise.all(OPEN.map((name) => gates.open(name)));
    return new Bed(kit, env, ear, jobs, peaks, gates, await startService(env), policy);
  }

  async restart(): Promise<void> {
    await this.service.kill9();
    this.service = await startService(this.env);
  }

  /** The record of the `nth` Job of a row, once it has one. */
  async record(jobName: string, nth: number): Promise<RunEnd> {
    const name = await eventually(() => this.jobs.created(jobName)[nth]?.metadata?.name, {
      what: () => this.#words(`Job ${nth} of ${jobName}`),
    });
    return await eventually(async () => {
      const text = await this.kit.s3.get(`${this.env["RUNS_URL"]}/${name}.json`);
      return text === undefined ? undefined : JSON.parse(text) as RunEnd;
    }, { what: () => this.#words(`the record of ${name}`) });
  }

  async #words(what: string): Promise<string> {
    return `${what}; the service says:\n${await this.service.logTail(15)}`;
  }

  /** Names of a row's Jobs that wait suspended. */
  async suspended(jobName: string): Promise<string[]> {
    const { items } = await this.kit.cluster.api.get<{ items: V1Job[] }>(JOBS);
    return items.filter((job) => envOf(job)["JOB_NAME"] === jobName && job.spec?.suspend === true)
      .map(({ metadata }) => metadata!.name!);
  }

  /** Resolves when the first run of a row is let run: after a start each waits until slots are counted. */
  async runs(jobName: string): Promise<void> {
    await eventually(() => this.jobs.created(jobName).some(({ spec }) => spec?.suspend !== true), {
      what: () => this.#words(`a Job of ${jobName} that runs`),
    });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.service[Symbol.asyncDispose]();
    await this.peaks[Symbol.asyncDispose]();
    await this.jobs[Symbol.asyncDispose]();
    await this.ear[Symbol.asyncDispose]();
    await this.kit[Symbol.asyncDispose]();
    await removeFolder(this.policy);
  }
}

/** What is told of a row's runs with this reason. */
function saying(bed: Bed, jobName: string, wanted: string): RunEnd[] {
  return bed.ear.json<RunEnd>(`${PREFIX}/run/${jobName}/#`).filter(({ reason }) => reason === wanted);
}

/** Where their end is a record alone, no message says that they failed. */
function failures(bed: Bed, jobName: string): RunEnd[] {
  return bed.ear.json<RunEnd>(`${PREFIX}/job_failed/${jobName}`);
}

async function queue(bed: Bed): Promise<void> {
  for (let n = 0; n < 10; n++) await bed.ear.publish("lab/queue", `message ${n}`);
  await eventually(() => bed.ear.on(`${PREFIX}/job_complete/queue`).length >= 2);
}

/** After the kill: each message has run, once, and never three at a time. */
async function queueIsDone(bed: Bed): Promise<void> {
  const ends = () => new Set(bed.ear.json<RunEnd>(`${PREFIX}/job_complete/queue`).map(({ run_name }) => run_name));
  await eventually(() => ends().size === 10, {
    what: async () => `10 ends, there are ${ends().size}; ${await bed.service.logTail(15)}`,
  });
  const payloads = bed.jobs.created("queue").map((job) => envOf(job)["MQTT_PAYLOAD"]);
  deepEqual(payloads.toSorted(), Array.from({ length: 10 }, (_, n) => `message ${n}`).sort());
  equal(bed.peaks.most.get("queue"), 2);
}

async function latest(bed: Bed): Promise<void> {
  await bed.ear.publish("lab/preview", "preview");
  await bed.runs("preview");
  for (const name of OPEN) await bed.ear.publish("lab/preview", name);
  await eventually(() => saying(bed, "preview", "Superseded").length === 2);
  await bed.gates.open("preview");
  const ends = await Promise.all([0, 1, 2, 3].map((nth) => bed.record("preview", nth)));
  deepEqual(ends.map(({ reason }) => reason).toSorted(), ["Completed", "Completed", "Superseded", "Superseded"]);
  const newest = ends.find(({ payload }) => payload === "open-3");
  for (const { message } of ends.filter(({ reason }) => reason === "Superseded")) {
    match(message, /^It never began: the newer run preview-\S+ of its group waits in its place/);
  }
  equal(newest?.reason, "Completed");
  deepEqual(failures(bed, "preview"), []);
  equal(bed.peaks.most.get("preview"), 1);
}

async function replace(bed: Bed): Promise<void> {
  await bed.ear.publish("lab/train", "never");
  await bed.runs("train");
  await bed.ear.publish("lab/train", "open-1");
  const [first, second] = await Promise.all([bed.record("train", 0), bed.record("train", 1)]);
  deepEqual([first.status, first.reason, second.reason], ["cancelled", "Replaced", "Completed"]);
  match(first.message, new RegExp(`the newer run ${second.run_name} of its group`));
  deepEqual(failures(bed, "train"), []);
  equal(bed.peaks.most.get("train"), 1);
}

async function forbid(bed: Bed): Promise<void> {
  await bed.ear.publish("lab/backup", "backup");
  await bed.runs("backup");
  await bed.ear.publish("lab/backup", "open-1");
  const { run_name: name } = await eventually(() => saying(bed, "backup", "Skipped")[0]);
  await bed.gates.open("backup");
  const record = JSON.parse(
    await eventually(() => bed.kit.s3.get(`${bed.env["RUNS_URL"]}/${name}.json`)),
  ) as RunEnd;
  deepEqual([record.status, record.reason, record.log_url], ["cancelled", "Skipped", ""]);
  deepEqual(failures(bed, "backup"), []);
  equal((await bed.record("backup", 0)).status, "succeeded");
  equal(bed.jobs.created("backup").length, 1);
}

/** The second one waits for longer than it may run. */
async function deadline(bed: Bed): Promise<void> {
  await bed.ear.publish("lab/long", "long");
  await bed.runs("long");
  await bed.ear.publish("lab/brief", "");
  await eventually(() => {
    const createdAt = bed.jobs.created("brief")[0]?.metadata?.creationTimestamp;
    return createdAt && Date.now() - new Date(createdAt).getTime() > (DEADLINE_S + 2) * 1_000;
  });
  await bed.gates.open("long");
  const [long, brief] = await Promise.all([bed.record("long", 0), bed.record("brief", 0)]);
  deepEqual([long.reason, brief.reason], ["Completed", "Completed"]);
  ok(Date.parse(brief.started_at) >= Date.parse(long.finished_at));
  equal(brief.held_for, "slot");
  // The service's own clock has parts of a second.
  const released = Date.parse(brief.released_at!);
  ok(released >= Date.parse(long.finished_at) && released <= Date.parse(brief.started_at) + 1_000);
}

/** Messages of a paused row wait; one is cancelled by a person, the others run when the cell says yes. */
async function pause(bed: Bed): Promise<void> {
  for (let n = 0; n < 3; n++) await bed.ear.publish("lab/publish", `${n}`);
  const held = await eventually(async () => {
    const names = await bed.suspended("publish");
    return names.length === 3 ? names : undefined;
  });
  await bed.ear.publish(`${PREFIX}/request/cancel`, JSON.stringify({ run_name: held[0] }));
  await eventually(() => failures(bed, "publish").length > 0);
  deepEqual(failures(bed, "publish").map(({ run_name, reason }) => [run_name, reason]), [[held[0], "Cancelled"]]);
  await bed.ear.publish(`${PREFIX}/request/run`, JSON.stringify({ job_name: "publish", payload: "by hand" }));
  await eventually(() => bed.ear.on(`${PREFIX}/job_complete/publish`).length === 1);
  // The Job of the one that was cancelled goes after its end was told.
  await eventually(async () => (await bed.suspended("publish")).length === 2);
  await bed.kit.s3.put(bed.env["CATALOG_URL"]!, csv(rows(bed.kit.s3.buckets[0]!, { publish: "yes" })));
  await bed.ear.publish(`${PREFIX}/REFRESH`, "");
  await eventually(() => bed.ear.on(`${PREFIX}/job_complete/publish`).length === 3);
}

async function skip(bed: Bed): Promise<void> {
  await bed.ear.publish("lab/sort", '{"id":"there"}');
  await eventually(() => bed.ear.on(`${PREFIX}/job_complete/report`).length === 1, {
    what: async () => `the report; ${await bed.service.logTail(200)}`,
  });
  const [end] = bed.ear.json<RunEnd>(`${PREFIX}/job_complete/sort`);
  deepEqual([end?.status, end?.reason], ["succeeded", "Skipped"]);
  ok(end?.output?.endsWith("/results/there.zip"));
  equal(bed.jobs.created("sort").length, 0);
  await bed.ear.publish("lab/sort", '{"id":"there","overwrite":true}');
  await bed.runs("sort");
}

Deno.test({
  name: "limits hold and nothing is lost, though the service is killed in the middle",
  ignore: !ready,
  async fn(t) {
    await using bed = await Bed.start();
    await t.step("ten messages of max_runs 2 begin, and the service is killed", async () => {
      await queue(bed);
      await bed.restart();
    });
    const cases = { queueIsDone, latest, replace, forbid, deadline, pause, skip };
    const results = await Promise.allSettled(Object.values(cases).map((one) => one(bed)));
    for (const [at, name] of Object.keys(cases).entries()) {
      await t.step(name, () => {
        const result = results[at]!;
        if (result.status === "rejected") throw result.reason;
      });
    }
  },
});
