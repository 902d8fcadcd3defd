/** Both suites on one S3 server: the conformance suite of the port, and what the service and its jobs do with a store. */
import { deepEqual, equal, match, ok } from "node:assert/strict";
import { createHash } from "node:crypto";
import { CreateBucketCommand, S3Client } from "@aws-sdk/client-s3";
import mqtt from "mqtt";
import { startLocalBroker } from "../../local/broker.ts";
import { S3Store } from "../../s3.ts";
import type { S3ServerOptions } from "../../s3/client.ts";
import { STORE_CASES } from "../conformance/store.ts";
import { useCredentials } from "../harness/aws_env.ts";
import { createAuthority } from "../harness/certs.ts";
import { ConnectProxy } from "../harness/connect_proxy.ts";
import { HttpProxy } from "../harness/proxy.ts";
import { startService } from "../harness/service.ts";
import { csv, shell } from "../harness/table.ts";
import { eventually } from "../harness/wait.ts";
import { BUCKET, type CompatStore, DNS_NAME, withStore } from "./stores.ts";
import { type ServerResult, tried, type Verdict } from "./verdicts.ts";

/** A blank, a plus and an umlaut, composed and not. */
const ODD = "größe a+b/u\u0308 (1)";
const LARGE_BYTES = 100_000_000;
const LINES = 300_000;
const LONG_MS = 90_000;
const PREFIX = "services/mqtt_job_listener";

/** Never throws for what the server does. */
export async function tryStore(
  store: CompatStore,
  { conformance = true }: { conformance?: boolean } = {},
): Promise<ServerResult> {
  const { name: server, version, setting } = store;
  const verdicts = await withStore(store, async (port, dir) => {
    const endpoint = `http://127.0.0.1:${port}`;
    using _credentials = useCredentials(store.credentials);
    await createBucket(endpoint);
    const bed: Bed = { store, endpoint, dir };
    const found: Verdict[] = [];
    if (conformance) found.push(await conform(bed));
    for (const [check, body] of CHECKS) found.push(await tried(check, () => body(bed)));
    return found;
  });
  return { server, version, setting, verdicts };
}

interface Bed {
  readonly store: CompatStore;
  readonly endpoint: string;
  /** For files. */
  readonly dir: string;
}

type Check = readonly [check: string, body: (bed: Bed) => Promise<Omit<Verdict, "check"> | string | void>];

const CHECKS: readonly Check[] = [
  ["100 MB in parts, whole by hash", hundredMegabytes],
  ["Keys with blank, `+` and `ü`", oddKeys],
  ["A list above 1,000 such keys", longList],
  ["Service: table read again when it changes", tableReload],
  ["Service: log whole by hash", wholeLog],
  ["Service: payload by presigned link", payloadLink],
  ["Virtual-host style, private CA", virtualHosts],
  ["Clock of the service 20 min off", wrongClock],
];

async function createBucket(endpoint: string): Promise<void> {
  const client = new S3Client({ endpoint, region: "us-east-1", forcePathStyle: true });
  await client.send(new CreateBucketCommand({ Bucket: BUCKET })).catch((error) => {
    if (!/BucketAlready/.test(error.name)) throw error;
  });
  client.destroy();
}

async function conform({ store, endpoint }: Bed): Promise<Verdict> {
  const known = new Set<string>();
  const failed: string[] = [];
  let passed = 0;
  for (const [number, [title, body]] of STORE_CASES.entries()) {
    const { answer, words } = await tried(
      title,
      () => body(new S3Store({ url: `s3://${BUCKET}/case-${number}`, endpoint })),
    );
    if (answer === "yes") passed++;
    else if (store.known[title]) known.add(store.known[title]);
    else failed.push(`“${title}” fails (${words}).`);
  }
  const figures = `${passed} of ${STORE_CASES.length} cases pass.`;
  const answer = failed.length > 0 ? "no" : known.size > 0 ? "part" : "yes";
  return { check: "Conformance suite of the port", answer, words: [figures, ...known, ...failed].join(" ") };
}

