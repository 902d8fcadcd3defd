/** What a store may do wrongly, or in bad faith, and how little of it is believed or held. */
import http from "node:http";
import { deepEqual, equal, ok, rejects } from "node:assert/strict";
import { RefusedError, UnavailableError } from "../../ports.ts";
import { S3Store } from "../../s3.ts";
import { errorMessage } from "../../util/errors.ts";
import { useCredentials } from "../harness/aws_env.ts";
import { needs } from "../harness/needs.ts";
import { freePort } from "../harness/ports.ts";
import { type HttpHook, HttpProxy } from "../harness/proxy.ts";
import { startS3 } from "../harness/s3.ts";
import { says } from "../harness/says.ts";

const ignore = !await needs("s3");
const MIB = 2 ** 20;

function xml(body: string, status = 200, headers: Record<string, string> = {}) {
  return { status, headers: { "content-type": "application/xml", ...headers }, body };
}

function failure(code: string, message: string, status: number, headers: Record<string, string> = {}) {
  return xml(`<Error><Code>${code}</Code><Message>${message}</Message></Error>`, status, headers);
}

function page(keys: readonly string[], isTruncated: boolean) {
  const contents = keys.map((key) => `<Contents><Key>${key}</Key><Size>1</Size></Contents>`).join("");
  const head = `<Name>lab</Name><KeyCount>${keys.length}</KeyCount><IsTruncated>${isTruncated}</IsTruncated>`;
  return xml(`<ListBucketResult>${head}${contents}</ListBucketResult>`);
}

/** A store on a server that answers as `hook` says. */
async function withAnswers(
  hook: HttpHook,
  body: (store: S3Store, server: HttpProxy) => Promise<void>,
): Promise<void> {
  using _credentials = useCredentials({ accessKey: "AKIDEXAMPLE", secretKey: "wJalrXUtnFEMI" });
  await using server = await HttpProxy.start({ target: "http://127.0.0.1:1", hook });
  await body(new S3Store({ url: "s3://lab/x", endpoint: server.url, attempts: 1 }), server);
}

/** A store on a server whose answers never end: `chunk` again and again, until the client has gone. */
async function withEndless(
  head: { status: number; headers: Record<string, string> },
  chunk: string,
  body: (store: S3Store, sent: () => number) => Promise<void>,
): Promise<void> {
  using _credentials = useCredentials({ accessKey: "a", secretKey: "b" });
  let sent = 0;
  const server = http.createServer((request, response) => {
    request.resume();
    response.writeHead(head.status, head.headers);
    const piece = chunk.repeat(Math.ceil(64 * 1024 / chunk.length));
    const send = () => {
      while (!response.destroyed) {
        sent += piece.length;
        if (!response.write(piece)) return void response.once("drain", send);
      }
    };
    send();
  });
  const port = freePort();
  await new Promise<void>((resolve) => server.listen(port, "127.0.0.1", () => resolve()));
  try {
    await body(new S3Store({ url: "s3://lab/x", endpoint: `http://127.0.0.1:${port}`, attempts: 1 }), () => sent);
  } finally {
    const closed = new Promise<void>((resolve) => server.close(() => resolve()));
    server.closeAllConnections();
    await closed;
  }
}

Deno.test("an object without an end is read up to the bound and no further", () =>
  withEndless({ status: 200, headers: { etag: '"1"' } }, "a,b,c\n", async (store, sent) => {
    const words = /^Cannot read s3:\/\/lab\/x\/jobs.csv: it has more than 2 MiB, and no more is read$/;
    await rejects(store.get("jobs.csv", { maxBytes: 2 * MIB }), says(RefusedError, words));
    ok(sent() < 16 * MIB, `${sent()} bytes were sent`);
  }));

Deno.test("lists and errors without an end are given up", async () => {
  const contents = "<Contents><Key>x/a</Key><Size>1</Size></Contents>";
  for (const status of [200, 403, 500]) {
    await withEndless({ status, headers: {} }, contents, async (store, sent) => {
      const kind = RefusedError;
      await rejects(
        Array.fromAsync(store.list("")),
        says(kind, /^Cannot list s3:\/\/lab\/x\/: it has more than 16 MiB/),
      );
      if (status !== 200) await rejects(store.get("a"), says(kind, /it has more than 16 MiB/));
      if (status !== 200) await rejects(store.put("a", "b"), says(kind, /it has more than 16 MiB/));
      ok(sent() < 160 * MIB, `${sent()} bytes were sent`);
    });
  }
});

