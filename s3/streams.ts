/**
 * Bytes on their way to and from S3: a source cut into first part and rest, given up when a signal aborts, and answers
 * with a bound. Knows no request.
 */
import { Buffer } from "node:buffer";
import { pipeline, type Readable, Transform } from "node:stream";
import { onAbort } from "../util/abort.ts";
import { TooManyBytes } from "../util/streams.ts";

/** The caller's own stream failed: not the server's fault. */
export class SourceFailed extends Error {}

/** What comes up to `bytes` bytes, and the rest if there is more. */
export async function firstPart(
  body: AsyncIterator<Uint8Array>,
  bytes: number,
): Promise<{ start: Uint8Array; rest: AsyncIterator<Uint8Array> | undefined }> {
  const chunks: Uint8Array[] = [];
  for (let size = 0; size < bytes;) {
    const { done, value } = await body.next();
    if (done) return { start: Buffer.concat(chunks), rest: undefined };
    chunks.push(value);
    size += value.length;
  }
  return { start: Buffer.concat(chunks), rest: body };
}

/** The start, then the rest, which is given up when the loop over it is left. */
export async function* chain(start: Uint8Array, rest: AsyncIterator<Uint8Array>): AsyncGenerator<Uint8Array> {
  try {
    yield start;
    for (let next = await rest.next(); !next.done; next = await rest.next()) yield next.value;
  } finally {
    await rest.return?.();
  }
}

/**
 * The same bytes; that the source has failed is noted as well, for whoever consumes it may tell of something else. One who
 * gives it up makes it throw, too, and that is no failure of the source.
 */
export async function* noting(
  body: AsyncIterable<Uint8Array>,
  failure: { error?: SourceFailed },
): AsyncGenerator<Uint8Array> {
  try {
    yield* body;
  } catch (error) {
    if (error instanceof SourceFailed) failure.error = error;
    throw error;
  }
}

/** Throws `signal.reason` even while the source keeps one waiting, so that an upload is aborted at once. */
export async function* unlessAborted(
  body: AsyncIterable<Uint8Array>,
  signal: AbortSignal | undefined,
): AsyncGenerator<Uint8Array> {
  // A promise for each chunk, no race with one that lives as long as the stream: that would hold on to every chunk.
  let giveUp: (reason: unknown) => void = () => {};
  const leave = onAbort(signal, () => giveUp(signal?.reason));
  const source = body[Symbol.asyncIterator]();
  let open = true;
  try {
    while (true) {
      signal?.throwIfAborted();
      const next = await new Promise<IteratorResult<Uint8Array>>((resolve, reject) => {
        giveUp = reject;
        source.next().then(resolve, (cause) => {
          open = false;
          reject(new SourceFailed("The stream to be stored failed", { cause }));
        });
      });
      if (next.done) open = false;
      if (next.done) return;
      yield next.value;
    }
  } finally {
    leave();
    // Not awaited: a source that waits for its next chunk ends only when that has come.
    if (open) source.return?.().catch(() => {});
  }
}

/** A stream without a byte. */
export function emptyStream(): ReadableStream<Uint8Array> {
  return new ReadableStream({ start: (controller) => controller.close() });
}

/** The stream, which fails with TooManyBytes after `maxBytes`. */
export function cutAt(stream: Readable, maxBytes: number): Readable {
  let size = 0;
  const counter = new Transform({
    transform(chunk: Uint8Array, _encoding, done) {
      size += chunk.length;
      if (size > maxBytes) done(new TooManyBytes(maxBytes));
      else done(null, chunk);
    },
  });
  // A failure of either is the other's, and is told by reading.
  return pipeline(stream, counter, () => {});
}
