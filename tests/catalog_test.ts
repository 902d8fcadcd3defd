import { deepEqual, doesNotMatch, equal, match, rejects } from "node:assert/strict";
import { Catalog, type CatalogOptions, type Table } from "../catalog.ts";
import type { ErrorReport, ObjectStore, Row, ServiceEvent, StoredObject } from "../ports.ts";
import { UnavailableError } from "../ports.ts";
import { bytes, OPTIONS } from "./catalog/kit.ts";
import { eventually, pause } from "./harness/wait.ts";

/** A store of one object that says what it was asked, and fails or waits on demand. */
class FakeStore {
  readonly url = "s3://lab";
  body: Uint8Array | undefined;
  error: Error | undefined;
  gate: Promise<void> | undefined;
  gets = 0;
  inFlight = 0;
  mostInFlight = 0;

  write(text: string | Uint8Array): void {
    this.body = typeof text === "string" ? bytes(text) : text;
  }

  async get(
    _key: string,
    { ifNoneMatch }: { ifNoneMatch?: string } = {},
  ): Promise<StoredObject | "unchanged" | undefined> {
    this.gets++;
    this.mostInFlight = Math.max(this.mostInFlight, ++this.inFlight);
    const body = this.body;
    try {
      await this.gate;
      if (this.error) throw this.error;
      if (!body) return undefined;
      const etag = String(body.reduce((hash, byte) => (hash * 31 + byte) | 0, 7));
      return etag === ifNoneMatch ? "unchanged" : { body, etag };
    } finally {
      this.inFlight--;
    }
  }
}

function setUp(options: Partial<CatalogOptions> = {}) {
  const store = new FakeStore();
  const reports: ErrorReport[] = [];
  const events: ServiceEvent[] = [];
  const tables: Table[] = [];
  const catalog = new Catalog({
    ...OPTIONS,
    store: store as unknown as ObjectStore,
    key: "jobs.csv",
    pollMs: 5,
    firstRetryMs: 1,
    emit: (event) => {
      events.push(event);
      if (event.type === "error") reports.push(event.report);
    },
    onChange: (table) => tables.push(table),
    ...options,
  });
  return { store, reports, events, tables, catalog };
}

const table = (...rows: string[]) => ["job_name,mqtt_topic,image", ...rows].join("\n") + "\n";
const jobNames = (rows: readonly Row[] = []) => rows.map((row) => row.jobName);

Deno.test("Catalog.start() waits for a usable table and says each reason once", async () => {
  const { store, reports, catalog, events } = setUp();
  const stop = new AbortController();
  store.error = new UnavailableError("Connection refused");
  const started = catalog.start(stop.signal);
  await eventually(() => store.gets >= 3);
  store.error = undefined;
  await eventually(() => reports.length === 2);
  store.write("job_name,mqtt_topic,image\na,x");
  await eventually(() => reports.length === 3);
  equal(catalog.loadedAt, undefined);
  store.write(table("a,x,i"));
  await started;
  stop.abort();
  deepEqual(jobNames(catalog.table?.rows), ["a"]);
  deepEqual(reports.map((report) => report.message.replace(/^.*?: /, "")), [
    "Connection refused (waiting for a usable one)",
    "there is no such object; put the table there (waiting for a usable one)",
    "the last line has 2 cells of 3 and no end of line; the file looks half-written (waiting for a usable one)",
  ]);
  match(reports[0]?.message ?? "", /^Cannot read the table s3:\/\/lab\/jobs\.csv:/);
  deepEqual(events.at(-1), { type: "table", rows: 1, errors: 0, warnings: 0 });
});

Deno.test("Catalog.start() stops with its signal", async () => {
  const { catalog } = setUp();
  const stop = new AbortController();
  const started = catalog.start(stop.signal);
  stop.abort(new Error("enough"));
  await rejects(started, /enough/);
});

Deno.test("Catalog polls and swaps the table", async () => {
  const { store, catalog, tables } = setUp();
  const stop = new AbortController();
  store.write(table("a,x,i", "b,y,i", "c,z,i"));
  await catalog.start(stop.signal);
  store.write(table("d,w,i", "c,z,i", "b,y,other"));
  await eventually(() => tables.length === 2);
  stop.abort();
  deepEqual(tables.map(({ rows }) => jobNames(rows)), [["a", "b", "c"], ["d", "c", "b"]]);
  deepEqual([...catalog.filters()].sort(), ["w", "y", "z"]);
  deepEqual(jobNames(catalog.match({ topic: "w" })), ["d"]);
});

Deno.test("Catalog keeps the last good table whatever the store has", async (t) => {
  const { store, catalog, reports, tables } = setUp();
  store.write(table("a,x,i"));
  await catalog.refresh();
  for (
    const [name, spoil, expected] of [
      ["empty", () => store.write(""), /the file is empty/],
      [
        "without rows",
        () => store.write("job_name,mqtt_topic,image\n"),
        /it has no rows; to stop all rows on purpose, write no/,
      ],
      [
        "all wrong",
        () => store.write(table("a,x,I", "b,x,I")),
        /line 2: none of its rows can be used. The first error/,
      ],
      ["half-written", () => store.write('job_name,mqtt_topic,image\n"a'), /never closed/],
      ["not UTF-8", () => store.write(new Uint8Array([0x61, 0xe9])), /not UTF-8/],
      ["gone", () => store.body = undefined, /no such object/],
      ["unreachable", () => store.error = new UnavailableError("Timeout"), /Timeout/],
    ] as const
  ) {
    await t.step(name, async () => {
      spoil();
      const told = reports.length;
      for (let poll = 0; poll < 3; poll++) {
        const result = await catalog.refresh();
        equal(result.status, "failed");
        match(result.message ?? "", expected);
      }
      equal(reports.length, told + 1);
      match(reports.at(-1)?.message ?? "", /the last good table stays in force/);
      deepEqual(jobNames(catalog.table?.rows), ["a"]);
      match(catalog.failure?.message ?? "", expected);
    });
  }
  await t.step("and goes on when it is well again", async () => {
    store.error = undefined;
    store.write(table("b,x,i"));
    equal((await catalog.refresh()).status, "loaded");
    equal(catalog.failure, undefined);
    equal(tables.length, 2);
  });
});

