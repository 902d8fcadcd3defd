/**
 * Cases in which a peer does not die but does wrong: a session that is gone, a second client of the same id, answers
 * that are errors, late, cut short or not there. Each mends itself in the end; nothing may be lost or doubled.
 */
import mqtt from "mqtt";
import type { HttpFault, ProxiedRequest } from "../harness/proxy.ts";
import { eventually, pause } from "../harness/wait.ts";
import type { Case, Stage } from "./stage.ts";

/** How long a peer answers with errors. */
const ERRORS_MS = 4_000;
const RETRY_AFTER_S = 2;
/** 12 MB, more than one part of a multipart upload. */
const TWO_PARTS = { lines: 12_000, padding: 1_000 };

export const FAULTS: readonly Case[] = [
  { name: "broker: session gone while the service was away", trouble: loseSession },
  { name: "broker: another client takes the client id", trouble: takeOver },
  { name: "broker: started anew with nothing kept", trouble: forget, forgetful: true },

  { name: "S3: 500 for 4 s", through: "S3 requests", trouble: errors({ status: 500 }) },
  { name: "S3: 503 SlowDown for 4 s", through: "S3 requests", trouble: errors(slowDown()) },
  { name: "S3: each answer 1 s late", through: "S3 requests", before: always({ delayMs: 1_000 }) },
  { name: "S3: wire half-open for 6 s", through: "S3 wire", trouble: halfOpen },
  {
    name: "S3: killed within a multipart upload",
    through: "S3 requests",
    alone: true,
    env: { LOG_MEMORY: "1Mi" },
    ...TWO_PARTS,
    before: killAtSecondPart,
    trouble: untilKilledAtPart,
  },

  { name: "API server: 429 with Retry-After", through: "API requests", before: tooManyRequests },
  { name: "API server: 500 for 4 s", through: "API requests", trouble: errors({ status: 500 }) },
  { name: "API server: 503 for 4 s", through: "API requests", trouble: errors({ status: 503 }) },
  { name: "API server: 401 for 4 s", through: "API requests", trouble: errors({ status: 401 }) },
  { name: "API server: each answer 1 s late", through: "API requests", before: always({ delayMs: 1_000 }) },
  { name: "API server: wire half-open for 6 s", through: "API wire", trouble: halfOpen },
  { name: "API server: 410 as status and in the watch", through: "API requests", before: expireWatches },
  { name: "API server: JSON cut short", through: "API requests", before: cutShort },
  { name: "API server: creates done but not answered", through: "API requests", before: swallowCreates },
  { name: "API server: … and refused until their Jobs are gone", through: "API requests", before: refuseUntilGone },
];

// ---------------------------------------------------------------- the broker

/**
 * The session is ended in the service's absence, as when its time is over: by a clean start under its client id. What
 * the broker would send meanwhile is lost with it, so nothing is under way. Afterwards packet identifiers begin anew:
 * the same bytes under the same identifier are a new message.
 */
async function loseSession(stage: Stage): Promise<void> {
  await stage.untilSettled();
  const epoch = await epochOf(stage);
  await stage.service!.kill9();
  const clean = await mqtt.connectAsync(stage.broker.url, { clientId: stage.prefix, clean: true, protocolVersion: 5 });
  await clean.endAsync();
  await stage.start();
  if (await epochOf(stage) === epoch) stage.wrong.push("no new epoch for the new session");
  for (const payload of ["m1", "m2"]) await stage.send("in", payload);
}

async function epochOf(stage: Stage): Promise<unknown> {
  return (await stage.session())?.epoch;
}

/** Thrown out three times by a client that takes what is sent and acknowledges nothing. */
async function takeOver(stage: Stage): Promise<void> {
  for (let time = 0; time < 3; time++) {
    const other = await Deno.connect({ hostname: "127.0.0.1", port: stage.broker.port });
    await other.write(connectPacket(stage.prefix));
    await other.read(new Uint8Array(4));
    await stage.send("in", `t${time}`);
    // The service comes back by itself, and throws the other one out.
    for (const buffer = new Uint8Array(4096); await other.read(buffer).catch(() => null) !== null;);
    other.close();
  }
  await stage.says(/(another client connected with|does another instance use) the client id/);
}

/** CONNECT of MQTT 5: no clean start, keepalive 60 s, session expiry of an hour. */
function connectPacket(clientId: string): Uint8Array<ArrayBuffer> {
  const id = new TextEncoder().encode(clientId);
  const head = [0, 4, ...new TextEncoder().encode("MQTT"), 5, 0, 0, 60, 5, 0x11, 0, 0, 14, 16, 0, id.length];
  return new Uint8Array([0x10, head.length + id.length, ...head, ...id]);
}

async function forget(stage: Stage): Promise<void> {
  await stage.untilSettled();
  const { broker } = stage;
  const begin = (await broker.process.log()).length;
  await broker.kill9();
  await broker.start();
  // What is sent before is nobody's: the broker knows of no subscription.
  await eventually(async () => {
    const subscribed = (await broker.process.log()).slice(begin).matchAll(/Sending SUBACK to (\S+)/g);
    return [...subscribed].filter(([, client]) => client === stage.prefix).length >= 3;
  }, { what: "the service to subscribe anew" });
}

