/**
 * The job families of an electrophysiology and imaging lab (tests/data/lab-families.csv, with its policy), on real parts:
 * `check` finds nothing, `explain` gives each row's Job, an API server takes them, and each row runs. There is one image
 * here: a script stands for each row's program and prints the words, variables, files, folder and user that it was given.
 */
import { deepEqual, equal, match, ok } from "node:assert/strict";
import type { V1Job } from "@kubernetes/client-node";
import { call } from "../harness/command.ts";
import { envOf, JobWatch } from "../harness/job_watch.ts";
import { type Kit, startKit } from "../harness/kit.ts";
import { needs } from "../harness/needs.ts";
import { MqttEar, type ServiceProcess, startService } from "../harness/service.ts";
import { type Cells, csv } from "../harness/table.ts";
import { eventually } from "../harness/wait.ts";
import { parseCsv } from "../harness/csv_cells.ts";

const ROOT = new URL("../..", import.meta.url).pathname;
const TABLE = `${ROOT}tests/data/lab-families.csv`;
const POLICY_FILE = `${ROOT}tests/data/lab-families.policy.yaml`;
const PREFIX = "services/mqtt_job_listener";
const CORE = "/api/v1/namespaces/default";
const ready = await needs("mosquitto", "s3", "node");

/** What starts each family that no other one does, and what its program then has for arguments. */
const MESSAGES: Readonly<Record<string, readonly [topic: string, payload: Record<string, unknown>]>> = {
  "spike-sorting": ["experiments/upload", { uuid: "2024-10-01-e-chip 7" }],
  "h5-repack": ["experiments/raw", { file: "raw/rec one.h5" }],
  "nwb-conversion": ["experiments/e12/archive", { subject: "m'4" }],
  "video-tracking": ["video/upload", { video: "cage 2.mp4" }],
  "model-training": ["train/start", { config: "unet.yaml" }],
  "inference": ["inference/request/7", { model: "unet", file: "a.tif" }],
  "backup": ["backup/start", { bucket: "lab", prefix: "2024" }],
  "notebook": ["notebooks/run", { uuid: "u-1", notebook: "qc.ipynb" }],
  "dicom-conversion": ["scanner/3T/series", { series: "004", subject: "s01" }],
  "zarr-conversion": ["microscope/2/done", { uuid: "u-2", file: "scan.czi" }],
  "parameter-sweep": ["sweep/start", { grid: '{"lr": [1, 2]}' }],
  "batch-fit": ["fit/start", { dataset: "d1" }],
  "histology-segmentation": ["histology/done", { slide: "slide 9" }],
  "distributed-simulation": ["simulation/start", {}],
  "cluster-report": ["report/weekly", { who: "Ada" }],
  "matlab-analysis": ["analysis/matlab", { file: "x.mat" }],
};

/** Of each family what it is there for, as its Job must have it. */
const SHOWN: Readonly<Record<string, (job: V1Job) => unknown>> = {
  "spike-sorting": (job) => [main(job).resources?.limits?.["nvidia.com/gpu"], main(job).envFrom?.[0]?.secretRef?.name],
  "h5-repack": (job) => [main(job).command, main(job).args],
  "split-wells": (job) => [job.spec?.completions, job.spec?.completionMode],
  "lfp": (job) => main(job).workingDir,
  "curation": (job) => main(job).env?.some(({ name }) => name === "INPUT"),
  "visualisation": (job) => main(job).command?.slice(0, 2),
  "nwb-conversion": (job) => main(job).volumeMounts?.map(({ subPath, readOnly }) => [subPath, readOnly ?? false]),
  "video-tracking": (job) => pod(job).tolerations?.map(({ key, operator }) => [key, operator]),
  "model-training": (job) => [pod(job).priorityClassName, pod(job).terminationGracePeriodSeconds],
  "inference": (job) => main(job).resources?.limits?.["nvidia.com/mig-1g.10gb"],
  "backup": (job) => [main(job).volumeMounts?.[0]?.subPath, pod(job).securityContext?.runAsUser],
  "notebook": (job) => [main(job).workingDir, pod(job).securityContext?.fsGroup],
  "dicom-conversion": (job) => pod(job).volumes?.map(({ persistentVolumeClaim }) => persistentVolumeClaim?.claimName),
  "zarr-conversion": (job) => main(job).args?.slice(0, 2),
  "parameter-sweep": (job) => [job.spec?.parallelism, job.spec?.completions, job.spec?.completionMode],
  "alarm-mail": (job) => main(job).env?.find(({ name }) => name === "SMTP_PASSWORD")?.valueFrom?.secretKeyRef?.key,
  "batch-fit": (job) => job.metadata?.labels?.["kueue.x-k8s.io/queue-name"],
  "histology-segmentation": (job) => [main(job).imagePullPolicy, pod(job).imagePullSecrets?.[0]?.name],
  "distributed-simulation": (job) => main(job).resources?.requests?.["rdma/ib"],
  "cluster-report": (job) => [pod(job).serviceAccountName, pod(job).runtimeClassName],
  "matlab-analysis": (job) =>
    main(job).env?.find(({ name }) => name === "MLM_LICENSE_FILE")?.valueFrom?.configMapKeyRef?.name,
};

