import { deepEqual, equal } from "node:assert/strict";
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
