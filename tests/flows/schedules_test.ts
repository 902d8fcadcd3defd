/** Rows that run by themselves, on fake ports and in time that a test lets pass; a process may die at each step. */
import { deepEqual, equal, match, ok } from "node:assert/strict";
import { readTable } from "../../catalog.ts";
import { Schedules } from "../../flows.ts";
import { RefusedError } from "../../ports.ts";
import { RunRecords } from "../../records.ts";
import { aRecord, FakeCluster, FakeStore } from "../harness/fakes.ts";
import { startCore } from "../harness/core.ts";
import { VirtualTime } from "../harness/virtual_time.ts";

const PREFIX = "services/mqtt_job_listener";
const HEADER = "job_name,mqtt_topic,image,schedule,time_zone,enabled,when,inputs\n";
const MINUTE = 60_000;
const HOUR = 60 * MINUTE;

/** Time that passes as a test says, from a moment on; its clock can be set. */
class Clock extends VirtualTime {
  readonly #virtual = Date.now;
  #offsetMs = 0;

  constructor(at: string) {
    super();
    Date.now = () => this.#virtual() + this.#offsetMs;
    this.set(at);
  }

  /** Sets the clock; timers do not notice. */
  set(at: string): void {
    this.#offsetMs = Date.parse(at) - this.#virtual();
  }
}

/** What outlives processes, with the runs that the cluster took by their due times. */
function world() {
  const store = new FakeStore();
  const cluster = new FakeCluster();
  const known = new Set<string>();
  const create = cluster.create.bind(cluster);
  cluster.create = (spec) => {
    if (known.has(spec.runName)) return Promise.resolve("exists");
    known.add(spec.runName);
    return create(spec);
  };
  const dues = () =>
    cluster.created.map(({ row, message }) =>
      `${row.jobName} ${JSON.parse(new TextDecoder().decode(message.payload)).due.slice(5, 16)}`
    );
  const notes = () => [...store.objects.keys()].filter((key) => key.startsWith(".schedules/"));
  return { store, cluster, dues, notes };
}

type World = ReturnType<typeof world>;

/** A process with that table; `edit` swaps it. */
async function process({ store, cluster }: World, rows: string) {
  const core = await startCore({ store, cluster });
  const catalog = { table: await readTable(HEADER + rows, { topicPrefix: PREFIX }) };
  const stop = new AbortController();
  const schedules = new Schedules({
    catalog: {
      get table() {
        return catalog.table;
      },
      timetableOf: (row) => catalog.table.timetableOf(row),
      conditionOf: (row) => row.when === undefined ? undefined : catalog.table.conditions.get(row.when),
    },
    records: core.records,
    listener: core.listener,
    topicPrefix: PREFIX,
    startingDeadlineMs: HOUR,
    emit: (event) => core.all.push(event),
    signal: stop.signal,
  });
  schedules.run().catch(() => {});
  return {
    core,
    async edit(rows: string) {
      catalog.table = await readTable(HEADER + rows, { topicPrefix: PREFIX });
      schedules.wake();
    },
    kill() {
      stop.abort();
      core.kill();
    },
  };
}

const DAILY = "a,,busybox,0 3 * * *,,,,\n";

Deno.test("a row runs at each due time, once, and its run says which", async () => {
  using clock = new Clock("2026-07-01T12:00:00Z");
  const here = world();
  const { core, kill } = await process(here, "a,,busybox,@daily,Europe/Berlin,,,\nb,,busybox,every 12h,,,,\n");
  await clock.advance(36 * HOUR);
  deepEqual(here.dues(), ["a 07-01T22:00", "b 07-02T00:00", "b 07-02T12:00", "a 07-02T22:00", "b 07-03T00:00"]);
  const [first] = here.cluster.created;
  equal(first!.message.topic, `${PREFIX}/schedule/a`);
  deepEqual(JSON.parse(new TextDecoder().decode(first!.message.payload)), {
    schedule: "@daily",
    time_zone: "Europe/Berlin",
    due: "2026-07-01T22:00:00.000Z",
  });
  deepEqual([first!.rootRun, first!.chainDepth, first!.parentRun], [first!.runName, 0, undefined]);
  equal(new Set(here.cluster.created.map(({ root }) => root)).size, 5);
  const event = core.all.find(({ type }) => type === "scheduled");
  ok(event?.type === "scheduled" && event.lagMs >= 0 && event.lagMs < 1000);
  kill();
});

