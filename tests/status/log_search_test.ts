/** Search in logs: plain words, either way, bounded, in what a terminal shows. */
import { deepEqual, equal, ok, rejects } from "node:assert/strict";
import { threadCpuUsage } from "node:process";
import { setImmediate } from "node:timers/promises";
import fc from "fast-check";
import { type SearchAnswer, type SearchBounds, searchLog, type SearchQuery } from "../../status/log_search.ts";
import { plainText } from "../../status/terminal.ts";
import { withoutColours } from "../../util/text.ts";
import { logTextOf } from "../harness/log_text.ts";

const { signal } = new AbortController();
const find = (content: string, query: SearchQuery, bounds?: SearchBounds) =>
  searchLog(logTextOf(content), query, signal, bounds);
const lineOf = (content: string, { found }: SearchAnswer) =>
  found && new TextDecoder().decode(new TextEncoder().encode(content).subarray(found.from, found.to)).trimEnd();

Deno.test("a search finds the next line and the previous one, whatever the case", async () => {
  const content = "one\nAn ERROR\nthree\nno error here\nfive\n";
  const first = await find(content, { words: "Error", next: 0 });
  equal(lineOf(content, first), "An ERROR");
  const second = await find(content, { words: "Error", next: first.found!.to });
  equal(lineOf(content, second), "no error here");
  const third = await find(content, { words: "Error", next: second.found!.to });
  deepEqual([third.found, third.isDone, third.to], [undefined, true, content.length]);
  equal(lineOf(content, await find(content, { words: "error", previous: content.length })), "no error here");
  equal(lineOf(content, await find(content, { words: "error", previous: second.found!.from })), "An ERROR");
  const none = await find(content, { words: "error", previous: first.found!.from });
  deepEqual([none.found, none.isDone, none.from], [undefined, true, 0]);
});

Deno.test("words are plain: nothing in them is a pattern", async () => {
  const content = "abc\na.c [x] (y) \\d*\n";
  equal(lineOf(content, await find(content, { words: "a.c [x] (y) \\d*", next: 0 })), "a.c [x] (y) \\d*");
  equal((await find(content, { words: ".*", next: 0 })).found, undefined);
});

Deno.test("a search looks at what a terminal shows", async () => {
  const content = "\u001b[31mER\u001b[1mROR\u001b[m\nloading 10%\rloading 99%\rready      \n";
  deepEqual((await find(content, { words: "error", next: 0 })).found?.from, 0);
  equal((await find(content, { words: "10%", next: 0 })).found, undefined);
  ok((await find(content, { words: "ready", next: 0 })).found);
});

Deno.test("lines that have the words only in what is written over are passed over, however many they are", async () => {
  const content = `${"foo\rbar\n".repeat(300)}a foo\n${"foo\rbar\n".repeat(300)}`;
  equal(lineOf(content, await find(content, { words: "foo", next: 0 })), "a foo");
  equal(lineOf(content, await find(content, { words: "foo", previous: content.length })), "a foo");
});

Deno.test("a search whose time is over says how far it came within a piece, and goes on from there", async () => {
  const content = `a foo\n${"no\nfoo\rbar\n".repeat(40)}a foo\n`;
  for (const [begin, end] of [[6, content.length], [0, content.length - 6]] as const) {
    let answer: SearchAnswer;
    let [at, rounds] = [begin === 0 ? end : begin, 0];
    do {
      const query = begin === 0 ? { previous: at } : { next: at };
      answer = await find(content, { words: "foo", ...query }, { mostMs: -1 });
      ok(begin === 0 ? answer.to === at && answer.from < at : answer.from === at && answer.to > at);
      at = begin === 0 ? answer.from : answer.to;
      rounds++;
    } while (!answer.found && !answer.isDone);
    equal(lineOf(content, answer), "a foo");
    equal(rounds, 41);
  }
});

