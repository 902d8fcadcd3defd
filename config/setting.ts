/**
 * What a setting is made of, and the groups in which people are shown them. Shapes only; the settings are settings.ts.
 */
import type { Kind } from "./kinds.ts";

export interface Setting<T = unknown> {
  readonly kind: Kind<T>;
  readonly group: (typeof GROUPS)[number];
  /** Text that is read where nothing is set. Absent: `otherwise` says what happens then. */
  readonly preset?: string;
  /** For people: the default that is no fixed text. */
  readonly otherwise?: string;
  /** For people, in one or two sentences; Markdown code marks only. */
  readonly meaning: string;
  /**
   * Never shown; `{NAME}_FILE` names a file that holds it. `unshown`: not blotted out of other texts, where a name such as
   * `minio` stands by chance.
   */
  readonly secret?: true | "unshown";
  /** A refused value is not shown: a password may stand in it, where it should not. */
  readonly mayHoldSecret?: true;
  /** As a flag it may stand without a value. */
  readonly flagAlone?: true;
  /** Other names that are accepted. */
  readonly aliases?: readonly string[];
}

/** Groups in the order of `--help` and docs/settings.md. */
export const GROUPS = [
  "Broker",
  "Table and store",
  "Cluster",
  "Runs",
  "Replicas",
  "Page and metrics",
  "Notices",
  "Traces",
  "Log",
] as const;
