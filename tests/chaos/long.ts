/**
 * The long form of the chaos run: messages at a steady rate for minutes, some of which start flows (ladders, groups, joins,
 * limits, a row by the clock), while service, broker, store and API server are killed at random. Real broker, S3 server
 * and API server; Jobs are ended by the test, since no node could end so many. Counts with eyes of its own: acknowledgements of the broker, a watch of Jobs, a subscription, files of the store.
 */
import type { V1Job } from "@kubernetes/client-node";
import mqtt, { type MqttClient } from "mqtt";
import type { BrokerKind, RealBroker } from "../harness/brokers/all.ts";
import { envOf, followJobs } from "../harness/job_watch.ts";
import { type Kit, startKit } from "../harness/kit.ts";
import { TcpProxy } from "../harness/proxy.ts";
import { type ServiceProcess, startService } from "../harness/service.ts";
import { csv } from "../harness/table.ts";
import { atMost } from "../../util/retry.ts";
import { eventually, pause } from "../harness/wait.ts";
import { JobEnder } from "./ender.ts";
import { endingOf, FLOW_ROWS, FlowLedger, flowOf, type FlowRow, MAX_RUNS, sizeOf, TICK_MS } from "./flow_ledger.ts";
import { expectedEnd, isKeyed, Ledger, type Line, type Row, rowOf } from "./ledger.ts";
import { makeOutages, randomFrom, type Victim } from "./outages.ts";
import { SteadyPublisher } from "./publisher.ts";

const PREFIX = "services/mqtt_job_listener";
const EVERY_MS = [10_000, 40_000] as const;
const AWAY_MS = [500, 6_000] as const;
/** Jobs live so long before the test ends them, in milliseconds, so that kills fall into every part of a run. */
const RUN_MS = [200, 3_000] as const;
/** Mosquitto writes its queue when more than a whole second has passed since the last time; others are no slower. */
const SAVED_MS = 2_500;

export interface LongOptions {
  readonly minutes: number;
  readonly perSecond: number;
  readonly seed: number;
  /** Default: mosquitto. */
  readonly broker?: BrokerKind;
  readonly onProgress?: (line: string) => void;
  /** Hears all that the eyes see, as it happens. */
  readonly onSeen?: (what: Seen) => void;
}

/** What a history of the run is made of. */
export type Seen =
  | { readonly what: "taken"; readonly message: number; readonly attempts: number }
  | { readonly what: "job"; readonly run: string; readonly uid: string; readonly row: string; readonly message: number }
  | { readonly what: "gone"; readonly uid: string }
  | { readonly what: "end"; readonly run: string; readonly status: string; readonly reason: string }
  | { readonly what: "killing"; readonly part: string; readonly awayMs: number };

export interface LongResult {
  readonly lines: readonly Line[];
  readonly kills: ReadonlyMap<string, number>;
  /** From the last message to the last run's end. */
  readonly drainSeconds: number;
  /** Messages whose acknowledgement was lost, so that the publisher sent them again. */
  readonly sentAgain: number;
  /** Jobs at most at one time. */
  readonly mostAlive: number;
  /** What is wrong besides: a service that ended by itself, a drain that took too long, runs to look at. */
  readonly troubles: readonly string[];
}

/** Runs it all; resolves to the count. Needs `needs("mosquitto", "s3", "cluster")`. */
export async function runLong(options: LongOptions): Promise<LongResult> {
  const scene = await Scene.start(options);
  try {
    return await scene.play();
  } finally {
    // What came of it must not be lost behind a part that does not end: once half an hour was.
    await atMost(60_000, scene[Symbol.asyncDispose]());
  }
}

/** The parts, the eyes on them, and the books. */
class Scene implements AsyncDisposable {
  readonly #options: LongOptions;
  readonly #kit: Kit;
  readonly #broker: RealBroker;
  readonly #wire: TcpProxy;
  readonly #ledger = new Ledger();
  readonly #flows = new FlowLedger();
  /** Jobs whose end is on its way. */
  readonly #ending = new Set<string>();
  /** Names of Jobs that have a pod, by uid. */
  readonly #pods = new Map<string, string>();
  #begunMs = Infinity;
  readonly #random: () => number;
  readonly #parts = new AsyncDisposableStack();
  readonly #troubles: string[] = [];
  readonly #strangers = new Set<string>();
  #service: ServiceProcess | undefined;
  #mostAlive = 0;
  #over = false;

