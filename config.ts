/**
 * Environment and flags → one frozen, validated Config; also what people read about it (`--help`, docs/settings.md).
 * Owns the names, the cross-checks and the messages; the only module that reads Deno.env and Deno.args.
 * Must not open connections nor show a secret.
 */
import { awsEnvOf, s3Of } from "./config/aws.ts";
import { readName } from "./config/kinds.ts";
import { type ConfigInput, Reader, shownPlace } from "./config/reader.ts";
import { readBrokerUrl } from "./util/broker_url.ts";
import { type SettingName, SETTINGS, type SettingValue } from "./config/settings.ts";
import type { LeaseTimes } from "./leader.ts";
import type { S3ServerOptions } from "./s3/client.ts";
import { isLoopback } from "./util/loopback.ts";

export { type Arguments, flagName, isFlag, isFlagAlone, knownNames, type OwnFlags, parseArgs } from "./config/args.ts";
export { renderHelp, renderSettings } from "./config/help.ts";
export type { ConfigInput } from "./config/reader.ts";

/** All that can be set. Times and sizes are in the units of their names. */
export interface Config {
  readonly mqtt: {
    /** As given; may hold a user and a password. */
    readonly url: string;
    readonly clientId: string;
    readonly username?: string;
    readonly password?: string;
    /** PEM texts. */
    readonly tls?: { readonly ca?: string; readonly cert?: string; readonly key?: string };
    readonly protocolVersion: 5 | 4;
    readonly sessionExpirySeconds: number;
    readonly receiveMaximum: number;
    readonly keepaliveSeconds: number;
    readonly maxWaiting: number;
    readonly maxWaitingBytes: number;
    readonly maximumPacketSize: number;
    /** Files that hold what may be renewed while the service runs. */
    readonly files?: {
      readonly password?: string;
      readonly ca?: string;
      readonly cert?: string;
      readonly key?: string;
    };
  };
  readonly handleRetained: boolean;
  /** Topic filters of which messages are shown that no row is for. */
  readonly observeTopics: readonly string[];
  /** Without a trailing slash. */
  readonly topicPrefix: string;
  /** `storeUrl` (`s3://bucket/prefix`, `file:` URL or path) and `key` are the two halves of `url`. */
  readonly catalog: { readonly url: string; readonly storeUrl: string; readonly key: string; readonly pollMs: number };
  readonly logs: {
    readonly url: string;
    readonly followers: number;
    readonly memoryBytes: number;
    readonly disk?: { readonly folder: string; readonly bytes: number };
    readonly maxBytes: number;
  };
  readonly runs: { readonly url: string };
  /** Where the index of ended runs is. `ifThere`: only if the folder is there and can be used. */
  readonly data: { readonly folder: string; readonly ifThere?: true };
  /** What is deleted by age; absent: nothing. */
  readonly keep: { readonly runsMs?: number; readonly logsMs?: number };
  readonly s3: S3ServerOptions;
  /** AWS_* variables that came by flag or file; the SDK reads them from the environment: see exportAwsEnv. */
  readonly awsEnv: Readonly<Record<string, string>>;
  readonly cluster: {
    readonly kind: "kubernetes" | "local";
    readonly kubeconfig?: string;
    readonly context?: string;
    /** What Kubernetes tells a pod of the API server; absent: this is none. */
    readonly pod?: { readonly host: string; readonly port: string };
    readonly namespace?: string;
    readonly instance: string;
    /** Calls per second; 0: no limit. */
    readonly qps: number;
    readonly burst: number;
    readonly createConcurrency: number;
    readonly jobTtlSeconds: number;
    readonly localDir: string;
    readonly localSecretsDir?: string;
    /** File or folder of the operator's pod templates. */
    readonly podTemplates?: string;
  };
  /** Before a failed run's second attempt. */
  readonly retryDelayMs: number;
  readonly grace: { readonly imagePullMs: number; readonly unschedulableMs: number };
  readonly maxChainDepth: number;
  /** How late a run by schedule may begin. */
  readonly startingDeadlineMs: number;
  /** Items of one group. */
  readonly maxItems: number;
  /** Text of the policy file, for parsePolicy. */
  readonly policy?: { readonly file: string; readonly text: string };
  /** How often it is asked what pods use; 0: never. */
  readonly usageIntervalMs: number;
  /** Absent: no election. */
  readonly leader?: { readonly leaseName: string; readonly times: LeaseTimes };
  /** Name of this replica, also where there is no election. */
  readonly replicaName: string;
  /** Who asks by a command; absent: nobody is named. */
  readonly requestedBy?: string;
  readonly status: {
    /** Header in which the proxy before the page names the user. */
    readonly userHeader?: string;
    /** Absent: no server. */
    readonly listen?: { readonly hostname: string; readonly port: number };
    readonly token?: string;
    /** Names that the page is asked by besides its own. */
    readonly hosts?: readonly string[];
    /** The page as people reach it, without a trailing slash. */
    readonly url?: string;
  };
  /** Absent: no notices. */
  readonly webhook?: { readonly url: string; readonly on: "failed" | "all" };
  /** Webhooks that rows may name, by their names. */
  readonly channels: ReadonlyMap<string, string>;
  /** Where spans go; absent: no traces are made. */
  readonly traces?: {
    readonly url: string;
    readonly headers: Readonly<Record<string, string>>;
    readonly serviceName: string;
  };
  readonly log: {
    readonly level: "trace" | "debug" | "info" | "warning" | "error" | "fatal";
    readonly format: "text" | "json";
  };
  /** Sentences for the log: what is probably not meant. */
  readonly warnings: readonly string[];
  /** Values that nobody may see, for registerSecret. */
  readonly secrets: readonly string[];
  /** What publicConfig shows. */
  readonly shown: PublicConfig;
}

