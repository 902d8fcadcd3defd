/** Where lines are: what a map says is what counting says. */
import { deepEqual, equal, ok } from "node:assert/strict";
import fc from "fast-check";
import { breaksIn, LineCounter, LineMap } from "../../logs.ts";

const bytes = (text: string) => new TextEncoder().encode(text);

Deno.test("lines are counted alike, however their text comes in pieces", () => {
  const text = bytes("a\n\nbb\nccc\n".repeat(1_000));
  const whole = new LineCounter({ step: 64 });
  whole.push(text);
  const parts = new LineCounter({ step: 64 });
  for (let at = 0; at < text.length; at += 7) parts.push(text.subarray(at, at + 7));
  deepEqual(parts.breaks, whole.breaks);
  equal(parts.total, 4_000);
});

Deno.test("a map of lines has a bound: two steps become one", () => {
  const counter = new LineCounter({ step: 16, mostSteps: 8 });
  const text = bytes("x\n".repeat(5_000));
  counter.push(text);
  ok(counter.breaks.length <= 8 && counter.step * counter.breaks.length >= text.length);
  equal(counter.breaks.reduce((sum, count) => sum + count, 0), 5_000);
});

Deno.test("whatever the text and where a part of it begins: places and breaks agree with the text", () => {
  const texts = fc.array(fc.constantFrom("\n", "a", "bbbb", "c\nd"), { maxLength: 60 }).map((parts) => parts.join(""));
  fc.assert(fc.property(texts, fc.nat(100), fc.nat(200), fc.integer({ min: 1, max: 9 }), (text, start, at, step) => {
    const whole = bytes(text);
    const begin = Math.min(start, whole.length);
    const part = whole.subarray(begin);
    const counter = new LineCounter({ step });
    counter.push(whole);
    const map = new LineMap(counter, { at: begin, breaks: breaksIn(whole, 0, begin) });
    const place = Math.min(at, part.length);
    const before = map.before(place);
    ok(before.at <= place && place - before.at <= step && before.at >= 0);
    equal(before.breaks, breaksIn(part, 0, before.at));
    const total = breaksIn(part);
    for (const number of [1, 2, Math.max(1, total)]) {
      const found = map.beforeBreak(number);
      if (number > total) continue;
      ok(found && found.breaks < number && found.breaks === breaksIn(part, 0, found.at));
      ok(breaksIn(part, 0, found.at + step + (found.at === 0 ? step : 0)) >= number);
    }
    const next = map.nextWithBreak(place);
    if (next !== undefined) ok(next > place - step && breaksIn(part, Math.max(0, next)) > 0);
  }));
});
