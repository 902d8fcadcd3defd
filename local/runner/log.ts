/**
 * The log of one local process: its output in one file, each line with the time at which it came. Owns that file's
 * format, `{RFC 3339 time, 9 digits} {F|P} {text}`, where P means that the line goes on in the next one (as in
 * Kubernetes' own logs, https://github.com/kubernetes/design-proposals-archive/blob/main/node/kubelet-cri-logging.md).
 */
import { errorMessage } from "../../util/errors.ts";
import { chunksOf, joinBytes } from "../../util/streams.ts";

const TIME_LENGTH = 30;
const TEXT_AT = TIME_LENGTH + 3;
/** As Kubernetes takes it for the termination message. */
const MAX_TAIL_BYTES = 2 * 1024;
const MAX_TEXT_BYTES = 16 * 1024;
const NEWLINE = 0x0a;
const PARTIAL = "P".charCodeAt(0);

const encoder = new TextEncoder();
const decoder = new TextDecoder();

export interface RunLogOptions {
  /** Bytes of output from which on it is left out. */
  readonly maxBytes: number;
  /** Told, once, that output is being lost, and why. */
  readonly onTrouble: (reason: string) => void;
}

/** A log that is being written. */
export class RunLog {
  readonly #file: Deno.FsFile;
  readonly #onTrouble: (reason: string) => void;
  readonly #maxBytes: number;
  readonly #waiting = new Set<() => void>();
  /** The last bytes of the output. */
  #tail: Uint8Array = new Uint8Array(0);
  #closed = false;
  #broken = false;
  #bytes = 0;
  #lastMs = 0;
  #sameMs = 0;

  private constructor(file: Deno.FsFile, { maxBytes, onTrouble }: RunLogOptions) {
    this.#file = file;
    this.#maxBytes = maxBytes;
    this.#onTrouble = onTrouble;
  }

  static async create(path: string, options: RunLogOptions): Promise<RunLog> {
    return new RunLog(await Deno.open(path, { append: true, create: true }), options);
  }

