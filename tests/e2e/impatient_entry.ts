/**
 * The service with a short patience for nodes that do not answer, for a test that cannot wait five minutes. All else is
 * the service as it is.
 */
import { serviceOptions } from "../../adapters.ts";
import { exportAwsEnv, loadConfig, processInput } from "../../config.ts";
import { getLogger, setupLog } from "../../util/log.ts";
import { Service } from "../../service.ts";

const NODE_LOST_MS = 3_000;

if (import.meta.main) {
  const config = loadConfig({ ...processInput(), args: [] });
  setupLog(config.log);
  exportAwsEnv(config);
  const log = getLogger("main");
  const options = await serviceOptions(config, { version: "0.0.0", onTrouble: (reason) => log.warn(reason) });
  const { settings } = options;
  const gracePeriods = { ...settings.gracePeriods, nodeLostMs: NODE_LOST_MS };
  await new Service({ ...options, settings: { ...settings, gracePeriods } }).start();
  log.info("Ready: table {table}", { table: config.catalog.url });
}
