import { equal, match, ok } from "node:assert/strict";
import { errorMessage, safeWords } from "../../util/errors.ts";
import { forgetSecrets, registerSecret } from "../../util/redact.ts";

Deno.test("errorMessage() never says only that a fetch failed", async () => {
  const server = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  const { port } = server.addr;
  server.close();
  const refused = await fetch(`http://127.0.0.1:${port}/`).catch(errorMessage);
  match(String(refused), /^nothing listens there \(tcp connect error: Connection refused/);
});

Deno.test("errorMessage() says in plain words why a fetch had no answer, without the URL", async (t) => {
  const at = "error sending request for url (https://ada:secret@a.example/): client error (Connect): ";
  const cases: [string, string][] = [
    ["dns error: failed to lookup address information: Name or service not known", "its host name is not known"],
    [
      "invalid peer certificate: UnknownIssuer",
      "its certificate is signed by an authority that is not among those given",
    ],
    [
      'invalid peer certificate: certificate not valid for name "a"',
      "its certificate is for other names than this one",
    ],
    ["invalid peer certificate: certificate expired: verified at …", "its certificate has expired"],
    ["received corrupt message of type InvalidContentType", "it does not speak TLS; write http://, or another port"],
    ["received fatal alert: CertificateRequired", "it refuses the TLS connection"],
    ["something new", "something new"],
  ];
  for (const [said, words] of cases) {
    await t.step(said, () => {
      const text = errorMessage(new TypeError("fetch failed", { cause: new Error(at + said) }));
      ok(text.startsWith(words) && !text.includes("secret") && text.includes(said), text);
    });
  }
});

Deno.test("errorMessage() says of a file that Deno keeps the program from where it may lie", () => {
  const error = new Deno.errors.NotCapable(
    'Requires read access to "/srv/ca.pem", run again with the --allow-read flag',
  );
  match(
    errorMessage(error),
    /^this program may not read there: put it into \/etc\/mqtt-job-listener or .*, or start it with --allow-read=\/srv$/,
  );
  match(
    errorMessage(new Deno.errors.NotCapable('Requires run access to "ls", run again with the --allow-run flag')),
    /^Requires run/,
  );
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

Deno.test("safeWords() makes orders to terminals and eyes visible, and keeps lines", () => {
  equal(safeWords("a\u202eb\u001b[31m\nc"), "a\\u202eb\\u001b[31m\nc");
});
