/**
 * The table of columns: each column's kind, examples and meaning, said once. The reader, the type `Row`, the JSON Schema
 * and the documentation follow from it. Pure data; what a kind accepts is kinds.ts, what the Job gets is k8s/manifest.ts.
 */
import { env } from "./cells/env.ts";
import { inputs } from "./cells/inputs.ts";
import { mounts } from "./cells/mounts.ts";
import { objectName, objectNames } from "./cells/names.ts";
import { nodeRules, tolerations } from "./cells/nodes.ts";
import { annotations, labels } from "./cells/pairs.ts";
import { memoryLimit, memoryRequest } from "./cells/ladder.ts";
import { resources } from "./cells/resources.ts";
import { FLOW_COLUMNS } from "./flow_columns.ts";
import { args, idempotencyKey, output, workingDir } from "./cells/words.ts";
import { withoutInvisible } from "./invisible.ts";
import {
  choice,
  command,
  count,
  enabled,
  gpu,
  gpuProducts,
  image,
  jobName,
  type Kind,
  MAX_INT32,
  MAX_PARALLELISM,
  mountPath,
  note,
  quantity,
  runAs,
  seconds,
  topicFilter,
  when,
} from "./kinds.ts";

export interface Column<T = unknown> {
  readonly kind: Kind<T>;
  /** The column must be there and the cell filled; says what to write, to follow "the cell is empty;". */
  readonly required?: string;
  /** The row's value where the cell is empty. Absent: the row has no such field then. */
  readonly preset?: T;
  /** For people; the first one stands in the overview. */
  readonly examples: readonly [string, ...string[]];
  /** For people, in one or two sentences; Markdown code marks only. */
  readonly meaning: string;
  /** For people: how the cell is written, where the examples do not show it; Markdown code marks only. */
  readonly notation?: string;
  /** For people: what an empty cell stands for. */
  readonly empty?: string;
  /** For people: what the Job gets; Markdown code marks only. Absent: nothing, for it is the service's own. */
  readonly kubernetes?: string;
  /** The version that first read it. */
  readonly since: string;
  /**
   * Nothing acts on the field yet. The table's reader and the documentation do not know the column until this mark is
   * taken off, so that no cell is read and then silently does nothing.
   */
  readonly planned?: true;
}

const NONE = "none";
const ENTRIES = "Entries are parted by `;` or a line break.";

