/** k8s/client.ts and k8s/list_watch.ts against an API server that misbehaves as told; a real one is in k8s_test.ts. */
import { deepEqual, equal, match, ok, rejects } from "node:assert/strict";
import { connectKubernetes } from "../../k8s.ts";
import { KubeClient, RateLimiter } from "../../k8s/client.ts";
import { ListWatch, type ListWatchOptions, type WatchedObject } from "../../k8s/list_watch.ts";
import { RefusedError, type RunSpec, UnavailableError } from "../../ports.ts";
import { eventually } from "../harness/wait.ts";

type Answer = (url: URL, request: Request) => Response | undefined | Promise<Response | undefined>;

/** A server that answers as told (404 else), and a kubeconfig for it. */
class Server implements AsyncDisposable {
  /** Path and query of each request. */
  readonly requests: URL[] = [];
  readonly dir: string;
  readonly url: string;
  readonly #server: Deno.HttpServer<Deno.NetAddr>;

  private constructor(dir: string, answer: Answer) {
    this.dir = dir;
    this.#server = Deno.serve({ hostname: "127.0.0.1", port: 0, onListen() {} }, async (request) => {
      const url = new URL(request.url);
      this.requests.push(url);
      return await answer(url, request) ?? new Response("{}", { status: 404 });
    });
    this.url = `http://127.0.0.1:${this.#server.addr.port}`;
  }

  static async start(answer: Answer): Promise<Server> {
    return new Server(await Deno.makeTempDir({ prefix: "k8s-watch-test-" }), answer);
  }

  async kubeconfig({ name = "here", user = {}, current = true }: {
    name?: string;
    user?: Record<string, unknown>;
    current?: boolean;
  } = {}): Promise<string> {
    const path = `${this.dir}/${name}`;
    // Plain http is for tests; KubeConfig wants it to be said.
    const cluster = { server: this.url, "insecure-skip-tls-verify": true };
    const config = {
      clusters: [{ name, cluster }],
      users: [{ name, user }],
      contexts: [{ name, context: { cluster: name, user: name, namespace: `ns-${name}` } }],
      ...(current ? { "current-context": name } : {}),
    };
    await Deno.writeTextFile(path, JSON.stringify(config));
    return path;
  }

  /** Versions from which watches went on. */
  get watchedFrom(): (string | null)[] {
    return this.requests.filter(isWatch).map(({ searchParams }) => searchParams.get("resourceVersion"));
  }

  get lists(): number {
    return this.requests.filter((url) => !isWatch(url)).length;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#server.shutdown();
    await Deno.remove(this.dir, { recursive: true });
  }
}

function isWatch({ searchParams }: URL): boolean {
  return searchParams.get("watch") === "true";
}

interface Thing extends WatchedObject {
  readonly note?: string;
}

function thing(name: string, resourceVersion: string, note?: string): Thing {
  return { metadata: { name, resourceVersion }, ...(note === undefined ? {} : { note }) };
}

function list(items: readonly Thing[], resourceVersion: string, more: Record<string, string> = {}): Response {
  return Response.json({ items, metadata: { resourceVersion, ...more } });
}

function line(type: string, object: unknown): string {
  return JSON.stringify({ type, object }) + "\n";
}

/** A watch's stream of these chunks, which stays open. */
function open(...chunks: string[]): Response {
  const bytes = chunks.map((chunk) => new TextEncoder().encode(chunk));
  return new Response(new ReadableStream({ start: (controller) => bytes.forEach((one) => controller.enqueue(one)) }));
}

/** A list and watch on the server; `told` has what it tells. */
async function watching(
  answer: Answer,
  work: (the: { told: string[]; troubles: string[]; server: Server }) => Promise<void>,
  options: Pick<ListWatchOptions<Thing>, "silenceMs" | "relistMs" | "maxBackoffMs"> = {},
): Promise<void> {
  await using server = await Server.start(answer);
  using client = await KubeClient.open({ kubeconfig: await server.kubeconfig() });
  const told: string[] = [];
  const troubles: string[] = [];
  const stop = new AbortController();
  const running = new ListWatch<Thing>({
    client,
    path: "/things",
    labelSelector: "a=b",
    kind: "things",
    tagOf: ({ note }) => note ?? "",
    onObject: ({ metadata, note = "" }) => void told.push(`${metadata?.name}@${metadata?.resourceVersion}${note}`),
    onGone: (name, tag, last) => void told.push(`-${name}${tag}${last ? "" : "?"}`),
    onListed: () => void told.push("listed"),
    onTrouble: (reason) => void troubles.push(reason),
    maxBackoffMs: 20,
    ...options,
  }).run(stop.signal);
  try {
    await work({ told, troubles, server });
  } finally {
    stop.abort();
    await running;
  }
}

