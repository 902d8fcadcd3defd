/** Cells of retries and of memory that grows: what is right, what is not, and in which words. */
import { deepEqual, equal, match } from "node:assert/strict";
import { rowNotes } from "../../catalog/row_notes.ts";
import { checkRow, parsePolicy } from "../../catalog/policy.ts";
import { memoryAt } from "../../run_spec.ts";
import { messages, rowWith } from "./kit.ts";

function rungs(cells: Record<string, string>): string[] {
  const table = rowWith(cells);
  deepEqual(messages(table), []);
  const [row] = table.rows;
  return Array.from({ length: 4 }, (_, rung) => {
    const { request = "-", limit = "-" } = memoryAt(row!, rung);
    return `${request}/${limit}`;
  });
}

Deno.test("memory rises by the sizes of memory_limit, and a request in proportion or by sizes of its own", () => {
  const limits = "8Gi, 16Gi, 32Gi";
  deepEqual(rungs({ memory_limit: "8Gi" }), ["-/8Gi", "-/8Gi", "-/8Gi", "-/8Gi"]);
  deepEqual(rungs({ memory_limit: limits }), ["-/8Gi", "-/16Gi", "-/32Gi", "-/32Gi"]);
  deepEqual(rungs({ memory_limit: "8Gi;16Gi" }).slice(0, 2), ["-/8Gi", "-/16Gi"]);
  deepEqual(rungs({ memory_limit: "8Gi," }).slice(0, 2), ["-/8Gi", "-/8Gi"]);
  deepEqual(rungs({ memory_limit: limits, memory_request: "4Gi" }), ["4Gi/8Gi", "8Gi/16Gi", "16Gi/32Gi", "16Gi/32Gi"]);
  deepEqual(rungs({ memory_limit: "8G, 12G", memory_request: "1G" }).slice(0, 2), ["1G/8G", "1500000000/12G"]);
  deepEqual(rungs({ memory_limit: limits, memory_request: "4Gi, 6Gi, 30Gi" }).slice(0, 3), [
    "4Gi/8Gi",
    "6Gi/16Gi",
    "30Gi/32Gi",
  ]);
  deepEqual(rungs({ memory_request: "4Gi" }).slice(0, 2), ["4Gi/-", "4Gi/-"]);
});

Deno.test("sizes of memory that do not fit each other are errors that say what to write", () => {
  const cases: [cells: Record<string, string>, words: RegExp][] = [
    [{ memory_limit: "16Gi, 8Gi" }, /memory_limit "16Gi, 8Gi": the sizes must rise, and 8Gi comes after 16Gi; write/],
    [{ memory_limit: "8Gi, 8Gi" }, /the sizes must rise/],
    [{ memory_limit: "8Gi 16Gi" }, /several sizes need commas between them; write 8Gi, 16Gi$/],
    [{ memory_limit: "8Gi, 16" }, /the sizes must rise/],
    [{ memory_limit: "8Gi, 16GB" }, /not a Kubernetes quantity: write "16Gi"/],
    [{ memory_limit: "0, 16Gi" }, /a run cannot have no memory/],
    [{ memory_limit: "1,5Gi" }, /not a Kubernetes quantity: write "1\.5Gi"/],
    [{ memory_limit: Array.from({ length: 11 }, (_, n) => `${n + 1}Gi`).join(", ") }, /has 11 sizes, 10 are allowed/],
    [
      { memory_limit: "8Gi", memory_request: "4Gi, 8Gi" },
      /memory_request "4Gi, 8Gi": it has 2 sizes and memory_limit has 1/,
    ],
    [{ memory_request: "4Gi, 8Gi" }, /memory_limit has none/],
    [
      { memory_limit: "8Gi, 9Gi", memory_request: "4Gi, 10Gi" },
      /10Gi is more than memory_limit has in its place \(9Gi\)/,
    ],
    [{ memory_limit: "8Gi, 16Gi", memory_request: "9Gi" }, /more than memory_limit \(8Gi\)/],
  ];
  for (const [cells, words] of cases) {
    const table = rowWith(cells);
    equal(table.rows.length, 0, JSON.stringify(cells));
    match(messages(table).join("\n"), words);
  }
});

Deno.test("what retry_on cannot mean is an error, what does nothing a warning", () => {
  const cases: [cells: Record<string, string>, words: RegExp, isGood: boolean][] = [
    [{ retries: "2", retry_on: "oomkilled" }, /the entry "oomkilled" cannot be used: did you mean OOMKilled\?/, false],
    [{ retries: "2", retry_on: "OutOfMemory" }, /did you mean OOMKilled\?/, false],
    [{ retries: "2", retry_on: "Timeout" }, /did you mean DeadlineExceeded\?/, false],
    [{ retries: "2", retry_on: "NodeLots" }, /did you mean NodeLost\?/, false],
    [{ retries: "2", retry_on: "Cancelled" }, /a run that ends as Cancelled is never tried again/, false],
    [{ retries: "2", retry_on: "0" }, /exit codes are 1 to 255/, false],
    [{ retries: "2", retry_on: "145-130" }, /the lower one first/, false],
    [{ retries: "101" }, /from 0 to 100/, false],
    [
      { retry_on: "75" },
      /warning: Line 2, retry_on "75": it does nothing without retries|it does nothing without retries/,
      true,
    ],
    [{ memory_limit: "1Gi, 2Gi", backoff_limit: "2" }, /before the next size of memory_limit has its turn/, true],
  ];
  for (const [cells, words, isGood] of cases) {
    const table = rowWith(cells);
    match(messages(table).join("\n"), words);
    equal(table.rows.length, isGood ? 1 : 0);
  }
  deepEqual(messages(rowWith({ retries: "2", retry_on: "75, 130-145; NodeLost, TerminationByKubelet, Lost" })), []);
  deepEqual(messages(rowWith({ retries: "2", retry_on: "OutOfmemory" })), []);
});

Deno.test("each size of memory is checked against the policy", () => {
  const against = (text: string, cells: Record<string, string>) =>
    checkRow(parsePolicy(text), rowWith(cells).rows[0]!).map(({ column, message }) => `${column}: ${message}`);
  deepEqual(against("max_memory: 16Gi", { memory_limit: "8Gi, 16Gi" }), []);
  deepEqual(against("max_memory: 16Gi", { memory_limit: "8Gi, 16Gi, 32Gi" }), [
    "memory_limit: against the policy: 32Gi is more than the 16Gi that are allowed",
  ]);
  deepEqual(against("max_memory: 16Gi", { memory_limit: "17Gi" }).length, 1);
  deepEqual(against("max_memory: 16Gi", {}), ["memory_limit: against the policy: write a limit of at most 16Gi"]);
  const percent = "limits_within_percent_of_requests: 20";
  deepEqual(against(percent, { memory_limit: "10Gi, 20Gi", memory_request: "9Gi" }), []);
  match(against(percent, { memory_limit: "10Gi, 20Gi", memory_request: "9Gi, 10Gi" }).join(), /100 % above/);
});

Deno.test("rowNotes() says what a row does beyond one run a message", () => {
  const [row] = rowWith({ retries: "2", retry_on: "75, 130-145, NodeLost", memory_limit: "8Gi, 16Gi, 32Gi" }).rows;
  deepEqual(rowNotes(row!), ["retries 2 on 75, 130-145, NodeLost", "memory 8Gi, then 16Gi, 32Gi"]);
  deepEqual(rowNotes(rowWith({ rerun_after_disruption: "no" }).rows[0]!), ["not again after a disruption"]);
  deepEqual(rowNotes(rowWith({ memory_limit: "8Gi" }).rows[0]!), []);
});
