import { equal, match, ok } from "node:assert/strict";
import { Metrics, type MetricsSnapshot } from "../../observers/metrics.ts";
import type { RunRecord } from "../../ports.ts";
import { aRecord, aRunView } from "../harness/fakes.ts";

const SNAPSHOT: MetricsSnapshot = {
  waitingJoins: 0,
  waitingMessages: 7,
  waitingBytes: 700,
  held: { slot: 4, pause: 1 },
  runs: { pending: 1, running: 2, ending: 3 },
  table: { rows: 5, errors: 1, warnings: 2 },
  leading: true,
  brokerConnected: false,
};

function metrics(snapshot: Partial<MetricsSnapshot> = {}, maxJobNames = 3): Metrics {
  return new Metrics({ version: "1.2.3", snapshot: () => ({ ...SNAPSHOT, ...snapshot }), maxJobNames });
}

/** The value of one series. */
async function value(from: Metrics, series: string): Promise<number | undefined> {
  const line = (await from.render()).split("\n").find((one) => one.startsWith(`${series} `));
  return line === undefined ? undefined : Number(line.slice(series.length + 1));
}

Deno.test("counters follow what the core tells", async () => {
  const m = metrics();
  m.emit({ type: "message", topic: "t", rows: 1, outcome: "runs" });
  m.emit({ type: "message", topic: "t", rows: 1, outcome: "refused" });
  m.emit({ type: "waiting", runName: "a-1", jobName: "a", reason: "quota" });
  m.emit({ type: "error", scope: "store", report: { message: "x", reason: "StoreUnavailable" } });
  m.emit({ type: "broker", connected: false });
  m.emit({ type: "broker", connected: true });
  m.emit({
    type: "finished",
    record: aRecord({ job_name: "a", status: "failed", reason: "OOMKilled" }),
    completionMs: 10,
  });
  equal(await value(m, 'mqtt_job_listener_messages_total{outcome="runs"}'), 1);
  equal(await value(m, 'mqtt_job_listener_messages_total{outcome="refused"}'), 1);
  equal(await value(m, 'mqtt_job_listener_messages_total{outcome="duplicate"}'), 0);
  equal(await value(m, "mqtt_job_listener_creates_delayed_total"), 1);
  equal(await value(m, 'mqtt_job_listener_errors_total{scope="store"}'), 1);
  equal(await value(m, "mqtt_job_listener_broker_disconnects_total"), 1);
  equal(await value(m, 'mqtt_job_listener_runs_ended_total{status="failed",reason="OOMKilled"}'), 1);
  equal(await value(m, 'mqtt_job_listener_job_runs_ended_total{job_name="a",status="failed"}'), 1);
});

Deno.test("refused requests to the page are counted by why", async () => {
  const m = metrics();
  m.refused("token");
  equal(await value(m, 'mqtt_job_listener_page_refusals_total{why="token"}'), 1);
  equal(await value(m, 'mqtt_job_listener_page_refusals_total{why="host"}'), 0);
});

Deno.test("histograms take the times of a run", async () => {
  const m = metrics();
  m.emit({ type: "created", run: aRunView(), createMs: 4, sinceReceiptMs: 20 });
  m.emit({ type: "scheduled", runName: "a-1", jobName: "a", due: new Date(0), lagMs: 1_500 });
  equal(await value(m, "mqtt_job_listener_schedule_lag_seconds_sum"), 1.5);
  const run = aRunView({ createdAt: new Date(1_000), startedAt: new Date(4_000) });
  m.emit({ type: "started", run });
  m.emit({
    type: "finished",
    record: aRecord({ started_at: "2026-01-01T00:00:01Z", finished_at: "2026-01-01T00:00:31Z" }),
    completionMs: 200,
  });
  equal(await value(m, 'mqtt_job_listener_held_runs{reason="slot"}'), 4);
  equal(await value(m, 'mqtt_job_listener_held_runs{reason="pause"}'), 1);
  equal(await value(m, "mqtt_job_listener_runs_created_total"), 1);
  equal(await value(m, "mqtt_job_listener_create_seconds_sum"), 0.004);
  equal(await value(m, 'mqtt_job_listener_create_seconds_bucket{le="0.002"}'), 0);
  equal(await value(m, 'mqtt_job_listener_create_seconds_bucket{le="0.005"}'), 1);
  equal(await value(m, "mqtt_job_listener_message_to_created_seconds_sum"), 0.02);
  equal(await value(m, "mqtt_job_listener_created_to_started_seconds_sum"), 3);
  equal(await value(m, "mqtt_job_listener_finished_to_completed_seconds_sum"), 0.2);
  equal(await value(m, 'mqtt_job_listener_run_duration_seconds_sum{status="succeeded"}'), 30);
});

