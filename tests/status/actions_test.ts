import { deepEqual, doesNotMatch, equal, match } from "node:assert/strict";
import { parseTable } from "../../catalog.ts";
import { RefusedError, UnavailableError } from "../../ports.ts";
import { aRunView } from "../harness/fakes.ts";
import { anApp, type AppOptions, fakeView, form, ORIGIN, TOKEN } from "../harness/page_kit.ts";

Deno.test("statusApp() runs a row for the right token and leads the form to the run", async () => {
  const { get, calls } = anApp();
  const answer = await get("/actions/run", form({ job_name: "sort", payload: "{}", token: TOKEN }));
  equal(answer.status, 303);
  equal(answer.headers.get("location"), "/runs/sort-abcdefgh2345?done=run");
  deepEqual(calls, [["run", "sort", "{}"]]);
});

Deno.test("statusApp() makes the payload of the fields of a row's form, and leaves empty ones out", async () => {
  const { get, calls } = anApp();
  const fields = { job_name: "sort", "field:uuid": 'a "b"', "field:mode": "fast", "field:params": "", token: TOKEN };
  equal((await get("/actions/run", form(fields))).status, 303);
  deepEqual(calls, [["run", "sort", '{"uuid":"a \\"b\\"","mode":"fast"}']]);
});

Deno.test("statusApp() takes a bearer token with JSON and answers JSON", async () => {
  const { get, calls } = anApp();
  const answer = await get("/actions/cancel", {
    method: "POST",
    headers: { authorization: `Bearer ${TOKEN}`, "content-type": "application/json" },
    body: JSON.stringify({ run_name: "sort-1" }),
  });
  deepEqual(await answer.json(), { run_name: "sort-abcdefgh2345" });
  deepEqual(calls, [["cancel", "sort-1"]]);
});

Deno.test("statusApp() refuses actions that may not be", async (t) => {
  const fields = { run_name: "sort-1", token: TOKEN };
  const cases: [string, number, RequestInit, AppOptions?][] = [
    ["without a token set", 403, form(fields), { token: undefined as never }],
    ["with a wrong token", 401, form({ ...fields, token: "wrong" })],
    ["with a wrong bearer token", 401, form(fields, { authorization: "Bearer wrong" })],
    ["with no token", 401, form({ run_name: "sort-1" })],
    ["from another site", 403, form(fields, { origin: "https://evil.example" })],
    ["from another site of the same name", 403, form(fields, { origin: ORIGIN, "sec-fetch-site": "cross-site" })],
    ["from nowhere", 403, form(fields, {})],
    ["from a sandbox", 403, form(fields, { origin: "null" })],
    ["with a name that is none", 400, form({ ...fields, run_name: "../x" })],
    ["without a name", 400, form({ token: TOKEN })],
    ["with a body that is too large", 413, form({ ...fields, payload: "x".repeat(1_100_000) })],
    ["with JSON that is none", 400, {
      method: "POST",
      headers: { authorization: `Bearer ${TOKEN}`, "content-type": "application/json" },
      body: "[1]",
    }],
  ];
  for (const [name, status, init, options] of cases) {
    await t.step(name, async () => {
      const { get, calls } = anApp(options);
      equal((await get("/actions/rerun", init)).status, status);
      deepEqual(calls, []);
    });
  }
});

Deno.test("statusApp() says in words why an action was not done", async (t) => {
  const cases: [Error, number, RegExp][] = [
    [new RangeError('Cannot run "x": no row has that job_name'), 404, /no row has that job_name/],
    [new RefusedError("Cannot create: forbidden"), 409, /Cannot create: forbidden/],
    [new UnavailableError("Cannot create: no connection"), 503, /no connection/],
    [new TypeError("internal detail"), 500, /log says why/],
  ];
  for (const [error, status, words] of cases) {
    await t.step(error.constructor.name, async () => {
      const fail = () => Promise.reject(error);
      const { get } = anApp({ actions: { run: fail, cancel: fail, rerun: fail } });
      const answer = await get("/actions/run", form({ job_name: "x", token: TOKEN }));
      equal(answer.status, status);
      match(await answer.text(), words);
    });
  }
});

// ---------------------------------------------------------------- forms that are refused

const TABLE = parseTable('job_name,mqtt_topic,image,inputs\nsort,x,i,"uuid, mode=fast|slow"\nplot,y,i,\n', {
  topicPrefix: "services/mqtt_job_listener",
});

/** The app with two rows, whose actions refuse all. */
function refusing(error: Error) {
  const fail = () => Promise.reject(error);
  return anApp({ view: fakeView({ table: TABLE }), actions: { run: fail, cancel: fail, rerun: fail } });
}

Deno.test("a form that is refused comes back filled in, with what is wrong by its field", async () => {
  const { get, signedIn } = refusing(new RangeError('Cannot run "sortt": no row of the table has that job_name'));
  const fields = { job_name: "sortt", payload: '{"a":"<b>"}' };
  const answer = await get("/actions/run", signedIn(form(fields)));
  equal(answer.status, 404);
  const text = await answer.text();
  match(text, /<input id="again-row" name="job_name"[^>]*value="sortt"[^>]*aria-invalid="true"/);
  match(text, /aria-describedby="again-row-fault"/);
  match(text, /<p id="again-row-fault" class="fault" role="alert">Cannot run &quot;sortt&quot;: no row/);
  match(text, /<textarea id="again-payload"[^>]*>\{&quot;a&quot;:&quot;&lt;b&gt;&quot;\}<\/textarea>/);
  match(text, /<nav aria-label="Pages">/);
  equal(text.match(/role="alert"/g)?.length, 1);
});

