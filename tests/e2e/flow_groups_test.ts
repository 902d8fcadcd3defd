/**
 * Groups on real parts: an API server with a kubelet that runs containers, mosquitto, an S3 server and the service as a
 * process; and a group of 50 on a node that only pretends, where the service is killed in the middle.
 */
import { deepEqual, equal, match, ok } from "node:assert/strict";
import { envOf, JobWatch } from "../harness/job_watch.ts";
import { type Kit, startKit } from "../harness/kit.ts";
import { needs } from "../harness/needs.ts";
import { MqttEar, type ServiceProcess, startService } from "../harness/service.ts";
import { type Cells, csv, shell } from "../harness/table.ts";
import { eventually } from "../harness/wait.ts";

const PREFIX = "services/mqtt_job_listener";
const real = await needs("mosquitto", "s3", "node");
const fake = await needs("mosquitto", "s3", "cluster", "kwok");

interface GroupEnd {
  readonly status: string;
  readonly group: string;
  readonly root: string;
  readonly total: number;
  readonly succeeded: number;
  readonly failed: number;
}

interface End {
  readonly run_name: string;
  readonly status: string;
  readonly group?: string;
  readonly index?: number;
  readonly item?: unknown;
  readonly root: string;
}

function row(name: string, script: string, cells: Cells = {}): Cells {
  return { job_name: name, image: "busybox:lab", mqtt_topic: `lab/${name}`, command: shell(script), ...cells };
}

/** The table; `strict`: the experiment called bad fails. */
function tableOf(bucket: string, { strict }: { strict: boolean }): string {
  return csv([
    row("sort", `echo "$ITEM_INDEX of $GROUP: $*"; ${strict ? '[ "$1" != bad ]' : "true"}`, {
      for_each: "payload.experiments",
      args: "- {item.key} --rate {item.rate} {index}",
    }),
    { ...row("sum", 'echo "sum of $PAYLOAD_TOTAL"'), mqtt_topic: `${PREFIX}/group_complete/sort` },
    { ...row("alarm", 'echo "$PAYLOAD_FAILED failed"'), mqtt_topic: `${PREFIX}/group_failed/sort` },
    row("wells", "true", { for_each: `s3://${bucket}/data/{payload.uuid}/*_well*.h5`, args: "{item.name}" }),
    row("parts", "true", { for_each: "1..2", parallelism: 2 }),
    row("slow", 'trap "exit 143" TERM; sleep 600 & wait', { for_each: "1..3" }),
  ]);
}

/** A service of its own on parts of its own. */
class Bed implements AsyncDisposable {
  private constructor(
    readonly kit: Kit,
    readonly ear: MqttEar,
    readonly jobs: JobWatch,
    public service: ServiceProcess,
  ) {}

  static async start(kit: Kit, table: string): Promise<Bed> {
    await kit.s3.put(kit.env()["CATALOG_URL"]!, table);
    const ear = await MqttEar.connect(kit.broker.url, [`${PREFIX}/#`]);
    const jobs = await JobWatch.start(kit.cluster.api);
    return new Bed(kit, ear, jobs, await startService({ ...kit.env(), LOG_LEVEL: "debug" }));
  }

  groupEnds(jobName: string): GroupEnd[] {
    return ["complete", "failed"].flatMap((how) => this.ear.json<GroupEnd>(`${PREFIX}/group_${how}/${jobName}`));
  }

  ends(jobName: string): End[] {
    return ["complete", "failed"].flatMap((how) => this.ear.json<End>(`${PREFIX}/job_${how}/${jobName}`));
  }

  async groupEnd(jobName: string, fits: (end: GroupEnd) => boolean = () => true): Promise<GroupEnd> {
    return await eventually(() => this.groupEnds(jobName).find(fits), {
      what: async () => `the end of a group of ${jobName}; the service says:\n${await this.service.logTail(40)}`,
    });
  }

  async ask(what: string, asked: Record<string, unknown>): Promise<string> {
    const transaction = crypto.randomUUID();
    await this.ear.publish(`${PREFIX}/request/${what}`, JSON.stringify({ ...asked, transaction }));
    const answer = await eventually(
      () =>
        this.ear.json<{ transaction: string; status: string; error?: string; data?: { run_name: string } }>(
          `${PREFIX}/response/${what}`,
        ).find((one) => one.transaction === transaction),
    );
    deepEqual([answer.status, answer.error], ["ok", undefined]);
    return answer.data?.run_name ?? "";
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.service[Symbol.asyncDispose]();
    await this.jobs[Symbol.asyncDispose]();
    await this.ear[Symbol.asyncDispose]();
    await this.kit[Symbol.asyncDispose]();
  }
}

let bed: Bed;
let fakeBed: Bed | undefined;
let killing: Promise<void> | undefined;
const EXPERIMENTS = { e1: { rate: 30 }, e2: { rate: 20 }, bad: { rate: 1 } };

/** Ends the service twice while a group of 50 begins. */
async function killTwice(bed: Bed): Promise<void> {
  await bed.ear.publish("lab/many", "{}");
  for (const count of [10, 30]) {
    await eventually(() => bed.jobs.created("many").length >= count);
    await bed.service.kill9();
    bed.service = await startService({ ...bed.kit.env(), LOG_LEVEL: "debug" });
  }
}

