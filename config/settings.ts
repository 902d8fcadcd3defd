/**
 * The table of settings: each variable's name, kind, default and meaning, and the kinds that read its text.
 * Pure data and parsing: what the settings make together is config.ts. A kind never shows the value that it refuses,
 * for it may be a secret.
 */
import { z } from "zod";
import { durationMs } from "../util/duration.ts";
import { quantityAdvice, quantityValue } from "../util/quantities.ts";
import { topicFault } from "../topics.ts";

/** A kind reads text; its issues say what would be right, as a clause that follows a colon. */
export type Kind<T = unknown> = z.ZodType<T, string>;

/** Where the service's own HTTP server listens; undefined: nowhere. */
export type Address = { readonly hostname: string; readonly port: number } | undefined;

export interface Setting<T = unknown> {
  readonly kind: Kind<T>;
  readonly group: (typeof GROUPS)[number];
  /** Text that is read where nothing is set. Absent: `otherwise` says what happens then. */
  readonly preset?: string;
  /** For people: the default that is no fixed text. */
  readonly otherwise?: string;
  /** For people, in one or two sentences; Markdown code marks only. */
  readonly meaning: string;
  /** Never shown; `{NAME}_FILE` names a file that holds it. */
  readonly secret?: true;
  /** As a flag it may stand without a value. */
  readonly flagAlone?: true;
  /** Other names that are accepted. */
  readonly aliases?: readonly string[];
}

/** Groups in the order of `--help` and the README. */
export const GROUPS = [
  "Broker",
  "Table and store",
  "Cluster",
  "Runs",
  "Replicas",
  "Page and metrics",
  "Notices",
  "Log",
] as const;

// ---------------------------------------------------------------- kinds

function kind<T>(read: (text: string) => T | undefined, advice: string | ((text: string) => string)): Kind<T> {
  return z.string().transform((text, context) => {
    const value = read(text);
    if (value !== undefined) return value;
    context.addIssue({ code: "custom", message: typeof advice === "string" ? advice : advice(text) });
    return z.NEVER;
  });
}

const text = kind((value) => value, "");

const bool = kind((value) => {
  if (/^(true|yes|on|1)$/i.test(value)) return true;
  if (/^(false|no|off|0)$/i.test(value)) return false;
  return undefined;
}, "write true or false");

function integer(least: number, most: number = Number.MAX_SAFE_INTEGER): Kind<number> {
  const range = most === Number.MAX_SAFE_INTEGER ? `of at least ${least}` : `from ${least} to ${most}`;
  return kind((value) => {
    const number = /^\d+$/.test(value) ? Number(value) : NaN;
    return number >= least && number <= most ? number : undefined;
  }, `write a whole number ${range}`);
}

/** In milliseconds. */
function duration(least: string, most = "36500d"): Kind<number> {
  return kind((value) => {
    const ms = durationMs(value);
    return ms !== undefined && ms >= durationMs(least)! && ms <= durationMs(most)! ? ms : undefined;
  }, (value) => {
    if (durationMs(value) !== undefined) return `write a duration from ${least} to ${most}`;
    return /^\d+$/.test(value)
      ? `a duration needs a unit: write ${value}s or ${value}m`
      : "write a duration such as 500ms, 10s, 2m, 12h or 7d";
  });
}

/** In whole seconds, rounded up. */
function seconds(least: string, most?: string): Kind<number> {
  return duration(least, most).transform((ms) => Math.ceil(ms / 1000));
}

/** In bytes. */
function size(least: string): Kind<number> {
  return kind((value) => {
    const bytes = quantityValue(value);
    return bytes !== undefined && Number.isInteger(bytes) && bytes >= quantityValue(least)! ? bytes : undefined;
  }, (value) => {
    const bytes = quantityValue(value);
    return bytes !== undefined
      ? `write a size of at least ${least}`
      : quantityAdvice(value, "memory").replace("; leave the cell empty for none", "");
  });
}

function choice<const T extends string>(...choices: readonly T[]): Kind<T> {
  return kind(
    (value) => choices.find((one) => one === value.toLowerCase()),
    `write ${choices.slice(0, -1).join(", ")} or ${choices.at(-1)}`,
  );
}

