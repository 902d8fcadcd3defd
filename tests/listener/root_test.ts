/** What is shared by all runs that one message from outside has set off: by its rows, its chain, and reruns. */
import { deepEqual, equal, match, notEqual } from "node:assert/strict";
import fc from "fast-check";
import { endPayloadOf } from "../../completion/record.ts";
import type { Lineage } from "../../ports.ts";
import { isRoot, lineageOfRecord, lineageOfRerun, rootOfRun } from "../../run_spec.ts";
import { startCore } from "../harness/core.ts";
import { aRecord, delivery, row } from "../harness/fakes.ts";
import { eventually } from "../harness/wait.ts";

const PREFIX = "services/mqtt_job_listener";
const RUN = "sort-spikes-zzzzzzzz2345";

Deno.test("two rows on one topic share their message's root, and two equal messages do not", async () => {
  using bed = await startCore({ rows: [row(), row({ jobName: "sum" })] });
  for (const packetId of [1, 2]) {
    const message = delivery({ packetId, text: "same" });
    bed.listener.receive(message);
    await eventually(() => message.acks === 1);
  }
  const [a, b, c, d] = bed.cluster.created.map(({ root }) => root);
  deepEqual([a === b, c === d, a === c], [true, true, false]);
});

Deno.test("an end hands its root down, and one of a former version that has none gets the same each time", async () => {
  const told = [
    { run_name: "init-a", root_run: "first-a", chain_depth: 1, root: "abcdefghijkl" },
    { run_name: "init-b", root_run: "first-b", chain_depth: 1 },
    { run_name: "init-c", root_run: "first-b", chain_depth: 1 },
    // Nobody makes a part of a key of this.
    { run_name: "init-d", root_run: "first-b", chain_depth: 1, root: "../../abcdef" },
  ];
  const roots: string[] = [];
  for (const [at, end] of told.entries()) {
    using bed = await startCore();
    const message = delivery({ packetId: at + 1, topic: `${PREFIX}/job_complete/init`, text: JSON.stringify(end) });
    bed.listener.receive(message);
    await eventually(() => message.acks === 1);
    roots.push(bed.cluster.created[0]!.root);
  }
  deepEqual(roots, ["abcdefghijkl", ...Array(3).fill(rootOfRun("first-b"))]);
});

Deno.test("the end, the child and the record of a run of a former version have one root", () => {
  const record = aRecord({ root_run: "first-b" });
  equal(endPayloadOf(record, undefined).root, rootOfRun("first-b"));
  equal(lineageOfRecord(record).root, rootOfRun("first-b"));
  equal(lineageOfRecord({ ...record, root: "../x" }).root, rootOfRun("first-b"));
});

const word = fc.stringMatching(/^[a-z]{1,8}$/);
const lineage: fc.Arbitrary<Lineage> = fc.record({
  root: fc.stringMatching(/^[a-z2-7]{12}$/),
  rootRun: word,
  chainDepth: fc.nat(9),
  parentRun: word,
  attempt: fc.integer({ min: 2, max: 9 }),
  rung: fc.nat(3),
  firstRun: word,
  group: word,
  index: fc.nat(99),
  item: fc.constant('"a"'),
  rerunOf: word,
  requestedBy: word,
  batch: word,
}, { requiredKeys: ["root", "rootRun", "chainDepth"] });

Deno.test("a rerun stands where the run stood, as a first attempt of its own", () => {
  fc.assert(fc.property(lineage, (given) => {
    const { attempt: _1, rung: _2, firstRun: _3, batch: _4, rerunOf: _5, requestedBy: _6, ...kept } = given;
    deepEqual(lineageOfRerun(given, RUN), { ...kept, rerunOf: RUN });
  }));
});

Deno.test("a run with a lineage of its own gets it whole, whatever its message says of its origin", async () => {
  using bed = await startCore();
  const given = { root: "abcdefghijkl", rootRun: "first-y", chainDepth: 2, parentRun: "init-x", rerunOf: RUN };
  const message = {
    topic: `${PREFIX}/job_complete/init`,
    payload: new TextEncoder().encode('{"run_name":"other","root":"lkjihgfedcba","chain_depth":7}'),
  };
  const names: string[] = [];
  for (let n = 0; n < 2; n++) names.push((await bed.listener.run(row(), message, { lineage: given })).runName);
  notEqual(names[0], names[1]);
  for (const { root, rootRun, chainDepth, parentRun, rerunOf, attempt } of bed.cluster.created) {
    deepEqual({ root, rootRun, chainDepth, parentRun, rerunOf }, given);
    equal(attempt, undefined);
  }
});

Deno.test("a run that a person starts has a root of its own", async () => {
  using bed = await startCore();
  const message = { topic: "lab/count", payload: new Uint8Array() };
  for (let n = 0; n < 2; n++) await bed.listener.run(row(), message);
  const [one, other] = bed.cluster.created;
  match(one!.root, /^[a-z2-7]{12}$/);
  equal(isRoot(one!.root), true);
  notEqual(one!.root, other!.root);
});
