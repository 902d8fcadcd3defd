/** The timer of MQTT.js' keepalive: an interval as setInterval's, and one timer however often it is set. */
import { equal, ok } from "node:assert/strict";
import { KeepaliveTimer } from "../../mqtt/keepalive_timer.ts";
import { timersBegun, timersOpen } from "../harness/timers.ts";
import { eventually } from "../harness/wait.ts";

Deno.test("a keepalive that is set 10,000 times over begins no more than one timer", () => {
  const timer = new KeepaliveTimer();
  const before = timersBegun();
  for (let n = 0; n < 10_000; n++) {
    timer.clear();
    timer.set(() => {}, 10_000);
  }
  const begun = timersBegun() - before;
  timer.clear();
  ok(begun <= 2, `${begun} timers`);
});

Deno.test("a keepalive calls again and again until it is cleared, and leaves no timer then", async () => {
  const timer = new KeepaliveTimer();
  const before = timersOpen();
  let calls = 0;
  const from = performance.now();
  timer.set(() => calls++, 20);
  await eventually(() => calls >= 3, { intervalMs: 5 });
  ok(performance.now() - from >= 3 * 20);
  equal(timersOpen(), before + 1);
  timer.clear();
  await Promise.resolve();
  equal(timersOpen(), before);
});

Deno.test("a keepalive that is set again calls only the last one, its whole time after that", async () => {
  const timer = new KeepaliveTimer();
  const called: string[] = [];
  const set = (name: string, everyMs: number) => {
    timer.clear();
    timer.set(() => called.push(name), everyMs);
  };
  set("first", 20);
  const from = performance.now();
  set("second", 40);
  await eventually(() => called.length > 0, { intervalMs: 5 });
  ok(performance.now() - from >= 40);
  set("third", 60_000);
  set("fourth", 5);
  await eventually(() => called.includes("fourth"), { intervalMs: 5 });
  timer.clear();
  ok(!called.includes("first") && !called.includes("third"), called.join());
});