function url(...schemes: readonly string[]): Kind<string> {
  const advice = `write a URL that begins with ${schemes.map((scheme) => `${scheme}://`).join(" or ")}`;
  return kind((value) => {
    const parsed = URL.parse(value);
    return parsed && parsed.hostname !== "" && schemes.includes(parsed.protocol.slice(0, -1)) ? value : undefined;
  }, advice);
}

/** A place that a store can be made of: `s3://bucket/…`, a `file:` URL or a path; without trailing slashes. */
const place = kind((value) => {
  if (/^s3:\/\/[^/]+/.test(value)) return value.replace(/\/+$/, "");
  if (/^file:\/\/\//.test(value) || !/^[a-z][a-z0-9+.-]*:/i.test(value)) return value.replace(/(?<=.)\/+$/, "");
  return undefined;
}, "write s3://bucket/path, file:///path or the path of a folder");

const object = kind((value) => {
  const isPlace = place.safeParse(value).success;
  return isPlace && !value.endsWith("/") && /^(?!s3:).+|^s3:\/\/[^/]+\/.+/.test(value) ? value : undefined;
}, "write the table's s3://bucket/path/jobs.csv, or the path of a file");

const address: Kind<Address> = z.string().transform((value, context): Address => {
  if (/^(off|none|no|false)$/i.test(value)) return undefined;
  const match = /^(?:(\[[0-9a-f:.]+\]|[^:\s[\]]*):)?(\d{1,5})$/i.exec(value);
  if (match && Number(match[2]) <= 65535) {
    const hostname = (match[1] ?? "127.0.0.1").replace(/^\[|\]$/g, "");
    return { hostname: hostname === "" ? "0.0.0.0" : hostname, port: Number(match[2]) };
  }
  context.addIssue({
    code: "custom",
    message: "write host:port such as 127.0.0.1:8080, :8080 for all addresses, or off",
  });
  return z.NEVER;
});

const topicPrefix = kind((value) => {
  const prefix = value.replace(/\/$/, "");
  return topicFault(prefix) === undefined && !prefix.startsWith("$") && !prefix.startsWith("/") ? prefix : undefined;
}, "write a topic without wildcards, not beginning with / or $, such as services/mqtt_job_listener");

const clientId = kind(
  (value) => new TextEncoder().encode(value).length <= 65535 && !value.includes("\0") ? value : undefined,
  "write a shorter name",
);

const label = kind(
  (value) => /^[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?$/.test(value) ? value : undefined,
  "write at most 63 letters, digits, -, _ and ., with a letter or digit at both ends",
);

const dnsLabel = kind(
  (value) => /^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$/.test(value) ? value : undefined,
  "write at most 63 of a-z, 0-9 and -, with a letter or digit at both ends",
);

const version: Kind<5 | 4> = kind((value) => {
  if (/^5(\.0)?$/.test(value)) return 5;
  return /^(4|3\.1\.1)$/.test(value) ? 4 : undefined;
}, "write 5, or 4 for MQTT 3.1.1");

const level = choice("trace", "debug", "info", "warning", "warn", "error", "fatal")
  .transform((name) => name === "warn" ? "warning" : name) as unknown as Kind<
    "trace" | "debug" | "info" | "warning" | "error" | "fatal"
  >;

// ---------------------------------------------------------------- the table

const BROKER = "Broker";
const STORE = "Table and store";
const CLUSTER = "Cluster";
const RUNS = "Runs";
const REPLICAS = "Replicas";
const PAGE = "Page and metrics";
const NOTICES = "Notices";
const LOG = "Log";

/** All settings, in the order in which people are shown them. The key is the variable's name. */
export const SETTINGS = {
  MQTT_URL: {
    kind: url("mqtt", "mqtts", "ws", "wss"),
    group: BROKER,
    preset: "mqtt://localhost:1883",
    meaning: "Broker. `mqtts://` and `wss://` are encrypted.",
  },
  MQTT_USERNAME: { kind: text, group: BROKER, otherwise: "none", meaning: "User at the broker." },
  MQTT_PASSWORD: { kind: text, group: BROKER, otherwise: "none", secret: true, meaning: "Password at the broker." },
  MQTT_CLIENT_ID: {
    kind: clientId,
    group: BROKER,
    otherwise: "from `TOPIC_PREFIX`",
    meaning: "The broker keeps the session, with all waiting messages, under this name: change it and they are lost.",
  },
  MQTT_VERSION: {
    kind: version,
    group: BROKER,
    preset: "5",
    meaning: "MQTT 5, or `4` (also `3.1.1`) for older brokers.",
  },
  MQTT_CA_FILE: {
    kind: text,
    group: BROKER,
    otherwise: "well-known authorities",
    meaning: "PEM file of the authority that signed the broker's certificate.",
  },
  MQTT_CERT_FILE: { kind: text, group: BROKER, otherwise: "none", meaning: "PEM file of a client certificate." },
  MQTT_KEY_FILE: { kind: text, group: BROKER, otherwise: "none", meaning: "PEM file of the client certificate's key." },
  MQTT_SESSION_EXPIRY: {
    kind: seconds("1m", "49710d"),
    group: BROKER,
    preset: "7d",
    meaning: "How long the broker keeps messages while the service is down (MQTT 5).",
  },
  MQTT_RECEIVE_MAXIMUM: {
    kind: integer(1, 65535),
    group: BROKER,
    preset: "1000",
    meaning: "Unacknowledged messages that the broker may send at a time (MQTT 5).",
  },
  MQTT_KEEPALIVE: {
    kind: seconds("1s", "65535s"),
    group: BROKER,
    preset: "30s",
    meaning: "A connection that is silent for one and a half times as long is given up.",
  },
  HANDLE_RETAINED: {
    kind: bool,
    group: BROKER,
    preset: "false",
    flagAlone: true,
    meaning: "Whether a retained message starts a run when the service subscribes.",
  },
  TOPIC_PREFIX: {
    kind: topicPrefix,
    group: BROKER,
    preset: "services/mqtt_job_listener",
    meaning: "The service's own topics are below this one.",
  },

  CATALOG_URL: {
    kind: object,
    group: STORE,
    preset: "s3://braingeneers/services/jobs.csv",
    meaning: "Table of jobs: an object, a `file:` URL or a path.",
  },
  CATALOG_POLL: {
    kind: duration("100ms", "1d"),
    group: STORE,
    preset: "10s",
    meaning: "How often the table is looked at.",
  },
  LOGS_URL: {
    kind: place,
    group: STORE,
    otherwise: "`mqtt_job_listener/logs` beside the table",
    meaning: "Where logs of runs are kept.",
  },
  RUNS_URL: {
    kind: place,
    group: STORE,
    otherwise: "`mqtt_job_listener/runs` beside the table",
    meaning: "Where records of runs are kept, and what the service must remember.",
  },
  AWS_ENDPOINT_URL: {
    kind: url("https", "http"),
    group: STORE,
    otherwise: "the profile's, else AWS",
    aliases: ["S3_ENDPOINT"],
    meaning: "S3 server other than AWS. Also as `S3_ENDPOINT`.",
  },
  AWS_PROFILE: {
    kind: text,
    group: STORE,
    otherwise: "`default`",
    meaning: "Profile in `~/.aws`. The AWS SDK's other variables work as well.",
  },
  AWS_REGION: {
    kind: text,
    group: STORE,
    otherwise: "the profile's, else `us-east-1`",
    meaning: "Region of the S3 server.",
  },
  AWS_ACCESS_KEY_ID: { kind: text, group: STORE, otherwise: "the AWS SDK's chain", meaning: "Access key." },
  AWS_SECRET_ACCESS_KEY: {
    kind: text,
    group: STORE,
    otherwise: "the AWS SDK's chain",
    secret: true,
    meaning: "Secret of the access key.",
  },
  AWS_SESSION_TOKEN: {
    kind: text,
    group: STORE,
    otherwise: "none",
    secret: true,
    meaning: "Token of a temporary access key.",
  },
  S3_PATH_STYLE: {
    kind: bool,
    group: STORE,
    otherwise: "true with `AWS_ENDPOINT_URL`",
    flagAlone: true,
    meaning: "`endpoint/bucket/key` instead of `bucket.endpoint/key`.",
  },

  CLUSTER: {
    kind: choice("kubernetes", "local"),
    group: CLUSTER,
    preset: "kubernetes",
    meaning: "`local` runs each row's `command` as a process of this machine.",
  },
  KUBECONFIG: {
    kind: text,
    group: CLUSTER,
    otherwise: "`~/.kube/config`, in a pod its service account",
    meaning: "How to reach the cluster.",
  },
  KUBE_CONTEXT: { kind: text, group: CLUSTER, otherwise: "the current one", meaning: "Context of the kubeconfig." },
  NAMESPACE: {
    kind: dnsLabel,
    group: CLUSTER,
    otherwise: "the context's or the pod's, else `default`",
    meaning: "Where Jobs are made.",
  },
  INSTANCE: {
    kind: label,
    group: CLUSTER,
    otherwise: "from `TOPIC_PREFIX`",
    meaning: "Label by which this service knows its Jobs; services that share a namespace need different ones.",
  },
  KUBE_QPS: {
    kind: integer(0),
    group: CLUSTER,
    preset: "0",
    meaning: "Calls of the API server per second at most; `0`: no limit of the service's own.",
  },
  KUBE_BURST: {
    kind: integer(1),
    group: CLUSTER,
    preset: "100",
    meaning: "Calls that may go at once with `KUBE_QPS`.",
  },
  CREATE_CONCURRENCY: {
    kind: integer(1, 1000),
    group: CLUSTER,
    preset: "16",
    meaning: "Jobs being made at the same time.",
  },
  POLICY_FILE: {
    kind: text,
    group: CLUSTER,
    otherwise: "none",
    meaning: "Rules of a shared cluster, checked before a Job is made; see `deploy/policy.yaml`.",
  },
  LOCAL_DIR: {
    kind: text,
    group: CLUSTER,
    preset: ".mqtt-job-listener",
    meaning: "Folder for the work of `CLUSTER=local`.",
  },

  JOB_TTL: {
    kind: seconds("1m", "3650d"),
    group: RUNS,
    preset: "7d",
    meaning: "Kubernetes deletes an ended Job after this time, if the service has not done so before.",
  },
  IMAGE_PULL_GRACE: {
    kind: duration("0", "30d"),
    group: RUNS,
    preset: "2m",
    meaning: "A run fails when its image could not be pulled for so long.",
  },
  UNSCHEDULABLE_GRACE: {
    kind: duration("0", "365d"),
    group: RUNS,
    preset: "15m",
    meaning: "A run fails when no node could take it for so long.",
  },
  MAX_CHAIN_DEPTH: {
    kind: integer(1, 10_000),
    group: RUNS,
    preset: "32",
    meaning: "Runs in a row that may start each other; the next one is refused.",
  },
  MAX_WAITING_MESSAGES: {
    kind: integer(1),
    group: RUNS,
    preset: "10000",
    meaning: "Messages held in memory; further ones stay with the broker.",
  },
  MAX_WAITING_BYTES: { kind: size("1Mi"), group: RUNS, preset: "64Mi", meaning: "The same in bytes." },
  LOG_FOLLOWERS: {
    kind: integer(0, 10_000),
    group: RUNS,
    preset: "200",
    meaning: "Containers whose output is followed at a time; that of others is read when they end.",
  },
  LOG_MEMORY: {
    kind: size("1Mi"),
    group: RUNS,
    preset: "64Mi",
    meaning: "Memory for output that is not yet in the store.",
  },

  LEADER_ELECT: {
    kind: bool,
    group: REPLICAS,
    preset: "false",
    flagAlone: true,
    meaning: "With several replicas: one works, the others wait to take over.",
  },
  LEASE_NAME: {
    kind: dnsLabel,
    group: REPLICAS,
    otherwise: "`mqtt-job-listener`, with a set `INSTANCE` followed by it",
    meaning: "Lease in `NAMESPACE` by which the replicas elect their leader.",
  },
  REPLICA_NAME: {
    kind: clientId,
    group: REPLICAS,
    otherwise: "host name and a random part",
    meaning: "Name of this replica; must be its own.",
  },

  STATUS_ADDR: {
    kind: address,
    group: PAGE,
    preset: "127.0.0.1:8080",
    meaning: "Where the page, `/metrics` and `/healthz` are served; `off`: nowhere.",
  },
  STATUS_TOKEN: {
    kind: text,
    group: PAGE,
    otherwise: "none: read-only",
    secret: true,
    meaning: "Whoever has this token may run, cancel and repeat runs on the page.",
  },
  STATUS_URL: {
    kind: url("https", "http").transform((value) => value.replace(/\/+$/, "")),
    group: PAGE,
    otherwise: "none",
    meaning: "The page as people reach it; for links in notices.",
  },

  WEBHOOK_URL: {
    kind: url("https", "http"),
    group: NOTICES,
    otherwise: "none",
    secret: true,
    meaning: "Slack-compatible webhook that hears of ended runs.",
  },
  WEBHOOK_ON: {
    kind: choice("failed", "all"),
    group: NOTICES,
    preset: "failed",
    meaning: "Which runs it hears of.",
  },

  LOG_LEVEL: {
    kind: level,
    group: LOG,
    preset: "info",
    meaning: "`trace`, `debug`, `info`, `warning`, `error` or `fatal`.",
  },
  LOG_FORMAT: { kind: choice("text", "json"), group: LOG, preset: "text", meaning: "`json`: one object a line." },
} as const satisfies Readonly<Record<string, Setting>>;

export type SettingName = keyof typeof SETTINGS;

/** What a setting's text is read as. */
export type SettingValue<N extends SettingName> = z.output<(typeof SETTINGS)[N]["kind"]>;

/** Names that other programs use for the same, or that people guess. */
export const GUESSES: Readonly<Record<string, SettingName>> = {
  MQTT_URI: "MQTT_URL",
  MQTT_BROKER: "MQTT_URL",
  MQTT_BROKER_URL: "MQTT_URL",
  MQTT_HOST: "MQTT_URL",
  MQTT_SERVER: "MQTT_URL",
  MQTT_PORT: "MQTT_URL",
  BROKER_URL: "MQTT_URL",
  MQTT_USER: "MQTT_USERNAME",
  MQTT_PASS: "MQTT_PASSWORD",
  MQTT_CLIENTID: "MQTT_CLIENT_ID",
  MQTT_PROTOCOL_VERSION: "MQTT_VERSION",
  MQTT_CA: "MQTT_CA_FILE",
  MQTT_CERT: "MQTT_CERT_FILE",
  MQTT_KEY: "MQTT_KEY_FILE",
  MQTT_TOPIC_PREFIX: "TOPIC_PREFIX",
  CATALOG: "CATALOG_URL",
  CATALOG_PATH: "CATALOG_URL",
  CATALOG_FILE: "CATALOG_URL",
  JOBS_CSV: "CATALOG_URL",
  LOG_URL: "LOGS_URL",
  RUN_URL: "RUNS_URL",
  ENDPOINT_URL: "AWS_ENDPOINT_URL",
  S3_ENDPOINT_URL: "AWS_ENDPOINT_URL",
  AWS_ENDPOINT: "AWS_ENDPOINT_URL",
  AWS_S3_ENDPOINT: "AWS_ENDPOINT_URL",
  KUBE_CONFIG: "KUBECONFIG",
  KUBE_CONFIG_PATH: "KUBECONFIG",
  KUBE_NAMESPACE: "NAMESPACE",
  K8S_NAMESPACE: "NAMESPACE",
  KUBERNETES_NAMESPACE: "NAMESPACE",
  POLICY: "POLICY_FILE",
  STATUS_PORT: "STATUS_ADDR",
  SLACK_WEBHOOK_URL: "WEBHOOK_URL",
  LOGLEVEL: "LOG_LEVEL",
};
