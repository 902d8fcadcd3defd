/** Logs at random access: while their run goes on, in the folder of a laptop, and on a real S3 server. */
import { deepEqual, equal, match, ok } from "node:assert/strict";
import { LocalStore } from "../../local/store.ts";
import { breaksIn, LogCollector, type LogText, openStored, STEP_BYTES } from "../../logs.ts";
import type { ContainerFacts, ObjectPart, ObjectStore } from "../../ports.ts";
import type { LiveRun } from "../../runs.ts";
import { S3Store } from "../../s3.ts";
import { useCredentials } from "../harness/aws_env.ts";
import { FakeCluster, FakeStore, job, pod } from "../harness/fakes.ts";
import { removeFolder, scratchFolder } from "../harness/folder.ts";
import { needs } from "../harness/needs.ts";
import { startS3 } from "../harness/s3.ts";
import { eventually } from "../harness/wait.ts";

const RUN = "count-abc";
const HEAD = `run:       ${RUN}\nended:     succeeded: Completed\nevents:\n\n`;
const { signal } = new AbortController();
const bytes = (text: string) => new TextEncoder().encode(text);

/** Lines as the cluster gives them, each with a time. */
function timed(lines: readonly string[]): string {
  return lines.map((line, at) => `${new Date(Date.UTC(2026, 0, 1) + at).toISOString()} ${line}\n`).join("");
}

function setUp(store: ObjectStore, memoryBytes = 1 << 20) {
  const cluster = new FakeCluster();
  const stop = new AbortController();
  const settings = { followers: 10, memoryBytes, maxBytes: 1e9 };
  const logs = new LogCollector({ cluster, store, settings, signal: stop.signal });
  const run = { job: job(), pods: new Map(), adopted: false, state: "running", detail: "" } as unknown as LiveRun;
  return {
    cluster,
    logs,
    sees(name: string, facts: Partial<ContainerFacts>) {
      const one = pod();
      logs.observe(run, { ...one, containers: [{ ...one.containers[0]!, name, ...facts }] });
    },
    finish: () => logs.finish(run, () => Promise.resolve(HEAD)),
    [Symbol.dispose]: () => stop.abort(),
  };
}

async function textOf(text: LogText, from = 0, length = text.size): Promise<string> {
  return new TextDecoder().decode(await text.read(from, length));
}

/** Stores a log of two containers, of which one failed, and one that is large. */
async function storesLogs(store: ObjectStore): Promise<void> {
  using bed = setUp(store);
  bed.cluster.outputs.set("count-abc-x/fetch", [timed(["got it"])]);
  bed.cluster.outputs.set("count-abc-x/main", [timed(["one", "two"])]);
  bed.sees("fetch", { state: "terminated", exitCode: 0, kind: "init" });
  bed.sees("main", { state: "terminated", exitCode: 3 });
  await bed.finish();
  const whole = await openStored(store, RUN, { signal });
  ok(whole && !whole.isLive);
  equal(whole.head, HEAD.trimEnd());
  const heads = [
    "----- pod count-abc-x, container fetch -----\n",
    "----- pod count-abc-x, container main, failed: exit code 3 -----\n",
  ];
  equal(await textOf(whole), `${heads[0]}got it\n${heads[1]}one\ntwo\n`);
  deepEqual(whole.parts.map(({ name, failure, state }) => [name, failure, state]), [
    ["count-abc-x/fetch", undefined, "ended"],
    ["count-abc-x/main", "exit code 3", "ended"],
  ]);
  const main = await openStored(store, RUN, { part: "count-abc-x/main", signal });
  equal(await textOf(main!), "one\ntwo\n");
  equal(main!.part, "count-abc-x/main");
  deepEqual(main!.lines!.before(4), { at: 0, breaks: 0 });
  const other = await openStored(store, RUN, { part: "no-such/part", signal });
  equal(other!.part, undefined);
  equal(await openStored(store, "no-such-run", { signal }), undefined);
}

