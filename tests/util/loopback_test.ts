import { equal } from "node:assert/strict";
import { isLoopback } from "../../util/loopback.ts";

Deno.test("isLoopback() knows each spelling of this machine's own names and addresses", () => {
  const own = ["localhost", "LOCALHOST", "localhost.", "a.localhost", "127.0.0.1", "127.8.9.1", "127.1", "0x7f.1"];
  for (const host of [...own, "2130706433", "::1", "[::1]", "[::ffff:127.0.0.1]", "0:0:0:0:0:0:0:1"]) {
    equal(isLoopback(host), true, host);
  }
  const foreign = [
    "0.0.0.0",
    "::",
    "[::]",
    "128.0.0.1",
    "localhost.evil.example",
    "127.0.0.1.nip.io",
    "lab",
    "",
    "a b",
  ];
  for (const host of foreign) equal(isLoopback(host), false, host);
});
