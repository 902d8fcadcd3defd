/**
 * Large logs on real parts: a program that writes faster than a slow store takes, with the kubelet beginning a new file
 * every ten seconds. The larger forms, with `kubectl logs -f` beside them, are in the bench: tests/bench/log_node.ts.
 */
import { deepEqual, equal } from "node:assert/strict";
import { measureNodeLog } from "../bench/log_node.ts";
import { needs } from "../harness/needs.ts";

const ready = await needs("mosquitto", "s3", "node");

Deno.test({
  name: "logs: 50 MB in half a minute are whole though the store is 12 s late for each piece",
  ignore: !ready,
  async fn() {
    const { runs } = await measureNodeLog({ megabytes: 50, seconds: 25, storeDelayMs: 12_000 });
    const [{ service, notes, end }] = runs as [typeof runs[0]];
    deepEqual([service, notes], [{ bytes: 50_000_000, whole: true }, []]);
    deepEqual([end["status"], end["log_complete"], end["log_bytes"]], ["succeeded", true, 50_000_000]);
  },
});

Deno.test({
  name: "logs: two chatty runs are whole though the way to the API server is cut, or say where they are not",
  ignore: !ready,
  async fn() {
    const { runs } = await measureNodeLog({ megabytes: 20, seconds: 15, runs: 2, cuts: 2 });
    for (const { service, notes, end } of runs) {
      // A new file may begin in the moment of the cut; that is said then.
      equal(end["log_complete"], service.whole && notes.length === 0);
      equal(end["log_bytes"], service.bytes);
    }
  },
});