const EXPECTED: Readonly<Record<string, unknown>> = {
  "spike-sorting": ["1", "lab-s3"],
  "h5-repack": [undefined, ["--filter", "GZIP=4", "any"]],
  "split-wells": [3, "Indexed"],
  "lfp": "/work",
  "curation": true,
  "visualisation": ["sh", "-c"],
  "nwb-conversion": [["raw", true], ["nwb", false]],
  "video-tracking": [["nvidia.com/gpu", "Exists"], ["lab", "Equal"]],
  "model-training": ["low-priority", 120],
  "inference": "1",
  "backup": ["rclone.conf", 1000],
  "notebook": ["/tmp/out", 100],
  "dicom-conversion": ["lab-data"],
  "zarr-conversion": ["--resolutions", "any"],
  "parameter-sweep": [2, 4, "Indexed"],
  "alarm-mail": "password",
  "batch-fit": "lab-queue",
  "histology-segmentation": ["IfNotPresent", "lab-registry"],
  "distributed-simulation": "1",
  "cluster-report": ["lab-reader", "sandbox"],
  "matlab-analysis": "lab-settings",
};

function pod(job: V1Job) {
  return job.spec!.template.spec!;
}

function main(job: V1Job) {
  return pod(job).containers[0]!;
}

const command = (line: readonly string[], env: Record<string, string> = {}) =>
  call(line, { CATALOG_URL: TABLE, POLICY_FILE, ...env });

async function families(): Promise<Record<string, string>[]> {
  return parseCsv(await Deno.readTextFile(TABLE));
}

Deno.test("`check` finds nothing to say of the lab's job families", async () => {
  const rows = await families();
  ok(rows.length >= 18, `${rows.length} families`);
  const { code, out } = await command(["check", TABLE, "--strict"]);
  equal(out, `${TABLE}: ${rows.length} good rows, 0 errors, 0 warnings\n`);
  equal(code, 0);
});

Deno.test("`explain` gives the Job of each of the lab's job families", async (t) => {
  const rows = await families();
  deepEqual(rows.map(({ job_name }) => job_name).sort(), Object.keys(EXPECTED).sort());
  for (const { job_name = "", mqtt_topic = "" } of rows) {
    await t.step(job_name, async () => {
      const payload = JSON.stringify(samplePayload(rows, job_name));
      const { code, out, err } = await command(["explain", mqtt_topic.replaceAll("+", "any"), payload, "--json"]);
      equal(code, 0, err);
      const found = (JSON.parse(out) as { job_name: string; job: V1Job }[]).find((one) => one.job_name === job_name);
      ok(found, out);
      deepEqual(SHOWN[job_name]!(found.job), EXPECTED[job_name]);
    });
  }
});

/** A field for each placeholder of the row's. */
function samplePayload(rows: readonly Record<string, string>[], jobName: string): Record<string, string> {
  const cells = Object.values(rows.find(({ job_name }) => job_name === jobName) ?? {}).join(" ");
  return Object.fromEntries([...cells.matchAll(/payload\.(\w+)/g)].map(([, field]) => [field!, "any"]));
}

// ---------------------------------------------------------------- on a cluster