Deno.test("whatever a log holds, a search lets others work every now and then", async () => {
  const ESC = "\u001b";
  const logs: [content: string, words: string][] = [
    [`${"\n".repeat(512 * 1024)}${"foo\rbar\n".repeat(49)}${"\n".repeat(500_000)}`, "foo"],
    [`foo${"x".repeat(12_000)}${`${ESC}[1K`.repeat(4_800)}\n`.repeat(32), "foo"],
    [`foo${"x".repeat(12_000)}\r${`${ESC}[P`.repeat(6_400)}\n`.repeat(32), "foo"],
    [`${ESC}[31mé${ESC}[m\n`.repeat(90_000), "foo"],
    ["a".repeat(1024 * 1024), `${"a".repeat(199)}b`],
    ["aa\n".repeat(300_000), "foo"],
  ];
  for (const [content, words] of logs) {
    for (const query of [{ next: 0 }, { previous: new TextEncoder().encode(content).length }]) {
      const search = { isOver: false };
      const answer = find(content, { words, ...query }).finally(() => search.isOver = true);
      let most = 0;
      while (!search.isOver) {
        const before = threadCpuUsage();
        await setImmediate();
        const { user, system } = threadCpuUsage(before);
        most = Math.max(most, user + system);
      }
      await answer;
      ok(most < 60_000, `${most} µs in one go: ${JSON.stringify([content.slice(0, 20), query])}`);
    }
  }
});

Deno.test("a search has a bound, says how far it came, and goes on from there", async () => {
  const content = `${"no\n".repeat(2_000_000)}here it is\n`;
  let [at, rounds] = [0, 0];
  let answer: SearchAnswer;
  do {
    answer = await find(content, { words: "here", next: at }, { mostBytes: 2_000_000 });
    equal(answer.from, at);
    at = answer.to;
    rounds++;
  } while (!answer.found && !answer.isDone);
  equal(lineOf(content, answer), "here it is");
  ok(rounds >= 3 && rounds <= 4, `${rounds} rounds`);
  const back = await find(`here\n${"no\n".repeat(2_000_000)}`, { words: "here", previous: 6_000_005 }, {
    mostBytes: 2_000_000,
  });
  ok(!back.found && !back.isDone && back.from > 0 && back.to === 6_000_005);
});

Deno.test("a search of which nobody waits for the end reads no further", async () => {
  const stop = new AbortController();
  const text = logTextOf("no\n".repeat(2_000_000));
  const search = searchLog(text, { words: "here", next: 0 }, stop.signal);
  stop.abort(new Error("gone"));
  await rejects(search, /gone/);
  ok(text.bytesRead <= 2 * 1024 * 1024, `${text.bytesRead} bytes`);
});

Deno.test("what is in an endless line is found there, either way, also where two pieces meet", async () => {
  for (const before of [100, 1024 * 1024 - 2, 1024 * 1024 + 7, 3_000_000]) {
    const content = `first\n${"x".repeat(before)}needle${"y".repeat(2_500_000)}\nlast\n`;
    const hit = 6 + before;
    for (const query of [{ next: 0 }, { previous: content.length }]) {
      const { found } = await find(content, { words: "needle", ...query });
      deepEqual(found, { from: hit, to: hit + 6 });
    }
    equal((await find(content, { words: "needle", next: hit + 6 })).found, undefined);
    equal((await find(content, { words: "needle", previous: hit })).found, undefined);
  }
});

const line = fc.array(fc.constantFrom("a", "b", "AB", "é", "\u001b[31m", "\u001b[m", " ", "İ", "\r"), { maxLength: 8 })
  .map((parts) => parts.join(""));

Deno.test("whatever the lines are: a search finds those that show the words, in their order", async () => {
  await fc.assert(
    fc.asyncProperty(fc.array(line, { maxLength: 30 }), fc.constantFrom("ab", "a", "é", "b "), async (lines, words) => {
      const content = lines.map((one) => `${one}\n`).join("");
      const wanted = lines.flatMap((one, at) =>
        // Not what is there only since parts were written over each other.
        [plainText(one), withoutColours(one)].every((text) => text.toLowerCase().includes(words)) ? [at] : []
      );
      const numberOf = (at: number) => new TextEncoder().encode(content).subarray(0, at).filter((b) => b === 10).length;
      const [down, up]: number[][] = [[], []];
      for (let at = 0;;) {
        const { found } = await find(content, { words, next: at });
        if (!found) break;
        down!.push(numberOf(found.from));
        at = found.to;
      }
      for (let to = new TextEncoder().encode(content).length;;) {
        const { found } = await find(content, { words, previous: to });
        if (!found) break;
        up!.unshift(numberOf(found.from));
        to = found.from;
      }
      deepEqual(down, wanted);
      deepEqual(up, wanted);
    }),
    { numRuns: 60 },
  );
});