/** By the field of `Row`; in the table the column has the same name in snake_case. In the order of the documentation. */
export const COLUMNS = {
  jobName: {
    kind: jobName,
    required: "give the row a name of its own",
    examples: ["sort-spikes"],
    meaning: "Unique name, at most 200 characters, without `/`, `+` and `#`: it becomes a level of the topics " +
      "`job_complete/{job_name}` and `job_failed/{job_name}`.",
    kubernetes: "the beginning of the Job's name; the label `mqtt-job-listener/row`; the variable `JOB_NAME`",
    since: "0.1.0",
  },
  mqttTopic: {
    kind: topicFilter,
    required: "give the topic whose messages start the row, or fill needs or schedule",
    examples: ["experiments/+/done", "experiments/upload", "services/mqtt_job_listener/job_complete/sort-spikes"],
    meaning: "Topic whose messages start the row. `+` stands for one level, `#` at the end for all that follow. " +
      "Another row's completion topic makes a chain.",
    empty: "an error, unless `needs` or `schedule` says when the row runs",
    kubernetes: "the message's own topic, in the variable `MQTT_TOPIC`",
    since: "0.1.0",
  },
  image: {
    kind: image,
    required: "give a container image such as python:3.12",
    examples: ["python:3.12", "braingeneers/job-h5repack:latest"],
    meaning: "Container image.",
    kubernetes: "`image` of the container",
    since: "0.1.0",
  },
  command: {
    kind: command,
    examples: ["python sort.py --fast", "sh -c 'echo $MQTT_PAYLOAD | wc -c'"],
    meaning: "Run instead of the image's own entrypoint: words with a shell's quotes, but no shell. " +
      "Empty: the image decides.",
    empty: "the image's own entrypoint",
    kubernetes: "`command` of the container, `$` doubled so that Kubernetes expands nothing",
    since: "0.1.0",
  },
  args: {
    kind: args,
    examples: ["--input {payload.uuid} --mode {payload.mode=fast}", "'{payload.file}' --out /data/out"],
    meaning: "Arguments of the command, or of the image's own entrypoint: words with a shell's quotes, but no shell. " +
      "A placeholder is filled within its word, so that a value stays one argument.",
    notation:
      "A placeholder in a word that a program would run as a script (`sh -c`, `python -c`) is an error: write " +
      "`sh -c 'sort \"$1\"' -` into `command` and the placeholder into `args`.",
    empty: NONE,
    kubernetes: "`args` of the container",
    since: "0.1.0",
  },
  env: {
    kind: env,
    examples: [
      "MODE=fast; DATA={payload.file}; AWS_SECRET_ACCESS_KEY=secret:lab-s3/secret-key",
      "NODE=field:spec.nodeName; secret:lab-s3; config:lab-settings",
    ],
    meaning:
      "Variables of the container: a value, a key of a Secret or ConfigMap, a field of the pod, or all keys of a " +
      "Secret or ConfigMap.",
    notation:
      `${ENTRIES} A value is taken as it stands after the first \`=\`. Which Secrets and ConfigMaps may be named, ` +
      "the policy says.",
    empty: "the variables that the service sets",
    kubernetes: "`env` and `envFrom` of the container",
    since: "0.1.0",
  },
  mounts: {
    kind: mounts,
    examples: ["pvc:lab-data/raw:/data:ro; secret:lab-s3:/root/.aws", "memory:8Gi:/dev/shm; scratch:20Gi:/tmp"],
    meaning: "What is mounted: `pvc:name[/folder]:/path[:ro]`, `secret:name[/key]:/path`, `config:name[/key]:/path`, " +
      "`memory[:size]:/path`, `scratch[:size]:/path`.",
    notation: `${ENTRIES} Folders of the node can be mounted by an operator's pod template only.`,
    empty: NONE,
    kubernetes: "`volumes` of the pod and `volumeMounts` of the container",
    since: "0.1.0",
  },
  workingDir: {
    kind: workingDir,
    examples: ["/data/{payload.uuid}"],
    meaning: "Folder in which the container starts.",
    empty: "the image's own",
    kubernetes: "`workingDir` of the container",
    since: "0.1.0",
  },
  runAs: {
    kind: runAs,
    examples: ["1000:100", "1000"],
    meaning: "Numbers of the user and group that the container runs as. The group owns the mounted volumes too.",
    empty: "the image's own",
    kubernetes: "`runAsUser`, `runAsGroup` and `fsGroup` of the pod's `securityContext`",
    since: "0.1.0",
  },
  cpuRequest: {
    kind: quantity("cpu"),
    examples: ["0.5", "500m"],
    meaning: "Cores that the run is sure to get. A run that no node has room for waits.",
    empty: NONE,
    kubernetes: "`resources.requests.cpu`",
    since: "0.1.0",
  },
  cpuLimit: {
    kind: quantity("cpu"),
    examples: ["4", "16"],
    meaning: "Cores that it may use at most; above it the run is slowed down.",
    empty: NONE,
    kubernetes: "`resources.limits.cpu`",
    since: "0.1.0",
  },
  memoryRequest: {
    kind: memoryRequest,
    examples: ["500Mi", "4Gi"],
    meaning: "Memory that the run is sure to get. A bare number is bytes.",
    notation: "Where `memory_limit` has several sizes, one size rises with them; or write as many as there.",
    empty: NONE,
    kubernetes: "`resources.requests.memory`",
    since: "0.1.0",
  },
  memoryLimit: {
    kind: memoryLimit,
    examples: ["8Gi", "8Gi, 16Gi, 32Gi"],
    meaning: 'Memory above which the run is killed ("out of memory"). A bare number is bytes. Of several sizes a run ' +
      "gets the first; one that runs out of memory is tried again with the next.",
    empty: NONE,
    kubernetes: "`resources.limits.memory`",
    since: "0.1.0",
  },
  gpu: {
    kind: gpu,
    preset: 0,
    examples: ["1", "nvidia.com/mig-1g.10gb=1"],
    meaning: "Whole GPUs, or another resource of that kind with its number: `nvidia.com/mig-1g.10gb=1`.",
    empty: NONE,
    kubernetes: "`nvidia.com/gpu`, or the resource that is named, in requests and limits",
    since: "0.1.0",
  },
  gpuProduct: {
    kind: gpuProducts,
    examples: ["NVIDIA-A10", "NVIDIA-A10, NVIDIA-L4"],
    meaning: "GPU model that the run needs, or several, any of which is right: values of the node label " +
      "`nvidia.com/gpu.product`.",
    empty: "any",
    kubernetes: "a required rule on the node label `nvidia.com/gpu.product`",
    since: "0.1.0",
  },
  resources: {
    kind: resources,
    examples: ["rdma/ib=1; hugepages-2Mi=96Mi"],
    meaning: "Devices and huge pages of other names, each request and limit in one.",
    notation: ENTRIES,
    empty: NONE,
    kubernetes: "`resources.requests` and `resources.limits`",
    since: "0.1.0",
  },
  diskRequest: {
    kind: quantity("disk"),
    examples: ["10Gi"],
    meaning: "Scratch disk (ephemeral storage) that the run is sure to get.",
    empty: NONE,
    kubernetes: "`resources.requests.ephemeral-storage`",
    since: "0.1.0",
  },
  diskLimit: {
    kind: quantity("disk"),
    examples: ["20Gi"],
    meaning: "Scratch disk above which the run is evicted.",
    empty: NONE,
    kubernetes: "`resources.limits.ephemeral-storage`",
    since: "0.1.0",
  },
  diskMount: {
    kind: mountPath,
    examples: ["/tmp"],
    meaning: "Where an empty folder of the size in `disk_limit` is mounted. Its content is gone with the run.",
    empty: NONE,
    kubernetes: "an `emptyDir` of the size of `disk_limit`, mounted there",
    since: "0.1.0",
  },
  nodeSelector: {
    kind: nodeRules,
    examples: ["zone=lab, nvidia.com/gpu.product in (NVIDIA-A10,NVIDIA-L4), !spot"],
    meaning: "Labels that a node must have, in kubectl's notation for selectors: `key=value`, `key!=value`, " +
      "`key in (a,b)`, `key notin (a,b)`, `key`, `!key`, `key>11`.",
    empty: "any node",
    kubernetes: "required `nodeAffinity`",
    since: "0.1.0",
  },
  nodePreference: {
    kind: nodeRules,
    examples: ["zone=lab"],
    meaning: "Labels that a node should have if there is a choice; written as `node_selector`.",
    empty: NONE,
    kubernetes: "preferred `nodeAffinity`",
    since: "0.1.0",
  },
  tolerations: {
    kind: tolerations,
    examples: ["nvidia.com/gpu:NoSchedule; lab=imaging"],
    meaning: "Taints of nodes that the run may be put to: `key[=value][:Effect]`; `*`: all.",
    empty: NONE,
    kubernetes: "`tolerations` of the pod",
    since: "0.1.0",
  },
  parallelism: {
    kind: count(1, MAX_PARALLELISM, "1"),
    preset: 1,
    examples: ["3"],
    meaning:
      "Pods at a time. Each is one part, of as many as there are at a time where `completions` says no other number; " +
      "`JOB_COMPLETION_INDEX` tells it which (0, 1, 2).",
    empty: "1",
    kubernetes: "`parallelism` and `completions` of an Indexed Job",
    since: "0.1.0",
  },
  completions: {
    kind: count(1, MAX_PARALLELISM, "parallelism"),
    examples: ["100"],
    meaning: "Parts of the run, where they are more than the pods at a time.",
    empty: "as many as `parallelism`",
    kubernetes: "`completions` of an Indexed Job",
    since: "0.1.0",
  },
  backoffLimit: {
    kind: count(0, MAX_INT32),
    preset: 0,
    examples: ["2"],
    meaning: "How often a failed pod is tried again. Empty: not at all.",
    empty: "not at all",
    kubernetes: "`backoffLimit` of the Job",
    since: "0.1.0",
  },
  activeDeadlineSeconds: {
    kind: seconds,
    examples: ["3600"],
    meaning: "The run fails if it has not ended after so many seconds.",
    empty: NONE,
    kubernetes: "`activeDeadlineSeconds` of the Job",
    since: "0.1.0",
  },
  terminationGraceSeconds: {
    kind: count(0, MAX_INT32, "30"),
    examples: ["120"],
    meaning: "Seconds between the signal to end and the kill.",
    empty: "30, as Kubernetes has it",
    kubernetes: "`terminationGracePeriodSeconds` of the pod",
    since: "0.1.0",
  },
  labels: {
    kind: labels,
    examples: ["team=imaging; example.org/run={run_name}"],
    meaning: "Labels of the Job and its pods, besides the service's own.",
    notation: ENTRIES,
    empty: NONE,
    kubernetes: "`metadata.labels` of Job and pods",
    since: "0.1.0",
  },
  annotations: {
    kind: annotations,
    examples: ["example.org/source={payload.file=none}"],
    meaning: "Annotations of the Job and its pods, besides the service's own.",
    notation: ENTRIES,
    empty: NONE,
    kubernetes: "`metadata.annotations` of Job and pods",
    since: "0.1.0",
  },
  imagePullPolicy: {
    kind: choice("Always", "IfNotPresent", "Never"),
    examples: ["IfNotPresent", "Always"],
    meaning: "When the node fetches the image.",
    empty: "Kubernetes' own rule: `Always` for the tag `latest`, else `IfNotPresent`",
    kubernetes: "`imagePullPolicy` of the container",
    since: "0.1.0",
  },
  imagePullSecret: {
    kind: objectNames,
    examples: ["lab-registry"],
    meaning: "Secret with which a private registry is read. The policy says which may be named.",
    notation: "Several are parted by `;` or `,`.",
    empty: NONE,
    kubernetes: "`imagePullSecrets` of the pod",
    since: "0.1.0",
  },
  serviceAccount: {
    kind: objectName,
    examples: ["lab-runner"],
    meaning: "Account by which the run may talk to the cluster. The policy says which may be named.",
    empty: "no account's token is mounted",
    kubernetes: "`serviceAccountName` of the pod, and its token mounted",
    since: "0.1.0",
  },
  priorityClass: {
    kind: objectName,
    examples: ["low-priority"],
    meaning: "How urgent the run is beside others. The policy says which may be named.",
    empty: "the cluster's own",
    kubernetes: "`priorityClassName` of the pod",
    since: "0.1.0",
  },
  runtimeClass: {
    kind: objectName,
    examples: ["nvidia"],
    meaning: "Container runtime of the run. The policy says which may be named.",
    empty: "the cluster's own",
    kubernetes: "`runtimeClassName` of the pod",
    since: "0.1.0",
  },
  queue: {
    kind: objectName,
    examples: ["lab-queue"],
    meaning: "Kueue's local queue, which lets the run start when there is quota.",
    empty: NONE,
    kubernetes: "the label `kueue.x-k8s.io/queue-name` of the Job, which Kueue suspends and admits",
    since: "0.1.0",
  },
  podTemplate: {
    kind: objectName,
    examples: ["gpu-with-cache"],
    meaning: "The operator's pod template under the row's own columns.",
    empty: "the template `default`, where there is one",
    kubernetes: "the template, with the row's columns merged into its container `main`",
    since: "0.1.0",
  },
  inputs: {
    kind: inputs,
    examples: ["uuid, file, params=default.json, mode=fast|slow"],
    meaning:
      "Fields that a message must have (`uuid`), may have (`params=default.json`) or choose (`mode=fast|slow`; the " +
      "first one is taken where the message has none). A message that does not fit is refused before a Job is made.",
    empty: "every message fits",
    since: "0.1.0",
  },
  when: {
    kind: when,
    examples: ['payload.size > 1000 && payload.kind == "raw"', 'payload.reason == "OOMKilled"'],
    meaning:
      "Condition in CEL over `payload`, `topic`, `input`, `item` and `result`; a message for which it is false " +
      "does not start the row.",
    empty: "every message starts the row",
    since: "0.1.0",
  },
  idempotencyKey: {
    kind: idempotencyKey,
    examples: ["{payload.uuid}"],
    meaning: "Messages for which this text is the same are one run, where the message brings no key of its own.",
    empty: "each message is a run of its own",
    since: "0.1.0",
  },
  output: {
    kind: output,
    examples: ["s3://lab/results/{payload.uuid}.zip"],
    meaning:
      "Where the run's result will be. It is looked for after success; record, end message and page say where it is, and " +
      "whether it is missing. The policy says where outputs may be.",
    empty: NONE,
    kubernetes: "the annotation `mqtt-job-listener/output`; the program is told by its own `args` or `env`",
    since: "0.1.0",
  },
  enabled: {
    kind: enabled,
    examples: ["no", "yes", "paused"],
    meaning: "`no`: messages do not start the row; a person still can. `paused`: messages wait as suspended Jobs, at " +
      "most `max_waiting` of them, and run when the cell says yes.",
    empty: "yes",
    since: "0.1.0",
  },
  owner: {
    kind: note,
    examples: ["Ada, imaging group"],
    meaning: "Whom to ask about the row: on the page, and in the records of its runs.",
    empty: NONE,
    kubernetes: "the annotation `mqtt-job-listener/owner`",
    since: "0.1.0",
  },
  notify: {
    kind: objectNames,
    examples: ["imaging"],
    meaning: "The operator's channels (`NOTIFY_CHANNELS`) that hear of the row's failures, instead of `WEBHOOK_URL`.",
    empty: "`WEBHOOK_URL` hears of them",
    since: "0.1.0",
  },
  ...FLOW_COLUMNS,
} as const satisfies Readonly<Record<string, Column>>;

