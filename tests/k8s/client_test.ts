/** k8s/client.ts against an API server that misbehaves as told; a real one is in k8s_test.ts. */
import { deepEqual, equal, match, ok, rejects } from "node:assert/strict";
import { connectKubernetes } from "../../k8s.ts";
import { answerError, AnswerTooLargeError, KubeClient, RateLimiter } from "../../k8s/client.ts";
import { RefusedError, UnavailableError } from "../../ports.ts";
import { freePort } from "../harness/ports.ts";
import { row } from "../harness/fakes.ts";
import { FakeApi } from "../harness/fake_api.ts";
import { VirtualTime } from "../harness/virtual_time.ts";

// ---------------------------------------------------------------- credentials

Deno.test("KubeClient reads a tokenFile, and again after 401", async () => {
  const tokens: (string | null)[] = [];
  await using server = await FakeApi.start((_, request) => {
    const token = request.headers.get("authorization");
    tokens.push(token);
    return new Response("{}", { status: token === "Bearer new" ? 200 : 401 });
  });
  await Deno.writeTextFile(`${server.dir}/token`, "old\n");
  using client = await KubeClient.open({ kubeconfig: await server.kubeconfig({ user: { tokenFile: "token" } }) });
  equal((await client.call("GET", "/x")).status, 401);
  await Deno.writeTextFile(`${server.dir}/token`, "new\n");
  equal((await client.call("GET", "/x")).status, 200);
  deepEqual(tokens, ["Bearer old", "Bearer old", "Bearer old", "Bearer new"]);
});

Deno.test("KubeClient renews credentials once for all calls that were refused", async () => {
  await using server = await FakeApi.start((_, request) => {
    return new Response("{}", { status: request.headers.get("authorization") === "Bearer 2" ? 200 : 401 });
  });
  const script = `${server.dir}/login`;
  const credential = '{"kind":"ExecCredential","status":{"token":"%s"}}';
  await Deno.writeTextFile(
    script,
    `#!/bin/sh\necho x >> ${server.dir}/calls\nprintf '${credential}' $(wc -l < ${server.dir}/calls)\n`,
    { mode: 0o755 },
  );
  const exec = { apiVersion: "client.authentication.k8s.io/v1", command: script, interactiveMode: "Never" };
  using client = await KubeClient.open({ kubeconfig: await server.kubeconfig({ user: { exec } }) });
  const answers = await Promise.all(Array.from({ length: 5 }, () => client.call("GET", "/x")));
  deepEqual(answers.map(({ status }) => status), [200, 200, 200, 200, 200]);
  equal((await Deno.readTextFile(`${server.dir}/calls`)).length, 4);
});

Deno.test("KubeClient reads a tokenFile also where the user acts as another one", async () => {
  const heard: (string | null)[] = [];
  await using server = await FakeApi.start((_, { headers }) => {
    heard.push(headers.get("authorization"), headers.get("impersonate-user"));
    return new Response("{}");
  });
  await Deno.writeTextFile(`${server.dir}/token`, "secret\n");
  const user = { tokenFile: `${server.dir}/token`, as: "lab" };
  using client = await KubeClient.open({ kubeconfig: await server.kubeconfig({ user }) });
  await client.call("GET", "/x");
  deepEqual(heard, ["Bearer secret", "lab"]);
});

Deno.test("KubeClient sends a user and password", async () => {
  await using server = await FakeApi.start((_, request) => {
    return new Response("{}", { status: request.headers.get("authorization") === `Basic ${btoa("a:b")}` ? 200 : 403 });
  });
  const user = { username: "a", password: "b" };
  using client = await KubeClient.open({ kubeconfig: await server.kubeconfig({ user }) });
  equal((await client.call("GET", "/x")).status, 200);
});

Deno.test("an exec plugin that fails is for now, with its words", async () => {
  await using server = await FakeApi.start(() => undefined);
  const exec = {
    apiVersion: "client.authentication.k8s.io/v1",
    command: "sh",
    args: ["-c", "echo no login >&2; exit 1"],
  };
  using client = await KubeClient.open({ kubeconfig: await server.kubeconfig({ user: { exec } }) });
  await rejects(
    client.call("GET", "/x"),
    (error: Error) => error instanceof UnavailableError && /Cannot get credentials.*no login/.test(error.message),
  );
});

// ---------------------------------------------------------------- answers

