/**
 * The promise of delivery as a model: the real Listener, Starter, RunTable and RunRecords on fake ports, a broker of any
 * manners, and deaths, cuts, late answers and lost sessions anywhere, with messages that are all alike. Lost is never
 * anything; doubled is nothing on a broker that gives identifiers in order, elsewhere at most what was acknowledged in
 * the very moment of a cut.
 */
import { deepEqual, equal, ok } from "node:assert/strict";
import fc from "fast-check";
import { UnavailableError } from "../../ports.ts";
import { compact } from "../../util/compact.ts";
import { startProcess } from "../harness/core.ts";
import { FakeCluster, FakeStore, job, row } from "../harness/fakes.ts";
import { isOrderly, type Manners, ModelBroker } from "../harness/model_broker.ts";
import { VirtualTime } from "../harness/virtual_time.ts";

const PREFIX = "services/mqtt_job_listener";
const ROWS = [row({ mqttTopic: "lab/a" }), row({ jobName: "sum", mqttTopic: "lab/a" })];
const ONE = row({ jobName: "one", mqttTopic: "lab/b" });
const EACH = row({ jobName: "each", mqttTopic: "lab/c", forEach: { from: "numbers", first: 1, last: 2 } });
const match = ({ topic }: { topic: string }) =>
  topic === "lab/a" ? ROWS : topic === "lab/b" ? [ONE] : topic === "lab/c" ? [EACH] : [];
const TOPICS = ["lab/a", "lab/b", "lab/c"];

type Step =
  | { do: "publish"; topic: number; count: number }
  | { do: "move"; toService: number; toBroker: number }
  | { do: "wait"; ms: number }
  | { do: "cut" | "kill" | "end" | "expire" | "lose session" }
  | { do: "store" | "cluster"; how: "good" | "away" | "late" };

type Process = Awaited<ReturnType<typeof startProcess>>;

/** What outlives processes, and the books. */
class World {
  readonly broker: ModelBroker;
  readonly store = new FakeStore();
  readonly jobs = new Map<
    string,
    { jobName: string; topic: string; messageHash: string; group?: string; index?: number }
  >();
  readonly runs: string[] = [];
  /** Of each run that was made, in the order of `runs`. */
  readonly roots: { readonly root: string; readonly jobName: string }[] = [];
  readonly published: Record<string, number> = { "lab/a": 0, "lab/b": 0, "lab/c": 0 };
  /** Published messages that need not run, for they expired or went with their session. */
  readonly excused: Record<string, number> = { "lab/a": 0, "lab/b": 0, "lab/c": 0 };
  /** Messages that may run twice: they were acknowledged in the moment of a cut. */
  readonly doubtful: Record<string, number> = { "lab/a": 0, "lab/b": 0, "lab/c": 0 };
  storeIs: "good" | "away" | "late" = "good";
  clusterIs: "good" | "away" | "late" = "good";
  /** What was asked for and is carried out later, or never. */
  late: { readonly by: Process | undefined; readonly isCreate: boolean; run(): void }[] = [];
  process: Process | undefined;
  #boots = 0;
  /** It has gone on with the groups of the one before. */
  #resumed: Process | undefined;
  #subscribed = false;
  /** Which has connected before. */
  #connectedOnce: Process | undefined;
  readonly #time: VirtualTime;
  sessionsLost = 0;
  #isRecorded = true;

  constructor(readonly manners: Manners, time: VirtualTime) {
    this.#time = time;
    this.broker = new ModelBroker(manners);
    const { store } = this;
    const { put, putIfAbsent, list, get } = store;
    store.putIfAbsent = (key, body) => this.#store(() => putIfAbsent.call(store, key, body), true);
    store.put = (key, body) => this.#store(() => put.call(store, key, body));
    store.get = (key) => this.#store(() => get.call(store, key));
    store.list = (...args) => {
      if (this.storeIs === "away") throw new UnavailableError("away");
      return list.apply(store, args);
    };
  }

