/**
 * Chooses and makes the real adapters that a configuration asks for. The only place that knows them all; each is
 * imported when it is wanted, for an unused one costs start-up time and memory.
 */
import type { Config } from "./config.ts";
import type { TemplateFiles } from "./k8s/template_files.ts";
import type { Identity } from "./mqtt/options.ts";
import type { Broker, Cluster, ObjectList, ObjectLook, ObjectStore } from "./ports.ts";
import { parsePolicy } from "./catalog/policy.ts";
import type { Election, ServiceOptions } from "./service.ts";
import { uncovered } from "./topics.ts";
import { compact } from "./util/compact.ts";
import { registerSecret } from "./util/redact.ts";

/** How long a pod may be on its way out before its node counts as lost, in milliseconds. */
const NODE_LOST_MS = 5 * 60_000;

/** A store rooted at `url`: `s3://…`, or a folder. */
export async function openStore(url: string, s3: Config["s3"] = {}): Promise<ObjectStore> {
  if (!url.startsWith("s3://")) {
    const { LocalStore } = await import("./local/store.ts");
    return new LocalStore(url);
  }
  const { S3Store } = await import("./s3.ts");
  return new S3Store({ url, ...s3 });
}

/** Looks for objects anywhere, and lists them. */
export function foreignObjects(s3: Config["s3"] = {}): { readonly look: ObjectLook; readonly list: ObjectList } {
  const stores = new Map<string, Promise<ObjectStore>>();
  /** A store for each bucket, kept; and the key in it. */
  const at = (url: string) => {
    const [, root = "/", key = ""] = /^(s3:\/\/[^/]+|file:\/\/\/|\/|\.)\/?(.*)$/s.exec(url) ?? [];
    let store = stores.get(root);
    if (!store) stores.set(root, store = openStore(root, s3));
    return { store, key };
  };
  return {
    async look(url, options) {
      const { store, key } = at(url);
      return await (await store).exists(key, options);
    },
    async *list(begin, options) {
      const { store, key: prefix } = at(begin);
      const { url } = await store;
      for await (const { key } of (await store).list(prefix, options)) yield `${url.replace(/\/$/, "")}/${key}`;
    },
  };
}

/** The operator's pod templates, read once; undefined: only Kubernetes has such. */
export async function openTemplates({ cluster, policy }: Config): Promise<TemplateFiles | undefined> {
  if (cluster.kind === "local") return undefined;
  const { TemplateFiles } = await import("./k8s/template_files.ts");
  const allowPrivileged = policy ? parsePolicy(policy.text, policy.file).allowPrivileged === true : false;
  const files = new TemplateFiles(cluster.podTemplates, { allowPrivileged });
  await files.refresh();
  return files;
}

/** The cluster, and where replicas elect their leader in it. */
export async function openCluster(
  config: Config,
  templates?: TemplateFiles,
): Promise<{ cluster: Cluster; election?: Election }> {
  if (config.cluster.kind === "local") {
    const { LocalRunner } = await import("./local/runner.ts");
    const { localDir: dir, localSecretsDir: secretsDir } = config.cluster;
    return { cluster: new LocalRunner({ dir, maxLogBytes: config.logs.maxBytes, ...compact({ secretsDir }) }) };
  }
  const { connectKubernetes } = await import("./k8s.ts");
  const files = templates ?? await openTemplates(config);
  const { kubeconfig, context, pod, namespace, instance, qps, burst, jobTtlSeconds: ttlSeconds } = config.cluster;
  const cluster = await connectKubernetes({
    instance,
    qps,
    burst,
    ttlSeconds,
    ...compact({ kubeconfig, context, pod, namespace, templates: files && (() => files.current) }),
  });
  if (!config.leader) return { cluster };
  const { leaseName, times } = config.leader;
  return { cluster, election: { lease: cluster.lease(leaseName), identity: config.replicaName, times } };
}

