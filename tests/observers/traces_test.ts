/** Spans of what the core tells: where they belong, what parts a run's time has, and that none is made twice. */
import { deepEqual, equal, ok } from "node:assert/strict";
import type { Span } from "../../observers/otlp.ts";
import { Traces } from "../../observers/traces.ts";
import type { RunRecord } from "../../ports.ts";
import { originSpanIdOf, spanIdOf, traced, traceIdOf } from "../../run_spec.ts";
import { aRecord, aRunView } from "../harness/fakes.ts";
import { PREFIX, startEmbeddedBed } from "../harness/local_bed.ts";
import { eventually } from "../harness/wait.ts";

const TRACE = "11112222333344445555666677778888";
const ROOT = "abcdefghijkl";
const NAME = "sort-abcdefghijkl";

function record(changes: Partial<RunRecord> = {}): RunRecord {
  const { traceparent = "" } = traced({ runName: changes.run_name ?? NAME, root: ROOT });
  return aRecord({
    run_name: NAME,
    job_name: "sort",
    root: ROOT,
    traceparent,
    received_at: "2026-01-01T00:00:00.900Z",
    // As Kubernetes has them, in whole seconds.
    created_at: "2026-01-01T00:00:00Z",
    scheduled_at: "2026-01-01T00:00:01Z",
    started_at: "2026-01-01T00:00:03Z",
    finished_at: "2026-01-01T00:01:03Z",
    log_stored_at: "2026-01-01T00:01:04.250Z",
    announced_at: "2026-01-01T00:01:04.300Z",
    ...changes,
  });
}

function startBed() {
  const spans: Span[] = [];
  const traces = new Traces((span) => spans.push(span));
  const finish = (changes: Partial<RunRecord> = {}) =>
    traces.emit({ type: "finished", record: record(changes), completionMs: 1 });
  return { spans, traces, finish };
}

const runs = (spans: readonly Span[]) => spans.filter(({ name }) => name.startsWith("run "));

Deno.test("a run's time is parted without gaps, and no part begins before the one before it has ended", () => {
  const { spans, finish } = startBed();
  finish();
  const [run, ...parts] = spans;
  const times = parts.map(({ name, startMs, endMs }) => [name, endMs - startMs]);
  deepEqual(times, [["create", 0], ["schedule", 100], ["start", 2_000], ["run", 60_000], ["log", 1_250], [
    "publish",
    50,
  ]]);
  deepEqual([run!.startMs, run!.endMs], [parts[0]!.startMs, parts.at(-1)!.endMs]);
  ok(parts.every(({ parentSpanId, traceId }) => parentSpanId === run!.spanId && traceId === traceIdOf(ROOT)));
});

Deno.test("a run that never started, or was held back, says so in its parts", () => {
  const { spans, finish } = startBed();
  // What a program wrote may stand in the sentence: the receiver hears the word alone.
  finish({ started_at: null, status: "failed", reason: "Unschedulable", message: "No node; the last line: secret" });
  equal(spans[0]!.fault, "Unschedulable");
  ok(!JSON.stringify(spans).includes("secret"));
  deepEqual(spans.slice(1).map(({ name }) => name), ["create", "schedule", "pending", "log", "publish"]);
  spans.length = 0;
  finish({ held_for: "slot", released_at: "2026-01-01T00:00:00.950Z" });
  const held = spans.find(({ name }) => name === "hold")!;
  deepEqual([held.endMs - held.startMs, held.attributes["mqtt_job_listener.held_for"]], [50, "slot"]);
});

Deno.test("what a run waited for before its create call is a part of its own, with the reason", () => {
  const { spans, traces, finish } = startBed();
  const run = aRunView({ runName: NAME });
  traces.emit({ type: "waiting", runName: NAME, jobName: "sort", reason: "exceeded quota" });
  const before = Date.now();
  traces.emit({ type: "created", run, createMs: 40, sinceReceiptMs: 1_000 });
  finish({ received_at: new Date(before - 1_000).toISOString() });
  const [, wait, create] = spans;
  deepEqual([wait!.name, wait!.attributes], ["wait", { "mqtt_job_listener.reason": "exceeded quota" }]);
  ok(wait!.endMs - wait!.startMs >= 950, "the wait");
  deepEqual([create!.name, create!.endMs - create!.startMs], ["create", 40]);
});

Deno.test("a run is below its original, its group, its parent or its message, in this order", () => {
  const { spans, finish } = startBed();
  const parentOf = (changes: Partial<RunRecord>) => {
    spans.length = 0;
    finish(changes);
    return spans[0]!.parentSpanId;
  };
  equal(parentOf({}), originSpanIdOf(ROOT));
  equal(parentOf({ parent_run: "init-abcdefghijkl" }), spanIdOf("init-abcdefghijkl"));
  equal(
    parentOf({ parent_run: "init-abcdefghijkl", group: "all-abcdefghijkl", index: 0 }),
    spanIdOf("all-abcdefghijkl"),
  );
  equal(parentOf({ group: "all-abcdefghijkl", index: 0, rerun_of: "old-abcdefghijkl" }), spanIdOf("old-abcdefghijkl"));
});

