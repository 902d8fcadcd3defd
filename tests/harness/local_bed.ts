/** The whole core on the local parts (aedes, a folder, local processes), and a client that hears everything. */
import mqtt from "mqtt";
import { startLocalBroker } from "../../local/broker.ts";
import { LocalStore } from "../../local/store.ts";
import { LocalRunner } from "../../local/runner.ts";
import { MqttBroker } from "../../mqtt.ts";
import type { ServiceEvent } from "../../ports.ts";
import { Service } from "../../service.ts";
import { compact } from "../../util/compact.ts";

export const PREFIX = "services/mqtt_job_listener";

export interface EmbeddedBedOptions {
  readonly table: string;
  /** Default: a new folder. It is removed in the end. */
  readonly dir?: string;
  readonly maxChainDepth?: number;
  /** What the retained `info` says. */
  readonly info?: Readonly<Record<string, unknown>>;
  /** Each message below the prefix. */
  /** Speaks MQTT 3.1.1. Default: the local broker. */
  readonly server?: { readonly url: string; close(): Promise<void> };
  readonly onMessage?: (topic: string, text: string) => void;
  readonly retryDelayMs?: number;
  readonly tracing?: boolean;
}

/** A running service on parts of its own. */
export async function startEmbeddedBed(
  {
    table,
    dir = "",
    maxChainDepth = 3,
    info = { version: "test" },
    server: given,
    onMessage = () => {},
    retryDelayMs,
    tracing,
  }: EmbeddedBedOptions,
) {
  const folder = dir || await Deno.makeTempDir({ prefix: "mjl-service-" });
  await Deno.writeTextFile(`${folder}/jobs.csv`, table);
  const server = given ?? await startLocalBroker();
  const told: ServiceEvent[] = [];
  const runner = new LocalRunner({ dir: `${folder}/local` });
  const service = new Service({
    broker: new MqttBroker({
      url: server.url,
      clientId: "service",
      protocolVersion: 4,
      state: { topic: `${PREFIX}/state` },
    }),
    cluster: runner,
    stores: {
      catalog: new LocalStore(folder),
      catalogKey: "jobs.csv",
      logs: new LocalStore(`${folder}/logs`),
      runs: new LocalStore(`${folder}/runs`),
    },
    topicPrefix: PREFIX,
    settings: {
      pollMs: 60_000,
      handleRetained: false,
      createConcurrency: 4,
      maxChainDepth,
      ...compact({ retryDelayMs, tracing }),
      gracePeriods: { imagePullMs: 1000, unschedulableMs: 1000, nodeLostMs: 1000 },
      logs: { followers: 10, memoryBytes: 1 << 20, maxBytes: 1e9 },
      info,
    },
    listeners: [(event) => told.push(event)],
  });
  const client = await mqtt.connectAsync(server.url, { protocolVersion: 4 });
  client.on("message", (topic, payload) => onMessage(topic, payload.toString()));
  await client.subscribeAsync(`${PREFIX}/#`, { qos: 1 });
  await service.start();
  let stopping: Promise<void> | undefined;
  const stopService = () => stopping ??= service.stop({ drain: false });
  return {
    folder,
    service,
    runner,
    client,
    told,
    /** Stops the service alone: what it says at its end can still be heard. */
    stopService,
    async [Symbol.asyncDispose]() {
      await stopService();
      await runner.close();
      await client.endAsync();
      await server.close();
      await Deno.remove(folder, { recursive: true });
    },
  };
}