// ---------------------------------------------------------------- list

Deno.test("ListWatch reads all pages before it watches, from the list's version", async () => {
  const answer: Answer = (url) => {
    if (isWatch(url)) return open();
    const token = url.searchParams.get("continue");
    if (token === null) return list([thing("a", "1")], "9", { continue: "two" });
    return token === "two" ? list([thing("b", "2")], "9") : undefined;
  };
  await watching(answer, async ({ told, server }) => {
    await eventually(() => server.watchedFrom.length === 1);
    deepEqual(told, ["a@1", "b@2", "listed"]);
    deepEqual(server.watchedFrom, ["9"]);
    ok(server.requests.every(({ searchParams }) => searchParams.get("labelSelector") === "a=b"));
    ok(server.requests.every((url) => isWatch(url) || Number(url.searchParams.get("limit")) <= 500));
  });
});

Deno.test("ListWatch begins a list anew whose next page has expired", async () => {
  let expired = false;
  const answer: Answer = (url) => {
    if (isWatch(url)) return open();
    if (url.searchParams.get("continue") === null) return list([thing("a", "1")], "9", { continue: "two" });
    if (expired) return list([thing("b", "2")], "10");
    expired = true;
    return new Response("{}", { status: 410 });
  };
  await watching(answer, async ({ told, troubles }) => {
    await eventually(() => told.includes("listed"));
    // What has been told once and has not changed is not told again.
    deepEqual(told, ["a@1", "b@2", "listed"]);
    deepEqual(troubles, []);
  });
});

Deno.test("ListWatch lists from time to time, tells only what changed, and finds what is gone", async () => {
  let lists = 0;
  const answer: Answer = (url) => {
    if (isWatch(url)) return new Promise((resolve) => setTimeout(() => resolve(new Response("")), 550));
    return lists++ === 0
      ? list([thing("a", "1"), thing("b", "2"), thing("c", "3", "!")], "3")
      : list([thing("a", "1"), thing("b", "4")], "4");
  };
  await watching(answer, async ({ told, troubles }) => {
    await eventually(() => told.filter((one) => one === "listed").length >= 2);
    deepEqual(told.slice(0, 7), ["a@1", "b@2", "c@3!", "listed", "b@4", "-c!?", "listed"]);
    deepEqual(troubles, []);
  }, { relistMs: 500 });
});

// ---------------------------------------------------------------- watch

Deno.test("ListWatch takes lines as they come in pieces, of megabytes too", async () => {
  const text = line("ADDED", thing("a", "1", "ä".repeat(1_000_000))) + line("DELETED", thing("a", "2"));
  const cuts = Array.from({ length: 40 }, (_, at) => text.slice(at * text.length / 40, (at + 1) * text.length / 40));
  await watching((url) => isWatch(url) ? open(...cuts) : list([], "0"), async ({ told }) => {
    await eventually(() => told.length === 3);
    deepEqual([told[0], told[1]!.length, told[2]!.slice(0, 3)], ["listed", 1_000_003, "-aä"]);
  });
});

Deno.test("ListWatch goes on from a bookmark after the server has ended the stream", async () => {
  let watches = 0;
  const answer: Answer = (url) => {
    if (!isWatch(url)) return list([], "5");
    return ++watches === 1 ? new Response(line("ADDED", thing("a", "6")) + line("BOOKMARK", thing("", "77"))) : open();
  };
  await watching(answer, async ({ told, troubles, server }) => {
    await eventually(() => server.watchedFrom.length === 2);
    deepEqual(server.watchedFrom, ["5", "77"]);
    deepEqual([told, troubles], [["listed", "a@6"], []]);
  });
});

