/**
 * One case of the crash matrix: a service of its own on parts that it shares with other cases, its messages, what is
 * done to it meanwhile, and the count of what came of it. Knows no case by name; see matrix.ts and faults.ts.
 */
import type { V1Job } from "@kubernetes/client-node";
import type { SessionRecord } from "../../records.ts";
import { errorMessage } from "../../util/errors.ts";
import { envOf, JobWatch } from "../harness/job_watch.ts";
import type { Kit } from "../harness/kit.ts";
import { type Mosquitto, startMosquitto } from "../harness/mosquitto.ts";
import { type HttpHook, HttpProxy, TcpProxy } from "../harness/proxy.ts";
import { MqttEar, type ServiceProcess, startService } from "../harness/service.ts";
import { sessionRecord } from "../harness/session_record.ts";
import { csv, shell } from "../harness/table.ts";
import { eventually, pause } from "../harness/wait.ts";

/** The service that can be killed at a named place. */
export const ENTRY = "tests/chaos/entry.ts";
/** Longest wait for what a case is to come to. */
export const FINISH_MS = 240_000;

/** What one case showed. `lost` and `doubled` count what is missing or is there twice: runs, children, logs, ends. */
export interface CaseResult {
  readonly name: string;
  readonly messages: number;
  readonly runs: number;
  readonly lost: number;
  readonly doubled: number;
  /** `ok`, or what is wrong. */
  readonly outcome: string;
  readonly seconds: number;
}

/** A case: what is done while its messages are under way. */
export interface Case {
  readonly name: string;
  /** Does and counts all of it by itself; then the rest is not looked at. */
  readonly play?: (kit: Kit, id: string) => Promise<Omit<CaseResult, "name">>;
  /** `operation:before|after:nth`, the process's own death. */
  readonly fault?: string;
  /** Done when the service is ready, before the first message. */
  readonly before?: (stage: Stage) => void;
  /** Breaks and mends something else; the first messages have been sent. */
  readonly trouble?: (stage: Stage) => Promise<void>;
  /** The trouble is one for all cases that run at this time. */
  readonly alone?: boolean;
  readonly env?: Readonly<Record<string, string>>;
  /** The peer is reached through a proxy: of connections, or of requests. */
  readonly through?: "broker wire" | "S3 wire" | "S3 requests" | "API wire" | "API requests";
  /** One message fewer, for a quick run. */
  readonly few?: boolean;
  /** A message is sent when the record says that the one before it is acknowledged, or the service has died. */
  readonly spaced?: boolean;
  /** A message more, to a row whose first attempt fails. */
  readonly again?: boolean;
  /** A broker of its own that keeps nothing over a restart. */
  readonly forgetful?: boolean;
  /** Lines that the first row's container writes besides its first and last one. Default 1. */
  readonly lines?: number;
  /** Bytes by which each of them is longer than its number. Default 0. */
  readonly padding?: number;
}

/** Below the case's own level; each has a row. */
type Topic = "in" | "bad" | "again";
const ROWS = ["first", "child", "bad", "again"] as const;
type RowName = typeof ROWS[number];
const ROW_OF: Readonly<Record<Topic, RowName>> = { in: "first", bad: "bad", again: "again" };

// ---------------------------------------------------------------- one case

/** A service with a topic prefix, table and folders of its own, and the eyes on it. */
export class Stage implements AsyncDisposable {
  readonly prefix: string;
  readonly sent: { topic: Topic; payload: string }[] = [];
  /** What a case finds wrong besides the count. */
  readonly wrong: string[] = [];
  /** Requests that were not simply passed on. */
  #spoilt = 0;
  readonly #parts = new AsyncDisposableStack();
  service: ServiceProcess | undefined;
  #broker: Mosquitto | undefined;
  #env: Record<string, string> | undefined;
  #ear: MqttEar | undefined;
  #jobs: JobWatch | undefined;
  #wire: TcpProxy | undefined;
  #requests: HttpProxy | undefined;

  private constructor(readonly kit: Kit, readonly id: string, readonly padding: string) {
    this.prefix = `chaos-${id}`;
  }

  static async make(kit: Kit, id: string, one: Case): Promise<Stage> {
    const stage = new Stage(kit, id, "x".repeat(one.padding ?? 0));
    try {
      stage.#jobs = stage.#parts.use(await JobWatch.start(kit.cluster.api));
      if (one.forgetful) stage.#broker = stage.#parts.use(await startMosquitto({ conf: ["log_type all"] }));
      const ends = [`${stage.prefix}/job_complete/+`, `${stage.prefix}/job_failed/+`];
      stage.#ear = stage.#parts.use(await MqttEar.connect(stage.broker.url, ends));
      stage.#env = await stage.#environment(one);
      await kit.s3.put(stage.env["CATALOG_URL"]!, tableOf(stage, one.lines ?? 1));
    } catch (error) {
      await stage[Symbol.asyncDispose]();
      throw error;
    }
    return stage;
  }

