/**
 * The table's file as text: bytes of any spreadsheet in, records with their lines out.
 * Must not know what the columns mean; a file of which nothing can be used ends in a Refusal.
 */
import { parse } from "csv-parse/sync";
import { Refusal } from "./problem.ts";

/** The text of the file, its lines ended by LF; yields now and then. */
export function* toText(source: Uint8Array | string): Generator<void, string> {
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
export function findHeader(
  text: string,
  isColumn: (name: string) => boolean,
): { delimiter: string; from: number; line: number } {
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
    else if (/[^\s,;|"]/.test(first)) return { delimiter: bestDelimiter(first, hint, isColumn), from, line };
    if (end === -1) {
      throw new Refusal(line, "the file has no header; the first line must be job_name,mqtt_topic,image,…");
    }
    from = end + 1;
    line++;
  }
}

function bestDelimiter(header: string, hint: string | undefined, isColumn: (name: string) => boolean): string {
  const known = (delimiter: string) =>
    header.split(delimiter).filter((cell) => isColumn(cell.replaceAll('"', ""))).length;
  const choices = hint !== undefined && !DELIMITERS.includes(hint) ? [...DELIMITERS, hint] : DELIMITERS;
  return choices.reduce((best, next) => known(next) > known(best) ? next : best);
}

/** Some records with the lines on which they begin; both lists are equally long. */
export interface Batch {
  readonly lines: readonly number[];
  readonly records: readonly (readonly string[])[];
}

const BATCH_CHARS = 48 * 1024;

/**
 * Cuts the text where a record ends and has the CSV library read the pieces one by one, so that a large table
 * does not hold up everything else. The library's rule for quotes is followed: one opens at a cell's beginning only.
 */
export function* readRecords(
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
