/**
 * The table of settings: each variable's name, kind, default and meaning. Pure data: how texts are read is kinds.ts,
 * what the settings make together config.ts.
 */
import * as kinds from "./kinds.ts";
import { OBSERVER_SETTINGS } from "./observer_settings.ts";
import type { Setting } from "./setting.ts";

export { GROUPS, type Setting } from "./setting.ts";

const BROKER = "Broker";
const STORE = "Table and store";
const CLUSTER = "Cluster";
const RUNS = "Runs";
const REPLICAS = "Replicas";

/** All settings, in the order in which people are shown them. The key is the variable's name. */
export const SETTINGS = {
  MQTT_URL: {
    kind: kinds.brokerUrl,
    group: BROKER,
    mayHoldSecret: true,
    preset: "mqtt://localhost:1883",
    meaning: "Broker. `mqtts://` and `wss://` are encrypted.",
  },
  MQTT_USERNAME: { kind: kinds.text, group: BROKER, otherwise: "none", meaning: "User at the broker." },
  MQTT_PASSWORD: {
    kind: kinds.text,
    group: BROKER,
    otherwise: "none",
    secret: true,
    meaning: "Password at the broker.",
  },
  MQTT_CLIENT_ID: {
    kind: kinds.clientId,
    group: BROKER,
    otherwise: "from `TOPIC_PREFIX`",
    meaning:
      "The broker keeps the session, with all waiting messages, under this name: change it and they are lost. Two services need two.",
  },
  MQTT_VERSION: {
    kind: kinds.version,
    group: BROKER,
    preset: "5",
    meaning: "MQTT 5, or `4` (also `3.1.1`) for older brokers.",
  },
  MQTT_CA_FILE: {
    kind: kinds.text,
    group: BROKER,
    otherwise: "well-known authorities",
    meaning: "PEM file of the authority that signed the broker's certificate.",
  },
  MQTT_CERT_FILE: { kind: kinds.text, group: BROKER, otherwise: "none", meaning: "PEM file of a client certificate." },
  MQTT_KEY_FILE: {
    kind: kinds.text,
    group: BROKER,
    otherwise: "none",
    meaning: "PEM file of the client certificate's key.",
  },
  MQTT_SESSION_EXPIRY: {
    kind: kinds.seconds("1m", "49710d"),
    group: BROKER,
    preset: "7d",
    meaning: "How long the broker keeps messages while the service is down (MQTT 5).",
  },
  MQTT_RECEIVE_MAXIMUM: {
    kind: kinds.integer(1, 65535),
    group: BROKER,
    preset: "1000",
    meaning: "Unacknowledged messages that the broker may send at a time (MQTT 5).",
  },
  MQTT_MAX_PACKET_SIZE: {
    kind: kinds.size("1Ki", "255Mi"),
    group: BROKER,
    preset: "32Mi",
    meaning: "Largest message that is taken. The broker is told (MQTT 5); one that comes all the same starts nothing.",
  },
  MQTT_KEEPALIVE: {
    kind: kinds.seconds("1s", "65535s"),
    group: BROKER,
    preset: "30s",
    meaning: "A connection that is silent for one and a half times as long is given up.",
  },
  HANDLE_RETAINED: {
    kind: kinds.bool,
    group: BROKER,
    preset: "false",
    flagAlone: true,
    meaning: "Whether a retained message starts a run when the service subscribes.",
  },
  OBSERVE_TOPICS: {
    kind: kinds.filters,
    group: BROKER,
    otherwise: "none",
    meaning:
      "Filters of topics, with commas, such as `experiments/#`: messages there that no row is for are shown at " +
      "`/messages`, with the topic that was probably meant. By a second connection (`MQTT_CLIENT_ID` and `-observer`) " +
      "at QoS 0, which takes no message from anybody; payloads of at most 16 KiB are sent to it.",
  },
  TOPIC_PREFIX: {
    kind: kinds.topicPrefix,
    group: BROKER,
    preset: "services/mqtt_job_listener",
    meaning: "The service's own topics are below this one.",
  },

  CATALOG_URL: {
    kind: kinds.object,
    group: STORE,
    preset: "s3://braingeneers/services/jobs.csv",
    meaning: "Table of jobs: an object, a `file:` URL or a path.",
  },
  CATALOG_POLL: {
    kind: kinds.duration("100ms", "1d"),
    group: STORE,
    preset: "10s",
    meaning: "How often the table is looked at.",
  },
  LOGS_URL: {
    kind: kinds.place,
    group: STORE,
    otherwise: "`mqtt_job_listener/logs` beside the table",
    meaning: "Where logs of runs are kept.",
  },
  RUNS_URL: {
    kind: kinds.place,
    group: STORE,
    otherwise: "`mqtt_job_listener/runs` beside the table",
    meaning: "Where records of runs are kept, and what the service must remember.",
  },
  DATA_DIR: {
    kind: kinds.text,
    group: STORE,
    otherwise: "`/var/lib/mqtt-job-listener` where it is there and can be written to, else memory",
    meaning:
      "Folder for the index of ended runs, about 1 KiB each; it is made anew from `RUNS_URL` where it is lost. Also " +
      "for who is signed in to the page. " +
      "Memory holds the newest 20,000.",
  },
  AWS_ENDPOINT_URL: {
    kind: kinds.url("https", "http"),
    group: STORE,
    mayHoldSecret: true,
    otherwise: "the profile's, else AWS",
    aliases: ["S3_ENDPOINT"],
    meaning: "S3 server other than AWS. Also as `S3_ENDPOINT`.",
  },
  AWS_ENDPOINT_URL_S3: {
    kind: kinds.url("https", "http"),
    group: STORE,
    otherwise: "`AWS_ENDPOINT_URL`",
    meaning: "S3 server, where `AWS_ENDPOINT_URL` is that of other services.",
  },
  AWS_CA_BUNDLE: {
    kind: kinds.text,
    group: STORE,
    otherwise: "well-known authorities",
    meaning: "PEM file of an authority that signed the S3 server's certificate.",
  },
  AWS_PROFILE: {
    kind: kinds.text,
    group: STORE,
    otherwise: "`default`",
    meaning: "Profile in `~/.aws`. The AWS SDK's other variables work as well.",
  },
  AWS_REGION: {
    kind: kinds.text,
    group: STORE,
    otherwise: "the profile's, else `us-east-1`",
    aliases: ["AWS_DEFAULT_REGION"],
    meaning: "Region of the S3 server.",
  },
  AWS_ACCESS_KEY_ID: {
    kind: kinds.text,
    group: STORE,
    otherwise: "the AWS SDK's chain",
    secret: "unshown",
    meaning: "Access key. Files of keys are read again when the server refuses what they held.",
  },
  AWS_SECRET_ACCESS_KEY: {
    kind: kinds.text,
    group: STORE,
    otherwise: "the AWS SDK's chain",
    secret: true,
    meaning: "Secret of the access key.",
  },
  AWS_SESSION_TOKEN: {
    kind: kinds.text,
    group: STORE,
    otherwise: "none",
    secret: true,
    meaning: "Token of a temporary access key.",
  },
  S3_PATH_STYLE: {
    kind: kinds.bool,
    group: STORE,
    otherwise: "true where an endpoint is set",
    flagAlone: true,
    meaning: "`endpoint/bucket/key` instead of `bucket.endpoint/key`.",
  },

  CLUSTER: {
    kind: kinds.choice("kubernetes", "local"),
    group: CLUSTER,
    preset: "kubernetes",
    meaning: "`local` runs each row's `command` as a process of this machine.",
  },
  KUBECONFIG: {
    kind: kinds.text,
    group: CLUSTER,
    otherwise: "`~/.kube/config`, in a pod its service account",
    meaning: "How to reach the cluster.",
  },
  KUBE_CONTEXT: {
    kind: kinds.text,
    group: CLUSTER,
    otherwise: "the current one",
    meaning: "Context of the kubeconfig.",
  },
  NAMESPACE: {
    kind: kinds.dnsLabel,
    group: CLUSTER,
    otherwise: "the context's or the pod's, else `default`",
    meaning: "Where Jobs are made.",
  },
  INSTANCE: {
    kind: kinds.label,
    group: CLUSTER,
    otherwise: "from `TOPIC_PREFIX`",
    meaning: "Label by which this service knows its Jobs; services that share a namespace need different ones.",
  },
  KUBE_QPS: {
    kind: kinds.integer(0),
    group: CLUSTER,
    preset: "0",
    meaning: "Calls of the API server per second at most; `0`: no limit of the service's own.",
  },
  KUBE_BURST: {
    kind: kinds.integer(1),
    group: CLUSTER,
    preset: "100",
    meaning: "Calls that may go at once with `KUBE_QPS`.",
  },
  CREATE_CONCURRENCY: {
    kind: kinds.integer(1, 1000),
    group: CLUSTER,
    preset: "16",
    meaning: "Jobs being made at the same time.",
  },
  POLICY_FILE: {
    kind: kinds.text,
    group: CLUSTER,
    otherwise: "none",
    meaning: "Rules of a shared cluster, checked before a Job is made; see `deploy/policy.yaml`.",
  },
  POD_TEMPLATES: {
    kind: kinds.text,
    group: CLUSTER,
    otherwise: "none",
    meaning:
      "YAML file, or folder of such, with `PodTemplate`s for the column `pod_template`; read again when it changes.",
  },
  LOCAL_DIR: {
    kind: kinds.text,
    group: CLUSTER,
    preset: ".mqtt-job-listener",
    meaning: "Folder for the work of `CLUSTER=local`.",
  },
  LOCAL_SECRETS_DIR: {
    kind: kinds.text,
    group: CLUSTER,
    otherwise: "none",
    meaning: "Secrets and config maps of `CLUSTER=local`: a folder `{name}` each, in it a file `{key}` each.",
  },

  JOB_TTL: {
    kind: kinds.seconds("1m", "3650d"),
    group: RUNS,
    preset: "7d",
    meaning: "Kubernetes deletes an ended Job after this time, if the service has not done so before.",
  },
  RETRY_DELAY: {
    kind: kinds.duration("0", "1d"),
    group: RUNS,
    preset: "10s",
    meaning:
      "Wait before a run that failed is tried again (`retries`, `memory_limit`); doubled each time, up to 6 min.",
  },
  IMAGE_PULL_GRACE: {
    kind: kinds.duration("0", "30d"),
    group: RUNS,
    preset: "2m",
    meaning: "A run fails when its image could not be pulled for so long.",
  },
  UNSCHEDULABLE_GRACE: {
    kind: kinds.duration("0", "365d"),
    group: RUNS,
    preset: "15m",
    meaning: "A run fails when no node could take it for so long.",
  },
  STARTING_DEADLINE: {
    kind: kinds.duration("1m", "30d"),
    group: RUNS,
    preset: "1h",
    meaning: "A due time of a `schedule` that was missed for longer is left out; of several, the last one runs.",
  },
  MAX_CHAIN_DEPTH: {
    kind: kinds.integer(1, 10_000),
    group: RUNS,
    preset: "32",
    meaning: "Runs in a row that may start each other; the next one is refused.",
  },
  USAGE_INTERVAL: {
    kind: kinds.durationOrOff("1s", "1h"),
    group: RUNS,
    preset: "15s",
    meaning:
      "How often it is asked what all pods use (one call to metrics-server), for the peaks in records. `off`: never.",
  },
  KEEP_RUNS: {
    kind: kinds.duration("1d"),
    group: RUNS,
    otherwise: "for ever",
    meaning:
      "Records of runs that ended longer ago are deleted once a day, with their payloads, but for those that still " +
      "keep something from running twice; at least `MQTT_SESSION_EXPIRY`. `prune --dry-run` says which.",
  },
  KEEP_LOGS: {
    kind: kinds.duration("1d"),
    group: RUNS,
    otherwise: "for ever",
    meaning: "The same for logs.",
  },
  MAX_ITEMS: {
    kind: kinds.integer(1, 10_000),
    group: RUNS,
    preset: "1000",
    meaning: "Items that one message may make of a row with `for_each`; one that has more is refused.",
  },
  MAX_WAITING_MESSAGES: {
    kind: kinds.integer(1),
    group: RUNS,
    preset: "10000",
    meaning: "Messages held in memory; further ones stay with the broker.",
  },
  MAX_WAITING_BYTES: { kind: kinds.size("1Mi"), group: RUNS, preset: "64Mi", meaning: "The same in bytes." },
  LOG_FOLLOWERS: {
    kind: kinds.integer(0, 10_000),
    group: RUNS,
    preset: "200",
    meaning: "Containers whose output is followed at a time; that of others is read when they end.",
  },
  LOG_MEMORY: {
    kind: kinds.size("1Mi"),
    group: RUNS,
    preset: "64Mi",
    meaning: "Memory for output that is not yet in the store; with `SPOOL_DIR`, half of it before the disk is used.",
  },
  SPOOL_DIR: {
    kind: kinds.text,
    group: RUNS,
    otherwise: "none: memory only",
    meaning:
      "Folder for output that a slow store has not taken yet. Files in it have no name and end with the service.",
  },
  LOG_SPOOL: {
    kind: kinds.size("16Mi"),
    group: RUNS,
    preset: "2Gi",
    meaning: "Disk used in `SPOOL_DIR` at most.",
  },
  MAX_LOG_BYTES: {
    kind: kinds.size("1Ki"),
    group: RUNS,
    preset: "10Gi",
    meaning: "Output kept of one run; the rest is left out, and its log and its end say so.",
  },

  REQUESTED_BY: {
    kind: kinds.personName,
    group: RUNS,
    otherwise: "user and machine",
    meaning: "Who asks, as the commands `run`, `rerun`, `cancel` and `replay` tell the service for the run's record; " +
      "`off`: nobody is named.",
  },

  LEADER_ELECT: {
    kind: kinds.bool,
    group: REPLICAS,
    preset: "false",
    flagAlone: true,
    meaning: "With several replicas: one works, the others wait to take over.",
  },
  LEASE_NAME: {
    kind: kinds.dnsLabel,
    group: REPLICAS,
    preset: "mqtt-job-listener",
    meaning:
      "Lease in `NAMESPACE` by which the replicas elect their leader. `deploy/role.yaml` allows this name; services that share a namespace need one each.",
  },
  LEASE_DURATION: {
    kind: kinds.duration("2s", "1h"),
    group: REPLICAS,
    preset: "30s",
    meaning: "A leader that is silent for so long is followed by another replica.",
  },
  LEASE_RENEW_DEADLINE: {
    kind: kinds.duration("1s", "1h"),
    group: REPLICAS,
    preset: "20s",
    meaning: "A leader that could not renew the lease for so long stops itself; less than `LEASE_DURATION`.",
  },
  LEASE_RETRY_PERIOD: {
    kind: kinds.duration("100ms", "10m"),
    group: REPLICAS,
    preset: "2s",
    meaning: "How often the lease is renewed, or looked at by those that wait.",
  },
  REPLICA_NAME: {
    kind: kinds.clientId,
    group: REPLICAS,
    otherwise: "host name and a random part",
    meaning: "Name of this replica; must be its own.",
  },

  ...OBSERVER_SETTINGS,
} as const satisfies Readonly<Record<string, Setting>>;

export type SettingName = keyof typeof SETTINGS;

/** What a setting's text is read as. */
export type SettingValue<N extends SettingName> = (typeof SETTINGS)[N]["kind"] extends kinds.Kind<infer T> ? T : never;
