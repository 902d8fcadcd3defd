/**
 * Rows that need others, on real parts: an API server, a kubelet that runs containers, mosquitto, an S3 server and the
 * service as a process.
 */
import { deepEqual, equal, match } from "node:assert/strict";
import { JOINS } from "../chaos/joins.ts";
import { runCase } from "../chaos/stage.ts";
import { removeFolder, scratchFolder } from "../harness/folder.ts";
import { envOf, JobWatch } from "../harness/job_watch.ts";
import { type Kit, startKit } from "../harness/kit.ts";
import { needs } from "../harness/needs.ts";
import { freePort } from "../harness/ports.ts";
import { MqttEar, type ServiceProcess, startService } from "../harness/service.ts";
import { type Cells, csv, shell } from "../harness/table.ts";
import { eventually } from "../harness/wait.ts";

const PREFIX = "services/mqtt_job_listener";
const ready = await needs("mosquitto", "s3", "node");
/** The rest of the crash matrix is `deno task chaos`. */
const KILLED = ["needs: killed after the last mark", "needs: killed after the create of the joined run"];

const base = { image: "busybox:lab", mqtt_topic: "" };
const WRONG = shell("exit 3");

/** `lfp`: the command of the branch that fails at first. */
function rowsWith(lfp: string): readonly Cells[] {
  return [
    {
      ...base,
      job_name: "sort",
      mqtt_topic: "lab/up",
      command: shell('echo {\\"units\\":7} > $RESULT_FILE'),
      output: "/results/{payload.uuid}.zip",
    },
    { ...base, job_name: "lfp", mqtt_topic: "lab/up", command: lfp },
    { ...base, job_name: "after-sort", mqtt_topic: `${PREFIX}/job_complete/sort`, command: shell("true") },
    {
      ...base,
      job_name: "report",
      needs: "sort, lfp, after-sort",
      command: shell('echo "$0 $1 $2"'),
      args: "{input.uuid} {result.sort.units} {payload.needs.sort.output}",
    },
    { ...base, job_name: "one", mqtt_topic: "lab/pair", command: shell("true") },
    { ...base, job_name: "other", mqtt_topic: "lab/pair", command: shell("true") },
    { ...base, job_name: "both", needs: "one;other", when: "input.n != 3", command: shell("true") },
  ];
}

interface End {
  readonly status: string;
  readonly run_name: string;
  readonly parent_run: string | null;
  readonly root: string;
  readonly chain_depth: number;
  readonly rerun_of?: string;
  readonly input?: string;
}

class Bed {
  private constructor(
    readonly kit: Kit,
    readonly env: Record<string, string>,
    readonly port: number,
    readonly ear: MqttEar,
    readonly jobs: JobWatch,
    readonly service: ServiceProcess,
    readonly files: string,
  ) {}

  static async start(kit: Kit): Promise<Bed> {
    const port = freePort();
    const files = await scratchFolder("policy");
    await Deno.writeTextFile(`${files}/policy.yaml`, "output_prefixes: [/results/]\n");
    const env: Record<string, string> = {
      ...kit.env(),
      POLICY_FILE: `${files}/policy.yaml`,
      STATUS_ADDR: `127.0.0.1:${port}`,
      LOG_LEVEL: "debug",
    };
    await kit.s3.put(env["CATALOG_URL"]!, csv(rowsWith(WRONG)));
    const ear = await MqttEar.connect(kit.broker.url, [`${PREFIX}/#`]);
    const jobs = await JobWatch.start(kit.cluster.api);
    return new Bed(kit, env, port, ear, jobs, await startService(env), files);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const part of [this.service, this.jobs, this.ear]) await part[Symbol.asyncDispose]();
    await removeFolder(this.files);
  }

  ends(jobName: string): End[] {
    return ["complete", "failed"].flatMap((how) => this.ear.json<End>(`${PREFIX}/job_${how}/${jobName}`));
  }

  /** So many ends of the row, and no Job of it is left. */
  async ended(jobName: string, count = 1): Promise<End[]> {
    await eventually(() => this.ends(jobName).length >= count && this.jobs.left(jobName).length === 0, {
      what: async () => `${count} ends of ${jobName}; the service says:\n${await this.service.logTail(25)}`,
    });
    equal(this.ends(jobName).length, count);
    return this.ends(jobName);
  }

  async page(path: string): Promise<string> {
    return await (await fetch(`http://127.0.0.1:${this.port}${path}`)).text();
  }

  async ask(what: string, asked: unknown): Promise<void> {
    await this.ear.publish(`${PREFIX}/request/${what}`, JSON.stringify(asked));
  }
}