  private constructor(options: LongOptions, kit: Kit, broker: RealBroker) {
    this.#options = options;
    this.#kit = kit;
    this.#broker = broker;
    this.#wire = new TcpProxy(broker.port);
    this.#random = randomFrom(options.seed);
    this.#parts.use(kit);
    if (broker !== kit.broker) this.#parts.use(broker);
    this.#parts.use(this.#wire);
  }

  static async start(options: LongOptions): Promise<Scene> {
    const kit = await startKit({
      broker: {
        persistence: "each-second",
        maxQueuedMessages: 0,
        maxInflightMessages: 1_000,
        conf: ["max_queued_bytes 1073741824"],
      },
      // Jobs are ended by the test, and have no pods: no other controller is of use.
      cluster: { node: "none", controllerFlags: ["--controllers=serviceaccount-controller"] },
    });
    const scene = new Scene(options, kit, await options.broker?.start() ?? kit.broker);
    await kit.s3.put(scene.#env["CATALOG_URL"]!, table());
    return scene;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#over = true;
    await this.#service?.[Symbol.asyncDispose]();
    await this.#parts.disposeAsync();
  }

  async play(): Promise<LongResult> {
    const { minutes, perSecond } = this.#options;
    const ender = this.#parts.use(new JobEnder(this.#kit.cluster.api));
    this.#parts.use(
      await followJobs(this.#kit.cluster.api, {
        onJob: (job) => this.#see(job, ender),
        onGone: (uid) => {
          this.#options.onSeen?.({ what: "gone", uid });
          this.#gone(uid, ender);
        },
        onList: (uids) => this.#only(uids, ender),
      }),
    );
    await this.#listen();
    await this.#startService();
    this.#begunMs = Date.now();
    const publisher = this.#parts.use(
      await SteadyPublisher.start({
        url: `mqtt://127.0.0.1:${this.#wire.port}`,
        count: Math.round(minutes * 60 * perSecond),
        perSecond,
        messageOf,
        onTaken: (message, attempts) => {
          this.#options.onSeen?.({ what: "taken", message, attempts });
          if (flowOf(message)) this.#flows.taken(message);
          else this.#ledger.taken(message, attempts);
        },
      }),
    );
    const telling = setInterval(() => this.#tell(this.#ledger.state), 10_000);
    this.#parts.defer(() => clearInterval(telling));
    const kills = await makeOutages({
      victims: this.#victims(),
      random: this.#random,
      untilMs: performance.now() + minutes * 60_000,
      everyMs: EVERY_MS,
      awayMs: AWAY_MS,
      onKill: (part, awayMs) => {
        this.#options.onSeen?.({ what: "killing", part, awayMs });
        this.#tell(`killing the ${part}, away for ${(awayMs / 1_000).toFixed(1)} s`);
      },
    });
    await eventually(() => publisher.done, { timeoutMs: minutes * 60_000 + 60_000, what: "all messages to be sent" });
    const drainSeconds = await this.#drain();
    return await this.#count(kills, drainSeconds);
  }

  /** Waits for what is under way, for as long as messages came and five minutes. */
  async #drain(): Promise<number> {
    const beginMs = performance.now();
    const timeoutMs = this.#options.minutes * 60_000 + 300_000;
    try {
      await eventually(() => this.#ledger.settled && this.#flows.settled, {
        timeoutMs,
        intervalMs: 250,
        what: () => `${this.#ledger.state}; ${this.#flows.state}`,
      });
    } catch (error) {
      this.#troubles.push((error as Error).message);
    }
    const seconds = (performance.now() - beginMs) / 1_000;
    // What is done twice is done a little later.
    await pause(5_000);
    return seconds;
  }

  async #count(kills: ReadonlyMap<string, number>, drainSeconds: number): Promise<LongResult> {
    const due = dueTimes(this.#begunMs, Date.now());
    const lines = [...this.#ledger.lines(), ...this.#flows.lines(due), ...await this.#storeLines()];
    const left = this.#ledger.aliveCount + this.#flows.aliveCount;
    if (left > 0) this.#troubles.push(`${left} Jobs are not deleted`);
    if (this.#strangers.size > 0) {
      this.#troubles.push(`${this.#strangers.size} ends of runs that no Job was seen of: ${[...this.#strangers][0]}`);
    }
    this.#troubles.push(...this.#ledger.suspects(), ...this.#flows.suspects(due));
    const { sentAgain } = this.#ledger;
    return { lines, kills, drainSeconds, sentAgain, mostAlive: this.#mostAlive, troubles: this.#troubles };
  }

  get #env(): Record<string, string> {
    return {
      ...this.#kit.env(),
      MQTT_URL: `mqtt://127.0.0.1:${this.#wire.port}`,
      MQTT_CLIENT_ID: "chaos-service",
      CATALOG_POLL: "10s",
      // Those in flight come again after each kill and are looked up among the records, which this S3 server does by
      // reading the whole folder: with the preset of 1,000 it would do nothing else between two kills. Artemis counts
      // what was in flight when a connection was lost for as long as it runs, and sends nothing once that is so many.
      MQTT_RECEIVE_MAXIMUM: this.#options.broker?.part === "artemis" ? "10000" : "100",
    };
  }

  #victims(): Victim[] {
    const { s3, cluster } = this.#kit;
    return [
      { name: "service", kill: () => this.#killService(), start: () => this.#startService() },
      { name: "broker", kill: () => this.#endBroker(), start: () => this.#startBroker() },
      { name: "S3 server", kill: () => s3.kill9(), start: () => s3.start() },
      { name: "API server", kill: () => cluster.stopApiServer(), start: () => cluster.startApiServer() },
    ];
  }

  async #startService(): Promise<void> {
    // Long: it is ready when broker, store and API server have answered, and any of them may be away or busy now.
    const service = this.#service = await startService(this.#env, { readyTimeoutMs: 300_000 });
    void service.ended.then(async ({ code, signal }) => {
      if (this.#over || this.#service !== service) return;
      this.#troubles.push(`the service ended by itself: exit code ${code}, ${signal}\n${await service.logTail()}`);
    });
  }

  async #killService(): Promise<void> {
    const service = this.#service;
    this.#service = undefined;
    await service?.[Symbol.asyncDispose]();
  }

  /**
   * Half of the times an orderly end, at which mosquitto saves its queue; else all clients are cut off, and it is killed
   * when what it has acknowledged is on its disk. Mosquitto acknowledges before it saves, so a kill at any other moment
   * loses what no client could keep.
   */
  async #endBroker(): Promise<void> {
    if (this.#random() < 0.5) return await this.#broker.stop();
    this.#wire.mode = "refuse";
    this.#wire.cut();
    await pause(SAVED_MS);
    await this.#broker.kill9();
  }

  async #startBroker(): Promise<void> {
    await this.#broker.start();
    this.#wire.mode = "pass";
  }

  #see(job: V1Job, ender: JobEnder): void {
    const env = envOf(job);
    if (FLOW_ROWS.has(env["JOB_NAME"] ?? "")) return this.#seeFlow(job, env, ender);
    const { uid = "", name = "" } = job.metadata ?? {};
    const row = env["JOB_NAME"] as Row;
    const parentRun = env["PAYLOAD_RUN_NAME"];
    const message = Number(row === "child" ? env["PAYLOAD_INPUT"] : env["MQTT_PAYLOAD"]);
    const seen = { uid, runName: name, row, message, ...(parentRun === undefined ? {} : { parentRun }) };
    if (!this.#ledger.seen(seen)) return;
    this.#options.onSeen?.({ what: "job", run: name, uid, row, message });
    this.#mostAlive = Math.max(this.#mostAlive, this.#ledger.aliveCount);
    this.#end(job, ender, { fails: row === "bad" });
  }

  /** A suspended one ends when it goes on. */
  #seeFlow(job: V1Job, env: Readonly<Record<string, string>>, ender: JobEnder): void {
    const { uid = "", name = "" } = job.metadata ?? {};
    const row = env["JOB_NAME"] as FlowRow;
    const [index, attempt] = [Number(env["ITEM_INDEX"] ?? 0), Number(env["ATTEMPT"] ?? 1)];
    const message = row === "tick" ? Date.parse(env["PAYLOAD_DUE"] ?? "") : numberIn(env["MQTT_PAYLOAD"] ?? "");
    const isNew = this.#flows.seen({ uid, row, message, index, attempt });
    if (isNew) this.#options.onSeen?.({ what: "job", run: name, uid, row, message });
    const hasEnded = (job.status?.conditions ?? []).some(({ type }) => type === "Complete" || type === "Failed");
    const isRunning = job.spec?.suspend !== true && !hasEnded;
    if (row === "limited") this.#flows.runs(uid, isRunning);
    if (!isRunning || this.#ending.has(uid)) return;
    this.#ending.add(uid);
    const ending = endingOf({ row, n: message, index, attempt });
    if (ending !== "out of memory") return this.#end(job, ender, { fails: ending === "fails" });
    this.#pods.set(uid, name);
    this.#end(job, ender, { fails: true, outOfMemory: job });
  }

  #end(job: V1Job, ender: JobEnder, how: { readonly fails: boolean; readonly outOfMemory?: V1Job }): void {
    const { name = "", creationTimestamp } = job.metadata ?? {};
    const [least, most] = RUN_MS;
    const afterMs = least + Math.random() * (most - least);
    ender.end({ runName: name, createdAt: String(creationTimestamp), afterMs, ...how });
  }

  #gone(uid: string, ender: JobEnder): void {
    this.#ledger.gone(uid);
    this.#flows.gone(uid);
    this.#ending.delete(uid);
    const runName = this.#pods.get(uid);
    this.#pods.delete(uid);
    if (runName !== undefined) void ender.removePod(runName);
  }

  #only(uids: ReadonlySet<string>, ender: JobEnder): void {
    this.#ledger.only(uids);
    this.#flows.only(uids);
    for (const uid of this.#pods.keys()) if (!uids.has(uid)) this.#gone(uid, ender);
  }

  /** Hears the ends with a session that outlives the broker. */
  async #listen(): Promise<void> {
    const client: MqttClient = await mqtt.connectAsync(`mqtt://127.0.0.1:${this.#wire.port}`, {
      protocolVersion: 5,
      clientId: "chaos-ear",
      clean: false,
      properties: { sessionExpiryInterval: 3600 },
      reconnectPeriod: 200,
    });
    this.#parts.defer(() => client.endAsync(true));
    client.on("error", () => {});
    client.on("message", (topic, payload) => {
      const end = JSON.parse(payload.toString()) as End;
      const { run_name: run = "", status, reason } = end;
      this.#options.onSeen?.({ what: "end", run: run || end.group || "", status, reason });
      if (topic.startsWith(`${PREFIX}/group_`)) {
        const { succeeded, total } = end;
        return this.#flows.groupEnded(numberIn(end.input ?? ""), `${status} ${succeeded}/${total}`);
      }
      if (FLOW_ROWS.has(end.job_name)) return;
      if (!this.#ledger.ended(run, status, reason)) this.#strangers.add(run);
    });
    const kinds = ["job_complete", "job_failed", "group_complete", "group_failed"];
    await client.subscribeAsync(kinds.map((kind) => `${PREFIX}/${kind}/+`), { qos: 1 });
  }

  /** Logs and records as the S3 server has them on its disk. */
  async #storeLines(): Promise<Line[]> {
    const folder = `${this.#kit.s3.dataDir}/${this.#kit.s3.buckets[0]}/${PREFIX}`;
    const expected = this.#ledger.runCount;
    const logs = { name: "logs", expected, found: 0, lost: 0, doubled: 0, wrong: 0 };
    const records = { name: "run records", expected, found: 0, lost: 0, doubled: 0, wrong: 0 };
    for (const [runName, row] of this.#ledger.runs()) {
      const [status, reason] = expectedEnd(row).split(" ");
      const log = await Deno.readTextFile(`${folder}/logs/${runName}.txt`).catch(() => undefined);
      tally(logs, log === undefined ? undefined : log.includes(`run:       ${runName}\n`));
      const text = await Deno.readTextFile(`${folder}/runs/${runName}.json`).catch(() => undefined);
      const record = text === undefined ? undefined : JSON.parse(text) as Record<string, unknown>;
      tally(records, record && record["status"] === status && record["reason"] === reason);
    }
    return [logs, records];
  }

  #tell(line: string): void {
    this.#options.onProgress?.(line);
  }
}

