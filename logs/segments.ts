/**
 * The output of one container in pieces: what is in memory, what waits for the store in memory or on disk, and what the
 * store has. Pieces go to the store one after the other, beside the reading. Owns their keys,
 * `{folder}/{number}_{time of the last line}_{bytes of it}_{flags}_{bytes of output so far}_{before it}`, by which a
 * later process goes on.
 */
import { type ObjectStore, UnavailableError } from "../ports.ts";
import { LineCounter, type LineCounts } from "./line_map.ts";
import type { Position } from "./lines.ts";
import { Blocks, type Parked, type Spool } from "./spool.ts";
import { Scope } from "../util/abort.ts";
import { backoffMs, delay } from "../util/retry.ts";
import { joinBytes, viewsOf } from "../util/streams.ts";

/** A piece is cut when there is so much. */
const PIECE_BYTES = 8 * 1024 * 1024;
/** Or so much, when so long has gone by since the last one and the store has that. */
const EARLY_BYTES = 1024 * 1024;
const EARLY_MS = 4_000;
/** No piece smaller than this is cut for the common bound's sake. */
const LEAST_BYTES = 64 * 1024;
/** Where many wait they are put together up to this size: a store that is late is late for each. */
const MOST_BYTES = 2 * PIECE_BYTES;
const MANY = 4;
/** Flag of a key: lines are missing up to there. */
const NOT_WHOLE = "m";
/** What stands in the place of a piece that the store had. */
export const GONE = "A part of this log is missing: the store had it, and somebody or a rule of the bucket deleted it";
/** Of logs and their pieces. In capitals, since s3proxy writes it so before it checks a signature. */
export const LOG_TYPE = "text/plain; charset=UTF-8";

/** What is known of the output up to some place. */
export interface Mark {
  readonly at: Position;
  readonly isWhole: boolean;
  /** Bytes of output, without what is said between the lines. */
  readonly total: number;
}

/** A piece that the store has. */
export interface StoredPiece {
  readonly key: string;
  /** Of the object, with what is said between the lines. */
  readonly size: number;
}

interface Piece extends Mark {
  readonly bytes: number;
  blocks: readonly Uint8Array[] | undefined;
  parked: Parked | undefined;
}

/** Where a part of the output is. */
interface Source {
  readonly bytes: number;
  read(from: number, length: number, signal: AbortSignal): Promise<Uint8Array>;
}

export class Segments {
  readonly #store: ObjectStore;
  readonly #spool: Spool;
  readonly #stop: Scope;
  readonly #buffer = new Blocks();
  #pieces: Piece[] = [];
  /** Pieces that the store has for certain, in order. */
  #stored: StoredPiece[] = [];
  #lines: LineCounter | undefined = new LineCounter();
  #uploading: Promise<void> | undefined;
  #isSettled = false;
  #cutMs = Date.now();

  constructor(
    readonly folder: string,
    { store, spool, signal }: { store: ObjectStore; spool: Spool; signal: AbortSignal },
  ) {
    this.#store = store;
    this.#spool = spool;
    this.#stop = new Scope(signal);
  }

  /** The store has pieces, or may have one. */
  get hasStored(): boolean {
    return this.#stored.length > 0 || this.#uploading !== undefined;
  }

  /** Some is not in memory. */
  get isLarge(): boolean {
    return this.hasStored || this.#pieces.length > 0;
  }