  get broker(): Mosquitto {
    return this.#broker ?? this.kit.broker;
  }

  get env(): Record<string, string> {
    return this.#env ?? missing("environment");
  }

  get ear(): MqttEar {
    return this.#ear ?? missing("ear");
  }

  get jobs(): JobWatch {
    return this.#jobs ?? missing("watch");
  }

  /** The proxy of a case that goes through a wire. */
  get wire(): TcpProxy {
    return this.#wire ?? missing("wire");
  }

  /** Lets the proxy of a case that goes through requests decide so. */
  answer(hook: HttpHook): void {
    if (this.#requests === undefined) missing("proxy of requests");
    this.#requests.hook = async (request, count) => {
      const fault = await hook(request, count);
      if (fault !== "pass") this.#spoilt++;
      return fault;
    };
  }

  /** Breaks off the answers that are under way, watches too. */
  cutRequests(): void {
    this.#requests?.cut();
  }

  /** Requests were not simply passed on. */
  get spoilt(): boolean {
    return this.#spoilt > 0;
  }

  /** The proxy has had no occasion for a fault. */
  get provesNothing(): boolean {
    return (this.#requests !== undefined && this.#spoilt === 0) ||
      (this.#wire !== undefined && this.#wire.accepted === 0);
  }

  async #environment({ env = {}, through }: Case): Promise<Record<string, string>> {
    return {
      ...this.kit.env(this.prefix),
      MQTT_URL: this.broker.url,
      MQTT_CLIENT_ID: this.prefix,
      REPLICA_NAME: this.id,
      LOG_LEVEL: "debug",
      RETRY_DELAY: "500ms",
      ...(through === undefined ? {} : await this.#proxied(through)),
      ...env,
    };
  }

  /** Starts the proxy; the variable that leads through it. */
  async #proxied(through: NonNullable<Case["through"]>): Promise<Record<string, string>> {
    const { s3, cluster } = this.kit;
    const [peer, kind] = through.split(" ");
    if (kind === "wire") {
      const port = peer === "broker" ? this.broker.port : peer === "S3" ? s3.port : cluster.port;
      const wire = this.#wire = this.#parts.use(new TcpProxy(port));
      if (peer === "broker") return { MQTT_URL: `mqtt://127.0.0.1:${wire.port}` };
      if (peer === "S3") return { AWS_ENDPOINT_URL: `http://127.0.0.1:${wire.port}` };
      return { KUBECONFIG: await cluster.tokenKubeconfig(`https://127.0.0.1:${wire.port}`) };
    }
    if (peer === "S3") {
      const { url } = this.#requests = this.#parts.use(await HttpProxy.start({ target: s3.url }));
      return { AWS_ENDPOINT_URL: url };
    }
    const certificate = await cluster.authority.server(`proxy-${this.id}`, ["127.0.0.1"]);
    const proxy = await HttpProxy.start({ target: cluster.server, targetCa: cluster.authority.ca, certificate });
    this.#requests = this.#parts.use(proxy);
    return { KUBECONFIG: await cluster.tokenKubeconfig(proxy.url) };
  }

  async start(fault?: string): Promise<void> {
    await this.service?.[Symbol.asyncDispose]();
    const env = fault === undefined ? this.env : { ...this.env, CHAOS_FAULT: fault };
    this.service = await startService(env, { entry: ENTRY, mayEnd: fault !== undefined });
  }

  async send(topic: Topic, payload: string): Promise<void> {
    this.sent.push({ topic, payload });
    await this.ear.publish(`lab-${this.id}/${topic}`, payload);
  }

  /** The record of its session with the broker. */
  session(): Promise<SessionRecord | undefined> {
    return sessionRecord(this.kit.s3, this.env["RUNS_URL"]!);
  }

  /** Waits until the record of the session says that all of what was sent is acknowledged, or the service has died. */
  async untilWritten(): Promise<void> {
    const written = async () => ((await this.session())?.acknowledged ?? 0) >= this.sent.length;
    await eventually(async () => this.service!.status !== undefined || await written(), {
      timeoutMs: FINISH_MS,
      what: () => `${this.sent.length} messages to be acknowledged`,
    });
  }

  /** Jobs of one of the case's rows, by the test's own watch. */
  jobsOf(row: RowName): V1Job[] {
    return this.jobs.created(`${this.id}-${row}`);
  }

  /** All that was sent has come to its end, and nothing is left of it in the cluster. */
  get settled(): boolean {
    const sentTo = (wanted: Topic) => this.sent.filter(({ topic }) => topic === wanted).length;
    const expected = { first: sentTo("in"), child: sentTo("in"), bad: sentTo("bad"), again: 2 * sentTo("again") };
    return ROWS.every((row) =>
      this.jobsOf(row).length >= expected[row] && this.jobs.left(`${this.id}-${row}`).length === 0
    );
  }

  async untilSettled(): Promise<void> {
    await eventually(() => this.settled, {
      timeoutMs: FINISH_MS,
      intervalMs: 250,
      what: () => `all runs to end; ${describe(this)}`,
    });
  }

  /** Waits until the service has logged this. */
  async says(words: RegExp): Promise<void> {
    await eventually(async () => words.test(await this.service!.log()), {
      intervalMs: 200,
      what: `the service to say ${words}`,
    });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.service?.[Symbol.asyncDispose]();
    await this.#parts.disposeAsync();
  }
}

/** Two rows in a chain, one that fails, and one that fails at first; `lines`: how much the first writes. */
function tableOf({ id, prefix, padding }: Stage, lines: number): string {
  const base = { image: "busybox:lab" };
  // containerd 1.6 was seen to lose the last 64 KiB of a program that writes much and ends at once: they are not in the
  // node's file either, so that is not what these cases are about.
  const rest = lines > 1 ? "sleep 3; " : "";
  const script = `echo begin $MQTT_PAYLOAD; seq 1 ${lines}${
    padding && ` | sed "s/$/${padding}/"`
  }; ${rest}echo end $MQTT_PAYLOAD`;
  return csv([
    { ...base, job_name: `${id}-first`, mqtt_topic: `lab-${id}/in`, command: shell(script) },
    {
      ...base,
      job_name: `${id}-child`,
      mqtt_topic: `${prefix}/job_complete/${id}-first`,
      command: shell("echo begin; echo end"),
    },
    { ...base, job_name: `${id}-bad`, mqtt_topic: `lab-${id}/bad`, command: shell("echo begin; echo end; exit 3") },
    {
      ...base,
      job_name: `${id}-again`,
      mqtt_topic: `lab-${id}/again`,
      command: shell("echo begin; echo end; [ $ATTEMPT -gt 1 ] || exit 75"),
      retries: 2,
    },
  ]);
}

export async function runCase(kit: Kit, one: Case, id: string): Promise<CaseResult> {
  if (one.play) return { name: one.name, ...await one.play(kit, id) };
  const beginMs = performance.now();
  await using stage = await Stage.make(kit, id, one);
  let failure: string | undefined;
  try {
    await play(stage, one);
    await stage.untilSettled();
    // What is done twice is done a little later.
    await pause(1_500);
  } catch (error) {
    const tail = await stage.service?.logTail(25).catch(() => "") ?? "";
    failure = errorMessage(error);
    console.error(`${one.name}: ${failure}\n${tail}`);
  }
  if (stage.provesNothing) stage.wrong.push("the fault did not happen");
  const { lost, doubled, wrong } = await check(stage);
  const outcome = failure?.split("\n")[0] ?? (wrong.length === 0 ? "ok" : wrong.join("; "));
  const runs = stage.jobs.created().filter((job) => envOf(job)["JOB_NAME"]?.startsWith(`${id}-`)).length;
  const seconds = (performance.now() - beginMs) / 1000;
  return { name: one.name, messages: stage.sent.length, runs, lost, doubled, outcome, seconds };
}

/** Messages before, during and after the fault. */
async function play(
  stage: Stage,
  { fault, before, trouble, few = false, spaced = false, again = false }: Case,
): Promise<void> {
  await stage.start(fault);
  const service = stage.service!;
  if (service.status !== undefined) {
    // It died before there was a session: nothing can have been sent to it.
    await stage.start();
    for (const payload of few ? ["m1", "m3"] : ["m1", "m2", "m3"]) await stage.send("in", payload);
    await stage.send("bad", "b1");
    if (again) await stage.send("again", "r1");
    return;
  }
  before?.(stage);
  await stage.send("in", "m1");
  if (spaced) await stage.untilWritten();
  if (!few) await stage.send("in", "m2");
  if (spaced) await stage.untilWritten();
  await stage.send("bad", "b1");
  if (again) await stage.send("again", "r1");
  if (fault !== undefined) {
    await eventually(() => service.status !== undefined, { timeoutMs: FINISH_MS, what: `the service to die ${fault}` });
    const { signal, code } = await service.ended;
    if (signal !== "SIGKILL") throw new Error(`The service ended with exit code ${code}, not by the fault`);
    await stage.send("in", "m3");
    await stage.start();
  } else {
    await trouble?.(stage);
    await stage.send("in", "m3");
  }
}

function describe(stage: Stage): string {
  return ROWS.map((row) => {
    const left = stage.jobs.left(`${stage.id}-${row}`);
    return `${row}: ${stage.jobsOf(row).length} created, ${left.length} left`;
  }).join(", ");
}

// ---------------------------------------------------------------- the count

interface Count {
  lost: number;
  doubled: number;
  readonly wrong: string[];
}

/** Compares what was sent with Jobs, ends, logs and records. */
async function check(stage: Stage): Promise<Count> {
  const count: Count = { lost: 0, doubled: 0, wrong: [...stage.wrong] };
  for (const payload of new Set(stage.sent.map(({ payload }) => payload))) {
    const sent = stage.sent.filter((one) => one.payload === payload);
    const jobs = stage.jobsOf(ROW_OF[sent[0]!.topic]).filter((job) => envOf(job)["MQTT_PAYLOAD"] === payload);
    const firsts = jobs.filter((job) => (envOf(job)["ATTEMPT"] ?? "1") === "1");
    tally(count, `runs of message ${payload}`, firsts.length, sent.length);
    if (sent[0]!.topic === "again") {
      tally(count, `second attempts of message ${payload}`, jobs.length - firsts.length, sent.length);
    }
  }
  for (const first of stage.jobsOf("first")) {
    const run = first.metadata?.name ?? "";
    const children = stage.jobsOf("child").filter((job) => envOf(job)["PAYLOAD_RUN_NAME"] === run);
    tally(count, `children of ${run}`, children.length);
  }
  for (const row of ROWS) {
    for (const job of stage.jobsOf(row)) await checkEnd(stage, count, row, job);
  }
  return count;
}

/** Anything but what is expected is wrong. */
function tally(count: Count, what: string, found: number, expected = 1): void {
  count.lost += Math.max(0, expected - found);
  count.doubled += Math.max(0, found - expected);
  if (found !== expected) count.wrong.push(`${found} ${what}`);
}

/** One outcome, said at least once and never otherwise; a log with all that the run wrote; a record. */
async function checkEnd(stage: Stage, count: Count, row: RowName, job: V1Job): Promise<void> {
  const run = job.metadata?.name ?? "";
  const expected = row === "bad" ? "failed" : "succeeded";
  const topic = `${stage.prefix}/${row === "bad" ? "job_failed" : "job_complete"}/${stage.id}-${row}`;
  const said = stage.ear.json<{ run_name: string; status: string; reason: string }>(`${stage.prefix}/#`)
    .filter(({ run_name }) => run_name === run);
  const kinds = new Set(said.map(({ status, reason }) => `${status} ${reason}`));
  const isRetried = row === "again" && envOf(job)["ATTEMPT"] === "1";
  const ends = `outcomes of ${run}${kinds.size > 1 ? ` (${[...kinds].join(", ")})` : ""}`;
  tally(count, ends, kinds.size, isRetried ? 0 : 1);
  const onTopic = stage.ear.json<{ run_name: string; status: string }>(topic).filter(({ run_name }) =>
    run_name === run
  );
  if (said.length > 0 && onTopic[0]?.status !== expected) count.wrong.push(`${run} ended as ${[...kinds].join(", ")}`);
  const log = await stage.kit.s3.get(`${stage.env["LOGS_URL"]}/${run}.txt`) ?? "";
  const flaw = flawOf(log, envOf(job)["MQTT_PAYLOAD"] ?? "", row, stage.padding);
  tally(count, `whole logs of ${run} (${flaw})`, flaw === undefined ? 1 : 0);
  const record = await stage.kit.s3.get(`${stage.env["RUNS_URL"]}/${run}.json`);
  tally(count, `records of ${run}`, record === undefined ? 0 : 1);
  const next = JSON.parse(record ?? "{}").retried_as;
  if ((next !== undefined) !== isRetried) count.wrong.push(`the record of ${run} names ${next} as the next attempt`);
}

/** Where the log differs from what the run wrote; undefined: all lines are there once and in order. */
function flawOf(log: string, payload: string, row: string, padding: string): string | undefined {
  const lines = log.slice(log.indexOf("\n\n") + 2).split("\n");
  const tag = row === "first" ? ` ${payload}` : "";
  if (lines[0] !== `begin${tag}`) return `it begins with "${lines[0]}"`;
  if (lines.at(-1) !== "" || lines.at(-2) !== `end${tag}`) return `it ends with "${lines.slice(-2).join("\n")}"`;
  const numbers = lines.slice(1, -2);
  const wrong = numbers.findIndex((line, index) => line !== `${index + 1}${padding}`);
  return wrong < 0 ? undefined : `after "${numbers[wrong - 1] ?? "begin"}" comes "${numbers[wrong]}"`;
}

function missing(what: string): never {
  throw new TypeError(`Cannot use the ${what}: the case has none`);
}
