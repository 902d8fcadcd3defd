/** Logs of runs over a fake cluster and a fake store: whole, or with a word on what is missing. */
import { deepEqual, equal, match, ok } from "node:assert/strict";
import { LogCollector, type LogSettings, type LogSummary } from "../logs.ts";
import { UnavailableError } from "../ports.ts";
import type { LiveRun } from "../runs.ts";
import { FakeCluster, FakeStore, job, pod } from "./harness/fakes.ts";
import { scratchFolder } from "./harness/folder.ts";
import { eventually } from "./harness/wait.ts";

const RUN = "count-abc";
const bytes = (text: string) => new TextEncoder().encode(text);
const line = (text: string, second = 1) => `2026-01-01T00:00:${String(second).padStart(2, "0")}.000000000Z ${text}\n`;

/** The second in which the container of `pod()` starts. */
const STARTED = { startedAt: new Date("2026-01-01T00:00:00Z"), finishedAt: new Date("2026-01-01T00:00:59Z") };

function setUp({ adopted = false, ...settings }: Partial<LogSettings> & { adopted?: boolean } = {}) {
  const stop = new AbortController();
  const [cluster, store] = [new FakeCluster(), new FakeStore()];
  const troubles: string[] = [];
  const run = { job: job(), pods: new Map(), adopted, state: "running", detail: "" } as unknown as LiveRun;
  const begin = () =>
    new LogCollector({
      cluster,
      store,
      settings: { followers: 10, memoryBytes: 1 << 20, maxBytes: 1e9, ...settings },
      signal: stop.signal,
      onTrouble: (why) => troubles.push(why),
    });
  const bed = {
    cluster,
    store,
    run,
    troubles,
    logs: begin(),
    begin,
    /** What the container writes, a stream for each time it is asked for. */
    writes(...streams: (string | Error | ReadableStream<Uint8Array>)[]) {
      cluster.outputs.set("count-abc-x/main", streams);
    },
    sees(state: "running" | "terminated", container = "main", podName = "count-abc-x") {
      const one = pod({ podName });
      bed.logs.observe(run, { ...one, containers: [{ ...one.containers[0]!, ...STARTED, name: container, state }] });
    },
    async finish(): Promise<Omit<LogSummary, "lastLines">> {
      for (;;) {
        const done = await bed.logs.finish(run, () => Promise.resolve("head\n\n")).catch((error) => {
          if (!(error instanceof UnavailableError)) throw error;
        });
        if (!done) continue;
        const { lastLines: _, ...said } = done;
        return said;
      }
    },
    /** The log without its head. */
    output: () => store.text(`${RUN}.txt`)!.slice("head\n\n".length),
    [Symbol.dispose]: () => stop.abort(),
  };
  return bed;
}

/** Gives the chunks one by one, then fails or says nothing more. */
function stream(chunks: readonly string[], then: "fails" | "ends" | "is silent"): ReadableStream<Uint8Array> {
  const left = [...chunks];
  return new ReadableStream<Uint8Array>({
    pull(controller) {
      const chunk = left.shift();
      if (chunk !== undefined) return controller.enqueue(bytes(chunk));
      if (then === "fails") controller.error(new Error("connection reset"));
      if (then === "ends") controller.close();
      if (then === "is silent") return new Promise(() => {});
    },
  }, { highWaterMark: 0 });
}

/** About 70 bytes each, 100 in a second. */
function manyLines(count: number): string[] {
  return Array.from({ length: count }, (_, n) => {
    const time = new Date(Date.UTC(2026, 0, 1) + n * 10).toISOString().slice(0, -1);
    return `${time}${String(n % 1e6).padStart(6, "0")}Z line ${n} ${"x".repeat(60)}`;
  });
}

const textOf = (lines: readonly string[]) => lines.map((one) => `${one.slice(one.indexOf(" ") + 1)}\n`).join("");