  /** The last 2 KiB of the output, as text. */
  get tail(): string {
    return decoder.decode(this.#tail);
  }

  get closed(): boolean {
    return this.#closed;
  }

  /** Takes a stream over until it ends, or until `signal` aborts. */
  async pump(stream: ReadableStream<Uint8Array>, signal: AbortSignal): Promise<void> {
    let rest: Uint8Array = new Uint8Array(0);
    try {
      for await (const chunk of chunksOf(stream, signal)) {
        this.#tail = chunk.length >= MAX_TAIL_BYTES
          ? chunk.slice(-MAX_TAIL_BYTES)
          : joinBytes([this.#tail, chunk]).slice(-MAX_TAIL_BYTES);
        rest = this.#append(rest.length === 0 ? chunk : joinBytes([rest, chunk]));
        // Read on, but kept no more. What is kept is more than the bound, so that a reader with the same one sees it.
        if ((this.#bytes += chunk.length) > this.#maxBytes) {
          this.#lose(`there are more than ${this.#maxBytes} bytes of it`);
        }
      }
    } catch (error) {
      if (!signal.aborted) throw error;
    } finally {
      if (rest.length > 0) this.#write([encoder.encode(`${this.#time()} P `), rest, encoder.encode("\n")]);
    }
  }

  /** No more will come. */
  close(): void {
    this.#closed = true;
    this.#file.close();
    this.#wake();
  }

  /** Resolves at the next line, at `close`, and if `signal` aborts. */
  changed(signal: AbortSignal): Promise<void> {
    if (this.#closed || signal.aborted) return Promise.resolve();
    return new Promise((resolve) => {
      const end = () => {
        this.#waiting.delete(end);
        signal.removeEventListener("abort", end);
        resolve();
      };
      this.#waiting.add(end);
      signal.addEventListener("abort", end);
    });
  }

  /** Writes the whole lines; returns what is left. */
  #append(bytes: Uint8Array): Uint8Array {
    const pieces: Uint8Array[] = [];
    let start = 0;
    for (;;) {
      const newline = bytes.indexOf(NEWLINE, start);
      const end = newline === -1 ? bytes.length : newline;
      if (end - start > MAX_TEXT_BYTES) {
        pieces.push(encoder.encode(`${this.#time()} P `), bytes.subarray(start, start + MAX_TEXT_BYTES), LINE_END);
        start += MAX_TEXT_BYTES;
      } else if (newline === -1) {
        break;
      } else {
        pieces.push(encoder.encode(`${this.#time()} F `), bytes.subarray(start, newline + 1));
        start = newline + 1;
      }
    }
    if (pieces.length > 0) this.#write(pieces);
    return bytes.slice(start);
  }

  /** At once, so that lines of the two streams do not mix. */
  #write(pieces: Uint8Array[]): void {
    if (this.#broken) return;
    try {
      const bytes = joinBytes(pieces);
      for (let written = 0; written < bytes.length;) written += this.#file.writeSync(bytes.subarray(written));
    } catch (error) {
      // The output is still read: a process must not hang because its log's disk is full.
      this.#lose(`a log cannot be written: ${errorMessage(error)}`);
    }
    this.#wake();
  }

  #lose(why: string): void {
    if (!this.#broken) this.#onTrouble(`Output is lost, for ${why}`);
    this.#broken = true;
  }

  /** Each line has a time of its own, later than the last: a reader knows by it where it left off. */
  #time(): string {
    const nowMs = Date.now();
    if (nowMs > this.#lastMs) [this.#lastMs, this.#sameMs] = [nowMs, 0];
    else if (++this.#sameMs === 1_000_000) [this.#lastMs, this.#sameMs] = [this.#lastMs + 1, 0];
    return `${new Date(this.#lastMs).toISOString().slice(0, -1)}${String(this.#sameMs).padStart(6, "0")}Z`;
  }

  #wake(): void {
    for (const end of [...this.#waiting]) end();
  }
}

const LINE_END = new Uint8Array([NEWLINE]);

export interface ReadOptions {
  readonly follow: boolean;
  readonly timestamps: boolean;
  readonly since?: Date;
  readonly signal?: AbortSignal;
  /** The log as it is being written; without it the file is all there is. */
  readonly live: RunLog | undefined;
}

/** The output as its process wrote it; undefined: there is no such file. */
export async function readRunLog(path: string, options: ReadOptions): Promise<ReadableStream<Uint8Array> | undefined> {
  let file: Deno.FsFile;
  try {
    file = await Deno.open(path);
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return undefined;
    throw error;
  }
  const cancelled = new AbortController();
  const signal = options.signal ? AbortSignal.any([options.signal, cancelled.signal]) : cancelled.signal;
  const chunks = decodeFile(file, options, signal);
  return new ReadableStream<Uint8Array>({
    async pull(controller) {
      const next = await chunks.next();
      if (next.done) controller.close();
      else controller.enqueue(next.value);
    },
    async cancel() {
      cancelled.abort();
      await chunks.return().catch(() => {});
    },
  }, { highWaterMark: 0 });
}

async function* decodeFile(
  file: Deno.FsFile,
  { follow, timestamps, since, live }: ReadOptions,
  signal: AbortSignal,
): AsyncGenerator<Uint8Array<ArrayBuffer>, void> {
  using _ = file;
  const decode = lineDecoder(timestamps, since);
  const buffer = new Uint8Array(64 * 1024);
  let rest = new Uint8Array(0);
  for (;;) {
    signal.throwIfAborted();
    // Asked before the read, so that the last lines are not missed.
    const complete = live === undefined || live.closed;
    const count = await file.read(buffer);
    if (count === null) {
      if (complete || !follow) return;
      const changed = live.changed(signal);
      // A line may have come between the read and `changed`.
      if ((await file.stat()).size > await file.seek(0, Deno.SeekMode.Current)) continue;
      await changed;
      continue;
    }
    const bytes = joinBytes([rest, buffer.subarray(0, count)]);
    const end = bytes.lastIndexOf(NEWLINE) + 1;
    rest = bytes.subarray(end);
    const output = decode(bytes.subarray(0, end));
    if (output.length > 0) yield output;
  }
}

/** Turns whole lines of the file into what the process wrote. */
function lineDecoder(timestamps: boolean, since: Date | undefined) {
  let [atStart, skipping] = [true, false];
  return (bytes: Uint8Array<ArrayBuffer>): Uint8Array<ArrayBuffer> => {
    const pieces: Uint8Array<ArrayBuffer>[] = [];
    for (let start = 0, next = 0; start < bytes.length; start = next) {
      next = bytes.indexOf(NEWLINE, start) + 1;
      if (atStart) {
        skipping = since !== undefined && timeMs(bytes.subarray(start, start + TIME_LENGTH)) < since.getTime();
        if (timestamps && !skipping) pieces.push(bytes.subarray(start, start + TIME_LENGTH + 1));
      }
      const partial = bytes[start + TIME_LENGTH + 1] === PARTIAL;
      if (!skipping) pieces.push(bytes.subarray(start + TEXT_AT, partial ? next - 1 : next));
      atStart = !partial;
    }
    return joinBytes(pieces);
  };
}

function timeMs(time: Uint8Array): number {
  return Date.parse(decoder.decode(time));
}
