/**
 * The table's text: CSV of any spreadsheet in, checked rows and problems out, and the JSON Schema of a row.
 * Pure. Says what is wrong and what would be right; never throws for what a table holds. Loading is catalog.ts.
 */
import { setImmediate } from "node:timers/promises";
import { parse } from "csv-parse/sync";
import { type BadRow, type ChainFindings, findChains, finish } from "./chains.ts";
import { endName, isEndTopic, isUnderPrefix } from "../topics.ts";
import type { Row } from "../ports.ts";
import { isMore, quantityAdvice, quantityValue, type Resource } from "../util/quantities.ts";
import { filterFault, overlap, TopicIndex } from "../topics.ts";
import { imageFault, parseCommand } from "./cells.ts";
import { nearest } from "../util/nearest.ts";

/** Something wrong with the table. An error leaves the row (or, in `Table.refusal`, the table) out. */
export interface Problem {
  readonly severity: "error" | "warning";
  /** 1-based line of the file on which the row begins. */
  readonly line: number;
  /** Column as the contract names it, or as the header has it where it is unknown. */
  readonly column?: string;
  /** The cell, cut after 120 characters. */
  readonly value?: string;
  /** What is wrong and what would be right. */
  readonly message: string;
  readonly jobName?: string;
}

export interface TableOptions {
  /** Topic prefix of the service, without a trailing slash. */
  readonly topicPrefix: string;
  /** Further rules for a row that is right in itself, such as a policy's. Its errors leave the row out. */
  readonly check?: (row: Row) => readonly Problem[];
}

/** A table as read. Rows are right and in the order of the file. */
export interface Table {
  readonly topicPrefix: string;
  readonly rows: readonly Row[];
  /** In the order of lines. */
  readonly problems: readonly Problem[];
  readonly badRows: readonly BadRow[];
  /** Why nothing of the file can be used; then there are no rows. It is among `problems` too. */
  readonly refusal?: Problem;
  /** Rows by their topic filters. */
  readonly index: TopicIndex<Row>;
  readonly chains: ChainFindings;
  /** Cells are parted by this: "," or ";" or tab or "|". */
  readonly delimiter: string;
}

/** Reads a table in one go. Never throws: a file that is no table comes back with `refusal`. */
export function parseTable(source: Uint8Array | string, options: TableOptions): Table {
  return finish(readTable(source, options));
}

/**
 * Reads a table in slices of about `sliceMs`, between which timers and sockets get their turn.
 * Rejects only with the reason of `signal`.
 */
export function parseTableInSlices(
  source: Uint8Array | string,
  options: TableOptions,
  slices: { sliceMs?: number; signal?: AbortSignal } = {},
): Promise<Table> {
  return finishInSlices(readTable(source, options), slices);
}

/** Runs a generator to its end, letting others work whenever a slice is used up. */
export async function finishInSlices<T>(
  steps: Generator<void, T>,
  { sliceMs = 6, signal }: { sliceMs?: number; signal?: AbortSignal } = {},
): Promise<T> {
  let until = performance.now() + sliceMs;
  for (;;) {
    const step = steps.next();
    if (step.done) return step.value;
    if (performance.now() < until) continue;
    // Half the cost of a timer of 0 ms, and timers and sockets get their turn all the same.
    await setImmediate();
    signal?.throwIfAborted();
    until = performance.now() + sliceMs;
  }
}

/**
 * Rows that a message on `topic` starts, in table order. Under the service's own prefix only the ends of jobs start
 * rows, and only rows whose filter itself begins with the prefix: a row on `#` never sees the service's own messages.
 * `filters`: the subscriptions that this copy of the message is for; only rows with one of them.
 */
export function rowsFor(table: Table, topic: string, filters?: readonly string[]): Row[] {
  const own = isUnderPrefix(table.topicPrefix, topic);
  if (own && !isEndTopic(table.topicPrefix, topic)) return [];
  return table.index.match(topic)
    .filter((row) => !own || isUnderPrefix(table.topicPrefix, row.mqttTopic))
    .filter((row) => filters === undefined || filters.includes(row.mqttTopic))
    .sort((a, b) => a.line - b.line);
}

// ---------------------------------------------------------------- columns

interface Column {
  readonly name: string;
  readonly required?: true;
  readonly schema: Readonly<Record<string, unknown>>;
}

const QUANTITY = "^$|^[+]?([0-9]+\\.?[0-9]*|\\.[0-9]+)(Ki|Mi|Gi|Ti|Pi|Ei|n|u|m|k|M|G|T|P|E|[eE][+-]?[0-9]{1,3})?$";
const MAX_NAME = 200;
const MAX_CELL = 32_768;