Deno.test("a row that is new does not run for what was before", async () => {
  using clock = new Clock("2026-07-01T03:10:00Z");
  const here = world();
  const { edit, kill } = await process(here, DAILY);
  await clock.advance(MINUTE);
  deepEqual(here.dues(), []);
  equal(here.notes().length, 1);
  await edit("a,,busybox,5 3 * * *,,,,\n");
  await clock.advance(MINUTE);
  deepEqual(here.dues(), [], "nor one with another expression");
  await edit("a,,busybox,5 3 * * *,Europe/London,,,\n");
  await clock.advance(24 * HOUR);
  deepEqual(here.dues(), ["a 07-02T02:05"], "nor one with another zone");
  kill();
});

Deno.test("missed due times are one run, of the last, and none where that is older than the deadline", async () => {
  using clock = new Clock("2026-07-01T12:00:00Z");
  const here = world();
  const rows = `${DAILY}b,,busybox,*/10 * * * *,,,,\n`;
  const first = await process(here, rows);
  await clock.advance(MINUTE);
  first.kill();
  await clock.advance(15 * HOUR + 30 * MINUTE);
  const second = await process(here, rows);
  await clock.advance(1000);
  deepEqual(here.dues(), ["a 07-02T03:00", "b 07-02T03:30"]);
  second.kill();
  await clock.advance(25 * HOUR);
  const third = await process(here, rows);
  await clock.advance(1000);
  deepEqual(here.dues().slice(2), ["b 07-03T04:30"], "03:00 is more than an hour ago");
  third.kill();
});

Deno.test("a restart starts nothing that was started, be it under way or ended", async () => {
  using clock = new Clock("2026-07-01T02:59:00Z");
  const here = world();
  const first = await process(here, DAILY);
  await clock.advance(2 * MINUTE);
  first.kill();
  equal(here.cluster.created.length, 1);
  const second = await process(here, DAILY);
  await clock.advance(MINUTE);
  second.kill();
  equal(here.cluster.created.length, 1, "the cluster knows the name");
  const { runName } = here.cluster.created[0]!;
  await new RunRecords(here.store).put(aRecord({ run_name: runName, job_name: "a" }));
  const third = await process({ ...here, cluster: new FakeCluster() }, DAILY);
  await clock.advance(MINUTE);
  deepEqual(third.core.cluster.created, [], "its Job is gone, and its record is there");
  third.kill();
});

Deno.test("a death before or after the note, or the create call, neither loses nor doubles a due time", async (t) => {
  for (
    const [when, dies] of [["before", "put .schedules"], ["after", "put .schedules"], ["before", "create"], [
      "after",
      "create",
    ]]
  ) {
    await t.step(`${when} ${dies}`, async () => {
      using clock = new Clock("2026-07-01T02:30:00Z");
      const here = world();
      let victim: Awaited<ReturnType<typeof process>> | undefined;
      const die = () => {
        victim?.kill();
        victim = undefined;
      };
      const { store, cluster } = here;
      const around = <T>(what: string, call: () => Promise<T>) => {
        if (!victim || !what.startsWith(dies!)) return call();
        if (when === "before") {
          die();
          return Promise.reject(new DOMException("dead", "AbortError"));
        }
        return call().finally(die);
      };
      const [put, create] = [store.put.bind(store), cluster.create.bind(cluster)];
      store.put = (key, body) => around(`put ${key}`, () => put(key, body));
      cluster.create = (spec) => around("create", () => create(spec));
      victim = await process(here, DAILY);
      await clock.advance(45 * MINUTE);
      equal(victim, undefined, "it has died");
      deepEqual(here.dues(), dies === "create" && when === "after" ? ["a 07-01T03:00"] : []);
      // Where the note was never written, nobody knew the row at 03:00.
      const isKnown = !(dies !== "create" && when === "before");
      const next = await process(here, DAILY);
      await clock.advance(24 * HOUR);
      deepEqual(here.dues(), [...isKnown ? ["a 07-01T03:00"] : [], "a 07-02T03:00"]);
      next.kill();
    });
  }
});

