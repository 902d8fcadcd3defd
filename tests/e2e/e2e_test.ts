/**
 * The main job from end to end on real parts: mosquitto, an S3 server, an API server with a kubelet that runs containers,
 * and the service as a process. Black box: messages in; Jobs, messages and objects out. The parts are shared by the
 * tests of this file, the service is each test's own or the one of `shared`.
 */
import { deepEqual, equal, match, ok } from "node:assert/strict";
import { createHash } from "node:crypto";
import { JobWatch } from "../harness/job_watch.ts";
import { type Kit, startKit } from "../harness/kit.ts";
import { needs } from "../harness/needs.ts";
import { MqttEar, type ServiceProcess, startService } from "../harness/service.ts";
import { type Cells, csv, endingLater, shell } from "../harness/table.ts";
import { eventually } from "../harness/wait.ts";

const PREFIX = "services/mqtt_job_listener";
const IMAGE = "busybox:lab";
const LAB_TABLE = new URL("../data/jobs-lab-2023-08.csv", import.meta.url);

const LOG_LINES = 400_000;
const LOG_DIGITS = 125;
/** Lines between two pauses. */
const LOG_PIECE = 50_000;

/** The end of a run as it is published; see the contract in README.md. */
interface End {
  status: string;
  job_name: string;
  run_name: string;
  parent_run: string | null;
  log_complete?: boolean;
  reason: string;
  message: string;
  started_at: string | null;
  finished_at: string;
  log_url: string;
}

/** Rows of these tests' own, each on a topic `lab/{name}`. */
const OWN_ROWS: readonly Cells[] = [
  row("fails", `echo about to fail; exit 3`),
  row("hungry", endingLater("head -c 200000000 /dev/zero | tail"), { memory_limit: "30Mi" }),
  { ...row("no-image", "true"), image: "registry.invalid/nobody/nothing:1" },
  row("wants-gpu", "true", { gpu: 4 }),
  {
    ...row("wordy", "true"),
    // Lines of some length, for a kubelet hands on a log line by line. It begins a new file at 10 MiB, of which a pause
    // lets the reader come to the end first. The last pause is for containerd 1.6, which was seen to lose the last 64 KiB
    // of a program that writes much and ends at once.
    command: `awk 'BEGIN { for (i = 1; i <= ${LOG_LINES}; i++) { printf "%0${LOG_DIGITS}d\\n", i; ` +
      `if (i % ${LOG_PIECE} == 0) { fflush(); system("sleep 3") } } }'`,
  },
  row(
    "echo",
    `printf %s "$MQTT_PAYLOAD" | sha256sum; echo "binary $MQTT_PAYLOAD_BASE64"; echo "url $MQTT_PAYLOAD_URL"`,
  ),
  row("slow", `echo begin; sleep 5; echo end`),
  row("quick", `echo quick $MQTT_PAYLOAD`),
];

function row(name: string, script: string, cells: Cells = {}): Cells {
  return { job_name: name, image: IMAGE, mqtt_topic: `lab/${name}`, command: shell(script), ...cells };
}

let shared: Shared;

interface Shared {
  readonly kit: Kit;
  readonly env: Record<string, string>;
  readonly ear: MqttEar;
  readonly jobs: JobWatch;
  service: ServiceProcess;
}

/** What is tested: main.ts, or the program that E2E_ENTRY names; see bundle_test.ts. */
const entry = Deno.env.get("E2E_ENTRY");
const program = entry === undefined ? {} : { entry };

const ready = await needs("mosquitto", "s3", "node");

Deno.test.beforeAll(async () => {
  if (!ready) return;
  const kit = await startKit({ broker: { persistence: "always", maxQueuedMessages: 0 } });
  const env: Record<string, string> = {
    ...kit.env(),
    // So long that only REFRESH can be what makes an edit count.
    CATALOG_POLL: "1h",
    IMAGE_PULL_GRACE: "20s",
    // What a run takes is free again some seconds after its end.
    UNSCHEDULABLE_GRACE: "30s",
    LOG_LEVEL: "debug",
  };
  await kit.s3.put(env["CATALOG_URL"]!, await labTable());
  const ear = await MqttEar.connect(kit.broker.url, [`${PREFIX}/#`]);
  const jobs = await JobWatch.start(kit.cluster.api);
  shared = { kit, env, ear, jobs, service: await startService(env, program) };
});

