/**
 * Entry of the program: which command, and for `start` the wiring: configuration → adapters → core → signals.
 */
import { serviceOptions } from "./adapters.ts";
import { ConfigError, exportAwsEnv, loadConfig, processInput } from "./config.ts";
import { eventLog } from "./observers/event_log.ts";
import { getLogger, setupLog } from "./util/log.ts";
import { registerSecret } from "./util/redact.ts";
import { Metrics } from "./observers/metrics.ts";
import { Webhook } from "./observers/webhook.ts";
import { requireLocalPermissions, requirePermissions } from "./config/permissions.ts";
import { errorMessage } from "./util/retry.ts";
import { Service } from "./service.ts";
import { openPage } from "./status.ts";
import { VERSION } from "./util/version.ts";

/** Runs the service until a signal; resolves with the exit code. */
async function start(args: readonly string[]): Promise<number> {
  requirePermissions();
  // As the commands have it; what the service prints is its log.
  const config = loadConfig({
    ...processInput(),
    args: args.map((arg) => arg === "--json" ? "--log-format=json" : arg),
  });
  config.secrets.forEach(registerSecret);
  setupLog(config.log);
  if (config.cluster.kind === "local") requireLocalPermissions(config.cluster.localDir);
  const log = getLogger("main");
  config.warnings.forEach((warning) => log.warn(warning));
  exportAwsEnv(config);

  const warn = (reason: string, run?: string) => (run === undefined ? log : log.with({ run })).warn(reason);
  const options = await serviceOptions(config, { version: VERSION, onTrouble: warn });
  const { webhook, status } = config;
  const notices = webhook &&
    new Webhook({ ...webhook, ...(status.url ? { statusUrl: status.url } : {}), onTrouble: warn });
  const service = new Service({ ...options, listeners: [eventLog(), ...(notices ? [notices.emit] : [])] });
  const metrics = new Metrics({ version: VERSION, snapshot: () => service.snapshot() });
  service.subscribe(metrics.emit);
  const page = await openPage(service, { status, metrics, cluster: options.cluster, logs: options.stores.logs });
  if (page) log.info("Page and metrics at {url}", { url: page.url });

  const stopped = Promise.withResolvers<number>();
  let signals = 0;
  for (const signal of ["SIGTERM", "SIGINT"] as const) {
    Deno.addSignalListener(signal, () => {
      if (++signals > 1) Deno.exit(130); // the second one does not wait
      log.info("Stopping on {signal}; once more ends at once", { signal });
      stopped.resolve(0);
    });
  }
  service.failed.then((reason) => {
    log.error(reason);
    stopped.resolve(1);
  });
  service.start().then(
    () =>
      log.info("Ready: table {table}, broker {broker}, cluster {cluster}", {
        table: config.catalog.url,
        broker: options.broker.url,
        cluster: options.cluster.url,
      }),
    (error) => {
      if (signals > 0) return;
      log.error("Cannot start: {message}", { message: errorMessage(error) });
      stopped.resolve(1);
    },
  );

  const code = await stopped.promise;
  await Promise.all([page?.close(), service.stop({ drain: code === 0 })]);
  await notices?.close({ withinMs: 2_000 });
  log.info("Stopped");
  return code;
}

/** Runs the named command; resolves with the exit code. */
async function main(args: readonly string[]): Promise<number> {
  const [command = "start", ...rest] = args;
  try {
    const isStart = command === "start" || command.startsWith("--");
    if (isStart && !args.includes("--help")) return await start(command === "start" ? rest : args);
    const { runCommand } = await import("./cli.ts");
    return await runCommand(isStart ? "help" : command, rest);
  } catch (error) {
    if (!(error instanceof ConfigError || error instanceof Deno.errors.NotCapable)) throw error;
    console.error(error.message);
    return 2;
  }
}

if (import.meta.main) Deno.exit(await main(Deno.args));