Deno.test("ListWatch drops a line that is cut off, and goes on from the line before", async () => {
  let watches = 0;
  const answer: Answer = (url) => {
    if (!isWatch(url)) return list([], "5");
    const next = line("ADDED", thing("b", "7"));
    return ++watches === 1
      ? new Response(line("ADDED", thing("a", "6")) + next.slice(0, next.length / 2))
      : open(line("ADDED", thing("b", "7")));
  };
  await watching(answer, async ({ told, troubles, server }) => {
    await eventually(() => told.includes("b@7"));
    deepEqual(server.watchedFrom, ["5", "6"]);
    deepEqual([told, troubles], [["listed", "a@6", "b@7"], []]);
  });
});

Deno.test("ListWatch tells of lines that are not JSON, and steps over them by a list", async () => {
  const answer: Answer = (url) => isWatch(url) ? new Response("{]\n") : list([thing("a", "1")], "5");
  await watching(answer, async ({ told, troubles, server }) => {
    await eventually(() => server.lists >= 2);
    match(troubles[0]!, /The watch of things sent something that is not JSON/);
    // Once, not at each attempt.
    equal(troubles.length, 1);
    deepEqual(told.slice(0, 3), ["a@1", "listed", "listed"]);
  });
});

Deno.test("ListWatch tells of an error in the stream with the server's words", async () => {
  const failure = line("ERROR", { kind: "Status", code: 500, message: "etcdserver: leader changed" });
  const answer: Answer = (url) => isWatch(url) ? new Response(failure) : list([], "5");
  await watching(answer, async ({ troubles }) => {
    await eventually(() => troubles.length > 0);
    match(troubles[0]!, /etcdserver: leader changed/);
  });
});

Deno.test("ListWatch lists again after 410, as status or in the stream, and tells of no trouble", async () => {
  let watches = 0;
  const answer: Answer = (url) => {
    if (!isWatch(url)) return list([], String(5 + watches));
    watches++;
    if (watches === 1) return new Response(line("ADDED", thing("a", "6")) + line("ERROR", { code: 410 }));
    // An event in between, for two faults in a row are an outage.
    if (watches === 2) return new Response(line("ADDED", thing("b", "7")));
    return watches === 3 ? new Response("{}", { status: 410 }) : open();
  };
  await watching(answer, async ({ troubles, server }) => {
    await eventually(() => server.watchedFrom.length === 4);
    deepEqual([server.lists, troubles], [3, []]);
  });
});

Deno.test("ListWatch does not run wild when each stream ends at once", async () => {
  const answer: Answer = (url) => isWatch(url) ? new Response("") : list([], "5");
  await watching(answer, async ({ troubles, server }) => {
    await eventually(() => troubles.length > 0);
    match(troubles[0]!, /ended at once/);
    const before = server.requests.length;
    await new Promise((resolve) => setTimeout(resolve, 500));
    ok(server.requests.length - before <= 8, `${server.requests.length - before} requests in 0.5 s`);
  }, { maxBackoffMs: 10_000 });
});

Deno.test("ListWatch goes on at once, however often a stream without events is cut that had lasted a while", async () => {
  const cut = () =>
    new Response(
      new ReadableStream({
        start: (controller) => void setTimeout(() => controller.error(new Error("cut")), 1_200),
      }),
    );
  const answer: Answer = (url) => isWatch(url) ? cut() : list([], "5");
  await watching(answer, async ({ troubles, server }) => {
    await eventually(() => server.watchedFrom.length >= 4);
    deepEqual([server.lists, troubles], [1, []]);
  }, { maxBackoffMs: 10_000 });
});

Deno.test("ListWatch tells of a missing right with what to do", async () => {
  const message = 'things is forbidden: User "x" cannot list resource "things"';
  const answer: Answer = () => Response.json({ kind: "Status", reason: "Forbidden", message }, { status: 403 });
  await watching(answer, async ({ troubles }) => {
    await eventually(() => troubles.length > 0);
    match(troubles[0]!, /Cannot list the things: .*cannot list resource.*deploy\/role\.yaml/);
  });
});

// ---------------------------------------------------------------- credentials

