import { deepEqual, equal, match, ok, throws } from "node:assert/strict";
import fc from "fast-check";
import { parseTemplate } from "../../catalog/cells/template.ts";
import { RefusedError, type RunSpec, type Template } from "../../ports.ts";
import { Filler, sampleMessage } from "../../run_spec.ts";
import { row as aRow } from "../harness/fakes.ts";

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

Deno.test("of a row that needs others, results are those of the rows named, and the input is what began it all", () => {
  const row = { line: 2, jobName: "report", needs: ["sort", "lfp"] };
  const said = {
    run_name: "lfp-a",
    input: '{"uuid":12345678901234567890}',
    needs: {
      sort: { run_name: "sort-a", output: "s3://x/y", result: { units: [7, 1.0] } },
      lfp: { run_name: "lfp-a" },
    },
  };
  const message = {
    topic: "jobs/join/report",
    payload: new TextEncoder().encode(JSON.stringify(said).replace("1]", "1.0]")),
  };
  const filler = new Filler({ row, message, runName: "r", rootRun: "r", parentRun: "lfp-a" });
  const fill = (text: string) => filler.fill(template(text), "args");
  equal(fill("{result.sort.units[0]} {result.sort.units} {payload.needs.sort.output}"), "7 [7,1.0] s3://x/y");
  equal(fill("{input.uuid} {result.lfp=none} {result.sort.x=none}"), "12345678901234567890 none none");
  throws(() => fill("{result.units}"), /it has to name a row of needs first, such as \{result\.sort…\}/);
  throws(() => fill("{result.lfp.units}"), /the payload has no "needs\.lfp\.result"/);
  throws(() => fill("{input.x}"), /the payload that began the chain has no "x"/);
});

Deno.test("an input that is no JSON is a value that is missing, and no fault of the program", () => {
  const row = { line: 2, jobName: "b" };
  const message = {
    topic: "jobs/job_complete/a",
    payload: new TextEncoder().encode('{"run_name":"a-b","input":"plain"}'),
  };
  const filler = new Filler({ row, message, runName: "r", rootRun: "r", parentRun: "a-b" });
  equal(filler.fill(template("{input} {input.x=none}"), "args"), "plain none");
  throws(() => filler.fill(template("{input.x}"), "args"), /the payload that began the chain is no JSON/);
});

Deno.test("sampleMessage() has values for rows that are started by ends, by what they need, and by a schedule", () => {
  const args = ["{input.uuid}", "{payload.needs.sort.output}", "{result.sort.units[1]}"].map(template);
  const joined = { ...aRow({ jobName: "report", mqttTopic: "", needs: ["sort"] }), args };
  const child = {
    ...aRow({ mqttTopic: "jobs/job_complete/a" }),
    args: ["{input.uuid}", "{result.units}"].map(template),
  };
  for (const one of [joined, child]) {
    const message = sampleMessage(one, "jobs");
    const filler = new Filler({ row: one, message, runName: "r", rootRun: "r", parentRun: "p" });
    for (const word of one.args) ok(filler.fill(word, "args") !== "");
  }
  equal(sampleMessage(joined, "jobs").topic, "jobs/join/report");
  equal(sampleMessage(aRow({ mqttTopic: "", schedule: { cron: "@daily" } }), "jobs").topic, "jobs/schedule/count");
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
  const message = sampleMessage(row, "jobs");
  equal(message.topic, "lab/any/any/any/any");
  const filler = new Filler({ row, message, runName: "r", rootRun: "r" });
  for (const word of [...row.args, row.env[0]!.value, row.workingDir]) ok(filler.fill(word, "args") !== "");
  equal(new TextDecoder().decode(sampleMessage({ ...row, args: [], env: [], workingDir: [] }, "jobs").payload), "{}");
});