Deno.test("an answer that trickles for ever is given up", async () => {
  using _credentials = useCredentials({ accessKey: "a", secretKey: "b" });
  const timers: ReturnType<typeof setInterval>[] = [];
  const trickle = http.createServer((_, response) => {
    response.writeHead(200, { etag: '"1"' });
    timers.push(setInterval(() => response.write("<"), 20));
  });
  const port = freePort();
  await new Promise<void>((resolve) => trickle.listen(port, "127.0.0.1", () => resolve()));
  try {
    const endpoint = `http://127.0.0.1:${port}`;
    const store = new S3Store({ url: "s3://lab/x", endpoint, attempts: 1, callTimeoutMs: 300 });
    const words = /^Cannot \w+ s3:\/\/lab\/x\/a?: .* did not answer in time/;
    await rejects(store.get("a"), says(UnavailableError, words));
    await rejects(Array.fromAsync(store.list("")), says(UnavailableError, words));
    await rejects(store.put("a", "b"), says(UnavailableError, words));
  } finally {
    timers.forEach((timer) => clearInterval(timer));
    const closed = new Promise<void>((resolve) => trickle.close(() => resolve()));
    trickle.closeAllConnections();
    await closed;
  }
});

Deno.test("a list that repeats its first page ends with an error, also with one page of nothing new", async () => {
  await withAnswers(() => page(["x/a", "x/b"], true), async (store) => {
    const keys: string[] = [];
    await rejects(async () => {
      for await (const { key } of store.list("")) keys.push(key);
    }, says(UnavailableError, /^Cannot list s3:\/\/lab\/x\/: the server repeats its first page/));
    deepEqual(keys, ["a", "b"]);
  });
  await withAnswers(() => page([], true), async (store) => deepEqual(await Array.fromAsync(store.list("")), []));
});

Deno.test("keys of a list that nobody asked for, or could read, are left out", () =>
  withAnswers(
    () => page(["x/../../y", "x/a/../b", "y/a", "x/logs/", "x//a", "x/a&#9;b", "x/good.json"], false),
    async (store) => {
      deepEqual((await Array.fromAsync(store.list(""))).map(({ key }) => key), ["good.json"]);
    },
  ));

Deno.test("a Retry-After of years is not waited for", () =>
  withAnswers(
    (_, count) => count === 0 ? failure("SlowDown", "slow", 503, { "retry-after": "999999999" }) : xml("ok"),
    async (_, server) => {
      const store = new S3Store({ url: "s3://lab/x", endpoint: server.url, attempts: 2 });
      const found = await store.get("a");
      ok(found !== undefined && found !== "unchanged");
      equal(server.requests.length, 2);
    },
  ));

