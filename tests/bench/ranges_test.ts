/** What a message, a run, a command and a table cost, held against tests/bench/ranges.json. */
import { deepEqual, equal, match } from "node:assert/strict";
import { needs } from "../harness/needs.ts";
import { measureRanges, outside, readRanges } from "./ranges.ts";

const RANGE = { usual: 1, most: 1.5, is: "a to b" };

Deno.test("outside() names the figure, what it is and what it may be", () => {
  deepEqual(outside({ a: 1.5 }, { a: RANGE }), []);
  match(outside({ a: 1.6 }, { a: RANGE })[0]!, /^a is 1\.6, at most 1\.5 is allowed, 1 is usual/);
});

Deno.test("outside() lets no figure go unjudged, and no range unmeasured", () => {
  equal(outside({ a: 1 }, {}).length, 1);
  equal(outside({}, { a: RANGE }).length, 1);
  equal(outside({ a: NaN }, { a: RANGE }).length, 1);
});

Deno.test({
  name: "messages, runs, commands and tables cost no more than tests/bench/ranges.json allows",
  ignore: !await needs("mosquitto", "s3", "cluster"),
  async fn() {
    const ranges = await readRanges();
    const first = outside(await measureRanges(), ranges);
    if (first.length === 0) return;
    // What costs more does so again; what a busy machine did is not there any more.
    const again = outside(await measureRanges(), ranges);
    const advice = "tests/bench/profile.ts says where the time goes; a cost that is wanted goes into ranges.json";
    deepEqual(again, [], `${again.join("\n")}\nThe first time: ${first.join("; ")}\n${advice}`);
  },
});
