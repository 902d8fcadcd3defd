import { deepEqual, equal, match } from "node:assert/strict";
import { rowWith } from "../catalog/kit.ts";
import { delivery, row } from "../harness/fakes.ts";
import { startCore } from "../harness/core.ts";
import { eventually } from "../harness/wait.ts";

const NEEDY = row({ jobName: "needy", inputs: rowWith({ inputs: "uuid, mode=fast|slow" }).rows[0]!.inputs! });
const keyed = (jobName: string, key: string) =>
  row({ jobName, idempotencyKey: rowWith({ idempotency_key: key }).rows[0]!.idempotencyKey! });

Deno.test("receive() refuses a message that lacks what a row needs, before a Job is made, and runs the other rows", async () => {
  using bed = await startCore({ rows: [NEEDY, row({ jobName: "other" })] });
  const texts = ["{}", '{"uuid":1,"mode":"odd"}', '{"uuid":1,"mode":"slow"}'];
  const messages = texts.map((text, at) => delivery({ packetId: at + 1, text }));
  for (const message of messages) bed.listener.receive(message);
  await eventually(() => messages.every(({ acks }) => acks === 1));
  const reports = bed.all.flatMap((event) => event.type === "error" ? [event.report] : []);
  deepEqual(reports.map(({ reason, job_name, column }) => [reason, job_name, column]), [
    ["InputMissing", "needy", "inputs"],
    ["InputRefused", "needy", "inputs"],
  ]);
  match(
    reports[1]!.message,
    /Job "needy" was not started: the message's field "mode" is "odd"; it must be fast or slow/,
  );
  deepEqual(bed.cluster.created.map(({ row }) => row.jobName).sort(), ["needy", "other", "other", "other"]);
});

Deno.test("receive() acknowledges a message that no row takes, as refused", async () => {
  using bed = await startCore({ rows: [NEEDY] });
  const message = delivery({ packetId: 1, text: "{}" });
  bed.listener.receive(message);
  await eventually(() => message.acks === 1);
  equal(bed.cluster.created.length, 0);
  const outcomes = bed.all.flatMap((event) => event.type === "message" ? [event.outcome] : []);
  deepEqual(outcomes, ["refused"]);
});

Deno.test("run() refuses what a row cannot take", async () => {
  using bed = await startCore({ rows: [NEEDY] });
  const result = await bed.listener.run(NEEDY, { topic: "x", payload: new TextEncoder().encode("{}") });
  equal(result.result, "refused");
});

Deno.test("receive() makes one run of messages whose row's key is the same, each row by its own", async () => {
  using bed = await startCore({
    rows: [keyed("by-uuid", "{payload.uuid}"), keyed("by-file", "{payload.file}"), row()],
  });
  const texts = ['{"uuid":1,"file":"a"}', '{"uuid":1,"file":"b"}', '{"uuid":2,"file":"b"}'];
  for (const [at, text] of texts.entries()) {
    const message = delivery({ packetId: at + 1, text });
    bed.listener.receive(message);
    await eventually(() => message.acks === 1);
  }
  const count = (name: string) => bed.cluster.created.filter(({ row }) => row.jobName === name).length;
  deepEqual([count("by-uuid"), count("by-file"), count("count")], [2, 2, 3]);
});

Deno.test("receive() takes the key that a message brings before the row's own", async () => {
  using bed = await startCore({ rows: [keyed("a", "{payload.uuid}")] });
  for (const [at, key] of ["one", "two"].entries()) {
    const message = delivery({ packetId: at + 1, text: `{"uuid":1,"idempotency-key":"${key}"}` });
    bed.listener.receive(message);
    await eventually(() => message.acks === 1);
  }
  equal(bed.cluster.created.length, 2);
});

Deno.test("receive() refuses a message without what the row's key is made of", async () => {
  using bed = await startCore({ rows: [keyed("a", "{payload.uuid}")] });
  const message = delivery({ packetId: 1, text: "{}" });
  bed.listener.receive(message);
  await eventually(() => message.acks === 1);
  equal(bed.cluster.created.length, 0);
  const [report] = bed.all.flatMap((event) => event.type === "error" ? [event.report] : []);
  match(report!.message, /column idempotency_key of job "a" \(line 2\): \{payload\.uuid\} has no value/);
});

Deno.test("a key cannot be made of the run's own name", () => {
  const [problem] = rowWith({ idempotency_key: "{run_name}" }).problems;
  match(problem!.message, /\{run_name\} is made of the key itself/);
});