Deno.test.beforeAll(async () => {
  await Promise.all([
    (async () => {
      if (!real) return;
      const kit = await startKit();
      const [bucket = ""] = kit.s3.buckets;
      for (const name of ["a_well1.h5", "b_well2.h5", "other.h5", "deep/c_well3.h5"]) {
        await kit.s3.put(`s3://${bucket}/data/u1/${name}`, "x");
      }
      bed = await Bed.start(kit, tableOf(bucket, { strict: true }));
      // All at once: they have nothing to do with each other.
      const publish = (name: string, payload: unknown) => bed.ear.publish(`lab/${name}`, JSON.stringify(payload));
      await Promise.all([
        publish("sort", { experiments: EXPERIMENTS, of: "three" }),
        publish("wells", { uuid: "u1" }),
        publish("parts", {}),
        publish("slow", {}),
      ]);
    })(),
    (async () => {
      if (!fake) return;
      const kit = await startKit({ cluster: { node: "kwok", fakePods: { runMs: 400 } } });
      fakeBed = await Bed.start(
        kit,
        csv([
          row("many", "true", { for_each: "1..50" }),
          { ...row("after", "true"), mqtt_topic: `${PREFIX}/group_complete/many` },
        ]),
      );
      // Meanwhile the others go on.
      killing = killTwice(fakeBed);
      killing.catch(() => {});
    })(),
  ]);
});

Deno.test.afterAll(async () => {
  await Promise.all([bed?.[Symbol.asyncDispose](), fakeBed?.[Symbol.asyncDispose]()]);
});

function groups(name: string, fn: () => Promise<void>, isReady = real): void {
  Deno.test({ name: `groups: ${name}`, ignore: !isReady, sanitizeOps: false, sanitizeResources: false, fn });
}

groups(
  "an upload makes a run of each experiment with its own arguments; one fails, and its rerun completes the group",
  async () => {
    const failed = await bed.groupEnd("sort");
    deepEqual([failed.status, failed.total, failed.succeeded, failed.failed], ["failed", 3, 2, 1]);
    const ends = bed.ends("sort").sort((a, b) => a.index! - b.index!);
    deepEqual(
      ends.map(({ status, index, item, group, root }) => ({ status, index, item, group, root })),
      Object.entries(EXPERIMENTS).map(([key, value], index) => ({
        status: key === "bad" ? "failed" : "succeeded",
        index,
        item: { ...value, key },
        group: failed.group,
        root: failed.root,
      })),
    );
    const log = async ({ run_name }: End) => (await bed.kit.s3.get(`${bed.kit.env()["LOGS_URL"]}/${run_name}.txt`))!;
    match(await log(ends[1]!), new RegExp(`1 of ${failed.group}: e2 --rate 20 1\\n`));
    const alarm = await eventually(() => bed.ends("alarm")[0]);
    match(await log(alarm), /1 failed\n/);
    await bed.kit.s3.put(bed.kit.env()["CATALOG_URL"]!, tableOf(bed.kit.s3.buckets[0]!, { strict: false }));
    await bed.ask("refresh", {});
    await bed.ask("rerun", { run_name: ends[2]!.run_name });
    const complete = await bed.groupEnd("sort", ({ status }) => status === "succeeded");
    deepEqual([complete.group, complete.total, complete.succeeded], [failed.group, 3, 3]);
    const sum = await eventually(() => bed.ends("sum")[0]);
    equal(sum.root, failed.root);
    match(await log(sum), /sum of 3\n/);
    deepEqual(bed.groupEnds("sort").map(({ status }) => status).sort(), ["failed", "succeeded"]);
  },
);

groups("the objects that match are the items, and parallelism makes equal parts of each", async () => {
  const wells = await bed.groupEnd("wells");
  deepEqual([wells.status, wells.total], ["succeeded", 2]);
  const [bucket] = bed.kit.s3.buckets;
  deepEqual(
    bed.ends("wells").map(({ item }) => item).sort(),
    ["a_well1.h5", "b_well2.h5"].map((name) => `s3://${bucket}/data/u1/${name}`),
  );
  const parts = await bed.groupEnd("parts");
  deepEqual([parts.status, parts.total], ["succeeded", 2]);
  ok(bed.jobs.created("parts").every(({ spec }) => spec?.completions === 2 && spec.completionMode === "Indexed"));
});

groups("no items are a group that has succeeded, and what waits for it runs", async () => {
  const before = bed.ends("sum").length;
  await bed.ear.publish("lab/sort", '{"experiments":{}}');
  const end = await bed.groupEnd("sort", ({ total }) => total === 0);
  equal(end.status, "succeeded");
  await eventually(() => bed.ends("sum").length > before);
  const open = () => bed.kit.s3.list(`${bed.kit.env()["RUNS_URL"]}/.open-groups/`);
  await eventually(async () => !(await open()).some((key) => key.includes(end.group)));
});

groups("a group is cancelled by its name, and ends as failed", async () => {
  const job = await eventually(() => bed.jobs.created("slow")[2]);
  const group = envOf(job)["GROUP"]!;
  equal(await bed.ask("cancel", { run_name: group }), group);
  const end = await bed.groupEnd("slow");
  deepEqual([end.group, end.status, end.total, end.failed], [group, "failed", 3, 3]);
});

groups("a service that is killed in the middle of a group of 50 loses no item and doubles none", async () => {
  const { jobs } = fakeBed!;
  await killing;
  const end = await fakeBed!.groupEnd("many");
  deepEqual([end.status, end.total, end.succeeded], ["succeeded", 50, 50]);
  await eventually(() => fakeBed!.ends("after").length > 0 && jobs.left("many").length === 0);
  deepEqual(
    jobs.created("many").map((job) => Number(envOf(job)["ITEM"])).sort((a, b) => a - b),
    Array.from({ length: 50 }, (_, n) => n + 1),
  );
  equal(jobs.created("after").length, 1);
  equal(new Set(fakeBed!.groupEnds("many").map(({ group }) => group)).size, 1);
}, fake);