/** Effective settings by variable name, without secrets: those are left out, passwords in URLs are masked. */
export type PublicConfig = Readonly<Record<string, string | number | boolean>>;

/** All that is wrong with the configuration; one fault a line. */
export class ConfigError extends Error {
  override name = "ConfigError";
  readonly faults: readonly string[];
  constructor(faults: readonly string[]) {
    const head = faults.length === 1 ? "a setting is wrong" : `${faults.length} settings are wrong`;
    super(`Cannot start: ${head}\n${faults.map((fault) => `  ${fault}`).join("\n")}`);
    this.faults = faults;
  }
}

/** The process's own environment and arguments. */
export function processInput(): ConfigInput & { readonly args: readonly string[] } {
  const mayKnowHost = Deno.permissions.querySync({ name: "sys", kind: "hostname" }).state === "granted";
  return {
    env: Deno.env.toObject(),
    args: Deno.args,
    readTextFile: (path) => Deno.readTextFileSync(path),
    host: mayKnowHost ? Deno.hostname() : undefined,
  };
}

/** Gives the AWS SDK what it can only read from the environment. */
export function exportAwsEnv(config: Config): void {
  for (const [name, value] of Object.entries(config.awsEnv)) Deno.env.set(name, value);
}

/** Reads and checks everything; pure over its input. Throws one ConfigError that names all faults. */
export function loadConfig(input: ConfigInput): Config {
  const reader = new Reader(input);
  const config = assemble(reader, input);
  if (reader.faults.length > 0) throw new ConfigError([...new Set(reader.faults)]);
  // A config that slips into a log or a message shows only what may be shown.
  Object.defineProperty(config, "toJSON", { value: () => config.shown });
  Object.defineProperty(config, Symbol.for("Deno.customInspect"), {
    value: (inspect: typeof Deno.inspect, options: Deno.InspectOptions) => inspect(config.shown, options),
  });
  return deepFreeze(config);
}

/** Effective settings for people, such as the `info` topic. */
export function publicConfig(config: Config): PublicConfig {
  return config.shown;
}

// ---------------------------------------------------------------- putting together

