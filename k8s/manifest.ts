/**
 * The Job of a run for Kubernetes: RunSpec → V1Job. Pure.
 * A payload becomes values of environment variables, labels and annotations, and parts of single arguments: never an
 * image, a name, a limit, a mount or a piece of script.
 */
import type { V1EnvVar, V1Job, V1SecurityContext } from "@kubernetes/client-node";
import { type Row, type RunSpec, UnavailableError } from "../ports.ts";
import { compact } from "../util/compact.ts";
import { ANNOTATION, LABEL, labelValue, ownLabels } from "./labels.ts";
import type { PodTemplates } from "./pod_templates.ts";
import { type JsonMap, strategicMerge } from "./strategic_merge.ts";
import { templatesFor } from "./template_files.ts";
import { containerOf, escapeDollars, metadataOf, podOf } from "./row_parts.ts";
import { CONTAINER_NAME, isRetried, messageEnv, outputOf, resourcesOf } from "../run_spec.ts";

export interface JobOptions {
  /** The operator's pod templates as they stand now. */
  readonly templates?: () => PodTemplates;
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
/** The Job of a run that is tried again is needed until the next one is there: longer than any wait between them. */
const RETRY_TTL_SECONDS = 3_600;
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
      ...onDisruption(row),
      ...(spec.heldFor === undefined ? {} : { suspend: true }),
      ...(row.activeDeadlineSeconds === undefined ? {} : { activeDeadlineSeconds: row.activeDeadlineSeconds }),
      ttlSecondsAfterFinished: isRetried(row)
        ? Math.max(options.ttlSecondsAfterFinished, RETRY_TTL_SECONDS)
        : options.ttlSecondsAfterFinished,
      template: onTemplates(spec, options, {
        metadata: { labels, ...(row.annotations === undefined ? {} : { annotations: own.annotations }) },
        spec: podSpec(spec, options),
      }),
    },
  };
}

type Template = NonNullable<V1Job["spec"]>["template"];

/**
 * The template of the row laid over the operator's: `default`, then the one that the row names. What the row says, and
 * what is the service's own, wins over both; what protects the node is a preset, which they may change.
 */
function onTemplates({ row }: RunSpec, { templates }: JobOptions, built: Template): Template {
  const found = templates ? templatesFor(row, templates()) : [];
  if ("fault" in found) {
    const message = `Cannot make a Job of "${row.jobName}": ${found.fault}`;
    throw new UnavailableError(message, { advice: "mend the template" });
  }
  const merged = [...found, built as unknown as JsonMap, OWN].reduce(strategicMerge, PRESETS);
  const spec = withoutContradiction(merged["spec"] as JsonMap);
  // What a message can start must not talk to the API server, unless an account is named for it.
  const isNamed = spec["serviceAccountName"] !== undefined || spec["serviceAccount"] !== undefined;
  const automountServiceAccountToken = isNamed ? spec["automountServiceAccountToken"] ?? true : false;
  return { ...merged, spec: { ...spec, automountServiceAccountToken } } as unknown as Template;
}

/** A container that starts again would never end the run. */
const OWN: JsonMap = { spec: { containers: [{ name: CONTAINER_NAME, restartPolicy: null }] } };

/**
 * Pod Security "restricted" as far as any image of a lab allows. Left out on purpose: `runAsNonRoot` and dropping ALL
 * capabilities, for most such images run as root and write to files of other users. Dropped are those that no
 * computation needs: raw sockets, device nodes, audit records, file capabilities. What is left fits "baseline".
 */
const PRESETS: JsonMap = {
  spec: {
    enableServiceLinks: false,
    securityContext: { seccompProfile: { type: "RuntimeDefault" } },
    containers: [{
      name: CONTAINER_NAME,
      securityContext: {
        allowPrivilegeEscalation: false,
        capabilities: { drop: ["NET_RAW", "MKNOD", "AUDIT_WRITE", "SETFCAP"] },
      },
    }],
  },
};

