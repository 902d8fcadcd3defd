/** A short form of `deno task fuzz`: the same inputs each time. */
import { deepEqual, equal, notEqual } from "node:assert/strict";
import { fuzz } from "./fuzz.ts";
import { inputOf } from "./mutate.ts";
import { TARGETS } from "./targets.ts";

Deno.test("an input is made again by its number", () => {
  equal(inputOf(7, ["abc", "def"]), inputOf(7, ["abc", "def"]));
  notEqual(inputOf(7, ["abcdefgh"]), inputOf(8, ["abcdefgh"]));
});

/** Inputs of a target where 300 would take long: YAML that is nested 20,000 times deep takes its parser a second. */
const FEWER: Readonly<Record<string, number>> = {
  conditions: 150,
  import: 60,
  kubeconfig: 40,
  policy: 40,
  templates: 40,
  watch: 50,
};

for (const name of Object.keys(TARGETS)) {
  Deno.test(`no input breaks what is promised of: ${name}`, async () => {
    const { findings } = await fuzz(name, { from: 1, inputs: FEWER[name] ?? 300 });
    deepEqual(findings, []);
  });
}
