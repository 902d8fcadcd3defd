/** When rows with a schedule are due, above all where clocks are set. */
import { deepEqual, equal, match, ok } from "node:assert/strict";
import fc from "fast-check";
import { compileTimetable } from "../../catalog/timetables.ts";
import { readTable } from "../../catalog.ts";
import { OPTIONS } from "./kit.ts";

function timetable(cron: string, zone = "UTC") {
  const found = compileTimetable({ cron }, zone);
  ok(!("fault" in found), JSON.stringify(found));
  return found;
}

/** Due times from one moment to another, both as RFC 3339. */
function dues(cron: string, zone: string, from: string, to: string): string[] {
  const all = timetable(cron, zone);
  const found: string[] = [];
  for (let next = all.next(new Date(from)); next && next <= new Date(to); next = all.next(next)) {
    found.push(next.toISOString().slice(5, 16));
  }
  return found;
}

/** Zone, what happens to its clock, a schedule, the time looked at, due times in UTC. */
const CLOCKS = [
  ["Europe/Berlin", "2 to 3 is skipped", "30 2 * * *", "2026-03-28T00:00Z", "2026-03-31T00:00Z", [
    "03-28T01:30",
    "03-29T01:00",
    "03-30T00:30",
  ]],
  ["Europe/Berlin", "2 to 3 is skipped", "0,30 2,3 * * *", "2026-03-29T00:00Z", "2026-03-29T12:00Z", [
    "03-29T01:00",
    "03-29T01:30",
  ]],
  ["Europe/Berlin", "2 to 3 is skipped", "*/20 2 * * *", "2026-03-29T00:00Z", "2026-03-29T12:00Z", ["03-29T01:00"]],
  ["Europe/Berlin", "2 to 3 is skipped", "0 */2 * * *", "2026-03-28T23:30Z", "2026-03-29T05:00Z", [
    "03-29T01:00",
    "03-29T02:00",
    "03-29T04:00",
  ]],
  ["Europe/Berlin", "2 to 3 is skipped", "*/30 * * * *", "2026-03-29T00:10Z", "2026-03-29T02:00Z", [
    "03-29T00:30",
    "03-29T01:00",
    "03-29T01:30",
    "03-29T02:00",
  ]],
  ["Europe/Berlin", "2 to 3 comes twice", "30 2 * * *", "2026-10-24T12:00Z", "2026-10-26T12:00Z", [
    "10-25T00:30",
    "10-26T01:30",
  ]],
  ["Europe/Berlin", "2 to 3 comes twice", "*/30 2 * * *", "2026-10-24T12:00Z", "2026-10-25T12:00Z", [
    "10-25T00:00",
    "10-25T00:30",
  ]],
  ["Europe/Berlin", "2 to 3 comes twice", "0 */2 * * *", "2026-10-24T22:00Z", "2026-10-25T04:00Z", [
    "10-25T00:00",
    "10-25T03:00",
  ]],
  ["Europe/Berlin", "2 to 3 comes twice", "0 * * * *", "2026-10-24T23:30Z", "2026-10-25T03:00Z", [
    "10-25T00:00",
    "10-25T01:00",
    "10-25T02:00",
    "10-25T03:00",
  ]],
  ["America/Los_Angeles", "2 to 3 is skipped", "15 2 * * *", "2026-03-07T12:00Z", "2026-03-09T12:00Z", [
    "03-08T10:00",
    "03-09T09:15",
  ]],
  ["America/Los_Angeles", "1 to 2 comes twice", "30 1 * * *", "2026-10-31T12:00Z", "2026-11-02T12:00Z", [
    "11-01T08:30",
    "11-02T09:30",
  ]],
  ["America/Los_Angeles", "1 to 2 comes twice", "0 0,1,2 * * *", "2026-11-01T06:00Z", "2026-11-01T12:00Z", [
    "11-01T07:00",
    "11-01T08:00",
    "11-01T10:00",
  ]],
  ["Australia/Lord_Howe", "2 to 2:30 is skipped", "15 2 * * *", "2026-10-02T15:50Z", "2026-10-04T16:00Z", [
    "10-03T15:30",
    "10-04T15:15",
  ]],
  ["Australia/Lord_Howe", "1:30 to 2 comes twice", "45 1 * * *", "2026-04-04T00:00Z", "2026-04-05T16:00Z", [
    "04-04T14:45",
    "04-05T15:15",
  ]],
  ["Asia/Kathmandu", "is 5:45 ahead and never set", "0 0 * * *", "2026-04-04T00:00Z", "2026-04-06T00:00Z", [
    "04-04T18:15",
    "04-05T18:15",
  ]],
  ["Pacific/Apia", "30 December 2011 is skipped", "0 12 * * *", "2011-12-29T00:00Z", "2011-12-31T12:00Z", [
    "12-29T22:00",
    "12-30T10:00",
    "12-30T22:00",
  ]],
] as const;

