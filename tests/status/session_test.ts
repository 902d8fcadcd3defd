/** Sessions of the page, and what is tried against them: each attack of SECURITY.md ("Visitor of the page") by itself. */
import { deepEqual, doesNotMatch, equal, match, notEqual, ok } from "node:assert/strict";
import { SESSION_MS, Sessions } from "../../status/session.ts";
import { sessionFile } from "../../status/session_file.ts";
import { pathOfPage } from "../../status/sign_in.ts";
import { setupLog } from "../../util/log.ts";
import { anApp, form, ORIGIN, TOKEN } from "../harness/page_kit.ts";

const RUN = "sort-abcdefgh2345";

/** Signs in as a browser does; gives the cookie that it would send. */
async function signIn({ get }: ReturnType<typeof anApp>, headers: Record<string, string> = {}, next = "/") {
  const answer = await get("/sign-in", form({ token: TOKEN, next }, { origin: ORIGIN, ...headers }));
  const cookie = answer.headers.get("set-cookie") ?? "";
  return { answer, cookie: cookie.split(";")[0]!, attributes: cookie.split("; ").slice(1) };
}

const cancel = (cookie: string, headers: Record<string, string> = {}) =>
  form({ run_name: RUN }, { origin: ORIGIN, cookie, ...headers });

Deno.test("who signs in once acts without the token until the sign-out, and is led back to the page", async () => {
  const app = anApp();
  const before = await (await app.get("/")).text();
  doesNotMatch(before, /Sign out/);
  const { answer, cookie, attributes } = await signIn(app, {}, `/runs/${RUN}?a=b`);
  deepEqual([answer.status, answer.headers.get("location")], [303, `/runs/${RUN}?a=b`]);
  deepEqual(attributes, ["Path=/", "Max-Age=43200", "HttpOnly", "SameSite=Strict"]);
  match(cookie, /^mjl-session=[\w-]{43}$/);
  equal((await app.get("/actions/cancel", cancel(cookie))).status, 303);
  match(await (await app.get("/", { headers: { cookie } })).text(), /action="\/sign-out"/);
  equal((await app.get("/sign-in?next=/messages", { headers: { cookie } })).headers.get("location"), "/messages");
  const out = await app.get("/sign-out", form({}, { origin: ORIGIN, cookie }));
  deepEqual([out.status, out.headers.get("location")], [303, "/?done=sign-out"]);
  match(out.headers.get("set-cookie")!, /^mjl-session=; Path=\/; Max-Age=0; HttpOnly; SameSite=Strict$/);
  deepEqual(app.calls, [["cancel", RUN]]);
});

Deno.test("a copy of the cookie does nothing after the sign-out", async () => {
  const app = anApp();
  const { cookie } = await signIn(app);
  await app.get("/sign-out", form({}, { origin: ORIGIN, cookie }));
  equal((await app.get("/actions/cancel", cancel(cookie))).status, 401);
  equal(app.sessions.size, 0);
  deepEqual(app.calls, []);
});

Deno.test("the page reached by https has a cookie that only https and only this host can set, whatever headers say", async () => {
  const https = { publicUrl: "https://jobs.lab.example" };
  const { cookie, attributes } = await signIn(anApp(https), { origin: "https://jobs.lab.example" });
  match(cookie, /^__Host-mjl-session=[\w-]{43}$/);
  deepEqual(attributes, ["Path=/", "Max-Age=43200", "HttpOnly", "SameSite=Strict", "Secure"]);
  const forwarded = await signIn(anApp(), { "x-forwarded-proto": "https", forwarded: "proto=https" });
  ok(!forwarded.attributes.includes("Secure"));
  // A plain name is anybody's on the same host, or a neighbour's: it is not looked at.
  const app = anApp(https);
  const own = (await signIn(app)).cookie.replace("__Host-", "");
  equal((await app.get("/actions/cancel", cancel(own))).status, 401);
});

