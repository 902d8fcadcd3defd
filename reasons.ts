/**
 * Every word that `reason` may be by our own choice, each with what it means and what to do. Pure. A new reason is a
 * line here: without one it does not compile. The tables of docs/troubleshoot.md are made of it.
 */

/** Markdown, for docs/troubleshoot.md. */
export interface Explanation {
  readonly meaning: string;
  readonly whatToDo: string;
}

/** Why a run ended, in `job_complete`, `job_failed`, `ERROR`, records and notices. */
export const RUN_REASONS = {
  Completed: {
    meaning: "Ended without error.",
    whatToDo: "Nothing.",
  },
  ExitCode: {
    meaning: "The program ended with another code than 0.",
    whatToDo: "Read the log. 126: not executable. 127: command not found. 137: killed. 143: asked to stop.",
  },
  OOMKilled: {
    meaning: "Out of memory.",
    whatToDo: "Raise `memory_limit`, or use less. Without a limit: set `memory_request` to what the job needs.",
  },
  Evicted: {
    meaning: "The node threw it out, mostly for using too much disk.",
    whatToDo: "Raise `disk_limit`, write less, or set `disk_request`.",
  },
  DeadlineExceeded: {
    meaning: "Ran longer than `active_deadline_seconds`.",
    whatToDo: "Raise it, or find out why it hangs.",
  },
  ImagePull: {
    meaning: "The image cannot be had: no such name or tag, not public, no such registry.",
    whatToDo: "Check the `image` column. The message says which of them.",
  },
  ImageRateLimit: {
    meaning: "The registry allows no more pulls for now, and did not for 30 times `IMAGE_PULL_GRACE`.",
    whatToDo: "Wait and run it again; use a mirror or an account.",
  },
  CannotStart: {
    meaning: "The container or its command cannot be started.",
    whatToDo: "Check `command`: is the program in the image?",
  },
  Unschedulable: {
    meaning: "No node could take it for `UNSCHEDULABLE_GRACE`.",
    whatToDo: "The message says what is short. Ask for less, or for a GPU model that exists.",
  },
  PodRefused: {
    meaning: "The cluster refuses its pod: a rule of the namespace, or a class or an account that is not there.",
    whatToDo: "Read the message; check the column that it names, or ask who runs the cluster.",
  },
  PodDeleted: {
    meaning: "Its pod was deleted before it had ended.",
    whatToDo: "Run it again.",
  },
  NodeLost: {
    meaning: "Its node does not answer any more.",
    whatToDo: "Run it again.",
  },
  Deleted: {
    meaning: "Someone deleted its Job (status `cancelled`).",
    whatToDo: "Run it again if that was a mistake.",
  },
  Cancelled: {
    meaning: "Cancelled by request, page or command (status `cancelled`).",
    whatToDo: "Nothing.",
  },
  Skipped: {
    meaning:
      "Nothing had to run: its `output` is there already (`skip_existing`, status `succeeded`); or no slot was free " +
      "and the row lets nothing wait (`when_busy: forbid`, status `cancelled`, told by no message).",
    whatToDo: 'Nothing. To make the output anew: run it again, or send `"overwrite": true` in the payload.',
  },
  Superseded: {
    meaning: "It waited for a slot, and a newer message took its place (`when_busy`: `latest` or `replace`; status " +
      "`cancelled`, told by no message).",
    whatToDo: "Nothing. If each message must run: `when_busy: wait`.",
  },
  Replaced: {
    meaning: "It was stopped for a newer message (`when_busy: replace`; status `cancelled`, told by no message).",
    whatToDo: "Nothing. If each message must run: `when_busy: wait`.",
  },
  Vanished: {
    meaning: "Its Job was gone when the service came back; how it ended is not known.",
    whatToDo: "Look at what it made. Stop the service for less than `JOB_TTL`.",
  },
  Failed: {
    meaning: "The Job failed and the cluster does not say why.",
    whatToDo: "Read the log.",
  },
  Refused: {
    meaning: "The run never began: cluster or runner refuse the Job for good.",
    whatToDo: "The message has their words. Wrong quantity, no right to create (see [role.yaml](../deploy/role.yaml)).",
  },
} as const satisfies Record<string, Explanation>;

