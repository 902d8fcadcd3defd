import { deepEqual, equal, match, ok, rejects } from "node:assert/strict";
import { type Call, CommandError, type Io } from "../../cli/context.ts";
import { watch } from "../../cli/watch.ts";
import { UnavailableError } from "../../ports.ts";

/** A call whose command gives each of the results, then ends the watch. */
async function watched(results: readonly (string | Error)[], { terminal = false } = {}) {
  const stop = new AbortController();
  const seen = { written: [] as string[], told: [] as string[], screens: [] as string[] };
  const io: Io = {
    input: { env: {}, readTextFile: () => "" },
    write: (text) => Promise.resolve(void seen.written.push(String(text))),
    tell: (line) => void seen.told.push(line),
    read: () => Promise.resolve(new Uint8Array()),
    progress: undefined,
    ...(terminal ? { redraw: (text: string) => void seen.screens.push(text) } : {}),
  };
  const call: Call = { words: [], flag: () => undefined, json: false, io, config: () => Promise.reject() as never };
  const left = [...results];
  const code = await watch(call, ["runs", "--watch"], async ({ io }) => {
    const next = left.shift();
    if (next instanceof Error) throw next;
    if (next === undefined) stop.abort();
    else await io.write(next);
    return 0;
  }, { signal: stop.signal, pauseMs: 0 });
  return { code, ...seen };
}

Deno.test("watch() writes a pipe what has changed, and nothing twice", async () => {
  const { code, written } = await watched(["a\n", "a\n", "b\n", "b\n", "a\n"]);
  deepEqual([code, written], [0, ["a\n", "b\n", "a\n"]]);
});

Deno.test("watch() redraws a terminal, under a line that says what is shown and how to end", async () => {
  const { screens, written } = await watched(["a\n", "\x1b[2Jb\n"], { terminal: true });
  equal(screens.length, 2);
  match(screens[0]!, /^\d\d:\d\d:\d\d UTC {2}mqtt-job-listener runs --watch {2}\(Ctrl\+C ends\)\n\na$/);
  ok(screens[1]!.includes("\\u001b[2Jb"));
  deepEqual(written, []);
});

Deno.test("watch() goes on over a peer that is away for a while, and says so once", async () => {
  const away = new UnavailableError("Cannot reach the store");
  const { written, told } = await watched(["a\n", away, away, "a\n"]);
  deepEqual(told, ["Cannot reach the store; trying again"]);
  deepEqual(written, ["a\n", "", "a\n"]);
});

Deno.test("watch() ends with any other error", async () => {
  await rejects(watched(["a\n", new CommandError(2, "no such file")]), /no such file/);
});
