/**
 * What outlives the processes of a service, as a model: a store, a broker with one lasting session, a cluster whose Jobs
 * and pods go on. Each call of a port may be slow, be refused, or be the last one of its process. Owns no check and no
 * table; time is VirtualTime's.
 */
import { RefusedError, UnavailableError } from "../../ports.ts";
import type {
  Broker,
  BrokerEvents,
  Cluster,
  ClusterEvents,
  Delivery,
  JobFacts,
  ObjectStore,
  PodFacts,
  RunSpec,
} from "../../ports.ts";
import { outputOf } from "../../run_spec.ts";
import { Service, type ServiceOptions } from "../../service.ts";
import { matches } from "../../topics.ts";
import { compact } from "../../util/compact.ts";
import { delay } from "../../util/retry.ts";
import { FakeStore, jobOf, pod } from "./fakes.ts";
import { ModelBroker } from "./model_broker.ts";

/**
 * What becomes of a call: its process dies before or after its effect, or before an effect that comes when the next
 * process is up; it is refused for now, or was carried out and says that it was not.
 */
export type Fate = "die before" | "die after" | "die, late" | "fail" | "fail after";

/** The fate of the call that comes after so many others. */
export interface Turn {
  readonly after: number;
  readonly fate: Fate;
}

/** How a program ends. */
export type End = "ok" | "exit" | "oom";

/** A Job of the cluster. */
export interface WorldJob {
  readonly spec: RunSpec;
  facts: JobFacts;
  pods: PodFacts[];
}

/** What a dead process has asked of the cluster is carried out so much later at most, */
const LATE_MS = 1_500;
/** and what it has asked of the store: sooner than the next process has started, which takes so long. */
const STORE_LATE_MS = 400;
const BOOT_MS = 500;
/** Longest time of a call. */
const SLOW_MS = 12;
/** What a packet is under way at most. */
const WIRE_MS = 25;
const EXIT_CODE = 3;

interface Process {
  readonly service: Service;
  alive: boolean;
}

export interface WorldOptions {
  readonly topicPrefix: string;
  /** In the order of the calls. */
  readonly turns: readonly Turn[];
  readonly onCreate: (spec: RunSpec, world: World) => void;
  /** A Job began to count as running: created so, or let go on. */
  readonly onRunning: (job: WorldJob, world: World) => void;
  readonly onPublish: (topic: string, body: string) => void;
  /** Told of each call, with its fate. */
  readonly onCall?: (what: string) => void;
  readonly settings?: Partial<ServiceOptions["settings"]>;
  /** Jobs that the namespace may have at a time. */
  readonly quota?: number;
  /** Where outputs are. */
  readonly outputs?: ReadonlySet<string>;
}

export class World {
  readonly store = new FakeStore();
  readonly jobs = new Map<string, WorldJob>();
  readonly #deleted = new Set<string>();
  readonly #broker = new ModelBroker({ ids: "in order", again: "kept", dup: "right", window: 10 });
  readonly #options: WorldOptions;
  #filters: ReadonlySet<string> = new Set();
  #turns: Turn[] = [];
  #calls = 0;
  #process: Process | undefined;
  #watch: { readonly events: ClusterEvents; readonly by: Process } | undefined;
  /** Calls of the processes so far that were the last of theirs. */
  deaths = 0;

  constructor(table: string, options: WorldOptions) {
    this.#options = options;
    this.store.objects.set("jobs.csv", new TextEncoder().encode(table));
  }

  get service(): Service | undefined {
    return this.#process?.service;
  }

  /** The broker has nothing to say and nothing to hear, and no Job is left. */
  get idle(): boolean {
    return this.#broker.idle && this.jobs.size === 0;
  }

  /** A message from outside. */
  send(topic: string, payload: string): void {
    this.#broker.publish({ topic, payload });
    this.#moveSoon();
  }

  /** From now on calls have the fates that were asked for. */
  begin(): void {
    this.#turns = [...this.#options.turns];
    this.#calls = 0;
  }

  /** Fates that no call has met yet. */
  get turnsLeft(): number {
    return this.#turns.length;
  }

