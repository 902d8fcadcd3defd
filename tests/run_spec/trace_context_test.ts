/** Trace contexts: what is one, what is handed down, and the ids that each process makes alike. */
import { deepEqual, equal, match, notEqual } from "node:assert/strict";
import { lineageOfRecord, messageEnv, traceContextIn, traced, traceIdOf, traceParentIn } from "../../run_spec.ts";
import { jobFacts } from "../../k8s/facts.ts";
import { buildJob } from "../../k8s/manifest.ts";
import { asManifest, itemSpec, manifestOf, storedManifest } from "../../flows/manifest.ts";
import { joinedSpec, markOfRun } from "../../flows/join_marks.ts";
import { startCore } from "../harness/core.ts";
import { aRecord, delivery, row } from "../harness/fakes.ts";
import { eventually } from "../harness/wait.ts";
import type { RunSpec } from "../../ports.ts";

const TRACE = "4bf92f3577b34da6a3ce929d0e0e4736";
const GIVEN = `00-${TRACE}-00f067aa0ba902b7-01`;
const STATE = "vendor=t61rcWkgMzE,rojo=00f067aa0ba902b7";
const spec = (changes: Partial<RunSpec> = {}): RunSpec => ({
  runName: "count-abcdefghijkl",
  row: row({ jobName: "count" }),
  message: { topic: "lab/count", payload: new TextEncoder().encode("{}") },
  messageHash: "aaaaaaaaaaaa",
  root: "abcdefghijkl",
  rootRun: "count-abcdefghijkl",
  chainDepth: 0,
  receivedAt: new Date(0),
  ...changes,
});

const PREFIX = "services/mqtt_job_listener";

Deno.test("traceparent is one of the grammar of W3C, and anything else is none", () => {
  deepEqual(traceParentIn(GIVEN), { traceId: TRACE, spanId: "00f067aa0ba902b7", flags: "01" });
  equal(traceContextIn(`cc-${TRACE}-00f067aa0ba902b7-01-what the future brings`).traceparent, GIVEN);
  const wrong = [
    "",
    GIVEN.toUpperCase(),
    `${GIVEN}-more`,
    `ff${GIVEN.slice(2)}`,
    `00-${"0".repeat(32)}-00f067aa0ba902b7-01`,
    `00-${TRACE}-${"0".repeat(16)}-01`,
    `00-${TRACE}-00f067aa0ba902b7-1`,
    ` ${GIVEN}`,
    `cc-${TRACE}-00f067aa0ba902b7-01-${"x".repeat(1_000)}`,
  ];
  for (const text of wrong) equal(traceParentIn(text), undefined, text);
});

Deno.test("tracestate is handed on where it is one and short, and never alone", () => {
  deepEqual(traceContextIn(GIVEN, ` ${STATE.replace(",", " , ")}`), { traceparent: GIVEN, tracestate: STATE });
  for (const state of ["", ",", "no value", "UPPER=1", "a=\n", `a=${"x".repeat(600)}`, `${"a=1,".repeat(40)}b=2`]) {
    deepEqual(traceContextIn(GIVEN, state), { traceparent: GIVEN }, state);
  }
  deepEqual(traceContextIn("no parent", STATE), {});
});

Deno.test("a run's span is in the trace of its message, else in that of its root, and always the same", () => {
  const run = spec();
  const own = traced(run);
  equal(traceParentIn(own.traceparent)!.traceId, traceIdOf(run.root));
  equal(traced(own).traceparent, own.traceparent);
  const brought = traceParentIn(
    traced({ ...run, traceparent: GIVEN.replace(/1$/, "0"), tracestate: STATE }).traceparent,
  )!;
  deepEqual([brought.traceId, brought.flags], [TRACE, "00"]);
  notEqual(brought.spanId, "00f067aa0ba902b7");
  equal(brought.spanId, traceParentIn(own.traceparent)!.spanId);
});

