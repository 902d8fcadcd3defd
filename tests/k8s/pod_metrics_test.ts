/** What pods use, as metrics.k8s.io says it, and what is made of an API that is not there or not allowed. */
import { deepEqual, equal, rejects } from "node:assert/strict";
import { podUsageIn } from "../../k8s/pod_metrics.ts";
import { connectKubernetes } from "../../k8s.ts";
import { RefusedError, UnavailableError } from "../../ports.ts";
import { FakeApi } from "../harness/fake_api.ts";

const RUN = "mqtt-job-listener/run";

Deno.test("usage is summed over the containers of a pod, in cores and bytes", () => {
  const containers = [{ usage: { cpu: "1500m", memory: "128Mi" } }, { usage: { cpu: "250000000n", memory: "1024Ki" } }];
  const items = [{ metadata: { name: "sort-abcdefghijkl-x", labels: { [RUN]: "sort-abcdefghijkl" } }, containers }];
  deepEqual(podUsageIn({ items }), [
    { podName: "sort-abcdefghijkl-x", runName: "sort-abcdefghijkl", cpu: 1.75, memory: 129 * 2 ** 20 },
  ]);
});

Deno.test("what is no usage of a run's pod is left out, and what is no quantity counts nothing", () => {
  const metadata = { name: "a", labels: { [RUN]: "sort-abcdefghijkl" } };
  const items = [
    {},
    { metadata: { name: "a" }, containers: [{ usage: { cpu: "1", memory: "1" } }] },
    { metadata: { name: "a", labels: { [RUN]: "../../x" } } },
    { metadata, containers: [{}, { usage: { cpu: "-5", memory: "much" } }, { usage: { memory: "7" } }] },
    { metadata, containers: [{ usage: { cpu: "1e999", memory: "1" } }] },
  ];
  deepEqual(podUsageIn({ items }).map(({ cpu, memory }) => [cpu, memory]), [[0, 7]]);
  deepEqual(podUsageIn({}), []);
});

async function connectTo(api: FakeApi) {
  const kubeconfig = await api.kubeconfig();
  return await connectKubernetes({ kubeconfig, instance: "lab", qps: 0, burst: 0, ttlSeconds: 60 });
}

Deno.test("one call asks for the usage of all pods of this service", async () => {
  await using api = await FakeApi.start(() => Response.json({ items: [] }));
  using cluster = await connectTo(api);
  deepEqual(await cluster.podUsage(), []);
  const [call] = api.requests.filter(({ pathname }) => pathname.startsWith("/apis/metrics"));
  equal(call!.pathname, "/apis/metrics.k8s.io/v1beta1/namespaces/ns-here/pods");
  equal(
    call!.searchParams.get("labelSelector"),
    "app.kubernetes.io/managed-by=mqtt-job-listener,app.kubernetes.io/instance=lab",
  );
});

Deno.test("no API and no right are told apart from one that is away", async () => {
  let status = 404;
  await using api = await FakeApi.start(() =>
    Response.json({ kind: "Status", code: status, message: "no" }, { status })
  );
  using cluster = await connectTo(api);
  await rejects(
    cluster.podUsage(),
    (error) => error instanceof RefusedError && /has no metrics-server/.test(error.message),
  );
  status = 403;
  await rejects(
    cluster.podUsage(),
    (error) => error instanceof RefusedError && /deploy\/role.yaml/.test(error.message),
  );
  status = 503;
  await rejects(cluster.podUsage(), UnavailableError);
});
