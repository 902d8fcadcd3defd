/** Reading streams until a signal aborts or there is too much, and objects without undefined fields. */
import { deepEqual, equal, rejects } from "node:assert/strict";
import { compact } from "../../util/compact.ts";
import { chunksOf, joinBytes, readAtMost, TooManyBytes, viewsOf } from "../../util/streams.ts";

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

/** A stream of bytes, as responses have: `parts` and then, unless it is `open`, the end. */
function byteStream(parts: readonly string[], { open = false } = {}) {
  const state = { cancelled: false, mostAsked: 0 };
  const left = parts.map(bytes);
  const stream = new ReadableStream({
    type: "bytes",
    pull(controller) {
      const request = controller.byobRequest;
      const room = request!.view!.byteLength;
      state.mostAsked = Math.max(state.mostAsked, room);
      const part = left.shift();
      if (part === undefined) {
        if (open) return new Promise<void>(() => {});
        controller.close();
        request!.respond(0);
        return;
      }
      if (part.length > room) left.unshift(part.subarray(room));
      const fits = part.subarray(0, room);
      new Uint8Array(request!.view!.buffer, request!.view!.byteOffset, fits.length).set(fits);
      request!.respond(fits.length);
    },
    cancel: () => void (state.cancelled = true),
  });
  return { state, stream };
}

for (const [kind, make] of [["bytes", byteStream], ["chunks", (parts: string[]) => openEnded(parts)]] as const) {
  Deno.test(`readAtMost() gives the whole of a stream of ${kind}, also of one that is larger than its first buffer`, async () => {
    for (const parts of [[], ["a", "bc"], ["x".repeat(8_192)], ["y".repeat(50_000), "z".repeat(8_193), "!"]]) {
      const whole = new TextDecoder().decode(await readAtMost(make(parts).stream, 100_000));
      equal(whole, parts.join(""));
    }
  });

  Deno.test(`readAtMost() takes as many bytes as it may of ${kind}, not one more, and cancels the stream then`, async () => {
    equal((await readAtMost(make(["x".repeat(9_000)]).stream, 9_000)).length, 9_000);
    const { state, stream } = make(["x".repeat(9_000), "y", "z".repeat(100_000)]);
    await rejects(readAtMost(stream, 9_000), TooManyBytes);
    equal(state.cancelled, true);
  });
}

function openEnded(parts: string[]) {
  const state = { cancelled: false };
  const left = parts.map(bytes);
  const stream = new ReadableStream<Uint8Array>({
    pull(controller) {
      const part = left.shift();
      if (part === undefined) controller.close();
      else controller.enqueue(part);
    },
    cancel: () => void (state.cancelled = true),
  });
  return { state, stream };
}

Deno.test("readAtMost() ends its wait with the reason of the signal, and cancels the stream of bytes", async () => {
  const { state, stream } = byteStream(["a"], { open: true });
  const abort = new AbortController();
  const waiting = readAtMost(stream, 100, abort.signal);
  abort.abort(new Error("enough"));
  await rejects(waiting, /enough/);
  equal(state.cancelled, true);
});

Deno.test("viewsOf() gives each piece of a stream of bytes in the same buffer, and all of them", async () => {
  let text = "";
  for await (const view of viewsOf(byteStream(["a\n", "b".repeat(100_000), "c"]).stream)) {
    text += new TextDecoder().decode(view);
  }
  equal(text, `a\n${"b".repeat(100_000)}c`);
});

Deno.test("viewsOf() ends a wait with the reason of the signal, and cancels a stream whose reader leaves", async () => {
  const { state, stream } = byteStream(["a"], { open: true });
  const abort = new AbortController();
  const views = viewsOf(stream, abort.signal);
  await views.next();
  const waiting = views.next();
  abort.abort(new Error("enough"));
  await rejects(waiting, /enough/);
  equal(state.cancelled, true);
  const left = byteStream(["a", "b"], { open: true });
  for await (const _ of viewsOf(left.stream)) break;
  equal(left.state.cancelled, true);
});
