/**
 * A few cases of the crash matrix inside the test suite; `deno task chaos` runs them all.
 */
import { deepEqual, equal } from "node:assert/strict";
import { casesOf, renderTable, runChaos } from "./chaos.ts";
import { OPERATIONS } from "./chaos_entry.ts";
import { needs } from "./harness/needs.ts";

Deno.test("the crash matrix holds every operation, before and after", () => {
  const faults = casesOf("short").flatMap(({ fault }) => fault?.replace(/:\d+$/, "") ?? []);
  deepEqual(faults.sort(), OPERATIONS.flatMap((operation) => [`${operation}:after`, `${operation}:before`]).sort());
});

Deno.test({
  name: "no message is lost and none runs twice when the service is killed or cut off",
  ignore: !await needs("mosquitto", "s3", "node"),
  async fn() {
    const results = await runChaos({ extent: "test" });
    const bad = results.filter(({ lost, doubled, outcome }) => lost > 0 || doubled > 0 || outcome !== "ok");
    equal(bad.length, 0, `\n${renderTable(results)}`);
  },
});
