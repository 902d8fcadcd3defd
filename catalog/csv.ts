/**
 * The table's file as text: bytes of any spreadsheet in, records with their lines out (RFC 4180, and what spreadsheets and
 * people make of it). Must not know what the columns mean; a file of which nothing can be used ends in a Refusal.
 */
import { cut, Refusal } from "./problem.ts";

/** Largest file that is read as a table; one of 100,000 rows has about 10 MiB. */
export const MAX_TABLE_BYTES = 16 * 1024 * 1024;

/** The text of the file, each line ended by LF or CR LF; yields now and then. */
export function* toText(source: Uint8Array | string): Generator<void, string> {
  if (source.length > MAX_TABLE_BYTES) {
    const size = Math.ceil(source.length / 2 ** 20);
    throw new Refusal(1, `the file has ${size} MiB, ${MAX_TABLE_BYTES / 2 ** 20} are allowed; part it, or shorten it`);
  }
  let text = typeof source === "string" ? source.replace(/^\uFEFF/, "") : yield* decode(source);
  // Lines ended by CR alone, as spreadsheets on a Mac write them; the last one may be ended otherwise.
  if (/\r(?!\r?\n)/.test(text)) {
    yield;
    text = withoutDoubleEnds(text).replaceAll("\r", "\n");
  }
  if (text.trim() === "") throw new Refusal(1, "the file is empty; the first line must be job_name,mqtt_topic,image,…");
  if (!text.isWellFormed()) throw new Refusal(1, "the text holds half of a surrogate pair; save the table as UTF-8");
  return text;
}

