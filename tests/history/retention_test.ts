/** What is deleted by age, and what never is. */
import { deepEqual, equal, rejects } from "node:assert/strict";
import { Retention } from "../../history.ts";
import { lineOf } from "../../history/line.ts";
import { Segments } from "../../history/segments.ts";
import type { EndedRun } from "../../history.ts";
import { LocalStore } from "../../local/store.ts";
import type { RunRecord } from "../../ports.ts";
import { RunRecords, type SessionRecord } from "../../records.ts";
import { keyOfCause, runNameFor, shortHash } from "../../run_spec.ts";
import { NamedStarts } from "../../starter.ts";
import { aRecord, FakeStore, job } from "../harness/fakes.ts";

const PREFIX = "services/mqtt_job_listener";
const DAY_MS = 24 * 3600_000;
const NOW = new Date("2026-06-01T00:00:00Z");
const ROW = { jobName: "sort", parallelism: 1 };
const SESSION: SessionRecord = { epoch: "e1", acknowledged: 100, open: [], reserved: 5_000, from: 90, clean: false };

class Bed {
  readonly store = new FakeStore();
  readonly logs = new FakeStore();
  readonly records = new RunRecords(this.store);
  readonly known: RunRecord[] = [];

  /** Puts the record of a run that ended so many days ago, and a segment of it; gives its name. */
  async put(daysAgo: number, more: Partial<RunRecord> & { run_name: string }): Promise<string> {
    const at = new Date(NOW.getTime() - daysAgo * DAY_MS).toISOString();
    const times = { received_at: at, created_at: at, started_at: at, finished_at: at };
    const record = aRecord({ job_name: "sort", root: shortHash([more.run_name]), ...times, ...more });
    await this.records.put(record);
    await new Segments(this.store).write([lineOf(record)!]);
    this.known.push(record);
    return record.run_name;
  }

  retention(more: Partial<ConstructorParameters<typeof Retention>[0]> = {}): Retention {
    return new Retention({
      records: this.records,
      store: this.store,
      logs: this.logs,
      topicPrefix: PREFIX,
      keepRunsMs: 90 * DAY_MS,
      startingDeadlineMs: 3600_000,
      runsOfRoot: (root) => Promise.resolve(this.known.filter((one) => one.root === root) as EndedRun[]),
      signal: new AbortController().signal,
      ...more,
    });
  }

  /** What stays, by why, and what has a record still. */
  async prune(): Promise<{ kept: Record<string, number>; left: string[] }> {
    const { kept } = await this.retention().prune({ dryRun: false, now: NOW });
    const left: string[] = [];
    for await (const { runName } of this.records.list()) left.push(runName);
    return { kept: Object.fromEntries(kept), left: left.sort() };
  }
}

/** As a delivery's run is named. */
function delivered(number: number, { epoch = "e1", messageHash = "zzzzzzzz2345" } = {}): string {
  return runNameFor(ROW, { epoch, number, messageHash });
}

function keyed(key: string): string {
  return runNameFor(ROW, { key });
}

Deno.test("records that are old enough go, with their payloads, and no segment tells of them any more", async () => {
  const bed = new Bed();
  const old = await bed.put(100, { run_name: delivered(7) });
  await bed.store.put(`.payloads/${old}`, "large");
  const young = await bed.put(80, { run_name: delivered(8) });
  deepEqual(await bed.prune(), { kept: {}, left: [young] });
  equal([...bed.store.objects.keys()].filter((key) => key.includes(old)).length, 0);
  const segments = new Segments(bed.store);
  const held: string[] = [];
  for (const segment of await segments.list()) {
    for await (const lines of segments.read(segment)) held.push(...lines.map(({ run }) => run.run_name));
  }
  deepEqual(held, [young]);
});

Deno.test("a dry run counts the same and deletes nothing", async () => {
  const bed = new Bed();
  await bed.put(100, { run_name: delivered(7) });
  await bed.put(100, { run_name: keyed("key\0a\0b") });
  const before = new Map(bed.store.objects);
  const { runs, kept } = await bed.retention().prune({ dryRun: true, now: NOW });
  deepEqual([runs, Object.fromEntries(kept)], [1, { key: 1 }]);
  deepEqual(bed.store.objects, before);
});

