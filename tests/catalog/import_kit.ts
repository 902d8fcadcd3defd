/**
 * What a Job means, whatever its notation: two Jobs of which this gives the same start the same pods. Written apart from
 * the import, so that what one overlooks the other finds.
 */
import { quantityValue } from "../../util/quantities.ts";

// deno-lint-ignore no-explicit-any
type Any = any;

/** What the service gives every run, whatever its row says; see k8s/manifest.ts. */
const OWN_ENV = /^(JOB_NAME|RUN_NAME|MQTT_TOPIC|MQTT_PAYLOAD.*|PAYLOAD_.*|RESULT_FILE)$/;
const OWN_KEY = /^(mqtt-job-listener\/|app\.kubernetes\.io\/(managed-by|instance)$)/;
const WRITTEN = /^(batch\.kubernetes\.io\/|controller-uid$|job-name$|kubectl\.kubernetes\.io\/)/;

/** `$$` is `$`; a reference is marked, so that it is another thing than its text. */
function expand(text: unknown, names: ReadonlySet<string>, hasFrom: boolean): string {
  return String(text ?? "").replaceAll(/\$\$|\$\(([^)]*)\)/g, (found, name) => {
    if (found === "$$") return "$";
    return names.has(name) || hasFrom && /^\w+$/.test(name) ? `<reference to ${name}>` : found;
  });
}

const sorted = (values: Any[]) => values.map((value) => JSON.stringify(value)).sort();
const list = (value: Any): Any[] => Array.isArray(value) ? value : [];

/** Objects without null, empty lists, empty maps and what `drop` says. */
function pruned(value: Any): Any {
  if (Array.isArray(value)) return value.map(pruned);
  if (typeof value !== "object" || value === null) return value;
  const kept = Object.entries(value).map(([key, inner]) => [key, pruned(inner)] as const)
    .filter(([, inner]) => inner !== null && inner !== undefined)
    .filter(([key, inner]) => !(typeof inner === "object" && Object.keys(inner).length === 0 && key !== "emptyDir"))
    .sort(([a], [b]) => a < b ? -1 : 1);
  return Object.fromEntries(kept);
}

function envMeaning(container: Any): Any {
  const env = list(container.env).filter(({ name }) => !OWN_ENV.test(name) && name !== "JOB_COMPLETION_INDEX");
  const hasFrom = list(container.envFrom).length > 0;
  const known = new Set<string>();
  const values = new Map<string, Any>();
  for (const { name, value, valueFrom } of env) {
    const { resourceFieldRef: resource, fieldRef, secretKeyRef, configMapKeyRef } = valueFrom ?? {};
    values.set(
      name,
      resource
        ? ["limit", resource.resource, ["0", "1", 0, 1].includes(resource.divisor ?? "1") ? "1" : resource.divisor]
        : fieldRef
        ? ["field", fieldRef.fieldPath]
        : secretKeyRef
        ? ["secret", secretKeyRef.name, secretKeyRef.key, secretKeyRef.optional ?? false]
        : configMapKeyRef
        ? ["config", configMapKeyRef.name, configMapKeyRef.key, configMapKeyRef.optional ?? false]
        : valueFrom ?? expand(value, known, hasFrom),
    );
    known.add(name);
  }
  return Object.fromEntries([...values].sort(([a], [b]) => a < b ? -1 : 1));
}

function resourcesMeaning({ requests = {}, limits = {} }: Any = {}): Any {
  const side = (quantities: Any) =>
    Object.fromEntries(Object.entries(quantities).map(([name, text]) => [name, quantityValue(String(text))]).sort());
  // Kubernetes takes a limit for the request that is not there.
  return { limits: side(limits), requests: side({ ...limits, ...requests }) };
}

/** Mounts by path, each with the whole of its volume. */
function mountsMeaning(container: Any, volumes: Any[], shared: ReadonlySet<string>): Any {
  return Object.fromEntries(
    list(container.volumeMounts).map((mount) => {
      const { name, mountPath, subPath, readOnly, ...more } = mount;
      const { name: _, ...source } = structuredClone(volumes.find((volume) => volume.name === name) ?? {});
      for (const kind of ["secret", "configMap", "projected", "downwardAPI"]) {
        if (source[kind]?.defaultMode === 0o644) delete source[kind].defaultMode;
      }
      let part = subPath?.replace(/\/$/, "") || undefined;
      const items = source.secret?.items ?? source.configMap?.items;
      const chosen = list(items).find(({ path }) => path === part);
      if (part !== undefined && chosen && chosen.mode === undefined) {
        part = chosen.key;
        delete (source.secret ?? source.configMap).items;
      }
      const isFixed = source.secret !== undefined || source.configMap !== undefined;
      const ro = isFixed || readOnly === true || source.persistentVolumeClaim?.readOnly === true;
      delete source.persistentVolumeClaim?.readOnly;
      if (source.emptyDir === null) source.emptyDir = {};
      const path = mountPath.replace(/(.)\/$/, "$1");
      // A folder that several containers share is another one than each its own.
      const whose = source.emptyDir !== undefined && shared.has(name) ? { shared: list(volumes).length > 0 } : {};
      return [path, pruned({ part, ro, source, ...whose, ...more })];
    }).sort(([a], [b]) => a < b ? -1 : 1),
  );
}

const POLICY = (image: string) =>
  image.includes("@") || /:[^/]+$/.test(image) && !image.endsWith(":latest") ? "IfNotPresent" : "Always";

