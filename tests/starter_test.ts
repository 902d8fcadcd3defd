/** starter.ts: what is told of runs that cannot be made now. */
import { deepStrictEqual, strictEqual } from "node:assert/strict";
import { UnavailableError } from "../ports.ts";
import { RunTable } from "../runs.ts";
import { Starter } from "../starter.ts";
import { events, FakeCluster, FakeStore, row } from "./harness/fakes.ts";
import { eventually } from "./harness/wait.ts";

Deno.test("a setting that somebody has to mend is told on ERROR, once until a run could be made", async () => {
  const stop = new AbortController();
  const { emit, all } = events();
  const cluster = new FakeCluster();
  const starter = new Starter({
    cluster,
    runs: new RunTable({ emit }),
    payloads: new FakeStore(),
    concurrency: 4,
    maxRuns: Infinity,
    emit,
    signal: stop.signal,
  });
  const forbidden = (runName: string) =>
    new UnavailableError(`Cannot create the Job ${runName}: forbidden; give its account the rights`, {
      advice: "give its account the rights",
      retryAfterMs: 1,
    });
  const full = new UnavailableError("Cannot create the Job x: exceeded quota", { retryAfterMs: 1 });
  let settled = 0;
  const start = (runName: string) =>
    starter.start({
      row: row({ jobName: runName }),
      spec: () => ({
        runName,
        row: row(),
        message: { topic: "t", payload: new Uint8Array() },
        messageHash: runName,
        rootRun: runName,
        chainDepth: 0,
        receivedAt: new Date(),
      }),
      settle: () => void settled++,
    });
  const told = () => all.flatMap((event) => event.type === "error" ? [event.report.message] : []);
  cluster.answers.push(full, forbidden("a"), forbidden("a"), forbidden("a"));
  start("a");
  await eventually(() => settled === 1);
  deepStrictEqual(told(), ["Cannot create the Job a: forbidden; give its account the rights"]);
  cluster.answers.push(forbidden("b"));
  start("b");
  await eventually(() => settled === 2);
  strictEqual(told().length, 2);
  strictEqual(all.filter(({ type }) => type === "waiting").length, 5);
  stop.abort();
});
