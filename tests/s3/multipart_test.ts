/** Streams as objects of several parts: where a part ends, and what is left of an upload that fails. */
import { deepEqual, equal, rejects } from "node:assert/strict";
import { createHash } from "node:crypto";
import { UnavailableError } from "../../ports.ts";
import { partsOf } from "../../s3/multipart.ts";
import { S3Store } from "../../s3.ts";
import { useCredentials } from "../harness/aws_env.ts";
import { needs } from "../harness/needs.ts";
import { type HttpHook, HttpProxy, type ProxiedRequest } from "../harness/proxy.ts";
import { says } from "../harness/says.ts";
import { type S3Server, startS3 } from "../harness/s3.ts";

const ignore = !await needs("s3");
const PART = 8 * 2 ** 20;

/** Bytes that no two parts have alike, in pieces of 100,000 that share one buffer. */
async function* bytesOf(size: number): AsyncGenerator<Uint8Array> {
  const shared = new Uint8Array(100_000);
  for (let at = 0; at < size; at += shared.length) {
    const piece = shared.subarray(0, size - at);
    for (let n = 0; n < piece.length; n++) piece[n] = (at + n) % 251;
    yield await Promise.resolve(piece);
  }
}

async function digestOf(chunks: AsyncIterable<Uint8Array>): Promise<string> {
  const hash = createHash("sha256");
  for await (const chunk of chunks) hash.update(chunk);
  return hash.digest("hex");
}

const isPart = ({ method, path }: ProxiedRequest) => method === "PUT" && path.includes("partNumber=");
const isComplete = ({ method, path }: ProxiedRequest) => method === "POST" && path.includes("uploadId=");

/** What requests there were, without their keys. */
function kindsOf({ requests }: HttpProxy): string[] {
  return requests.map((request) => {
    const part = /partNumber=(\d+)/.exec(request)?.[1];
    if (part !== undefined) return `part ${part}`;
    if (request.startsWith("POST")) return request.includes("uploadId=") ? "complete" : "begin";
    return request.startsWith("DELETE") ? "abort" : request.slice(0, request.indexOf(" ")).toLowerCase();
  });
}

/** A store on a real server, behind a proxy that does as `hook` says. */
async function withStore(
  body: (bed: { store: S3Store; proxy: HttpProxy; server: S3Server }) => Promise<void>,
  { hook, attempts = 1 }: { hook?: HttpHook; attempts?: number } = {},
): Promise<void> {
  await using server = await startS3();
  using _credentials = useCredentials(server);
  await using proxy = await HttpProxy.start({ target: server.url, ...(hook ? { hook } : {}) });
  await body({ store: new S3Store({ url: "s3://braingeneers/x", endpoint: proxy.url, attempts }), proxy, server });
}

/** No object, and no part of one. */
async function assertEmpty({ dataDir }: S3Server): Promise<void> {
  const left: string[] = [];
  const walk = async (folder: string) => {
    for await (const { name, isDirectory } of Deno.readDir(folder)) {
      if (isDirectory) await walk(`${folder}/${name}`);
      else left.push(`${folder}/${name}`);
    }
  };
  await walk(`${dataDir}/braingeneers`);
  deepEqual(left, []);
}

Deno.test("a source is cut into full parts and a last one, wherever its pieces end", async () => {
  async function* source(pieces: readonly number[]) {
    // As one that reads into the same buffer again.
    const shared = new Uint8Array(100);
    let n = 0;
    for (const length of pieces) {
      for (let at = 0; at < length; at++) shared[at] = n++;
      yield await Promise.resolve(shared.subarray(0, length));
    }
  }
  const cases: [pieces: number[], parts: number[]][] = [
    [[], [0]],
    [[0], [0]],
    [[1], [1]],
    [[4], [4]],
    [[4, 0], [4]],
    [[5], [4, 1]],
    [[3, 3], [4, 2]],
    [[8], [4, 4]],
    [[2, 2, 2, 2], [4, 4]],
    [[1, 7, 1], [4, 4, 1]],
    // From the third part on they have twice the size.
    [[16], [4, 4, 8]],
    [[17], [4, 4, 8, 1]],
    [[33, 0, 1], [4, 4, 8, 8, 10]],
  ];
  const sizeOf = (number: number) => number < 3 ? 4 : number < 5 ? 8 : 16;
  for (const [pieces, expected] of cases) {
    const bytes: number[] = [];
    const sizes: number[] = [];
    const lasts: boolean[] = [];
    const buffers = new Set<ArrayBufferLike>();
    for await (const part of partsOf(source(pieces), sizeOf)) {
      sizes.push(part.bytes.length);
      lasts.push(part.isLast);
      bytes.push(...part.bytes);
      buffers.add(part.bytes.buffer);
    }
    const name = pieces.join();
    deepEqual(sizes, expected, name);
    deepEqual(lasts, expected.map((_, at) => at === expected.length - 1), name);
    deepEqual(bytes, bytes.map((_, n) => n), name);
    equal(buffers.size, new Set(expected.map((_, at) => sizeOf(at + 1))).size, name);
  }
});

