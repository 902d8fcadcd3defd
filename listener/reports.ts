/**
 * What is reported of messages that start nothing, in sentences for people. Pure.
 */
import { CellError, type ErrorReport, type RefusedError, type Row } from "../ports.ts";
import type { Origin } from "./origin.ts";
import { compact } from "../util/compact.ts";

/** Of a row that a chain of more than `maxChainDepth` runs would start. */
export function chainTooDeep(topic: string, row: Row, origin: Origin, maxChainDepth: number): ErrorReport {
  return {
    reason: "ChainTooDeep",
    message: `Job "${row.jobName}" was not started: its chain is ${origin.chainDepth} runs deep and at most ` +
      `${maxChainDepth} are allowed (MAX_CHAIN_DEPTH); look for rows that start each other in a circle`,
    job_name: row.jobName,
    topic,
    line: row.line,
    ...compact({ run_name: origin.parentRun }),
  };
}

/** Of an end that this service cannot have told. */
export function endNotBelieved(topic: string, runName: string): ErrorReport {
  return {
    reason: "EndNotBelieved",
    message: `A message on "${topic}" says that run "${runName}" has ended, which is another row's or has not: ` +
      `it starts nothing. Look for who publishes on that topic`,
    topic,
    run_name: runName,
  };
}

/** Of a row whose run the cluster refuses for good, or whose items the message does not have. */
export function refused(topic: string, row: Row, error: RefusedError): ErrorReport {
  const { column, value } = error instanceof CellError ? error : {};
  return {
    reason: error instanceof CellError ? "ItemsRefused" : "Refused",
    message: `No run for job "${row.jobName}": ${error.message}`,
    job_name: row.jobName,
    topic,
    line: row.line,
    ...compact({ column, value }),
  };
}