  /** Takes up where a former process left off; undefined: it left nothing. */
  async resume(signal: AbortSignal): Promise<Mark | undefined> {
    const left = chainOf(await Array.fromAsync(this.#store.list(`${this.folder}/`, { signal })));
    this.#stored = left;
    if (left.length > 0) this.#lines = undefined;
    return left.length === 0 ? undefined : markOf(left.at(-1)!.key, left.reduce((sum, { size }) => sum + size, 0));
  }

  /**
   * Bytes of output that the store has lost since, which has `listed` of the container's folder; undefined: none. They
   * were ours to keep, so somebody or a rule of the bucket has deleted them.
   */
  lostOf(listed: readonly StoredPiece[]): number | undefined {
    const keys = new Set(listed.map(({ key }) => key));
    const lost = this.#stored.filter(({ key }) => !keys.has(key));
    return lost.length === 0 ? undefined : lost.reduce((sum, { key }) => sum + bytesOf(key), 0);
  }

  append(text: Uint8Array): void {
    this.#lines?.push(text);
    this.#buffer.append(text);
    this.#spool.count(text.length);
  }

  /** Bytes so far, with what is said between the lines. */
  get bytes(): number {
    return this.#sources().reduce((sum, { bytes }) => sum + bytes, 0);
  }

  /** Where the lines of it are; undefined: a former process had the first ones. */
  get lines(): LineCounts | undefined {
    return this.#lines;
  }

  /** Up to `length` bytes from `from` on, wherever they are. UnavailableError: a piece cannot be had. */
  async readPart(from: number, length: number, signal: AbortSignal): Promise<Uint8Array> {
    for (let attempt = 1;; attempt++) {
      try {
        const found: Uint8Array[] = [];
        let begin = 0;
        for (const { bytes, read } of this.#sources()) {
          const [start, end] = [Math.max(from, begin), Math.min(from + length, begin + bytes)];
          if (start < end) found.push(await read(start - begin, end - start, signal));
          begin += bytes;
        }
        return joinBytes(found);
      } catch (error) {
        // A piece has gone from the disk to the store meanwhile.
        if (attempt === 3 || signal.aborted || error instanceof UnavailableError) throw error;
      }
    }
  }

  #sources(): Source[] {
    const stored = this.#stored.map(({ key, size: bytes }): Source => ({
      bytes,
      read: async (from, length, signal) => {
        const part = await this.#store.readPart(key, { from, length, signal });
        if (part?.bytes.length !== length) throw new UnavailableError(GONE);
        return part.bytes;
      },
    }));
    const waiting = this.#pieces.map(({ bytes, blocks, parked }): Source => ({
      bytes,
      read: async (from, length) => partOf(blocks ?? [await parked!.read()], from, length),
    }));
    const held = this.#buffer.all();
    const buffer: Source = {
      bytes: this.#buffer.bytes,
      read: (from, length) => Promise.resolve(partOf(held, from, length)),
    };
    return [...stored, ...waiting, buffer];
  }

  /** Call where a piece may end: cuts one where there is enough, which goes to the store by itself. */
  mayCut(mark: Mark): void {
    const { at } = mark;
    const { bytes } = this.#buffer;
    if (bytes < (this.#spool.isPressed ? LEAST_BYTES : PIECE_BYTES) && !this.#isDue(bytes)) return;
    // In the middle of a line only where the line is endless.
    if (!at.complete && at.bytes < LEAST_BYTES) return;
    const piece = this.#cut(mark);
    if (this.#spool.isPressed && this.#pieces.length > 1) void this.#park(piece);
  }

  /** A store that keeps up gets smaller pieces: after a crash the node must still have what it did not get. */
  #isDue(bytes: number): boolean {
    return bytes >= EARLY_BYTES && this.#pieces.length === 0 && Date.now() - this.#cutMs >= EARLY_MS;
  }

  /** Sends all that is here; resolves when the store has it. Nothing is to be read meanwhile. */
  async flush(mark: Mark): Promise<void> {
    if (this.#buffer.bytes > 0) this.#cut(mark);
    await this.#uploading;
  }

  #cut(mark: Mark): Piece {
    const { bytes } = this.#buffer;
    this.#cutMs = Date.now();
    const blocks = this.#buffer.takeAll();
    const piece: Piece = { ...mark, at: { ...mark.at }, bytes, blocks, parked: undefined };
    this.#pieces.push(piece);
    this.#upload();
    return piece;
  }

  /** Reading must wait: the common bound is reached, and a part of it is this one's to free. */
  get mustWait(): boolean {
    return this.#spool.isFull && this.#pieces.some(({ blocks }) => blocks !== undefined);
  }

  /** No more will come: pieces that the store has not taken yet stay here. */
  async settle(): Promise<void> {
    this.#isSettled = true;
    this.#stop.end();
    await this.#uploading;
  }

  /** The whole output so far, in order; `listed`: what the store has of the container's folder. May be read again. */
  async *whole(listed: readonly StoredPiece[], signal: AbortSignal): AsyncGenerator<Uint8Array> {
    // A PUT of a process that is dead, or was given up, may have arrived since: not by what is listed alone.
    const found = new Map(listed.map((piece) => [piece.key, piece]));
    for (const { key } of this.#stored) {
      const piece = found.get(key);
      if (piece) yield* readPieces(this.#store, [piece], signal);
      else yield new TextEncoder().encode(`[${GONE}]\n`);
    }
    for (const { blocks, parked } of this.#pieces) {
      if (blocks) yield* blocks;
      else if (parked) yield await parked.read();
    }
    yield* this.#buffer.all();
  }

  /** Frees what is held. */
  drop(): void {
    this.#isSettled = true;
    this.#stop.end();
    this.#spool.count(-this.#buffer.bytes);
    this.#buffer.takeAll();
    this.#pieces.forEach((piece) => this.#free(piece));
    this.#pieces = [];
  }

  #free(piece: Piece): void {
    if (piece.blocks) this.#spool.count(-piece.bytes);
    piece.blocks = undefined;
    piece.parked?.free();
    piece.parked = undefined;
  }

  async #park(piece: Piece): Promise<void> {
    if (!piece.blocks) return;
    const parked = await this.#spool.park(piece.blocks, piece.bytes);
    // It may have been stored meanwhile.
    if (!parked || !piece.blocks || !this.#pieces.includes(piece)) return parked?.free();
    piece.blocks = undefined;
    piece.parked = parked;
    this.#spool.count(-piece.bytes);
  }

  #upload(): void {
    if (this.#uploading || this.#isSettled) return;
    this.#uploading = this.#uploadAll(this.#stop.signal)
      // The signal has aborted.
      .catch(() => {})
      .finally(() => this.#uploading = undefined);
  }

  async #uploadAll(signal: AbortSignal): Promise<void> {
    while (this.#pieces.length > 0) {
      await this.#spool.uploads.take(() => this.#uploadNext(signal), signal);
    }
  }

  async #uploadNext(signal: AbortSignal): Promise<void> {
    const next: Piece[] = [];
    for (let bytes = 0; next.length < this.#pieces.length; next.push(this.#pieces[next.length]!)) {
      bytes += this.#pieces[next.length]!.bytes;
      if (next.length > 0 && bytes > (this.#pieces.length > MANY ? MOST_BYTES : PIECE_BYTES)) break;
    }
    const { at, isWhole, total } = next.at(-1)!;
    const before = this.#stored.at(-1)?.key;
    const key = [
      `${this.folder}/${String(numberOf(before) + 1).padStart(8, "0")}`,
      encodeURIComponent(at.time),
      at.complete ? 0 : at.bytes,
      isWhole ? "" : NOT_WHOLE,
      total,
      // Of the piece before it.
      before === undefined ? 0 : totalOf(before),
    ].join("_");
    const parts = await Promise.all(next.map(({ blocks, parked }) => blocks ?? parked!.read().then((one) => [one])));
    const body = joinBytes(parts.flat());
    for (let attempt = 0;; attempt++) {
      try {
        await this.#store.put(key, body, { contentType: LOG_TYPE, signal });
        break;
      } catch {
        signal.throwIfAborted();
        await delay(backoffMs(attempt), signal);
      }
    }
    this.#stored.push({ key, size: body.length });
    // Not before: the output is whole at each moment.
    this.#pieces = this.#pieces.slice(next.length);
    next.forEach((piece) => this.#free(piece));
  }
}

/** Bytes out of blocks that are not put together for that: they may be megabytes, and a page that follows asks often. */
function partOf(blocks: readonly Uint8Array[], from: number, length: number): Uint8Array {
  const found: Uint8Array[] = [];
  let begin = 0;
  for (const block of blocks) {
    const [start, end] = [Math.max(from, begin), Math.min(from + length, begin + block.length)];
    if (start < end) found.push(block.subarray(start - begin, end - begin));
    begin += block.length;
  }
  return joinBytes(found);
}

/** What a piece's key says; `size`: of all pieces up to it, for keys of former versions. */
export function markOf(key: string, size: number): Mark {
  const [, time = "", bytes = "0", flags = "", total] = partsOf(key);
  return {
    at: { time: decodeURIComponent(time), bytes: Number(bytes), complete: Number(bytes) === 0 },
    isWhole: !flags.includes(NOT_WHOLE),
    total: total === undefined ? size : Number(total),
  };
}

function partsOf(key: string): string[] {
  return key.slice(key.lastIndexOf("/") + 1).split("_");
}

function numberOf(key: string | undefined): number {
  return key === undefined ? 0 : Number.parseInt(partsOf(key)[0]!);
}

function totalOf(key: string): number {
  return Number(partsOf(key)[4] ?? 0);
}

/** Of output in the piece; 0 where its key, of a former version, does not say. */
function bytesOf(key: string): number {
  const before = partsOf(key)[5];
  return before === undefined ? 0 : totalOf(key) - Number(before);
}

/**
 * The pieces of a folder that follow one another, in order. A PUT of a process that has died may arrive when the next one
 * has put another piece of that number: both begin at the same place, and only one of them is gone on with.
 */
export function chainOf<P extends StoredPiece>(listed: readonly P[]): P[] {
  const byNumber = Map.groupBy(listed, ({ key }) => numberOf(key));
  const chain: P[] = [];
  let before: number | undefined;
  for (const number of [...byNumber.keys()].sort((a, b) => b - a)) {
    const some = byNumber.get(number)!.toSorted((a, b) => totalOf(b.key) - totalOf(a.key));
    const piece: P = some.find(({ key }) => totalOf(key) === before) ?? some[0]!;
    const from = partsOf(piece.key)[5];
    before = from === undefined ? undefined : Number(from);
    chain.unshift(piece);
  }
  return chain;
}

/**
 * What the pieces hold, one after the other; each chunk is valid until the next one is asked for. UnavailableError where
 * a piece is gone, or ends early.
 */
export async function* readPieces(
  store: ObjectStore,
  pieces: readonly StoredPiece[],
  signal: AbortSignal,
): AsyncGenerator<Uint8Array> {
  for (const { key, size } of pieces) {
    const stream = await store.read(key, { signal });
    let left = size;
    for await (const view of stream ? viewsOf(stream, signal) : []) {
      left -= view.length;
      yield view;
    }
    // A list without sizes says nothing.
    if (!stream || (size > 0 && left !== 0)) {
      throw new UnavailableError(`Cannot read ${key}: it has ${size - left} bytes, and had ${size}`);
    }
  }
}
