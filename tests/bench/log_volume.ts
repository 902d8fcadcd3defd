/**
 * Memory of a process that keeps one large log: `deno run -A tests/bench/log_volume.ts [--gigabytes=5]`. The real log
 * collector and S3 adapter run in a process of their own against a real S3 server; this process serves the output as an
 * API server would, samples that one's memory, and compares what is in the store with what it sent, by hash.
 */
import { createHash } from "node:crypto";
import { LogCollector } from "../../logs.ts";
import type { Cluster, PodFacts } from "../../ports.ts";
import type { LiveRun } from "../../runs.ts";
import { S3Store } from "../../s3.ts";
import { numberFlag } from "../harness/flags.ts";
import { run } from "../harness/process.ts";
import { startS3 } from "../harness/s3.ts";
import { MALLOC, V8_FLAGS } from "../harness/service.ts";
import { pause } from "../harness/wait.ts";
import { median, rounded, rssMb } from "./measure.ts";

const RUN = "volume-abcdefgh2345";
const HEAD = "head\n\n";
const LINES_A_CHUNK = 256;
const PAD = "x".repeat(110);

/** Resident memory in MB. */
export interface LogVolumeResult {
  readonly gigabytes: number;
  readonly seconds: number;
  /** In the order of time, ten a second, from the first byte until the whole log is put together. */
  readonly rssMb: readonly number[];
  /** The log in the store is what was sent, byte for byte. */
  readonly whole: boolean;
}

/** Sends so much output (10^9 bytes each) and waits until the whole log is in the store. Needs three times the space. */
export async function measureLogVolume(gigabytes: number): Promise<LogVolumeResult> {
  await using s3 = await startS3();
  const sent = { bytes: 0, hash: createHash("sha256").update(HEAD) };
  await using server = Deno.serve(
    { hostname: "127.0.0.1", port: 0, onListen() {} },
    () => new Response(ReadableStream.from(output(gigabytes * 1e9, sent))),
  );
  const program = new URL(import.meta.url).pathname;
  // What Deno looks through first is not to count, as of the bundle in the image.
  await run(Deno.execPath(), ["cache", "--quiet", program]);
  const begunMs = performance.now();
  const child = new Deno.Command(Deno.execPath(), {
    args: [
      "run",
      "-A",
      V8_FLAGS,
      program,
      "--keep",
      `http://127.0.0.1:${server.addr.port}/`,
      s3.url,
    ],
    env: { ...MALLOC, AWS_ACCESS_KEY_ID: s3.accessKey, AWS_SECRET_ACCESS_KEY: s3.secretKey },
  }).spawn();
  let status: Deno.CommandStatus | undefined;
  child.status.then((ended) => status = ended);
  const taken: number[] = [];
  while (status === undefined) {
    await pause(100);
    if (sent.bytes > 0) taken.push(rssMb(child.pid));
  }
  if (!status.success) throw new Error(`The process that keeps the log ended with exit code ${status.code}`);
  const seconds = Math.round((performance.now() - begunMs) / 1_000);
  const kept = createHash("sha256");
  using file = await Deno.open(`${s3.dataDir}/${s3.buckets[0]}/logs/${RUN}.txt`);
  for await (const chunk of file.readable) kept.update(chunk);
  const whole = kept.digest("hex") === sent.hash.digest("hex");
  return { gigabytes, seconds, rssMb: taken.filter((mb) => !Number.isNaN(mb)), whole };
}

/** Lines with their times, as the API server sends them; counts and hashes what stands behind the times. */
async function* output(
  bytes: number,
  sent: { bytes: number; hash: ReturnType<typeof createHash> },
): AsyncGenerator<Uint8Array> {
  const encoder = new TextEncoder();
  for (let n = 0; sent.bytes < bytes;) {
    const lines = Array.from({ length: LINES_A_CHUNK }, () => `${String(++n).padStart(12, "0")} ${PAD}\n`);
    const time = new Date(Date.UTC(2026, 0, 1) + n / LINES_A_CHUNK).toISOString();
    const text = lines.join("");
    sent.hash.update(text);
    sent.bytes += text.length;
    yield encoder.encode(lines.map((line) => `${time} ${line}`).join(""));
    if (n % (LINES_A_CHUNK * 16) === 0) await pause(0);
  }
}

/** The process that is measured: follows one container and keeps its log. */
async function keep(source: string, endpoint: string): Promise<void> {
  const cluster = {
    logs: async () => (await fetch(source)).body ?? undefined,
  } as Partial<Cluster> as Cluster;
  const store = new S3Store({ url: "s3://braingeneers/logs", endpoint, region: "us-east-1", forcePathStyle: true });
  const { signal } = new AbortController();
  const settings = { followers: 200, memoryBytes: 64 * 1024 * 1024, maxBytes: Infinity };
  const logs = new LogCollector({ cluster, store, settings, signal });
  const live = {
    job: { runName: RUN, createdAt: new Date() },
    pods: new Map(),
    adopted: false,
    state: "running",
    detail: "",
  } as unknown as LiveRun;
  const now = new Date();
  const pod = (state: "running" | "terminated"): PodFacts => ({
    podName: `${RUN}-x`,
    runName: RUN,
    phase: "Running",
    createdAt: now,
    containers: [{ name: "main", state, restartCount: 0, ...(state === "terminated" ? { exitCode: 0 } : {}) }],
  });
  // Idle for a moment, so that it can be measured.
  await pause(1_000);
  logs.observe(live, pod("running"));
  await pause(1_000);
  // The rest is the same as for a container that ends while its last lines are still being read.
  logs.observe(live, pod("terminated"));
  await logs.finish(live, () => Promise.resolve(HEAD));
  await logs.forget(live);
}

if (import.meta.main) {
  const [mode, source, endpoint] = Deno.args;
  if (mode === "--keep") {
    await keep(source!, endpoint!);
    Deno.exit(0);
  }
  const { rssMb: taken, ...result } = await measureLogVolume(numberFlag("gigabytes", 5));
  const peakMb = Math.max(...taken);
  // As a share of the time: following is about the first half, putting together the rest.
  const peakAt = rounded(taken.indexOf(peakMb) / taken.length);
  console.log(JSON.stringify({ ...result, medianMb: median(taken), peakMb, peakAt }));
  Deno.exit(result.whole ? 0 : 1);
}
