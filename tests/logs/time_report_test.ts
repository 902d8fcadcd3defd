/** What GNU time says of memory, in a line of a log. */
import { deepEqual } from "node:assert/strict";
import { residentBytesIn } from "../../logs/time_report.ts";

Deno.test("GNU time's line is read, and nothing that is like it", () => {
  const lines = [
    "\tMaximum resident set size (kbytes): 204800\n",
    "\tMaximum resident set size (kbytes): 1\r\n",
    "Maximum resident set size (kbytes): 204800\n",
    "\tMaximum resident set size (kbytes): -1\n",
    "\tMaximum resident set size (kbytes): 99999999999999999999\n",
    "\tMajor (requiring I/O) page faults: 0\n",
    `\tMaximum resident set size (kbytes): 1${" ".repeat(1_000)}`,
    "",
  ];
  const read = lines.map((line) => residentBytesIn(new TextEncoder().encode(line)));
  deepEqual(read, [209_715_200, 1_024, ...Array(6).fill(undefined)]);
});
