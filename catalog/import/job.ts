/**
 * One workload → the cells of a row, a pod template for what no column says, and findings. Pure.
 * Nothing is silently dropped: what is neither taken by a cell, nor a default, nor in the template is a finding.
 */
import { compact } from "../../util/compact.ts";
import type { Row } from "../columns.ts";
import { type Fields, mapOf, type Workload } from "./documents.ts";
import { readContainer, taker } from "./container.ts";
import { dropAssigned, dropDefaults, dropPodDefaults, dropWrittenMetadata, JOB_DEFAULTS } from "./defaults.ts";
import { compileTimetable } from "../timetables.ts";
import { Draft, valueOf } from "./draft.ts";
import { type Finding, type ReportFinding, shown } from "./finding.ts";
import { readMetadata } from "./metadata.ts";
import { readMounts } from "./mounts.ts";
import { readPlacement } from "./placement.ts";
import { arrangeContainers, dropOwnGuards, templateOf } from "./pod.ts";
import { metadataFault, shapeFault } from "./shape.ts";

export interface ImportedWorkload {
  /** By column name; absent: the workload cannot be a row. */
  readonly cells?: Record<string, string>;
  readonly row?: Row;
  /** Pod template of what is left over. */
  readonly template?: Fields;
  readonly findings: readonly Finding[];
}

export interface WorkloadOptions {
  /** Of the row; unique in the table. */
  readonly jobName: string;
  readonly topic: string;
  /** Topic prefix of the service. */
  readonly topicPrefix: string;
}

/** Where a kind keeps what. The objects are parts of one copy, and are changed while they are read. */
interface Parts {
  readonly metadata: Fields;
  readonly job: Fields;
  readonly template: Fields;
  readonly jobPath: string;
  readonly podPath: string;
}

/** Makes a row of a workload. Never throws for what the workload holds; without `cells` an error says why. */
export function importWorkload(
  { source, label, kind, object }: Workload,
  { jobName, topic, topicPrefix }: WorkloadOptions,
): ImportedWorkload {
  const findings: Finding[] = [];
  const reportAt = (prefix: string): ReportFinding => (severity, path, message, value) => {
    const seen = value === undefined ? undefined : shown(path, value);
    findings.push(
      compact({ severity, source, object: label, path: `${prefix}${path}` || undefined, value: seen, message }),
    );
  };
  const draft = new Draft();
  const parts = partsOf(kind, structuredClone(object), draft, reportAt(""));
  const report = reportAt(parts.jobPath);
  const tellPod = reportAt(`${parts.podPath}spec.`);
  const spec = mapOf(parts.template["spec"]);
  const podMetadata = mapOf(parts.template["metadata"]);
  const wrong = shapeFault(spec) ?? metadataFault(parts.metadata) ?? metadataFault(podMetadata);
  if (wrong !== undefined) {
    tellPod("error", wrong.path, `Kubernetes takes no such object: it must be ${wrong.right}; there is no row`);
    return { findings };
  }
  for (const metadata of [parts.metadata, podMetadata]) dropWrittenMetadata(metadata);
  if (object["status"] !== undefined && kind === "Pod") dropAssigned(spec);
  dropPodDefaults(spec);
  const main = arrangeContainers(spec, mapOf(podMetadata["annotations"]), tellPod);
  if (main === undefined || typeof main["image"] !== "string") {
    tellPod("error", "containers", "there is no container with an image, so there is no row");
    return { findings };
  }
  dropOwnGuards(spec, main);
  draft.require("jobName", jobName, () => {});
  // Nothing but its schedule starts a CronJob.
  draft.require("mqttTopic", draft.has("schedule") ? "" : topic, () => {});
  readMetadata(parts.metadata, podMetadata, draft, reportAt("metadata."));
  readJob(parts.job, draft, kind, report);
  readRestarts(spec, kind, tellPod);
  readContainer(main, draft, tellPod);
  readMounts(spec, main, draft, tellPod);
  readPlacement(spec, main, draft, tellPod);
  const settled = draft.settle(topicPrefix);
  if ("fault" in settled) {
    reportAt("")("error", "", `there is no row: ${settled.fault}`);
    return { findings: findings.filter(({ severity }) => severity === "error") };
  }
  reportRest(parts, reportAt(""), report);
  for (const [field, value] of Object.entries(podMetadata)) {
    if (field === "labels" || field === "annotations") {
      if (Object.keys(mapOf(value)).length === 0) delete podMetadata[field];
      continue;
    }
    reportAt(parts.podPath)("note", `metadata.${field}`, "pods of a Job take no such field from it", value);
    delete podMetadata[field];
  }
  const template = templateOf(podMetadata, spec);
  return { cells: draft.cells(), row: settled.row, findings, ...(template === undefined ? {} : { template }) };
}