Deno.test("a log stream that broke goes on where it stopped, in the middle of a line too", async () => {
  using bed = setUp();
  bed.writes(
    stream([line("one", 1) + line("two", 2).slice(0, -2)], "fails"),
    line("one", 1) + line("two", 2) + line("three", 3),
  );
  bed.sees("terminated");
  deepEqual(await bed.finish(), { bytes: 14, complete: true, missing: undefined });
  equal(bed.output(), "one\ntwo\nthree\n");
});

Deno.test("a log whose stream breaks often is read on as long as each one brings more", async () => {
  using bed = setUp();
  const lines = Array.from({ length: 20 }, (_, n) => line(`line ${n}`, n));
  bed.writes(...lines.slice(1).map((_, n) => stream(lines.slice(0, n + 1), "fails")), lines.join(""));
  bed.sees("terminated");
  equal((await bed.finish()).complete, true);
  equal(bed.output(), lines.map((_, n) => `line ${n}\n`).join(""));
});

Deno.test("a log beyond the memory bound goes to the store in pieces and is put together at the end", async () => {
  using bed = setUp({ memoryBytes: 1_000 });
  const lines = manyLines(3_000);
  bed.writes(stream(lines.map((one) => `${one}\n`), "ends"));
  bed.sees("terminated");
  await bed.finish();
  ok(bed.store.calls.some((call) => call.startsWith("put .parts/")));
  equal(bed.output(), textOf(lines));
  await bed.logs.forget(bed.run);
  ok(![...bed.store.objects.keys()].some((key) => key.startsWith(".parts/")));
});

Deno.test("reading goes on while the store does not answer, up to the bound of memory and disk", async () => {
  const folder = await scratchFolder("spool");
  using bed = setUp({ memoryBytes: 1 << 20, disk: { folder: `${folder}/spool`, bytes: 8 << 20 } });
  const lines = manyLines(100_000);
  const { put } = bed.store;
  const answered = Promise.withResolvers<void>();
  bed.store.put = async (key, body) => (await answered.promise, await put.call(bed.store, key, body));
  let read = 0;
  const source = lines[Symbol.iterator]();
  bed.writes(
    new ReadableStream<Uint8Array>({
      pull(controller) {
        const chunk = [...source.take(100)];
        read += chunk.length;
        if (chunk.length === 0) controller.close();
        else controller.enqueue(bytes(chunk.map((one) => `${one}\n`).join("")));
      },
    }, { highWaterMark: 0 }),
  );
  bed.sees("running");
  // Of 7 MB, six times what may be in memory.
  await eventually(() => read === lines.length, { what: () => `all lines to be read; ${read} are` });
  bed.sees("terminated");
  answered.resolve();
  equal((await bed.finish()).complete, true);
  equal(bed.output(), textOf(lines));
  const names = await Array.fromAsync(Deno.readDir(`${folder}/spool`));
  deepEqual(names, [], "what is there has no name");
  await bed.logs.forget(bed.run);
  await Deno.remove(folder, { recursive: true });
});

Deno.test("a folder for the spool that cannot be used is told once, and memory is used", async () => {
  using bed = setUp({ memoryBytes: 1 << 20, disk: { folder: "/dev/null/spool", bytes: 8 << 20 } });
  const lines = manyLines(30_000);
  const { put } = bed.store;
  bed.store.put = async (key, body) => {
    if (bed.troubles.length === 0) await eventually(() => bed.troubles.length > 0);
    return await put.call(bed.store, key, body);
  };
  bed.writes(stream(lines.map((one) => `${one}\n`), "ends"));
  bed.sees("terminated");
  await bed.finish();
  equal(bed.output(), textOf(lines));
  equal(bed.troubles.length, 1);
  match(bed.troubles[0]!, /^Output that waits for the store is held in memory only, for \/dev\/null\/spool cannot be/);
});

