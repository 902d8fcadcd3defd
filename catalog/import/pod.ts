/**
 * The pod of a manifest as the service's pods are: one container that is the run, the others beside it; and what is left
 * of it as a pod template. Pure.
 */
import { CONTAINER_NAME } from "../../run_spec.ts";
import { type Fields, isMap, mapOf, mapsOf } from "./documents.ts";
import type { ReportFinding } from "./finding.ts";
import { renameVolumes } from "./mounts.ts";

/** The run's own container, called as the service calls it; undefined: the pod has none. Other containers become sidecars. */
export function arrangeContainers(spec: Fields, annotations: Fields, report: ReportFinding): Fields | undefined {
  const containers = mapsOf(spec["containers"]);
  const marked = annotations["kubectl.kubernetes.io/default-container"];
  const main = containers.find(({ name }) => name === CONTAINER_NAME) ??
    containers.find(({ name }) => name === marked) ?? containers[0];
  if (main === undefined) return undefined;
  const others = containers.filter((container) => container !== main);
  const former = main["name"];
  if (former !== CONTAINER_NAME && marked === former) {
    annotations["kubectl.kubernetes.io/default-container"] = CONTAINER_NAME;
  }
  main["name"] = CONTAINER_NAME;
  const inits = mapsOf(spec["initContainers"]);
  for (const container of inits) {
    if (container["name"] === CONTAINER_NAME) {
      container["name"] = `${CONTAINER_NAME}-init`;
      report(
        "note",
        "initContainers",
        `"${CONTAINER_NAME}" is the run's own container, so this one is called main-init`,
      );
    }
  }
  for (const container of others) {
    const name = JSON.stringify(container["name"] ?? "");
    report(
      "warning",
      `containers ${name}`,
      `a run is one container, here ${
        JSON.stringify(former)
      }; this one becomes a sidecar, which starts before it, is ` +
        "ended with it and whose failure does not count; if it is work of its own, give it a row of its own",
    );
    container["restartPolicy"] = "Always";
  }
  spec["containers"] = [main];
  if (inits.length + others.length > 0) spec["initContainers"] = [...inits, ...others];
  else delete spec["initContainers"];
  for (const container of [main, ...inits, ...others]) renameReferences(container, former);
  return main;
}

/** A container can be told another one's limits. */
function renameReferences(container: Fields, former: unknown): void {
  const isMain = container["name"] === CONTAINER_NAME;
  for (const { valueFrom } of mapsOf(container["env"])) {
    const reference = mapOf(mapOf(valueFrom)["resourceFieldRef"]);
    if (reference["containerName"] !== former) continue;
    if (isMain) delete reference["containerName"];
    else reference["containerName"] = CONTAINER_NAME;
  }
}

/** What the service itself sets in every pod, so that a manifest that says the same needs no template. */
const DROPPED_CAPABILITIES = ["NET_RAW", "MKNOD", "AUDIT_WRITE", "SETFCAP"];

/** Takes out of pod and container what the service gives every run anyway. */
export function dropOwnGuards(spec: Fields, main: Fields): void {
  for (const fields of [spec, main]) {
    const context = fields["securityContext"];
    if (!isMap(context)) continue;
    const { seccompProfile, allowPrivilegeEscalation, capabilities } = context;
    if (mapOf(seccompProfile)["type"] === "RuntimeDefault") delete context["seccompProfile"];
    if (allowPrivilegeEscalation === false) delete context["allowPrivilegeEscalation"];
    const { drop, ...more } = mapOf(capabilities);
    const isOwn = Array.isArray(drop) && drop.every((name) => DROPPED_CAPABILITIES.includes(String(name)));
    if (isOwn && Object.keys(more).length === 0) delete context["capabilities"];
    if (Object.keys(context).length === 0) delete fields["securityContext"];
  }
  delete spec["enableServiceLinks"];
}

/** What is left of a pod's template once the row has said its part; undefined: nothing. */
export function templateOf(metadata: Fields, spec: Fields): Fields | undefined {
  renameVolumes(spec);
  const [main = {}] = mapsOf(spec["containers"]);
  for (const fields of [spec, main]) {
    for (const name of ["securityContext", "affinity", "resources", "nodeSelector"]) {
      if (isMap(fields[name]) && Object.keys(fields[name]).length === 0) delete fields[name];
    }
  }
  if (Object.keys(main).length <= 1) delete spec["containers"];
  const hasMetadata = Object.keys(metadata).length > 0;
  if (!hasMetadata && Object.keys(spec).length === 0) return undefined;
  return { ...(hasMetadata ? { metadata } : {}), spec };
}