function partsOf(kind: Workload["kind"], object: Fields, draft: Draft, report: ReportFinding): Parts {
  const metadata = (object["metadata"] = { ...mapOf(object["metadata"]) }) as Fields;
  const { apiVersion: _, kind: __, metadata: ___, spec, status: ____, template, ...more } = object;
  for (const [field, value] of Object.entries(more)) {
    report("error", field, "Kubernetes knows no such field here", value);
  }
  const jobOf = (job: Fields, path: string, own: Fields): Parts => {
    const pod = (job["template"] = { ...mapOf(job["template"]) }) as Fields;
    return { metadata: own, job, template: pod, jobPath: path, podPath: `${path}template.` };
  };
  switch (kind) {
    case "Job":
      return jobOf({ ...mapOf(spec) }, "spec.", metadata);
    case "CronJob": {
      const { jobTemplate, ...schedule } = mapOf(spec);
      readSchedule(schedule, draft, report);
      reportOuterMetadata(kind, metadata, report);
      const own = { ...mapOf(mapOf(jobTemplate)["metadata"]) };
      return jobOf({ ...mapOf(mapOf(jobTemplate)["spec"]) }, "spec.jobTemplate.spec.", own);
    }
    case "Pod": {
      // What a pod may say of its time is the run's here; it is tried once.
      const { activeDeadlineSeconds, ...pod } = mapOf(spec);
      const job = activeDeadlineSeconds === undefined ? {} : { activeDeadlineSeconds };
      const { labels, annotations } = metadata;
      const inner = structuredClone({ ...(labels ? { labels } : {}), ...(annotations ? { annotations } : {}) });
      return { metadata, job, template: { metadata: inner, spec: pod }, jobPath: "spec.", podPath: "" };
    }
    case "PodTemplate":
      reportOuterMetadata(kind, metadata, report);
      return { metadata: {}, job: {}, template: mapOf(template), jobPath: "", podPath: "template." };
  }
}

/** Labels of an object that only holds what Jobs or pods are made of. */
function reportOuterMetadata(kind: string, metadata: Fields, report: ReportFinding): void {
  dropWrittenMetadata(metadata);
  for (const field of ["labels", "annotations"]) {
    if (metadata[field] === undefined) continue;
    report(
      "note",
      `metadata.${field}`,
      `they are of the ${kind} itself, not of what it makes; left out`,
      metadata[field],
    );
  }
  reportNamespace(metadata, report);
}

// ---------------------------------------------------------------- the Job

function readJob(job: Fields, draft: Draft, kind: Workload["kind"], report: ReportFinding): void {
  delete job["template"];
  const isJob = kind === "Job" || kind === "CronJob";
  // 6 is Kubernetes' default and the row's is 0.
  const backoff = job["backoffLimit"] ?? (isJob ? 6 : 0);
  if (backoff === 0) delete job["backoffLimit"];
  else {
    if (job["backoffLimit"] === undefined) {
      report(
        "note",
        "backoffLimit",
        "Kubernetes tries a failed pod 6 times where nothing is said; empty the cell for none",
      );
    }
    draft.offer("backoffLimit", String(backoff), backoff, taker(job, "backoffLimit"));
  }
  const deadline = job["activeDeadlineSeconds"];
  if (deadline !== undefined) {
    draft.offer("activeDeadlineSeconds", String(deadline), deadline, taker(job, "activeDeadlineSeconds"));
  }
  if (job["ttlSecondsAfterFinished"] !== undefined) {
    const message =
      "the service deletes an ended Job itself; the setting JOB_TTL says after what time Kubernetes would";
    report("note", "ttlSecondsAfterFinished", message, job["ttlSecondsAfterFinished"]);
    delete job["ttlSecondsAfterFinished"];
  }
  if (job["suspend"] === true && draft.has("queue")) {
    report("note", "suspend", "Kueue suspends and admits the Jobs of its queue itself", true);
    delete job["suspend"];
  } else readSuspend(job, "suspend", draft, report);
  readDisruptions(job, draft);
  readParts(job, draft, report);
  dropDefaults(job, JOB_DEFAULTS);
}

