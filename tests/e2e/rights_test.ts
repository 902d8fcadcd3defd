/** A setting of the cluster that somebody will mend, a right or the namespace, costs no message. */
import { deepEqual, match, ok } from "node:assert/strict";
import { parseAllDocuments } from "yaml";
import { type Kit, startKit } from "../harness/kit.ts";
import { needs } from "../harness/needs.ts";
import { MqttEar, startService } from "../harness/service.ts";
import { csv } from "../harness/table.ts";
import { eventually } from "../harness/wait.ts";

const ROLE = await Deno.readTextFile(new URL("../../deploy/role.yaml", import.meta.url));
const ignore = !await needs("mosquitto", "s3", "cluster");

interface Report {
  readonly reason: string;
  readonly message: string;
}

/** Sends messages while no Job can be made, looks at what is told, mends it, and waits for their Jobs. */
async function whileUnable(
  kit: Kit,
  env: Record<string, string>,
  { words, mend }: { words: RegExp; mend: () => Promise<unknown> },
): Promise<void> {
  await kit.s3.put(env["CATALOG_URL"]!, csv([{ job_name: "a", mqtt_topic: "lab/a", image: "busybox:lab" }]));
  await using ear = await MqttEar.connect(env["MQTT_URL"]!, ["services/mqtt_job_listener/#"]);
  await using service = await startService(env);
  for (const payload of ["1", "2", "3"]) await ear.publish("lab/a", payload);
  const told = () => ear.json<Report>("services/mqtt_job_listener/ERROR");
  await eventually(() => told().some(({ reason }) => reason === "CreateWaits"));
  match(told().find(({ reason }) => reason === "CreateWaits")!.message, words);
  // Once, though it is tried again and again.
  await eventually(async () => (await service.log()).split("waits: Cannot create the Job").length > 3);
  deepEqual(told().filter(({ reason }) => reason !== "WatchInterrupted").length, 1);
  deepEqual(ear.on("services/mqtt_job_listener/job_failed/#"), []);
  await mend();
  const jobs = `/apis/batch/v1/namespaces/${env["NAMESPACE"]}/jobs`;
  const payloads = await eventually(async () => {
    const { items } = await kit.cluster.api.get<{ items: Job[] }>(jobs);
    return items.length === 3 && items.map(payloadOf).sort();
  }, { what: "a Job for each message" });
  deepEqual(payloads, ["1", "2", "3"]);
  ok(service.status === undefined);
}

interface Job {
  readonly spec: { template: { spec: { containers: { env: { name: string; value: string }[] }[] } } };
}

function payloadOf({ spec }: Job): string | undefined {
  return spec.template.spec.containers[0]!.env.find(({ name }) => name === "MQTT_PAYLOAD")?.value;
}

Deno.test({
  name: "messages wait for a missing right to make Jobs, and run when it is given",
  ignore,
  async fn() {
    await using kit = await startKit({ cluster: { node: "none" } });
    const { cluster } = kit;
    const without = ROLE.replace("[create, delete, get, list, patch, watch]", "[delete, get, list, patch, watch]");
    const kubeconfig = await cluster.serviceAccountKubeconfig({ roleYaml: without, namespace: "lab" });
    const roles = "/apis/rbac.authorization.k8s.io/v1/namespaces/lab/roles";
    await whileUnable(kit, { ...kit.env(), KUBECONFIG: kubeconfig, NAMESPACE: "lab" }, {
      words: /cannot create resource "jobs".*give its account the rights in deploy\/role\.yaml/,
      async mend() {
        const [role] = (await cluster.api.get<{ items: { metadata: { name: string } }[] }>(roles)).items;
        const { rules } = parseAllDocuments(ROLE).map((one) => one.toJS()).find(({ kind }) => kind === "Role");
        await cluster.api.patch(`${roles}/${role!.metadata.name}`, { rules });
      },
    });
  },
});

Deno.test({
  name: "messages wait for a missing namespace, and run when it is there",
  ignore,
  async fn() {
    await using kit = await startKit({ cluster: { node: "none" } });
    await whileUnable(kit, { ...kit.env(), NAMESPACE: "later" }, {
      words: /namespaces "later" not found.*create it or set NAMESPACE/,
      mend: () => kit.cluster.api.create("/api/v1/namespaces", { metadata: { name: "later" } }),
    });
  },
});