Deno.test("what S3 refuses is said in plain words, with what to do and without a secret", async (t) => {
  const cases: [
    what: ReturnType<typeof failure>,
    kind: typeof RefusedError | typeof UnavailableError,
    words: RegExp,
  ][] = [
    [
      failure("RequestTimeTooSkewed", "The difference is too large", 403),
      UnavailableError,
      /clocks .* Set this machine's clock/,
    ],
    [
      failure("SignatureDoesNotMatch", "The signature", 403),
      RefusedError,
      /does not accept the credentials.*AWS_SECRET_ACCESS_KEY/,
    ],
    [
      failure("AccessDenied", "Access Denied", 403),
      RefusedError,
      /access denied by .* \(Access Denied\).*bucket "lab"/,
    ],
    [failure("NoSuchBucket", "None", 404), RefusedError, /there is no bucket "lab"/],
    [failure("ExpiredToken", "The token has expired", 400), UnavailableError, /credentials have expired/],
    [
      failure("PermanentRedirect", "Use the endpoint", 301, { "x-amz-bucket-region": "eu-west-2" }),
      RefusedError,
      /bucket "lab" belongs to another region. Set AWS_REGION=eu-west-2/,
    ],
    [
      failure("AuthorizationHeaderMalformed", "the region 'us-east-1' is wrong; expecting 'eu-north-1'", 400),
      RefusedError,
      /belongs to another region. Set AWS_REGION=eu-north-1/,
    ],
    [
      failure("AuthorizationHeaderMalformed", "expecting '&#27;[2J'", 400),
      RefusedError,
      /belongs to another region. Check AWS_REGION/,
    ],
    [failure("InternalError", "We &#x1b;[31m failed", 500), UnavailableError, /cannot do it now \(500 We /],
    [failure("Odd", "x".repeat(100_000), 418), RefusedError, /refused \(418 x{300}…/],
  ];
  for (const [answer, kind, words] of cases) {
    await t.step(words.source, () =>
      withAnswers(() => answer, async (store) => {
        for (const call of [() => store.get("a"), () => store.exists("a"), () => store.put("a", "b")]) {
          await rejects(call(), (error: Error) => {
            says(kind, words)(error);
            ok(!/AKIDEXAMPLE|wJalrXUtnFEMI|\p{Cc}/u.test(errorMessage(error)), errorMessage(error));
            return true;
          });
        }
      }));
  }
});

Deno.test({
  name: "a bucket that is missing is no missing object",
  ignore,
  async fn() {
    await using server = await startS3();
    using _credentials = useCredentials(server);
    const missing = new S3Store({ url: "s3://misspelt/x", endpoint: server.url });
    await rejects(missing.exists("a"), says(RefusedError, /^Cannot look up .*: there is no bucket "misspelt"/));
    await rejects(missing.read("a", { tail: 1 }), says(RefusedError, /there is no bucket "misspelt"/));
    const store = new S3Store({ url: "s3://braingeneers/x", endpoint: server.url });
    await store.put("empty", "");
    await store.put("large", new Uint8Array(5 * MIB));
    equal(await store.exists("empty"), true);
    equal(await store.exists("large"), true);
    equal(await store.exists("missing"), false);
  },
});

Deno.test({
  name: "an object without an ETag is unchanged until its content changes",
  ignore,
  async fn() {
    await using server = await startS3();
    using _credentials = useCredentials(server);
    const store = new S3Store({ url: "s3://braingeneers", endpoint: server.url });
    // As people do: copied into the server's folder. versitygw has no ETag for it.
    await Deno.writeTextFile(`${server.dataDir}/braingeneers/jobs.csv`, "a,b\n1,2\n");
    const first = await store.get("jobs.csv");
    ok(first !== undefined && first !== "unchanged");
    ok(first.etag !== "");
    equal(await store.get("jobs.csv", { ifNoneMatch: first.etag }), "unchanged");
    await Deno.writeTextFile(`${server.dataDir}/braingeneers/jobs.csv`, "a,b\n1,3\n");
    const second = await store.get("jobs.csv", { ifNoneMatch: first.etag });
    ok(second !== undefined && second !== "unchanged");
    await store.put("jobs.csv", "with an ETag of the server's");
    const third = await store.get("jobs.csv", { ifNoneMatch: second.etag });
    ok(third !== undefined && third !== "unchanged");
    equal(await store.get("jobs.csv", { ifNoneMatch: third.etag }), "unchanged");
  },
});

Deno.test("an object in an archive is there, and cannot be read", () =>
  withAnswers(() => failure("InvalidObjectState", "The operation is not valid", 403), async (store) => {
    equal(await store.exists("a"), true);
    await rejects(store.get("a"), says(RefusedError, /lies in an archive \(Glacier\). Restore it/));
  }));

Deno.test("the end of an object is read from servers that have ranges of their own, or none of the kind", async (t) => {
  const ranged = (first: number, last: number) => ({
    status: 206,
    headers: { "content-range": `bytes ${first}-${last}/10` },
    body: "0123456789".slice(first, last + 1),
  });
  const cases: Record<string, HttpHook> = {
    "-3 is 0-3": ({ headers }) => headers.get("range") === "bytes=-3" ? ranged(0, 3) : ranged(7, 9),
    "416": ({ headers }) => headers.get("range") === "bytes=-3" ? failure("InvalidRange", "No", 416) : ranged(7, 9),
    "nothing comes": ({ headers }) => headers.get("range") === "bytes=-3" ? { status: 206, body: "" } : ranged(7, 9),
  };
  for (const [name, hook] of Object.entries(cases)) {
    await t.step(name, () =>
      withAnswers((request, count) => {
        return request.method === "HEAD" ? { status: 200, headers: { "content-length": "10" } } : hook(request, count);
      }, async (store) => {
        const stream = await store.read("a", { tail: 3 });
        equal(await new Response(stream as ReadableStream<Uint8Array<ArrayBuffer>>).text(), "789");
      }));
  }
});

Deno.test("a stream's own error comes through where the server cannot abort the upload either", () =>
  withAnswers(({ method }) => {
    if (method === "POST") {
      return xml("<InitiateMultipartUploadResult><UploadId>u</UploadId></InitiateMultipartUploadResult>");
    }
    return method === "PUT" ? xml("", 200, { etag: '"e"' }) : failure("NotImplemented", "no", 501);
  }, async (store, server) => {
    async function* source() {
      for (let n = 0; n < 20; n++) yield await Promise.resolve(new Uint8Array(MIB));
      throw new Error("the pod is gone");
    }
    await rejects(store.put("log", source()), /^Error: the pod is gone$/);
    ok(server.requests.some((request) => request.startsWith("DELETE ")), server.requests.join("\n"));
  }));

Deno.test("a server that knows no If-None-Match is understood by its ETag", () =>
  withAnswers(() => ({ status: 200, headers: { etag: '"same"' }, body: "x" }), async (store) => {
    equal(await store.get("a", { ifNoneMatch: '"same"' }), "unchanged");
  }));

Deno.test("a store whose URL leads somewhere else is refused", () => {
  for (
    const url of [
      "s3://la b?#/x",
      "s3://lab/../other",
      "s3://lab/a//b",
      "s3://lab/a\\..\\b",
      `s3://lab/${"x".repeat(2000)}`,
    ]
  ) {
    let message = "";
    try {
      new S3Store({ url });
    } catch (error) {
      message = (error as Error).message;
    }
    ok(/^Invalid store URL "s3:\/\/la/.test(message) && message.length < 400, message);
  }
});
