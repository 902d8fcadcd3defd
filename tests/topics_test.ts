import { deepEqual, equal, match, ok } from "node:assert/strict";
import fc from "fast-check";
import { covers, filterFault, matches, overlap, topicFault, TopicIndex, uncovered } from "../topics.ts";

/** Few levels and few names, so that chance meets the odd cases. */
const level = fc.constantFrom("a", "b", "", "$x");
const topic = fc.array(level, { minLength: 1, maxLength: 4 }).map((levels) => levels.join("/")).filter((t) => t !== "");
const filter = fc.tuple(
  fc.array(fc.oneof(level, fc.constant("+")), { minLength: 0, maxLength: 3 }),
  fc.constantFrom("a", "b", "+", "#", ""),
).map(([levels, last]) => [...levels, last].join("/")).filter((f) => f !== "");

/** Section 4.7 word by word, as a regular expression. */
function naiveMatch(filter: string, topic: string): boolean {
  if (/^[+#]/.test(filter) && topic.startsWith("$")) return false;
  const pattern = filter.split("/").map((part) =>
    part === "+" ? "[^/]*" : part === "#" ? ".*" : part.replace("$", "\\$")
  )
    .join("/").replace(/\/\.\*$/, "(/.*)?");
  return new RegExp(`^${pattern}$`).test(topic);
}

/**
 * All topics of at most four levels over the alphabet above and one more name. The one without a character too: no
 * message has it, and covers() and overlap() do not leave it out.
 */
function allTopics(): string[] {
  const names = ["a", "b", "", "$x", "z"];
  let layer = names;
  const all = [...layer];
  for (let depth = 1; depth < 5; depth++) {
    layer = layer.flatMap((start) => names.map((name) => `${start}/${name}`));
    all.push(...layer);
  }
  return all;
}

Deno.test("filterFault() tells where a wildcard stands wrongly", async (t) => {
  for (
    const [filter, expected] of [
      ["", /empty/],
      ["a/#/b", /last level/],
      ["a#", /alone in its level/],
      ["a/b+/c", /alone in its level/],
      ["a\0b", /NUL/],
      ["a\uD800b", /surrogate/],
      ["$share/group/a", /shared subscriptions/],
      ["x".repeat(65_536), /65536 bytes/],
      ["é".repeat(32_768), /65536 bytes/],
      ["/".repeat(200), /201 levels/],
    ] as const
  ) {
    await t.step(JSON.stringify(filter.slice(0, 20)), () => match(filterFault(filter) ?? "", expected));
  }
});

Deno.test("filterFault() accepts what MQTT allows", () => {
  for (const filter of ["#", "+", "a", "/", "a//b", "+/+", "a/+/#", "$SYS/#", "käse/日本", "a b", "x".repeat(65_535)]) {
    equal(filterFault(filter), undefined, filter.slice(0, 20));
  }
});

Deno.test("topicFault() refuses wildcards", () => {
  match(topicFault("a/+") ?? "", /cannot hold "\+"/);
  equal(topicFault("a/b"), undefined);
});

Deno.test("matches() follows the examples of MQTT 4.7", async (t) => {
  for (
    const [filter, topic, expected] of [
      ["sport/tennis/player1/#", "sport/tennis/player1", true],
      ["sport/tennis/player1/#", "sport/tennis/player1/score/wimbledon", true],
      ["sport/#", "sport", true],
      ["sport/tennis/+", "sport/tennis/player1/ranking", false],
      ["sport/+", "sport", false],
      ["sport/+", "sport/", true],
      ["+/+", "/finance", true],
      ["/+", "/finance", true],
      ["+", "/finance", false],
      ["#", "$SYS/monitor/Clients", false],
      ["+/monitor/Clients", "$SYS/monitor/Clients", false],
      ["$SYS/#", "$SYS/monitor/Clients", true],
      ["$SYS/monitor/+", "$SYS/monitor/Clients", true],
    ] as const
  ) await t.step(`${filter} ${topic}`, () => equal(matches(filter, topic), expected));
});

Deno.test("matches() equals a naive matcher", () => {
  fc.assert(fc.property(filter, topic, (f, t) => equal(matches(f, t), naiveMatch(f, t))), { numRuns: 2000 });
});

Deno.test("covers() and overlap() equal a comparison of all topics", () => {
  const topics = allTopics();
  fc.assert(
    fc.property(filter, filter, (a, b) => {
      equal(covers(a, b), topics.every((topic) => !naiveMatch(b, topic) || naiveMatch(a, topic)), "covers");
      equal(overlap(a, b), topics.some((topic) => naiveMatch(a, topic) && naiveMatch(b, topic)), "overlap");
    }),
    { numRuns: 150 },
  );
});

Deno.test("TopicIndex.match() equals a naive matcher", () => {
  fc.assert(
    fc.property(
      fc.array(filter, { maxLength: 30 }),
      topic,
      (filters, t) => {
        const index = new TopicIndex<number>();
        for (const [id, f] of filters.entries()) index.add(f, id);
        const expected = [...filters.entries()].filter(([, f]) => naiveMatch(f, t)).map(([id]) => id);
        deepEqual(index.match(t).sort((a, b) => a - b), expected);
        deepEqual(new Set(index.filters()), new Set(filters));
        equal(index.size, new Set(filters).size);
      },
    ),
    { numRuns: 500 },
  );
});

Deno.test("uncovered() keeps the fewest filters that bring the same messages", () => {
  fc.assert(
    fc.property(fc.array(filter, { maxLength: 12 }), topic, (filters, t) => {
      const kept = uncovered(filters);
      equal(kept.some((f) => naiveMatch(f, t)), filters.some((f) => naiveMatch(f, t)));
      for (const one of kept) {
        for (const two of kept) ok(one === two || !covers(one, two), `${one} covers ${two}`);
      }
    }),
    { numRuns: 1000 },
  );
});

Deno.test("uncovered() takes 10,000 filters", () => {
  const filters = Array.from({ length: 10_000 }, (_, at) => [`a/+/${at}`, `+/b/${at}/#`, `lab/${at}`][at % 3] ?? "");
  equal(uncovered([...filters, "lab/#"]).length, 6_668);
});
