/** Cancel and rerun of runs that were picked in a list: what is shown before, what is done, what is told after. */
import { deepEqual, doesNotMatch, equal, match } from "node:assert/strict";
import type { PickedAnswer } from "../../control.ts";
import { aRecord, aRunView } from "../harness/fakes.ts";
import { anApp, fakeView, ORIGIN, TOKEN } from "../harness/page_kit.ts";

const LIVE = "sort-aaaaaaaa2345";
const OVER = "sort-bbbbbbbb2345";
const GONE = "sort-cccccccc2345";

function app() {
  const asked: unknown[][] = [];
  const none = () => Promise.reject(new Error("not asked"));
  const answerFor = (runNames: readonly string[]): PickedAnswer & { batch: string } => ({
    batch: "b1",
    done: runNames.length - 1,
    exists: 0,
    refused: 1,
    waiting: 0,
    results: runNames.map((run_name, at) =>
      at === 0
        ? { run_name, result: "refused", message: "<b>no</b>" }
        : { run_name, result: "done", became: "sort-nnnnnnnn2345" }
    ),
  });
  const kit = anApp({
    view: fakeView({
      live: [aRunView({ runName: LIVE, jobName: "sort" })],
      ended: [aRecord({ run_name: OVER, job_name: "sort", status: "failed" })],
    }),
    actions: {
      run: none,
      cancel: none,
      rerun: none,
      cancelMany: (...words) => (asked.push(["cancel", ...words]), Promise.resolve(answerFor(words[0]))),
      rerunMany: (...words) => (asked.push(["rerun", ...words]), Promise.resolve(answerFor(words[0]))),
    },
  });
  const send = (action: string, runNames: readonly string[], fields: Record<string, string> = {}) => {
    const body = new URLSearchParams([...runNames.map((name) => ["run_name", name]), ...Object.entries(fields)]);
    return kit.get(`/actions/${action}`, kit.signedIn({ method: "POST", body, headers: { origin: ORIGIN } }));
  };
  return { ...kit, asked, send };
}

