/**
 * Writes what the core tells into the log, one line an event, with the run's name on each that has one.
 */
import { getLogger } from "../util/log.ts";
import type { Emit, ServiceEvent } from "../ports.ts";

/** A listener that logs. */
export function eventLog(): Emit {
  const log = getLogger("service");
  const logJoin = ({ jobName: job, runName: run, outcome, missing, because }: ServiceEvent & { type: "join" }) => {
    if (outcome === "waiting") return log.info("Row {job} waits for {missing}", { job, missing: missing.join(", ") });
    if (outcome !== "filtered") return log.info("Row {job} has all that it needs: {outcome}", { job, run, outcome });
    log.info("Row {job} has all that it needs, and its condition is false, since {because}", { job, run, because });
  };
  const logMessage = ({ topic, outcome, rows, refusals = [] }: ServiceEvent & { type: "message" }) => {
    if (outcome !== "refused") return log.info("Message on {topic}: {outcome}", { topic, outcome, rows });
    const why = refusals.length > 0 ? { why: refusals.join("; ") } : {};
    log.warn("Message on {topic}: {outcome}", { topic, outcome, rows, ...why });
  };
  return (event: ServiceEvent) => {
    switch (event.type) {
      case "message":
        // Of the trial of a broker's order, too, the service gets messages of its own back.
        if (event.outcome === "ignored" || event.outcome === "duplicate" && event.rows === 0) {
          return log.debug("Ignored a message on {topic}: no row is for it", { topic: event.topic });
        }
        for (const { jobName: job, because } of event.filtered ?? []) {
          log.info("Message on {topic} does not start {job}: its condition is false, since {because}", {
            topic: event.topic,
            job,
            because,
          });
        }
        // What a message started is said by the lines of its runs; one line less for each is worth it in a burst.
        if (event.outcome === "runs" || event.outcome === "filtered") return;
        return logMessage(event);
      case "join":
        return logJoin(event);
      case "created":
        return log.info("Created run {run} for a message on {topic}", {
          run: event.run.runName,
          job: event.run.jobName,
          topic: event.run.topic,
        });
      case "started":
        return log.info("Run {run} started", { run: event.run.runName, node: event.run.nodes.join(",") });
      case "waiting":
        if (event.runName === "") {
          return log.warn("A message for job {job} waits: {reason}", { job: event.jobName, reason: event.reason });
        }
        return log.warn("Run {run} waits: {reason}", { run: event.runName, job: event.jobName, reason: event.reason });
      case "retrying": {
        const { run_name: run, message, retried_as: next, log_url: url } = event.record;
        const words = "Run {run} failed and is tried again as {next} at {at}: {message}";
        return log.warn(words, { run, next, at: event.at.toISOString(), message, log: url });
      }
      case "finished": {
        const { run_name: run, status, message, log_url: url, log_missing: missing } = event.record;
        if (missing !== undefined) log.warn("The log of run {run} is not whole: {missing}", { run, missing, log: url });
        const words = ["Run {run} {status}: {message}", { run, status, message, log: url }] as const;
        const { output_missing: noOutput, oom_killed: lackedMemory } = event.record;
        return status === "failed" || noOutput || lackedMemory ? log.warn(...words) : log.info(...words);
      }
      case "group": {
        const { group: run, jobName: job, state, total, succeeded } = event;
        const words = state === "started"
          ? "Group {run} of {job} has {total} items"
          : "Group {run} of {job} {state}: {succeeded} of {total} items have succeeded";
        return state === "failed"
          ? log.warn(words, { run, job, state, total, succeeded })
          : log.info(words, { run, job, state, total, succeeded });
      }
      case "table": {
        const { rows, errors, warnings } = event;
        return log.info("Table: {rows} rows, {errors} errors, {warnings} warnings", { rows, errors, warnings });
      }
      case "broker":
        if (event.connected) return log.info("Connected to the broker");
        return log[event.planned ? "info" : "warn"]("Broker: {reason}", { reason: event.reason });
      case "leader":
        return log.info("Leader is {holder}", { holder: event.holder, leading: event.leading });
      case "error": {
        const { message, run_name: run, ...rest } = event.report;
        return log[rest.reason === "TableWarning" ? "warn" : "error"]("{message}", {
          message,
          ...(run === undefined ? {} : { run }),
          ...rest,
        });
      }
    }
  };
}
