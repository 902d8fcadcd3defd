/**
 * The command prune: what the service will delete by age, and what stays. Deletes nothing itself: only the service knows
 * whether a message waits that may ask for a record.
 */
import type { Config } from "../config.ts";
import type { Guard } from "../history.ts";
import { type Call, CommandError, counted, printLine } from "./context.ts";

/** Why records stay, as a clause that follows "which". */
const WHY: Readonly<Record<Guard, string>> = {
  open: "belong to what has not ended",
  delivery: "are of messages that the broker may send again",
  key: "may be of an idempotency key, which makes a message that comes again no second run",
  batch: "are of a sheet or a replay, which start nothing twice",
  child: "follow a run or group that is known still",
  rerun: "say that a run, which is known still, was run again",
  join: "are of rows with needs, of which something is known still",
  due: "are of due times that may be made good yet",
  unreadable: "cannot be read",
};

/** Says what would go by the settings. */
export async function prune({ json, io, ...call }: Call): Promise<number> {
  if (call.flag("dry-run") !== true) {
    throw new CommandError(2, "The service deletes by itself, once a day; see with --dry-run what it will delete");
  }
  const config = call.config();
  const { runsMs, logsMs } = config.keep;
  if (runsMs === undefined && logsMs === undefined) {
    throw new CommandError(2, "Nothing is deleted by age: set KEEP_RUNS or KEEP_LOGS, such as --keep-logs 90d");
  }
  const retention = await openRetention(config);
  const { runs, logs, kept } = await retention.prune({ dryRun: true });
  if (json) {
    await printLine(io, JSON.stringify({ runs, logs, kept: Object.fromEntries(kept) }));
    return 0;
  }
  const { durationWords } = await import("../util/duration.ts");
  if (runsMs !== undefined) {
    await printLine(
      io,
      `${counted(runs, "record")} of runs that ended more than ${durationWords(runsMs)} ago would go`,
    );
    for (const [guard, count] of kept) {
      // Which runs a join needed is known to the service, which has the index.
      const most = guard === "join" ? "at most " : "";
      await printLine(io, `  ${most}${counted(count, "record")} stay which ${WHY[guard]}`);
    }
  }
  if (logsMs !== undefined) {
    await printLine(io, `${counted(logs, "log")} that are older than ${durationWords(logsMs)} would go`);
  }
  return 0;
}

async function openRetention(config: Config) {
  const [{ openStore }, { Retention }, { RunRecords }] = await Promise.all([
    import("../adapters.ts"),
    import("../history.ts"),
    import("../records.ts"),
  ]);
  const { retentionOptions } = await import("./start.ts");
  const [store, logs] = await Promise.all([
    openStore(config.runs.url, config.s3),
    openStore(config.logs.url, config.s3),
  ]);
  const records = new RunRecords(store);
  return new Retention({ ...retentionOptions(config), records, store, logs, signal: new AbortController().signal });
}
