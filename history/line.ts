/**
 * A run as the index and its segments keep it: what lists show, and the text that it is found by. Owns how much of a
 * payload is searched, and what a line of a segment must look like to be believed. Pure.
 */
import type { EndedRun } from "../history.ts";
import type { RunRecord } from "../ports.ts";
import { isRoot, isRunName } from "../run_spec.ts";
import { parseJson } from "../util/json.ts";
import { endedRun } from "./ended_run.ts";

/** A run with the beginning of its payload. */
export interface HistoryLine {
  readonly run: EndedRun;
  readonly payload: string;
}

/** Characters of a payload by which its run can be found. */
const SEARCHED_PAYLOAD = 2_000;
/** Characters of a line at most: JSON may write one character as six. */
export const LONGEST_LINE = 100_000;
/** Of a text of an EndedRun, which says how much of it was cut off. */
const LONGEST_TEXT = 600;

/**
 * A record as the store has it as a line; undefined: there is none, or it is not what it should be, as one may be that
 * somebody else wrote.
 */
export function lineOf(record: RunRecord | "unreadable" | undefined): HistoryLine | undefined {
  if (record === undefined || record === "unreadable") return undefined;
  const run = endedRun(record);
  if (!isEndedRun(run as unknown as Record<string, unknown>)) return undefined;
  // A piece of a string keeps the whole of it in memory.
  const payload = JSON.parse(JSON.stringify((record.payload ?? "").slice(0, SEARCHED_PAYLOAD).toWellFormed()));
  return { run, payload };
}

/** A line as a segment has it, without its line end. */
export function lineText({ run, payload }: HistoryLine): string {
  return JSON.stringify(payload === "" ? run : { ...run, payload });
}

type Check = (value: unknown) => boolean;

const text: Check = (value) => typeof value === "string" && value.length <= LONGEST_TEXT;
const textOrNull: Check = (value) => value === null || text(value);
const time: Check = (value) => typeof value === "string" && !Number.isNaN(Date.parse(value));
const timeOrNull: Check = (value) => value === null || time(value);
const name: Check = (value) => typeof value === "string" && isRunName(value);
const count: Check = (value) => Number.isSafeInteger(value) && (value as number) >= 0;
const amount: Check = (value) => Number.isFinite(value) && (value as number) >= 0;
const amounts: Check = (value) =>
  typeof value === "object" && value !== null && !Array.isArray(value) && Object.values(value).every(text);
const or = (check: Check): Check => (value) => value === undefined || check(value);

const CHECKS: Readonly<Record<keyof EndedRun, Check>> = {
  run_name: name,
  job_name: text,
  status: (value) => value === "succeeded" || value === "failed" || value === "cancelled",
  reason: text,
  message: text,
  exit_code: (value) => value === null || typeof value === "number",
  topic: text,
  node: textOrNull,
  parent_run: (value) => value === null || name(value),
  received_at: time,
  started_at: timeOrNull,
  finished_at: time,
  root: (value) => typeof value === "string" && isRoot(value),
  attempt: or(count),
  retried_as: or(name),
  rerun_of: or(name),
  batch: or(text),
  requested_by: or(text),
  group: or(name),
  index: or(count),
  owner: or(text),
  requests: amounts,
  limits: amounts,
  gpu: or(amount),
  peak_memory: or(amount),
  peak_cpu: or(amount),
};
const FIELDS = Object.entries(CHECKS) as [keyof EndedRun, Check][];

/** What a line of a segment says; undefined: it is none. Whoever may write to the store may have written it. */
export function readLine(written: string): HistoryLine | undefined {
  if (written.length > LONGEST_LINE) return undefined;
  let value: unknown;
  try {
    value = parseJson(written);
  } catch {
    return undefined;
  }
  if (typeof value !== "object" || value === null) return undefined;
  const fields = value as Record<string, unknown>;
  if (!isEndedRun(fields)) return undefined;
  const { payload = "" } = fields;
  if (typeof payload !== "string" || payload.length > SEARCHED_PAYLOAD) return undefined;
  const known = FIELDS.flatMap(([field]) => fields[field] === undefined ? [] : [[field, fields[field]]]);
  return { run: Object.fromEntries(known) as EndedRun, payload };
}

function isEndedRun(fields: Record<string, unknown>): boolean {
  return FIELDS.every(([field, check]) => check(fields[field]));
}
