/** What every adapter of the Cluster port must do, with programs that really run. */
import { deepEqual, doesNotMatch, equal, match, ok, rejects } from "node:assert/strict";
import fc from "fast-check";
import { judge, resultOf, type Trouble } from "../../outcome.ts";
import type { Cluster, ClusterEvents, JobFacts, PodFacts, Row, RunSpec } from "../../ports.ts";
import { RefusedError } from "../../ports.ts";
import { runNameFor } from "../../run_spec.ts";
import { eventually } from "../harness/wait.ts";

export interface ClusterFixture extends AsyncDisposable {
  readonly cluster: Cluster;
  /** An image with a POSIX shell; a cluster without images ignores it. */
  readonly image: string;
}

/** What a watch has told so far, and a new run's spec with names of its own. */
export class Seen implements AsyncDisposable {
  readonly jobs = new Map<string, JobFacts>();
  readonly pods = new Map<string, PodFacts>();
  readonly gone = new Map<string, JobFacts | undefined>();
  readonly troubles: string[] = [];
  synced = 0;
  readonly #stop = new AbortController();
  readonly #watching: Promise<void>;

  constructor(readonly cluster: Cluster, readonly image: string) {
    const events: ClusterEvents = {
      onJob: (job) => this.jobs.set(job.runName, job),
      onJobGone: (runName, last) => {
        this.jobs.delete(runName);
        this.gone.set(runName, last);
      },
      onPod: (pod) => this.pods.set(pod.podName, pod),
      onPodGone: (podName) => this.pods.delete(podName),
      onSynced: () => this.synced++,
      onTrouble: (reason) => this.troubles.push(reason),
    };
    this.#watching = cluster.watch(events, this.#stop.signal);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#stop.abort();
    await this.#watching;
  }

  /** A run of a shell script. */
  spec(script: string, { row = {}, payload = "{}", ...rest }: SpecOptions = {}): RunSpec {
    const whole: Row = {
      line: 2,
      jobName: "Test Row",
      mqttTopic: "t/+",
      image: this.image,
      command: ["sh", "-c", script],
      gpu: 0,
      parallelism: 1,
      backoffLimit: 0,
      ...row,
    };
    const runName = runNameFor(whole, { key: crypto.randomUUID() });
    return {
      runName,
      row: whole,
      message: { topic: "t/x", payload: typeof payload === "string" ? new TextEncoder().encode(payload) : payload },
      messageHash: "abcdefghijkl",
      root: "rootrootroot",
      rootRun: runName,
      chainDepth: 0,
      receivedAt: new Date("2026-01-02T03:04:05.678Z"),
      ...rest,
    };
  }

  async run(script: string, options: SpecOptions = {}): Promise<string> {
    const spec = this.spec(script, options);
    equal(await this.cluster.create(spec), "created");
    return spec.runName;
  }

  podsOf(runName: string): PodFacts[] {
    return [...this.pods.values()].filter((pod) => pod.runName === runName);
  }

  /** The run's pod, or one of them: the watch of Jobs may be ahead of that of pods. */
  pod(runName: string): Promise<PodFacts> {
    return eventually(() => this.podsOf(runName)[0], { what: `a pod of ${runName}` });
  }

  running(runName: string): Promise<PodFacts> {
    return eventually(() => this.podsOf(runName).find((pod) => pod.containers[0]?.state === "running"), {
      what: () => `a container of ${runName} to run: ${JSON.stringify(this.podsOf(runName))}`,
    });
  }

  /** A brief one may have ended before its node first looked. */
  begun(runName: string): Promise<PodFacts> {
    const hasBegun = (state?: string) => state === "running" || state === "terminated";
    return eventually(() => this.podsOf(runName).find(({ containers }) => hasBegun(containers[0]?.state)), {
      what: () => `a container of ${runName} to begin: ${JSON.stringify(this.podsOf(runName))}`,
    });
  }

  ended(runName: string): Promise<JobFacts> {
    return eventually(() => this.jobs.get(runName)?.end && this.jobs.get(runName), {
      what: () => `the end of ${runName}: ${JSON.stringify(this.podsOf(runName))}`,
    });
  }

