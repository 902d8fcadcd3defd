/**
 * Traces of a message over a chain, a group and a join, on real parts: a receiver of OTLP is told each span once, though
 * the service is killed in the middle, and the programs that run know which span is theirs.
 */
import { deepEqual, equal, match, ok } from "node:assert/strict";
import { GATE_MOUNT, Gates, untilOpen } from "../harness/gate.ts";
import { startKit } from "../harness/kit.ts";
import { needs } from "../harness/needs.ts";
import { Collector, type SeenSpan } from "../harness/otlp.ts";
import { sessionRecord } from "../harness/session_record.ts";
import { MqttEar, startService } from "../harness/service.ts";
import { type Cells, csv, shell } from "../harness/table.ts";
import { eventually } from "../harness/wait.ts";

const PREFIX = "services/mqtt_job_listener";
const TRACE = "11112222333344445555666677778888";
const GIVEN = "1111222233334444";

const row = (name: string, topic: string, script: string, cells: Cells = {}): Cells => {
  return { job_name: name, image: "busybox:lab", mqtt_topic: topic, command: shell(script), ...cells };
};

const TABLE = csv([
  row("first", "lab/first", `echo $TRACEPARENT $TRACESTATE; ${untilOpen("first")}; sleep 4`, { mounts: GATE_MOUNT }),
  row("second", `${PREFIX}/job_complete/first`, "echo $TRACEPARENT"),
  row("parts", `${PREFIX}/job_complete/second`, "exit $((ATTEMPT == 1 && ITEM_INDEX == 1))", {
    for_each: "1..2",
    retries: 1,
  }),
  row("last", "", "true", { needs: "second, parts" }),
  row("fails", "lab/fails", "exit 3"),
]);

/** main.ts, or the program that E2E_ENTRY names; see bundle_test.ts. */
const entry = Deno.env.get("E2E_ENTRY");
const program = entry === undefined ? {} : { entry };

interface End {
  readonly run_name: string;
  readonly parent_run: string;
  readonly log_url: string;
  readonly traceparent: string;
}