Deno.test("answerError() waits for what somebody will mend, and refuses only what the Job is to blame for", async (t) => {
  const create = 'jobs.batch is forbidden: User "x" cannot create resource "jobs" in API group "batch"';
  const forNow: [number, string, RegExp?][] = [
    [403, create, /deploy\/role\.yaml/],
    [404, 'namespaces "lab" not found', /create it or set NAMESPACE/],
    [404, "the server could not find the requested resource", /is that a Kubernetes API server/],
    [403, 'leases.coordination.k8s.io "a" is forbidden: User "x" cannot get resource "leases" in API group "c" in lab'],
    [403, 'jobs.batch "a" is forbidden: exceeded quota: lab, requested: count/jobs.batch=1'],
    [403, 'jobs.batch "a" is forbidden: unable to create new content in namespace lab because it is being terminated'],
    [403, "<html>Access denied by the company's proxy</html>"],
    [401, "Unauthorized", /renew them/],
    [302, "to https://login.example/", /redirects are not followed/],
    [409, "Operation cannot be fulfilled"],
    [429, "too many requests"],
    [500, 'failed calling webhook "x"'],
    [503, "<html>"],
  ];
  for (const [status, message, advice = /./] of forNow) {
    await t.step(`${status} ${message}`, () => {
      const error = answerError("create the Job a", { status, text: JSON.stringify({ message }) });
      ok(error instanceof UnavailableError);
      match(error.message, advice);
      if (advice.source !== ".") ok(error.advice);
    });
  }
  const forGood: [number, string][] = [
    [422, 'Job.batch "a" is invalid: spec.template'],
    [400, "Job in version v1 cannot be handled as a Job"],
    [413, "request entity too large"],
    [403, 'admission webhook "policy.example" denied the request: images must be signed'],
    [403, 'jobs.batch "a" is forbidden: ValidatingAdmissionPolicy "p" with binding "b" denied request: no'],
    [403, 'jobs.batch "a" is forbidden: failed quota: lab: must specify limits.cpu'],
  ];
  for (const [status, message] of forGood) {
    await t.step(`${status} ${message}`, () => {
      const error = answerError("create the Job a", { status, text: JSON.stringify({ message }) });
      ok(error instanceof RefusedError);
      match(error.message, /^Cannot create the Job a: /);
    });
  }
});

// That no pattern takes long over them is tried in tests/project/regex_test.ts.
Deno.test("the API server's words are cut, whatever they are", () => {
  const long = [
    "cannot ".repeat(9_000),
    `cannot ${"a".repeat(64_000)}`,
    `${'" '.repeat(16_000)}is forbidden`,
    "denied the ".repeat(6_000),
    "namespaces ".repeat(6_000),
    "Precondition failed: ".repeat(3_000),
  ];
  for (const message of long) {
    for (const status of [400, 403, 404, 409, 422]) {
      const error = answerError("create a Job", { status, text: JSON.stringify({ message }) });
      ok(error.message.length < 2_300, message.slice(0, 20));
    }
  }
});

Deno.test("KubeClient leaves an answer that unpacks to more than it should be", async () => {
  const zeros = new Uint8Array(1024 * 1024);
  const packed = await new Response(
    new ReadableStream<Uint8Array<ArrayBuffer>>({
      start(controller) {
        for (let n = 0; n < 100; n++) controller.enqueue(zeros);
        controller.close();
      },
    }).pipeThrough(new CompressionStream("gzip")),
  ).bytes();
  ok(packed.length < 200_000);
  await using server = await FakeApi.start(() => new Response(packed, { headers: { "content-encoding": "gzip" } }));
  using client = await KubeClient.open({ kubeconfig: await server.kubeconfig() });
  await rejects(
    client.call("GET", "/x"),
    (error) => error instanceof AnswerTooLargeError && /8 MiB/.test(error.message),
  );
  // Of an error instead of a stream too.
  await using other = await FakeApi.start(() =>
    new Response(packed, { status: 500, headers: { "content-encoding": "gzip" } })
  );
  using second = await KubeClient.open({ kubeconfig: await other.kubeconfig() });
  await rejects(second.stream("/x"), AnswerTooLargeError);
});

Deno.test("KubeClient follows no redirect, and shows its token to nobody else", async () => {
  const asked: string[] = [];
  await using thief = await FakeApi.start((_, request) => {
    asked.push(request.headers.get("authorization") ?? "");
    return new Response("{}");
  });
  await using server = await FakeApi.start(() =>
    new Response(null, { status: 307, headers: { location: `${thief.url}/x` } })
  );
  const kubeconfig = await server.kubeconfig({ user: { token: "secret" } });
  using cluster = await connectKubernetes({ kubeconfig, instance: "test", ttlSeconds: 60 });
  await rejects(cluster.get("a-aaaaaaaaaaaa"), /Cannot read the Job .*307.*redirects are not followed/);
  await rejects(cluster.logs("a", "main", { follow: true, timestamps: false }), /redirects are not followed/);
  deepEqual(asked, []);
});

