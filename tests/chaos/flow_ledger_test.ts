/** The books of the flows: a flow whose runs all come once, and each way in which one can go wrong. */
import { deepEqual, equal } from "node:assert/strict";
import {
  attemptsOf,
  endingOf,
  FlowLedger,
  flowOf,
  type FlowRow,
  groupEndOf,
  isComplete,
  sizeOf,
  TICK_MS,
} from "./flow_ledger.ts";

/** A flow of three items, all of which succeed; and one whose first item fails. */
const [GOOD, BAD] = [275, 775];

function see(ledger: FlowLedger, row: FlowRow, message: number, index = 0, attempt = 1, uid?: string): void {
  const id = uid ?? [row, message, index, attempt].join();
  ledger.seen({ uid: id, row, message, index, attempt });
  ledger.gone(id);
}

/** All that the flow comes to. */
function play(ledger: FlowLedger, n: number): void {
  ledger.taken(n);
  const rows: [FlowRow, number][] = [["side", 0], ["third", 0]];
  for (let index = 0; index < sizeOf(n); index++) rows.push(["item", index]);
  if (isComplete(n)) rows.push(["report", 0], ["digest", 0]);
  for (const [row, index] of rows) {
    const attempts = row === "report" || row === "digest" ? 1 : attemptsOf(row, n, index);
    for (let attempt = 1; attempt <= attempts; attempt++) see(ledger, row, n, index, attempt);
  }
  ledger.groupEnded(n, groupEndOf(n));
}

function faults(ledger: FlowLedger, due: readonly number[] = []): string[] {
  return ledger.lines(due).flatMap(({ name, lost, doubled, wrong }) =>
    lost + doubled + wrong === 0 ? [] : [`${name}: ${lost} lost, ${doubled} doubled, ${wrong} wrong`]
  );
}

Deno.test("flows are of each size, some are tried again, and some fail", () => {
  const flows = Array.from({ length: 5_000 }, (_, n) => n).filter((n) => flowOf(n) === "flow");
  deepEqual(new Set(flows.map(sizeOf)), new Set([1, 3, 12, 40, 200]));
  deepEqual([flowOf(GOOD), isComplete(GOOD), sizeOf(GOOD)], ["flow", true, 3]);
  deepEqual([flowOf(BAD), isComplete(BAD), groupEndOf(BAD)], ["flow", false, "failed 39/40"]);
  deepEqual([1, 2].map((attempt) => endingOf({ row: "item", n: GOOD, index: 1, attempt })), ["fails", "succeeds"]);
  deepEqual([attemptsOf("side", 25), attemptsOf("side", GOOD)], [3, 1]);
});

Deno.test("FlowLedger finds nothing wrong where all comes once, and no join where the group has failed", () => {
  const ledger = new FlowLedger();
  play(ledger, GOOD);
  play(ledger, BAD);
  ledger.taken(65);
  see(ledger, "limited", 65);
  see(ledger, "tick", 3 * TICK_MS);
  deepEqual(faults(ledger, [3 * TICK_MS]), []);
  deepEqual(ledger.suspects([3 * TICK_MS]), []);
  equal(ledger.settled, true);
});

Deno.test("FlowLedger counts what is missing and is not settled before it is there", () => {
  const ledger = new FlowLedger();
  ledger.taken(GOOD);
  ledger.taken(65);
  equal(ledger.settled, false);
  deepEqual(faults(ledger, [TICK_MS]), [
    "items and their attempts: 4 lost, 0 doubled, 0 wrong",
    "runs beside them: 2 lost, 0 doubled, 0 wrong",
    "groups ended: 1 lost, 0 doubled, 0 wrong",
    "joins: 2 lost, 0 doubled, 0 wrong",
    "runs that want a slot: 1 lost, 0 doubled, 0 wrong",
    "due times: 1 lost, 0 doubled, 0 wrong",
  ]);
});

Deno.test("FlowLedger counts second Jobs, second ends, joins of what has failed, and slots beyond the limit", () => {
  const ledger = new FlowLedger();
  play(ledger, GOOD);
  play(ledger, BAD);
  see(ledger, "item", GOOD, 2, 1, "again");
  see(ledger, "report", GOOD, 0, 1, "again too");
  see(ledger, "report", BAD);
  see(ledger, "tick", TICK_MS, 0, 1, "one");
  see(ledger, "tick", TICK_MS, 0, 1, "two");
  ledger.groupEnded(GOOD, "failed 2/3");
  for (const uid of ["a", "b", "c", "d"]) ledger.runs(uid, true);
  deepEqual(faults(ledger), [
    "items and their attempts: 0 lost, 1 doubled, 0 wrong",
    "groups ended: 0 lost, 1 doubled, 0 wrong",
    "joins: 0 lost, 1 doubled, 1 wrong",
    "most of 3 slots: 0 lost, 0 doubled, 1 wrong",
    "due times: 0 lost, 1 doubled, 0 wrong",
  ]);
  equal(ledger.suspects([]).length, 5);
});