  /** What people are told in the end. */
  outcome(runName: string) {
    return eventually(() => {
      const job = this.jobs.get(runName);
      if (!job) return undefined;
      const pods = this.podsOf(runName);
      // The Job's end may have come before its pods' words on why.
      const isRunning = ({ phase }: PodFacts) => phase === "Pending" || phase === "Running";
      if (job.end?.type === "Failed" && job.cancelledBy === undefined && pods.some(isRunning)) return undefined;
      const gracePeriods = { imagePullMs: 0, unschedulableMs: 0, nodeLostMs: 60_000 };
      const verdict = judge(job, pods, { gracePeriods, now: new Date() });
      return verdict.kind === "ended" && verdict.outcome;
    }, { what: () => `an outcome of ${runName}: ${JSON.stringify(this.podsOf(runName))}` });
  }

  /** Why it waits, or goes on, as people are told. */
  detail(runName: string, trouble?: Trouble): string {
    const job = this.jobs.get(runName);
    if (!job) return "";
    const gracePeriods = { imagePullMs: 600_000, unschedulableMs: 600_000, nodeLostMs: 600_000 };
    const verdict = judge(job, this.podsOf(runName), { gracePeriods, now: new Date(), trouble });
    return verdict.kind === "ended" ? `(${verdict.outcome.message})` : verdict.detail;
  }

  async log(podName: string, timestamps = false): Promise<string> {
    const stream = await this.cluster.logs(podName, "main", { follow: false, timestamps });
    ok(stream, `no log of ${podName}`);
    return await new Response(stream).text();
  }
}

interface SpecOptions {
  row?: Partial<Row>;
  payload?: string | Uint8Array;
  parentRun?: string;
  rootRun?: string;
  chainDepth?: number;
  payloadLink?: { url: string; object: string };
  attempt?: number;
  rung?: number;
  firstRun?: string;
  group?: string;
  index?: number;
  item?: string;
  rerunOf?: string;
  batch?: string;
  requestedBy?: string;
  concurrency?: string;
  heldFor?: "slot" | "pause";
}

/** Registers the suite; the fixture is made once for all of it. */
export function clusterConformance(
  name: string,
  start: () => Promise<ClusterFixture>,
  { ignore = false }: { ignore?: boolean } = {},
): void {
  Deno.test({
    name: `Cluster: ${name}`,
    ignore,
    async fn(t) {
      await using fixture = await start();
      await using seen = new Seen(fixture.cluster, fixture.image);
      await eventually(() => seen.synced > 0, { what: "the first list" });
      for (const [title, body] of CASES) await t.step(title, async () => await body(seen));
    },
  });
}

