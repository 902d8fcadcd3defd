/** Reading streams until a signal aborts, and objects without undefined fields. */
import { deepEqual, equal, rejects } from "node:assert/strict";
import { compact } from "../../util/compact.ts";
import { chunksOf, joinBytes } from "../../util/streams.ts";

const bytes = (text: string) => new TextEncoder().encode(text);

/** Gives `chunks` and then nothing; says whether it was cancelled. */
function openStream(...chunks: string[]) {
  const state = { cancelled: false };
  const stream = new ReadableStream<Uint8Array>({
    start: (controller) => chunks.forEach((chunk) => controller.enqueue(bytes(chunk))),
    cancel: () => void (state.cancelled = true),
  });
  return { state, stream };
}

Deno.test("chunksOf() gives all chunks of a stream that ends", async () => {
  const chunks = await Array.fromAsync(chunksOf(ReadableStream.from([bytes("a"), bytes("b")])));
  equal(new TextDecoder().decode(joinBytes(chunks)), "ab");
});

Deno.test("chunksOf() ends a wait with the reason of the signal, and cancels the stream", async () => {
  const { state, stream } = openStream("a");
  const abort = new AbortController();
  const chunks = chunksOf(stream, abort.signal);
  await chunks.next();
  const waiting = chunks.next();
  abort.abort(new Error("enough"));
  await rejects(waiting, /enough/);
  equal(state.cancelled, true);
});

Deno.test("chunksOf() cancels a stream whose reader leaves the loop", async () => {
  const { state, stream } = openStream("a", "b");
  for await (const _ of chunksOf(stream)) break;
  equal(state.cancelled, true);
});

Deno.test("compact() leaves out what is undefined and nothing else", () => {
  const cell: string | undefined = undefined;
  deepEqual(compact({ a: 1, b: cell, c: null, d: "" }), { a: 1, c: null, d: "" });
});