for (const [zone, what, cron, from, to, expected] of CLOCKS) {
  Deno.test(`"${cron}" in ${zone}, where ${what}: once for each time`, () => {
    deepEqual(dues(cron, zone, from, to), [...expected]);
  });
}

Deno.test("next() and last() agree, whichever moment they are asked about", () => {
  const zones = ["UTC", "Europe/Berlin", "America/Los_Angeles", "Australia/Lord_Howe"];
  const cron = fc.constantFrom(
    "30 2 * * *",
    "*/30 2 * * *",
    "0 * * * *",
    "*/7 1-3 * * *",
    "45 1,2 * * *",
    "0 */2 * * *",
  );
  const days = [
    "2026-03-08T10:00Z",
    "2026-03-29T01:00Z",
    "2026-04-04T15:00Z",
    "2026-10-03T15:30Z",
    "2026-10-25T01:00Z",
  ];
  fc.assert(
    fc.property(cron, fc.constantFrom(...zones), fc.constantFrom(...days), fc.integer({ min: -300, max: 300 }), (
      cron,
      zone,
      day,
      minutes,
    ) => {
      const all = timetable(cron, zone);
      const at = new Date(Date.parse(day) + minutes * 60_000 + 7_000);
      const next = all.next(at)!;
      ok(next > at);
      equal(all.last(at, new Date(next.getTime() - 1)), undefined, "nothing is due before the next");
      deepEqual(all.last(at, next), next);
      const long = new Date(at.getTime() - 2 * 86_400_000);
      let last: Date | undefined;
      for (let due = all.next(long)!; due <= at; due = all.next(due)!) last = due;
      deepEqual(all.last(long, at), last);
    }),
    { numRuns: 400 },
  );
});

Deno.test("every 30m is due at multiples since the epoch, in each zone alike", () => {
  for (const zone of ["UTC", "Australia/Lord_Howe"]) {
    const all = compileTimetable({ everySeconds: 1800 }, zone);
    ok(!("fault" in all));
    deepEqual(all.next(new Date("2026-04-04T14:59:59Z")), new Date("2026-04-04T15:00:00Z"));
    deepEqual(all.next(new Date("2026-04-04T15:00:00Z")), new Date("2026-04-04T15:30:00Z"));
    deepEqual(all.last(new Date(0), new Date("2026-04-04T15:29:00Z")), new Date("2026-04-04T15:00:00Z"));
  }
});

Deno.test("the 29th of February comes, even over the year 2100", () => {
  const from = new Date("2097-01-01T00:00Z");
  const all = compileTimetable({ cron: "0 0 29 2 *" }, "UTC", from);
  ok(!("fault" in all));
  deepEqual(all.next(from), new Date("2104-02-29T00:00Z"));
});

const HEADER = "job_name,mqtt_topic,image,schedule,time_zone,inputs\n";

/** What a cell is and what is said of it. */
const CELLS = [
  ["0 0 30 2 *", /that time never comes/],
  ["0 0 31 4,6,9,11 *", /that time never comes/],
  ["0 24 * * *", /Invalid value for hour: 24/],
  ["61 * * * *", /Invalid value for minute: 61/],
  ["a b c d e", /it is not cron/],
  ["@reboot", /"@reboot" is not known; write one of @yearly/],
  ["every 30s", /at least a minute/],
  ["every 90.5s", /whole seconds/],
  ["* * * * * *", /nothing runs more often than each minute; leave the seconds out/],
  ["daily", /write five fields of cron/],
  ["*/5 * * *", /it has four fields; write five: minute/],
] as const;

for (const [cell, said] of CELLS) {
  Deno.test(`a row with the schedule "${cell}" is left out, and it is said why`, async () => {
    const table = await readTable(`${HEADER}a,,busybox,"${cell}",,\nb,x,busybox,,,\n`, OPTIONS);
    deepEqual(table.rows.map(({ jobName }) => jobName), ["b"]);
    const [error] = table.problems;
    deepEqual([error?.severity, error?.line, error?.column, error?.value], ["error", 2, "schedule", cell]);
    match(error!.message, said);
  });
}

Deno.test("a row with a schedule needs no topic, and has its next time in its zone", async () => {
  const table = await readTable(`${HEADER}a,,busybox,0  3 * * MON-FRI,Europe/Berlin,\n`, OPTIONS);
  deepEqual(table.problems, []);
  deepEqual(
    table.timetableOf(table.rows[0]!)!.next(new Date("2026-07-17T12:00Z")),
    new Date("2026-07-20T01:00Z"),
  );
});

Deno.test("a zone without a schedule, and an input that no due time has, are warned of", async () => {
  const table = await readTable(
    `${HEADER}a,x,busybox,,Europe/Berlin,\nb,,busybox,@daily,,uuid\nc,,busybox,@daily,,"due, uuid=none"\n`,
    OPTIONS,
  );
  deepEqual(table.problems.map(({ severity, line, column }) => [severity, line, column]), [
    ["warning", 2, "time_zone"],
    ["warning", 3, "inputs"],
  ]);
  equal(table.rows.length, 3);
});
