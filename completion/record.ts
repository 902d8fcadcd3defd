/**
 * What is kept and told of a run's end: its record, its end message, the fields of its log. Pure.
 */
import type { EndedJob } from "../flows.ts";
import type { LogSummary } from "../logs.ts";
import { outOfMemoryWords, resultOf } from "../outcome.ts";
import { type EndPayload, endProperties } from "../payloads.ts";
import type { EventFacts, Outcome, RunRecord, RunSpec } from "../ports.ts";
import type { RunReason } from "../reasons.ts";
import { inputHandedDown, lineageOfRecord, outputOf, payloadText, recordedLineage } from "../run_spec.ts";
import { factsOf, type LiveRun, pulledAt } from "../runs.ts";
import { compact } from "../util/compact.ts";
import { withLastLine } from "./last_line.ts";
import { parseJson } from "../util/json.ts";

/** What `job_complete/…` or `job_failed/…` says. `payload`: of the message that started the run. */
export function endPayloadOf(record: RunRecord, payload: Uint8Array | undefined): EndPayload {
  return {
    status: record.status,
    job_name: record.job_name,
    run_name: record.run_name,
    parent_run: record.parent_run,
    root_run: record.root_run,
    chain_depth: record.chain_depth,
    reason: record.reason,
    message: record.message,
    exit_code: record.exit_code,
    topic: record.topic,
    ...compact({ input: inputHandedDown(record.parent_run, payload && payloadText(payload)) }),
    started_at: record.started_at,
    finished_at: record.finished_at,
    log_url: record.log_url,
    log_complete: record.log_complete ?? false,
    log_bytes: record.log_bytes ?? 0,
    root: lineageOfRecord(record).root,
    ...(record.item === undefined ? {} : { item: parseJson(record.item) }),
    ...compact({
      attempt: record.attempt,
      first_run: record.first_run,
      group: record.group,
      index: record.index,
      rerun_of: record.rerun_of,
      disruptions: record.disruptions,
      oom_killed: record.oom_killed,
      last_line: record.last_line,
      batch: record.batch,
      traceparent: record.traceparent,
      log_missing: record.log_missing,
      output: record.output,
      output_missing: record.output_missing,
      result: record.result,
    }),
  };
}

/** What the message says beside its payload. */
export function propertiesOf(record: RunRecord, topicPrefix: string): ReturnType<typeof endProperties> {
  const { run_name: name, status, job_name: jobName, finished_at: finishedAt, traceparent, tracestate } = record;
  return endProperties({ what: "run", name, status, jobName, finishedAt, traceparent, tracestate }, topicPrefix);
}

/** Reasons of runs that gave way to another one: nothing has failed, so no message says so. */
const GAVE_WAY: ReadonlySet<string> = new Set(["Skipped", "Superseded", "Replaced"] satisfies RunReason[]);

/** Whether `job_complete/…` or `job_failed/…` says how it ended. */
export function isTold({ status, reason }: Pick<RunRecord, "status" | "reason">): boolean {
  return status !== "cancelled" || !GAVE_WAY.has(reason);
}

/** The record of a run that never had a Job, nor a log. */
export function unstartedRecord(spec: RunSpec, outcome: Outcome): RunRecord {
  const { message, payloadLink, row } = spec;
  const job: EndedJob = {
    ...factsOf(spec),
    ...(payloadLink ? { payloadObject: payloadLink.object } : { payload: message.payload }),
    ...compact({ owner: row.owner, output: row.output && outputOf(spec) }),
  };
  const run: LiveRun = { job, pods: new Map(), adopted: false, state: "ending", detail: "" };
  return { ...recordOf(run, job, outcome, ""), log_complete: true, log_bytes: 0 };
}

/**
 * The record with what its log and the cluster's events say. `storedAt`: when the log was put into the store; undefined: a
 * former process did that.
 */
export function withLog(
  record: RunRecord,
  { pods }: LiveRun,
  { log, events, storedAt }: {
    readonly log: LogSummary;
    readonly events: readonly EventFacts[];
    readonly storedAt?: Date | undefined;
  },
): RunRecord {
  return {
    ...withLastLine(record, [...pods.values()], log),
    log_complete: log.complete,
    log_bytes: log.bytes,
    ...compact({
      log_missing: log.missing,
      peak_memory: largest(record.peak_memory, log.residentBytes),
      pulled_at: pulledAt(events, record.started_at === null ? undefined : new Date(record.started_at))?.toISOString(),
      log_stored_at: storedAt?.toISOString(),
    }),
  };
}

/** The record of a run that ended so, but for what its log and the cluster's events say. */
export function recordOf(
  run: LiveRun,
  job: EndedJob,
  outcome: Outcome,
  logUrl: string,
): RunRecord {
  const pods = [...run.pods.values()];
  const { startedAt, scheduledAt, heldBy, releasedAt } = run.times ?? {};
  // Its Job's own start comes before its pods', and says the most where they were not seen.
  const started = startedAt ?? (pods.length === 0 || outcome.status === "succeeded" ? job.startedAt : undefined);
  const text = job.payload ? payloadText(job.payload) ?? null : null;
  const succeeded = outcome.status === "succeeded";
  const { result, fault } = succeeded ? resultOf(pods) : {};
  const memory = succeeded ? outOfMemoryWords(job, pods) : undefined;
  const message = memory === undefined ? outcome.message : `${outcome.message}, ${memory}`;
  return {
    run_name: job.runName,
    job_name: job.jobName,
    status: outcome.status,
    reason: outcome.reason,
    message: fault === undefined ? message : `${message}. ${fault}`,
    exit_code: outcome.exitCode ?? (succeeded ? 0 : null),
    topic: job.topic,
    payload: text,
    ...compact({
      payload_base64: text === null ? job.payload?.toBase64() : undefined,
      payload_object: job.payloadObject,
    }),
    message_hash: job.messageHash,
    ...recordedLineage(job),
    image: job.image,
    node: [...new Set(pods.flatMap((pod) => pod.node ?? []))].join(", ") || null,
    requests: job.requests,
    limits: job.limits,
    gpu: job.gpu,
    received_at: job.receivedAt.toISOString(),
    created_at: job.createdAt.toISOString(),
    started_at: started?.toISOString() ?? null,
    finished_at: (job.finishedAt ?? new Date()).toISOString(),
    log_url: logUrl,
    ...(memory === undefined ? {} : { oom_killed: true }),
    ...compact({
      held_for: heldBy,
      released_at: releasedAt?.toISOString(),
      scheduled_at: scheduledAt?.toISOString(),
      disruptions: run.disrupted?.size,
      peak_memory: run.peak && Math.round(run.peak.memory),
      peak_cpu: run.peak && Math.round(run.peak.cpu * 1_000) / 1_000,
      owner: job.owner,
      output: job.output,
      result,
      job: job.manifest?.(),
    }),
  };
}

/** Of two figures that are both too low rather than too high, and may both be absent. */
function largest(one: number | undefined, other: number | undefined): number | undefined {
  return one === undefined || other === undefined ? one ?? other : Math.max(one, other);
}
