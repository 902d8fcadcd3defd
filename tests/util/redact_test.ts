import { equal, ok } from "node:assert/strict";
import { Buffer } from "node:buffer";
import { forgetSecrets, publicUrl, redact, registerSecret } from "../../util/redact.ts";

const SECRET = 'p/a?s#s w0rd+"ä%&=';

Deno.test("a registered secret is hidden in every form in which it may travel", async (t) => {
  const bytes = Buffer.from(SECRET);
  const behind = (text: string) => Buffer.from(text + SECRET + "tail").toString("base64");
  const userinfo = new URL("http://h");
  userinfo.password = SECRET;
  const forms: [string, string][] = [
    ["plain", SECRET],
    ["JSON", JSON.stringify(SECRET)],
    ["JSON within JSON", JSON.stringify(JSON.stringify([SECRET]))],
    ["percent-encoded", encodeURIComponent(SECRET)],
    ["percent-encoded, small letters", encodeURIComponent(SECRET).replace(/%../g, (code) => code.toLowerCase())],
    ["a form's field", String(new URLSearchParams({ SECRET }))],
    ["a URL's password", userinfo.password],
    ["base64", bytes.toString("base64")],
    ["base64 without padding", bytes.toString("base64").replace(/=+$/, "")],
    ["base64url", bytes.toString("base64url")],
    ["base64 behind 1 byte", behind("x")],
    ["base64 behind 2 bytes", behind("xx")],
    ["base64 behind 3 bytes", behind("xxx")],
    ["hexadecimal", bytes.toString("hex")],
    ["hexadecimal, capitals", bytes.toString("hex").toUpperCase()],
  ];
  try {
    registerSecret(SECRET);
    for (const [name, text] of forms) {
      await t.step(name, () => {
        const clean = redact(`before ${text} after`);
        ok(clean.includes("***"), clean);
        // What may be left of it: characters of base64 that hold bits of the neighbours.
        ok(clean.length < "before *** after".length + 16, clean);
      });
    }
  } finally {
    forgetSecrets();
  }
});

Deno.test("redact() hides what looks like a credential though nobody registered it", async (t) => {
  const cases: [string, string][] = [
    ["mqtt://lab:pa/ss@broker:1883/x", "mqtt://***@broker:1883/x"],
    ["mqtt://lab:pa#ss?@broker", "mqtt://***@broker"],
    ["http://s3:9000/bucket/a@b.txt", "http://s3:9000/bucket/a@b.txt"],
    ["wss://broker/mqtt?token=abc&x=1", "wss://broker/mqtt?token=***&x=1"],
    ["/x?access_key=abc", "/x?access_key=***"],
    ["got eyJhbGciOiJSUzI1NiJ9.eyJpc3MiOiJrdWJl.c2ln, sorry", "got ***, sorry"],
    ["-----BEGIN RSA PRIVATE KEY-----\nMIIE\n-----END RSA PRIVATE KEY-----\nx", "***\nx"],
  ];
  for (const [text, clean] of cases) await t.step(text, () => equal(redact(text), clean));
});

Deno.test("a secret of digits makes no hole in what is near it, and renewed secrets do not pile up", () => {
  try {
    for (let at = 0; at < 2_000; at++) registerSecret(`renewed-${at}`);
    equal(redact("renewed-1999 renewed-10"), "*** renewed-10");
  } finally {
    forgetSecrets();
  }
});

Deno.test("publicUrl() leaves out user, password and query", () => {
  equal(publicUrl("wss://u:p@broker:8084/mqtt?token=x"), "wss://***@broker:8084/mqtt?***");
  equal(publicUrl("mqtt://broker:1883"), "mqtt://broker:1883");
  equal(publicUrl("no url"), "");
});
