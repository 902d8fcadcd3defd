/** The history that a service keeps: whatever is lost or broken, what it finds is what the store has. */
import { deepEqual, equal, match, ok } from "node:assert/strict";
import { DatabaseSync } from "node:sqlite";
import { setImmediate } from "node:timers/promises";
import { KeptHistory, type KeptHistoryOptions } from "../../history.ts";
import { RunIndex } from "../../history/index.ts";
import { indexFile } from "../../history/open_index.ts";
import { Segments } from "../../history/segments.ts";
import type { RunHistory } from "../../history.ts";
import { RunRecords } from "../../records.ts";
import { endAt } from "../conformance/history.ts";
import { aRecord, FakeStore } from "../harness/fakes.ts";
import { eventually } from "../harness/wait.ts";

class Bed implements AsyncDisposable {
  readonly store = new FakeStore();
  readonly records = new RunRecords(this.store);
  readonly folder = Deno.makeTempDirSync({ prefix: "mjl-history-" });
  readonly troubles: string[] = [];
  readonly #abort = new AbortController();
  readonly #made: KeptHistory[] = [];

  /** One that does nothing by the clock. */
  history(more: Partial<KeptHistoryOptions> = {}): KeptHistory {
    const one = new KeptHistory({
      records: this.records,
      store: this.store,
      leads: () => true,
      onTrouble: (sentence) => this.troubles.push(sentence),
      segmentMs: 3600_000,
      ...more,
    });
    this.#made.push(one);
    return one;
  }

