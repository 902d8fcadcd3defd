/**
 * A sheet of messages: a CSV whose header names fields of the payload, and of which each line is one message. Pure. What a
 * row wants of them is checked here; must not know how they are run.
 */
import type { ForEach, Placeholder, Row } from "../ports.ts";
import { inputFault, shortHash } from "../run_spec.ts";
import { nearest } from "../util/nearest.ts";
import { forEachText } from "./cells/flows.ts";
import { finish, finishInSlices } from "../util/slices.ts";
import { findHeader, type RawRecord, readRecords, toText } from "./csv.ts";
import { cut, type Problem, Refusal } from "./problem.ts";

/** One line that is right. */
export interface SheetLine {
  /** 1-based. */
  readonly line: number;
  /** JSON object of its cells that are not empty. */
  readonly payload: string;
  /** A hash of what it says, whatever the order of columns. */
  readonly content: string;
}

export interface Sheet {
  readonly fields: readonly string[];
  readonly lines: readonly SheetLine[];
  /** Lines with errors are left out. */
  readonly problems: readonly Problem[];
  /** As they stand, for who sends the sheet on in pieces. */
  readonly records: readonly { readonly line: number; readonly cells: readonly string[] }[];
}

/** Lines of one sheet. */
export const MAX_SHEET_LINES = 10_000;
const MAX_FIELDS = 200;
const MAX_FIELD_NAME = 128;

export interface SheetOptions {
  /** Whose inputs each line is checked against, and whether a sheet can hold its items. */
  readonly row?: Pick<Row, "inputs" | "forEach">;
  /** What the row is filled with: a line without the field of one would make no run. */
  readonly placeholders?: readonly Placeholder[];
  /** The line of a record where the sheet is a piece of another. */
  readonly lineOf?: (record: number, line: number) => number;
}

/** Reads a sheet in one go. Never throws: of what is none there are problems alone. */
export function readSheet(source: Uint8Array | string, options: SheetOptions = {}): Sheet {
  return finish(readSteps(source, options));
}

/** Reads a sheet in slices, between which timers and sockets get their turn. */
export function readSheetInSlices(source: Uint8Array | string, options: SheetOptions = {}): Promise<Sheet> {
  return finishInSlices(readSteps(source, options));
}

function* readSteps(source: Uint8Array | string, options: SheetOptions): Generator<void, Sheet> {
  try {
    return yield* read(source, options);
  } catch (error) {
    if (!(error instanceof Refusal)) throw error;
    return { fields: [], lines: [], problems: [error.problem], records: [] };
  }
}

function* read(
  source: Uint8Array | string,
  { row, placeholders = [], lineOf = (_, line) => line }: SheetOptions,
): Generator<void, Sheet> {
  const isEmpty = typeof source === "string" ? source.trim() === "" : source.every((byte) => byte <= 32);
  if (isEmpty) throw new Refusal(1, "the sheet is empty; the first line must name fields of the payload: uuid,mode");
  const text = yield* toText(source);
  const layout = findHeader(text, (name) => name.trim() !== "" && !/[,;|\t]/.test(name));
  const all: RawRecord[] = [];
  for (const batch of readRecords(text, layout)) {
    for (const record of batch) if (record.cells.some((cell) => cell.trim() !== "")) all.push(record);
    if (all.length > MAX_SHEET_LINES + 1) {
      throw new Refusal(all[MAX_SHEET_LINES + 1]!.line, `the sheet has more than ${MAX_SHEET_LINES} lines; part it`);
    }
    yield;
  }
  const [header, ...records] = all;
  const problems: Problem[] = [];
  const fields = header!.cells.map((cell) => cell.trim());
  if (row?.forEach && isList(row.forEach)) {
    const message =
      `the row makes a run of each entry of a list in its message (for_each "${
        forEachText(row.forEach)
      }"), and a cell of a ` +
      "sheet is text; run the row by a message";
    throw new Refusal(header!.line, message);
  }
  checkFields(fields, header!.line, row, problems);
  const needed = neededFields(placeholders, row);
  const lines: SheetLine[] = [];
  for (const [at, record] of records.entries()) {
    if (at % 64 === 63) yield;
    const line = lineOf(at, record.line);
    const found = readLine({ ...record, line }, fields, { row, needed });
    if ("message" in found) problems.push({ severity: "error", line, ...found });
    else lines.push(found);
  }
  if (records.length === 0) {
    problems.push({ severity: "warning", line: header!.line, message: "the sheet has no lines below its header" });
  }
  return { fields, lines, problems, records };
}