/** Two branches, one of two runs; the other fails, its row is mended, and its rerun lets the report run. */
async function failedBranch(bed: Bed): Promise<void> {
  const uuid = "2026-03-01-e1";
  await bed.ear.publish("lab/up", JSON.stringify({ uuid }));
  const [failed] = await bed.ended("lfp");
  await bed.ended("after-sort");
  deepEqual([failed!.status, bed.ends("report")], ["failed", []]);
  const words = /report waits for lfp, which failed/;
  for (const path of [`/runs/${failed!.run_name}`, `/?root=${failed!.root}`, "/"]) {
    await eventually(async () => words.test(await bed.page(path)), { what: `${words} on ${path}` });
  }
  await bed.kit.s3.put(bed.env["CATALOG_URL"]!, csv(rowsWith(shell("true"))));
  await bed.ask("refresh", {});
  await eventually(() => bed.ear.json(`${PREFIX}/response/refresh`).length === 1);
  await bed.ask("rerun", { run_name: failed!.run_name });
  const [report] = await bed.ended("report");
  const [, rerun] = bed.ends("lfp").toSorted((a, b) =>
    Number(a.status === "succeeded") - Number(b.status === "succeeded")
  );
  deepEqual([rerun!.rerun_of, rerun!.root, rerun!.parent_run], [failed!.run_name, failed!.root, null]);
  const [after] = bed.ends("after-sort");
  deepEqual(
    [report!.status, report!.root, report!.chain_depth, report!.parent_run, report!.input],
    ["succeeded", failed!.root, 2, after!.run_name, JSON.stringify({ uuid })],
  );
  const log = await bed.kit.s3.get(`${bed.env["LOGS_URL"]}/${report!.run_name}.txt`);
  match(log!, new RegExp(`\n${uuid} 7 /results/${uuid}\\.zip\n$`));
  await eventually(async () => {
    const all = await bed.page(`/?root=${failed!.root}`);
    match(all, />5 runs</);
    for (const { run_name } of [failed!, rerun!, report!]) match(all, new RegExp(run_name));
    return true;
  });
  await eventually(async () => (await bed.kit.s3.list(`${bed.env["RUNS_URL"]}/.joins/${failed!.root}/`)).length === 0);
}

/** Both needed runs of each message end in one moment; the third message is filtered. */
async function oneMoment(bed: Bed): Promise<void> {
  for (const n of [1, 2, 3, 4]) await bed.ear.publish("lab/pair", JSON.stringify({ n }));
  await Promise.all([bed.ended("one", 4), bed.ended("other", 4), bed.ended("both", 3)]);
  equal(bed.jobs.created("both").length, 3);
  const inputs = bed.jobs.created("both").map((job) => JSON.parse(envOf(job)["MQTT_PAYLOAD"]!).input);
  deepEqual(inputs.sort(), ['{"n":1}', '{"n":2}', '{"n":4}']);
  match(await bed.service.log(), /Row both has all that it needs, and its condition is false, since input\.n is 3/);
}

Deno.test({
  name: "rows that need others run once when these have succeeded, on a real cluster, whenever the service is killed",
  ignore: !ready,
  async fn(t) {
    await using kit = await startKit();
    await using bed = await Bed.start(kit);
    const steps = [
      { name: "a failed branch holds the report, and its rerun lets it run", fn: () => failedBranch(bed) },
      { name: "two last ones at the same moment start one run", fn: () => oneMoment(bed) },
      ...JOINS.filter(({ name }) => KILLED.includes(name)).map((one, at) => ({
        name: one.name,
        async fn() {
          const { lost, doubled, outcome } = await runCase(kit, one, `j${at}`);
          deepEqual({ lost, doubled, outcome }, { lost: 0, doubled: 0, outcome: "ok" });
        },
      })),
    ];
    const options = { sanitizeOps: false, sanitizeResources: false, sanitizeExit: false };
    const passed = await Promise.all(steps.map((step) => t.step({ ...step, ...options })));
    equal(passed.every(Boolean), true);
  },
});
