/** The command runs, wherever it finds what has ended. */
import { deepEqual, equal, match } from "node:assert/strict";
import { call, type Heard } from "../harness/command.ts";
import { KeptHistory } from "../../history.ts";
import { LocalStore } from "../../local/store.ts";
import type { RunRecord } from "../../ports.ts";
import { RunRecords } from "../../records.ts";
import { endAt } from "../conformance/history.ts";
import { eventually } from "../harness/wait.ts";

interface Bed {
  readonly store: LocalStore;
  readonly records: RunRecords;
  /** `runs args…`. */
  runs(...args: string[]): Promise<Heard>;
  names(...args: string[]): Promise<string>;
}

const FAILED = { status: "failed", reason: "OOMKilled", message: "Out of memory: the limit is 8Gi" } as const;
const RUNS: readonly RunRecord[] = [
  endAt(1, { job_name: "sort", owner: "ada" }),
  endAt(2, { job_name: "sort", ...FAILED }),
  endAt(3, { job_name: "plot", payload: '{"plate":"P 007"}' }),
  endAt(4, { job_name: "plot", ...FAILED, reason: "Error", message: "Exit code 2" }),
];

async function withBed(
  { records: given, index, segments }: { records: readonly RunRecord[]; index?: boolean; segments?: boolean },
  work: (bed: Bed) => Promise<void>,
): Promise<void> {
  const dir = await Deno.makeTempDir();
  const store = new LocalStore(`${dir}/runs`);
  const records = new RunRecords(store);
  for (const record of given) await records.put(record);
  await Deno.writeTextFile(`${dir}/jobs.csv`, "job_name,mqtt_topic,image\nsort,a,b\nnever-ran,a,b\n");
  const stop = new AbortController();
  const history = new KeptHistory({
    records,
    store,
    ...(index ? { place: { folder: `${dir}/data` } } : {}),
    leads: () => segments === true,
    onTrouble: () => {},
    segmentMs: 1,
  });
  try {
    if (index || segments) await history.load(stop.signal);
    if (segments) await eventually(async () => (await Array.fromAsync(store.list(".index/"))).length > 0);
    if (segments && !index) stop.abort();
    const env = {
      RUNS_URL: `${dir}/runs`,
      CATALOG_URL: `${dir}/jobs.csv`,
      CLUSTER: "local",
      DATA_DIR: `${dir}/data`,
    };
    const runs = (...args: string[]) => call(["runs", ...args], env);
    const names = async (...args: string[]) => {
      const { out } = await runs(...args, "--json");
      return JSON.parse(out).map(({ run_name }: RunRecord) => run_name).join(" ");
    };
    await work({ store, records, runs, names });
  } finally {
    stop.abort();
    history.close();
    await Deno.remove(dir, { recursive: true });
  }
}

for (
  const [where, how] of [
    ["records alone", {}],
    ["segments", { segments: true }],
    ["the index of a service that runs", { index: true }],
  ] as const
) {
  Deno.test(`runs finds by row, state, reason, owner, time and words, in ${where}`, async () => {
    await withBed({ records: RUNS, ...how }, async ({ runs, names }) => {
      equal(await names(), "run-4 run-3 run-2 run-1");
      equal(await names("--limit", "2"), "run-4 run-3");
      equal(await names("--row", "sort"), "run-2 run-1");
      equal(await names("--row", "sort", "--state", "failed"), "run-2");
      equal(await names("--reason", "Error"), "run-4");
      equal(await names("--owner", "ada"), "run-1");
      equal(await names("--text", "memory 8gi"), "run-2");
      equal(await names("--text", "007"), "run-3");
      equal(await names("--since", "2026-01-01T00:00:03Z"), "run-4 run-3");
      equal(await names("--until", "2026-01-01T00:00:03Z"), "run-2 run-1");
      equal(await names("--since", "1h"), "");
      const { out } = await runs("--state", "failed");
      match(out, /^run-2 +failed +2026-01-01T00:00:02Z +.*Out of memory: the limit is 8Gi$/m);
    });
  });

  Deno.test(`runs prints whole records as JSON, in ${where}`, async () => {
    await withBed({ records: RUNS, ...how }, async ({ runs }) => {
      deepEqual(JSON.parse((await runs("--json", "--limit", "1")).out), [RUNS[3]]);
    });
  });

  Deno.test(`a misspelt row is an error with the nearest name, in ${where}`, async () => {
    await withBed({ records: RUNS, ...how }, async ({ runs }) => {
      deepEqual(await runs("--row", "Sort"), {
        code: 1,
        out: "",
        err: 'No row of the table and no record is of "Sort": did you mean "sort"?\n',
      });
      match((await runs("--row", "plto")).err, /did you mean "plot"/);
      deepEqual(await runs("--row", "never-ran"), { code: 0, out: "", err: "No such run\n" });
    });
  });
}

Deno.test("runs finds what ended since the last segment was written", async () => {
  await withBed({ records: RUNS, segments: true }, async ({ records, names }) => {
    await records.put(endAt(9, { job_name: "sort" }));
    equal(await names("--row", "sort"), "run-9 run-2 run-1");
    equal(await names(), "run-9 run-4 run-3 run-2 run-1");
  });
});

Deno.test("of a large store runs reads no more than is wanted, and says what it has not looked at", async () => {
  await withBed({ records: RUNS, segments: true }, async ({ store, records, runs, names }) => {
    // A large one of older ends, and it cannot even be read.
    await store.put(".index/1000000000-1000000001-090000-aaaaaaaaaaaa.jsonl.gz", "x");
    await records.put(endAt(9, { job_name: "sort" }));
    const { out, err } = await runs("--limit", "3", "--json");
    deepEqual(JSON.parse(out).map(({ run_name }: RunRecord) => run_name), ["run-4", "run-3", "run-2"]);
    match(err, /runs that ended in the last minute may be missing; --row NAME looks for them too/);
    equal(await names("--row", "sort", "--limit", "1"), "run-2", "the names of this test are not as a row's are");
  });
});

Deno.test("a time that is none is wrong use", async () => {
  await withBed({ records: [] }, async ({ runs }) => {
    const { code, err } = await runs("--since", "yesterday");
    equal(code, 2);
    match(err, /--since "yesterday": write how long ago \(2h, 3d\)/);
  });
});