/** CR LF, and CR CR LF of programs that make two of one, as LF. */
function withoutDoubleEnds(text: string): string {
  return text.replaceAll("\r\r\n", "\n").replaceAll("\r\n", "\n");
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

// ---------------------------------------------------------------- the header

const DELIMITERS = [",", ";", "\t", "|"];

/** How the cells of a file are parted, and where its header begins. */
export interface Layout {
  readonly delimiter: string;
  /** What another spreadsheet left at the end of each line (`;;;`); "": nothing. */
  readonly tail: string;
  readonly from: number;
  readonly line: number;
}

/** Where the header begins, and by what its cells are parted: that which gives most names that are known. */
export function findHeader(text: string, isColumn: (name: string) => boolean): Layout {
  let from = 0;
  let line = 1;
  let hint: string | undefined;
  for (;;) {
    const found = text.indexOf("\n", from);
    const end = found === -1 ? text.length : found;
    // Far more than a header has; a file without line breaks is no table.
    const first = text.slice(from, Math.min(end, from + MAX_HEADER));
    // Excel's own way to name the delimiter; the blank of `sep=` and a tab counts.
    const told = line === 1 ? /^"?sep=([^"\r])/i.exec(first)?.[1] : undefined;
    if (told !== undefined) hint = told;
    else if (/[^\s,;|"]/.test(first)) return { ...choose(text, from, hint, isColumn), from, line };
    if (found === -1) {
      throw new Refusal(line, "the file has no header; the first line must be job_name,mqtt_topic,image,…");
    }
    from = end + 1;
    line++;
  }
}

const MAX_HEADER = 64 * 1024;

function choose(
  text: string,
  from: number,
  hint: string | undefined,
  isColumn: (name: string) => boolean,
): Pick<Layout, "delimiter" | "tail"> {
  const choices = hint === undefined ? DELIMITERS : [hint, ...DELIMITERS.filter((one) => one !== hint)];
  let best = { delimiter: choices[0]!, tail: "", known: -1 };
  for (const delimiter of choices) {
    // The header may span lines: "Job\nname";"MQTT\ntopic".
    const { cells, end } = readQuoted(text.slice(0, from + MAX_HEADER), from, delimiter);
    const tail = tailOf(text.slice(from, end), delimiter);
    const last = cells.length - 1;
    const names = cells.map((cell, at) => at === last && tail !== "" ? withoutTail(cell, tail) : cell);
    const known = names.filter(isColumn).length;
    if (known > best.known) best = { delimiter, tail, known };
  }
  return best;
}

/** Two or more of another delimiter at the end of the header: the file went through a second spreadsheet. */
function tailOf(header: string, delimiter: string): string {
  const line = header.trimEnd();
  const other = line.at(-1) ?? "";
  if (other === delimiter || !/[,;|]/.test(other)) return "";
  let count = 0;
  while (line[line.length - 1 - count] === other) count++;
  return count < 2 ? "" : other.repeat(count);
}

function withoutTail(text: string, tail: string): string {
  const trimmed = text.trimEnd();
  return trimmed.endsWith(tail) ? trimmed.slice(0, -tail.length) : text;
}

// ---------------------------------------------------------------- records

/** A record as it was read. */
export interface RawRecord {
  /** 1-based line on which it begins. */
  readonly line: number;
  readonly cells: readonly string[];
  /** The first cell whose quotes are wrong: its index, and what would be right. */
  readonly fault?: { readonly at: number; readonly message: string };
}

/** Characters of a batch, after which others may work. */
const BATCH_CHARS = 48 * 1024;

/** The records of the text in batches, the header first. A Refusal where a quote is never closed. */
export function* readRecords(text: string, { delimiter, tail, from, line }: Layout): Generator<RawRecord[]> {
  let batch: RawRecord[] = [];
  let begin = from;
  let quote = text.indexOf('"', from);
  for (let at = from; at < text.length;) {
    const found = text.indexOf("\n", at);
    const end = found === -1 ? text.length : found;
    if (quote !== -1 && quote < at) quote = text.indexOf('"', at);
    if (quote === -1 || quote >= end) {
      // Without a quote there is nothing to parse; for 100,000 rows this saves a third of a second.
      const content = text.slice(at, end);
      batch.push({ line, cells: (tail === "" ? content : withoutTail(content, tail)).split(delimiter) });
      at = end + 1;
      line++;
    } else {
      const record = readQuoted(text, at, delimiter, tail);
      if (record.openedAt !== undefined) {
        const lines = text.slice(at, record.openedAt).split("\n").length - 1;
        const message = "a quote that opens on this line is never closed; the file may be half-written";
        throw new Refusal(line + lines, message);
      }
      batch.push({ line, cells: record.cells, ...(record.fault ? { fault: record.fault } : {}) });
      line += record.lines;
      at = record.end + 1;
    }
    if (at - begin < BATCH_CHARS) continue;
    yield batch;
    batch = [];
    begin = at;
  }
  if (batch.length > 0) yield batch;
}

interface QuotedRecord {
  readonly cells: string[];
  /** Of the line break behind it, or of the end of the text. */
  readonly end: number;
  /** Line breaks in it, with the one behind it. */
  readonly lines: number;
  readonly fault?: RawRecord["fault"];
  /** Of a quote that is never closed. */
  readonly openedAt?: number;
}

/** One record that may hold quotes. A quote opens at a cell's beginning only; blanks around it do not count. */
function readQuoted(text: string, from: number, delimiter: string, tail = ""): QuotedRecord {
  const cells: string[] = [];
  let fault: RawRecord["fault"];
  let lines = 1;
  for (let at = from;;) {
    const start = skipBlanks(text, at, delimiter);
    if (text[start] !== '"') {
      const end = cellEnd(text, start, delimiter);
      const isLast = text[end] !== delimiter;
      const cell = text.slice(start, end);
      cells.push(isLast && tail !== "" ? withoutTail(cell, tail) : cell);
      if (isLast) return { cells, end, lines, ...(fault ? { fault } : {}) };
      at = end + 1;
      continue;
    }
    const close = closingQuote(text, start);
    if (close === -1) return { cells, end: text.length, lines, openedAt: start };
    const value = text.slice(start + 1, close);
    for (let next = value.indexOf("\n"); next !== -1; next = value.indexOf("\n", next + 1)) lines++;
    let end = skipBlanks(text, close + 1, delimiter);
    if (text[end] === "\r") end = skipBlanks(text, end + 1, delimiter);
    if (tail !== "" && text.startsWith(tail, end)) end = skipBlanks(text, end + tail.length, delimiter);
    const isRight = end >= text.length || text[end] === delimiter || text[end] === "\n" || text[end] === "\r";
    if (!isRight) {
      fault ??= { at: cells.length, message: quoteFault(text, start, close) };
      end = cellEnd(text, end, delimiter);
    } else if (text[end] === "\r") end = cellEnd(text, end, delimiter);
    // A cell whose quotes are wrong is shown as it stands.
    cells.push(isRight ? withoutDoubleEnds(value).replaceAll('""', '"') : text.slice(start, end).trimEnd());
    if (text[end] !== delimiter) return { cells, end, lines, ...(fault ? { fault } : {}) };
    at = end + 1;
  }
}

function skipBlanks(text: string, at: number, delimiter: string): number {
  while (text[at] === " " || text[at] === "\t" && delimiter !== "\t") at++;
  return at;
}

/** Index of the delimiter or line break behind an unquoted cell, or of the end of the text. */
function cellEnd(text: string, from: number, delimiter: string): number {
  for (let at = from; at < text.length; at++) {
    if (text[at] === delimiter || text[at] === "\n") return at;
  }
  return text.length;
}

/** Index of the quote that closes the one at `open`; -1: none does. */
function closingQuote(text: string, open: number): number {
  for (let at = text.indexOf('"', open + 1); at !== -1; at = text.indexOf('"', at + 2)) {
    if (text[at + 1] !== '"') return at;
  }
  return -1;
}

function quoteFault(text: string, open: number, close: number): string {
  if (text[close - 1] === "\\") return 'a quote within a cell is doubled: write "" instead of \\"';
  const rest = cut(text.slice(close + 1, close + 30).split("\n")[0]?.trim() ?? "");
  return `its quotes close before its end, for ${rest} follows; double each quote within the cell` +
    (close === open + 1 ? ", also the first" : "");
}
