import { deepEqual, equal, match } from "node:assert/strict";
import { readTable } from "../../catalog.ts";
import { selectRows } from "../../listener/selection.ts";
import { RefusedError, type Row, type ServiceEvent } from "../../ports.ts";
import { delivery, row } from "../harness/fakes.ts";
import { startCore } from "../harness/core.ts";
import { eventually } from "../harness/wait.ts";

const PREFIX = "services/mqtt_job_listener";
const TABLE = await readTable(
  [
    "job_name,mqtt_topic,image,when",
    `big,x,busybox,payload.size > 1000`,
    `small,x,busybox,payload.size <= 1000`,
    `any,y,busybox,`,
    `memory,${PREFIX}/job_failed/+,busybox,"payload.reason == ""OOMKilled"""`,
    `again,${PREFIX}/job_complete/big,busybox,input.kind == 'raw' && result.units > 0`,
    "",
  ].join("\n"),
  { topicPrefix: PREFIX },
);
const conditionOf = ({ when = "" }: Row) => TABLE.conditions.get(when);
const rowsOn = (topic: string) => TABLE.index.match(topic);

function select(topic: string, text: string) {
  const payload = new TextEncoder().encode(text);
  return selectRows(rowsOn(topic), { topic, payload }, { topicPrefix: PREFIX, conditionOf });
}

const isFiltered = (event: ServiceEvent) => event.type === "message" && event.outcome === "filtered";
const names = (topic: string, text: string) => select(topic, text).rows.map(({ jobName }) => jobName);

Deno.test("selectRows() gives the rows whose condition is true, and the values that decided of the others", () => {
  const { rows, filtered } = select("x", '{"size":1001}');
  deepEqual(rows.map(({ jobName }) => jobName), ["big"]);
  deepEqual(filtered, [{ jobName: "small", line: 3, because: "payload.size is 1001" }]);
});

Deno.test("selectRows() takes what is missing, no JSON or too large for false", () => {
  for (const text of ["{}", "1001", "no JSON", `{"size":2000,"rest":"${"x".repeat(1024 * 1024)}"}`]) {
    deepEqual(names("x", text), []);
  }
});

Deno.test("selectRows() lets a row branch by how another's run ended, by its input and by its result", () => {
  deepEqual(names(`${PREFIX}/job_failed/big`, '{"reason":"OOMKilled"}'), ["memory"]);
  deepEqual(names(`${PREFIX}/job_failed/big`, '{"reason":"ExitCode"}'), []);
  const end = (units: number) => JSON.stringify({ input: '{"kind":"raw"}', result: { units } });
  deepEqual(names(`${PREFIX}/job_complete/big`, end(1)), ["again"]);
  deepEqual(names(`${PREFIX}/job_complete/big`, end(0)), []);
});

Deno.test("receive() acknowledges a message that starts no row, in its turn, and says why", async () => {
  using bed = await startCore({ match: ({ topic }) => rowsOn(topic), conditionOf });
  const gate = Promise.withResolvers<"created">();
  bed.cluster.answers.push(gate.promise);
  const texts = ['{"size":1001}', '{"size":"?"}', '{"size":2}'];
  const messages = texts.map((text, at) => delivery({ packetId: at + 1, topic: "x", text }));
  for (const message of messages) bed.listener.receive(message);
  await eventually(() => bed.all.some(isFiltered));
  equal(messages[1]!.acks, 0);
  gate.resolve("created");
  await eventually(() => messages.every(({ acks }) => acks === 1));
  deepEqual(bed.cluster.created.map(({ row }) => row.jobName).sort(), ["big", "small"]);
  const [filtered] = bed.all.filter(isFiltered);
  deepEqual(filtered, {
    type: "message",
    topic: "x",
    rows: 2,
    outcome: "filtered",
    filtered: [
      { jobName: "big", line: 2, because: 'payload.size is "?"' },
      { jobName: "small", line: 3, because: 'payload.size is "?"' },
    ],
  });
});

Deno.test("a message's event names its runs, and why rows refused it", async () => {
  const rows = [
    row({ jobName: "good" }),
    row({ jobName: "bad" }),
    row({ jobName: "asks", inputs: [{ name: "uuid", required: true }] }),
  ];
  using bed = await startCore({ rows });
  bed.cluster.create =
    ((create) => (spec) =>
      spec.row.jobName === "bad" ? Promise.reject(new RefusedError("image is invalid")) : create(spec))(
        bed.cluster.create.bind(bed.cluster),
      );
  const message = delivery({ text: "{}" });
  bed.listener.receive(message);
  await eventually(() => message.acks === 1);
  const told = bed.all.find((event) => event.type === "message");
  deepEqual(told?.type === "message" && [told.outcome, told.runs], ["runs", [bed.cluster.created[0]!.runName]]);
  const refusals = told?.type === "message" ? told.refusals ?? [] : [];
  equal(refusals.length, 2);
  match(refusals.join(), /"uuid".*image is invalid/s);
});
