/** One call for the pods of many runs. */
import { deepEqual, rejects } from "node:assert/strict";
import { PodLists } from "../../completion/pod_lists.ts";
import { pod } from "../harness/fakes.ts";

Deno.test("runs that want their pods at once share calls of fifty, and each gets its own", async () => {
  const calls: number[] = [];
  const lists = new PodLists({
    pods: (names) => {
      calls.push(names.length);
      return Promise.resolve(names.map((runName) => pod({ runName, podName: `${runName}-x` })));
    },
  }, new AbortController().signal);
  const names = Array.from({ length: 120 }, (_, n) => `count-${n}`);
  const found = await Promise.all([...names, names[0]!].map((name) => lists.of(name)));
  deepEqual(found.map((pods) => pods.map(({ podName }) => podName)), [...names, names[0]].map((name) => [`${name}-x`]));
  deepEqual(calls, [50, 50, 20]);
});

Deno.test("a call that fails fails for those that share it, and the next one is made anew", async () => {
  const answers = [() => Promise.reject(new Error("away")), () => Promise.resolve([pod()])];
  const lists = new PodLists({ pods: () => answers.shift()!() }, new AbortController().signal);
  const [one, other] = [lists.of("count-abc"), lists.of("other")];
  await rejects(one, /away/);
  await rejects(other, /away/);
  deepEqual((await lists.of("count-abc")).length, 1);
});
