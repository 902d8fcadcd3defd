import { deepEqual } from "node:assert/strict";
import type { RunRecord } from "../../ports.ts";
import { selectRecords } from "../../status/history.ts";
import { aRecord } from "../harness/fakes.ts";

Deno.test("selectRecords() gives the newest first and keeps to all parts of the filter", () => {
  const at = (hour: number, more: Partial<RunRecord>) =>
    aRecord({ run_name: `run-${hour}`, finished_at: `2026-03-01T${String(hour).padStart(2, "0")}:00:00Z`, ...more });
  const all = [at(1, {}), at(3, { status: "failed" }), at(2, { job_name: "plot" }), at(4, { status: "failed" })];
  const names = (filter: Omit<Parameters<typeof selectRecords>[1], "limit">) =>
    selectRecords(all, { limit: 10, ...filter }).map(({ run_name }) => run_name);
  deepEqual(names({}), ["run-4", "run-3", "run-2", "run-1"]);
  deepEqual(names({ status: "failed" }), ["run-4", "run-3"]);
  deepEqual(names({ jobName: "plot" }), ["run-2"]);
  deepEqual(names({ since: new Date("2026-03-01T02:00Z"), until: new Date("2026-03-01T04:00Z") }), ["run-3", "run-2"]);
});