Deno.test("a run that never started has no duration, and clocks that differ make none negative", async () => {
  const m = metrics();
  m.emit({ type: "finished", record: aRecord({ started_at: null }), completionMs: 1 });
  equal(await value(m, 'mqtt_job_listener_run_duration_seconds_count{status="succeeded"}'), undefined);
  m.emit({ type: "started", run: aRunView({ startedAt: new Date(0) }) });
  equal(await value(m, "mqtt_job_listener_created_to_started_seconds_sum"), 0);
});

Deno.test("gauges are the snapshot's at the scrape", async () => {
  const m = metrics({ tableReadAt: new Date(Date.now() - 5_000) });
  equal(await value(m, "mqtt_job_listener_waiting_messages"), 7);
  equal(await value(m, "mqtt_job_listener_waiting_bytes"), 700);
  equal(await value(m, 'mqtt_job_listener_runs{state="ending"}'), 3);
  equal(await value(m, "mqtt_job_listener_table_errors"), 1);
  equal(await value(m, "mqtt_job_listener_leader"), 1);
  equal(await value(m, "mqtt_job_listener_broker_connected"), 0);
  const age = await value(m, "mqtt_job_listener_table_age_seconds");
  ok(age !== undefined && age >= 5 && age < 60, String(age));
  match(await m.render(), /^mqtt_job_listener_watch_age_seconds Nan$/mi);
});

Deno.test("names of rows and reasons make no endless series", async () => {
  const m = metrics();
  for (let at = 0; at < 500; at++) {
    m.emit({ type: "finished", record: aRecord({ job_name: `row-${at}`, reason: `R${at}` }), completionMs: 1 });
  }
  const text = await m.render();
  const series = (name: string) => text.split("\n").filter((line) => line.startsWith(`${name}{`)).length;
  equal(series("mqtt_job_listener_job_runs_ended_total"), 4);
  equal(series("mqtt_job_listener_runs_ended_total"), 51);
  equal(await value(m, 'mqtt_job_listener_job_runs_ended_total{job_name="_other",status="succeeded"}'), 497);
});

Deno.test("the process's memory and CPU time are told", async () => {
  const m = metrics();
  ok((await value(m, "process_resident_memory_bytes"))! > 1e7);
  ok((await value(m, "process_heap_bytes"))! > 1e6);
  const before = (await value(m, "process_cpu_seconds_total"))!;
  ok(before > 0 && (await value(m, "process_cpu_seconds_total"))! >= before);
  match(await m.render(), /mqtt_job_listener_build_info\{version="1.2.3"\} 1/);
});

Deno.test("two registries do not meet, and emit() never throws", () => {
  metrics();
  const m = metrics();
  m.emit({ type: "finished", record: undefined as unknown as RunRecord, completionMs: 1 });
  match(m.contentType, /^text\/plain; version=0\.0\.4/);
});

Deno.test("attempts that are tried again, and pods that were taken away, are counted apart from ends", async () => {
  const m = metrics();
  const record = aRecord({ status: "failed", reason: "OOMKilled", retried_as: "sort-2", disruptions: 2 });
  m.emit({ type: "retrying", record, at: new Date() });
  m.emit({ type: "finished", record: aRecord({ disruptions: 1 }), completionMs: 1 });
  equal(await value(m, 'mqtt_job_listener_attempts_retried_total{reason="OOMKilled"}'), 1);
  equal(await value(m, 'mqtt_job_listener_runs_ended_total{status="failed",reason="OOMKilled"}'), undefined);
  equal(await value(m, "mqtt_job_listener_disruptions_total"), 3);
});