/** What stands for a row's program: says what it was given, and fails where the message asks for that. */
const SCRIPT = [
  `case "$JOB_NAME $MQTT_PAYLOAD" in batch-fit*please-fail*) echo failing; exit 3;; esac`,
  `echo "folder $(pwd)"; echo "user $(id -u):$(id -g)"`,
  `for word in "$@"; do printf "word %s\\n" "$word"; done`,
  `for place in $MOUNTED; do [ -e "$place" ] && echo "there $place"; done`,
  `env | sort | sed "s/^/env /"`,
].join("; ");

/** The same row for a small machine with one image. Sizes are cut, names and words stay. */
function small(row: Record<string, string>): Cells {
  const mounted = (row["mounts"] ?? "").split(";").flatMap((mount) =>
    /:(\/[^:]*)(?::ro)?$/.exec(mount.trim())?.[1] ?? []
  );
  const own = row["command"]?.startsWith("sh -c") ? "own-script" : row["command"] ?? "";
  const words = `sh -c '${SCRIPT}' - ${own}`.trimEnd();
  const sizes = Object.fromEntries(
    Object.entries({
      cpu_request: "",
      cpu_limit: "",
      memory_request: "",
      memory_limit: "",
      mounts: (row["mounts"] ?? "").replaceAll(/\b(memory|scratch):\d+Gi/g, "$1:16Mi"),
    }),
  );
  const env = [row["env"], `MOUNTED=${mounted.join(" ")}`].filter(Boolean).join("; ");
  return { ...row, ...sizes, image: "busybox:lab", command: words, env };
}

/** All that the policy lets the rows name. */
async function makeObjects({ cluster: { api } }: Kit): Promise<void> {
  const keys: Record<string, string[]> = {
    "lab-s3": ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"],
    wandb: ["api-key"],
    rclone: ["rclone.conf"],
    smtp: ["password"],
  };
  for (const [name, names] of Object.entries(keys)) {
    const data = Object.fromEntries(names.map((key) => [key, btoa(`${name} ${key}`)]));
    await api.create(`${CORE}/secrets`, { metadata: { name }, data });
  }
  await api.create(`${CORE}/secrets`, {
    metadata: { name: "lab-registry" },
    type: "kubernetes.io/dockerconfigjson",
    data: { ".dockerconfigjson": btoa('{"auths":{}}') },
  });
  const configs: Record<string, Record<string, string>> = {
    "lab-settings": { "sort-mode": "accurate", "matlab-license": "27000@license" },
    "matlab-startup": { "startup.m": "disp(1)" },
  };
  for (const [name, data] of Object.entries(configs)) {
    await api.create(`${CORE}/configmaps`, { metadata: { name }, data });
  }
  await api.create(`${CORE}/serviceaccounts`, { metadata: { name: "lab-reader" } });
  await api.create("/apis/scheduling.k8s.io/v1/priorityclasses", { metadata: { name: "low-priority" }, value: -10 });
  await api.create("/apis/node.k8s.io/v1/runtimeclasses", { metadata: { name: "sandbox" }, handler: "runc" });
}

/** Volumes of folders of the node, and what a node of the lab is and has. */
async function makePlaces({ cluster: { api, dir } }: Kit): Promise<void> {
  for (const name of ["lab-data", "lab-models"]) {
    const path = `${dir}/volumes/${name}`;
    for (const folder of ["", "raw", "nwb", "dicom", "bids", "scans", "zarr", "histology"]) {
      await Deno.mkdir(`${path}/${folder}`, { recursive: true });
    }
    const size = { storage: "1Gi" };
    const accessModes = ["ReadWriteMany"];
    await api.create("/api/v1/persistentvolumes", {
      metadata: { name },
      spec: { capacity: size, accessModes, storageClassName: "", hostPath: { path } },
    });
    await api.create(`${CORE}/persistentvolumeclaims`, {
      metadata: { name },
      spec: { accessModes, storageClassName: "", volumeName: name, resources: { requests: size } },
    });
  }
  const labels = { zone: "lab", "nvidia.com/cuda.driver.major": "12" };
  await api.patch("/api/v1/nodes/node1", { metadata: { labels } });
  const devices = { "nvidia.com/mig-1g.10gb": "2", "rdma/ib": "4" };
  await api.patch("/api/v1/nodes/node1/status", { status: { capacity: devices, allocatable: devices } });
}

interface End {
  readonly status: string;
  readonly message: string;
  readonly run_name: string;
  readonly log_url: string;
  readonly parent_run: string | null;
}