Deno.test({
  name: "a message's trace has each span once, over chain, group and join, and a kill -9 in the middle",
  ignore: !await needs("mosquitto", "s3", "node"),
  async fn() {
    const begunMs = Date.now();
    await using kit = await startKit();
    const gates = await Gates.make(kit.cluster);
    await using collector = new Collector();
    const env: Record<string, string> = {
      ...kit.env(),
      OTEL_EXPORTER_OTLP_ENDPOINT: collector.url,
      OTEL_EXPORTER_OTLP_HEADERS: "api-key=lab%20key",
      OTEL_SERVICE_NAME: "lab-jobs",
      RETRY_DELAY: "1s",
    };
    await kit.s3.put(env["CATALOG_URL"]!, TABLE);
    await using ear = await MqttEar.connect(kit.broker.url, [`${PREFIX}/#`]);
    const end = async (name: string) => {
      const [found] = await eventually(() => {
        const ends = ear.json<End>(`${PREFIX}/job_complete/${name}`);
        return ends.length > 0 && ends;
      }, { what: `the end of ${name}` });
      return found!;
    };

    {
      await using killed = await startService(env, program);
      const userProperties = { traceparent: `00-${TRACE}-${GIVEN}-01`, tracestate: "lab=1" };
      await ear.publish("lab/first", "{}", { userProperties });
      await eventually(() => collector.spans.length > 0 && ear.on(`${PREFIX}/run/first/#`).length >= 2, {
        what: "the run to have started",
      });
      // What comes again is told again, with the same ids.
      await eventually(async () => ((await sessionRecord(kit.s3, env["RUNS_URL"]!))?.acknowledged ?? 0) > 0, {
        what: "the message to be acknowledged",
      });
      await killed.kill9();
    }
    await using service = await startService(env, program);
    await gates.open("first");
    const [first, second, last] = [await end("first"), await end("second"), await end("last")];
    await ear.publish("lab/fails", "");
    await eventually(() => ear.on(`${PREFIX}/job_failed/fails`).length > 0);
    await eventually(() => collector.spans.filter(({ name }) => name === "delete").length >= 7);
    await service.stop();

    deepEqual(collector.faults, []);
    equal(collector.headers[0]!.get("api-key"), "lab key");
    const { spans } = collector;
    equal(new Set(spans.map(({ traceId, spanId }) => traceId + spanId)).size, spans.length, "each span once");
    ok(spans.every(({ service }) => service === "lab-jobs"));
    const of = spans.filter(({ traceId }) => traceId === TRACE);
    const byId = new Map(of.map((span) => [span.spanId, span]));

    // What is below what.
    const path = (span: SeenSpan): string => {
      const parent = byId.get(span.parentSpanId ?? "");
      return `${parent ? path(parent) : span.parentSpanId === GIVEN ? "given" : "?"} > ${span.name}`;
    };
    const paths = of.filter(({ name }) => name.includes(" ")).map(path);
    const begin = "given > process lab/first > run first";
    const group = `${begin} > run second > group parts`;
    deepEqual(
      paths.sort(),
      [
        "given > process lab/first",
        begin,
        `${begin} > run second`,
        group,
        `${group} > run last`,
        `${group} > run parts`,
        `${group} > run parts`,
        `${group} > run parts`,
      ].sort(),
    );
    ok(of.every((span) => !path(span).startsWith("?")), "no span is below one that nobody has seen");
    equal(last.parent_run.startsWith("parts-"), true);

    // What took how long.
    for (const { startMs, endMs, name } of spans) {
      ok(begunMs - 1_000 <= startMs && startMs <= endMs && endMs <= Date.now(), name);
    }
    const partsOf = (run: SeenSpan) => of.filter(({ parentSpanId }) => parentSpanId === run.spanId);
    const runFirst = of.find(({ name }) => name === "run first")!;
    const parts = partsOf(runFirst).filter(({ name }) => !name.includes(" "));
    for (const { name, startMs, endMs } of parts) {
      ok(startMs >= runFirst.startMs && (endMs <= runFirst.endMs || name === "delete"), name);
    }
    const names = parts.map(({ name }) => name);
    deepEqual(names.filter((name) => !["pull", "start"].includes(name)), [
      "create",
      "schedule",
      "run",
      "log",
      "publish",
      "delete",
    ]);
    const ran = parts.find(({ name }) => name === "run")!;
    ok(ran.endMs - ran.startMs >= 3_000, `it ran for ${ran.endMs - ran.startMs} ms`);
    // A run that one process saw from its beginning says what it waited for as well.
    const runSecond = of.find(({ name }) => name === "run second")!;
    ok(partsOf(runSecond).some(({ name }) => name === "wait"));

    // What the programs and those who hear of ends are told.
    const output = (await kit.s3.get(first.log_url))!;
    match(output, new RegExp(`00-${TRACE}-${runFirst.spanId}-01 lab=1`));
    match((await kit.s3.get(second.log_url))!, new RegExp(`00-${TRACE}-${runSecond.spanId}-01`));
    equal(first.traceparent, `00-${TRACE}-${runFirst.spanId}-01`);
    const [said] = ear.on(`${PREFIX}/job_complete/first`);
    const { time, ce_time, ...properties } = said!.properties;
    deepEqual(properties, {
      specversion: "1.0",
      id: `${first.run_name}/succeeded`,
      source: `/${PREFIX}`,
      type: "mqtt-job-listener.run.succeeded",
      subject: "first",
      ce_specversion: "1.0",
      ce_id: `${first.run_name}/succeeded`,
      ce_source: `/${PREFIX}`,
      ce_type: "mqtt-job-listener.run.succeeded",
      ce_subject: "first",
      ce_datacontenttype: "application/json",
      traceparent: first.traceparent,
      tracestate: "lab=1",
    });
    deepEqual([time, ce_time], [JSON.parse(said!.text).finished_at, JSON.parse(said!.text).finished_at]);
    equal(ear.on(`${PREFIX}/group_complete/parts`)[0]!.properties["ce_type"], "mqtt-job-listener.group.succeeded");

    // A message that brings no trace begins one, and what fails says so.
    const failed = spans.find(({ name }) => name === "run fails")!;
    equal(failed.status?.code, 2);
    equal(failed.attributes["process.exit.code"], "3");
    const origin = spans.find(({ spanId }) => spanId === failed.parentSpanId)!;
    deepEqual([origin.name, origin.parentSpanId, origin.traceId === TRACE], ["process lab/fails", undefined, false]);
  },
});