  /** The process is gone at once, and the next one starts. */
  kill(): void {
    if (!this.#process?.alive) return;
    this.deaths++;
    this.close();
    void delay(BOOT_MS).then(() => this.boot());
  }

  /** The process is gone at once. */
  close(): void {
    const process = this.#process;
    if (!process) return;
    process.alive = false;
    this.#watch = undefined;
    this.#broker.cut();
    // What a dead process does has no effect: this frees its timers.
    void process.service.stop({ drain: false }).catch(() => {});
  }

  /** Starts a process. */
  boot(): void {
    const { topicPrefix, settings = {}, outputs } = this.#options;
    const process: { service?: Service; alive: boolean } = { alive: true };
    const by = process as Process;
    const store = this.#storeOf(by);
    const service = process.service = new Service({
      broker: this.#brokerOf(by),
      cluster: this.#clusterOf(by),
      stores: { catalog: store, catalogKey: "jobs.csv", logs: new FakeStore(), runs: store },
      ...(outputs ? { look: (url) => this.#call(by, `look for ${url}`, () => outputs.has(url)) } : {}),
      topicPrefix,
      settings: {
        pollMs: 3_600_000,
        handleRetained: false,
        createConcurrency: 4,
        maxChainDepth: 20,
        gracePeriods: { imagePullMs: 1e9, unschedulableMs: 1e9, nodeLostMs: 1e9 },
        logs: { followers: 10, memoryBytes: 1 << 20, maxBytes: 1e9 },
        info: {},
        ...settings,
      },
    });
    this.#process = by;
    service.start().catch((error) => {
      if (by.alive) throw error;
    });
  }

  /** The Jobs that run, the oldest first. */
  get running(): WorldJob[] {
    return [...this.jobs.values()].filter(({ facts }) => !facts.suspended && !facts.end && !facts.deletionAt);
  }

  /** The program of a run ends. */
  end(runName: string, how: End): void {
    const one = this.jobs.get(runName);
    if (!one || one.facts.suspended || one.facts.end) return;
    const finishedAt = new Date();
    const type = how === "ok" ? "Complete" as const : "Failed" as const;
    one.facts = {
      ...one.facts,
      finishedAt,
      end: { type, ...(how === "ok" ? {} : { reason: "BackoffLimitExceeded" }) },
    };
    const exitCode = how === "ok" ? 0 : how === "oom" ? 137 : EXIT_CODE;
    const ended = pod({ podName: `${runName}-x`, runName, node: "node1" }, exitCode);
    one.pods = [{
      ...ended,
      containers: ended.containers.map((container) => ({
        ...container,
        ...(how === "oom" ? { reason: "OOMKilled" } : {}),
        startedAt: one.facts.startedAt ?? finishedAt,
        finishedAt,
      })),
    }];
    this.#tell((events) => {
      one.pods.forEach((pod) => events.onPod(pod));
      events.onJob(one.facts);
    });
  }

  // ---------------------------------------------------------------- calls

  /** One call of a process: `effect` is what it does to what outlives it. */
  async #call<T>(by: Process, what: string, effect: (how?: { isLate: boolean }) => T): Promise<T> {
    if (!by.alive) return await never();
    const fate = this.#nextFate();
    this.#options.onCall?.(fate === undefined ? what : `${what}: ${fate}`);
    await this.#slowly();
    if (!by.alive) return await never();
    switch (fate) {
      case "fail":
        throw new UnavailableError("away");
      case "die before":
        this.kill();
        return await never();
      case "die, late":
        this.kill();
        // An error is said to nobody.
        void delay(Math.random() * (what.startsWith("create ") ? LATE_MS : STORE_LATE_MS)).then(() =>
          effect({ isLate: true })
        ).catch(() => {});
        return await never();
      case "die after":
        effect();
        this.kill();
        return await never();
    }
    const result = effect();
    if (fate === "fail after") throw new UnavailableError("no answer");
    await this.#slowly();
    return by.alive ? result : await never();
  }

  #nextFate(): Fate | undefined {
    const [next] = this.#turns;
    if (next === undefined || this.#calls++ < next.after) return undefined;
    this.#calls = 0;
    this.#turns.shift();
    return next.fate;
  }