async function hundredMegabytes({ endpoint }: Bed) {
  const store = new S3Store({ url: `s3://${BUCKET}/parts`, endpoint });
  const sent = createHash("sha256");
  async function* source() {
    for (let n = 0; n < LARGE_BYTES / 1_000_000; n++) {
      const chunk = Uint8Array.from({ length: 1_000_000 }, (_, at) => at * 31 + n);
      sent.update(chunk);
      yield await Promise.resolve(chunk);
    }
  }
  await store.put("large", source());
  const came = createHash("sha256");
  let bytes = 0;
  for await (const chunk of (await store.read("large"))!) {
    came.update(chunk);
    bytes += chunk.length;
  }
  deepEqual([bytes, came.digest("hex")], [LARGE_BYTES, sent.digest("hex")]);
  await store.delete("large");
}

async function oddKeys({ endpoint }: Bed) {
  const store = new S3Store({ url: `s3://${BUCKET}/${ODD}`, endpoint });
  const key = "run 1+2 ü.txt";
  await store.put(key, "here");
  const found = await store.get(key);
  ok(found !== undefined && found !== "unchanged");
  equal(new TextDecoder().decode(found.body), "here");
  deepEqual((await Array.fromAsync(store.list(""))).map((one) => one.key), [key]);
  equal(await (await fetch(await store.link(key, { expiresSeconds: 60 }))).text(), "here");
  await store.delete(key);
  equal(await store.exists(key), false);
}

async function longList({ endpoint }: Bed) {
  const store = new S3Store({ url: `s3://${BUCKET}/${ODD}/list`, endpoint });
  const keys = Array.from({ length: 1_100 }, (_, n) => `a+b ü-${String(n).padStart(5, "0")}`);
  for (let at = 0; at < keys.length; at += 50) {
    await Promise.all(keys.slice(at, at + 50).map((key) => store.put(key, "")));
  }
  deepEqual((await Array.fromAsync(store.list(""))).map(({ key }) => key), keys);
}

/** The service on the store, with one row, below a prefix with odd letters. `body` publishes and waits for records. */
async function withService(
  { endpoint, dir }: Bed,
  { name, row }: { name: string; row: Row },
  body: (bed: ServiceBed) => Promise<void>,
): Promise<void> {
  const root = new S3Store({ url: `s3://${BUCKET}/${ODD}/${name}`, endpoint });
  const setTable = (rows: readonly Row[]) => root.put("jobs.csv", csv(rows.map((one) => ({ image: "none", ...one }))));
  await setTable([row]);
  const broker = await startLocalBroker();
  const client = await mqtt.connectAsync(broker.url, { protocolVersion: 4 });
  try {
    await using service = await startService({
      CLUSTER: "local",
      MQTT_URL: broker.url,
      MQTT_VERSION: "4",
      AWS_ENDPOINT_URL: endpoint,
      CATALOG_URL: `${root.url}/jobs.csv`,
      CATALOG_POLL: "500ms",
      LOGS_URL: `${root.url}/logs`,
      RUNS_URL: `${root.url}/runs`,
      LOCAL_DIR: `${dir}/work-${name}`,
      STATUS_ADDR: "off",
    }, { readyTimeoutMs: LONG_MS });
    await body({
      root,
      setTable,
      publish: async (topic, payload) => void await client.publishAsync(topic, payload as never, { qos: 1 }),
      ran: (jobName) =>
        eventually(() => runOf(root, jobName), {
          timeoutMs: LONG_MS,
          intervalMs: 300,
          what: async () => `a run of "${jobName}"; the service says: ${await service.logTail(3)}`,
        }),
    });
    await service.stop();
  } finally {
    await client.endAsync(true);
    await broker.close();
  }
}

interface Row {
  readonly job_name: string;
  readonly mqtt_topic: string;
  readonly command: string;
}

interface ServiceBed {
  readonly root: S3Store;
  setTable(rows: readonly Row[]): Promise<unknown>;
  publish(topic: string, payload: string | Uint8Array): Promise<void>;
  /** The name of a run of the row that succeeded, once its record is there. */
  ran(jobName: string): Promise<string>;
}

async function runOf(root: S3Store, jobName: string): Promise<string | undefined> {
  for await (const { key } of root.list(`runs/${jobName}-`)) {
    const record = await root.get(key);
    if (record === undefined || record === "unchanged") continue;
    const { run_name, status } = JSON.parse(new TextDecoder().decode(record.body));
    return status === "succeeded" ? run_name : undefined;
  }
}