// ---------------------------------------------------------------- requests

function always(fault: HttpFault): (stage: Stage) => void {
  return (stage) => stage.answer(() => fault);
}

function errors(fault: HttpFault): (stage: Stage) => Promise<void> {
  return async (stage) => {
    stage.answer(() => fault);
    // Streams too: a watch that was open before is of no use with a server that answers nothing else.
    stage.cutRequests();
    await eventually(() => stage.spoilt, { what: "a call that fails" });
    await pause(ERRORS_MS);
    stage.answer(() => "pass");
  };
}

function slowDown(): HttpFault {
  const body = "<Error><Code>SlowDown</Code><Message>Please reduce your request rate.</Message></Error>";
  return { status: 503, headers: { "content-type": "application/xml" }, body };
}

/** Bytes are swallowed, connections stay; in the end the network gives them up. */
async function halfOpen({ wire }: Stage): Promise<void> {
  wire.mode = "blackhole";
  await eventually(() => wire.lostBytes > 0, { what: "bytes to be lost" });
  await pause(6_000);
  wire.mode = "pass";
  wire.cut();
}

/** Refuses each run once, and looks how long the service waits. */
function tooManyRequests(stage: Stage): void {
  const refusedMs = new Map<string, number>();
  stage.answer((request) => {
    if (!isCreate(request)) return "pass";
    const runName = nameIn(request);
    const beforeMs = refusedMs.get(runName);
    if (beforeMs === undefined) {
      refusedMs.set(runName, performance.now());
      return { status: 429, headers: { "retry-after": String(RETRY_AFTER_S) }, body: "{}" };
    }
    const waitedMs = performance.now() - beforeMs;
    if (waitedMs < RETRY_AFTER_S * 1_000 - 50) {
      stage.wrong.push(`${runName} was tried again after ${waitedMs.toFixed(0)} ms`);
    }
    return "pass";
  });
}

/** Every watch is told 410, first as its status, then in its stream, then left alone for two times. */
function expireWatches(stage: Stage): void {
  const expired = { kind: "Status", apiVersion: "v1", status: "Failure", code: 410, reason: "Expired", message: "old" };
  const faults: HttpFault[] = [
    { status: 410, body: JSON.stringify(expired) },
    { status: 200, body: `${JSON.stringify({ type: "ERROR", object: expired })}\n` },
    "pass",
    "pass",
  ];
  let watches = 0;
  stage.answer(({ path }) => path.includes("watch=true") ? faults[watches++ % faults.length]! : "pass");
  // The watches of before.
  stage.cutRequests();
}

/** The first answers of each kind end in the middle; a create call that ends so was done. */
function cutShort(stage: Stage): void {
  let left = 12;
  stage.answer((request) => {
    const interesting = isCreate(request) || request.path.includes("/jobs?") || request.path.includes("/pods?");
    return interesting && left-- > 0 ? { cutAfterBytes: 700 } : "pass";
  });
  stage.cutRequests();
}

/** The first four creates are done, and the connection breaks before the answer. */
function swallowCreates(stage: Stage): void {
  let left = 4;
  stage.answer((request) => isCreate(request) && left-- > 0 ? "swallow" : "pass");
}

/** The first four creates are done but not answered; those that repeat them get through when the Job is deleted. */
function refuseUntilGone(stage: Stage): void {
  const swallowed = new Set<string>();
  const gone = new Set<string>();
  stage.answer((request) => {
    if (request.method === "DELETE") gone.add(/\/jobs\/([^?]+)/.exec(request.path)?.[1] ?? "");
    if (!isCreate(request)) return "pass";
    const runName = nameIn(request);
    if (swallowed.has(runName)) {
      return gone.has(runName) ? "pass" : { status: 503, headers: { "retry-after": "1" }, body: "{}" };
    }
    if (swallowed.size >= 4) return "pass";
    swallowed.add(runName);
    return "swallow";
  });
}

function isCreate({ method, path }: ProxiedRequest): boolean {
  return method === "POST" && /\/jobs(\?|$)/.test(path);
}

function nameIn({ body }: ProxiedRequest): string {
  return (JSON.parse(new TextDecoder().decode(body)) as { metadata: { name: string } }).metadata.name;
}

// ---------------------------------------------------------------- multipart

const killedAtPart = new WeakSet<Stage>();

/** When the second part of a log comes, the server dies with the first one in it. */
function killAtSecondPart(stage: Stage): void {
  stage.answer(async ({ method, path }) => {
    if (killedAtPart.has(stage) || method !== "PUT" || !path.includes("partNumber=2")) return "pass";
    killedAtPart.add(stage);
    await stage.kit.s3.kill9();
    return "swallow";
  });
}

async function untilKilledAtPart(stage: Stage): Promise<void> {
  await eventually(() => killedAtPart.has(stage), { what: "a second part" });
  // Longer than the SDK's own attempts: the upload and its abortion both fail.
  await pause(3_000);
  await stage.kit.s3.start();
}