/** A policy about pods that the cluster takes away, and about nothing else, is one of the two that rows have. */
function readDisruptions(job: Fields, draft: Draft): void {
  const { podFailurePolicy: policy, podReplacementPolicy } = job;
  const rules = mapOf(policy)["rules"];
  const [rule] = Array.isArray(rules) && rules.length === 1 ? rules as Fields[] : [];
  const { action, onPodConditions } = rule ?? {};
  const condition = Array.isArray(onPodConditions) && onPodConditions.length === 1 ? mapOf(onPodConditions[0]) : {};
  if (condition["type"] !== "DisruptionTarget" || (condition["status"] ?? "True") !== "True") return;
  const take = () => {
    delete job["podFailurePolicy"];
    if (podReplacementPolicy === "Failed") delete job["podReplacementPolicy"];
  };
  if (action === "Ignore") take();
  else if (action === "FailJob") draft.offer("rerunAfterDisruption", "no", false, take);
}

function readParts(job: Fields, draft: Draft, report: ReportFinding): void {
  const { parallelism = 1, completions, completionMode = "NonIndexed" } = job;
  const isIndexed = completionMode === "Indexed";
  if (typeof parallelism !== "number" || parallelism < 1) return;
  const parts = typeof completions === "number" ? completions : parallelism;
  if (parts === 1) {
    if (isIndexed) {
      const message = "a run of one part gets no JOB_COMPLETION_INDEX; let the program take 0 where it is missing";
      report("warning", "completionMode", message, completionMode);
    }
    for (const field of ["parallelism", "completions", "completionMode"]) delete job[field];
    return;
  }
  const atOnce = Math.min(parallelism, parts);
  const take = taker(job, "parallelism", "completions", "completionMode");
  if (atOnce > 1 && !draft.offer("parallelism", String(atOnce), atOnce, take)) return;
  if (parts > atOnce && !draft.offer("completions", String(parts), parts, take)) return;
  if (isIndexed) return;
  if (completions === undefined) {
    const message = `a queue of work ends here when each of the ${parts} pods has succeeded, not with the first one`;
    report("warning", "parallelism", message, parallelism);
  } else report("note", "completionMode", "the parts of a run are numbered: each pod gets JOB_COMPLETION_INDEX too");
}

/** What the service decides for all: that a pod is never restarted. */
function readRestarts(spec: Fields, kind: Workload["kind"], report: ReportFinding): void {
  const { restartPolicy = kind === "Pod" || kind === "PodTemplate" ? "Always" : undefined } = spec;
  delete spec["restartPolicy"];
  if (restartPolicy === "OnFailure") {
    report(
      "note",
      "restartPolicy",
      "a failed run is tried in a new pod, as often as backoff_limit says",
      restartPolicy,
    );
  } else if (restartPolicy === "Always" && kind === "Pod") {
    report(
      "warning",
      "restartPolicy",
      "it was started again for ever; a run ends when its container does",
      restartPolicy,
    );
  }
}

const JOB_ADVICE: Readonly<Record<string, string>> = {
  podFailurePolicy: "retry_on says which exit codes are tried again, as a run of its own; a run fails by backoff_limit",
  successPolicy: "no column says it; a run succeeds when all of its parts do",
  backoffLimitPerIndex: "no column counts failures by part; write backoff_limit for all of them",
  maxFailedIndexes: "no column counts failures by part; write backoff_limit for all of them",
  selector: "Kubernetes selects a Job's pods itself; leave it out",
  manualSelector: "Kubernetes selects a Job's pods itself; leave it out",
  managedBy: "the Job controller of Kubernetes runs all Jobs of the service",
  parallelism: "a row has 1 to 100000 pods at a time; a Job that waits with none is a row with enabled=no",
};

/** Names what neither the row nor its template says. */
function reportRest({ metadata, job }: Parts, report: ReportFinding, reportJob: ReportFinding): void {
  for (const [field, value] of Object.entries(job)) {
    if (field === "selector" && job["manualSelector"] === undefined && isGenerated(value)) continue;
    reportJob("error", field, JOB_ADVICE[field] ?? "neither a column nor a pod template says it", value);
  }
  reportNamespace(metadata, report);
  for (const [field, value] of Object.entries(metadata)) {
    if (["name", "generateName", "namespace"].includes(field)) continue;
    if (field !== "labels" && field !== "annotations") {
      report("error", `metadata.${field}`, "the service gives its Jobs no such field", value);
      continue;
    }
    for (const [key, own] of Object.entries(mapOf(value))) {
      const message =
        `no ${field === "labels" ? "label" : "annotation"} of a row can say it: it is the service's own, ` +
        "differs from that of the pods, or has a line break or semicolon";
      report("error", `metadata.${field}.${key}`, message, own);
    }
  }
}