const CASES: readonly (readonly [title: string, body: (seen: Seen) => Promise<void>])[] = [
  ["a run that is held begins when it is resumed, and not before", async (seen) => {
    const runName = await seen.run("echo begun", { heldFor: "slot", concurrency: "bench 1" });
    const held = await eventually(() => seen.jobs.get(runName));
    equal(held.heldFor, "slot");
    equal(held.concurrency, "bench 1");
    ok(held.suspended);
    deepEqual(seen.podsOf(runName), []);
    match(seen.detail(runName), /free slot/);
    equal(await seen.cluster.resume(runName), true);
    equal(await seen.cluster.resume(runName), true, "twice is once");
    const ended = await seen.ended(runName);
    equal(ended.end?.type, "Complete");
    equal(ended.heldFor, undefined);
    equal(ended.suspended, undefined);
    equal(await seen.cluster.resume("test-row-aaaaaaaaaaaa"), false, "no such run");
  }],

  ["a run that is held can be cancelled and deleted", async (seen) => {
    const runName = await seen.run("echo begun", { heldFor: "pause" });
    equal(await seen.cluster.cancel(runName, "a test"), true);
    equal((await seen.outcome(runName)).status, "cancelled");
    await seen.cluster.delete(runName);
    await eventually(() => seen.gone.has(runName));
  }],

  ["a run keeps its lineage, and where it may be tried again its row", async (seen) => {
    const lineage = {
      root: "abcdefgh2345",
      attempt: 2,
      rung: 1,
      firstRun: "test-row-abcdefghijkl",
      group: "test-row-bbbbbbbbbbbb",
      index: 3,
      item: '{"uuid":"a \\"b\\" $(c)","wells":[1,2]}',
      rerunOf: "test-row-cccccccccccc",
      batch: "2026-11-26 night",
      requestedBy: "Ada Łovelace <ada@lab>",
    };
    const script = 'printf "%s|%s|%s|%s" "$ATTEMPT" "$ITEM" "$ITEM_INDEX" "$GROUP"';
    const runName = await seen.run(script, { ...lineage, row: { retries: 2 } });
    const job = await seen.ended(runName);
    for (const [field, value] of Object.entries(lineage)) equal(job[field as keyof JobFacts], value, field);
    const kept = (await seen.cluster.get(runName))?.row?.();
    equal(kept?.retries, 2);
    equal(kept?.jobName, "Test Row");
    const { podName } = await seen.pod(runName);
    equal(await seen.log(podName), `2|${lineage.item}|3|${lineage.group}`);
  }],

  ["a run that succeeds is told with its facts, from creation to end", async (seen) => {
    const options = {
      payload: '{"n":1}',
      row: { cpuRequest: "10m", memoryLimit: "64Mi" },
      parentRun: "parent",
      root: "rootrootroot",
      rootRun: "root",
      chainDepth: 2,
    };
    const before = Date.now() - 2_000;
    const runName = await seen.run("echo out; echo err >&2", options);
    const job = await seen.ended(runName);
    equal(job.end!.type, "Complete");
    equal(job.runName, runName);
    equal(job.jobName, "Test Row");
    equal(job.topic, "t/x");
    equal(new TextDecoder().decode(job.payload), '{"n":1}');
    equal(job.messageHash, "abcdefghijkl");
    deepEqual([job.parentRun, job.rootRun, job.chainDepth], ["parent", "root", 2]);
    equal(job.image, seen.image);
    equal(job.requests["cpu"], "10m");
    equal(job.limits["memory"], "64Mi");
    deepEqual(job.receivedAt, new Date("2026-01-02T03:04:05.678Z"));
    ok(job.createdAt.getTime() >= before && job.finishedAt!.getTime() >= job.startedAt!.getTime());
    equal(job.cancelledBy, undefined);
    const { podName } = await seen.pod(runName);
    equal(
      (await eventually(() => seen.pods.get(podName)?.phase === "Succeeded" && seen.pods.get(podName)))
        .containers[0]!.exitCode,
      0,
    );
    equal(seen.podsOf(runName).length, 1);
    deepEqual((await seen.log(podName)).trim().split("\n").sort(), ["err", "out"]);
    deepEqual(await seen.outcome(runName), {
      status: "succeeded",
      reason: "Completed",
      message: "Ended without error",
    });
    ok(seen.cluster.heardAt!.getTime() >= before);
    await seen.cluster.delete(runName);
  }],

  ["a run that fails keeps its exit code", async (seen) => {
    const runName = await seen.run("exit 3");
    equal((await seen.ended(runName)).end!.type, "Failed");
    const outcome = await seen.outcome(runName);
    deepEqual([outcome.status, outcome.reason, outcome.exitCode], ["failed", "ExitCode", 3]);
    await seen.cluster.delete(runName);
  }],

  ["what a program writes into RESULT_FILE comes with its end", async (seen) => {
    const write = (text: string) => `printf '%s' '${text}' > "$RESULT_FILE"`;
    const [good, none, odd, large] = await Promise.all([
      seen.run(`echo out; ${write('{"units": 3, "text": "µ"}')}`),
      seen.run("echo no result"),
      seen.run(write("three")),
      seen.run(`printf '"%05000d"' 1 > "$RESULT_FILE"`),
    ]);
    const result = async (runName: string) => {
      await seen.ended(runName);
      await eventually(() => seen.podsOf(runName)[0]?.phase === "Succeeded");
      return resultOf(seen.podsOf(runName));
    };
    deepEqual(await result(good), { result: { units: 3, text: "µ" } });
    deepEqual(await result(none), {});
    match((await result(odd)).fault!, /no JSON of at most 4 KiB/);
    match((await result(large)).fault!, /no JSON of at most 4 KiB/);
    await Promise.all([good, none, odd, large].map((runName) => seen.cluster.delete(runName)));
  }],

  ["the last line of a program that failed is in what people are told", async (seen) => {
    const runName = await seen.run('echo Traceback >&2; echo "ValueError: no units found" >&2; exit 1');
    await seen.ended(runName);
    const { message } = await seen.outcome(runName);
    equal(message, "Its program ended with exit code 1: ValueError: no units found; the log says more");
    await seen.cluster.delete(runName);
  }],

  ["a value of the message stays one argument, whatever it holds", async (seen) => {
    const pieces = fc.constantFrom(
      "$",
      "$(",
      ")",
      "`id`",
      "'",
      '"',
      "\\",
      " ",
      "\n",
      ";",
      "|",
      "*",
      "-",
      "{",
      "µ",
      "$@",
      "a",
    );
    const value = fc.oneof(
      fc.array(pieces, { maxLength: 8 }).map((parts) => parts.join("")),
      fc.string({ unit: "binary" }),
    );
    const values = fc.sample(value, 100).map((text) => text.toWellFormed().replaceAll("\0", ""));
    const args = values.map((_, at) => [
      "--",
      { root: "payload", path: ["values", at], source: `{payload.values[${at}]}` } as const,
    ]);
    const script = 'for word; do printf %s "$word" | od -An -v -tx1 | tr -d " \\n"; echo; done';
    const runName = await seen.run(script, {
      payload: JSON.stringify({ values }),
      row: { command: ["sh", "-c", script, "-"], args },
    });
    equal((await seen.ended(runName)).end?.type, "Complete");
    const hex = (text: string) => new TextEncoder().encode(`--${text}`).toHex();
    const shown = (await seen.log((await seen.pod(runName)).podName)).trimEnd().split("\n");
    deepEqual(shown, values.map(hex));
    await seen.cluster.delete(runName);
  }],

  ["the container gets the exact message, dollars and quotes included", async (seen) => {
    const payload = '{"text":"$(id) $$HOME ${PATH} `x` \\" \'"}';
    const script = 'printf "%s\\n" "$MQTT_TOPIC" "$RUN_NAME" "$JOB_NAME" "$MQTT_PAYLOAD" "$PAYLOAD_TEXT"';
    const runName = await seen.run(script, { payload });
    await seen.ended(runName);
    deepEqual((await seen.log((await seen.pod(runName)).podName)).trimEnd().split("\n"), [
      "t/x",
      runName,
      "Test Row",
      payload,
      "$(id) $$HOME ${PATH} `x` \" '",
    ]);
    equal(new TextDecoder().decode((await seen.cluster.get(runName))!.payload), payload);
    await seen.cluster.delete(runName);
  }],

  ["a payload of bytes, and one in the store, come back as they were", async (seen) => {
    const payload = Uint8Array.of(0, 255, 36, 36, 128);
    const binary = await seen.run("exec sleep 60", { payload });
    deepEqual(new Uint8Array((await seen.cluster.get(binary))!.payload!), payload);
    const payloadLink = { url: "http://127.0.0.1/x", object: "s3://b/x" };
    const large = await seen.run("exec sleep 60", { payload: "", payloadLink });
    const job = (await seen.cluster.get(large))!;
    deepEqual([job.payload, job.payloadObject], [undefined, "s3://b/x"]);
    await Promise.all([seen.cluster.delete(binary), seen.cluster.delete(large)]);
  }],

  ["a second create with the same name says exists and changes nothing", async (seen) => {
    const spec = seen.spec("exec sleep 60");
    equal(await seen.cluster.create(spec), "created");
    equal(await seen.cluster.create({ ...spec, chainDepth: 7 }), "exists");
    equal((await seen.cluster.get(spec.runName))!.chainDepth, 0);
    await seen.cluster.delete(spec.runName);
  }],

  ["of two creates at once with the same name one says created", async (seen) => {
    const spec = seen.spec("exec sleep 60");
    const said = await Promise.all([seen.cluster.create(spec), seen.cluster.create(spec)]);
    deepEqual(said.sort(), ["created", "exists"]);
    await seen.cluster.delete(spec.runName);
  }],

  ["a dry run makes nothing", async (seen) => {
    const spec = seen.spec("true");
    equal(await seen.cluster.create(spec, { dryRun: true }), "created");
    equal(await seen.cluster.get(spec.runName), undefined);
  }],

  ["logs are followed from the start to the end of the container", async (seen) => {
    const runName = await seen.run("for i in 1 2 3 4; do echo line $i; sleep 0.3; done");
    const { podName } = await seen.begun(runName);
    const stream = await seen.cluster.logs(podName, "main", { follow: true, timestamps: true });
    const lines = (await new Response(stream).text()).trimEnd().split("\n");
    deepEqual(lines.map((line) => line.slice(line.indexOf(" ") + 1)), ["line 1", "line 2", "line 3", "line 4"]);
    for (const line of lines) match(line, /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d) /);
    await seen.ended(runName);
    // As a whole, they are the same.
    equal(await seen.log(podName, true), lines.join("\n") + "\n");
    await seen.cluster.delete(runName);
  }],

  ["a follower that is aborted lets go", async (seen) => {
    const runName = await seen.run("echo ready; exec sleep 60");
    const { podName } = await seen.running(runName);
    const stop = new AbortController();
    const options = { follow: true, timestamps: false, signal: stop.signal };
    const reader = (await seen.cluster.logs(podName, "main", options))!.getReader();
    equal(new TextDecoder().decode((await reader.read()).value), "ready\n");
    const rest = reader.read();
    stop.abort();
    // Either is right: an end or the signal's error.
    await rest.catch(() => {});
    await seen.cluster.delete(runName);
  }],

  ["parallel pods have an index each", async (seen) => {
    const runName = await seen.run("echo index $JOB_COMPLETION_INDEX", { row: { parallelism: 2 } });
    equal((await seen.ended(runName)).end!.type, "Complete");
    await eventually(() => seen.podsOf(runName).length >= 2);
    const logs = await Promise.all(seen.podsOf(runName).map(({ podName }) => seen.log(podName)));
    deepEqual(logs.sort(), ["index 0\n", "index 1\n"]);
    await seen.cluster.delete(runName);
  }],

  ["a run that is cancelled stays until it is deleted, and its log can be followed to the end", async (seen) => {
    const script =
      "trap 'echo asked to stop; sleep 0.5; echo bye; exit 1' TERM; echo ready; while :; do sleep 0.1; done";
    const runName = await seen.run(script);
    const { podName } = await seen.running(runName);
    const stream = await seen.cluster.logs(podName, "main", { follow: true, timestamps: false });
    const text = new Response(stream).text();
    await eventually(async () => (await seen.log(podName)).includes("ready"));
    equal(await seen.cluster.cancel(runName, "Ada"), true);
    // Where SIGTERM goes to all processes, the shell also tells of its `sleep`.
    equal((await text).replace("Terminated\n", ""), "ready\nasked to stop\nbye\n");
    deepEqual(await seen.outcome(runName), { status: "cancelled", reason: "Cancelled", message: "Cancelled by Ada" });
    const job = (await seen.cluster.get(runName))!;
    equal(job.cancelledBy, "Ada");
    ok(job.startedAt);
    await seen.cluster.delete(runName);
  }],

  [
    "a run that has failed can be cancelled, for it may wait to be tried again, and has failed nevertheless",
    async (seen) => {
      const runName = await seen.run("exit 7");
      equal((await seen.outcome(runName)).reason, "ExitCode");
      equal(await seen.cluster.cancel(runName, "Ada"), true);
      const marked = await eventually(() =>
        seen.jobs.get(runName)?.cancelledBy !== undefined && seen.jobs.get(runName)
      );
      deepEqual([marked.cancelledBy, marked.end?.type], ["Ada", "Failed"]);
      await seen.cluster.delete(runName);
    },
  ],

  ["cancelling what is not there says so", async (seen) => {
    equal(await seen.cluster.cancel("no-such-run", "Ada"), false);
  }],

  ["a run that reaches its deadline fails for that", async (seen) => {
    const runName = await seen.run("trap 'exit 1' TERM; while :; do sleep 0.1; done", {
      row: { activeDeadlineSeconds: 1 },
    });
    equal((await seen.ended(runName)).end!.reason, "DeadlineExceeded");
    await seen.cluster.delete(runName);
  }],

  ["a deleted run goes with its pods; deleting it again is success", async (seen) => {
    const runName = await seen.run("trap 'exit 0' TERM; while :; do sleep 0.1; done");
    const { podName } = await seen.running(runName);
    await seen.cluster.delete(runName);
    await eventually(() => seen.gone.has(runName) && !seen.pods.has(podName), {
      what: "the run and its pod to go",
    });
    await seen.cluster.delete(runName);
    equal(await seen.cluster.get(runName), undefined);
    equal(await seen.cluster.logs(podName, "main", { follow: false, timestamps: false }), undefined);
  }],

  ["what is kept of a run names it, without the link that gives access to a large payload", async (seen) => {
    const payloadLink = { url: "http://127.0.0.1/x?X-Amz-Signature=s3cret", object: "s3://b/x" };
    const runName = await seen.run("exec sleep 60", { payload: "", payloadLink });
    const kept = JSON.stringify((await seen.cluster.get(runName))!.manifest!());
    match(kept, new RegExp(`"name":"${runName}"`));
    match(kept, /MQTT_PAYLOAD_URL/);
    doesNotMatch(kept, /s3cret/);
    await seen.cluster.delete(runName);
  }],

  ["a watch that starts later is told of all that is there, then that this was all", async (seen) => {
    const runName = await seen.run("exec sleep 60");
    await seen.running(runName);
    const told: string[] = [];
    const stop = new AbortController();
    const watching = seen.cluster.watch({
      onJob: (job) => void told.push(job.runName),
      onPod: (pod) => void told.push(`pod of ${pod.runName}`),
      onJobGone: () => {},
      onPodGone: () => {},
      onTrouble: () => {},
      onSynced: () => void told.push("synced"),
    }, stop.signal);
    await eventually(() => told.includes("synced"));
    const before = told.slice(0, told.indexOf("synced"));
    ok(before.includes(runName) && before.includes(`pod of ${runName}`));
    stop.abort();
    await watching;
    await seen.cluster.delete(runName);
  }],

  ["the pods of a run are listed as they are now, those of others not", async (seen) => {
    const [runName, other] = [await seen.run("exit 3"), await seen.run("exec sleep 60")];
    await Promise.all([seen.ended(runName), seen.pod(other)]);
    const [pod, ...more] = await seen.cluster.pods([runName]);
    deepEqual([pod!.runName, pod!.containers[0]!.exitCode, more], [runName, 3, []]);
    deepEqual((await seen.cluster.pods(["no-such-run", other])).map((one) => one.runName), [other]);
    deepEqual(
      new Set((await seen.cluster.pods([other, runName])).map((one) => one.runName)),
      new Set([runName, other]),
    );
    deepEqual(await seen.cluster.pods(["no-such-run"]), []);
    await seen.cluster.delete(runName);
    await seen.cluster.delete(other);
  }],

  ["a run without a name that can be one is refused for good", async (seen) => {
    await rejects(seen.cluster.create({ ...seen.spec("true"), runName: "Not_A/Name" }), RefusedError);
  }],

  ["events() has no error for a run that is not there", async (seen) => {
    deepEqual(await seen.cluster.events("no-such-run", []), []);
  }],

  ["a call whose signal is aborted rejects with its reason", async (seen) => {
    const reason = new Error("enough");
    await rejects(seen.cluster.get("x", { signal: AbortSignal.abort(reason) }), reason);
  }],
];