/** Stores one of 3 MB, whose lines are found by their numbers though little is read. */
async function storesLarge(store: ObjectStore): Promise<void> {
  const lines = Array.from({ length: 50_000 }, (_, at) => `line ${at + 1} ${"x".repeat(at % 100)}`);
  using bed = setUp(store);
  bed.cluster.outputs.set("count-abc-x/main", [timed(lines)]);
  bed.sees("main", { state: "terminated", exitCode: 0 });
  await bed.finish();
  const counted = new CountingStore(store);
  const text = (await openStored(counted, RUN, { signal }))!;
  const content = lines.map((line) => `${line}\n`).join("");
  equal(text.size, content.length);
  const place = text.lines!.beforeBreak(40_000)!;
  const piece = await text.read(place.at, STEP_BYTES);
  equal(place.breaks, breaksIn(bytes(content), 0, place.at));
  ok(place.breaks < 40_000 && place.breaks + breaksIn(piece) >= 40_000);
  ok(counted.bytesRead < 64 * 1024 + STEP_BYTES + 1_000, `${counted.bytesRead} bytes`);
}

/** Counts what is read of parts. */
class CountingStore extends FakeStore {
  bytesRead = 0;
  readonly #store: ObjectStore;
  constructor(store: ObjectStore) {
    super();
    this.#store = store;
  }
  override async readPart(key: string, options: { from: number; length: number }): Promise<ObjectPart | undefined> {
    const part = await this.#store.readPart(key, options);
    this.bytesRead += part?.bytes.length ?? 0;
    return part;
  }
  override get: FakeStore["get"] = async (key) => {
    const found = await this.#store.get(key);
    if (found === "unchanged" || found === undefined) return undefined;
    this.bytesRead += found.body.length;
    return found;
  };
}

async function withFolder(body: (store: LocalStore, folder: string) => Promise<void>): Promise<void> {
  const folder = await scratchFolder("logs");
  try {
    await body(new LocalStore(`${folder}/store`), `${folder}/store`);
  } finally {
    await removeFolder(folder);
  }
}

Deno.test("a stored log is read in parts: head, containers and which of them failed, lines", () =>
  withFolder(async (store) => {
    await storesLogs(store);
    await storesLarge(store);
  }));

Deno.test({
  name: "a log on an S3 server is read in parts in the same way",
  ignore: !await needs("s3"),
  async fn() {
    await using server = await startS3();
    using _credentials = useCredentials(server);
    await storesLogs(new S3Store({ url: "s3://braingeneers/some", endpoint: server.url }));
    await storesLarge(new S3Store({ url: "s3://braingeneers/large", endpoint: server.url }));
  },
});

Deno.test("a small log of one container has no index beside it, and numbers all the same", async () => {
  const store = new FakeStore();
  using bed = setUp(store);
  bed.cluster.outputs.set("count-abc-x/main", [timed(["one", "two"])]);
  bed.sees("main", { state: "terminated", exitCode: 0 });
  await bed.finish();
  deepEqual([...store.objects.keys()], [`${RUN}.txt`]);
  const text = (await openStored(store, RUN, { signal }))!;
  equal(await textOf(text), "one\ntwo\n");
  ok(text.lines);
});

Deno.test("a large log of a former version is read in parts, without numbers", async () => {
  const store = new FakeStore();
  store.objects.set("old.txt", bytes("run:       old\n\n" + "some line\n".repeat(200_000)));
  const text = (await openStored(store, "old", { signal }))!;
  equal(text.head, "run:       old");
  equal(await textOf(text, 0, 10), "some line\n");
  equal(text.lines, undefined);
});

Deno.test("what is no index of this log is left out of account", async () => {
  const good = { version: 1, size: 31, head_bytes: 0, head_breaks: 0, step: 1024, breaks: [1], parts: [] };
  const others = [
    "{",
    "[]",
    "null",
    JSON.stringify({ ...good, size: 30 }),
    JSON.stringify({ ...good, head_bytes: 1e6 }),
    JSON.stringify({ ...good, step: 0 }),
    JSON.stringify({ ...good, breaks: [-1] }),
    JSON.stringify({ ...good, breaks: [1, 2, 3] }),
    JSON.stringify({ ...good, parts: [{ pod: 1, container: "x", from: 0, to: 9, breaks: 0 }] }),
    JSON.stringify({ ...good, parts: [{ pod: "a", container: "x", from: 0, to: 99, breaks: 0 }] }),
  ];
  for (const index of others) {
    const store = new FakeStore();
    store.objects.set("a.txt", bytes("a text of some length, no head\n"));
    store.objects.set(".lines/a.json", bytes(index));
    const text = (await openStored(store, "a", { signal }))!;
    deepEqual([text.size, text.head, text.parts.length], [31, "", 0], index);
    ok(text.lines);
  }
});