async function tableReload(bed: Bed) {
  const row = { job_name: "before", mqtt_topic: "c/before", command: "true" };
  await withService(bed, { name: "table", row }, async ({ publish, ran, setTable }) => {
    await publish("c/before", "{}");
    await ran("before");
    // Its own end is the message that the new row is for: it is subscribed to before that.
    const after = { ...row, job_name: "after", mqtt_topic: `${PREFIX}/job_complete/before` };
    await setTable([row, after]);
    const repeat = setInterval(() => void publish("c/before", "{}"), 1_000);
    try {
      await ran("after");
    } finally {
      clearInterval(repeat);
    }
  });
}

async function wholeLog(bed: Bed) {
  const row = { job_name: "log", mqtt_topic: "c/log", command: `seq 1 ${LINES}` };
  await withService(bed, { name: "logs", row }, async ({ root, publish, ran }) => {
    await publish("c/log", "{}");
    const log = await textOf(root, `logs/${await ran("log")}.txt`);
    // What is said of the run stands before the first empty line.
    const output = log.slice(log.indexOf("\n\n") + 2);
    const lines = Array.from({ length: LINES }, (_, n) => `${n + 1}\n`);
    equal(sha256(output), sha256(lines.join("")));
  });
}

async function payloadLink(bed: Bed) {
  const script = 'curl -sSf "$MQTT_PAYLOAD_URL" | sha256sum';
  const row = { job_name: "link", mqtt_topic: "c/link", command: shell(script) };
  await withService(bed, { name: "payloads", row }, async ({ root, publish, ran }) => {
    const payload = Uint8Array.from({ length: 1_000_000 }, (_, at) => at * 7 + (at >> 8));
    await publish("c/link", payload);
    const log = await textOf(root, `logs/${await ran("link")}.txt`);
    ok(log.includes(sha256(payload)), "curl was given other bytes");
  });
}

async function textOf(store: S3Store, key: string): Promise<string> {
  return await new Response(await store.read(key) as ReadableStream<Uint8Array<ArrayBuffer>>).text();
}

function sha256(data: string | Uint8Array): string {
  return createHash("sha256").update(data).digest("hex");
}

/** Behind a TLS proxy whose certificate is a private authority's; names are known to a forward proxy alone. */
async function virtualHosts({ store, endpoint, dir }: Bed) {
  if (!store.hasVirtualHosts) return { answer: "not asked" } as const;
  const { ca, server } = await createAuthority(dir);
  const certificate = await server("store", [DNS_NAME, `*.${DNS_NAME}`]);
  await using tls = await HttpProxy.start({ target: endpoint, certificate });
  await using forward = await ConnectProxy.start({ target: tls.port });
  const options: S3ServerOptions = {
    endpoint: `https://${DNS_NAME}`,
    forcePathStyle: false,
    proxy: { https: forward.url },
    ca,
  };
  const virtual = new S3Store({ url: `s3://${BUCKET}/virtual ü`, ...options });
  await virtual.put("a+b c", "by name");
  await virtual.put("large", new Uint8Array(9_000_000));
  deepEqual((await Array.fromAsync(virtual.list(""))).map(({ key }) => key), ["a+b c", "large"]);
  deepEqual([...new Set(forward.asked)], [`${BUCKET}.${DNS_NAME}:443`]);
  const plain = await new S3Store({ url: `s3://${BUCKET}/virtual ü`, endpoint }).get("a+b c");
  equal(new TextDecoder().decode((plain as { body: Uint8Array }).body), "by name");
  match(await virtual.link("a+b c", { expiresSeconds: 60 }), new RegExp(`^https://${BUCKET}\\.${DNS_NAME}/`));
}

/** The SDK takes the server's clock from its refusal and signs anew. */
async function wrongClock({ endpoint, store: { hasVirtualHosts } }: Bed) {
  if (!hasVirtualHosts) return { answer: "not asked" } as const;
  const Real = globalThis.Date;
  const offMs = -20 * 60_000;
  class Late extends Real {
    constructor(...args: []) {
      // deno-lint-ignore no-explicit-any
      super(...(args.length === 0 ? [Real.now() + offMs] : args) as any as []);
    }
    static override now(): number {
      return Real.now() + offMs;
    }
  }
  globalThis.Date = Late as DateConstructor;
  try {
    const store = new S3Store({ url: `s3://${BUCKET}/clock`, endpoint });
    await store.put("a", "late");
    const found = await store.get("a");
    equal(new TextDecoder().decode((found as { body: Uint8Array }).body), "late");
  } finally {
    globalThis.Date = Real;
  }
}