Deno.test("a later process goes on behind the pieces of a former one, and says what it cannot know", async () => {
  using bed = setUp({ memoryBytes: 1_000, adopted: true });
  bed.cluster.rotatesLogs = true;
  const lines = manyLines(3_000);
  bed.writes(stream(lines.slice(0, 2_000).map((one) => `${one}\n`), "is silent"));
  bed.sees("running");
  await eventually(() => [...bed.store.objects.keys()].some((key) => key.startsWith(".parts/")));
  bed.logs = bed.begin();
  // The node has begun a new file meanwhile.
  bed.writes(stream(lines.slice(2_500).map((one) => `${one}\n`), "ends"), stream([], "ends"));
  bed.sees("terminated");
  const { complete, missing, bytes } = await bed.finish();
  equal(complete, false);
  match(missing!, /^Lines between .* and 2026-01-01T00:00:25\.000002500Z may be missing: the node began a new file/);
  ok(bed.output().includes(`[${missing}]\nline 2500 `), "the line stands where the gap is");
  equal(bed.output().length, bytes + missing!.length + 3);
});

Deno.test("a later process takes a log over whole where the node still has the last line", async () => {
  using bed = setUp({ memoryBytes: 1_000, adopted: true });
  bed.cluster.rotatesLogs = true;
  const lines = manyLines(3_000);
  bed.writes(stream(lines.slice(0, 2_000).map((one) => `${one}\n`), "is silent"));
  bed.sees("running");
  await eventually(() => [...bed.store.objects.keys()].some((key) => key.startsWith(".parts/")));
  bed.logs = bed.begin();
  bed.writes(lines.map((one) => `${one}\n`).join(""));
  bed.sees("terminated");
  equal((await bed.finish()).complete, true);
  equal(bed.output(), textOf(lines));
});

Deno.test("the end of a large log is looked for on the node once more, since a stream may end with an old file", async () => {
  using bed = setUp();
  bed.cluster.rotatesLogs = true;
  const lines = manyLines(20_000);
  const all = lines.map((one) => `${one}\n`);
  bed.sees("running");
  bed.writes(stream(all.slice(0, 15_000), "ends"), all.slice(14_000).join(""));
  await eventually(() => bed.cluster.logCalls.length === 1);
  bed.sees("terminated");
  equal((await bed.finish()).complete, true);
  equal(bed.output(), textOf(lines));
});

Deno.test("a stream that stands at the end of an old file is opened anew, and the log says that it cannot know", async () => {
  using bed = setUp({ lookMs: 20 });
  bed.cluster.rotatesLogs = true;
  const lines = manyLines(20_500);
  const all = lines.map((one) => `${one}\n`);
  bed.cluster.tail = all.slice(-2).join("");
  // The second file begins with the line behind the last one of the first.
  bed.writes(stream([all.slice(0, 20_000).join("")], "is silent"), stream(all.slice(20_000), "ends"), all.at(-1)!);
  bed.sees("running");
  await eventually(() => bed.cluster.logCalls.length === 2);
  bed.sees("terminated");
  const { missing } = await bed.finish();
  match(missing!, /^Lines between .* may be missing/);
  equal(bed.output().replace(`[${missing}]\n`, ""), textOf(lines));
});

Deno.test("lines that the node had and the stream passes over are missing, and the log says between which", async () => {
  using bed = setUp({ lookMs: 20 });
  bed.cluster.rotatesLogs = true;
  const lines = manyLines(25_000);
  const all = lines.map((one) => `${one}\n`);
  bed.cluster.tail = all.slice(20_998, 21_000).join("");
  let looks = 0;
  const { logs } = bed.cluster;
  bed.cluster.logs = (pod, container, options) => {
    if ("tailLines" in options) looks++;
    return logs.call(bed.cluster, pod, container, options);
  };
  const chunks = [all.slice(0, 20_000).join(""), all.slice(22_000).join("")];
  bed.writes(
    new ReadableStream<Uint8Array>({
      async pull(controller) {
        if (chunks.length === 1) await eventually(() => looks > 0);
        const chunk = chunks.shift();
        if (chunk === undefined) controller.close();
        else controller.enqueue(bytes(chunk));
      },
    }, { highWaterMark: 0 }),
    all.slice(22_000).join(""),
  );
  bed.sees("running");
  await eventually(() => chunks.length === 0);
  bed.sees("terminated");
  const { complete, missing } = await bed.finish();
  equal(complete, false);
  const time = (n: number) => lines[n]!.slice(0, 30);
  ok(missing!.startsWith(`Lines between ${time(19_999)} and ${time(22_000)} are missing: `), `${missing}`);
  ok(bed.output().includes(`\n[${missing}]\n`));
});