  /** One that has read all. */
  async loaded(more: Partial<KeptHistoryOptions> = {}): Promise<KeptHistory> {
    const one = this.history(more);
    await one.load(this.#abort.signal);
    return one;
  }

  get place() {
    return { place: { folder: this.folder } };
  }

  get file(): string {
    return indexFile(this.folder, this.store.url);
  }

  async put(...seconds: readonly number[]): Promise<void> {
    for (const second of seconds) await this.records.put(endAt(second));
  }

  segments(): string[] {
    return [...this.store.objects.keys()].filter((key) => key.startsWith(".index/"));
  }

  /** Records that were read one by one since the last time. */
  reads(): number {
    const reads = this.store.calls.filter((call) => /^get [a-z]/.test(call)).length;
    this.store.calls.length = 0;
    return reads;
  }

  async [Symbol.asyncDispose]() {
    this.#abort.abort();
    for (const one of this.#made) one.close();
    await Deno.remove(this.folder, { recursive: true });
  }
}

async function namesIn(history: RunHistory): Promise<string> {
  const found = await history.find({ everyItem: true, limit: 1_000 });
  return found.map(({ run_name }) => run_name).join(" ");
}

for (const where of ["memory", "a file"] as const) {
  const placeOf = (bed: Bed) => where === "memory" ? {} : bed.place;

  Deno.test(`what former processes left is found by listing, and told to be all of it, in ${where}`, async () => {
    await using bed = new Bed();
    await bed.put(1, 2, 3);
    const history = bed.history(placeOf(bed));
    equal(history.reach().kind, "partly");
    await history.load(new AbortController().signal);
    deepEqual(history.reach(), { runs: 3, kind: "all", oldest: endAt(1).finished_at });
    equal(await namesIn(history), "run-3 run-2 run-1");
  });

  Deno.test(`a copied store is read in the order of ends, not of files, in ${where}`, async () => {
    await using bed = new Bed();
    await bed.put(9, 3, 7, 1);
    equal(await namesIn(await bed.loaded(placeOf(bed))), "run-9 run-7 run-3 run-1");
  });

  Deno.test(`segments tell what no record is read for any more, in ${where}`, async () => {
    await using bed = new Bed();
    await bed.put(1, 2, 3);
    const first = await bed.loaded({ ...placeOf(bed), segmentMs: 1 });
    await eventually(() => bed.segments().length === 1, { what: "a segment" });
    first.close();
    bed.reads();
    await Deno.remove(bed.file).catch(() => {});
    await bed.put(4);
    const second = await bed.loaded(placeOf(bed));
    equal(await namesIn(second), "run-4 run-3 run-2 run-1");
    equal(bed.reads(), 1, "the one that ended since");
    equal(await second.count({ text: "uuid 2026" }), 4, "payloads are in segments too");
  });

  Deno.test(`segments that are half written, foreign, or gone do no harm, in ${where}`, async () => {
    await using bed = new Bed();
    await bed.put(1, 2, 3, 4);
    const segments = new Segments(bed.store);
    const lineOf = (second: number) => ({ run: { ...endAt(second) }, payload: "" });
    const half = await segments.write([lineOf(1), lineOf(2)]);
    bed.store.objects.set(`.index/${half}`, bed.store.objects.get(`.index/${half}`)!.subarray(0, 60));
    const foreign = await segments.write([lineOf(3)]);
    const text = '{"run_name":"../../etc"}\nnull\n[]\n"x"\n' + JSON.stringify({ ...endAt(3), finished_at: "soon" }) +
      "\n";
    const packed = new Blob([text]).stream().pipeThrough(new CompressionStream("gzip"));
    bed.store.objects.set(`.index/${foreign}`, await new Response(packed).bytes());
    bed.store.objects.set(".index/README.txt", new Uint8Array(3));
    bed.store.objects.set(
      ".index/0000000001-0000000002-000001-aaaaaaaaaaaa.jsonl.gz",
      new TextEncoder().encode("no gzip"),
    );
    const history = await bed.loaded(placeOf(bed));
    equal(await namesIn(history), "run-4 run-3 run-2 run-1");
    equal(history.reach().kind, "all");
    match(bed.troubles.join("\n"), /cannot be read to its end; its records are read one by one/);
  });

  Deno.test(`what the core tells is in the next answer, whether it is in the store yet or not, in ${where}`, async () => {
    await using bed = new Bed();
    const history = await bed.loaded(placeOf(bed));
    history.emit({ type: "finished", record: endAt(5), completionMs: 1 });
    equal(await namesIn(history), "run-5");
  });

  Deno.test(`a record that stands under another run's name is left out, in ${where}`, async () => {
    await using bed = new Bed();
    await bed.store.put("run-1.json", JSON.stringify(endAt(2)));
    await bed.store.put("run-3.json", "not json");
    await bed.store.put("run-4.json", JSON.stringify({ ...endAt(4), owner: { a: 1 } }));
    await bed.put(5);
    equal(await namesIn(await bed.loaded(placeOf(bed))), "run-5");
  });
}

for (
  const [what, more] of [
    ["more cores than a number can say, and no start", { requests: { cpu: "9e999" }, started_at: null }],
    ["more memory than a number can say", { requests: { memory: "9e999" } }],
    ["more GPUs than there are, for a long time", { gpu: 1e308, started_at: "1970-01-01T00:00:00Z" }],
    ["taken half a million years", {
      started_at: "-271821-04-20T00:00:00.000Z",
      finished_at: "+275760-09-13T00:00:00.000Z",
      requests: { cpu: "1e300" },
    }],
  ] as const
) {
  Deno.test(`a record that says a run has ${what} does the history no harm, and goes as it came`, async () => {
    await using bed = new Bed();
    await bed.put(1);
    await bed.records.put(endAt(2, more));
    const history = await bed.loaded({ ...bed.place, segmentMs: 1 });
    equal((await namesIn(history)).split(" ").sort().join(" "), "run-1 run-2");
    await eventually(() => bed.segments().length === 1, { what: "a segment" });
    const since = new Date("1970-01-01T00:00:00Z");
    for (const { coreHours, gibHours, gpuHours } of await history.days({ since })) {
      ok(Number.isFinite(coreHours) && Number.isFinite(gibHours) && Number.isFinite(gpuHours));
    }
    await history.forget(["run-2"]);
    equal(await namesIn(history), "run-1");
    history.close();
    await Deno.remove(bed.file);
    equal((await bed.loaded(bed.place)).reach().runs, 2, "its segment can be read");
    history.close();
    deepEqual(bed.troubles, []);
  });
}

Deno.test("a run of a row that no name can stand for is counted and taken out as its own", async () => {
  await using bed = new Bed();
  // SQLite ends a text there when it is read.
  await bed.records.put(endAt(1, { job_name: "sort" }));
  await bed.records.put(endAt(2, { job_name: "sort\0x", status: "failed" }));
  (await bed.loaded(bed.place)).close();
  const history = bed.history(bed.place);
  await history.forget(["run-2"]);
  const days = await history.days({ since: new Date("1970-01-01T00:00:00Z") });
  deepEqual(days.map(({ jobName, succeeded, failed }) => [jobName, succeeded, failed]), [["sort", 1, 0]]);
});

Deno.test("a run that SQLite refuses is left out, and the index stays", async () => {
  await using bed = new Bed();
  (await bed.loaded(bed.place)).close();
  using db = new DatabaseSync(bed.file);
  db.exec(
    "CREATE TRIGGER no BEFORE INSERT ON runs WHEN NEW.run_name = 'run-2' BEGIN SELECT RAISE(ABORT, 'refused'); END",
  );
  db.close();
  await bed.put(1, 2);
  const history = await bed.loaded(bed.place);
  for (const second of [2, 3]) history.emit({ type: "finished", record: endAt(second), completionMs: 1 });
  equal(await namesIn(history), "run-3 run-1");
  equal(history.reach().kind, "newest", "which says that some are missing");
  deepEqual(bed.troubles, []);
});

Deno.test("where each index breaks of what the store has, the store is not read over and over without a pause", async () => {
  await using bed = new Bed();
  await bed.put(1);
  const { add } = RunIndex.prototype;
  let breaks = 0;
  RunIndex.prototype.add = () => {
    breaks++;
    throw Object.assign(new Error("disk I/O error"), { code: "ERR_SQLITE_ERROR", errcode: 10 });
  };
  try {
    const history = bed.history(bed.place);
    const loaded = history.load(new AbortController().signal);
    for (let turn = 0; turn < 500; turn++) await setImmediate();
    ok(breaks >= 1 && breaks <= 10, `${breaks} times in 500 turns of the event loop`);
    RunIndex.prototype.add = add;
    await loaded;
    equal(await namesIn(history), "run-1");
  } finally {
    RunIndex.prototype.add = add;
  }
});

Deno.test("an index in memory holds the newest ends and says from when on", async () => {
  await using bed = new Bed();
  await bed.put(5, 2, 9, 1, 8);
  const history = await bed.loaded({ horizon: 3 });
  equal(await namesIn(history), "run-9 run-8 run-5");
  deepEqual(history.reach(), { runs: 3, kind: "newest", oldest: endAt(5).finished_at });
  history.emit({ type: "finished", record: endAt(10), completionMs: 1 });
  equal(await namesIn(history), "run-10 run-9 run-8");
  equal(await history.count({ text: "2026" }), 3);
});

Deno.test("an index in memory says from when on after a failure of the store, too", async () => {
  await using bed = new Bed();
  await bed.put(5, 2, 9, 1, 8);
  const history = await bed.loaded({ horizon: 3, segmentMs: 1 });
  bed.store.objects.delete("run-9.json");
  bed.store.faults.push(new Error("no connection"));
  await eventually(async () => await namesIn(history) === "run-8 run-5", { what: "the comparison after it" });
  equal(bed.troubles.length, 1);
  equal(history.reach().kind, "newest");
});

Deno.test("an index in memory reads no record twice, though it does not hold all of them", async () => {
  await using bed = new Bed();
  await bed.put(1, 2, 3, 4, 5);
  const first = await bed.loaded({ horizon: 2, segmentMs: 1 });
  await eventually(() => bed.segments().length === 1, { what: "a segment" });
  first.close();
  bed.reads();
  const second = await bed.loaded({ horizon: 2 });
  equal(await namesIn(second), "run-5 run-4");
  equal(bed.reads(), 0);
});

Deno.test("a replica that does not lead writes nothing, and takes in what the leader writes", async () => {
  await using bed = new Bed();
  await bed.put(1);
  const waiting = await bed.loaded({ leads: () => false, segmentMs: 1 });
  await bed.put(2);
  equal(await namesIn(waiting), "run-1");
  deepEqual(bed.segments(), []);
  await bed.loaded({ segmentMs: 1 });
  await eventually(async () => await namesIn(waiting) === "run-2 run-1", { what: "the leader's segment" });
});

Deno.test("who becomes the leader looks for what the one before has told nobody", async () => {
  await using bed = new Bed();
  const history = await bed.loaded({ segmentMs: 1, ...bed.place });
  await bed.put(7);
  history.emit({ type: "leader", leading: true, holder: "me" });
  await eventually(async () => await namesIn(history) === "run-7", { what: "the run" });
});

Deno.test("a run whose record somebody deletes is gone after the next comparison", async () => {
  await using bed = new Bed();
  await bed.put(1, 2, 3);
  const history = await bed.loaded({ segmentMs: 1, dayMs: 1, ...bed.place });
  await eventually(() => bed.segments().length === 1, { what: "a segment" });
  await bed.store.delete("run-2.json");
  await eventually(async () => await namesIn(history) === "run-3 run-1", { what: "the run to be gone" });
  history.close();
  await Deno.remove(bed.file);
  equal(await namesIn(await bed.loaded(bed.place)), "run-3 run-1", "whatever the segments say");
});

Deno.test("the index is there at the next start, before anything is read", async () => {
  await using bed = new Bed();
  await bed.put(1, 2);
  (await bed.loaded(bed.place)).close();
  bed.store.faults.push(...Array.from({ length: 50 }, () => new Error("no connection")));
  const history = bed.history(bed.place);
  equal(await namesIn(history), "run-2 run-1");
  equal(history.reach().kind, "partly");
});

Deno.test("an index that was not read to its end is made anew", async () => {
  await using bed = new Bed();
  const history = bed.history(bed.place);
  history.emit({ type: "finished", record: endAt(1), completionMs: 1 });
  equal(await namesIn(history), "run-1");
  history.close();
  equal(await namesIn(bed.history(bed.place)), "");
});

for (
  const [what, spoil] of [
    ["text", (path: string) => Deno.writeTextFileSync(path, "hello ".repeat(5_000))],
    ["of another version", (path: string) => {
      using db = new DatabaseSync(path);
      db.exec("PRAGMA user_version = 999");
    }],
    ["of another program", (path: string) => {
      Deno.removeSync(path);
      using db = new DatabaseSync(path);
      db.exec("CREATE TABLE theirs(a)");
    }],
    ["torn", (path: string) => {
      using file = Deno.openSync(path, { write: true });
      file.seekSync(4096, Deno.SeekMode.Start);
      file.writeSync(new Uint8Array(40 * 4096).fill(7));
    }],
    ["cut off", (path: string) => Deno.truncateSync(path, 20_000)],
    ["empty", (path: string) => Deno.truncateSync(path, 0)],
    ["of a process that was killed as it filled it", (path: string) => {
      using db = new DatabaseSync(path);
      db.exec("PRAGMA journal_mode = TRUNCATE; PRAGMA cache_size = 1; DELETE FROM about WHERE key = 'whole'; BEGIN");
      db.exec(
        "WITH RECURSIVE n(i) AS (VALUES (1) UNION ALL SELECT i + 1 FROM n LIMIT 9999) INSERT INTO known SELECT * FROM n",
      );
      const [left, journal] = [path, `${path}-journal`].map((one) => Deno.readFileSync(one));
      db.close();
      Deno.writeFileSync(path, left!);
      Deno.writeFileSync(`${path}-journal`, journal!);
    }],
  ] as const
) {
  Deno.test(`a file that is ${what} is made anew, and the service lives`, async () => {
    await using bed = new Bed();
    await bed.put(1, 2, 3);
    (await bed.loaded(bed.place)).close();
    await spoil(bed.file);
    const history = await bed.loaded(bed.place);
    equal(await namesIn(history), "run-3 run-2 run-1");
    equal(history.reach().kind, "all");
    history.close();
    // One that broke in the middle of a question may be made anew after the answer.
    await eventually(async () => {
      bed.reads();
      (await bed.loaded(bed.place)).close();
      return bed.reads() === 0;
    }, { what: "the index to be kept" });
  });
}

Deno.test("a file that breaks while it is used is made anew, and the question is answered", async () => {
  await using bed = new Bed();
  await bed.put(...Array.from({ length: 200 }, (_, at) => at));
  (await bed.loaded(bed.place)).close();
  const page = pageOf(bed.file, "by_root");
  using file = Deno.openSync(bed.file, { write: true });
  file.seekSync((page - 1) * 4096, Deno.SeekMode.Start);
  file.writeSync(new Uint8Array(4096).fill(7));
  const history = bed.history(bed.place);
  deepEqual(await history.find({ limit: 200, root: endAt(7).root! }), [], "of the new file, which is empty yet");
  void history.load(new AbortController().signal);
  await eventually(async () => await history.count({}) === 200, { what: "all runs" });
  await eventually(() => history.reach().kind === "all");
  match(bed.troubles.join(), /it is made anew/);
});

/** First page of a table or index. */
function pageOf(path: string, name: string): number {
  using db = new DatabaseSync(path);
  return db.prepare("SELECT rootpage FROM sqlite_schema WHERE name = ?").get(name)!["rootpage"] as number;
}

Deno.test("two processes on one folder do each other no harm", async () => {
  await using bed = new Bed();
  await bed.put(1, 2);
  const first = await bed.loaded(bed.place);
  const second = await bed.loaded(bed.place);
  match(bed.troubles.join(), /another process uses it; the newest are kept in memory/);
  equal(await namesIn(second), "run-2 run-1");
  first.close();
  equal(await namesIn(second), "run-2 run-1");
  equal(await namesIn(await bed.loaded(bed.place)), "run-2 run-1", "whoever comes after the first has the file");
});

Deno.test("a folder that cannot be is said, and memory has to do", async () => {
  await using bed = new Bed();
  await bed.put(1);
  await Deno.writeTextFile(`${bed.folder}/file`, "");
  const history = await bed.loaded({ place: { folder: `${bed.folder}/file/below` } });
  equal(await namesIn(history), "run-1");
  match(bed.troubles.join(), /No index of runs in .*file\/below \(DATA_DIR\)/);
});

Deno.test("a store that cannot be read is said once, and read when it can be", async () => {
  await using bed = new Bed();
  await bed.put(1);
  bed.store.faults.push(new Error("no connection"), new Error("no connection"));
  const history = await bed.loaded();
  equal(await namesIn(history), "run-1");
  deepEqual(bed.troubles, ["The history of runs is not whole: no connection"]);
});

Deno.test("ends that nobody could take in are found by listing", async () => {
  await using bed = new Bed();
  const history = await bed.loaded({ segmentMs: 1, ...bed.place });
  const seconds = Array.from({ length: 6_000 }, (_, at) => at);
  for (const second of seconds) {
    history.emit({ type: "finished", record: endAt(second), completionMs: 1 });
    bed.store.objects.set(`run-${second}.json`, new TextEncoder().encode(JSON.stringify(endAt(second))));
  }
  await eventually(async () => await history.count({}) === 6_000, { what: "all of them" });
});

Deno.test("compact() makes one segment of small ones and loses nothing, if two do it at once or one is killed", async () => {
  await using bed = new Bed();
  const segments = new Segments(bed.store);
  const lineOf = (second: number) => ({ run: aRun(second), payload: `p${second}` });
  const write = async (...seconds: number[]) => await segments.write(seconds.map(lineOf));
  const held = async () => {
    const found = new Set<string>();
    for (const segment of await segments.list()) {
      for await (const lines of segments.read(segment)) for (const { run } of lines) found.add(run.run_name);
    }
    return [...found].sort().join(" ");
  };
  await write(1, 2);
  await write(3, 2);
  await write(4);
  const { signal } = new AbortController();
  const isGone = (name: string) => Promise.resolve(name === "run-4");
  const before = new Map(bed.store.objects);
  await Promise.all([segments.compact({ isGone, signal }), segments.compact({ isGone, signal }).catch(() => {})]);
  equal(bed.segments().length, 1);
  equal(await held(), "run-1 run-2 run-3");
  // Killed between the write and the deletions: the former ones are there still.
  for (const [key, body] of before) bed.store.objects.set(key, body);
  equal(await held(), "run-1 run-2 run-3 run-4");
  await segments.compact({ isGone, signal });
  equal(bed.segments().length, 1);
  equal(await held(), "run-1 run-2 run-3");
  // A deletion that fails leaves what is twice, and nothing out.
  await write(5);
  await write(6);
  const { delete: remove } = bed.store;
  bed.store.delete = () => Promise.reject(new Error("no connection"));
  await segments.compact({ isGone, signal }).catch(() => {});
  bed.store.delete = remove;
  equal(await held(), "run-1 run-2 run-3 run-5 run-6");
});

function aRun(second: number) {
  const { run_name, finished_at, root } = endAt(second);
  const {
    payload: _,
    message_hash: _m,
    root_run: _r,
    chain_depth: _c,
    image: _i,
    created_at: _a,
    log_url: _l,
    ...run
  } = aRecord({ run_name, finished_at, root: root! });
  return run;
}

Deno.test("many small segments are put together while the service runs", async () => {
  await using bed = new Bed();
  const segments = new Segments(bed.store);
  for (let second = 0; second < 70; second++) {
    await segments.write([{ run: aRun(second), payload: "" }]);
    await bed.put(second);
  }
  const history = await bed.loaded({ segmentMs: 1, ...bed.place });
  await eventually(() => bed.segments().length === 1, { what: "one segment" });
  equal(await history.count({}), 70);
  history.close();
  bed.reads();
  await Deno.remove(bed.file);
  ok((await bed.loaded(bed.place)).reach().runs === 70);
  equal(bed.reads(), 0);
});