function quantityColumn(name: string, description: string, examples: string[]): Column {
  return { name, schema: { type: "string", pattern: QUANTITY, description, examples } };
}

function countColumn(name: string, description: string, minimum: number, maximum: number): Column {
  return { name, schema: { type: ["integer", "string"], minimum, maximum, pattern: "^[0-9]*$", description } };
}

/** Kubernetes' own bounds: maxParallelismForIndexedJob; int32; int32 seconds. */
const MAX_PARALLELISM = 100_000;
const MAX_INT32 = 2_147_483_647;

const COLUMNS: readonly Column[] = [
  {
    name: "job_name",
    required: true,
    schema: {
      type: "string",
      minLength: 1,
      maxLength: MAX_NAME,
      pattern: "^[^/+#\\u0000-\\u001f\\u007f]+$",
      description:
        "Unique name of the row. It becomes a level of the topics job_complete/{job_name} and job_failed/{job_name}.",
      examples: ["sort-spikes"],
    },
  },
  {
    name: "mqtt_topic",
    required: true,
    schema: {
      type: "string",
      minLength: 1,
      description: "MQTT topic filter whose messages start the row; + and # are wildcards. " +
        "Another row's completion topic makes a chain.",
      examples: ["experiments/upload", "experiments/+/done", "services/mqtt_job_listener/job_complete/sort-spikes"],
    },
  },
  {
    name: "image",
    required: true,
    schema: {
      type: "string",
      minLength: 1,
      description: "Container image.",
      examples: ["braingeneers/job-h5repack:latest"],
    },
  },
  {
    name: "command",
    schema: {
      type: "string",
      description: "Words run instead of the image's own entrypoint, with a shell's quotes but no shell. " +
        "For pipes and variables write sh -c '…'.",
      examples: ["python sort.py --fast", "sh -c 'echo $MQTT_PAYLOAD | wc -c'"],
    },
  },
  quantityColumn("cpu_request", "CPU cores that the run is sure to get. Empty or 0: none asked for.", ["500m", "0.5"]),
  quantityColumn("cpu_limit", "CPU cores that the run may use at most. Empty or 0: no limit.", ["1", "16"]),
  quantityColumn("memory_request", "Memory that the run is sure to get. A bare number is bytes.", ["500Mi", "4Gi"]),
  quantityColumn("memory_limit", "Memory above which the run is killed. A bare number is bytes.", ["1Gi", "8Gi"]),
  countColumn("gpu", "Number of whole GPUs. Empty or 0: none.", 0, MAX_INT32),
  quantityColumn("disk_request", "Scratch disk (ephemeral storage) that the run is sure to get.", ["10Gi"]),
  quantityColumn("disk_limit", "Scratch disk above which the run is evicted.", ["20Gi"]),
  {
    name: "disk_mount",
    schema: {
      type: "string",
      pattern: "^$|^/[^:]+$",
      description: "Absolute path at which an empty scratch folder of the row's disk size is mounted.",
      examples: ["/tmp"],
    },
  },
  countColumn("parallelism", "Pods at once, each one part of the run. Empty: 1.", 1, MAX_PARALLELISM),
  countColumn("backoff_limit", "How often Kubernetes tries a failed pod again. Empty: 0.", 0, MAX_INT32),
  countColumn(
    "active_deadline_seconds",
    "Seconds after which the run is ended as failed. Empty or 0: none.",
    0,
    MAX_INT32,
  ),
  {
    name: "gpu_product",
    schema: {
      type: "string",
      maxLength: 63,
      pattern: "^$|^[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?$",
      description: "GPU model that the run needs: the value of the node label nvidia.com/gpu.product.",
      examples: ["NVIDIA-A10"],
    },
  },
];

/** JSON Schema (2020-12) of a row, its properties named as the table's columns. Cells are text; numbers may be numbers. */
export function rowSchema(): Record<string, unknown> {
  return {
    $schema: "https://json-schema.org/draft/2020-12/schema",
    title: "Row of the table of jobs",
    type: "object",
    properties: Object.fromEntries(COLUMNS.map(({ name, schema }) => [name, { ...schema }])),
    required: COLUMNS.filter(({ required }) => required).map(({ name }) => name),
    additionalProperties: true,
  };
}

/** Column names in the order of the documentation. */
export const columnNames: readonly string[] = COLUMNS.map(({ name }) => name);

/** Spreadsheets and people write "CPU Request", "cpu-request" and "cpuRequest"; all are cpu_request. */
function columnKey(name: string): string {
  return name.toLowerCase().replace(/[\s_\-.]+/g, "");
}

const COLUMN_BY_KEY: ReadonlyMap<string, string> = new Map(COLUMNS.map(({ name }) => [columnKey(name), name]));