function assemble(reader: Reader, input: ConfigInput): Config {
  // Wrong settings have been noted and end in a ConfigError, so a missing value is never used.
  const need = <N extends SettingName>(name: N) => reader.get(name) as SettingValue<N>;
  const mqttUrl = need("MQTT_URL") ?? "";
  const topicPrefix = need("TOPIC_PREFIX") ?? "";
  const catalogUrl = need("CATALOG_URL") ?? "";
  const { storeUrl, key } = splitObjectUrl(catalogUrl);
  const beside = besideCatalog(storeUrl, topicPrefix);
  const instance = reader.get("INSTANCE") ?? labelOf(topicPrefix);
  const policyFile = reader.get("POLICY_FILE");
  const policyText = reader.fileOf("POLICY_FILE");
  const maxWaiting = need("MAX_WAITING_MESSAGES");
  const spoolDir = reader.get("SPOOL_DIR");
  const config: Config = {
    mqtt: optional({
      url: mqttUrl,
      clientId: reader.get("MQTT_CLIENT_ID") ?? labelOf(topicPrefix),
      username: reader.get("MQTT_USERNAME"),
      password: reader.get("MQTT_PASSWORD"),
      tls: tlsOf(reader, mqttUrl),
      protocolVersion: need("MQTT_VERSION"),
      sessionExpirySeconds: need("MQTT_SESSION_EXPIRY"),
      receiveMaximum: need("MQTT_RECEIVE_MAXIMUM"),
      keepaliveSeconds: need("MQTT_KEEPALIVE"),
      maxWaiting,
      maxWaitingBytes: need("MAX_WAITING_BYTES"),
      maximumPacketSize: need("MQTT_MAX_PACKET_SIZE"),
      files: optional({
        password: reader.secretFile("MQTT_PASSWORD"),
        ca: reader.get("MQTT_CA_FILE"),
        cert: reader.get("MQTT_CERT_FILE"),
        key: reader.get("MQTT_KEY_FILE"),
      }),
    }),
    handleRetained: need("HANDLE_RETAINED"),
    observeTopics: reader.get("OBSERVE_TOPICS") ?? [],
    topicPrefix,
    catalog: { url: catalogUrl, storeUrl, key, pollMs: need("CATALOG_POLL") },
    logs: optional({
      url: reader.get("LOGS_URL") ?? `${beside}/logs`,
      followers: need("LOG_FOLLOWERS"),
      memoryBytes: need("LOG_MEMORY"),
      disk: spoolDir === undefined ? undefined : { folder: spoolDir, bytes: need("LOG_SPOOL") },
      maxBytes: need("MAX_LOG_BYTES"),
    }),
    runs: { url: reader.get("RUNS_URL") ?? `${beside}/runs` },
    data: dataOf(reader),
    keep: optional({ runsMs: reader.get("KEEP_RUNS"), logsMs: reader.get("KEEP_LOGS") }),
    s3: s3Of(reader, input),
    awsEnv: awsEnvOf(reader),
    cluster: optional({
      kind: need("CLUSTER"),
      kubeconfig: reader.get("KUBECONFIG"),
      context: reader.get("KUBE_CONTEXT"),
      pod: podOf(input),
      namespace: reader.get("NAMESPACE"),
      instance,
      qps: need("KUBE_QPS"),
      burst: need("KUBE_BURST"),
      createConcurrency: need("CREATE_CONCURRENCY"),
      jobTtlSeconds: need("JOB_TTL"),
      localDir: need("LOCAL_DIR"),
      localSecretsDir: reader.get("LOCAL_SECRETS_DIR"),
      podTemplates: reader.get("POD_TEMPLATES"),
    }),
    retryDelayMs: need("RETRY_DELAY"),
    grace: { imagePullMs: need("IMAGE_PULL_GRACE"), unschedulableMs: need("UNSCHEDULABLE_GRACE") },
    maxChainDepth: need("MAX_CHAIN_DEPTH"),
    startingDeadlineMs: need("STARTING_DEADLINE"),
    maxItems: need("MAX_ITEMS"),
    ...(policyFile === undefined || policyText === undefined ? {} : { policy: { file: policyFile, text: policyText } }),
    usageIntervalMs: need("USAGE_INTERVAL"),
    ...leaderOf(reader),
    replicaName: reader.get("REPLICA_NAME") ?? replicaName(input),
    ...requestedByOf(reader, input),
    status: statusOf(reader),
    ...webhookOf(reader),
    channels: reader.get("NOTIFY_CHANNELS") ?? new Map(),
    ...tracesOf(reader),
    log: { level: need("LOG_LEVEL"), format: need("LOG_FORMAT") },
    warnings: reader.warnings,
    secrets: reader.secrets,
    shown: reader.shown,
  };
  crossCheck(config, reader);
  const broker = readBrokerUrl(mqttUrl);
  if (!("fault" in broker)) reader.shown["MQTT_URL"] = broker.url;
  // What was worked out is shown as well: people ask which client id or folder it is.
  Object.assign(reader.shown, {
    MQTT_CLIENT_ID: config.mqtt.clientId,
    LOGS_URL: shownPlace(config.logs.url),
    RUNS_URL: shownPlace(config.runs.url),
    INSTANCE: instance,
    REPLICA_NAME: config.replicaName,
  });
  return config;
}