Deno.test("a session that was there before the sign-in is none after it", async () => {
  const app = anApp();
  const planted = `mjl-session=${"A".repeat(43)}`;
  const first = await signIn(app, { cookie: planted });
  notEqual(first.cookie, planted);
  equal((await app.get("/actions/cancel", cancel(planted))).status, 401);
  const second = await signIn(app, { cookie: first.cookie });
  notEqual(second.cookie, first.cookie);
  equal((await app.get("/actions/cancel", cancel(first.cookie))).status, 401);
  equal((await app.get("/actions/cancel", cancel(second.cookie))).status, 303);
  equal(app.sessions.size, 1);
});

Deno.test("cookies that a neighbour tosses before ours neither sign out nor sign in", async () => {
  const app = anApp();
  const { cookie } = await signIn(app);
  const tossed = Array.from({ length: 7 }, (_, at) => `mjl-session=${String(at).repeat(43)}`).join("; ");
  equal((await app.get("/actions/cancel", cancel(tossed))).status, 401);
  equal((await app.get("/actions/cancel", cancel(`${tossed}; ${cookie}`))).status, 303);
  equal((await app.get("/actions/cancel", cancel(`a=1; b="x; y"; ${cookie}; c`))).status, 303);
  for (const odd of [`${cookie}x`, cookie.slice(0, -1), `${cookie}=`, `x${cookie}`, cookie.toUpperCase()]) {
    equal((await app.get("/actions/cancel", cancel(odd))).status, 401, odd);
  }
});

Deno.test("thousands of cookies cost a look at eight", async () => {
  const app = anApp();
  const { cookie } = await signIn(app);
  const many = Array.from({ length: 3_000 }, () => `mjl-session=${"B".repeat(43)}`).join("; ");
  equal((await app.get("/actions/cancel", cancel(`${many}; ${cookie}`))).status, 401);
  equal((await app.get("/actions/cancel", cancel(`mjl-session=${"x".repeat(1_000_000)}`))).status, 401);
});

Deno.test("no other site signs in, signs out or acts by the session of a browser", async () => {
  const app = anApp();
  const { cookie } = await signIn(app);
  const foreign = [
    { origin: "https://evil.example" },
    { origin: "null" },
    { origin: ORIGIN, "sec-fetch-site": "cross-site" },
    { origin: ORIGIN, "sec-fetch-site": "same-site" },
    {},
  ];
  for (const headers of foreign) {
    const send = (path: string, fields: Record<string, string>) =>
      app.get(path, form(fields, { ...headers, cookie } as Record<string, string>));
    const stranger = await app.get("/sign-in", form({ token: TOKEN }, headers as Record<string, string>));
    deepEqual([stranger.status, stranger.headers.get("set-cookie")], [403, null]);
    equal((await send("/sign-out", {})).status, 403);
    for (const path of ["/actions/cancel", "/actions/cancel.json", "/actions/cancel-many", "/actions/rerun-many"]) {
      equal((await send(path, { run_name: RUN })).status, 403, path);
    }
  }
  equal((await app.get("/actions/cancel", cancel(cookie))).status, 303, "and the session is as it was");
  deepEqual(app.calls, [["cancel", RUN]]);
});

Deno.test("nobody is led elsewhere by next", () => {
  for (const next of ["/", "/runs/a-1", "/?row=a%20b&state=failed", "/runs?q=%2F%2Fevil", "/runs/x/log/view"]) {
    equal(pathOfPage(next), next);
  }
  const elsewhere = [
    "https://evil.example/",
    "//evil.example",
    "///evil.example",
    "/\\evil.example",
    "\\\\evil.example",
    "/\t/evil.example",
    "/\n/evil.example",
    "/%0d%0a/\r\nset-cookie: a=b",
    "/.//evil.example",
    "/a/..//evil.example",
    "javascript:alert(1)",
    "data:text/html,x",
    "runs",
    "",
    " /runs",
    "/sign-out",
    "/sign-in?next=/sign-in",
    `/${"x".repeat(3_000)}`,
    "/\u0000",
    undefined,
  ];
  for (const next of elsewhere) equal(pathOfPage(next), "/", JSON.stringify(next));
});

