/**
 * Everything that the service stands on, started together for end-to-end tests, and the environment that points the
 * service at it. Only puts the parts together.
 */
import { type ClusterOptions, startCluster, type TestCluster } from "./cluster.ts";
import { type Mosquitto, type MosquittoOptions, startMosquitto } from "./mosquitto.ts";
import { type S3Options, type S3Server, startS3 } from "./s3.ts";

export interface KitOptions {
  broker?: MosquittoOptions;
  s3?: S3Options;
  /** Default: one real node. */
  cluster?: ClusterOptions;
}

/** A broker, a store and a cluster. Disposing it ends all three. */
export interface Kit extends AsyncDisposable {
  readonly broker: Mosquitto;
  readonly s3: S3Server;
  readonly cluster: TestCluster;
  /**
   * Environment of a service under test, as a new object. Change what a test wants different, such as a proxy's URL.
   * `topicPrefix`: for one of several services, whose table, logs and records then lie below that.
   */
  env(topicPrefix?: string): Record<string, string>;
}

/** Starts all parts side by side. Needs `needs("mosquitto", "s3", "cluster")` and what the node wants. */
export async function startKit({ broker, s3, cluster = { node: "real" } }: KitOptions = {}): Promise<Kit> {
  const started = await Promise.allSettled([startMosquitto(broker), startS3(s3), startCluster(cluster)]);
  const parts = started.flatMap((result) => result.status === "fulfilled" ? [result.value] : []);
  const stop = async () => {
    await Promise.all(parts.map((part) => part[Symbol.asyncDispose]()));
  };
  const failed = started.find((result) => result.status === "rejected");
  if (failed !== undefined) {
    await stop();
    throw failed.reason;
  }
  const [mosquitto, store, kubernetes] = parts as [Mosquitto, S3Server, TestCluster];
  return {
    broker: mosquitto,
    s3: store,
    cluster: kubernetes,
    env: (topicPrefix) => ({
      ...kitEnvironment(mosquitto, store, kubernetes, broker),
      ...(topicPrefix === undefined ? {} : ownPlaces(topicPrefix, store)),
    }),
    [Symbol.asyncDispose]: stop,
  };
}

function ownPlaces(topicPrefix: string, { buckets }: S3Server): Record<string, string> {
  const root = `s3://${buckets[0]}/${topicPrefix}`;
  return {
    TOPIC_PREFIX: topicPrefix,
    CATALOG_URL: `${root}/jobs.csv`,
    LOGS_URL: `${root}/logs`,
    RUNS_URL: `${root}/runs`,
  };
}

function kitEnvironment(
  broker: Mosquitto,
  s3: S3Server,
  cluster: TestCluster,
  { users }: MosquittoOptions = {},
): Record<string, string> {
  const [user] = Object.entries(users ?? {});
  return {
    MQTT_URL: broker.url,
    ...(user === undefined ? {} : { MQTT_USERNAME: user[0], MQTT_PASSWORD: user[1] }),
    ...(broker.authority === undefined ? {} : { MQTT_CA_FILE: broker.authority.caFile }),
    AWS_ENDPOINT_URL: s3.url,
    AWS_REGION: s3.region,
    AWS_ACCESS_KEY_ID: s3.accessKey,
    AWS_SECRET_ACCESS_KEY: s3.secretKey,
    CATALOG_URL: `s3://${s3.buckets[0]}/services/jobs.csv`,
    LOGS_URL: `s3://${s3.buckets[0]}/services/mqtt_job_listener/logs`,
    RUNS_URL: `s3://${s3.buckets[0]}/services/mqtt_job_listener/runs`,
    KUBECONFIG: cluster.kubeconfig,
    NAMESPACE: "default",
    // Two services of one machine cannot share its preset port.
    STATUS_ADDR: "off",
  };
}