Deno.test("output of a run that goes on is read wherever it is: in memory, on its way, in the store", async () => {
  const store = new FakeStore();
  using bed = setUp(store);
  const lines = Array.from({ length: 200_000 }, (_, at) => `line ${at + 1} ${"x".repeat(40)}`);
  const content = lines.map((line) => `${line}\n`).join("");
  const { readable, writable } = new TransformStream<Uint8Array, Uint8Array>();
  bed.cluster.outputs.set("count-abc-x/main", [readable]);
  equal(bed.logs.live(RUN, { signal }), undefined);
  bed.sees("main", { state: "running" });
  const writer = writable.getWriter();
  const text = timed(lines);
  for (let at = 0; at < text.length; at += 1e6) await writer.write(bytes(text.slice(at, at + 1e6)));
  await eventually(() => bed.logs.live(RUN, { signal })?.size === content.length);
  await eventually(() => [...store.objects.keys()].some((key) => key.startsWith(".parts/")));
  const live = bed.logs.live(RUN, { signal })!;
  ok(live.isLive && live.part === undefined);
  for (const from of [0, 1_000_000, 7_999_990, content.length - 30]) {
    equal(await textOf(live, from, 1_000), content.slice(from, from + 1_000), `from ${from}`);
  }
  const place = live.lines!.beforeBreak(123_456)!;
  equal(place.breaks, breaksIn(bytes(content), 0, place.at));
  await writer.close();
});

Deno.test("of a run of several containers the running one is shown, or the one that was asked for, or that failed", () => {
  using bed = setUp(new FakeStore());
  bed.cluster.outputs.set("count-abc-x/fetch", [timed(["got it"])]);
  bed.cluster.outputs.set("count-abc-x/main", [timed(["one"])]);
  bed.sees("fetch", { state: "terminated", exitCode: 2, kind: "init" });
  bed.sees("main", { state: "running" });
  const live = bed.logs.live(RUN, { signal })!;
  equal(live.part, "count-abc-x/main");
  deepEqual(live.parts.map(({ container, state, failure }) => [container, state, failure]), [
    ["fetch", "ended", "exit code 2"],
    ["main", "running", undefined],
  ]);
  equal(bed.logs.live(RUN, { part: "count-abc-x/fetch", signal })!.part, "count-abc-x/fetch");
  bed.sees("main", { state: "terminated", exitCode: 0 });
  equal(bed.logs.live(RUN, { signal })!.part, "count-abc-x/fetch");
});

Deno.test("of a log of 3 GB no more is read than is shown, and a step to number its lines", () =>
  withFolder(async (store, folder) => {
    // Sparse: lines at the beginning of each step, then nothing but zeros.
    const size = 3 * 1024 ** 3;
    const steps = size / STEP_BYTES;
    const head = bytes("run:       huge\n\n");
    await store.put("huge.txt", "");
    await Deno.truncate(`${folder}/huge.txt`, size);
    using file = await Deno.open(`${folder}/huge.txt`, { write: true });
    await file.write(head);
    const breaks = new Array(steps).fill(0);
    breaks[0] = 2;
    for (const step of [1, 6_000, steps - 1]) {
      await file.seek(step * STEP_BYTES, Deno.SeekMode.Start);
      await file.write(bytes(`\nthe lines\nof step ${step}\n`));
      breaks[step] = 3;
    }
    const index = { version: 1, size, head_bytes: head.length, head_breaks: 2, step: STEP_BYTES, breaks, parts: [] };
    await store.put(".lines/huge.json", JSON.stringify(index));
    const counted = new CountingStore(store);
    const text = (await openStored(counted, "huge", { signal }))!;
    equal(text.size, size - head.length);
    const place = text.lines!.beforeBreak(5)!;
    match(await textOf(text, place.at, 40), /^\nthe lines\nof step 6000\n/);
    equal(place.breaks, 3);
    match(await textOf(text, text.size - STEP_BYTES, 40), new RegExp(`^\nthe lines\nof step ${steps - 1}\n`));
    ok(counted.bytesRead < 128 * 1024, `${counted.bytesRead} bytes`);
  }));
