/**
 * The shape of each payload below the service's topic prefix, said once: docs/schema/ and the types of payloads.ts are
 * made from it. Nothing that runs needs it: 150 schemas of zod take 5 ms.
 */
import * as z from "zod";

const time = z.iso.datetime().describe("RFC 3339, UTC");
const jobName = z.string().describe("The row");
const runName = z.string().describe("The run");
const parentRun = z.string().nullable().describe(
  "The run whose end started this one; null: a message from outside did",
);
const reason = z.string().describe("One CamelCase word for programs; docs/troubleshoot.md#a-run-ended explains each");
const message = z.string().describe("One sentence for people");

const traceparent = z.string().optional().describe("Its trace context, as W3C has it; also a user property");

/** How a run ended: what `job_complete/…` and `job_failed/…` say of it. */
const end = {
  job_name: jobName,
  run_name: runName,
  parent_run: parentRun,
  root_run: z.string().describe("First run of the chain; the run itself if no run started it"),
  chain_depth: z.int().min(0).describe("Number of runs before it in the chain"),
  reason,
  message,
  exit_code: z.int().nullable().describe("Of the program that failed; 0 after success; null: there is none"),
  topic: z.string().describe("Topic of the message that started the run"),
  input: z.string().optional().describe("Payload that began the chain, where it is text of at most 8 KiB"),
  started_at: time.nullable().describe("When its program started; null: it did not"),
  finished_at: time,
  log_url: z.string().describe("Where its log is; empty for a run that had no Job"),
  log_complete: z.boolean().describe("The log holds all output, as far as can be known"),
  log_bytes: z.int().min(0).describe("Of output in the log"),
  log_missing: z.string().optional().describe("What is missing in the log, in a sentence"),
  root: z.string().describe("The same for all runs that one message from outside has set off"),
  attempt: z.int().min(1).optional().describe("Which attempt it was, where it was tried again"),
  first_run: z.string().optional().describe("Its first attempt, where this is a further one"),
  group: z.string().optional().describe("The group of which it was an item"),
  index: z.int().min(0).optional().describe("Position of the item in the group"),
  item: z.unknown().optional().describe("The item"),
  disruptions: z.int().min(1).optional().describe("Pods of it that the cluster took away, as far as was seen"),
  oom_killed: z.literal(true).optional().describe("The run succeeded, though a container of it ran out of memory"),
  last_line: z.string().optional().describe("Of a run that did not succeed: the last line that its program wrote"),
  rerun_of: z.string().optional().describe("The run that a person had run again"),
  batch: z.string().optional().describe("What a person started together"),
  traceparent,
  output: z.string().optional().describe("Where its result is, or was to be"),
  output_missing: z.literal(true).optional().describe("The run succeeded, and there is nothing at output"),
  result: z.unknown().optional().describe("JSON that the program wrote into RESULT_FILE; absent where it wrote none"),
};

export const jobComplete = z.object({ status: z.literal("succeeded"), ...end });
export const runFailed = z.object({ status: z.enum(["failed", "cancelled"]), ...end });
export const runRefused = z.object({ status: z.literal("failed"), job_name: jobName, reason, message })
  .describe("A run that never began");

/** How a group ended: what `group_complete/…` and `group_failed/…` say of it. */
const groupEnd = {
  job_name: jobName,
  group: z.string().describe("Its name: what the run of a row without for_each would have been called"),
  root: z.string().describe("The same for all runs that one message from outside has set off"),
  root_run: z.string().describe("First run of the chain; the group itself if no run started it"),
  parent_run: parentRun,
  chain_depth: z.int().min(0).describe("Number of runs and groups before it in the chain"),
  total: z.int().min(0).describe("Items"),
  succeeded: z.int().min(0).describe("Items that have succeeded"),
  failed: z.int().min(0).describe("Items that have not: failed, cancelled, or never begun"),
  message,
  topic: z.string().describe("Topic of the message that started the group"),
  input: z.string().optional().describe("Payload that began the chain, where it is text of at most 8 KiB"),
  traceparent,
  started_at: time.describe("When its message was received"),
  finished_at: time.describe("When its last item had ended"),
};
export const groupComplete = z.object({ status: z.literal("succeeded"), ...groupEnd });
export const groupFailed = z.object({ status: z.literal("failed"), ...groupEnd });

