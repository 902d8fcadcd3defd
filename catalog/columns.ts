/**
 * The table of columns: each column's kind, examples and meaning, said once. The reader, the type `Row`, the JSON Schema
 * and the documentation follow from it. Pure data; what a kind accepts is kinds.ts, what the Job gets is k8s/manifest.ts.
 */
import {
  command,
  count,
  gpuProduct,
  image,
  jobName,
  type Kind,
  MAX_INT32,
  MAX_PARALLELISM,
  mountPath,
  quantity,
  seconds,
  topicFilter,
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
}

/** By the field of `Row`; in the table the column has the same name in snake_case. In the order of the documentation. */
export const COLUMNS = {
  jobName: {
    kind: jobName,
    required: "give the row a name of its own",
    examples: ["sort-spikes"],
    meaning: "Unique name, at most 200 characters, without `/`, `+` and `#`: it becomes a level of the topics " +
      "`job_complete/{job_name}` and `job_failed/{job_name}`.",
  },
  mqttTopic: {
    kind: topicFilter,
    required: "give the topic whose messages start the row",
    examples: ["experiments/+/done", "experiments/upload", "services/mqtt_job_listener/job_complete/sort-spikes"],
    meaning: "Topic whose messages start the row. `+` stands for one level, `#` at the end for all that follow. " +
      "Another row's completion topic makes a chain.",
  },
  image: {
    kind: image,
    required: "give a container image such as python:3.12",
    examples: ["python:3.12", "braingeneers/job-h5repack:latest"],
    meaning: "Container image.",
  },
  command: {
    kind: command,
    examples: ["python sort.py --fast", "sh -c 'echo $MQTT_PAYLOAD | wc -c'"],
    meaning: "Run instead of the image's own entrypoint: words with a shell's quotes, but no shell. " +
      "Empty: the image decides.",
  },
  cpuRequest: {
    kind: quantity("cpu"),
    examples: ["0.5", "500m"],
    meaning: "Cores that the run is sure to get. A run that no node has room for waits.",
  },
  cpuLimit: {
    kind: quantity("cpu"),
    examples: ["4", "16"],
    meaning: "Cores that it may use at most; above it the run is slowed down.",
  },
  memoryRequest: {
    kind: quantity("memory"),
    examples: ["500Mi", "4Gi"],
    meaning: "Memory that the run is sure to get. A bare number is bytes.",
  },
  memoryLimit: {
    kind: quantity("memory"),
    examples: ["8Gi", "1Gi"],
    meaning: 'Memory above which the run is killed ("out of memory"). A bare number is bytes.',
  },
  gpu: { kind: count(0, MAX_INT32), preset: 0, examples: ["1"], meaning: "Whole GPUs." },
  diskRequest: {
    kind: quantity("disk"),
    examples: ["10Gi"],
    meaning: "Scratch disk (ephemeral storage) that the run is sure to get.",
  },
  diskLimit: {
    kind: quantity("disk"),
    examples: ["20Gi"],
    meaning: "Scratch disk above which the run is evicted.",
  },
  diskMount: {
    kind: mountPath,
    examples: ["/tmp"],
    meaning: "Where an empty folder of that size is mounted. Its content is gone with the run.",
  },
  parallelism: {
    kind: count(1, MAX_PARALLELISM, "1"),
    preset: 1,
    examples: ["3"],
    meaning: "Pods at a time. Each is one part; `JOB_COMPLETION_INDEX` tells it which (0, 1, 2).",
  },
  backoffLimit: {
    kind: count(0, MAX_INT32),
    preset: 0,
    examples: ["2"],
    meaning: "How often a failed pod is tried again. Empty: not at all.",
  },
  activeDeadlineSeconds: {
    kind: seconds,
    examples: ["3600"],
    meaning: "The run fails if it has not ended after so many seconds.",
  },
  gpuProduct: {
    kind: gpuProduct,
    examples: ["NVIDIA-A10"],
    meaning: "GPU model that the run needs: the value of the node label `nvidia.com/gpu.product`.",
  },
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
}

/** A column as it is used: with its name and the field that it fills. */
export interface NamedColumn extends Column {
  readonly field: Field;
  /** As the documentation writes it, in snake_case. */
  readonly name: string;
}

/** All columns in the order of the documentation. */
export const columns: readonly NamedColumn[] = (Object.entries(COLUMNS) as [Field, Column][]).map(
  ([field, column]) => ({ ...column, field, name: field.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`) }),
);

/** Spreadsheets and people write "CPU Request", "cpu-request" and "cpuRequest"; all are cpu_request. */
export function columnKey(name: string): string {
  return name.toLowerCase().replace(/[\s_\-.]+/g, "");
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

/** JSON Schema (2020-12) of a row, its properties named as the table's columns. Cells are text; numbers may be numbers. */
export function rowSchema(): Record<string, unknown> {
  return {
    $schema: "https://json-schema.org/draft/2020-12/schema",
    title: "Row of the table of jobs",
    type: "object",
    properties: Object.fromEntries(columns.map(({ name, kind, meaning, examples }) => [
      name,
      { ...kind.schema, description: meaning.replaceAll("`", ""), examples },
    ])),
    required: columns.filter(({ required }) => required).map(({ name }) => name),
    additionalProperties: true,
  };
}

/** The overview of all columns, in Markdown; it stands in docs/table.md. */
export function renderColumnTable(): string {
  const lines = columns.map(({ name, examples: [example], meaning }) =>
    `| \`${name}\` | \`${example.replaceAll("|", "\\|")}\` | ${meaning.replaceAll("|", "\\|")} |`
  );
  return ["| Column | Example | Meaning |", "| --- | --- | --- |", ...lines].join("\n") + "\n";
}
