import { KeptHistory } from "../../history.ts";
import type { Emit } from "../../ports.ts";
import { RunRecords } from "../../records.ts";
import { historyConformance } from "../conformance/history.ts";
import { FakeStore } from "../harness/fakes.ts";
import { ModelHistory } from "../harness/model_history.ts";
import { fail } from "node:assert/strict";

historyConformance("the model of the tests", () =>
  Promise.resolve({
    history: () => new ModelHistory(),
    [Symbol.asyncDispose]: () => Promise.resolve(),
  }));

for (const where of ["in memory", "in a file"] as const) {
  historyConformance(`SQLite ${where}`, async () => {
    const folder = await Deno.makeTempDir({ prefix: "mjl-history-" });
    const made: KeptHistory[] = [];
    return {
      history(): KeptHistory & { readonly emit: Emit } {
        const store = Object.assign(new FakeStore(), { url: `fake://bucket-${made.length}` });
        const one = new KeptHistory({
          records: new RunRecords(store),
          store,
          ...(where === "in memory" ? {} : { place: { folder } }),
          leads: () => false,
          onTrouble: (sentence) => fail(sentence),
        });
        made.push(one);
        return one;
      },
      async [Symbol.asyncDispose]() {
        for (const one of made) one.close();
        await Deno.remove(folder, { recursive: true });
      },
    };
  });
}
