/**
 * The wiring of the service: adapters → core → what observes it (log, metrics, webhook, page), as the configuration says.
 */
import { rowNamed } from "../catalog.ts";
import { serviceOptions } from "../adapters.ts";
import type { Config } from "../config.ts";
import { eventLog } from "../observers/event_log.ts";
import { Metrics } from "../observers/metrics.ts";
import { Notices } from "../observers/notices.ts";
import { Webhook } from "../observers/webhook.ts";
import { pruneDaily, Retention } from "../history.ts";
import { Service, type ServiceOptions } from "../service.ts";
import { openPage } from "../status.ts";
import { compact } from "../util/compact.ts";
import { getLogger } from "../util/log.ts";
import { VERSION } from "../util/version.ts";
import { cannotListen } from "./failures.ts";
import { observeWhenConnected } from "./observe.ts";

/** Hears of what could not be told, in a sentence. */
type Trouble = (reason: string, runName?: string) => void;

/** The service with all that observes it, not started yet. */
export async function putTogether(config: Config) {
  const log = getLogger("main");
  const warn = (reason: string, run?: string) =>
    (run === undefined ? log : log.with({ run })).warn("{reason}", { reason });
  const options = await serviceOptions(config, { version: VERSION, onTrouble: warn });
  const { status } = config;
  const notices = noticesOf(config, {
    onTrouble: warn,
    channelsOf: (jobName) => rowNamed(service.catalog.table?.rows, jobName)?.notify ?? [],
  });
  const service: Service = new Service({ ...options, listeners: [eventLog(), notices.emit] });
  const metrics = new Metrics({ version: VERSION, snapshot: () => service.snapshot() });
  service.subscribe(metrics.emit);
  const spans = config.traces && await openTraces(config.traces, warn);
  if (spans) service.subscribe(spans.emit);
  const { cluster, broker } = options;
  const page = await openPage(service, { status, metrics, cluster, logs: options.stores.logs, data: config.data })
    .catch((cause) => Promise.reject(cannotListen(status.listen, cause)));
  if (page) log.info("Page and metrics at {url}", { url: page.url });
  const closing = new AbortController();
  observeWhenConnected(service, config, { onTrouble: warn, signal: closing.signal });
  keepAges(config, service, options, closing.signal);
  return {
    service,
    broker: broker.url,
    cluster: cluster.url,
    async close({ drain }: { drain: boolean }) {
      closing.abort(new DOMException("The service stops", "AbortError"));
      await Promise.all([page?.close(), service.stop({ drain })]);
      await Promise.all([notices.close({ withinMs: 2_000 }), spans?.close({ withinMs: 2_000 })]);
    },
  };
}

/** Ages by the settings. */
export function retentionOptions({ keep, topicPrefix, startingDeadlineMs }: Config) {
  return { ...compact({ keepRunsMs: keep.runsMs, keepLogsMs: keep.logsMs }), topicPrefix, startingDeadlineMs };
}

/** Deletes by age while the service runs; nothing where nothing is asked for. */
function keepAges(
  config: Config,
  service: Service,
  { stores }: Pick<ServiceOptions, "stores">,
  signal: AbortSignal,
): void {
  if (config.keep.runsMs === undefined && config.keep.logsMs === undefined) return;
  const { records, history } = service;
  const log = getLogger("retention");
  const retention = new Retention({
    ...retentionOptions(config),
    records,
    store: stores.runs,
    logs: stores.logs,
    async runsOfRoot(root) {
      const runs = await history.find({ root, limit: MOST_OF_ROOT });
      // One that is not known may be there.
      return history.reach().kind === "all" && runs.length < MOST_OF_ROOT ? runs : undefined;
    },
    signal,
  });
  pruneDaily(retention, {
    isQuiet() {
      const { leading, brokerConnected, waitingMessages } = service.snapshot();
      return leading && brokerConnected && waitingMessages === 0 && history.reach().kind !== "partly";
    },
    async onPruned({ runs, logs, kept, names }) {
      await history.forget(names);
      const stay = [...kept].map(([guard, count]) => `${count} ${guard}`).join(", ") || "none";
      log.info("Deleted {runs} records and {logs} logs by age; records that stay: {stay}", { runs, logs, stay });
    },
    onTrouble: (reason) => log.warn("{reason}", { reason }),
    signal,
  }).catch(() => {/* The service stops. */});
}

/** Ended runs of one message that are looked at. */
const MOST_OF_ROOT = 5_000;

/** Traces, sent where the settings say; not loaded where they say nothing. */
async function openTraces({ url, headers, serviceName }: NonNullable<Config["traces"]>, onTrouble: Trouble) {
  const [{ SpanExporter }, { Traces }] = await Promise.all([
    import("../observers/otlp.ts"),
    import("../observers/traces.ts"),
  ]);
  const resource = { "service.name": serviceName, "service.version": VERSION };
  const exporter = new SpanExporter({ url, headers, resource, onTrouble });
  const { emit } = new Traces((span) => exporter.add(span));
  return { emit, close: (options: { withinMs: number }) => exporter.close(options) };
}

/** The webhooks that hear of ended runs. */
function noticesOf(
  { webhook, channels, status }: Config,
  { onTrouble, channelsOf }: {
    onTrouble: Trouble;
    channelsOf: (jobName: string) => readonly string[];
  },
): Notices {
  const more = { onTrouble, ...(status.url ? { statusUrl: status.url } : {}) };
  return new Notices({
    preset: webhook && new Webhook({ ...webhook, ...more }),
    channels: new Map(
      [...channels].map(([name, url]) => [name, new Webhook({ url, name, on: "failed", ...more })]),
    ),
    channelsOf,
  });
}
