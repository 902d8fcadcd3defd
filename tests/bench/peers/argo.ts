/**
 * Argo Events as a contestant: event source, sensor and a NATS server with JetStream as its event bus, each a plain
 * process with the environment that Argo's controllers give to their pods. tests/install.sh builds them.
 */
import { argoEventsPath, isFile, toolPath } from "../../harness/cache.ts";
import { createAuthority } from "../../harness/certs.ts";
import { removeFolder, scratchFolder } from "../../harness/folder.ts";
import { accepts, freePort } from "../../harness/ports.ts";
import { type ManagedProcess, spawn } from "../../harness/process.ts";
import type { JobTemplate } from "../bare_creator.ts";
import type { Contestant, Running, Start } from "./contestants.ts";

/** What stands in its controllers' configuration (manifests/base/controller-manager), but for one replica of three. */
const STREAM = ["maxMsgs: 50000", "maxAge: 168h", "maxBytes: -1", "replicas: 1", "duplicates: 300s", "retention: 0"]
  .join("\n");
/** Of its leader election by the event bus; the path is fixed in its source. */
const ELECTION_LOG = "/tmp/graft.log";

interface Setting {
  /** The sensor's client is not held to 5 calls a second. */
  readonly lifted?: true;
  /** The trigger's `atLeastOnce`: a message is acknowledged on the bus when its Job exists, so one is handled at a time. */
  readonly atLeastOnce?: true;
}

export const ARGO: Contestant = {
  title: "Argo Events, presets",
  // Its client may make ten calls before it is held to five a second.
  warmUp: 1,
  missing,
  start: (options) => start(options, {}),
};

export const ARGO_LIFTED: Contestant = {
  title: "Argo Events, rate lifted",
  missing,
  start: (options) => start(options, { lifted: true }),
};

export const ARGO_AT_LEAST_ONCE: Contestant = {
  title: "Argo Events, rate lifted, atLeastOnce",
  missing,
  start: (options) => start(options, { lifted: true, atLeastOnce: true }),
};

async function missing(): Promise<string | undefined> {
  const program = await argoEventsPath();
  const gone = [isFile(program) ? undefined : program, toolPath("nats") === undefined ? "the NATS server" : undefined]
    .filter((one) => one !== undefined);
  return gone.length === 0 ? undefined : `it needs ${gone.join(" and ")}; run: bash tests/install.sh peers`;
}

async function start({ scene, id, filter, template }: Start, setting: Setting): Promise<Running> {
  const [program, nats] = [await argoEventsPath(), toolPath("nats")!];
  const dir = await scratchFolder("argo");
  const running = new Set<ManagedProcess>();
  try {
    const { bus, url } = await startBus(nats, dir);
    running.add(bus);
    const env = {
      EVENTBUS_CONFIG: encoded({ jetstream: { url, streamConfig: STREAM } }),
      EVENTBUS_SUBJECT: "eventbus-default",
      EVENTSOURCE_OBJECT: encoded(eventSource(scene.kit.broker.port, filter, id)),
      SENSOR_OBJECT: encoded(sensor(await template(), setting)),
      KUBECONFIG: scene.kit.cluster.kubeconfig,
      NAMESPACE: "default",
      ...(setting.lifted ? { KUBE_QPS: "-1" } : {}),
    };
    const handlers: ManagedProcess[] = [];
    const handle = async () => {
      const started = await Promise.all(
        (["sensor", "eventsource"] as const).map((name) => startHandler(name, { program, dir, env, id })),
      );
      handlers.push(...started);
      for (const one of started) running.add(one);
    };
    await handle();
    return {
      pids: () => [...running].map(({ pid }) => pid),
      async killAndStart() {
        for (const one of handlers.splice(0)) {
          await one.kill9();
          running.delete(one);
        }
        await handle();
      },
      logTail: async () => (await Promise.all([...running].map((one) => one.logTail()))).join("\n"),
      [Symbol.asyncDispose]: () => stop(running, dir),
    };
  } catch (error) {
    await stop(running, dir);
    throw error;
  }
}

/** What each says just before it is subscribed. */
const SIGNS = { sensor: "Subscribing to subject", eventsource: "subscribing to the topic" } as const;

async function startHandler(
  name: keyof typeof SIGNS,
  { program, dir, env, id }: { program: string; dir: string; env: Record<string, string>; id: string },
): Promise<ManagedProcess> {
  const log = () => Deno.readTextFile(`${dir}/${name}.log`).catch(() => "");
  const before = (await log()).length;
  return await spawn({
    name,
    command: program,
    args: [name],
    env: { ...env, POD_NAME: `${id}-${name}` },
    dir,
    ready: async () => (await log()).slice(before).includes(SIGNS[name]),
    readyTimeoutMs: 60_000,
  });
}

async function stop(running: ReadonlySet<ManagedProcess>, dir: string): Promise<void> {
  for (const one of [...running].reverse()) await one.kill9();
  await removeFolder(dir);
  await Deno.remove(ELECTION_LOG).catch(() => {});
}

/** With TLS, for Argo's client takes no other. */
async function startBus(command: string, dir: string): Promise<{ bus: ManagedProcess; url: string }> {
  const port = freePort();
  const { certFile, keyFile } = await (await createAuthority(dir, "bus-ca")).server("bus");
  const file = `${dir}/nats.conf`;
  await Deno.writeTextFile(
    file,
    `listen: "127.0.0.1:${port}"
max_payload: 1MB
jetstream { store_dir: "${dir}/jetstream" }
tls { cert_file: "${certFile}", key_file: "${keyFile}" }
`,
  );
  const bus = await spawn({ name: "nats", command, args: ["-c", file], dir, ready: () => accepts(port) });
  return { bus, url: `nats://127.0.0.1:${port}` };
}

function encoded(object: unknown): string {
  return new TextEncoder().encode(JSON.stringify(object)).toBase64();
}

function eventSource(port: number, topic: string, clientId: string): unknown {
  return {
    metadata: { name: "lab", namespace: "default" },
    spec: { mqtt: { message: { url: `tcp://127.0.0.1:${port}`, topic, jsonBody: true, clientId } } },
  };
}

/** Creates the template's Job, with the message's topic and payload where the service has them. */
function sensor({ metadata, ...job }: JobTemplate, { atLeastOnce }: Setting): unknown {
  const { name: _, ...kept } = metadata;
  const resource = {
    apiVersion: "batch/v1",
    kind: "Job",
    ...job,
    metadata: { ...kept, generateName: "argo-" },
  };
  const { containers } = job.spec.template["spec"] as { containers: { env: { name: string }[] }[] };
  const variable = (name: string) =>
    `spec.template.spec.containers.0.env.${containers[0]!.env.findIndex((one) => one.name === name)}.value`;
  const parameter = (dataKey: string, dest: string) => ({ src: { dependencyName: "message", dataKey }, dest });
  const parameters = [
    parameter("topic", "metadata.annotations.mqtt-job-listener/topic"),
    parameter("topic", variable("MQTT_TOPIC")),
    parameter("body", variable("MQTT_PAYLOAD")),
  ];
  return {
    metadata: { name: "lab", namespace: "default" },
    spec: {
      dependencies: [{ name: "message", eventSourceName: "lab", eventName: "message" }],
      triggers: [{
        template: { name: "job", k8s: { operation: "create", source: { resource }, parameters } },
        ...(atLeastOnce ? { atLeastOnce } : {}),
      }],
    },
  };
}
