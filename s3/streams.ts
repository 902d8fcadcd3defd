/**
 * Bytes on their way to and from S3: a source that is given up when a signal aborts, and answers as streams and with a
 * bound. Knows no request.
 */
import { pipeline, type Readable, Transform } from "node:stream";
import { onAbort } from "../util/abort.ts";
import { TooManyBytes } from "../util/streams.ts";

/** The caller's own stream failed: not the server's fault. */
export class SourceFailed extends Error {}

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

/**
 * The body of an answer as a stream of bytes, whose reader may bring a buffer of its own (`viewsOf`, `readAtMost`). Each
 * chunk of Node's is freed when it is copied there: V8 is in no hurry to, and of a large log there were 100 MB of them.
 */
export function byteStream(body: Readable): ReadableStream<Uint8Array> {
  // It may fail while nobody reads; who reads then is told.
  body.on("error", () => {});
  const chunks: AsyncIterator<Uint8Array> = body[Symbol.asyncIterator]();
  let chunk: Uint8Array = new Uint8Array();
  let taken = 0;
  return new ReadableStream({
    type: "bytes",
    async pull(controller) {
      while (taken === chunk.length) {
        const { done, value } = await chunks.next();
        if (done) {
          controller.close();
          controller.byobRequest?.respond(0);
          return;
        }
        chunk = value;
        taken = 0;
      }
      // Node shares the buffer of small ones.
      const isOwn = chunk.length === chunk.buffer.byteLength;
      const { byobRequest } = controller;
      const room = byobRequest?.view;
      const some = chunk.subarray(taken, room ? taken + room.byteLength : chunk.length);
      taken += some.length;
      if (byobRequest && room) {
        new Uint8Array(room.buffer, room.byteOffset).set(some);
        byobRequest.respond(some.length);
        if (taken < chunk.length) return;
        if (isOwn) (chunk.buffer as ArrayBuffer).transfer(0);
      } else {
        // That takes the whole buffer away.
        controller.enqueue((isOwn ? some : new Uint8Array(some)) as Uint8Array<ArrayBuffer>);
      }
      chunk = new Uint8Array();
      taken = 0;
    },
    cancel() {
      body.destroy();
    },
  });
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
