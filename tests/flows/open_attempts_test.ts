/** Attempts that wait for long to be created: the Job before goes, and no death loses or doubles them. On fakes. */
import { deepEqual, equal, match } from "node:assert/strict";
import { Retries } from "../../flows/retries.ts";
import { type Outcome, RefusedError, type RunRecord, type RunSpec, UnavailableError } from "../../ports.ts";
import { RunRecords } from "../../records.ts";
import { keyOfCause, runNameFor } from "../../run_spec.ts";
import { RunTable } from "../../runs.ts";
import { NamedStarts, Starter } from "../../starter.ts";
import { aRecord, events, FakeCluster, FakeStore, job, row } from "../harness/fakes.ts";
import { VirtualTime } from "../harness/virtual_time.ts";

const FIRST = "count-aaaaaaaaaaaa";
const NEXT = runNameFor(row(), { key: keyOfCause.attempt(FIRST, 2) });
const NOTE = `.open-attempts/${NEXT}.json`;
const NEVER = new AbortController().signal;

/** A process; `cluster.isFull`: no Job can be made. */
function process(store: FakeStore, { against = [] as string[] } = {}) {
  const stop = new AbortController();
  const { signal } = stop;
  const { emit, all } = events();
  const cluster = Object.assign(new FakeCluster(), { isFull: true });
  const create = cluster.create.bind(cluster);
  cluster.create = (spec) =>
    cluster.isFull ? Promise.reject(new UnavailableError("exceeded quota", { retryAfterMs: 1_000 })) : create(spec);
  const runs = new RunTable({ emit });
  const records = new RunRecords(store);
  const starter = new Starter({ cluster, runs, payloads: store, concurrency: 8, maxRuns: Infinity, emit, signal });
  const endings: { runName: string; outcome: Outcome }[] = [];
  const retries = new Retries({
    starter,
    named: new NamedStarts({ runs, records, signal }),
    records,
    payloads: store,
    against: () => against,
    retryDelayMs: 0,
    endUnstarted: ({ runName }: RunSpec, outcome) => Promise.resolve(void endings.push({ runName, outcome })),
    emit,
    signal,
  });
  return { retries, cluster, runs, endings, all, kill: () => stop.abort(new Error("killed")) };
}

const failed: RunRecord = aRecord({
  run_name: FIRST,
  job_name: "count",
  status: "failed",
  reason: "ExitCode",
  message: "Its program ended with exit code 75",
  exit_code: 75,
  retried_as: NEXT,
});
const kept = row({ retries: 1 });
const ended = job({ runName: FIRST, root: "abcdefghijkl", payload: new TextEncoder().encode("7"), row: () => kept });
const byJob = { readJob: () => Promise.resolve(ended), stop: NEVER };

/** A process that has noted the attempt, and whose Job before may go. */
async function noted(time: VirtualTime, store = new FakeStore()) {
  const here = process(store);
  const done = Promise.withResolvers<Outcome | undefined>();
  here.retries.startNext(failed, byJob).then(done.resolve, done.reject);
  await time.advance(5_000);
  equal(await done.promise, undefined);
  return { ...here, store };
}

Deno.test("the Job before goes while its next attempt waits for a place, which is created once there is one", async () => {
  using time = new VirtualTime();
  const { cluster, store, kill } = await noted(time);
  deepEqual([store.objects.has(NOTE), cluster.created], [true, []]);
  cluster.isFull = false;
  await time.advance(5_000);
  deepEqual([store.objects.has(NOTE), cluster.created.map(({ runName }) => runName)], [false, [NEXT]]);
  kill();
});

Deno.test("the next process makes of the note what this one would have made, and once", async () => {
  using time = new VirtualTime();
  const { store, kill } = await noted(time);
  kill();
  const next = process(store);
  next.cluster.isFull = false;
  await next.retries.resume();
  await time.advance(20_000);
  const [spec] = next.cluster.created;
  deepEqual(next.cluster.created.length, 1);
  const { row: made, message, ...rest } = spec!;
  deepEqual(rest, {
    runName: NEXT,
    root: "abcdefghijkl",
    rootRun: ended.rootRun,
    chainDepth: 0,
    attempt: 2,
    firstRun: FIRST,
    messageHash: "hash",
    receivedAt: ended.receivedAt,
  });
  deepEqual([made, message.topic, new TextDecoder().decode(message.payload)], [kept, ended.topic, "7"]);
  equal(store.objects.has(NOTE), false);
  next.kill();
});

