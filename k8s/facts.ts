/**
 * What Kubernetes says of a run, in the core's words: V1Job → JobFacts, V1Pod → PodFacts, events → EventFacts. Pure.
 * Copies what it needs and nothing else, so that no whole object stays in memory; words of others are cut. Which
 * objects are this service's own is decided in own.ts.
 */
import type { CoreV1Event, V1ContainerStatus, V1Job, V1Pod } from "@kubernetes/client-node";
import { ANNOTATION, LABEL } from "./labels.ts";
import { unescapeDollars } from "./manifest.ts";
import {
  CONTAINER_NAME,
  isGpuResource,
  isRoot,
  isRunName,
  keptRow,
  keptValue,
  rootOfRun,
  traceContextIn,
} from "../run_spec.ts";
import { cut } from "../util/text.ts";
import { parseJson } from "../util/json.ts";
import type { ContainerFacts, EventFacts, JobFacts, Lineage, PodFacts } from "../ports.ts";

/** Of a text that is for people, so much is kept. */
const MAX_WORDS = 2_000;
/** What Kubernetes keeps of a termination message, in bytes. */
const MAX_RESULT = 4_096;

/** An object as it comes in JSON, where dates are strings. */
export type Json<T> = T extends Date ? string : T extends object ? { readonly [K in keyof T]: Json<T[K]> } : T;

/** The facts of a Job of this service. */
export function jobFacts(job: Json<V1Job>): JobFacts {
  const { metadata, spec, status } = job;
  const notes = metadata?.annotations ?? {};
  const runName = metadata?.name ?? "";
  // An admission webhook may have put another one before it.
  const container = spec?.template.spec?.containers.find(({ name }) => name === CONTAINER_NAME);
  const requests = container?.resources?.requests ?? {};
  const env = new Map(container?.env?.map(({ name, value }) => [name, value ?? ""]));
  const createdAt = date(metadata?.creationTimestamp) ?? new Date();
  const payload = notes[ANNOTATION.payloadObject] === undefined ? payloadOf(env) : undefined;
  return {
    runName,
    jobName: notes[ANNOTATION.jobName] ?? metadata?.labels?.[LABEL.row] ?? runName,
    topic: notes[ANNOTATION.topic] ?? "",
    messageHash: metadata?.labels?.[LABEL.message] ?? "",
    ...lineageIn(job),
    image: container?.image ?? "",
    gpu: gpusIn(requests),
    requests: withoutGpu(requests),
    limits: withoutGpu(container?.resources?.limits ?? {}),
    receivedAt: date(notes[ANNOTATION.receivedAt]) ?? createdAt,
    createdAt,
    manifest: () => keptJob(job),
    ...endOf(status),
    ...defined({
      payload,
      payloadObject: notes[ANNOTATION.payloadObject],
      output: words(notes[ANNOTATION.output]),
      owner: words(notes[ANNOTATION.owner]),
      concurrency: words(notes[ANNOTATION.concurrency]),
      cancelledBy: words(notes[ANNOTATION.cancelledBy]),
      startedAt: date(status?.startTime),
      activeDeadlineSeconds: spec?.activeDeadlineSeconds,
      deletionAt: date(metadata?.deletionTimestamp),
    }),
    ...(notes[ANNOTATION.row] === undefined ? {} : { row: () => keptRow(notes[ANNOTATION.row]!) }),
    ...(spec?.suspend === true
      ? { suspended: defined({ queue: words(metadata?.labels?.[QUEUE_LABEL]) }), ...heldIn(notes[ANNOTATION.heldFor]) }
      : {}),
  };
}

function heldIn(text: string | undefined): Pick<JobFacts, "heldFor"> {
  return text === "slot" || text === "pause" ? { heldFor: text } : {};
}

/** What the annotations say of the run's place among others; who may write Jobs may have written them. */
function lineageIn({ metadata }: Json<V1Job>): Lineage {
  const { name = "", labels = {}, annotations: notes = {} } = metadata ?? {};
  const rootRun = runNameIn(notes[ANNOTATION.rootRun]) ?? name;
  const group = runNameIn(labels[LABEL.group]);
  const root = labels[LABEL.root];
  return {
    root: root !== undefined && isRoot(root) ? root : rootOfRun(rootRun),
    rootRun,
    chainDepth: numberIn(notes[ANNOTATION.chainDepth]) ?? 0,
    ...defined({
      parentRun: runNameIn(notes[ANNOTATION.parentRun]),
      attempt: numberIn(notes[ANNOTATION.attempt]),
      rung: numberIn(notes[ANNOTATION.rung]),
      firstRun: runNameIn(notes[ANNOTATION.firstRun]),
      group,
      index: group === undefined ? undefined : numberIn(notes[ANNOTATION.index]),
      item: group === undefined ? undefined : jsonIn(notes[ANNOTATION.item]),
      rerunOf: runNameIn(notes[ANNOTATION.rerunOf]),
      batch: words(notes[ANNOTATION.batch]),
      requestedBy: words(notes[ANNOTATION.requestedBy]),
    }),
    ...traceContextIn(notes[ANNOTATION.traceparent], notes[ANNOTATION.tracestate]),
  };
}

