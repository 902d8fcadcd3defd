/** The way of spans to a receiver: batches, repetitions, bounds, and what is said of what is lost. */
import { deepEqual, equal, match } from "node:assert/strict";
import { type Span, SpanExporter, type SpanExporterOptions } from "../../observers/otlp.ts";
import { Collector } from "../harness/otlp.ts";
import { eventually } from "../harness/wait.ts";

function span(n: number): Span {
  return {
    traceId: "4bf92f3577b34da6a3ce929d0e0e4736",
    spanId: (n + 1).toString(16).padStart(16, "0"),
    name: `span ${n}`,
    kind: "internal",
    startMs: 1_760_000_000_000,
    endMs: 1_760_000_001_500.4,
    attributes: { text: "é", number: 3, absent: undefined },
    fault: n === 1 ? "it broke" : undefined,
  };
}

function startBed(options: Partial<SpanExporterOptions> = {}) {
  const collector = new Collector();
  const troubles: string[] = [];
  const exporter = new SpanExporter({
    url: `${collector.url}/v1/traces`,
    headers: { "api-key": "s3cret-of-the-lab" },
    resource: { "service.name": "lab", "service.version": "1.2.3" },
    onTrouble: (reason) => troubles.push(reason),
    delayMs: 10,
    firstRetryMs: 1,
    ...options,
  });
  return {
    collector,
    troubles,
    exporter,
    async [Symbol.asyncDispose]() {
      await exporter.close({ withinMs: 50 });
      await collector[Symbol.asyncDispose]();
    },
  };
}

Deno.test("spans arrive in batches, with headers, attributes and faults", async () => {
  await using bed = startBed();
  for (let n = 0; n < 1_000; n++) bed.exporter.add(span(n));
  await eventually(() => bed.collector.spans.length === 1_000);
  deepEqual(bed.collector.faults, []);
  equal(bed.collector.headers.length, 2);
  equal(bed.collector.headers[0]!.get("api-key"), "s3cret-of-the-lab");
  const [first, second] = bed.collector.spans;
  deepEqual([first!.service, first!.attributes], ["lab", { text: "é", number: "3" }]);
  deepEqual([first!.startMs, first!.endMs], [1_760_000_000_000, 1_760_000_001_500]);
  deepEqual([first!.status, second!.status], [undefined, { code: 2, message: "it broke" }]);
});

Deno.test("a receiver that is busy gets the batch again, once", async () => {
  await using bed = startBed();
  bed.collector.answers.push(503, 429);
  bed.exporter.add(span(0));
  await eventually(() => bed.collector.spans.length > 0);
  deepEqual([bed.collector.spans.length, bed.collector.headers.length, bed.troubles], [1, 3, []]);
});

Deno.test("what a receiver refuses is dropped and said once, and that it goes on is said too", async () => {
  await using bed = startBed();
  for (const n of [0, 1]) {
    bed.collector.answers.push(401);
    bed.exporter.add(span(n));
    await eventually(() => bed.collector.headers.length === n + 1);
  }
  bed.exporter.add(span(2));
  await eventually(() => bed.troubles.length === 2);
  match(bed.troubles[0]!, /^Traces cannot be sent: the receiver answered 401: told to refuse; 1 spans were dropped/);
  equal(bed.troubles[1], "Traces are sent again; 1 spans were dropped meanwhile");
  deepEqual(bed.collector.spans.map(({ name }) => name), ["span 2"]);
});

Deno.test("a receiver that is away costs a bounded number of spans in memory", async () => {
  await using bed = startBed({ maxWaiting: 5, attempts: 2, delayMs: 0 });
  const url = bed.collector.url;
  await bed.collector[Symbol.asyncDispose]();
  for (let n = 0; n < 1_000; n++) bed.exporter.add(span(n));
  await eventually(() => bed.troubles.length === 1);
  match(bed.troubles[0]!, /^Traces cannot be sent: .*1000 spans were dropped/);
  equal(bed.troubles[0]!.includes("s3cret"), false, url);
});

Deno.test("what comes after a silence is sent at once, what follows waits for more, and close() sends it", async () => {
  await using bed = startBed({ delayMs: 3_600_000 });
  for (const n of [0, 1]) bed.exporter.add(span(n));
  await eventually(() => bed.collector.spans.length === 2);
  for (const n of [2, 3]) bed.exporter.add(span(n));
  await bed.exporter.close({ withinMs: 5_000 });
  deepEqual([bed.collector.spans.length, bed.collector.headers.length], [4, 2]);
});