/** `s3://bucket/a/jobs.csv` → `s3://bucket/a` and `jobs.csv`; likewise for paths and `file:` URLs. */
export function splitObjectUrl(url: string): { storeUrl: string; key: string } {
  const slash = url.lastIndexOf("/");
  if (slash < 0) return { storeUrl: ".", key: url };
  return { storeUrl: slash === 0 ? "/" : url.slice(0, slash), key: url.slice(slash + 1) };
}

/** The folder beside the table that bears the service's name; a table that lies in it already is beside it too. */
function besideCatalog(storeUrl: string, topicPrefix: string): string {
  const name = topicPrefix.slice(topicPrefix.lastIndexOf("/") + 1);
  const root = storeUrl.replace(/\/$/, "");
  return root.endsWith(`/${name}`) || root === name ? root : `${root}/${name}`;
}

/** A topic as a label's value and a client id: `services/mqtt_job_listener` → `services-mqtt_job_listener`. */
function labelOf(topic: string): string {
  const label = topic.replace(/[^A-Za-z0-9._-]+/g, "-");
  // The end of a topic tells services apart better than its beginning.
  return label.slice(-63).replace(/^[^A-Za-z0-9]+|[^A-Za-z0-9]+$/g, "") || "default";
}

/** The host's name may be shared (two processes, two containers on the host's network), so a random part follows. */
/** Who asks by a command: the user of this machine, unless somebody else is named or nobody shall be. */
function requestedByOf(reader: Reader, { env, host }: ConfigInput): Pick<Config, "requestedBy"> {
  const named = reader.get("REQUESTED_BY");
  if (named === "off") return {};
  const user = env["USER"] || env["LOGNAME"] || env["USERNAME"];
  const requestedBy = named ?? readName(host === undefined || !user ? user ?? "" : `${user}@${host}`);
  return requestedBy === undefined ? {} : { requestedBy };
}

function replicaName({ env, random = () => crypto.randomUUID().slice(0, 8) }: ConfigInput): string {
  return `${env["HOSTNAME"] || "replica"}-${random()}`;
}

/** Kubernetes sets these for each container; a setting of ours would be in the way of that. */
function podOf({ env }: ConfigInput): Config["cluster"]["pod"] {
  const { KUBERNETES_SERVICE_HOST: host, KUBERNETES_SERVICE_PORT: port } = env;
  return host && port ? { host, port } : undefined;
}

/** Where systemd, or whoever installs the service, has made it a folder of its own. */
const STATE_FOLDER = "/var/lib/mqtt-job-listener";

function dataOf(reader: Reader): Config["data"] {
  const folder = reader.get("DATA_DIR");
  return folder === undefined ? { folder: STATE_FOLDER, ifThere: true } : { folder };
}