function numberIn(text: string | undefined): number | undefined {
  return text !== undefined && /^\d{1,6}$/.test(text) ? Number(text) : undefined;
}

function jsonIn(text: string | undefined): string | undefined {
  try {
    if (text !== undefined) parseJson(text);
    return text;
  } catch {
    return undefined;
  }
}

/** Of pods of a Job with several parts: https://kubernetes.io/docs/reference/labels-annotations-taints/ */
const INDEX_LABEL = "batch.kubernetes.io/job-completion-index";

/** Of Kueue: https://kueue.sigs.k8s.io/docs/tasks/run/jobs/ */
const QUEUE_LABEL = "kueue.x-k8s.io/queue-name";

/** A message may name any text as the run that it comes from. */
function runNameIn(text: string | undefined): string | undefined {
  return text !== undefined && isRunName(text) ? text : undefined;
}

/** What somebody else wrote for people. */
function words(text: string | undefined): string | undefined {
  return text === undefined ? undefined : cut(text, MAX_WORDS);
}

/** Without the status; long values cut, signed links left out. */
function keptJob({ apiVersion, kind, metadata, spec }: Json<V1Job>): Record<string, unknown> {
  const { managedFields: _, ...kept } = metadata ?? {};
  const template = spec?.template;
  const containers = template?.spec?.containers.map((container) => ({
    ...container,
    ...(container.env
      ? { env: container.env.map((one) => ({ ...one, value: keptValue(one.name, one.value ?? "") })) }
      : {}),
  }));
  return {
    apiVersion: apiVersion ?? "batch/v1",
    kind: kind ?? "Job",
    metadata: kept,
    spec: { ...spec, template: { ...template, spec: { ...template?.spec, containers } } },
  };
}

function payloadOf(env: ReadonlyMap<string, string>): Uint8Array {
  const base64 = env.get("MQTT_PAYLOAD_BASE64");
  if (base64 !== undefined) return Uint8Array.fromBase64(base64);
  return new TextEncoder().encode(unescapeDollars(env.get("MQTT_PAYLOAD") ?? ""));
}

function endOf(status: Json<V1Job>["status"]): Pick<JobFacts, "end" | "finishedAt"> {
  const condition = status?.conditions?.find(({ type, status }) =>
    status === "True" && (type === "Complete" || type === "Failed")
  );
  if (!condition) return {};
  const type = condition.type === "Complete" ? "Complete" : "Failed";
  const [reason, message] = [words(condition.reason), words(condition.message)];
  const finishedAt = date(status?.completionTime) ?? date(condition.lastTransitionTime);
  return { end: { type, ...defined({ reason, message }) }, ...defined({ finishedAt }) };
}

function gpusIn(quantities: Readonly<Record<string, string>>): number {
  const counts = Object.entries(quantities).map(([name, count]) => isGpuResource(name) ? Number(count) || 0 : 0);
  return counts.reduce((sum, count) => sum + count, 0);
}

function withoutGpu(quantities: Readonly<Record<string, string>>): Record<string, string> {
  return Object.fromEntries(Object.entries(quantities).filter(([name]) => !isGpuResource(name)));
}

const PHASES: ReadonlySet<string> = new Set(["Pending", "Running", "Succeeded", "Failed"]);