// ---------------------------------------------------------------- the file

/** Ends the reading of a file of which nothing can be used. */
class Refusal extends Error {
  readonly problem: Problem;
  constructor(line: number, message: string, more: { column?: string; value?: string } = {}) {
    super(message);
    this.problem = { severity: "error", line, message, ...more };
  }
}

function* readTable(source: Uint8Array | string, options: TableOptions): Generator<void, Table> {
  const builder = new TableBuilder(options);
  try {
    const text = yield* toText(source);
    const { delimiter, from, line } = findHeader(text);
    builder.delimiter = delimiter;
    for (const batch of readRecords(text, { delimiter, from, line })) {
      builder.add(batch);
      yield;
    }
    builder.end(text);
    return yield* builder.finish();
  } catch (error) {
    if (!(error instanceof Refusal)) throw error;
    return builder.refuse(error.problem);
  }
}

function* toText(source: Uint8Array | string): Generator<void, string> {
  let text = typeof source === "string" ? source.replace(/^\uFEFF/, "") : yield* decode(source);
  // Lines ended by CR alone, as old spreadsheets on a Mac write them.
  if (!text.includes("\n")) text = text.replaceAll("\r", "\n");
  if (text.trim() === "") throw new Refusal(1, "the file is empty; the first line must be job_name,mqtt_topic,image,…");
  if (!text.isWellFormed()) throw new Refusal(1, "the text holds half of a surrogate pair; save the table as UTF-8");
  return text;
}

/** Decoded at a time: all of a large table would take some 30 ms. */
const DECODED_BYTES = 1024 * 1024;

function* decode(bytes: Uint8Array): Generator<void, string> {
  if (bytes[0] === 0x50 && bytes[1] === 0x4b && bytes[2] === 3 && bytes[3] === 4) {
    throw new Refusal(1, 'the file is a spreadsheet (.xlsx or .ods), not CSV; save it as "CSV UTF-8"');
  }
  if ((bytes[0] === 0xff && bytes[1] === 0xfe) || (bytes[0] === 0xfe && bytes[1] === 0xff)) {
    throw new Refusal(1, 'the file is UTF-16, not UTF-8; save it as "CSV UTF-8"');
  }
  try {
    const decoder = new TextDecoder("utf-8", { fatal: true });
    const pieces: string[] = [];
    for (let at = 0; at < bytes.length; at += DECODED_BYTES) {
      const end = at + DECODED_BYTES;
      pieces.push(decoder.decode(bytes.subarray(at, end), { stream: end < bytes.length }));
      yield;
    }
    return pieces.join("");
  } catch {
    const { offset, line } = findBadByte(bytes);
    const byte = (bytes[offset] ?? 0).toString(16).toUpperCase().padStart(2, "0");
    throw new Refusal(line, `byte ${offset} of the file (0x${byte}) is not UTF-8; save the table as "CSV UTF-8"`);
  }
}

/** Offset of the first byte that is not UTF-8, and its 1-based line. */
function findBadByte(bytes: Uint8Array): { offset: number; line: number } {
  const text = new TextDecoder("utf-8", { ignoreBOM: true }).decode(bytes);
  const encoder = new TextEncoder();
  let offset = 0;
  let start = 0;
  for (let at = text.indexOf("\uFFFD"); at !== -1; at = text.indexOf("\uFFFD", start)) {
    offset += encoder.encode(text.slice(start, at)).length;
    const isReal = bytes[offset] === 0xef && bytes[offset + 1] === 0xbf && bytes[offset + 2] === 0xbd;
    if (!isReal) return { offset, line: text.slice(0, at).split("\n").length };
    offset += 3;
    start = at + 1;
  }
  return { offset: bytes.length, line: 1 };
}

const DELIMITERS = [",", ";", "\t", "|"];