Deno.test("an answer of 200 that holds nothing of what was asked for has done nothing", async (t) => {
  const spec = {
    runName: "count-abcdefgh2345",
    row: row(),
    message: { topic: "lab/count", payload: new Uint8Array() },
    messageHash: "hash",
    root: "rootrootroot",
    rootRun: "count-abcdefgh2345",
    chainDepth: 0,
    receivedAt: new Date(),
  };
  const words = /does not hold count-abcdefgh2345|not whole JSON/;
  for (const text of ["<html>Log in, please</html>", "", "{}", "null", '{"metadata":{"name":"other"}}']) {
    await t.step(JSON.stringify(text), async () => {
      await using server = await FakeApi.start(() => new Response(text));
      const kubeconfig = await server.kubeconfig();
      using cluster = await connectKubernetes({ kubeconfig, instance: "test", ttlSeconds: 60 });
      for (
        const call of [() => cluster.create(spec), () => cluster.get(spec.runName), () => cluster.delete(spec.runName)]
      ) {
        await rejects(call, (error) => error instanceof UnavailableError && words.test(error.message));
      }
      const lease = cluster.lease("count-abcdefgh2345");
      const renewal = { holder: "a", durationSeconds: 9, renewedAt: new Date(), transitions: 0, version: "1" };
      await rejects(lease.write(renewal), (error) => error instanceof UnavailableError && words.test(error.message));
    });
  }
});

Deno.test("a Retry-After of years is no wait of years", async () => {
  const headers = { "retry-after": "99999999999" };
  await using server = await FakeApi.start(() => new Response("{}", { status: 429, headers }));
  const kubeconfig = await server.kubeconfig();
  using cluster = await connectKubernetes({ kubeconfig, instance: "test", ttlSeconds: 60 });
  await rejects(
    cluster.get("a-aaaaaaaaaaaa"),
    (error) => error instanceof UnavailableError && error.retryAfterMs! <= 3_600_000,
  );
});

Deno.test("why there is no answer is said in plain words", async (t) => {
  const open = (server: string, ca: string) => {
    const config = {
      clusters: [{ name: "c", cluster: { server, "certificate-authority-data": btoa(ca) } }],
      users: [{ name: "u", user: { token: "secret" } }],
      contexts: [{ name: "x", context: { cluster: "c", user: "u" } }],
      "current-context": "x",
    };
    const path = Deno.makeTempFileSync();
    Deno.writeTextFileSync(path, JSON.stringify(config));
    return KubeClient.open({ kubeconfig: path }).finally(() => Deno.removeSync(path));
  };
  await using tls = await FakeApi.start(() => new Response("{}"), { hosts: ["127.0.0.1"] });
  await using named = await FakeApi.start(() => new Response("{}"), { hosts: ["other.example"] });
  await using plain = await FakeApi.start(() => new Response("{}"));
  const cases: [name: string, server: string, ca: string, words: RegExp][] = [
    ["nobody listens", `https://127.0.0.1:${freePort()}`, tls.ca, /nothing listens there/],
    ["an unknown host", "https://nowhere.invalid:6443", tls.ca, /its host name is not known/],
    ["a wrong authority", tls.url, named.ca, /signed by another authority than the one given/],
    ["a certificate for another name", named.url, named.ca, /its certificate is for other names than this one/],
    ["no TLS where TLS is spoken", plain.url.replace("http:", "https:"), tls.ca, /does not speak TLS; write http:/],
    ["TLS where none is spoken", tls.url.replace("https:", "http:"), tls.ca, /write https:/],
  ];
  for (const [name, server, ca, words] of cases) {
    await t.step(name, async () => {
      using client = await open(server, ca);
      await rejects(client.call("GET", "/x"), (error: Error) => {
        match(error.message, words);
        ok(!/fetch failed|secret/.test(error.message), error.message);
        return error instanceof UnavailableError;
      });
    });
  }
});

// ---------------------------------------------------------------- rate limit

Deno.test("RateLimiter lets a burst go at once, then urgent calls before others", async () => {
  using time = new VirtualTime();
  const limiter = new RateLimiter(50, 2);
  const order: string[] = [];
  const calls = [["a", false], ["b", false], ["c", false], ["d", false], ["e", true], ["f", true]] as const;
  for (const [name, urgent] of calls) void Promise.resolve(limiter.acquire(urgent)).then(() => order.push(name));
  const passed: string[] = [];
  for (const ms of [0, 19, 1, 20, 20, 20]) {
    await time.advance(ms);
    passed.push(order.join(""));
  }
  deepEqual(passed, ["ab", "ab", "abe", "abef", "abefc", "abefcd"]);
});

Deno.test("RateLimiter forgets a call that is given up", async () => {
  using time = new VirtualTime();
  const limiter = new RateLimiter(20, 1);
  await limiter.acquire(false);
  const stop = new AbortController();
  const given = limiter.acquire(false, stop.signal);
  let isThrough = false;
  void limiter.acquire(false)!.then(() => isThrough = true);
  stop.abort(new Error("enough"));
  await rejects(given!, /enough/);
  await time.advance(50);
  equal(isThrough, true);
});