export const report = z.object({
  status: z.literal("error"),
  reason,
  message,
  job_name: jobName.optional(),
  run_name: runName.optional(),
  topic: z.string().optional(),
  line: z.int().min(1).optional().describe("Line of the table"),
  column: z.string().optional().describe("Column of the table"),
  value: z.string().optional().describe("The cell, cut after 120 characters"),
  at: time,
}).describe("What a person must mend, without a run that ended");

const problem = z.object({
  severity: z.enum(["error", "warning"]).describe("error: the row is left out"),
  line: z.int().min(1),
  column: z.string().optional(),
  value: z.string().optional().describe("The cell, cut after 120 characters"),
  message: z.string().describe("What is wrong and what would be right"),
  jobName: z.string().optional(),
});

const state = z.enum(["online", "offline"]).describe("The payload is the bare word, not JSON. Retained; last will");

const info = z.object({
  topic_prefix: z.string(),
  version: z.string().optional(),
  replica: z.string().optional().describe("Which of several replicas leads"),
  instance: z.string().optional().describe("A random word of the process"),
  started_at: time.optional().describe("When the process started"),
  cluster: z.string().optional().describe("API server and namespace, or the folder of the local runner"),
  config: z.record(z.string(), z.union([z.string(), z.number(), z.boolean()])).optional()
    .describe("Settings in force, without secrets"),
  demo: z.boolean().optional(),
});

export const table = z.object({
  rows: z.int().min(0).describe("Good rows"),
  shown: z.array(z.object({
    job_name: jobName,
    mqtt_topic: z.string().describe("Empty: no message starts the row"),
    image: z.string(),
    needs: z.array(z.string()).optional().describe("Rows that must have succeeded for the same message"),
  })).max(1_000)
    .describe("The first of them"),
  problems: z.array(problem).max(100).describe("The first of them"),
});

export const runBegun = z.object({
  event: z.enum(["created", "started"]),
  job_name: jobName,
  run_name: runName,
  parent_run: parentRun,
  at: time,
});
export const runEnded = z.object({
  event: z.enum(["succeeded", "failed"]),
  status: z.enum(["succeeded", "failed", "cancelled"]),
  reason,
  message,
  job_name: jobName,
  run_name: runName,
  at: time,
});

export const runRetried = z.object({
  event: z.literal("retrying"),
  reason,
  message,
  job_name: jobName,
  run_name: runName,
  next_run: z.string().describe("The next attempt"),
  next_at: time.describe("When it begins"),
  at: time,
}).describe("An attempt that failed and is followed by another one; nothing else says that it has ended");

const transaction = z.unknown().describe("Any JSON value of the caller's; the answer has it again");
const bare = z.object({ transaction: transaction.optional() }).describe("The payload may be empty instead");
const requestedBy = z.string().min(1).max(200).optional().describe(
  "Who asks, for the record and the page; without control characters; absent: an MQTT request",
);
const ofRun = z.object({
  run_name: runName.min(1),
  requested_by: requestedBy,
  transaction: transaction.optional(),
});
const ofRow = z.object({
  job_name: jobName.min(1),
  payload: z.unknown().optional().describe("Text goes to the run as it is; any other JSON value as JSON text"),
  key: z.string().min(1).max(1024).optional().describe("The same key starts the row once; the answer names its run"),
  requested_by: requestedBy,
  transaction: transaction.optional(),
});

const batchName = z.string().regex(/^[A-Za-z0-9][\w.-]{0,62}$/);
const dryRun = z.boolean().optional().describe("true: say what would be started, and start nothing");
const places = z.array(z.int().min(1));
const sheetOfRow = z.object({
  job_name: jobName.min(1),
  sheet: z.string().describe(
    "CSV; its header names fields of the payload, each line is one run; empty cells are left out",
  ),
  batch: batchName.optional().describe("Lines that another batch has started are started again; absent: they are not"),
  dry_run: dryRun,
  sheet_id: batchName.optional().describe("Of a piece of a larger sheet: what the whole is called"),
  lines: places.optional().describe("Of a piece: the line of each of its lines in the whole"),
  copies: places.optional().describe("Of a piece: which of equal lines in the whole each of its lines is"),
  requested_by: requestedBy,
  transaction: transaction.optional(),
});
const replayOfRow = z.object({
  job_name: jobName.min(1),
  state: z.enum(["succeeded", "failed", "cancelled"]).optional().describe("How the runs ended; failed unless given"),
  since: z.string().min(1).describe("How long ago they ended at most (2h, 3d), or an RFC 3339 time"),
  reason: z.string().optional().describe("Why they ended; absent: whatever the reason"),
  batch: batchName.optional().describe(
    "A name of its own for this replay; absent: the same selection is the same batch",
  ),
  dry_run: dryRun,
  requested_by: requestedBy,
  transaction: transaction.optional(),
});

