import { deepEqual, doesNotMatch, equal, match } from "node:assert/strict";
import { withLastLine } from "../../completion/last_line.ts";
import { aRecord, pod } from "../harness/fakes.ts";

const failed = aRecord({ status: "failed", reason: "ExitCode", message: "Its program ended with exit code 3" });

const lineOf = (line: string, record = failed) =>
  withLastLine(record, [pod({}, 3)], {
    bytes: 1,
    complete: true,
    missing: undefined,
    lastLines: new Map([["count-abc-x/main", line]]),
  });

Deno.test("what a failed program wrote last is in its record, and in its sentence", () => {
  const { message, last_line } = lineOf("no such file: a.h5");
  deepEqual([message, last_line], [
    "Its program ended with exit code 3; the last line of its log: no such file: a.h5",
    "no such file: a.h5",
  ]);
});

Deno.test("a link or token that a program printed is told to nobody, nor are orders to terminals", () => {
  for (
    const line of [
      "+ curl 'https://s3.example/b/k?X-Amz-Signature=0123456789abcdef&X-Amz-Credential=AKIAEXAMPLE'",
      "Authorization: Bearer abcdefghijklmnop",
      "https://user:hunter22@store.example/x failed",
    ]
  ) {
    const { message, last_line = "" } = lineOf(line);
    for (const text of [message, last_line]) doesNotMatch(text, /0123456789abcdef|abcdefghijklmnop|hunter22/);
    match(last_line, /\*\*\*/);
  }
  const { last_line } = lineOf("\x1b[31mred\x1b[0m\x07 \u202eevil");
  for (const order of ["\x1b", "\x07", "\u202e"]) equal(last_line!.includes(order), false);
});