function checkFields(
  fields: readonly string[],
  line: number,
  row: Pick<Row, "inputs"> | undefined,
  problems: Problem[],
): void {
  if (fields.length > MAX_FIELDS) throw new Refusal(line, `the header has more than ${MAX_FIELDS} fields`);
  const inputs = row?.inputs?.map(({ name }) => name);
  for (const [at, name] of fields.entries()) {
    const column = cut(name);
    if (name === "") throw new Refusal(line, `field ${at + 1} of the header has no name; name it, or take it away`);
    if (name.length > MAX_FIELD_NAME) throw new Refusal(line, `a name has more than ${MAX_FIELD_NAME} characters`);
    if (fields.indexOf(name) !== at) throw new Refusal(line, `the header names "${column}" twice; take one away`);
    if (!inputs || inputs.includes(name)) continue;
    const near = nearest(name, inputs);
    const hint = near === undefined ? "its program still gets it" : `did you mean "${near}"?`;
    problems.push({ severity: "warning", line, column, message: `no input of the row has this name; ${hint}` });
  }
}

/** What only a list or an object in a message can be, or what a run before has made. */
function isList(forEach: ForEach): boolean {
  return forEach.from === "result" ||
    (forEach.from === "payload" || forEach.from === "input") && forEach.path.length > 0;
}

/** The placeholders that each line has to fill. */
function neededFields(placeholders: readonly Placeholder[], row: Pick<Row, "inputs"> | undefined): Placeholder[] {
  const given = new Set(row?.inputs?.filter(({ required }) => !required).map(({ name }) => name));
  return placeholders.filter(({ root, path, preset }) =>
    root === "payload" && path.length > 0 && preset === undefined && !given.has(String(path[0]))
  );
}

function readLine(
  { line, cells, fault }: { line: number; cells: readonly string[]; fault?: { at: number; message: string } },
  fields: readonly string[],
  { row, needed }: { row: Pick<Row, "inputs"> | undefined; needed: readonly Placeholder[] },
): SheetLine | Pick<Problem, "column" | "value" | "message"> {
  if (fault) return { column: cut(fields[fault.at] ?? ""), value: cut(cells[fault.at] ?? ""), message: fault.message };
  if (cells.slice(fields.length).some((cell) => cell.trim() !== "")) {
    const message = `the line has ${cells.length} cells, the header has ${fields.length}; put a cell that holds the ` +
      "delimiter in double quotes";
    return { message };
  }
  const values = fields.map((name, at) => [name, (cells[at] ?? "").trim()] as const).filter(([, value]) =>
    value !== ""
  );
  const payload = JSON.stringify(Object.fromEntries(values));
  const wrong = row && inputFault(row, { topic: "", payload: new TextEncoder().encode(payload) });
  if (wrong) return { ...wrong.value === undefined ? {} : { value: cut(wrong.value) }, message: wrong.message };
  const lacking = needed.find(({ path }) => path.length > 1 || !values.some(([name]) => name === path[0]));
  if (lacking) {
    const { path: [name = ""], source } = lacking;
    return {
      column: cut(String(name)),
      message: `${cut(source)} of the row has no value; the sheet needs it in a column "${cut(String(name))}"`,
    };
  }
  const sorted = values.toSorted(([a], [b]) => a < b ? -1 : 1).flat();
  return { line, payload, content: shortHash(["line", ...sorted], 26) };
}

/** The first line of a sheet for the row: what its messages may have. */
export function sheetTemplate({ inputs = [] }: Pick<Row, "inputs">): string {
  const quoted = (name: string) => /[",;|\t\s]/.test(name) ? `"${name.replaceAll('"', '""')}"` : name;
  return `${inputs.map(({ name }) => quoted(name)).join(",")}\n`;
}
