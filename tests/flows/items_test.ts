import { deepEqual, equal, match, rejects } from "node:assert/strict";
import { compileCondition } from "../../catalog/conditions.ts";
import { itemsOf, type ItemsOptions } from "../../flows/items.ts";
import { CellError, type ForEach, type RunSpec, UnavailableError } from "../../ports.ts";
import { parseTemplate } from "../../catalog/cells/template.ts";
import { row } from "../harness/fakes.ts";

const PREFIX = "services/mqtt_job_listener";

function spec(forEach: ForEach, payload: string, more: Partial<RunSpec> = {}): RunSpec {
  return {
    runName: "count-abcdefghijkl",
    row: row({ forEach }),
    message: { topic: "lab/count", payload: new TextEncoder().encode(payload) },
    messageHash: "hash",
    root: "rootrootroot",
    rootRun: "count-abcdefghijkl",
    chainDepth: 0,
    receivedAt: new Date(),
    ...more,
  };
}

const objects = (...urls: string[]): ItemsOptions["list"] =>
  async function* (begin) {
    for (const url of urls) if (url.startsWith(begin)) yield url;
  };

function items(forEach: ForEach, payload: string, options: Partial<ItemsOptions> = {}, more: Partial<RunSpec> = {}) {
  return itemsOf(spec(forEach, payload, more), { list: objects(), maxItems: 1_000, topicPrefix: PREFIX, ...options });
}

const path = (from: "payload" | "input" | "result", ...path: (string | number)[]): ForEach => ({ from, path });

function glob(text: string): ForEach {
  const parsed = parseTemplate(text);
  if ("fault" in parsed) throw new Error(parsed.fault);
  return { from: "objects", url: parsed.template };
}

async function refusal(work: Promise<unknown>): Promise<CellError> {
  const error: unknown = await work.then(() => undefined, (error) => error);
  if (error instanceof CellError) return error;
  throw new Error("it is not refused", { cause: error });
}

Deno.test("itemsOf() takes the entries of a list, numbers as they were written", async () => {
  deepEqual(await items(path("payload", "files"), '{"files":["a b",{"x":1.0},12345678901234567890,null,[1]]}'), [
    '"a b"',
    '{"x":1.0}',
    "12345678901234567890",
    "null",
    "[1]",
  ]);
  deepEqual(await items(path("payload", "runs", 1), '{"runs":[[],["b"]]}'), ['"b"']);
  deepEqual(await items(path("payload"), '["a"]'), ['"a"']);
});

Deno.test("itemsOf() makes of an object's entries their key with their fields, or with their value", async () => {
  deepEqual(await items(path("payload", "of"), '{"of":{"e1":{"rate":30},"e2":7,"e3":{"key":"mine"}}}'), [
    '{"rate":30,"key":"e1"}',
    '{"key":"e2","value":7}',
    '{"key":"e3"}',
  ]);
});

Deno.test("itemsOf() finds the input in what an end hands down, and a result in it", async () => {
  const end = JSON.stringify({ run_name: "a", input: '{"files":["a"]}', result: { files: ["b", "c"] } });
  const ofRun = { parentRun: "first-abcdefghijkl" };
  deepEqual(await items(path("input", "files"), end, {}, ofRun), ['"a"']);
  deepEqual(await items(path("result", "files"), end, {}, ofRun), ['"b"', '"c"']);
  deepEqual(await items(path("input", "files"), '{"files":["a"]}'), ['"a"']);
});

Deno.test("itemsOf() counts from the first number to the last", async () => {
  deepEqual(await items({ from: "numbers", first: 9, last: 11 }, ""), ["9", "10", "11"]);
});

Deno.test("itemsOf() takes those objects that match, each star within one part of the key", async () => {
  const list = objects(
    "s3://lab/e1/raw_well1.h5",
    "s3://lab/e1/well2.h5",
    "s3://lab/e1/x_well.h5",
    "s3://lab/e1/deep/x_well3.h5",
    "s3://lab/e1/x_well4.h5.tmp",
    "s3://lab/e2/x_well5.h5",
  );
  deepEqual(await items(glob("s3://lab/{payload.uuid}/*_well*.h5"), '{"uuid":"e1"}', { list }), [
    '"s3://lab/e1/raw_well1.h5"',
    '"s3://lab/e1/x_well.h5"',
  ]);
  deepEqual(await items(glob("s3://lab/*/*well5*"), "", { list }), ['"s3://lab/e2/x_well5.h5"']);
});

