/** The command prune: what it says of what the service will delete. */
import { deepEqual, equal, match } from "node:assert/strict";
import { call } from "../harness/command.ts";
import { lineOf } from "../../history/line.ts";
import { Segments } from "../../history/segments.ts";
import { LocalStore } from "../../local/store.ts";
import type { RunRecord } from "../../ports.ts";
import { RunRecords } from "../../records.ts";
import { runNameFor } from "../../run_spec.ts";
import { endAt } from "../conformance/history.ts";

const TOPICS = "services/mqtt_job_listener";

function keyed(second: number, more: Partial<RunRecord>): RunRecord {
  const run_name = runNameFor({ jobName: "sort", parallelism: 1 }, { key: String(second) });
  return endAt(second, { run_name, job_name: "sort", ...more });
}

Deno.test("a dry run says how many records of rows with needs stay at most, for only the service knows", async () => {
  const dir = await Deno.makeTempDir();
  try {
    const store = new LocalStore(`${dir}/runs`);
    const found = [
      keyed(1, { topic: `${TOPICS}/join/merge` }),
      keyed(2, { topic: `${TOPICS}/request/run` }),
      keyed(3, { batch: "b" }),
    ];
    for (const record of found) await new RunRecords(store).put(record);
    await new Segments(store).write(found.map((record) => lineOf(record)!));
    await Deno.writeTextFile(`${dir}/jobs.csv`, "job_name,mqtt_topic,image\nsort,a,b\n");
    const env = {
      RUNS_URL: `${dir}/runs`,
      LOGS_URL: `${dir}/logs`,
      CATALOG_URL: `${dir}/jobs.csv`,
      CLUSTER: "local",
      KEEP_RUNS: "30d",
    };
    const { code, out } = await call(["prune", "--dry-run"], env);
    equal(code, 0);
    match(out, /^1 record of runs that ended more than .* ago would go$/m);
    match(out, /^ {2}at most 1 record stay which are of rows with needs/m);
    match(out, /^ {2}1 record stay which are of a sheet or a replay/m);
    deepEqual(
      await Array.fromAsync(store.list("", { after: ".~" }), ({ key }) => key),
      found.map(({ run_name }) => `${run_name}.json`).sort(),
    );
  } finally {
    await Deno.remove(dir, { recursive: true });
  }
});
