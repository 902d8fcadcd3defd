import { deepEqual, doesNotMatch, equal, match, ok } from "node:assert/strict";
import { RecentMessages } from "../../observers/messages.ts";
import { forgetSecrets, registerSecret } from "../../util/redact.ts";

Deno.test("the last messages are kept, newest first, each with what became of it", () => {
  const messages = new RecentMessages({ most: 3 });
  const filtered = [{ jobName: "big", line: 2, because: "payload.size is 2" }];
  messages.emit({ type: "message", topic: "a", rows: 0, outcome: "ignored" });
  messages.emit({ type: "broker", connected: true });
  messages.emit({ type: "message", topic: "b", rows: 2, outcome: "runs", runs: ["sort-1"], filtered });
  messages.emit({ type: "message", topic: "c", rows: 1, outcome: "refused", refusals: ["no uuid"] });
  messages.emit({ type: "message", topic: "d", rows: 0, outcome: "ignored", retained: true });
  deepEqual(messages.values().map(({ at: _, ...rest }) => rest), [
    {
      topic: "d",
      outcome: "ignored",
      runs: [],
      why: ["The broker had kept it, and such messages start nothing (HANDLE_RETAINED)"],
    },
    { topic: "c", outcome: "refused", runs: [], why: ["no uuid"] },
    { topic: "b", outcome: "runs", runs: ["sort-1"], why: ["The condition of big is false, since payload.size is 2"] },
  ]);
});

Deno.test("a message's text is bounded, made visible and shows no secret", () => {
  registerSecret("hunter-22");
  try {
    const messages = new RecentMessages();
    const refusals = Array.from({ length: 20 }, () => `hunter-22 ${"x".repeat(100_000)}`);
    const topic = `\u001b[31m hunter-22 ${"y".repeat(65_000)}`;
    messages.emit({ type: "message", topic, rows: 9, outcome: "refused", refusals, runs: Array(20).fill("a") });
    const [seen] = messages.values();
    doesNotMatch(JSON.stringify(seen), /hunter-22/);
    equal(seen!.topic.includes("\x1b"), false);
    match(seen!.topic, /^\\u001b\[31m \S+ y+/);
    equal(JSON.stringify(seen).length < 3_000, true);
    deepEqual([seen!.runs.length, seen!.why.length], [5, 5]);
  } finally {
    forgetSecrets();
  }
});

Deno.test("messages that were only heard of push out none of those that came", () => {
  const messages = new RecentMessages();
  messages.emit({ type: "message", topic: "lab/own", rows: 1, outcome: "runs" });
  for (let n = 0; n < 5_000; n++) {
    messages.emit({ type: "message", topic: `noise/${n}`, rows: 0, outcome: "ignored", observed: true });
  }
  const topics = messages.values().map(({ topic }) => topic);
  equal(topics.length, 201);
  ok(topics.includes("lab/own") && topics.includes("noise/4999"));
});

Deno.test("what was asked for stays as it was when later messages come", () => {
  const messages = new RecentMessages({ most: 2 });
  const tell = (n: number) =>
    messages.emit({ type: "message", topic: `a/${n}`, rows: 1, outcome: "refused", refusals: [`no ${n}`] });
  tell(1);
  tell(2);
  const before = messages.values();
  const was = structuredClone(before);
  for (const n of [3, 4, 5]) tell(n);
  deepEqual(before, was);
  deepEqual(messages.values().map(({ topic, why }) => [topic, ...why]), [["a/5", "no 5"], ["a/4", "no 4"]]);
  messages.emit({ type: "message", topic: "a/6", rows: 0, outcome: "ignored" });
  deepEqual(messages.values({ limit: 1 }).map(({ runs, why }) => ({ runs, why })), [{ runs: [], why: [] }]);
});