export const refused = z.object({
  status: z.literal("error"),
  error: z.string().describe("One sentence for people"),
  transaction,
});

function answered(data: z.ZodType) {
  return z.union([z.object({ status: z.literal("ok"), data, transaction }), refused]);
}

const started = answered(z.object({ run_name: runName }));
const checked = z.object({
  rows: z.int().min(0),
  problems: z.array(problem.extend({ text: z.string().describe("The problem as one sentence") })),
});
const refreshed = z.object({
  status: z.enum(["loaded", "unchanged", "failed"]),
  rows: z.int().min(0),
  errors: z.int().min(0),
  warnings: z.int().min(0),
  message: z.string().optional().describe("Why it failed"),
});

/** What became of a batch's entries when the answer was sent. */
const batchCounts = {
  batch: z.string().describe("What the runs have in common; in their records too"),
  total: z.int().min(0).describe("Runs that the request is for"),
  started: z.int().min(0),
  exists: z.int().min(0).describe("Have a run already: by the same request before"),
  refused: z.int().min(0),
  waiting: z.int().min(0).describe(
    "Have not had their turn; the same request again starts what a crash leaves of them",
  ),
  run_names: z.array(z.string()).max(20).describe("The first runs"),
  refusals: z.array(z.object({ entry: z.string(), message: z.string() })).max(20).describe("The first refusals"),
};
const sheetStarted = z.object({
  ...batchCounts,
  errors: z.int().min(0).describe("Lines that are wrong and were left out"),
  problems: z.array(problem.extend({ text: z.string().describe("The problem as one sentence") })).max(50),
});
const replayed = z.object({
  ...batchCounts,
  superseded: z.int().min(0).describe("Runs that fit and were run again since"),
  more: z.boolean().describe("There are older ones, too many for one request"),
  runs: z.array(z.object({ run_name: z.string(), finished_at: z.string(), reason, message })).max(20)
    .describe("The first runs that are run again, newest first"),
});

/** Each payload by its name, with its topic below the prefix. */
export const PAYLOADS = {
  "state": { topic: "state", shape: state },
  "info": { topic: "info", shape: info },
  "table": { topic: "table", shape: table },
  "job_complete": { topic: "job_complete/{job_name}", shape: jobComplete },
  "job_failed": { topic: "job_failed/{job_name}", shape: z.union([runFailed, runRefused]) },
  "group_complete": { topic: "group_complete/{job_name}", shape: groupComplete },
  "group_failed": { topic: "group_failed/{job_name}", shape: groupFailed },
  "error": { topic: "ERROR", shape: z.union([runFailed, report]) },
  "run": { topic: "run/{job_name}/{run}", shape: z.union([runBegun, runEnded, runRetried]) },
  "request.refresh": { topic: "request/refresh", shape: bare },
  "request.check": { topic: "request/check", shape: bare },
  "request.run": { topic: "request/run", shape: ofRow },
  "request.cancel": { topic: "request/cancel", shape: ofRun },
  "request.rerun": { topic: "request/rerun", shape: ofRun },
  "request.each": { topic: "request/each", shape: sheetOfRow },
  "request.replay": { topic: "request/replay", shape: replayOfRow },
  "response.refresh": { topic: "response/refresh", shape: answered(refreshed) },
  "response.check": { topic: "response/check", shape: answered(checked) },
  "response.run": { topic: "response/run", shape: started },
  "response.cancel": { topic: "response/cancel", shape: started },
  "response.rerun": { topic: "response/rerun", shape: started },
  "response.each": { topic: "response/each", shape: answered(sheetStarted) },
  "response.replay": { topic: "response/replay", shape: answered(replayed) },
} as const;

/** A JSON Schema (draft 2020-12) for each payload, by its file's name in docs/schema without `.schema.json`. */
export function payloadSchemas(): Record<string, unknown> {
  return Object.fromEntries(
    Object.entries(PAYLOADS).map(([name, { topic, shape }]) => {
      // By `input`, which lets a reader's schema live with fields that a later version adds.
      const { $schema, ...schema } = z.toJSONSchema(shape, { io: "input" });
      return [name, { $schema, title: `Payload of {TOPIC_PREFIX}/${topic}`, ...schema }];
    }),
  );
}