Deno.test("a record stays whose delivery the broker may send again", async () => {
  const bed = new Bed();
  await bed.records.putSession("lab", { record: { ...SESSION, open: [[40, 50]] }, revision: 1 });
  const open = await bed.put(100, { run_name: delivered(45) });
  const doubtful = await bed.put(100, { run_name: delivered(95) });
  await bed.put(100, { run_name: delivered(20) });
  await bed.put(100, { run_name: delivered(45, { epoch: "e0" }) });
  deepEqual(await bed.prune(), { kept: { delivery: 2 }, left: [open, doubtful].sort() });
});

Deno.test("a record stays that may be of an idempotency key, and a second message of that key starts nothing", async () => {
  const bed = new Bed();
  const runName = await bed.put(1_000, { run_name: keyed("key\0lab/a\0k1") });
  deepEqual(await bed.prune(), { kept: { key: 1 }, left: [runName] });
  const { signal } = new AbortController();
  const named = new NamedStarts({ runs: { knows: () => false } as never, records: bed.records, signal });
  const started = await named.start(runName, { begin: () => Promise.reject(new Error("begun")), onRetry: () => {} });
  equal(started.result, "exists");
});

Deno.test("records of sheets and replays stay, which start nothing twice", async () => {
  const bed = new Bed();
  const run_name = await bed.put(100, { run_name: keyed(keyOfCause.batch("b", "line 1")), batch: "b" });
  deepEqual(await bed.prune(), { kept: { batch: 1 }, left: [run_name] });
});

Deno.test("a child's record goes with its parent's, and stays while that stays", async () => {
  const bed = new Bed();
  const parent = await bed.put(101, { run_name: delivered(3) });
  await bed.put(100, { run_name: keyed("parent\0a"), parent_run: parent });
  const other = await bed.put(101, { run_name: keyed("key\0lab/a\0k1") });
  const child = await bed.put(100, { run_name: keyed("parent\0b"), parent_run: other });
  const grandchild = await bed.put(99, { run_name: keyed("parent\0c"), parent_run: child });
  deepEqual(await bed.prune(), { kept: { key: 1, child: 2 }, left: [other, child, grandchild].sort() });
});

Deno.test("a child's record stays while the group is known whose end it follows", async () => {
  const bed = new Bed();
  const group = delivered(3);
  await bed.records.putNote(".groups", group, {});
  const child = await bed.put(100, { run_name: keyed("group\0a"), parent_run: group });
  deepEqual(await bed.prune(), { kept: { child: 1 }, left: [child] });
});

Deno.test("attempts, items of groups that have ended, runs by hand and reruns go", async () => {
  const bed = new Bed();
  const first = await bed.put(100, { run_name: delivered(3), retried_as: keyed("attempt") });
  await bed.put(100, { run_name: keyed("attempt"), attempt: 2, first_run: first });
  await bed.put(100, { run_name: keyed("item"), group: delivered(5), index: 1 });
  await bed.put(100, { run_name: keyed("hand"), topic: `${PREFIX}/request/run` });
  await bed.put(99, { run_name: keyed("rerun"), rerun_of: first });
  deepEqual(await bed.prune(), { kept: {}, left: [] });
});

Deno.test("what says that a run was run again stays as long as that run, or a replay would run it once more", async () => {
  const bed = new Bed();
  const first = await bed.put(101, { run_name: keyed("key\0a\0b") });
  const again = await bed.put(100, { run_name: keyed("again"), rerun_of: first });
  deepEqual(await bed.prune(), { kept: { key: 1, rerun: 1 }, left: [first, again].sort() });
});

Deno.test("all records of a message stay of which something lives or waits", async () => {
  const bed = new Bed();
  const root = shortHash(["live"]);
  const [ofLive, ofJoin, ofAttempt, ofGroup] = [
    await bed.put(100, { run_name: delivered(1), root }),
    await bed.put(100, { run_name: delivered(2), root: shortHash(["join"]) }),
    await bed.put(100, { run_name: delivered(3), retried_as: keyed("attempt") }),
    await bed.put(100, { run_name: keyed("item"), group: delivered(5), index: 1 }),
  ];
  await bed.records.putLive([job({ runName: "sort-live", root })]);
  await bed.records.putNote(".open-joins", keyed("join"), { root: shortHash(["join"]), job_name: "x" });
  await bed.records.putNote(".open-attempts", keyed("attempt"), { first_run: ofAttempt });
  await bed.records.putNote(".open-groups", delivered(5), {});
  deepEqual(await bed.prune(), { kept: { open: 4 }, left: [ofLive, ofJoin, ofAttempt, ofGroup].sort() });
});

