/** S3Store on a real S3 server: the conformance suite, and what is S3's own. */
import { deepEqual, equal, match, ok, rejects } from "node:assert/strict";
import { RefusedError, UnavailableError } from "../ports.ts";
import { S3Store } from "../s3.ts";
import { needs } from "./harness/needs.ts";
import { HttpProxy } from "./harness/proxy.ts";
import { freePort } from "./harness/ports.ts";
import { says } from "./harness/says.ts";
import { type S3Server, startS3 } from "./harness/s3.ts";
import { useCredentials } from "./harness/aws_env.ts";
import { eventually } from "./harness/wait.ts";
import { storeConformance } from "./conformance/store.ts";

const ignore = !await needs("s3");

/** A server with its credentials in the environment. */
async function withServer(body: (server: S3Server, store: S3Store) => Promise<void>): Promise<void> {
  await using server = await startS3();
  using _credentials = useCredentials(server);
  await body(server, new S3Store({ url: "s3://braingeneers/services", endpoint: server.url, attempts: 1 }));
}

storeConformance("S3Store", async () => {
  const server = await startS3();
  const credentials = useCredentials(server);
  return {
    store: (name) => new S3Store({ url: `s3://braingeneers/${name}`, endpoint: server.url }),
    async [Symbol.asyncDispose]() {
      credentials[Symbol.dispose]();
      await server[Symbol.asyncDispose]();
    },
  };
}, { ignore });

Deno.test({
  name: "objects are where the URL says, with their content type",
  ignore,
  fn: () =>
    withServer(async (server, store) => {
      await store.put("logs/run-1.txt", "the log", { contentType: "text/plain" });
      equal(await server.get("s3://braingeneers/services/logs/run-1.txt"), "the log");
      await server.put("s3://braingeneers/services/jobs.csv", "a,b");
      const object = await store.get("jobs.csv");
      ok(object !== undefined && object !== "unchanged");
      equal(new TextDecoder().decode(object.body), "a,b");
      equal(store.url, "s3://braingeneers/services");
      const answer = await fetch(await store.link("logs/run-1.txt", { expiresSeconds: 60 }));
      await answer.body?.cancel();
      equal(answer.headers.get("content-type"), "text/plain");
    }),
});

Deno.test({
  name: "a root that is the whole bucket works",
  ignore,
  fn: () =>
    withServer(async (server) => {
      const store = new S3Store({ url: "s3://braingeneers/", endpoint: server.url });
      await store.put("a", "x");
      deepEqual((await Array.fromAsync(store.list(""))).map(({ key }) => key), ["a"]);
      equal(await server.get("s3://braingeneers/a"), "x");
    }),
});

Deno.test({
  name: "a link is bounded to 7 days and says nothing of the secret",
  ignore,
  fn: () =>
    withServer(async (server, store) => {
      const url = new URL(await store.link("x", { expiresSeconds: 365 * 24 * 3600 }));
      equal(url.searchParams.get("X-Amz-Expires"), "604800");
      ok(!url.href.includes(server.secretKey));
    }),
});

Deno.test({
  name: "a server that does not run is said with its address and AWS_ENDPOINT_URL",
  async fn() {
    using _credentials = useCredentials({ accessKey: "a", secretKey: "b" });
    const endpoint = `http://127.0.0.1:${freePort()}`;
    const store = new S3Store({ url: "s3://lab/x", endpoint, attempts: 1 });
    const words = new RegExp(`^Cannot read s3://lab/x/jobs.csv: connection to ${endpoint} refused.*AWS_ENDPOINT_URL$`);
    await rejects(store.get("jobs.csv"), says(UnavailableError, words));
    await rejects(store.put("jobs.csv", "x"), says(UnavailableError, /^Cannot write/));
    await rejects(Array.fromAsync(store.list("")), says(UnavailableError, /^Cannot list/));
  },
});

Deno.test({
  name: "a host name that does not exist is said",
  async fn() {
    using _credentials = useCredentials({ accessKey: "a", secretKey: "b" });
    const store = new S3Store({ url: "s3://lab", endpoint: "http://no-such-host.invalid", attempts: 1 });
    await rejects(store.get("x"), says(UnavailableError, /host name no-such-host.invalid is not known/));
  },
});