Deno.test("a sign-in that is refused says so by its field, keeps where one was going, and never shows what was typed", async () => {
  const { get } = anApp();
  const answer = await get("/sign-in", form({ token: "hunter2 hunter2", next: "/messages" }));
  deepEqual([answer.status, answer.headers.get("set-cookie")], [401, null]);
  const text = await answer.text();
  match(text, /name="next" value="\/messages"/);
  match(text, /id="sign-in-token"[^>]*aria-invalid="true" aria-describedby="sign-in-token-fault"/);
  match(text, /id="sign-in-token-fault"[^>]*role="alert">The token is not the right one\./);
  doesNotMatch(text, /hunter2/);
  equal((await get("/sign-in", form({ token: "" }))).status, 401);
});

Deno.test("tokens cannot be tried faster by signing in than by acting: both wait in one line", async () => {
  let wrong = 0;
  const { ask } = anApp({ onRefusal: (why) => void (why === "token" && wrong++) });
  const send = (path: string, visitor: string) =>
    ask(
      new Request(ORIGIN + path, {
        ...form({ token: "a guess", run_name: RUN }, { origin: ORIGIN, host: "127.0.0.1:8080" }),
      }),
      {
        visitor,
      },
    );
  const paths = ["/sign-in", "/actions/cancel", "/sign-in", "/actions/cancel", "/sign-in", "/actions/cancel"];
  const answers = await Promise.all(paths.map((path) => send(path, "10.0.0.1")));
  const statuses = answers.map(({ status }) => status).sort();
  deepEqual(statuses.filter((status) => status === 401).length, 4);
  ok(statuses.every((status) => [401, 429, 503].includes(status)), statuses.join());
  equal(wrong, 4);
});

Deno.test("a body that signs in is read up to its bound, and none is read that comes from elsewhere", async () => {
  const { get } = anApp();
  equal((await get("/sign-in", form({ token: "x".repeat(1_100_000) }))).status, 413);
  const multipart = new FormData();
  multipart.set("token", TOKEN);
  equal((await get("/sign-in", { method: "POST", body: multipart, headers: { origin: ORIGIN } })).status, 400);
});

Deno.test("pages cannot be framed, and neither they nor cookies are kept by a cache", async () => {
  const app = anApp();
  const { answer, cookie } = await signIn(app);
  for (const one of [answer, await app.get("/sign-in"), await app.get("/", { headers: { cookie } })]) {
    equal(one.headers.get("x-frame-options"), "DENY");
    match(one.headers.get("content-security-policy")!, /frame-ancestors 'none'|sandbox/);
    equal(one.headers.get("cache-control"), "no-store");
  }
});

Deno.test("without a token set nobody signs in, and the page says why", async () => {
  const { get, sessions } = anApp({ token: undefined as never });
  match(await (await get("/sign-in")).text(), /read-only: whoever runs the service sets STATUS_TOKEN/);
  for (const token of ["", "undefined", TOKEN]) {
    const answer = await get("/sign-in", form({ token }));
    deepEqual([answer.status, answer.headers.get("set-cookie")], [403, null]);
  }
  equal(sessions.size, 0);
});

Deno.test("programs sign in and out by JSON, and are told whether they are", async () => {
  const app = anApp();
  deepEqual(await (await app.get("/sign-in.json")).json(), { signed_in: false });
  const answer = await app.get("/sign-in.json", form({ token: TOKEN }));
  deepEqual(await answer.json(), { signed_in: true });
  const cookie = answer.headers.get("set-cookie")!.split(";")[0]!;
  deepEqual(await (await app.get("/sign-in.json", { headers: { cookie } })).json(), { signed_in: true });
  const acted = await app.get("/actions/cancel.json", {
    ...cancel(cookie, { "content-type": "application/json" }),
    body: JSON.stringify({ run_name: RUN }),
  });
  deepEqual([acted.status, await acted.json()], [200, { run_name: RUN }]);
  deepEqual(await (await app.get("/sign-out.json", form({}, { origin: ORIGIN, cookie }))).json(), { signed_in: false });
});

