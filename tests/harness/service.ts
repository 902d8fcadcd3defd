/**
 * The service as its users run it, a process configured by its environment, and a plain MQTT client that records what
 * is said. Black box: imports nothing of the service, and tests see it only through broker, store and cluster.
 */
import { Buffer } from "node:buffer";
import mqtt, { type MqttClient } from "mqtt";
import { removeFolder, scratchFolder } from "./folder.ts";
import { type ManagedProcess, spawn } from "./process.ts";
import { connected, PublishWindow } from "./publish_window.ts";
import { eventually } from "./wait.ts";

const PROJECT = new URL("../../", import.meta.url).pathname.replace(/\/$/, "");
const { tasks } = JSON.parse(await Deno.readTextFile(`${PROJECT}/deno.json`));

/** Flags for V8 of `deno task start`. */
export const V8_FLAGS: string = /--v8-flags=\S+/.exec(tasks.start.command)![0];
/** And for malloc, which reads the environment before Deno does; by name. */
export const MALLOC: Readonly<Record<string, string>> = Object.fromEntries(
  [...tasks.start.command.matchAll(/\b(MALLOC_\w+)=(\S+)/g)].map(([, name, value]) => [name!, value!]),
);

export interface ServiceStart {
  /** Program to run; a path below the project or an absolute one. Default `main.ts`. */
  entry?: string;
  /** After `start`. */
  extraArgs?: readonly string[];
  /** Flags of `deno run` besides. */
  runFlags?: readonly string[];
  /** A command and its first arguments that starts what follows it, such as `nice` or `prlimit --nofile=80`. */
  under?: readonly string[];
  /** What it says when it counts as started. Default: that it is ready. */
  says?: RegExp;
  /** Until it says so. Default 120,000. */
  readyTimeoutMs?: number;
  /** Whether it counts as started when it ended before it was ready, as a process that is told to die may. */
  mayEnd?: boolean;
}

/** Starts the service; resolves when it says that it is ready. `env` comes on top of this process's environment. */
export async function startService(
  env: Readonly<Record<string, string>>,
  {
    entry = "main.ts",
    extraArgs = [],
    runFlags = [],
    under = [],
    says = /\bReady: table\b/,
    readyTimeoutMs = 120_000,
    mayEnd = false,
  }: ServiceStart = {},
): Promise<ServiceProcess> {
  const dir = await scratchFolder("service");
  const log = `${dir}/service.log`;
  const isReady = async () => says.test(await Deno.readTextFile(log).catch(() => ""));
  try {
    const [command, ...first] = [...under, Deno.execPath()];
    const process = await spawn({
      name: "service",
      command: command!,
      // Which permissions it needs is another test's question.
      args: [
        ...first,
        "run",
        "--no-prompt",
        "-A",
        V8_FLAGS,
        ...runFlags,
        entry.startsWith("/") ? entry : `${PROJECT}/${entry}`,
        "start",
        ...extraArgs,
      ],
      env: { ...env, NO_COLOR: "1" },
      cwd: PROJECT,
      dir,
      ...(mayEnd ? {} : { ready: isReady, readyTimeoutMs }),
    });
    const service = new ServiceProcess(process, dir);
    if (mayEnd) {
      const settled = async () => process.status !== undefined || await isReady();
      await eventually(settled, { timeoutMs: readyTimeoutMs, what: "the service to be ready or to end" });
    }
    return service;
  } catch (error) {
    await removeFolder(dir);
    throw error;
  }
}

/** A running service. Disposing it kills it and removes its folder. */
export class ServiceProcess implements AsyncDisposable {
  readonly #process: ManagedProcess;
  readonly #dir: string;

  /** Use startService. */
  constructor(process: ManagedProcess, dir: string) {
    this.#process = process;
    this.#dir = dir;
  }

  get pid(): number {
    return this.#process.pid;
  }

  /** How it ended; undefined while it runs. */
  get status(): Deno.CommandStatus | undefined {
    return this.#process.status;
  }