/** The broker's client; `onTrouble` hears what a person should mend though the connection stands. */
export async function openBroker(
  config: Config,
  onTrouble: (reason: string) => void,
  identity?: Identity,
): Promise<Broker> {
  const { MqttBroker } = await import("./mqtt.ts");
  const { files, ...mqtt } = config.mqtt;
  return new MqttBroker({
    ...mqtt,
    ...(files && Object.keys(files).length > 0 ? { renew: () => readCredentials(files) } : {}),
    state: { topic: `${config.topicPrefix}/state` },
    ...(identity ? { identity: { ...identity, topic: `${config.topicPrefix}/info` } } : {}),
    retained: config.handleRetained,
    reduce: uncovered,
    onTrouble,
  });
}

/** Hears on which topics messages are published, until `signal` aborts. Does nothing where none is asked for. */
export async function openObserver(
  config: Config,
  { onTopic, onTrouble }: { onTopic: (topic: string) => void; onTrouble: (reason: string) => void },
  signal: AbortSignal,
): Promise<void> {
  const { files, ...mqtt } = config.mqtt;
  if (config.observeTopics.length === 0) return;
  const { observeTopics } = await import("./mqtt.ts");
  const renew = files && Object.keys(files).length > 0 ? { renew: () => readCredentials(files) } : {};
  await observeTopics({ ...mqtt, ...renew, filters: config.observeTopics, onTopic, onTrouble }, signal);
}

/** What the files hold now: secrets are renewed while the service runs. */
async function readCredentials(files: NonNullable<Config["mqtt"]["files"]>) {
  const read = (path: string | undefined) => path === undefined ? undefined : Deno.readTextFile(path);
  const [password, ca, cert, key] = await Promise.all([files.password, files.ca, files.cert, files.key].map(read));
  for (const secret of [password?.trimEnd(), key]) if (secret) registerSecret(secret);
  const tls = compact({ ca, cert, key });
  return compact({
    password: password?.replace(/\r?\n$/, ""),
    tls: Object.keys(tls).length > 0 ? tls : undefined,
  });
}

/** Everything that the core stands on, as the configuration says. */
export async function serviceOptions(
  config: Config,
  { version, onTrouble }: { version: string; onTrouble: (reason: string) => void },
): Promise<ServiceOptions> {
  const templates = await openTemplates(config);
  const startedAtMs = Date.now();
  const instance = crypto.randomUUID();
  const [broker, catalog, logs, runs, { cluster, election }] = await Promise.all([
    // Of replicas the lease decides which goes on.
    openBroker(config, onTrouble, config.leader ? undefined : { instance, startedAtMs }),
    openStore(config.catalog.storeUrl, config.s3),
    openStore(config.logs.url, config.s3),
    openStore(config.runs.url, config.s3),
    openCluster(config, templates),
  ]);
  return {
    broker,
    cluster,
    stores: { catalog, catalogKey: config.catalog.key, logs, runs },
    ...(election ? { election } : {}),
    ...(templates ? { rules: templates } : {}),
    ...foreignObjects(config.s3),
    topicPrefix: config.topicPrefix,
    settings: {
      pollMs: config.catalog.pollMs,
      handleRetained: config.handleRetained,
      createConcurrency: config.cluster.createConcurrency,
      maxChainDepth: config.maxChainDepth,
      startingDeadlineMs: config.startingDeadlineMs,
      maxItems: config.maxItems,
      gracePeriods: { ...config.grace, nodeLostMs: NODE_LOST_MS },
      retryDelayMs: config.retryDelayMs,
      logs: config.logs,
      data: config.data,
      channels: [...config.channels.keys()],
      usageIntervalMs: config.usageIntervalMs,
      ...(config.traces ? { tracing: true } : {}),
      ...(config.policy ? { policy: parsePolicy(config.policy.text, config.policy.file) } : {}),
      info: {
        version,
        replica: config.replicaName,
        instance,
        started_at: new Date(startedAtMs).toISOString(),
        cluster: cluster.url,
        config: config.shown,
      },
    },
  };
}