Deno.test("the log says that somebody signed in, from where and as whom, and no cookie", async () => {
  const lines: string[] = [];
  setupLog({ level: "info", format: "text", write: (line) => void lines.push(line) });
  const app = anApp({ userHeader: "X-Forwarded-User" });
  const { cookie } = await signIn(app, { "x-forwarded-user": "ada" });
  await app.get("/actions/cancel", cancel(cookie, { "x-forwarded-user": "ada" }));
  await app.get("/sign-out", form({}, { origin: ORIGIN, cookie, "x-forwarded-user": "ada" }));
  setupLog({ level: "info", format: "text" });
  const text = lines.join("");
  match(text, /Signed in on the page.*ada/);
  match(text, /Action \/actions\/cancel by ada/);
  match(text, /Signed out on the page.*ada/);
  doesNotMatch(text, new RegExp(cookie.split("=")[1]!));
  doesNotMatch(text, new RegExp(TOKEN));
});

// ---------------------------------------------------------------- the name that a proxy gives

Deno.test("the name that the proxy gives stands for who asked, and allows nothing by itself", async () => {
  const app = anApp({ userHeader: "X-Forwarded-User" });
  const named = { "x-forwarded-user": "ada@lab.example" };
  equal((await app.get("/actions/cancel", cancel("", named))).status, 401, "a name is no token");
  match(await (await app.get("/", { headers: named })).text(), /ada@lab\.example<\/span><a href="\/sign-in"/);
  const { cookie } = await signIn(app, named);
  await app.get("/actions/cancel", cancel(cookie, named));
  const bearer = { authorization: `Bearer ${TOKEN}`, ...named };
  await app.get("/actions/cancel", form({ run_name: RUN }, bearer));
  await app.get("/actions/cancel", form({ run_name: RUN }, { authorization: `Bearer ${TOKEN}` }));
  deepEqual(app.askers, ["ada@lab.example", "ada@lab.example", "the status page"]);
  const other = await app.get("/actions/cancel", cancel(cookie, { "x-forwarded-user": "bob" }));
  equal(other.status, 401, "a session is of who opened it");
});

Deno.test("a name is UTF-8 where it can be, and what cannot be shown is refused", async () => {
  const app = anApp({ userHeader: "X-User" });
  const bearer = (name: string) =>
    app.get("/actions/cancel", form({ run_name: RUN }, { authorization: `Bearer ${TOKEN}`, "x-user": name }));
  const asSent = (text: string) => String.fromCharCode(...new TextEncoder().encode(text));
  await bearer(asSent("Łukasz 李"));
  await bearer("Andr\u00e9");
  deepEqual(app.askers, ["Łukasz 李", "André"]);
  for (const odd of ["evil, ada", "x".repeat(300), asSent("a\u202eb"), "a\u0085b"]) {
    const answer = await bearer(odd);
    equal(answer.status, 400, odd);
    match((await answer.json()).error, /who asks|more than one user/);
  }
  equal(app.askers.length, 2);
});

Deno.test("a header that nobody configured names nobody", async () => {
  const app = anApp();
  const { cookie } = await signIn(app);
  await app.get("/actions/cancel", cancel(cookie, { "x-forwarded-user": "root" }));
  deepEqual(app.askers, ["the status page"]);
});

// ---------------------------------------------------------------- the store of sessions

Deno.test("a session ends after 12 hours, however much it is used", () => {
  let now = 0;
  const sessions = new Sessions({ now: () => now });
  const cookie = sessions.open(undefined).split(";")[0]!;
  const headers = new Headers({ cookie });
  for (now = 0; now < SESSION_MS; now += 3600_000) ok(sessions.isOpen(headers, undefined));
  now = SESSION_MS;
  ok(!sessions.isOpen(headers, undefined));
  equal(sessions.size, 0);
});

