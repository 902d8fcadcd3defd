/** The lines of the demo about a run that is tried again. */
import { deepEqual } from "node:assert/strict";
import { Narrator } from "../../cli/narrator.ts";
import { aRecord, FakeStore } from "../harness/fakes.ts";

const PLACE = { lineage: { root: "aaaaaaaaaaaa", rootRun: "sort-1", chainDepth: 0 }, receivedAt: new Date() };

Deno.test("a group is told when it begins and how it ended", async () => {
  const lines: string[] = [];
  const narrator = new Narrator({
    write: (line) => lines.push(line),
    logs: new FakeStore(),
    problems: () => [],
    mayFail: true,
    topicPrefix: "services/mqtt_job_listener",
  });
  const group = { type: "group", group: "sort-1", jobName: "sort", total: 3, ...PLACE } as const;
  narrator.tell({ ...group, state: "started", succeeded: 0 });
  narrator.tell({ ...group, state: "failed", succeeded: 2 });
  await narrator.written;
  deepEqual(lines, [
    "group      sort-1 of row sort has 3 items",
    "group      sort-1 of row sort failed: 2 of 3 items succeeded",
  ]);
});

Deno.test("an attempt that is tried again is told with its output, as a terminal shows it, and with the next one", async () => {
  const lines: string[] = [];
  const logs = new FakeStore();
  logs.objects.set("sort-1.txt", new TextEncoder().encode("run: sort-1\n\n\x1b[32mread\x1b[ming 1 of 3\rreading\n"));
  const narrator = new Narrator({
    write: (line) => lines.push(line),
    logs,
    problems: () => [],
    mayFail: true,
    topicPrefix: "services/mqtt_job_listener",
  });
  const failed = { status: "failed", reason: "OOMKilled", message: "Out of memory: the limit is 8Gi" } as const;
  const record = aRecord({ ...failed, run_name: "sort-1", job_name: "sort", retried_as: "sort-2" });
  narrator.tell({ type: "retrying", record, at: new Date("2026-03-01T12:34:56Z") });
  narrator.tell({ type: "finished", record: aRecord({ run_name: "sort-2", job_name: "sort" }), completionMs: 1 });
  await narrator.written;
  deepEqual(lines.slice(0, 3), [
    "  output   reading",
    "retrying   sort-1: Out of memory: the limit is 8Gi; tried again at 12:34:56 as sort-2",
    "succeeded  sort-2: Completed",
  ]);
});