  /** Half of all calls take no time at all. */
  async #slowly(): Promise<void> {
    if (Math.random() < 0.5) await delay(Math.ceil(Math.random() * SLOW_MS));
  }

  // ---------------------------------------------------------------- store

  #storeOf(by: Process): ObjectStore {
    const { objects } = this.store;
    const bytes = (body: unknown) => {
      if (typeof body === "string") return new TextEncoder().encode(body);
      if (body instanceof Uint8Array) return body;
      throw new RefusedError("no streams here");
    };
    const call = <T>(what: string, effect: () => T) => this.#call(by, what, effect);
    const list = (prefix: string, after = "") =>
      [...objects.keys()].filter((key) => key.startsWith(prefix) && key > after).sort();
    return {
      url: this.store.url,
      get: (key) => call(`get ${key}`, () => objects.get(key)).then((body) => body && { body, etag: "e" }),
      read: (key) => call(`read ${key}`, () => objects.get(key)).then((body) => body && ReadableStream.from([body])),
      readPart: (key, { from, length }) =>
        call(`read ${key}`, () => objects.get(key))
          .then((body) => body && { bytes: body.slice(from, from + length), size: body.length }),
      exists: (key) => call(`look for ${key}`, () => objects.has(key)),
      put: (key, body) => call(`put ${key}`, () => void objects.set(key, bytes(body))),
      putIfAbsent: (key, body) =>
        call(`put ${key} if absent`, () => {
          if (objects.has(key)) return false;
          objects.set(key, bytes(body));
          return true;
        }),
      delete: (key) => call(`delete ${key}`, () => void objects.delete(key)),
      async *list(prefix, { after } = {}) {
        for (const key of await call(`list ${prefix}`, () => list(prefix, after))) {
          yield { key, size: objects.get(key)?.length ?? 0, modifiedAt: new Date() };
        }
      },
      link: (key) => Promise.resolve(`https://fake/${key}`),
    };
  }

  // ---------------------------------------------------------------- cluster

  #clusterOf(by: Process): Cluster {
    const call = <T>(what: string, effect: (how?: { isLate: boolean }) => T) => this.#call(by, what, effect);
    return {
      url: "fake cluster",
      rotatesLogs: false,
      get heardAt() {
        return new Date();
      },
      create: (spec, { dryRun = false } = {}) =>
        dryRun ? Promise.resolve("created") : call(`create ${spec.runName}`, (how) => this.#create(spec, how)),
      delete: (runName) => call(`delete Job ${runName}`, () => this.#delete(runName)),
      cancel: (runName, who) => call(`cancel ${runName}`, () => this.#cancel(runName, who)),
      resume: (runName) => call(`resume ${runName}`, () => this.#resume(runName)),
      get: (runName) => call(`get Job ${runName}`, () => this.jobs.get(runName)?.facts),
      pods: (names) => call(`list pods of ${names[0]}`, () => names.flatMap((name) => this.jobs.get(name)?.pods ?? [])),
      watch: (events, signal) => this.#watchBy(by, events, signal),
      logs: () => Promise.resolve(undefined),
      events: () => Promise.resolve([]),
    };
  }

  #create(spec: RunSpec, { isLate = false } = {}): "created" | "exists" {
    const { runName } = spec;
    if (this.jobs.has(runName)) return "exists";
    if (this.jobs.size >= (this.#options.quota ?? Infinity)) {
      throw new UnavailableError("exceeded quota", { isUndone: true });
    }
    // No call is under way for as long as a run takes from its beginning to its end.
    if (isLate && this.#deleted.has(runName)) return "exists";
    const facts = jobOf(spec, {
      ...compact({ concurrency: spec.concurrency, heldFor: spec.heldFor, output: outputOf(spec) }),
      ...(spec.heldFor ? { suspended: {} } : { startedAt: new Date() }),
    });
    const one: WorldJob = { spec, facts, pods: [] };
    this.jobs.set(runName, one);
    this.#options.onCreate(spec, this);
    if (!spec.heldFor) this.#options.onRunning(one, this);
    this.#tellJob(one);
    return "created";
  }

  #delete(runName: string): void {
    const one = this.jobs.get(runName);
    if (!one) return;
    this.jobs.delete(runName);
    this.#deleted.add(runName);
    this.#tell((events) => {
      one.pods.forEach(({ podName }) => events.onPodGone(podName, runName));
      events.onJobGone(runName, one.facts);
    });
  }

  #cancel(runName: string, who: string): boolean {
    const one = this.jobs.get(runName);
    if (!one) return false;
    one.facts = { ...one.facts, cancelledBy: who, suspended: {} };
    this.#tellJob(one);
    return true;
  }

  #resume(runName: string): boolean {
    const one = this.jobs.get(runName);
    if (!one) return false;
    if (!one.facts.suspended || one.facts.cancelledBy !== undefined) return true;
    const { suspended: _suspended, heldFor: _heldFor, ...facts } = one.facts;
    one.facts = { ...facts, startedAt: new Date() };
    this.#options.onRunning(one, this);
    this.#tellJob(one);
    return true;
  }

  #tellJob({ facts }: WorldJob): void {
    this.#tell((events) => events.onJob(facts));
  }

  /** Watches are late, and in order. */
  #tell(what: (events: ClusterEvents) => void): void {
    const watch = this.#watch;
    if (!watch) return;
    this.#told = Promise.all([this.#told, this.#slowly()]).then(() => {
      if (watch.by.alive && this.#watch === watch) what(watch.events);
    });
  }

  #told: Promise<unknown> = Promise.resolve();

  async #watchBy(by: Process, events: ClusterEvents, signal: AbortSignal): Promise<void> {
    await this.#slowly();
    if (!by.alive) return await never();
    this.#watch = { events, by };
    for (const one of this.jobs.values()) {
      this.#tellJob(one);
      one.pods.forEach((pod) => this.#tell((to) => to.onPod(pod)));
    }
    this.#tell((to) => to.onSynced());
    await new Promise((resolve) => signal.addEventListener("abort", resolve, { once: true }));
  }

  // ---------------------------------------------------------------- broker

  #brokerOf(by: Process): Broker {
    let events: BrokerEvents | undefined;
    const connect = () => {
      const receive = (delivery: Delivery) => {
        if (by.alive) events?.onDelivery(delivery);
      };
      events?.onConnect({ sessionPresent: this.#broker.connect(receive) });
      this.#moveSoon();
    };
    return {
      url: "mqtt://fake",
      connected: true,
      refused: new Map(),
      connect: async (given) => {
        await this.#slowly();
        if (!by.alive) return await never();
        events = given;
        connect();
      },
      subscribe: async (filters) => {
        await this.#slowly();
        if (by.alive) this.#filters = filters;
      },
      publish: (topic, body) => {
        const publish = () => this.#publish(topic, typeof body === "string" ? body : new TextDecoder().decode(body));
        const isEnd = /\/(job|group)_(complete|failed)\//.test(topic);
        if (isEnd) return this.#call(by, `publish ${topic}`, publish);
        if (by.alive) publish();
        return Promise.resolve();
      },
      reconnect: () => {
        if (!by.alive) return;
        this.#broker.cut();
        events?.onDisconnect("asked for");
        connect();
      },
      pause: () => {},
      close: () => Promise.resolve(),
    };
  }

  #publish(topic: string, body: string): void {
    this.#options.onPublish(topic, body);
    if (![...this.#filters].some((filter) => matches(filter, topic))) return;
    this.#broker.publish({ topic, payload: body });
    this.#moveSoon();
  }

  /** What is on the wire arrives a little later, and its acknowledgements too. */
  #moveSoon(): void {
    if (this.#moving || !this.#broker.connected || this.#broker.idle) return;
    this.#moving = true;
    void delay(Math.ceil(Math.random() * WIRE_MS)).then(() => {
      this.#moving = false;
      this.#broker.move(1 + Math.floor(Math.random() * 4), 1 + Math.floor(Math.random() * 4));
      this.#moveSoon();
    });
  }

  #moving = false;
}

/** Who is dead hears nothing. */
function never(): Promise<never> {
  return new Promise(() => {});
}