/** The API server refuses a container that has all privileges and may gain none, which the preset would make of it. */
function withoutContradiction(spec: JsonMap): JsonMap {
  const containers = spec["containers"] as unknown as { securityContext?: V1SecurityContext }[];
  const isMighty = ({ securityContext: { privileged, capabilities } = {} }: typeof containers[number]) =>
    privileged === true || capabilities?.add?.includes("CAP_SYS_ADMIN");
  if (!containers.some(isMighty)) return spec;
  const made = containers.map((container) => {
    if (!isMighty(container)) return container;
    const { allowPrivilegeEscalation: _, ...securityContext } = container.securityContext!;
    return { ...container, securityContext };
  });
  return { ...spec, containers: made } as unknown as JsonMap;
}

/** Several parts, each a pod that knows its index: as many as `completions`, `parallelism` of them at a time. */
function partsOf({ parallelism, completions = parallelism }: Row): Partial<NonNullable<V1Job["spec"]>> {
  if (parallelism === 1 && completions === 1) return {};
  return { parallelism, completions, completionMode: "Indexed" };
}

/**
 * What becomes of a pod that the cluster takes away: a drained node, a more urgent pod, a node that is short of something.
 * Not of one that somebody deletes, nor of one that exceeds its own limits. The new pod is made when the old one has
 * ended, so that no two of them run at a time.
 */
function onDisruption({ rerunAfterDisruption = true }: Row): Partial<NonNullable<V1Job["spec"]>> {
  const action = rerunAfterDisruption ? "Ignore" : "FailJob";
  const onPodConditions = [{ type: "DisruptionTarget", status: "True" }];
  return { podFailurePolicy: { rules: [{ action, onPodConditions }] }, podReplacementPolicy: "Failed" };
}

function jobLabels(spec: RunSpec, instance: string): Record<string, string> {
  return {
    ...ownLabels(instance),
    [LABEL.row]: labelValue(spec.row.jobName),
    [LABEL.run]: spec.runName,
    [LABEL.message]: labelValue(spec.messageHash),
    [LABEL.root]: labelValue(spec.root),
    ...(spec.group === undefined ? {} : { [LABEL.group]: labelValue(spec.group) }),
  };
}

function jobAnnotations(spec: RunSpec): Record<string, string> {
  const output = outputOf(spec);
  return {
    [ANNOTATION.jobName]: spec.row.jobName,
    [ANNOTATION.topic]: spec.message.topic,
    ...(spec.parentRun === undefined ? {} : { [ANNOTATION.parentRun]: spec.parentRun }),
    [ANNOTATION.rootRun]: spec.rootRun,
    [ANNOTATION.chainDepth]: String(spec.chainDepth),
    ...(output === undefined ? {} : { [ANNOTATION.output]: output }),
    ...(spec.row.owner === undefined ? {} : { [ANNOTATION.owner]: spec.row.owner }),
    [ANNOTATION.receivedAt]: spec.receivedAt.toISOString(),
    ...(spec.payloadLink === undefined ? {} : { [ANNOTATION.payloadObject]: spec.payloadLink.object }),
    ...flowAnnotations(spec),
  };
}

/** Of most runs there is none. */
function flowAnnotations(spec: RunSpec): Record<string, string> {
  const { row, attempt, rung, firstRun, index, item, rerunOf, batch, requestedBy, concurrency, heldFor } = spec;
  return compact({
    [ANNOTATION.attempt]: attempt?.toString(),
    [ANNOTATION.rung]: rung?.toString(),
    [ANNOTATION.firstRun]: firstRun,
    [ANNOTATION.index]: index?.toString(),
    [ANNOTATION.item]: item,
    [ANNOTATION.rerunOf]: rerunOf,
    [ANNOTATION.batch]: batch,
    [ANNOTATION.requestedBy]: requestedBy,
    [ANNOTATION.traceparent]: spec.traceparent,
    [ANNOTATION.tracestate]: spec.tracestate,
    [ANNOTATION.row]: isRetried(row) ? JSON.stringify(row) : undefined,
    [ANNOTATION.concurrency]: concurrency,
    [ANNOTATION.heldFor]: heldFor,
  });
}

type PodSpec = NonNullable<NonNullable<V1Job["spec"]>["template"]["spec"]>;

/** What the row says of the pod, and what is the service's own. */
function podSpec(spec: RunSpec, options: JobOptions): PodSpec {
  const { row } = spec;
  const { requests, limits } = resourcesOf(row, spec.rung);
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
    ...pod,
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