Deno.test({
  name: "the lab's job families run on a real cluster",
  ignore: !ready,
  async fn(t) {
    await using kit = await startKit({
      broker: { persistence: "always", maxQueuedMessages: 0 },
      cluster: { node: "real", gpus: 8, gpuProduct: "NVIDIA-A10" },
    });
    await makeObjects(kit);
    await makePlaces(kit);
    const rows = await families();

    await t.step("the API server takes each row as it stands", async () => {
      const { code, out, err } = await command(["check", TABLE, "--server"], { KUBECONFIG: kit.cluster.kubeconfig });
      equal(code, 0, out + err);
      match(out, new RegExp(`${rows.length} good rows, 0 errors`));
    });

    const env: Record<string, string> = { ...kit.env(), CATALOG_POLL: "1h", POLICY_FILE, LOG_LEVEL: "debug" };
    await kit.s3.put(env["CATALOG_URL"]!, csv(rows.map(small)));
    await using ear = await MqttEar.connect(kit.broker.url, [`${PREFIX}/#`]);
    await using jobs = await JobWatch.start(kit.cluster.api);
    await using service = await startService(env);
    const table = await eventually(() => ear.json<{ rows: number; problems: unknown[] }>(`${PREFIX}/table`).at(-1));
    deepEqual([table.rows, table.problems], [rows.length, []]);
    for (const [topic, payload] of Object.values(MESSAGES)) await ear.publish(topic, JSON.stringify(payload));
    // The mail is about a run that fails.
    await ear.publish("fit/start", JSON.stringify({ dataset: "please-fail" }));

    for (const row of rows) {
      const jobName = row["job_name"]!;
      await t.step(`${jobName} runs and has what it names`, async () => {
        const end = await endOf(jobName, ear, service);
        equal(end.status, "succeeded", end.message);
        const log = await eventually(() => kit.s3.get(end.log_url));
        checkLog(row, log, end);
      });
    }
    await t.step("none ran twice", () => {
      const counts = rows.map(({ job_name = "" }) => [job_name, jobs.created(job_name).length]);
      deepEqual(counts.filter(([name, count]) => count !== (name === "batch-fit" ? 2 : 1)), []);
      for (const job of jobs.created()) ok(envOf(job)["RUN_NAME"]);
    });
  },
});

function endOf(jobName: string, ear: MqttEar, service: ServiceProcess): Promise<End> {
  const ends = () => ear.json<End>(`${PREFIX}/job_complete/${jobName}`);
  return eventually(() => ends()[0], {
    timeoutMs: 240_000,
    what: async () => {
      const failed = ear.json<End>(`${PREFIX}/job_failed/${jobName}`).map(({ message }) => message);
      return `the end of ${jobName} (failed: ${failed}); the service says:\n${await service.logTail(15)}`;
    },
  });
}

/** Words, folder, user and files, as the log has them. */
function checkLog(row: Record<string, string>, log: string, { parent_run }: End): void {
  const lines = log.split("\n");
  const has = (line: string) => ok(lines.some((one) => one.endsWith(line)), `no line "${line}" in:\n${log}`);
  const jobName = row["job_name"]!;
  const [topic = "", payload = {}] = MESSAGES[jobName] ?? [];
  // A value with a blank or a quote is one line: one word.
  const whole = /(?:^| )'?\{payload\.(\w+)(?:=([^}]*))?\}'?(?= |$)/g;
  for (const [, field = "", preset] of (row["args"] ?? "").matchAll(whole)) {
    const value = payload[field] ?? preset;
    if (value !== undefined) has(`word ${value}`);
  }
  if (topic !== "") has(`env MQTT_TOPIC=${topic}`);
  if (row["working_dir"]) has(`folder ${row["working_dir"]}`);
  if (row["run_as"]) has(`user ${row["run_as"]}`);
  if (/secret:lab-s3\b/.test(row["env"] ?? "")) has("env AWS_SECRET_ACCESS_KEY=lab-s3 AWS_SECRET_ACCESS_KEY");
  for (const mount of (row["mounts"] ?? "").split(";")) {
    const path = /:(\/[^:]*)(?::ro)?$/.exec(mount.trim())?.[1];
    if (path !== undefined) has(`there ${path}`);
  }
  if (MESSAGES[jobName] === undefined) ok(parent_run, `${jobName} was started by a run`);
}
