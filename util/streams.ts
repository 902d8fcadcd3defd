/**
 * Streams of bytes: one that is read until a signal aborts, or ends with it, and bytes put together. Knows nothing of
 * what the bytes are.
 */
import { onAbort } from "./abort.ts";

/**
 * The chunks of a stream, which is cancelled when the loop over them is left. When `signal` aborts, the wait for the
 * next chunk ends at once with the signal's reason.
 */
export async function* chunksOf<T extends Uint8Array>(
  stream: ReadableStream<T>,
  signal?: AbortSignal,
): AsyncGenerator<T, void, void> {
  const reader = stream.getReader();
  const cancel = () => void reader.cancel(signal?.reason).catch(() => {});
  const leave = onAbort(signal, cancel);
  try {
    for (;;) {
      const { done, value } = await reader.read();
      signal?.throwIfAborted();
      if (done) return;
      yield value;
    }
  } finally {
    leave();
    cancel();
  }
}

/** As much as Deno reads at a time. */
const VIEW_BYTES = 64 * 1024;

/** As `chunksOf`, but each chunk is valid until the next one is asked for: all share one buffer where that can be. */
export async function* viewsOf(
  stream: ReadableStream<Uint8Array>,
  signal?: AbortSignal,
): AsyncGenerator<Uint8Array, void, void> {
  const reader = byteReader(stream);
  if (reader === undefined) return yield* chunksOf(stream, signal);
  const cancel = () => void reader.cancel(signal?.reason).catch(() => {});
  const leave = onAbort(signal, cancel);
  try {
    let bytes = new Uint8Array(VIEW_BYTES);
    for (;;) {
      const { done, value } = await reader.read(bytes);
      signal?.throwIfAborted();
      if (done) return;
      yield value;
      bytes = new Uint8Array(value.buffer);
    }
  } finally {
    leave();
    cancel();
  }
}

/**
 * The stream, which ends at once with the signal's reason when that aborts. Not left to a signal of AbortSignal.any: it
 * was seen not to reach a stream that had been open for a while, as if it had been collected as garbage. Both are streams
 * of bytes, as that of a response is: who reads with a buffer of its own (`viewsOf`) spares one for each piece.
 */
export function abortable(body: ReadableStream<Uint8Array>, signal: AbortSignal): ReadableStream<Uint8Array> {
  const reader = body.getReader({ mode: "byob" });
  // The signal may live as long as the service, and streams are many.
  let release = () => {};
  return new ReadableStream({
    type: "bytes",
    start(controller) {
      release = onAbort(signal, () => {
        controller.error(signal.reason);
        reader.cancel(signal.reason).catch(() => {});
      });
    },
    async pull(controller) {
      const asked = controller.byobRequest?.view;
      const room = asked
        ? new Uint8Array(asked.buffer as ArrayBuffer, asked.byteOffset, asked.byteLength)
        : new Uint8Array(VIEW_BYTES);
      try {
        const { done, value } = await reader.read(room);
        if (signal.aborted) return;
        if (!done) return asked ? controller.byobRequest!.respondWithNewView(value) : controller.enqueue(value);
        release();
        controller.close();
        controller.byobRequest?.respondWithNewView(value!);
      } catch (error) {
        release();
        if (!signal.aborted) controller.error(error);
      }
    },
    cancel(reason) {
      release();
      return reader.cancel(reason);
    },
  });
}

/** The pieces as one array; a single piece is returned as it is, not copied. */
export function joinBytes<T extends Uint8Array>(pieces: readonly T[]): T | Uint8Array<ArrayBuffer> {
  if (pieces.length === 1) return pieces[0]!;
  const whole = new Uint8Array(pieces.reduce((sum, { length }) => sum + length, 0));
  let at = 0;
  for (const piece of pieces) {
    whole.set(piece, at);
    at += piece.length;
  }
  return whole;
}

