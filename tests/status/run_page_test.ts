import { deepEqual, doesNotMatch, equal, match } from "node:assert/strict";
import type { GroupDetails } from "../../flows.ts";
import { runPage } from "../../status/pages/run.tsx";
import { timelineOf } from "../../status/timeline.ts";
import { aRecord, aRunView } from "../harness/fakes.ts";
import { anApp, aRunPage, fakeView } from "../harness/page_kit.ts";

/** Tags and runs of blanks taken out. */
function words(html: string): string {
  return html.slice(html.indexOf("<main"), html.indexOf("</main>")).replaceAll(/<title>.*?<\/title>|<[^>]+>/g, " ")
    .replaceAll(/\s+/g, " ");
}

function page(more: Parameters<typeof aRecord>[0], rest: Parameters<typeof aRunPage>[0] = {}): string {
  const record = aRecord(more);
  return runPage(aRunPage({ runName: record.run_name, record, timeline: timelineOf(record), ...rest }));
}

Deno.test("the page of a run begins with its state, its reason and the last lines of its log", () => {
  const text = words(page(
    { status: "failed", reason: "ExitCode", exit_code: 3, message: "Its program ended with exit code 3" },
    { log: { text: "one\ntwo\n", extent: "whole" } },
  ));
  match(
    text,
    /State: failed ExitCode Its program ended with exit code 3 Row sort-spikes .* exit code 3 Last lines .* one two/,
  );
  match(
    text,
    /Its life From the message on, 12 min 0 s in all What went on Took Until message came – .* made ready 10 s started .* ran 11 min 50 s ended/,
  );
});

Deno.test("the page of a run warns of what went wrong beside its end", () => {
  const text = words(page({
    oom_killed: true,
    output: "s3://lab/out.zip",
    output_missing: true,
    log_missing: "Lines are missing",
    disruptions: 2,
  }));
  for (
    const sentence of [
      "Something in it was killed for its memory, though it succeeded: check its result.",
      "There is nothing at its output s3://lab/out.zip.",
      "Its log is not whole: Lines are missing",
      "The cluster took 2 pods of it away.",
    ]
  ) {
    equal(text.includes(sentence), true, sentence);
  }
  doesNotMatch(page({}), /class="warn"/);
});

Deno.test("an output is a link only where a browser can follow it", () => {
  const link = (output: string) => /<dt>Output<\/dt>\s*<dd>\s*<(a|code)/.exec(page({ output }))?.[1];
  deepEqual(
    ["https://lab/x.zip", "s3://lab/x.zip", "file:///data/x", "javascript:alert(1)", "/data/x"].map(link),
    ["a", "code", "code", "code", "code"],
  );
});

Deno.test("the page of a live run says what it waits for, up to now, and what the cluster says", async () => {
  const now = new Date("2026-03-01T12:00:00Z");
  const live = aRunView({
    state: "pending",
    heldBy: "slot",
    receivedAt: new Date(now.getTime() - 300_000),
    createdAt: new Date(now.getTime() - 299_000),
  });
  const { startedAt: _, ...waiting } = live;
  const event = {
    at: now,
    type: "Warning",
    object: "Pod/x",
    reason: "FailedMount",
    message: `no secret "<b>"`,
    count: 3,
  } as const;
  const events = () => Promise.resolve([{ ...event, type: "Normal", reason: "Scheduled" } as const, event]);
  const { get } = anApp({ view: { ...fakeView({ live: [waiting] }), events } });
  const { timeline, live: shown, events: told } = await (await get(`/runs/${live.runName}.json`)).json();
  equal(timeline.steps.at(-1).what, "waits for a free slot (max_runs)");
  deepEqual([shown.run_name, shown.held_for, shown.started_at], [live.runName, "slot", null]);
  deepEqual(told[1], { ...event, at: now.toISOString() });
  const text = words(await (await get(`/runs/${live.runName}`)).text());
  match(text, /What the cluster says .* FailedMount no secret &quot;&lt;b&gt;&quot; \(3 times\) .* Scheduled/);
});

Deno.test("the items of a group can be had by their state, and its shapes lead to their runs", async () => {
  const items = (["succeeded", "failed", "waiting"] as const).map((state, at) => ({
    state,
    item: `"i${at}"`,
    ...(state === "waiting" ? {} : { runName: `sort-item${at}aaa2345` }),
  }));
  const group: GroupDetails = {
    group: "sort-groupgroup22",
    jobName: "sort",
    topic: "lab/x",
    root: "rootrootroot",
    rootRun: "sort-groupgroup22",
    receivedAt: new Date(),
    isOpen: true,
    isCancelled: false,
    items,
  };
  const ended = [
    aRecord({ run_name: "sort-item1aaa2345", group: group.group, index: 1, status: "failed", message: "No units" }),
  ];
  const view = { ...fakeView({ ended }), group: () => Promise.resolve(group) };
  const { get } = anApp({ view });
  const all = await (await get(`/groups/${group.group}`)).text();
  match(all, /<a class="failed" href="\/runs\/sort-item1aaa2345"[^>]* aria-label="item 1: failed"/);
  match(words(all), /all 3 succeeded 1 failed 1 waiting 1 .* No units/);
  const listed = async (query: string) =>
    [...(await (await get(`/groups/${group.group}${query}`)).text()).matchAll(/<th scope="row">(\d)<\/th>/g)]
      .map(([, index]) => index).join("");
  deepEqual(await Promise.all(["", "?state=failed", "?state=waiting", "?state=odd"].map(listed)), [
    "120",
    "1",
    "2",
    "120",
  ]);
  const { items: told } = await (await get(`/groups/${group.group}.json`)).json();
  deepEqual(told[1], { index: 1, state: "failed", item: '"i1"', run_name: "sort-item1aaa2345", run: told[1].run });
  equal((await get(`/runs/${group.group}.json`)).headers.get("location"), `/groups/${group.group}.json`);
});

Deno.test("pages of many runs with long names are no heavier than 120 KB", async () => {
  const name = (letter: string, at: number) => `${letter}-${at}${"a".repeat(63)}`.slice(0, 63);
  const more = { jobName: "r".repeat(89), root: "rootrootroot" };
  const numbers = Array.from({ length: 9_000 }, (_, number) => number);
  const [payload, job] = [JSON.stringify(numbers), { numbers }];
  const ended = Array.from({ length: 500 }, (_, at) =>
    aRecord({
      run_name: name("x", at),
      job_name: more.jobName,
      root: more.root,
      parent_run: at === 0 ? null : name("x", Math.floor(at / 3)),
      status: "failed",
      message: "m".repeat(500),
      payload,
      job,
    }));
  const live = Array.from({ length: 100 }, (_, at) => aRunView({ ...more, runName: name("y", at) }));
  const group: GroupDetails = {
    group: name("g", 1),
    topic: "t".repeat(500),
    rootRun: name("g", 1),
    receivedAt: new Date(),
    isOpen: true,
    isCancelled: false,
    ...more,
    items: ended.map(({ run_name }) => ({ state: "failed", item: JSON.stringify("i".repeat(500)), runName: run_name })),
  };
  const log = () => new Blob([`${"l".repeat(600)}\n`.repeat(100)]).stream();
  const { get } = anApp({ view: { ...fakeView({ ended, live, log }), group: () => Promise.resolve(group) } });
  for (const path of [`/runs/${name("x", 5)}`, `/?root=${more.root}`, `/groups/${group.group}`]) {
    const { length } = await (await get(path)).text();
    equal(length < 120 * 1024, true, `${path}: ${length}`);
  }
});
