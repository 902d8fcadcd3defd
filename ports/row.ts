/**
 * What a row's cells hold that is more than a text or a number: placeholders, variables, mounts, rules for nodes.
 * Owns shapes only. They are read in catalog/cells/ and become parts of a Job in k8s/manifest.ts.
 */

/** Whose value takes a placeholder's place. */
export type PlaceholderRoot =
  | "payload"
  | "topic"
  /** The payload that began the chain. */
  | "input"
  /** The parent run's result. */
  | "result"
  | "item"
  | "index"
  | "job_name"
  | "run_name"
  | "root_run"
  | "attempt";

/** `{payload.files[0].name=none}` of a cell. */
export interface Placeholder {
  readonly root: PlaceholderRoot;
  /** Fields (text) and positions (numbers) from the root to the value; empty: the root itself. */
  readonly path: readonly (string | number)[];
  /** Taken where the value is missing or null. Absent: the run is refused then. */
  readonly preset?: string;
  /** As the cell has it, with its braces; for messages to people. */
  readonly source: string;
}

/** Text with placeholders, in the order of the cell. No piece of text is empty; no piece at all: the empty text. */
export type Template = readonly (string | Placeholder)[];

/** An entry of `env`. */
export type EnvEntry =
  | { readonly from: "value"; readonly name: string; readonly value: Template }
  /** One key of a Secret or ConfigMap. */
  | { readonly from: "secret" | "config"; readonly name: string; readonly object: string; readonly key: string }
  /** A field of the pod (`spec.nodeName`) or a resource of the container (`limits.memory`). */
  | { readonly from: "field"; readonly name: string; readonly path: string }
  /** All keys of a Secret or ConfigMap, each a variable of its name. */
  | { readonly from: "all"; readonly kind: "secret" | "config"; readonly object: string };

/** An entry of `mounts`; `path` is absolute. */
export type Mount =
  | {
    readonly from: "pvc";
    /** Name of the claim. */
    readonly object: string;
    /** Folder within the claim. */
    readonly subPath?: string;
    readonly path: string;
    readonly readOnly: boolean;
  }
  | {
    readonly from: "secret" | "config";
    readonly object: string;
    /** One key, mounted as the file `path`. Absent: each key is a file in the folder `path`. */
    readonly key?: string;
    readonly path: string;
  }
  /** A folder that is empty at first and gone with the pod; `memory`: kept in memory, which counts as the run's. */
  | { readonly from: "memory" | "scratch"; readonly size?: string; readonly path: string };

/** A rule of `node_selector` or `node_preference` on a label of the node, in Kubernetes' words. */
export interface NodeRule {
  readonly key: string;
  readonly operator: "In" | "NotIn" | "Exists" | "DoesNotExist" | "Gt" | "Lt";
  /** Empty for Exists and DoesNotExist, one whole number for Gt and Lt. */
  readonly values: readonly string[];
}

/** A taint that the pod may be put to. */
export interface Toleration {
  /** Absent: every taint. */
  readonly key?: string;
  /** Absent: whatever its value. */
  readonly value?: string;
  /** Absent: whatever its effect. */
  readonly effect?: "NoSchedule" | "PreferNoSchedule" | "NoExecute";
}

/** User and group that the container runs as; the group owns the mounted volumes too. */
export interface RunAs {
  readonly user: number;
  readonly group?: number;
}

/** A label or annotation of a row's own. */
export interface Pair {
  readonly key: string;
  readonly value: Template;
}

/** A field that a message must or may have. */
export interface Input {
  readonly name: string;
  /** The message is refused without it. */
  readonly required: boolean;
  /** Taken where the message has none. */
  readonly preset?: string;
  /** The values that are right; absent: any. */
  readonly choices?: readonly string[];
}

/** Whether messages start the row. `paused`: they are kept as suspended Jobs until the cell says yes. */
export type Enabled = "yes" | "no" | "paused";

// ---------------------------------------------------------------- flows

/** What each item of `for_each` is taken from. */
export type ForEach =
  /** Entries of a list, or of an object with their keys. */
  | { readonly from: "payload" | "input" | "result"; readonly path: Placeholder["path"] }
  /** Objects that match: `s3://bucket/prefix/{payload.uuid}/*_well*.h5`; a `*` stands for any characters but `/`. */
  | { readonly from: "objects"; readonly url: Template }
  | { readonly from: "numbers"; readonly first: number; readonly last: number };

/** Failures that are tried again: exit codes from `first` to `last`, or a word of `reason`. */
export type RetryRule =
  | { readonly first: number; readonly last: number }
  | { readonly reason: string };

/** What becomes of a message whose row has no free slot, in CronJob's words; `latest`: the newest one waits. */
export type WhenBusy = "wait" | "forbid" | "replace" | "latest";

/** When a row runs by itself: five fields of cron, `@daily`, or every so many seconds. */
export type Schedule =
  | { readonly cron: string }
  | { readonly everySeconds: number };
