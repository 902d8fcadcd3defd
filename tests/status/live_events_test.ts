import { doesNotMatch, equal, match, ok } from "node:assert/strict";
import { aRecord } from "../harness/fakes.ts";
import { anApp } from "../harness/page_kit.ts";

Deno.test("statusApp() tells browsers what happens, without payloads", async () => {
  const { get, events } = anApp();
  const reader = (await get("/events")).body!.pipeThrough(new TextDecoderStream()).getReader();
  equal((await reader.read()).value, "retry: 3000\n\n");
  events.emit({ type: "finished", record: aRecord({ run_name: "sort-1", payload: "secret\n\n" }), completionMs: 5 });
  const { value = "" } = await reader.read();
  match(value, /^event: finished\ndata: {"run_name":"sort-1",.*}\n\n$/);
  doesNotMatch(value, /secret/);
  await reader.cancel();
  equal(events.size, 0);
});

Deno.test("statusApp() drops events for a browser that does not read, and tells it so", async () => {
  const { get, events } = anApp();
  const stream = (await get("/events")).body!;
  for (let times = 0; times < 40; times++) {
    await new Promise<void>((resolve) => {
      const leave = events.subscribe(() => (leave(), resolve()));
      events.emit({ type: "broker", connected: true });
    });
  }
  const reader = stream.pipeThrough(new TextDecoderStream()).getReader();
  let count = 0;
  for (;;) {
    const { value = "" } = await reader.read();
    if (value.startsWith("event: resync")) break;
    ok(++count < 40);
  }
  await reader.cancel();
});

Deno.test("statusApp() tells of what comes at a time at once, and of too much that one should look", async () => {
  const { get, events } = anApp();
  const reader = (await get("/events")).body!.pipeThrough(new TextDecoderStream()).getReader();
  await reader.read();
  for (let at = 0; at < 5_000; at++) events.emit({ type: "broker", connected: true });
  const { value = "" } = await reader.read();
  match(value, /^(event: broker\ndata: {"connected":true}\n\n){100,}event: resync\ndata: {}\n\n$/);
  await reader.cancel();
});

Deno.test("statusApp() leaves no stream behind after HEAD", async () => {
  const { get, events } = anApp();
  equal((await get("/events", { method: "HEAD" })).status, 200);
  equal(events.size, 0);
});
