import { deepEqual, equal } from "node:assert/strict";
import { adviceOf, type EndedRun, endedRun, peaksOf, type RowDay, usageBy, usageCsv, weekOf } from "../../history.ts";
import { aRecord } from "../harness/fakes.ts";

const GIB = 1024 ** 3;

function day(jobName: string, day: string, more: Partial<RowDay> = {}): RowDay {
  return { jobName, day, succeeded: 1, failed: 0, cancelled: 0, coreHours: 1, gibHours: 2, gpuHours: 0, ...more };
}

function ends(count: number, more: Partial<Parameters<typeof endedRun>[0]> = {}): EndedRun[] {
  const resources = { requests: { cpu: "4", memory: "16Gi" }, limits: { memory: "32Gi" } };
  return Array.from({ length: count }, (_, n) => endedRun(aRecord({ run_name: `a-${n}`, ...resources, ...more })));
}

Deno.test("a week begins on Monday", () => {
  deepEqual(["2026-11-23", "2026-11-26", "2026-11-29", "2026-11-30", "2026-01-01"].map(weekOf), [
    "2026-11-23",
    "2026-11-23",
    "2026-11-23",
    "2026-11-30",
    "2025-12-29",
  ]);
});

Deno.test("usageBy() sums by name, the most expensive first", () => {
  const days = [
    day("plot", "2026-11-23"),
    day("sort", "2026-11-23", { gpuHours: 1, failed: 2 }),
    day("plot", "2026-11-24", { cancelled: 1 }),
  ];
  deepEqual(usageBy(days, ({ jobName }) => jobName), [
    { name: "sort", runs: 3, failed: 2, coreHours: 1, gibHours: 2, gpuHours: 1 },
    { name: "plot", runs: 3, failed: 0, coreHours: 2, gibHours: 4, gpuHours: 0 },
  ]);
});

Deno.test("advice names runs, peak and what would do, and needs five runs that were watched", () => {
  const peak = { peak_memory: 9.1 * GIB };
  deepEqual(adviceOf(ends(57, peak)), ["57 runs, peak 9.1 GiB of 32 GiB: 12 GiB would do"]);
  deepEqual(adviceOf(ends(4, peak)), []);
  deepEqual(adviceOf(ends(57)), []);
  deepEqual(adviceOf(ends(9, { peak_memory: 20 * GIB })), []);
  deepEqual(adviceOf(ends(9, { peak_memory: 31 * GIB })), ["9 runs, peak 31 GiB of 32 GiB: 40 GiB would be safer"]);
  deepEqual(adviceOf(ends(9, { peak_cpu: 0.4 })), ["9 runs, peak 0.4 cores of 4 cores: 0.5 cores would do"]);
  deepEqual(adviceOf([...ends(8, peak), ...ends(1, { status: "failed", reason: "OOMKilled" })]), [
    "1 of the last 9 ran out of memory: raise memory_limit, or give it a ladder",
  ]);
});

Deno.test("what is advised never is more than what is there, and more than the peak", () => {
  for (let mib = 1; mib < 40_000; mib = Math.ceil(mib * 1.3)) {
    const found = ends(5, { peak_memory: mib * 1024 ** 2 });
    const [advice] = adviceOf(found);
    const [, value, unit] = /: ([\d.]+) (MiB|GiB) would do$/.exec(advice ?? "") ?? [];
    if (value === undefined) continue;
    const advised = Number(value) * (unit === "GiB" ? 1024 : 1);
    equal(advised > mib && advised < 32 * 1024, true, `${advice} for ${mib} MiB`);
  }
});

Deno.test("peaks are those of the runs that were watched, against the newest run's cells", () => {
  const found = [...ends(2, { peak_memory: 5, peak_cpu: 2 }), ...ends(1, { limits: { memory: "1Gi" } })];
  deepEqual(peaksOf(found), { runs: 2, memory: 5, memoryAllowed: GIB, cpu: 2, cpuRequested: 4 });
  deepEqual(peaksOf(ends(1, { requests: { cpu: "9e999", memory: "9e999" }, limits: {} })), { runs: 0 }, "no amount");
  deepEqual(peaksOf([]), { runs: 0 });
});

Deno.test("the sheet is by week and row, and gives a spreadsheet no formula", () => {
  const days = [day("sort", "2026-11-24"), day("sort", "2026-11-23"), day('=a,"b"', "2026-11-23")];
  equal(
    [...usageCsv(days, (jobName) => jobName === "sort" ? "+ann" : "")].join(""),
    [
      "week,job_name,owner,runs,failed,core_hours,gib_hours,gpu_hours",
      `2026-11-23,"'=a,""b""",,1,0,1.000,2.000,0.000`,
      "2026-11-23,sort,'+ann,2,0,2.000,4.000,0.000",
      "",
    ].join("\n"),
  );
});
