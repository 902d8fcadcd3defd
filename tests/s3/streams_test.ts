/** The body of an answer as a stream of bytes. */
import { deepEqual, equal, ok, rejects } from "node:assert/strict";
import { Buffer } from "node:buffer";
import { Readable } from "node:stream";
import { byteStream } from "../../s3/streams.ts";
import { chunksOf, viewsOf } from "../../util/streams.ts";

/** Each with a buffer of its own, as Node reads them. */
function chunksWith(...lengths: number[]): Buffer[] {
  let n = 0;
  return lengths.map((length) => Buffer.from(Uint8Array.from({ length }, () => n++ % 251).buffer));
}

async function bytesIn(views: AsyncIterable<Uint8Array>): Promise<number[]> {
  const bytes: number[] = [];
  for await (const view of views) for (const byte of view) bytes.push(byte);
  return bytes;
}

Deno.test("all bytes come, whether the reader has a buffer or not, and however long the chunks are", async () => {
  const lengths = [1, 70_000, 65_536, 200_000, 3];
  const expected = Array.from({ length: lengths.reduce((sum, one) => sum + one) }, (_, n) => n % 251);
  for (const read of [viewsOf, chunksOf]) {
    deepEqual(await bytesIn(read(byteStream(Readable.from(chunksWith(...lengths))))), expected);
    deepEqual(await bytesIn(read(byteStream(Readable.from([])))), []);
  }
});

Deno.test("chunks are freed when they have been copied, and those that share a buffer are left as they are", async () => {
  const own = chunksWith(70_000, 10);
  for await (const _ of viewsOf(byteStream(Readable.from(own, { objectMode: true })))) { /* only read */ }
  deepEqual(own.map(({ buffer }) => (buffer as ArrayBuffer).detached), [true, true]);
  const pool = new Uint8Array(100).fill(7);
  const shared = [Buffer.from(pool.buffer, 0, 50), Buffer.from(pool.buffer, 50, 50)];
  for (const read of [viewsOf, chunksOf]) {
    deepEqual(await bytesIn(read(byteStream(Readable.from(shared)))), Array(100).fill(7));
    equal(pool.length, 100);
  }
});

Deno.test("a failure comes when it is read, also one from before, and a stream that is left ends the body", async () => {
  async function* failing() {
    yield await Promise.resolve(Buffer.from("a"));
    throw new Error("the connection broke");
  }
  await rejects(bytesIn(viewsOf(byteStream(Readable.from(failing())))), /the connection broke/);
  const broken = new Readable({ read() {} });
  const stream = byteStream(broken);
  broken.destroy(new Error("broke early"));
  await new Promise((resolve) => broken.once("close", resolve));
  await rejects(bytesIn(viewsOf(stream)), /broke early/);
  const left = Readable.from(chunksWith(10, 10));
  for await (const _ of viewsOf(byteStream(left))) break;
  ok(left.destroyed);
  const unread = Readable.from(chunksWith(10));
  await byteStream(unread).cancel();
  ok(unread.destroyed);
});
