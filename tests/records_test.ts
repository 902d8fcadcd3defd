import { deepStrictEqual, ok, rejects } from "node:assert/strict";
import fc from "fast-check";
import { UnavailableError } from "../ports.ts";
import { RunRecords } from "../records.ts";
import { FakeStore } from "./harness/fakes.ts";

function setUp(names: readonly string[]) {
  const store = new FakeStore();
  for (const name of names) store.objects.set(name, new Uint8Array());
  let lists = 0;
  const { list } = store;
  store.list = (...args) => (lists++, list.apply(store, args));
  return { store, records: new RunRecords(store), lists: () => lists };
}

Deno.test("findByPrefix() finds what is there, whichever look-ups go together", async () => {
  const word = fc.string({ unit: fc.constantFrom("a", "b", "-"), minLength: 1, maxLength: 4 });
  await fc.assert(fc.asyncProperty(fc.uniqueArray(word), fc.array(word), async (names, prefixes) => {
    const { records } = setUp([...names.map((name) => `${name}.json`), ".live.json", "zz.txt"]);
    const found = await Promise.all(prefixes.map((prefix) => records.findByPrefix(prefix)));
    prefixes.forEach((prefix, index) => {
      const name = found[index];
      if (name === undefined) ok(!names.some((name) => name.startsWith(prefix)), `${prefix} in ${names}`);
      else ok(names.includes(name) && name.startsWith(prefix), `${prefix} is not ${name}`);
    });
  }));
});

Deno.test("findByPrefix() answers a thousand look-ups with one page of the list for each thousand records", async () => {
  const names = Array.from({ length: 5_000 }, (_, n) => `plain-${String(n).padStart(8, "0")}abcd`);
  const { records, lists } = setUp(names.map((name) => `${name}.json`));
  const found = await Promise.all(names.map((name) => records.findByPrefix(name.slice(0, -4))));
  deepStrictEqual(found, names);
  // The first look-up goes alone.
  ok(lists() <= 7, `${lists()} lists`);
});

Deno.test("findByPrefix() says of each look-up that the store is away, and works again after that", async () => {
  const { store, records } = setUp(["run-abc.json"]);
  const { list } = store;
  store.list = () => {
    throw new UnavailableError("away");
  };
  const asked = ["run-a", "run-b", "run-c"].map((prefix) => records.findByPrefix(prefix));
  for (const answer of asked) await rejects(answer, UnavailableError);
  store.list = list;
  deepStrictEqual(await records.findByPrefix("run-a"), "run-abc");
});