Deno.test("nothing is started before the note is in the store, and it is said why rows wait", async () => {
  using clock = new Clock("2026-07-01T02:58:00Z");
  const here = world();
  const { put } = here.store;
  here.store.put = (key, body) =>
    key.startsWith(".schedules/") ? Promise.reject(new Error("disk full")) : put.call(here.store, key, body);
  const { core, kill } = await process(here, DAILY);
  await clock.advance(10 * MINUTE);
  deepEqual(here.dues(), []);
  const errors = core.all.flatMap((event) => event.type === "error" ? [event.report] : []);
  equal(errors.length, 1);
  equal(errors[0]!.reason, "SchedulesWait");
  match(errors[0]!.message, /disk full/);
  here.store.put = put;
  await clock.advance(2 * MINUTE);
  deepEqual(here.dues(), ["a 07-01T03:00"], "known since before");
  kill();
});

Deno.test("rows that are gone are forgotten, rows with errors are not", async () => {
  using clock = new Clock("2026-07-01T01:00:00Z");
  const here = world();
  const { edit, kill } = await process(here, `${DAILY}b,,busybox,0 2 * * *,,,,\n`);
  await clock.advance(30 * MINUTE);
  await edit(`${DAILY}b,,busybox,0 2 * * *,,perhaps,,\n`);
  await clock.advance(40 * MINUTE);
  deepEqual(here.dues(), [], "at 02:00 the row had an error");
  await edit(`${DAILY}b,,busybox,0 2 * * *,,,,\n`);
  await clock.advance(MINUTE);
  deepEqual(here.dues(), ["b 07-01T02:00"], "mended within the deadline");
  await edit(DAILY);
  await clock.advance(MINUTE);
  const note = JSON.parse(here.store.text(here.notes()[0]!)!);
  deepEqual(note.rows.map((row: { job_name: string }) => row.job_name), ["a"]);
  kill();
});

Deno.test("a row that is switched off does not run, nor for that time when it is on again", async () => {
  using clock = new Clock("2026-07-01T02:30:00Z");
  const here = world();
  const { edit, kill } = await process(here, "a,,busybox,0 3 * * *,,no,,\n");
  await clock.advance(40 * MINUTE);
  await edit(DAILY);
  await clock.advance(24 * HOUR);
  deepEqual(here.dues(), ["a 07-02T03:00"]);
  kill();
});

Deno.test("a note that is garbage, another service's or of the future is not believed", async (t) => {
  const row = { job_name: "a", schedule: "0 3 * * *", time_zone: "UTC", since: "2026-01-01T00:00:00Z" };
  const good = { topic_prefix: PREFIX, rows: [row] };
  const notes = [
    "no JSON",
    "null",
    "[1]",
    '{"rows":7}',
    JSON.stringify({ ...good, topic_prefix: "another" }),
    JSON.stringify({ ...good, rows: [null, 7, { ...row, since: 5 }, { ...row, since: "never" }] }),
    JSON.stringify({ ...good, rows: [{ ...row, since: "2030-01-01T00:00:00Z" }] }),
  ];
  const run = async (note: string) => {
    using clock = new Clock("2026-07-01T03:10:00Z");
    const here = world();
    const first = await process(here, DAILY);
    await clock.advance(1000);
    first.kill();
    here.store.objects.set(here.notes()[0]!, new TextEncoder().encode(note));
    const second = await process(here, DAILY);
    await clock.advance(24 * HOUR);
    second.kill();
    return here.dues();
  };
  for (const note of notes) {
    await t.step(note, async () => deepEqual(await run(note), ["a 07-02T03:00"]));
  }
  deepEqual(await run(JSON.stringify(good)), ["a 07-01T03:00", "a 07-02T03:00"], "the right one is");
});

Deno.test("a clock that jumps runs what it passes once, forward and back", async () => {
  using clock = new Clock("2026-07-01T02:00:00Z");
  const here = world();
  const { kill } = await process(here, DAILY);
  await clock.advance(MINUTE);
  clock.set("2026-07-01T03:20:00Z");
  await clock.advance(MINUTE);
  deepEqual(here.dues(), ["a 07-01T03:00"]);
  clock.set("2026-07-01T02:30:00Z");
  await clock.advance(HOUR);
  deepEqual(here.dues(), ["a 07-01T03:00"], "03:00 comes again");
  await clock.advance(24 * HOUR);
  deepEqual(here.dues(), ["a 07-01T03:00", "a 07-02T03:00"]);
  kill();
});

