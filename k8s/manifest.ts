/**
 * The Job of a run for Kubernetes: RunSpec → V1Job. Pure.
 * A payload becomes values of environment variables and nothing else: never an image, a name or a piece of shell.
 */
import type { V1EnvVar, V1Job } from "@kubernetes/client-node";
import type { Row, RunSpec } from "../ports.ts";
import { ANNOTATION, LABEL, labelValue, ownLabels } from "./labels.ts";
import { CONTAINER_NAME, messageEnv, resourcesOf } from "../run_spec.ts";

export interface JobOptions {
  readonly namespace: string;
  /** Label by which this service knows its Jobs. */
  readonly instance: string;
  /** Kubernetes deletes the ended Job after so many seconds, should the service not have done so. */
  readonly ttlSecondsAfterFinished: number;
  /** Default: Kubernetes' own rule, `Always` for the tag `latest`, else `IfNotPresent`. */
  readonly imagePullPolicy?: "Always" | "IfNotPresent" | "Never";
}

const DISK_VOLUME = "disk";
const GPU = "nvidia.com/gpu";

/** The Job of a run, complete and ready to be sent. */
export function buildJob(spec: RunSpec, options: JobOptions): V1Job {
  const { row } = spec;
  const labels = jobLabels(spec, options.instance);
  return {
    apiVersion: "batch/v1",
    kind: "Job",
    metadata: { name: spec.runName, namespace: options.namespace, labels, annotations: jobAnnotations(spec) },
    spec: {
      backoffLimit: row.backoffLimit,
      ...(row.parallelism > 1
        ? { parallelism: row.parallelism, completions: row.parallelism, completionMode: "Indexed" }
        : {}),
      ...(row.activeDeadlineSeconds === undefined ? {} : { activeDeadlineSeconds: row.activeDeadlineSeconds }),
      ttlSecondsAfterFinished: options.ttlSecondsAfterFinished,
      template: { metadata: { labels }, spec: podSpec(spec, options) },
    },
  };
}

function jobLabels(spec: RunSpec, instance: string): Record<string, string> {
  return {
    ...ownLabels(instance),
    [LABEL.row]: labelValue(spec.row.jobName),
    [LABEL.run]: spec.runName,
    [LABEL.message]: labelValue(spec.messageHash),
  };
}

function jobAnnotations(spec: RunSpec): Record<string, string> {
  return {
    [ANNOTATION.jobName]: spec.row.jobName,
    [ANNOTATION.topic]: spec.message.topic,
    ...(spec.parentRun === undefined ? {} : { [ANNOTATION.parentRun]: spec.parentRun }),
    [ANNOTATION.rootRun]: spec.rootRun,
    [ANNOTATION.chainDepth]: String(spec.chainDepth),
    [ANNOTATION.receivedAt]: spec.receivedAt.toISOString(),
    ...(spec.payloadLink === undefined ? {} : { [ANNOTATION.payloadObject]: spec.payloadLink.object }),
  };
}

type PodSpec = NonNullable<NonNullable<V1Job["spec"]>["template"]["spec"]>;

/**
 * Pod Security "restricted" as far as any image of a lab allows. Left out on purpose: `runAsNonRoot` and dropping ALL
 * capabilities, for most such images run as root and write to files of other users. Dropped are those that no
 * computation needs: raw sockets, device nodes, audit records, file capabilities. What is left fits "baseline".
 */
function podSpec(spec: RunSpec, options: JobOptions): PodSpec {
  const { row } = spec;
  const { requests, limits } = resourcesOf(row);
  const size = row.diskLimit ?? row.diskRequest;
  return {
    restartPolicy: "Never",
    // What a message can start must not talk to the API server.
    automountServiceAccountToken: false,
    enableServiceLinks: false,
    securityContext: { seccompProfile: { type: "RuntimeDefault" } },
    ...gpuModel(row),
    ...(row.diskMount === undefined
      ? {}
      : { volumes: [{ name: DISK_VOLUME, emptyDir: size === undefined ? {} : { sizeLimit: size } }] }),
    containers: [{
      name: CONTAINER_NAME,
      image: row.image,
      ...(options.imagePullPolicy === undefined ? {} : { imagePullPolicy: options.imagePullPolicy }),
      // Escaped too: `$(MQTT_PAYLOAD)` after `sh -c` would make a payload a piece of shell.
      ...(row.command === undefined ? {} : { command: row.command.map(escapeDollars) }),
      env: containerEnv(spec),
      resources: {
        requests: withGpu(requests, row),
        limits: withGpu(limits, row),
      },
      ...(row.diskMount === undefined ? {} : { volumeMounts: [{ name: DISK_VOLUME, mountPath: row.diskMount }] }),
      securityContext: {
        allowPrivilegeEscalation: false,
        capabilities: { drop: ["NET_RAW", "MKNOD", "AUDIT_WRITE", "SETFCAP"] },
      },
    }],
  };
}

function containerEnv(spec: RunSpec): V1EnvVar[] {
  return Object.entries(messageEnv(spec)).map(([name, value]) => ({ name, value: escapeDollars(value) }));
}

/** Kubernetes expands `$(NAME)` and makes `$` of `$$`, in values and in commands. */
function escapeDollars(text: string): string {
  return text.replaceAll("$", "$$$$");
}

/** The value that the container gets, of one in a Job. */
export function unescapeDollars(text: string): string {
  return text.replaceAll("$$", "$");
}

function withGpu(
  quantities: Readonly<Record<string, string>>,
  { gpu, gpuResource = GPU }: Pick<Row, "gpu" | "gpuResource">,
): Record<string, string> {
  return { ...quantities, ...(gpu > 0 ? { [gpuResource]: String(gpu) } : {}) };
}

/** The node must have this model, or one of several. */
function gpuModel({ gpuProduct }: Pick<Row, "gpuProduct">): Pick<PodSpec, "nodeSelector" | "affinity"> {
  const [product, ...others] = gpuProduct ?? [];
  if (product === undefined) return {};
  const key = "nvidia.com/gpu.product";
  if (others.length === 0) return { nodeSelector: { [key]: product } };
  const rule = { key, operator: "In", values: [product, ...others] };
  const required = { nodeSelectorTerms: [{ matchExpressions: [rule] }] };
  return { affinity: { nodeAffinity: { requiredDuringSchedulingIgnoredDuringExecution: required } } };
}
