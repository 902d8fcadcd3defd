import { deepEqual, doesNotMatch, equal, match } from "node:assert/strict";
import { HttpServer } from "../../status/http_server.ts";
import { readTail } from "../../status/log_stream.ts";
import { aRecord, aRunView } from "../harness/fakes.ts";
import { anApp, fakeView } from "../harness/page_kit.ts";

Deno.test("statusApp() streams the log of a live run as it grows", async () => {
  const { readable, writable } = new TransformStream<Uint8Array, Uint8Array>();
  let followed: boolean | undefined;
  const view = fakeView({
    live: [aRunView({ runName: "sort-1" })],
    log: ({ follow }) => {
      followed = follow;
      return readable;
    },
  });
  const answer = await anApp({ view }).get("/runs/sort-1/log");
  equal(answer.headers.get("content-type"), "text/plain; charset=utf-8");
  equal(answer.headers.get("content-security-policy"), "default-src 'none'; sandbox");
  const reader = answer.body!.pipeThrough(new TextDecoderStream()).getReader();
  const writer = writable.getWriter();
  for (const line of ["one\n", "two\n"]) {
    const [got] = await Promise.all([reader.read(), writer.write(new TextEncoder().encode(line))]);
    equal(got.value, line);
  }
  await writer.close();
  equal((await reader.read()).done, true);
  equal(followed, true);
});

Deno.test("statusApp() tells the source of a log that its reader went away", async () => {
  const gone = Promise.withResolvers<void>();
  const view = fakeView({
    live: [aRunView({ runName: "sort-1" })],
    log: ({ signal }) => {
      signal.addEventListener("abort", () => gone.resolve(), { once: true });
      // It says one word and then waits for output that never comes.
      return new ReadableStream({ start: (controller) => controller.enqueue(new TextEncoder().encode("one\n")) });
    },
  });
  const { ask } = anApp({ view });
  const server = new HttpServer({ hostname: "127.0.0.1", port: 0 }, ask);
  const answer = await fetch(`http://127.0.0.1:${server.port}/runs/sort-1/log`);
  const reader = answer.body!.getReader();
  await reader.read();
  await reader.cancel();
  await gone.promise;
  await server.close();
});

function textStream(...pieces: string[]): ReadableStream<Uint8Array> {
  return ReadableStream.from(pieces.map((piece) => new TextEncoder().encode(piece)));
}

Deno.test("readTail() gives a short log whole and of a long one whole lines of its end", async () => {
  const { signal } = new AbortController();
  deepEqual(await readTail(textStream("one\n", "two\n"), 8, signal), { text: "one\ntwo\n", extent: "whole" });
  deepEqual(await readTail(textStream("one\n", "two\n", "three\n"), 8, signal), { text: "three\n", extent: "end" });
});

Deno.test("readTail() does not call what came until its time was up the end of a log", async () => {
  const time = new AbortController();
  const first = new TextEncoder().encode("one\n");
  const slow = new ReadableStream<Uint8Array>({
    start: (controller) => controller.enqueue(first),
    pull: () => time.abort(),
  }, { highWaterMark: 0 });
  deepEqual(await readTail(slow, 100, time.signal), { text: "one\n", extent: "part" });
});

Deno.test("the page of a run asks for no more of its log than it shows", async () => {
  const asked: unknown[] = [];
  const view = fakeView({
    ended: [aRecord({ run_name: "sort-1" })],
    log: ({ tailBytes }) => {
      asked.push(tailBytes);
      return textStream("x".repeat(60), "\n", "y".repeat(65_536));
    },
  });
  const text = await (await anApp({ view }).get("/runs/sort-1")).text();
  deepEqual(asked, [65_537]);
  match(text, /yyy/);
  doesNotMatch(text, /xxx/);
});
