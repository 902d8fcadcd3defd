/**
 * A run of a row for each line of a sheet. A line's run is named by what the line says and how many equal ones stand before
 * it, so that a sheet which has grown starts what is new.
 */
import { describeProblem, readSheetInSlices, type Sheet } from "../catalog.ts";
import type { Message, Row } from "../ports.ts";
import { keyOfCause, placeholdersOf, rootFrom, shortHash } from "../run_spec.ts";
import type { Listener } from "../listener.ts";
import { compact } from "../util/compact.ts";
import { cut } from "../util/text.ts";
import { type BatchCounts, type BatchEntry, type Batches, checkBatch } from "./batches.ts";

export interface EachRequest {
  /** CSV: the header names fields of the payload. */
  readonly sheet: string | Uint8Array;
  /** Lines that another batch has started are started again. */
  readonly batch?: string;
  /** Tells what is wrong, and starts nothing. */
  readonly dryRun?: boolean;
  /** Of a piece of a larger sheet: what the whole is called, where nobody named a batch. */
  readonly sheetId?: string;
  /** Of a piece: the line of each of its lines in the whole, and how many equal ones stand before it there, plus one. */
  readonly lines?: readonly number[];
  readonly copies?: readonly number[];
  /** Who asks, for the records. */
  readonly requestedBy?: string;
}

export interface EachAnswer extends BatchCounts {
  readonly batch: string;
  /** Lines that are right. */
  readonly total: number;
  readonly problems: readonly (Sheet["problems"][number] & { readonly text: string })[];
  /** All of them. */
  readonly errors: number;
}

/** Problems that an answer shows. */
const MAX_PROBLEMS = 50;

/** Checks the sheet, and starts a run for each line that is right. */
export async function startEach(
  row: Row,
  request: EachRequest,
  { batches, listener, topicPrefix }: {
    readonly batches: Batches;
    readonly listener: Pick<Listener, "run">;
    readonly topicPrefix: string;
  },
): Promise<EachAnswer> {
  const { sheet: source, lines: given = [], copies: counted = [], dryRun = false } = request;
  const named = checkBatch(request.batch);
  const sheet = await readSheetInSlices(source, {
    row,
    placeholders: placeholdersOf(row),
    lineOf: (at, line) => given[at] ?? line,
  });
  const batch = named ?? checkBatch(request.sheetId) ?? shortHash(["sheet", source]);
  const isHeaderWrong = sheet.fields.length === 0;
  const copies = new Map<string, number>();
  const copyAt = new Map(sheet.records.map(({ line }, at) => [given[at] ?? line, counted[at]]));
  const entries = sheet.lines.map(({ line, payload, content }): BatchEntry => {
    const copy = copyAt.get(line) ?? (copies.get(content) ?? 0) + 1;
    copies.set(content, copy);
    // What a start needs is made when it has its turn.
    const start = () => {
      const message: Message = { topic: `${topicPrefix}/request/each`, payload: new TextEncoder().encode(payload) };
      const key = keyOfCause.batch(named ?? "", `line\0${content}\0${copy}`);
      const asked = compact({ requestedBy: request.requestedBy });
      const lineage = { root: rootFrom([key, row.jobName]), chainDepth: 0, batch, ...asked };
      return listener.run(row, message, { key, lineage, later: true });
    };
    return { label: `line ${line}`, start };
  });
  const counts = await batches.start(dryRun || isHeaderWrong ? [] : entries);
  const problems = sheet.problems.slice(0, MAX_PROBLEMS)
    .map((problem) => ({ ...problem, text: cut(describeProblem(problem), 1_000) }));
  const errors = sheet.problems.filter(({ severity }) => severity === "error").length;
  return { batch, total: entries.length, ...counts, problems, errors };
}
