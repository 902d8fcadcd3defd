import { equal } from "node:assert/strict";
import { lastRecord } from "../../flows/last_record.ts";
import { RunRecords } from "../../records.ts";
import { RunTable } from "../../runs.ts";
import { aRecord, FakeStore, job } from "../harness/fakes.ts";

const [FIRST, NEXT] = ["sort-abcdefgh2345", "sort-nnnnnnnn2345"];

Deno.test("a run whose next attempt lives, or waits in a note for its place, has not ended", async () => {
  const records = new RunRecords(new FakeStore());
  const runs = new RunTable({ emit: () => {} });
  const { signal } = new AbortController();
  const last = () => lastRecord(FIRST, { records, runs, signal });
  await records.put(aRecord({ run_name: FIRST, status: "failed", retried_as: NEXT }));
  equal((await last() as { run_name: string }).run_name, FIRST, "somebody has deleted the next one's Job");
  await records.putNote(".open-attempts", NEXT, {});
  equal(await last(), undefined);
  await records.deleteNote(".open-attempts", NEXT);
  runs.clusterEvents.onJob(job({ runName: NEXT, jobName: "sort" }));
  equal(await last(), undefined);
});