Deno.test("what was picked is shown before it is cancelled, and what has ended is left out with why", async () => {
  const { send, asked } = app();
  const answer = await send("cancel-many", [LIVE, OVER, GONE, LIVE], { do: "check" });
  equal(answer.status, 200);
  const text = await answer.text();
  match(text, /<h1>Cancel 1 run<\/h1>/);
  deepEqual([...text.matchAll(/name="run_name" value="([^"]+)"/g)].map(([, name]) => name), [LIVE]);
  match(text, /Left as they are.*sort-bbbbbbbb2345.*It has ended.*sort-cccccccc2345.*There is no such run/s);
  deepEqual(asked, []);
});

Deno.test("what was picked is shown before it runs again, under a batch that the form keeps", async () => {
  const { send, asked } = app();
  const text = await (await send("rerun-many", [LIVE, OVER], { do: "check" })).text();
  match(text, /<h1>Run 1 run again<\/h1>/);
  match(text, /sort-aaaaaaaa2345.*It has not ended/s);
  const batch = /name="batch" value="([\w-]+)"/.exec(text)![1]!;
  await send("rerun-many", [OVER], { do: "start", batch });
  await send("rerun-many", [OVER], { do: "start", batch });
  const call = ["rerun", [OVER], { requestedBy: "the status page", batch }];
  deepEqual(asked, [call, call], "the names of its runs make one of the two");
});

Deno.test("of a group that has ended, the items that have not succeeded run again", async () => {
  const group = "sort-gggggggg2345";
  const item = (name: string, index: number, status: "failed" | "succeeded" | "cancelled", more = {}) =>
    aRecord({ run_name: `sort-${name}aaaaaaa2345`, job_name: "sort", group, index, status, ...more });
  const ended = [
    item("b", 0, "succeeded"),
    item("c", 1, "failed", { retried_as: "sort-daaaaaaa2345" }),
    item("d", 1, "failed"),
    item("e", 2, "cancelled"),
    aRecord({ run_name: "sort-faaaaaaa2345", group: "sort-hhhhhhhh2345", index: 0, status: "succeeded" }),
  ];
  const kit = anApp({ view: fakeView({ ended }) });
  const check = async (action: string, ...picked: string[]) => {
    const body = new URLSearchParams([["do", "check"], ...picked.map((name) => ["run_name", name])]);
    const path = `/actions/${action}.json`;
    const answer = await kit.get(path, kit.signedIn({ method: "POST", body, headers: { origin: ORIGIN } }));
    return (await answer.json()).runs.map((one: { run_name: string; why?: string }) => one.why ?? one.run_name);
  };
  deepEqual(await check("rerun-many", group, "sort-daaaaaaa2345"), ["sort-daaaaaaa2345", "sort-eaaaaaaa2345"]);
  deepEqual(await check("rerun-many", "sort-hhhhhhhh2345"), ["All its items have succeeded"]);
  deepEqual(await check("cancel-many", group), ["It has ended"]);
});

Deno.test("after it is done each run says what became of it", async () => {
  const { send, asked } = app();
  const text = await (await send("rerun-many", [LIVE, OVER], { do: "start", batch: "b1" })).text();
  match(text, /<h1>1 started, 1 not started<\/h1>/);
  match(text, /not started<\/span><\/td><td[^>]*>&lt;b&gt;no/);
  match(text, /href="\/runs\/sort-nnnnnnnn2345"/);
  await send("cancel-many", [LIVE, OVER]);
  deepEqual(asked.at(-1), ["cancel", [LIVE, OVER], "the status page"]);
});

Deno.test("a selection that is none is refused in words, and shows nothing of what was sent", async () => {
  const { send, asked } = app();
  const many = Array.from({ length: 201 }, (_, at) => `sort-${String(at).padStart(12, "a")}`);
  const cases: [readonly string[], number, RegExp][] = [
    [[], 400, /No run is picked: pick at least one/],
    [many, 400, /201 runs are picked: pick at most 200/],
    [["../x", LIVE], 400, /is no name of a run/],
    [Array.from({ length: 2_000 }, () => LIVE), 400, /cannot be read/],
  ];
  for (const action of ["cancel-many", "rerun-many"]) {
    for (const [names, status, words] of cases) {
      for (const how of ["check", "start"]) {
        const answer = await send(action, names, { do: how });
        equal(answer.status, status);
        const text = await answer.text();
        match(text, words);
        doesNotMatch(text, /method="post" action="\/actions/);
      }
    }
  }
  deepEqual(asked, []);
});

Deno.test("who is not signed in (any more) gets the selection again with the token, and programs send lists", async () => {
  const { get, asked } = app();
  const body = new URLSearchParams([["run_name", LIVE], ["do", "start"]]);
  const answer = await get("/actions/cancel-many", { method: "POST", body, headers: { origin: ORIGIN } });
  equal(answer.status, 401);
  const text = await answer.text();
  match(text, new RegExp(`name="run_name" value="${LIVE}"`));
  match(text, /name="token" type="password"/);
  deepEqual(asked, []);
  const program = (fields: unknown) =>
    get("/actions/cancel-many", {
      method: "POST",
      headers: { authorization: `Bearer ${TOKEN}`, "content-type": "application/json" },
      body: JSON.stringify(fields),
    });
  equal((await (await program({ run_names: [LIVE, OVER] })).json()).done, 1);
  deepEqual(asked, [["cancel", [LIVE, OVER], "the status page"]]);
  const checked = await (await program({ run_names: [LIVE, OVER], do: "check" })).json();
  deepEqual(checked.runs.map((run: { why?: string }) => run.why), [undefined, "It has ended"]);
  equal((await program({ run_names: "x" })).status, 400);
});

Deno.test("a look at what was picked ends when the server closes", async () => {
  const asked = Promise.withResolvers<AbortSignal>();
  const record = (_: string, signal: AbortSignal) => {
    asked.resolve(signal);
    return new Promise<never>((_, reject) => signal.addEventListener("abort", () => reject(signal.reason)));
  };
  const { get, signedIn, closing } = anApp({ view: { ...fakeView(), record } });
  const body = new URLSearchParams([["run_name", OVER], ["do", "check"]]);
  const answer = get("/actions/cancel-many", signedIn({ method: "POST", body, headers: { origin: ORIGIN } }));
  const signal = await asked.promise;
  closing.abort();
  equal(signal.aborted, true);
  equal((await answer).status, 200);
});