Deno.test({
  name: "a server that is slow to answer is given up after the timeout",
  ignore,
  fn: () =>
    withServer(async (server) => {
      const store = new S3Store({ url: "s3://braingeneers", endpoint: server.url, attempts: 1, requestTimeoutMs: 300 });
      await server.put("s3://braingeneers/x", "y");
      await server.process.freeze();
      await rejects(store.get("x"), says(UnavailableError, /did not answer in time.*AWS_ENDPOINT_URL/));
      const stop = AbortSignal.timeout(50);
      await rejects(store.get("x", { signal: stop }), { name: "TimeoutError" });
      server.process.signal("SIGCONT");
      await eventually(() => store.get("x"));
    }),
});

Deno.test({
  name: "more calls at once than there are connections wait for their turn, and none counts as unanswered",
  ignore,
  fn: () =>
    withServer(async (server) => {
      await using slow = await HttpProxy.start({ target: server.url, hook: () => ({ delayMs: 1_000 }) });
      const url = "s3://braingeneers/many";
      const store = new S3Store({ url, endpoint: slow.url, attempts: 1, connectTimeoutMs: 4_000 });
      await Promise.all(Array.from({ length: 300 }, (_, n) => store.put(String(n), "x")));
      const stop = new AbortController();
      const waiting = Array.from({ length: 100 }, (_, n) => store.exists(String(n), { signal: stop.signal }));
      stop.abort(new Error("enough"));
      for (const one of await Promise.allSettled(waiting)) equal(one.status, "rejected");
      equal(await store.exists("299"), true);
    }),
});

Deno.test({
  name: "a bucket that does not exist is said with its name",
  ignore,
  fn: () =>
    withServer(async (server) => {
      const store = new S3Store({ url: "s3://misspelt", endpoint: server.url });
      await rejects(store.get("x"), says(RefusedError, /there is no bucket "misspelt".*AWS_ENDPOINT_URL/));
      await rejects(store.put("x", "y"), says(RefusedError, /there is no bucket "misspelt"/));
    }),
});

Deno.test({
  name: "wrong and missing credentials are told apart and named by their variables",
  ignore,
  async fn() {
    await using server = await startS3();
    const read = () => new S3Store({ url: "s3://braingeneers", endpoint: server.url }).get("x");
    const variables = /AWS_PROFILE, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY/;
    for (const wrong of [{ accessKey: "nobody", secretKey: "x" }, { accessKey: server.accessKey, secretKey: "x" }]) {
      using _credentials = useCredentials(wrong);
      await rejects(read(), says(RefusedError, variables));
      await rejects(read(), says(RefusedError, /does not accept the credentials/));
    }
    using _none = useCredentials({});
    await rejects(read(), says(RefusedError, /no credentials found/));
    await rejects(read(), says(RefusedError, variables));
  },
});

Deno.test({
  name: "a server that dies in the middle of a multipart upload leaves nothing to be seen",
  ignore,
  fn: () =>
    withServer(async (server, store) => {
      async function* source() {
        for (let n = 0; n < 20; n++) {
          if (n === 15) await server.kill9();
          yield new Uint8Array(1_000_000);
        }
      }
      await rejects(store.put("log.txt", source()), says(UnavailableError, /^Cannot write/));
      await server.start();
      equal(await store.exists("log.txt"), false);
      await store.put("log.txt", "second try");
      equal(await server.get("s3://braingeneers/services/log.txt"), "second try");
    }),
});

Deno.test({
  name: "300 MB are streamed with flat memory",
  ignore,
  fn: () =>
    withServer(async (_server, store) => {
      const chunkBytes = 64 * 1024;
      let before = 0;
      let most = 0;
      async function* source() {
        for (let n = 0; n < 4_800; n++) {
          // Each its own: an upload that holds on to its chunks would not be seen otherwise.
          yield await Promise.resolve(new Uint8Array(chunkBytes).fill(65));
          if (n === 1_000) before = Deno.memoryUsage().rss;
          most = Math.max(most, Deno.memoryUsage().rss);
        }
      }
      await store.put("large", source(), { signal: new AbortController().signal });
      ok(most - before < 120_000_000, `grew by ${Math.round((most - before) / 1e6)} MB`);
      let size = 0;
      for await (const bytes of (await store.read("large"))!) size += bytes.length;
      equal(size, 4_800 * chunkBytes);
    }),
});

Deno.test("an URL that is no bucket's is refused", () => {
  for (const url of ["https://bucket/x", "s3://", "s3:///x", "bucket"]) {
    let message = "";
    try {
      new S3Store({ url });
    } catch (error) {
      message = (error as Error).message;
    }
    match(message, /expected s3:\/\/bucket\/prefix/);
  }
});
