/** A bound on what the namespace of the tests may have. */
import type { KubeApi } from "./kube_api.ts";
import { eventually } from "./wait.ts";

const QUOTAS = "/api/v1/namespaces/default/resourcequotas";

/** Bounds it, such as `{ pods: "0" }`; resolves when that is in force. Disposing it ends it. */
export async function boundNamespace(api: KubeApi, hard: Readonly<Record<string, string>>): Promise<AsyncDisposable> {
  const path = `${QUOTAS}/few`;
  await api.create(QUOTAS, { metadata: { name: "few" }, spec: { hard } });
  const inForce = async () => (await api.get<{ status?: { used?: object } }>(path)).status?.used !== undefined;
  await eventually(inForce, { what: "the quota to be in force" });
  return { [Symbol.asyncDispose]: () => api.delete(path) };
}