  /** Resolves when it has ended, by itself or not. */
  get ended(): Promise<Deno.CommandStatus> {
    return this.#process.ended;
  }

  /** SIGKILL; resolves when the process is gone. */
  async kill9(): Promise<void> {
    await this.#process.kill9();
  }

  /** SIGTERM; throws unless it ends with exit code 0, by itself. */
  async stop(): Promise<void> {
    const begin = performance.now();
    const status = await this.#process.stop();
    if (status.code === 0 && status.signal === null) return;
    const ms = Math.round(performance.now() - begin);
    throw new Error(`The service ended with ${JSON.stringify(status)} ${ms} ms after SIGTERM\n${await this.logTail()}`);
  }

  /** What it has logged. */
  log(): Promise<string> {
    return this.#process.log();
  }

  logTail(lines = 30): Promise<string> {
    return this.#process.logTail(lines);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#process.kill9();
    await removeFolder(this.#dir).catch((error) => {
      if (!(error instanceof Deno.errors.NotFound)) throw error;
    });
  }
}

/** A message as it came. */
export interface Heard {
  readonly topic: string;
  readonly text: string;
  readonly retain: boolean;
  /** MQTT 5 user properties. */
  readonly properties: Readonly<Record<string, string | string[]>>;
  /** Time of receipt, in milliseconds since the epoch. */
  readonly at: number;
}

/** A client that records every message of some filters, over restarts of the broker too. Disposing it closes it. */
export class MqttEar implements AsyncDisposable {
  /** In the order of receipt; a redelivery (DUP) is there twice. */
  readonly heard: Heard[] = [];
  readonly #client: MqttClient;
  readonly #window: PublishWindow;

  private constructor(client: MqttClient) {
    this.#client = client;
    this.#window = new PublishWindow(client);
    client.on("message", (topic, payload, { retain, properties: { userProperties = {} } = {} }) => {
      this.heard.push({ topic, text: payload.toString(), retain, properties: { ...userProperties }, at: Date.now() });
    });
    // Without a listener a lost connection would end the test run.
    client.on("error", () => {});
  }

  /** Connects and subscribes with QoS 1; the broker keeps the session for an hour. */
  static async connect(
    url: string,
    filters: readonly string[],
    { protocolVersion = 5 }: { protocolVersion?: 5 | 4 } = {},
  ): Promise<MqttEar> {
    const client = mqtt.connect(url, {
      protocolVersion,
      clientId: `ear-${crypto.randomUUID().slice(0, 8)}`,
      clean: false,
      ...(protocolVersion === 5 ? { properties: { sessionExpiryInterval: 3600 } } : {}),
      reconnectPeriod: 200,
    });
    const ear = new MqttEar(client);
    await connected(client);
    for (const filter of filters) await client.subscribeAsync(filter, { qos: 1 });
    return ear;
  }

  /** Publishes with QoS 1 (or 0); resolves when the broker has taken the message over. */
  async publish(
    topic: string,
    payload: string | Uint8Array,
    { userProperties, retain = false, qos = 1 }: {
      userProperties?: Record<string, string>;
      retain?: boolean;
      qos?: 0 | 1;
    } = {},
  ): Promise<void> {
    const body = typeof payload === "string" ? payload : Buffer.from(payload);
    const properties = userProperties === undefined ? {} : { properties: { userProperties } };
    await this.#window.through(() => this.#client.publishAsync(topic, body, { qos, retain, ...properties }));
  }

  /** Messages of one topic, or of all topics that begin with what stands before a final `#`. */
  on(topic: string): Heard[] {
    const begin = topic.endsWith("#") ? topic.slice(0, -1) : undefined;
    return this.heard.filter((one) => begin === undefined ? one.topic === topic : one.topic.startsWith(begin));
  }

  /** The JSON of the messages of a topic; see `on`. */
  json<T = Record<string, unknown>>(topic: string): T[] {
    return this.on(topic).map(({ text }) => JSON.parse(text) as T);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#client.endAsync(true);
  }
}
