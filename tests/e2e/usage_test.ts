/** What a run used at most, measured by the real metrics-server, or said by GNU time in the run's own log. */
import { ok } from "node:assert/strict";
import { GATE_MOUNT, Gates, untilOpen } from "../harness/gate.ts";
import { type Kit, startKit } from "../harness/kit.ts";
import { startMetricsServer } from "../harness/metrics_server.ts";
import { needs } from "../harness/needs.ts";
import { MqttEar, startService } from "../harness/service.ts";
import { csv, shell } from "../harness/table.ts";
import { eventually } from "../harness/wait.ts";

const PREFIX = "services/mqtt_job_listener";
const ROLE = await Deno.readTextFile(new URL("../../deploy/role.yaml", import.meta.url));
const MIB = 2 ** 20;
const LEAST = 190e6;

const TABLE = csv([
  // `tail` keeps 200 MB, until what it writes to ends.
  {
    job_name: "hungry",
    mqtt_topic: "lab/hungry",
    image: "busybox:lab",
    command: shell(`head -c 200000000 /dev/zero | tail | { ${untilOpen("measured")}; }`),
    mounts: GATE_MOUNT,
  },
  {
    job_name: "timed",
    mqtt_topic: "lab/timed",
    image: "busybox:lab",
    command: shell(`sleep 4; printf "\\tMaximum resident set size (kbytes): 51200\\n\\tExit status: 0\\n"`),
  },
]);

/** Resolves when metrics-server has said at two times that there is a pod of nearly 200 MB or more. */
async function sampled({ cluster: { api } }: Kit): Promise<void> {
  const times = new Set<string>();
  await eventually(async () => {
    const { items } = await api.get<{ items: PodMetrics[] }>("/apis/metrics.k8s.io/v1beta1/namespaces/lab/pods");
    for (const { timestamp, containers } of items) {
      if (containers.some(({ usage }) => parseInt(usage.memory) * 1_024 > LEAST)) times.add(timestamp);
    }
    return times.size >= 2;
  }, { intervalMs: 500, what: () => `two samples of 200 MB; there are ${times.size}` });
}

interface PodMetrics {
  readonly timestamp: string;
  /** Memory in Ki. */
  readonly containers: readonly { readonly usage: { readonly memory: string } }[];
}

/** The records of a run of each of these rows, once they have ended. */
async function peaks(options: { measured: boolean }): Promise<Record<string, number | undefined>> {
  await using kit = await startKit({ cluster: { node: "real", aggregation: options.measured } });
  await using _server = options.measured ? await startMetricsServer(kit.cluster) : undefined;
  const env = {
    ...kit.env(),
    KUBECONFIG: await kit.cluster.serviceAccountKubeconfig({ roleYaml: ROLE, namespace: "lab" }),
    NAMESPACE: "lab",
    USAGE_INTERVAL: "2s",
  } as Record<string, string>;
  const gates = await Gates.make(kit.cluster, "lab");
  await kit.s3.put(env["CATALOG_URL"]!, TABLE);
  await using ear = await MqttEar.connect(kit.broker.url, [`${PREFIX}/#`]);
  await using service = await startService(env);
  const names = options.measured ? ["hungry", "timed"] : ["timed"];
  for (const name of names) await ear.publish(`lab/${name}`, "");
  if (options.measured) {
    // The service looks several times between one word of metrics-server's and the next.
    await sampled(kit);
    await gates.open("measured");
  }
  const found: Record<string, number | undefined> = {};
  for (const name of names) {
    const [end] = await eventually(() => {
      const ends = ear.json<{ run_name: string }>(`${PREFIX}/job_complete/${name}`);
      return ends.length > 0 && ends;
    }, { what: async () => `the end of ${name}; ${await service.logTail(5)}` });
    // A record is stored once its end is told.
    const record = await eventually(() => kit.s3.get(`${env["RUNS_URL"]}/${end!.run_name}.json`));
    found[name] = JSON.parse(record).peak_memory;
  }
  const log = await service.log();
  ok(log.includes("What runs use is not measured") !== options.measured, "whether something is measured is said once");
  return found;
}

Deno.test({
  name: "a run that uses 200 MB has a peak near it in its record, by metrics-server",
  ignore: !await needs("mosquitto", "s3", "node", "metrics-server"),
  async fn() {
    const { hungry, timed } = await peaks({ measured: true });
    ok(hungry !== undefined && hungry > LEAST && hungry < 230e6, `${hungry} bytes`);
    ok(timed !== undefined && timed >= 50 * MIB, `${timed} bytes`);
  },
});

Deno.test({
  name: "without metrics-server what GNU time says in a run's log is its peak",
  ignore: !await needs("mosquitto", "s3", "node"),
  async fn() {
    const { timed } = await peaks({ measured: false });
    ok(timed === 50 * MIB, `${timed} bytes`);
  },
});
