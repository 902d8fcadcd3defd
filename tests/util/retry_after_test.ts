import { equal } from "node:assert/strict";
import { retryAfterMs } from "../../util/retry_after.ts";

Deno.test("retryAfterMs() reads seconds and dates", () => {
  equal(retryAfterMs("3"), 3_000);
  equal(retryAfterMs("Thu, 01 Jan 2026 00:00:10 GMT", Date.UTC(2026, 0, 1)), 10_000);
  equal(retryAfterMs("Thu, 01 Jan 2026 00:00:00 GMT", Date.UTC(2026, 0, 2)), 0);
  equal(retryAfterMs("soon"), undefined);
  equal(retryAfterMs(null), undefined);
});
