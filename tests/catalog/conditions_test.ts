/** catalog/conditions.ts: what a condition means, what is refused, and that no value can make it fail or hang. */
import { deepEqual, equal, match, ok } from "node:assert/strict";
import fc from "fast-check";
import { compileCondition, type Condition, type ConditionValues } from "../../catalog/conditions.ts";

function compile(text: string): Condition {
  const condition = compileCondition(text);
  ok(!("fault" in condition), "fault" in condition ? condition.fault : "");
  return condition;
}

const verdict = (text: string, payload: unknown, more: Partial<ConditionValues> = {}) =>
  compile(text).evaluate({ topic: "lab/up", payload, ...more });

const HOLDS: [text: string, payload: unknown, passed: boolean][] = [
  ['payload.kind == "raw"', { kind: "raw" }, true],
  ['payload.kind == "raw"', { kind: "sorted" }, false],
  ["payload.size > 1000", { size: 1001 }, true],
  ["payload.size > 1000", { size: 1000.5 }, true],
  ["payload.size > 1000.5", { size: 1001 }, true],
  ["payload.size + 1 == 3", { size: 2 }, true],
  ['payload.tags[0] == "a"', { tags: ["a"] }, true],
  ['"a" in payload.tags', { tags: ["b", "a"] }, true],
  ['payload.kind in ["raw", "h5"]', { kind: "h5" }, true],
  ['payload.file.endsWith(".h5")', { file: "a.h5" }, true],
  ['payload.file.matches("^[a-z]+\\\\.h5$")', { file: "a.h5" }, true],
  ["has(payload.a) && !has(payload.b)", { a: 1 }, true],
  ["payload.flag", { flag: true }, true],
  ["payload.flag", { flag: "true" }, false],
  ['payload.reason == "OOMKilled" ? true : payload.n > 3', { n: 4 }, true],
  ['payload == "go"', "go", true],
  // A field that is missing, or of another type, makes its test false, and nothing else.
  ["payload.a == 1", {}, false],
  ["payload.a != 1", {}, false],
  ["!(payload.a == 1)", {}, true],
  ["payload.a == 1 || payload.b == 2", { b: 2 }, true],
  ["payload.a.b.c == 1", { a: null }, false],
  ["payload.a > 3", { a: "text" }, false],
  ["payload.a == 1", "no JSON", false],
  ["payload.a == 1", undefined, false],
];

Deno.test("a condition holds or not", async (t) => {
  for (const [text, payload, passed] of HOLDS) {
    await t.step(`${text} over ${JSON.stringify(payload)}`, () => equal(verdict(text, payload).passed, passed));
  }
});

Deno.test("a condition sees topic, input, item and result", () => {
  const values = { topic: "lab/7/up", payload: {}, input: { uuid: "u" }, item: { name: "w1" }, result: { wells: 3 } };
  const text = 'topic.startsWith("lab/") && input.uuid == "u" && item.name == "w1" && result.wells == 3';
  equal(compile(text).evaluate(values).passed, true);
});

Deno.test("a condition says which values decided", () => {
  deepEqual(
    verdict('payload.size > 1000 && payload.kind == "raw" && has(payload.meta.x)', { size: 12, meta: { x: [1] } }),
    {
      passed: false,
      because: "payload.size is 12, payload.kind is missing, payload.meta.x is [1]",
    },
  );
  equal(verdict('payload["a b"][1] == 2', { "a b": [1, 2] }).because, 'payload["a b"][1] is 2');
  equal(verdict("payload.constructor == 1", {}).because, "payload.constructor is missing");
  const { because } = verdict('payload.a == "x"', { a: "y".repeat(10_000) });
  ok(because.length < 120, because);
});

const FAULTS: [text: string, fault: RegExp][] = [
  ["payload.size >", /^it is not CEL: /],
  ["paylod.size > 1", /^there is no "paylod"; did you mean "payload"\?$/],
  ['kind == "raw"', /^there is no "kind"; write payload\.kind for a field of the payload, or "kind" for text$/],
  ["payload.items.all(x, x > 1)", /^all, exists, exists_one, map and filter go through lists/],
  ["payload.items.map(x, x * 2).size() > 3", /go through lists/],
  [`${"(".repeat(40)}payload.a${")".repeat(40)}`, /nested more than 32 deep/],
  [Array.from({ length: 300 }, () => "payload.a == 1").join(" || "), /more than 500 parts/],
];

Deno.test("what is no condition is told with what to write", async (t) => {
  for (const [text, fault] of FAULTS) {
    await t.step(text.slice(0, 60), () => {
      const condition = compileCondition(text);
      match("fault" in condition ? condition.fault : "", fault);
    });
  }
});

Deno.test("no text makes compiling throw, and no payload makes a condition throw", () => {
  const condition = compile(
    'payload.a.b == "x" || payload.list[2] > 3 || payload.s.matches("(a*)*b") || !has(payload.c)',
  );
  fc.assert(fc.property(fc.jsonValue(), (payload) => {
    equal(typeof condition.evaluate({ topic: "t", payload }).passed, "boolean");
  }));
  fc.assert(fc.property(fc.string({ maxLength: 60 }), (text) => {
    const found = compileCondition(text);
    ok("fault" in found ? found.fault !== "" : found.text === text);
  }));
});
