import { deepEqual, equal } from "node:assert/strict";
import { EventBook } from "../../k8s/events.ts";

function event(object: string, name: string, count = 1) {
  return { metadata: { name }, involvedObject: { kind: "Pod", name: object }, reason: name, count };
}

Deno.test("EventBook has a run's events, those that came before its Job or pod too", () => {
  const book = new EventBook();
  book.take(event("a-x", "Scheduled"));
  book.jobSeen("a");
  book.podSeen("a-x", "a");
  book.take(event("a-x", "Pulled"));
  book.take(event("a-x", "Pulled", 2));
  book.take(event("a", "SuccessfulCreate"));
  book.take(event("b-x", "Scheduled"));
  deepEqual(book.of("a").map(({ reason, count }) => [reason, count]), [
    ["Scheduled", 1],
    ["Pulled", 2],
    ["SuccessfulCreate", 1],
  ]);
  deepEqual(book.of("b"), []);
});

Deno.test("EventBook keeps what it knows of a run for a while after its Job is gone, and not for ever", () => {
  const book = new EventBook();
  for (let n = 0; n <= 500; n++) {
    book.jobSeen(`run-${n}`);
    book.podSeen(`run-${n}-x`, `run-${n}`);
    book.take(event(`run-${n}-x`, "Killing"));
    book.jobGone(`run-${n}`);
  }
  deepEqual([book.of("run-0").length, book.of("run-1").length, book.of("run-500").length], [0, 1, 1]);
});

Deno.test("EventBook forgets a pod that is told after its Job was forgotten, when that is gone", () => {
  const book = new EventBook();
  book.podSeen("late-x", "late");
  book.take(event("late-x", "Killing"));
  equal(book.of("late").length, 1);
  book.podGone("late");
  equal(book.of("late").length, 0);
});

Deno.test("EventBook keeps no more events of strangers than it may", () => {
  const book = new EventBook();
  for (let n = 0; n <= 1_000; n++) book.take(event(`pod-${n}`, "Scheduled"));
  for (const n of [0, 1]) book.podSeen(`pod-${n}`, `run-${n}`);
  deepEqual([book.of("run-0").length, book.of("run-1").length], [0, 1]);
});
