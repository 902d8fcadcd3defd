/**
 * The part of the long chaos run that is about logs: runs on a real node write much while service, store and API server
 * are killed at random. In the end each log is whole by its hash, or says in the log and in the end that it is not.
 */
import { chattyRow, expectedHash, kept } from "../bench/log_node.ts";
import { JobWatch } from "../harness/job_watch.ts";
import { startKit } from "../harness/kit.ts";
import { MqttEar, type ServiceProcess, startService } from "../harness/service.ts";
import { csv } from "../harness/table.ts";
import { eventually, pause } from "../harness/wait.ts";
import { makeOutages, randomFrom } from "./outages.ts";

const PREFIX = "services/mqtt_job_listener";
const EVERY_MS = [15_000, 40_000] as const;
const AWAY_MS = [500, 8_000] as const;
/** 16 MB in half a minute: more than the node keeps in one file. */
const LINES = 160_000;
const SECONDS = 30;
const BETWEEN_RUNS_MS = 15_000;

export interface ChattyOptions {
  readonly minutes: number;
  readonly seed: number;
  readonly onProgress?: (line: string) => void;
}

export interface ChattyResult {
  readonly runs: number;
  /** By hash. */
  readonly whole: number;
  /** Not whole, and their logs and ends say so. */
  readonly said: number;
  /** Whole, though they are said not to be known as that. */
  readonly doubted: number;
  /** Not whole without a word; with other bytes than the end says; without an end. */
  readonly wrong: readonly string[];
  readonly kills: ReadonlyMap<string, number>;
}

/** Needs `needs("mosquitto", "s3", "node")`. */
export async function runChatty({ minutes, seed, onProgress = () => {} }: ChattyOptions): Promise<ChattyResult> {
  await using parts = new AsyncDisposableStack();
  const kit = parts.use(await startKit({ broker: { persistence: "always", maxQueuedMessages: 0 } }));
  const { cluster, s3 } = kit;
  const env: Record<string, string> = { ...kit.env(), CATALOG_POLL: "1h" };
  await s3.put(env["CATALOG_URL"]!, csv([chattyRow(LINES, SECONDS)]));
  const ear = parts.use(await MqttEar.connect(kit.broker.url, [`${PREFIX}/job_complete/+`, `${PREFIX}/job_failed/+`]));
  const jobs = parts.use(await JobWatch.start(cluster.api));
  let service: ServiceProcess | undefined;
  const start = async () => void (service = await startService(env, { readyTimeoutMs: 300_000 }));
  await start();
  parts.defer(async () => await service?.[Symbol.asyncDispose]());
  const untilMs = performance.now() + minutes * 60_000;
  const outages = makeOutages({
    victims: [
      { name: "service", kill: async () => await service?.[Symbol.asyncDispose](), start },
      { name: "S3 server", kill: () => s3.kill9(), start: () => s3.start() },
      { name: "API server", kill: () => cluster.stopApiServer(), start: () => cluster.startApiServer() },
    ],
    random: randomFrom(seed),
    untilMs,
    everyMs: EVERY_MS,
    awayMs: AWAY_MS,
    onKill: (name, awayMs) => onProgress(`killing the ${name}, away for ${(awayMs / 1_000).toFixed(1)} s`),
  });
  let sent = 0;
  for (; performance.now() < untilMs; sent++) {
    await ear.publish("lab/chatty", String(sent));
    await pause(BETWEEN_RUNS_MS);
  }
  const kills = await outages;
  const ended = () => new Map(ear.json<End>(`${PREFIX}/#`).map((end) => [end.run_name, end]));
  await eventually(() => ended().size >= sent, {
    timeoutMs: 600_000,
    intervalMs: 500,
    what: () => `${sent} ends; there are ${ended().size}`,
  }).catch((error) => onProgress(String(error)));
  const folder = `${s3.dataDir}/${s3.buckets[0]}/${PREFIX}/logs`;
  const expected = expectedHash(LINES);
  const result = { whole: 0, said: 0, doubted: 0, wrong: [] as string[] };
  for (const { metadata } of jobs.created()) {
    const name = metadata!.name!;
    const end = ended().get(name);
    const log = await kept(`${folder}/${name}.txt`, expected, true).catch(() => undefined);
    if (!end || !log) result.wrong.push(`${name}: ${end ? "no log" : "no end"}`);
    else if (end.log_bytes !== log.bytes) result.wrong.push(`${name}: ${log.bytes} bytes, said ${end.log_bytes}`);
    else if (log.whole) result[end.log_complete ? "whole" : "doubted"]++;
    else if (!end.log_complete && log.notes.length > 0) result.said++;
    else result.wrong.push(`${name}: ${log.bytes} bytes of ${LINES * 100}, and not a word: ${JSON.stringify(end)}`);
  }
  return { runs: sent, ...result, kills };
}

interface End {
  readonly run_name: string;
  readonly log_complete: boolean;
  readonly log_bytes: number;
}

/** The result for people; its last line is `N passed, N failed`. */
export function renderChatty({ runs, whole, said, doubted, wrong, kills }: ChattyResult): string {
  return [
    `${runs} chatty runs: ${whole} logs whole, ${doubted} whole but doubted, ${said} not whole and said so, ` +
    `${wrong.length} wrong`,
    `killed: ${[...kills].map(([name, count]) => `${name} ${count} times`).join(", ")}`,
    ...wrong.map((one) => `wrong: ${one}`),
    `${whole + said + doubted} passed, ${
      wrong.length + Math.max(0, runs - whole - said - doubted - wrong.length)
    } failed`,
  ].join("\n");
}

/** Whether all is as promised. */
export function isGoodChatty({ runs, whole, said, doubted, wrong }: ChattyResult): boolean {
  return wrong.length === 0 && whole + said + doubted >= runs;
}