Deno.test.afterAll(async () => {
  if (shared === undefined) return;
  await shared.service[Symbol.asyncDispose]();
  await shared.jobs[Symbol.asyncDispose]();
  await shared.ear[Symbol.asyncDispose]();
  await shared.kit[Symbol.asyncDispose]();
});

/** A test of the shared service; what it logged is shown when the test fails. */
function e2e(name: string, fn: () => Promise<void>): void {
  Deno.test({
    name: `end to end: ${name}`,
    ignore: !ready,
    // The service, the watch and the ear live from one test to the next.
    sanitizeOps: false,
    sanitizeResources: false,
    async fn() {
      try {
        await fn();
      } catch (error) {
        console.error(await shared.service.logTail(40).catch(() => "The service has no log"));
        throw error;
      }
    },
  });
}

/** The lab's own table; only the images are others, for there is no registry. */
async function labTable(): Promise<string> {
  const text = await Deno.readTextFile(LAB_TABLE);
  return text.replaceAll("hello-world:latest", IMAGE).replaceAll("braingeneers/job-h5repack:latest", IMAGE);
}

/** The lab's rows and those of this file. Columns are matched by name, so both parts are brought under one header. */
async function wholeTable(rows: readonly Cells[] = OWN_ROWS): Promise<string> {
  const [header = "", ...lines] = (await labTable()).trim().split("\n");
  const names = header.split(",");
  const lab = lines.map((line) => {
    const cells = line.split(",").map((cell) => cell.replaceAll('"', ""));
    return Object.fromEntries(names.map((name, index) => [name, cells[index] ?? ""]));
  });
  return csv([...lab, ...rows]);
}

function ends(jobName: string): End[] {
  return [
    ...shared.ear.json<End>(`${PREFIX}/job_complete/${jobName}`),
    ...shared.ear.json<End>(`${PREFIX}/job_failed/${jobName}`),
  ];
}

/** The `count`th end of a row's runs, when it is there. */
async function end(jobName: string, count = 1): Promise<End> {
  return await eventually(() => ends(jobName)[count - 1], {
    what: async () => `end ${count} of ${jobName}; the service says:\n${await shared.service.logTail(15)}`,
  });
}

/** Log and record of a run that has ended, once its Job is gone. */
async function leftovers({ run_name, log_url }: Pick<End, "run_name" | "log_url">) {
  equal(log_url, `${shared.env["LOGS_URL"]}/${run_name}.txt`);
  await eventually(() => shared.jobs.gone(run_name), { what: `Job ${run_name} to be deleted` });
  const log = await shared.kit.s3.get(log_url);
  ok(log !== undefined, `there is no log ${log_url}`);
  const record = await shared.kit.s3.get(`${shared.env["RUNS_URL"]}/${run_name}.json`);
  ok(record !== undefined, `there is no record of ${run_name}`);
  const cut = log.indexOf("\n\n");
  return {
    head: log.slice(0, cut + 1),
    output: log.slice(cut + 2),
    record: JSON.parse(record) as { status: string; reason: string; parent_run: string | null; log_complete?: boolean },
  };
}

/** A chain of three with three pods in the middle: each step in order, with log, record and no Job left. */
async function checkChain(count: number): Promise<void> {
  const steps = ["h5-repack-init", "h5-repack-workers", "h5-repack-finalize"];
  const seen: End[] = [];
  for (const step of steps) seen.push(await end(step, count));
  const names = seen.map(({ run_name }) => run_name);
  deepEqual(seen.map(({ status, parent_run }) => [status, parent_run]), [
    ["succeeded", null],
    ["succeeded", names[0]],
    ["succeeded", names[1]],
  ]);
  for (const [index, one] of seen.entries()) {
    const { head, record } = await leftovers(one);
    equal(record.status, "succeeded");
    match(head, new RegExp(`^run: +${one.run_name}$`, "m"));
    match(head, /^ended: +succeeded/m);
    if (index === 0) continue;
    const [before, started] = [seen[index - 1]!.finished_at, one.started_at ?? ""];
    ok(started >= before, `${steps[index]} started at ${started}, before the end of its parent at ${before}`);
  }
  const workers = shared.jobs.created("h5-repack-workers").at(-1)!;
  deepEqual([workers.spec?.parallelism, workers.spec?.completions, workers.spec?.completionMode], [3, 3, "Indexed"]);
  equal(workers.status?.succeeded, 3);
  for (const step of steps) equal(shared.jobs.created(step).length, count, `Jobs of ${step}`);
}

