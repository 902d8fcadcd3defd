import { deepEqual, equal, match } from "node:assert/strict";
import { RefusedError, UnavailableError } from "../../ports.ts";
import { anApp, type AppOptions, form, ORIGIN, TOKEN } from "../harness/page_kit.ts";

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