Deno.test("a run that was made when no traces were is below what its message named, or in no trace", () => {
  const { spans, finish } = startBed();
  finish({ traceparent: `00-${TRACE}-1111222233334444-01` });
  deepEqual([spans[0]!.traceId, spans[0]!.parentSpanId], [TRACE, "1111222233334444"]);
  spans.length = 0;
  const { traceparent: _, ...untraced } = record();
  const { traces } = { traces: new Traces((span) => spans.push(span)) };
  traces.emit({ type: "finished", record: untraced, completionMs: 1 });
  equal(spans.length, 0);
});

Deno.test("a trace that its sender does not want kept is not sent", () => {
  const { spans, traces, finish } = startBed();
  finish({ traceparent: `00-${TRACE}-${spanIdOf(NAME)}-00` });
  const message = { topic: "lab/sort", receivedAt: new Date(), outcome: "runs", runs: [NAME], root: ROOT } as const;
  traces.emit({ type: "origin", ...message, traceparent: `00-${TRACE}-1111222233334444-00` });
  equal(spans.length, 0);
});

Deno.test("an attempt that ends once more as the last one, and a run that a former process recorded, are told once", () => {
  const { spans, traces, finish } = startBed();
  const lineage = { root: ROOT, rootRun: NAME, chainDepth: 0, traceparent: record().traceparent! };
  traces.emit({ type: "retrying", record: record({ status: "failed" }), at: new Date() });
  finish({ status: "cancelled" });
  equal(runs(spans).length, 1);
  traces.emit({ type: "deleted", run: { runName: NAME, jobName: "sort", ...lineage }, begunAt: new Date() });
  equal(spans.at(-1)!.name, "delete");
  spans.length = 0;
  traces.emit({ type: "adopted", record: record() });
  equal(runs(spans).length, 1);
});

Deno.test("told again by another process, a run's spans are the same", () => {
  const [one, other] = [startBed(), startBed()];
  one.finish();
  other.traces.emit({ type: "adopted", record: record() });
  deepEqual(one.spans, other.spans);
});

Deno.test("a group is a span above its items; a refused message is one that failed", () => {
  const { spans, traces } = startBed();
  const receivedAt = new Date(Date.now() - 1_000);
  const { traceparent } = traced({
    runName: "all-abcdefghijkl",
    root: ROOT,
    traceparent: `00-${TRACE}-1111222233334444-01`,
  });
  const lineage = { root: ROOT, rootRun: "all-abcdefghijkl", chainDepth: 0, traceparent };
  const group = { group: "all-abcdefghijkl", jobName: "all", total: 3, lineage, receivedAt };
  traces.emit({ type: "group", ...group, state: "started", succeeded: 0 });
  traces.emit({ type: "group", ...group, state: "failed", succeeded: 2 });
  traces.emit({ type: "origin", topic: "lab/all", receivedAt, outcome: "refused", runs: [] });
  const [all, message] = spans;
  deepEqual([spans.length, all!.spanId, all!.parentSpanId], [2, spanIdOf("all-abcdefghijkl"), originSpanIdOf(ROOT)]);
  equal(all!.fault, "1 of 3 items have not succeeded");
  deepEqual([message!.fault, message!.parentSpanId], ["Refused", undefined]);
});

Deno.test("over a broker without user properties a chain is one trace all the same", async () => {
  const table = `job_name,mqtt_topic,image,command
first,lab/first,none,true
second,${PREFIX}/job_complete/first,none,sh -c 'exit 3'
`;
  await using bed = await startEmbeddedBed({ table, tracing: true });
  const spans: Span[] = [];
  bed.service.subscribe(new Traces((span) => spans.push(span)).emit);
  const traceparent = `00-${TRACE}-1111222233334444-01`;
  await bed.client.publishAsync("lab/first", JSON.stringify({ traceparent }), { qos: 1 });
  await eventually(() => spans.filter(({ name }) => name === "delete").length === 2);
  deepEqual([...new Set(spans.map(({ traceId }) => traceId))], [TRACE]);
  const [message, first, second] = ["process lab/first", "run first", "run second"].map((name) =>
    spans.find((span) => span.name === name)!
  );
  deepEqual([message, first, second].map((span) => span!.parentSpanId), [
    "1111222233334444",
    message!.spanId,
    first!.spanId,
  ]);
  ok(second!.fault !== undefined && first!.fault === undefined);
});