Deno.test("a thousand sessions are kept, and one more ends the oldest", () => {
  const sessions = new Sessions();
  const cookies = Array.from({ length: 1_001 }, () => sessions.open(undefined).split(";")[0]!);
  equal(sessions.size, 1_000);
  const open = cookies.map((cookie) => sessions.isOpen(new Headers({ cookie }), undefined));
  deepEqual([open[0], open[1], open[1_000]], [false, true, true]);
});

Deno.test("a file keeps sessions over a restart, and no sign-out comes back", async () => {
  const folder = await Deno.makeTempDir();
  const start = (token = TOKEN, now = () => Date.now()) =>
    new Sessions({ token, now, keeper: sessionFile({ folder }, "s3://lab/logs") });
  const sessions = start();
  const [ada, bob, gone] = ["ada", undefined, "eve"].map((user) => sessions.open(user).split(";")[0]!);
  sessions.end(new Headers({ cookie: gone! }));
  const isOpen = (of: Sessions, cookie: string, user?: string) => of.isOpen(new Headers({ cookie }), user);
  const after = start();
  deepEqual([isOpen(after, ada!, "ada"), isOpen(after, ada!), isOpen(after, bob!), isOpen(after, gone!, "eve")], [
    true,
    false,
    true,
    false,
  ]);
  ok(!isOpen(start("another token"), bob!), "another token ends all");
  ok(!isOpen(start(TOKEN, () => Date.now() + SESSION_MS), bob!), "no session is prolonged");
  const other = new Sessions({ token: TOKEN, keeper: sessionFile({ folder }, "s3://other/logs") });
  ok(!isOpen(other, bob!), "another service has a file of its own");
  const [file] = [...Deno.readDirSync(folder)].map(({ name }) => `${folder}/${name}`);
  equal((await Deno.stat(file!)).mode! & 0o777, 0o600);
  const text = await Deno.readTextFile(file!);
  for (const secret of [TOKEN, ...[ada, bob, gone].map((cookie) => cookie!.split("=")[1]!)]) ok(!text.includes(secret));
  await Deno.remove(folder, { recursive: true });
});

Deno.test("a file of sessions that is none, or that somebody has written, opens nothing and lasts no longer", async () => {
  const folder = await Deno.makeTempDir();
  const keeper = () => sessionFile({ folder }, "x")!;
  const first = new Sessions({ token: TOKEN, keeper: keeper() });
  const cookie = first.open(undefined).split(";")[0]!;
  const file = `${folder}/${[...Deno.readDirSync(folder)][0]!.name}`;
  const kept = JSON.parse(await Deno.readTextFile(file));
  kept.sessions[0].ends_at = 1e15;
  await Deno.writeTextFile(file, JSON.stringify(kept));
  let now = Date.now();
  const long = new Sessions({ token: TOKEN, keeper: keeper(), now: () => now });
  ok(long.isOpen(new Headers({ cookie }), undefined));
  now += SESSION_MS;
  ok(!long.isOpen(new Headers({ cookie }), undefined));
  for (const text of ["", "{", "[]", '{"sessions":[{"digest":1}]}', `{"sessions":[]}${" ".repeat(2_000_000)}`]) {
    await Deno.writeTextFile(file, text);
    equal(new Sessions({ token: TOKEN, keeper: keeper() }).size, 0);
  }
  await Deno.remove(folder, { recursive: true });
});

Deno.test("without a folder that can be written to, sessions are in memory alone", () => {
  equal(sessionFile({ folder: "/nowhere/at/all", ifThere: true }, "x"), undefined);
  const sessions = new Sessions({ token: TOKEN, keeper: sessionFile({ folder: "/proc/nowhere" }, "x") });
  const cookie = sessions.open(undefined).split(";")[0]!;
  ok(sessions.isOpen(new Headers({ cookie }), undefined));
});
