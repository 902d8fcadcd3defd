/**
 * Who is measured: each makes one Job of each message of a filter. This file has the service, a Python script and a bare
 * process; argo.ts has Argo Events. Starts them and says which processes they are; measures nothing.
 */
import { startService } from "../../harness/service.ts";
import { csv } from "../../harness/table.ts";
import type { JobTemplate } from "../bare_creator.ts";
import { type HelperProcess, startHelper } from "../helper.ts";
import { peerPython } from "../python.ts";
import { benchRow, type Scene } from "../scene.ts";

/** What a contestant is started with. */
export interface Start {
  readonly scene: Scene;
  /** Unlike that of every other start; can be a part of a name or a topic. */
  readonly id: string;
  /** `lab/ID/+`. */
  readonly filter: string;
  /** Path of the service's bundle. */
  readonly bundle: string;
  /** The Job that the service makes, for those that must be told; in the namespace `default`. */
  readonly template: () => Promise<JobTemplate>;
  /** Of another cluster than the scene's; only the service heeds it. */
  readonly kubeconfig?: string;
}

/** A contestant that is subscribed, or soon will be. Disposing it ends all its processes. */
export interface Running extends AsyncDisposable {
  /** Of all its processes, now. */
  pids(): readonly number[];
  /** SIGKILL to what handles messages, and the same start again at once, as a kubelet would. */
  killAndStart(): Promise<void>;
  /** The last lines that its processes have said. */
  logTail(): Promise<string>;
}

/** One who is measured. */
export interface Contestant {
  /** For tables. */
  readonly title: string;
  /** So few warm-up messages that a rate limit has recovered when it is measured. Default 100. */
  readonly warmUp?: number;
  /** What it cannot be measured without, as a sentence; looked at before anybody is measured. */
  missing?(): Promise<string | undefined>;
  start(options: Start): Promise<Running>;
}

/** From the bundle, as a user starts it, with its presets. */
export const SERVICE: Contestant = {
  title: "MQTT Job Listener",
  async start({ scene, id, filter, bundle, kubeconfig = scene.kit.cluster.kubeconfig }) {
    const env: Record<string, string> = {
      ...scene.env,
      ...scene.kit.env(`services/${id}`),
      INSTANCE: id,
      KUBECONFIG: kubeconfig,
      DATA_DIR: `${scene.env["DATA_DIR"]}/${id}`,
    };
    await scene.kit.s3.put(env["CATALOG_URL"]!, csv([benchRow("job", filter)]));
    const start = () => startService(env, { entry: bundle });
    let service = await start();
    return {
      pids: () => [service.pid],
      async killAndStart() {
        await service[Symbol.asyncDispose]();
        service = await start();
      },
      logTail: () => service.logTail(),
      [Symbol.asyncDispose]: () => service[Symbol.asyncDispose](),
    };
  },
};

/** paho-mqtt and the official Kubernetes client: creates each Job in a thread of its own, and forgets it. */
export const PYTHON: Contestant = {
  title: "Python script",
  missing: () => peerPython().then(() => undefined, (error) => (error as Error).message),
  async start({ scene, id, filter, template }) {
    const { broker, cluster } = scene.kit;
    const order = {
      host: "127.0.0.1",
      port: broker.port,
      filter,
      kubeconfig: cluster.kubeconfig,
      namespace: "default",
      follow: false,
      template: await template(),
    };
    const script = new URL("./listener.py", import.meta.url).pathname;
    return await helper({ name: id, command: await peerPython(), args: [script], order });
  },
};

/** Creates each Job by `fetch`, 16 calls at once, and does nothing else. */
export const BARE: Contestant = {
  title: "bare listener",
  start: async ({ scene, filter, template }) => {
    const order = scene.bareOrder(filter, await template());
    const script = new URL("../bare_listener.ts", import.meta.url).pathname;
    return await helper({ name: "bare", command: Deno.execPath(), args: ["run", "-A", script], order });
  },
};

async function helper(options: Parameters<typeof startHelper>[0]): Promise<Running> {
  let running: HelperProcess = await startHelper(options);
  return {
    pids: () => [running.pid],
    async killAndStart() {
      await running[Symbol.asyncDispose]();
      running = await startHelper(options);
    },
    logTail: () => running.logTail(),
    [Symbol.asyncDispose]: () => running[Symbol.asyncDispose](),
  };
}