Deno.test("a row that became known by a clock set years ahead runs when it is set right", async () => {
  using clock = new Clock("2031-01-01T00:00:00Z");
  const here = world();
  const { kill } = await process(here, DAILY);
  await clock.advance(MINUTE);
  clock.set("2026-07-01T02:00:00Z");
  await clock.advance(2 * HOUR);
  deepEqual(here.dues(), ["a 07-01T03:00"]);
  kill();
});

Deno.test("a schedule whose next time is further than a timer can be is waited for", async () => {
  using clock = new Clock("2026-07-01T02:00:00Z");
  const here = world();
  const { kill } = await process(here, "a,,busybox,0 0 1 9 *,,,,\n");
  await clock.advance(MINUTE);
  clock.set("2026-08-31T23:59:00Z");
  await clock.advance(MINUTE - 1);
  deepEqual(here.dues(), []);
  await clock.advance(MINUTE);
  deepEqual(here.dues(), ["a 09-01T00:00"]);
  kill();
});

Deno.test("while the cluster takes no Job, due times of a row coalesce to the last", async () => {
  using clock = new Clock("2026-07-01T02:00:30Z");
  const here = world();
  const away = Promise.withResolvers<"created">();
  here.cluster.answers.push(away.promise);
  const { kill } = await process(here, "a,,busybox,* * * * *,,,,\n");
  await clock.advance(30 * MINUTE);
  away.resolve("created");
  await clock.advance(1000);
  deepEqual(here.dues(), ["a 07-01T02:01", "a 07-01T02:30"]);
  kill();
});

Deno.test("a condition is asked, and inputs are wanted, as of a message", async () => {
  using clock = new Clock("2026-07-01T02:59:00Z");
  const here = world();
  const { core, kill } = await process(
    here,
    `a,,busybox,0 3 * * *,,,"topic.contains(""x"")",\nb,,busybox,0 3 * * *,,,"payload.schedule == ""0 3 * * *""",\n` +
      "c,,busybox,0 3 * * *,,,,uuid\n",
  );
  await clock.advance(5 * MINUTE);
  deepEqual(here.dues(), ["b 07-01T03:00"]);
  const filtered = core.all.flatMap((event) => event.type === "message" ? event.filtered ?? [] : []);
  deepEqual(filtered.map(({ jobName }) => jobName), ["a"]);
  const errors = core.all.flatMap((event) => event.type === "error" ? [event.report] : []);
  deepEqual(errors.map(({ reason, job_name }) => [reason, job_name]), [["InputMissing", "c"]], "once");
  kill();
});

Deno.test("500 schedules are looked at without a call to anybody until one is due", async () => {
  using clock = new Clock("2026-07-01T00:00:30Z");
  const here = world();
  const rows = Array.from({ length: 500 }, (_, n) => `r${n},,busybox,${n % 60} ${4 + n % 20} * * *,,,,\n`).join("");
  const { kill } = await process(here, rows);
  await clock.advance(1000);
  const calls = here.store.calls.length;
  await clock.advance(3 * HOUR);
  equal(here.store.calls.length, calls);
  deepEqual(here.dues(), []);
  await clock.advance(24 * HOUR);
  equal(new Set(here.dues()).size, 500);
  equal(here.dues().length, 500);
  kill();
});

Deno.test("since when rows are known is not written anew because the store denies to read it", async () => {
  using clock = new Clock("2026-07-01T02:00:00Z");
  const here = world();
  const first = await process(here, DAILY);
  await clock.advance(MINUTE);
  first.kill();
  await clock.advance(HOUR + 30 * MINUTE);
  const get = here.store.get.bind(here.store);
  let denied = 0;
  here.store.get = (key, options) => {
    if (!key.startsWith(".schedules/") || denied++ > 0) return get(key, options);
    return Promise.reject(new RefusedError("Cannot read it: access denied"));
  };
  const second = await process(here, DAILY);
  await clock.advance(10 * MINUTE);
  ok(denied > 1, "it is asked for again");
  deepEqual(here.dues(), ["a 07-01T03:00"]);
  second.kill();
});
