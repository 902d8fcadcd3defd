/**
 * What a run's record and the list of live runs must look like to be believed, and fields that other objects of the store
 * have as records do: whoever may write to the store may have written them. Pure.
 */
import * as z from "zod";
import type { RunRecord } from "../ports.ts";
import { isRunName } from "../run_spec.ts";

export const runName = z.string().refine(isRunName);
const time = z.string().max(64).refine((text) => !Number.isNaN(Date.parse(text)));
/** Names, topics and sentences; Kubernetes' and MQTT's own limits are below it. */
export const words = z.string().max(128 * 1024);
const quantities = z.record(z.string().max(256), z.string().max(256));

/** Of a run or a group: its message, and what it comes from. */
export const ORIGIN = {
  topic: words,
  payload: words.nullable(),
  payload_base64: z.base64().max(256 * 1024).optional(),
  message_hash: words,
  parent_run: runName.nullable(),
  root_run: runName,
  chain_depth: z.int().min(0),
  batch: words.optional(),
  requested_by: words.optional(),
  traceparent: words.optional(),
  tracestate: words.optional(),
  received_at: time,
};

/** Of a run besides: which one it is among those of its message. */
export const PLACE = {
  attempt: z.int().min(1).optional(),
  rung: z.int().min(0).optional(),
  first_run: runName.optional(),
  group: runName.optional(),
  index: z.int().min(0).optional(),
  item: words.optional(),
  rerun_of: runName.optional(),
};

const record = z.looseObject({
  ...ORIGIN,
  ...PLACE,
  run_name: runName,
  job_name: words,
  status: z.enum(["succeeded", "failed", "cancelled"]),
  reason: words,
  message: words,
  exit_code: z.number().nullable(),
  payload_object: words.optional(),
  image: words,
  node: words.nullable(),
  requests: quantities,
  limits: quantities,
  created_at: time,
  started_at: time.nullable(),
  finished_at: time,
  log_url: words,
  job: z.record(z.string(), z.unknown()).optional(),
  root: words.optional(),
  retried_as: runName.optional(),
  disruptions: z.int().min(0).optional(),
  oom_killed: z.literal(true).optional(),
  last_line: words.optional(),
  held_for: z.enum(["slot", "pause", "queue", "person"]).optional(),
  released_at: time.optional(),
  scheduled_at: time.optional(),
  pulled_at: time.optional(),
  log_stored_at: time.optional(),
  announced_at: time.optional(),
  gpu: z.number().min(0).optional(),
  owner: words.optional(),
  peak_memory: z.number().min(0).optional(),
  peak_cpu: z.number().min(0).optional(),
});

/** The record of the run of that name; undefined: it is none. */
export function asRunRecord(value: unknown, name: string): RunRecord | undefined {
  const read = record.safeParse(value);
  return read.success && read.data.run_name === name ? value as RunRecord : undefined;
}

const live = z.looseObject({
  runName,
  jobName: words,
  topic: words,
  messageHash: words,
  parentRun: runName.optional(),
  rootRun: runName,
  chainDepth: z.int().min(0),
  root: words.optional(),
  attempt: z.int().min(1).optional(),
  rung: z.int().min(0).optional(),
  firstRun: runName.optional(),
  group: runName.optional(),
  index: z.int().min(0).optional(),
  item: words.optional(),
  requestedBy: words.optional(),
  traceparent: words.optional(),
  tracestate: words.optional(),
  image: words,
  requests: quantities,
  limits: quantities,
  receivedAt: time,
  createdAt: time,
  startedAt: time.optional(),
});

/** An entry of the list of live runs; its times are texts still. */
export type LiveEntry = z.output<typeof live>;

/** Those entries of the list that can be live runs. */
export function asLiveEntries(value: unknown): LiveEntry[] {
  if (!Array.isArray(value)) return [];
  return value.filter((entry): entry is LiveEntry => live.safeParse(entry).success);
}
