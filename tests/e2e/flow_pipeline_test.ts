/**
 * The lab's pipeline as five rows, as README's first page shows it, on real parts with stand-ins for the programs: an
 * upload of three recordings, one of a format that must be split first; wells that are sorted each by itself, one of them
 * out of memory at the first rung; results that are there; one report; an alarm. The service is killed twice meanwhile.
 */
import { deepEqual, equal, match } from "node:assert/strict";
import { envOf, JobWatch } from "../harness/job_watch.ts";
import { removeFolder, scratchFolder } from "../harness/folder.ts";
import { type Kit, startKit } from "../harness/kit.ts";
import { needs } from "../harness/needs.ts";
import { MqttEar, type ServiceProcess, startService } from "../harness/service.ts";
import { type Cells, csv, endingLater, shell } from "../harness/table.ts";
import { eventually } from "../harness/wait.ts";

const PREFIX = "services/mqtt_job_listener";
const ready = await needs("mosquitto", "s3", "node");

/** Takes 60 MB where the well is the hungry one, and ends with 3 where the recording cannot be read. */
const SORT = 'echo "sorting $*"; ' +
  `case $1 in *well1*) ${endingLater("head -c 60000000 /dev/zero | tail > /dev/null")};; ` +
  "*rec9*) exit 3;; esac; echo sorted";

function tableOf(bucket: string): string {
  const row = (name: string, topic: string, script: string, cells: Cells): Cells => {
    return { job_name: name, image: "busybox:lab", mqtt_topic: topic, command: `${shell(script)} -`, ...cells };
  };
  const sorted: Cells = { memory_limit: "30Mi, 300Mi", skip_existing: "yes" };
  return csv([
    row("split", "experiments/upload", 'echo "splitting $*"; sleep 2', {
      args: "{payload.uuid} {item.key}",
      for_each: "payload.experiments",
      when: 'item.format == "maxtwo"',
    }),
    row("sort-wells", `${PREFIX}/group_complete/split`, SORT, {
      ...sorted,
      args: "{item} --well {item.name}",
      for_each: `s3://${bucket}/{input.uuid}/*_well*.raw`,
      output: `s3://${bucket}/{input.uuid}/{item.name}.zip`,
    }),
    row("sort", "experiments/upload", SORT, {
      ...sorted,
      args: "{payload.uuid}/{item.key} --params {item.params=default}",
      for_each: "payload.experiments",
      when: 'item.format != "maxtwo"',
      output: `s3://${bucket}/{payload.uuid}/{item.key}.zip`,
    }),
    row("report", "", 'echo "report of $1"', { args: "{input.uuid}", needs: "sort, sort-wells" }),
    row("alarm", `${PREFIX}/job_failed/+`, 'echo "alarm: $*"', {
      args: "{payload.job_name} {payload.message}",
      when: 'payload.job_name != "alarm"',
    }),
  ]);
}

interface End {
  readonly run_name: string;
  readonly job_name: string;
  readonly status: string;
  readonly reason: string;
  readonly root: string;
  readonly attempt?: number;
  readonly item?: unknown;
}

class Bed implements AsyncDisposable {
  private constructor(
    readonly kit: Kit,
    readonly ear: MqttEar,
    readonly jobs: JobWatch,
    readonly env: Record<string, string>,
    readonly files: string,
    public service: ServiceProcess,
  ) {}

  static async start(): Promise<Bed> {
    const kit = await startKit({ broker: { persistence: "always", maxQueuedMessages: 0 } });
    const bucket = kit.s3.buckets[0]!;
    const files = await scratchFolder("policy");
    await Deno.writeTextFile(`${files}/policy.yaml`, `output_prefixes: ["s3://${bucket}/"]\n`);
    const env: Record<string, string> = {
      ...kit.env(),
      CATALOG_POLL: "1h",
      POLICY_FILE: `${files}/policy.yaml`,
      RETRY_DELAY: "1s",
    };
    await kit.s3.put(env["CATALOG_URL"]!, tableOf(bucket));
    const ear = await MqttEar.connect(kit.broker.url, [`${PREFIX}/#`]);
    const jobs = await JobWatch.start(kit.cluster.api);
    return new Bed(kit, ear, jobs, env, files, await startService(env));
  }

  /** Puts what a stand-in for a program does not: no container reaches the store. */
  async put(key: string): Promise<void> {
    await this.kit.s3.put(`s3://${this.kit.s3.buckets[0]}/${key}`, "x");
  }

  async upload(uuid: string, experiments: Record<string, unknown>): Promise<void> {
    await this.ear.publish("experiments/upload", JSON.stringify({ uuid, experiments }));
  }