function reportNamespace({ namespace }: Fields, report: ReportFinding): void {
  if (namespace === undefined) return;
  report(
    "note",
    "metadata.namespace",
    "all Jobs of a service run in the namespace of its setting NAMESPACE",
    namespace,
  );
}

/** A selector that the API server wrote. */
function isGenerated(selector: unknown): boolean {
  const labels = Object.keys(mapOf(mapOf(selector)["matchLabels"]));
  return labels.length > 0 && labels.every((label) => /controller-uid$/.test(label));
}

// ---------------------------------------------------------------- the schedule

const SCHEDULE_ADVICE: Readonly<Record<string, string>> = {
  timeZone: "it belongs to the schedule",
  startingDeadlineSeconds: "the setting STARTING_DEADLINE says it for all rows",
};
const SCHEDULE_DEFAULTS = { concurrencyPolicy: ["Allow"], suspend: [false] };

function readSchedule(spec: Fields, draft: Draft, report: ReportFinding): void {
  for (const field of ["successfulJobsHistoryLimit", "failedJobsHistoryLimit"]) {
    if (spec[field] === undefined) continue;
    report("note", `spec.${field}`, "records and logs of all runs are kept in the store", spec[field]);
    delete spec[field];
  }
  dropDefaults(spec, SCHEDULE_DEFAULTS);
  readTimes(spec, draft, report);
  readPolicy(spec, draft, report);
  readSuspend(spec, "spec.suspend", draft, report);
  for (const [field, value] of Object.entries(spec)) {
    report("error", `spec.${field}`, SCHEDULE_ADVICE[field] ?? "neither a column nor a pod template says it", value);
  }
}

/** `@every 1h30m` is Kubernetes' word for `every`; it counts from when the CronJob was made. */
const EVERY = /^@every\s+(\S{1,64})$/;
/** Older versions took the zone so. */
const ZONE = /^(?:CRON_)?TZ=(\S{1,100})\s+(\S.{0,200})$/;

function readTimes(spec: Fields, draft: Draft, report: ReportFinding): void {
  const given = spec["schedule"];
  if (typeof given !== "string") return;
  const [, ownZone, rest = given] = ZONE.exec(given) ?? [];
  const every = EVERY.exec(rest)?.[1];
  const text = every === undefined ? rest.trim() : `every ${every}`;
  const zone = spec["timeZone"] ?? ownZone;
  const schedule = valueOf("schedule", text);
  const timeZone = zone === undefined ? undefined : valueOf("timeZone", String(zone));
  const found = schedule && compileTimetable(schedule);
  const fault = found === undefined
    ? "the table takes no such schedule"
    : "fault" in found
    ? found.fault
    : zone !== undefined && timeZone === undefined
    ? "the table knows no such time zone"
    : undefined;
  if (fault !== undefined) {
    report("error", "spec.schedule", `${fault}; write the cells schedule and time_zone yourself`, given);
    delete spec["schedule"];
    return;
  }
  draft.offer("schedule", text, schedule, taker(spec, "schedule"));
  delete spec["schedule"];
  if (timeZone === undefined) return;
  draft.offer("timeZone", String(zone), timeZone, () => {});
  delete spec["timeZone"];
}

/** Words of CronJob's: `Forbid` and `Replace` let one run be at a time. */
function readPolicy(spec: Fields, draft: Draft, report: ReportFinding): void {
  const policy = spec["concurrencyPolicy"];
  if (policy !== "Forbid" && policy !== "Replace") return;
  const word = policy === "Forbid" ? "forbid" : "replace";
  draft.offer("maxRuns", "1", 1, () => {});
  draft.offer("whenBusy", word, word, () => {});
  // The table takes them out of a row with a queue.
  report(
    "note",
    "spec.concurrencyPolicy",
    "max_runs and when_busy say it; a row in a queue of Kueue's has neither",
    policy,
  );
  delete spec["concurrencyPolicy"];
}

function readSuspend(fields: Fields, path: string, draft: Draft, report: ReportFinding): void {
  if (fields["suspend"] !== true) return;
  draft.offer("enabled", "no", "no", () => {});
  report("note", path, "the row is switched off (enabled); write yes to let it run", true);
  delete fields["suspend"];
}
