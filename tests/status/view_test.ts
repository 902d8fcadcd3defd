/** The view of a running service that the page shows. */
import { equal } from "node:assert/strict";
import { LocalStore } from "../../local/store.ts";
import { RunRecords } from "../../records.ts";
import type { Service } from "../../service.ts";
import { statusView } from "../../status/view.ts";
import { FakeCluster, FakeStore, job } from "../harness/fakes.ts";

Deno.test("of a stored log's end nothing else is read", async () => {
  const folder = await Deno.makeTempDir();
  const closing = new AbortController();
  try {
    const logs = new LocalStore(folder);
    await logs.put("count-abc.txt", "a line\n".repeat(200_000) + "the end\n");
    const service = {
      catalog: { url: "s3://lab/jobs.csv" },
      records: new RunRecords(new FakeStore()),
      subscribe: () => {},
      runs: new Map(),
    };
    const options = { cluster: new FakeCluster(), logs };
    const view = statusView(service as unknown as Service, options);
    const read = async (tail: { tailBytes?: number }) => {
      const stream = await view.log("count-abc", { follow: false, ...tail, signal: closing.signal });
      return await new Response(stream as ReadableStream<Uint8Array<ArrayBuffer>>).text();
    };
    equal(await read({ tailBytes: 15 }), "a line\nthe end\n");
    equal((await read({})).length, 7 * 200_000 + 8);
  } finally {
    closing.abort();
    await Deno.remove(folder, { recursive: true });
  }
});

Deno.test("of a run whose end is told, and whose Job is there still, the log is the stored one", async () => {
  const logs = new FakeStore();
  await logs.put("count-abc.txt", "run: count-abc\n\nthe end\n");
  const run = { job: job(), pods: new Map(), adopted: false, state: "ending", detail: "" };
  const service = {
    catalog: { url: "s3://lab/jobs.csv" },
    records: new RunRecords(new FakeStore()),
    subscribe: () => {},
    runs: new Map([["count-abc", run]]),
  };
  const view = statusView(service as unknown as Service, { cluster: new FakeCluster(), logs });
  const { signal } = new AbortController();
  const read = async () =>
    await new Response(
      await view.log("count-abc", { follow: false, signal }) as ReadableStream<Uint8Array<ArrayBuffer>>,
    )
      .text();
  equal((await read()).endsWith("the end\n"), true);
  run.state = "running";
  equal(await read(), "");
});
