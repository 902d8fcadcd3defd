/**
 * The cases of the crash matrix: the service killed before and after each of its side effects, its peers and the wire
 * killed meanwhile. What peers may do besides dying is in faults.ts.
 */
import { OPERATIONS } from "./entry.ts";
import { eventually, pause } from "../harness/wait.ts";
import { DUE_TIMES } from "./due_times.ts";
import { FAULTS } from "./faults.ts";
import { FLOWS } from "./flows.ts";
import { JOINS } from "./joins.ts";
import { SKIPPED } from "./skipped.ts";
import type { Case, Stage } from "./stage.ts";

/** A process that is killed leaves its lease, which the next one waits out. */
const SHORT_LEASE = {
  LEADER_ELECT: "true",
  LEASE_DURATION: "6s",
  LEASE_RENEW_DEADLINE: "4s",
  LEASE_RETRY_PERIOD: "500ms",
};

/** Which cases: a few, one of each kind of crash, what peers do wrong, or all. */
export type Extent = "test" | "short" | "faults" | "full";

/** 2.8 MB a run, of which the service holds 1 MiB at a time. */
const THREE_SEGMENTS = { lines: 4_000, padding: 700 };

const CHOSEN_FLOWS = [
  "group: killed after the mark of the last item",
  "limit: killed before letting a Job go on",
  "quota: killed after the note of an attempt that waits for a place",
];

/** The cases of an extent. */
export function casesOf(extent: Extent): Case[] {
  const crashes = OPERATIONS.flatMap((operation) =>
    (["before", "after"] as const).map((when) => ({ operation, when }))
  );
  const points = crashes.flatMap(({ operation, when }) => {
    const nths = operation === "lease" || operation.startsWith("retry-") ? [1] : numbersOf(extent);
    return nths.map((nth) => crash(`${operation}:${when}:${nth}`));
  });
  const peers: Case[] = [
    { name: "broker killed and started, with persistence", trouble: restartBroker, alone: true },
    { name: "API server killed and started", trouble: restartApiServer, alone: true },
    { name: "S3 away for 4 s", trouble: stopS3, alone: true },
  ];
  const troubles: Case[] = [
    { name: "wire to the broker cut three times", trouble: cutWire, through: "broker wire" },
    {
      name: "wire to the broker silent for 8 s",
      trouble: silenceWire,
      through: "broker wire",
      env: { MQTT_KEEPALIVE: "2s" },
    },
    { name: "service killed twice in a row", trouble: killTwice, again: true },
  ];
  if (extent === "faults") return [...FAULTS];
  if (extent === "full") {
    return [...points, ...DUE_TIMES, ...JOINS, ...FLOWS, ...SKIPPED, ...troubles, ...peers, ...FAULTS];
  }
  const inTurn = { name: "broker, API server and S3 killed in turn", trouble: restartPeers, alone: true };
  if (extent === "short") {
    return [...points, ...DUE_TIMES, ...JOINS, ...FLOWS, ...SKIPPED, ...troubles, inTurn].map((one) => ({
      ...one,
      few: true,
    }));
  }
  const chosen = [
    "create:after:2",
    "number:before:2",
    "number:after:2",
    "acknowledge:before:2",
    "publish:after:2",
    "record:after:2",
    "retry-record:after:1",
    "retry-create:after:1",
  ];
  const flows = FLOWS.filter(({ name }) => CHOSEN_FLOWS.some((one) => name === one));
  return [...chosen.map(crash), ...flows, troubles[0]!];
}

/** Of a write that acknowledges there is one for each message, since each is sent when the one before it is written. */
function numbersOf(extent: Extent): readonly number[] {
  return extent === "full" ? [1, 2, 3] : [2];
}

function crash(fault: string): Case {
  const [operation, when, nth] = fault.split(":");
  const name = `killed ${when} ${operation} no. ${nth}`;
  if (operation === "lease") return { name, fault, env: SHORT_LEASE };
  if (operation === "number") return { name, fault, spaced: true };
  if (operation!.startsWith("retry-")) return { name, fault, again: true };
  return { name, fault, ...(operation === "log-part" ? { env: { LOG_MEMORY: "1Mi" }, ...THREE_SEGMENTS } : {}) };
}

// ---------------------------------------------------------------- troubles

async function restartBroker({ kit, jobs }: Stage): Promise<void> {
  await eventually(() => jobs.created().length > 0);
  // Written at each change, yet by a timer of 1 s.
  await pause(1_200);
  await kit.broker.kill9();
  await pause(1_000);
  await kit.broker.start();
}

async function restartApiServer({ kit, jobs }: Stage): Promise<void> {
  await eventually(() => jobs.created().length > 0);
  await kit.cluster.stopApiServer();
  await pause(2_000);
  await kit.cluster.startApiServer();
}

async function stopS3({ kit, jobs }: Stage): Promise<void> {
  await eventually(() => jobs.created().length > 0);
  await kit.s3.kill9();
  await pause(4_000);
  await kit.s3.start();
}

async function restartPeers(stage: Stage): Promise<void> {
  await restartBroker(stage);
  await restartApiServer(stage);
  await stopS3(stage);
}

async function cutWire({ wire }: Stage): Promise<void> {
  for (let time = 0; time < 3; time++) {
    wire.cut();
    await pause(700);
  }
}

async function silenceWire({ wire }: Stage): Promise<void> {
  wire.mode = "blackhole";
  await pause(8_000);
  wire.mode = "pass";
}

async function killTwice(stage: Stage): Promise<void> {
  await eventually(() => stage.jobs.created().length > 0);
  await stage.service!.kill9();
  await stage.start();
  await stage.service!.kill9();
  await stage.start();
}
