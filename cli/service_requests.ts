/**
 * What commands ask of the running service by the `request/…` topics. Owns the connection, the wait for the answer and what
 * is said where none comes; must not use the service's client id, for a broker would throw the service out.
 */
import mqtt, { type MqttClient } from "mqtt";
import type { Config } from "../config.ts";
import { UnavailableError } from "../ports.ts";
import { compact } from "../util/compact.ts";
import { durationMs } from "../util/duration.ts";
import { errorMessage, safeWords } from "../util/errors.ts";
import { delay } from "../util/retry.ts";
import { CommandError, type Io } from "./context.ts";

const CONNECT_MS = 10_000;
/** How long the retained `state` may come after its subscription; no broker that has it takes so long. */
const STATE_MS = 300;

/** What came back; anybody may have sent it. */
export interface Answer {
  readonly status?: string;
  readonly error?: string;
  readonly data?: { readonly run_name?: string };
  readonly transaction?: unknown;
}

/** Of the flag `--timeout`, in milliseconds. */
export function readTimeout(text: string | true | undefined, otherwiseMs: number): number {
  if (text === undefined) return otherwiseMs;
  const ms = durationMs(String(text));
  if (ms === undefined || ms <= 0) throw new CommandError(2, `--timeout "${text}": write a duration such as 30s or 2m`);
  return ms;
}

/** Sends one request to the running service, over a connection of its own, and waits for its answer. */
export async function request(
  { config, io }: { config: Config; io: Io },
  what: "run" | "rerun" | "cancel" | "each" | "replay",
  asked: object,
  timeoutMs: number,
): Promise<Answer> {
  const { topicPrefix } = config;
  const transaction = crypto.randomUUID();
  const answered = Promise.withResolvers<Answer>();
  const state = Promise.withResolvers<string>();
  answered.promise.catch(() => {}); // It may be lost while nobody waits for it yet.
  io.progress?.(`Connecting to ${brokerUrl(config)}`);
  const client = await connect(config).finally(() => io.progress?.(""));
  try {
    client.on("message", (topic, body) => {
      if (topic === `${topicPrefix}/state`) return state.resolve(body.toString());
      const answer = readAnswer(body.toString());
      if (answer?.transaction === transaction) answered.resolve(answer);
    });
    client.on("close", () => answered.reject(new UnavailableError(lostText(config))));
    await subscribe(client, `${topicPrefix}/response/${what}`);
    // A request to a service that is away would wait with the broker and be carried out when nobody wants it any more.
    await subscribe(client, `${topicPrefix}/state`).catch(() => state.resolve("not allowed to know"));
    if (await Promise.race([state.promise, delay(STATE_MS)]) === "offline") {
      throw new UnavailableError(`Nothing was asked: the service ${topicPrefix} says that it is offline; start it`);
    }
    const body = JSON.stringify({ ...asked, ...compact({ requested_by: config.requestedBy }), transaction });
    await client.publishAsync(`${topicPrefix}/request/${what}`, body, { qos: 1 });
    io.progress?.(`Asked; waiting up to ${timeoutMs / 1000} s for the answer`);
    return await orTimeout(answered.promise, timeoutMs, topicPrefix);
  } finally {
    io.progress?.("");
    client.removeAllListeners("close");
    await client.endAsync(true);
  }
}

/** What the service, or whoever answered for it, says against the request. */
export function refusal({ error }: Answer): CommandError {
  return new CommandError(1, typeof error === "string" ? safeWords(error) : "The service refused without a reason");
}

function lostText(config: Config): string {
  return `The connection to the broker ${brokerUrl(config)} was lost; whether the service was asked is not known: ` +
    "look with the command runs";
}

async function orTimeout<T>(promise: Promise<T>, timeoutMs: number, topicPrefix: string): Promise<T> {
  const timedOut = Promise.withResolvers<never>();
  const timer = setTimeout(() => {
    const why = `Its topics begin with ${topicPrefix} (TOPIC_PREFIX); should it come back, it may still do it`;
    timedOut.reject(new UnavailableError(`No service answered within ${timeoutMs / 1000} s: is it running? ${why}`));
  }, timeoutMs);
  return await Promise.race([promise, timedOut.promise]).finally(() => clearTimeout(timer));
}

/** undefined: not an answer of the service's. */
function readAnswer(text: string): Answer | undefined {
  try {
    const value: unknown = JSON.parse(text);
    return typeof value === "object" && value !== null ? value : undefined;
  } catch {
    return undefined;
  }
}

/** Without credentials. */
function brokerUrl({ mqtt: { url }, shown }: Config): string {
  return String(shown["MQTT_URL"] ?? new URL(url).host);
}

/** MQTT 5 as configured, or 3.1.1 where the broker (such as the demo's) has nothing newer. */
async function connect(config: Config): Promise<MqttClient> {
  const { protocolVersion } = config.mqtt;
  return await connectBy(config, protocolVersion).catch((error) => {
    if (protocolVersion !== 5 || !/protocol version/i.test(errorMessage(error))) throw error;
    return connectBy(config, 4);
  });
}

/** A connection without a lasting session, under an id of its own. */
async function connectBy(config: Config, protocolVersion: 4 | 5): Promise<MqttClient> {
  const { url, username, password, tls } = config.mqtt;
  const client = mqtt.connect(url, {
    protocolVersion,
    clientId: `mqtt-job-listener-cli-${crypto.randomUUID().slice(0, 8)}`,
    clean: true,
    reconnectPeriod: 0,
    connectTimeout: CONNECT_MS,
    timerVariant: "native",
    ...compact({ username, password }),
    // A certificate would make MQTT.js turn mqtt: into mqtts: silently.
    ...(/^(mqtts|ssl|tls|wss):/.test(url) ? tls : {}),
  });
  const connected = Promise.withResolvers<void>();
  let why = "it closed the connection";
  client.on("connect", () => connected.resolve());
  // Later errors end in `close`, which says what to do.
  client.on("error", (error) => {
    why = errorMessage(error);
    connected.reject(error);
  });
  client.once("close", () => connected.reject(new Error(why)));
  const timer = setTimeout(() => connected.reject(new Error(why = "no answer")), CONNECT_MS + 1_000);
  try {
    await connected.promise;
    return client;
  } catch (cause) {
    await client.endAsync(true).catch(() => {});
    throw new UnavailableError(`Cannot reach the broker ${brokerUrl(config)} (MQTT_URL): ${why}`, { cause });
  } finally {
    clearTimeout(timer);
  }
}

async function subscribe(client: MqttClient, topic: string): Promise<void> {
  const grants = await client.subscribeAsync(topic, { qos: 1 }).catch((cause) => {
    throw new CommandError(2, `The broker refuses this user the topic ${topic}: ${errorMessage(cause)}`, { cause });
  });
  if (grants.some(({ qos }) => qos >= 128)) {
    throw new CommandError(2, `The broker refuses this user the topic ${topic}: mend its access list`);
  }
}
