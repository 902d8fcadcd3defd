import { deepEqual, equal, match, ok } from "node:assert/strict";
import { noticeOf, Webhook, type WebhookOptions } from "../../observers/webhook.ts";
import type { RunRecord } from "../../ports.ts";
import { aRecord } from "../harness/fakes.ts";
import { eventually } from "../harness/wait.ts";

/** A run that failed after an hour and five minutes. */
function record(fields: Partial<RunRecord> = {}): RunRecord {
  return aRecord({
    run_name: "sort-1",
    job_name: "sort",
    status: "failed",
    reason: "OOMKilled",
    message: "Out of memory: the limit is 8Gi",
    topic: "experiments/upload",
    started_at: "2026-01-01T00:00:00Z",
    finished_at: "2026-01-01T01:05:00Z",
    log_url: "s3://lab/logs/sort-1.txt",
    ...fields,
  });
}

type Answer = (body: { text: string; blocks: unknown[] }, call: number) => Response | Promise<Response>;

/** A webhook on loopback and notices that go to it. */
function webhook(answer: Answer, options: Partial<WebhookOptions> = {}) {
  const calls: { at: number; type: string | null; text: string }[] = [];
  const server = Deno.serve({ hostname: "127.0.0.1", port: 0, onListen: () => {} }, async (request) => {
    const body = await request.json();
    calls.push({ at: performance.now(), type: request.headers.get("content-type"), text: body.text });
    return answer(body, calls.length);
  });
  const troubles: string[] = [];
  const about: (string | undefined)[] = [];
  const notices = new Webhook({
    url: `http://127.0.0.1:${server.addr.port}/services/T0/s3cret`,
    on: "failed",
    firstRetryMs: 5,
    onTrouble(reason, runName) {
      troubles.push(reason);
      about.push(runName);
    },
    ...options,
  });
  const emit = (fields: Partial<RunRecord> = {}) =>
    notices.emit({ type: "finished", record: record(fields), completionMs: 1 });
  return {
    calls,
    troubles,
    about,
    notices,
    emit,
    async [Symbol.asyncDispose]() {
      await notices.close({ withinMs: 50 });
      await server.shutdown();
    },
  };
}

const fine = () => new Response("ok");

Deno.test("a failed run is sent as JSON with its reason, and others are not", async () => {
  await using hook = webhook(fine);
  hook.emit({ status: "succeeded" });
  hook.emit({ status: "cancelled" });
  hook.emit();
  await eventually(() => hook.notices.waiting === 0);
  equal(hook.calls.length, 1);
  match(hook.calls[0]!.type!, /^application\/json/);
  match(hook.calls[0]!.text, /\*sort\* failed\nOut of memory: the limit is 8Gi \(OOMKilled\)\n/);
});

Deno.test("with `all` every outcome is sent, in order", async () => {
  await using hook = webhook(fine, { on: "all" });
  for (const status of ["succeeded", "failed", "cancelled"] as const) hook.emit({ status });
  await eventually(() => hook.notices.waiting === 0);
  deepEqual(hook.calls.map(({ text }) => /\* (\w+)/.exec(text)?.[1]), ["succeeded", "failed", "cancelled"]);
});

Deno.test("a server's fault is tried again", async () => {
  await using hook = webhook((_, call) => call < 3 ? new Response("busy", { status: 503 }) : fine());
  hook.emit();
  await eventually(() => hook.notices.waiting === 0);
  equal(hook.calls.length, 3);
  deepEqual(hook.troubles, []);
});

Deno.test("Retry-After is kept to", async () => {
  await using hook = webhook((_, call) =>
    call === 1 ? new Response("", { status: 429, headers: { "retry-after": "1" } }) : fine()
  );
  hook.emit();
  await eventually(() => hook.notices.waiting === 0);
  equal(hook.calls.length, 2);
  // Real time is the subject; a busy machine only makes it longer.
  ok(hook.calls[1]!.at - hook.calls[0]!.at >= 990);
});

Deno.test("a refusal is not tried again, and told without the secret URL", async () => {
  await using hook = webhook(() => new Response("invalid_token", { status: 403 }));
  hook.emit();
  await eventually(() => hook.notices.waiting === 0);
  equal(hook.calls.length, 1);
  deepEqual(hook.troubles, ["Cannot send the notice of run sort-1: the webhook answered 403: invalid_token"]);
  // For the log, which has the run on each line about one.
  deepEqual(hook.about, ["sort-1"]);
});