Deno.test("what is held of a large log goes to the store before a stop, and the next process goes on there", async () => {
  using bed = setUp({ adopted: true });
  const lines = manyLines(20_000);
  const text = lines.map((one) => `${one}\n`).join("");
  // In the middle of a line.
  bed.writes(stream([text.slice(0, 1_500_000)], "is silent"));
  bed.sees("running");
  await eventually(async () => {
    await bed.logs.flush();
    return bed.store.objects.size > 0;
  });
  bed.logs = bed.begin();
  bed.writes(text);
  bed.sees("terminated");
  equal((await bed.finish()).complete, true);
  equal(bed.output(), textOf(lines));
});

Deno.test("a last read that a broken link to the node ended is made again, in the middle of the last line too", async () => {
  const lines = manyLines(1_000);
  const text = lines.map((one) => `${one}\n`).join("");
  // An API server ends the answer as if that were all.
  for (const cut of [text.indexOf("\n", 20_000) + 1, 20_000, text.length - 5, text.length - 1]) {
    using bed = setUp({ adopted: true });
    bed.cluster.rotatesLogs = true;
    bed.cluster.tail = text.split("\n").slice(-3).join("\n");
    bed.writes(stream([text.slice(0, cut)], "ends"), text);
    bed.sees("terminated");
    equal((await bed.finish()).complete, true);
    equal(bed.output(), textOf(lines), `cut at ${cut} of ${text.length}`);
  }
});

Deno.test("a last read that ends with the node's words instead of output is made again", async () => {
  using bed = setUp({ adopted: true });
  bed.cluster.rotatesLogs = true;
  const words = "failed to create fsnotify watcher: too many open files";
  bed.writes(line("one", 1) + `${words}\n`, line("one", 1) + line("two", 2));
  bed.sees("terminated");
  equal((await bed.finish()).complete, true);
  equal(bed.output(), `one\n[The node says: ${words}]\ntwo\n`);
});

Deno.test("a log of which little had come when its stream broke says where the node began a new file meanwhile", async () => {
  using bed = setUp();
  bed.cluster.rotatesLogs = true;
  bed.writes(stream([line("one", 1)], "fails"), stream([line("later", 40)], "ends"), line("later", 40));
  bed.sees("running");
  await eventually(() => bed.cluster.logCalls.length === 2);
  bed.sees("terminated");
  const { complete, missing } = await bed.finish();
  equal(complete, false);
  match(missing!, /^Lines between .*:01\.0+Z and .*:40\.0+Z may be missing: the node began a new file/);
  equal(bed.output(), `one\n[${missing}]\nlater\n`);
});

Deno.test("a log whose container was heard of late says that its first lines may be missing", async () => {
  using bed = setUp();
  bed.cluster.rotatesLogs = true;
  bed.writes(stream([line("later", 40)], "ends"), line("later", 40));
  bed.sees("running");
  await eventually(() => bed.cluster.logCalls.length === 1);
  bed.sees("terminated");
  match((await bed.finish()).missing!, /^Lines before .*:40\.0+Z may be missing: reading began late/);
});

