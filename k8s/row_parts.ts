/**
 * What the columns of a row put into the Job, in Kubernetes' words: parts of the pod, of its container and of the labels.
 * Pure. What is the service's own, and wins over these, is manifest.ts.
 */
import type { V1Affinity, V1Container, V1EnvVar, V1PodSpec, V1Volume, V1VolumeMount } from "@kubernetes/client-node";
import type { EnvEntry, Mount, NodeRule, Row, RunSpec, Toleration } from "../ports.ts";
import { Filler } from "../run_spec.ts";
import { compact } from "../util/compact.ts";
import { labelValue } from "./labels.ts";

const GPU_PRODUCT = "nvidia.com/gpu.product";

/** Fields of the container. Throws RefusedError where the message lacks what a placeholder names. */
export function containerOf(spec: RunSpec): Partial<V1Container> {
  const { row } = spec;
  const filler = new Filler(spec);
  const entries = row.env ?? [];
  const envFrom = entries.filter((entry) => entry.from === "all").map(({ kind, object }) =>
    kind === "secret" ? { secretRef: { name: object } } : { configMapRef: { name: object } }
  );
  return compact({
    command: row.command?.map(escapeDollars),
    args: row.args?.map((word) => escapeDollars(filler.fill(word, "args"))),
    env: entries.flatMap((entry) => entry.from === "all" ? [] : [variableOf(entry, filler)]),
    envFrom: envFrom.length === 0 ? undefined : envFrom,
    workingDir: row.workingDir && filler.fill(row.workingDir, "working_dir"),
    imagePullPolicy: row.imagePullPolicy,
    volumeMounts: row.mounts && mountParts(row.mounts).volumeMounts,
  });
}

/** Kubernetes expands `$(NAME)` and makes `$` of `$$`, in values, commands and arguments. */
export function escapeDollars(text: string): string {
  return text.replaceAll("$", "$$$$");
}

function variableOf(entry: Exclude<EnvEntry, { from: "all" }>, filler: Filler): V1EnvVar {
  const { name } = entry;
  switch (entry.from) {
    case "value":
      return { name, value: escapeDollars(filler.fill(entry.value, "env")) };
    case "secret":
      return { name, valueFrom: { secretKeyRef: { name: entry.object, key: entry.key } } };
    case "config":
      return { name, valueFrom: { configMapKeyRef: { name: entry.object, key: entry.key } } };
    case "field":
      return /^(limits|requests)\./.test(entry.path)
        ? { name, valueFrom: { resourceFieldRef: { resource: entry.path } } }
        : { name, valueFrom: { fieldRef: { fieldPath: entry.path } } };
  }
}

// ---------------------------------------------------------------- mounts

interface MountParts {
  readonly volumes: V1Volume[];
  readonly volumeMounts: V1VolumeMount[];
}

/** One volume for each object that is mounted, however often, and one for single keys of it; folders have one each. */
function mountParts(mounts: readonly Mount[]): MountParts {
  const volumes = new Map<string, V1Volume>();
  const volumeMounts = mounts.map((mount): V1VolumeMount => {
    const key = "object" in mount
      ? `${mount.from} ${mount.object}${"key" in mount && mount.key !== undefined ? " keys" : ""}`
      : mount.path;
    const volume = volumes.get(key) ?? { name: `mount-${volumes.size + 1}`, ...sourceOf(mount, mounts) };
    volumes.set(key, volume);
    return compact({ name: volume.name, mountPath: mount.path, ...partOf(mount) });
  });
  return { volumes: [...volumes.values()], volumeMounts };
}

function partOf(mount: Mount) {
  if (mount.from === "pvc") return { subPath: mount.subPath, readOnly: mount.readOnly || undefined };
  return "object" in mount ? { subPath: mount.key, readOnly: true } : {};
}

/**
 * The keys that are mounted one by one, by name: the kubelet makes an empty folder of a sub-path that is not there, but
 * refuses a volume that lacks a key of its list. undefined: all keys.
 */
