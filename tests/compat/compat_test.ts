/** What CI runs of `deno task compat`: the script on one broker, the checks on one store, and the document's tables. */
import { deepEqual, equal } from "node:assert/strict";
import { needs } from "../harness/needs.ts";
import { readProject } from "../harness/project.ts";
import { COMPAT_BROKERS, tryBroker } from "./brokers.ts";
import { SHORT } from "./script.ts";
import { tryStore } from "./store_checks.ts";
import { COMPAT_STORES } from "./stores.ts";
import { readResults, type ServerResult, tried, withTables } from "./verdicts.ts";

function refused({ verdicts }: ServerResult) {
  return verdicts.filter(({ answer }) => answer === "no" || answer === "part");
}

Deno.test({
  name: "the end-to-end script passes on mosquitto",
  ignore: !await needs("mosquitto"),
  async fn() {
    const broker = COMPAT_BROKERS.find(({ id }) => id === "mosquitto")!;
    deepEqual(refused(await tryBroker(broker, { size: SHORT, conformance: false })), []);
  },
});

Deno.test({
  name: "the checks of a store pass on versitygw",
  ignore: !await needs("s3", "openssl"),
  async fn() {
    const store = COMPAT_STORES.find(({ id }) => id === "versitygw")!;
    deepEqual(refused(await tryStore(store, { conformance: false })), []);
  },
});

Deno.test("docs/compatibility.md shows what the last run of each server found", async () => {
  const words = (text: string) => text.replaceAll(/[\s-]+/g, "");
  const document = await readProject("docs/compatibility.md");
  equal(words(withTables(document, await readResults())), words(document));
});

Deno.test("a check that fails gets the verdict no, with its reason's first line", async () => {
  const verdict = await tried("x", () => Promise.reject(new Error("the broker is away\nat line 1")));
  deepEqual(verdict, { check: "x", answer: "no", words: "the broker is away" });
});