/** Where the header begins, and by what its cells are parted: that which gives most names that are known. */
function findHeader(text: string): { delimiter: string; from: number; line: number } {
  let from = 0;
  let line = 1;
  let hint: string | undefined;
  for (;;) {
    const end = text.indexOf("\n", from);
    const first = text.slice(from, end === -1 ? undefined : end).trim();
    // Excel's own way to name the delimiter.
    const told = line === 1
      ? /^"?sep=(.)"?$/i.exec(text.slice(from, end === -1 ? undefined : end).trimEnd())?.[1]
      : undefined;
    if (told !== undefined) hint = told;
    else if (/[^\s,;|"]/.test(first)) return { delimiter: bestDelimiter(first, hint), from, line };
    if (end === -1) {
      throw new Refusal(line, "the file has no header; the first line must be job_name,mqtt_topic,image,…");
    }
    from = end + 1;
    line++;
  }
}

function bestDelimiter(header: string, hint: string | undefined): string {
  const known = (delimiter: string) =>
    header.split(delimiter).filter((cell) => COLUMN_BY_KEY.has(columnKey(cell.replaceAll('"', "")))).length;
  const choices = hint !== undefined && !DELIMITERS.includes(hint) ? [...DELIMITERS, hint] : DELIMITERS;
  return choices.reduce((best, next) => known(next) > known(best) ? next : best);
}

/** Some records with the lines on which they begin; both lists are equally long. */
interface Batch {
  readonly lines: readonly number[];
  readonly records: readonly (readonly string[])[];
}

const BATCH_CHARS = 48 * 1024;

/**
 * Cuts the text where a record ends and has the CSV library read the pieces one by one, so that a large table
 * does not hold up everything else. The library's rule for quotes is followed: one opens at a cell's beginning only.
 */
function* readRecords(
  text: string,
  { delimiter, from, line }: { delimiter: string; from: number; line: number },
): Generator<Batch> {
  const comma = delimiter.charCodeAt(0);
  let start = from;
  let lines = [line];
  let quoting = false;
  let cellBegins = true;
  let quoteLine = line;
  for (let at = from; at < text.length; at++) {
    const code = text.charCodeAt(at);
    if (code === 34) {
      if (!quoting && cellBegins) {
        quoting = true;
        quoteLine = line;
      } else if (quoting && text.charCodeAt(at + 1) === 34) at++;
      else quoting = false;
      cellBegins = false;
    } else if (code === 10) {
      line++;
      if (quoting) continue;
      cellBegins = true;
      if (at + 1 - start >= BATCH_CHARS) {
        yield { lines, records: readPiece(text.slice(start, at + 1), delimiter) };
        start = at + 1;
        lines = [];
      }
      lines.push(line);
    } else if (!quoting) {
      if (code === comma) cellBegins = true;
      else if (code !== 32 && code !== 9 && code !== 13) cellBegins = false;
    }
  }
  if (quoting) {
    throw new Refusal(quoteLine, "a quote that opens on this line is never closed; the file may be half-written");
  }
  if (start < text.length) yield { lines, records: readPiece(text.slice(start), delimiter) };
}

function readPiece(piece: string, delimiter: string): string[][] {
  const text = piece.includes("\r") ? piece.replace(/\r+\n/g, "\n") : piece;
  // Without a quote there is nothing to parse; for 100,000 rows this saves a third of a second.
  if (!text.includes('"')) {
    return text.replace(/\n$/, "").split("\n").map((line) => line.split(delimiter));
  }
  return parse(text, {
    delimiter,
    record_delimiter: "\n",
    relax_quotes: true,
    relax_column_count: true,
    ltrim: true,
  });
}

// ---------------------------------------------------------------- rows

/** Collects the rows of one file. */
class TableBuilder {
  delimiter = ",";
  readonly #options: TableOptions;
  readonly #rows: Row[] = [];
  readonly #badRows: BadRow[] = [];
  readonly #problems: Problem[] = [];
  readonly #index = new TopicIndex<Row>();
  readonly #lineOf = new Map<string, number>();
  readonly #labels = new Map<string, Row>();
  #columns: ReadonlyMap<string, number> | undefined;
  #header: readonly string[] = [];
  #headerLine = 1;
  #last: { line: number; cells: number } | undefined;

  constructor(options: TableOptions) {
    this.#options = options;
  }

  add({ lines, records }: Batch): void {
    for (const [at, cells] of records.entries()) {
      const line = lines[at] ?? 0;
      if (cells.every((cell) => cell.trim() === "")) continue;
      this.#last = { line, cells: cells.length };
      if (!this.#columns) this.#readHeader(line, cells);
      else this.#readRow(line, cells, this.#columns);
    }
  }

  #readHeader(line: number, cells: readonly string[]): void {
    const columns = new Map<string, number>();
    this.#headerLine = line;
    this.#header = cells.map((cell) => cell.trim());
    const unknown: string[] = [];
    for (const [at, name] of this.#header.entries()) {
      const known = COLUMN_BY_KEY.get(columnKey(name));
      if (known === undefined) {
        if (name !== "") unknown.push(name);
      } else if (columns.has(known)) {
        throw new Refusal(line, `the header has the column ${known} twice; take one away`, { column: known });
      } else columns.set(known, at);
    }
    if (columns.size === 0) {
      throw new Refusal(line, "no known column is named here; the first line must be job_name,mqtt_topic,image,…", {
        value: cut(this.#header.join(this.delimiter)),
      });
    }
    const free = columnNames.filter((name) => !columns.has(name));
    const missing = free.filter((name) => COLUMNS.some((column) => column.required && column.name === name));
    if (missing.length > 0) {
      const [first = ""] = missing;
      const near = nearest(columnKey(first), unknown.map(columnKey));
      const hint = near === undefined
        ? ""
        : `; did you misspell it as "${unknown.find((name) => columnKey(name) === near)}"?`;
      const what = missing.length === 1 ? `the column ${first} is` : `the columns ${missing.join(", ")} are`;
      throw new Refusal(line, `${what} missing from the header${hint}`, { column: first });
    }
    for (const name of unknown) {
      const near = nearest(columnKey(name), free.map(columnKey));
      const hint = near === undefined ? "" : `; did you mean ${COLUMN_BY_KEY.get(near)}?`;
      this.#problems.push({
        severity: "warning",
        line,
        column: name,
        message: `unknown column "${cut(name)}" is ignored${hint}`,
      });
    }
    this.#columns = columns;
  }

  #readRow(line: number, cells: readonly string[], columns: ReadonlyMap<string, number>): void {
    const reader = new RowReader(line, cells, columns);
    const width = this.#header.length;
    if (cells.length < width) {
      reader.error(
        undefined,
        undefined,
        `the row has ${cells.length} cells, the header has ${width}; write the empty cells too`,
      );
    } else if (cells.slice(width).some((cell) => cell.trim() !== "")) {
      const hint = `put a cell that holds "${this.delimiter === "\t" ? "a tab" : this.delimiter}" in double quotes`;
      reader.error(undefined, undefined, `the row has ${cells.length} cells, the header has ${width}; ${hint}`);
    }
    const row = reader.read();
    const name = reader.jobName;
    if (name !== undefined) {
      const before = this.#lineOf.get(name);
      if (before === undefined) this.#lineOf.set(name, line);
      else reader.error("job_name", name, `line ${before} has this job_name already; give this row another one`);
    }
    if (!reader.isBad && this.#options.check) {
      for (const problem of this.#options.check(row)) reader.add({ ...problem, line, jobName: row.jobName });
    }
    for (const problem of reader.problems) this.#problems.push(problem);
    if (reader.isBad) {
      this.#badRows.push({ line, jobName: cut(reader.cell("job_name")), mqttTopic: cut(reader.cell("mqtt_topic")) });
      return;
    }
    this.#rows.push(row);
    this.#index.add(row.mqttTopic, row);
    this.#warnOfTwin(row);
  }

  /** Names that differ only in what a Kubernetes name cannot hold are right, but hard to tell apart in `kubectl`. */
  #warnOfTwin(row: Row): void {
    const label = row.jobName.toLowerCase().replace(/[^a-z0-9]+/g, "-").slice(0, 50);
    const twin = this.#labels.get(label);
    if (!twin) {
      this.#labels.set(label, row);
      return;
    }
    this.#problems.push({
      severity: "warning",
      line: row.line,
      column: "job_name",
      value: row.jobName,
      jobName: row.jobName,
      message:
        `runs of this row and of "${twin.jobName}" (line ${twin.line}) have names that begin alike in Kubernetes; ` +
        "let the names differ in letters or digits within the first 50",
    });
  }

  /** What can be said of the file once its last line is read. */
  end(text: string): void {
    if (!this.#columns) {
      throw new Refusal(1, "the file has no header; the first line must be job_name,mqtt_topic,image,…");
    }
    // Spreadsheets end the last line. One that stops short of its last cell is a file still being written.
    const isCut = !text.endsWith("\n") && this.#last !== undefined;
    if (isCut && this.#last && this.#last.cells < this.#header.length) {
      const { line, cells } = this.#last;
      throw new Refusal(
        line,
        `the last line has ${cells} cells of ${this.#header.length} and no end of line; the file looks half-written`,
      );
    }
    if (this.#last?.line !== this.#headerLine) return;
    if (isCut) throw new Refusal(this.#headerLine, "the file ends within its header; it looks half-written");
    this.#problems.push({
      severity: "warning",
      line: this.#headerLine,
      message: "the table has no rows; nothing will run",
    });
  }

  *finish(): Generator<void, Table> {
    const source = { topicPrefix: this.#options.topicPrefix, rows: this.#rows, badRows: this.#badRows };
    const chains = yield* findChains(source);
    this.#tellChains(chains);
    yield;
    this.#problems.sort((a, b) => a.line - b.line);
    return { ...source, problems: this.#problems, index: this.#index, chains, delimiter: this.delimiter };
  }

  refuse(refusal: Problem): Table {
    return {
      topicPrefix: this.#options.topicPrefix,
      rows: [],
      badRows: [],
      problems: [...this.#problems.filter(({ line }) => line <= refusal.line), refusal],
      refusal,
      index: new TopicIndex(),
      chains: { selfTriggers: [], cycles: [], orphans: [], never: [] },
      delimiter: this.delimiter,
    };
  }

  #tellChains(chains: ChainFindings): void {
    const warn = (row: Row, message: string) =>
      this.#problems.push({
        severity: "warning",
        line: row.line,
        column: "mqtt_topic",
        value: cut(row.mqttTopic),
        jobName: row.jobName,
        message,
      });
    for (const row of chains.selfTriggers) {
      warn(row, "the row waits for its own end, so it starts itself for ever once started; name another job");
    }
    for (const cycle of chains.cycles) {
      const [first] = cycle;
      const names = cycle.slice(0, 8).map((row) => `"${row.jobName}"`).join(", ");
      const more = cycle.length > 8 ? ` and ${cycle.length - 8} more` : "";
      if (first) {
        warn(first, `the rows ${names}${more} start each other in a circle for ever; break the chain in one of them`);
      }
    }
    for (const row of chains.never) {
      warn(
        row,
        `the row never runs: of the service's own topics only job_complete/{job_name} and job_failed/{job_name} start rows`,
      );
    }
    for (const row of this.#rows) {
      if (isNearMiss(this.#options.topicPrefix, row.mqttTopic)) {
        warn(
          row,
          `the row does not see the end of jobs: its topic must begin with "${this.#options.topicPrefix}/" for that`,
        );
      }
    }
    this.#tellOrphans(chains.orphans, warn);
  }

  #tellOrphans(orphans: readonly Row[], warn: (row: Row, message: string) => void): void {
    const broken = new Map(this.#badRows.map((bad) => [bad.jobName, bad.line]));
    // Names to compare with in all: a spelling hint is not worth more than a few milliseconds.
    let budget = 20_000;
    for (const row of orphans) {
      const name = endName(this.#options.topicPrefix, row.mqttTopic);
      if (name === undefined) {
        warn(row, "the row waits for the end of a job, but no row's name fits this topic");
        continue;
      }
      const line = broken.get(name);
      if (line !== undefined) {
        warn(row, `the row waits for the job "${cut(name)}", whose row (line ${line}) has errors and does not run`);
        continue;
      }
      const others = budget > 0 ? this.#rows.slice(0, budget).map((other) => other.jobName) : [];
      budget -= others.length;
      const near = nearest(name, others.filter((other) => other !== row.jobName));
      const hint = near === undefined ? "" : `; did you mean "${near}"?`;
      warn(row, `the row waits for the job "${cut(name)}", which no row has${hint}`);
    }
  }
}

/** A filter that names the topics of ends behind a wildcard; `#` alone or at the end means all kinds of things. */
function isNearMiss(topicPrefix: string, filter: string): boolean {
  if (!filter.includes("job_") || isUnderPrefix(topicPrefix, filter)) return false;
  if (!/(^|\/)job_(complete|failed)(\/|$)/.test(filter)) return false;
  return overlap(filter, `${topicPrefix}/job_complete/+`) || overlap(filter, `${topicPrefix}/job_failed/+`);
}

/** A cell as it is shown to people. */
function cut(text: string): string {
  return text.length > 120 ? `${text.slice(0, 119).toWellFormed()}…` : text;
}

/** A table of many rows has few different quantities. */
const values = new Map<string, number>();

function cachedValue(text: string): number | undefined {
  const known = values.get(text);
  if (known !== undefined) return known;
  const value = quantityValue(text);
  if (value === undefined) return undefined;
  if (values.size >= 1000) values.clear();
  values.set(text, value);
  return value;
}

type Draft = { -readonly [K in keyof Row]: Row[K] };

/** A request and its limit; the columns' names are written out, for to put them together at each row took a tenth of it. */
interface Pair {
  readonly resource: Resource;
  readonly columns: readonly [request: string, limit: string];
  readonly keys: readonly [
    request: "cpuRequest" | "memoryRequest" | "diskRequest",
    limit: "cpuLimit" | "memoryLimit" | "diskLimit",
  ];
}

const PAIRS: readonly Pair[] = [
  { resource: "cpu", columns: ["cpu_request", "cpu_limit"], keys: ["cpuRequest", "cpuLimit"] },
  { resource: "memory", columns: ["memory_request", "memory_limit"], keys: ["memoryRequest", "memoryLimit"] },
  { resource: "disk", columns: ["disk_request", "disk_limit"], keys: ["diskRequest", "diskLimit"] },
];

/** Reads the cells of one row; collects what is wrong. */
class RowReader {
  readonly problems: Problem[] = [];
  isBad = false;
  /** Set once the cell is known to be right. */
  jobName: string | undefined;
  readonly #line: number;
  readonly #cells: readonly string[];
  readonly #columns: ReadonlyMap<string, number>;

  constructor(line: number, cells: readonly string[], columns: ReadonlyMap<string, number>) {
    this.#line = line;
    this.#cells = cells.map((cell) => cell.trim());
    this.#columns = columns;
  }

  cell(column: string): string {
    const at = this.#columns.get(column);
    return at === undefined ? "" : this.#cells[at] ?? "";
  }

  error(column: string | undefined, value: string | undefined, message: string): void {
    this.isBad = true;
    this.#report("error", column, value, message);
  }

  /** Takes over what somebody else found in the row. */
  add(problem: Problem): void {
    if (problem.severity === "error") this.isBad = true;
    this.problems.push(problem);
  }

  #warn(column: string, value: string, message: string): void {
    this.#report("warning", column, value, message);
  }

  #report(severity: Problem["severity"], column: string | undefined, value: string | undefined, message: string): void {
    this.problems.push({
      severity,
      line: this.#line,
      ...(column === undefined ? {} : { column }),
      ...(value === undefined ? {} : { value: cut(value) }),
      message,
      ...(this.jobName === undefined ? {} : { jobName: this.jobName }),
    });
  }

  /** The row; of use only if not `isBad`. */
  read(): Row {
    this.#checkText();
    const row: Draft = {
      line: this.#line,
      jobName: this.#readName(),
      mqttTopic: this.#readTopic(),
      image: this.#readImage(),
      gpu: this.#readCount("gpu", 0, MAX_INT32) ?? 0,
      parallelism: this.#readCount("parallelism", 1, MAX_PARALLELISM) ?? 1,
      backoffLimit: this.#readCount("backoff_limit", 0, MAX_INT32) ?? 0,
    };
    const command = this.#readCommand();
    if (command) row.command = command;
    for (const pair of PAIRS) this.#readPair(row, pair);
    const deadline = this.#readCount("active_deadline_seconds", 0, MAX_INT32);
    if (deadline) row.activeDeadlineSeconds = deadline;
    const mount = this.#readMount();
    if (mount !== undefined) row.diskMount = mount;
    const product = this.#readProduct(row.gpu);
    if (product !== undefined) row.gpuProduct = product;
    return row;
  }

  #checkText(): void {
    const all = this.#cells.join("");
    // deno-lint-ignore no-control-regex
    if (all.length <= MAX_CELL && !/[\0-\x1f\x7f]/.test(all)) return;
    for (const [column, at] of this.#columns) {
      const cell = this.#cells[at] ?? "";
      if (cell.length > MAX_CELL) {
        this.error(column, cell, `the cell has ${cell.length} characters, ${MAX_CELL} are allowed`);
      }
      // A command may span lines: sh -c '…'. The job's name has its own message.
      // deno-lint-ignore no-control-regex
      const odd = (column === "command" ? /\0/ : /[\0-\x1f\x7f]/).exec(cell);
      if (odd && column !== "job_name") {
        const what = odd[0] === "\n" ? "a line break" : `the control character ${odd[0].charCodeAt(0)}`;
        this.error(column, cell, `the cell holds ${what}; take it out`);
      }
    }
  }

  #readName(): string {
    const name = this.cell("job_name");
    // deno-lint-ignore no-control-regex
    const odd = /[/+#\0-\x1f\x7f]/.exec(name);
    if (name === "") this.error("job_name", "", "the cell is empty; give the row a name of its own");
    else if (odd) {
      const what = /[/+#]/.test(odd[0]) ? `"${odd[0]}"` : odd[0] === "\n" ? "a line break" : "a control character";
      this.error(
        "job_name",
        name,
        `a name cannot hold ${what}, for it becomes one level of an MQTT topic; write "-" instead`,
      );
    } else if (name.length > MAX_NAME) {
      this.error("job_name", name, `the name has ${name.length} characters, ${MAX_NAME} are allowed`);
    } else this.jobName = name;
    return name;
  }

  #readTopic(): string {
    const topic = this.cell("mqtt_topic");
    if (topic === "") {
      this.error("mqtt_topic", "", "the cell is empty; give the topic whose messages start the row");
      return topic;
    }
    const fault = filterFault(topic);
    if (fault !== undefined) this.error("mqtt_topic", topic, `not an MQTT topic: ${fault}`);
    else if (topic === "#" || topic === "+/#") {
      this.#warn(
        "mqtt_topic",
        topic,
        "every message of the broker starts this row; name the topic if that is not meant",
      );
    }
    return topic;
  }

  #readImage(): string {
    const image = this.cell("image");
    if (image === "") this.error("image", "", "the cell is empty; give a container image such as python:3.12");
    else {
      const fault = image.length > 1000 ? `it has ${image.length} characters` : imageFault(image);
      if (fault !== undefined) this.error("image", image, `not an image reference: ${fault}`);
    }
    return image;
  }

  #readCommand(): readonly string[] | undefined {
    const text = this.cell("command");
    if (text === "") return undefined;
    const command = parseCommand(text);
    if ("fault" in command) {
      this.error("command", text, `not a command: ${command.fault}`);
      return undefined;
    }
    const [operator] = command.operators;
    if (operator !== undefined) {
      this.#warn(
        "command",
        text,
        `"${cut(operator)}" is passed on as it is, for no shell runs the command; for a shell write sh -c '…'`,
      );
    }
    return command.words;
  }

  #readCount(column: string, least: number, most: number): number | undefined {
    const text = this.cell(column);
    if (text === "") return undefined;
    // Programs that keep empty cells as not-a-number write whole numbers as 1.0.
    const count = /^\d+(\.0*)?$/.test(text) ? Number(text) : NaN;
    if (count >= least && count <= most) return count;
    const range = most === MAX_INT32 ? `of at least ${least}` : `from ${least} to ${most}`;
    this.error(
      column,
      text,
      `not a whole number ${range}; leave the cell empty for ${column === "parallelism" ? "1" : "none"}`,
    );
    return undefined;
  }

  #readPair(row: Draft, { resource, columns, keys }: Pair): void {
    const request = this.#readQuantity(columns[0], resource);
    const limit = this.#readQuantity(columns[1], resource);
    if (request !== undefined) row[keys[0]] = request;
    if (limit !== undefined) row[keys[1]] = limit;
    if (request === undefined || limit === undefined || request === limit) return;
    if (!isMore(cachedValue(request) ?? 0, cachedValue(limit) ?? 0)) return;
    this.error(
      columns[0],
      request,
      `more than ${columns[1]} (${limit}), which Kubernetes refuses; raise the limit or lower the request`,
    );
  }

  #readQuantity(column: string, resource: Resource): string | undefined {
    const text = this.cell(column);
    if (text === "") return undefined;
    const value = cachedValue(text);
    if (value === 0) return undefined;
    if (value === undefined || value < 0) {
      this.error(column, text, `not a Kubernetes quantity: ${quantityAdvice(text, resource)}`);
      return undefined;
    }
    if (!(value < 2 ** 63)) {
      this.error(column, text, "more than Kubernetes can count; write less");
      return undefined;
    }
    this.#warnOfOddSize(column, text, value, resource);
    return text;
  }

  #warnOfOddSize(column: string, text: string, value: number, resource: Resource): void {
    if (resource === "cpu") {
      if (value >= 1000) this.#warn(column, text, `${value} cores; thousandths of a core are written "500m"`);
    } else if (value < 2 ** 20) {
      const number = /^[\d.]+/.exec(text)?.[0] ?? "4";
      const unit = text.endsWith("m") ? "Mi" : "Gi";
      this.#warn(
        column,
        text,
        `only ${value} bytes, for a size without Ki, Mi or Gi is bytes; did you mean "${number}${unit}"?`,
      );
    }
  }

  #readMount(): string | undefined {
    const path = this.cell("disk_mount");
    if (path === "") return undefined;
    const clean = /\/(\/|$)/.test(path) ? path.replace(/\/+/g, "/").replace(/(.)\/$/, "$1") : path;
    if (!path.startsWith("/")) this.error("disk_mount", path, `not an absolute path; write "/${path}"`);
    else if (path.includes(":")) this.error("disk_mount", path, `Kubernetes allows no ":" in the path; take it out`);
    else if (path.split("/").includes("..")) this.error("disk_mount", path, `the path has ".."; write it without`);
    else if (["/", "/proc", "/sys", "/dev"].includes(clean)) {
      this.error("disk_mount", path, `nothing can be mounted over ${clean}; use a folder such as /tmp or /data`);
    }
    return clean;
  }

  #readProduct(gpu: number): string | undefined {
    const product = this.cell("gpu_product");
    if (product === "") return undefined;
    if (product.length > 63 || !/^[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?$/.test(product)) {
      const plain = product.replace(/[^A-Za-z0-9._-]+/g, "-").replace(/^[^A-Za-z0-9]+|[^A-Za-z0-9]+$/g, "").slice(
        0,
        63,
      );
      const hint = plain === "" ? "write it as the node label has it" : `write "${plain}"`;
      this.error("gpu_product", product, `not a value of the node label nvidia.com/gpu.product; ${hint}`);
    } else if (gpu === 0) {
      this.#warn(
        "gpu_product",
        product,
        "the row asks for this GPU model but for no GPU; set gpu to 1 or empty this cell",
      );
    }
    return product;
  }
}
