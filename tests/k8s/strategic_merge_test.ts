/** k8s/strategic_merge.ts: as Kubernetes merges pod templates. */
import { deepEqual } from "node:assert/strict";
import fc from "fast-check";
import { type JsonMap, strategicMerge } from "../../k8s/strategic_merge.ts";

function merges(name: string, base: JsonMap, patch: JsonMap, merged: JsonMap): void {
  Deno.test(`strategicMerge() ${name}`, () => deepEqual(strategicMerge(base, patch), merged));
}

merges("merges maps field by field", { a: { b: 1, c: 2 } }, { a: { c: 3, d: 4 } }, { a: { b: 1, c: 3, d: 4 } });
merges("takes away what is null", { a: { b: 1, c: 2 }, d: 1 }, { a: { c: null }, d: null }, { a: { b: 1 } });
merges("leaves no null in what is new", {}, { a: { b: null, c: [{ d: 1 }] } }, { a: { c: [{ d: 1 }] } });
merges(
  "merges containers by name and adds new ones",
  { spec: { containers: [{ name: "main", image: "a", resources: { limits: { cpu: "1" } } }] } },
  { spec: { containers: [{ name: "main", resources: { limits: { memory: "1Gi" } } }, { name: "more" }] } },
  {
    spec: {
      containers: [{ name: "main", image: "a", resources: { limits: { cpu: "1", memory: "1Gi" } } }, { name: "more" }],
    },
  },
);
merges(
  "merges mounts by their path",
  { volumeMounts: [{ mountPath: "/a", name: "x" }, { mountPath: "/b", name: "x" }] },
  { volumeMounts: [{ mountPath: "/b", name: "y", readOnly: true }] },
  { volumeMounts: [{ mountPath: "/a", name: "x" }, { mountPath: "/b", name: "y", readOnly: true }] },
);
merges(
  "gives a volume one source, and a variable one origin",
  {
    volumes: [{ name: "v", emptyDir: { medium: "Memory" } }],
    env: [{ name: "E", valueFrom: { secretKeyRef: { key: "k" } } }],
  },
  { volumes: [{ name: "v", configMap: { name: "c" } }], env: [{ name: "E", value: "1" }] },
  { volumes: [{ name: "v", configMap: { name: "c" } }], env: [{ name: "E", value: "1" }] },
);
merges(
  "takes a port without a protocol for one of TCP",
  { ports: [{ containerPort: 80, protocol: "TCP" }, { containerPort: 80, protocol: "UDP" }] },
  { ports: [{ containerPort: 80, name: "http" }] },
  { ports: [{ containerPort: 80, protocol: "TCP", name: "http" }, { containerPort: 80, protocol: "UDP" }] },
);
merges(
  "replaces lists without a key, such as arguments and tolerations",
  { args: ["a", "b"], tolerations: [{ key: "x" }] },
  { args: ["c"], tolerations: [{ key: "y" }] },
  { args: ["c"], tolerations: [{ key: "y" }] },
);

const name = fc.constantFrom("a", "b", "c", "d");
const entry = fc.record({ name, value: fc.option(fc.string(), { nil: undefined }) }, { requiredKeys: ["name"] })
  .map((one) => Object.fromEntries(Object.entries(one).filter(([, value]) => value !== undefined)) as JsonMap);
const container = fc.record({
  name,
  env: fc.uniqueArray(entry, { selector: ({ name }) => name }),
  args: fc.array(fc.string()),
}).map((one) => one as unknown as JsonMap);
const spec = fc.record({ containers: fc.uniqueArray(container, { selector: ({ name }) => name }) })
  .map((one) => one as unknown as JsonMap);

Deno.test("strategicMerge() gives the same when the patch is merged twice, and keeps what only the base has", () => {
  fc.assert(fc.property(spec, spec, (base, patch) => {
    const once = strategicMerge(base, patch);
    deepEqual(strategicMerge(once, patch), once);
    const names = (of: JsonMap) => (of["containers"] as readonly JsonMap[]).map(({ name }) => name);
    deepEqual(new Set(names(once)), new Set([...names(base), ...names(patch)]));
  }));
});