Deno.test("a log of which somebody deleted a piece in the store says so", async () => {
  using bed = setUp({ memoryBytes: 1_000 });
  const lines = manyLines(6_000);
  bed.writes(stream(lines.map((one) => `${one}\n`), "ends"));
  bed.sees("terminated");
  const pieces = () => [...bed.store.objects.keys()].filter((key) => key.startsWith(".parts/")).sort();
  await eventually(() => pieces().length >= 3);
  const [first, gone] = pieces() as [string, string];
  const lost = new TextDecoder().decode(bed.store.objects.get(gone));
  bed.store.objects.delete(gone);
  const { bytes, complete, missing } = await bed.finish();
  const whole = textOf(lines);
  equal(complete, false);
  match(missing!, /^A part of this log is missing: the store had it, and somebody or a rule of the bucket deleted it$/);
  equal(bytes, whole.length - lost.length);
  const at = bed.store.objects.get(first)!.length;
  equal(bed.output(), `${whole.slice(0, at)}[${missing}]\n${whole.slice(at + lost.length)}`);
});

Deno.test("a piece of a dead process that arrives in the store when the next one has put its own doubles nothing", async () => {
  using bed = setUp({ memoryBytes: 1_000, adopted: true });
  bed.cluster.rotatesLogs = true;
  const lines = manyLines(6_000);
  const text = lines.map((one) => `${one}\n`).join("");
  const { put } = bed.store;
  const late = Promise.withResolvers<void>();
  let pieces = 0;
  // Of the first process, all but the first piece are under way when it dies.
  bed.store.put = async (key, body) => {
    if (key.startsWith(".parts/") && pieces++ > 0) await late.promise;
    return await put.call(bed.store, key, body);
  };
  bed.writes(stream([0, 2_000].map((from) => `${lines.slice(from, from + 2_000).join("\n")}\n`), "is silent"));
  bed.sees("running");
  await eventually(() => pieces === 2);
  bed.logs = bed.begin();
  bed.store.put = put;
  bed.writes(stream(lines.map((one) => `${one}\n`), "is silent"));
  bed.sees("running");
  const ownPieces = () => [...bed.store.objects.keys()].filter((key) => key.startsWith(".parts/")).length;
  await eventually(() => ownPieces() >= 3);
  const before = ownPieces();
  late.resolve();
  await eventually(() => ownPieces() > before);
  // A third one takes up what the second has left.
  bed.logs = bed.begin();
  bed.writes(text);
  bed.sees("terminated");
  deepEqual(await bed.finish(), { bytes: textOf(lines).length, complete: true, missing: undefined });
  equal(bed.output(), textOf(lines));
});

