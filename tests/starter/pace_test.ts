import { deepEqual, equal, ok } from "node:assert/strict";
import { Pace } from "../../starter/pace.ts";

Deno.test("items begin one by one near the API server, and more at a time the longer its way is", () => {
  const after = (...durations: number[]) => {
    const pace = new Pace();
    for (const ms of durations) pace.took(ms);
    return pace.atOnce;
  };
  deepEqual([after(), after(4), after(13), after(50), after(5_000)], [1, 1, 3, 9, 16]);
  equal(after(200, 5, 300), 1, "calls that waited say nothing of the way");
});

Deno.test("a way that has become longer is noticed after some hundred calls", () => {
  const pace = new Pace();
  for (let call = 0; call < 200; call++) pace.took(4);
  for (let call = 0; call < 200; call++) pace.took(30);
  equal(pace.atOnce, 5);
});

Deno.test("items rest where calls take longer than they need, and not where the way alone is long", () => {
  const after = (...durations: number[]) => {
    const pace = new Pace();
    for (const ms of durations) pace.took(ms);
    return pace.restMs;
  };
  deepEqual([after(), after(4), after(50, 50, 50)], [0, 0, 0]);
  const busy = Array.from({ length: 100 }, () => 8);
  ok(Math.abs(after(4, ...busy) - 4) < 0.1, "the four milliseconds that each waits");
  equal(after(4, ...busy.map(() => 5_000)), 50, "however slow the server is");
});
