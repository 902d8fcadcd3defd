/**
 * Entry of the program: which command, and for `start`: configuration → log → service (cli/start.ts) → signals.
 * What only the service needs is imported when it starts, for `health` runs every few seconds.
 */
import { cannotStart, tellCrashes } from "./cli/failures.ts";
import { type ConfigInput, exportAwsEnv, loadConfig, processInput } from "./config.ts";
import { requireLocalPermissions, requirePermissions } from "./config/permissions.ts";
import { errorMessage } from "./util/errors.ts";
import { getLogger, setupLog } from "./util/log.ts";

/** Runs the service until a signal; resolves with the exit code, rejects where it cannot be put together. */
async function start(args: readonly string[]): Promise<number> {
  requirePermissions();
  // As the commands have it; what the service prints is its log.
  const settings = args.filter((arg) => arg !== "--no-color").map((arg) =>
    arg === "--json" ? "--log-format=json" : arg
  );
  const config = loadConfig({ ...processInput(), args: settings });
  setupLog(config.log);
  if (config.cluster.kind === "local") requireLocalPermissions(config.cluster.localDir);
  const log = getLogger("main");
  if (config.cluster.kind === "local") {
    log.info("Rows' commands run on this machine, images are not pulled: a wrong image shows on a cluster alone");
  }
  config.warnings.forEach((warning) => log.warn("{warning}", { warning }));
  exportAwsEnv(config);

  const { putTogether } = await import("./cli/start.ts");
  const { service, broker, cluster, close } = await putTogether(config);
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
    log.error("{reason}", { reason });
    stopped.resolve(1);
  });
  service.start().then(
    () =>
      log.info("Ready: table {table}, broker {broker}, cluster {cluster}", {
        table: config.catalog.url,
        broker,
        cluster,
      }),
    (error) => {
      if (signals > 0) return;
      log.error("Cannot start: {message}", { message: errorMessage(error) });
      stopped.resolve(1);
    },
  );

  const code = await stopped.promise;
  await close({ drain: code === 0 });
  log.info("Stopped");
  return code;
}

/** Runs the named command; resolves with the exit code. */
async function main(args: readonly string[]): Promise<number> {
  tellCrashes();
  const { askedFor, asksFor, hasSettings, runCommand } = await import("./cli.ts");
  const { name, rest } = askedFor(args);
  if (asksFor(args) === undefined && (name ?? (startsAlone(args, hasSettings) ? "start" : "")) === "start") {
    return await start(rest).catch(cannotStart);
  }
  const [first = "", ...others] = args;
  return await runCommand(first, others);
}

/**
 * Without a command the service starts, as images and units of old have it: with settings as flags, or with some in the
 * environment and nobody at a terminal.
 */
function startsAlone(
  args: readonly string[],
  hasSettings: (env: ConfigInput["env"]) => boolean,
): boolean {
  if (args.some((arg) => arg !== "--json" && arg !== "--no-color")) return true;
  if (Deno.stdin.isTerminal() && Deno.stdout.isTerminal()) return false;
  try {
    return hasSettings(processInput().env);
  } catch {
    return true; // Without --allow-env, which `start` says.
  }
}

if (import.meta.main) Deno.exit(await main(Deno.args));