Deno.test("a row's own form says which of its fields is wrong", async () => {
  const { get, signedIn } = refusing(new RefusedError('the message has no field "uuid"'));
  const answer = await get(
    "/actions/run",
    signedIn(form({ job_name: "sort", "field:uuid": "", "field:mode": "slow" })),
  );
  equal(answer.status, 409);
  const text = await answer.text();
  match(text, /<input id="again-uuid" name="field:uuid"[^>]*aria-invalid="true"/);
  match(text, /<option value="slow" selected/);
  const program = await get("/actions/run.json", signedIn(form({ job_name: "sort", "field:mode": "slow" })));
  deepEqual(await program.json(), { error: 'the message has no field "uuid"', field: "field:uuid" });
});

Deno.test("a sheet, a replay, a cancel and a rerun that are refused come back as they were sent", async () => {
  const { get, signedIn } = refusing(new RangeError('Cannot cancel "sort-abcdefgh2345": no such run is under way'));
  const sent = async (path: string, fields: Record<string, string>) => {
    const answer = await get(path, signedIn(form(fields)));
    return [answer.status, await answer.text()] as const;
  };
  const [cancelled, cancel] = await sent("/actions/cancel", { run_name: "sort-abcdefgh2345" });
  equal(cancelled, 404);
  match(cancel, /role="alert">Cannot cancel/);
  match(cancel, /<input type="hidden" name="run_name" value="sort-abcdefgh2345"/);
  match((await sent("/actions/rerun", { run_name: "sort-abcdefgh2345" }))[1], /action="\/actions\/rerun"/);
  const [emptied, sheet] = await sent("/actions/each", { job_name: "sort", sheet: "", batch: "b 1" });
  equal(emptied, 400);
  match(sheet, /<textarea id="sheet-text"[^>]*aria-invalid="true"/);
  match(sheet, /id="sheet-batch" name="batch" value="b 1"/);
  const [, replay] = await sent("/actions/replay", { job_name: "plot", state: "cancelled", since: "", reason: "x<" });
  match(replay, /id="replay-since"[^>]*aria-invalid="true"/);
  match(replay, /<option value="cancelled" selected/);
  match(replay, /id="replay-reason" name="reason" value="x&lt;"/);
});

Deno.test("what was typed while a session ended is not lost: the token goes below it, and signs in", async () => {
  const { get, calls, sessions } = anApp({ view: fakeView({ table: TABLE }) });
  const fields = { job_name: "plot", payload: "three hours of typing" };
  const answer = await get("/actions/run", form(fields));
  equal(answer.status, 401);
  const text = await answer.text();
  match(text, /three hours of typing<\/textarea>/);
  match(text, /<input id="again-token" name="token" type="password"/);
  match(text, /name="sign_in" value="yes"/);
  const wrong = await get("/actions/run", form({ ...fields, token: "hunter2", sign_in: "yes" }));
  equal(wrong.status, 401);
  const again = await wrong.text();
  match(again, /id="again-token-fault" class="fault" role="alert">The token is not the right one/);
  doesNotMatch(again, /hunter2/);
  equal(sessions.size, 0);
  const right = await get("/actions/run", form({ ...fields, token: TOKEN, sign_in: "yes" }));
  equal(right.status, 303);
  match(right.headers.get("set-cookie")!, /^mjl-session=/);
  deepEqual(calls, [["run", "plot", "three hours of typing"]]);
  await get("/actions/run", form({ ...fields, token: TOKEN }));
  equal(sessions.size, 1, "a program that sends the token each time opens none");
});

Deno.test("each form has an address of its own, where who has not signed in is led and back", async () => {
  const { get, signedIn } = anApp({ view: fakeView({ table: TABLE }) });
  for (const path of ["/actions/run", "/actions/run?job_name=sort", "/actions/each", "/actions/replay"]) {
    const text = await (await get(path)).text();
    match(text, new RegExp(`href="/sign-in\\?next=${encodeURIComponent(path)}`), path);
    doesNotMatch(text, /method="post"/);
    match(await (await get(path, signedIn())).text(), /method="post" action="\/actions\//);
  }
  match(await (await get("/actions/run?job_name=sort", signedIn())).text(), /name="field:uuid"/);
});

Deno.test("pages offer nothing to act with where nobody may, and nothing but a sign-in to who has not", async () => {
  const live = [aRunView()];
  const page = async (options: AppOptions, init?: (app: ReturnType<typeof anApp>) => RequestInit) => {
    const app = anApp({ view: fakeView({ table: TABLE, live }), ...options });
    return await (await app.get(`/runs/${aRunView().runName}`, init?.(app))).text();
  };
  const readOnly = await page({ token: undefined as never });
  match(readOnly, /Read-only/);
  doesNotMatch(readOnly, /<form method="post"|sign-in/);
  const stranger = await page({});
  doesNotMatch(stranger, /<form method="post"/);
  match(stranger, /href="\/sign-in\?next=%2Fruns%2F/);
  match(await page({}, ({ signedIn }) => signedIn()), /<form method="post" action="\/actions\/cancel"/);
});

Deno.test("a page says what was just done, in words of ours only", async () => {
  const { get } = anApp();
  match(await (await get("/?done=sign-out")).text(), /<p id="done" class="done" role="status">You are signed out/);
  for (const done of ["<b>", "constructor", "__proto__", "toString", "nothing"]) {
    doesNotMatch(await (await get(`/?done=${encodeURIComponent(done)}`)).text(), /id="done"/);
  }
  match(await (await get("/runs?row=a&done=run")).text(), /href="\/sign-in\?next=%2Fruns%3Frow%3Da"/);
});
