/**
 * Streams of bytes: reading one until a signal aborts, and bytes put together. Knows nothing of what the bytes are.
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

/** The whole of a stream; throws TooManyBytes, and reads no further, as soon as there is more than `maxBytes`. */
export async function readAtMost(
  stream: ReadableStream<Uint8Array>,
  maxBytes: number,
  signal?: AbortSignal,
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
  for await (const chunk of chunksOf(stream, signal)) {
    const piece = chunk.subarray(Math.max(0, skip - passed), Math.max(0, skip + length - passed));
    passed += chunk.length;
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
