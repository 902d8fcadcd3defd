/**
 * The real metrics-server (https://github.com/kubernetes-sigs/metrics-server) beside a test cluster, behind the API server's
 * aggregation as in life. The cluster needs `aggregation` and a real node.
 */
import { toolPath } from "./cache.ts";
import type { TestCluster } from "./cluster.ts";
import { freePort } from "./ports.ts";
import { type ManagedProcess, spawn } from "./process.ts";
import { eventually } from "./wait.ts";

const APISERVICES = "/apis/apiregistration.k8s.io/v1/apiservices";
const GROUP = "metrics.k8s.io";

/** Starts it; resolves when the API group answers. Disposing it ends the process; the group is then unavailable. */
export async function startMetricsServer(cluster: TestCluster): Promise<ManagedProcess> {
  const command = toolPath("metrics-server");
  if (command === undefined) throw new Error("metrics-server is missing; run tests/install.sh metrics-server");
  const port = freePort();
  // Kubelets of the tests know certificates only.
  const kubeconfig = await cluster.certificateKubeconfig({ user: "metrics-server" });
  const process = await spawn({
    name: "metrics-server",
    command,
    args: [
      `--kubeconfig=${kubeconfig}`,
      `--authentication-kubeconfig=${kubeconfig}`,
      `--authorization-kubeconfig=${kubeconfig}`,
      "--bind-address=127.0.0.1",
      `--secure-port=${port}`,
      `--cert-dir=${cluster.dir}/metrics-server`,
      "--kubelet-insecure-tls",
      "--kubelet-use-node-status-port",
      "--kubelet-preferred-address-types=InternalIP",
      // The least that it takes, and that must be longer than a call.
      "--metric-resolution=10s",
      "--kubelet-request-timeout=5s",
    ],
    dir: cluster.dir,
  });
  const place = { name: "metrics-server", namespace: "kube-system" };
  await cluster.api.create("/api/v1/namespaces/kube-system/services", {
    metadata: place,
    spec: { type: "ExternalName", externalName: "localhost" },
  });
  const version = "v1beta1";
  await cluster.api.create(APISERVICES, {
    metadata: { name: `${version}.${GROUP}` },
    spec: {
      group: GROUP,
      version,
      service: { ...place, port },
      insecureSkipTLSVerify: true,
      groupPriorityMinimum: 100,
      versionPriority: 100,
    },
  });
  await eventually(() => cluster.api.text(`/apis/${GROUP}/${version}/nodes`).then((text) => text.includes("usage")), {
    what: async () => `metrics-server to answer: ${await process.logTail(5)}`,
  });
  return process;
}