interface End {
  readonly run_name?: string;
  /** Of the end of a group. */
  readonly group?: string;
  readonly job_name: string;
  readonly status: string;
  readonly reason: string;
  readonly input?: string;
  readonly succeeded?: number;
  readonly total?: number;
}

/** Number of the message that began it all, in its own payload or in one that hands it down. */
function numberIn(payload: string): number {
  const { n, input } = JSON.parse(payload || "{}") as { n?: number; input?: string };
  return n ?? (input === undefined ? NaN : numberIn(input));
}

/** Times at which the row "tick" was to run, and to be seen by now. */
function dueTimes(fromMs: number, untilMs: number): number[] {
  const due: number[] = [];
  for (let at = Math.ceil(fromMs / TICK_MS) * TICK_MS; at < untilMs - TICK_MS; at += TICK_MS) due.push(at);
  return due;
}

function tally(line: { found: number; lost: number; wrong: number }, right: boolean | undefined): void {
  if (right === undefined) line.lost++;
  else line.found++;
  if (right === false) line.wrong++;
}

function table(): string {
  const row = (jobName: Row | FlowRow, topic: string) => ({
    job_name: jobName,
    mqtt_topic: topic,
    image: "busybox:lab",
  });
  return csv([
    row("plain", "lab/plain"),
    row("parent", "lab/parent"),
    row("bad", "lab/bad"),
    row("child", `${PREFIX}/job_complete/parent`),
    // As a Job that the test ends has no pod, its failures are those of its Job; and out of memory is said by a pod.
    { ...row("item", "lab/flow"), for_each: "payload.items", retries: 1, retry_on: "DeadlineExceeded" },
    { ...row("side", "lab/flow"), memory_limit: "1Gi, 2Gi, 4Gi" },
    row("third", "lab/flow"),
    { ...row("report", ""), needs: "item, side" },
    { ...row("digest", ""), needs: "item, side, third" },
    { ...row("limited", "lab/limited"), max_runs: MAX_RUNS, max_waiting: 5_000 },
    { ...row("tick", ""), schedule: `every ${TICK_MS / 60_000}m` },
  ]);
}