function tlsOf(reader: Reader, url: string): Config["mqtt"]["tls"] {
  const ca = reader.fileOf("MQTT_CA_FILE");
  const cert = reader.fileOf("MQTT_CERT_FILE");
  const key = reader.fileOf("MQTT_KEY_FILE");
  for (const [one, other] of [["MQTT_CERT_FILE", "MQTT_KEY_FILE"], ["MQTT_KEY_FILE", "MQTT_CERT_FILE"]] as const) {
    const given = reader.raw(one);
    if (given && !reader.raw(other)) reader.fault(given.source, given.text, `set ${other} as well`);
  }
  for (const [name, pem] of [["MQTT_CA_FILE", ca], ["MQTT_CERT_FILE", cert], ["MQTT_KEY_FILE", key]] as const) {
    const given = reader.raw(name);
    if (!given || pem === undefined) continue;
    if (!pem.includes("-----BEGIN ")) reader.fault(given.source, given.text, "the file is not PEM (-----BEGIN …)");
    if (/^(mqtt|tcp|ws):/.test(url)) reader.warnings.push(`${given.source} is not used: MQTT_URL is not encrypted`);
  }
  if (key !== undefined) reader.hide(key);
  return ca ?? cert ?? key ? optional({ ca, cert, key }) : undefined;
}

function leaderOf(reader: Reader): Pick<Config, "leader"> {
  const elect = reader.get("LEADER_ELECT");
  const leaseName = reader.get("LEASE_NAME");
  const durationMs = reader.get("LEASE_DURATION");
  const renewDeadlineMs = reader.get("LEASE_RENEW_DEADLINE");
  const retryMs = reader.get("LEASE_RETRY_PERIOD");
  if (!elect || leaseName === undefined) return {};
  if (durationMs === undefined || renewDeadlineMs === undefined || retryMs === undefined) return {};
  const atFault = (name: "LEASE_DURATION" | "LEASE_RENEW_DEADLINE" | "LEASE_RETRY_PERIOD", advice: string) => {
    const given = reader.raw(name);
    reader.fault(given?.source ?? name, given?.text ?? SETTINGS[name].preset, advice);
  };
  if (renewDeadlineMs >= durationMs) {
    atFault("LEASE_RENEW_DEADLINE", "must be less than LEASE_DURATION, so that a leader that is cut off stops in time");
  }
  if (retryMs * 2 > renewDeadlineMs) {
    atFault("LEASE_RETRY_PERIOD", "must be at most half of LEASE_RENEW_DEADLINE, so that a renewal can be tried again");
  }
  return { leader: { leaseName, times: { durationMs, renewDeadlineMs, retryMs } } };
}

/** Of letters and digits: 80 bits. */
const SHORTEST_TOKEN = 16;

function statusOf(reader: Reader): Config["status"] {
  const listen = reader.get("STATUS_ADDR");
  const token = reader.get("STATUS_TOKEN");
  if (listen && !isLoopback(listen.hostname) && token === undefined) {
    reader.warnings.push(
      `STATUS_ADDR ${listen.hostname}:${listen.port} is not loopback alone: whoever can reach that port, of this host ` +
        "or through what its container publishes, can read table, runs and logs. Nobody can start or cancel runs, " +
        "for STATUS_TOKEN is not set",
    );
  }
  if (listen && token !== undefined && token.length < SHORTEST_TOKEN) {
    reader.warnings.push(
      `STATUS_TOKEN has ${token.length} characters: it can be guessed by trying; take at least ${SHORTEST_TOKEN}, ` +
        "such as `openssl rand -hex 24` prints",
    );
  }
  return optional({
    listen,
    token,
    hosts: reader.get("STATUS_HOSTS"),
    url: reader.get("STATUS_URL"),
    userHeader: reader.get("STATUS_USER_HEADER"),
  });
}

function webhookOf(reader: Reader): Pick<Config, "webhook"> {
  const url = reader.get("WEBHOOK_URL");
  const on = reader.get("WEBHOOK_ON");
  return url === undefined || on === undefined ? {} : { webhook: { url, on } };
}

