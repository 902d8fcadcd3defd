/** A small form of the burst of tests/e2e/backpressure.ts, and what its judgement looks at. */
import { deepEqual, match } from "node:assert/strict";
import { type BackpressureResult, faultsOf, runBackpressure } from "./backpressure.ts";
import { needs } from "../harness/needs.ts";

Deno.test({
  name: "a burst against a slow API server: one Job and one end for each message, on one connection",
  ignore: !await needs("mosquitto", "s3", "cluster"),
  async fn() {
    const result = await runBackpressure({ messages: 100, createsPerSecond: 20 });
    deepEqual(faultsOf(result), [], JSON.stringify(result));
  },
});

Deno.test({
  name: "a burst of which most is left with the broker: fetched by reconnects, one Job and one end for each message",
  ignore: !await needs("mosquitto", "s3", "cluster"),
  async fn() {
    const result = await runBackpressure({ messages: 600, createsPerSecond: 60, maxWaiting: 100 });
    deepEqual(faultsOf(result), [], JSON.stringify(result));
  },
});

Deno.test("faultsOf() names lost and doubled runs, lost connections and growing memory", () => {
  const good: BackpressureResult = {
    messages: 10,
    lost: 0,
    doubled: 0,
    ends: 10,
    records: 10,
    connects: 1,
    refetches: 0,
    timeouts: 0,
    seconds: 600,
    memoryMb: { before: 100, early: 120, late: 121, peak: 130 },
  };
  deepEqual(faultsOf(good), []);
  match(faultsOf({ ...good, lost: 1 }).join(), /1 lost/);
  match(faultsOf({ ...good, doubled: 2 }).join(), /2 doubled/);
  match(faultsOf({ ...good, ends: 9 }).join(), /9 ends/);
  match(faultsOf({ ...good, records: 11 }).join(), /11 records/);
  match(faultsOf({ ...good, connects: 2 }).join(), /2 connections/);
  match(faultsOf({ ...good, memoryMb: { before: 100, early: 120, late: 170, peak: 170 } }).join(), /grew/);
  match(faultsOf({ ...good, memoryMb: { before: 100, early: 370, late: 370, peak: 370 } }).join(), /rose/);
});
