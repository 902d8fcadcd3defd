import { deepEqual, equal, ok } from "node:assert/strict";
import { onAbort, Scope } from "../../util/abort.ts";

Deno.test("onAbort() calls each callback once when the signal aborts, but not one that was taken back", () => {
  const controller = new AbortController();
  const called: string[] = [];
  const call = (name: string) => () => void called.push(name);
  onAbort(controller.signal, call("first"));
  const leave = onAbort(controller.signal, call("left"));
  const twice = call("twice");
  onAbort(controller.signal, twice);
  onAbort(controller.signal, twice);
  leave();
  controller.abort();
  deepEqual(called, ["first", "twice", "twice"]);
});

Deno.test("onAbort() calls back at once when the signal has aborted already", () => {
  let calls = 0;
  onAbort(AbortSignal.abort(), () => calls++);
  equal(calls, 1);
});

Deno.test("onAbort() adds one listener to a signal, however many wait", () => {
  const { signal } = new AbortController();
  let listeners = 0;
  const add = signal.addEventListener.bind(signal);
  signal.addEventListener = (...args: Parameters<typeof add>) => {
    listeners++;
    add(...args);
  };
  for (let n = 0; n < 100; n++) onAbort(signal, () => {});
  equal(listeners, 1);
});

Deno.test("a Scope is over with its parent, for the parent's reason, and leaves the parent alone", () => {
  const parent = new AbortController();
  const early = new Scope(parent.signal);
  early.end(new Error("enough"));
  equal(early.signal.reason.message, "enough");
  ok(!parent.signal.aborted);
  using late = new Scope(parent.signal);
  parent.abort(new Error("all over"));
  equal(late.signal.reason.message, "all over");
});
