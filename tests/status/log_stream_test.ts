import { equal } from "node:assert/strict";
import { aRunView } from "../harness/fakes.ts";
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
  await using server = Deno.serve({ hostname: "127.0.0.1", port: 0, onListen: () => {} }, ask);
  const answer = await fetch(`http://127.0.0.1:${server.addr.port}/runs/sort-1/log`);
  const reader = answer.body!.getReader();
  await reader.read();
  await reader.cancel();
  await gone.promise;
});