e2e("the lab's five rows run their chain of three, in order", async () => {
  await shared.ear.publish("experiments/upload", JSON.stringify({ uuid: "2023-08-01-e-", size: 12 }));
  await checkChain(1);
  const env = shared.jobs.created("h5-repack-init")[0]?.spec?.template.spec?.containers[0]?.env ?? [];
  const value = (name: string) => env.find((one) => one.name === name)?.value;
  deepEqual(
    [value("MQTT_TOPIC"), value("PAYLOAD_UUID"), value("PAYLOAD_SIZE")],
    ["experiments/upload", "2023-08-01-e-", "12"],
  );
});

e2e("the lab's misspelt row is reported: it waits for a job that no row has", async () => {
  const table = await eventually(() => shared.ear.json(`${PREFIX}/table`).at(-1), { what: "the retained table" });
  const text = JSON.stringify(table);
  match(text, /hello-world-test-2/);
  match(text, /"hello-world-test/);
  const problems = (table as { problems: { severity: string; jobName?: string }[] }).problems;
  deepEqual(problems.map(({ severity }) => severity), ["warning"], text);
});

e2e("an edit of the table counts after REFRESH, while a run of the old one goes on", async () => {
  const { ear, kit, env } = shared;
  await kit.s3.put(env["CATALOG_URL"]!, await wholeTable());
  await ear.publish(`${PREFIX}/REFRESH`, "");
  await eventually(() =>
    ear.json<{ rows: number }>(`${PREFIX}/table`).some(({ rows }) => rows === 5 + OWN_ROWS.length)
  );
  await ear.publish("lab/slow", "edited");
  await eventually(() => shared.jobs.created("slow").some((job) => job.status?.active === 1));
  await kit.s3.put(env["CATALOG_URL"]!, await wholeTable([row("newcomer", "echo new")]));
  await ear.publish(`${PREFIX}/REFRESH`, "");
  await eventually(() => ear.json<{ rows: number }>(`${PREFIX}/table`).at(-1)?.rows === 6);
  await ear.publish("lab/newcomer", "");
  equal((await end("newcomer")).status, "succeeded");
  const slow = await end("slow");
  equal(slow.status, "succeeded");
  equal((await leftovers(slow)).output, "begin\nend\n");
  await kit.s3.put(env["CATALOG_URL"]!, await wholeTable());
  await ear.publish(`${PREFIX}/REFRESH`, "");
  await eventually(() => ear.json<{ rows: number }>(`${PREFIX}/table`).at(-1)?.rows === 5 + OWN_ROWS.length);
});

e2e("failures are told in plain words on job_failed and on ERROR", async () => {
  const cases: [jobName: string, reason: RegExp, message: RegExp][] = [
    ["fails", /^ExitCode$/, /\b3\b/],
    ["hungry", /^OOMKilled$/, /out of memory.*30Mi/i],
    ["no-image", /^ImagePull$/, /registry\.invalid\/nobody\/nothing:1/],
    ["wants-gpu", /^Unschedulable$/, /4 free GPUs/],
  ];
  for (const [jobName] of cases) await shared.ear.publish(`lab/${jobName}`, "go");
  for (const [jobName, reason, message] of cases) {
    const failed = await end(jobName);
    equal(failed.status, "failed", jobName);
    match(failed.reason, reason, jobName);
    match(failed.message, message, jobName);
    const { head, output, record } = await leftovers(failed);
    equal(record.reason, failed.reason);
    match(head, /^ended: +failed: /m);
    if (jobName === "fails") equal(output, "about to fail\n");
    equal(shared.ear.on(`${PREFIX}/job_complete/${jobName}`).length, 0);
    const error = await eventually(() =>
      shared.ear.json<End>(`${PREFIX}/ERROR`).find(({ run_name }) => run_name === failed.run_name)
    );
    deepEqual(error, failed);
  }
});

e2e("a log of 50 MB is kept whole, behind its head", async () => {
  await shared.ear.publish("lab/wordy", "");
  const ended = await end("wordy");
  equal(ended.status, "succeeded");
  const { head, output, record } = await leftovers(ended);
  match(head, /^job: +wordy$/m);
  ok(record.log_complete, `the log is said to lack something: ${head}`);
  ok(output.length > 50_000_000, `the output has ${output.length} bytes`);
  const expected = createHash("sha256");
  for (let line = 1; line <= LOG_LINES; line++) expected.update(`${String(line).padStart(LOG_DIGITS, "0")}\n`);
  equal(createHash("sha256").update(output).digest("hex"), expected.digest("hex"));
});

e2e("a message with the idempotency key of another is no second run", async () => {
  const { ear } = shared;
  const userProperties = { "idempotency-key": crypto.randomUUID() };
  await ear.publish("lab/quick", "keyed", { userProperties });
  await ear.publish("lab/quick", "keyed", { userProperties });
  await end("quick");
  // Once more, when the run and its Job are gone and only the record knows.
  await leftovers(ends("quick")[0]!);
  await ear.publish("lab/quick", "keyed", { userProperties });
  // A later message of the same row is through: so were those before it.
  await ear.publish("lab/quick", "after");
  await leftovers(await end("quick", 2));
  const payloads = shared.jobs.created("quick").map((job) => payloadOf(job));
  deepEqual(payloads.sort(), ["after", "keyed"]);
});

e2e("two messages with the same payload are two runs", async () => {
  const before = ends("quick").length;
  await shared.ear.publish("lab/quick", "twin");
  await shared.ear.publish("lab/quick", "twin");
  const twins = [await end("quick", before + 1), await end("quick", before + 2)];
  equal(new Set(twins.map(({ run_name }) => run_name)).size, 2);
  for (const twin of twins) equal((await leftovers(twin)).output, "quick twin\n");
});

e2e("payloads reach the container byte for byte", async () => {
  const { ear } = shared;
  const texts = ["$(HOME) $$ $$(X) ${PATH} $(id) `id`", `"double" 'single' \\ \n second line, ä€😀`, ""];
  const binary = new Uint8Array([0, 255, 254, 10, 0, 128]);
  const large = "0123456789abcdef".repeat(12_500);
  const payloads = [...texts, binary, large];
  for (const payload of payloads) await ear.publish("lab/echo", payload);
  const sha256 = (text: string) => createHash("sha256").update(text).digest("hex");
  const got = await Promise.all(payloads.map(async (_, index) => {
    const { output } = await leftovers(await end("echo", index + 1));
    const [hash = "", base64 = "", line = ""] = output.split("\n");
    const url = line.slice("url ".length);
    return [hash.split(" ")[0], base64, url === "" ? "" : await (await fetch(url)).text()];
  }));
  // They run at once, and end in any order.
  deepEqual(
    got.sort(),
    [
      ...texts.map((text) => [sha256(text), "binary ", ""]),
      [sha256(""), "binary AP/+CgCA", ""],
      [sha256(""), "binary ", large],
    ].sort(),
  );
});

e2e("kill -9 in the middle of a run: one outcome, a whole log, no Job left", async () => {
  const before = ends("slow").length;
  await shared.ear.publish("lab/slow", "killed");
  await eventually(() =>
    shared.jobs.created("slow").at(-1)?.status?.active === 1 && shared.jobs.left("slow").length > 0
  );
  await shared.service.kill9();
  await restart();
  const ended = await end("slow", before + 1);
  equal(ended.status, "succeeded");
  equal((await leftovers(ended)).output, "begin\nend\n");
  equal(ends("slow").length, before + 1);
});

e2e("what ended and what came while the service was down is dealt with at its next start", async () => {
  const { ear, jobs } = shared;
  const before = ends("slow").length;
  const quickBefore = ends("quick").length;
  await ear.publish("lab/slow", "alone");
  await eventually(() => jobs.left("slow").length > 0);
  await shared.service.kill9();
  await ear.publish("lab/quick", "queued");
  await eventually(() => jobs.created("slow").at(-1)?.status?.succeeded === 1);
  await restart();
  equal((await leftovers(await end("slow", before + 1))).output, "begin\nend\n");
  equal((await leftovers(await end("quick", quickBefore + 1))).output, "quick queued\n");
});

e2e("SIGTERM ends it with 0 and leaves a retained `offline`", async () => {
  await shared.service.stop();
  const state = await retained(`${PREFIX}/state`);
  equal(state, "offline");
  await restart();
  equal(await retained(`${PREFIX}/state`), "online");
});

async function restart(): Promise<void> {
  await shared.service[Symbol.asyncDispose]();
  shared.service = await startService(shared.env, program);
}

async function retained(topic: string): Promise<string> {
  await using fresh = await MqttEar.connect(shared.kit.broker.url, [topic]);
  const [first] = await eventually(() => fresh.heard.length > 0 && fresh.heard, { what: `a retained ${topic}` });
  return first!.text;
}

function payloadOf(job: ReturnType<JobWatch["created"]>[number]): string | undefined {
  return job.spec?.template.spec?.containers[0]?.env?.find(({ name }) => name === "MQTT_PAYLOAD")?.value;
}