/** What `ERROR` says without a run that ended. */
export const REPORT_REASONS = {
  TableRow: {
    meaning: "A row has an error and is left out. `line`, `column`, `value` say where.",
    whatToDo: "Correct the cell as the message says. See [table.md](table.md).",
  },
  TableWarning: {
    meaning:
      "A row of the table may not do what is meant, such as one for the end of a row that there is not. It is used.",
    whatToDo: "Look at the cell; `check` says the same before you upload.",
  },
  SpoolUnusable: {
    meaning: "`SPOOL_DIR` cannot be written to or is full; output waits for the store in memory only.",
    whatToDo: "The message names the folder. With a slow store and much output, logs may get gaps, and say so.",
  },
  TableUnusable: {
    meaning: "The file as a whole cannot be used; the last good table stays.",
    whatToDo: "The message says why: empty, not UTF-8, a required column missing, an open quote, cut off.",
  },
  TableUnreachable: {
    meaning: "The table cannot be read; the last good one stays.",
    whatToDo: "Check `CATALOG_URL`, `AWS_ENDPOINT_URL` and the credentials.",
  },
  ChainTooDeep: {
    meaning: "More than `MAX_CHAIN_DEPTH` runs in a row started each other.",
    whatToDo: "Look for rows in a circle (`check`, the page's graph).",
  },
  InputMissing: {
    meaning: "A message lacks a field that its row needs (`inputs`); the row is not started.",
    whatToDo: "Send the fields that the message names, or give them a value in the column: `params=default.json`.",
  },
  InputRefused: {
    meaning: "A field of a message is none of the row's choices (`inputs`); the row is not started.",
    whatToDo: "Send one of the values that the message names.",
  },
  ItemsRefused: {
    meaning:
      "A message has no list where its row's `for_each` looks, or more than `MAX_ITEMS` items; nothing is started.",
    whatToDo: "The message names the row, what it has there and what would be right. Send it again when it is mended.",
  },
  GroupStopped: {
    meaning: "Items of a group that was under way do not begin: the policy or the pod templates allow its row no more.",
    whatToDo: "Mend the row or the policy, and send the message again, or run the failed items again.",
  },
  GroupUnreadable: {
    meaning: "What the store has of a group that was under way is no list of its items; the group does not go on.",
    whatToDo: "Delete the objects that the message names, and send the group's message again. Who may write there?",
  },
  EndNotBelieved: {
    meaning: "A message says that a run has ended which lives and has not; it starts nothing.",
    whatToDo: "Look for who publishes below the service's prefix, and allow that to the service alone.",
  },
  SharedClientId: {
    meaning:
      "Another service uses the same `MQTT_CLIENT_ID`: each throws the other off the broker, until the one that " +
      "was started later ends.",
    whatToDo: "Give each its own `TOPIC_PREFIX`, from which `MQTT_CLIENT_ID` follows; or use `LEADER_ELECT`.",
  },
  SubscriptionRefused: {
    meaning: "The broker does not let the service read a row's topic.",
    whatToDo: "Ask who runs the broker to allow the topics that the message names.",
  },
  MarkUnusable: {
    meaning: "What a row that others need has left in `RUNS_URL` (`.joins/`) is not what the service writes there.",
    whatToDo: "Find out who else writes to `RUNS_URL`; then run the row that the message names again.",
  },
  StoreUnavailable: {
    meaning: "What the service must remember cannot be read or written; it waits, and acknowledges no message.",
    whatToDo: "Check `RUNS_URL` and the store.",
  },
  HistoryNotWhole: {
    meaning:
      "The index of ended runs (`DATA_DIR`) cannot be used, or what is in `RUNS_URL` cannot be read for it. Pages " +
      "show what is known, and say how far back; no run waits for it.",
    whatToDo: "The message says why. Mend the folder or the store; after a full disk, start the service again.",
  },
  LeaseUnavailable: {
    meaning: "With `LEADER_ELECT`: this replica can neither lead nor see who does.",
    whatToDo: "The message says why: a missing right (`deploy/role.yaml` allows one `LEASE_NAME`), or no API server.",
  },
  SchedulesWait: {
    meaning: "Rows with a schedule do not run: since when each is known cannot be read or stored (`RUNS_URL`).",
    whatToDo: "Mend what the message says. Due times that are missed for less than `STARTING_DEADLINE` run then.",
  },
  OutputUnseen: {
    meaning: "Whether a row's `output` is there cannot be seen (`skip_existing`), so the row runs.",
    whatToDo: "Let the service read where the row puts its output; the message has the store's words.",
  },
  CreateWaits: {
    meaning: "No Job can be made until somebody mends a setting: a right, the namespace, the credentials.",
    whatToDo: "Do what the message says. Messages wait and lose nothing; they run when it is mended.",
  },
  ForeignObject: {
    meaning: "A Job or pod has this service's labels, but the service cannot have made it. It is left alone.",
    whatToDo:
      "Delete it or take its labels off; find out who makes such Jobs. Two services need different `INSTANCE`s.",
  },
  WatchInterrupted: {
    meaning: "The watch of the cluster broke off. It is mended by itself; nothing is missed.",
    whatToDo:
      "If it stays: is the API server reachable, are the credentials valid, does the Role allow list and watch?",
  },
  OftenDisrupted: {
    meaning: "The cluster took a run's pod away five times. It is made anew each time, and begins from the start.",
    whatToDo: "Find out why: drains, more urgent pods, nodes short of memory or disk. Give the row a " +
      "`priority_class`, or other nodes.",
  },
  CompletionWaits: {
    meaning: "A run has ended, but its log, message, record or deletion cannot be done yet.",
    whatToDo:
      "The message names the step and why. It is tried again until it succeeds; the run's Job stays until then.",
  },
  CompletionFailed: {
    meaning: "A run's end cannot be completed.",
    whatToDo: "The message says why. The Job stays; the next start of the service tries it again.",
  },
} as const satisfies Record<string, Explanation>;

/** Reason of a run's end that this service gives itself; Kubernetes' own words may come too. */
export type RunReason = keyof typeof RUN_REASONS;
/** Reason of a report on `ERROR`. */
export type ReportReason = keyof typeof REPORT_REASONS | "Refused";

/** The table of docs/troubleshoot.md for these reasons, before it is formatted. */
export function reasonTable(reasons: Readonly<Record<string, Explanation>>): string {
  const rows = Object.entries(reasons).map(([reason, { meaning, whatToDo }]) => [`\`${reason}\``, meaning, whatToDo]);
  const lines = [["`reason`", "What it means", "What to do"], ["---", "---", "---"], ...rows];
  return lines.map((cells) => `| ${cells.join(" | ")} |`).join("\n");
}
