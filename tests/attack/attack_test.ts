/** The short form of `deno task attack`. */
import { deepEqual, ok } from "node:assert/strict";
import { needs } from "../harness/needs.ts";
import { attackAll } from "./main.ts";

Deno.test({
  name: "the service holds what is promised under the short form of all attacks",
  ignore: !await needs("mosquitto", "s3", "cluster"),
  sanitizeOps: false,
  sanitizeResources: false,
  async fn() {
    const { lines } = await attackAll({ form: "short" });
    ok(lines.length > 15, `${lines.length} attacks`);
    deepEqual(lines.filter(({ held }) => !held).map(({ actor, attack, fault }) => `${actor}: ${attack}: ${fault}`), []);
  },
});
