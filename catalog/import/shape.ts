/**
 * Whether the parts of a pod are lists and objects where Kubernetes has such, so that what reads them overlooks nothing.
 * Pure. What their fields hold is the API server's matter.
 */
import { type Fields, isMap, mapOf, mapsOf } from "./documents.ts";

/** Where a shape is wrong, and what it must be. */
export interface ShapeFault {
  readonly path: string;
  readonly right: string;
}

const POD_LISTS = ["containers", "initContainers", "volumes", "tolerations", "imagePullSecrets"];
const POD_MAPS = ["nodeSelector", "affinity", "securityContext"];
const CONTAINER_LISTS = ["env", "envFrom", "volumeMounts", "volumeDevices", "ports"];
const CONTAINER_MAPS = ["resources", "securityContext"];

/** The first fault of a pod's spec; undefined: none. */
export function shapeFault(spec: Fields): ShapeFault | undefined {
  const found = faultOf(spec, "", POD_LISTS, POD_MAPS) ?? nodeFault(mapOf(spec["affinity"]));
  if (found) return found;
  for (const list of ["containers", "initContainers"]) {
    for (const [at, container] of mapsOf(spec[list]).entries()) {
      const path = `${list}[${at}].`;
      const fault = faultOf(container, path, CONTAINER_LISTS, CONTAINER_MAPS) ??
        faultOf(mapOf(container["resources"]), `${path}resources.`, [], ["requests", "limits"]);
      if (fault) return fault;
      const nameless = mapsOf(container["env"]).findIndex(({ name }) => typeof name !== "string");
      if (nameless >= 0) return { path: `${path}env[${nameless}].name`, right: "a text" };
    }
  }
  return undefined;
}

function nodeFault(affinity: Fields): ShapeFault | undefined {
  const node = mapOf(affinity["nodeAffinity"]);
  const [required, preferred] = ["requiredDuringScheduling", "preferredDuringScheduling"]
    .map((start) => `${start}IgnoredDuringExecution`) as [string, string];
  return faultOf(affinity, "affinity.", [], ["nodeAffinity"]) ??
    faultOf(node, "affinity.nodeAffinity.", [preferred], [required]) ??
    termsFault(mapOf(node[required])) ??
    mapsOf(node[preferred]).map(({ preference }) => termsFault({ nodeSelectorTerms: [preference] })).find(Boolean);
}

function termsFault(required: Fields): ShapeFault | undefined {
  const path = "affinity.nodeAffinity.nodeSelectorTerms";
  if (required["nodeSelectorTerms"] === undefined) return undefined;
  return faultOf(required, "affinity.nodeAffinity.", ["nodeSelectorTerms"], []) ??
    mapsOf(required["nodeSelectorTerms"]).map((term) => faultOf(term, `${path}.`, ["matchExpressions"], [])).find(
      Boolean,
    );
}

/** The first fault of labels and annotations; undefined: none. */
export function metadataFault(metadata: Fields): ShapeFault | undefined {
  return faultOf(metadata, "metadata.", [], ["labels", "annotations"]);
}

function faultOf(
  fields: Fields,
  path: string,
  lists: readonly string[],
  maps: readonly string[],
): ShapeFault | undefined {
  const isNone = (value: unknown) => value === undefined || value === null;
  for (const name of lists) {
    const value = fields[name];
    if (isNone(value) || Array.isArray(value) && value.every(isMap)) continue;
    return { path: `${path}${name}`, right: "a list of objects" };
  }
  for (const name of maps) {
    if (!isNone(fields[name]) && !isMap(fields[name])) return { path: `${path}${name}`, right: "an object" };
  }
  return undefined;
}