Deno.test("a later process says that lines may be missing where the node's newest file is empty", async () => {
  using bed = setUp({ memoryBytes: 1_000, adopted: true });
  bed.cluster.rotatesLogs = true;
  bed.writes(stream(manyLines(2_000).map((one) => `${one}\n`), "is silent"));
  bed.sees("running");
  await eventually(() => [...bed.store.objects.keys()].some((key) => key.startsWith(".parts/")));
  bed.logs = bed.begin();
  bed.writes("");
  bed.sees("terminated");
  match((await bed.finish()).missing!, /^Lines after .* may be missing: the node's newest file is empty/);
});

Deno.test("a later process that finds an empty log of a run that went on for long does not call it whole", async () => {
  using bed = setUp({ adopted: true });
  bed.cluster.rotatesLogs = true;
  bed.writes("");
  bed.sees("terminated");
  match((await bed.finish()).missing!, /^Its output may be missing: /);
});

Deno.test("the bytes of a log count no word of the service, of a former process neither", async () => {
  using bed = setUp({ memoryBytes: 1_000, adopted: true });
  bed.cluster.rotatesLogs = true;
  const lines = manyLines(6_000);
  const text = (from: number, to: number) => lines.slice(from, to).map((one) => `${one}\n`).join("");
  bed.writes(stream([text(0, 1_000)], "fails"), stream([text(3_000, 5_000)], "is silent"));
  bed.sees("running");
  await eventually(() => [...bed.store.objects.values()].some((body) => /^\[/m.test(new TextDecoder().decode(body))));
  bed.logs = bed.begin();
  bed.writes(text(3_000, 6_000));
  bed.sees("terminated");
  const { bytes, missing } = await bed.finish();
  match(missing!, /^Lines are missing, as the log says/);
  equal(bytes, textOf([...lines.slice(0, 1_000), ...lines.slice(3_000)]).length);
});

Deno.test("a run whose pods were gone before they were seen has no whole log", async () => {
  using bed = setUp({ adopted: true });
  bed.run.job = job({ end: { type: "Complete" } });
  equal((await bed.finish()).missing, "Nothing of its output could be read: its pods were gone");
});

Deno.test("a log of which reading began late says so where its first line is late as well", async () => {
  using bed = setUp({ adopted: true });
  bed.cluster.rotatesLogs = true;
  bed.writes(line("later", 40));
  bed.sees("terminated");
  const { complete } = await bed.finish();
  equal(complete, false);
  match(bed.output(), /^\[Lines before 2026-01-01T00:00:40\.0+Z may be missing: reading began late, .*\]\nlater\n$/);
});

Deno.test("a log is cut at the bound of its run, and says so", async () => {
  using bed = setUp({ maxBytes: 10 });
  bed.writes(line("one") + line("two", 2) + line("three", 3));
  bed.sees("terminated");
  const { bytes, complete, missing } = await bed.finish();
  deepEqual([bytes, complete], [10, false]);
  match(missing!, /kept up to 10 bytes \(MAX_LOG_BYTES\)$/);
  equal(bed.output(), `one\ntwo\nth\n[${missing}]\n`);
});

Deno.test("logs of several containers and pods are told apart, init containers first", async () => {
  using bed = setUp();
  for (const id of ["count-abc-x/fetch", "count-abc-x/main", "count-abc-y/main"]) {
    bed.cluster.outputs.set(id, [line(id)]);
    const [podName, container] = id.split("/") as [string, string];
    bed.sees("terminated", container, podName);
  }
  await bed.finish();
  equal(
    bed.output(),
    ["count-abc-x/fetch", "count-abc-x/main", "count-abc-y/main"].map((id) => {
      const [podName, container] = id.split("/");
      return `----- pod ${podName}, container ${container} -----\n${id}\n`;
    }).join(""),
  );
});

Deno.test("a stream that went silent before its container's end is opened anew for the rest", async () => {
  using bed = setUp({ silentMs: 500 });
  bed.writes(stream([line("one", 1)], "is silent"), line("one", 1) + line("two", 2));
  bed.sees("terminated");
  equal((await bed.finish()).complete, true);
  equal(bed.output(), "one\ntwo\n");
});

Deno.test("a stream that says nothing more after its run's end is given up, also when the store then fails once", async () => {
  using bed = setUp({ silentMs: 500 });
  bed.writes(stream([line("so far")], "is silent"), stream([line("so far")], "is silent"));
  bed.store.faults.push(new UnavailableError("S3 is away", { retryAfterMs: 1 }));
  bed.sees("terminated");
  equal((await bed.finish()).complete, false);
  equal(bed.output(), "so far\n[The rest of this log could not be read: its stream went silent]\n");
});

Deno.test("a store that is away for long while pieces wait for it is no silence of the stream", async () => {
  using bed = setUp({ memoryBytes: 1_000, silentMs: 30 });
  const lines = manyLines(3_000);
  bed.writes(stream(lines.map((one) => `${one}\n`), "ends"));
  const { put } = bed.store;
  let refusals = 0;
  bed.store.put = (key, body) => {
    if (key.startsWith(".parts/") && refusals++ < 3) return Promise.reject(new UnavailableError("S3 is away"));
    return put.call(bed.store, key, body);
  };
  bed.sees("terminated");
  equal((await bed.finish()).complete, true);
  equal(bed.output(), textOf(lines));
});

Deno.test("a log that the cluster has no more is said to be missing", async () => {
  using bed = setUp();
  bed.sees("terminated");
  deepEqual(await bed.finish(), {
    bytes: 0,
    complete: false,
    missing: "The cluster has no log of this container any more",
  });
  equal(bed.output(), "[The cluster has no log of this container any more]\n");
});
