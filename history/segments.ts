/**
 * Segments: objects of many runs' lines, `{RUNS_URL}/.index/{from}-{to}-{runs}-{hash}.jsonl.gz`, so that an index need not
 * read each record. Owns their names and shape, and how small ones become large ones. What is in none of them is found by
 * listing records, so one that is lost, doubled or half written does no harm.
 *
 * A name says of which seconds the ends are, and how many; it holds a hash of the content: who writes the same twice, as
 * after a crash or two that do the same work, writes the same object.
 */
import { createHash } from "node:crypto";
import { setImmediate } from "node:timers/promises";
import type { ObjectStore } from "../ports.ts";
import { shortHash } from "../run_spec.ts";
import { compact } from "../util/compact.ts";
import { chunksOf, readAtMost } from "../util/streams.ts";
import { type HistoryLine, lineText, LONGEST_LINE, readLine } from "./line.ts";
import { secondOf } from "./index.ts";

const FOLDER = ".index/";
const NAME = /^(\d{10})-(\d{10})-(\d{6})-[a-z2-7]{12}\.jsonl\.gz$/;
/** Runs of a segment that is left as it is. */
export const FULL_SEGMENT = 10_000;
/** Runs of a segment that are read at most: two that are not full make one. */
const MOST_LINES = 2 * FULL_SEGMENT;
/** Bytes of a segment, and what they may become: anybody may have written it. */
const MOST_BYTES = 64 * 1024 * 1024;
const MOST_TEXT = 256 * 1024 * 1024;
/** Bytes that are made text at once: V8 keeps long strings apart from short-lived ones, until a collection of everything. */
const MOST_DECODED = 8 * 1024;
/** Lines that are handed on together. */
const BATCH = 100;

export interface Segment {
  /** Below `.index/`. */
  readonly name: string;
  /** Seconds of the first and the last end. */
  readonly from: number;
  readonly to: number;
  readonly runs: number;
  readonly writtenAt: Date;
}

/** A segment is not what it should be: what it holds is read from its records. */
export class SegmentError extends Error {
  override name = "SegmentError";
}

export class Segments {
  readonly #store: ObjectStore;

  /** `store`: that of the records. */
  constructor(store: ObjectStore) {
    this.#store = store;
  }

  /** Those with the newest ends first. */
  async list(signal?: AbortSignal): Promise<Segment[]> {
    const found: Segment[] = [];
    for await (const { key, size, modifiedAt: writtenAt } of this.#store.list(FOLDER, compact({ signal }))) {
      const name = key.slice(FOLDER.length);
      const [, from, to, runs] = NAME.exec(name) ?? [];
      if (runs === undefined || size > MOST_BYTES) continue;
      found.push({ name, from: Number(from), to: Number(to), runs: Number(runs), writtenAt });
    }
    return found.sort((a, b) => b.to - a.to || b.from - a.from);
  }

  /**
   * Its lines, a few at a time; those that cannot be are left out. SegmentError: it is gone, or its rest cannot be read;
   * what was read of it is right.
   */
  async *read({ name }: Segment, signal?: AbortSignal): AsyncGenerator<HistoryLine[]> {
    const stream = await this.#store.read(FOLDER + name, compact({ signal }));
    if (!stream) throw new SegmentError(`${this.#store.url}/${FOLDER}${name} is gone`);
    const packed = piecesOf(chunksOf(stream as ReadableStream<Uint8Array<ArrayBuffer>>, signal));
    const unpacked = ReadableStream.from(packed).pipeThrough(new DecompressionStream("gzip"));
    let [count, bytes] = [0, 0];
    let rest = "";
    let lines: HistoryLine[] = [];
    const decoder = new TextDecoder();
    try {
      for await (const chunk of piecesOf(chunksOf(unpacked, signal))) {
        bytes += chunk.length;
        const written = (rest + decoder.decode(chunk, { stream: true })).split("\n");
        rest = written.pop()!;
        if (bytes > MOST_TEXT || rest.length > LONGEST_LINE) throw new SegmentError("it is too large");
        for (const one of written) {
          if (++count > MOST_LINES) throw new SegmentError("it has too many lines");
          const line = readLine(one);
          if (line) lines.push(line);
          if (lines.length < BATCH) continue;
          yield lines;
          lines = [];
        }
      }
    } catch (cause) {
      signal?.throwIfAborted();
      // What gzip says of broken bytes is a TypeError; what the store says is told by itself.
      if (!(cause instanceof TypeError) && !(cause instanceof SegmentError)) throw cause;
      if (lines.length > 0) yield lines;
      throw new SegmentError(`${this.#store.url}/${FOLDER}${name} cannot be read to its end`, { cause });
    }
    if (lines.length > 0) yield lines;
  }