function itemsOf(mount: Mount & { object: string }, mounts: readonly Mount[]) {
  if (!("key" in mount) || mount.key === undefined) return undefined;
  const keys = mounts.flatMap((one) =>
    one.from === mount.from && one.object === mount.object && "key" in one && one.key !== undefined ? [one.key] : []
  );
  return [...new Set(keys)].map((key) => ({ key, path: key }));
}

function sourceOf(mount: Mount, mounts: readonly Mount[]): Partial<V1Volume> {
  switch (mount.from) {
    case "pvc":
      return { persistentVolumeClaim: { claimName: mount.object } };
    case "secret":
      return { secret: compact({ secretName: mount.object, items: itemsOf(mount, mounts) }) };
    case "config":
      return { configMap: compact({ name: mount.object, items: itemsOf(mount, mounts) }) };
    case "memory":
      return { emptyDir: compact({ medium: "Memory", sizeLimit: mount.size }) };
    case "scratch":
      return { emptyDir: compact({ sizeLimit: mount.size }) };
  }
}

// ---------------------------------------------------------------- the pod

/** Fields of the pod, its containers aside. */
export function podOf(row: Row): Partial<V1PodSpec> {
  const { runAs, serviceAccount } = row;
  return compact({
    ...placementOf(row),
    tolerations: row.tolerations?.map(tolerationOf),
    volumes: row.mounts && mountParts(row.mounts).volumes,
    imagePullSecrets: row.imagePullSecret?.map((name) => ({ name })),
    serviceAccountName: serviceAccount,
    automountServiceAccountToken: serviceAccount === undefined ? undefined : true,
    priorityClassName: row.priorityClass,
    runtimeClassName: row.runtimeClass,
    terminationGracePeriodSeconds: row.terminationGraceSeconds,
    securityContext: runAs &&
      compact({ runAsUser: runAs.user, runAsGroup: runAs.group, fsGroup: runAs.group }),
  });
}

/** One model alone stands in the node selector, where people look for it. */
function placementOf(row: Row): Pick<V1PodSpec, "nodeSelector" | "affinity"> {
  const [product, ...others] = row.gpuProduct ?? [];
  const models: NodeRule[] = product === undefined || others.length === 0
    ? []
    : [{ key: GPU_PRODUCT, operator: "In", values: [product, ...others] }];
  const required = [...models, ...row.nodeSelector ?? []].map(expressionOf);
  const preferred = (row.nodePreference ?? []).map((rule) => ({
    weight: 1,
    preference: { matchExpressions: [expressionOf(rule)] },
  }));
  const nodeAffinity: V1Affinity["nodeAffinity"] = compact({
    requiredDuringSchedulingIgnoredDuringExecution: required.length === 0
      ? undefined
      : { nodeSelectorTerms: [{ matchExpressions: required }] },
    preferredDuringSchedulingIgnoredDuringExecution: preferred.length === 0 ? undefined : preferred,
  });
  return compact({
    nodeSelector: product !== undefined && others.length === 0 ? { [GPU_PRODUCT]: product } : undefined,
    affinity: required.length + preferred.length === 0 ? undefined : { nodeAffinity },
  });
}

function expressionOf({ key, operator, values }: NodeRule) {
  return { key, operator, ...(values.length === 0 ? {} : { values: [...values] }) };
}

function tolerationOf({ key, value, effect }: Toleration) {
  return compact({ key, operator: value === undefined ? "Exists" : "Equal", value, effect });
}

// ---------------------------------------------------------------- labels

/** Labels and annotations of the row's own, and Kueue's queue. */
export function metadataOf(spec: RunSpec): { labels: Record<string, string>; annotations: Record<string, string> } {
  const { labels = [], annotations = [], queue } = spec.row;
  const filler = new Filler(spec);
  return {
    labels: {
      ...Object.fromEntries(labels.map(({ key, value }) => [key, labelValue(filler.fill(value, "labels"))])),
      ...compact({ "kueue.x-k8s.io/queue-name": queue }),
    },
    annotations: Object.fromEntries(
      annotations.map(({ key, value }) => [key, filler.fill(value, "annotations")]),
    ),
  };
}
