/**
 * Serves the logs of containers that only pretend to run: what the API server asks a node for when somebody reads a pod's
 * log. kwok can serve logs too, but never ends one that is followed. Each log is one line.
 */
import type { TestCluster } from "../harness/cluster.ts";

/** Serves on loopback, and tells the cluster that this is where its fake nodes are. Disposing it ends the server. */
export async function serveFakeLogs(cluster: TestCluster): Promise<AsyncDisposable> {
  const { cert, key } = await cluster.authority.server("fake-kubelet", ["127.0.0.1"]);
  const server = Deno.serve({ hostname: "127.0.0.1", port: 0, cert, key, onListen() {} }, ({ url }) => {
    const { pathname, searchParams } = new URL(url);
    if (!pathname.startsWith("/containerLogs/")) return new Response("not found", { status: 404 });
    const time = searchParams.get("timestamps") === "true" ? `${new Date().toISOString()} ` : "";
    return new Response(`${time}done\n`);
  });
  const status = {
    addresses: [{ type: "InternalIP", address: "127.0.0.1" }],
    daemonEndpoints: { kubeletEndpoint: { Port: server.addr.port } },
  };
  const { items } = await cluster.api.get<{ items: { metadata: { name: string } }[] }>("/api/v1/nodes");
  for (const { metadata } of items) await cluster.api.patch(`/api/v1/nodes/${metadata.name}/status`, { status });
  return server;
}