type Columns = typeof COLUMNS;
export type Field = keyof Columns;
type Value<F extends Field> = Columns[F]["kind"] extends Kind<infer T> ? T : never;
/** Fields that each row has. */
type Always = { [F in Field]: Columns[F] extends { required: string } | { preset: unknown } ? F : never }[Field];
type Fields =
  & { readonly [F in Always]: Value<F> }
  & { readonly [F in Exclude<Field, Always>]?: Value<F> };

/** One row of the table: what to run when a message comes on its topic. Quantities are Kubernetes quantity strings. */
export interface Row extends Fields {
  /** 1-based line of the CSV on which the row starts. */
  readonly line: number;
  /** What `gpu` counts, where its cell names another resource than `nvidia.com/gpu`. */
  readonly gpuResource?: string;
  /** The rungs of the ladder, where `memory_limit` or `memory_request` has several; the row's own field is the first one. */
  readonly memoryLimits?: readonly string[];
  readonly memoryRequests?: readonly string[];
}

/** A column as it is used: with its name and the field that it fills. */
export interface NamedColumn extends Column {
  readonly field: Field;
  /** As the documentation writes it, in snake_case. */
  readonly name: string;
}

/** All columns, planned ones too. */
export const allColumns: readonly NamedColumn[] = (Object.entries(COLUMNS) as [Field, Column][]).map(
  ([field, column]) => ({ ...column, field, name: field.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`) }),
);

/** The columns that a table may have, in the order of the documentation. */
export const columns: readonly NamedColumn[] = allColumns.filter(({ planned }) => !planned);

/** Spreadsheets and people write "CPU Request", "cpu-request" and "cpuRequest"; all are cpu_request. */
export function columnKey(name: string): string {
  return withoutInvisible(name).toLowerCase().replace(/[\s_\-.]+/g, "");
}

const BY_KEY: ReadonlyMap<string, NamedColumn> = new Map(columns.map((column) => [columnKey(column.name), column]));

/** The column that a cell of the header names; undefined: none is known by that name. */
export function columnOf(header: string): NamedColumn | undefined {
  return BY_KEY.get(columnKey(header));
}

/** What the row has for empty cells. */
export const PRESETS: Readonly<Record<string, unknown>> = Object.fromEntries(
  columns.flatMap(({ field, preset }) => preset === undefined ? [] : [[field, preset]]),
);