function containerMeaning(container: Any, volumes: Any[], shared: ReadonlySet<string>): Any {
  const { image, command, args, env, envFrom, resources, volumeMounts: _, imagePullPolicy, ...more } = container;
  const names = new Set(list(env).map(({ name }) => name as string));
  const words = (all: Any) => list(all).map((word) => expand(word, names, list(envFrom).length > 0));
  const rest = { ...more };
  delete rest.name;
  for (
    const [field, preset] of Object.entries({
      stdin: false,
      tty: false,
    })
  ) if (rest[field] === preset) delete rest[field];
  return pruned({
    image,
    policy: imagePullPolicy ?? POLICY(image),
    // With a program of its own, words are words wherever they stand.
    entrypoint: command === undefined ? "image" : "own",
    words: [...words(command), ...words(args)],
    env: envMeaning(container),
    envFrom: list(envFrom).map((source) => pruned(source)),
    resources: resourcesMeaning(resources),
    mounts: mountsMeaning(container, volumes, shared),
    rest,
  });
}

function nodesMeaning({ nodeSelector = {}, affinity = {} }: Any): Any {
  const { nodeAffinity = {}, ...more } = affinity;
  const selected = Object.entries(nodeSelector).map(([key, value]) => ({ key, operator: "In", values: [value] }));
  const terms = nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution?.nodeSelectorTerms ?? [{}];
  const expression = ({ key, operator, values = [] }: Any) => ({ key, operator, values });
  const required = sorted(
    terms.map((term: Any) => sorted([...selected, ...list(term.matchExpressions)].map(expression))),
  );
  const preferred = list(nodeAffinity.preferredDuringSchedulingIgnoredDuringExecution);
  const isEqual = new Set(preferred.map(({ weight }) => weight)).size <= 1;
  const wishes = preferred.map(({ weight, preference }) => [isEqual ? 1 : weight, pruned(preference)]);
  return { required, preferred: sorted(wishes), more };
}

function tolerationMeaning({ operator = "Equal", value, ...more }: Any): Any {
  return pruned({ ...more, operator, value: operator === "Equal" ? value ?? "" : undefined });
}

const POD_PRESETS: Any = {
  dnsPolicy: "ClusterFirst",
  schedulerName: "default-scheduler",
  terminationGracePeriodSeconds: 30,
  preemptionPolicy: "PreemptLowerPriority",
};

/** `mainName`: the container that is the run; the others are held for sidecars, as a row can have them. */
export function podMeaning(template: Any, mainName: string): Any {
  const { spec } = structuredClone(template);
  const { containers, initContainers, volumes = [], nodeSelector, affinity, tolerations, ...more } = spec;
  const main = containers.find(({ name }: Any) => name === mainName);
  const sidecars = containers.filter((container: Any) => container !== main)
    .map((container: Any) => ({ ...container, restartPolicy: "Always" }));
  const all = [main, ...list(initContainers), ...sidecars];
  const uses = (name: string) =>
    all.filter(({ volumeMounts }: Any) => list(volumeMounts).some((mount) => mount.name === name)).length;
  const shared = new Set<string>(volumes.map(({ name }: Any) => name).filter((name: string) => uses(name) > 1));
  const rest = { ...more };
  for (const [field, preset] of Object.entries(POD_PRESETS)) if (rest[field] === preset) delete rest[field];
  const own = main.securityContext ?? {};
  const security = { ...rest.securityContext };
  // Where there is one container, whose user is whose is the same.
  if (all.length === 1) {
    for (const field of ["runAsUser", "runAsGroup"]) {
      security[field] = own[field] ?? security[field];
      delete own[field];
    }
  }
  // A group that owns volumes owns nothing where there are none.
  if (volumes.length === 0) delete security.fsGroup;
  if (security.seccompProfile?.type === "RuntimeDefault") delete security.seccompProfile;
  // What the service sets for all runs, see its list of guards.
  if (own.allowPrivilegeEscalation === false) delete own.allowPrivilegeEscalation;
  if (own.capabilities?.drop?.join() === "NET_RAW,MKNOD,AUDIT_WRITE,SETFCAP") delete own.capabilities.drop;
  // The service has its own way to a run's last words.
  for (const field of ["terminationMessagePath", "terminationMessagePolicy"]) delete main[field];
  delete rest.restartPolicy;
  delete rest.enableServiceLinks;
  delete rest.priority;
  const account = rest.serviceAccountName ?? rest.serviceAccount;
  const token = rest.automountServiceAccountToken ?? account !== undefined;
  for (const field of ["serviceAccount", "serviceAccountName", "automountServiceAccountToken"]) delete rest[field];
  return pruned({
    main: containerMeaning(main, volumes, shared),
    others: [...list(initContainers), ...sidecars].map((one: Any) => [
      one.name,
      containerMeaning(one, volumes, shared),
    ]),
    nodes: nodesMeaning({ nodeSelector, affinity }),
    tolerations: sorted(list(tolerations).map(tolerationMeaning)),
    account: account === undefined ? undefined : { account, token },
    rest: { ...rest, securityContext: security },
  });
}

/** Kinds apart, what the Job controller is told. `isPod`: the object is no Job, so nothing of it is tried again. */
export function jobMeaning(spec: Any, isPod: boolean): Any {
  const parallelism = spec.parallelism ?? 1;
  const completions = spec.completions ?? parallelism;
  return pruned({
    parts: completions,
    atOnce: Math.min(parallelism, completions),
    backoffLimit: spec.backoffLimit ?? (isPod ? 0 : 6),
    activeDeadlineSeconds: spec.activeDeadlineSeconds,
  });
}

/** Labels or annotations of Job and pods in one, without those that the service or Kubernetes writes. */
export function pairsMeaning(...holders: Any[]): Any {
  const all = Object.assign({}, ...holders.map((pairs) => pairs ?? {}));
  return Object.fromEntries(Object.entries(all).filter(([key]) => !OWN_KEY.test(key) && !WRITTEN.test(key)).sort());
}
