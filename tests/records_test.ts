import { deepEqual, equal, rejects } from "node:assert/strict";
import fc from "fast-check";
import { RunRecords, type SessionRecord } from "../records.ts";
import { RefusedError } from "../ports.ts";
import { runNameFor } from "../run_spec.ts";
import { FakeStore, row } from "./harness/fakes.ts";
import { eventually } from "./harness/wait.ts";

const SESSION: SessionRecord = { epoch: "e", acknowledged: 3, open: [[1, 2]], reserved: 9, from: 1, clean: false };

Deno.test("endedBetween() finds the ended runs of a row by one list that leaves out other rows", async () => {
  const number = fc.integer({ min: 0, max: 2 ** 40 - 1 });
  await fc.assert(fc.asyncProperty(fc.uniqueArray(number), number, number, async (numbers, one, other) => {
    const [from, to] = [Math.min(one, other), Math.max(one, other)];
    const store = new FakeStore();
    const nameOf = (number: number, jobName = "count") =>
      runNameFor(row({ jobName }), { epoch: "e", number, messageHash: "m" });
    for (const number of numbers) {
      store.objects.set(`${nameOf(number)}.json`, new Uint8Array());
      store.objects.set(`${nameOf(number, "sum")}.json`, new Uint8Array());
    }
    const found = await new RunRecords(store).endedBetween(row(), from, to);
    const wanted = numbers.filter((number) => from <= number && number <= to).map((number) => nameOf(number));
    deepEqual(wanted.filter((name) => !found.includes(name)), []);
    deepEqual(found.filter((name) => !name.startsWith("count-")), []);
    equal(store.calls.filter((call) => call.startsWith("list")).length, 1);
  }));
});

Deno.test("getSession() reads the newest revision, and older ones are removed", async () => {
  const store = new FakeStore();
  const records = new RunRecords(store);
  equal(await records.getSession("lab"), undefined);
  await records.putSession("lab", { record: SESSION, revision: 9 });
  await records.putSession("lab", { record: { ...SESSION, acknowledged: 4 }, revision: 10 });
  await new RunRecords(store).putSession("lab", { record: SESSION, revision: 2 });
  deepEqual(await new RunRecords(store).getSession("lab"), {
    record: { ...SESSION, acknowledged: 4 },
    revision: 10,
  });
  await eventually(() => store.objects.size === 1);
  equal(await records.getSession("another service"), undefined);
});

Deno.test("getSession() does not believe what is no record of a session", async () => {
  for (const text of ["", "null", "{}", '{"epoch":1}', JSON.stringify({ ...SESSION, open: [[1]] })]) {
    const store = new FakeStore();
    await new RunRecords(store).putSession("lab", { record: SESSION, revision: 1 });
    for (const key of store.objects.keys()) store.objects.set(key, new TextEncoder().encode(text));
    await rejects(new RunRecords(store).getSession("lab"), SyntaxError, text);
  }
});

Deno.test("a record or note that is too large is unreadable, one that may not be read is asked for again", async () => {
  const store = new FakeStore();
  const records = new RunRecords(store);
  const name = "sort-abcdefgh2345";
  for (const key of [`${name}.json`, ".schedules/x.json"]) store.objects.set(key, new Uint8Array(5 * 1024 * 1024));
  equal(await records.find(name), "unreadable");
  await rejects(records.getNote(".schedules", "x"), { name: "SyntaxError", message: /it has more than 4194304 bytes/ });
  for (let time = 0; time < 2; time++) store.faults.push(new RefusedError("access denied"));
  await rejects(records.find(name), RefusedError);
  await rejects(records.getNote(".schedules", "x"), RefusedError);
});
