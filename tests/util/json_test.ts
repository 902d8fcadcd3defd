import { deepEqual, equal, ok, throws } from "node:assert/strict";
import fc from "fast-check";
import { originOf } from "../../listener/origin.ts";
import { messageEnv } from "../../run_spec.ts";
import { MAX_DEPTH, parseJson } from "../../util/json.ts";
import { row } from "../harness/fakes.ts";

const nested = (depth: number) => "[".repeat(depth) + "]".repeat(depth);

Deno.test("parseJson() reads what JSON.parse reads", () => {
  fc.assert(fc.property(fc.json({ noUnicodeString: false }), (text) => {
    const padded = text + " ".repeat(MAX_DEPTH);
    deepEqual(parseJson(padded), JSON.parse(padded));
  }));
});

Deno.test("parseJson() refuses what is nested beyond all use, whole or not, and counts no bracket of a string", () => {
  ok(Array.isArray(parseJson(nested(MAX_DEPTH))));
  // Too deep for a reviver: read without one.
  ok(Array.isArray(parseJson(nested(MAX_DEPTH), (_, value) => value)));
  for (
    const text of [nested(MAX_DEPTH + 1), "[".repeat(1_000_000), '{"a":'.repeat(200_000), `{"a\\\\":${nested(40_000)}}`]
  ) {
    throws(() => parseJson(text), /^SyntaxError: It is nested more than 30000 levels deep$/);
  }
  const brackets = JSON.stringify({ a: '\\"['.repeat(40_000), b: "\\" });
  deepEqual(parseJson(brackets), JSON.parse(brackets));
  throws(() => parseJson(`"${"[".repeat(40_000)}`), SyntaxError);
});

Deno.test("slashes and quotes without end are looked at once", () => {
  // Looked at again and again, a million of them would take minutes.
  for (const text of ["\\".repeat(1_000_000), `"${"\\".repeat(1_000_000)}`, `"${'\\"'.repeat(500_000)}`]) {
    throws(() => parseJson(text), SyntaxError);
  }
});

Deno.test("a payload that is nested beyond all use is a text: no origin and no fields are looked for in it", () => {
  const payload = new TextEncoder().encode(`{"run_name":"a-aaaaaaaaaaaa","x":${nested(40_000)}}`);
  equal(originOf({ topic: "p/job_complete/a", payload }, "p").parentRun, undefined);
  const env = messageEnv({ message: { topic: "t", payload }, row: row(), runName: "r-abcdefgh2345" });
  ok(env["MQTT_PAYLOAD"]?.startsWith("{"));
  equal(env["PAYLOAD_RUN_NAME"], undefined);
});