Deno.test("nothing is deleted while the store does not say what waits", async () => {
  const bed = new Bed();
  const root = shortHash(["join"]);
  const runName = await bed.put(100, { run_name: delivered(2), root });
  await bed.records.putNote(".open-joins", keyed("join"), { root, job_name: "x" });
  const { get } = bed.store;
  bed.store.get = (key) =>
    key.startsWith(".open-joins/") ? Promise.reject(new Error("no connection")) : get.call(bed.store, key);
  await rejects(bed.prune(), /no connection/);
  equal(await bed.records.exists(runName), true);
});

Deno.test("the run of a join goes when all that it needed has gone, and not while marks of it are there", async () => {
  const bed = new Bed();
  const roots = ["gone", "kept", "marked"].map((word) => shortHash([word]));
  const topic = `${PREFIX}/join/merge`;
  const join = (root: string) =>
    bed.put(100, { run_name: keyed(keyOfCause.join(root)), topic, root, parent_run: delivered(1) });
  await bed.put(101, { run_name: delivered(1), root: roots[0]! });
  await join(roots[0]!);
  const needed = await bed.put(101, { run_name: keyed("key\0a\0b"), root: roots[1]! });
  const kept = await join(roots[1]!);
  const marked = await join(roots[2]!);
  await bed.records.putNote(".joins", `${roots[2]}/merge-x/sort`, {});
  deepEqual(await bed.prune(), { kept: { key: 1, join: 2 }, left: [needed, kept, marked].sort() });
});

Deno.test("where it is not known what a join needed, its run stays", async () => {
  const bed = new Bed();
  const root = shortHash(["r"]);
  await bed.put(100, { run_name: keyed(keyOfCause.join(root)), topic: `${PREFIX}/join/merge`, root });
  const { kept } = await bed.retention({ runsOfRoot: () => Promise.resolve(undefined) }).prune({
    dryRun: true,
    now: NOW,
  });
  deepEqual(Object.fromEntries(kept), { join: 1 });
});

Deno.test("the run of a due time goes when that can be made good no more", async () => {
  const bed = new Bed();
  const run_name = await bed.put(100, { run_name: keyed("due"), topic: `${PREFIX}/schedule/sort` });
  const late = await bed.retention({ startingDeadlineMs: 60 * DAY_MS }).prune({ dryRun: true, now: NOW });
  deepEqual(Object.fromEntries(late.kept), { due: 1 });
  deepEqual([...(await bed.retention().prune({ dryRun: true, now: NOW })).names], [run_name]);
});

/** Puts a segment that says something else of a run, or of one that has no record. */
async function forge(bed: Bed, run_name: string, more: Partial<RunRecord>): Promise<void> {
  const at = new Date(NOW.getTime() - 200 * DAY_MS).toISOString();
  const times = { received_at: at, created_at: at, started_at: at, finished_at: at };
  const record = aRecord({ run_name, job_name: "sort", root: shortHash(["forged"]), ...times, ...more });
  await new Segments(bed.store).write([lineOf(record)!]);
}

for (
  const [what, more] of [
    ["a run by hand", { topic: `${PREFIX}/request/run` }],
    ["a second attempt", { attempt: 2 }],
    ["an item of a group", { group: delivered(5) }],
    ["the child of a run that is no more", { parent_run: delivered(6) }],
    ["of a due time long ago", { topic: `${PREFIX}/schedule/sort` }],
  ] as const
) {
  Deno.test(`a record is not deleted because a segment says that it is ${what}`, async () => {
    const bed = new Bed();
    const ofKey = await bed.put(100, { run_name: keyed("key\0lab/a\0k1") });
    const ofSheet = await bed.put(100, { run_name: keyed("sheet"), batch: "b" });
    const [first, again] = [keyed("key\0a\0b"), keyed("again")];
    await bed.put(101, { run_name: first });
    await bed.put(100, { run_name: again, rerun_of: first });
    for (const name of [ofKey, ofSheet, again]) await forge(bed, name, more);
    deepEqual(await bed.prune(), {
      kept: { key: 2, batch: 1, rerun: 1 },
      left: [ofKey, ofSheet, first, again].sort(),
    });
  });
}

Deno.test("a record stays that is younger than a segment says, or that cannot be read", async () => {
  const bed = new Bed();
  const young = await bed.put(10, { run_name: delivered(7) });
  await forge(bed, young, {});
  const broken = await bed.put(100, { run_name: delivered(8) });
  await bed.store.put(`${broken}.json`, "{");
  await bed.store.put(`.payloads/${young}`, "large");
  deepEqual(await bed.prune(), { kept: { unreadable: 1 }, left: [young, broken].sort() });
  equal(bed.store.text(`.payloads/${young}`), "large");
});