function messageOf(n: number): { topic: string; payload: string; key?: string } {
  const flow = flowOf(n);
  if (flow !== undefined) {
    const items = flow === "flow" ? Array.from({ length: sizeOf(n) }, (_, at) => `file-${at}`) : [];
    return { topic: `lab/${flow}`, payload: JSON.stringify({ n, items }), key: `message ${n}` };
  }
  return { topic: `lab/${rowOf(n)}`, payload: String(n), ...(isKeyed(n) ? { key: `message ${n}` } : {}) };
}

/** The result for people; its last line is `N passed, N failed`. */
export function renderLong({ lines, kills, drainSeconds, sentAgain, mostAlive, troubles }: LongResult): string {
  const cells = (row: readonly (string | number)[]) =>
    [String(row[0]).padEnd(22), ...row.slice(1).map((cell) => String(cell).padStart(9))].join(" ");
  const failed = lines.filter(isWrong).length + (troubles.length > 0 ? 1 : 0);
  return [
    cells(["what", "expected", "found", "lost", "doubled", "wrong"]),
    ...lines.map((line) => cells([line.name, line.expected, line.found, line.lost, line.doubled, line.wrong])),
    "",
    `killed: ${[...kills].map(([name, count]) => `${name} ${count} times`).join(", ")}`,
    `sent again by the publisher, for their acknowledgement was lost: ${sentAgain}`,
    `most Jobs at one time: ${mostAlive}; drained ${drainSeconds.toFixed(0)} s after the last message`,
    ...troubles.map((trouble) => `trouble: ${trouble}`),
    // The last of the checks: nothing else went wrong.
    `${lines.length + 1 - failed} passed, ${failed} failed`,
  ].join("\n");
}

function isWrong({ lost, doubled, wrong }: Line): boolean {
  return lost + doubled + wrong > 0;
}

/** Whether all is as promised. */
export function isGood({ lines, troubles }: LongResult): boolean {
  return !lines.some(isWrong) && troubles.length === 0;
}
