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
import { Service } from "../service.ts";
import { openPage } from "../status.ts";
import { getLogger } from "../util/log.ts";
import { VERSION } from "../util/version.ts";
import { cannotListen } from "./failures.ts";

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
  const page = await openPage(service, { status, metrics, cluster, logs: options.stores.logs })
    .catch((cause) => Promise.reject(cannotListen(status.listen, cause)));
  if (page) log.info("Page and metrics at {url}", { url: page.url });
  return {
    service,
    broker: broker.url,
    cluster: cluster.url,
    async close({ drain }: { drain: boolean }) {
      await Promise.all([page?.close(), service.stop({ drain })]);
      await Promise.all([notices.close({ withinMs: 2_000 }), spans?.close({ withinMs: 2_000 })]);
    },
  };
}

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