/** Something has more bytes than are read of it. */
export class TooManyBytes extends Error {
  override name = "TooManyBytes";
  constructor(maxBytes: number) {
    const mebibytes = maxBytes / 2 ** 20;
    super(`it has more than ${Number.isInteger(mebibytes) ? `${mebibytes} MiB` : `${maxBytes} bytes`}`);
  }
}

/** What most answers have room in. */
const FIRST_BYTES = 8 * 1024;

/** The whole of a stream; throws TooManyBytes, and reads no further, as soon as there is more than `maxBytes`. */
export async function readAtMost(
  stream: ReadableStream<Uint8Array>,
  maxBytes: number,
  signal?: AbortSignal,
): Promise<Uint8Array> {
  const reader = byteReader(stream);
  if (reader === undefined) return await readPieces(stream, maxBytes, signal);
  const cancel = () => void reader.cancel(signal?.reason).catch(() => {});
  const leave = onAbort(signal, cancel);
  try {
    let bytes = new Uint8Array(new ArrayBuffer(Math.min(FIRST_BYTES, maxBytes + 1)));
    let size = 0;
    for (;;) {
      if (size === bytes.length) bytes = longer(bytes, Math.min(2 * size, maxBytes + 1));
      // Reading takes the buffer, and gives it back.
      const { done, value } = await reader.read(bytes.subarray(size));
      signal?.throwIfAborted();
      if (value) bytes = new Uint8Array(value.buffer);
      if (done) return bytes.subarray(0, size);
      size += value.length;
      if (size > maxBytes) throw new TooManyBytes(maxBytes);
    }
  } finally {
    leave();
    cancel();
  }
}

/** One that reads into a buffer of the caller's: else Deno makes one of 64 KiB for each piece of a response. */
function byteReader(stream: ReadableStream<Uint8Array>): ReadableStreamBYOBReader | undefined {
  try {
    return stream.getReader({ mode: "byob" });
  } catch (error) {
    // It is no stream of bytes.
    if (error instanceof TypeError && !stream.locked) return undefined;
    throw error;
  }
}

function longer(bytes: Uint8Array<ArrayBuffer>, length: number): Uint8Array<ArrayBuffer> {
  const copy = new Uint8Array(length);
  copy.set(bytes);
  return copy;
}

async function readPieces(
  stream: ReadableStream<Uint8Array>,
  maxBytes: number,
  signal: AbortSignal | undefined,
): Promise<Uint8Array> {
  const pieces: Uint8Array[] = [];
  let size = 0;
  for await (const chunk of chunksOf(stream, signal)) {
    size += chunk.length;
    if (size > maxBytes) throw new TooManyBytes(maxBytes);
    pieces.push(chunk);
  }
  return joinBytes(pieces);
}

/** Up to `length` bytes behind the first `skip` ones; no more is read. */
export async function bytesAt(
  stream: ReadableStream<Uint8Array>,
  { skip, length }: { skip: number; length: number },
  signal?: AbortSignal,
): Promise<Uint8Array> {
  const pieces: Uint8Array[] = [];
  let passed = 0;
  for await (const view of viewsOf(stream, signal)) {
    const piece = view.slice(Math.max(0, skip - passed), Math.max(0, skip + length - passed));
    passed += view.length;
    if (piece.length > 0) pieces.push(piece);
    if (passed >= skip + length) break;
  }
  return joinBytes(pieces);
}

/** The beginning of an answer's text, about `mostBytes` of it; the rest is not read. */
export async function startOf(stream: ReadableStream<Uint8Array> | null, mostBytes: number): Promise<string> {
  const pieces: Uint8Array[] = [];
  let size = 0;
  if (stream) {
    for await (const piece of chunksOf(stream)) {
      pieces.push(piece);
      if ((size += piece.length) >= mostBytes) break;
    }
  }
  return new TextDecoder().decode(joinBytes(pieces).subarray(0, mostBytes));
}