Deno.test("the container is told its trace context, and only one that has it", () => {
  const { TRACEPARENT, TRACESTATE } = messageEnv({ ...spec(), traceparent: GIVEN, tracestate: STATE });
  deepEqual([TRACEPARENT, TRACESTATE], [GIVEN, STATE]);
  equal("TRACEPARENT" in messageEnv(spec()), false);
});

Deno.test("the Job keeps the trace context, and what somebody else wrote there is none", () => {
  const options = { namespace: "lab", instance: "i", ttlSecondsAfterFinished: 60 };
  const job = buildJob({ ...spec(), traceparent: GIVEN, tracestate: STATE }, options);
  const facts = jobFacts(JSON.parse(JSON.stringify(job)));
  deepEqual([facts.traceparent, facts.tracestate], [GIVEN, STATE]);
  job.metadata!.annotations!["mqtt-job-listener/traceparent"] = "00-evil";
  equal(jobFacts(JSON.parse(JSON.stringify(job))).traceparent, undefined);
  equal(lineageOfRecord(aRecord({ traceparent: "00-evil", tracestate: STATE })).tracestate, undefined);
});

Deno.test("items of a group and a joined run are in the trace of what they come from", () => {
  const whole = { ...spec({ row: row({ forEach: { from: "numbers", first: 1, last: 2 } }) }), traceparent: GIVEN };
  const stored = storedManifest(manifestOf(whole, ["1", "2"], { isStored: false }));
  const read = asManifest(JSON.parse(JSON.stringify(stored)), whole.runName)!;
  equal(itemSpec(read, 1).traceparent, GIVEN);
  const mark = markOfRun(aRecord({ traceparent: GIVEN, tracestate: STATE }));
  const joined = joinedSpec({ root: whole.root, row: row() }, [mark], PREFIX);
  deepEqual([joined.traceparent, joined.tracestate], [GIVEN, STATE]);
});

Deno.test("what a message brings is handed on as it is where no traces are made", async () => {
  using bed = await startCore();
  bed.listener.receive(delivery({ packetId: 1, traceparent: GIVEN, tracestate: STATE }));
  bed.listener.receive(delivery({ packetId: 2, text: JSON.stringify({ traceparent: GIVEN }) }));
  bed.listener.receive(delivery({ packetId: 3, text: '{"traceparent":"00-evil"}' }));
  await eventually(() => bed.cluster.created.length === 3);
  deepEqual(bed.cluster.created.map(({ traceparent }) => traceparent), [GIVEN, GIVEN, undefined]);
  equal(bed.cluster.created[0]!.tracestate, STATE);
  equal(bed.all.some(({ type }) => type === "origin"), false);
});

Deno.test("where traces are made, each run has a span of its own, and its message is told of once it is through", async () => {
  using bed = await startCore({ rows: [row(), row({ jobName: "sum" })], tracing: true });
  const message = delivery({ packetId: 1, traceparent: GIVEN });
  bed.listener.receive(message);
  await eventually(() => message.acks === 1);
  const spans = bed.cluster.created.map(({ traceparent }) => traceParentIn(traceparent)!);
  deepEqual(spans.map(({ traceId }) => traceId), [TRACE, TRACE]);
  notEqual(spans[0]!.spanId, spans[1]!.spanId);
  const [origin] = bed.all.filter(({ type }) => type === "origin");
  match(JSON.stringify(origin), new RegExp(`"topic":"lab/count","root":"[a-z2-7]{12}","traceparent":"${GIVEN}"`));
});

Deno.test("a run by hand has an origin of its own, and a child of another run has none", async () => {
  using bed = await startCore({ tracing: true });
  await bed.listener.run(row(), { topic: "lab/x", payload: new Uint8Array() });
  const lineage = { root: "abcdefghijkl", chainDepth: 0, rerunOf: "count-abcdefghijkl" };
  await bed.listener.run(row(), { topic: "lab/x", payload: new Uint8Array() }, { lineage });
  const origins = bed.all.filter((event) => event.type === "origin");
  deepEqual(origins.map(({ outcome, runs }) => [outcome, runs.length]), [["runs", 1]]);
});
