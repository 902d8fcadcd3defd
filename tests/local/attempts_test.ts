/** Further attempts on this machine's processes, by the whole service. */
import { deepEqual, equal } from "node:assert/strict";
import { keyOfCause, runNameFor } from "../../run_spec.ts";
import { startEmbeddedBed } from "../harness/local_bed.ts";
import { csv, shell } from "../harness/table.ts";
import { eventually } from "../harness/wait.ts";

const TABLE = csv([
  { job_name: "flaky", command: shell("echo $ATTEMPT; [ $ATTEMPT = 3 ] || exit 75"), retries: 2 },
  // tail keeps a line until it ends.
  { job_name: "climbs", command: shell("head -c 100000000 /dev/zero | tail > /dev/null"), memory_limit: "64Mi, 1Gi" },
  { job_name: "crashes", command: shell("kill -9 $$"), memory_limit: "64Mi, 1Gi" },
].map((cells) => ({ ...cells, mqtt_topic: `lab/${cells.job_name}`, image: "none" })));

Deno.test(
  "LocalRunner's runs are tried again, each attempt with its number, and with more memory where they lacked it",
  {
    ignore: Deno.build.os !== "linux",
  },
  async () => {
    await using bed = await startEmbeddedBed({ table: TABLE, retryDelayMs: 1 });
    for (const row of ["flaky", "climbs", "crashes"]) await bed.client.publishAsync(`lab/${row}`, "go", { qos: 1 });
    const ends = () => bed.told.flatMap((event) => event.type === "finished" ? event.record : []);
    await eventually(() => ends().length === 3, { what: "three ends" });
    const told = bed.told.flatMap((event) =>
      event.type === "finished" || event.type === "retrying" ? event.record : []
    );
    const of = (row: string) =>
      told.filter(({ job_name }) => job_name === row)
        .map(({ attempt = 1, status, reason, limits }) => `${attempt} ${status} ${reason} ${limits["memory"] ?? "-"}`);
    deepEqual(of("flaky"), ["1 failed ExitCode -", "2 failed ExitCode -", "3 succeeded Completed -"]);
    deepEqual(of("climbs"), ["1 failed OOMKilled 64Mi", "2 succeeded Completed 1Gi"]);
    // A program that is killed has not lacked memory by that alone.
    deepEqual(of("crashes"), ["1 failed ExitCode 64Mi"]);
    const last = ends().find(({ job_name }) => job_name === "flaky")!;
    const first = told.find(({ job_name }) => job_name === "flaky")!.run_name;
    deepEqual([last.first_run, last.root_run], [first, first]);
    equal(last.run_name, runNameFor({ jobName: "flaky", parallelism: 1 }, { key: keyOfCause.attempt(first, 3) }));
    await eventually(() => bed.service.runs.size === 0);
  },
);