Deno.test({
  name: "a stream of a part's size goes by one request, of more by parts, of which none is empty",
  ignore,
  fn: () =>
    withStore(async ({ store, proxy }) => {
      const cases: [size: number, requests: string[]][] = [
        [PART - 1, ["put"]],
        [PART, ["put"]],
        [PART + 1, ["begin", "part 1", "part 2", "complete"]],
        [2 * PART, ["begin", "part 1", "part 2", "complete"]],
        [2 * PART + 5, ["begin", "part 1", "part 2", "part 3", "complete"]],
      ];
      for (const [size, requests] of cases) {
        proxy.requests.length = 0;
        await store.put(`of-${size}`, bytesOf(size), { contentType: "text/x-log" });
        deepEqual(kindsOf(proxy), requests, `${size}`);
        equal(await digestOf((await store.read(`of-${size}`))!), await digestOf(bytesOf(size)), `${size}`);
        const answer = await fetch(await store.link(`of-${size}`, { expiresSeconds: 60 }));
        await answer.body?.cancel();
        equal(answer.headers.get("content-type"), "text/x-log");
      }
    }),
});

Deno.test({
  name: "a part that fails is sent again as it was, and only that one",
  ignore,
  async fn() {
    for (const fault of ["swallow", { status: 500, body: "" }] as const) {
      let failed = 0;
      const hook: HttpHook = (request) =>
        isPart(request) && request.path.includes("partNumber=2") && failed++ < 1 ? fault : "pass";
      await withStore(async ({ store, proxy }) => {
        await store.put("log", bytesOf(3 * PART));
        deepEqual(kindsOf(proxy), ["begin", "part 1", "part 2", "part 2", "part 3", "complete"]);
        equal(await digestOf((await store.read("log"))!), await digestOf(bytesOf(3 * PART)));
      }, { hook, attempts: 3 });
    }
  },
});

Deno.test({
  name: "an upload of which a part is refused, or has no ETag, or which cannot be completed, leaves nothing",
  ignore,
  async fn(t) {
    const xml = { "content-type": "application/xml" };
    const error = (code: string) =>
      `<?xml version="1.0"?><Error><Code>${code}</Code><Message>no room</Message></Error>`;
    const cases: [name: string, hook: HttpHook, words: RegExp][] = [
      [
        "a part is refused",
        (request) =>
          isPart(request) && request.path.includes("partNumber=2")
            ? { status: 503, headers: xml, body: error("ServiceUnavailable") }
            : "pass",
        /^Cannot write .*cannot do it now \(503 no room\)/,
      ],
      ["a part has no ETag", (request) => isPart(request) ? { status: 200 } : "pass", /no ETag of part 1/],
      [
        "the failure comes with the status 200",
        (request) => isComplete(request) ? { status: 200, headers: xml, body: error("InternalError") } : "pass",
        /^Cannot write .*no room/,
      ],
    ];
    for (const [name, hook, words] of cases) {
      await t.step(name, () =>
        withStore(async ({ store, proxy, server }) => {
          await rejects(store.put("log", bytesOf(2 * PART)), says(UnavailableError, words));
          equal(kindsOf(proxy).at(-1), "abort");
          equal(await store.exists("log"), false);
          await assertEmpty(server);
          proxy.hook = () => "pass";
          await store.put("log", bytesOf(2 * PART));
          equal(await digestOf((await store.read("log"))!), await digestOf(bytesOf(2 * PART)));
        }, { hook }));
    }
  },
});

Deno.test({
  name: "a signal that aborts while a part is under way ends the upload at once, and nothing of it is left",
  ignore,
  async fn() {
    const stop = new AbortController();
    // A server that takes the part and says nothing.
    const hook: HttpHook = (request) => {
      if (!isPart(request) || !request.path.includes("partNumber=2")) return "pass";
      return { answer: () => stop.abort(new Error("enough")) };
    };
    await withStore(async ({ store, proxy, server }) => {
      await rejects(store.put("log", bytesOf(3 * PART), { signal: stop.signal }), /^Error: enough$/);
      deepEqual(kindsOf(proxy), ["begin", "part 1", "part 2", "abort"]);
      equal(await store.exists("log"), false);
      await assertEmpty(server);
    }, { hook });
  },
});

Deno.test("a server that begins an upload and gives no id of it is said to", async () => {
  using _credentials = useCredentials({ accessKey: "a", secretKey: "b" });
  const body = "<InitiateMultipartUploadResult></InitiateMultipartUploadResult>";
  const hook = () => ({ status: 200, headers: { "content-type": "application/xml" }, body });
  await using proxy = await HttpProxy.start({ target: "http://127.0.0.1:1", hook });
  const store = new S3Store({ url: "s3://lab/x", endpoint: proxy.url, attempts: 1 });
  await rejects(store.put("log", bytesOf(2 * PART)), says(UnavailableError, /gave no id/));
  deepEqual(kindsOf(proxy), ["begin"]);
});