/** The facts of a pod of this service. */
export function podFacts(pod: Json<V1Pod>): PodFacts {
  const { metadata, spec, status } = pod;
  const scheduled = condition(pod, "PodScheduled");
  const disrupted = condition(pod, "DisruptionTarget");
  const unschedulable = scheduled?.status === "False" && scheduled.reason === "Unschedulable"
    ? { since: date(scheduled.lastTransitionTime) ?? new Date(), message: words(scheduled.message) ?? "" }
    : undefined;
  const disruption = disrupted?.status === "True"
    ? { reason: disrupted.reason ?? "DisruptionTarget", message: words(disrupted.message) ?? "" }
    : undefined;
  const phase = status?.phase ?? "Pending";
  const deletionAt = date(metadata?.deletionTimestamp);
  const gates = spec?.schedulingGates?.map(({ name }) => name);
  return {
    podName: metadata?.name ?? "",
    runName: metadata?.labels?.[LABEL.run] ?? "",
    phase: PHASES.has(phase) ? phase as PodFacts["phase"] : "Unknown",
    createdAt: date(metadata?.creationTimestamp) ?? new Date(),
    containers: [
      ...(status?.initContainerStatuses ?? []).map((one) => ({
        ...containerFacts(one),
        kind: initKind(pod, one.name),
      })),
      ...(status?.containerStatuses ?? []).map(containerFacts),
    ],
    ...(gates && gates.length > 0 ? { gates } : {}),
    ...defined({
      scheduledAt: scheduled?.status === "True" ? date(scheduled.lastTransitionTime) : undefined,
      index: numberIn(metadata?.labels?.[INDEX_LABEL]),
      node: spec?.nodeName,
      reason: words(status?.reason),
      message: words(status?.message),
      deletionAt,
      deletionAskedAt: deletionAt &&
        new Date(deletionAt.getTime() - (metadata?.deletionGracePeriodSeconds ?? 0) * 1_000),
      unschedulable,
      disruption,
    }),
  };
}

/** An init container that restarts by itself is a sidecar (https://kubernetes.io/docs/concepts/workloads/pods/sidecar-containers/). */
function initKind({ spec }: Json<V1Pod>, name: string): "init" | "sidecar" {
  return spec?.initContainers?.find((one) => one.name === name)?.restartPolicy === "Always" ? "sidecar" : "init";
}

function condition(pod: Json<V1Pod>, wanted: string) {
  return pod.status?.conditions?.find(({ type }) => type === wanted);
}

function containerFacts(status: Json<V1ContainerStatus>): ContainerFacts {
  const isOom = [status.state, status.lastState].some((one) => one?.terminated?.reason === "OOMKilled");
  return isOom ? { ...stateFacts(status), oomKilled: true } : stateFacts(status);
}

function stateFacts({ name, restartCount, state }: Json<V1ContainerStatus>): ContainerFacts {
  if (state?.terminated) {
    const { exitCode, signal, startedAt, finishedAt } = state.terminated;
    // A result of the program: JSON that is cut is none.
    const [reason, message] = [words(state.terminated.reason), state.terminated.message?.slice(0, MAX_RESULT)];
    const times = { startedAt: date(startedAt), finishedAt: date(finishedAt) };
    return { name, restartCount, state: "terminated", exitCode, ...defined({ reason, message, signal, ...times }) };
  }
  if (state?.running) {
    return { name, restartCount, state: "running", ...defined({ startedAt: date(state.running.startedAt) }) };
  }
  const [reason, message] = [words(state?.waiting?.reason), words(state?.waiting?.message)];
  return { name, restartCount, state: "waiting", ...defined({ reason, message }) };
}

/** The facts of an event; what several sources call the time or the count is one here. */
export function eventFacts(event: Json<CoreV1Event>): EventFacts {
  const { series, involvedObject, metadata } = event;
  const times = [series?.lastObservedTime, event.lastTimestamp, event.eventTime, event.firstTimestamp];
  return {
    at: times.map(date).find((time) => time !== undefined) ?? date(metadata?.creationTimestamp) ?? new Date(),
    type: event.type === "Warning" ? "Warning" : "Normal",
    object: cut(`${involvedObject?.kind ?? ""}/${involvedObject?.name ?? ""}`, MAX_WORDS),
    reason: words(event.reason) ?? "",
    message: cut(event.message ?? "", MAX_WORDS).trim(),
    count: series?.count ?? event.count ?? 1,
  };
}

/** undefined for nothing and for Go's zero time, which stands for nothing. */
function date(text: string | null | undefined): Date | undefined {
  if (!text || text.startsWith("0001-")) return undefined;
  const time = new Date(text);
  return Number.isNaN(time.getTime()) ? undefined : time;
}

/** The object without what is undefined, null or an empty text, as exact optional properties want it. */
function defined<T extends Record<string, unknown>>(object: T): { [K in keyof T]?: NonNullable<T[K]> } {
  const copy: Record<string, unknown> = {};
  for (const key in object) {
    const value = object[key];
    if (value !== undefined && value !== null && value !== "") copy[key] = value;
  }
  return copy as { [K in keyof T]?: NonNullable<T[K]> };
}
