/** Parts of objects by servers that know no ranges, or answer with others. */
import { deepEqual, equal, ok, rejects } from "node:assert/strict";
import { UnavailableError } from "../../ports.ts";
import { S3Store } from "../../s3.ts";
import { useCredentials } from "../harness/aws_env.ts";
import { says } from "../harness/says.ts";

/** A store on a server that answers each request so. */
async function withAnswers(
  answer: (range: string | null) => Response,
  body: (store: S3Store) => Promise<void>,
): Promise<void> {
  using _credentials = useCredentials({ accessKey: "key", secretKey: "secret" });
  await using server = Deno.serve(
    { hostname: "127.0.0.1", port: 0, onListen() {} },
    (request) => answer(request.headers.get("range")),
  );
  await body(new S3Store({ url: "s3://lab", endpoint: `http://127.0.0.1:${server.addr.port}`, attempts: 1 }));
}

Deno.test("readPart() finds its bytes in the whole that a server without ranges sends, and reads no further", async () => {
  let sent = 0;
  const endless = () =>
    new ReadableStream<Uint8Array>({
      pull(controller) {
        controller.enqueue(new Uint8Array(65_536).fill(sent++ % 251));
      },
    });
  await withAnswers(() => new Response("0123456789"), async (store) => {
    const part = await store.readPart("log", { from: 3, length: 4 });
    equal(new TextDecoder().decode(part!.bytes), "3456");
    equal(part!.size, 10);
  });
  await withAnswers(() => new Response(endless(), { headers: { "content-length": `${2 ** 40}` } }), async (store) => {
    const part = await store.readPart("log", { from: 65_536 * 2, length: 10 });
    deepEqual([part!.bytes.length, part!.size], [10, 2 ** 40]);
    ok(sent < 1_000, `${sent} chunks of 64 KiB`);
  });
});

Deno.test("readPart() refuses other bytes than it asked for", async () => {
  const answer = () => new Response("012", { status: 206, headers: { "content-range": "bytes 0-2/10" } });
  await withAnswers(answer, async (store) => {
    await rejects(
      store.readPart("log", { from: 3, length: 3 }),
      says(UnavailableError, /other bytes than it was asked for: bytes 0-2\/10/),
    );
  });
});