Deno.test("itemsOf() takes what a message says for itself, not for a pattern or a way to other folders", async () => {
  const list = objects("s3://lab/e1/a.h5", "s3://lab/*/b.h5");
  deepEqual(await items(glob("s3://lab/{payload.uuid}/*.h5"), '{"uuid":"*"}', { list }), ['"s3://lab/*/b.h5"']);
  const up = await refusal(items(glob("s3://lab/{payload.uuid}/*.h5"), '{"uuid":"../.."}', { list }));
  match(
    up.message,
    /line 2, for_each "s3:\/\/lab\/\{payload\.uuid\}\/\*\.h5"\): it names no objects, for .*"\.\." part/,
  );
  equal(up.value, "s3://lab/../../*.h5");
  match((await refusal(items(glob("s3://lab/{payload.uuid}/*.h5"), "{}"))).message, /\{payload\.uuid\} has no value/);
});

Deno.test("itemsOf() waits for a store that cannot be listed now", async () => {
  // deno-lint-ignore require-yield
  const list: ItemsOptions["list"] = async function* () {
    throw new UnavailableError("away");
  };
  await rejects(items(glob("s3://lab/*.h5"), "", { list }), UnavailableError);
});

Deno.test("itemsOf() asks the condition for each item", async () => {
  const condition = compileCondition("item.rate > 10 && payload.kind == 'raw'");
  if ("fault" in condition) throw new Error(condition.fault);
  const payload = (kind: string) => JSON.stringify({ kind, of: { a: { rate: 30 }, b: { rate: 3 }, c: {} } });
  deepEqual(await items(path("payload", "of"), payload("raw"), { condition }), ['{"rate":30,"key":"a"}']);
  deepEqual(await items(path("payload", "of"), payload("x"), { condition }), []);
});

Deno.test("itemsOf() refuses what is no list in words that name row, column and value", async (t) => {
  const cases: [string, ForEach, string, Partial<ItemsOptions>, RegExp, string][] = [
    ["no field", path("payload", "files"), "{}", {}, /the message has no list there/, "payload.files"],
    ["no JSON", path("payload", "files"), "plain", {}, /the message has no list there/, "payload.files"],
    ["a text", path("payload", "files"), '{"files":"a.h5"}', {}, /neither a list nor an object/, '"a.h5"'],
    ["a number", path("payload", "files"), '{"files":1.0}', {}, /neither a list nor an object/, "1.0"],
    [
      "no result",
      path("result", "files"),
      "{}",
      {},
      /the end of a run that wrote a result has no list/,
      "result.files",
    ],
    ["too many", path("payload"), "[1,2,3]", { maxItems: 2 }, /more than 2 items \(MAX_ITEMS\)/, "payload"],
    ["too many numbers", { from: "numbers", first: 1, last: 9 }, "", { maxItems: 2 }, /more than 2 items/, "1..9"],
    ["a long item", path("payload"), JSON.stringify(["x".repeat(40_000)]), {}, /item 0 has 40002 bytes, 32768/, '"xxx'],
    ["a long payload", path("payload"), `["${"x".repeat(1 << 20)}"]`, {}, /is read up to 1048576/, "payload"],
  ];
  for (const [name, forEach, payload, options, message, value] of cases) {
    await t.step(name, async () => {
      const error = await refusal(items(forEach, payload, options));
      match(error.message, message);
      match(error.message, /^Cannot make items of job "count" \(line 2, for_each "/);
      equal(error.column, "for_each");
      equal(error.value.startsWith(value), true, error.value);
    });
  }
});

Deno.test("itemsOf() looks at no more objects than can be counted in a moment", async () => {
  const list: ItemsOptions["list"] = async function* () {
    for (let n = 0;; n++) yield `s3://lab/x/${n}`;
  };
  const error = await refusal(items(glob("s3://lab/x*/*.none"), "", { list }));
  match(error.message, /more than 100000 objects begin with s3:\/\/lab\/x; write more before the first "\*"/);
});
