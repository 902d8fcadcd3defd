/**
 * A few cases of the crash matrix inside the test suite; `deno task chaos` runs them all.
 */
import { deepEqual, equal } from "node:assert/strict";
import { renderTable, runChaos } from "./main.ts";
import { isKeyed, Ledger, type Row } from "./ledger.ts";
import { casesOf } from "./matrix.ts";
import { randomFrom } from "./outages.ts";
import { OPERATIONS } from "./entry.ts";
import { SteadyPublisher } from "./publisher.ts";
import { startMosquitto } from "../harness/mosquitto.ts";
import { needs } from "../harness/needs.ts";
import { TcpProxy } from "../harness/proxy.ts";
import { MqttEar } from "../harness/service.ts";
import { eventually } from "../harness/wait.ts";

Deno.test("the crash matrix holds every operation, before and after", () => {
  const faults = casesOf("short").flatMap(({ fault }) => fault?.replace(/:\d+$/, "") ?? []);
  deepEqual(faults.sort(), OPERATIONS.flatMap((operation) => [`${operation}:after`, `${operation}:before`]).sort());
});

Deno.test({
  name: "no message is lost and none runs twice when the service is killed or cut off",
  ignore: !await needs("mosquitto", "s3", "node"),
  async fn() {
    const results = await runChaos({ extent: "test" });
    const bad = results.filter(({ lost, doubled, outcome }) => lost > 0 || doubled > 0 || outcome !== "ok");
    equal(bad.length, 0, `\n${renderTable(results)}`);
  },
});

/** A ledger in which message 1 has started a run with a child, and all went well. */
function goodLedger(): Ledger {
  const ledger = new Ledger();
  ledger.taken(1, 1);
  see(ledger, "parent-a", "parent", 1);
  see(ledger, "child-a", "child", 1, "parent-a");
  for (const run of ["parent-a", "child-a"]) ledger.ended(run, "succeeded", "Completed");
  return ledger;
}

function see(ledger: Ledger, runName: string, row: Row, message: number, parentRun?: string, uid = runName): void {
  ledger.seen({ uid, runName, row, message, ...(parentRun === undefined ? {} : { parentRun }) });
  ledger.gone(uid);
}

function faults(ledger: Ledger): string[] {
  return ledger.lines().flatMap(({ name, lost, doubled, wrong }) =>
    lost + doubled + wrong === 0 ? [] : [`${name}: ${lost} lost, ${doubled} doubled, ${wrong} wrong`]
  );
}

Deno.test({
  name: "SteadyPublisher counts what goes out again after a cut, acknowledged before MQTT.js says that it is connected",
  ignore: !await needs("mosquitto"),
  async fn() {
    await using broker = await startMosquitto({ persistence: "on-stop" });
    await using ear = await MqttEar.connect(broker.url, ["lab/#"]);
    await using wire = new TcpProxy(broker.port);
    let [taken, attempts] = [0, 0];
    await using _publisher = await SteadyPublisher.start({
      url: `mqtt://127.0.0.1:${wire.port}`,
      count: 5,
      perSecond: 1_000,
      messageOf: (n) => ({ topic: "lab/x", payload: String(n) }),
      onTaken: (_, times) => (taken++, attempts += times),
    });
    // The broker has the messages and the publisher no answer.
    wire.mode = "mute";
    await eventually(() => ear.heard.length === 5, { what: "the messages" });
    wire.mode = "pass";
    wire.cut();
    await eventually(() => taken === 5 && ear.heard.length >= 10, { what: "the acknowledgements" });
    deepEqual([ear.heard.length, attempts], [10, 10]);
  },
});

Deno.test("Ledger finds nothing wrong where each message has one run, child and end", () => {
  const ledger = goodLedger();
  deepEqual(faults(ledger), []);
  equal(ledger.settled, true);
});

Deno.test("Ledger counts messages without a run and runs without an end", () => {
  const ledger = goodLedger();
  ledger.taken(5, 1);
  see(ledger, "plain-b", "plain", 6);
  ledger.taken(6, 1);
  equal(ledger.settled, false);
  deepEqual(faults(ledger), [
    "messages without a key: 1 lost, 0 doubled, 0 wrong",
    "ends told: 1 lost, 0 doubled, 0 wrong",
  ]);
});

Deno.test("Ledger counts a second run, a second Job of one name, a second child and a second end as doubled", () => {
  const ledger = goodLedger();
  see(ledger, "parent-a", "parent", 1, undefined, "another uid");
  see(ledger, "parent-b", "parent", 1);
  see(ledger, "child-b", "child", 1, "parent-a");
  see(ledger, "child-c", "child", 1, "parent-b");
  for (const run of ["parent-b", "child-b", "child-c"]) ledger.ended(run, "succeeded", "Completed");
  ledger.ended("parent-a", "failed", "Vanished");
  deepEqual(faults(ledger), [
    "messages without a key: 0 lost, 2 doubled, 0 wrong",
    "children: 0 lost, 1 doubled, 0 wrong",
    "ends told: 0 lost, 1 doubled, 0 wrong",
  ]);
});

Deno.test("Ledger lets a message without a key that was sent twice have two runs, one with a key only one", () => {
  const ledger = new Ledger();
  for (const n of [5, 15]) {
    equal(isKeyed(n), n === 15);
    ledger.taken(n, 2);
    for (const run of [`plain-${n}-a`, `plain-${n}-b`]) {
      see(ledger, run, "plain", n);
      ledger.ended(run, "succeeded", "Completed");
    }
  }
  deepEqual(faults(ledger), ["messages with a key: 0 lost, 1 doubled, 0 wrong"]);
});

Deno.test("Ledger names a wrong end", () => {
  const ledger = new Ledger();
  ledger.taken(0, 1);
  see(ledger, "bad-a", "bad", 0);
  ledger.ended("bad-a", "succeeded", "Completed");
  deepEqual(faults(ledger), ["ends told: 0 lost, 0 doubled, 1 wrong"]);
});

Deno.test("randomFrom() gives the same numbers for the same seed, and others for another", () => {
  const numbers = (seed: number) => Array.from({ length: 5 }, randomFrom(seed));
  deepEqual(numbers(7), numbers(7));
  equal(numbers(7).some((number) => numbers(8).includes(number)), false);
});
