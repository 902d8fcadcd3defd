/**
 * The Job of a run for Kubernetes: RunSpec → V1Job. Pure.
 * A payload becomes values of environment variables, labels and annotations, and parts of single arguments: never an
 * image, a name, a limit, a mount or a piece of script.
 */
import type { V1EnvVar, V1Job } from "@kubernetes/client-node";
import type { Row, RunSpec } from "../ports.ts";
import { ANNOTATION, LABEL, labelValue, ownLabels } from "./labels.ts";
import { containerOf, escapeDollars, metadataOf, podOf } from "./row_parts.ts";
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

/** A file that the node makes, writable for any user; its first 4 KiB are read when the container has ended. */
const RESULT_PATH = "/dev/termination-log";
const DISK_VOLUME = "disk";
const GPU = "nvidia.com/gpu";

/**
 * The Job of a run, complete and ready to be sent: what the row's columns say, then what is the service's own.
 * Throws RefusedError where the message lacks what a placeholder names.
 */
export function buildJob(spec: RunSpec, options: JobOptions): V1Job {
  const { row } = spec;
  const own = metadataOf(spec);
  const labels = { ...own.labels, ...jobLabels(spec, options.instance) };
  const annotations = { ...own.annotations, ...jobAnnotations(spec) };
  return {
    apiVersion: "batch/v1",
    kind: "Job",
    metadata: { name: spec.runName, namespace: options.namespace, labels, annotations },
    spec: {
      backoffLimit: row.backoffLimit,
      ...partsOf(row),
      ...(row.activeDeadlineSeconds === undefined ? {} : { activeDeadlineSeconds: row.activeDeadlineSeconds }),
      ttlSecondsAfterFinished: options.ttlSecondsAfterFinished,
      template: {
        metadata: { labels, ...(row.annotations === undefined ? {} : { annotations: own.annotations }) },
        spec: podSpec(spec, options),
      },
    },
  };
}

/** Several parts, each a pod that knows its index: as many as `completions`, `parallelism` of them at a time. */
function partsOf({ parallelism, completions = parallelism }: Row): Partial<NonNullable<V1Job["spec"]>> {
  if (parallelism === 1 && completions === 1) return {};
  return { parallelism, completions, completionMode: "Indexed" };
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
    ...(spec.row.owner === undefined ? {} : { [ANNOTATION.owner]: spec.row.owner }),
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
  const pod = podOf(row);
  const container = containerOf(spec);
  const size = row.diskLimit ?? row.diskRequest;
  const disk = row.diskMount === undefined ? [] : [{ name: DISK_VOLUME, mountPath: row.diskMount }];
  const volumes = [
    ...(disk.length === 0 ? [] : [{ name: DISK_VOLUME, emptyDir: size === undefined ? {} : { sizeLimit: size } }]),
    ...pod.volumes ?? [],
  ];
  const volumeMounts = [...disk, ...container.volumeMounts ?? []];
  return {
    restartPolicy: "Never",
    // What a message can start must not talk to the API server, unless the row names an account for it.
    automountServiceAccountToken: false,
    enableServiceLinks: false,
    ...pod,
    securityContext: { seccompProfile: { type: "RuntimeDefault" }, ...pod.securityContext },
    ...(volumes.length === 0 ? {} : { volumes }),
    containers: [{
      ...(options.imagePullPolicy === undefined ? {} : { imagePullPolicy: options.imagePullPolicy }),
      ...container,
      name: CONTAINER_NAME,
      image: row.image,
      env: [...containerEnv(spec), ...container.env ?? []],
      resources: {
        requests: withDevices(requests, row),
        limits: withDevices(limits, row),
      },
      ...(volumeMounts.length === 0 ? {} : { volumeMounts }),
      // What is written there comes with the pod's state: no call more. After a failure, else, the end of the output.
      terminationMessagePath: RESULT_PATH,
      terminationMessagePolicy: "FallbackToLogsOnError",
      securityContext: {
        allowPrivilegeEscalation: false,
        capabilities: { drop: ["NET_RAW", "MKNOD", "AUDIT_WRITE", "SETFCAP"] },
      },
    }],
  };
}

function containerEnv(spec: RunSpec): V1EnvVar[] {
  return Object.entries({ ...messageEnv(spec), RESULT_FILE: RESULT_PATH }).map(([name, value]) => ({
    name,
    value: escapeDollars(value),
  }));
}

/** The value that the container gets, of one in a Job. */
export function unescapeDollars(text: string): string {
  return text.replaceAll("$$", "$");
}

/** Requests or limits with what has one number for both: GPUs and other devices. */
function withDevices(
  quantities: Readonly<Record<string, string>>,
  { gpu, gpuResource = GPU, resources = [] }: Pick<Row, "gpu" | "gpuResource" | "resources">,
): Record<string, string> {
  return {
    ...quantities,
    ...(gpu > 0 ? { [gpuResource]: String(gpu) } : {}),
    ...Object.fromEntries(resources.map(({ name, quantity }) => [name, quantity])),
  };
}