/** As OpenTelemetry has it (https://opentelemetry.io/docs/specs/otel/protocol/exporter/#endpoint-urls-for-otlphttp). */
function tracesOf(reader: Reader): Pick<Config, "traces"> {
  const base = reader.get("OTEL_EXPORTER_OTLP_ENDPOINT");
  const url = reader.get("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT") ?? (base && `${base.replace(/\/$/, "")}/v1/traces`);
  const headers = reader.get("OTEL_EXPORTER_OTLP_HEADERS") ?? {};
  const serviceName = reader.get("OTEL_SERVICE_NAME");
  // A short word would blot out half of the log.
  for (const value of Object.values(headers)) if (value.length >= 8) reader.hide(value);
  return url === undefined || serviceName === undefined ? {} : { traces: { url, headers, serviceName } };
}

/** What is wrong, or probably not meant, though each setting is right in itself. */
function crossCheck({ mqtt, cluster, keep, runs, logs, log: _, webhook, leader }: Config, reader: Reader): void {
  const parsed = URL.parse(mqtt.url);
  if (parsed?.username && mqtt.username !== undefined) {
    reader.warnings.push("MQTT_USERNAME is used; the user in MQTT_URL is not");
  }
  if (mqtt.password !== undefined && mqtt.username === undefined && !parsed?.username && mqtt.protocolVersion === 4) {
    const given = reader.raw("MQTT_PASSWORD");
    // MQTT 3.1.1 [MQTT-3.1.2-22]: no password without a user name.
    reader.fault(given?.source ?? "MQTT_PASSWORD", undefined, "set MQTT_USERNAME as well; MQTT 3.1.1 wants both");
  }
  const receive = reader.raw("MQTT_RECEIVE_MAXIMUM");
  if (receive && mqtt.receiveMaximum > mqtt.maxWaiting) {
    reader.warnings.push(
      `${receive.source} ${mqtt.receiveMaximum} is more than MAX_WAITING_MESSAGES ${mqtt.maxWaiting}, which is what counts`,
    );
  }
  const keepRuns = reader.raw("KEEP_RUNS");
  if (keepRuns && keep.runsMs !== undefined && keep.runsMs < mqtt.sessionExpirySeconds * 1000) {
    const advice =
      "must be at least MQTT_SESSION_EXPIRY: as long as the broker may send a message again, its record is needed";
    reader.fault(keepRuns.source, keepRuns.text, advice);
  }
  const keyId = reader.raw("AWS_ACCESS_KEY_ID");
  const secret = reader.raw("AWS_SECRET_ACCESS_KEY");
  if (keyId && !reader.isSet("AWS_SECRET_ACCESS_KEY")) {
    reader.fault(keyId.source, undefined, "set AWS_SECRET_ACCESS_KEY as well");
  }
  if (secret && !reader.isSet("AWS_ACCESS_KEY_ID")) {
    reader.fault(secret.source, undefined, "set AWS_ACCESS_KEY_ID as well");
  }
  if (logs.url === runs.url) {
    reader.fault(reader.raw("RUNS_URL")?.source ?? "RUNS_URL", runs.url, "give it another folder than LOGS_URL");
  }
  if (leader && cluster.kind === "local") {
    reader.fault(
      reader.raw("LEADER_ELECT")?.source ?? "LEADER_ELECT",
      "true",
      "needs CLUSTER=kubernetes, for the lease",
    );
  }
  if (!webhook && reader.raw("WEBHOOK_ON")) {
    reader.warnings.push(`${reader.raw("WEBHOOK_ON")!.source} is not used: WEBHOOK_URL is not set`);
  }
}

/** Without the fields that are undefined, as exactOptionalPropertyTypes wants. */
function optional<T extends object>(
  fields: T,
): { [K in keyof T as undefined extends T[K] ? never : K]: T[K] } & { [K in keyof T]?: Exclude<T[K], undefined> } {
  return Object.fromEntries(Object.entries(fields).filter(([, value]) => value !== undefined)) as ReturnType<
    typeof optional<T>
  >;
}

function deepFreeze<T extends object>(value: T): T {
  for (const part of Object.values(value)) if (typeof part === "object" && part !== null) deepFreeze(part);
  return Object.freeze(value);
}
