import { equal } from "node:assert/strict";
import { UnavailableError } from "../../ports.ts";
import { retryAfterMs } from "../../util/retry_after.ts";

Deno.test("retryAfterMs() reads seconds and dates", () => {
  equal(retryAfterMs("3"), 3_000);
  equal(retryAfterMs("Thu, 01 Jan 2026 00:00:10 GMT", Date.UTC(2026, 0, 1)), 10_000);
  equal(retryAfterMs("Thu, 01 Jan 2026 00:00:00 GMT", Date.UTC(2026, 0, 2)), 0);
  equal(retryAfterMs("soon"), undefined);
  equal(retryAfterMs("-1"), undefined);
  equal(retryAfterMs(null), undefined);
});

Deno.test("no peer can ask for a wait of years", () => {
  for (const header of ["315360000", "9".repeat(60), "Fri, 31 Dec 9999 23:59:59 GMT"]) {
    const wait = retryAfterMs(header);
    equal(new UnavailableError("Busy", { retryAfterMs: wait! }).retryAfterMs, 600_000);
  }
});
