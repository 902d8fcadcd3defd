import { deepEqual } from "node:assert/strict";
import { Notices } from "../../observers/notices.ts";
import { Webhook } from "../../observers/webhook.ts";
import { aRecord } from "../harness/fakes.ts";
import { eventually } from "../harness/wait.ts";

const CHANNELS: Readonly<Record<string, string[]>> = {
  sort: ["imaging", "gpu", "imaging"],
  count: ["imaging", "gone"],
  lost: ["gone"],
};

Deno.test("a row's channels hear of its failures once each, the preset webhook of all else", async () => {
  const heard: string[] = [];
  await using server = Deno.serve({ hostname: "127.0.0.1", port: 0, onListen: () => {} }, async (request) => {
    const { text } = await request.json();
    heard.push(`${new URL(request.url).pathname.slice(1)}: ${/\*(.*?)\* (\w+)/.exec(text)!.slice(1).join(" ")}`);
    return new Response("ok");
  });
  const url = (name: string) => `http://127.0.0.1:${server.addr.port}/${name}`;
  const channel = (name: string) => [name, new Webhook({ url: url(name), name, on: "failed" })] as const;
  const notices = new Notices({
    preset: new Webhook({ url: url("preset"), on: "all" }),
    channels: new Map([channel("imaging"), channel("gpu")]),
    channelsOf: (jobName) => CHANNELS[jobName] ?? [],
  });
  for (const job_name of ["sort", "count", "lost", "plain"]) {
    for (const status of ["failed", "succeeded"] as const) {
      notices.emit({ type: "finished", record: aRecord({ job_name, status }), completionMs: 1 });
    }
  }
  await eventually(() => heard.length >= 9);
  await notices.close();
  deepEqual(heard.sort(), [
    "gpu: sort failed",
    "imaging: count failed",
    "imaging: sort failed",
    "preset: count succeeded",
    "preset: lost failed",
    "preset: lost succeeded",
    "preset: plain failed",
    "preset: plain succeeded",
    "preset: sort succeeded",
  ]);
});

Deno.test("what a channel cannot send is said with its name and without its URL, and holds up no other", async () => {
  const troubles: string[] = [];
  const away = new Webhook({
    url: "http://127.0.0.1:1/s3cret",
    name: "away",
    on: "failed",
    attempts: 1,
    onTrouble: (reason) => troubles.push(reason),
  });
  const notices = new Notices({ channels: new Map([["away", away]]), channelsOf: () => ["away"] });
  notices.emit({ type: "finished", record: aRecord({ run_name: "sort-1", status: "failed" }), completionMs: 1 });
  await eventually(() => troubles.length > 0);
  await notices.close();
  deepEqual(
    troubles.map((
      words,
    ) => [words.startsWith('Channel "away": Cannot send the notice of run sort-1'), words.includes("s3cret")]),
    [
      [true, false],
    ],
  );
});