  /** Writes lines as a segment; gives its name. */
  async write(lines: readonly HistoryLine[], signal?: AbortSignal): Promise<string> {
    const sorted = [...lines].sort((a, b) => endOf(a) - endOf(b) || (a.run.run_name < b.run.run_name ? -1 : 1));
    const [from, to] = [sorted[0], sorted.at(-1)].map((line) =>
      String(secondOf(line ? endOf(line) : 0)).padStart(10, "0")
    );
    const hash = createHash("sha256");
    const packed = ReadableStream.from(pieces(sorted, (piece) => hash.update(piece)))
      .pipeThrough(new CompressionStream("gzip"));
    const body = await readAtMost(packed, MOST_BYTES, signal);
    const name = `${from}-${to}-${String(sorted.length).padStart(6, "0")}-${shortHash([hash.digest()])}.jsonl.gz`;
    await this.#store.put(FOLDER + name, body, { contentType: "application/gzip", ...compact({ signal }) });
    return name;
  }

  async delete(name: string, signal?: AbortSignal): Promise<void> {
    await this.#store.delete(FOLDER + name, compact({ signal }));
  }

  /**
   * Makes large segments of those that are not full, and of all that end before `rewriteBefore` (in seconds) where a run
   * of them is gone. `isGone`: it has no record any more. Deletes none before what it held is in another one. Gives what has
   * come and gone.
   */
  async compact(
    { isGone, rewriteBefore = 0, signal }: {
      readonly isGone: (runName: string) => Promise<boolean>;
      readonly rewriteBefore?: number;
      readonly signal: AbortSignal;
    },
  ): Promise<{ written: string[]; deleted: string[] }> {
    const [written, deleted]: [string[], string[]] = [[], []];
    const all = (await this.list(signal)).reverse();
    const replace = async (group: readonly Segment[], { evenIfWhole }: { evenIfWhole: boolean }) => {
      const merged = await this.#merge(group, isGone, signal);
      if (!merged || !evenIfWhole && merged.gone === 0) return;
      if (merged.lines.length > 0) written.push(await this.write(merged.lines, signal));
      for (const { name } of group) {
        // Of the same content is the same name.
        if (written.includes(name)) continue;
        await this.delete(name, signal);
        deleted.push(name);
      }
    };
    let group: Segment[] = [];
    let runs = 0;
    for (const segment of all.filter(({ runs }) => runs < FULL_SEGMENT)) {
      group.push(segment);
      runs += segment.runs;
      if (runs < FULL_SEGMENT) continue;
      await replace(group, { evenIfWhole: true });
      [group, runs] = [[], 0];
    }
    if (group.length > 1) await replace(group, { evenIfWhole: true });
    for (const segment of all) {
      if (segment.runs >= FULL_SEGMENT && segment.from < rewriteBefore) {
        await replace([segment], { evenIfWhole: false });
      }
    }
    return { written, deleted };
  }

  /** undefined: somebody else has put them together meanwhile. */
  async #merge(group: readonly Segment[], isGone: (runName: string) => Promise<boolean>, signal: AbortSignal) {
    const lines = new Map<string, HistoryLine>();
    let gone = 0;
    for (const segment of group) {
      try {
        for await (const batch of this.read(segment, signal)) {
          for (const line of batch) {
            if (await isGone(line.run.run_name)) gone++;
            else lines.set(line.run.run_name, line);
          }
          await setImmediate();
        }
      } catch (error) {
        if (!(error instanceof SegmentError)) throw error;
        // Gone, or broken: then its records are found by listing.
        if (error.cause === undefined) return undefined;
        gone++;
      }
    }
    return { lines: [...lines.values()], gone };
  }
}

/** The lines' bytes, a few lines at a time: messages must not wait for ten thousand. */
async function* pieces(lines: readonly HistoryLine[], onPiece: (piece: Uint8Array<ArrayBuffer>) => void) {
  const encoder = new TextEncoder();
  for (let at = 0; at < lines.length; at += BATCH) {
    const piece = encoder.encode(lines.slice(at, at + BATCH).map((line) => lineText(line) + "\n").join(""));
    onPiece(piece);
    yield piece;
    await setImmediate();
  }
}

/** Chunks, none of them long. */
async function* piecesOf(chunks: AsyncIterable<Uint8Array<ArrayBuffer>>) {
  for await (const chunk of chunks) {
    for (let at = 0; at < chunk.length; at += MOST_DECODED) yield chunk.subarray(at, at + MOST_DECODED);
  }
}

function endOf({ run }: HistoryLine): number {
  return Date.parse(run.finished_at);
}