Deno.test("a run whose Job is gone because of its note is not said to have failed", async () => {
  using time = new VirtualTime();
  const { store, kill } = await noted(time);
  kill();
  const next = process(store);
  next.cluster.isFull = false;
  const gone = { readJob: () => Promise.resolve(job({ runName: FIRST })), stop: NEVER };
  const outcomes = Promise.all([next.retries.startNext(failed, gone), next.retries.resume()]);
  await time.advance(20_000);
  equal((await outcomes)[0], undefined);
  deepEqual([next.cluster.created.length, next.endings, store.objects.has(NOTE)], [1, [], false]);
  next.kill();
});

Deno.test("an attempt that lives, or has ended, is not made again of a note that stayed", async () => {
  for (const has of ["lives", "has ended"]) {
    using time = new VirtualTime();
    const { store, kill } = await noted(time);
    kill();
    const next = process(store);
    next.cluster.isFull = false;
    if (has === "lives") next.runs.clusterEvents.onJob(job({ runName: NEXT }));
    else store.objects.set(`${NEXT}.json`, new TextEncoder().encode("{}"));
    await next.retries.resume();
    await time.advance(20_000);
    deepEqual([next.cluster.created, store.objects.has(NOTE)], [[], false], has);
    next.kill();
  }
});

Deno.test("an attempt that will never be ends as the failure before it has, for nobody else is left to say so", async () => {
  using time = new VirtualTime();
  const { cluster, endings, store, kill } = await noted(time);
  cluster.create = () => Promise.reject(new RefusedError("no such image"));
  await time.advance(5_000);
  const [end] = endings;
  deepEqual([end?.runName, end?.outcome.status, end?.outcome.reason, end?.outcome.exitCode], [
    NEXT,
    "failed",
    "ExitCode",
    75,
  ]);
  match(end!.outcome.message, /exit code 75; it cannot be tried again: no such image$/);
  equal(store.objects.has(NOTE), false);
  kill();
  const forbidden = await noted(time);
  forbidden.kill();
  const next = process(forbidden.store, { against: ["its image is not allowed"] });
  next.cluster.isFull = false;
  await next.retries.resume();
  await time.advance(20_000);
  deepEqual(next.cluster.created, []);
  match(next.endings[0]!.outcome.message, /its row is not allowed any more: its image is not allowed$/);
  next.kill();
});

Deno.test("a note that is none, or says that it is another run's, makes no run", async () => {
  using time = new VirtualTime();
  const { store, kill } = await noted(time);
  kill();
  const note = JSON.parse(store.text(NOTE)!);
  const bad: Record<string, unknown> = {
    "no JSON": "{",
    "a list": [],
    "another number": { ...note, attempt: 3 },
    "another run's": { ...note, first_run: "count-bbbbbbbbbbbb" },
    "another row's": { ...note, row: { ...note.row, jobName: "other" } },
    "a row that is none": { ...note, row: {} },
    "a root that is none": { ...note, root: "../x" },
    "a trace state that is no text": {
      ...note,
      traceparent: `00-${"a".repeat(32)}-${"b".repeat(16)}-01`,
      tracestate: 7,
    },
    "a payload of somebody else's": { ...note, payload: null, payload_object: `${store.url}/secrets/key` },
  };
  for (const [what, changed] of Object.entries(bad)) {
    const text = typeof changed === "string" ? changed : JSON.stringify(changed);
    store.objects.set(NOTE, new TextEncoder().encode(text));
    const next = process(store);
    next.cluster.isFull = false;
    await next.retries.resume();
    await time.advance(20_000);
    deepEqual([next.cluster.created, store.objects.has(NOTE)], [[], false], what);
    next.kill();
  }
});