Deno.test("the next notice is sent after one that was given up", async () => {
  await using hook = webhook((body) => body.text.includes("bad") ? new Response("", { status: 500 }) : fine(), {
    attempts: 2,
  });
  hook.emit({ job_name: "bad" });
  hook.emit({ job_name: "good" });
  await eventually(() => hook.notices.waiting === 0);
  equal(hook.calls.length, 3);
  equal(hook.troubles.length, 1);
});

Deno.test("no connection and no answer are faults without the secret URL", async () => {
  const port = await closedPort();
  await using gone = webhook(fine, { url: `http://127.0.0.1:${port}/services/T0/s3cret`, attempts: 2 });
  gone.emit();
  await eventually(() => gone.troubles.length === 1);
  ok(!gone.troubles[0]!.includes("s3cret"), gone.troubles[0] ?? "");

  const silent = Promise.withResolvers<Response>();
  await using slow = webhook(() => silent.promise, { timeoutMs: 20, attempts: 1 });
  slow.emit();
  await eventually(() => slow.troubles.length === 1);
  silent.resolve(fine());
  equal(slow.troubles[0], "Cannot send the notice of run sort-1: no answer within 20 ms");
});

Deno.test("emit() returns at once, holds a bounded number, and says what was dropped", async () => {
  const gate = Promise.withResolvers<void>();
  await using hook = webhook(async () => {
    await gate.promise;
    return fine();
  }, { maxWaiting: 3 });
  for (let at = 0; at < 10; at++) hook.emit({ run_name: `sort-${at}` });
  equal(hook.notices.waiting, 4);
  gate.resolve();
  await eventually(() => hook.notices.waiting === 0);
  deepEqual(hook.calls.map(({ text }) => /sort-\d/.exec(text)?.[0]), ["sort-0", "sort-7", "sort-8", "sort-9"]);
  match(hook.calls[1]!.text, /6 earlier notices were not sent/);
  deepEqual(hook.troubles, ["6 notices were dropped: more than 3 waited"]);
});

Deno.test("close() sends what waits, and gives up when its time is over", async () => {
  {
    await using hook = webhook(fine);
    hook.emit();
    await hook.notices.close();
    equal(hook.calls.length, 1);
    hook.emit();
    equal(hook.notices.waiting, 0);
  }
  await using hook = webhook(() => new Response("", { status: 503, headers: { "retry-after": "60" } }));
  hook.emit();
  hook.emit();
  await eventually(() => hook.calls.length === 1);
  await hook.notices.close({ withinMs: 20 });
  deepEqual(hook.troubles, ["Cannot send the notice of run sort-1 (and 1 more): the service ends"]);
});

Deno.test("noticeOf() links the run's page and names log, topic, parent and time", () => {
  const { text, blocks } = noticeOf(record({ parent_run: "up-1" }), { statusUrl: "https://lab.example/jobs" });
  match(text, /<https:\/\/lab\.example\/jobs\/runs\/sort-1\|sort-1>/);
  match(text, /log `s3:\/\/lab\/logs\/sort-1\.txt` · topic `experiments\/upload` · started by `up-1` · took 1 h 5 min/);
  equal(blocks.length, 2);
  match(noticeOf(record({ log_url: "https://s3/l.txt" })).text, /log <https:\/\/s3\/l\.txt\|text>/);
});

Deno.test("noticeOf() lets nobody's words become Slack's marks", () => {
  const { text, blocks } = noticeOf(record({
    message: "exit code 1 & <!channel> <https://evil.example|click>",
    topic: "a`b<c",
    job_name: "<@U1>",
  }));
  for (const part of [text, JSON.stringify(blocks)]) {
    ok(!/<[!@h]/.test(part), part);
    match(part, /&amp; &lt;!channel&gt;/);
    match(part, /`a'b&lt;c`/);
  }
});

Deno.test("noticeOf() keeps to Slack's length", () => {
  const { text } = noticeOf(record({ message: "&".repeat(5_000) }));
  ok(text.length <= 3_000);
  match(text, /&amp;…$/);
});

/** A port of loopback on which nobody listens any more. */
async function closedPort(): Promise<number> {
  const server = Deno.serve({ hostname: "127.0.0.1", port: 0, onListen: () => {} }, fine);
  const { port } = server.addr;
  await server.shutdown();
  return port;
}

Deno.test("an attempt that is tried again is no failure that anybody is told of", async () => {
  await using hook = webhook(() => new Response());
  const { notices, calls } = hook;
  notices.emit({ type: "retrying", record: record({ retried_as: "sort-2" }), at: new Date() });
  notices.emit({ type: "finished", record: record({ run_name: "sort-2", attempt: 2 }), completionMs: 1 });
  await eventually(() => calls.length === 1);
  match(calls[0]!.text, /sort-2/);
});