  async killAndStart(): Promise<void> {
    await this.service.kill9();
    this.service = await startService(this.env);
  }

  /** Each run's end, once: an end may be told again after a crash. */
  ends(jobName: string): End[] {
    const all = ["complete", "failed"].flatMap((how) => this.ear.json<End>(`${PREFIX}/job_${how}/${jobName}`));
    return [...new Map(all.map((end) => [end.run_name, end])).values()];
  }

  async until<T>(what: string, found: () => T | undefined | false): Promise<T> {
    return await eventually(() => found() || undefined, {
      what: async () => `${what}; the service says:\n${await this.service.logTail(25)}`,
    });
  }

  /** Arguments of the Jobs of a row, in their order of creation. */
  args(jobName: string): string[] {
    return this.jobs.created(jobName).map((job) =>
      job.spec!.template.spec!.containers[0]!.args!.map((word) => word.replace(/^s3:\/\/[^/]*\//, "")).join(" ")
    );
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.service[Symbol.asyncDispose]();
    await this.jobs[Symbol.asyncDispose]();
    await this.ear[Symbol.asyncDispose]();
    await this.kit[Symbol.asyncDispose]();
    await removeFolder(this.files);
  }
}

Deno.test({
  name: "an upload is split, sorted, reported once and its failure told, though the service is killed twice meanwhile",
  ignore: !ready,
  async fn() {
    await using bed = await Bed.start();
    await Promise.all(["e1/rec3.zip", "e1/rec1_well2.raw.zip"].map((key) => bed.put(key)));
    await bed.upload("e1", {
      rec1: { format: "maxtwo" },
      rec2: { format: "maxone", params: "fast" },
      rec3: { format: "maxone" },
    });
    // While the recording is being split; its wells are there when that is done.
    await bed.until("the Job that splits", () => bed.jobs.created("split").length > 0);
    await Promise.all([0, 1, 2].map((well) => bed.put(`e1/rec1_well${well}.raw`)));
    await bed.killAndStart();
    // While wells are being sorted.
    await bed.until("Jobs of wells", () => bed.jobs.created("sort-wells").length >= 2);
    await bed.killAndStart();
    const report = await bed.until("the report", () => bed.ends("report")[0]);
    await bed.until("its Job to go", () => bed.jobs.gone(report.run_name));
    equal(report.status, "succeeded");
    match(await bed.kit.s3.get(`${bed.env["LOGS_URL"]}/${report.run_name}.txt`) ?? "", /\n\nreport of e1\n$/);
    deepEqual(bed.args("split"), ["e1 rec1"]);
    // Each with its own; well 1 a second time with more memory, well 2 and rec3 not at all.
    deepEqual(bed.args("sort-wells").toSorted(), [
      "e1/rec1_well0.raw --well rec1_well0.raw",
      "e1/rec1_well1.raw --well rec1_well1.raw",
      "e1/rec1_well1.raw --well rec1_well1.raw",
    ]);
    deepEqual(bed.args("sort"), ["e1/rec2 --params fast"]);
    const hungry = bed.jobs.created("sort-wells").filter((job) => envOf(job)["ITEM"]?.includes("well1"));
    deepEqual(
      hungry.map((job) => job.spec!.template.spec!.containers[0]!.resources!.limits!["memory"]),
      ["30Mi", "300Mi"],
    );
    const skipped = [...bed.ends("sort-wells"), ...bed.ends("sort")].filter(({ reason }) => reason === "Skipped");
    equal(skipped.length, 2);
    deepEqual([bed.jobs.created("report").length, bed.jobs.created("alarm").length], [1, 0]);
    deepEqual(
      new Set(["split", "sort-wells", "sort", "report"].flatMap((name) => bed.ends(name)).map(({ root }) => root)),
      new Set([report.root]),
    );

    await bed.upload("e2", { rec2: { format: "maxone" }, rec9: { format: "maxone" } });
    const alarm = await bed.until("the alarm", () => bed.ends("alarm")[0]);
    match(
      await bed.kit.s3.get(`${bed.env["LOGS_URL"]}/${alarm.run_name}.txt`) ?? "",
      /\n\nalarm: sort Its program ended with exit code 3/,
    );
    await bed.until("all Jobs to end", () => bed.jobs.gone(alarm.run_name) && bed.jobs.left().length === 0);
    // Nothing to split, and no wells: their groups are complete, and what has failed keeps the report back.
    deepEqual([bed.jobs.created("report").length, bed.jobs.created("alarm").length], [1, 1]);
    equal(bed.ear.json(`${PREFIX}/group_failed/sort`).length, 1);
  },
});