Deno.test("Catalog remembers over an outage that the table in the store was refused", async () => {
  const { store, catalog } = setUp();
  store.write(table("a,x,i"));
  await catalog.refresh();
  store.write("nonsense\n");
  await catalog.refresh();
  store.error = new UnavailableError("Timeout");
  await catalog.refresh();
  store.error = undefined;
  const result = await catalog.refresh();
  equal(result.status, "failed");
  match(result.message ?? "", /no known column/);
});

Deno.test("Catalog is well again after an outage without a new table", async () => {
  const { store, catalog } = setUp();
  store.write(table("a,x,i"));
  await catalog.refresh();
  store.error = new UnavailableError("Timeout");
  await catalog.refresh();
  store.error = undefined;
  deepEqual(await catalog.refresh(), { status: "unchanged", rows: 1, errors: 0, warnings: 0 });
  equal(catalog.failure, undefined);
});

Deno.test("Catalog.refresh() calls during a look share one look after it", async () => {
  const { store, catalog } = setUp();
  const gate = Promise.withResolvers<void>();
  store.gate = gate.promise;
  store.write(table("a,x,i"));
  const first = catalog.refresh();
  store.write(table("b,x,i"));
  const others = [catalog.refresh(), catalog.refresh(), catalog.refresh()];
  gate.resolve();
  await Promise.all([first, ...others]);
  equal(store.gets, 2);
  equal(store.mostInFlight, 1);
  deepEqual(jobNames(catalog.table?.rows), ["b"]);
});

Deno.test("Catalog ends with the newest of many quick swaps", async () => {
  const { store, catalog } = setUp({ pollMs: 1 });
  const stop = new AbortController();
  store.write(table("a,x,i"));
  await catalog.start(stop.signal);
  for (let swap = 0; swap < 50; swap++) {
    store.write(table(`j${swap},x/${swap},i`));
    // The next swap comes before or after the read of this one, as it happens.
    await Promise.race([catalog.refresh(), pause(1)]);
  }
  await catalog.refresh();
  stop.abort();
  deepEqual(jobNames(catalog.table?.rows), ["j49"]);
  equal(store.mostInFlight, 1);
});

Deno.test("Catalog tells each row's error once, with line, column and value", async () => {
  const { store, catalog, reports } = setUp();
  store.write("job_name,mqtt_topic,image,gpu\na,x,i,one\nb,x,i,\n");
  await catalog.refresh();
  store.write("job_name,mqtt_topic,image,gpu\nnew,x,i,\na,x,i,one\nb,x,i,two\n");
  await catalog.refresh();
  deepEqual(reports.map(({ job_name, line, column, value }) => [job_name, line, column, value]), [
    ["a", 2, "gpu", "one"],
    ["b", 4, "gpu", "two"],
  ]);
  equal((await catalog.refresh()).errors, 2);
});

Deno.test("Catalog tells each warning once too, such as of a misspelt completion topic", async () => {
  const { store, catalog, reports } = setUp();
  const topic = "services/mqtt_job_listener/job_complete/srot";
  for (let time = 0; time < 2; time++) {
    store.write(table("sort,x,i", `plot,${topic},i`, ...(time === 0 ? [] : ["more,y,i"])));
    await catalog.refresh();
  }
  deepEqual(reports.map(({ reason, job_name, line, column }) => [reason, job_name, line, column]), [
    ["TableWarning", "plot", 3, "mqtt_topic"],
  ]);
  match(reports[0]!.message, /did you mean "sort"/i);
});

Deno.test("Catalog does not flood with the errors of a table that is all wrong", async () => {
  const { store, catalog, reports } = setUp();
  store.write(table(...Array.from({ length: 3_000 }, (_, at) => `j${at},x,Upper`)));
  await catalog.refresh();
  equal(reports.length, 21);
  match(reports.at(-1)?.message ?? "", /2980 more errors/);
  doesNotMatch(reports[0]?.message ?? "", /more errors/);
});

Deno.test("Catalog says of a first table without rows that nothing will run", async () => {
  const { store, catalog, reports } = setUp();
  store.write("job_name,mqtt_topic,image\n");
  equal((await catalog.refresh()).status, "loaded");
  deepEqual(reports.map(({ reason, message }) => [reason, message]), [
    ["TableUnusable", "The table s3://lab/jobs.csv has no rows; nothing will run"],
  ]);
});

Deno.test("refresh() checks the same table again when what it is checked by has changed", async () => {
  let missing = "b";
  let changed = false;
  const bed = setUp({
    check: ({ jobName, line }) => jobName === missing ? [{ severity: "error", line, message: "no template" }] : [],
    refreshRules: () => Promise.resolve(changed),
  });
  bed.store.write("job_name,mqtt_topic,image\na,x,i\nb,x,i\n");
  const names = () => bed.catalog.table?.rows.map(({ jobName }) => jobName);
  await bed.catalog.refresh();
  deepEqual(names(), ["a"]);
  missing = "a";
  equal((await bed.catalog.refresh()).status, "unchanged");
  deepEqual(names(), ["a"]);
  changed = true;
  equal((await bed.catalog.refresh()).status, "loaded");
  deepEqual(names(), ["b"]);
});
