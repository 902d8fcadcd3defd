/**
 * What Kubernetes fills in itself, so that a manifest that says it says nothing; and what a cluster adds to an object that
 * was printed from it. Pure data and its removal.
 * Sources: SetDefaults_* in kubernetes/kubernetes pkg/apis/core/v1/defaults.go and pkg/apis/batch/v1/defaults.go (v1.36);
 * the admission plug-ins DefaultTolerationSeconds and ServiceAccount.
 */
import { isDeepStrictEqual } from "node:util";
import { type Fields, isMap, mapOf, mapsOf } from "./documents.ts";

type Defaults = Readonly<Record<string, readonly unknown[]>>;

export const JOB_DEFAULTS: Defaults = {
  completionMode: ["NonIndexed"],
  suspend: [false],
  manualSelector: [false],
  podReplacementPolicy: ["TerminatingOrFailed"],
  parallelism: [1],
  completions: [1],
};

const POD_DEFAULTS: Defaults = {
  dnsPolicy: ["ClusterFirst"],
  schedulerName: ["default-scheduler"],
  terminationGracePeriodSeconds: [30],
  hostNetwork: [false],
  hostPID: [false],
  hostIPC: [false],
  shareProcessNamespace: [false],
  setHostnameAsFQDN: [false],
  preemptionPolicy: ["PreemptLowerPriority"],
  securityContext: [{}],
  affinity: [{}],
  nodeSelector: [{}],
};

const CONTAINER_DEFAULTS: Defaults = {
  terminationMessagePath: ["/dev/termination-log"],
  terminationMessagePolicy: ["File"],
  resources: [{}],
  securityContext: [{}],
  stdin: [false],
  stdinOnce: [false],
  tty: [false],
};

const SECURITY_DEFAULTS: Defaults = {
  privileged: [false],
  readOnlyRootFilesystem: [false],
  runAsNonRoot: [false],
  procMount: ["Default"],
  capabilities: [{}],
};

const MODE: Defaults = { defaultMode: [0o644], optional: [false] };
const VOLUME_DEFAULTS: Readonly<Record<string, Defaults>> = {
  secret: MODE,
  configMap: MODE,
  projected: MODE,
  downwardAPI: MODE,
  hostPath: { type: [""] },
  persistentVolumeClaim: { readOnly: [false] },
  emptyDir: { medium: [""], sizeLimit: ["0"] },
};
const MOUNT_DEFAULTS: Defaults = { readOnly: [false], subPath: [""], mountPropagation: ["None"] };

/** Takes out fields that hold their default, null or an empty list. */
export function dropDefaults(fields: Fields, defaults: Defaults): void {
  for (const [field, value] of Object.entries(fields)) {
    const isEmpty = value === null || value === undefined || Array.isArray(value) && value.length === 0;
    if (isEmpty || defaults[field]?.some((preset) => isDeepStrictEqual(preset, value))) delete fields[field];
  }
}

/** Takes the defaults out of a pod's spec, in place. */
export function dropPodDefaults(spec: Fields): void {
  if (isMap(spec["securityContext"])) dropDefaults(spec["securityContext"], SECURITY_DEFAULTS);
  dropDefaults(spec, POD_DEFAULTS);
  if (spec["serviceAccount"] !== undefined) {
    spec["serviceAccountName"] ??= spec["serviceAccount"];
    delete spec["serviceAccount"];
  }
  for (const volume of mapsOf(spec["volumes"])) {
    for (const [kind, source] of Object.entries(volume)) {
      // `emptyDir:` alone is an empty one.
      if (source === null && kind === "emptyDir") volume[kind] = {};
      else if (isMap(source)) dropDefaults(source, VOLUME_DEFAULTS[kind] ?? {});
    }
  }
  for (const container of [...mapsOf(spec["containers"]), ...mapsOf(spec["initContainers"])]) {
    dropContainerDefaults(container);
  }
}

function dropContainerDefaults(container: Fields): void {
  const { resources, securityContext, image } = container;
  if (isMap(resources)) {
    for (const which of ["requests", "limits"]) {
      if (isMap(resources[which]) && Object.keys(resources[which]).length === 0) delete resources[which];
    }
    dropDefaults(resources, {});
  }
  if (isMap(securityContext)) dropDefaults(securityContext, SECURITY_DEFAULTS);
  dropDefaults(container, { ...CONTAINER_DEFAULTS, imagePullPolicy: [pullPolicyOf(String(image ?? ""))] });
  for (const mount of mapsOf(container["volumeMounts"])) dropDefaults(mount, MOUNT_DEFAULTS);
  for (const port of mapsOf(container["ports"])) dropDefaults(port, { protocol: ["TCP"] });
  for (const { valueFrom } of mapsOf(container["env"])) {
    const { secretKeyRef, configMapKeyRef, fieldRef, resourceFieldRef } = mapOf(valueFrom);
    for (const ref of [secretKeyRef, configMapKeyRef]) dropDefaults(mapOf(ref), { optional: [false] });
    dropDefaults(mapOf(fieldRef), { apiVersion: ["v1"] });
    dropDefaults(mapOf(resourceFieldRef), { divisor: ["0", "1", 0, 1] });
  }
  for (const { secretRef, configMapRef } of mapsOf(container["envFrom"])) {
    for (const ref of [secretRef, configMapRef]) dropDefaults(mapOf(ref), { optional: [false] });
  }
}

/** Kubernetes' own rule. */
function pullPolicyOf(image: string): string {
  if (image.includes("@")) return "IfNotPresent";
  const name = image.slice(image.lastIndexOf("/") + 1);
  return !name.includes(":") || name.endsWith(":latest") ? "Always" : "IfNotPresent";
}

/** Labels and annotations that Kubernetes and kubectl write themselves. */
const WRITTEN =
  /^(controller-uid|job-name|batch\.kubernetes\.io\/.*|kubectl\.kubernetes\.io\/(last-applied-configuration|restartedAt)|pod-template-hash|cni\.projectcalico\.org\/.*|k8s\.v1\.cni\.cncf\.io\/.*)$/;
const WRITTEN_METADATA = [
  "managedFields",
  "uid",
  "resourceVersion",
  "creationTimestamp",
  "deletionTimestamp",
  "deletionGracePeriodSeconds",
  "generation",
  "selfLink",
  "ownerReferences",
];

/** Takes out of metadata what the API server writes. */
export function dropWrittenMetadata(metadata: Fields): void {
  for (const field of WRITTEN_METADATA) delete metadata[field];
  for (const field of ["labels", "annotations"]) {
    const pairs = metadata[field];
    if (!isMap(pairs)) continue;
    for (const key of Object.keys(pairs)) if (WRITTEN.test(key)) delete pairs[key];
    if (Object.keys(pairs).length === 0) delete metadata[field];
  }
}

/** Takes out of a pod that was printed from a cluster what the cluster put into it. */
export function dropAssigned(spec: Fields): void {
  delete spec["nodeName"];
  delete spec["priority"];
  const isToken = ({ name }: Fields) => /^(kube-api-access|default-token)-/.test(String(name));
  for (const container of [...mapsOf(spec["containers"]), ...mapsOf(spec["initContainers"])]) {
    container["volumeMounts"] = mapsOf(container["volumeMounts"]).filter((mount) => !isToken(mount));
  }
  spec["volumes"] = mapsOf(spec["volumes"]).filter((volume) => !isToken(volume));
  spec["tolerations"] = mapsOf(spec["tolerations"]).filter(({ key, tolerationSeconds }) =>
    tolerationSeconds !== 300 || !/^node\.kubernetes\.io\/(not-ready|unreachable)$/.test(String(key))
  );
}