  /** `isCreate`: it makes runs, and is carried out soon or never, as creates are. */
  #store<T>(work: () => Promise<T>, isCreate = false): Promise<T> {
    if (this.storeIs === "good") return work();
    if (this.storeIs === "away") return Promise.reject(new UnavailableError("away"));
    return new Promise((resolve, reject) =>
      this.late.push({ by: this.process, isCreate, run: () => work().then(resolve, reject) })
    );
  }

  #cluster(): FakeCluster {
    const cluster = new FakeCluster();
    cluster.create = (spec) => {
      const create = (): "created" | "exists" => {
        if (this.jobs.has(spec.runName)) return "exists";
        const { row: { jobName }, message: { topic }, messageHash, group, index } = spec;
        this.jobs.set(spec.runName, { jobName, topic, messageHash, ...compact({ group, index }) });
        this.runs.push(spec.runName);
        this.roots.push({ root: spec.root, jobName });
        return "created";
      };
      if (this.clusterIs === "good") return Promise.resolve(create());
      if (this.clusterIs === "away") return Promise.reject(new UnavailableError("quota", { retryAfterMs: 100 }));
      const by = this.process;
      return new Promise((resolve) =>
        this.late.push({
          by,
          isCreate: true,
          run: () => {
            const result = create();
            // Who asked is dead: the next process hears of it by its watch.
            if (this.process !== by) this.#tell(spec.runName);
            resolve(result);
          },
        })
      );
    };
    return cluster;
  }

  #tell(runName: string): void {
    this.process?.runs.clusterEvents.onJob(job({ runName, ...this.jobs.get(runName)! }));
  }

  /** Starts a process, as far as the store lets it; then it connects. */
  boot(): void {
    const boot = ++this.#boots;
    (async () => {
      const process = await startProcess({ match, store: this.store, cluster: this.#cluster(), concurrency: 2 });
      if (boot !== this.#boots) return process.kill();
      this.process = process;
      for (const runName of this.jobs.keys()) this.#tell(runName);
      process.runs.clusterEvents.onSynced();
      await process.groups.resume();
      if (boot !== this.#boots) return;
      this.#resumed = process;
      this.connect();
    })().catch(() => {/* It was killed. */});
  }

  /**
   * Connects; a new session is tried for its order first, as service.ts does, and then subscribed. One that was there and
   * is not tried yet is tried among other messages.
   */
  connect(): void {
    const { process, broker } = this;
    if (!process || process !== this.#resumed || broker.connected) return;
    const isFirst = !this.#subscribed;
    const isFirstOfProcess = this.#connectedOnce !== process;
    this.#connectedOnce = process;
    const sessionPresent = this.#connectWire(process);
    const taking = process.listener.connected(sessionPresent);
    this.#isRecorded = sessionPresent && this.#isRecorded;
    taking.then(() => this.#isRecorded = true, () => {/* It was killed. */});
    const mustTry = isFirst ? !sessionPresent : isFirstOfProcess && sessionPresent && !process.listener.isOrderTried;
    if (!mustTry) return;
    const topic = `${PREFIX}/info`;
    const stop = new AbortController();
    taking.then(() =>
      process.listener.tryOrder({
        topic,
        publish: () => Promise.resolve(void broker.publish({ topic, payload: "{}" })),
        reconnect: () => {
          if (!broker.connected || this.process !== process) return;
          this.#doubt(broker.cut());
          process.listener.disconnected();
          process.listener.connected(this.#connectWire(process)).catch(() => {});
        },
        signal: stop.signal,
      })
    ).catch(() => {});
  }

  #connectWire(process: Process): boolean {
    return this.broker.connect((delivery) => process.listener.receive(delivery));
  }

  /** Until the first session has been tried, nobody publishes. */
  async begin(): Promise<void> {
    this.boot();
    for (let step = 0; step < 12; step++) {
      await this.#time.advance(30);
      this.broker.move(9, 9);
    }
    this.#subscribed = true;
  }

  publish(topic: string): void {
    if (this.broker.publish({ topic, payload: "same" })) this.published[topic]!++;
  }

  /** The connection ends. What was acknowledged and did not reach the broker is in doubt. */
  cut(): void {
    this.#doubt(this.broker.cut());
    this.process?.listener.disconnected();
  }

  kill(): void {
    const { process } = this;
    // A write that was asked for may be carried out, and say that what the broker holds is acknowledged.
    if (this.late.some(({ by, isCreate }) => by === process && !isCreate)) this.#doubt(this.broker.unacknowledged);
    // The one case that is not promised: a new session of which nobody has written down that it is one.
    if (!this.#isRecorded) this.#excuse();
    this.cut();
    process?.kill();
    this.process = undefined;
    // The API server carries out what it was asked for soon, or it never got it.
    const asked = this.late.filter(({ by, isCreate }) => isCreate && by === process);
    this.late = this.late.filter((one) => !asked.includes(one));
    asked.forEach(({ run }, n) => n % 2 === 0 && setTimeout(run, 2_000));
    this.boot();
  }

  #excuse(): void {
    for (const { topic } of this.broker.held) if (topic in this.excused) this.excused[topic]!++;
  }

  #doubt(messages: readonly { readonly topic: string }[]): void {
    if (isOrderly(this.manners) && this.sessionsLost === 0) return;
    for (const { topic } of messages) if (topic in this.doubtful) this.doubtful[topic]!++;
  }

  /** The oldest live run ends: its record is put, and its Job is gone. */
  end(): void {
    const [runName] = this.jobs.keys();
    if (runName === undefined || !this.process?.runs.get(runName)) return;
    this.store.objects.set(`${runName}.json`, new Uint8Array());
    this.jobs.delete(runName);
    this.process.runs.deleted(runName);
    this.process.starter.pump();
  }

  async do(step: Step): Promise<void> {
    switch (step.do) {
      case "publish":
        for (let n = 0; n < step.count; n++) this.publish(TOPICS[step.topic]!);
        break;
      case "move":
        this.broker.move(step.toService, step.toBroker);
        break;
      case "wait":
        await this.#time.advance(step.ms);
        break;
      case "cut":
        this.cut();
        break;
      case "kill":
        this.kill();
        break;
      case "end":
        this.end();
        break;
      case "expire": {
        const gone = this.broker.expire();
        if (gone && gone.topic in this.excused) this.excused[gone.topic]!++;
        break;
      }
      case "lose session":
        if (this.broker.connected) break;
        this.sessionsLost++;
        for (const { topic } of this.broker.loseSession()) if (topic in this.excused) this.excused[topic]!++;
        break;
      case "store":
        this.storeIs = step.how;
        break;
      case "cluster":
        this.clusterIs = step.how;
        break;
    }
    await this.#time.advance(1);
    if (this.storeIs === "good" && this.clusterIs === "good") this.#carryOut();
    if (step.do !== "cut" && step.do !== "lose session") this.connect();
    await this.#time.advance(1);
  }

  #carryOut(): void {
    for (const { run } of this.late.splice(0)) run();
  }

  /** All is well again, and goes on until nothing is left. */
  async settle(): Promise<void> {
    [this.storeIs, this.clusterIs] = ["good", "good"];
    for (let step = 0; step < 400; step++) {
      this.#carryOut();
      this.connect();
      await this.#time.advance(step < 40 ? 50 : 1_000);
      this.broker.move(9, 9);
      if (step > 60 && this.broker.idle) return;
    }
    throw new Error("the broker has still something to send");
  }

  rootsOf(jobName: string): string[] {
    return this.roots.filter((run) => run.jobName === jobName).map(({ root }) => root).sort();
  }

  count(jobName: string): number {
    return this.runs.filter((name) => name.startsWith(`${jobName}-`)).length;
  }
}

const steps: fc.Arbitrary<Step[]> = fc.array(
  fc.oneof(
    {
      weight: 4,
      arbitrary: fc.record({
        do: fc.constant("publish" as const),
        topic: fc.nat(2),
        count: fc.integer({ min: 1, max: 3 }),
      }),
    },
    {
      weight: 8,
      arbitrary: fc.record({ do: fc.constant("move" as const), toService: fc.nat(3), toBroker: fc.nat(3) }),
    },
    { weight: 4, arbitrary: fc.record({ do: fc.constant("wait" as const), ms: fc.constantFrom(1, 30, 200, 4_000) }) },
    {
      weight: 5,
      arbitrary: fc.record({ do: fc.constantFrom("cut" as const, "kill" as const, "end" as const, "end" as const) }),
    },
    { weight: 1, arbitrary: fc.record({ do: fc.constantFrom("expire" as const, "lose session" as const) }) },
    {
      weight: 2,
      arbitrary: fc.record({
        do: fc.constantFrom("store" as const, "cluster" as const),
        how: fc.constantFrom("good" as const, "good" as const, "away" as const, "late" as const),
      }),
    },
  ),
  { minLength: 5, maxLength: 60 },
);

const anyManners: fc.Arbitrary<Manners> = fc.record({
  ids: fc.constantFrom("in order", "lowest free", "from 1", "from anywhere"),
  again: fc.constantFrom("kept", "renumbered"),
  dup: fc.constantFrom("right", "never", "queued too"),
  window: fc.constantFrom(1, 3, 10),
});
const orderlyManners: fc.Arbitrary<Manners> = fc.record({
  ids: fc.constant("in order"),
  again: fc.constant("kept"),
  dup: fc.constant("right"),
  window: fc.constantFrom(1, 3, 10),
});

/** Runs the steps and looks into the books. */
async function check(manners: Manners, steps: readonly Step[]): Promise<void> {
  using time = new VirtualTime();
  const world = new World(manners, time);
  await world.begin();
  for (const step of steps) await world.do(step);
  await world.settle();
  world.process?.kill();
  for (const [topic, jobNames] of [["lab/a", ["count", "sum"]], ["lab/b", ["one"]], ["lab/c", ["each"]]] as const) {
    const [most, excused, doubtful] = [world.published[topic]!, world.excused[topic]!, world.doubtful[topic]!];
    for (const jobName of jobNames) {
      // A group has two items.
      const found = world.count(jobName) / (jobName === "each" ? 2 : 1);
      ok(found >= most - excused, `lost: ${found} runs of ${jobName} for ${most} messages, ${excused} of them excused`);
      ok(found <= most + doubtful, `doubled: ${found} runs of ${jobName} for ${most} messages, ${doubtful} in doubt`);
    }
  }
  checkRoots(world);
}

/** All rows of a message share a root, whichever process started them, and no two messages do. */
function checkRoots(world: World): void {
  for (const jobName of ["count", "sum", "one"]) {
    const roots = world.rootsOf(jobName);
    equal(new Set(roots).size, roots.length, `two messages share a root: ${roots}`);
  }
  const inDoubt = world.excused["lab/a"]! + world.doubtful["lab/a"]!;
  if (inDoubt === 0) deepEqual(world.rootsOf("count"), world.rootsOf("sum"));
}

const RUNS = Number(Deno.env.get("MODEL_RUNS") ?? 150);

Deno.test("no message is lost on any broker, and none doubled but what was acknowledged in the moment of a cut", async () => {
  await fc.assert(fc.asyncProperty(anyManners, steps, check), { numRuns: RUNS });
});

Deno.test("no message is lost or doubled on a broker that gives identifiers in order", async () => {
  await fc.assert(fc.asyncProperty(orderlyManners, steps, check), { numRuns: RUNS });
});
