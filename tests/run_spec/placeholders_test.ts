import { deepEqual, equal, match, ok, throws } from "node:assert/strict";
import fc from "fast-check";
import { parseTemplate } from "../../catalog/cells/template.ts";
import { RefusedError, type RunSpec, type Template } from "../../ports.ts";
import { Filler, sampleMessage } from "../../run_spec.ts";

function template(text: string): Template {
  const parsed = parseTemplate(text);
  ok("template" in parsed, JSON.stringify(parsed));
  return parsed.template;
}

function fill(text: string, payload: string | Uint8Array, more: Partial<RunSpec> = {}): string {
  const bytes = typeof payload === "string" ? new TextEncoder().encode(payload) : payload;
  const spec = {
    row: { jobName: "Sort", line: 7 },
    message: { topic: "lab/rig 1/done", payload: bytes },
    runName: "sort-abc",
    rootRun: "first-abc",
    ...more,
  };
  return new Filler(spec).fill(template(text), "args");
}

Deno.test("Filler.fill() puts each value where its placeholder stands", () => {
  const payload = JSON.stringify({ uuid: "a b", n: { list: [1, { x: "y" }] }, yes: true, none: null, "a-b": "c" });
  for (
    const [text, expected] of [
      ["plain", "plain"],
      ["{payload.uuid}", "a b"],
      ["x={payload.uuid}.zip", "x=a b.zip"],
      ["{payload.n.list[0]}/{payload.n.list[1].x}", "1/y"],
      ["{payload.n}", '{"list":[1,{"x":"y"}]}'],
      ["{payload.yes}", "true"],
      ["{payload.a-b}", "c"],
      ["{payload.none=d}", "d"],
      ["{payload.gone=}", ""],
      ["{payload.gone=a=b}", "a=b"],
      ["{payload}", payload],
      ["{topic}", "lab/rig 1/done"],
      ["{topic[1]}", "rig 1"],
      ["{topic[9]=x}", "x"],
      ["{job_name} {run_name} {root_run}", "Sort sort-abc first-abc"],
      ["{{payload.uuid}}", "{payload.uuid}"],
    ] as const
  ) equal(fill(text, payload), expected, text);
});

Deno.test("Filler.fill() keeps numbers as they were written", () => {
  equal(
    fill("{payload.a} {payload.b} {payload.c}", '{"a":12345678901234567890,"b":1.0,"c":[1e3]}'),
    "12345678901234567890 1.0 [1e3]",
  );
});

Deno.test("Filler.fill() refuses a run in a sentence that names field, column and row", () => {
  for (
    const [text, payload, expected] of [
      [
        "{payload.uuid}",
        "{}",
        /^Cannot fill the column args of job "Sort" \(line 7\): \{payload\.uuid\} has no value: the payload has no "uuid"$/,
      ],
      ["{payload.a.b[0]}", '{"a":{"b":[]}}', /the payload has no "a\.b\[0\]"$/],
      ["{payload.a.b}", '{"a":"text"}', /has no "a\.b"/],
      ["{payload.a[0]}", '{"a":{"0":1}}', /has no "a\[0\]"/],
      ["{payload.constructor}", "{}", /has no "constructor"/],
      ["{payload.length}", '"text"', /has no "length"/],
      ["{payload.a}", '{"a":null}', /the payload's "a" is null/],
      ["{payload.a}", "a=1", /the payload is no JSON/],
      ["{payload}", new Uint8Array([0xff]), /the payload is no text/],
      ["{topic[9]}", "{}", /the topic "lab\/rig 1\/done" has 3 levels/],
      ["{payload.a}", '{"a":"\\u0000"}', /holds a NUL character/],
    ] as const
  ) {
    throws(
      () => fill(text, payload),
      (error: Error) => error instanceof RefusedError && expected.test(error.message),
      text,
    );
  }
  const payloadLink = { url: "u", object: "o" };
  throws(() => fill("{payload}", '{"a":1}', { payloadLink }), /too large, and was put into the store .*name a field/);
  equal(fill("{payload.a}", '{"a":1}', { payloadLink }), "1");
  const large = JSON.stringify({ a: "x".repeat(70_000) });
  throws(() => fill("{payload.a}{payload.a}", large), /would have 140000 bytes, 131071 are allowed/);
  equal(fill("{payload.a}", large).length, 70_000);
});

/** What people and attackers send: words of a shell, quotes, line breaks, anything. */
const hostile = fc.oneof(
  fc.string({ unit: "binary", maxLength: 40 }),
  fc.constantFrom(
    "$(id)",
    "`id`",
    "'; id; '",
    '"; id; "',
    "a b\nc",
    "-rf /",
    "--",
    "$IFS",
    "${HOME}",
    "\\",
    "*",
    "{payload}",
    "{{",
    "$$",
    "\u2028",
  ),
);

Deno.test("a filled word is what the template says, whatever the value", () => {
  fc.assert(fc.property(hostile, hostile, (one, two) => {
    fc.pre(![one, two].some((value) => value.includes("\0")));
    const filled = fill("a{payload.one}-{payload.two}", JSON.stringify({ one, two }));
    equal(filled, `a${one.toWellFormed()}-${two.toWellFormed()}`);
  }));
});

Deno.test("one word stays one argument of a real shell", async () => {
  const values = fc.sample(hostile.filter((value) => !value.includes("\0")), { numRuns: 300, seed: 1 });
  const words = values.map((value) => fill("{payload.v}", JSON.stringify({ v: value })));
  const { success, stdout } = await new Deno.Command("sh", {
    args: ["-c", `for word in "$@"; do printf '%s\\0' "$word"; done`, "-", ...words],
  }).output();
  ok(success);
  const seen = new TextDecoder("utf-8", { ignoreBOM: true }).decode(stdout).split("\0").slice(0, -1);
  deepEqual(seen, values.map((value) => value.toWellFormed()));
  match(words.join("\n"), /\$\(id\)/);
});

Deno.test("sampleMessage() has a value for each placeholder of a row", () => {
  const row = {
    line: 2,
    jobName: "a",
    mqttTopic: "lab/+/#",
    image: "i",
    gpu: 0,
    parallelism: 1,
    backoffLimit: 0,
    args: ["{payload.a.b[1].c}", "{payload.a}", "{topic[4]}", "{payload.x}"].map(template),
    env: [{ from: "value" as const, name: "A", value: template("{payload.list[0]}") }],
    workingDir: template("/{payload.dir}"),
  };
  const message = sampleMessage(row);
  equal(message.topic, "lab/any/any/any/any");
  const filler = new Filler({ row, message, runName: "r", rootRun: "r" });
  for (const word of [...row.args, row.env[0]!.value, row.workingDir]) ok(filler.fill(word, "args") !== "");
  equal(new TextDecoder().decode(sampleMessage({ ...row, args: [], env: [], workingDir: [] }).payload), "{}");
});
