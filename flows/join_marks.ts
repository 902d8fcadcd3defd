/**
 * What a row that is needed leaves for the rows that need it: names and shapes of the marks, and the message that is
 * made of them. Pure. What comes from the store was written by anybody: it is checked here.
 */
import * as z from "zod";
import type { Row, RunRecord, RunSpec } from "../ports.ts";
import {
  inputHandedDown,
  isRunName,
  keyOfCause,
  lineageOfRecord,
  messageHashOf,
  rowLabel,
  runNameFor,
  shortHash,
  traceContextOf,
} from "../run_spec.ts";
import { joinTopic } from "../topics.ts";
import { type Compact, compact } from "../util/compact.ts";
import type { GroupEnd } from "./group_end.ts";

/** Longest `output` that is handed on, in characters; and `result`, as JSON. */
const MAX_OUTPUT = 4 * 1024;
const MAX_RESULT = 32 * 1024;

const mark = z.object({
  /** The row that has succeeded. */
  job_name: z.string().max(1024),
  /** The run, or the group. */
  run_name: z.string().refine(isRunName),
  root_run: z.string().refine(isRunName),
  chain_depth: z.int().min(0).max(1_000_000),
  input: z.string().max(8 * 1024).optional(),
  output: z.string().max(MAX_OUTPUT).optional(),
  result: z.unknown().refine((result) => JSON.stringify(result).length <= MAX_RESULT).optional(),
  traceparent: z.string().max(256).optional(),
  tracestate: z.string().max(512).optional(),
  /** Items of a group. */
  total: z.int().min(0).max(1_000_000).optional(),
});

/** One success of one row, `.joins/{root}/{row}/{needed}.json`. */
export type JoinMark = Compact<z.infer<typeof mark>>;

/** undefined: it is none of that row. */
export function asJoinMark(value: unknown, needed: string): JoinMark | undefined {
  const read = mark.safeParse(value);
  return read.success && read.data.job_name === needed ? compact(read.data) : undefined;
}

/** Of a run that succeeded. */
export function markOfRun(record: RunRecord): JoinMark {
  const { job_name, run_name, root_run, chain_depth, output, result } = record;
  return {
    job_name,
    run_name,
    root_run,
    chain_depth,
    ...compact({
      input: inputHandedDown(record.parent_run, record.payload ?? undefined),
      output: output !== undefined && output.length <= MAX_OUTPUT ? output : undefined,
      result,
    }),
    ...traceContextOf(record),
  };
}

/** Of a group all of whose items succeeded. */
export function markOfGroup(end: GroupEnd): JoinMark {
  const { jobName, group, rootRun, chainDepth, total, input, traceparent, tracestate } = end;
  const mark = { job_name: jobName, run_name: group, root_run: rootRun, chain_depth: chainDepth, total };
  return { ...mark, ...compact({ input, traceparent, tracestate }) };
}

/** What a mark says belongs together: a root, and a row that needs others. */
export interface Join {
  readonly root: string;
  readonly row: Row;
}

/** Name of the one run, or group, that the row has of the root. */
export function joinedRunName({ root, row }: Join): string {
  return runNameFor(row, { key: keyOfCause.join(root) });
}

/** A row's name as a part of a key: a row may be called anything. */
export function rowKey(jobName: string): string {
  return `${rowLabel(jobName)}-${shortHash([jobName])}`;
}

/** Where the marks for a row are, below `.joins`. */
export function marksOf({ root, row }: Join): string {
  return `${root}/${rowKey(row.jobName)}/`;
}

/**
 * The run that these marks lead to, one for each row that the row needs, in its order. The same marks make the same run:
 * its parent is the last of them.
 */
export function joinedSpec({ root, row }: Join, marks: readonly JoinMark[], topicPrefix: string): RunSpec {
  const parent = marks.at(-1)!;
  const needs = Object.fromEntries(
    marks.map(({ job_name, run_name, output, result, total }) => [job_name, {
      run_name,
      ...compact({ output, result, total }),
    }]),
  );
  const input = marks.find(({ input }) => input !== undefined)?.input;
  const said = { job_name: row.jobName, root, root_run: parent.root_run, ...compact({ input }), needs };
  const message = {
    topic: joinTopic(topicPrefix, row.jobName),
    payload: new TextEncoder().encode(JSON.stringify(said)),
  };
  return {
    runName: joinedRunName({ root, row }),
    row,
    message,
    messageHash: messageHashOf(message),
    root,
    rootRun: parent.root_run,
    parentRun: parent.run_name,
    chainDepth: Math.max(...marks.map(({ chain_depth }) => chain_depth)) + 1,
    receivedAt: new Date(),
    ...traceContextOf(parent),
  };
}

/** Of a record that may be of a former version. */
export function rootOfRecord(record: RunRecord): string {
  return lineageOfRecord(record).root;
}
