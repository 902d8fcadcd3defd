/**
 * The labels and annotations of this service's Jobs and pods: what it finds them by, and what it must know of a run
 * when nothing else is left. Owns their names and the grammar of their values. Pure.
 */
import { shortHash } from "../run_spec.ts";

const MANAGED_BY = "mqtt-job-listener";
const PREFIX = "mqtt-job-listener/";

/** Labels of each Job and pod of this service. */
export const LABEL = {
  managedBy: "app.kubernetes.io/managed-by",
  instance: "app.kubernetes.io/instance",
  row: `${PREFIX}row`,
  run: `${PREFIX}run`,
  message: `${PREFIX}message`,
  root: `${PREFIX}root`,
  group: `${PREFIX}group`,
} as const;

/** Annotations of each Job, for what a label cannot hold. */
export const ANNOTATION = {
  jobName: `${PREFIX}job-name`,
  topic: `${PREFIX}topic`,
  parentRun: `${PREFIX}parent-run`,
  rootRun: `${PREFIX}root-run`,
  owner: `${PREFIX}owner`,
  output: `${PREFIX}output`,
  chainDepth: `${PREFIX}chain-depth`,
  receivedAt: `${PREFIX}received-at`,
  payloadObject: `${PREFIX}payload-object`,
  attempt: `${PREFIX}attempt`,
  rung: `${PREFIX}rung`,
  firstRun: `${PREFIX}first-run`,
  index: `${PREFIX}index`,
  item: `${PREFIX}item`,
  rerunOf: `${PREFIX}rerun-of`,
  batch: `${PREFIX}batch`,
  requestedBy: `${PREFIX}requested-by`,
  traceparent: `${PREFIX}traceparent`,
  tracestate: `${PREFIX}tracestate`,
  /** The row as JSON, where a further attempt may be made of it. */
  row: `${PREFIX}row-json`,
  concurrency: `${PREFIX}concurrency-group`,
  heldFor: `${PREFIX}held-for`,
  cancelledBy: `${PREFIX}cancelled-by`,
} as const;

/**
 * `text` as the value of a label: itself if it is one, else as much of it as can stand there and a hash of it all.
 * Grammar: https://kubernetes.io/docs/concepts/overview/working-with-objects/labels/#syntax-and-character-set
 */
export function labelValue(text: string): string {
  if (/^([A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?$/.test(text)) return text;
  const clean = text.replace(/[^A-Za-z0-9_.-]+/g, "-").replace(/^[^A-Za-z0-9]+/, "").slice(0, 54);
  return clean.replace(/[^A-Za-z0-9]+$/, "") + (/[A-Za-z0-9]/.test(clean) ? "-" : "") + shortHash([text], 8);
}

/** Labels that a query for all Jobs and pods of one service instance asks for. */
export function ownLabels(instance: string): Record<string, string> {
  return { [LABEL.managedBy]: MANAGED_BY, [LABEL.instance]: labelValue(instance) };
}