Deno.test("a segment that tells of what has no record has nothing deleted, and lifts no guard", async () => {
  const bed = new Bed();
  const [waiting, group] = [delivered(7), delivered(3)];
  await bed.store.put(`.payloads/${waiting}`, "of a run that waits");
  await bed.records.putNote(".groups", group, {});
  const child = await bed.put(100, { run_name: keyed("group\0a"), parent_run: group });
  for (const name of [waiting, group]) await forge(bed, name, {});
  deepEqual(await bed.prune(), { kept: { child: 1 }, left: [child] });
  equal(bed.store.text(`.payloads/${waiting}`), "of a run that waits");
});

Deno.test("an object that has not the name of a run is not deleted because a segment tells of it", async () => {
  const bed = new Bed();
  for (const name of ["settings", "notes-2024", "package-lock"]) {
    // Somebody's, whatever it says.
    await bed.put(100, { run_name: name, topic: `${PREFIX}/request/run` });
  }
  deepEqual(await bed.prune(), { kept: {}, left: ["notes-2024", "package-lock", "settings"] });
});

Deno.test("notes of groups, joins, sessions and schedules are not touched", async () => {
  const bed = new Bed();
  await bed.put(1_000, { run_name: delivered(3) });
  await bed.records.putNote(".groups", delivered(9), {});
  await bed.records.putNote(".joins", `${shortHash(["x"])}/a/b`, {});
  await bed.records.putNote(".schedules", "sort", {});
  await bed.records.putSession("lab", { record: SESSION, revision: 1 });
  const notes = () => [...bed.store.objects.keys()].filter((key) => /^\.(groups|joins|schedules|session)/.test(key));
  const before = notes();
  await bed.prune();
  deepEqual(notes(), before);
});

Deno.test("a deletion that fails half way is gone on with the next time", async () => {
  const bed = new Bed();
  const runName = await bed.put(100, { run_name: delivered(3) });
  await bed.store.put(`.payloads/${runName}`, "large");
  const { delete: remove } = bed.store;
  bed.store.delete = (key) =>
    key.startsWith(".payloads/") ? remove.call(bed.store, key) : Promise.reject(new Error("no connection"));
  await bed.prune().catch(() => {});
  bed.store.delete = remove;
  deepEqual(await bed.prune(), { kept: {}, left: [] });
});

Deno.test("logs go by their age, with what lies beside them; those of runs under way and other files stay", async () => {
  const folder = await Deno.makeTempDir();
  try {
    const logs = new LocalStore(folder);
    const [old, live, young, foreign, copied] = [1, 2, 3, 4, 5].map((number) => delivered(number));
    const files = {
      [`${old}.txt`]: `run:       ${old}\njob:       sort\n\nreading\n`,
      [`.lines/${old}.json`]: "{}",
      [`${live}.txt`]: `run:       ${live}\n\n`,
      [`${young}.txt`]: `run:       ${young}\n\n`,
      [`${foreign}.txt`]: "Dear diary\n",
      [`${copied}.txt`]: `run:       ${old}\n\n`,
      "README.txt": "x",
      "readme.txt": "run:       readme\n\n",
      "notes-2024.txt": "run:       notes-2024\n\n",
    };
    for (const [name, text] of Object.entries(files)) {
      await logs.put(name, text);
      const at = name.startsWith(young!) ? NOW : new Date(NOW.getTime() - 40 * DAY_MS);
      await Deno.utime(`${folder}/${name}`, at, at);
    }
    const bed = new Bed();
    await bed.records.putLive([job({ runName: live! })]);
    const retention = new Retention({
      records: bed.records,
      store: bed.store,
      logs,
      keepLogsMs: 30 * DAY_MS,
      topicPrefix: PREFIX,
      startingDeadlineMs: 1,
      signal: new AbortController().signal,
    });
    equal((await retention.prune({ dryRun: true, now: NOW })).logs, 1);
    const { runs, logs: count } = await retention.prune({ dryRun: false, now: NOW });
    deepEqual([runs, count], [0, 1]);
    const left = await Array.fromAsync(logs.list(""), ({ key }) => key);
    deepEqual(left, Object.keys(files).filter((name) => !name.includes(old!)).sort());
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
});
