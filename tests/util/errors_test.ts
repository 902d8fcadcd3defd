import { equal, match, ok } from "node:assert/strict";
import { errorMessage } from "../../util/errors.ts";
import { forgetSecrets, registerSecret } from "../../util/redact.ts";

Deno.test("errorMessage() never says only that a fetch failed", async () => {
  const server = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  const { port } = server.addr;
  server.close();
  const refused = await fetch(`http://127.0.0.1:${port}/`).catch(errorMessage);
  match(String(refused), /^tcp connect error: Connection refused/);
});

Deno.test("errorMessage() says the causes once each, of whatever was thrown", () => {
  equal(errorMessage(new Error("Cannot read x: gone", { cause: new Error("gone") })), "Cannot read x: gone");
  equal(errorMessage(new Error("a", { cause: new Error("b", { cause: "c" }) })), "a: b: c");
  equal(errorMessage(new AggregateError([new Error("ECONNREFUSED ::1")], "")), "AggregateError: ECONNREFUSED ::1");
  equal(errorMessage(Object.assign(new Error(""), { code: "EMFILE" })), "EMFILE");
  equal(errorMessage({ message: "an event" }), "an event");
  equal(errorMessage(undefined), "unknown");
  const circle = new Error("round");
  circle.cause = circle;
  equal(errorMessage(circle), "round");
});

Deno.test("errorMessage() is cut and without secrets, wherever in a long text they stand", () => {
  try {
    registerSecret("hunter2-hunter2");
    for (const at of [0, 1_990, 1_999, 63_990, 65_530]) {
      const said = errorMessage(new Error("x".repeat(at) + "hunter2-hunter2" + "y".repeat(5_000_000)));
      ok(said.length < 2_100);
      ok(!said.includes("hunter2") && !/hunter/.test(said), said.slice(-60));
    }
  } finally {
    forgetSecrets();
  }
});
