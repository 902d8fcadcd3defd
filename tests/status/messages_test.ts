import { deepEqual, equal, match } from "node:assert/strict";
import type { SeenMessage } from "../../observers/messages.ts";
import { anApp, fakeView, tableOf } from "../harness/page_kit.ts";

const seen = (changes: Partial<SeenMessage>): SeenMessage => ({
  at: new Date("2026-03-01T10:00:00Z"),
  topic: "experiments/e1/uploaded",
  outcome: "runs",
  runs: [],
  why: [],
  ...changes,
});

const MESSAGES = [
  seen({ topic: "lab/uplod", outcome: "ignored" }),
  seen({ outcome: "filtered", why: ["The condition of sort-spikes is false, since payload.size is 2"] }),
  seen({ runs: ["sort-spikes-abcdefgh2345"] }),
];

const appOf = (messages: readonly SeenMessage[] = MESSAGES) =>
  anApp({ view: fakeView({ messages, table: tableOf("up,lab/upload,x,1,1Gi,0,") }) });

Deno.test("the page of messages says what became of each, and which topic was probably meant", async () => {
  const answer = await appOf().get("/messages");
  equal(answer.status, 200);
  const text = await answer.text();
  match(text, /No row is for this topic; the nearest is lab\/upload/);
  match(text, /since payload\.size is 2/);
  match(text, /href="\/runs\/sort-spikes-abcdefgh2345"/);
});

Deno.test("the page says what a message on a topic is for, though none of it has come", async () => {
  const asked = async (topic: string) =>
    (await (await appOf().get(`/messages.json?topic=${encodeURIComponent(topic)}`)).json()) as {
      asked?: unknown;
      messages: { topic: string }[];
    };
  deepEqual((await asked("experiments/e7/uploaded")).asked, {
    topic: "experiments/e7/uploaded",
    rows: ["sort-spikes"],
    off: [],
  });
  const wrong = await asked("lab/uplod");
  deepEqual(wrong.asked, { topic: "lab/uplod", rows: [], off: [], nearest: "lab/upload" });
  deepEqual(wrong.messages.map(({ topic }) => topic), ["lab/uplod"]);
  equal((await asked("")).asked, undefined);
});

Deno.test("the page of messages shows 200 of them, and cuts a topic that is asked for", async () => {
  const app = appOf(Array.from({ length: 1_000 }, (_, n) => seen({ topic: `t/${n}`, outcome: "ignored" })));
  const all = await (await app.get("/messages.json")).json();
  deepEqual([all.messages.length, all.known], [200, 1_000]);
  const long = await (await app.get(`/messages.json?topic=${"x".repeat(50_000)}`)).json();
  deepEqual([long.asked.topic.length, long.messages], [1_000, []]);
});

Deno.test("a message that a row refused is a line among the failures of the overview", async () => {
  const refused = seen({
    outcome: "refused",
    topic: "lab/<b>",
    why: ["The message has no field uuid, which sort needs"],
  });
  const text = await (await appOf([refused]).get("/")).text();
  match(
    text,
    /refused<\/span><a class="name grow" title="a message" href="\/messages\?topic=lab%2F%3Cb%3E">lab\/&lt;b&gt;/,
  );
  match(text, /The message has no field uuid/);
  const { refusals } = await (await appOf([refused]).get("/index.json")).json();
  equal(refusals[0].topic, "lab/<b>");
});
