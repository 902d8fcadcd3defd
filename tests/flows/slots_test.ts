/** Who goes on and who gives way in a concurrency group, by what there is. */
import { deepEqual, ok } from "node:assert/strict";
import fc from "fast-check";
import { type Member, planOf, slotsOf } from "../../flows/slots.ts";
import type { WhenBusy } from "../../ports.ts";

/** `a`: active, `w`: waits, `l`: active and leaving; in the order of their messages. */
function group(states: string, { limit = 1, mode = "wait" as WhenBusy } = {}): Member[] {
  return [...states].map((state, at) => ({
    runName: `${state}${at}`,
    slot: `${state}${at}`,
    receivedAtMs: at,
    held: state === "w",
    leaving: state === "l",
    limit,
    mode,
  }));
}

function plan(states: string, options?: { limit?: number; mode?: WhenBusy }) {
  const { resume, cancel } = planOf(group(states, options));
  return { resume: resume.map(({ runName }) => runName), cancel: cancel.map(({ member }) => member.runName) };
}

Deno.test("wait: free slots go to those that wait longest", () => {
  deepEqual(plan("aww"), { resume: [], cancel: [] });
  deepEqual(plan("awww", { limit: 3 }), { resume: ["w1", "w2"], cancel: [] });
  deepEqual(plan("wwa", { limit: 2 }), { resume: ["w0"], cancel: [] });
  deepEqual(plan("lw"), { resume: [], cancel: [] });
});

Deno.test("replace: the newest takes the place of the oldest, and begins when that one is gone", () => {
  deepEqual(plan("aw", { mode: "replace" }), { resume: [], cancel: ["a0"] });
  deepEqual(plan("lw", { mode: "replace" }), { resume: [], cancel: [] });
  deepEqual(plan("aaw", { mode: "replace", limit: 2 }), { resume: [], cancel: ["a0"] });
  deepEqual(plan("awww", { mode: "replace" }), { resume: [], cancel: ["a0", "w1", "w2"] });
  deepEqual(plan("www", { mode: "replace", limit: 2 }), { resume: ["w1", "w2"], cancel: ["w0"] });
});

Deno.test("latest: one waits, and a newer one takes its place", () => {
  deepEqual(plan("aw", { mode: "latest" }), { resume: [], cancel: [] });
  deepEqual(plan("aww", { mode: "latest" }), { resume: [], cancel: ["w1"] });
  deepEqual(plan("www", { mode: "latest" }), { resume: ["w2"], cancel: ["w0", "w1"] });
});

Deno.test("an attempt goes on in the slot of the one before it", () => {
  const [first, second, other] = group("lww");
  const members = [first!, { ...second!, slot: first!.slot }, other!];
  deepEqual(planOf(members).resume.map(({ runName }) => runName), ["w1"]);
});

Deno.test("no younger run of a row with a higher limit goes before one that waits for a lower one", () => {
  const [active, low, high] = group("aww");
  deepEqual(planOf([active!, low!, { ...high!, limit: 3 }]).resume, []);
  const [, free] = group("ww", { limit: Infinity });
  deepEqual(planOf([active!, low!, free!]).resume, [free]);
});

const states = fc.array(fc.constantFrom("a", "w", "w", "l"), { maxLength: 12 }).map((all) => all.join(""));
const options = fc.record({
  limit: fc.integer({ min: 1, max: 4 }),
  mode: fc.constantFrom<WhenBusy>("wait", "forbid", "replace", "latest"),
});

Deno.test("a plan gives no more slots than there are, cancels nobody whom it lets go on, and settles", () => {
  fc.assert(fc.property(states, options, (text, { limit, mode }) => {
    let members = group(text, { limit, mode });
    for (let round = 0; round < 20; round++) {
      const taken = slotsOf(members).size;
      const { resume, cancel } = planOf(members);
      ok(resume.length <= Math.max(0, limit - taken));
      deepEqual(cancel.filter(({ member }) => resume.includes(member)), []);
      const gone = new Set(cancel.map(({ member }) => member));
      // What gives way is gone by the next look, and so is what leaves.
      members = members.filter((member) => !gone.has(member) && !member.leaving)
        .map((member) => resume.includes(member) ? { ...member, held: false } : member);
      if (resume.length + cancel.length === 0 && round > 0) break;
      ok(round < 19);
    }
    const waiting = members.filter(({ held }) => held);
    ok(waiting.length === 0 || slotsOf(members).size >= limit);
    ok(mode !== "latest" || waiting.length <= 1);
    ok(mode !== "replace" || waiting.length === 0);
  }));
});