Deno.test("KubeClient reads a tokenFile, and again after 401", async () => {
  const tokens: (string | null)[] = [];
  await using server = await Server.start((_, request) => {
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
  await using server = await Server.start((_, request) => {
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
  await using server = await Server.start((_, { headers }) => {
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
  await using server = await Server.start((_, request) => {
    return new Response("{}", { status: request.headers.get("authorization") === `Basic ${btoa("a:b")}` ? 200 : 403 });
  });
  const user = { username: "a", password: "b" };
  using client = await KubeClient.open({ kubeconfig: await server.kubeconfig({ user }) });
  equal((await client.call("GET", "/x")).status, 200);
});

Deno.test("KubeClient takes several kubeconfigs as one, and what comes first wins", async () => {
  await using server = await Server.start(() => undefined);
  const first = await server.kubeconfig({ name: "first", current: false });
  const second = await server.kubeconfig({ name: "second" });
  const kubeconfig = `${server.dir}/missing:${first}:${second}:${second}`;
  using client = await KubeClient.open({ kubeconfig });
  equal(client.namespace, "ns-second");
  using other = await KubeClient.open({ kubeconfig, context: "first" });
  equal(other.namespace, "ns-first");
  using third = await KubeClient.open({ kubeconfig, namespace: "mine" });
  equal(third.namespace, "mine");
});

Deno.test("KubeClient.open() says what is wrong with a kubeconfig", async () => {
  await using server = await Server.start(() => undefined);
  const write = async (text: string) => {
    await Deno.writeTextFile(`${server.dir}/bad`, text);
    return `${server.dir}/bad`;
  };
  const good = JSON.parse(await Deno.readTextFile(await server.kubeconfig()));
  const https = structuredClone(good);
  https.clusters[0].cluster.server = "https://127.0.0.1:1";
  const cases: [text: string, words: RegExp][] = [
    ["{", /Cannot read the kubeconfig .*bad: /],
    [JSON.stringify({ ...good, "current-context": "" }), /no current context; set KUBE_CONTEXT/],
    [JSON.stringify({ ...good, clusters: [] }), /its context "here" names no cluster/],
    [JSON.stringify(https), /insecure-skip-tls-verify.*give its certificate-authority/],
  ];
  for (const [text, words] of cases) await rejects(KubeClient.open({ kubeconfig: await write(text) }), words);
});

Deno.test("an exec plugin that fails is for now, with its words", async () => {
  await using server = await Server.start(() => undefined);
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

// ---------------------------------------------------------------- create

Deno.test("create() takes a 403 of a server that is still starting for a passing one", async () => {
  const forbidden = () => {
    const message = 'jobs.batch is forbidden: User "x" cannot create resource "jobs"';
    return Response.json({ kind: "Status", reason: "Forbidden", message }, { status: 403 });
  };
  const row = { line: 2, jobName: "a", mqttTopic: "t", image: "i", gpu: 0, parallelism: 1, backoffLimit: 0 };
  const message = { topic: "t", payload: new Uint8Array() };
  const ids = { runName: "a-1", messageHash: "m", rootRun: "a-1", chainDepth: 0, receivedAt: new Date() };
  const spec: RunSpec = { row, message, ...ids };
  let answers: Response[] = [];
  await using server = await Server.start(() => answers.shift());
  using cluster = await connectKubernetes({ kubeconfig: await server.kubeconfig(), instance: "test", ttlSeconds: 60 });
  answers = [forbidden(), new Response("[-]informer-sync failed", { status: 500 })];
  await rejects(cluster.create(spec), UnavailableError);
  answers = [forbidden(), new Response("ok"), Response.json({}, { status: 201 })];
  equal(await cluster.create(spec), "created");
  answers = [forbidden(), new Response("ok"), forbidden()];
  await rejects(cluster.create(spec), RefusedError);
  deepEqual(answers, []);
});

// ---------------------------------------------------------------- rate limit

Deno.test("RateLimiter lets a burst go at once, then urgent calls before others", async () => {
  const limiter = new RateLimiter(50, 2);
  const order: string[] = [];
  const from = performance.now();
  const calls = [["a", false], ["b", false], ["c", false], ["d", false], ["e", true], ["f", true]] as const;
  await Promise.all(calls.map(async ([name, urgent]) => {
    await limiter.acquire(urgent);
    order.push(name);
  }));
  equal(order.join(""), "abefcd");
  const tookMs = performance.now() - from;
  ok(tookMs >= 75, `4 calls at 50/s took ${tookMs} ms`);
});

Deno.test("RateLimiter forgets a call that is given up", async () => {
  const limiter = new RateLimiter(20, 1);
  await limiter.acquire(false);
  const stop = new AbortController();
  const given = limiter.acquire(false, stop.signal);
  const next = limiter.acquire(false);
  stop.abort(new Error("enough"));
  await rejects(given!, /enough/);
  const from = performance.now();
  await next;
  ok(performance.now() - from < 90);
});
