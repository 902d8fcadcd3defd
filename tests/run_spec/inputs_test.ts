import { deepEqual, equal, match } from "node:assert/strict";
import type { Row } from "../../ports.ts";
import { Filler, inputFault, messageEnv } from "../../run_spec.ts";
import { row as aRow } from "../harness/fakes.ts";
import { rowWith } from "../catalog/kit.ts";

const INPUTS = rowWith({ inputs: "uuid, file, params=default.json, mode=fast|slow" }).rows[0]!.inputs!;
const ROW: Row = aRow({ inputs: INPUTS });
const message = (payload: unknown) => ({
  topic: "x",
  payload: new TextEncoder().encode(typeof payload === "string" ? payload : JSON.stringify(payload)),
});

Deno.test("inputFault() names each field that a message lacks, and what to send", async (t) => {
  const cases: [unknown, RegExp][] = [
    [{}, /no fields "uuid", "file", which the row needs \(inputs\); send \{"uuid":"…","file":"…"\}/],
    [{ uuid: null, file: "a" }, /no field "uuid", which/],
    ["no JSON", /its payload is no JSON object/],
    [["uuid"], /its payload is no JSON object/],
    ["", /its payload is no JSON object/],
    [{ uuid: "x", file: "x".repeat(1024 * 1024) }, /it has \d+ bytes, and fields are read up to 1048576/],
  ];
  for (const [payload, words] of cases) {
    await t.step(JSON.stringify(payload).slice(0, 60), () => {
      const fault = inputFault(ROW, message(payload));
      equal(fault?.reason, "InputMissing");
      match(fault.message, words);
    });
  }
});

Deno.test("inputFault() names the choices where a value is none of them", () => {
  deepEqual(inputFault(ROW, message({ uuid: 1, file: "a", mode: "fsat" })), {
    reason: "InputRefused",
    field: "mode",
    message: 'the message\'s field "mode" is "fsat"; it must be fast or slow (inputs)',
    value: "fsat",
  });
});

Deno.test("inputFault() takes what a row needs, whatever else the message says", () => {
  for (const more of [{}, { mode: "slow" }, { mode: null }, { params: ["a"], other: 1 }]) {
    equal(inputFault(ROW, message({ uuid: 7, file: "", ...more })), undefined);
  }
  equal(inputFault(aRow(), message("no JSON")), undefined);
});

Deno.test("an input's default is in placeholders and variables where the message has none", () => {
  const spec = (payload: unknown) => ({ row: ROW, message: message(payload), runName: "r", rootRun: "r" });
  const params = (payload: unknown) =>
    new Filler(spec(payload)).fill([{ root: "payload", path: ["params"], source: "{payload.params}" }], "args");
  for (const [payload, value] of [[{}, "default.json"], [{ params: null }, "default.json"], [{ params: "a" }, "a"]]) {
    equal(params(payload), value);
    const env = messageEnv(spec(payload));
    equal(env["PAYLOAD_PARAMS"], value);
    equal(env["PAYLOAD_MODE"], "fast");
    equal(env["MQTT_PAYLOAD"], JSON.stringify(payload));
  }
});

Deno.test("a placeholder's own default goes before the input's", () => {
  const filler = new Filler({ row: ROW, message: message({}), runName: "r", rootRun: "r" });
  const own = { root: "payload", path: ["params"], preset: "own", source: "{payload.params=own}" } as const;
  equal(filler.fill([own], "args"), "own");
});

Deno.test("{input.x} is of the payload that began the chain, {result.x} of the parent's result", () => {
  const fill = (payload: unknown, parentRun?: string) => {
    const spec = {
      row: ROW,
      message: message(payload),
      runName: "r",
      rootRun: "r",
      ...(parentRun ? { parentRun } : {}),
    };
    const input = { root: "input", path: ["uuid"], source: "{input.uuid}" } as const;
    const result = { root: "result", path: ["units"], preset: "none", source: "{result.units=none}" } as const;
    return new Filler(spec).fill([input, "/", result], "args");
  };
  equal(fill({ uuid: "u1" }), "u1/none");
  equal(fill({ input: '{"uuid":"u2"}', result: { units: 3 } }, "parent-aaaaaaaaaaaa"), "u2/3");
});
