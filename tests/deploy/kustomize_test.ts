/** deploy/kustomization.yaml as a cluster takes it, with Pod Security "restricted" enforced where it goes. */
import { deepEqual, equal, match, ok, rejects } from "node:assert/strict";
import type { V1Deployment, V1PodList } from "@kubernetes/client-node";
import { startCluster, type TestCluster } from "../harness/cluster.ts";
import { needs } from "../harness/needs.ts";
import { run } from "../harness/process.ts";
import { PROJECT } from "../harness/project.ts";
import { eventually } from "../harness/wait.ts";

const NAMESPACE = "mqtt-job-listener";
const DEPLOY = `${PROJECT.pathname}deploy`;
const PODS = `/api/v1/namespaces/${NAMESPACE}/pods`;

const kubectl = (cluster: TestCluster, ...args: string[]) =>
  run("kubectl", ["--kubeconfig", cluster.kubeconfig, ...args]);

Deno.test({
  name: "kubectl apply -k: each pod is admitted under Pod Security restricted, and has the rights that are meant",
  ignore: !await needs("kwok", "kubectl"),
  async fn(t) {
    await using cluster = await startCluster({ node: "kwok", nodeCount: 2, fakePods: { runMs: "forever" } });
    const restricted = Object.fromEntries(
      ["enforce", "warn"].map((mode) => [`pod-security.kubernetes.io/${mode}`, "restricted"]),
    );
    await cluster.api.create("/api/v1/namespaces", { metadata: { name: NAMESPACE, labels: restricted } });

    await t.step("the namespace refuses a pod that is not restricted", async () => {
      const account = `/api/v1/namespaces/${NAMESPACE}/serviceaccounts/default`;
      await eventually(() => cluster.api.find(account), { what: "the default ServiceAccount" });
      const pod = { metadata: { name: "free" }, spec: { containers: [{ name: "free", image: "busybox" }] } };
      await rejects(cluster.api.create(PODS, pod), /violates PodSecurity .{1,2}restricted/);
    });

    await t.step("all of it is applied without a warning, and both replicas come up, one on each node", async () => {
      const applied = await new Deno.Command("kubectl", {
        args: ["--kubeconfig", cluster.kubeconfig, "apply", "-k", DEPLOY],
      }).output();
      const said = new TextDecoder().decode(applied.stderr);
      ok(applied.success, said);
      // It was made without kubectl, which it tells; anything else would be a warning of Pod Security.
      deepEqual(said.split("\n").filter((line) => line !== "" && !line.includes("last-applied-configuration")), []);
      const path = `/apis/apps/v1/namespaces/${NAMESPACE}/deployments/mqtt-job-listener`;
      const deployment = () => cluster.api.get<V1Deployment>(path);
      await eventually(async () => (await deployment()).status?.readyReplicas === 2, {
        what: async () => `two replicas to be ready: ${JSON.stringify((await deployment()).status)}`,
      });
      const { items } = await cluster.api.get<V1PodList>(PODS);
      equal(new Set(items.map(({ spec }) => spec!.nodeName)).size, 2);
      for (const { spec } of items) match(spec!.containers[0]!.image!, /^mqtt-job-listener:\d+\.\d+\.\d+$/);
    });

    await t.step("applied again it would change nothing", async () => {
      equal(await kubectl(cluster, "diff", "-k", DEPLOY), "");
    });

    await t.step("the pods' account may make Jobs here, not elsewhere, and read no Secret", async () => {
      const may = async (...what: string[]) => {
        const as = `--as=system:serviceaccount:${NAMESPACE}:mqtt-job-listener`;
        const { stdout } = await new Deno.Command("kubectl", {
          args: ["--kubeconfig", cluster.kubeconfig, "auth", "can-i", as, ...what],
        }).output();
        return new TextDecoder().decode(stdout).trim();
      };
      equal(await may("create", "jobs.batch", "-n", NAMESPACE), "yes");
      equal(await may("get", "pods", "--subresource=log", "-n", NAMESPACE), "yes");
      equal(await may("update", "leases.coordination.k8s.io/mqtt-job-listener", "-n", NAMESPACE), "yes");
      equal(await may("create", "jobs.batch", "-n", "default"), "no");
      equal(await may("get", "secrets", "-n", NAMESPACE), "no");
      equal(await may("create", "pods", "--subresource=exec", "-n", NAMESPACE), "no");
    });

    await t.step("one replica at a time may be drained", async () => {
      const { items } = await cluster.api.get<V1PodList>(PODS);
      const evict = (name: string) =>
        cluster.api.create(`${PODS}/${name}/eviction`, {
          apiVersion: "policy/v1",
          kind: "Eviction",
          metadata: { name },
        });
      await eventually(async () => {
        const budget = `/apis/policy/v1/namespaces/${NAMESPACE}/poddisruptionbudgets/mqtt-job-listener`;
        const { status } = await cluster.api.get<{ status: { disruptionsAllowed: number } }>(budget);
        return status.disruptionsAllowed === 1;
      }, { what: "the budget to allow one" });
      // Without a node that could take its place the second has to stay.
      for (const node of cluster.nodes) await kubectl(cluster, "cordon", node);
      await evict(items[0]!.metadata!.name!);
      await rejects(evict(items[1]!.metadata!.name!), /disruption budget/);
    });
  },
});
