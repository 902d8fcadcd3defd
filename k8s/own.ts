/**
 * Whether a Job or pod that bears this service's labels can be one that it made. Anybody who may make Jobs in the
 * namespace can copy the labels; what they hold becomes topics, names and paths. Pure. Owns no words for runs.
 */
import type { V1Job, V1Pod } from "@kubernetes/client-node";
import type { Json } from "./facts.ts";
import { ANNOTATION, LABEL, labelValue, ownLabels } from "./labels.ts";
import { CONTAINER_NAME, isRunNameOf, jobNameFault, MAX_ENV_PAYLOAD_BYTES } from "../run_spec.ts";
import { topicFault } from "../topics.ts";
import { cut } from "../util/text.ts";

/** Longest value of a variable: Linux takes 128 KiB; dollars are doubled. */
const MAX_VALUE = 2 * 128 * 1024;
/** Of a foreign value, so much is shown. */
const SHOWN = 60;

/** Why the Job cannot be one of the service `instance`, a clause; undefined: it can. */
export function jobFault({ metadata, spec }: V1Job | Json<V1Job>, instance: string): string | undefined {
  const { name = "", labels = {}, annotations = {}, ownerReferences = [] } = metadata ?? {};
  for (const [label, value] of Object.entries(ownLabels(instance))) {
    if (labels[label] !== value) return `its label ${label} is not "${value}"`;
  }
  const jobName = annotations[ANNOTATION.jobName] ?? "";
  const nameFault = jobNameFault(jobName);
  if (nameFault !== undefined) return `its annotation ${ANNOTATION.jobName} ${nameFault}`;
  if (!isRunNameOf(name, jobName)) return `its name is none of a run of "${cut(jobName, SHOWN)}"`;
  if (labels[LABEL.run] !== name) return `its label ${LABEL.run} is not its name`;
  if (labels[LABEL.row] !== labelValue(jobName)) return `its label ${LABEL.row} does not fit its job name`;
  if (!labels[LABEL.message]) return `it has no label ${LABEL.message}`;
  if (ownerReferences.length > 0) return `a ${cut(ownerReferences[0]!.kind, SHOWN)} owns it`;
  const topic = topicFault(annotations[ANNOTATION.topic] ?? "");
  if (topic !== undefined) return `its annotation ${ANNOTATION.topic} is no topic: ${cut(topic, SHOWN)}`;
  return containerFault(spec);
}

function containerFault(spec: (V1Job | Json<V1Job>)["spec"]): string | undefined {
  const container = spec?.template.spec?.containers.find(({ name }) => name === CONTAINER_NAME);
  if (!container) return `it has no container "${CONTAINER_NAME}"`;
  for (const { name, value = "" } of container.env ?? []) {
    if (value.length > MAX_VALUE) return `its variable ${cut(name, SHOWN)} has ${value.length} characters`;
    if (name === "MQTT_PAYLOAD_BASE64" && !isPayload(value)) return `its variable ${name} is no payload`;
  }
  return undefined;
}

function isPayload(base64: string): boolean {
  try {
    return Uint8Array.fromBase64(base64).length <= MAX_ENV_PAYLOAD_BYTES;
  } catch {
    return false;
  }
}

/** Why the pod cannot be one of this service's Jobs, a clause; `uid`: that of the Job of its run, where that is known. */
export function podFault(
  { metadata }: Json<V1Pod>,
  uidOf: (runName: string) => string | undefined,
): string | undefined {
  const runName = metadata?.labels?.[LABEL.run] ?? "";
  const owner = metadata?.ownerReferences?.find(({ controller }) => controller);
  if (owner?.kind !== "Job" || owner.name !== runName) return `no Job "${cut(runName, SHOWN)}" owns it`;
  const uid = uidOf(runName);
  return uid === undefined || uid === owner.uid ? undefined : `it belongs to another Job "${cut(runName, SHOWN)}"`;
}
