/**
 * Kubernetes' strategic merge of one pod template over another: maps are merged field by field, lists whose entries
 * have a key are merged by that key, all other lists and values are replaced, null takes a field away. Pure.
 * Rules: `patchMergeKey` of each list in Kubernetes 1.36's types (k8s.io/api/core/v1/types.go), and
 * https://kubernetes.io/docs/tasks/manage-kubernetes-objects/update-api-object-kubectl-patch/
 */

/** A value of an object of Kubernetes', as JSON has it. */
export type Json = string | number | boolean | null | readonly Json[] | JsonMap;
export interface JsonMap {
  readonly [field: string]: Json;
}

interface KeyedList {
  /** The fields by which entries are told apart. */
  readonly keys: readonly string[];
  /** Beside its key an entry has one field only: a volume one source, a variable one origin. */
  readonly oneOf?: true;
}

/** By the name of the list's field within a pod template. */
const KEYED_LISTS: Readonly<Record<string, KeyedList>> = {
  containers: { keys: ["name"] },
  initContainers: { keys: ["name"] },
  volumes: { keys: ["name"], oneOf: true },
  env: { keys: ["name"], oneOf: true },
  imagePullSecrets: { keys: ["name"] },
  schedulingGates: { keys: ["name"] },
  resourceClaims: { keys: ["name"] },
  volumeMounts: { keys: ["mountPath"] },
  volumeDevices: { keys: ["devicePath"] },
  ports: { keys: ["containerPort", "protocol"] },
  hostAliases: { keys: ["ip"] },
  topologySpreadConstraints: { keys: ["topologyKey", "whenUnsatisfiable"] },
};

/** What an entry's key is where the entry leaves it out. */
const KEY_PRESETS: JsonMap = { protocol: "TCP" };

/** `patch` over `base`; neither is changed. */
export function strategicMerge(base: JsonMap, patch: JsonMap): JsonMap {
  const merged: Record<string, Json> = { ...base };
  for (const [field, value] of Object.entries(patch)) {
    if (value === null) delete merged[field];
    else merged[field] = mergeField(merged[field], value, KEYED_LISTS[field]);
  }
  return merged;
}

function mergeField(base: Json | undefined, patch: Json, list: KeyedList | undefined): Json {
  if (isMap(patch)) return strategicMerge(isMap(base) ? base : {}, patch);
  if (!isList(patch)) return patch;
  if (!list || !patch.every(isMap)) return patch;
  const merged = isList(base) ? base.filter(isMap) : [];
  for (const entry of patch) {
    const at = merged.findIndex((other) => list.keys.every((key) => keyOf(other, key) === keyOf(entry, key)));
    const before = at < 0 ? {} : merged[at]!;
    const next = strategicMerge(list.oneOf ? withoutOthers(before, entry, list.keys) : before, entry);
    if (at < 0) merged.push(next);
    else merged[at] = next;
  }
  return merged;
}

/** What of `base` may stay beside the one field that `patch` sets. */
function withoutOthers(base: JsonMap, patch: JsonMap, keys: readonly string[]): JsonMap {
  return Object.fromEntries(Object.entries(base).filter(([field]) => keys.includes(field) || field in patch));
}

function keyOf(entry: JsonMap, key: string): Json | undefined {
  return entry[key] ?? KEY_PRESETS[key];
}

function isList(value: Json | undefined): value is readonly Json[] {
  return Array.isArray(value);
}

function isMap(value: Json | undefined): value is JsonMap {
  return typeof value === "object" && value !== null && !isList(value);
}
